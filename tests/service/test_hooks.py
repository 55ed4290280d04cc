"""Webhooks: taken once and kept, refused with a reason that the log has and a stranger does not."""
import concurrent.futures
import hmac
import json
import threading
import time
import uuid

import pytest
import requests

from drive import private_stack, until

SECRET, BEFORE = "planted-signature-secret-1", "planted-signature-secret-0"
PLANTED = "planted-value-"
WORKFLOW = {
    "name": "hooked",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
    "triggers": {
        "github": {"webhook": {"signature": {"scheme": "github", "secrets": [SECRET, BEFORE]}, "hide_headers": ["X-Mine"]}},
        "stripe": {"webhook": {"signature": {"scheme": "stripe", "secrets": [SECRET]}}},
        "open": {"webhook": {}},
        "audit": {"webhook": {"signature": {"scheme": "github", "secrets": [SECRET]}, "modes": {"signature": "audit"}}},
        "near": {"webhook": {"allow": ["127.0.0.0/8"]}},
        "far": {"webhook": {"allow": ["192.0.2.0/24", "2001:db8::/32"]}},
        "denied": {"webhook": {"deny": ["127.0.0.1"]}},
        "slow": {"webhook": {"rate_limit": {"limit": 2, "per": "1h"}}},
        "small": {"webhook": {"max_body_bytes": 10}},
        "off": {"webhook": {}, "enabled": False},
        "text": {"webhook": {}, "input": {"text": "${ .trigger.body }"}},
        "late": {"webhook": {}, "start_at_step": "b"},
        "mapped": {"webhook": {}, "input": {"n": "${ .trigger.body.count }", "text": "${ .trigger.query.who } at ${ .trigger.kind }",
                                            "sum": "${ [.trigger.body.list[]] | add }"}},
    },
    "steps": {"a": {"call": "transform", "with": {"value": {"body": "${ .trigger.body }", "headers": "${ .trigger.headers }",
                                                            "query": "${ .trigger.query }", "at": "${ .trigger.received_at }"}}},
              "b": {"call": "noop", "needs": ["a"]}},
    "output": "${ {seen: .steps.a.output, input} }",
}


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2) as one:
        saved = one.save(WORKFLOW)
        codes = [(w["code"], w["pointer"]) for w in saved["warnings"]]
        assert ("secret_in_document", "/triggers/github/webhook/signature/secrets/0") in codes
        assert ("unsigned_webhook", "/triggers/open/webhook") in codes
        yield one


def hook(drive, trigger, body=b"", headers=None, url=None, query="", workflow="hooked", organisation="default"):
    return requests.post(f"{url or drive.url}/hooks/{organisation}/{workflow}/{trigger}{query}", data=body, headers=headers or {}, timeout=30)


def as_json(**more):
    return {"Content-Type": "application/json", **more}


def signed(body, secret=SECRET, **more):
    return as_json(**{"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest(), **more})


def unique(**more):
    return json.dumps({"id": uuid.uuid4().hex, **more}).encode()


def accepted(drive, answer):
    assert answer.status_code == 202, answer.text
    run = answer.json()["run_id"]
    assert answer.json() == {"run_id": run, "id": run, "status": "pending"} and answer.headers["Location"] == "/v1/runs/" + run
    return drive.ended(run)


def refused(answer, status, code):
    assert answer.status_code == status and answer.json()["code"] == code, answer.text
    return answer.json()


def logged(drive, trigger, reason):
    return until(f"a line '{reason}' of {trigger}", lambda: drive.sql(
        "select stage, status, run_id, address, excerpt, audit, old_secret from delivery where trigger = %s and reason = %s", trigger, reason))


def test_a_genuine_delivery_is_a_run_that_sees_what_came(drive):
    body = unique(n=1)
    run = accepted(drive, hook(drive, "github", body, signed(body, **{"X-GitHub-Event": "push"}), query="?a=1&b=%C3%A9"))
    assert run["status"] == "succeeded" and run["trigger"] == {"name": "github", "kind": "webhook"}
    seen = run["output"]["seen"]
    assert run["output"]["input"] == seen["body"] == json.loads(body)
    assert seen["headers"]["x-github-event"] == "push" and "x-hub-signature-256" not in seen["headers"]
    assert seen["query"] == {"a": "1", "b": "é"} and seen["at"].endswith("Z")
    assert drive.ask("GET", "/v1/runs")["items"][0]["trigger"] == {"name": "github", "kind": "webhook"}
    [line] = drive.sql("select stage, status, run_id::text, address, old_secret from delivery where trigger = 'github' and reason = 'accepted'")
    assert line == ("start", 202, run["id"], "127.0.0.1", False)


def test_a_stranger_learns_nothing_and_the_log_all(drive):
    body = unique()
    answers = [hook(drive, "github", body, as_json()), hook(drive, "github", body, signed(body, "wrong")),
               hook(drive, "github", body + b" ", signed(body)), hook(drive, "github", body, as_json(**{"X-Hub-Signature-256": "?"}))]
    texts = {refused(a, 401, "unauthorized")["detail"] for a in answers}
    assert len(texts) == 1
    for reason, count in [("no_signature", 1), ("signature_differs", 2), ("signature_form", 1)]:
        until(reason, lambda r=reason, c=count: len(logged(drive, "github", r)) == c)


def test_the_secret_before_is_taken_and_told(drive):
    body = unique()
    accepted(drive, hook(drive, "github", body, signed(body, BEFORE)))
    assert drive.sql("select count(*) from delivery where old_secret") == [(1,)]


def test_an_old_time_is_refused_under_a_good_signature(drive):
    body = unique()
    def stripe(at):
        return as_json(**{"Stripe-Signature": f"t={at},v1=" + hmac.new(SECRET.encode(), f"{at}.".encode() + body, "sha256").hexdigest()})
    now = int(time.time())
    refused(hook(drive, "stripe", body, stripe(now - 400)), 401, "unauthorized")
    refused(hook(drive, "stripe", body, stripe(now + 400)), 401, "unauthorized")
    assert logged(drive, "stripe", "timestamp_too_old") and logged(drive, "stripe", "timestamp_in_future")
    accepted(drive, hook(drive, "stripe", body, stripe(now - 200)))


def one_of_100(drive, send):
    gate = threading.Barrier(100)

    def one(i):
        gate.wait(30)
        return send(drive.urls[i % 2]).status_code
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        codes = list(pool.map(one, range(100)))
    assert sorted(set(codes)) == [202, 409] and codes.count(202) == 1


def test_100_equal_ones_over_two_gateways_are_one_run_also_after_a_restart_and_without_redis(drive):
    body = unique()
    before = drive.sql("select count(*) from run")[0][0]
    one_of_100(drive, lambda url: hook(drive, "github", body, signed(body, **{"X-GitHub-Delivery": uuid.uuid4().hex}), url=url))
    assert drive.sql("select count(*) from run") == [(before + 1,)]
    assert len(until("their lines", lambda: (rows := logged(drive, "github", "replayed")) and len(rows) >= 99 and rows)) == 99
    drive.stack("stop", "gateway-1", "gateway-2", "redis-1")        # what they knew is gone
    drive.stack("start", "redis-1", "gateway-1", "gateway-2")
    drive.read_env()
    refused(hook(drive, "github", body, signed(body)), 409, "replayed")
    drive.sql("update delivery_nonce set expires_at = now() - interval '1 s'")      # its time is over
    accepted(drive, hook(drive, "github", body, signed(body)))


def test_equal_ones_with_a_key_get_one_answer(drive):
    headers = as_json(**{"Idempotency-Key": uuid.uuid4().hex})
    body = unique()
    first, again = hook(drive, "open", body, headers), hook(drive, "open", body, headers, url=drive.urls[1])
    assert first.status_code == again.status_code == 202 and first.json() == again.json()
    refused(hook(drive, "open", unique(), headers), 422, "idempotency_key_reused")
    refused(hook(drive, "open", body, as_json(**{"Idempotency-Key": "x" * 256})), 400, "bad_idempotency_key")


def test_each_stage_has_its_code(drive):
    refused(hook(drive, "far", b"{}", as_json()), 403, "address_refused")
    refused(hook(drive, "denied", b"{}", as_json()), 403, "address_refused")
    refused(hook(drive, "far", b"{}", as_json(**{"X-Forwarded-For": "192.0.2.7"})), 403, "address_refused")   # no proxy is believed
    accepted(drive, hook(drive, "near", b"{}", as_json()))
    refused(hook(drive, "small", b'{"a": 12345}', as_json()), 413, "too_large")
    accepted(drive, hook(drive, "small", b'{"a": 123}', as_json()))
    refused(hook(drive, "open", b"{", as_json()), 400, "not_json")
    refused(hook(drive, "open", b'{"a":1,"a":2}', as_json()), 400, "duplicate_key")
    refused(hook(drive, "open", b"x", {"Content-Type": "image/png"}), 415, "unsupported_media_type")
    refused(hook(drive, "open", b'{"n": "x"}', as_json()), 422, "invalid_input")
    refused(hook(drive, "off", b"{}", as_json()), 409, "trigger_disabled")
    for path in [dict(trigger="none"), dict(trigger="open", workflow="none"), dict(trigger="open", organisation="none"), dict(trigger="UP")]:
        refused(hook(drive, body=b"{}", headers=as_json(), **path), 404, "not_found")
    accepted(drive, hook(drive, "slow", b"{}", as_json()))
    accepted(drive, hook(drive, "slow", b"{}", as_json()))
    late = hook(drive, "slow", b"{}", as_json())
    refused(late, 429, "rate_limited")
    assert 1 <= int(late.headers["Retry-After"]) <= 1801
    metrics = drive.session.get(drive.url + "/metrics").text
    for stage in ["address", "size", "body", "rate_limit", "start"]:
        assert f'ropewalk_hooks_refused_total{{stage="{stage}"}} 0' not in metrics


def test_audit_takes_it_and_tells(drive):
    accepted(drive, hook(drive, "audit", unique(), as_json()))
    [line] = logged(drive, "audit", "accepted")
    assert line[5] == "signature:no_signature"


def test_bodies_of_other_forms(drive):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    run = accepted(drive, hook(drive, "open", b"count=1&list=a&list=b&x=%C3%A9+1", form))
    assert run["output"]["seen"]["body"] == {"count": "1", "list": ["a", "b"], "x": "é 1"}
    refused(hook(drive, "open", b"a=%zz", form), 400, "not_a_form")
    run = accepted(drive, hook(drive, "text", "é\n".encode(), {"Content-Type": "text/plain; charset=utf-8"}))
    assert run["input"] == {"text": "é\n"}
    refused(hook(drive, "text", b"\xff", {"Content-Type": "text/plain"}), 400, "not_text")
    assert accepted(drive, hook(drive, "text"))["input"] == {"text": None}


def test_input_is_made_of_what_came(drive):
    run = accepted(drive, hook(drive, "mapped", b'{"count": 3, "list": [1, 2]}', as_json(), query="?who=me"))
    assert run["input"] == {"n": 3, "text": "me at webhook", "sum": 3}
    refused(hook(drive, "mapped", b'{"count": 3, "list": 1}', as_json()), 422, "expression_failed")
    assert hook(drive, "late", b"{}", as_json()).status_code == 202


def test_a_disabled_workflow_refuses_and_writes_it_down(drive):
    drive.ask("POST", "/v1/workflows/hooked:disable")
    body = unique()
    refused(hook(drive, "github", body, signed(body)), 409, "workflow_disabled")
    assert logged(drive, "github", "workflow_disabled")
    drive.ask("POST", "/v1/workflows/hooked:enable")
    accepted(drive, hook(drive, "github", body, signed(body)))      # it has not been taken before


def test_what_is_secret_is_stored_nowhere(drive):
    names = ["Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "X-Mine"]
    body = unique()
    planted = {name: PLANTED + name.lower() for name in names}
    accepted(drive, hook(drive, "github", body, signed(body, **planted)))
    count = len(logged(drive, "github", "signature_differs"))
    refused(hook(drive, "github", body, signed(body, "wrong", **planted)), 401, "unauthorized")
    until("the line", lambda: len(logged(drive, "github", "signature_differs")) > count)
    for (table,) in drive.sql("select quote_ident(tablename) from pg_tables where schemaname = 'ropewalk'"):
        assert drive.sql(f"select count(*) from {table} t where t::text like %s", f"%{PLANTED}%") == [(0,)], table
    for log in drive.dir.rglob("*.log"):
        assert PLANTED.encode() not in log.read_bytes(), log
