"""What surrounds a worker under test: a server that its calls reach, its process, and the line to the broker."""
import http.server
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

RETRY_AFTER_S = 7


class Server(http.server.ThreadingHTTPServer):
    """Counts what arrives, by the id in its path.

    /effect/ID            200
    /slow/ID?s=SECONDS    200 after that time; counted when it arrives
    /status/CODE/ID       that status, with Retry-After: 7
    /bytes/N              200 with N times "x"
    /echo                 200 with the request's body as JSON, byte for byte
    """
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address):
        super().__init__(address, Handler)
        self.url = f"http://{address[0]}:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.seen = {}                  # id: headers of each request
        self.stopping = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def note(self, name, headers):
        with self.lock:
            self.seen.setdefault(name, []).append(headers)

    def effects(self, name):
        with self.lock:
            return len(self.seen.get(name, []))

    def handle_error(self, request, client_address):
        """A worker that hangs up in the middle of a request is part of the test."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.split("/")[1:]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts[0] == "effect":
            self.server.note(parts[1], dict(self.headers))
            self.answer(200, b'{"done": true}')
        elif parts[0] == "slow":
            self.server.note(parts[1], dict(self.headers))
            self.server.stopping.wait(float(urllib.parse.parse_qs(url.query)["s"][0]))
            self.answer(200, b'{"done": true}')
        elif parts[0] == "status":
            self.server.note(parts[2], dict(self.headers))
            self.answer(int(parts[1]), b'{"done": false}')
        elif parts[0] == "bytes":
            self.answer(200, b"x" * int(parts[1]), "text/plain")
        elif parts[0] == "echo":
            self.answer(200, body)
        else:
            self.answer(404, b"{}")

    do_POST = do_PUT = do_GET

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: the report is on standard output."""


class Line:
    """A way to the broker that can be cut: a port of our own, and all that comes there is passed on."""

    def __init__(self, url):
        at = re.fullmatch(r"(amqp://(?:[^@/]*@)?)([^:/]+)(?::(\d+))?(/.*)?", url)
        if at is None:
            raise ValueError("only amqp:// can be led through here")
        self.target = (at[2], int(at[3] or 5672))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{at[1]}127.0.0.1:{self.listener.getsockname()[1]}{at[4] or ''}"
        self.lock = threading.Lock()
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            with self.lock:
                self.open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    def copy(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            self.hang_up(end)

    def hang_up(self, end):
        with self.lock:
            self.open.discard(end)
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass                        # the other side was faster

    def cut(self):
        with self.lock:
            ends = list(self.open)
        for end in ends:
            self.hang_up(end)


class Process:
    """The worker, started by the suite, and so one that it may kill."""

    def __init__(self, command, environment):
        self.command = shlex.split(command)
        self.environment = dict(os.environ, **environment)
        self.log = pathlib.Path(tempfile.mkstemp(prefix="ropewalk-conformance.", suffix=".log")[1])
        self.process = None

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        if not self.is_up():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds):
        return self.process.wait(seconds)

    def close(self, show):
        """Ends it; its log is shown when something went wrong."""
        if self.is_up():
            self.terminate()
            deadline = time.monotonic() + 20
            while self.is_up() and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.is_up():
                self.kill()
        if show:
            for line in self.log.read_text(errors="replace").splitlines()[-60:]:
                print("# " + line)
        self.log.unlink()
