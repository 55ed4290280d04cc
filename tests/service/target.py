"""An HTTP server that workflows call: it answers by script, and remembers every request."""
import http.server
import json
import threading
import time


class Target:
    """`on(path, answer, ...)`: the answers to requests of that path in turn, the last again and again. An answer is a
    status, or {"status", "body", "headers", "wait": seconds, "until": threading.Event, "cut": True}; any other path is 200
    with {"path": ...}. Use as a context manager."""

    def __init__(self):
        self.lock = threading.Lock()
        self.scripts = {}
        self.seen = []
        self.now = 0
        self.most = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                outer.answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass                                # a client that is killed cuts its connections

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def on(self, path, *answers):
        with self.lock:
            self.scripts[path] = [{"status": a} if isinstance(a, int) else a for a in answers]
        return self.url + path

    def answer(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        path = handler.path.split("?")[0]
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            entry = {"method": handler.command, "path": handler.path, "headers": dict(handler.headers), "body": body.decode(),
                     "began": time.monotonic()}
            self.seen.append(entry)
            script = self.scripts.get(path, [{}])
            said = script.pop(0) if len(script) > 1 else script[0]
        try:
            if "until" in said:
                said["until"].wait(60)
            time.sleep(said.get("wait", 0))
            entry["ended"] = time.monotonic()
            if said.get("cut"):
                handler.close_connection = True
                handler.connection.close()
                return
            text = json.dumps(said.get("body", {"path": path})).encode()
            handler.send_response(said.get("status", 200))
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(text)))
            for name, value in said.get("headers", {}).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(text)
        except OSError:
            pass
        finally:
            with self.lock:
                self.now -= 1

    def requests(self, path=None, method=None):
        with self.lock:
            return [r for r in self.seen
                    if (path is None or r["path"].split("?")[0] == path) and (method is None or r["method"] == method)]

    def paths(self):
        with self.lock:
            return [r["path"] for r in self.seen]

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
