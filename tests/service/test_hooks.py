"""Webhooks: taken once and kept, refused with a reason that the log has and a stranger does not."""
import concurrent.futures
import hmac
import json
import subprocess
import threading
import time
import uuid

import pytest
import redis
import requests

from drive import BUILD, private_stack, until

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
    redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"]).flushall()
    for url in drive.urls:
        refused(hook(drive, "github", body, signed(body), url=url), 409, "replayed")
    again = unique()                                                # and while 100 equal ones come Redis forgets, again and again

    def send(url):
        redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"]).flushall()
        return hook(drive, "github", again, signed(again), url=url)
    one_of_100(drive, send)
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


def test_a_form_in_parts_has_fields_and_small_files(drive):
    def post(files, data=None):
        return requests.post(f"{drive.url}/hooks/default/hooked/open", files=files, data=data, timeout=30)
    run = accepted(drive, post([("file", ("é.bin", b"\x00\xff", "application/octet-stream")), ("list", (None, "b"))],
                               {"count": "1", "list": "a"}))
    assert run["output"]["seen"]["body"] == {"count": "1", "list": ["a", "b"],
                                             "file": {"name": "é.bin", "type": "application/octet-stream", "base64": "AP8="}}
    problem = refused(post({"big": ("big.txt", b"x" * 65537)}), 413, "form_too_large")
    assert problem["detail"].startswith("the file in field 'big' has 65537 bytes: a file may have 65536")
    [line] = logged(drive, "open", "form_too_large")
    assert line[:3] == ("body", 413, None)
    refused(hook(drive, "open", b"--b\r\n", {"Content-Type": "multipart/form-data; boundary=b"}), 400, "not_a_form")
    refused(hook(drive, "open", b"--b--", {"Content-Type": "multipart/mixed; boundary=b"}), 415, "unsupported_media_type")


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


NAMED = {"name": "named", "triggers": {
    "one": {"webhook": {"signature": {"scheme": "github", "secrets": ["${ .secrets.HOOK }", "${ .secrets.HOOK_BEFORE }"]}}},
    "gone": {"webhook": {"signature": {"scheme": "github", "secrets": ["${ .secrets.HOOK_NOT_THERE }"]}}},
    "unfit": {"webhook": {"signature": {"scheme": "standard-webhooks", "secrets": ["${ .secrets.HOOK_BEFORE }"]}}}},
    "steps": {"a": {"call": "noop"}}}


def write_secret(drive, name, value):
    drive.ask("PUT", "/v1/secrets/" + name, {"value": value})


def test_secrets_are_named_and_follow_their_changes(drive):
    first, second, third = (f"{PLANTED}{uuid.uuid4().hex}" for _ in range(3))
    write_secret(drive, "HOOK", first)
    write_secret(drive, "HOOK_BEFORE", second + "!")
    assert "secret_in_document" not in {w["code"] for w in drive.save(NAMED)["warnings"]}

    def send(secret, url=None, trigger="one"):
        body = unique()
        return hook(drive, trigger, body, signed(body, secret), url=url, workflow="named")
    accepted(drive, send(first))
    accepted(drive, send(second + "!"))
    assert deliveries(drive, "?workflow=named&status=202")[0]["old_secret"]
    refused(send(third), 401, "unauthorized")
    used = {u["name"]: u["used_by"] for u in drive.ask("GET", "/v1/secrets")["items"]}
    assert [(u["workflow"], u["pointer"]) for u in used["HOOK"]] == [("named", "/triggers/one/webhook/signature/secrets/0")]
    write_secret(drive, "HOOK", third)
    until("the new one is in use on both gateways", lambda: all(send(third, url).status_code == 202 for url in drive.urls))
    for url in drive.urls:
        refused(send(first, url), 401, "unauthorized")
    refused(send(third, trigger="gone"), 503, "unavailable")
    assert until("its line", lambda: deliveries(drive, "?workflow=named&reason=secret_missing"))[0]["stage"] == "signature"
    refused(send(third, trigger="unfit"), 503, "unavailable")
    assert drive.call("DELETE", "/v1/secrets/HOOK").status_code == 204
    until("the deletion has arrived", lambda: all(send(third, url).status_code == 503 for url in drive.urls))
    accepted(drive, send(second + "!"))                             # the other one is still good


def test_a_secret_that_cannot_be_one_is_refused_at_the_save(drive):
    def errors(*secrets):
        flow = {"name": "unfit", "steps": {"a": {"call": "noop"}}, "triggers": {
            "t": {"webhook": {"signature": {"scheme": "standard-webhooks", "secrets": list(secrets)}}}}}
        answer = drive.call("POST", "/v1/workflows:validate", flow).json()
        return [(e["code"], e["pointer"]) for e in answer["errors"]]
    assert errors("whsec_" + "QUJD" * 8) == []
    assert errors("whsec_" + "QUJD" * 8, "not base64!") == [("out_of_range", "/triggers/t/webhook/signature/secrets/1")]
    assert errors("${ .secrets.not-a-name }") == [("bad_expression", "/triggers/t/webhook/signature/secrets/0")]
    assert errors("x${ .secrets.A }") == [("out_of_range", "/triggers/t/webhook/signature/secrets/0")]


def deliveries(drive, query=""):
    return drive.ask("GET", "/v1/deliveries" + query)["items"]


def test_the_log_is_read_by_page_filter_and_id(drive):
    body = unique(n=7)
    run = accepted(drive, hook(drive, "github", body, signed(body, **{"X-GitHub-Event": "ping", "X-Mine": "hidden"}), query="?who=me"))
    [line] = deliveries(drive, "?run=" + run["id"])
    assert (line["stage"], line["reason"], line["status"], line["trigger"], line["redeliverable"]) == ("start", "accepted", 202, "github", True)
    assert "headers" not in line
    whole = drive.ask("GET", "/v1/deliveries/" + line["id"])
    assert whole["headers"]["x-github-event"] == "ping" and "x-mine" not in whole["headers"]
    assert whole["query"] == {"who": "me"} and whole["excerpt"].encode() == body and whole["body_bytes"] == len(body)
    for _ in range(3):
        refused(hook(drive, "far", b"{}", as_json()), 403, "address_refused")
    far = until("their lines", lambda: len(found := deliveries(drive, "?trigger=far&reason=address_not_allowed")) >= 3 and found)
    assert all(x["status"] == 403 and x["run_id"] is None and not x["redeliverable"] for x in far)
    assert [x["id"] for x in far] == sorted((x["id"] for x in far), reverse=True)
    first = drive.ask("GET", "/v1/deliveries?trigger=far&page_size=1")
    second = drive.ask("GET", "/v1/deliveries?trigger=far&page_size=1&page_token=" + first["next_page_token"])
    assert first["items"] + second["items"] == deliveries(drive, "?trigger=far")[:2]
    assert deliveries(drive, "?stage=address&created_before=2020-01-01T00:00:00Z") == []
    assert {x["reason"] for x in deliveries(drive, "?status=401")} <= {"no_signature", "signature_differs", "signature_form",
                                                                      "timestamp_too_old", "timestamp_in_future"}
    counts = {(x["stage"], x["reason"]): x["count"] for x in drive.ask("GET", "/v1/deliveries:count?trigger=far")["items"]}
    assert counts == {("address", "address_not_allowed"): len(deliveries(drive, "?trigger=far&page_size=500"))}
    for query, expected in (("?stage=address", far), ("?reason=address_not_allowed&trigger=far", far), ("?status=403&trigger=far", far),
                            ("?run=" + run["id"], [line]), ("?stage=none", []), ("?trigger=far&status=202", [])):
        found = drive.ask("GET", "/v1/deliveries:count" + query)["items"]
        assert sum(x["count"] for x in found) == len(deliveries(drive, query + "&page_size=500")) >= len(expected), query
        assert bool(found) == bool(expected), query
    assert cli(drive, "deliveries", "count", "--run", run["id"], "--status", "202").split()[4:] == ["start", "accepted", "202", "1"]
    assert cli(drive, "deliveries", "count", "--run", run["id"], "--stage", "address").split()[4:] == []
    for query in ("?status=none", "?run=none", "?created_after=now"):
        for path in ("/v1/deliveries", "/v1/deliveries:count"):
            refused(drive.call("GET", path + query), 400, "bad_query")
    other = drive.ask("POST", "/v1/organisations", {"name": "other-" + uuid.uuid4().hex[:8]})["api_key"]
    stranger = {"Authorization": "Bearer " + other}
    assert drive.ask("GET", "/v1/deliveries", headers=stranger)["items"] == []
    refused(drive.call("GET", "/v1/deliveries/" + line["id"], headers=stranger), 404, "not_found")
    refused(drive.call("POST", f"/v1/deliveries/{line['id']}:redeliver", headers=stranger), 404, "not_found")


def redeliver(drive, delivery, **headers):
    return drive.call("POST", f"/v1/deliveries/{delivery}:redeliver", headers=headers)


def line_of(drive, body, trigger, reason):
    """The line of this body. Lines are written behind the answers, so the newest may be of another."""
    def look():
        lines = (drive.ask("GET", "/v1/deliveries/" + line["id"]) for line in deliveries(drive, f"?trigger={trigger}&reason={reason}"))
        return next((line for line in lines if line["excerpt"].encode() == body), None)
    return until(f"a line '{reason}'", look)


def test_what_was_refused_is_taken_again_once(drive):
    drive.ask("POST", "/v1/workflows/hooked:disable")
    body = unique(n=9)
    refused(hook(drive, "github", body, signed(body, **{"X-GitHub-Event": "push"})), 409, "workflow_disabled")
    line = line_of(drive, body, "github", "workflow_disabled")
    refused(redeliver(drive, line["id"]), 409, "workflow_disabled")
    drive.ask("POST", "/v1/workflows/hooked:enable")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: redeliver(drive, line["id"]), range(20)))
    assert sorted(a.status_code for a in answers) == [202] + [409] * 19
    [taken] = [a for a in answers if a.status_code == 202]
    run = accepted(drive, taken)
    assert run["input"] == json.loads(body) and run["output"]["seen"]["headers"]["x-github-event"] == "push"
    assert run["output"]["seen"]["at"] == line["at"]
    [again] = deliveries(drive, "?run=" + run["id"])
    assert again["redelivered_from"] == line["id"] != again["id"] and again["address"] == line["address"]
    refused(hook(drive, "github", body, signed(body)), 409, "replayed")      # the sender's own repeat


def test_the_senders_repeat_and_ours_are_one_run(drive):
    drive.ask("POST", "/v1/workflows/hooked:disable")
    body = unique(n=9)
    refused(hook(drive, "github", body, signed(body)), 409, "workflow_disabled")
    line = line_of(drive, body, "github", "workflow_disabled")
    drive.ask("POST", "/v1/workflows/hooked:enable")
    accepted(drive, hook(drive, "github", body, signed(body)))
    refused(redeliver(drive, line["id"]), 409, "replayed")


def test_what_was_taken_is_taken_again_unless_its_key_is_known(drive):
    run = accepted(drive, hook(drive, "open", b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}))
    [line] = deliveries(drive, "?run=" + run["id"])
    second = accepted(drive, redeliver(drive, line["id"]))
    assert second["id"] != run["id"] and second["input"] == run["input"] == {"a": "1", "b": "2"}
    key = uuid.uuid4().hex
    third, same = (redeliver(drive, line["id"], **{"Idempotency-Key": key}) for _ in range(2))
    assert third.json() == same.json() and third.json()["run_id"] not in (run["id"], second["id"])
    own = accepted(drive, hook(drive, "open", b"a=3", {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key + "x"}))
    [line] = deliveries(drive, "?run=" + own["id"])
    assert accepted(drive, redeliver(drive, line["id"]))["id"] == own["id"]
    again = until("its line", lambda: [x for x in deliveries(drive, "?run=" + own["id"]) if x["redelivered_from"]])
    assert [(x["redelivered_from"], x["stage"], x["reason"]) for x in again] == [(line["id"], "idempotency", "known_key")]


def test_nobody_vouches_for_what_had_no_good_signature(drive):
    body = unique()
    refused(hook(drive, "github", body, signed(body, "wrong")), 401, "unauthorized")
    line = line_of(drive, body, "github", "signature_differs")
    assert not line["redeliverable"]
    refused(redeliver(drive, line["id"]), 409, "not_genuine")
    accepted(drive, hook(drive, "github", body, signed(body)))
    refused(hook(drive, "github", body, signed(body)), 409, "replayed")
    refused(redeliver(drive, line_of(drive, body, "github", "replayed")["id"]), 409, "replayed")
    refused(redeliver(drive, str(uuid.uuid4())), 404, "not_found")


def cli(drive, *words, code=0, stdin=None):
    done = subprocess.run([str(BUILD / "bin/ropewalk"), *words], input=stdin, capture_output=True, text=True, timeout=60,
                          env={"PATH": "/usr/bin:/bin", "ROPEWALK_URL": drive.url, "ROPEWALK_API_KEY": drive.key})
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


SCHEMES = ["standard-webhooks", "github", "stripe", "slack", "shopify", "gitlab", "bitbucket", "twilio", "square", "zoom", "linear",
           "dropbox", "mailgun", "hubspot", "generic"]


def test_the_command_line_signs_a_sample_of_every_scheme(drive):
    def signature(scheme):
        secret = "whsec_" + "QUJD" * 8 if scheme == "standard-webhooks" else SECRET
        more = {"url": "https://example.com/hook"} if scheme in ("twilio", "square", "hubspot") else {}
        if scheme == "generic":
            more = {"header": "X-Own", "algorithm": "sha512", "encoding": "base64", "prefix": "own ", "signed": "{id}.{timestamp}.{body}",
                    "timestamp_header": "X-Time", "id_header": "X-Id"}
        return {"scheme": scheme, "secrets": [secret], **more}
    drive.save({"name": "sampled", "triggers": {s: {"webhook": {"signature": signature(s)}} for s in SCHEMES}, "steps": {"a": {"call": "noop"}}})
    listed = cli(drive, "trigger", "list", "sampled")
    for scheme in SCHEMES:
        assert f"{drive.url}/hooks/default/sampled/{scheme}" in listed
        run = cli(drive, "trigger", "test", "sampled", scheme).strip()
        assert drive.ended(run)["trigger"]["name"] == scheme
        refused_ = cli(drive, "trigger", "test", "sampled", scheme, "--secret-from-stdin", stdin="whsec_AAAA\n", code=3)
        assert refused_ == ""
    run = cli(drive, "trigger", "test", "sampled", "github", "--body", '{"mine": 1}').strip()
    assert drive.ended(run)["input"] == {"mine": 1}
    cli(drive, "trigger", "test", "sampled", "none", code=2)
    assert "signature_differs" in until("they are listed", lambda: cli(drive, "deliveries", "--workflow", "sampled", "--status", "401"))
    assert "accepted" in cli(drive, "deliveries", "count", "--workflow", "sampled")
    [line] = deliveries(drive, "?run=" + run)
    assert '{"mine": 1}' in cli(drive, "deliveries", "show", line["id"])
    again = cli(drive, "deliveries", "redeliver", line["id"]).strip()
    assert drive.ended(again)["input"] == {"mine": 1}


ANSWERING = {"name": "answering", "triggers": {
    "output": {"webhook": {"respond": {"wait": "20s"}}},
    "made": {"webhook": {"respond": {"wait": "20s", "status": 201, "headers": {"X-Made": "yes"},
                                     "body": {"sum": "${ .output.n + 1 }", "run": "${ .run.id }", "who": "${ .trigger.query.who }"}}}},
    "text": {"webhook": {"respond": {"wait": "20s", "headers": {"Content-Type": "text/html"}, "body": "<b>${ .output.n }</b>"}}},
    "never": {"webhook": {"respond": {"wait": "300ms"}}, "input": {"n": "${ .trigger.body.n }", "hold": "1h"}},
    "fails": {"webhook": {"respond": {"wait": "20s"}}, "input": {"n": "none"}}},
    "steps": {"a": {"call": "transform", "with": {"value": "${ .input.n + 0 }"}},
              "hold": {"call": "delay", "needs": ["a"], "when": "${ .input.hold != null }", "with": {"duration": "1h"}}},
    "output": {"n": "${ .steps.a.output }"}}


def test_an_answer_is_made_of_the_runs_end(drive):
    drive.save(ANSWERING)

    def ask(trigger, value=None, **more):
        return hook(drive, trigger, json.dumps(value or {"n": 3}).encode(), as_json(**more.pop("headers", {})), workflow="answering", **more)
    plain = ask("output")
    assert plain.status_code == 200 and plain.json() == {"n": 3}
    made = ask("made", query="?who=me")
    assert made.status_code == 201 and made.headers["X-Made"] == "yes"
    assert made.json() == {"sum": 4, "run": made.json()["run"], "who": "me"}
    assert drive.ended(made.json()["run"])["trigger"]["name"] == "made"
    text = ask("text")
    assert (text.status_code, text.text, text.headers["Content-Type"]) == (200, "<b>3</b>", "text/html")
    late = ask("never")
    assert late.status_code == 202 and set(late.json()) == {"run_id", "id", "status"}
    drive.ask("POST", f"/v1/runs/{late.json()['run_id']}:cancel")
    refused(ask("fails"), 500, "run_not_succeeded")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = ask("made", headers=key), ask("made", headers=key, url=drive.urls[1])
    assert first.json() == again.json() and again.status_code == 201
    [line] = deliveries(drive, "?run=" + made.json()["run"])
    assert drive.call("POST", f"/v1/deliveries/{line['id']}:redeliver").status_code == 202
    with concurrent.futures.ThreadPoolExecutor(50) as pool:         # more than there are connections to PostgreSQL
        assert {a.status_code for a in pool.map(lambda n: ask("never", {"n": n}), range(50))} == {202}
    drive.ask("POST", "/v1/runs:cancel", {"filter": {"workflow": "answering"}})


def test_what_an_answer_cannot_be_is_refused_at_the_save(drive):
    def errors(**respond):
        flow = {"name": "bad", "steps": {"a": {"call": "noop"}}, "triggers": {"t": {"webhook": {"respond": respond}}}}
        return {(e["code"], e["pointer"]) for e in drive.call("POST", "/v1/workflows:validate", flow).json()["errors"]}
    at = "/triggers/t/webhook/respond"
    assert errors(wait="10s") == set()
    assert errors(wait="61s") == {("out_of_range", at + "/wait")}
    assert errors(wait="10s", body="${ .steps.a.output }") == {("not_upstream", at + "/body")}
    assert errors(wait="10s", body={"x": "${ .output | nope }"}) == {("bad_expression", at + "/body/x")}
    assert errors(wait="10s", headers={"Content-Length": "3"}) == {("out_of_range", at + "/headers/Content-Length")}
    assert {p for _, p in errors(wait="10s", headers={"X-A": "a\r\nb"})} == {at + "/headers/X-A"}
    assert {p for _, p in errors()} == {at + "/wait"}


ASKED = {"name": "asked", "triggers": {
    "slack": {"webhook": {"signature": {"scheme": "slack", "secrets": [SECRET]}}},
    "zoom": {"webhook": {"signature": {"scheme": "zoom", "secrets": [SECRET]}}},
    "dropbox": {"webhook": {"signature": {"scheme": "dropbox", "secrets": [SECRET]}}},
    "meta": {"webhook": {"verify_token": "verify-me-token", "signature": {"scheme": "github", "secrets": [SECRET]}}}},
    "steps": {"a": {"call": "noop"}}}


def test_vendors_that_ask_whether_the_url_is_ours_are_answered(drive):
    drive.save(ASKED)
    before = drive.sql("select count(*) from run")

    def v0(trigger, body, secret=SECRET):
        at = str(int(time.time()))
        mac = "v0=" + hmac.new(secret.encode(), f"v0:{at}:".encode() + body, "sha256").hexdigest()
        names = ("X-Slack-Request-Timestamp", "X-Slack-Signature") if trigger == "slack" else ("X-Zm-Request-Timestamp", "X-Zm-Signature")
        return hook(drive, trigger, body, as_json(**{names[0]: at, names[1]: mac}), workflow="asked")
    slack = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a"}).encode()
    answer = v0("slack", slack)
    assert (answer.status_code, answer.text) == (200, "3eZbrw1a") and answer.headers["Content-Type"].startswith("text/plain")
    refused(v0("slack", slack, "wrong"), 401, "unauthorized")
    zoom = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}).encode()
    assert v0("zoom", zoom).json() == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw",
                                       "encryptedToken": hmac.new(SECRET.encode(), b"qgg8vlvZRS6UYooatFL8Aw", "sha256").hexdigest()}

    def get(trigger, **query):
        return requests.get(f"{drive.url}/hooks/default/asked/{trigger}", params=query, timeout=30)
    answer = get("dropbox", challenge="<x>")
    assert (answer.status_code, answer.text, answer.headers["X-Content-Type-Options"]) == (200, "<x>", "nosniff")
    hub = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "verify-me-token"}
    assert get("meta", **hub).text == "1158201444"
    refused(get("meta", **{**hub, "hub.verify_token": "verify-me-tokem"}), 401, "unauthorized")
    refused(get("meta"), 401, "unauthorized")
    refused(get("slack", challenge="x"), 401, "unauthorized")
    refused(get("none"), 404, "not_found")
    assert drive.sql("select count(*) from run") == before
    assert len(until("their lines", lambda: len(x := deliveries(drive, "?workflow=asked&reason=challenge")) == 4 and x)) == 4
    assert drive.sql("select count(*) from delivery where request::text like %s", "%verify-me-token%") == [(0,)]


def test_a_replay_costs_no_place_under_the_rate_limit_and_can_be_told_only(drive):
    drive.save({"name": "limited", "steps": {"a": {"call": "noop"}}, "triggers": {
        "two": {"webhook": {"signature": {"scheme": "github", "secrets": [SECRET]}, "rate_limit": {"limit": 2, "per": "1h"}}},
        "told": {"webhook": {"signature": {"scheme": "github", "secrets": [SECRET]}, "modes": {"replay": "audit"}}}}})

    def send(body, trigger="two"):
        return hook(drive, trigger, body, signed(body), workflow="limited")
    first = unique()
    accepted(drive, send(first))
    for _ in range(5):
        refused(send(first), 409, "replayed")
    cache = redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"])
    for _ in range(3):
        assert cache.flushall()
        refused(send(first), 409, "replayed")     # it takes a place, and leaves it
    drive.stack("stop", "redis-1")
    for _ in range(5):
        refused(send(first), 409, "replayed")
    second = unique()
    accepted(drive, send(second))
    drive.stack("start", "redis-1")
    drive.read_env()
    refused(send(unique()), 429, "rate_limited")
    assert redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"]).flushall()
    refused(send(first), 409, "replayed")         # also where there is no place left
    told = unique()
    runs = [accepted(drive, send(told, "told"))["id"] for _ in range(3)]
    assert len(set(runs)) == 3
    assert [deliveries(drive, "?run=" + run)[0]["audit"] for run in runs] == [[], ["replay:replayed"], ["replay:replayed"]]


def test_gateways_share_a_rate_limit_as_long_as_there_is_redis(drive):
    rounds = 10
    limits = {**{f"fifty{i}": {"limit": 50, "per": "12h"} for i in range(rounds)}, "five": {"limit": 5, "per": "12h"}, "alone": {"limit": 20, "per": "12h"},
              "quick": {"limit": 2, "per": "500ms"}, "told": {"limit": 1, "per": "12h"}}
    drive.save({"name": "shared", "steps": {"a": {"call": "noop"}}, "triggers": {
        name: {"webhook": {"rate_limit": limit, **({"modes": {"rate_limit": "audit"}} if name == "told" else {})}}
        for name, limit in limits.items()}})

    def send(trigger, url=None):
        return hook(drive, trigger, b"{}", as_json(), workflow="shared", url=url)

    def all_at_once(trigger, count):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda i: send(trigger, drive.urls[i % 2]), range(count)))
        assert {a.status_code for a in answers} <= {202, 429}
        assert all(1 <= int(a.headers["Retry-After"]) <= 12 * 3600 + 1 for a in answers if a.status_code == 429)
        return [a.status_code for a in answers].count(202)

    cache = redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"])
    assert cache.flushall()

    def alone():
        """How often a gateway decided by itself: a machine with much to do has a Redis that is slow."""
        return sum(int(line.split()[1]) for url in drive.urls for line in drive.session.get(url + "/metrics").text.splitlines()
                   if line.startswith("ropewalk_hooks_rate_alone_total "))

    def in_one_round(i):
        before = alone()
        taken = all_at_once(f"fifty{i}", 120) + [send(f"fifty{i}", url).status_code for url in drive.urls].count(202)
        unshared = alone() - before
        assert 50 <= taken <= 50 + unshared
        if unshared:
            time.sleep(0.5)                           # it connects again; the next round has limits of its own
        return unshared == 0
    assert any(in_one_round(i) for i in range(rounds))
    assert [send("five", drive.urls[0]).status_code for _ in range(6)] == [202] * 5 + [429]
    assert cache.flushall()                # Redis knows nothing: a gateway still knows what it took itself
    refused(send("five", drive.urls[0]), 429, "rate_limited")
    runs = [accepted(drive, send("told"))["id"] for _ in range(3)]
    assert [deliveries(drive, "?run=" + run)[0]["audit"] for run in runs] == [[], ["rate_limit:rate_limited"], ["rate_limit:rate_limited"]]
    for _ in range(2):                                # it fills again
        taken = [until("a place", lambda: (a := send("quick", drive.urls[i % 2])).status_code == 202 and a, 5, 0.01) for i in range(4)]
        assert len(taken) == 4
    assert cache.set("rw:rate:1/shared/alone", "what no gateway wrote")
    assert send("alone", drive.urls[0]).status_code == 202
    drive.stack("stop", "redis-1")
    assert all_at_once("alone", 60) == 2 * 20 - 1     # each one for itself
    drive.stack("start", "redis-1")
    drive.read_env()
    refused(send("alone", drive.urls[0]), 429, "rate_limited")


def test_redis_refuses_what_it_knows_to_be_taken(drive):
    def refused_by_redis():
        body = unique()
        accepted(drive, hook(drive, "github", body, signed(body)))
        drive.sql("delete from delivery_nonce")                      # as if PostgreSQL did not know
        return hook(drive, "github", body, signed(body)).status_code == 409
    until("Redis is in use again", refused_by_redis)


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
