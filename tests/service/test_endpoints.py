"""What is told of runs to others: outgoing webhooks as Standard Webhooks has them, read by its own npm package, and events for
the exchange. Nothing is lost and nothing is told under another id, whoever dies."""
import json
import os
import pathlib
import re
import subprocess
import time
import uuid

import pika
import pytest

import drive
from drive import until
from target import Target

TYPES = {"ropewalk.run.started", "ropewalk.run.ended", "ropewalk.step.failed", "ropewalk.step.waiting"}
NOOP = {"a": {"call": "noop"}}
# Types of events that are told, as the history has them.
TOLD = """select r.workflow, e.run_id || '-' || lpad(e.seq::text, 6, '0') from event e join run r on r.id = e.run_id
          where (e.type in (1, 2, 3, 4, 5, 6, 10, 11) or (e.type in (25, 26, 29) and e.step not like '%%]')
                 or (e.type = 22 and e.data ->> 'waits' = 'signal')) and r.workflow = any(%s)"""
VERIFY = """
const { Webhook } = require('standardwebhooks');
const cases = JSON.parse(require('fs').readFileSync(0));
console.log(JSON.stringify(cases.map(c => {
  try { return {event: new Webhook(c.secret).verify(c.body, c.headers)}; } catch (e) { return {error: String(e.message)}; }
})));
"""


def name_of(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def made(api, url=None, status=201, **more):
    answer = api("POST", "/v1/endpoints", {**({"url": url} if url else {}), **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def saved(api, steps=None, **more):
    name = name_of("told")
    answer = api("PUT", f"/v1/workflows/{name}", {"name": name, "steps": steps or NOOP, **more})
    assert answer.status_code == 201, answer.text
    return name


def started(api, name, seconds=10):
    """The run; a gateway that is busy or just dead is asked again."""
    key = uuid.uuid4().hex

    def ask():
        answer = api("POST", f"/v1/workflows/{name}/runs", {}, headers={"Idempotency-Key": key})
        return answer.status_code == 202 and answer.json()["run_id"]
    return until("a start", ask, seconds)


def told(shop, path="/"):
    """The events that came, oldest first."""
    return [{**json.loads(r["body"]), "headers": {k.lower(): v for k, v in r["headers"].items()}, "raw": r["body"]}
            for r in shop.requests(path)]


def delivery(api, endpoint, event):
    return api("GET", f"/v1/endpoints/{endpoint['id']}/deliveries/{event}").json()


@pytest.fixture(scope="module")
def verify():
    """Asks npm's standardwebhooks."""
    folder = pathlib.Path(os.environ.get("ROPEWALK_BUILD_DIR", drive.BUILD)) / "npm-standardwebhooks"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules/standardwebhooks").is_dir():
        try:
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "standardwebhooks@1"],
                           check=True, timeout=200, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("npm could not fetch standardwebhooks")

    def ask(*cases):
        done = subprocess.run(["node", "-e", VERIFY], cwd=folder, input=json.dumps(cases), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    return ask


@pytest.fixture
def shop():
    with Target() as one:
        yield one


def test_what_is_sent_is_genuine_to_the_package_of_the_standard(api, shop, verify):
    name = saved(api)
    endpoint = made(api, shop.url + "/", workflows=[name])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32}", endpoint["secret"])
    run = started(api, name)
    events = until("both events", lambda: len(told(shop)) == 2 and told(shop))
    case = {"secret": endpoint["secret"], "body": events[0]["raw"], "headers": events[0]["headers"]}
    stale = {**case["headers"], "webhook-timestamp": str(int(case["headers"]["webhook-timestamp"]) - 1)}
    good, changed, another, moved = verify(case, {**case, "body": case["body"].replace("1.0", "1.1")},
                                           {**case, "secret": "whsec_" + "A" * 32}, {**case, "headers": stale})
    assert good["event"] == json.loads(events[0]["raw"])
    assert "error" in changed and "error" in another and "error" in moved
    assert events[0]["headers"]["content-type"].startswith("application/cloudevents+json")
    first, last = sorted(events, key=lambda e: e["id"])
    for event in events:
        assert event["specversion"] == "1.0" and event["subject"] == run and event["headers"]["webhook-id"] == event["id"]
        assert event["source"] == f"/organisations/default/workflows/{name}"
        assert event["data"]["run_id"] == run and event["data"]["workflow"] == name and event["data"]["version"] == 1
    assert (first["type"], first["data"]["status"]) == ("ropewalk.run.started", "running")
    assert (last["type"], last["data"]["status"]) == ("ropewalk.run.ended", "succeeded")


def test_failures_and_approvals_are_told_and_nothing_of_what_runs_hold(api, shop):
    planted = uuid.uuid4().hex
    name = saved(api, {"ask": {"call": "wait_signal", "with": {"signal": "approved", "timeout": "1h"}},
                       "bad": {"needs": ["ask"], "call": "transform", "with": {"value": "${ error(\"" + planted + "\") }"}}})
    made(api, shop.url + "/", workflows=[name])
    run = api("POST", f"/v1/workflows/{name}/runs", {"input": {"planted": planted}}).json()["run_id"]
    waiting = until("the approval", lambda: [e for e in told(shop) if e["type"] == "ropewalk.step.waiting"])[0]
    assert waiting["data"]["step"] == "ask" and waiting["data"]["signal"] == "approved" and waiting["data"]["until"]
    assert api("POST", f"/v1/runs/{run}/signals/approved", {"planted": planted}).status_code == 202
    events = until("the end", lambda: len(told(shop)) == 4 and told(shop))
    by_type = {e["type"]: e for e in events}
    assert set(by_type) == TYPES
    failed = by_type["ropewalk.step.failed"]["data"]
    assert failed["step"] == "bad" and failed["status"] == "failed" and failed["error"]["code"] == "expression_failed"
    assert by_type["ropewalk.run.ended"]["data"]["status"] == "failed"
    assert not any(planted in e["raw"] for e in events)


def test_only_what_was_asked_for_is_sent(api, shop):
    one, two = saved(api), saved(api)
    ends = made(api, shop.url + "/ends", types=["ropewalk.run.ended"], workflows=[one, two])
    made(api, shop.url + "/two", workflows=[two])
    off = made(api, shop.url + "/off", workflows=[one, two], enabled=False)
    runs = {started(api, one), started(api, two)}
    until("the ends", lambda: len(told(shop, "/ends")) == 2)
    until("the other's", lambda: len(told(shop, "/two")) == 2)
    assert {e["subject"] for e in told(shop, "/ends")} == runs and {e["type"] for e in told(shop, "/ends")} == {"ropewalk.run.ended"}
    assert {e["data"]["workflow"] for e in told(shop, "/two")} == {two}
    assert told(shop, "/off") == [] and off["disabled_reason"] == "asked"
    assert api("GET", f"/v1/endpoints/{off['id']}/deliveries").json()["items"] == []
    items = until("the log", lambda: (found := api("GET", f"/v1/endpoints/{ends['id']}/deliveries?status=delivered").json()["items"])
                  and len(found) == 2 and found)
    assert all(i["last_attempt"]["status"] == 200 and i["attempts"] == 1 and i["next_at"] is None for i in items)


def test_it_is_sent_again_under_the_same_id_until_it_is_taken(api, shop, verify):
    name = saved(api)
    shop.on("/", {"status": 500, "body": "x" * 3000}, {"status": 302, "headers": {"Location": "/elsewhere"}}, 204)
    endpoint = made(api, shop.url + "/", types=["ropewalk.run.ended"], workflows=[name])
    started(api, name)
    first = until("the first", lambda: told(shop))[0]
    noted = until("a note", lambda: (d := delivery(api, endpoint, first["id"]))["attempt_log"] and d)
    assert noted["status"] == "pending" and noted["attempt_log"][0]["status"] == 500
    assert len(noted["attempt_log"][0]["answer"]) == 1024
    assert api("GET", f"/v1/endpoints/{endpoint['id']}").json()["failing_since"]
    until("the second, 5 s and up to a fifth later", lambda: len(told(shop)) >= 2, 20)
    noted = until("its note", lambda: len((d := delivery(api, endpoint, first["id"]))["attempt_log"]) == 2 and d)
    assert noted["attempt_log"][1]["status"] == 302 and told(shop, "/elsewhere") == [], "a redirect is not followed"
    assert noted["next_at"] > noted["attempt_log"][1]["at"]
    asked = api("POST", f"/v1/endpoints/{endpoint['id']}/deliveries/{first['id']}:redeliver")
    assert asked.status_code == 202 and asked.json()["id"] == first["id"]
    noted = until("it to be taken", lambda: (d := delivery(api, endpoint, first["id"]))["status"] == "delivered" and d)
    events = told(shop)
    assert len(noted["attempt_log"]) == len(events) == 3
    assert {e["headers"]["webhook-id"] for e in events} == {first["id"]} and len({e["raw"] for e in events}) == 1
    assert all("event" in answer for answer in verify(*({"secret": endpoint["secret"], "body": e["raw"], "headers": e["headers"]} for e in events)))
    assert api("GET", f"/v1/endpoints/{endpoint['id']}").json()["failing_since"] is None


def test_retry_after_is_honoured(api, shop):
    name = saved(api)
    shop.on("/", {"status": 429, "headers": {"Retry-After": "3600"}})
    endpoint = made(api, shop.url + "/", types=["ropewalk.run.ended"], workflows=[name])
    started(api, name)
    item = until("a note", lambda: [i for i in api("GET", f"/v1/endpoints/{endpoint['id']}/deliveries").json()["items"] if i["last_attempt"]])[0]
    wait = drive_seconds(item["next_at"]) - drive_seconds(item["last_attempt"]["at"])
    assert 3599 < wait < 3600 * 1.21, item


def drive_seconds(text):
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


def test_who_is_gone_is_sent_nothing_more_until_it_is_enabled(api, shop):
    name = saved(api)
    shop.on("/", 410, 200)
    endpoint = made(api, shop.url + "/", types=["ropewalk.run.ended"], workflows=[name])
    path = f"/v1/endpoints/{endpoint['id']}"
    started(api, name)
    gone = until("it to be disabled", lambda: not (e := api("GET", path).json())["enabled"] and e)
    assert gone["disabled_reason"] == "gone" and gone["disabled_at"]
    [item] = api("GET", path + "/deliveries").json()["items"]
    assert item["status"] == "failed"
    assert api("POST", path + ":test").status_code == 409
    assert api("POST", f"{path}/deliveries/{item['id']}:redeliver").json()["code"] == "endpoint_disabled"
    again = api("PATCH", path, {"enabled": True})
    assert again.status_code == 200 and again.json()["enabled"] and again.json()["disabled_reason"] is None
    assert api("POST", f"{path}/deliveries/{item['id']}:redeliver").status_code == 202
    until("it to be delivered", lambda: delivery(api, endpoint, item["id"])["status"] == "delivered")


def test_both_secrets_sign_while_they_are_exchanged(api, shop, verify):
    endpoint = made(api, shop.url + "/", workflows=[name_of("none")])
    path = f"/v1/endpoints/{endpoint['id']}"

    def sent():
        event = api("POST", path + ":test").json()["id"]
        return until("the test", lambda: next((e for e in told(shop) if e["id"] == event), None))

    def fits(event, *secrets):
        return ["event" in a for a in verify(*({"secret": s, "body": event["raw"], "headers": event["headers"]} for s in secrets))]

    event = sent()
    assert event["type"] == "ropewalk.test" and fits(event, endpoint["secret"]) == [True]
    new = api("POST", path + ":rotate", {"overlap": "1h"})
    assert new.status_code == 200 and new.json()["old_secret_until"] and new.json()["secret"] != endpoint["secret"]
    assert fits(sent(), endpoint["secret"], new.json()["secret"]) == [True, True]
    last = api("POST", path + ":rotate", {"overlap": "0s"}).json()
    assert fits(sent(), endpoint["secret"], new.json()["secret"], last["secret"]) == [False, False, True]
    assert api("POST", path + ":rotate", {"overlap": "8d"}).status_code == 422


def test_a_slow_endpoint_holds_up_no_other(api, shop):
    name = saved(api)
    shop.on("/slow", {"wait": 8})
    slow = made(api, shop.url + "/slow", workflows=[name])
    made(api, shop.url + "/fast", workflows=[name])
    runs = [started(api, name) for _ in range(12)]
    until("the fast one to have all", lambda: len(told(shop, "/fast")) == 24, 6)
    assert {e["subject"] for e in told(shop, "/fast")} == set(runs)
    assert 1 <= len(told(shop, "/slow")) <= 8, "of one endpoint eight at most are on their way"
    assert api("DELETE", f"/v1/endpoints/{slow['id']}").status_code == 204


def test_where_nobody_may_connect_nothing_is_sent(api):
    name = saved(api)
    endpoint = made(api, "http://169.254.169.254/latest/meta-data", types=["ropewalk.run.ended"], workflows=[name])
    started(api, name)
    item = until("a note", lambda: [i for i in api("GET", f"/v1/endpoints/{endpoint['id']}/deliveries").json()["items"] if i["last_attempt"]])[0]
    assert item["status"] == "pending" and item["last_attempt"]["error"] == "connecting to 169.254.169.254 is not allowed"


@pytest.mark.parametrize("body, code, pointer", [
    ({}, "missing_field", "/url"), ({"url": 1}, "wrong_type", "/url"), ({"url": "shop.example"}, "out_of_range", "/url"),
    ({"url": "ftp://shop.example/"}, "out_of_range", "/url"), ({"url": "http:/shop"}, "out_of_range", "/url"), ({"url": "https://a:b@shop.example/"}, "out_of_range", "/url"),
    ({"url": "https://shop.example/#x"}, "out_of_range", "/url"), ({"url": "https://shop.example/" + "x" * 2048}, "out_of_range", "/url"),
    ({"url": "https://shop.example/", "types": []}, "out_of_range", "/types"),
    ({"url": "https://shop.example/", "types": ["ropewalk.run.ended", "x"]}, "out_of_range", "/types/1"),
    ({"url": "https://shop.example/", "workflows": ["A"]}, "out_of_range", "/workflows/0"),
    ({"url": "https://shop.example/", "enabled": 1}, "wrong_type", "/enabled"),
    ({"url": "https://shop.example/", "secret": "x"}, "unknown_field", "/secret"),
    ({"kind": "exchange", "url": "https://shop.example/"}, "unknown_field", "/url"), ({"kind": "mail"}, "out_of_range", "/kind")])
def test_a_bad_endpoint_is_refused(api, body, code, pointer):
    answer = api("POST", "/v1/endpoints", body)
    assert answer.status_code == 422, answer.text
    [fault] = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == (code, pointer)


def test_who_may_and_that_strangers_see_nothing(api, other, stranger, shop, stack):
    endpoint = made(api, shop.url + "/", workflows=[name_of("none")])
    path = f"/v1/endpoints/{endpoint['id']}"
    event = api("POST", path + ":test").json()["id"]
    until("the test", lambda: delivery(other, endpoint, event)["status"] == "delivered")
    for role, make, read, ask in (("viewer", 403, 200, 403), ("trigger", 403, 403, 403), ("operator", 403, 200, 202), ("editor", 201, 200, 202)):
        one = api.as_role(role)
        assert one("POST", "/v1/endpoints", {"url": shop.url, "workflows": [name_of("none")]}).status_code == make, role
        assert one("GET", path).status_code == read and one("GET", path + "/deliveries").status_code == read, role
        assert one("POST", path + ":test").status_code == ask, role
        assert one("POST", path + ":rotate", {}).status_code == (200 if make == 201 else 403), role
    for method, rest, body in (("GET", "", None), ("PATCH", "", {}), ("DELETE", "", None), ("POST", ":rotate", {}), ("POST", ":test", None),
                               ("GET", "/deliveries", None), ("GET", f"/deliveries/{event}", None), ("POST", f"/deliveries/{event}:redeliver", None)):
        assert stranger(method, path + rest, body).status_code == 404, (method, rest)
    assert stranger("GET", "/v1/endpoints").json()["items"] == []
    # the secret is nowhere: not in answers, not among secrets, not in the database, not in logs
    secret = endpoint["secret"]
    assert "secret" not in api("GET", path).json() and not any("#" in s["name"] for s in api("GET", "/v1/secrets?page_size=500").json()["items"])
    assert api("DELETE", "/v1/secrets/" + f"%23{endpoint['id']}").status_code == 404
    assert stack.sql("select count(*) from secret where position(convert_to(%s, 'UTF8') in box) > 0", secret)[0][0] == 0
    assert not any(secret in json.dumps(line) for line in stack.log())
    name, = stack.sql("select name from secret where starts_with(name, '#' || %s)", endpoint["id"])[0]
    assert api("DELETE", "/v1/secrets/" + name.replace("#", "%23")).status_code == 404
    assert api("DELETE", path).status_code == 204
    assert stack.sql("select count(*) from secret where starts_with(name, '#' || %s)", endpoint["id"])[0][0] == 0


def test_an_organisation_has_as_many_as_its_limit_says(stranger, shop):
    for item in stranger("GET", "/v1/endpoints?page_size=500").json()["items"]:
        stranger("DELETE", f"/v1/endpoints/{item['id']}")
    assert stranger("PATCH", f"/v1/organisations/{stranger.organisation}", {"limits": {"endpoints": 2}}).status_code == 200
    one, two = made(stranger, shop.url), made(stranger, kind="exchange")
    assert "secret" not in two
    refused = stranger("POST", "/v1/endpoints", {"url": shop.url})
    assert refused.status_code == 409 and refused.json()["code"] == "too_many_endpoints"
    assert stranger("DELETE", f"/v1/endpoints/{one['id']}").status_code == 204
    assert stranger("POST", "/v1/endpoints", {"kind": "exchange"}).json()["code"] == "exchange_exists"
    made(stranger, shop.url)


def test_secrets_that_endpoints_sign_with_are_sealed_anew_with_the_others(api, shop, verify):
    endpoint = made(api, shop.url + "/", workflows=[name_of("none")])
    while api("POST", "/v1/secrets:rotate", {}).json()["remaining"]:
        pass
    event = api("POST", f"/v1/endpoints/{endpoint['id']}:test").json()["id"]
    came = until("the test", lambda: next((e for e in told(shop) if e["id"] == event), None))
    assert "event" in verify({"secret": endpoint["secret"], "body": came["raw"], "headers": came["headers"]})[0]


# --- the exchange ------------------------------------------------------------------------------------------------------


def test_what_the_broker_has_taken_is_gone_and_what_nobody_wants_waits(api, stack):
    name = saved(api)
    for item in api("GET", "/v1/endpoints?page_size=500").json()["items"]:
        if item["kind"] == "exchange":
            api("DELETE", f"/v1/endpoints/{item['id']}")
    endpoint = made(api, kind="exchange", workflows=[name])
    path = f"/v1/endpoints/{endpoint['id']}"
    with pika.BlockingConnection(pika.URLParameters(stack.env["ROPEWALK_AMQP_URL"])) as connection:
        channel = connection.channel()
        lonely = started(api, name)
        until("the broker to give it back", lambda: [l for l in stack.log("gateway") if l["event"] == "outgoing.no_queue"])
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "ropewalk.run_events", "ropewalk.run.*.default")
        run = started(api, name)

        def take():
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            return method and (method.routing_key, properties, json.loads(body))
        messages = [until("a message", take) for _ in range(2)]
        for key, properties, event in messages:
            assert key == event["type"] + ".default" and properties.message_id == event["id"] and event["subject"] == run
            assert properties.content_type == "application/cloudevents+json" and properties.delivery_mode == 2
        stack.sql("update outgoing set next_at = now() where endpoint = %s and next_at is not null and not held returning 1", endpoint["id"])
        assert {until("what waited", take)[2]["subject"] for _ in range(2)} == {lonely}
        until("no row", lambda: api("GET", path).json()["pending"] == 0)
        assert api("GET", path + "/deliveries").json()["items"] == []
    assert api("DELETE", path).status_code == 204


# --- who dies ----------------------------------------------------------------------------------------------------------


def test_whoever_dies_nothing_is_lost_and_each_event_has_one_id(shop, verify):
    """Gateways and the scheduler are killed while runs go on and webhooks are on their way; the receiver fails, too."""
    with drive.private_stack(gateways=2, schedulers=2, settings={"gateway": {"WEBHOOK_TIMEOUT_MS": 1000}}) as stack:
        from conftest import Api
        one, two = Api(stack.urls[0], stack.key), Api(stack.urls[1], stack.key)
        name = saved(one, {"a": {"call": "noop"}, "b": {"needs": ["a"], "call": "transform", "with": {"value": "${ error }"}, "on_failure": "continue"}})
        shop.on("/", {"wait": 0.2}, 500, {"wait": 3}, {"cut": True}, {"wait": 0.05})
        endpoint = made(one, shop.url + "/", workflows=[name])
        runs = []
        for victim in ("gateway-1", "scheduler-1", "gateway-2", "scheduler-2", "gateway-1"):
            living = two if victim == "gateway-1" else one
            runs += [started(living, name) for _ in range(5)]
            until("something on its way", lambda: len(told(shop)) > 0)
            stack.signal(victim)
            runs += [started(living, name, 30) for _ in range(5)]
            stack.stack("start", victim)
        for run in runs:
            stack.ended(run)
        expected = {event for _, event in stack.sql(TOLD, [name])}
        assert len(expected) == 3 * len(runs)

        def rest():
            stack.sql("update outgoing set next_at = now() where status = 'pending' and not held and next_at > now() returning 1")
            return {e["id"] for e in told(shop)} >= expected
        until("every event", rest, 90, 0.5)
        until("every note", lambda: rest() and stack.sql("select count(*) from outgoing where status <> 'delivered'")[0][0] == 0, 60, 0.5)
        events = told(shop)
        assert {e["id"] for e in events} == expected and all(e["headers"]["webhook-id"] == e["id"] for e in events)
        bodies = {}
        for event in events:
            assert bodies.setdefault(event["id"], event["raw"]) == event["raw"], "the same id, and another body"
        assert all("event" in a for a in verify(*({"secret": endpoint["secret"], "body": e["raw"], "headers": e["headers"]} for e in events)))
        assert stack.sql("select count(*) from outgoing")[0][0] == len(expected), "a row for each event, no more"


def test_what_is_to_be_sent_later_survives_a_restart_and_a_stop_gives_back_what_is_on_its_way(shop):
    with drive.private_stack(gateways=1) as stack:
        from conftest import Api
        api = Api(stack.url, stack.key)
        name = saved(api)
        shop.on("/", 503, {"wait": 12}, 200)
        endpoint = made(api, shop.url + "/", types=["ropewalk.run.ended"], workflows=[name])
        started(api, name)
        first = until("the first", lambda: told(shop))[0]
        until("its note", lambda: delivery(api, endpoint, first["id"])["attempt_log"])
        stack.stack("stop", "gateway-1")
        stack.stack("start", "gateway-1")
        until("the second", lambda: len(told(shop)) == 2, 20)
        stack.stack("stop", "gateway-1")              # it waits for no slow answer
        assert stack.sql("select held, next_at <= now() from outgoing")[0] == (False, True)
        stack.stack("start", "gateway-1")
        until("the third, at once", lambda: len(told(shop)) == 3, 10)
        assert {e["id"] for e in told(shop)} == {first["id"]}
        until("its end", lambda: delivery(api, endpoint, first["id"])["status"] == "delivered")


def test_nobody_asks_who_is_told_while_nobody_is(shop):
    """Without an endpoint a batch has not one statement more."""
    with drive.private_stack(gateways=1, settings={}) as stack:
        from conftest import Api
        api = Api(stack.url, stack.key)
        name = saved(api)
        for _ in range(3):
            stack.ended(started(api, name))
        assert stack.sql("select outgoing from organisation where id = 1")[0][0] == 0
        assert stack.sql("select n_tup_ins from pg_stat_user_tables where relname = 'outgoing'")[0][0] == 0
        endpoint = made(api, shop.url + "/")
        assert stack.sql("select outgoing from organisation where id = 1")[0][0] == 1
        run = started(api, name)
        until("both", lambda: len(told(shop)) == 2)
        assert {e["subject"] for e in told(shop)} == {run}, "a run that starts behind the endpoint is told from its beginning"
        assert api("DELETE", f"/v1/endpoints/{endpoint['id']}").status_code == 204
        assert stack.sql("select outgoing from organisation where id = 1")[0][0] == 2
