"""Priorities: critical work overtakes whatever waits, every class that has work gets on, and each place where a
priority can be said takes effect. Everything is told from the order in which requests arrive at a server of the test."""
import collections
import http.server
import threading

import pytest

from drive import private_stack, until

CLASSES = ["critical", "high", "normal", "low"]
CAPACITY = 16
SHARES = {"critical": 8, "high": 4, "normal": 3, "low": 1}  # worker/README.md, "Shares", of 16 slots
WAITING_RUNS, WAITING_STEPS = 20, 500


class Target(http.server.ThreadingHTTPServer):
    """Answers /CLASS after 200 ms and notes the order in which requests began."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with self.server.lock:
                    self.server.order.append(self.path.strip("/"))
                self.server.closing.wait(0.2)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass
        self.order, self.lock, self.closing = [], threading.Lock(), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def drive():
    with private_stack(settings={"worker": {"CAPACITY": CAPACITY}}) as drive:
        yield drive


@pytest.fixture(scope="module")
def backlog(drive):
    """10,000 steps of class `low` that wait, and a worker that is busy with the first of them."""
    target = Target()
    for name in CLASSES:
        drive.save({"name": name, "priority": name, "steps": {
            f"s{i}": {"call": "http", "with": {"url": f"{target.url}/{name}"}} for i in range(WAITING_STEPS)}})
    drive.save({"name": "urgent", "steps": {"go": {"call": "http", "priority": "critical", "with": {"url": f"{target.url}/urgent"}}}})
    for _ in range(WAITING_RUNS):
        drive.start("low")
    until("10,000 waiting steps", lambda: waiting(drive) + len(target.order) >= WAITING_RUNS * WAITING_STEPS, 60)
    until("the worker's best", lambda: len(target.order) > 3 * CAPACITY, 60)
    yield target
    target.closing.set()
    target.shutdown()
    target.server_close()


def waiting(drive):
    return drive.sql("select count(*) from open_work where kind = 1 and priority = 3")[0][0]


def test_a_critical_step_overtakes_ten_thousand_background_steps(drive, backlog):
    worst = 0
    for _ in range(5):
        before = len(backlog.order)
        run = drive.ended(drive.start("urgent"))
        place = backlog.order.index("urgent", before)
        step = run["steps"]["go"]
        seconds = drive.sql("select extract(epoch from %s::timestamptz - %s::timestamptz)",
                            step["attempts"][0]["started_at"], step["queued_at"])[0][0]
        worst = max(worst, place - before)
        print(f"begun {float(seconds) * 1000:.0f} ms after it was ready, behind {place - before} of {waiting(drive)} background steps")
        # With nothing to overtake it would be one turn of all slots; at the end of the queue it would be thousands.
        assert place - before < 6 * CAPACITY
    assert waiting(drive) > 5000, f"nothing was left to overtake; at worst {worst} came before"


def test_classes_that_all_have_work_get_slots_by_weight_and_none_starves(drive, backlog):
    for name in CLASSES[:3]:
        for _ in range(2):
            drive.start(name)
    seen = len(backlog.order)
    until("loans that have gone where they belong", lambda: set(backlog.order[-2 * CAPACITY:]) == set(CLASSES)
          and collections.Counter(backlog.order[-4 * CAPACITY:])["critical"] >= 1.6 * CAPACITY, 60)
    begin = len(backlog.order)
    count = 16 * CAPACITY
    until("a sample", lambda: len(backlog.order) >= begin + count, 60)
    sample = backlog.order[begin:begin + count]
    got = collections.Counter(sample)
    print(f"of {count} steps that began one after another: {dict(got)}; settled after {begin - seen}")
    for name in CLASSES:
        assert got[name] * 16 >= 0.6 * SHARES[name] * count, got
    assert got["critical"] > got["high"] > got["low"] and got["normal"] > got["low"], got
    longest = max(len(part) for part in "".join("L" if name == "low" else "." for name in sample).split("L"))
    assert longest < 4 * 16, f"{longest} others in a row began before a background step"


@pytest.mark.parametrize("workflow, step, start, expected", [
    (None, None, None, "normal"),
    ("low", None, None, "low"),
    (None, "critical", None, "critical"),
    (None, None, "high", "high"),
    ("low", "high", None, "high"),
    ("low", None, "critical", "critical"),      # a start's word is the run's
    ("low", "critical", "normal", "critical"),  # a step's own is more exact than the run's
    ("critical", "low", "critical", "low"),
])
def test_priority_of_step_start_and_workflow(drive, workflow, step, start, expected):
    first = {"call": "noop", "pool": "nobody-serves-this"}
    document = {"name": "told", "steps": {"go": {**first, **({"priority": step} if step else {})}, "plain": first}}
    if workflow:
        document["priority"] = workflow
    drive.save(document)
    run = drive.ask("POST", "/v1/workflows/told/runs", {"input": {}, **({"priority": start} if start else {})})["run_id"]
    rows = dict(until("two tasks", lambda: len(r := drive.sql(
        "select step, priority from open_work where run_id = %s and kind = 1", run)) == 2 and r, 20))
    assert {name: CLASSES[priority] for name, priority in rows.items()} == {"go": expected, "plain": start or workflow or "normal"}
    assert drive.run(run)["priority"] == (start or workflow or "normal")
    assert drive.ask("POST", f"/v1/runs/{run}:cancel")


def test_an_unknown_priority_is_refused_everywhere(drive):
    for document, pointer in [({"priority": "urgent", "steps": {"a": {"call": "noop"}}}, "/priority"),
                              ({"steps": {"a": {"call": "noop", "priority": "urgent"}}}, "/steps/a/priority")]:
        answer = drive.call("PUT", "/v1/workflows/wrong", {"name": "wrong", **document})
        assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.text
    drive.save({"name": "right", "steps": {"a": {"call": "noop"}}})
    answer = drive.call("POST", "/v1/workflows/right/runs", {"priority": "urgent"})
    assert answer.status_code in (400, 422) and "/priority" in answer.text, answer.text
