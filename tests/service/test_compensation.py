"""What a failed run has done is undone: order, outcomes, retries, crashes, requests; and who is told of a failure."""
import json

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def http(world, path, needs=None, undo=True, **more):
    step = {"call": "http", "with": {"method": "POST", "url": world.url + path}, "retry": {"max_attempts": 3, "initial": "20ms"}, **more}
    if needs:
        step["needs"] = needs
    if undo:
        step["compensate"] = {"call": "http", "with": {"method": "DELETE", "url": world.url + path},
                              "retry": {"max_attempts": 3, "initial": "20ms"}, **(undo if isinstance(undo, dict) else {})}
    return step


def chain(world, name, **more):
    return {"name": name, "steps": {
        "a": http(world, "/a"), "b": http(world, "/b", ["a"]), "c": http(world, "/c", ["b"], **more)}}


def undone(world):
    return [r["path"] for r in world.requests(method="DELETE")]


def test_a_failed_run_is_undone_newest_first(stack, world):
    world.on("/c", 404)
    stack.save(chain(world, "undo-order"))
    run = stack.ended(stack.start("undo-order"))
    assert run["status"] == "compensated"
    assert run["error"]["step"] == "c" and run["error"]["code"] == "http_404"
    assert undone(world) == ["/b", "/a"]
    keys = [r["headers"]["Idempotency-Key"] for r in world.requests(method="DELETE")]
    assert keys == [f"{run['id']}:b:compensate", f"{run['id']}:a:compensate"]
    types = [t for (t,) in stack.sql("select type from event where run_id = %s order by seq", run["id"])]
    assert 9 in types and types[-1] == 10        # run.compensating ... run.compensated
    assert stack.faults_of_history() == []


def test_compensations_are_retried_and_one_that_fails_does_not_stop_the_others(stack, world):
    world.on("/c", 404)
    document = chain(world, "undo-fails")
    document["steps"]["b"]["compensate"]["with"]["url"] = world.on("/undo-b", 409)
    document["steps"]["a"]["compensate"]["with"]["url"] = world.on("/undo-a", 503, 200)
    stack.save(document)
    run = stack.ended(stack.start("undo-fails"))
    assert run["status"] == "compensation_failed"
    assert undone(world) == ["/undo-b", "/undo-a", "/undo-a"]
    assert run["compensation"] == {"stands": ["b"], "undetermined": []}
    world.on("/undo-b", 200)
    assert stack.call("POST", f"/v1/runs/{run['id']}:compensate").status_code == 200
    run = drive.until("its second end", lambda: (r := stack.run(run["id"]))["status"] == "compensated" and r)
    assert undone(world)[3:] == ["/undo-b"]
    again = stack.call("POST", f"/v1/runs/{run['id']}:compensate")
    assert again.status_code == 200, "what is asked for already holds"
    assert stack.faults_of_history() == []


def test_a_step_of_which_nobody_knows_is_listed_unless_it_is_undone(stack, world):
    world.on("/c", {"cut": True})
    once = {"delivery": "at_most_once"}
    stack.save(chain(world, "undo-unknown", **once))
    run = stack.ended(stack.start("undo-unknown"))
    assert run["status"] == "compensation_failed"
    assert run["compensation"] == {"stands": [], "undetermined": ["c"]}
    assert undone(world) == ["/b", "/a"]
    stack.save(chain(world, "undo-unknown", undo={"on": ["succeeded", "outcome_unknown"], "with": {"method": "DELETE", "url": world.url + "/undo-c"}}, **once))
    run = stack.ended(stack.start("undo-unknown"))
    assert run["status"] == "compensated"
    assert undone(world)[2:] == ["/undo-c", "/b", "/a"]


def test_on_cancellation_only_when_asked_for_and_on_request_of_an_ended_run(stack, world):
    document = chain(world, "undo-cancel")
    document["steps"]["c"] = {"call": "wait_signal", "needs": ["b"], "with": {"signal": "go"}}
    stack.save(document)
    first, second = stack.start("undo-cancel"), stack.start("undo-cancel")
    for run_id in (first, second):
        drive.until("the wait", lambda: stack.run(run_id)["steps"]["c"]["status"] == "waiting")
    stack.ask("POST", f"/v1/runs/{first}:cancel", {"compensate": True})
    stack.ask("POST", f"/v1/runs/{second}:cancel")
    assert stack.ended(first)["status"] == "compensated"
    assert stack.ended(second)["status"] == "cancelled"
    assert undone(world) == ["/b", "/a"]
    assert stack.call("POST", f"/v1/runs/{second}:compensate").status_code == 200
    drive.until("it is undone", lambda: stack.run(second)["status"] == "compensated")
    assert undone(world) == ["/b", "/a", "/b", "/a"]


def test_a_run_that_times_out_is_undone(stack, world):
    document = chain(world, "undo-timeout")
    document["timeout"] = "2s"
    document["steps"]["c"] = {"call": "delay", "needs": ["b"], "with": {"duration": "1h"}}
    stack.save(document)
    run = stack.ended(stack.start("undo-timeout"))
    assert run["status"] == "compensated" and run["error"]["code"] == "timeout"
    assert undone(world) == ["/b", "/a"]


def test_steps_of_loops_are_undone_each(stack, world):
    document = {"name": "undo-loop", "steps": {
        "each": {"call": "foreach", "with": {"items": [0, 1, 2], "concurrency": 1, "steps": {
            "go": {"call": "http", "with": {"method": "POST", "url": world.url + "/item"},
                   "compensate": {"call": "http", "with": {"method": "DELETE", "url": world.url + "/item/${ .item }"}}}}}},
        "bad": {"call": "http", "needs": ["each"], "with": {"url": world.on("/bad", 404)}}}}
    stack.save(document)
    assert stack.ended(stack.start("undo-loop"))["status"] == "compensated"
    assert undone(world) == ["/item/2", "/item/1", "/item/0"]


def test_a_crash_in_the_middle_goes_on_where_it_was(stack, world):
    world.on("/c", 404)
    document = chain(world, "undo-crash")
    document["steps"]["b"]["compensate"]["with"]["url"] = world.on("/slow", {"wait": 1.5})
    stack.save(document)
    run_id = stack.start("undo-crash")
    drive.until("the first compensation", lambda: world.requests("/slow"))
    stack.signal(sorted(p.name for p in (stack.dir / "pids").glob("scheduler-*"))[0])
    stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1")
    assert stack.ended(run_id, 90)["status"] == "compensated"
    assert undone(world)[-1] == "/a" and set(undone(world)) == {"/slow", "/a"}
    assert stack.faults_of_history() == []


def test_somebody_is_told_of_a_failure_and_what_failed(stack, world):
    world.on("/c", 404)
    world.on("/told", 503, 200)
    document = chain(world, "notify", undo=False)
    for step in document["steps"].values():
        step.pop("compensate", None)
    document["on_failure_notify"] = {"call": "http", "retry": {"initial": "20ms"}, "with": {
        "method": "POST", "url": world.url + "/told",
        "body": {"run": "${ .run.id }", "status": "${ .run.status }", "error": "${ .run.error.code }", "step": "${ .run.error.step }",
                 "done": "${ .steps.a.status }"}}}
    stack.save(document)
    run = stack.ended(stack.start("notify"))
    assert run["status"] == "failed"
    told = world.requests("/told")
    assert len(told) == 2, "the notification is retried like a step"
    assert json.loads(told[1]["body"]) == {"run": run["id"], "status": "failed", "error": "http_404", "step": "c", "done": "succeeded"}
    world.on("/told", 404)
    assert stack.ended(stack.start("notify"))["status"] == "failed", "its own failure changes nothing"
    world.on("/c", 200)
    before = len(world.requests("/told"))
    assert stack.ended(stack.start("notify"))["status"] == "succeeded"
    assert len(world.requests("/told")) == before
