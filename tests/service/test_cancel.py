""":cancel: what is queued never starts, what runs may finish for a while and is cut then, and the run ends."""
import concurrent.futures
import threading

import drive
import pytest
import target

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
