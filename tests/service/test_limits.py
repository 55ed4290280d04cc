"""Limits of an organisation: each holds at n and breaks at n + 1, says its name, its value and what to do, and a change is
heard of by processes that run."""
import json
import subprocess
import uuid

import pytest

import drive
from conftest import Api
from test_data import Echo

NAMES = ["steps", "depth", "run_days", "output_bytes", "body_bytes", "json_depth", "foreach_items", "child_levels", "list_bytes", "endpoints",
         "max_running_runs", "held_arrivals"]


@pytest.fixture(scope="module")
def installation():
    """One that allows more than it gives."""
    both = {"LIMIT_OUTPUT_BYTES_MAX": 1200000, "LIMIT_CHILD_LEVELS_MAX": 5}
    settings = {"gateway": {**both, "LIMIT_STEPS": 4, "LIMIT_STEPS_MAX": 6}, "scheduler": {**both, "WATCH_SWEEP_MS": 3600000}}
    with drive.private_stack(gateways=2, schedulers=2, workers=1, settings=settings) as one:
        yield one


class Organisation:
    """A new one, as its admin sees it."""

    def __init__(self, stack):
        self.name = "limited-" + uuid.uuid4().hex[:8]
        made = Api(stack.url, stack.key)("POST", "/v1/organisations", {"name": self.name})
        assert made.status_code == 201, made.text
        self.api = Api(stack.url, made.json()["api_key"])
        self.other = Api(stack.urls[-1], made.json()["api_key"])
        self.path = "/v1/organisations/" + self.name

    def limit(self, **limits):
        answer = self.api("PATCH", self.path, {"limits": limits})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def save(self, name, steps, **more):
        return self.api("PUT", "/v1/workflows/" + name, {"name": name, "steps": steps, **more})

    def run(self, name, value=None):
        """The end of a run."""
        answer = self.api("POST", f"/v1/workflows/{name}/runs?wait=30s", {"input": value or {}})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def org(installation):
    return Organisation(installation)


def chain(n):
    return {f"s{i}": {"call": "noop", **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(n)}


def side_by_side(n):
    return {f"s{i}": {"call": "noop"} for i in range(n)}


VALUE = {"t": {"call": "transform", "with": {"value": "${ .input.v }"}}}
EACH = {"each": {"call": "foreach", "with": {"items": "${ .input.l }", "steps": VALUE}}}


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


# --- at n and at n + 1 ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("limit, value, document, code, pointer", [
    ("steps", 3, lambda n: {"steps": side_by_side(n)}, "too_many_steps", "/steps"),
    ("depth", 2, lambda n: {"steps": chain(n)}, "too_deep", "/steps/s2"),
    ("run_days", 2, lambda n: {"steps": side_by_side(1), "timeout": f"{n}d"}, "out_of_range", "/timeout"),
    ("foreach_items", 3, lambda n: {"steps": {"each": {"call": "foreach", "with": {"items": list(range(n)), "steps": VALUE}}}},
     "out_of_range", "/steps/each/with/items"),
])
def test_what_is_saved(org, limit, value, document, code, pointer):
    org.limit(**{limit: value})
    assert org.save("good", **document(value)).status_code == 201
    answer = org.save("bad", **document(value + 1))
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == (code, pointer), fault
    assert limit in fault["message"] and str(value) in fault["message"] and "limit raised" in fault["hint"], fault
    org.limit(**{limit: None})
    assert org.save("bad", **document(value + 1)).status_code == 201, "it has been given back"


def test_children_of_children_as_they_are_saved(org):
    def call(name):
        return {"down": {"call": "workflow", "with": {"name": name}}}

    org.limit(child_levels=1)
    assert org.save("leaf", VALUE).status_code == 201
    assert org.save("middle", call("leaf")).status_code == 201
    answer = org.save("top", call("middle"))
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == ("too_deep", "/steps/down/with/name") and "child_levels" in fault["message"], fault
    org.limit(child_levels=0)
    assert org.save("one", call("leaf")).json()["errors"][0]["code"] == "too_deep"


@pytest.mark.parametrize("limit, value, body", [
    ("body_bytes", 2048, lambda n: '{"input": {"x": "%s"}}' % ("x" * (n - len('{"input": {"x": ""}}')))),
    ("json_depth", 10, lambda n: json.dumps({"input": {"x": nested(n - 2)}})),
])
def test_what_comes_in_a_body(org, limit, value, body):
    assert org.save("never", side_by_side(1)).ok
    org.limit(**{limit: value})
    assert org.api("POST", "/v1/workflows/never/runs", data=body(value)).status_code == 202
    answer = org.api("POST", "/v1/workflows/never/runs", data=body(value + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text
    assert limit in answer.json()["detail"] and str(value) in answer.json()["detail"] and "limit raised" in answer.json()["detail"]


def test_a_body_beyond_what_any_organisation_may_send_is_refused_in_the_same_words(org):
    answer = org.api("POST", "/v1/workflows/never/runs", data=b" " * (1048576 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text
    assert "1048576 bytes (limit body_bytes)" in answer.json()["detail"]


@pytest.mark.parametrize("limit, value, steps, given, step, code", [
    ("foreach_items", 3, EACH, lambda n: {"l": list(range(n)), "v": 1}, "each", "too_many_items"),
    ("output_bytes", 1024, VALUE, lambda n: {"v": "x" * (n - 2)}, "t", "too_large"),
    ("list_bytes", 2000, EACH, lambda n: {"l": [1, 2], "v": "x" * (n // 2 - 2 + n % 2)}, "each", "item_failed"),
])
def test_what_a_run_does(org, limit, value, steps, given, step, code):
    assert org.save("flow", steps).ok
    org.limit(**{limit: value})
    good = org.run("flow", given(value))
    assert good["status"] == "succeeded", good
    bad = org.run("flow", given(value + 1))
    error = bad["steps"][step]["error"]
    assert bad["status"] == "failed" and error["code"] == code, error
    assert limit in error["message"] and str(value) in error["message"] and "limit raised" in error["message"], error


def test_children_that_were_saved_the_other_way_round(org):
    org.limit(child_levels=1)
    for name, child in (("top", "middle"), ("middle", "leaf")):
        assert org.save(name, {"down": {"call": "workflow", "with": {"name": child}}}).status_code == 201, "its child is not there yet"
    assert org.save("leaf", VALUE).ok
    assert org.run("middle", {"v": 1})["status"] == "succeeded"
    ended = org.run("top", {"v": 1})
    assert ended["status"] == "failed" and "child_levels" in json.dumps(ended), ended


def test_a_run_lasts_no_longer_than_the_limit_of_its_start(org, installation):
    assert org.save("long", {"w": {"call": "wait_signal", "with": {"signal": "s"}}}, timeout="9d").ok
    spans = []
    for days in (9, 8):
        org.limit(run_days=days)
        run = org.api("POST", "/v1/workflows/long/runs", {}).json()["run_id"]
        drive.until("the run waits", lambda: org.api("GET", "/v1/runs/" + run).json()["status"] == "waiting")
        spans += installation.sql("select extract(day from w.due_at - r.created_at)::int from open_work w join run r on r.id = w.run_id "
                                  "where w.run_id = %s and w.kind = 4", run)[0]
    assert spans == [9, 8]


@pytest.fixture(scope="module")
def echo():
    server = Echo()
    yield server
    server.shutdown()
    server.server_close()


def test_what_a_worker_brings(org, echo):
    assert org.save("ask", {"get": {"call": "http", "with": {"url": echo.url + "/answer"}}}).ok

    def ask(size):
        echo.answer = b'"' + b"x" * (size - 2) + b'"'
        return org.run("ask")

    whole = len(org.api("GET", f"/v1/runs/{ask(2000)['id']}/steps/get/attempts/1/output").content)
    org.limit(output_bytes=whole)
    assert ask(2000)["status"] == "succeeded"
    error = ask(2001)["steps"]["get"]["error"]
    assert error["code"] == "too_large" and "output_bytes" in error["message"] and str(whole) in error["message"], error
    # a body as long as the default leaves no room for status and headers, until the organisation takes what it may
    org.limit(output_bytes=None)
    assert ask(1 << 20)["steps"]["get"]["error"]["code"] == "too_large"
    org.limit(output_bytes=1200000)
    assert ask(1 << 20)["status"] == "succeeded"


# --- changes ----------------------------------------------------------------------------------------------------------

def test_a_change_is_heard_of_by_gateways_and_by_runs_that_are_in_memory(org):
    waiting = {"w": {"call": "wait_signal", "with": {"signal": "go"}}, "t": {**VALUE["t"], "needs": ["w"]}}
    assert org.save("patient", waiting).ok
    runs = [org.api("POST", "/v1/workflows/patient/runs", {"input": {"v": "x" * 1500}}).json()["run_id"] for _ in range(60)]
    for run in runs:
        drive.until("it waits", lambda run=run: org.api("GET", "/v1/runs/" + run).json()["status"] == "waiting")

    def ended(run):
        assert org.api("POST", f"/v1/runs/{run}/signals/go", {}).status_code == 202
        return drive.until("its end", lambda: (org.api("GET", "/v1/runs/" + run).json()["status"] in drive.ENDS
                                               and org.api("GET", "/v1/runs/" + run).json()))

    assert ended(runs.pop())["status"] == "succeeded"
    org.limit(output_bytes=1024)
    drive.until("the other gateway shows it",
                lambda: org.other("GET", org.path).json()["effective_limits"]["output_bytes"]["value"] == 1024)
    last = drive.until("schedulers have heard", lambda: (run := ended(runs.pop()))["status"] == "failed" and run, every=0.5)
    assert last["steps"]["t"]["error"]["code"] == "too_large"
    # what a gateway refuses, the other one refuses within seconds too
    org.limit(body_bytes=1024)
    big = json.dumps({"input": {"v": "x" * 1100}})
    assert org.api("POST", "/v1/workflows/patient/runs", data=big).status_code == 413
    drive.until("the other one refuses", lambda: org.other("POST", "/v1/workflows/patient/runs", data=big).status_code == 413)


def test_what_is_shown(org):
    shown = org.api("GET", org.path).json()
    assert shown["limits"] == {} and sorted(shown["effective_limits"]) == sorted(NAMES)
    assert shown["effective_limits"]["steps"] == {"value": 4, "source": "installation", "default": 4, "maximum": 6, "unit": "steps"}
    changed = org.limit(steps=6, depth=7)
    assert changed["limits"] == {"steps": 6, "depth": 7}
    assert changed["effective_limits"]["steps"]["source"] == "organisation" and changed["effective_limits"]["steps"]["value"] == 6
    assert org.limit(steps=None)["limits"] == {"depth": 7}, "the rest stays"
    assert org.save("six", side_by_side(5)).status_code == 422
    org.limit(steps=6)
    assert org.save("six", side_by_side(6)).status_code == 201 and org.save("seven", side_by_side(7)).status_code == 422


def test_what_the_installation_allows_no_more_is_cut(org, installation):
    installation.sql("update organisation set limits = '{\"steps\": 9}' where name = %s", org.name)
    steps = drive.until("it is read", lambda: (e := org.api("GET", org.path).json()["effective_limits"]["steps"])["value"] == 6 and e)
    assert steps["source"] == "installation_maximum"


@pytest.mark.parametrize("body, status, code, pointer, words", [
    ({"limits": {"stepz": 3}}, 422, "unknown_field", "/limits/stepz", "foreach_items"),
    ({"limits": {"steps": 7}}, 422, "out_of_range", "/limits/steps", "ROPEWALK_LIMIT_STEPS_MAX"),
    ({"limits": {"steps": 0}}, 422, "out_of_range", "/limits/steps", "from 1 to 6"),
    ({"limits": {"depth": 101}}, 422, "out_of_range", "/limits/depth", "from 1 to 100"),
    ({"limits": {"steps": "many"}}, 422, "wrong_type", "/limits/steps", "whole number"),
    ({"limits": {"steps": 1.5}}, 422, "wrong_type", "/limits/steps", "whole number"),
    ({"limits": []}, 422, "wrong_type", "/limits", "object"),
    ({}, 422, "missing_field", "/limits", "limits"),
    ({"limits": {}, "share": 9}, 422, "unknown_field", "/share", "limits"),
])
def test_what_cannot_be_is_refused_and_changes_nothing(org, body, status, code, pointer, words):
    org.limit(depth=5)
    answer = org.api("PATCH", org.path, body)
    assert answer.status_code == status, answer.text
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == (code, pointer) and words in fault["message"], fault
    assert org.api("GET", org.path).json()["limits"] == {"depth": 5}


@pytest.mark.parametrize("weight, code, words", [(0, "out_of_range", "from 1 to 1000"), (1001, "out_of_range", "from 1 to 1000"),
                                                 (1.5, "out_of_range", "whole number"), ("two", "wrong_type", "whole number"), (None, "wrong_type", "whole number")])
def test_a_weight_has_bounds(org, installation, weight, code, words):
    first = Api(installation.url, installation.key)
    for good in (1000, 1):
        assert first("PATCH", org.path, {"weight": good}).json()["weight"] == good
    answer = first("PATCH", org.path, {"weight": weight})
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == (code, "/weight") and words in fault["message"], fault
    assert org.api("GET", org.path).json()["weight"] == 1


def test_admins_of_the_first_organisation_alone_say_what_share_each_has(org, installation):
    first = Api(installation.url, installation.key)
    answer = org.api("PATCH", org.path, {"weight": 9})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden") and "first organisation" in answer.json()["detail"]
    assert first.as_role("editor")("PATCH", org.path, {"weight": 9}).status_code == 403
    assert first("PATCH", "/v1/organisations/nobody", {"weight": 9}).status_code == 404
    assert first("PATCH", org.path, {"weight": 9, "limits": {"steps": 1}}).status_code == 404, "limits are its own admins'"
    assert org.api("GET", org.path).json()["weight"] == 1, "as a whole or not at all"
    assert first("PATCH", org.path, {"weight": 9}).json()["name"] == org.name
    assert org.api("GET", org.path).json()["weight"] == 9
    both = first("PATCH", "/v1/organisations/default", {"weight": 2, "limits": {"depth": 99}}).json()
    assert both["weight"] == 2 and both["limits"]["depth"] == 99
    assert first("PATCH", "/v1/organisations/default", {"weight": 1, "limits": {"depth": None}}).json()["weight"] == 1


def test_a_raised_limit_of_running_runs_lets_those_go_on_that_wait(org):
    """Without a sweep: the schedulers of this installation make one an hour."""
    assert org.save("bounded", {"w": {"call": "wait_signal", "with": {"signal": "go"}}}).status_code == 201
    org.limit(max_running_runs=1)

    def status(run):
        return org.api("GET", "/v1/runs/" + run).json()["status"]

    runs = [org.api("POST", "/v1/workflows/bounded/runs", {}).json()["run_id"]]
    drive.until("the first goes on", lambda: status(runs[0]) == "waiting")
    runs += [org.api("POST", "/v1/workflows/bounded/runs", {}).json()["run_id"] for _ in range(3)]
    drive.until("the others wait", lambda: all(org.api("GET", f"/v1/runs/{run}/explain").json()["reason"] == "concurrency" for run in runs[1:]))
    org.limit(max_running_runs=2)
    drive.until("one more goes on", lambda: sum(status(run) == "waiting" for run in runs) == 2, 30)
    assert [status(run) for run in runs] == ["waiting", "waiting", "pending", "pending"], "in the order of their starts"
    org.limit(max_running_runs=None)
    drive.until("all go on", lambda: all(status(run) == "waiting" for run in runs), 30)


def test_only_admins_of_the_organisation_change_it(org, installation):
    for role in ("viewer", "operator", "editor"):
        answer = org.api.as_role(role)("PATCH", org.path, {"limits": {"steps": 1}})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text
    first = Api(installation.url, installation.key)
    assert first("PATCH", org.path, {"limits": {"steps": 1}}).status_code == 404, "another organisation is as unknown as none"
    assert org.api("PATCH", "/v1/organisations/nobody", {"limits": {"steps": 1}}).status_code == 404
    assert org.api("GET", org.path).json()["limits"] == {}


def test_the_command_line_shows_and_changes_them(org, installation):
    def cli(*words, code=0):
        done = subprocess.run([str(drive.BUILD / "bin/ropewalk"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, env={"ROPEWALK_URL": installation.url, "ROPEWALK_API_KEY": org.api.key})
        assert done.returncode == code, done
        return done

    assert "foreach_items" in cli("organisation", "show", org.name).stdout
    lines = cli("organisation", "limits", org.name, "steps=2", "depth=9").stdout.splitlines()
    assert next(line for line in lines if line.startswith("steps ")).split()[:4] == ["steps", "2", "steps", "organisation"]
    assert json.loads(cli("organisation", "limits", org.name, "steps=default", "-o", "json").stdout)["limits"] == {"depth": 9}
    assert "/limits/stepz" in cli("organisation", "limits", org.name, "stepz=2", code=3).stderr
    cli("organisation", "limits", org.name, "steps=lots", code=2)
    cli("organisation", "limits", org.name, code=2)
    cli("organisation", "lower", org.name, code=2)


def test_a_limit_of_running_runs_is_cut_when_the_installation_allows_less_than_it_did():
    def settings(where):
        (where / "etc").mkdir(parents=True)
        for kind in ("gateway", "scheduler"):
            (where / f"etc/{kind}.env").write_text("ROPEWALK_LIMIT_RUNNING_RUNS=2\nROPEWALK_LIMIT_RUNNING_RUNS_MAX=3\n")

    with drive.private_stack(before_up=settings) as stack:
        stack.sql("""update organisation set limits = '{"max_running_runs": 50}', changed_at = now() where name = 'default'""")
        stack.save({"name": "bounded", "steps": {"w": {"call": "wait_signal", "with": {"signal": "go"}}}})
        runs = [stack.start("bounded") for _ in range(5)]

        def statuses():
            return [stack.run(run)["status"] for run in runs]

        drive.until("n go on, and what comes after them waits", lambda: statuses() == ["waiting"] * 3 + ["pending"] * 2)
        place = drive.until("it says so", lambda: stack.ask("GET", f"/v1/runs/{runs[3]}/explain")["concurrency"])
        assert (place["limit"], place["held"], place["position"], place["waiting"]) == (3, 3, 1, 2), place
        assert stack.call("POST", f"/v1/runs/{runs[0]}/signals/go", 1).status_code == 202
        drive.until("one more goes on", lambda: statuses() == ["succeeded"] + ["waiting"] * 3 + ["pending"])
