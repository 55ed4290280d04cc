"""Saving, reading, enabling and deleting workflows, and what is wrong with those that are refused."""
import json
import threading
import uuid

import pytest


def named(text="wf"):
    return text + "-" + uuid.uuid4().hex[:10]


def noop(name, **more):
    return {"name": name, "steps": {"a": {"call": "noop"}}, **more}


def test_a_version_comes_back_byte_for_byte(api, other):
    name = named()
    text = ('{ "name" : "%s",\n\t"steps":{"a" :{"call":"noop", "with":{}}, "b":{"needs":["a"],"call":"transform",'
            '"with":{"value":{"x":0.10,"y":1e2,"z":"\\u00fc\\/"}}}} }\n' % name)
    saved = api("PUT", "/v1/workflows/" + name, data=text)
    assert (saved.status_code, saved.json()["version"]) == (201, 1)
    assert saved.headers["etag"] == '"1"' and saved.json()["warnings"] == []
    assert other("GET", f"/v1/workflows/{name}/versions/1").content == text.encode()
    turned = ('{"steps":{"b":{"with":{"value":{"z":"\\u00fc\\/","y":1e2,"x":0.10}},"call":"transform","needs":["a"]},'
              '"a":{"with":{},"call":"noop"}},"name":"%s"}' % name)
    again = other("PUT", "/v1/workflows/" + name, data=turned)
    assert (again.status_code, again.json()["version"]) == (200, 1), "order of keys and white space are no content"
    assert api("GET", f"/v1/workflows/{name}/versions/1").content == text.encode()


def test_content_makes_versions_and_metadata_does_not(api):
    name = named()
    document = noop(name, description="one")
    assert api("PUT", "/v1/workflows/" + name, document).json()["version"] == 1
    document["metadata"] = {"x": 1}
    document["steps"]["a"]["metadata"] = {"canvas": [1, 2]}
    assert api("PUT", "/v1/workflows/" + name, document).json() == {"name": name, "version": 1, "changed": False, "warnings": []}
    assert api("GET", "/v1/workflows/" + name).json()["document"] == document
    assert "metadata" not in api("GET", f"/v1/workflows/{name}/versions/1").json()
    document["description"] = "two"
    assert api("PUT", "/v1/workflows/" + name, document).json()["version"] == 2
    versions = api("GET", f"/v1/workflows/{name}/versions").json()["items"]
    assert [v["version"] for v in versions] == [2, 1] and len(versions[0]["hash"]) == 64
    page = api("GET", f"/v1/workflows/{name}/versions?page_size=1").json()
    rest = api("GET", f"/v1/workflows/{name}/versions?page_size=1&page_token=" + page["next_page_token"]).json()
    assert [v["version"] for v in page["items"] + rest["items"]] == [2, 1] and rest["next_page_token"] is None
    back = api("POST", f"/v1/workflows/{name}:rollback", {"version": 1})
    assert (back.status_code, back.json()["version"]) == (200, 3)
    assert api("GET", f"/v1/workflows/{name}/versions/3").content == api("GET", f"/v1/workflows/{name}/versions/1").content
    assert api("POST", f"/v1/workflows/{name}:rollback", {"version": 9}).status_code == 422
    assert api("POST", f"/v1/workflows/{name}:rollback", {}).json()["code"] == "missing_field"
    assert api("POST", "/v1/workflows/no-such:rollback", {"version": 1}).status_code == 404


def test_if_match(api):
    name = named()
    path = "/v1/workflows/" + name
    assert api("PUT", path, noop(name), headers={"If-Match": '"1"'}).status_code == 412
    assert api("PUT", path, noop(name)).status_code == 201
    assert api("PUT", path, noop(name, description="x"), headers={"If-Match": '"2"'}).status_code == 412
    assert api("PUT", path, noop(name, description="x"), headers={"If-Match": "nonsense"}).status_code == 412
    assert api("PUT", path, noop(name, description="x"), headers={"If-Match": '"1"'}).json()["version"] == 2
    assert api("DELETE", path, headers={"If-Match": '"1"'}).status_code == 412
    assert api("GET", path).headers["etag"] == '"2"'


def test_concurrent_saves_are_versions_one_after_another(api, other):
    name = named()
    answers = []

    def save(client, i):
        answers.append(client("PUT", "/v1/workflows/" + name, noop(name, description=str(i))))

    threads = [threading.Thread(target=save, args=((api, other)[i % 2], i)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(a.json()["version"] for a in answers) == list(range(1, 21))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]


def test_delete_keeps_history_and_saving_again_goes_on_counting(api, other):
    name = named()
    path = "/v1/workflows/" + name
    api("PUT", path, noop(name))
    run = api("POST", path + "/runs?wait=20s", {}).json()
    assert run["status"] == "succeeded"
    assert api("DELETE", path).status_code == 204
    assert api("DELETE", path).status_code == 404
    assert other("GET", path).status_code == 404
    assert other("POST", path + "/runs", {}).status_code == 404
    assert name not in [w["name"] for w in api("GET", "/v1/workflows?page_size=500").json()["items"]]
    assert other("GET", path + "/versions/1").status_code == 200
    assert other("GET", "/v1/runs/" + run["id"]).json()["workflow"] == name
    again = api("PUT", path, noop(name))
    assert (again.status_code, again.json()["version"]) == (201, 2)


def test_disabled_means_no_run_after_the_answer(api, other):
    name = named()
    path = "/v1/workflows/" + name
    api("PUT", path, noop(name))
    started, stop = [], threading.Event()

    def start():
        while not stop.is_set():
            answer = other("POST", path + "/runs", {})
            started.append((answer.status_code, answer.json().get("id")))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for t in threads:
        t.start()
    while len(started) < 20:
        stop.wait(0.01)
    assert api("POST", path + ":disable").json()["enabled"] is False
    newest = api("GET", f"/v1/runs?workflow={name}&page_size=1").json()["items"][0]["id"]
    stop.wait(0.3)
    stop.set()
    for t in threads:
        t.join()
    assert api("GET", f"/v1/runs?workflow={name}&page_size=1").json()["items"][0]["id"] == newest
    refused = api("POST", path + "/runs", {})
    assert refused.status_code == 409 and refused.json()["code"] == "workflow_disabled"
    assert {status for status, _ in started} == {202, 409}
    assert api("GET", path).json()["enabled"] is False
    assert api("POST", path + ":enable").json()["enabled"] is True
    assert api("POST", path + "/runs", {}).status_code == 202
    assert api("POST", "/v1/workflows/no-such:enable").status_code == 404


def test_a_start_takes_the_version_that_any_gateway_has_saved(api, other):
    name = named()
    for n in range(1, 8):
        assert (api, other)[n % 2]("PUT", "/v1/workflows/" + name, noop(name, description=str(n))).json()["version"] == n
        run = (other, api)[n % 2]("POST", f"/v1/workflows/{name}/runs", {}).json()["id"]
        assert api("GET", "/v1/runs/" + run).json()["version"] == n


def test_lists_have_pages(api):
    names = sorted(named("page") for _ in range(7))
    for name in names:
        api("PUT", "/v1/workflows/" + name, noop(name))
    seen, token = [], ""
    while True:
        page = api("GET", "/v1/workflows?page_size=3" + token).json()
        assert len(page["items"]) <= 3
        seen += [w["name"] for w in page["items"]]
        if page["next_page_token"] is None:
            break
        token = "&page_token=" + page["next_page_token"]
    assert seen == sorted(set(seen)) and set(names) <= set(seen)
    for bad in ["page_size=0", "page_size=501", "page_size=x", "page_token=00", "page_token=zz", "page_token=" + "ab" * 20]:
        assert api("GET", "/v1/workflows?" + bad).status_code == 400, bad


FAULTY = [
    ("unknown call", {"steps": {"a": {"call": "nope"}}}, "unknown_call", "/steps/a/call"),
    ("unknown step", {"steps": {"a": {"call": "noop", "needs": ["b"]}}}, "unknown_step", None),
    ("cycle", {"steps": {"a": {"call": "noop", "needs": ["b"]}, "b": {"call": "noop", "needs": ["a"]}}}, "cycle", None),
    ("self", {"steps": {"a": {"call": "noop", "needs": ["a"]}}}, "cycle", None),
    ("unknown field", {"steps": {"a": {"call": "noop"}}, "x": 1}, "unknown_field", "/x"),
    ("unknown step field", {"steps": {"a": {"call": "noop", "x": 1}}}, "unknown_field", "/steps/a/x"),
    ("no steps", {}, "missing_field", "/steps"),
    ("no call", {"steps": {"a": {}}}, "missing_field", "/steps/a/call"),
    ("wrong type", {"steps": []}, "wrong_type", "/steps"),
    ("bad duration", {"steps": {"a": {"call": "delay", "with": {"duration": "5 parsecs"}}}}, "bad_duration", None),
    ("bad expression", {"steps": {"a": {"call": "transform", "with": {"value": "${ .input"}}}}, "bad_expression", None),
    ("clock reader", {"steps": {"a": {"call": "transform", "with": {"value": "${ now }"}}}}, "bad_expression", None),
    ("not upstream", {"steps": {"a": {"call": "noop"}, "b": {"call": "transform", "with": {"value": "${ .steps.a.output }"}}}}, "not_upstream", None),
    ("trigger", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"event": {}}}}, "missing_field", "/triggers/t/event/type"),
    ("cron", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"cron": {"expression": "0 2 30 2 *"}}}}, "out_of_range", "/triggers/t/cron/expression"),
    ("cron field", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"cron": "61 * * * *"}}}, "out_of_range", "/triggers/t/cron"),
    ("zone", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"cron": {"expression": "0 2 * * *", "timezone": "Europe/Bonn"}}}}, "out_of_range",
     "/triggers/t/cron/timezone"),
    ("interval", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"every": "100ms"}}}, "out_of_range", "/triggers/t/every"),
    ("overlap", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"every": {"interval": "1m", "overlap": "wait"}}}}, "out_of_range",
     "/triggers/t/every/overlap"),
    ("time", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"at": "tomorrow"}}}, "out_of_range", "/triggers/t/at"),
    ("two kinds", {"steps": {"a": {"call": "noop"}}, "triggers": {"t": {"at": "2030-01-01T00:00:00Z", "every": "1m"}}}, "unknown_field", "/triggers/t"),
    ("input of a schedule", {"steps": {"a": {"call": "noop"}}, "input_schema": {"type": "object", "required": ["n"]}, "triggers": {"t": {"every": "1m"}}},
     "missing_field", "/triggers/t/input/n"),
    ("wait_event", {"steps": {"a": {"call": "wait_event", "with": {"type": "${ .input.kind }"}}}}, "bad_expression", "/steps/a/with/type"),
    ("loop that is left", {"steps": {"o": {"call": "noop"}, "a": {"call": "foreach", "with": {"items": [], "steps": {"b": {"call": "noop", "needs": ["o"]}}}}}},
     "unknown_step", "/steps/a/with/steps/b/needs/0"),
    ("compensated branch", {"steps": {"a": {"call": "condition", "with": {"if": True}, "compensate": {"call": "noop"}}}}, "unknown_field", "/steps/a/compensate"),
    ("poll of a delay", {"steps": {"a": {"call": "poll", "with": {"call": "delay", "with": {"duration": "1s"}, "until": "${ .output }"}}}},
     "out_of_range", "/steps/a/with/call"),
    ("notification without a url", {"steps": {"a": {"call": "noop"}}, "on_failure_notify": {"call": "http", "with": {}}},
     "missing_field", "/on_failure_notify/with/url"),
    ("bad input schema", {"steps": {"a": {"call": "noop"}}, "input_schema": {"type": "nonsense"}}, None, "/input_schema/type"),
]


@pytest.mark.parametrize("what, body, code, pointer", FAULTY, ids=[f[0] for f in FAULTY])
def test_a_faulty_document_is_refused_by_save_and_validate_alike(api, what, body, code, pointer):
    name = named()
    answer = api("PUT", "/v1/workflows/" + name, {"name": name, **body})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    faults = answer.json()["errors"]
    assert any(code in (None, f["code"]) and pointer in (None, f["pointer"]) for f in faults), faults
    assert all(f["message"] and f["pointer"].startswith("/") for f in faults)
    checked = api("POST", "/v1/workflows:validate", {"name": name, **body})
    assert checked.status_code == 200 and checked.json()["valid"] is False and checked.json()["errors"] == faults
    assert api("GET", "/v1/workflows/" + name).status_code == 404


def test_all_faults_are_told_at_once(api):
    faults = api("POST", "/v1/workflows:validate", {"name": "all", "x": 1, "steps": {"a": {"call": "noop", "y": 2}, "b": {}}}).json()["errors"]
    assert {f["pointer"] for f in faults} >= {"/x", "/steps/a/y", "/steps/b/call"}
    faults = api("POST", "/v1/workflows:validate", {"name": "all", "steps": {
        "a": {"call": "nope"}, "b": {"call": "noop", "needs": ["zzz"]}, "c": {"call": "noop", "needs": ["d"]}, "d": {"call": "noop", "needs": ["c"]}}}).json()["errors"]
    assert {f["code"] for f in faults} == {"unknown_call", "unknown_step", "cycle"}
    assert api("POST", "/v1/workflows:validate", noop("fine")).json() == {"valid": True, "errors": [], "warnings": []}


def test_what_changes_nothing_is_warned_of_and_saved(api):
    name = named()
    document = {"name": name, "steps": {"a": {"call": "delay", "with": {"duration": "1s"}, "pool": "slow"}}, "output": "${ .item }"}
    checked = api("POST", "/v1/workflows:validate", document).json()
    assert checked["valid"] and checked["errors"] == []
    assert [(w["code"], w["pointer"]) for w in checked["warnings"]] == [("no_effect", "/steps/a/pool"), ("no_effect", "/output")]
    saved = api("PUT", "/v1/workflows/" + name, document)
    assert saved.status_code == 201 and saved.json()["warnings"] == checked["warnings"]


@pytest.mark.parametrize("data, status, code", [
    ("", 422, "invalid_document"), ("{", 400, "not_json"), ("nonsense", 400, "not_json"), ('{"name":"a","name":"a"}', 400, "duplicate_key"),
    ('{"name":"a\\u0000"}', 400, "not_json"), (b'{"name":"\xff"}', 400, "not_json"), ("[" * 200 + "]" * 200, 413, "too_large"),
    ("[]", 422, "invalid_document"), ("5", 422, "invalid_document"), ('{"name":5,"steps":{"a":{"call":"noop"}}}', 422, "invalid_document")])
def test_bodies_that_are_no_document(api, data, status, code):
    answer = api("PUT", "/v1/workflows/a", data=data)
    assert answer.status_code == status and answer.json()["code"] == code, answer.text


def test_names(api):
    answer = api("PUT", "/v1/workflows/one", noop("two"))
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/name"
    for name in ["UPPER", "-a", "a" * 64, "a_b", "%C3%BC"]:
        assert api("PUT", "/v1/workflows/" + name, noop(name)).status_code == 422, name
    assert api("PUT", "/v1/workflows/" + "a" * 63, noop("a" * 63)).status_code in (200, 201)


def test_the_limit_of_a_body_is_exact(api):
    name = named()
    empty = len(json.dumps(noop(name, description="")))
    most = noop(name, description="", metadata={"x": "y" * 60000})
    assert empty < 1048576
    body = json.dumps(most)
    assert api("PUT", "/v1/workflows/" + name, data=body + " " * (1048576 - len(body))).status_code == 201
    over = api("PUT", "/v1/workflows/" + name, data=body + " " * (1048577 - len(body)))
    assert over.status_code == 413 and over.json()["code"] == "too_large"


def test_the_limit_of_steps_is_exact(api):
    name = named()
    assert api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {f"s{i}": {"call": "noop"} for i in range(500)}}).status_code == 201
    over = api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {f"s{i}": {"call": "noop"} for i in range(501)}})
    assert over.status_code == 422 and over.json()["errors"][0]["code"] == "too_many_steps"


def test_mermaid(api):
    name = named()
    api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {
        "a": {"call": "condition", "with": {"if": "${ true }"}}, "end": {"call": "noop", "needs": {"a": ["true"]}},
        "b": {"call": "noop", "needs": {"a": ["false", "failed"]}}, "c": {"call": "noop", "join": "any", "needs": ["end", "b"]}}})
    answer = api("GET", f"/v1/workflows/{name}/mermaid")
    assert answer.headers["content-type"].startswith("text/vnd.mermaid")
    assert answer.text.splitlines() == [
        "flowchart TD", '    s0{"a<br/>condition"}', '    s1["end<br/>noop"]', '    s2["b<br/>noop"]', '    s3["c<br/>noop<br/>any"]',
        '    s0 -->|"true"| s1', '    s0 -->|"failed or false"| s2', "    s1 --> s3", "    s2 --> s3"]
    assert api("GET", f"/v1/workflows/{name}/mermaid?version=1").status_code == 200
    assert api("GET", f"/v1/workflows/{name}/mermaid?version=2").status_code == 404
