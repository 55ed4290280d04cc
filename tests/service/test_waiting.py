"""delay, wait_signal, poll, held outcomes, deadlines and run timeouts, over restarts of everything."""
import datetime

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def signal(name="go", **more):
    return {"call": "wait_signal", "with": {"signal": name, **more}}


def waiting(stack, run_id, step, seconds=20):
    return drive.until(f"{step} waits", lambda: stack.run(run_id)["steps"][step]["status"] == "waiting", seconds)


def send(stack, run_id, name, payload, **more):
    return stack.call("POST", f"/v1/runs/{run_id}/signals/{name}", payload, **more)


def restart(stack, *kinds):
    for kind in kinds:
        for path in sorted((stack.dir / "pids").glob(kind + "-*")):
            stack.signal(path.name)
    stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1")


def test_a_signal_is_the_output_of_the_step_that_waits_for_it(stack):
    stack.save({"name": "sig", "steps": {"wait": signal()}, "output": "${ .steps.wait.output }"})
    run_id = stack.start("sig")
    waiting(stack, run_id, "wait")
    answer = send(stack, run_id, "go", {"who": "ann", "n": 9007199254740993})
    assert answer.status_code == 202, answer.text
    run = stack.ended(run_id)
    assert (run["status"], run["output"]["who"]) == ("succeeded", "ann")
    assert "9007199254740993" in stack.call("GET", f"/v1/runs/{run_id}").text


def test_early_signals_wait_in_order_and_each_is_taken_once(stack):
    stack.save({"name": "sig-early", "steps": {
        "first": signal("open"), "one": {**signal("n"), "needs": ["first"]}, "two": {**signal("n"), "needs": ["one"]}},
        "output": ["${ .steps.one.output }", "${ .steps.two.output }"]})
    run_id = stack.start("sig-early")
    waiting(stack, run_id, "first")
    for n in (1, 2, 3):
        assert send(stack, run_id, "n", n).status_code == 202
    assert send(stack, run_id, "open", None).status_code == 202
    assert stack.ended(run_id)["output"] == [1, 2]


def test_what_a_signal_is_refused_for(stack):
    stack.save({"name": "sig-bad", "steps": {"wait": signal("go", once=True), "other": {**signal("open"), "needs": ["wait"]}}})
    run_id = stack.start("sig-bad")
    waiting(stack, run_id, "wait")
    assert send(stack, "01900000-0000-7000-8000-000000000000", "go", 1).status_code == 404
    assert stack.call("POST", f"/v1/runs/{run_id}/signals/go", data=b"{not json").status_code == 400
    assert send(stack, run_id, "n" * 256, 1).status_code == 400
    assert send(stack, run_id, "go", 1).status_code == 202
    twice = send(stack, run_id, "go", 2)
    assert (twice.status_code, twice.json()["code"]) == (409, "already_signalled")
    for n in range(100):
        assert send(stack, run_id, "many", n).status_code == 202
    full = send(stack, run_id, "many", 100)
    assert (full.status_code, full.json()["code"]) == (409, "signal_queue_full")
    assert send(stack, run_id, "open", None).status_code == 202
    stack.ended(run_id)
    late = send(stack, run_id, "go", 3)
    assert (late.status_code, late.json()["code"]) == (409, "run_ended")


def test_the_same_key_signals_once(stack):
    stack.save({"name": "sig-key", "steps": {"wait": signal("go"), "again": {**signal("go", timeout="1s"), "needs": ["wait"], "on_failure": "continue"}}})
    run_id = stack.start("sig-key")
    waiting(stack, run_id, "wait")
    for _ in range(3):
        assert send(stack, run_id, "go", 1, headers={"Idempotency-Key": "one"}).status_code == 202
    assert send(stack, run_id, "go", 2, headers={"Idempotency-Key": "one"}).status_code == 422
    run = stack.ended(run_id)
    assert run["steps"]["again"]["status"] == "timed_out"
    assert run["steps"]["again"]["error"]["code"] == "signal_timeout"


def test_waits_survive_the_death_of_every_process(stack):
    stack.save({"name": "sig-crash", "steps": {
        "wait": signal(), "pause": {"call": "delay", "needs": ["wait"], "with": {"duration": "2s"}}}})
    ids = [stack.start("sig-crash") for _ in range(20)]
    for run_id in ids:
        waiting(stack, run_id, "wait")
    restart(stack, "scheduler", "worker", "gateway")
    for run_id in ids:
        drive.until("the signal is taken", lambda: send(stack, run_id, "go", run_id).status_code == 202, 30)
    restart(stack, "scheduler")
    for run_id in ids:
        assert stack.ended(run_id)["status"] == "succeeded"
    assert stack.faults_of_history() == []


def test_a_name_may_be_an_expression_in_a_loop(stack):
    stack.save({"name": "sig-loop", "steps": {"each": {"call": "foreach", "with": {
        "items": ["a", "b"], "steps": {"ask": signal("ok-${ .item }")}}}}, "output": "${ .steps.each.output }"})
    run_id = stack.start("sig-loop")
    waiting(stack, run_id, "each")
    assert send(stack, run_id, "ok-b", "B").status_code == 202
    assert send(stack, run_id, "ok-a", "A").status_code == 202
    assert stack.ended(run_id)["output"] == ["A", "B"]


def poll(url, until="${ .output.body.state == \"done\" }", **more):
    return {"call": "poll", "with": {"call": "http", "with": {"url": url}, "until": until, **more}}


def test_a_poll_tries_until_it_holds_and_writes_no_event_for_a_try_that_does_not(stack, world):
    not_yet = {"body": {"state": "busy"}}
    world.on("/job", not_yet, not_yet, {"status": 503}, not_yet, {"body": {"state": "done", "result": 7}})
    stack.save({"name": "poll", "steps": {"job": {**poll(world.url + "/job", interval="100ms"), "retry": {"initial": "50ms"}}},
                "output": "${ .steps.job.output.body.result }"})
    run = stack.ended(stack.start("poll"))
    assert (run["status"], run["output"]) == ("succeeded", 7)
    assert len(world.requests("/job")) == 5
    kinds = [t for (t,) in stack.sql("select type from event where run_id = %s order by seq", run["id"])]
    assert kinds.count(20) == 2 and kinds.count(23) == 1 and kinds.count(24) == 1
    assert len({r["headers"]["Idempotency-Key"] for r in world.requests("/job")}) == 5


def test_a_poll_that_never_holds_times_out_and_one_goes_on_over_a_restart(stack, world):
    world.on("/never", {"body": {"state": "busy"}})
    stack.save({"name": "poll-never", "steps": {"job": poll(world.url + "/never", interval="200ms", timeout="1s")}})
    run = stack.ended(stack.start("poll-never"))
    assert run["steps"]["job"]["status"] == "timed_out" and run["steps"]["job"]["error"]["code"] == "poll_timeout"
    world.on("/slow", {"body": {"state": "busy"}})
    stack.save({"name": "poll-crash", "steps": {"job": poll(world.url + "/slow", interval="500ms", timeout="60s")}})
    run_id = stack.start("poll-crash")
    drive.until("two tries", lambda: len(world.requests("/slow")) >= 2)
    restart(stack, "scheduler", "worker")
    before = len(world.requests("/slow"))
    drive.until("it tries on", lambda: len(world.requests("/slow")) > before, 20)
    world.on("/slow", {"body": {"state": "done"}})
    assert stack.ended(run_id)["status"] == "succeeded"
    assert stack.faults_of_history() == []


def seconds_between(run, step):
    at = [datetime.datetime.fromisoformat(run["steps"][step][k].replace("Z", "+00:00")) for k in ("queued_at", "ended_at")]
    return (at[1] - at[0]).total_seconds()


def test_deadlines_and_the_run_timeout_end_what_hangs(stack, world):
    world.on("/hangs", {"wait": 20})
    stack.save({"name": "deadline", "steps": {
        "hangs": {"call": "http", "with": {"url": world.url + "/hangs"}, "deadline": "1s", "on_failure": "continue"},
        "waits": {**signal(), "deadline": "1s", "on_failure": "continue"},
        "loops": {"call": "foreach", "deadline": "1s", "on_failure": "continue",
                  "with": {"items": [1, 2], "steps": {"x": {"call": "delay", "with": {"duration": "1h"}}}}}}})
    run = stack.ended(stack.start("deadline"))
    assert run["status"] == "partially_completed"
    for step in ("hangs", "waits", "loops"):
        assert run["steps"][step]["status"] == "timed_out", step
        assert run["steps"][step]["error"]["code"] == "deadline"
    stack.save({"name": "timeout", "timeout": "1s", "steps": {"hangs": {"call": "http", "with": {"url": world.url + "/hangs"}}, "later": {**signal(), "needs": ["hangs"]}}})
    run = stack.ended(stack.start("timeout"))
    assert run["status"] == "timed_out"
    assert {s["status"] for s in run["steps"].values()} == {"cancelled"}


def test_an_unknown_outcome_is_held_until_somebody_settles_it(stack, world):
    world.on("/once", {"cut": True})
    step = {"call": "http", "with": {"method": "POST", "url": world.url + "/once"}, "delivery": "at_most_once", "on_unknown": "wait"}
    stack.save({"name": "settle", "steps": {"once": step, "after": {"call": "transform", "needs": ["once"], "with": {"value": "${ .steps.once.output }"}}},
                "output": "${ .steps.after.output }"})
    first, second = stack.start("settle"), stack.start("settle")
    for run_id in (first, second):
        waiting(stack, run_id, "once")
    refused = stack.call("POST", f"/v1/runs/{first}/steps/after:settle", {"as": "succeeded"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_unknown")
    stack.ask("POST", f"/v1/runs/{first}/steps/once:settle", {"as": "succeeded", "output": {"by": "hand"}})
    stack.ask("POST", f"/v1/runs/{second}/steps/once:settle", {"as": "failed"})
    run = stack.ended(first)
    assert (run["status"], run["output"]) == ("succeeded", {"by": "hand"})
    assert stack.ended(second)["status"] == "failed"
    assert len(world.requests("/once")) == 2
    assert stack.faults_of_history() == []


def test_settling_reopens_a_run_that_has_failed_for_it(stack, world):
    world.on("/once", {"cut": True})
    step = {"call": "http", "with": {"method": "POST", "url": world.url + "/once"}, "delivery": "at_most_once"}
    stack.save({"name": "settle-ended", "steps": {"once": step, "after": {"call": "noop", "needs": ["once"]}}})
    run_id = stack.start("settle-ended")
    assert stack.ended(run_id)["status"] == "failed"
    stack.ask("POST", f"/v1/runs/{run_id}/steps/once:settle", {"as": "succeeded"})
    run = drive.until("its second end", lambda: (r := stack.run(run_id))["status"] == "succeeded" and r)
    assert run["steps"]["after"]["status"] == "succeeded"
    assert len(world.requests("/once")) == 1
    assert stack.faults_of_history() == []
