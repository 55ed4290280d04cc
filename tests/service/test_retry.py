"""A run that has ended is retried: what did not succeed is done again under the right key, all else is kept; and what is
planned is what happens."""
import os
import subprocess

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def http(world, path, needs=None, **more):
    step = {"call": "http", "with": {"method": "POST", "url": world.url + path}, "retry": {"max_attempts": 1}, **more}
    return {**step, "needs": needs} if needs else step


def command(stack, *words, code=0):
    done = subprocess.run([str(drive.BUILD / "bin/ropewalk"), *words], capture_output=True, text=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "ROPEWALK_URL": stack.urls[0], "ROPEWALK_API_KEY": stack.key})
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def refused(answer, code):
    assert answer.status_code == 409 and answer.json()["code"] == code, answer.text
    return answer.json()["detail"]


def attempts(run):
    return {name: len(step["attempts"]) for name, step in run["steps"].items()}


def test_what_failed_is_done_again_as_planned(stack, world):
    world.on("/b", 422, 200)
    stack.save({"name": "retry-plain", "steps": {
        "a": http(world, "/a"), "b": http(world, "/b", ["a"]), "c": http(world, "/c", ["b"]),
        "d": {"call": "transform", "needs": ["a", "c"], "with": {"value": "${ .steps.a.output.body.path }"}}}})
    one = stack.ended(stack.start("retry-plain"))
    assert one["status"] == "failed" and one["steps"]["c"]["status"] == "cancelled"
    path = f"/v1/runs/{one['id']}:retry"
    plan = stack.call("POST", path + "?plan=true").json()
    assert stack.run(one["id"])["status"] == "failed"        # nothing has changed
    assert [s["step"] for s in plan["reused"]] == ["a"] and plan["needs_confirmation"] == []
    assert [(s["step"], s["again"], s["new_key"]) for s in plan["executed"]] == [("b", True, True), ("c", False, False), ("d", False, False)]
    answer = stack.call("POST", path)
    assert answer.status_code == 200 and answer.json()["status"] == "applied", answer.text
    two = stack.ended(one["id"])
    assert two["status"] == "succeeded" and two["steps"]["d"]["output"] == "/a" and two["error"] is None
    # the plan is what has happened: each step that it names was done, no other was
    assert attempts(two) == {"a": 1, "b": 2, "c": 1, "d": 0}
    reopened = [s for (s,) in stack.sql("select step from event where run_id = %s and type = 32 order by seq", one["id"])]
    assert reopened == [s["step"] for s in plan["executed"]]
    assert [r["headers"]["Idempotency-Key"] for r in world.requests() if r["path"] == "/b"] == [f"{one['id']}:b", f"{one['id']}:b:2"]
    refused(stack.call("POST", path), "nothing_to_retry")
    refused(stack.call("POST", path + "?plan=true"), "nothing_to_retry")
    assert stack.faults_of_history() == []


def test_what_may_not_be_repeated_needs_a_word(stack, world):
    world.on("/charge", {"cut": True}, {})
    stack.save({"name": "retry-charge", "steps": {
        "charge": http(world, "/charge", delivery="at_most_once"), "ship": http(world, "/ship", ["charge"])}})
    run = stack.ended(stack.start("retry-charge"))
    assert run["steps"]["charge"]["status"] == "outcome_unknown"
    path = f"/v1/runs/{run['id']}:retry"
    plan = stack.call("POST", path + "?plan=true").json()
    assert plan["needs_confirmation"] == ["charge"] and not plan["executed"][0]["new_key"]
    assert "charge" in refused(stack.call("POST", path), "confirmation_needed")
    assert "charge" in refused(stack.call("POST", path, {"confirm": ["ship"]}), "confirmation_needed")
    refused(stack.call("POST", path, {"confirm": ["nobody", "charge"]}), "unknown_step")
    assert "to be confirmed" in command(stack, "retry", run["id"], "--plan")
    assert "charge" in command(stack, "retry", run["id"], code=3)
    assert "retried" in command(stack, "retry", run["id"], "--confirm", "charge")
    assert stack.ended(run["id"])["status"] == "succeeded"
    assert len([r for r in world.requests() if r["path"] == "/charge"]) == 2
    assert stack.faults_of_history() == []


def test_a_run_that_goes_on_cannot_be_retried_and_twice_is_once(stack, world):
    world.on("/a", 422, {"wait": 1.5})
    stack.save({"name": "retry-twice", "steps": {"a": http(world, "/a")}})
    run = stack.ended(stack.start("retry-twice"))
    path = f"/v1/runs/{run['id']}:retry"
    assert stack.call("POST", path).status_code == 200
    assert stack.call("POST", path).status_code == 200         # what was asked for holds
    assert stack.ended(run["id"])["status"] == "succeeded"
    assert len(world.requests()) == 2
    world.on("/a", {"wait": 1.5})
    other = stack.start("retry-twice")
    drive.until("it has begun", lambda: len(world.requests()) == 3)
    refused(stack.call("POST", f"/v1/runs/{other}:retry"), "run_not_ended")


def test_loops_and_children_are_refused_with_the_reason(stack, world):
    world.on("/item", 422)
    stack.save({"name": "retry-child", "steps": {"a": http(world, "/item")}})
    stack.save({"name": "retry-loop", "steps": {"each": {"call": "foreach", "with": {"items": [1, 2], "steps": {"go": http(world, "/item")}}}}})
    stack.save({"name": "retry-parent", "steps": {"sub": {"call": "workflow", "with": {"name": "retry-child"}}}})
    for workflow, step in (("retry-loop", "each"), ("retry-parent", "sub")):
        run = stack.ended(stack.start(workflow))
        assert run["status"] == "failed"
        assert f"'{step}'" in refused(stack.call("POST", f"/v1/runs/{run['id']}:retry"), "cannot_retry")


@pytest.mark.parametrize("body, pointer", [({"confirm": 1}, "/confirm"), ({"confirm": [1]}, "/confirm/0"), ({"steps": []}, "/steps")])
def test_what_is_asked_for_is_checked(stack, body, pointer):
    stack.save({"name": "retry-checked", "steps": {"a": {"call": "noop"}}})
    run = stack.start("retry-checked")
    answer = stack.call("POST", f"/v1/runs/{run}:retry", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.text
    assert stack.call("POST", f"/v1/runs/{run}:retry?plan=perhaps").status_code == 400
