"""A run that does again what another did, whole or from a step on: what is planned is what happens, results are copied,
keys are new, and it is as durable as a start. And runs that begin at a step."""
import os
import subprocess
import uuid

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
    return (done.stdout + done.stderr).strip()


def rerun(stack, run, value=None, status=202, **more):
    answer = stack.call("POST", f"/v1/runs/{run}:rerun", value or {}, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def statuses(run):
    return {name: step["status"] for name, step in run["steps"].items()}


def given(stack, run):
    return [s for (s,) in stack.sql("select step from event where run_id = %s and type = 33 order by seq", run)]


def compare(stack, plan, run, old):
    """The plan is what has happened: what was reused was given and not done, all else was decided anew."""
    assert sorted(given(stack, run["id"])) == sorted(s["step"] for s in plan["reused"])
    done = {name for name, step in run["steps"].items() if step["attempts"]}
    assert done <= {s["step"] for s in plan["executed"]}
    assert {s["step"] for s in plan["executed"]} | {s["step"] for s in plan["reused"]} == set(run["steps"])
    again = {name for name in done if old["steps"].get(name, {}).get("attempts")}
    assert again == {s["step"] for s in plan["executed"] if s["again"]} & done
    for step in plan["reused"]:
        assert run["steps"][step["step"]]["status"] == step["status"]


def flow(world, name):
    return {"name": name, "output": "${ .steps.d.output }", "steps": {
        "a": http(world, "/a"), "big": {"call": "condition", "needs": ["a"], "with": {"if": "${ .input.n > 1 }"}},
        "b": http(world, "/b", {"big": ["true"]}), "small": http(world, "/small", {"big": ["false"]}),
        "each": {"call": "foreach", "needs": ["a"], "with": {"items": [1, 2, 3], "steps": {"go": {
            "call": "transform", "with": {"value": "${ .item * 10 }"}}}}},
        "c": http(world, "/c", ["b"]),
        "d": {"call": "transform", "needs": ["c", "each", "a"], "with": {
            "value": {"a": "${ .steps.a.output.body.path }", "each": "${ .steps.each.output }", "b": "${ .steps.b.output.body.path }"}}}}}


def test_from_a_step_the_rest_is_taken_over_as_planned(stack, world):
    stack.save(flow(world, "rerun-from"))
    old = stack.ended(stack.start("rerun-from", {"n": 2}, labels={"team": "x"}))
    assert old["status"] == "succeeded" and statuses(old)["small"] == "skipped"
    world.seen.clear()
    plan = stack.call("POST", f"/v1/runs/{old['id']}:rerun?plan=true", {"from": "c"}).json()
    assert {s["step"] for s in plan["executed"]} == {"c", "d"}
    new = stack.ended(rerun(stack, old["id"], {"from": "c"})["run_id"])
    compare(stack, plan, new, old)
    assert new["status"] == "succeeded" and new["output"] == old["output"] and new["labels"] == {"team": "x"}
    assert new["output"]["each"] == [10, 20, 30]
    assert [r["path"] for r in world.requests()] == ["/c"]
    assert world.requests()[0]["headers"]["Idempotency-Key"] == f"{new['id']}:c"
    assert new["steps"]["big"]["branch"] == "true" and new["steps"]["small"]["skipped_because"] == old["steps"]["small"]["skipped_because"]
    assert new["rerun_of"] == old["id"] and stack.run(old["id"])["reruns"] == [new["id"]]
    assert new["begins"] == {"from": "c"} and old["begins"] is None
    # and once more, of what was itself taken over
    third = stack.ended(rerun(stack, new["id"], {"from": "d"})["run_id"])
    assert third["output"] == old["output"] and third["rerun_of"] == new["id"]
    assert stack.faults_of_history() == []


def test_a_whole_run_with_another_input(stack, world):
    stack.save(flow(world, "rerun-whole"))
    old = stack.ended(stack.start("rerun-whole", {"n": 2}))
    path = f"/v1/runs/{old['id']}:rerun"
    plan = stack.call("POST", path + "?plan=true").json()
    assert plan["reused"] == [] and {s["step"] for s in plan["executed"] if s["again"]} == {"a", "b", "c", "each"}
    same = stack.ended(rerun(stack, old["id"])["run_id"])
    assert same["output"] == old["output"] and same["input"] == {"n": 2} and given(stack, same["id"]) == []
    other = stack.ended(command(stack, "rerun", old["id"], "--input", '{"n": 0}'))
    assert statuses(other)["small"] == "succeeded" and statuses(other)["b"] == "skipped"
    assert set(stack.run(old["id"])["reruns"]) == {same["id"], other["id"]}


def test_outputs_that_are_given_and_failures_elsewhere(stack, world):
    world.on("/b", 422)
    stack.save(flow(world, "rerun-outputs"))
    old = stack.ended(stack.start("rerun-outputs", {"n": 2}))
    assert old["status"] == "failed"
    body = {"from": "c", "outputs": {"b": {"body": {"path": "given"}}}}
    plan = stack.call("POST", f"/v1/runs/{old['id']}:rerun?plan=true", body).json()
    new = stack.ended(rerun(stack, old["id"], body)["run_id"])
    compare(stack, plan, new, old)
    assert new["status"] == "succeeded" and new["output"]["b"] == "given"
    # without it: what failed is not taken over, it is done again, and what is below it
    world.on("/b", 200)
    plan = stack.call("POST", f"/v1/runs/{old['id']}:rerun?plan=true", {"from": "c"}).json()
    assert "b" in {s["step"] for s in plan["executed"]}
    new = stack.ended(rerun(stack, old["id"], {"from": "c"})["run_id"])
    compare(stack, plan, new, old)
    assert new["status"] == "succeeded"
    assert stack.faults_of_history() == []


def test_a_handled_failure_is_taken_over_and_what_was_undone_is_not(stack, world):
    world.on("/a", 422)
    stack.save({"name": "rerun-handled", "steps": {"a": http(world, "/a"), "h": http(world, "/h", {"a": ["failed"]}), "z": http(world, "/z", ["h"])}})
    old = stack.ended(stack.start("rerun-handled"))
    assert old["status"] == "succeeded"
    new = stack.ended(rerun(stack, old["id"], {"from": "z"})["run_id"])
    assert new["status"] == "succeeded" and new["steps"]["a"]["error"]["code"] == "http_422"
    assert sorted(given(stack, new["id"])) == ["a", "h"]
    world.on("/c", 422)
    undo = {"call": "http", "with": {"method": "DELETE", "url": world.url + "/u"}}
    stack.save({"name": "rerun-undone", "steps": {"u": http(world, "/u", compensate=undo), "c": http(world, "/c", ["u"])}})
    old = stack.ended(stack.start("rerun-undone"))
    assert old["status"] == "compensated"
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun", {"from": "c"})
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/steps/u"
    # what others did is not undone by the new run
    world.on("/c", 200, 422)
    old = stack.ended(stack.start("rerun-undone"))
    world.seen.clear()
    assert stack.ended(rerun(stack, old["id"], {"from": "c"})["run_id"])["status"] == "failed"
    assert world.requests(method="DELETE") == []


def test_another_version_must_match(stack, world):
    one = flow(world, "rerun-version")
    stack.save(one)
    old = stack.ended(stack.start("rerun-version", {"n": 2}))
    two = {**one, "steps": {**one["steps"], "late": http(world, "/late", ["d"])}}
    stack.save(two)
    new = stack.ended(rerun(stack, old["id"], {"from": "d", "version": 2})["run_id"])
    assert new["version"] == 2 and statuses(new)["late"] == "succeeded"
    assert stack.ended(rerun(stack, old["id"], {"from": "d"})["run_id"])["version"] == 1
    stack.save({**one, "steps": {**one["steps"], "early": http(world, "/early"), "a": {"call": "noop"}}})
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun", {"from": "d", "version": 3})
    assert answer.status_code == 422
    assert sorted((e["code"], e["pointer"]) for e in answer.json()["errors"]) == [("no_result", "/steps/a"), ("no_result", "/steps/early")]


@pytest.mark.parametrize("body, pointer", [
    ({"from": "nope"}, "/from"), ({"from": 1}, "/from"), ({"version": 99}, "/version"), ({"version": "1"}, "/version"), ({"outputs": []}, "/outputs"),
    ({"outputs": {"x~/y": 1}}, "/outputs/x~0~1y"), ({"from": "c", "outputs": {"c": 1}}, "/outputs/c"), ({"outputs": {"big": 1}}, "/outputs/big"),
    ({"confirm": ["nope"]}, "/confirm/0"), ({"what": 1}, "/what")])
def test_what_is_asked_for_is_checked(stack, world, body, pointer):
    stack.save(flow(world, "rerun-checked"))
    old = stack.ended(stack.start("rerun-checked", {"n": 2}))
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.text
    assert stack.run(old["id"])["reruns"] == []


def test_what_may_not_be_repeated_needs_a_word(stack, world):
    stack.save({"name": "rerun-charge", "steps": {
        "charge": http(world, "/charge", delivery="at_most_once"), "ship": http(world, "/ship", ["charge"])}})
    old = stack.ended(stack.start("rerun-charge"))
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun")
    assert answer.status_code == 409 and answer.json()["code"] == "confirmation_needed" and "'charge'" in answer.json()["detail"]
    assert "to be confirmed" in command(stack, "rerun", old["id"], "--plan")
    stack.ended(rerun(stack, old["id"], {"from": "ship"})["run_id"])
    assert len(world.requests("/charge")) == 1
    stack.ended(command(stack, "rerun", old["id"], "--confirm", "charge"))
    assert len(world.requests("/charge")) == 2


def child(name, **more):
    return {"call": "workflow", "with": {"name": name}, **more}


def test_child_runs_have_the_strongest_effect_of_what_they_do(stack, world):
    once = {"steps": {"charge": http(world, "/charge-child", delivery="at_most_once")}}
    documents = {"rerun-pure": {"steps": {"t": {"call": "transform", "with": {"value": 1}}}},
                 "rerun-sends": {"steps": {"a": http(world, "/sends"), "p": child("rerun-pure")}},
                 "rerun-once": once, "rerun-deep": {"steps": {"d": child("rerun-sends"), "e": child("rerun-once")}},
                 "rerun-said": {"steps": {"c": child("rerun-once", effect="idempotent")}}}
    for name, document in documents.items():
        stack.save({"name": name, **document})

    def loop(*names):
        return {"call": "foreach", "with": {"items": [1], "steps": {name.partition("-")[2]: child(name) for name in names}}}

    stack.save({"name": "rerun-parent", "steps": {
        "pure": child("rerun-pure"), "sends": child("rerun-sends"), "once": child("rerun-once"), "deep": child("rerun-deep"),
        "said": child("rerun-said"), "over": child("rerun-once", effect="pure"), "loop": loop("rerun-pure", "rerun-sends"),
        "loop_once": loop("rerun-pure", "rerun-deep"),
        "old": {"call": "workflow", "with": {"name": "rerun-once", "version": 1}}}})
    old = stack.ended(stack.start("rerun-parent"))

    def plan():
        said = stack.call("POST", f"/v1/runs/{old['id']}:rerun?plan=true").json()
        return {s["step"]: s["effect"] for s in said["executed"]}, said["needs_confirmation"]

    assert plan() == ({"pure": "pure", "sends": "idempotent", "once": "not_repeatable", "deep": "not_repeatable", "said": "idempotent", "over": "pure",
                       "loop": "idempotent", "loop_once": "not_repeatable", "old": "not_repeatable"},
                      ["once", "deep", "loop_once", "old"])
    refused = stack.call("POST", f"/v1/runs/{old['id']}:rerun", {"confirm": ["once", "deep", "loop_once"]})
    assert refused.status_code == 409 and refused.json()["code"] == "confirmation_needed" and "step 'old';" in refused.json()["detail"]
    stack.save({"name": "rerun-once", "steps": {"charge": http(world, "/charge-child")}})    # the newest version counts, unless one is named
    effects, confirm = plan()
    assert (effects["once"], effects["deep"], effects["old"], confirm) == ("idempotent", "idempotent", "not_repeatable", ["old"])
    before = len(world.requests("/charge-child"))
    stack.ended(rerun(stack, old["id"], {"confirm": ["old"]})["run_id"])
    assert len(world.requests("/charge-child")) == before + 6, "what was planned is what is done: once, deep, said, over, loop_once, old"


def test_a_run_of_pure_children_is_done_again_without_a_word(stack, world):
    stack.save({"name": "rerun-leaf", "steps": {"t": {"call": "transform", "with": {"value": 1}}}})
    stack.save({"name": "rerun-root", "steps": {"c": child("rerun-leaf")}})
    old = stack.ended(stack.start("rerun-root"))
    assert stack.ended(rerun(stack, old["id"])["run_id"])["status"] == "succeeded"
    assert stack.call("DELETE", "/v1/workflows/rerun-leaf").status_code == 204
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun")
    assert answer.status_code == 409 and answer.json()["code"] == "confirmation_needed", "nobody can say what it would do"


def test_the_same_key_makes_one_run(stack, world):
    stack.save(flow(world, "rerun-key"))
    old = stack.ended(stack.start("rerun-key", {"n": 2}))
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = rerun(stack, old["id"], {"from": "c"}, headers=headers)
    assert rerun(stack, old["id"], {"from": "c"}, headers=headers)["run_id"] == first["run_id"]
    answer = stack.call("POST", f"/v1/runs/{old['id']}:rerun", {"from": "d"}, headers=headers)
    assert answer.status_code == 422 and answer.json()["code"] == "idempotency_key_reused"
    other = stack.ended(stack.start("rerun-key", {"n": 2}))
    for path in (f"/v1/runs/{other['id']}:rerun", "/v1/workflows/rerun-key/runs"):
        answer = stack.call("POST", path, {"from": "c"} if path.endswith("rerun") else {}, headers=headers)
        assert answer.status_code == 422 and answer.json()["code"] == "idempotency_key_reused", "it asks for something else"
    stack.ended(first["run_id"])
    assert stack.run(old["id"])["reruns"] == [first["run_id"]] and stack.run(other["id"])["reruns"] == []


def test_large_outputs_are_copied(stack, world):
    text = "x" * 500_000
    world.on("/a", {"body": {"text": text}})
    stack.save({"name": "rerun-large", "steps": {"a": http(world, "/a"), "b": {
        "call": "transform", "needs": ["a"], "with": {"value": "${ .steps.a.output.body.text | length }"}}}})
    old = stack.ended(stack.start("rerun-large"))
    new = stack.ended(rerun(stack, old["id"], {"from": "b"})["run_id"])
    assert new["steps"]["b"]["output"] == 500_000
    whole = stack.call("GET", new["steps"]["a"]["output"]["$ref"]).json()
    assert whole["body"]["text"] == text


def test_a_run_that_is_under_way_is_not_taken_apart(stack):
    stack.save({"name": "rerun-open", "steps": {"a": {"call": "wait_signal", "with": {"signal": "go"}}, "b": {"call": "noop", "needs": ["a"]}}})
    run = stack.start("rerun-open")
    answer = stack.call("POST", f"/v1/runs/{run}:rerun", {"from": "b"})
    assert answer.status_code == 409 and answer.json()["code"] == "run_not_ended"
    assert rerun(stack, run)["run_id"] != run


def test_a_run_begins_at_a_step(stack, world):
    stack.save(flow(world, "start-at"))
    run = stack.ended(command(stack, "run", "start-at", "--input", '{"n": 2}', "--start-at-step", "b"))
    assert run["status"] == "succeeded" and [r["path"] for r in world.requests()] == ["/b", "/c"]
    assert {n for n, s in statuses(run).items() if s == "skipped"} == {"a", "big", "small", "each"}
    assert "start_at_step" in str(run["steps"]["a"]["skipped_because"])
    assert run["output"] == {"a": None, "each": None, "b": "/b"} and run["begins"] == {"start_at_step": "b"}
    answer = stack.call("POST", "/v1/workflows/start-at/runs", {"start_at_step": "nope"})
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/start_at_step"
    answer = stack.call("POST", "/v1/workflows/start-at/runs", {"start_at_step": 1})
    assert answer.status_code == 422 and answer.json()["errors"][0]["code"] == "wrong_type"
    again = stack.ended(rerun(stack, run["id"], {"from": "c"})["run_id"])
    assert again["status"] == "succeeded" and statuses(again)["a"] == "skipped"
    assert stack.faults_of_history() == []
