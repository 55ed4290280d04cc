"""Secrets by the API: written, listed, deleted, sealed anew; never read back, nowhere in clear."""
import base64
import concurrent.futures
import json
import os
import time
import uuid

import pytest

import drive


def name_of(what):
    return f"{what}_{uuid.uuid4().hex[:8]}"


def value_of():
    return "planted-" + uuid.uuid4().hex


def listed(api, name):
    token, found = "", None
    while token is not None:
        page = api("GET", "/v1/secrets?page_size=500" + (f"&page_token={token}" if token else "")).json()
        found = found or next((item for item in page["items"] if item["name"] == name), None)
        token = page["next_page_token"]
    return found


def test_a_secret_is_written_and_listed_but_never_read_back(api):
    name, value = name_of("pay"), value_of()
    first = api("PUT", f"/v1/secrets/{name}", {"value": value})
    assert first.status_code == 201, first.text
    assert first.json()["version"] == 1
    again = api("PUT", f"/v1/secrets/{name}", {"value": value + "2"})
    assert again.status_code == 200 and again.json()["version"] == 2
    item = listed(api, name)
    assert item["version"] == 2 and item["used_by"] == [] and item["last_used_at"] is None
    assert value not in first.text + again.text + json.dumps(item)
    assert api("GET", f"/v1/secrets/{name}").status_code in (404, 405)


def test_a_deleted_secret_is_gone(api):
    name = name_of("gone")
    assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 201
    assert api("DELETE", f"/v1/secrets/{name}").status_code == 204
    assert listed(api, name) is None
    assert api("DELETE", f"/v1/secrets/{name}").status_code == 404


@pytest.mark.parametrize("body, pointer", [({}, "/value"), ({"value": 1}, "/value"), ({"value": "abc"}, "/value"),
                                           ({"value": "x" * 65537}, "/value"), ({"value": "abcd", "x": 1}, "/x")])
def test_a_bad_value_is_refused_without_being_told(api, body, pointer):
    answer = api("PUT", "/v1/secrets/" + name_of("bad"), body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not isinstance(body.get("value"), str) or body["value"] == "abcd" or body["value"] not in answer.text


@pytest.mark.parametrize("size", [4, 65536])
def test_the_bounds_of_a_value_are_within(api, size):
    assert api("PUT", "/v1/secrets/" + name_of("size"), {"value": "x" * size}).status_code == 201


@pytest.mark.parametrize("name", ["1st", "a-b", "a.b", "x" * 64])
def test_a_bad_name_is_refused(api, name):
    answer = api("PUT", f"/v1/secrets/{name}", {"value": value_of()})
    assert answer.status_code == 422 and answer.json()["code"] == "bad_name", answer.text


def test_who_may(api):
    for role, put, got, rotated in (("viewer", 403, 200, 403), ("trigger", 403, 403, 403), ("operator", 403, 200, 403), ("editor", 201, 200, 403)):
        one = api.as_role(role)
        assert one("PUT", "/v1/secrets/" + name_of("by"), {"value": value_of()}).status_code == put, role
        assert one("GET", "/v1/secrets").status_code == got, role
        assert one("POST", "/v1/secrets:rotate", {}).status_code == rotated, role


def test_a_stranger_sees_nothing_and_has_keys_of_its_own(api, stranger, stack):
    name, value = name_of("mine"), value_of()
    assert api("PUT", f"/v1/secrets/{name}", {"value": value}).status_code == 201
    assert listed(stranger, name) is None
    assert stranger("DELETE", f"/v1/secrets/{name}").status_code == 404
    assert stranger("PUT", f"/v1/secrets/{name}", {"value": value}).status_code == 201
    assert stranger("POST", "/v1/secrets:rewrap", {}).status_code == 403
    rows = stack.sql("select distinct k.wrapped from data_key k join secret s on s.organisation = k.organisation "
                     "and s.key_version = k.version where s.name = %s", name)
    assert len(rows) == 2


def key_versions(stack, names):
    return {version for (version,) in stack.sql("select key_version from secret where name = any(%s) and organisation = 1", names)}


def test_a_new_data_key_seals_all_values_again_in_slices(api, other, stack):
    names = [name_of("many") for _ in range(250)]
    for name in names:
        assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 201
    (before,) = key_versions(stack, names)
    first = api("POST", "/v1/secrets:rotate", {}).json()
    assert first["started"] and first["key_version"] == before + 1 and first["done"] == 100 and first["remaining"] >= 150
    late = name_of("late")                                     # written while others still have the old key
    assert other("PUT", f"/v1/secrets/{late}", {"value": value_of()}).status_code == 201
    assert key_versions(stack, [late]) == {before + 1}
    # Whoever asked has died: a request that begins anew goes on, and makes no third key.
    second = other("POST", "/v1/secrets:rotate", {}).json()
    assert not second["started"] and second["key_version"] == before + 1
    while second["remaining"] > 0:
        second = api("POST", "/v1/secrets:rotate", {"continue": True}).json()
    assert key_versions(stack, names) == {before + 1}
    assert stack.sql("select version from data_key where organisation = 1") == [(before + 1,)]


def test_two_rotations_at_once_make_one_key(api, other, stack):
    names = [name_of("both") for _ in range(150)]              # more than a slice: neither is done when the other begins
    for name in names:
        assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 201
    while api("POST", "/v1/secrets:rotate", {"continue": True}).json()["remaining"] > 0:
        pass
    (before,) = key_versions(stack, names)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [done.json() for done in pool.map(lambda one: one("POST", "/v1/secrets:rotate", {}), (api, other))]
    assert [answer["key_version"] for answer in answers] == [before + 1] * 2, answers
    assert sum(answer["started"] for answer in answers) == 1, answers


def write_keys(stack, *lines):
    path = stack.dir / "etc/master.keys"
    fresh = path.with_name("master.keys.fresh")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.chmod(0o600)
    fresh.rename(path)


def test_a_new_master_key_takes_over_while_everything_runs(api, other, stack):
    path = stack.dir / "etc/master.keys"
    old = path.read_text().strip().splitlines()
    new = "test." + uuid.uuid4().hex[:8] + ":" + base64.b64encode(os.urandom(32)).decode()
    name = name_of("kept")
    assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 201
    write_keys(stack, new, *old)
    def wrapped():
        answer = api("POST", "/v1/secrets:rewrap", {})
        return answer.json() if answer.ok and answer.json()["master_key"] == new.split(":")[0] else None
    answer = drive.until("the new key is the first", wrapped)
    while answer["remaining"] > 0:
        answer = api("POST", "/v1/secrets:rewrap", {}).json()
    assert stack.sql("select distinct master from data_key") == [(new.split(":")[0],)]
    write_keys(stack, new)                                     # the old one is gone from the file
    def rotated():
        return other("POST", "/v1/secrets:rotate", {}).status_code == 200
    drive.until("values open with the new key alone", rotated)
    write_keys(stack, "# broken")                              # a file that is bad changes nothing
    time.sleep(1.1)
    assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 200
    write_keys(stack, new, *old)


def test_a_value_that_was_moved_in_the_database_does_not_open(api, stack):
    names = [name_of("moved") for _ in range(2)]
    for name in names:
        assert api("PUT", f"/v1/secrets/{name}", {"value": value_of()}).status_code == 201
    keep = stack.sql("select box from secret where name = %s", names[1])[0][0]
    stack.sql("update secret set box = (select box from secret where name = %s) where name = %s", names[0], names[1])
    def rotate():
        answer = api("POST", "/v1/secrets:rotate", {})
        return answer.status_code == 500 and answer.json()["code"] == "secret_damaged"
    drive.until("the moved value is met", rotate)
    stack.sql("update secret set box = %s where name = %s", keep, names[1])
    stack.sql("delete from secret where name = %s", names[1])
