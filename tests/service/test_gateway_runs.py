"""Starting runs, finding them again, and asking things of them."""
import concurrent.futures
import socket
import threading
import time
import uuid

import psycopg
import pytest

import drive
from conftest import Api


@pytest.fixture(scope="module")
def flow(stack):
    """Names of workflows that the tests share."""
    api = Api(stack.url, stack.key)
    for document in [
        {"name": "quick", "steps": {"a": {"call": "noop"}}},
        {"name": "slow", "steps": {"a": {"call": "delay", "with": {"duration": "30s"}}}},
        {"name": "short", "steps": {"a": {"call": "delay", "with": {"duration": "1s"}}}},
        {"name": "echo", "steps": {"a": {"call": "transform", "with": {"value": "${ .input }"}}}, "output": "${ .steps.a.output }"},
        {"name": "looped", "steps": {"a": {"call": "foreach", "with": {"items": "${ .input }", "steps": {
            "b": {"call": "transform", "with": {"value": "${ .item }"}}}}}}},
        {"name": "strict", "input_schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
         "steps": {"a": {"call": "noop"}}},
        {"name": "branchy", "priority": "high", "steps": {
            "c": {"call": "condition", "with": {"if": "${ .input.yes }"}}, "y": {"call": "noop", "needs": {"c": ["true"]}},
            "n": {"call": "noop", "needs": {"c": ["false"]}},
            "bad": {"call": "http", "needs": ["c"], "with": {"url": "http://127.0.0.1:1/x"}, "retry": {"max_attempts": 2, "initial": "100ms"}}}},
    ]:
        assert api("PUT", "/v1/workflows/" + document["name"], document).status_code in (200, 201)


def start(api, workflow, body=None, **more):
    answer = api("POST", f"/v1/workflows/{workflow}/runs", body or {}, **more)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_a_start_is_answered_202_with_a_place_to_look(api, other, flow):
    answer = api("POST", "/v1/workflows/quick/runs", {"input": {"x": 1}})
    assert answer.status_code == 202
    assert set(answer.json()) == {"run_id", "id", "status"} and answer.json()["run_id"] == answer.json()["id"]
    assert answer.headers["location"] == "/v1/runs/" + answer.json()["id"]
    run = other("GET", answer.headers["location"])
    assert run.status_code == 200 and run.json()["input"] == {"x": 1}


def test_wait_gives_the_ended_run_however_it_ended(api, flow):
    run = api("POST", "/v1/workflows/echo/runs?wait=20s", {"input": {"a": [1, 0.1]}})
    assert run.status_code == 200 and run.json()["status"] == "succeeded" and run.json()["output"] == {"a": [1, 0.1]}
    assert '"a":[1,0.1]' in run.text.replace(" ", "")
    run = api("POST", "/v1/workflows/branchy/runs?wait=20s", {"input": {"yes": True}}).json()
    assert run["status"] == "failed" and run["error"]["step"] == "bad" and run["error"]["code"] == "connect"


@pytest.mark.parametrize("workflow, body", [
    ("echo", {"input": {"a": [1, 0.10]}, "labels": {"k": "v", "a": "b"}, "priority": "low"}), ("echo", {}), ("echo", {"input": None}),
    ("branchy", {"input": {"yes": True}}), ("branchy", {"input": {"yes": False}}), ("branchy", {"input": {"yes": True}, "start_at_step": "y"}),
    ("echo", {"input": {"text": "x" * 5000}}), ("looped", {"input": [1, 2, 3]}), ("quick", {"priority": "critical"}), ("branchy", {}),
])
def test_what_was_waited_for_is_what_the_run_reads_as(api, other, flow, workflow, body):
    answer = api("POST", f"/v1/workflows/{workflow}/runs?wait=20s", body)
    assert answer.status_code == 200
    assert answer.text == other("GET", "/v1/runs/" + answer.json()["id"]).text


def test_wait_ends_after_its_time(api, flow):
    began = time.monotonic()
    answer = api("POST", "/v1/workflows/slow/runs?wait=1s", {})
    assert answer.status_code == 202 and 0.9 < time.monotonic() - began < 3
    for bad in ["61s", "x", "-1s", "5", ""]:
        assert api("POST", f"/v1/workflows/quick/runs?wait={bad}", {}).status_code == 400, bad


def test_the_detail_of_a_run(api, flow):
    run = api("POST", "/v1/workflows/branchy/runs?wait=20s", {"input": {"yes": True}, "labels": {"k": "v"}}).json()
    assert run["priority"] == "high" and run["labels"] == {"k": "v"} and run["organisation"] == "default"
    assert run["created_at"] <= run["started_at"] <= run["ended_at"]
    assert run["steps"]["c"]["branch"] == "true" and run["steps"]["y"]["status"] == "succeeded"
    assert run["steps"]["n"]["status"] == "skipped" and run["steps"]["n"]["skipped_because"]["kind"] == "edge"
    bad = run["steps"]["bad"]
    assert [a["status"] for a in bad["attempts"]] == ["failed", "failed"] and bad["input"] == {"url": "http://127.0.0.1:1/x"}
    assert bad["error"]["class"] == "transient" and bad["attempts"][0]["worker"]
    assert bad["queued_at"] <= bad["started_at"] <= bad["ended_at"]


def test_large_bodies_are_referred_to_and_read_whole_elsewhere(api, flow):
    big = {"text": "x" * 20000}
    run = api("POST", "/v1/workflows/echo/runs?wait=20s", {"input": big}).json()
    for body in run["input"], run["output"], run["steps"]["a"]["output"]:
        assert set(body) == {"$ref", "bytes"} and body["bytes"] > 20000
        assert api("GET", body["$ref"]).json() == big
    small = api("POST", "/v1/workflows/echo/runs?wait=20s", {"input": {"text": "x" * 3000}}).json()
    assert small["output"] == small["input"] == {"text": "x" * 3000}


def test_steps_and_attempts(api, flow):
    run = api("POST", "/v1/workflows/branchy/runs?wait=20s", {"input": {"yes": False}}).json()["id"]
    first = api("GET", f"/v1/runs/{run}/steps?page_size=3").json()
    rest = api("GET", f"/v1/runs/{run}/steps?page_size=3&page_token=" + first["next_page_token"]).json()
    assert [s["step"] for s in first["items"] + rest["items"]] == ["c", "y", "n", "bad"] and rest["next_page_token"] is None
    assert [s["step"] for s in api("GET", f"/v1/runs/{run}/steps?status=skipped").json()["items"]] == ["y"]
    assert api("GET", f"/v1/runs/{run}/steps?status=nonsense").status_code == 400
    for parent in ["c", "zzz", "c[0]", "", "%5B0%5D"]:
        assert api("GET", f"/v1/runs/{run}/steps?parent={parent}").status_code == 404, parent
    assert api("GET", f"/v1/runs/{run}/steps/bad/attempts/2/error").json()["code"] == "connect"
    assert api("GET", f"/v1/runs/{run}/steps/bad/attempts/1/input").json() == {"url": "http://127.0.0.1:1/x"}
    assert api("GET", f"/v1/runs/{run}/steps/n/attempts/1/output").json() is None
    for path in ["bad/attempts/3/error", "bad/attempts/1/output", "zzz/attempts/1/input", "bad/attempts/0/error", "bad/attempts/x/error",
                 "bad/attempts/1/nonsense"]:
        assert api("GET", f"/v1/runs/{run}/steps/{path}").status_code == 404, path


def test_events_in_pages(api, flow):
    run = api("POST", "/v1/workflows/branchy/runs?wait=20s", {}).json()["id"]
    seen, token = [], ""
    while True:
        page = api("GET", f"/v1/runs/{run}/events?page_size=4{token}").json()
        seen += page["items"]
        if page["next_page_token"] is None:
            break
        token = "&page_token=" + page["next_page_token"]
    assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))
    assert seen[0]["type"] == "run.started" and seen[-1]["type"].startswith("run.")
    assert api("GET", f"/v1/runs/{run}/events?page_size=500").json()["items"] == seen


@pytest.mark.parametrize("body, status, code, pointer", [
    ('{"input":{}', 400, "not_json", None), ("[]", 422, "wrong_type", ""), ('{"inputs":{}}', 422, "unknown_field", "/inputs"),
    ('{"labels":[]}', 422, "wrong_type", "/labels"), ('{"labels":{"a":1}}', 422, "wrong_type", "/labels"),
    ('{"labels":{"%s":"x"}}' % ("k" * 64), 422, "out_of_range", "/labels"), ('{"labels":{"k":"%s"}}' % ("v" * 256), 422, "out_of_range", "/labels"),
    ('{"priority":"urgent"}', 422, "out_of_range", "/priority"), ('{"priority":1}', 422, "wrong_type", "/priority"),
    ('{"start_at_step":"nope"}', 422, "unknown_step", "/start_at_step"), ('{"input":"\\ud800"}', 400, "not_json", None),
    ('{"input":1e999999}', 400, "not_json", None), ('{"input":"\\u0000"}', 400, "not_json", None), ('{"input":1,"input":2}', 400, "duplicate_key", None)])
def test_bad_starts_are_refused_with_a_place(api, flow, body, status, code, pointer):
    answer = api("POST", "/v1/workflows/quick/runs", data=body)
    assert answer.status_code == status and answer.json()["code"] == code, answer.text
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_input_schema(api, flow):
    assert api("POST", "/v1/workflows/strict/runs", {"input": {"n": 1}}).status_code == 202
    for value in [{}, {"n": "1"}, [], None]:
        answer = api("POST", "/v1/workflows/strict/runs", {"input": value})
        assert answer.status_code == 422 and answer.json()["code"] == "invalid_input"
        assert all(e["pointer"].startswith("/input") for e in answer.json()["errors"])
    assert api("POST", "/v1/workflows/strict/runs").status_code == 422


def test_an_idempotent_start_is_one_run_100_times_at_once(stack, flow):
    key, clients = uuid.uuid4().hex, [Api(url, stack.key) for url in stack.urls]

    def one(i):
        return clients[i % 2]("POST", "/v1/workflows/quick/runs", data='{"input":{"a":1,"b":2}}' if i % 3 else '{ "input" : {"b":2, "a":1} }',
                              headers={"Idempotency-Key": key})

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(100)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1 and len({a.headers["location"] for a in answers}) == 1
    assert stack.sql("select count(*) from idempotency where key = %s", key) == [(1,)]
    other_body = clients[0]("POST", "/v1/workflows/quick/runs", {"input": {"a": 2}}, headers={"Idempotency-Key": key})
    assert other_body.status_code == 422 and other_body.json()["code"] == "idempotency_key_reused"
    assert clients[1]("POST", "/v1/workflows/echo/runs", {"input": {"a": 2}}, headers={"Idempotency-Key": key}).status_code == 202
    run = answers[0].json()["id"]
    same = clients[0]("POST", "/v1/workflows/quick/runs?wait=20s", {"input": {"a": 1, "b": 2}}, headers={"Idempotency-Key": key})
    assert same.status_code == 200 and same.json()["id"] == run


def test_many_keys_at_once_are_many_runs(stack, flow):
    clients = [Api(url, stack.key) for url in stack.urls]

    def one(i):
        return clients[i % 2]("POST", "/v1/workflows/quick/runs", {"input": i // 2}, headers={"Idempotency-Key": f"many-{i // 2}-{tag}"})

    tag = uuid.uuid4().hex
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(one, range(200)))
    assert {a.status_code for a in answers} == {202} and len({a.json()["id"] for a in answers}) == 100
    for i in range(0, 200, 2):
        assert answers[i].json()["id"] == answers[i + 1].json()["id"]


def test_a_key_in_flight_is_waited_for_and_others_are_not_held_up(stack, api, flow):
    key = uuid.uuid4().hex
    with psycopg.connect(stack.env["ROPEWALK_ADMIN_PG_URL"]) as db:
        db.execute("insert into ropewalk.idempotency values (1, 'quick', %s, '\\x00', gen_random_uuid(), now() + interval '1 day')", (key,))
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            blocked = [pool.submit(api, "POST", "/v1/workflows/quick/runs", {}, None, {"Idempotency-Key": key}) for _ in range(3)]
            time.sleep(0.2)
            for _ in range(5):
                start_began = time.monotonic()
                assert api("POST", "/v1/workflows/quick/runs", {}, headers={"Idempotency-Key": uuid.uuid4().hex}).status_code == 202
                assert time.monotonic() - start_began < 2
                assert api("POST", "/v1/workflows/quick/runs", {}).status_code == 202
            answers = [b.result() for b in blocked]
        assert 4.5 < time.monotonic() - began < 12
        db.rollback()
    assert {a.status_code for a in answers} == {409} and {a.json()["code"] for a in answers} == {"idempotency_in_progress"}
    assert api("POST", "/v1/workflows/quick/runs", {}, headers={"Idempotency-Key": key}).status_code == 202


def test_an_expired_key_starts_anew(stack, api, flow):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = start(api, "quick", headers=key)
    stack.sql("update idempotency set expires_at = now() - interval '1 second' where key = %s", key["Idempotency-Key"])
    assert start(api, "quick", headers=key) != first


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin"])
def test_bad_keys(api, flow, key):
    answer = api("POST", "/v1/workflows/quick/runs", {}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400 and answer.json()["code"] == "bad_idempotency_key"


def test_the_key_decides_before_the_workflow_does(api, flow):
    name, key = "gone-" + uuid.uuid4().hex[:8], {"Idempotency-Key": uuid.uuid4().hex}
    api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"a": {"call": "noop"}}})
    run = start(api, name, headers=key)
    api("POST", f"/v1/workflows/{name}:disable")
    assert start(api, name, headers=key) == run
    api("DELETE", "/v1/workflows/" + name)
    assert start(api, name, headers=key) == run
    assert api("POST", f"/v1/workflows/{name}/runs", {}, headers={"Idempotency-Key": "new"}).status_code == 404


def test_runs_are_found_by_what_they_are(stack, api, flow):
    tag = uuid.uuid4().hex
    name = "list-" + tag[:8]
    api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"a": {"call": "noop"}}})
    runs = [start(api, name, {"labels": {"tag": tag, "n": str(i % 2)}}) for i in range(10)]
    stack.ended(runs[-1])
    drive.until("all ended", lambda: all(api("GET", "/v1/runs/" + r).json()["status"] == "succeeded" for r in runs))

    def ids(query):
        answer = api("GET", "/v1/runs?" + query)
        assert answer.status_code == 200, answer.text
        return [r["id"] for r in answer.json()["items"]]

    assert ids(f"workflow={name}") == runs[::-1]
    assert ids(f"label.tag={tag}") == runs[::-1]
    assert ids(f"label.tag={tag}&label.n=1") == runs[9::-2]
    assert ids(f"label.tag={tag}&label.n=2") == [] and ids(f"workflow={name}&status=failed") == []
    assert ids(f"workflow={name}&status=succeeded") == runs[::-1]
    assert ids(f"q={runs[3]}") == [runs[3]] and set(ids(f"q={name[:10]}")) == set(runs)
    middle = api("GET", "/v1/runs/" + runs[5]).json()["created_at"]
    assert set(ids(f"workflow={name}&created_after={middle}")) >= set(runs[6:])
    assert not set(ids(f"workflow={name}&created_before={middle}")) & set(runs[5:])
    seen, token = [], ""
    while True:
        page = api("GET", f"/v1/runs?workflow={name}&page_size=3{token}").json()
        seen += [r["id"] for r in page["items"]]
        if page["next_page_token"] is None:
            break
        token = "&page_token=" + page["next_page_token"]
    assert seen == runs[::-1]
    assert not {"input", "output", "steps"} & set(page["items"][0])
    for bad in ["status=nonsense", "created_after=yesterday", "workflow=a&workflow=b", f"workflow={name}&page_token=" + "00" * 20]:
        assert api("GET", "/v1/runs?" + bad).status_code == 400, bad
    token = api("GET", f"/v1/runs?workflow={name}&page_size=3").json()["next_page_token"]
    assert api("GET", f"/v1/runs?workflow=quick&page_size=3&page_token={token}").json()["code"] == "bad_page_token"


def test_runs_are_looked_for_by_workflow_error_and_step(stack, api, flow):
    tag = uuid.uuid4().hex[:10]
    for name, step in (tag + "-a", "call_" + tag), (tag + "-b", "send_" + tag):
        stack.save({"name": name, "steps": {step: {"call": "http", "with": {"url": "http://127.0.0.1:1/x"}, "retry": {"max_attempts": 1}}}})
    first, second = ([start(api, tag + part) for _ in range(4)] for part in ("-a", "-b"))
    for run in first + second:
        assert stack.ended(run)["status"] == "failed"

    def found(query, size=3):
        items, token = [], ""
        while True:
            page = stack.ask("GET", f"/v1/runs?page_size={size}&{query}{token}")
            items += page["items"]
            if page["next_page_token"] is None:
                return [item["id"] for item in items]
            token = "&page_token=" + page["next_page_token"]

    newest = sorted(first + second, reverse=True)
    code = stack.run(first[0])["error"]["code"]
    assert found("q=" + tag) == newest and found("q=" + tag + "-b") == second[::-1]
    assert found("q=call_" + tag) == first[::-1]
    assert [run for run in found(f"q={code}", 50) if run in newest] == newest
    assert found(f"q={tag}&status=failed") == newest and found(f"q={tag}&status=active") == found(f"q={tag}&status=succeeded") == []
    assert found("q=" + first[2]) == [first[2]] and found(f"q={first[2]}&status=succeeded") == []
    assert found("q=" + str(uuid.uuid4())) == found("q=nothing-" + tag) == []


def test_running_and_waiting_are_told_apart(stack, api, flow):
    run = start(api, "slow")
    drive.until("waiting", lambda: api("GET", "/v1/runs/" + run).json()["status"] == "waiting")
    for status in "waiting", "active":
        assert run in [r["id"] for r in api("GET", f"/v1/runs?workflow=slow&page_size=500&status={status}").json()["items"]]
    assert run not in [r["id"] for r in api("GET", "/v1/runs?workflow=slow&page_size=500&status=running").json()["items"]]


def test_explain(api, flow):
    run = start(api, "slow")
    drive.until("waiting", lambda: api("GET", "/v1/runs/" + run).json()["status"] == "waiting")
    why = api("GET", f"/v1/runs/{run}/explain").json()
    assert why["reason"] == "delay" and why["step"] == "a" and "'a'" in why["sentence"] and why["due_at"]
    assert {w["kind"] for w in why["open"]} == {"delay", "run_timeout"}
    run = api("POST", "/v1/workflows/quick/runs?wait=20s", {}).json()["id"]
    assert api("GET", f"/v1/runs/{run}/explain").json()["reason"] == "ended"


def test_cancel_gives_the_verdict(api, other, flow):
    run = start(api, "slow")
    drive.until("waiting", lambda: api("GET", "/v1/runs/" + run).json()["status"] == "waiting")
    answer = other("POST", f"/v1/runs/{run}:cancel")
    assert answer.status_code == 200 and answer.json()["applied"] is True
    ended = api("GET", "/v1/runs/" + run).json()
    assert ended["status"] == "cancelled" and ended["steps"]["a"]["status"] == "cancelled"
    command = api("GET", f"/v1/runs/{run}/commands/{answer.json()['command']}").json()
    assert command["status"] == "applied"
    done = api("POST", "/v1/workflows/quick/runs?wait=20s", {}).json()["id"]
    refused = api("POST", f"/v1/runs/{done}:cancel")
    assert refused.status_code == 409 and "succeeded" in refused.json()["detail"] and refused.json()["code"] == "run_ended"
    assert api("POST", f"/v1/runs/{run}:cancel", {"x": True}).json()["code"] == "unknown_field"
    refused = api("POST", f"/v1/runs/{done}:release")
    assert refused.status_code == 409 and refused.json()["code"] == "not_quarantined"
    assert api("GET", f"/v1/runs/{run}/commands/999999999").status_code == 404


def test_with_all_schedulers_down_starts_are_accepted_and_read_on_every_gateway(stack, api, other, flow):
    stack.stack("stop", "scheduler-1")
    try:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        runs = [start(api, "quick", {"labels": {"down": "yes"}}, headers=key if i == 0 else None) for i in range(5)]
        assert start(other, "quick", {"labels": {"down": "yes"}}, headers=key) == runs[0]
        for run in runs:
            seen = other("GET", "/v1/runs/" + run).json()
            assert seen["status"] == "pending" and seen["steps"]["a"]["status"] == "pending"
            assert other("GET", f"/v1/runs/{run}/events").json()["items"] == []
        listed = [r["id"] for r in other("GET", "/v1/runs?label.down=yes&status=pending").json()["items"]]
        assert set(runs) <= set(listed)
        began = time.monotonic()
        answer = api("POST", f"/v1/runs/{runs[0]}:cancel")
        assert answer.status_code == 202 and 1.8 < time.monotonic() - began < 4
        assert api("GET", answer.headers["location"]).json()["status"] == "pending"
        drive.until("no scheduler", lambda: api("GET", f"/v1/runs/{runs[1]}/explain").json()["reason"] == "no_scheduler")
        assert api("GET", "/readyz").status_code == 200
    finally:
        stack.stack("up", "--gateways", "2", "--schedulers", "1", "--workers", "1", "--build-dir", str(drive.BUILD))
    for run in runs[1:]:
        assert stack.ended(run)["status"] == "succeeded"
    assert stack.ended(runs[0])["status"] in ("cancelled", "succeeded")
    assert api("GET", answer.headers["location"]).json()["status"] in ("applied", "refused")


def test_connections_that_break_in_mid_commit_lose_and_double_nothing(stack, flow):
    """The starting connections are cut again and again under load. Every 202 is a run, every key is one run."""
    tag, acknowledged, stop = uuid.uuid4().hex, [], threading.Event()

    def client(i):
        own, n = Api(stack.urls[i % 2], stack.key), 0
        while not stop.is_set():
            n += 1
            headers = {"Idempotency-Key": f"cut-{tag}-{i}-{n}"} if i % 2 else None
            for _ in range(100):
                answer = own("POST", "/v1/workflows/quick/runs", {"labels": {"cut": tag}}, headers=headers)
                assert answer.status_code in (202, 409, 503), answer.text
                if answer.status_code == 202:
                    acknowledged.append((f"cut-{tag}-{i}-{n}" if headers else None, answer.json()["id"]))
                    break
                if not headers:
                    break  # without a key a client cannot ask again

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        clients = [pool.submit(client, i) for i in range(8)]
        for _ in range(30):
            time.sleep(0.1)
            stack.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%% starts'")
        stop.set()
        for c in clients:
            c.result()
    made = {str(row[0]) for row in stack.sql("select run_id from run_label where key = 'cut' and value = %s", tag)}
    keyed = {key: run for key, run in acknowledged if key}
    assert len(acknowledged) > 50 and {run for _, run in acknowledged} <= made
    assert len([key for key, _ in acknowledged if key]) == len(keyed) == len(set(keyed.values()))
    assert stack.sql("select count(*) from run where id = any(%s::uuid[])", list(made)) == [(len(made),)]
    assert stack.sql("select count(*) from idempotency where key like %s", f"cut-{tag}-%") == [(len(keyed),)]
    for _, run in acknowledged[-20:]:
        assert stack.ended(run)["status"] == "succeeded"


def test_while_postgresql_is_away_requests_say_so_and_then_go_on(stack, api, other, flow):
    run = start(api, "quick")
    stack.stack("stop", "postgres-1")
    try:
        ready = api("GET", "/readyz")
        assert ready.status_code == 503 and "postgresql" in ready.text
        assert api("GET", "/livez").status_code == 200
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(client, method, path, value) for client in (api, other)
                     for method, path, value in [("GET", "/v1/runs/" + run, None), ("POST", "/v1/workflows/quick/runs", {})]]
            answers = [c.result() for c in calls]
        assert {a.status_code for a in answers} == {503} and time.monotonic() - began < 8
        assert all(a.json()["code"] == "unavailable" and a.headers["retry-after"] for a in answers)
    finally:
        stack.stack("start", "postgres-1")
    began = time.monotonic()
    drive.until("ready again", lambda: api("GET", "/readyz").status_code == 200, 5)
    assert stack.ended(run)["status"] == "succeeded"
    assert api("POST", "/v1/workflows/quick/runs?wait=20s", {}).status_code == 200


def test_without_the_broker_starts_are_still_taken_and_run(stack, api, flow):
    stack.stack("stop", "rabbitmq-1")
    try:
        assert "rabbitmq: not connected" in drive.until(
            "seen", lambda: (lambda a: a.text if "not connected" in a.text else None)(api("GET", "/readyz")))
        assert api("GET", "/readyz").status_code == 200
        run = start(api, "quick")
        assert api("GET", "/v1/runs/" + run).status_code == 200
    finally:
        stack.stack("start", "rabbitmq-1")
    assert stack.ended(run, 90)["status"] == "succeeded"
    waited = api("POST", "/v1/workflows/quick/runs?wait=20s", {})
    assert waited.status_code == 200


def test_a_client_that_goes_away_while_it_waits_harms_nobody(stack, api, flow):
    for _ in range(20):
        s = socket.create_connection(("127.0.0.1", int(stack.urls[0].rsplit(":", 1)[1])))
        body = b"{}"
        s.sendall(b"POST /v1/workflows/short/runs?wait=20s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + stack.key.encode() +
                  b"\r\nContent-Length: 2\r\n\r\n" + body)
        time.sleep(0.02)
        s.close()
    assert api("POST", "/v1/workflows/short/runs?wait=20s", {}).status_code == 200
    assert api("GET", "/livez").status_code == 200
