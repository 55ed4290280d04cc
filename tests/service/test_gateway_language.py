"""What the API says and takes of the workflow language: signals, settling, compensation, loops, child runs, explanations,
differences between versions, and chains of child workflows."""
import concurrent.futures
import json
import time
import urllib.parse
import uuid

import psycopg
import pytest

import drive
import target
from conftest import Api

NOWHERE = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def world():
    with target.Target() as one:
        yield one


def signal(name="go", **more):
    return {"call": "wait_signal", "with": {"signal": name, **more}}


def transform(source, **more):
    return {"call": "transform", "with": {"value": "${ " + source + " }"}, **more}


def started(stack, document, value=None):
    stack.save(document)
    return stack.start(document["name"], value)


def waiting(stack, document, step, value=None):
    run_id = started(stack, document, value)
    drive.until(f"{step} waits", lambda: stack.run(run_id)["steps"][step]["status"] == "waiting")
    return run_id


# --- signals ---------------------------------------------------------------------------------------------------------------


def test_a_signal_is_accepted_with_a_place_to_look_for_its_verdict(stack, api):
    run_id = waiting(stack, {"name": "say-accepted", "steps": {"wait": signal()}}, "wait")
    answer = api("POST", f"/v1/runs/{run_id}/signals/go", {"a": 1})
    assert answer.status_code == 202
    assert answer.json() == {"run_id": run_id, "id": run_id, "signal": "go", "command": answer.json()["command"], "status": "accepted"}
    assert answer.headers["location"] == f"/v1/runs/{run_id}/commands/{answer.json()['command']}"
    assert api("GET", answer.headers["location"]).json()["status"] == "applied"


@pytest.mark.parametrize("body,payload", [
    (b"", None), (b" \n", None), (b"null", None), (b"0.10", 0.1), (b'"text"', "text"), (b"[]", []), (b'{"a": {"b": [1]}}', {"a": {"b": [1]}})])
def test_any_json_is_a_payload_and_nothing_is_null(stack, body, payload):
    run_id = waiting(stack, {"name": "say-any", "steps": {"wait": signal()}, "output": "${ [.steps.wait.output] }"}, "wait")
    assert stack.call("POST", f"/v1/runs/{run_id}/signals/go", data=body).status_code == 202
    assert stack.ended(run_id)["output"] == [payload]


@pytest.mark.parametrize("name", ["go", "a.b:c", "order/7", "größe", "x" * 255, "[0]", "with space", "%"])
def test_a_signal_may_have_any_name(stack, name):
    run_id = waiting(stack, {"name": "say-name", "steps": {"wait": signal(name)}}, "wait")
    assert stack.run(run_id)["steps"]["wait"]["waiting_for"]["signal"] == name
    answer = stack.call("POST", f"/v1/runs/{run_id}/signals/{urllib.parse.quote(name, safe='')}", 1)
    assert answer.status_code == 202 and answer.json()["signal"] == name
    assert stack.ended(run_id)["status"] == "succeeded"


def test_what_is_wrong_with_a_signal(stack, api, stranger):
    run_id = waiting(stack, {"name": "say-wrong", "steps": {"wait": signal()}}, "wait")
    at = f"/v1/runs/{run_id}/signals/"
    for name in ["%0a", "a%7Fb", "%01", "x" * 256]:
        answer = api("POST", at + name, 1)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_name"), name
    for body, status, code in [(b"{", 400, "not_json"), (b"nul", 400, "not_json"), (b'{"a":1,"a":2}', 400, "duplicate_key"),
                               (b'"\\u0000"', 400, "not_json"), (b"[" * 200 + b"]" * 200, 413, "too_large"),
                               (b'"' + b"x" * (1 << 20) + b'"', 413, "too_large")]:
        answer = api("POST", at + "go", data=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body[:20]
    for other in [NOWHERE, "nonsense"]:
        assert api("POST", f"/v1/runs/{other}/signals/go", 1).status_code == 404
    theirs = stranger("POST", at + "go", 1)
    assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found")
    for key in ["", "x" * 256, "t\u00e4st"]:
        answer = api("POST", at + "go", 1, headers={"Idempotency-Key": key.encode()})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key"), key
    assert stack.run(run_id)["steps"]["wait"]["status"] == "waiting", "nothing of this came to the run"


def test_who_may_signal(stack, api):
    run_id = waiting(stack, {"name": "say-who", "steps": {"a": signal("a")}}, "a")
    for role, status in [("viewer", 403), ("trigger", 202), ("operator", 202), ("editor", 409)]:
        answer = api.as_role(role)("POST", f"/v1/runs/{run_id}/signals/a", 1)
        if role == "operator":
            assert answer.status_code in (202, 409)      # the run may have ended by then
            stack.ended(run_id)
        else:
            assert answer.status_code == status, role


def test_one_key_is_one_signal_100_times_at_once(stack):
    run_id = waiting(stack, {"name": "say-key", "steps": {"wait": signal("stop")}}, "wait")
    key, clients = uuid.uuid4().hex, [Api(url, stack.key) for url in stack.urls]

    def one(i):
        return clients[i % 2]("POST", f"/v1/runs/{run_id}/signals/go", data='{"a":1,"b":2}' if i % 3 else '{ "b" : 2, "a":1 }',
                              headers={"Idempotency-Key": key})

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(100)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1 and len({a.headers["location"] for a in answers}) == 1
    assert stack.sql("select count(*) from event where run_id = %s and type = 13", run_id) == [(1,)]
    for path, body in [("go", {"a": 2, "b": 2}), ("other", {"a": 1, "b": 2}), ("go", None)]:
        answer = clients[0]("POST", f"/v1/runs/{run_id}/signals/{path}", body, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    start = clients[0]("POST", "/v1/workflows/say-key/runs", {}, headers={"Idempotency-Key": key})
    assert (start.status_code, start.json()["code"]) == (422, "idempotency_key_reused"), "a key is of one request, whatever it asks"


def test_a_key_whose_signal_was_refused_is_refused_again_and_one_of_a_start_is_none_of_a_signal(stack):
    stack.save({"name": "say-refused", "steps": {"a": {"call": "noop"}}})
    key = {"Idempotency-Key": uuid.uuid4().hex}
    run_id = stack.call("POST", "/v1/workflows/say-refused/runs", {}, headers=key).json()["id"]
    stack.ended(run_id)
    reused = stack.call("POST", f"/v1/runs/{run_id}/signals/go", {}, headers=key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    answers = [stack.call("POST", f"/v1/runs/{run_id}/signals/go", 1, headers={"Idempotency-Key": "refused" + run_id}) for _ in range(3)]
    assert {(a.status_code, a.json()["code"]) for a in answers} == {(409, "run_ended")}
    assert len({a.text for a in answers}) == 1
    assert stack.sql("select count(*) from event where run_id = %s and type = 41", run_id) == [(1,)]


def test_a_key_of_a_signal_in_flight_is_waited_for_then_refused(stack, api):
    run_id = waiting(stack, {"name": "say-flight", "steps": {"wait": signal("stop")}}, "wait")
    key = uuid.uuid4().hex
    with psycopg.connect(stack.env["ROPEWALK_ADMIN_PG_URL"]) as db:
        db.execute("insert into ropewalk.idempotency values (1, 'say-flight', %s, '\\x00', gen_random_uuid(), now() + interval '1 day')", (key,))
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            blocked = pool.submit(api, "POST", f"/v1/runs/{run_id}/signals/go", 1, None, {"Idempotency-Key": key})
            assert api("POST", f"/v1/runs/{run_id}/signals/go", 2, headers={"Idempotency-Key": uuid.uuid4().hex}).status_code == 202
            assert api("POST", f"/v1/runs/{run_id}/signals/go", 3).status_code == 202
            answer = blocked.result()
        assert 4.5 < time.monotonic() - began < 12
        db.rollback()
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
    assert api("POST", f"/v1/runs/{run_id}/signals/go", 1, headers={"Idempotency-Key": key}).status_code == 202


def test_a_key_that_somebody_else_commits_meanwhile_is_found(stack, api):
    run_id = waiting(stack, {"name": "say-meanwhile", "steps": {"wait": signal("stop")}}, "wait")
    key = uuid.uuid4().hex
    with psycopg.connect(stack.env["ROPEWALK_ADMIN_PG_URL"]) as db, concurrent.futures.ThreadPoolExecutor(1) as pool:
        db.execute("insert into ropewalk.idempotency values (1, 'say-meanwhile', %s, '\\x00', gen_random_uuid(), now() + interval '1 day')", (key,))
        answer = pool.submit(api, "POST", f"/v1/runs/{run_id}/signals/go", 1, None, {"Idempotency-Key": key})
        drive.until("it waits for the key", lambda: stack.sql(
            "select 1 from pg_locks where not granted and locktype = 'transactionid'"), 5, 0.005)
        db.commit()
        assert (answer.result().status_code, answer.result().json()["code"]) == (422, "idempotency_key_reused")


def test_an_expired_key_signals_anew(stack, api):
    run_id = waiting(stack, {"name": "say-expired", "steps": {"wait": signal("stop")}}, "wait")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = api("POST", f"/v1/runs/{run_id}/signals/go", 1, headers=key).json()["command"]
    stack.sql("update idempotency set expires_at = now() - interval '1 second' where key = %s", key["Idempotency-Key"])
    assert api("POST", f"/v1/runs/{run_id}/signals/go", 1, headers=key).json()["command"] != first


def test_with_all_schedulers_down_a_signal_is_accepted_and_taken_later(stack, api):
    run_id = waiting(stack, {"name": "say-later", "steps": {"wait": signal()}}, "wait")
    stack.stack("stop", "scheduler-1")
    try:
        answer = api("POST", f"/v1/runs/{run_id}/signals/go", 5, headers={"Idempotency-Key": "later" + run_id})
        assert answer.status_code == 202
        assert api("GET", answer.headers["location"]).json()["status"] == "pending"
    finally:
        stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1")
    assert stack.ended(run_id)["steps"]["wait"]["output"] == 5
    again = api("POST", f"/v1/runs/{run_id}/signals/go", 5, headers={"Idempotency-Key": "later" + run_id})
    assert (again.status_code, again.text) == (202, answer.text)


def test_a_large_payload_is_referred_to_and_read_whole(stack, api):
    big = {"text": "x" * 20000}
    run_id = waiting(stack, {"name": "say-large", "steps": {"wait": signal()}}, "wait")
    assert api("POST", f"/v1/runs/{run_id}/signals/go", big).status_code == 202
    output = stack.ended(run_id)["steps"]["wait"]["output"]
    assert set(output) == {"$ref", "bytes"} and output["bytes"] > 20000
    assert api("GET", output["$ref"]).json() == big
    event = next(e for e in api("GET", f"/v1/runs/{run_id}/events").json()["items"] if e["type"] == "signal.received")
    assert api("GET", event["output"]["$ref"]).json() == big
    for n in ["0", "99999", "x"]:
        assert api("GET", f"/v1/runs/{run_id}/events/{n}/output").status_code == 404


# --- settle, compensate, cancel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body,code,pointer", [
    ({}, "missing_field", "/as"), ({"as": 1}, "wrong_type", "/as"), ({"as": "done"}, "out_of_range", "/as"), ([], "wrong_type", ""),
    ({"as": "failed", "output": 1}, "unknown_field", "/output"), ({"as": "succeeded", "x": 1}, "unknown_field", "/x")])
def test_what_is_wrong_with_a_settlement(api, body, code, pointer):
    answer = api("POST", f"/v1/runs/{NOWHERE}/steps/a:settle", body)
    assert (answer.status_code, answer.json()["code"], answer.json()["errors"][0]["pointer"]) == (422, code, pointer)


def test_settling_what_is_in_a_loop_and_what_cannot_be_settled(stack, api, world):
    world.on("/once", {"cut": True})
    step = {"call": "http", "with": {"method": "POST", "url": world.url + "/once"}, "delivery": "at_most_once", "on_unknown": "wait"}
    run_id = started(stack, {"name": "settle-loop", "steps": {"each": {"call": "foreach", "with": {"items": [7, 8], "concurrency": 1, "steps": {"go": step}}}},
                             "output": "${ .steps.each.output }"})

    drive.until("the loop has items", lambda: stack.run(run_id)["steps"]["each"]["status"] == "waiting")

    def inside(index):
        return stack.ask("GET", f"/v1/runs/{run_id}/steps?parent=each%5B{index}%5D")["items"][0]

    for index in (0, 1):
        drive.until("it is held", lambda: inside(index)["status"] == "waiting")
        assert inside(index)["waiting_for"]["kind"] == "settlement"
        assert inside(index)["attempts"][0]["status"] == "outcome_unknown"
        explanation = api("GET", f"/v1/runs/{run_id}/explain").json()
        assert (explanation["reason"], explanation["step"]) == ("unknown_outcome", f"each[{index}].go")
        for wrong in ["each", "go", f"each%5B{index}%5D", "each%5B9%5D.go", "x" * 600]:
            refused = api("POST", f"/v1/runs/{run_id}/steps/{wrong}:settle", {"as": "succeeded"})
            assert refused.status_code in (404, 409) and refused.json()["code"] in ("not_unknown", "not_found"), wrong
        done = api("POST", f"/v1/runs/{run_id}/steps/each%5B{index}%5D.go:settle", {"as": "succeeded", "output": index})
        assert (done.status_code, done.json()["status"]) == (200, "applied")
    assert stack.ended(run_id)["output"] == [0, 1]
    assert inside(1)["status"] == "succeeded" and inside(1)["output"] == 1
    assert api("GET", f"/v1/runs/{run_id}/steps/each%5B1%5D.go/attempts/1/output").json() == 1


def test_compensation_and_notification_show_with_their_attempts(stack, api, world):
    world.on("/undo-a", 503, 200)
    world.on("/undo-b", 409)
    world.on("/bad", 404)
    undo = {path: {"call": "http", "with": {"method": "DELETE", "url": world.url + path}, "retry": {"initial": "20ms"}} for path in ("/undo-a", "/undo-b")}
    run_id = started(stack, {"name": "show-undo", "on_failure_notify": {"call": "http", "with": {"url": world.url + "/told"}}, "steps": {
        "a": {"call": "noop", "compensate": undo["/undo-a"]}, "b": {"call": "noop", "needs": ["a"], "compensate": undo["/undo-b"]},
        "bad": {"call": "http", "needs": ["b"], "with": {"url": world.url + "/bad"}}}})
    run = stack.ended(run_id)
    assert run["status"] == "compensation_failed" and run["compensation"] == {"stands": ["b"], "undetermined": []}
    a, b = run["steps"]["a"]["compensation"], run["steps"]["b"]["compensation"]
    assert [x["status"] for x in a["attempts"]] == ["failed", "succeeded"] and a["status"] == "succeeded"
    assert (b["status"], b["error"]["code"]) == ("failed", "http_409")
    assert run["notify"]["status"] == "succeeded" and len(run["notify"]["attempts"]) == 1
    assert api("GET", f"/v1/runs/{run_id}/steps/a%3Acompensate/attempts/2/output").json()["status"] == 200
    assert api("GET", f"/v1/runs/{run_id}/steps/b%3Acompensate/attempts/1/error").json()["code"] == "http_409"
    assert api("GET", f"/v1/runs/{run_id}/steps/%3Anotify/attempts/1/input").json() == {"url": world.url + "/told"}
    assert "compensation" not in run["steps"]["bad"]
    world.on("/undo-b", 200)
    assert api("POST", f"/v1/runs/{run_id}:compensate").status_code == 200
    run = drive.until("its second end", lambda: (r := stack.run(run_id))["status"] == "compensated" and r)
    assert run["compensation"] is None and [x["status"] for x in run["steps"]["b"]["compensation"]["attempts"]] == ["failed", "succeeded"]


def test_compensation_on_request_says_why_not(stack, api, stranger):
    run_id = waiting(stack, {"name": "undo-why", "steps": {"a": signal()}}, "a")
    refused = api("POST", f"/v1/runs/{run_id}:compensate")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_not_ended")
    assert api("POST", f"/v1/runs/{run_id}:compensate", {"x": 1}).json()["code"] == "unknown_field"
    assert api("POST", f"/v1/runs/{run_id}:cancel", {"compensate": "yes"}).json()["code"] == "wrong_type"
    assert api("POST", f"/v1/runs/{run_id}:cancel", {"compensate": True}).status_code == 200
    assert stack.ended(run_id)["status"] == "cancelled", "there was nothing to undo"
    refused = api("POST", f"/v1/runs/{run_id}:compensate")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_compensate")
    ended = stack.ended(started(stack, {"name": "undo-ended", "steps": {"a": {"call": "noop"}}}))["id"]
    refused = api("POST", f"/v1/runs/{ended}:cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_ended")
    assert stranger("POST", f"/v1/runs/{run_id}:compensate").status_code == 404


# --- loops -----------------------------------------------------------------------------------------------------------------


def nested(name, **more):
    inner = {"call": "foreach", "needs": ["row"], "with": {"items": "${ .steps.row.output }", "steps": {"cell": transform(".item * 10")}}}
    return {"name": name, "steps": {"rows": {"call": "foreach", "with": {
        "items": [[1, 2], [], [3, 0, 4]], "on_item_failure": "continue", **more, "steps": {"row": transform(".item"), "inner": inner}}}}}


def test_loops_are_counted_and_listed_level_by_level(stack, api):
    run = stack.ended(started(stack, nested("show-loops")))
    rows = run["steps"]["rows"]
    assert rows["iterations"] == {"total": 3, "pending": 0, "running": 0, "succeeded": 3, "failed": 0, "cancelled": 0}
    assert rows["output"] == [[10, 20], [], [30, 0, 40]] and rows["input"] == [[1, 2], [], [3, 0, 4]]
    assert set(run["steps"]) == {"rows"}

    def listed(query):
        return api("GET", f"/v1/runs/{run['id']}/steps?{query}").json()["items"]

    assert [s["step"] for s in listed("")] == ["rows"]
    items = listed("parent=rows")
    assert [(i["step"], i["index"], i["status"], i["output"]) for i in items] == [
        ("rows[0]", 0, "succeeded", [10, 20]), ("rows[1]", 1, "succeeded", []), ("rows[2]", 2, "succeeded", [30, 0, 40])]
    assert all(i["started_at"] <= i["ended_at"] for i in items)
    inside = listed("parent=rows[2]")
    assert [s["step"] for s in inside] == ["rows[2].row", "rows[2].inner"] and inside[0]["output"] == [3, 0, 4]
    assert inside[1]["iterations"]["succeeded"] == 3 and inside[1]["output"]["$ref"].endswith("/steps/rows%5B2%5D.inner/attempts/1/output")
    assert api("GET", inside[1]["output"]["$ref"]).text == "[30,0,40]"
    assert len(inside[1]["output"]) == 2 and inside[1]["output"]["bytes"] == len("[30,0,40]")
    assert [i["output"] for i in listed("parent=rows[2].inner")] == [30, 0, 40]
    assert [s["step"] for s in listed("parent=rows[2].inner[1]")] == ["rows[2].inner[1].cell"]
    assert listed("parent=rows[1].inner") == []
    for parent in ["rows[3]", "rows[-1]", "rows[2].row", "rows[2].inner[3]", "rows.inner", "inner", "rows[", "nothing"]:
        answer = api("GET", f"/v1/runs/{run['id']}/steps?parent={parent}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), parent


def test_lists_of_iterations_have_pages_and_a_filter(stack, api, world):
    world.on("/bad", 400)
    run = stack.ended(started(stack, {"name": "show-pages", "steps": {"each": {"call": "foreach", "with": {
        "items": "${ [range(120) | if . % 10 == 3 then \"bad\" else \"good\" end] }", "concurrency": 20, "on_item_failure": "continue",
        "output": "${ .index }", "steps": {"go": {"call": "http", "with": {"url": world.url + "/${ .item }"}}}}}}}))
    each = run["steps"]["each"]
    assert run["status"] == "partially_completed" and each["error"]["code"] == "items_failed"
    assert each["failed"] == list(range(3, 120, 10)) and each["iterations"]["failed"] == 12 and each["iterations"]["succeeded"] == 108

    def pages(query, size):
        token, seen = "", []
        while token is not None:
            page = api("GET", f"/v1/runs/{run['id']}/steps?parent=each{query}&page_size={size}" + (f"&page_token={token}" if token else "")).json()
            assert len(page["items"]) <= size
            seen += page["items"]
            token = page["next_page_token"]
        return seen

    assert [i["index"] for i in pages("", 50)] == list(range(120))
    failed = pages("&status=failed", 5)
    assert [i["index"] for i in failed] == each["failed"]
    assert all(i["error"]["code"] == "http_400" and i["output"] is None for i in failed)
    assert pages("&status=pending", 50) == []
    token = api("GET", f"/v1/runs/{run['id']}/steps?parent=each&page_size=5").json()["next_page_token"]
    other = api("GET", f"/v1/runs/{run['id']}/steps?parent=each[0]&page_size=5&page_token={token}")
    assert (other.status_code, other.json()["code"]) == (400, "bad_page_token")
    output = api("GET", f"/v1/runs/{run['id']}/steps/each/attempts/1/output").json()
    assert output == [None if i % 10 == 3 else i for i in range(120)]
    assert api("GET", f"/v1/runs/{run['id']}/steps/each%5B3%5D/attempts/1/error").json()["code"] == "http_400"
    assert api("GET", f"/v1/runs/{run['id']}/steps/each%5B4%5D/attempts/1/output").json() == 4
    assert api("GET", f"/v1/runs/{run['id']}/steps/each%5B4%5D.go/attempts/1/input").json() == {"url": world.url + "/good"}


def test_a_loop_that_is_under_way_and_one_that_was_stopped(stack, api):
    run_id = started(stack, {"name": "show-stopped", "steps": {"each": {"call": "foreach", "with": {
        "items": [0, 1, 2, 3, 4], "concurrency": 2, "steps": {"ask": signal("ok-${ .item }")}}}}})
    drive.until("two wait", lambda: (stack.run(run_id)["steps"]["each"]["iterations"] or {}).get("running") == 2)
    counts = stack.run(run_id)["steps"]["each"]["iterations"]
    assert counts == {"total": 5, "pending": 3, "running": 2, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert stack.run(run_id)["steps"]["each"]["waiting_for"]["kind"] == "items"
    listed = api("GET", f"/v1/runs/{run_id}/steps?parent=each").json()["items"]
    assert [i["status"] for i in listed] == ["running"] * 2 + ["pending"] * 3
    explanation = api("GET", f"/v1/runs/{run_id}/explain").json()
    assert (explanation["reason"], explanation["signal"], explanation["step"]) == ("signal", "ok-0", "each[0].ask")
    assert {w["kind"] for w in explanation["open"]} == {"run_timeout", "items", "signal"} and explanation["open_count"] == 4
    pending = api("GET", f"/v1/runs/{run_id}/steps?parent=each[4]").json()["items"]
    assert [(s["step"], s["status"]) for s in pending] == [("each[4].ask", "pending")]
    assert api("POST", f"/v1/runs/{run_id}/signals/ok-0", 1).status_code == 202
    assert api("POST", f"/v1/runs/{run_id}:cancel").status_code == 200
    assert stack.ended(run_id)["steps"]["each"]["iterations"] == {
        "total": 5, "pending": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 4}
    listed = api("GET", f"/v1/runs/{run_id}/steps?parent=each").json()["items"]
    assert [i["status"] for i in listed] == ["succeeded"] + ["cancelled"] * 4
    assert api("GET", f"/v1/runs/{run_id}/steps/each/attempts/1/output").status_code == 404


def test_a_run_of_many_iterations_is_answered_with_no_more_than_its_own_steps(stack, api):
    run = stack.ended(started(stack, {"name": "show-many", "steps": {"each": {"call": "foreach", "with": {
        "items": "${ [range(3000)] }", "steps": {"a": transform(".item"), "b": transform(".steps.a.output", needs=["a"])}}}}}), 120)
    text = api("GET", f"/v1/runs/{run['id']}").text
    assert len(text) < 30000, "items are short of 4 KiB nowhere: what is long is referred to"
    assert run["steps"]["each"]["iterations"]["succeeded"] == 3000
    assert api("GET", run["steps"]["each"]["output"]["$ref"]).json() == list(range(3000))
    assert run["steps"]["each"]["output"]["bytes"] == len(api("GET", run["steps"]["each"]["output"]["$ref"]).content)


# --- child runs ------------------------------------------------------------------------------------------------------------


def test_child_runs_are_told_both_ways(stack, api):
    stack.save({"name": "kin-child", "steps": {"wait": signal()}, "output": "${ .steps.wait.output }"})
    run_id = waiting(stack, {"name": "kin-parent", "steps": {"kid": {"call": "workflow", "with": {"name": "kin-child", "input": {"a": 1}}}},
                             "output": "${ .steps.kid.output }"}, "kid")
    kid = stack.run(run_id)["steps"]["kid"]
    child = kid["child"]["run_id"]
    assert kid["waiting_for"] == {"kind": "child", "run_id": child, "until": None}
    drive.until("the child waits", lambda: stack.run(child)["steps"]["wait"]["status"] == "waiting")
    run = stack.run(child)
    assert run["parent"] == {"run_id": run_id, "step": "kid"} and run["depth"] == 1 and run["input"] == {"a": 1}
    assert stack.run(run_id)["parent"] is None and stack.run(run_id)["depth"] == 0
    listed = api("GET", f"/v1/runs?parent={run_id}").json()["items"]
    assert [(r["id"], r["parent"], r["depth"]) for r in listed] == [(child, {"run_id": run_id, "step": "kid"}, 1)]
    assert api("GET", f"/v1/runs?parent={run_id}&status=succeeded").json()["items"] == []
    assert api("GET", f"/v1/runs?parent={NOWHERE}").json()["items"] == []
    assert api("GET", "/v1/runs?parent=x").status_code == 400
    explanation = api("GET", f"/v1/runs/{run_id}/explain").json()
    assert explanation["reason"] == "child" and child in explanation["sentence"]
    assert explanation["child"]["run_id"] == child and explanation["child"]["reason"] == "signal" and "'go'" in explanation["child"]["sentence"]
    assert api("POST", f"/v1/runs/{child}/signals/go", [1]).status_code == 202
    assert stack.ended(run_id)["output"] == [1]
    assert stack.run(run_id)["steps"]["kid"]["child"] == {"run_id": child}


# --- explain ---------------------------------------------------------------------------------------------------------------


def test_polls_loops_signals_and_compensation_are_explained(stack, api, world):
    world.on("/job", {"body": {"state": "busy"}})
    poll = {"call": "poll", "with": {"call": "http", "with": {"url": world.url + "/job"}, "until": "${ .output.body.state == \"done\" }", "interval": "30s"}}
    run_id = started(stack, {"name": "why-poll", "steps": {"job": poll}})
    said = drive.until("it polls", lambda: (e := api("GET", f"/v1/runs/{run_id}/explain").json())["reason"] == "poll" and e)
    assert said["step"] == "job" and said["due_at"] in said["sentence"] and "try 1" in said["sentence"]
    api("POST", f"/v1/runs/{run_id}:cancel")

    run_id = waiting(stack, {"name": "why-signal", "steps": {"a": signal("yes", timeout="1h")}}, "a")
    said = api("GET", f"/v1/runs/{run_id}/explain").json()
    assert (said["reason"], said["signal"]) == ("signal", "yes") and "'yes'" in said["sentence"] and said["due_at"] in said["sentence"]

    hold = world.on("/hold", {"wait": 3})
    world.on("/bad", 404)
    run_id = started(stack, {"name": "why-undo", "steps": {"a": {"call": "noop", "compensate": {"call": "http", "with": {"method": "DELETE", "url": hold}}},
                                                            "bad": {"call": "http", "needs": ["a"], "with": {"url": world.url + "/bad"}}}})
    said = drive.until("it is undone", lambda: (e := api("GET", f"/v1/runs/{run_id}/explain").json())["reason"] == "compensating" and e)
    assert said["step"] == "a:compensate"
    assert stack.run(run_id)["steps"]["a"]["compensation"]["status"] in ("queued", "running")
    stack.ended(run_id)

    run_id = started(stack, {"name": "why-notify", "on_failure_notify": {"call": "http", "with": {"url": hold}},
                             "steps": {"bad": {"call": "http", "with": {"url": world.url + "/bad"}}}})
    said = drive.until("somebody is told", lambda: (e := api("GET", f"/v1/runs/{run_id}/explain").json())["reason"] == "notifying" and e)
    assert said["step"] == ":notify"
    stack.ended(run_id)


# --- versions --------------------------------------------------------------------------------------------------------------


def test_what_differs_between_versions(stack, api):
    name = "differs-" + uuid.uuid4().hex[:8]
    first = {"name": name, "description": "one", "metadata": {"x": 1}, "steps": {
        "a": {"call": "noop", "metadata": {"at": [1, 2]}}, "b": {"call": "transform", "needs": ["a"], "with": {"value": [1, 2]}}}}
    second = {"steps": {"c": {"call": "noop"}, "b": {"with": {"value": [1, 3, 4]}, "call": "transform", "needs": ["a"]}, "a": {"call": "noop"}},
              "name": name, "description": "two", "metadata": {"x": 2}}
    assert stack.save(first)["version"] == 1 and stack.save(second)["version"] == 2
    answer = api("GET", f"/v1/workflows/{name}/versions/2?diff=1")
    assert answer.json() == {"from": 1, "to": 2, "changes": [
        {"op": "changed", "pointer": "/description", "from": "one", "to": "two"},
        {"op": "changed", "pointer": "/steps/b/with/value/1", "from": 2, "to": 3},
        {"op": "added", "pointer": "/steps/b/with/value/2", "to": 4},
        {"op": "added", "pointer": "/steps/c", "to": {"call": "noop"}}]}
    assert {"op": "removed", "pointer": "/steps/c", "from": {"call": "noop"}} in api(
        "GET", f"/v1/workflows/{name}/versions/1?diff=2").json()["changes"]
    assert api("GET", f"/v1/workflows/{name}/versions/1?diff=1").json()["changes"] == []
    for path, status in [("2?diff=3", 404), ("3?diff=1", 404), ("2?diff=x", 400), ("2?diff=0", 400), ("2?diff=", 400)]:
        assert api("GET", f"/v1/workflows/{name}/versions/" + path).status_code == status, path
    assert api("GET", "/v1/workflows/no-such/versions/2?diff=1").status_code == 404


def test_a_run_keeps_its_version_and_a_deleted_step_still_reads(stack, api):
    name = "pinned-" + uuid.uuid4().hex[:8]
    run_id = waiting(stack, {"name": name, "steps": {"old": transform("1"), "wait": {**signal(), "needs": ["old"]}}}, "wait")
    stack.save({"name": name, "steps": {"new": {"call": "noop"}}})
    assert api("POST", f"/v1/runs/{run_id}/signals/go", 1).status_code == 202
    run = stack.ended(run_id)
    assert run["version"] == 1 and set(run["steps"]) == {"old", "wait"} and run["steps"]["old"]["output"] == 1
    assert stack.ended(stack.start(name))["version"] == 2
    assert stack.ask("POST", f"/v1/workflows/{name}:rollback", {"version": 1})["version"] == 3
    assert api("GET", f"/v1/workflows/{name}/versions/3?diff=1").json()["changes"] == []
    assert api("DELETE", f"/v1/workflows/{name}").status_code == 204
    assert set(stack.run(run_id)["steps"]) == {"old", "wait"}
    assert api("GET", f"/v1/runs/{run_id}/steps/old/attempts/1/output").json() == 1


# --- chains of child workflows ---------------------------------------------------------------------------------------------


def calls(name, *children, loop=False):
    steps = {f"c{i}": {"call": "workflow", "with": {"name": child}} for i, child in enumerate(children)} or {"a": {"call": "noop"}}
    return {"name": name, "steps": {"each": {"call": "foreach", "with": {"items": [1], "steps": steps}}} if loop else steps}


def test_chains_of_children_are_bounded_when_they_are_saved(stack, api):
    tag = uuid.uuid4().hex[:6]
    names = [f"{letter}-{tag}" for letter in "abcdefg"]
    a, b, c, d, e, f, g = names
    answer = api("PUT", "/v1/workflows/" + a, calls(a, b, b, loop=True))
    assert answer.status_code == 201
    assert [(w["code"], w["pointer"]) for w in answer.json()["warnings"]] == [
        ("unknown_workflow", "/steps/each/with/steps/c0/with/name"), ("unknown_workflow", "/steps/each/with/steps/c1/with/name")]
    assert api("PUT", "/v1/workflows/" + b, calls(b, c)).status_code == 201
    assert api("PUT", "/v1/workflows/" + c, calls(c, d)).status_code == 201
    back = api("PUT", "/v1/workflows/" + d, calls(d, g, a))
    assert back.status_code == 422, "a names d by b and c"
    assert [(x["code"], x["pointer"]) for x in back.json()["errors"]] == [("cycle", "/steps/c1/with/name")]
    assert api("PUT", "/v1/workflows/" + d, calls(d)).status_code == 201
    three = api("PUT", "/v1/workflows/" + a, calls(a, b, e))
    assert three.status_code == 200 and [w["pointer"] for w in three.json()["warnings"]] == ["/steps/c1/with/name"]
    four = api("PUT", "/v1/workflows/" + e, calls(e, d, a))
    assert [(x["code"], x["pointer"]) for x in four.json()["errors"]] == [("cycle", "/steps/c1/with/name")]
    four = api("PUT", "/v1/workflows/" + f, calls(f, d, a))
    assert [(x["code"], x["pointer"]) for x in four.json()["errors"]] == [("too_deep", "/steps/c1/with/name")]
    assert api("GET", "/v1/workflows/" + f).status_code == 404
    checked = api("POST", "/v1/workflows:validate", calls(f, d, a)).json()
    assert not checked["valid"] and checked["errors"][0]["code"] == "too_deep"
    checked = api("POST", "/v1/workflows:validate", calls(f, g)).json()
    assert checked["valid"] and checked["warnings"][0]["code"] == "unknown_workflow"
    assert api("POST", "/v1/workflows:validate", calls(f, f)).json()["errors"][0]["code"] == "cycle"
    assert api("POST", "/v1/workflows:validate", calls(f, b)).json() == {"valid": True, "errors": [], "warnings": []}


def test_workflows_of_others_are_no_children(stack, api, stranger):
    name = "theirs-" + uuid.uuid4().hex[:6]
    assert stranger("PUT", "/v1/workflows/" + name, calls(name)).status_code == 201
    assert api("POST", "/v1/workflows:validate", calls("mine", name)).json()["warnings"][0]["code"] == "unknown_workflow"
    assert stranger("DELETE", "/v1/workflows/" + name).status_code == 204


def test_the_picture_of_loops_and_compensation(stack, api):
    stack.save({"name": "picture", "steps": {"a": {"call": "noop", "compensate": {"call": "noop"}}, **nested("x")["steps"]}})
    text = api("GET", "/v1/workflows/picture/mermaid").text
    assert text.count("subgraph") == 2 and text.count("end\n") == 2 and text.count("-.->") == 1 and "a#58;compensate" in text
    assert json.dumps(text)
