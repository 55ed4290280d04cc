"""One run can be told from the logs alone: what began, failed, was tried again, was skipped, and how it ended."""
import contextlib
import http.server
import threading

import pytest

from drive import private_stack, until


@pytest.fixture(scope="module")
def drive():
    with private_stack(settings={kind: {"LOG_LEVEL": "debug"} for kind in ("gateway", "scheduler", "worker")}) as drive:
        yield drive


@contextlib.contextmanager
def failing_once():
    """Answers 503 once, then 200."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(dict(self.headers))
            self.send_response(503 if len(asked) == 1 else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret-path", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def told(drive):
    """(the run, its history, its log lines, the requests the service saw)"""
    with failing_once() as (url, asked):
        drive.save({"name": "story", "steps": {
            "ask": {"call": "http", "with": {"url": url, "headers": {"x-note": "private-header"}}, "retry": {"initial": "50ms"}},
            "large": {"needs": ["ask"], "call": "condition", "with": {"if": "${ .input.n > 5 }"}},
            "yes": {"needs": {"large": ["true"]}, "call": "noop"},
            "no": {"needs": {"large": ["false"]}, "call": "noop"}}})
        other = drive.start("story", {"n": 9, "note": "private-input"})
        drive.ended(other)
        del asked[:]
        run = drive.ended(drive.start("story", {"n": 1, "note": "private-input"}))
    events = drive.ask("GET", f"/v1/runs/{run['id']}/events")["items"]

    def lines():
        found = [line for line in drive.log() if line.get("run_id") == run["id"]]
        return found if any(line.get("type") == "run.succeeded" or "run.succeeded" in line["event"] for line in found) else None

    return run, events, until("the end in the log", lines, 5), asked


def test_every_event_of_the_history_is_in_the_log_in_order(told):
    run, events, lines, _ = told
    assert run["status"] == "succeeded"
    history = [(event["type"], event.get("step"), event.get("attempt")) for event in events]
    logged = [(line["type"], line.get("step"), line.get("attempt") or None) for line in lines
              if line["svc"] == "scheduler" and line["event"] == "run.event"]
    assert logged == [(kind, step, attempt or None) for kind, step, attempt in history]


def trace_id(line):
    return line["trace_id"] if "trace_id" in line else line["traceparent"].split("-")[1]


def test_every_line_says_whose_it_is(told):
    run, _, lines, _ = told
    assert {line["svc"] for line in lines} >= {"scheduler", "worker"}
    for line in lines:
        assert line["organisation"] == "default", line
        assert line["workflow"] == "story", line
        assert line["svc"] != "scheduler" or line["version"] == run["version"], line
        assert trace_id(line), line


def test_one_trace_id_from_the_start_to_the_request(told):
    _, _, lines, asked = told
    ids = {trace_id(line) for line in lines}
    assert len(ids) == 1, ids
    for headers in asked:
        assert headers["traceparent"].split("-")[1] in ids


def test_the_worker_tells_each_attempt(told):
    _, _, lines, asked = told
    attempts = [(line["event"], line["attempt"]) for line in lines if line["svc"] == "worker" and line.get("step") == "ask"]
    assert ("task.failed", 1) in attempts and ("task.succeeded", 2) in attempts, attempts
    assert len(asked) == 2


def test_what_is_private_is_not_in_the_logs(drive, told):
    text = "".join(path.read_text(errors="replace") for kind in ("gateway", "scheduler", "worker")
                   for path in (drive.dir / "log").glob(kind + "-*.log"))
    assert "private-input" not in text and "private-header" not in text and drive.key not in text
    for line in drive.log():
        assert {"ts", "level", "svc", "event"} <= line.keys()
