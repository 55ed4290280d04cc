"""Secrets in runs: resolved by the worker where the document refers to them, and found nowhere else."""
import base64
import contextlib
import json
import subprocess
import urllib.parse
import uuid

import pika
import pytest
import redis

import drive
import target

PG_DUMP = "/usr/lib/postgresql/15/bin/pg_dump"


@pytest.fixture
def shop():
    with target.Target() as one:
        yield one


def put(api, value, name=None):
    name = name or f"s_{uuid.uuid4().hex[:8]}"
    answer = api("PUT", f"/v1/secrets/{name}", {"value": value})
    assert answer.status_code in (200, 201), answer.text
    return name


def flow(steps, **more):
    return {"name": "secret-" + uuid.uuid4().hex[:8], "steps": steps, **more}


def call(url, name, **more):
    return {"call": "http", "with": {"method": "POST", "url": url, "headers": {"Authorization": "${ .secrets.%s }" % name, "X-Plain": "plain"},
                                     **more}}


def run(stack, document, value=None):
    stack.save(document)
    return stack.ended(stack.start(document["name"], value))


def everything_stored(stack):
    """All that PostgreSQL, Redis and the logs hold, as bytes."""
    dump = subprocess.run([PG_DUMP, "--data-only", "--inserts", stack.env["ROPEWALK_ADMIN_PG_URL"]], capture_output=True, check=True).stdout
    cache = redis.Redis.from_url(stack.env["ROPEWALK_REDIS_URL"])
    for key in cache.keys("*"):
        dump += key + b"\n" + (cache.dump(key) or b"")
        if cache.type(key) == b"string":
            dump += cache.get(key) or b""
    for path in (stack.dir / "log").iterdir():
        dump += path.read_bytes()
    return dump


def forms(value):
    """The ways in which it must not be found."""
    raw = value.encode()
    return {raw, base64.b64encode(raw), raw.hex().encode(), urllib.parse.quote(value, safe="").encode()}


def test_a_reference_is_resolved_where_it_stands_and_what_echoes_it_is_masked(stack, api, shop):
    value = "planted-" + uuid.uuid4().hex + '/"+'
    name = put(api, "Bearer " + value)
    shop.on("/ok", {"status": 200, "headers": {"X-Echo": value},
                    "body": {"said": value, "in": ["<" + value + ">"], "again": base64.b64encode(b"a:" + value.encode()).decode()}})
    shop.on("/bad", {"status": 400, "body": "you sent Bearer " + value})
    document = flow({"good": {**call(shop.url + "/ok", name)}, "bad": {**call(shop.url + "/bad", name), "on_failure": "continue"},
                     "read": {"needs": ["good"], "call": "transform", "with": {"value": "${ .steps.good.output.body.said }"}}},
                    output="${ .steps.good.output }")
    ended = run(stack, document)
    sent = [request for request in shop.seen if request["path"] in ("/ok", "/bad")]
    assert len(sent) == 2 and all(request["headers"]["Authorization"] == "Bearer " + value for request in sent), sent
    assert ended["steps"]["good"]["status"] == "succeeded", ended
    assert ended["steps"]["good"]["input"]["headers"]["Authorization"] == "${ .secrets.%s }" % name
    assert ended["steps"]["good"]["output"]["body"]["said"] == "********"
    assert ended["steps"]["read"]["output"] == "********"
    assert ended["steps"]["bad"]["error"]["code"] == "http_400"
    stored = everything_stored(stack)
    for form in forms(value) | forms("Bearer " + value):
        assert form not in stored, form
    assert value not in json.dumps(ended)
    item = next(one for one in api("GET", "/v1/secrets?page_size=500").json()["items"] if one["name"] == name)
    assert {use["pointer"] for use in item["used_by"] if use["workflow"] == document["name"]} == {
        "/steps/good/with/headers/Authorization", "/steps/bad/with/headers/Authorization"}
    assert item["last_used_at"] is not None


def test_the_broker_sees_sealed_values_only(stack, api, shop):
    value = "planted-" + uuid.uuid4().hex
    name = put(api, value)
    document = flow({"a": {**call(shop.url + "/pool", name), "pool": "nobody-" + uuid.uuid4().hex[:6]}})
    stack.save(document)
    run_id = stack.start(document["name"])
    queue = f"ropewalk.task.{document['steps']['a']['pool']}.normal"
    connection = pika.BlockingConnection(pika.URLParameters(stack.env["ROPEWALK_AMQP_URL"]))

    def look():
        channel = connection.channel()  # the broker closes it while there is no such queue
        try:
            return channel.basic_get(queue, auto_ack=True)[2]
        except pika.exceptions.ChannelClosedByBroker:
            return None

    body = drive.until("the task is in its queue", look)
    connection.close()
    task = json.loads(body)
    assert [(one["pointer"], one["name"]) for one in task["secrets"]] == [("/headers/Authorization", name)]
    assert task["secrets"][0]["sealed"].startswith("rws1:")
    assert task["with"]["headers"]["Authorization"] == "${ .secrets.%s }" % name
    for form in forms(value):
        assert form not in body
    stack.ask("POST", f"/v1/runs/{run_id}:cancel")


def test_a_secret_that_is_not_there_fails_the_step_for_good_and_says_what_to_do(stack, api, shop):
    document = flow({"a": call(shop.url + "/never", "nobody_wrote_it")})
    ended = run(stack, document)
    error = ended["steps"]["a"]["error"]
    assert error["code"] == "secret_not_found" and error["class"] == "permanent", error
    assert "ropewalk secret set nobody_wrote_it" in error["message"]
    assert not [request for request in shop.seen if request["path"] == "/never"]
    put(api, "written-now", "nobody_wrote_it")
    stack.ask("POST", f"/v1/runs/{ended['id']}:retry", {})
    assert stack.ended(ended["id"])["status"] == "succeeded"
    assert shop.seen[-1]["headers"]["Authorization"] == "written-now"


def test_a_new_value_is_used_by_the_next_attempt(stack, api, shop):
    name = put(api, "first-value")
    document = flow({"a": call(shop.url + "/v", name)})
    run(stack, document)
    put(api, "second-value", name)
    run(stack, document)
    assert [request["headers"]["Authorization"] for request in shop.seen] == ["first-value", "second-value"]


def test_what_only_looks_like_a_reference_is_none(stack, api, shop):
    """Whoever may start a run must not get at secrets by what the input says."""
    name = put(api, "not-for-you")
    document = flow({"a": {"call": "http", "with": {"method": "POST", "url": shop.url + "/x", "body": "${ .input }",
                                                    "headers": {"X-Copy": "<${ .input.text }>", "Authorization": "${ .secrets.%s }" % name}}}})
    ended = run(stack, document, {"text": "${ .secrets.%s }" % name, "again": "${ .secrets.%s }" % name})
    assert ended["status"] == "succeeded", ended
    assert shop.seen[-1]["headers"]["X-Copy"] == "<${ .secrets.%s }>" % name
    assert shop.seen[-1]["headers"]["Authorization"] == "not-for-you"
    assert "not-for-you" not in shop.seen[-1]["body"]


@pytest.mark.parametrize("step, pointer", [
    ({"call": "http", "with": {"url": "${ .secrets.a }"}}, "/steps/s/with/url"),
    ({"call": "http", "with": {"url": "http://x", "body": {"k": "${ .secrets.a }"}}}, "/steps/s/with/body/k"),
    ({"call": "http", "with": {"url": "http://x", "query": {"k": "${ .secrets.a }"}}}, "/steps/s/with/query/k"),
    ({"call": "http", "with": {"url": "http://x", "headers": "${ .secrets.a }"}}, "/steps/s/with/headers"),
    ({"call": "http", "with": {"url": "http://x", "headers": {"A": "Bearer ${ .secrets.a }"}}}, "/steps/s/with/headers/A"),
    ({"call": "http", "with": {"url": "http://x", "headers": {"A": "${ .secrets[\"a-b\"] }"}}}, "/steps/s/with/headers/A"),
    ({"call": "transform", "with": {"value": "${ .secrets.a }"}}, "/steps/s/with/value"),
    ({"call": "noop", "when": "${ .secrets.a }"}, "/steps/s/when")])
def test_elsewhere_a_reference_is_refused_at_its_pointer(stack, step, pointer):
    document = flow({"s": step})
    answer = stack.call("PUT", "/v1/workflows/" + document["name"], document)
    assert answer.status_code == 422, answer.text
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}, answer.text


def test_polls_compensations_and_loops_resolve_them_too(stack, api, shop):
    name = put(api, "everywhere-1")
    header = {"headers": {"X-Key": "${ .secrets.%s }" % name}}
    document = flow({
        "p": {"call": "poll", "with": {"call": "http", "with": {"url": shop.url + "/poll", **header}, "until": "${ true }", "interval": "100ms"},
              "compensate": {"call": "http", "with": {"url": shop.url + "/undo", **header}}},
        "e": {"needs": ["p"], "call": "foreach", "with": {"items": [1, 2], "steps": {"i": {"call": "http", "with": {"url": shop.url + "/item", **header}}}}},
        "f": {"needs": ["e"], "call": "condition", "with": {"if": "${ 1 }"}}})
    stack.save(document)
    run_id = stack.start(document["name"])
    stack.ended(run_id)
    stack.ask("POST", f"/v1/runs/{run_id}:compensate", {})
    drive.until("it is undone", lambda: [one for one in shop.seen if one["path"] == "/undo"])
    assert sorted(one["path"] for one in shop.seen) == ["/item", "/item", "/poll", "/undo"]
    assert {one["headers"]["X-Key"] for one in shop.seen} == {"everywhere-1"}
    stack.ended(run_id)


def ropewalk(stack, *words, text=None):
    return subprocess.run([str(drive.BUILD / "bin/ropewalk"), *words], input=text, capture_output=True, text=True, env=stack.env, timeout=60)


def test_the_command_line_takes_the_value_from_standard_input_only(stack, api, shop):
    name, value = f"cli_{uuid.uuid4().hex[:8]}", "planted-" + uuid.uuid4().hex
    done = ropewalk(stack, "secret", "set", name, text=value + "\n")
    assert done.returncode == 0 and done.stdout == f"{name} version 1\n", done
    run(stack, flow({"a": call(shop.url + "/cli", name)}))
    assert shop.seen[-1]["headers"]["Authorization"] == value
    listed = ropewalk(stack, "secret", "list", "--limit", "500")     # others on this stack have some, too
    assert name in listed.stdout and value not in listed.stdout
    assert ropewalk(stack, "secret", "set", name, value).returncode == 2
    assert ropewalk(stack, "secret", "set", name, text="").returncode == 2
    assert ropewalk(stack, "secret", "set", name, text="x" * 65537).returncode == 2
    assert ropewalk(stack, "secret", "set", "a-b", text=value).returncode == 3
    assert ropewalk(stack, "secret", "delete", name).returncode == 0
    assert ropewalk(stack, "secret", "delete", name).returncode == 3


def test_a_rotation_whose_gateways_are_killed_is_finished_by_the_next(stack, api, shop):
    values = {f"kill_{i}_{uuid.uuid4().hex[:6]}": "planted-" + uuid.uuid4().hex for i in range(220)}
    for name, value in values.items():
        put(api, value, name)
    for turn in range(4):
        rotation = subprocess.Popen([str(drive.BUILD / "bin/ropewalk"), "secret", "rotate"], env=stack.env, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            rotation.wait(0.02 * turn)
        stack.signal("gateway-1")
        rotation.wait(60)
        stack.stack("start", "gateway-1")
    done = ropewalk(stack, "secret", "rotate")
    assert done.returncode == 0, done
    assert len(stack.sql("select distinct key_version from secret where organisation = 1 and name = any(%s)", list(values))) == 1
    assert len(stack.sql("select version from data_key where organisation = 1")) == 1
    # every one of them still opens
    steps = {f"s{i}": {"call": "http", "with": {"url": shop.url + "/kept", "headers": {"X-Key": "${ .secrets.%s }" % name}}}
             for i, name in enumerate(values)}
    assert run(stack, flow(steps))["status"] == "succeeded"
    assert {request["headers"]["X-Key"] for request in shop.requests("/kept")} == set(values.values())


def test_a_literal_secret_is_saved_with_a_warning(stack):
    document = flow({"a": {"call": "http", "with": {"url": "http://x", "headers": {"Authorization": "Bearer abc"}}}})
    saved = stack.save(document)
    assert [(one["code"], one["pointer"]) for one in saved["warnings"]] == [("secret_in_document", "/steps/a/with/headers/Authorization")]


def test_without_a_master_key_secrets_are_refused_and_everything_else_works(shop):
    with drive.private_stack(settings={kind: {"MASTER_KEY_FILE": ""} for kind in ("gateway", "worker")}) as bare:
        answer = bare.call("PUT", "/v1/secrets/x", {"value": "planted"})
        assert answer.status_code == 422 and answer.json()["code"] == "secrets_not_configured", answer.text
        assert bare.call("POST", "/v1/secrets:rotate", {}).json()["code"] == "secrets_not_configured"
        assert bare.ask("GET", "/v1/secrets")["items"] == []
        assert run(bare, flow({"a": {"call": "http", "with": {"url": shop.url + "/plain"}}}))["status"] == "succeeded"
