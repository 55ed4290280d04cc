""":cancel: what is queued never starts, what runs may finish for a while and is cut then, and the run ends."""
import concurrent.futures
import pathlib
import sys
import threading
import time
import uuid

import drive
import pytest
import target

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import cancelling  # noqa: E402

RUNS = 450          # more than a worker's slots for one class, fewer than the window of a task queue holds beyond them


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def cancel(stack, run_id):
    answer = stack.call("POST", f"/v1/runs/{run_id}:cancel", {})
    assert answer.status_code == 200 and answer.json()["applied"], answer.text


def test_what_is_queued_when_its_run_is_cancelled_never_starts(stack, world):
    go = threading.Event()
    stack.save({"name": "cancel-many", "steps": {"a": {"call": "http", "with": {"url": world.on("/many", {"until": go})},
                                                       "timeout": "120s"}}})
    stack.save(drive.CHAIN)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: stack.start("cancel-many"), range(RUNS)))
        drive.until("the worker's slots are full, and others wait",
                    lambda: world.now > 50 and world.now == len(world.requests("/many")), 30)
        drive.until("all are dispatched", lambda: stack.sql(
            "select count(*) from open_work w join run r on r.id = w.run_id where r.workflow = 'cancel-many' and w.kind = 1"
        )[0][0] == RUNS, 30)
        list(pool.map(lambda run_id: cancel(stack, run_id), runs))
    begun = len(world.requests("/many"))
    assert begun < RUNS, "nothing was queued: the test shows nothing"
    go.set()                                    # what runs finishes within the grace, and its slots are free
    # what was in the queue before this run's tasks has been taken from it by the time it ends
    assert stack.ended(stack.start("chain5"))["status"] == "succeeded"
    for run_id in runs:
        assert stack.ended(run_id)["status"] == "cancelled"
    assert len(world.requests("/many")) == begun


def test_what_runs_may_finish_within_the_grace_and_counts(stack, world):
    go = threading.Event()
    stack.save({"name": "cancel-grace", "steps": {"a": {"call": "http", "with": {"url": world.on("/grace", {"until": go})}},
                                                  "b": {"needs": ["a"], "call": "noop"}}})
    run_id = stack.start("cancel-grace")
    drive.until("a runs", lambda: stack.run(run_id)["steps"]["a"]["status"] == "running")
    cancel(stack, run_id)
    assert stack.run(run_id)["status"] == "running"
    assert stack.ask("GET", f"/v1/runs/{run_id}/explain")["reason"] == "cancelling"
    go.set()
    run = stack.ended(run_id)
    assert (run["status"], run["steps"]["a"]["status"], run["steps"]["b"]["status"]) == ("cancelled", "succeeded", "cancelled")


def test_what_has_not_finished_by_then_is_cut(stack, world):
    stack.save({"name": "cancel-cut", "steps": {"a": {"call": "http", "with": {
        "url": world.on("/cut", {"until": threading.Event()})}, "timeout": "300s"}}})
    run_id = stack.start("cancel-cut")
    drive.until("a runs", lambda: stack.run(run_id)["steps"]["a"]["status"] == "running")
    cancel(stack, run_id)
    run = stack.ended(run_id, 40)
    step = run["steps"]["a"]
    assert (run["status"], step["status"], step["attempts"][0]["error"]["code"]) == ("cancelled", "cancelled", "cancelled")


@pytest.fixture
def private():
    with drive.private_stack() as one:
        yield one


def test_nobody_who_was_not_told_begins_what_is_cancelled(private, world):
    """There is no worker to tell when the runs are cancelled, and then no scheduler: what a worker finds in the queue waits
    until one says that it must not begin."""
    private.save({"name": "untold", "steps": {"a": {"call": "http", "with": {"url": world.on("/untold", 200)}}}})
    assert private.ended(private.start("untold"))["status"] == "succeeded"
    private.stack("stop", "worker-1")
    runs = [private.start("untold") for _ in range(10)]         # fewer than the window of a queue that nobody serves
    drive.until("their tasks are with RabbitMQ", lambda: sum(
        queue[4] for (health,) in private.sql("select health from scheduler") for queue in (health or {}).get("queues", [])) >= len(runs))
    for run_id in runs:
        cancel(private, run_id)
        assert private.ended(run_id)["status"] == "cancelled"
    private.signal("scheduler-1")
    private.stack("start", "worker-1")
    drive.until("the worker has taken tasks", lambda: any(line["event"] == "worker.takes_tasks" for line in private.log("worker")[-20:]))
    private.stack("start", "scheduler-1")
    drive.until("each was refused", lambda: sum(line["event"] == "task.not_begun" for line in private.log("worker")) == len(runs), 40)
    assert private.ended(private.start("untold"))["status"] == "succeeded"
    assert len(world.requests("/untold")) == 2


def begun_after_a_thousand_are_cancelled(stack, outside):
    """Seconds between the answer to one request that cancels 1,000 runs and the last call that begins for them."""
    name = "thousand-" + uuid.uuid4().hex[:8]
    stack.save({"name": name, "steps": {f"s{i}": {"call": "http", "with": {"url": outside.url}, "timeout": "60s",
                                                  **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(60)}})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda i: stack.start_for_sure(name, f"{name}-{i}"), range(1000)))
    drive.until("most of them make calls", lambda: sum(outside.begun[run] > 0 for run in runs) > 900, 60)
    stack.ask("POST", "/v1/runs:cancel", {"filter": {"workflow": name}})
    answered = time.monotonic()
    drive.until("all have ended", lambda: stack.sql("select count(*) from run where workflow = %s and status <> 'cancelled'", name)[0][0] == 0, 60, 0.5)
    # whatever was still in a queue has been taken from it by the time that a later run has gone through
    assert stack.ended(stack.start("chain5"))["status"] == "succeeded"
    return max(outside.begun[run] for run in runs) - answered


def test_of_a_thousand_runs_cancelled_at_once_nothing_begins_a_second_later(stack, capsys):
    """Each makes one call of 0.5 s after the other, and there are more of them than slots. A busy machine may take longer than
    a second to do what they are asked, but not each time."""
    outside = cancelling.Outside(0.5)
    stack.save(drive.CHAIN)
    late = []
    try:
        while not late or late[-1] >= 1:
            assert len(late) < 4, late
            late.append(begun_after_a_thousand_are_cancelled(stack, outside))
    finally:
        outside.stop()
    with capsys.disabled():
        print(f"\n1,000 runs cancelled with one request: the last of their calls began {late[-1]:.3f} s after the answer")
