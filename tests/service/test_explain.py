"""Why a run is not moving: each reason of gateway/explain.def, brought about on a real stack. Two need schedulers of two releases
(tests/upgrade), one a scheduler that dies of a run (test_poison.py)."""
import contextlib
import json
import os
import re
import signal
import uuid

import pika
import pytest

import drive as driving
from drive import CHECKOUT, until
from target import Target

REASONS = re.findall(r'^REASON\(\w+, "(\w+)"', (CHECKOUT / "gateway/explain.def").read_text(), re.M)
ELSEWHERE = {"older_release": "tests/upgrade/test_upgrade.py", "newer_release": "tests/upgrade/test_upgrade.py",
             "quarantined": "tests/service/test_poison.py"}
seen = set()


@pytest.fixture(scope="module")
def stack():
    # one task at a time, so that the next one waits; runs that are taken from under the scheduler are not mended meanwhile
    with driving.private_stack(settings={"worker": {"CAPACITY": 1, "POOLS": "default"},
                                         "scheduler": {"WATCH_SWEEP_MS": 3600000, "LEASE_MS": 20000}}, whole=False) as one:
        yield one


@pytest.fixture(scope="module")
def target():
    with Target() as one:
        yield one


def save(stack, steps, **fields):
    name = "explain-" + uuid.uuid4().hex[:8]
    stack.save({"name": name, "steps": steps, **fields})
    return name


def begin(stack, steps, value=None, **fields):
    return stack.start(save(stack, steps, **fields), value)


def says(stack, run, reason, seconds=20):
    """What is said of the run once this is the reason."""
    assert reason in REASONS
    last = {}

    def look():
        last.update(stack.ask("GET", f"/v1/runs/{run}/explain"))
        return last["waiting_for"] == reason and dict(last)
    try:
        said = until(f"'{reason}'", look, seconds, 0.02)
    except AssertionError as why:
        raise AssertionError(f"{why}; it says {last}") from None
    seen.add(reason)
    assert said["sentence"] and said["hint"], said
    return said


def cancel(stack, *runs):
    for run in runs:
        assert stack.call("POST", f"/v1/runs/{run}:cancel").status_code in (200, 202, 409)


def http(url, **more):
    return {"call": "http", "with": {"url": url}, **more}


def test_an_end(stack):
    run = begin(stack, {"a": {"call": "noop"}})
    stack.ended(run)
    assert "succeeded" in says(stack, run, "ended")["sentence"]


def test_what_a_workflow_itself_waits_for(stack):
    run = begin(stack, {"nap": {"call": "delay", "with": {"duration": "1h"}}})
    said = says(stack, run, "delay")
    assert said["step"] == "nap" and said["due_at"] and said["due_at"] in said["sentence"], said
    cancel(stack, run)
    run = begin(stack, {"word": {"call": "wait_signal", "with": {"signal": "approved", "timeout": "1h"}}})
    said = says(stack, run, "signal")
    assert (said["step"], said["signal"]) == ("word", "approved") and "'approved'" in said["sentence"] and said["due_at"], said
    cancel(stack, run)
    paid = "test.paid." + uuid.uuid4().hex[:8]
    run = begin(stack, {"paid": {"call": "wait_event", "with": {"type": paid, "filter": "${ .event.data.n + 1 == 2 }", "timeout": "1h"}}})
    said = says(stack, run, "event")
    assert said["step"] == "paid" and paid in said["sentence"] and said["due_at"], said
    stack.ask("POST", "/v1/events", {"specversion": "1.0", "id": "1", "source": "/test", "type": paid, "data": {"n": "x"}})
    said = says(stack, run, "event_filter")
    assert "cannot be added" in said["sentence"], said
    child = save(stack, {"word": {"call": "wait_signal", "with": {"signal": "go"}}})
    parent = begin(stack, {"kid": {"call": "workflow", "with": {"name": child}}})
    said = says(stack, parent, "child")
    below, = until("the child", lambda: stack.ask("GET", f"/v1/runs?parent={parent}")["items"])
    assert below["id"] in said["sentence"] and said["step"] == "kid", said
    said = until("what the child waits for", lambda: (e := says(stack, parent, "child"))["child"]["reason"] and e)
    assert said["child"]["reason"] == "signal", said
    cancel(stack, run, parent)


def test_a_paused_run(stack):
    run = begin(stack, {"nap": {"call": "delay", "with": {"duration": "1h"}}})
    says(stack, run, "delay")
    stack.ask("POST", f"/v1/runs/{run}:pause")
    assert stack.key[:8] in says(stack, run, "paused")["sentence"]
    cancel(stack, run)


def test_a_slot_of_a_key_and_the_place_in_its_queue(stack):
    name = save(stack, {"word": {"call": "wait_signal", "with": {"signal": "go"}}}, concurrency={"limit": 1, "key": "${ .input.who }"})
    runs = [stack.start(name, {"who": "zoe"}) for _ in range(3)]
    says(stack, runs[0], "signal")
    for place, run in ((1, runs[1]), (2, runs[2])):
        said = until("its place", lambda: (e := says(stack, run, "concurrency"))["concurrency"]
                     and e["concurrency"]["waiting"] == 2 and e)
        told = said["concurrency"]
        assert (told["key"], told["limit"], told["held"], told["position"], told["waiting"]) == ("zoe", 1, 1, place, 2), told
        assert told["holders"] == [runs[0]] and f"number {place} of 2" in said["sentence"], said
    cancel(stack, *reversed(runs))


def test_loops(stack):
    wait = {"word": {"call": "wait_signal", "with": {"signal": "go"}}}
    run = begin(stack, {"each": {"call": "foreach", "with": {"items": [1, 2, 3], "concurrency": 2, "steps": wait}}})
    # an item's own wait is what is told first; room is counted beside it
    said = until("items that wait for room", lambda: (e := says(stack, run, "signal")) and [m for m in e["more"] if m["reason"] == "loop_room"])
    assert "1 wait for room (concurrency 2)" in said[0]["sentence"], said
    seen.add("loop_room")
    cancel(stack, run)
    run = begin(stack, {"each": {"call": "foreach", "with": {"items": [1, 2], "concurrency": 2, "steps": wait}}})
    said = until("a loop whose items all go on", lambda: [m for m in says(stack, run, "signal")["more"] if m["reason"] == "loop"])
    assert "0 of 2 items have ended, 2 are running" in said[0]["sentence"], said
    seen.add("loop")
    cancel(stack, run)


def test_an_attempt_that_failed_and_a_poll(stack, target):
    busy = http(target.on("/busy", {"status": 503, "body": {}}), retry={"max_attempts": 3, "initial": "1h", "max": "1h", "jitter": 0})
    run = begin(stack, {"go": busy})
    said = says(stack, run, "backing_off")
    assert "attempt 1 failed: http_503" in said["sentence"] and said["due_at"] in said["sentence"], said
    cancel(stack, run)
    run = begin(stack, {"ask": {"call": "poll", "with": {"call": "http", "with": {"url": target.on("/state", {"body": {"state": "busy"}})},
                                                         "until": "${ .output.body.state == \"done\" }", "interval": "1h", "timeout": "2h"}}})
    assert says(stack, run, "poll")["due_at"]
    cancel(stack, run)


def test_an_outcome_that_nobody_knows(stack, target):
    run = begin(stack, {"once": http(target.on("/cut", {"cut": True}), delivery="at_most_once", on_unknown="wait", deadline="1h")})
    assert ":settle" in says(stack, run, "unknown_outcome", 40)["hint"]
    cancel(stack, run)


def test_a_call_that_takes_its_time_and_those_behind_it(stack, target):
    slow = begin(stack, {"go": http(target.on("/slow", {"wait": 20}), timeout="60s")})
    assert "worker-1" in says(stack, slow, "running")["sentence"]
    name = save(stack, {"go": {"call": "noop"}})
    first = stack.start(name)
    says(stack, first, "queued")
    second = stack.start(name)
    said = until("its place", lambda: "behind" in (e := says(stack, second, "queued"))["sentence"] and e)
    assert "priority normal" in said["sentence"] and "pool 'default'" in said["sentence"], said
    cancel(stack, slow)


def test_a_pool_that_nobody_serves(stack):
    pool = "nobody-" + uuid.uuid4().hex[:8]
    run = begin(stack, {"go": {"call": "noop", "pool": pool}})
    assert f"'{pool}', which no worker serves" in says(stack, run, "no_worker", 40)["sentence"]
    cancel(stack, run)


@pytest.mark.parametrize("code, reason", [("rate_limited", "rate_limited"), ("breaker_open", "breaker_open"), ("not_just_now", "deferred")])
def test_what_a_worker_puts_off(stack, code, reason):
    """A worker of somebody's own: takes the task, and answers that it is not to be done yet."""
    pool = "mine-" + uuid.uuid4().hex[:8]
    run = begin(stack, {"go": {"call": "noop", "pool": pool}})
    with pika.BlockingConnection(pika.URLParameters(stack.env["ROPEWALK_AMQP_URL"])) as connection:
        channel = connection.channel()

        def take():
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):        # the queue is not there yet
                return channel.basic_get(f"ropewalk.task.{pool}.normal", auto_ack=True)[2]
            return None
        body = until("the task", lambda: take() if channel.is_open else None)
        task = json.loads(body)
        result = {"v": 1, "task_id": task["task_id"], "token": task["token"], "worker": "mine", "status": "deferred",
                  "error": {"class": "transient", "code": code, "retry_after": "600s"}}
        channel.basic_publish("", task["reply_to"], json.dumps(result).encode(), pika.BasicProperties(type="result", delivery_mode=2))
    said = says(stack, run, reason)
    assert said["step"] == "go" and said["due_at"], said
    cancel(stack, run)


def test_a_run_that_its_scheduler_has_not_taken_yet_and_one_that_nobody_looks_after(stack):
    pid = stack.pid("scheduler-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        run = begin(stack, {"a": {"call": "noop"}})
        assert "scheduler-1" in says(stack, run, "starting")["sentence"]
        assert "No scheduler looks after shard" in says(stack, run, "no_scheduler", 60)["sentence"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert stack.ended(run, 60)["status"] == "succeeded"


def test_a_run_for_which_nothing_is_open(stack):
    run = begin(stack, {"nap": {"call": "delay", "with": {"duration": "1h"}}})
    says(stack, run, "delay")
    # what a commit ends and what it begins are one, so that nothing but the timeout is open only when a row is taken away
    stack.sql("delete from open_work where run_id = %s and kind <> 4 returning 1", run)
    says(stack, run, "moving")
    stack.sql("delete from open_work where run_id = %s returning 1", run)
    assert "a fault of ours" in says(stack, run, "orphan")["sentence"]


def test_a_broker_that_is_away(stack):
    stack.stack("stop", "rabbitmq-1")
    try:
        run = begin(stack, {"a": {"call": "noop"}})
        assert "does not reach RabbitMQ" in says(stack, run, "broker_down", 60)["sentence"]
    finally:
        stack.stack("start", "rabbitmq-1")
    assert stack.ended(run, 90)["status"] == "succeeded"


def test_all_reasons_were_there(request):
    if request.config.getoption("keyword"):
        pytest.skip("not all of the tests were run")
    for reason, file in ELSEWHERE.items():
        assert f'"{reason}"' in (CHECKOUT / file).read_text(), f"{file} does not bring '{reason}' about"
    assert set(REASONS) == seen | set(ELSEWHERE), set(REASONS) - seen - set(ELSEWHERE)
