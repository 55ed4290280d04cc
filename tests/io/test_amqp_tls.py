#!/usr/bin/python3
"""The broker link over TLS: runs the tests of test_amqp.c (TEST_AMQP) through a relay that ends TLS before the broker."""
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from urllib.parse import urlsplit


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(listener, context, broker):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=relay, args=(client, context, broker), daemon=True).start()


def relay(client, context, broker):
    try:
        client = context.wrap_socket(client, server_side=True)
    except (OSError, ssl.SSLError):
        return
    upstream = socket.create_connection(broker)
    upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
    pump(client, upstream)


def certificate(folder, name):
    cert, key = os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + name,
                    "-addext", "subjectAltName=DNS:" + name, "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


def main():
    url = os.environ.get("ROPEWALK_AMQP_URL")
    if url is None:
        print("skipped: ROPEWALK_AMQP_URL is not set")
        return 77
    parts = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(folder, "localhost")
        other, _ = certificate(folder, "elsewhere")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=serve, args=(listener, context, (parts.hostname, parts.port)), daemon=True).start()
        port = listener.getsockname()[1]
        secure = f"amqps://{parts.username}:{parts.password}@localhost:{port}{parts.path}"
        env = dict(os.environ, ROPEWALK_AMQP_URL=secure, SSL_CERT_FILE=cert)
        code = subprocess.run([os.environ["TEST_AMQP"]], env=env).returncode
        if code != 0:
            return code
        # a certificate that nobody vouches for is no connection: the first test waits in vain
        env["SSL_CERT_FILE"] = other
        refused = subprocess.run([os.environ["TEST_AMQP"]], env=dict(env, CMOCKA_TEST_FILTER="a_message_arrives*"),
                                 capture_output=True, text=True)
        return 0 if refused.returncode != 0 else 1


if __name__ == "__main__":
    sys.exit(main())
