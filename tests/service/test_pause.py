""":pause and :resume: what is held back, what goes on, over the death of every process; honest verdicts."""
import threading

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def http(url, **more):
    return {"call": "http", "with": {"url": url}, **more}


def ask(stack, run_id, operation, body=None):
    return stack.call("POST", f"/v1/runs/{run_id}:{operation}", body)


def applied(stack, run_id, operation, body=None):
    answer = ask(stack, run_id, operation, body)
    assert answer.status_code == 200 and answer.json()["applied"] is True, answer.text


def refused(stack, run_id, operation, code, body=None):
    answer = ask(stack, run_id, operation, body)
    assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
    assert answer.json()["detail"]


def types(stack, run_id):
    return [event["type"] for event in stack.ask("GET", f"/v1/runs/{run_id}/events?page_size=500")["items"]]


def requested(world, path, times=1):
    drive.until(f"{path} is called", lambda: len(world.requests(path)) >= times)


def restart(stack, kind):
    for path in sorted((stack.dir / "pids").glob(kind + "-*")):
        stack.signal(path.name)
    stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1")


def test_a_paused_run_begins_nothing_and_goes_on_when_it_is_resumed(stack, world):
    go = threading.Event()
    stack.save({"name": "pause-chain", "steps": {
        "a": http(world.on("/pause/a", {"until": go})), "b": {**http(world.url + "/pause/b"), "needs": ["a"]}}})
    run_id = stack.start("pause-chain")
    requested(world, "/pause/a")
    drive.until("a runs", lambda: stack.run(run_id)["steps"]["a"]["status"] == "running")
    applied(stack, run_id, "pause")
    run = stack.run(run_id)
    assert (run["status"], run["ended_at"]) == ("paused", None)
    assert run_id in [item["id"] for item in stack.ask("GET", "/v1/runs?status=paused&workflow=pause-chain")["items"]]
    assert run_id not in [item["id"] for item in stack.ask("GET", "/v1/runs?status=active&workflow=pause-chain")["items"]]
    why = stack.ask("GET", f"/v1/runs/{run_id}/explain")
    assert why["reason"] == "paused" and "running" in [more["reason"] for more in why["more"]], why
    assert "by the API key " + stack.key[:8] in why["sentence"], why
    go.set()
    drive.until("what ran has counted", lambda: stack.run(run_id)["steps"]["a"]["status"] == "succeeded")
    restart(stack, "scheduler")
    restart(stack, "gateway")
    drive.until("the gateways are back", lambda: stack.run(run_id)["status"] == "paused")
    # another run has come through the same queues and the new scheduler: this one's turn would have been before it
    stack.save(drive.CHAIN)
    assert stack.ended(stack.start_for_sure("chain5", "pause-other"))["status"] == "succeeded"
    assert world.requests("/pause/b") == []
    assert stack.ask("GET", f"/v1/runs/{run_id}/explain")["more"] == []
    applied(stack, run_id, "resume")
    assert stack.ended(run_id)["status"] == "succeeded"
    assert len(world.requests("/pause/b")) == 1
    said = types(stack, run_id)
    assert said.index("run.paused") < said.index("step.succeeded") < said.index("run.resumed")


def test_what_is_asked_for_and_holds_is_200_and_the_wrong_time_409(stack, world):
    go = threading.Event()
    stack.save({"name": "pause-verdicts", "steps": {"a": http(world.on("/verdicts/a", {"until": go}))}})
    run_id = stack.start("pause-verdicts")
    requested(world, "/verdicts/a")
    drive.until("a runs", lambda: stack.run(run_id)["steps"]["a"]["status"] == "running")
    applied(stack, run_id, "resume")                   # it is not paused
    applied(stack, run_id, "pause")
    applied(stack, run_id, "pause")
    applied(stack, run_id, "resume")
    assert (types(stack, run_id).count("run.paused"), types(stack, run_id).count("run.resumed")) == (1, 1)
    go.set()
    assert stack.ended(run_id)["status"] == "succeeded"
    refused(stack, run_id, "pause", "run_ended")
    refused(stack, run_id, "resume", "run_ended")
    refused(stack, run_id, "cancel", "run_ended")
    assert ask(stack, "00000000-0000-7000-8000-000000000000", "pause").status_code == 404
    assert ask(stack, run_id, "pause", {"why": "so"}).status_code == 422

    stack.save({"name": "pause-stopping", "steps": {"a": http(world.url + "/verdicts/b", pool="nobody"), "b": {
        "call": "delay", "with": {"duration": "1h"}}}})
    run_id = stack.start("pause-stopping")
    drive.until("it waits", lambda: stack.run(run_id)["steps"]["b"]["status"] == "waiting")
    applied(stack, run_id, "cancel")
    applied(stack, run_id, "cancel")
    assert stack.ended(run_id)["status"] == "cancelled"
    refused(stack, run_id, "cancel", "run_ended", {"compensate": True})
    refused(stack, run_id, "pause", "run_ended")


def test_timers_are_held_and_cancelling_and_the_timeout_are_not(stack, world):
    world.on("/held/a", 503)
    retry = {"max_attempts": 9, "initial": "1s", "factor": 1, "jitter": 0}
    stack.save({"name": "pause-backoff", "steps": {"a": http(world.url + "/held/a", retry=retry)}})
    cancelled = stack.start("pause-backoff")
    requested(world, "/held/a")
    drive.until("it backs off", lambda: stack.run(cancelled)["steps"]["a"]["status"] == "waiting")
    applied(stack, cancelled, "pause")
    before = len(world.requests("/held/a"))
    stack.save({"name": "pause-timeout", "timeout": "3s", "steps": {"a": {"call": "delay", "with": {"duration": "1s"}},
                                                                    "b": {**http(world.url + "/held/b"), "needs": ["a"]}}})
    timed = stack.start("pause-timeout")
    drive.until("it waits", lambda: stack.run(timed)["steps"]["a"]["status"] == "waiting")
    applied(stack, timed, "pause")
    run = stack.ended(timed)                           # later than the back-off, too
    assert (run["status"], run["steps"]["a"]["status"]) == ("timed_out", "cancelled")
    assert len(world.requests("/held/a")) == before and world.requests("/held/b") == []
    applied(stack, cancelled, "cancel")
    assert stack.ended(cancelled)["status"] == "cancelled"


def test_children_and_loops_go_with_the_run(stack, world):
    child_go, loop_go = threading.Event(), threading.Event()
    stack.save({"name": "pause-kid", "steps": {"k": http(world.on("/family/k", {"until": child_go})),
                                               "l": {**http(world.url + "/family/l"), "needs": ["k"]}}})
    stack.save({"name": "pause-family", "steps": {
        "kid": {"call": "workflow", "with": {"name": "pause-kid"}},
        "each": {"call": "foreach", "with": {"items": [1, 2, 3], "concurrency": 1,
                                             "steps": {"x": http(world.on("/family/x", {"until": loop_go}))}}}}})
    run_id = stack.start("pause-family")
    requested(world, "/family/k")
    requested(world, "/family/x")
    child = stack.ask("GET", f"/v1/runs?parent={run_id}")["items"][0]["id"]
    applied(stack, run_id, "pause")
    drive.until("the child is paused", lambda: stack.run(child)["status"] == "paused")
    assert "with the run that it belongs to" in stack.ask("GET", f"/v1/runs/{child}/explain")["sentence"]
    child_go.set()
    loop_go.set()
    drive.until("the item has ended", lambda: "each[0]" in [
        event.get("step") for event in stack.ask("GET", f"/v1/runs/{run_id}/events?page_size=500")["items"]])
    drive.until("the child's step has ended", lambda: stack.run(child)["steps"]["k"]["status"] == "succeeded")
    assert (len(world.requests("/family/x")), world.requests("/family/l")) == (1, [])
    applied(stack, run_id, "resume")
    assert stack.ended(run_id)["status"] == "succeeded"
    assert (len(world.requests("/family/x")), len(world.requests("/family/l"))) == (3, 1)
