"""Pools: a step goes to the workers of its pool and to no other, whatever language they are written in."""
import contextlib
import http.server
import os
import signal
import subprocess
import threading
import uuid

import pytest

import drive
from drive import until

PYTHON_WORKER = drive.CHECKOUT / "examples/python-worker/text-worker"


@pytest.fixture
def worker(stack, tmp_path):
    """Starts workers beside those of the stack; gives a function (pools, program, environment) -> process."""
    started = []

    def start(pools, program=drive.BUILD / "bin/ropewalk-worker", **environment):
        log = (tmp_path / f"worker-{len(started)}.log").open("ab")
        env = dict(stack.environment("worker-1"), ROPEWALK_POOLS=pools, ROPEWALK_NAME="mine", ROPEWALK_LISTEN="127.0.0.1:0",
                   PYTHONDONTWRITEBYTECODE="1", **environment)
        started.append(subprocess.Popen([str(program)], env=env, stdin=subprocess.DEVNULL, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what is delivered."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver.Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.delivered = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.delivered.append((self.path, text, self.headers["Idempotency-Key"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """The report belongs to the tests."""


def new_name(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def save(stack, steps, **fields):
    name = new_name("pools")
    stack.save({"name": name, "steps": steps, **fields})
    return name


def workers_of(run):
    """By step: the worker of its last attempt."""
    return {name: step["attempts"][-1]["worker"] for name, step in run["steps"].items()}


def open_task(stack, run):
    """What explain says of a run with one open task, once there is one."""
    def look():
        said = stack.ask("GET", f"/v1/runs/{run}/explain")
        return said if [work["kind"] for work in said["open"]].count("task") == 1 else None
    return until("an open task", look)


def test_each_step_is_done_by_a_worker_of_its_pool(stack, worker):
    gpu, fpga = new_name("gpu"), new_name("fpga")
    process = worker(f"{gpu}, {fpga}")
    name = save(stack, {"a": {"call": "noop", "pool": gpu}, "b": {"call": "noop", "needs": ["a"]},
                        "c": {"call": "noop", "needs": ["b"], "pool": fpga, "priority": "critical"},
                        "d": {"call": "noop", "needs": ["c"], "pool": "default"}})
    for _ in range(5):
        run = stack.ended(stack.start(name))
        assert run["status"] == "succeeded"
        mine = {step: who.startswith("mine-") for step, who in workers_of(run).items()}
        assert mine == {"a": True, "b": False, "c": True, "d": False}, workers_of(run)
    assert process.poll() is None


def test_a_run_whose_pool_has_no_worker_waits_says_so_and_goes_on_when_there_is_one(stack, worker):
    pool = new_name("nobody")
    run = stack.start(save(stack, {"go": {"call": "noop", "pool": pool}}))
    said = open_task(stack, run)
    assert said["reason"] == "queued" and said["step"] == "go" and f"pool '{pool}'" in said["sentence"], said
    assert [work["pool"] for work in said["open"] if work["kind"] == "task"] == [pool]
    # Others go on meanwhile, and it still waits.
    other = stack.start(save(stack, {"go": {"call": "noop"}}))
    assert stack.ended(other)["status"] == "succeeded"
    assert stack.run(run)["status"] in ("running", "waiting")
    worker(pool)
    ended = stack.ended(run)
    assert ended["status"] == "succeeded" and len(ended["steps"]["go"]["attempts"]) == 1


def test_a_waiting_step_of_an_unserved_pool_can_be_cancelled(stack):
    run = stack.start(save(stack, {"go": {"call": "noop", "pool": new_name("nobody")}}))
    open_task(stack, run)
    assert stack.call("POST", f"/v1/runs/{run}:cancel").status_code in (200, 202)
    assert stack.ended(run)["status"] == "cancelled"


def test_a_pool_name_that_no_queue_can_have_is_refused(stack):
    document = {"name": "bad-pool", "steps": {"go": {"call": "noop", "pool": "No Pool"}}}
    answer = stack.call("PUT", "/v1/workflows/bad-pool", document)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/steps/go/pool"]


# --- the example in Python ------------------------------------------------------------------------------------------------

def test_the_python_worker_tells_all_bad_settings_at_once():
    env = {"ROPEWALK_AMQP_URL": "http://x", "ROPEWALK_POOLS": "a b", "ROPEWALK_CAPACITY": "0", "ROPEWALK_QUEUE_TYPE": "stream",
           "ROPEWALK_DRAIN_MS": "soon", "ROPEWALK_NAME": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([str(PYTHON_WORKER)], env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert [name for name in env if name.startswith("ROPEWALK_") and name not in done.stderr] == []


def test_the_python_worker_serves_its_pool(stack, worker):
    pool = new_name("text")
    worker(pool, PYTHON_WORKER)
    name = save(stack, {"back": {"call": "text.reverse", "pool": pool, "with": {"text": "${ .input.text }"}},
                        "told": {"call": "text.describe", "pool": pool, "needs": ["back"], "with": {"value": "${ .input }"}}},
                output={"back": "${ .steps.back.output }", "number": "${ .steps.told.output.value.n }"})
    run = stack.ended(stack.start(name, {"text": "zażółć", "n": 9007199254740993}))
    assert run["status"] == "succeeded" and run["output"]["back"] == "ćłóżaz", run
    assert set(workers_of(run)) == {"back", "told"} and all(who.startswith("mine-") for who in workers_of(run).values())


def test_what_the_python_worker_refuses_fails_for_good(stack, worker):
    pool = new_name("text")
    worker(pool, PYTHON_WORKER)
    for call, arguments, code in (("text.reverse", {"text": 7}, "invalid_request"), ("text.reverse", {}, "invalid_request"),
                                  ("text.no_such", {}, "unknown_call"), ("text.repeat", {"text": "x", "times": 2 << 20}, "too_large"),
                                  ("text.deliver", {"to": "http://127.0.0.1:1/", "text": ""}, "not_allowed")):
        run = stack.ended(stack.start(save(stack, {"go": {"call": call, "pool": pool, "with": arguments}})))
        attempts = run["steps"]["go"]["attempts"]
        assert run["status"] == "failed" and [attempt["error"]["code"] for attempt in attempts] == [code], attempts


def test_the_python_worker_delivers_once_when_granted_and_defers_what_comes_too_soon(stack, worker):
    receiver, pool = Receiver(), new_name("text")
    worker(pool, PYTHON_WORKER, ROPEWALK_TEXT_RECEIVERS=receiver.url)
    once = stack.ended(stack.start(save(stack, {"go": {
        "call": "text.deliver", "pool": pool, "delivery": "at_most_once", "with": {"to": receiver.url + "/once", "text": "grüße"}}})))
    assert once["status"] == "succeeded", once
    limited = {"call": "text.deliver", "pool": pool, "with": {"to": receiver.url + "/limited", "text": "x", "at_most_every": "1s"}}
    both = stack.ended(stack.start(save(stack, {"a": limited, "b": limited})))
    assert both["status"] == "succeeded" and [len(step["attempts"]) for step in both["steps"].values()] == [1, 1], both
    assert [(path, text) for path, text, _key in receiver.delivered] == [("/once", "grüße"), ("/limited", "x"), ("/limited", "x")]
    assert {key for path, _text, key in receiver.delivered if path == "/limited"} == {f"{both['id']}:a", f"{both['id']}:b"}
    receiver.shutdown()


def test_a_killed_python_worker_costs_an_attempt_and_not_the_run(stack, worker):
    pool = new_name("text")
    first = worker(pool, PYTHON_WORKER)
    run = stack.start(save(stack, {"go": {"call": "text.sleep", "pool": pool, "with": {"seconds": 3}}}))
    until("it runs", lambda: stack.ask("GET", f"/v1/runs/{run}/explain")["reason"] == "running", 20)
    os.kill(first.pid, signal.SIGKILL)
    worker(pool, PYTHON_WORKER)
    ended = stack.ended(run)
    assert ended["status"] == "succeeded"
    lost, done = ended["steps"]["go"]["attempts"]
    assert lost["error"]["code"] == "worker_lost" and done["status"] == "succeeded", ended["steps"]


def test_a_cancelled_run_stops_the_call_of_the_python_worker(stack, worker):
    pool = new_name("text")
    process = worker(pool, PYTHON_WORKER)
    run = stack.start(save(stack, {"go": {"call": "text.sleep", "pool": pool, "with": {"seconds": 600}}}))
    until("it runs", lambda: stack.ask("GET", f"/v1/runs/{run}/explain")["reason"] == "running", 20)
    assert stack.call("POST", f"/v1/runs/{run}:cancel").status_code in (200, 202)
    assert stack.ended(run)["status"] == "cancelled"
    process.terminate()
    assert process.wait(10) == 0, "it still held the call"
