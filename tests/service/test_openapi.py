"""What the gateway answers is what /openapi.json says: every operation that is there is asked, every answer is held
against the schema of its status, and has no member that the schema does not name."""
import re
import time
import uuid

import jsonschema
import pika

import drive
import target

DOCUMENT = {"name": "", "steps": {"a": {"call": "noop"}, "b": {"call": "condition", "needs": ["a"], "with": {"if": "${ true }"}},
                                  "c": {"call": "noop", "needs": {"b": ["false"]}}, "d": {"call": "transform", "needs": ["a"], "with": {"value": [0.10]}}},
            "output": "${ .steps.d.output }"}


class Described:
    """The API through its description."""

    def __init__(self, api):
        self.api = api
        self.description = api("GET", "/openapi.json").json()
        self.asked = set()

    def resolve(self, schema):
        while "$ref" in schema:
            at = self.description
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def operation(self, method, path):
        for pattern, item in self.description["paths"].items():
            shape = re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(pattern))
            if method.lower() in item and re.fullmatch(shape, path.split("?")[0]):
                return pattern, item[method.lower()]
        raise AssertionError(f"{method} {path} is not described")

    def strangers(self, schema, value, where=""):
        """Members that the schema does not name, where it names any."""
        schema = self.resolve(schema)
        if schema.get("$id"):
            return  # the document's own schema is closed already
        if isinstance(value, dict) and "properties" in schema and schema.get("additionalProperties", False) is False:
            for key in value:
                if key not in schema["properties"]:
                    yield f"{where}/{key}"
        if isinstance(value, dict):
            for key, member in value.items():
                below = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
                if isinstance(below, dict):
                    yield from self.strangers(below, member, f"{where}/{key}")
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                yield from self.strangers(schema["items"], item, f"{where}/{index}")

    def __call__(self, method, path, value=None, status=None, headers=None):
        pattern, operation = self.operation(method, path)
        answer = self.api(method, path, value, headers=headers)
        assert status is None or answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        described = self.resolve(operation["responses"].get(str(answer.status_code), operation["responses"]["default"]))
        kind = answer.headers.get("Content-Type", "").split(";")[0]
        if "content" not in described:
            assert answer.content == b""
            return None
        assert kind in described["content"], f"{method} {path}: {kind}, described: {list(described['content'])}"
        if status is not None and status < 300:
            self.asked.add((method, pattern))
        if "json" not in kind:
            return answer.text
        body = answer.json()
        schema = described["content"][kind]["schema"]
        full = {**schema, "components": self.description["components"]}
        errors = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in jsonschema.Draft202012Validator(full).iter_errors(body)]
        assert not errors, f"{method} {path}: {errors}"
        unnamed = list(self.strangers(schema, body))
        assert not unnamed, f"{method} {path}: not described: {unnamed}"
        return body


def evented(ask, name):
    ask("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"a": {"call": "noop"}}, "triggers": {
        "t": {"event": {"type": name}}, "bad": {"event": {"type": name, "filter": "${ .event.data }"}}}}, 201)
    event = {"specversion": "1.0", "id": "1", "source": "/described", "type": name}
    taken = ask("POST", "/v1/events", event, 202)
    assert [sorted(one) for one in taken["starts"]] == [["run_id", "trigger", "workflow"], ["code", "message", "trigger", "workflow"]]
    batch = ask("POST", "/v1/events", [event, {**event, "id": "2"}], 202, {"Content-Type": "application/cloudevents-batch+json"})
    assert batch["items"][0] == taken and len(batch["items"]) == 2
    ask("POST", "/v1/events", {**event, "source": "a b"}, 422)
    listed = ask("GET", f"/v1/events?type={name}", status=200)["items"]
    assert len(listed) == 2
    ask("GET", f"/v1/events/{listed[0]['number']}", status=200)
    ask("GET", "/v1/events/0", status=404)
    ask("GET", f"/v1/events:tail?after=0-0&type={name}", status=200)
    for one in batch["items"]:
        ended(ask, one["starts"][0]["run_id"])


def ended(ask, run_id):
    for _ in range(400):
        run = ask("GET", f"/v1/runs/{run_id}", status=200)
        if run["ended_at"]:
            return run
        time.sleep(0.05)
    raise AssertionError("the run has not ended within 20 s")


def language(ask, name):
    """A run that has everything: a loop, a child, signals, an outcome that is settled, compensation, a notification."""
    flow = f"/v1/workflows/{name}"
    noop = {"call": "noop"}
    bad = {"call": "http", "retry": {"max_attempts": 1}, "with": {"url": "http://127.0.0.1:1/"}}
    ask("PUT", flow + "-child", {"name": name + "-child", "steps": {"w": {"call": "wait_signal", "with": {"signal": "go"}}}}, 201)
    saved = ask("PUT", flow + "-parent", {"name": name + "-parent", "on_failure_notify": noop, "steps": {
        "a": {**noop, "compensate": noop},
        "each": {"call": "foreach", "needs": ["a"], "with": {"items": [1, 0], "on_item_failure": "continue", "steps": {
            "go": {"call": "transform", "with": {"value": "${ 1 / .item }"}}}}},
        "kid": {"call": "workflow", "needs": ["each"], "with": {"name": name + "-child"}},
        "big": {"call": "wait_signal", "needs": ["each"], "with": {"signal": "big"}},
        "bad": {**bad, "needs": ["kid", "big"]}}}, 201)
    assert saved["warnings"] == []
    unknown = ask("POST", "/v1/workflows:validate", {"name": "x", "steps": {"k": {"call": "workflow", "with": {"name": "not-there"}}}}, 200)
    assert unknown["warnings"]
    run_id = ask("POST", flow + "-parent/runs", {}, 202)["run_id"]
    at = f"/v1/runs/{run_id}"
    for _ in range(400):
        run = ask("GET", at, status=200)
        if run["steps"]["kid"]["status"] == "waiting":
            break
        time.sleep(0.05)
    ask("GET", at + "/explain", status=200)
    ask("GET", at + "/steps?parent=each", status=200)
    ask("GET", at + "/steps?parent=each[0]", status=200)
    ask("GET", at + "/steps/each/attempts/1/output", status=200)
    child = ask("GET", f"/v1/runs?parent={run_id}", status=200)["items"][0]["id"]
    ask("GET", "/v1/runs/" + child, status=200)
    ask("POST", at + ":compensate", status=409)
    ask("POST", at + "/steps/a:settle", {"as": "succeeded"}, 409)
    ask("POST", at + "/steps/a:settle", {"as": "done"}, 422)
    ask("POST", at + "/signals/big", "x" * 5000, 202, headers={"Idempotency-Key": "described" + run_id})
    ask("POST", at + "/signals/big", "y", 422, headers={"Idempotency-Key": "described" + run_id})
    ask("POST", f"/v1/runs/{child}/signals/go", None, 202)
    events = ask("GET", at + "/events?page_size=500", status=200)["items"]
    ask("GET", f"{at}/events/{events[-1]['seq']}/output", status=200)
    run = ended(ask, run_id)
    assert run["status"] == "compensated" and run["steps"]["a"]["compensation"]["status"] == "succeeded"
    ask("POST", at + ":compensate", status=200)
    ask("POST", at + "/signals/late", 1, 409)
    ask("GET", flow + "-parent/versions/1?diff=1", status=200)


def told(ask, name):
    """Endpoints, and what they are told."""
    with target.Target() as shop:
        endpoint = ask("POST", "/v1/endpoints", {"url": shop.url + "/", "types": ["ropewalk.run.ended"], "workflows": [name]}, 201)
        path = "/v1/endpoints/" + endpoint["id"]
        ask("POST", "/v1/endpoints", {"url": "x"}, 422)
        ask("GET", "/v1/endpoints?page_size=500", status=200)
        ask("GET", path, status=200)
        ask("PATCH", path, {"description": "for the shop"}, 200)
        ask("POST", path + ":rotate", {"overlap": "1m"}, 200)
        event = ask("POST", path + ":test", status=202)["id"]
        drive.until("the test", lambda: ask("GET", f"{path}/deliveries/{event}", status=200)["status"] == "delivered")
        ask("GET", path + "/deliveries?status=delivered&type=ropewalk.test", status=200)
        ask("GET", path + "/deliveries?status=lost", status=400)
        ask("POST", f"{path}/deliveries/{event}:redeliver", status=202)
        ask("DELETE", path, status=204)
        ask("DELETE", path, status=404)
        made = ask("POST", "/v1/endpoints", {"kind": "exchange", "enabled": False}, 201)
        ask("POST", f"/v1/endpoints/{made['id']}:rotate", {}, 409)
        ask("DELETE", "/v1/endpoints/" + made["id"], status=204)


def scheduled(ask, name):
    ask("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"a": {"call": "noop"}}, "triggers": {
        "nightly": {"cron": {"expression": "0 2 * * *", "timezone": "Europe/Berlin"}}}}, 201)
    [schedule] = ask("GET", "/v1/schedules?workflow=" + name, status=200)["items"]
    path = "/v1/schedules/" + schedule["id"]
    ask("GET", path + "/preview?n=3", status=200)
    ask("GET", path + "/preview?n=0", status=400)
    ask("PATCH", path, {"override": {"every": "1h"}}, 200)
    ask("PATCH", path, {"override": {"every": "1x"}}, 422)
    for verb in ("pause", "resume"):
        ask("POST", f"{path}:{verb}", status=200)
    run = ask("POST", path + ":trigger", status=202)["run_id"]
    ask("GET", "/v1/runs/" + run, status=200)


def settled(ask, api, name):
    """The outcome of an attempt of which nobody knows what became."""
    with target.Target() as world:
        ask("PUT", f"/v1/workflows/{name}-held", {"name": name + "-held", "steps": {"once": {
            "call": "http", "delivery": "at_most_once", "on_unknown": "wait",
            "with": {"method": "POST", "url": world.on("/cut", {"cut": True})}}}}, 201)
        run_id = ask("POST", f"/v1/workflows/{name}-held/runs", {}, 202)["run_id"]
        for _ in range(400):
            if api("GET", f"/v1/runs/{run_id}").json()["steps"]["once"]["status"] == "waiting":
                break
            time.sleep(0.05)
        ask("GET", f"/v1/runs/{run_id}", status=200)
        ask("POST", f"/v1/runs/{run_id}/steps/once:settle", {"as": "succeeded", "output": 1}, 200)
    assert ended(ask, run_id)["status"] == "succeeded"


def letters(ask, stack, run_id):
    """Two messages that nobody can read: one is put away, one sent again for a run that has ended, where it changes nothing."""
    known = {letter["id"] for letter in ask("GET", "/v1/dead-letters?page_size=500", status=200)["items"]}
    with pika.BlockingConnection(pika.URLParameters(stack.env["ROPEWALK_AMQP_URL"])) as connection:
        for body in (b"neither", b"nor"):
            connection.channel().basic_publish("", "ropewalk.inbox.0", body, pika.BasicProperties(type="result", delivery_mode=2))
    away, again = drive.until("two dead letters", lambda: len(new := [
        letter["id"] for letter in ask("GET", "/v1/dead-letters?status=open", status=200)["items"] if letter["id"] not in known]) == 2 and new)
    result = {"v": 1, "task_id": f"{run_id}/a/1/1", "token": "0" * 64, "worker": "w", "status": "succeeded",
              "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"}
    ask("GET", "/v1/dead-letters/" + away, status=200)
    ask("POST", f"/v1/dead-letters/{away}:discard", status=200)
    ask("POST", f"/v1/dead-letters/{away}:requeue", result, 409)
    ask("POST", f"/v1/dead-letters/{again}:requeue", {"v": 1}, 422)
    ask("POST", f"/v1/dead-letters/{again}:requeue", result, 200)
    ask("GET", f"/v1/dead-letters/{uuid.uuid4()}", status=404)


def test_every_answer_is_as_described(stack, api):
    ask = Described(api)
    name = "described-" + uuid.uuid4().hex[:8]
    document = {**DOCUMENT, "name": name}
    flow = f"/v1/workflows/{name}"

    ask("PUT", flow, document, 201)
    ask("PUT", flow, document, 200)
    ask("PUT", flow, {"name": "other"}, 422)
    ask("GET", flow, status=200)
    ask("GET", "/v1/workflows/no-such-thing", status=404)
    ask("GET", "/v1/workflows?page_size=1", status=200)
    ask("GET", "/v1/workflows?colour=red", status=400)
    ask("POST", "/v1/workflows:validate", document, 200)
    ask("POST", "/v1/workflows:validate", {"name": "X", "steps": {"a": {"call": "noop", "needs": ["b"]}}}, 200)
    ask("POST", flow + ":disable", status=200)
    ask("POST", flow + "/runs", {}, 409)
    ask("POST", flow + ":enable", status=200)
    ask("PUT", flow, {**document, "description": "another version"}, 200)
    ask("POST", flow + ":rollback", {"version": 1}, 200)
    ask("GET", flow + "/versions", status=200)
    assert ask("GET", flow + "/versions/1", status=200) == document
    ask("GET", flow + "/mermaid", status=200)

    run_id = ask("POST", flow + "/runs", {"input": {"n": 1}, "labels": {"l": "x"}}, 202)["run_id"]
    run = ended(ask, run_id)
    assert run["status"] == "succeeded" and run["steps"]["c"]["status"] == "skipped"
    ask("POST", flow + "/runs?wait=20s", {}, 200)
    ask("GET", f"/v1/runs?workflow={name}&label.l=x", status=200)
    for part in ("/input", "/output", "/steps", "/events", "/explain", "/steps/d/attempts/1/output"):
        ask("GET", f"/v1/runs/{run_id}{part}", status=200)
    ask("POST", f"/v1/runs/{run_id}:cancel", status=409)
    ask("POST", f"/v1/runs/{run_id}:retry", status=409)
    ask("POST", f"/v1/runs/{run_id}:release", status=409)

    ask("PUT", flow + "-waits", {"name": name + "-waits", "steps": {"w": {"call": "delay", "with": {"duration": "1h"}}}}, 201)
    waiting = ask("POST", flow + "-waits/runs", {}, 202)["run_id"]
    ask("GET", f"/v1/runs/{waiting}/explain", status=200)
    ask("GET", "/v1/stats", status=200)
    ask("GET", "/v1/workers", status=200)
    verdict = ask("POST", f"/v1/runs/{waiting}:cancel", status=200)
    again = ask("POST", flow + "-waits/runs", {}, 202)["run_id"]
    drive.until("it waits", lambda: ask("GET", "/v1/runs/" + again, status=200)["status"] == "waiting")
    for verb in ("pause", "resume", "cancel", "retry"):
        ask("POST", f"/v1/runs/{again}:{verb}", status=200)
    for verb in ("cancel", "pause", "resume", "retry"):
        matching = {"filter": {"workflow": flow.rsplit("/", 1)[1], "status": "succeeded"}}
        ask("POST", f"/v1/runs:{verb}", {**matching, "dry_run": True}, 200)
        operation = ask("POST", f"/v1/runs:{verb}", matching, 202)
        drive.until("its end", lambda: ask("GET", "/v1/operations/" + operation["id"], status=200)["status"] == "done")
    matching = {"filter": {"workflow": name + "-waits", "status": "cancelled", "label.none": "such"}}
    ask("POST", "/v1/runs:rerun", {**matching, "dry_run": True}, 200)
    operation = ask("POST", "/v1/runs:rerun", {**matching, "from": "w", "confirm": ["w"], "outputs": {}, "input": {}}, 202)
    drive.until("its end", lambda: ask("GET", "/v1/operations/" + operation["id"], status=200)["status"] == "done")
    assert ask("GET", "/v1/operations/" + operation["id"], status=200)["new_runs"] == []
    assert ask("POST", "/v1/operations/" + operation["id"] + ":cancel", status=200)["status"] == "done"  # there is nothing left of it
    ask("GET", f"/v1/runs/{waiting}/commands/{verdict['command']}", status=200)
    assert ended(ask, waiting)["status"] == "cancelled"
    ask("POST", f"/v1/runs/{waiting}:rerun?plan=true", {"from": "w"}, 200)
    again = ask("POST", f"/v1/runs/{waiting}:rerun", {}, 202, headers={"Idempotency-Key": "described" + waiting})["run_id"]
    ask("GET", f"/v1/runs/{again}", status=200)
    ask("POST", f"/v1/runs/{again}:cancel", status=200)
    ask("POST", f"/v1/runs/{waiting}:rerun", {"from": "nope"}, 422)
    ask("POST", f"/v1/runs/{waiting}:retry?plan=true", status=200)
    ask("POST", f"/v1/runs/{waiting}:retry", {"confirm": []}, 200)
    ask("POST", f"/v1/runs/{waiting}:cancel", status=200)
    ask("POST", f"/v1/runs/{run_id}:retry", status=409)
    ask("DELETE", flow + "-waits", status=204)

    language(ask, name)
    settled(ask, api, name)

    scheduled(ask, name + "-timed")
    told(ask, name + "-told")

    key = ask("POST", "/v1/api-keys", {"name": "described", "role": "viewer"}, 201)
    ask("GET", "/v1/api-keys", status=200)
    ask("GET", f"/v1/api-keys/{key['id']}", status=200)
    ask("DELETE", f"/v1/api-keys/{key['id']}", status=204)
    ask("POST", "/v1/organisations", {"name": "described-" + uuid.uuid4().hex[:8]}, 201)
    ask("GET", "/v1/organisations/default", status=200)
    ask("PATCH", "/v1/organisations/default", {"limits": {"steps": 400, "depth": None}}, 200)
    ask("PATCH", "/v1/organisations/default", {"limits": {"steps": None}, "weight": 2}, 200)
    ask("PATCH", "/v1/organisations/default", {"weight": 1}, 200)
    ask("PUT", "/v1/secrets/described", {"value": "described"}, 201)
    ask("PUT", "/v1/secrets/described", {"value": "described again"}, 200)
    ask("GET", "/v1/secrets", status=200)
    ask("POST", "/v1/secrets:rotate", {}, 200)
    ask("POST", "/v1/secrets:rewrap", {}, 200)
    ask("DELETE", "/v1/secrets/described", status=204)
    ask("PUT", flow + "-hooked", {"name": name + "-hooked", "steps": {"a": {"call": "noop"}},
                                     "triggers": {"t": {"webhook": {"verify_token": "described"}}}}, 201)
    ask("GET", f"/hooks/default/{name}-hooked/t?hub.challenge=x&hub.verify_token=described", status=200)
    ask("GET", f"/hooks/default/{name}-hooked/t", status=401)
    ended(ask, ask("POST", f"/hooks/default/{name}-hooked/t", {"x": 1}, 202)["run_id"])
    ask("POST", f"/hooks/default/{name}-hooked/not-there", {}, 404)
    taken = drive.until("its line", lambda: ask("GET", f"/v1/deliveries?workflow={name}-hooked&status=202", status=200)["items"])[0]
    ask("GET", "/v1/deliveries/" + taken["id"], status=200)
    ask("GET", f"/v1/deliveries/{uuid.uuid4()}", status=404)
    ask("GET", f"/v1/deliveries:count?workflow={name}-hooked", status=200)
    ask("POST", f"/v1/deliveries/{taken['id']}:redeliver", status=202)
    ask("DELETE", flow + "-hooked", status=204)
    evented(ask, name + "-evented")
    letters(ask, stack, run_id)
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        ask("GET", path, status=200)

    left = [f"{method.upper()} {pattern}" for pattern, item in ask.description["paths"].items() for method, operation in item.items()
            if not operation.get("x-not-available") and (method.upper(), pattern) not in ask.asked]
    # A quarantined run takes a scheduler that died of it twice, and a deletion has no body to check.
    assert set(left) <= {"POST /v1/runs/{id}:release", "DELETE /v1/workflows/{name}", "DELETE /v1/api-keys/{id}",
                         "DELETE /v1/secrets/{name}", "DELETE /v1/endpoints/{id}"}, left


def test_the_schema_of_documents_is_part_of_it(api):
    schema = api("GET", "/openapi.json").json()["components"]["schemas"]["WorkflowDocument"]
    assert schema["$id"].endswith("workflow.v1.json")
    jsonschema.Draft202012Validator(schema).validate({**DOCUMENT, "name": "x"})
