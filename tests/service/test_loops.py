"""foreach through the whole engine: items, order, concurrency, the barrier, failures, nesting, and a scheduler that dies."""
import json

import drive
import pytest
import target


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def loop(name, items, steps, output="${ .steps.each.output }", **more):
    """A workflow of one loop, and a step behind it."""
    spec = {"items": items, "steps": steps, **{k: v for k, v in more.items() if k in ("concurrency", "output", "on_item_failure")}}
    if "item_output" in more:
        spec["output"] = more["item_output"]
    return {"name": name, "steps": {
        "each": {"call": "foreach", "with": spec, **more.get("step", {})},
        "after": {"call": "transform", "needs": {"each": ["succeeded", "failed", "skipped"]}, "with": {"value": "behind"}}},
        "output": output}


def run_of(stack, document, value=None, seconds=60):
    stack.save(document)
    return stack.ended(stack.start(document["name"], value), seconds)


def transform(source, **more):
    return {"call": "transform", "with": {"value": "${ " + source + " }"}, **more}


@pytest.mark.parametrize("items,expected", [
    ([3, 1, 2], [[3, 0], [1, 1], [2, 2]]),
    ("${ .input.list }", [["a", 0], ["b", 1]]),
    ("${ [.input.list[] | ascii_upcase] }", [["A", 0], ["B", 1]]),
    ("${ .input.none }", []),
    ([], []),
    (["${ .input.list[1] }", {"deep": "${ .input.list[0] }"}], [["b", 0], [{"deep": "a"}, 1]]),
])
def test_items_come_from_a_list_or_an_expression_and_outputs_keep_their_order(stack, items, expected):
    run = run_of(stack, loop("loop-items", items, {"go": transform("[.item, .index]")}),
                 {"list": ["a", "b"], "none": None})
    assert (run["status"], run["output"]) == ("succeeded", expected)
    assert run["steps"]["after"]["status"] == "succeeded"


@pytest.mark.parametrize("value", [{"list": 7}, {"list": {"a": 1}}, {"list": "text"}])
def test_what_is_no_list_fails_the_loop_and_says_what_it_was(stack, value):
    run = run_of(stack, loop("loop-no-list", "${ .input.list }", {"go": {"call": "noop"}}), value)
    assert run["steps"]["each"]["status"] == "failed"
    assert run["steps"]["each"]["error"]["code"] == "not_a_list"


def test_numbers_in_items_keep_their_digits(stack):
    document = loop("loop-digits", "${ .input.list }", {"go": {"call": "transform", "with": {"value": {"n": "${ .item }"}}}})
    stack.save(document)
    started = stack.call("POST", "/v1/workflows/loop-digits/runs?wait=20s", data=b'{"input": {"list": [0.10, 9007199254740993]}}')
    assert started.status_code == 200, started.text
    assert '[{"n":0.10},{"n":9007199254740993}]' in started.text.replace(": ", ":").replace(", ", ",")


@pytest.mark.parametrize("item_output,expected", [
    (None, [10, 20]),
    ("${ .steps.ten.output }", [10, 20]),
    ({"was": "${ .item }", "is": "${ .steps.ten.output }"}, [{"was": 1, "is": 10}, {"was": 2, "is": 20}]),
    ("constant", ["constant", "constant"]),
])
def test_the_output_of_an_item(stack, item_output, expected):
    more = {} if item_output is None else {"item_output": item_output}
    run = run_of(stack, loop("loop-output", [1, 2], {"ten": transform(".item * 10")}, **more))
    assert run["output"] == expected


def test_several_last_steps_make_an_object_of_their_outputs(stack):
    run = run_of(stack, loop("loop-lasts", [1, 2], {"a": transform(".item"), "b": transform("-.item")}))
    assert run["output"] == [{"a": 1, "b": -1}, {"a": 2, "b": -2}]


def test_concurrency_is_a_true_limit_that_is_used_and_nothing_behind_begins_before_the_barrier(stack, world):
    world.on("/work", {"wait": 0.15})
    document = loop("loop-limit", list(range(12)), {"go": {"call": "http", "with": {"url": world.url + "/work?n=${ .index }"}}},
                    concurrency=4, output="${ .steps.last.output.body.path }")
    document["steps"]["last"] = {"call": "http", "needs": ["each"], "with": {"url": world.url + "/last"}}
    run = run_of(stack, document)
    assert (run["status"], run["output"]) == ("succeeded", "/last")
    assert len(world.requests("/work")) == 12
    assert world.most == 4
    assert max(r["ended"] for r in world.requests("/work")) <= world.requests("/last")[0]["began"]


def test_an_item_that_fails_ends_the_loop_what_runs_may_finish_and_no_other_begins(stack, world):
    world.on("/work", {"status": 404})
    run = run_of(stack, loop("loop-fail", list(range(50)), {"go": {"call": "http", "with": {"url": world.url + "/work"}}}, concurrency=2))
    assert run["status"] == "succeeded", "the step behind accepts the failure"
    each = run["steps"]["each"]
    assert (each["status"], each["error"]["code"]) == ("failed", "item_failed")
    assert "http_404" in each["error"]["message"]
    assert len(world.requests("/work")) <= 3


def test_items_may_fail_and_the_loop_goes_on_the_run_says_so(stack, world):
    world.on("/bad", {"status": 400})
    document = loop("loop-continue", ["good", "bad", "good", "bad"],
                    {"go": {"call": "http", "with": {"url": world.url + "/${ .item }"}}},
                    item_output="${ .steps.go.output.body.path }", on_item_failure="continue",
                    output={"list": "${ .steps.each.output }", "failed": "${ .steps.each.failed }"})
    run = run_of(stack, document)
    assert run["status"] == "partially_completed"
    assert run["steps"]["each"]["status"] == "succeeded"
    assert run["output"] == {"list": ["/good", None, "/good", None], "failed": [1, 3]}
    assert run["steps"]["each"]["failed"] == [1, 3]


def test_a_failure_that_is_handled_inside_the_loop_is_none_outside(stack, world):
    world.on("/bad", {"status": 400})
    steps = {"try": {"call": "http", "with": {"url": world.url + "/${ .item }"}},
             "mend": {"call": "transform", "needs": {"try": ["failed"]}, "with": {"value": "mended"}}}
    run = run_of(stack, loop("loop-handled", ["good", "bad"], steps, item_output="${ .steps.mend.output }"))
    assert (run["status"], run["output"]) == ("succeeded", [None, "mended"])


def test_branches_and_joins_inside_a_loop(stack):
    steps = {"odd": {"call": "condition", "with": {"if": "${ .item % 2 == 1 }"}},
             "yes": transform('"odd"', needs={"odd": ["true"]}),
             "no": transform('"even"', needs={"odd": ["false"]}),
             "either": transform(".steps.yes.output // .steps.no.output", needs=["yes", "no"], join="any")}
    run = run_of(stack, loop("loop-branches", [1, 2, 3], steps))
    assert run["output"] == ["odd", "even", "odd"]


def test_loops_in_loops_see_what_is_around_them(stack):
    inner = {"call": "foreach", "needs": ["row"], "with": {
        "items": "${ .steps.row.output.list }", "steps": {"cell": transform("[.item, .index, .steps.row.output.name, .steps.base.output]")}}}
    document = {"name": "loop-nested", "steps": {
        "base": transform("100"),
        "rows": {"call": "foreach", "needs": ["base"], "with": {
            "items": [{"name": "x", "list": [1, 2]}, {"name": "y", "list": []}, {"name": "z", "list": [3]}],
            "steps": {"row": transform(".item"), "inner": inner}}}},
        "output": "${ .steps.rows.output }"}
    run = run_of(stack, document)
    assert run["output"] == [[[1, 0, "x", 100], [2, 1, "x", 100]], [], [[3, 0, "z", 100]]]


def test_keys_of_iterations_differ_and_are_kept_over_an_unknown_outcome(stack, world):
    world.on("/work", {"cut": True}, 200)
    run = run_of(stack, loop("loop-keys", ["a", "b"], {"go": {
        "call": "http", "with": {"method": "POST", "url": world.url + "/work", "body": "${ .item }"},
        "retry": {"initial": "50ms"}}}, concurrency=1))
    assert run["status"] == "succeeded"
    keys = [r["headers"]["Idempotency-Key"] for r in world.requests("/work")]
    assert keys == [f"{run['id']}:each[0].go"] * 2 + [f"{run['id']}:each[1].go"]


def test_a_loop_goes_on_where_it_was_when_the_scheduler_dies(stack, world):
    world.on("/work", {"wait": 0.05})
    document = loop("loop-crash", "${ [range(60)] }", {"go": {"call": "http", "with": {"url": world.url + "/work?n=${ .item }"}}},
                    concurrency=5, item_output="${ .index }")
    stack.save(document)
    run_id = stack.start("loop-crash")
    drive.until("some items", lambda: len(world.requests("/work")) > 15, 30)
    name = sorted(p.name for p in (stack.dir / "pids").glob("scheduler-*"))[0]
    stack.signal(name)
    stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1")
    run = stack.ended(run_id, 90)
    assert (run["status"], run["output"]) == ("succeeded", list(range(60)))
    assert {r["path"] for r in world.requests("/work")} == {f"/work?n={n}" for n in range(60)}
    assert stack.faults_of_history() == []


def test_a_loop_that_is_cancelled_begins_nothing_more(stack, world):
    world.on("/work", {"wait": 0.3})
    stack.save(loop("loop-cancel", "${ [range(200)] }", {"go": {"call": "http", "with": {"url": world.url + "/work"}}}, concurrency=3))
    run_id = stack.start("loop-cancel")
    drive.until("a request", lambda: world.requests("/work"), 30)
    assert stack.call("POST", f"/v1/runs/{run_id}:cancel").status_code == 200
    run = stack.ended(run_id)
    assert run["status"] == "cancelled"
    assert len(world.requests("/work")) < 20
    assert stack.faults_of_history() == []


def test_a_thousand_items_in_steps_pages(stack):
    document = loop("loop-thousand", "${ [range(1000)] }", {"go": transform(".item * 2")}, output="${ .steps.each.output | add }")
    run = run_of(stack, document, seconds=120)
    assert (run["status"], run["output"]) == ("succeeded", 999000)
    assert run["steps"]["each"]["iterations"]["succeeded"] == 1000
    page = stack.ask("GET", f"/v1/runs/{run['id']}/steps?parent=each&page_size=500")
    assert len(page["items"]) == 500 and page["next_page_token"]
    inside = stack.ask("GET", f"/v1/runs/{run['id']}/steps?parent=each%5B7%5D")
    assert [s["step"] for s in inside["items"]] == ["each[7].go"]
    output = stack.call("GET", f"/v1/runs/{run['id']}/steps/each/attempts/1/output")
    assert json.loads(output.text) == [2 * n for n in range(1000)]


def test_ten_thousand_items_are_the_most(stack):
    document = loop("loop-most", "${ [range(.input)] }", {"go": transform(".index")}, output="${ .steps.each.output | length }")
    assert run_of(stack, document, 10000, seconds=300)["output"] == 10000
    run = run_of(stack, document, 10001)
    assert run["steps"]["each"]["error"]["code"] == "too_many_items"
