"""Child runs, all the way: saved and started through the API, looked at through the API and in the tables."""
import signal
import time
import uuid

import drive


def named(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def calling(name, child, **with_):
    """A workflow of one step, which starts another."""
    return {"name": name, "steps": {"down": {"call": "workflow", "with": {"name": child, **with_}}}}


def family(stack, run):
    """The rows of a run's children, oldest first."""
    return [str(id) for (id,) in stack.sql("select id from run where parent = %s order by id", run)]


def row(stack, run):
    fields = ("workflow", "version", "status", "parent", "parent_step", "depth", "trigger", "input", "priority", "error_code")
    return dict(zip(fields, stack.sql(f"select {', '.join(fields)} from run where id = %s", run)[0]))


def test_input_goes_down_and_output_comes_back(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "input_schema": {"type": "object", "required": ["n"]},
                "steps": {"twice": {"call": "transform", "with": {"value": "${ .input.n * 2 }"}}},
                "output": "${ {twice: .steps.twice.output, text: .input.text} }"})
    stack.save({"name": parent, "priority": "high", "steps": {
        "one": {"call": "transform", "with": {"value": {"n": 21}}},
        "down": {"needs": ["one"], "call": "workflow", "with": {
            "name": child, "input": {"n": "${ .steps.one.output.n }", "text": "for ${ .input.who }"}}},
        "after": {"needs": ["down"], "call": "transform", "with": {"value": "${ .steps.down.output.twice + 1 }"}}},
        "output": {"answer": "${ .steps.down.output }", "next": "${ .steps.after.output }"}})
    run = stack.start(parent, {"who": "Zoë"})
    ended = stack.ended(run)
    assert ended["status"] == "succeeded", ended
    assert ended["output"] == {"answer": {"twice": 42, "text": "for Zoë"}, "next": 43}
    (kid,) = family(stack, run)
    found = row(stack, kid)
    assert found == {"workflow": child, "version": 1, "status": "succeeded", "parent": uuid.UUID(run), "parent_step": "down",
                     "depth": 1, "trigger": {"name": "down", "kind": "workflow"}, "input": {"n": 21, "text": "for Zoë"},
                     "priority": 1, "error_code": None}
    shown = stack.run(kid)
    assert shown["parent"] is not None and shown["trigger"] == {"name": "down", "kind": "workflow"}
    assert shown["output"] == {"twice": 42, "text": "for Zoë"}
    # an untouched number stays as it was written, through all of it
    assert int(kid[-3:], 16) == int(run[-3:], 16)       # the same slot


def test_numbers_that_nobody_touches_arrive_unchanged(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "steps": {"s": {"call": "noop"}}, "output": "${ .input }"})
    stack.call("PUT", "/v1/workflows/" + parent, data=(
        '{"name": "%s", "steps": {"down": {"call": "workflow", "with": {"name": "%s", "input": '
        '{"a": 0.1, "b": 9007199254740993, "c": 1.0}}}}, "output": "${ .steps.down.output }"}' % (parent, child)).encode())
    run = stack.start(parent)
    assert stack.ended(run)["status"] == "succeeded"
    ((text,),) = stack.sql("select output::text from event where run_id = %s and type = 2", run)
    assert text.replace(" ", "") == '{"a":0.1,"b":9007199254740993,"c":1.0}'


def test_a_failure_comes_back_with_its_code(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "steps": {"bad": {"call": "transform", "with": {"value": "${ error(\"no luck\") }"}}}})
    stack.save(calling(parent, child))
    run = stack.start(parent)
    ended = stack.ended(run)
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "expression_failed" and ended["error"]["step"] == "down", ended["error"]
    assert "no luck" in ended["error"]["message"]
    (kid,) = family(stack, run)
    assert kid in ended["error"]["message"]


def test_a_failure_that_is_continued_makes_the_parent_partial(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "on_failure": "continue",
                "steps": {"bad": {"call": "transform", "with": {"value": "${ error(\"x\") }"}}, "good": {"call": "noop"}}})
    stack.save({**calling(parent, child), "output": "fine"})
    ended = stack.ended(stack.start(parent))
    assert ended["status"] == "partially_completed"
    assert ended["error"]["code"] == "child_partially_completed" and ended["output"] == "fine", ended


def test_without_a_workflow_to_start_the_step_says_why(stack):
    gone, off, few, parent = named("gone"), named("off"), named("few"), named("parent")
    for name in (gone, off, few):
        stack.save({"name": name, "steps": {"s": {"call": "noop"}}})
    stack.ask("POST", f"/v1/workflows/{off}:disable")
    assert stack.call("DELETE", f"/v1/workflows/{gone}").ok
    for child, version, code in ((gone, None, "unknown_workflow"), (off, None, "workflow_disabled"), (few, 7, "unknown_version")):
        stack.save(calling(parent, child, **({"version": version} if version else {})))
        run = stack.start(parent)
        ended = stack.ended(run)
        assert ended["status"] == "failed" and ended["error"]["code"] == code, ended["error"]
        assert family(stack, run) == []
    stack.ask("POST", f"/v1/workflows/{off}:enable")
    stack.save(calling(parent, off))
    assert stack.ended(stack.start(parent))["status"] == "succeeded"


def test_a_named_version_is_the_one_that_runs(stack):
    child, parent = named("child"), named("parent")
    for text in ("first", "second"):
        stack.save({"name": child, "steps": {"s": {"call": "noop"}}, "output": text})
    stack.save({"name": parent, "steps": {"old": {"call": "workflow", "with": {"name": child, "version": 1}},
                                          "new": {"call": "workflow", "with": {"name": child}}},
                "output": ["${ .steps.old.output }", "${ .steps.new.output }"]})
    run = stack.start(parent)
    assert stack.ended(run)["output"] == ["first", "second"]
    assert sorted(row(stack, kid)["version"] for kid in family(stack, run)) == [1, 2]


def test_an_input_that_breaks_the_schema_is_refused_when_the_child_starts(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
                "steps": {"s": {"call": "noop"}}})
    stack.save(calling(parent, child, input={"n": "${ .input.n }"}))
    run = stack.start(parent, {"n": "many"})
    ended = stack.ended(run)
    assert ended["status"] == "failed" and ended["error"]["code"] == "invalid_input", ended["error"]
    assert "/n" in ended["error"]["message"]
    (kid,) = family(stack, run)
    assert stack.run(kid)["steps"]["s"]["status"] == "cancelled"
    assert stack.ended(stack.start(parent, {"n": 3}))["status"] == "succeeded"


def test_three_levels_run_and_the_fourth_is_refused(stack):
    names = [named("level") for _ in range(5)]
    for upper, lower in zip(names, names[1:]):          # from the top: each is saved before what it calls is there
        stack.save({**calling(upper, lower), "output": "${ .steps.down.output }"})
    stack.save({"name": names[4], "steps": {"s": {"call": "noop"}}, "output": "bottom"})
    run = stack.start(names[1])
    assert stack.ended(run)["output"] == "bottom"
    depths = []
    while run:
        depths.append(row(stack, run)["depth"])
        run = next(iter(family(stack, run)), None)
    assert depths == [0, 1, 2, 3]
    run = stack.start(names[0])
    ended = stack.ended(run)
    assert ended["status"] == "failed" and ended["error"]["code"] == "child_too_deep", ended["error"]
    for _ in range(3):
        (run,) = family(stack, run)
    assert family(stack, run) == [] and stack.run(run)["error"]["step"] == "down"
    refused = stack.call("PUT", "/v1/workflows/" + names[0], {**calling(names[0], names[1]), "timeout": "1h"})
    assert refused.status_code == 422                   # now that all of them are there
    assert [(fault["code"], fault["pointer"]) for fault in refused.json()["errors"]] == [("too_deep", "/steps/down/with/name")]


def waiting_family(stack):
    """A run, its child and its grandchild, which waits for a signal."""
    bottom, middle, top = named("bottom"), named("middle"), named("top")
    stack.save({"name": bottom, "steps": {"w": {"call": "wait_signal", "with": {"signal": "go"}}}, "output": "${ .steps.w.output }"})
    stack.save({**calling(middle, bottom), "output": "${ .steps.down.output }"})
    stack.save({**calling(top, middle), "output": "${ .steps.down.output }"})
    runs = [stack.start(top)]
    for _ in range(2):
        runs.append(drive.until("a child", lambda: family(stack, runs[-1]))[0])
    drive.until("the grandchild to wait", lambda: stack.sql("select 1 from open_work where run_id = %s and kind = 7", runs[2]))
    return runs


def test_a_cancellation_goes_all_the_way_down(stack):
    runs = waiting_family(stack)
    began = time.monotonic()
    assert stack.call("POST", f"/v1/runs/{runs[0]}:cancel").status_code == 200
    for run in runs:
        assert stack.ended(run, 10)["status"] == "cancelled"
    assert time.monotonic() - began < 5
    assert stack.sql("select 1 from open_work where run_id = any(%s)", [uuid.UUID(run) for run in runs]) == []


def test_a_cancelled_child_is_a_failure_of_its_parent(stack):
    runs = waiting_family(stack)
    assert stack.call("POST", f"/v1/runs/{runs[2]}:cancel").status_code == 200
    assert stack.ended(runs[2])["status"] == "cancelled"
    ended = stack.ended(runs[0])
    assert ended["status"] == "failed" and ended["error"]["step"] == "down", ended["error"]
    assert stack.run(runs[1])["error"]["code"] == "child_cancelled"


def test_many_children_of_a_loop(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "steps": {"s": {"call": "noop"}}, "output": "${ .input.n * .input.n }"})
    stack.save({"name": parent, "steps": {"each": {"call": "foreach", "with": {
        "items": "${ [range(.input.count)] }", "concurrency": 20,
        "steps": {"down": {"call": "workflow", "with": {"name": child, "input": {"n": "${ .item }"}}}}}}},
        "output": "${ .steps.each.output }"})
    run = stack.start(parent, {"count": 100})
    assert stack.ended(run)["output"] == [n * n for n in range(100)]
    kids = family(stack, run)
    assert len(kids) == 100
    assert sorted(row(stack, kid)["parent_step"] for kid in kids) == sorted(f"each[{n}].down" for n in range(100))


def test_a_scheduler_that_is_killed_in_the_middle_loses_and_doubles_nothing(stack):
    child, parent = named("child"), named("parent")
    stack.save({"name": child, "steps": {"a": {"call": "noop"}, "b": {"needs": ["a"], "call": "delay", "with": {"duration": "200ms"}}},
                "output": "${ .input.n }"})
    stack.save({"name": parent, "steps": {"each": {"call": "foreach", "with": {
        "items": "${ [range(40)] }", "concurrency": 8,
        "steps": {"down": {"call": "workflow", "with": {"name": child, "input": {"n": "${ .item }"}}}}}}},
        "output": "${ .steps.each.output }"})
    runs = [stack.start(parent) for _ in range(5)]
    for _ in range(3):
        before = stack.sql("select count(*) from event")[0][0]
        drive.until("something to happen", lambda: stack.sql("select count(*) from event")[0][0] > before + 100, 30)
        stack.signal("scheduler-1", signal.SIGKILL)
        stack.stack("start", "scheduler-1")
    for run in runs:
        assert stack.ended(run, 90)["output"] == list(range(40))
        assert stack.sql("select count(*), count(distinct parent_step) from run where parent = %s", run) == [(40, 40)]
    assert stack.faults_of_history() == []
    drive.until("every command to be applied", lambda: stack.sql("select count(*) from command") == [(0,)])
    assert stack.sql("select count(*) from dead_letter") == [(0,)]
