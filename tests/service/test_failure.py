"""Retry, failure modes, versions and parallel branches through the whole engine."""
import json
import threading

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def get(world, path, **more):
    return {"call": "http", "with": {"url": world.url + path}, "retry": {"initial": "20ms", "max": "50ms"}, **more}


def attempts(run, step):
    return [(a["attempt"], a["status"], (a.get("error") or {}).get("code")) for a in run["steps"][step]["attempts"]]


def test_transient_errors_are_tried_again_permanent_ones_are_not_and_attempts_are_kept(stack, world):
    world.on("/flaky", 503, 429, 200)
    world.on("/gone", 404)
    world.on("/ever", 500)
    stack.save({"name": "retry", "on_failure": "continue", "steps": {
        "flaky": get(world, "/flaky"), "gone": get(world, "/gone"),
        "ever": get(world, "/ever", retry={"max_attempts": 3, "initial": "20ms"})}})
    run = stack.ended(stack.start("retry"))
    assert run["status"] == "partially_completed"
    assert attempts(run, "flaky") == [(1, "failed", "http_503"), (2, "failed", "http_429"), (3, "succeeded", None)]
    assert attempts(run, "gone") == [(1, "failed", "http_404")]
    assert [a[0] for a in attempts(run, "ever")] == [1, 2, 3]


def test_retry_on_lists_what_is_tried_again(stack, world):
    world.on("/a", 503, 200)
    world.on("/b", 503, 200)
    world.on("/c", 502, 200)
    stack.save({"name": "retry-on", "on_failure": "continue", "steps": {
        "a": get(world, "/a", retry={"on": ["http_503"], "initial": "20ms"}),
        "b": get(world, "/b", retry={"on": ["timeout", "http_429"], "initial": "20ms"}),
        "c": get(world, "/c", retry={"on": ["http_5xx"], "initial": "20ms"})}})
    run = stack.ended(stack.start("retry-on"))
    assert {n: s["status"] for n, s in run["steps"].items()} == {"a": "succeeded", "b": "failed", "c": "succeeded"}


def test_retry_after_raises_the_wait(stack, world):
    world.on("/later", {"status": 429, "headers": {"Retry-After": "1"}}, 200)
    stack.save({"name": "retry-after", "steps": {"a": get(world, "/later")}})
    run = stack.ended(stack.start("retry-after"))
    assert run["status"] == "succeeded"
    first, second = world.requests("/later")
    assert second["began"] - first["began"] >= 1.0


def test_the_key_rises_after_an_answer_and_stays_after_silence(stack, world):
    world.on("/answer", 500, 200)
    world.on("/silence", {"cut": True}, 200)
    stack.save({"name": "generations", "steps": {"answer": get(world, "/answer"), "silence": get(world, "/silence")}})
    run = stack.ended(stack.start("generations"))
    keys = {p: [r["headers"]["Idempotency-Key"] for r in world.requests(p)] for p in ("/answer", "/silence")}
    assert keys == {"/answer": [f"{run['id']}:answer", f"{run['id']}:answer:2"], "/silence": [f"{run['id']}:silence"] * 2}


MODES = [
    # on_failure of the failing step, needs of the handler, -> statuses, run
    ("fail", None, {"bad": "failed", "below": "cancelled", "beside": "succeeded", "behind": "cancelled"}, "failed"),
    ("continue", None, {"bad": "failed", "below": "skipped", "beside": "succeeded", "behind": "succeeded"}, "partially_completed"),
    ("fail", {"bad": ["failed"]}, {"bad": "failed", "below": "skipped", "beside": "succeeded", "behind": "succeeded", "mend": "succeeded"}, "succeeded"),
    ("fail", {"bad": ["failed"], "never": ["succeeded"]},
     {"bad": "failed", "below": "skipped", "beside": "succeeded", "behind": "succeeded", "mend": "skipped", "never": "skipped"}, "failed"),
]


@pytest.mark.parametrize("mode,handler,statuses,end", MODES)
def test_the_same_graph_under_each_mode(stack, world, mode, handler, statuses, end):
    hold, go = threading.Event(), threading.Event()
    world.on("/beside", {"until": hold})
    world.on("/bad", {"until": go, "status": 404})
    steps = {"bad": get(world, "/bad", on_failure=mode), "below": {"call": "noop", "needs": ["bad"]},
             "beside": get(world, "/beside"), "behind": {"call": "noop", "needs": ["beside"]}}
    if handler:
        steps["mend"] = {"call": "noop", "needs": handler}
        if "never" in handler:
            steps["never"] = {"call": "noop", "when": "${ false }"}
    stack.save({"name": "modes", "steps": steps})
    run_id = stack.start("modes")
    # one that is only queued would be cancelled: it is known to run once its worker has said so
    drive.until("the other branch runs", lambda: stack.run(run_id)["steps"]["beside"]["status"] == "running")
    go.set()
    drive.until("the failure", lambda: stack.run(run_id)["steps"]["bad"]["status"] == "failed")
    hold.set()
    run = stack.ended(run_id)
    assert ({n: s["status"] for n, s in run["steps"].items()}, run["status"]) == (statuses, end)


def test_branches_run_side_by_side(stack, world):
    world.on("/second", {"wait": 1})
    stack.save({"name": "side-by-side", "steps": {
        **{f"s{n}": get(world, "/second?n=" + str(n)) for n in range(20)},
        "join": {"call": "noop", "needs": [f"s{n}" for n in range(20)]}}})
    assert stack.ended(stack.start("side-by-side"))["status"] == "succeeded"
    assert world.most == 20


def test_a_burst_of_runs_keeps_each_its_version_while_the_workflow_is_edited(stack):
    def version(n):
        return {"name": "edited", "steps": {f"only{n}": {"call": "noop"}, "say": {"call": "transform", "with": {"value": n}}},
                "output": ["${ .run.version }", "${ .steps.say.output }"]}

    stack.save(version(1))
    stop = threading.Event()
    saved = []

    def edit():
        n = 2
        while not stop.is_set():
            saved.append(stack.save(version(n))["version"])
            n += 1

    editor = threading.Thread(target=edit)
    editor.start()
    ids = [stack.start("edited") for _ in range(1000)]
    stop.set()
    editor.join()
    assert len(saved) > 3
    seen = set()
    for run_id in ids:
        run = stack.ended(run_id)
        assert run["output"] == [run["version"], run["version"]]
        assert set(run["steps"]) == {f"only{run['version']}", "say"}
        seen.add(run["version"])
    assert len(seen) > 3, "runs of several versions"
    difference = stack.ask("GET", "/v1/workflows/edited/versions/2?diff=1")
    pointers = {(c["op"], c["pointer"]) for c in difference["changes"]}
    assert ("added", "/steps/only2") in pointers and ("removed", "/steps/only1") in pointers
    back = stack.ask("POST", "/v1/workflows/edited:rollback", {"version": 1})
    run = stack.ended(stack.start("edited"))
    assert run["version"] == back["version"] and run["output"][1] == 1
    assert json.loads(stack.call("GET", "/v1/workflows/edited/versions/1").text)
