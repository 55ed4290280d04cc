"""The world that http steps of the test reach: a small server that answers well, late, too much, or not at all."""
import gzip
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", content_type="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.target.note(self, url.path, body)
        route = getattr(self, "route_" + url.path.strip("/").split("/")[0].replace("-", "_"))
        route(query, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = handle_any

    def route_echo(self, query, body):
        headers = {k.lower(): v for k, v in self.headers.items()}
        text = json.dumps({"method": self.command, "path": self.path, "headers": headers, "body": body.decode()})
        self.answer(200, text.encode(), X_One="1")

    def route_number(self, query, body):
        self.answer(200, b'{"n": 0.1, "big": 12345678901234567890123, "nul": "a\\u0000b"}')

    def route_text(self, query, body):
        self.answer(200, "grüße".encode(), "text/plain; charset=utf-8")

    def route_binary(self, query, body):
        self.answer(200, b"\x00\xff\x10", "application/octet-stream")

    def route_badjson(self, query, body):
        self.answer(200, b"{not json", "application/json")

    def route_status(self, query, body):
        extra = {"Retry_After": query["retry"]} if "retry" in query else {}
        self.answer(int(query["code"]), b"x" * int(query.get("size", 10)), "text/plain", **extra)

    def route_slow(self, query, body):
        time.sleep(float(query["s"]))
        self.answer(200, b'{"late": true}')

    def route_drip(self, query, body):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.2)
        except OSError:
            pass

    def route_bomb(self, query, body):
        bomb = gzip.compress(b"\x00" * (200 << 20), 9)
        self.answer(200, bomb, "application/octet-stream", Content_Encoding="gzip")

    def route_zipped(self, query, body):
        self.answer(200, gzip.compress(b'{"zipped": true}'), Content_Encoding="gzip")

    def route_large(self, query, body):
        self.answer(200, b'"' + b"y" * (int(query["size"]) - 2) + b'"')

    def route_redirect(self, query, body):
        self.answer(int(query.get("code", 302)), b"", "text/plain", Location=query["to"])

    def route_loop(self, query, body):
        self.answer(302, b"", "text/plain", Location="/loop")

    def route_cut(self, query, body):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def route_garbage(self, query, body):
        self.close_connection = True
        self.wfile.write(b"220 smtp.example ready\r\n")

    def log_message(self, *args):
        pass


class Target:
    def __init__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.request_queue_size = 1024
        self.server.socket.listen(1024)
        self.server.daemon_threads = True
        self.server.target = self
        self.lock = threading.Lock()
        self.requests = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def note(self, handler, path, body):
        with self.lock:
            self.requests.append((path, dict(handler.headers), body, handler.client_address))

    def seen(self, path):
        with self.lock:
            return [r for r in self.requests if r[0] == path]
