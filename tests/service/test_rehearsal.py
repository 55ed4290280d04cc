"""`ropewalk test` against the real thing: one workflow, carried out here and on a real stack with the same answers, has the
same history: the same events of the same steps and attempts, in the same order where it is one that follows.
"""
import collections
import json
import subprocess
import uuid

import pytest

import drive
import target

RETRY = {"max_attempts": 4, "initial": "20ms", "jitter": 0}


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def rehearsed(folder, document, mocks, value, children=(), signals=(), events=()):
    """What `ropewalk test` makes of it: (status, output, events)."""
    for one in (document, *children):
        (folder / f"{one['name']}.json").write_text(json.dumps(one))
    case = {"name": "the same", "input": value, "mocks": mocks, "signals": list(signals), "events": list(events), "expect": {"exact": False}}
    (folder / "test.json").write_text(json.dumps({"workflow": f"{document['name']}.json", "workflows": [f"{c['name']}.json" for c in children], "cases": [case]}))
    done = subprocess.run([str(drive.BUILD / "bin/ropewalk"), "test", str(folder / "test.json"), "-o", "json"], env={"PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    case, = json.loads(done.stdout)["cases"]
    return case["run"]["status"], case["run"].get("output"), [(e["type"], e["step"], e.get("attempt")) for e in case["events"]]


def on_the_stack(stack, run):
    events = stack.ask("GET", f"/v1/runs/{run['id']}/events?page_size=500")["items"]
    return run["status"], run["output"], [(e["type"], e.get("step"), e.get("attempt")) for e in events]


def in_steps(events):
    """The events of each step in their order: between steps that do not wait for each other there is none."""
    steps = collections.defaultdict(list)
    for kind, step, attempt in events:
        steps[step].append((kind, attempt))
    return dict(steps)


def same(real, tried):
    assert tried[0] == real[0]
    assert tried[1] == real[1]
    assert in_steps(tried[2]) == in_steps(real[2])


def answers(world, path, *said):
    """The same answers for the target and for the mock."""
    world.on(path, *said)
    mocks = [{"error": "connection_lost"} if a.get("cut") else {"status": a.get("status", 200), "body": a.get("body", {"path": path})} for a in said]
    return {"attempts": mocks, "default": mocks[-1]}


def http(world, path, **more):
    return {"call": "http", "with": {"method": "POST", "url": world.url + path}, "retry": RETRY, **more}


def test_retries_branches_joins_and_expressions(stack, world, tmp_path):
    mocks = {"charge": answers(world, "/charge", {"status": 503}, {"status": 429}, {"body": {"id": 7, "paid": 12.5}}),
             "stock": answers(world, "/stock", {"status": 404, "body": "none"}), "ship": answers(world, "/ship", {"body": {"tracking": "T"}}),
             "once": answers(world, "/once", {"cut": True})}
    document = {"name": "same-branches", "steps": {
        "charge": http(world, "/charge"),
        "stock": http(world, "/stock", needs=["charge"], on_failure="continue"),
        "large": {"call": "condition", "needs": ["charge"], "with": {"if": "${ .steps.charge.output.body.paid > .input.limit }"}},
        "kind": {"call": "switch", "needs": ["charge"], "with": {"cases": [{"name": "odd", "if": "${ .steps.charge.output.body.id % 2 == 1 }"}], "default": "even"}},
        "review": {"call": "noop", "needs": {"large": ["true"]}},
        "ship": http(world, "/ship", needs={"large": ["false"], "review": ["succeeded"]}, join="any"),
        "never": {"call": "noop", "needs": ["ship"], "when": "${ .steps.charge.output.body.id == 8 }"},
        "once": http(world, "/once", needs=["ship"], delivery="at_most_once", on_failure="continue"),
        "told": {"call": "transform", "needs": {"stock": ["failed"], "ship": ["succeeded"]}, "with": {"value": "${ .steps }"}},
        "bad": {"call": "transform", "needs": ["ship"], "on_failure": "continue", "with": {"value": "${ .input | error }"}}},
        "output": {"all": "${ .steps | map_values(.status) }", "branch": "${ .steps.large.branch }", "told": "${ .steps.told.output | keys }",
                   "why": "${ .steps.stock.error.code }", "text": "T ${ .input.limit } ${ .steps.kind.branch }"}}
    stack.save(document)
    real = on_the_stack(stack, stack.ended(stack.start("same-branches", {"limit": 100})))
    assert real[0] == "partially_completed"
    same(real, rehearsed(tmp_path, document, mocks, {"limit": 100}))


def test_loops_polls_delays_signals_and_children(stack, world, tmp_path):
    child = {"name": "same-child", "steps": {"work": http(world, "/work"), "nap": {"call": "delay", "needs": ["work"], "with": {"duration": "50ms"}}},
             "output": "${ {got: .steps.work.output.body.n, of: .input.of} }"}
    mocks = {"same-child/work": answers(world, "/work", {"status": 503}, {"body": {"n": 1}}),
             "each.go": answers(world, "/go", {"body": 2}), "each[1].go": answers(world, "/gone", {"status": 410}),
             "ready": answers(world, "/ready", {"body": "no"}, {"body": "yes"})}
    document = {"name": "same-waits", "steps": {
        "each": {"call": "foreach", "with": {"items": "${ .input.paths }", "concurrency": 2, "on_item_failure": "continue",
                 "steps": {"go": http(world, "/${ .item }"), "mark": {"call": "transform", "needs": ["go"], "with": {"value": "${ [.index, .steps.go.output.body] }"}}}}},
        "sub": {"call": "workflow", "needs": ["each"], "with": {"name": "same-child", "input": {"of": "${ .steps.each.failed }"}}},
        "ready": {"call": "poll", "needs": ["sub"], "with": {"call": "http", "with": {"url": world.url + "/ready"}, "until": "${ .output.body == \"yes\" }", "interval": "50ms"}},
        "word": {"call": "wait_signal", "needs": ["ready"], "with": {"signal": "go"}},
        "miss": {"call": "wait_signal", "needs": ["word"], "on_failure": "continue", "with": {"signal": "never", "timeout": "100ms"}}},
        "output": "${ {each: .steps.each.output, sub: .steps.sub.output, word: .steps.word.output, miss: .steps.miss.status} }"}
    value = {"paths": ["go", "gone", "go"]}
    stack.save(child)
    stack.save(document)
    run_id = stack.start("same-waits", value)
    drive.until("it waits for its word", lambda: any(e["type"] == "step.waiting" and e.get("step") == "word" for e in stack.ask("GET", f"/v1/runs/{run_id}/events?page_size=500")["items"]), 30)
    stack.ask("POST", f"/v1/runs/{run_id}/signals/go", {"by": "ann"})
    real = on_the_stack(stack, stack.ended(run_id))
    same(real, rehearsed(tmp_path, document, mocks, value, [child], [{"at": "5m", "name": "go", "payload": {"by": "ann"}}]))


def test_events_before_and_after_their_steps(stack, tmp_path):
    this = "test.same." + uuid.uuid4().hex[:8]
    wait = {"call": "wait_event", "with": {"type": this, "source": "/shop", "filter": "${ [.event.data.n, .input.n] | add == 5 }"}}
    document = {"name": "same-events", "steps": {
        "first": wait, "word": {"call": "wait_signal", "needs": ["first"], "with": {"signal": "go"}},
        "second": {**wait, "needs": ["word"]},
        "none": {"call": "wait_event", "needs": ["second"], "on_failure": "continue", "with": {"type": this, "look_back": "0s", "timeout": "100ms"}},
        "each": {"call": "foreach", "needs": {"none": ["timed_out"]}, "with": {"items": [2, 3], "steps": {
            "e": {"call": "wait_event", "with": {"type": this, "filter": "${ .event.data.n == .item }"}}}}}},
        "output": "${ [.steps.first.output.id, .steps.second.output.id, (.steps.each.output | map(.id))] }"}
    stack.save(document)
    run_id = stack.start("same-events", {"n": 3})
    sent = [{"type": this, "source": source, "id": str(n), "data": {"n": n}} for source, n in (("/shop", 1), ("/other", 2), ("/shop", 2), ("/shop", 3))]
    drive.until("it waits", lambda: stack.run(run_id)["steps"]["first"]["status"] == "waiting")
    for value in sent:
        stack.ask("POST", "/v1/events", {"specversion": "1.0", **value})
    drive.until("it waits for its word", lambda: stack.run(run_id)["steps"]["word"]["status"] == "waiting")
    stack.ask("POST", f"/v1/runs/{run_id}/signals/go", {})
    real = on_the_stack(stack, stack.ended(run_id))
    same(real, rehearsed(tmp_path, document, {}, {"n": 3}, signals=[{"at": "5m", "name": "go", "payload": {}}],
                         events=[{"at": "1m", **value} for value in sent]))


def test_compensation_and_the_notification(stack, world, tmp_path):
    def undo(path):
        return {"call": "http", "with": {"method": "DELETE", "url": world.url + path}, "retry": RETRY}

    mocks = {"a": answers(world, "/a", {"body": 1}), "b": answers(world, "/b", {"body": 2}), "c": answers(world, "/c", {"status": 422, "body": "no"}),
             "a:compensate": answers(world, "/undo-a", {"status": 503}, {"body": "gone"}), "b:compensate": answers(world, "/undo-b", {"status": 409}),
             ":notify": answers(world, "/told", {"body": "ok"})}
    document = {"name": "same-undo", "on_failure_notify": {"call": "http", "with": {"method": "POST", "url": world.url + "/told", "body": {"of": "${ .run.status }", "step": "${ .run.error.step }"}}},
                "steps": {"a": http(world, "/a", compensate=undo("/undo-a")), "b": http(world, "/b", needs=["a"], compensate=undo("/undo-b")), "c": http(world, "/c", needs=["b"])}}
    stack.save(document)
    real = on_the_stack(stack, stack.ended(stack.start("same-undo", {})))
    assert real[0] == "compensation_failed"
    mocks[":notify"]["default"]["expect_with"] = {"body": json.loads(world.requests("/told")[0]["body"])}
    tried = rehearsed(tmp_path, document, mocks, {})
    same(real, tried)
    assert tried[2] == real[2], "a chain has one order"
