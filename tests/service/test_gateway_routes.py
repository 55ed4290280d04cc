"""Every row of the route table: who may use it, what it answers to nonsense, and that it shows nobody else's things."""
import hashlib
import json
import subprocess
import time
import uuid

import pytest

import drive
from conftest import Api

BINARY = drive.BUILD / "bin/ropewalk-gateway"
ROUTES = [json.loads(line) for line in subprocess.check_output([str(BINARY), "--routes"], text=True).splitlines()]
ROLES = ["viewer", "trigger", "operator", "editor", "admin"]
MAY = {
    "public": ["nobody"] + ROLES,
    "read": ["viewer", "operator", "editor", "admin"],
    "read_run": ROLES,
    "start": ["trigger", "operator", "editor", "admin"],
    "operate": ["operator", "editor", "admin"],
    "edit": ["editor", "admin"],
    "admin": ["admin"],
    "found": ["admin"],
}
BODIES = {"step_settle": {"as": "succeeded"}}       # of routes that have to be given one
DOCUMENT = {"name": "routes", "steps": {"a": {"call": "noop"}}}


@pytest.fixture(scope="module")
def clients(stack):
    admin = Api(stack.url, stack.key)
    assert admin("PUT", "/v1/workflows/routes", DOCUMENT).status_code in (200, 201)
    made = {role: admin.as_role(role) for role in ROLES}
    made["nobody"] = Api(stack.url)
    made["run"] = admin("POST", "/v1/workflows/routes/runs?wait=20s", {}).json()["id"]
    return made


def path_of(route, run):
    """Names nothing that exists but the run, so that no role harms another's test."""
    path = route["path"]
    if path.startswith("/v1/runs/{id}"):
        path = path.replace("{id}", run)
    for name, value in {"{id}": str(uuid.uuid4()), "{name}": "no-such", "{n}": "1", "{step}": "a", "{part}": "output",
                        "{organisation}": "default", "{workflow}": "no-such", "{trigger}": "t"}.items():
        path = path.replace(name, value)
    return path


def name_of(route):
    return route["method"] + " " + route["path"]


def test_the_table_is_there():
    assert len(ROUTES) > 60
    assert len({name_of(route) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_each_role_may_what_the_table_says_and_nothing_else(clients, route):
    for role in ["nobody"] + ROLES:
        headers = {"Accept": "application/json"}
        answer = clients[role](route["method"], path_of(route, clients["run"]), headers=headers)
        if role in MAY[route["right"]]:
            assert answer.status_code not in (401, 403, 405, 500), (role, answer.text)
        else:
            assert answer.status_code == (401 if role == "nobody" else 403), (role, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("route", [r for r in ROUTES if r["handler"] == "not_available"], ids=name_of)
def test_what_is_not_there_yet_says_so(clients, route):
    answer = clients["admin"](route["method"], path_of(route, clients["run"]))
    assert answer.status_code == 422
    assert answer.json()["code"] == "not_available"


@pytest.mark.parametrize("route", [r for r in ROUTES if "*" not in r["query"].split()], ids=name_of)
def test_an_unknown_query_parameter_is_refused(clients, route):
    answer = clients["admin"](route["method"], path_of(route, clients["run"]) + "?nonsense=1")
    assert answer.status_code == 400
    assert answer.json()["code"] == "unknown_parameter" and "nonsense" in answer.json()["detail"]


@pytest.mark.parametrize("route", [r for r in ROUTES if r["method"] == "GET" and r["handler"] != "not_available"], ids=name_of)
def test_head_is_get_without_a_body(clients, route):
    path = path_of(route, clients["run"])
    get, head = clients["admin"]("GET", path), clients["admin"]("HEAD", path)
    assert head.status_code == get.status_code and head.content == b""


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_other_methods_are_told_which_there_are(clients, route):
    answer = clients["admin"]("OPTIONS", path_of(route, clients["run"]))
    assert answer.status_code == 405 and route["method"] in answer.headers["allow"]


@pytest.mark.parametrize("route", [r for r in ROUTES if r["path"].startswith("/v1/runs/{id}") and r["handler"] != "not_available"], ids=name_of)
def test_a_run_of_another_organisation_is_as_unknown_as_one_that_never_was(clients, stranger, route):
    body = BODIES.get(route["handler"])
    theirs = stranger(route["method"], path_of(route, clients["run"]), body)
    never = stranger(route["method"], path_of(route, str(uuid.uuid4())), body)
    wrong = stranger(route["method"], path_of(route, "nonsense"), body)
    assert theirs.status_code == never.status_code == wrong.status_code == 404
    assert theirs.json()["code"] == never.json()["code"] == "not_found"


def test_another_organisations_workflows_keys_and_lists_do_not_show(clients, stranger, api):
    assert stranger("GET", "/v1/workflows/routes").status_code == 404
    assert stranger("GET", "/v1/workflows/routes/versions").status_code == 404
    assert stranger("GET", "/v1/workflows/routes/versions/1").status_code == 404
    assert stranger("GET", "/v1/workflows/routes/mermaid").status_code == 404
    assert stranger("POST", "/v1/workflows/routes/runs", {}).status_code == 404
    assert stranger("POST", "/v1/workflows/routes:disable").status_code == 404
    assert stranger("DELETE", "/v1/workflows/routes").status_code == 404
    assert stranger("GET", "/v1/workflows").json()["items"] == []
    assert stranger("GET", "/v1/runs").json()["items"] == []
    assert stranger("GET", "/v1/dead-letters").json()["items"] == []
    assert len(stranger("GET", "/v1/api-keys").json()["items"]) == 1
    assert stranger("GET", "/v1/organisations/default").status_code == 404
    assert stranger("DELETE", "/v1/api-keys/" + clients["viewer"].key_id).status_code == 404
    assert clients["viewer"]("GET", "/v1/workflows").status_code == 200
    assert stranger("POST", "/v1/organisations", {"name": "third"}).status_code == 403
    assert api("GET", "/v1/organisations/default").json()["name"] == "default"


def test_the_description_names_every_route(api):
    paths = api("GET", "/openapi.json").json()["paths"]
    described = {(m.upper(), p) for p, methods in paths.items() for m in methods if m in ("get", "put", "post", "delete", "patch")}
    assert described == {(r["method"], r["path"]) for r in ROUTES}


def test_keys_that_are_none(api):
    for header in ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic abc", "Bearer " + "a" * 300, "Bearer rw_" + "0" * 40]:
        answer = api("GET", "/v1/workflows", headers={"Authorization": header})
        assert answer.status_code == 401, header
        assert "www-authenticate" in answer.headers


def test_an_unknown_path(api):
    for path in ["/", "/v1", "/v1/", "/v1/workflows/", "/v2/workflows", "/v1/workflows/a/b", "/v1/workflows/a:explode", "//v1/workflows"]:
        answer = api("GET", path)
        assert answer.status_code == 404 and answer.json()["code"] == "no_such_route", path
    for path in ["/v1/workflows/%00", "/v1/workflows/%ff", "/v1/runs?status=%ff"]:
        assert api("GET", path).status_code == 400, path


def test_a_key_is_shown_once_listed_by_prefix_and_ends_within_5_s_on_every_gateway(stack, api, other):
    made = api("POST", "/v1/api-keys", {"name": "short-lived", "role": "viewer"})
    assert made.status_code == 201
    key, key_id = made.json()["key"], made.json()["id"]
    assert key.startswith(made.json()["prefix"] + "_") and len(key) > 40
    listed = [k for k in api("GET", "/v1/api-keys?page_size=500").json()["items"] if k["id"] == key_id]
    assert listed and listed[0]["prefix"] == made.json()["prefix"] and key not in json.dumps(listed)
    assert stack.sql("select hash from api_key where id = %s", key_id)[0][0] == hashlib.sha256(key.encode()).digest()
    there = [Api(url, key) for url in stack.urls]
    for client in there:
        assert client("GET", "/v1/workflows").status_code == 200
    assert api("DELETE", "/v1/api-keys/" + key_id).status_code == 204
    began = time.monotonic()
    assert there[0]("GET", "/v1/workflows").status_code == 401
    while there[1]("GET", "/v1/workflows").status_code != 401:
        assert time.monotonic() - began < 5
        time.sleep(0.1)
    assert api("DELETE", "/v1/api-keys/" + key_id).status_code == 204
    assert api("GET", "/v1/api-keys/" + key_id).json()["revoked_at"] is not None


def test_the_last_admin_key_cannot_be_revoked(stack, stranger):
    own = [k for k in stranger("GET", "/v1/api-keys").json()["items"] if k["role"] == "admin" and not k["revoked_at"]]
    assert len(own) == 1
    answer = stranger("DELETE", "/v1/api-keys/" + own[0]["id"])
    assert answer.status_code == 409 and answer.json()["code"] == "last_admin_key"
    assert stranger("GET", "/v1/workflows").status_code == 200


@pytest.mark.parametrize("body, status, code", [
    ('{"name":"x","role":"god"}', 422, "out_of_range"), ('{"name":"x"}', 422, "missing_field"), ('{"role":"viewer"}', 422, "missing_field"),
    ('{"name":5,"role":"viewer"}', 422, "out_of_range"), ('{"name":"x","role":"viewer","x":1}', 422, "unknown_field"), ('[]', 422, "wrong_type"),
    ('{"name":"x","role":"viewer"', 400, "not_json"), ('{"name":"x","name":"y","role":"viewer"}', 400, "duplicate_key"),
    ('{"name":"\\u0000","role":"viewer"}', 400, "not_json"), ("\0", 400, "not_json")])
def test_a_bad_key_is_refused_with_a_reason(api, body, status, code):
    answer = api("POST", "/v1/api-keys", data=body)
    assert answer.status_code == status and answer.json()["code"] == code, answer.text


def test_organisations(api, stranger):
    assert api("POST", "/v1/organisations", {"name": stranger.organisation}).json()["code"] == "already_exists"
    for name in ["", "UPPER", "-a", "a" * 64, 5, None]:
        assert api("POST", "/v1/organisations", {"name": name}).status_code == 422
