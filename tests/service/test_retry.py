"""A run that has ended is retried: what did not succeed is done again under the right key, all else is kept; and what is
planned is what happens."""
import collections
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


def test_of_a_loop_only_what_failed_is_done_again(stack, world):
    """All iterations end, those of /1 and /3 with a failure in their second step; these are gone on with, and no other."""
    for item in (1, 3):
        world.on(f"/second/{item}", 422, 200)
    stack.save({"name": "retry-loop", "steps": {"each": {"call": "foreach", "with": {
        "items": [0, 1, 2, 3, 4], "concurrency": 2, "on_item_failure": "continue", "output": "${ .steps.second.output.body.path }",
        "steps": {"first": http(world, "/first/${ .item }"), "second": http(world, "/second/${ .item }", ["first"])}}}},
        "output": "${ .steps.each.output }"})
    one = stack.ended(stack.start("retry-loop"))
    assert one["status"] == "partially_completed" and one["output"] == ["/second/0", None, "/second/2", None, "/second/4"]
    path = f"/v1/runs/{one['id']}:retry"
    plan = stack.call("POST", path + "?plan=true").json()
    assert [(s["step"], s["items"]) for s in plan["executed"]] == [("each", 2)]
    assert "goes on, 2 items" in command(stack, "retry", one["id"], "--plan")
    assert stack.call("POST", path).status_code == 200
    two = stack.ended(one["id"])
    assert two["status"] == "succeeded" and two["output"] == [f"/second/{item}" for item in range(5)]
    times = collections.Counter(r["path"] for r in world.requests())
    assert times == {**{f"/first/{item}": 1 for item in range(5)}, **{f"/second/{item}": 2 if item in (1, 3) else 1 for item in range(5)}}
    keys = [r["headers"]["Idempotency-Key"] for r in world.requests() if r["path"] == "/second/3"]
    assert keys == [f"{one['id']}:each[3].second", f"{one['id']}:each[3].second:2"]
    items = stack.call("GET", f"/v1/runs/{one['id']}/steps?parent=each").json()["items"]
    assert [item["status"] for item in items] == ["succeeded"] * 5, items
    output = stack.call("GET", f"/v1/runs/{one['id']}/steps/each/attempts/1/output").json()
    assert output == two["output"]
    assert stack.faults_of_history() == []


def test_a_loop_that_failed_goes_on_with_what_it_had_not_begun(stack, world):
    world.on("/go/1", 422, 200)
    stack.save({"name": "retry-rest", "steps": {
        "each": {"call": "foreach", "with": {"items": [0, 1, 2, 3], "concurrency": 1, "steps": {"go": http(world, "/go/${ .item }")}}},
        "last": {"call": "transform", "needs": ["each"], "with": {"value": "${ .steps.each.output | length }"}}}})
    one = stack.ended(stack.start("retry-rest"))
    assert one["status"] == "failed" and one["steps"]["each"]["error"]["code"] == "item_failed"
    assert "retried" in command(stack, "retry", one["id"])
    two = stack.ended(one["id"])
    assert two["status"] == "succeeded" and two["steps"]["last"]["output"] == 4
    assert [r["path"] for r in world.requests()] == ["/go/0", "/go/1", "/go/1", "/go/2", "/go/3"]
    assert stack.faults_of_history() == []


def test_a_run_that_is_retried_waits_for_its_slot(stack, world):
    world.on("/a/1", 422, 200)
    world.on("/a/2", {"wait": 6})
    stack.save({"name": "retry-limited", "concurrency": {"limit": 1}, "steps": {"a": http(world, "/a/${ .input.n }")}})
    one = stack.ended(stack.start("retry-limited", {"n": 1}))
    two = stack.start("retry-limited", {"n": 2})
    drive.until("it has the slot", lambda: len(world.requests()) == 2)
    three = stack.start("retry-limited", {"n": 3})
    assert stack.call("POST", f"/v1/runs/{one['id']}:retry").status_code == 200
    why = stack.call("GET", f"/v1/runs/{one['id']}/explain").json()
    assert why["reason"] == "concurrency" and why["concurrency"]["position"] == 2, why
    assert stack.run(one["id"])["status"] == "waiting"
    assert [stack.ended(run)["status"] for run in (two, three, one["id"])] == ["succeeded"] * 3
    assert [r["path"] for r in world.requests()] == ["/a/1", "/a/2", "/a/3", "/a/1"]     # first come, first served
    assert stack.faults_of_history() == []


def nested(stack, world, levels):
    """Workflows retry-level-0, which fails once in its second step, to retry-level-LEVELS, each of which starts the one below."""
    stack.save({"name": "retry-level-0", "steps": {"a": http(world, "/a"), "b": http(world, "/b", ["a"])}, "output": "${ .steps.b.output.status }"})
    for level in range(1, levels + 1):
        stack.save({"name": f"retry-level-{level}", "output": "${ .steps.sub.output }", "steps": {
            "before": http(world, f"/before/{level}"),
            "sub": {"call": "workflow", "needs": ["before"], "with": {"name": f"retry-level-{level - 1}"}}}})


@pytest.mark.parametrize("levels", [1, 3])
def test_children_do_again_what_failed_in_them(stack, world, levels):
    world.on("/b", 422, 422, 200)
    nested(stack, world, levels)
    run = stack.ended(stack.start(f"retry-level-{levels}"))
    assert run["status"] == "failed" and run["error"]["code"] == "http_422"
    path = f"/v1/runs/{run['id']}:retry"
    assert stack.call("POST", path + "?plan=true").json()["needs_confirmation"] == ["sub"]
    assert "'sub'" in refused(stack.call("POST", path), "confirmation_needed")
    assert "retried" in command(stack, "retry", run["id"], "--confirm", "sub")
    assert stack.ended(run["id"])["status"] == "failed"
    assert stack.call("POST", path, {"confirm": True}).status_code == 200
    two = stack.ended(run["id"])
    assert two["status"] == "succeeded" and two["output"] == 200, two
    times = collections.Counter(r["path"] for r in world.requests())
    assert times == {"/a": 1, "/b": 3, **{f"/before/{level}": 1 for level in range(1, levels + 1)}}
    children = stack.sql("with recursive f as (select id from run where id = %s union all select r.id from run r join f on r.parent = f.id) "
                         "select count(*) from f", run["id"])
    assert children == [(levels + 1,)]
    assert stack.faults_of_history() == []


def test_where_a_child_cannot_be_retried_another_begins(stack, world):
    world.on("/b", 422, 200)
    stack.save({"name": "retry-undone", "steps": {
        "a": http(world, "/a", compensate={"call": "http", "with": {"method": "DELETE", "url": world.url + "/a"}}),
        "b": http(world, "/b", ["a"])}})
    stack.save({"name": "retry-anew", "steps": {"sub": {"call": "workflow", "effect": "idempotent", "with": {"name": "retry-undone"}}}})
    run = stack.ended(stack.start("retry-anew"))
    assert run["status"] == "failed"
    assert stack.call("POST", f"/v1/runs/{run['id']}:retry").status_code == 200
    assert stack.ended(run["id"])["status"] == "succeeded"
    ended = stack.sql("select status from run where parent = %s order by id", run["id"])
    assert [status for (status,) in ended] == ["compensated", "succeeded"]
    assert [(r["method"], r["path"]) for r in world.requests()].count(("POST", "/a")) == 2
    assert stack.faults_of_history() == []


def test_a_child_that_is_still_being_stopped_is_retried_when_it_has_ended(stack, world):
    """The parent's step has timed out; its child runs on until its worker's attempt has ended, and is then cancelled."""
    world.on("/slow", {"wait": 4}, 200)
    stack.save({"name": "retry-slow", "steps": {"a": http(world, "/first"), "b": http(world, "/slow", ["a"]), "c": http(world, "/c", ["b"])}})
    stack.save({"name": "retry-hasty", "steps": {"sub": {"call": "workflow", "effect": "idempotent", "deadline": "2s", "with": {"name": "retry-slow"}}}})
    run = stack.ended(stack.start("retry-hasty"))
    assert run["steps"]["sub"]["status"] == "timed_out"
    (child, status), = stack.sql("select id, status from run where parent = %s", run["id"])
    assert stack.call("POST", f"/v1/runs/{run['id']}:retry").status_code == 200
    two = stack.ended(run["id"])
    assert two["status"] in ("succeeded", "failed")              # within the deadline, or once more beyond it
    assert stack.sql("select count(*) from run where parent = %s", run["id"]) == [(1,)]
    assert len([r for r in world.requests() if r["path"] == "/first"]) == 1
    assert stack.faults_of_history() == []


@pytest.mark.parametrize("body, pointer", [({"confirm": 1}, "/confirm"), ({"confirm": [1]}, "/confirm/0"), ({"steps": []}, "/steps")])
def test_what_is_asked_for_is_checked(stack, body, pointer):
    stack.save({"name": "retry-checked", "steps": {"a": {"call": "noop"}}})
    run = stack.start("retry-checked")
    answer = stack.call("POST", f"/v1/runs/{run}:retry", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.text
    assert stack.call("POST", f"/v1/runs/{run}:retry?plan=perhaps").status_code == 400
