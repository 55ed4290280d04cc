"""What is asked of many runs at once: it covers those that matched at one moment, however many, says what has become of it,
can be cancelled, and survives the gateways that work it off."""
import http.server
import json
import subprocess
import threading
import uuid

import psycopg
import pytest
import requests

import drive
from conftest import Api


def waiting(name):
    return {"name": name, "steps": {"w": {"call": "wait_signal", "with": {"signal": "go"}},
                                    "after": {"needs": ["w"], "call": "noop"}}}


@pytest.fixture
def flow(api):
    name = "bulk-" + uuid.uuid4().hex[:8]
    assert api("PUT", "/v1/workflows/" + name, waiting(name)).status_code == 201
    return name


@pytest.fixture(scope="module")
def private():
    """For tests that end processes, one after the other: each finds all of them running."""
    with drive.private_stack(gateways=2, schedulers=1, workers=1) as one:
        yield one


@pytest.fixture
def own(private):
    yield private
    for name in ("gateway-1", "gateway-2", "scheduler-1"):
        private.stack("start", name)
    drive.until("the gateways answer", lambda: api_answers(private), 60)


def started(api, name, count, **body):
    return [api("POST", f"/v1/workflows/{name}/runs", body).json()["run_id"] for _ in range(count)]


def by_status(stack, name):
    return dict(stack.sql("select status, count(*)::int from run where workflow = %s group by status", name))


def verdicts(stack, name):
    return stack.sql("select count(*)::int from event e join run r on r.id = e.run_id where r.workflow = %s and e.type in (40, 41)", name)[0][0]


def all_wait(stack, name, count):
    drive.until("all wait", lambda: by_status(stack, name).get("active") == count, 60)


def done(api, location, seconds=60):
    def look():
        shown = api("GET", location).json()
        return shown["status"] == "done" and shown
    return drive.until("the operation is done", look, seconds)


def test_every_run_of_the_filter_is_cancelled_and_no_other(stack, api, other, flow):
    mine, others = started(api, flow, 20, labels={"batch": "one"}), started(api, flow, 5, labels={"batch": "two"})
    all_wait(stack, flow, 25)
    asked = {"filter": {"workflow": flow, "label.batch": "one"}}
    planned = api("POST", "/v1/runs:cancel", {**asked, "dry_run": True})
    assert planned.status_code == 200, planned.text
    assert planned.json()["would_ask"] == {"count": 20, "at_least": False, "runs": sorted(mine, reverse=True)}
    assert by_status(stack, flow) == {"active": 25}, "a dry run does nothing"
    answer = api("POST", "/v1/runs:cancel", asked)
    assert answer.status_code == 202 and answer.json()["runs"] == 20, answer.text
    assert answer.headers["location"] == "/v1/operations/" + answer.json()["id"]
    shown = done(other, answer.headers["location"])
    assert (shown["runs"], shown["applied"], shown["refused"], shown["waiting"], shown["refusals"]) == (20, 20, 0, 0, [])
    assert shown["filter"] == asked["filter"] and shown["kind"] == "cancel" and api.key.startswith(shown["created_by"])
    drive.until("they end", lambda: by_status(stack, flow) == {"cancelled": 20, "active": 5})
    # a verdict is looked for behind what was there before, however long that is
    behind = stack.sql("select b.after_seq, min(e.seq) from bulk_run b join event e on e.run_id = b.run_id and e.type in (40, 41) "
                       "where b.operation = %s group by b.run_id, b.after_seq", answer.json()["id"])
    assert len(behind) == 20 and all(0 < after == verdict - 1 for after, verdict in behind), behind
    assert all(api("GET", "/v1/runs/" + run).json()["status"] == "waiting" for run in others)
    # those that have ended are counted, and left
    planned = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}, "dry_run": True}).json()
    assert planned["would_ask"]["count"] == 5 and planned["would_leave"]["count"] == 20 and planned["would_leave"]["reason"]
    nothing = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow, "status": "cancelled"}})
    assert nothing.status_code == 202 and nothing.json()["runs"] == 0
    assert api("GET", nothing.headers["location"]).json()["status"] == "done"


@pytest.mark.parametrize("condition, count", [
    ({"status": "waiting"}, 4), ({"status": "running"}, 0), ({"status": "active"}, 4), ({"status": "paused"}, 0),
    ({"created_before": "2020-01-01T00:00:00Z"}, 0), ({"created_after": "2020-01-01T00:00:00Z"}, 4), ({"q": "bulk-"}, 4),
    ({"parent": "0190a000-0000-7000-8000-000000000000"}, 0), ({"label.x": "y"}, 0)])
def test_the_conditions_are_those_of_the_list(stack, api, flow, condition, count):
    started(api, flow, 4)
    all_wait(stack, flow, 4)
    found = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow, **condition}, "dry_run": True}).json()
    assert found["would_ask"]["count"] == count, found
    listed = api("GET", "/v1/runs?workflow=" + flow + "".join(f"&{k}={v}" for k, v in condition.items())).json()["items"]
    assert len(listed) == count


@pytest.mark.parametrize("body, code, pointer", [
    ({}, "missing_field", "/filter"), ({"filter": {}}, "missing_field", "/filter"), ({"filter": []}, "wrong_type", "/filter"),
    ({"filter": {"workflow": "x"}, "all": True}, "out_of_range", "/all"), ({"all": "yes"}, "wrong_type", "/all"),
    ({"filter": {"flow": "x"}}, "unknown_field", "/filter/flow"), ({"filter": {"status": "lost"}}, "out_of_range", "/filter/status"),
    ({"filter": {"workflow": 7}}, "wrong_type", "/filter/workflow"), ({"filter": {"created_after": "now"}}, "out_of_range", "/filter/created_after"),
    ({"filter": {"workflow": "x"}, "confirm": True}, "unknown_field", "/confirm"),
    ({"filter": {"workflow": "x"}, "dry_run": 1}, "wrong_type", "/dry_run")])
def test_what_is_not_meant_is_refused(api, body, code, pointer):
    answer = api("POST", "/v1/runs:cancel", body)
    assert answer.status_code == 422, answer.text
    assert [(e["code"], e["pointer"]) for e in answer.json()["errors"]] == [(code, pointer)]


def test_the_same_key_asks_once(stack, api, other, flow):
    started(api, flow, 10)
    all_wait(stack, flow, 10)
    key = {"Idempotency-Key": "bulk-" + uuid.uuid4().hex}
    body = {"filter": {"workflow": flow}}
    answers = []
    threads = [threading.Thread(target=lambda one=one: answers.append(one("POST", "/v1/runs:cancel", body, headers=key)))
               for one in (Api(url, stack.key) for url in stack.urls * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} == {202}, [a.text for a in answers]
    assert len({(a.json()["id"], a.json()["runs"]) for a in answers}) == 1 and answers[0].json()["runs"] == 10
    shown = done(api, answers[0].headers["location"])
    assert (shown["applied"], shown["refused"]) == (10, 0)
    assert verdicts(stack, flow) == 10, "one verdict of each run"
    later = started(api, flow, 1)
    assert api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}}, headers=key).json() == answers[0].json()
    changed = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow, "status": "waiting"}}, headers=key)
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")
    assert api("GET", "/v1/runs/" + later[0]).json()["status"] in ("pending", "running", "waiting"), "it came after"


def test_many_are_retried(stack, api):
    name = "bulk-" + uuid.uuid4().hex[:8]
    steps = {"t": {"call": "transform", "with": {"value": "${ .input.x | error }"}}}
    assert api("PUT", "/v1/workflows/" + name, {"name": name, "steps": steps}).ok
    started(api, name, 6)
    drive.until("they fail", lambda: by_status(stack, name) == {"failed": 6})
    answer = api("POST", "/v1/runs:retry", {"filter": {"workflow": name, "status": "failed"}})
    assert answer.status_code == 202 and answer.json()["runs"] == 6
    shown = done(api, answer.headers["location"])
    assert shown["applied"] == 6, shown
    (reopened,), = stack.sql("select count(*)::int from event e join run r on r.id = e.run_id where r.workflow = %s and e.type = 12", name)
    assert reopened == 6
    drive.until("they fail again", lambda: by_status(stack, name) == {"failed": 6})


def test_many_are_paused_and_resumed(stack, api, flow):
    started(api, flow, 5)
    all_wait(stack, flow, 5)
    answer = api("POST", "/v1/runs:pause", {"filter": {"workflow": flow}})
    assert done(api, answer.headers["location"])["applied"] == 5
    assert by_status(stack, flow) == {"paused": 5}
    assert api("POST", "/v1/runs:pause", {"filter": {"workflow": flow}, "dry_run": True}).json()["would_leave"]["count"] == 5
    answer = api("POST", "/v1/runs:resume", {"filter": {"workflow": flow, "status": "paused"}})
    assert done(api, answer.headers["location"])["applied"] == 5
    assert by_status(stack, flow) == {"active": 5}
    answer = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}})
    assert done(api, answer.headers["location"])["applied"] == 5


def reruns(stack, name):
    return stack.sql("select rerun_of::text, id::text from run where workflow = %s and rerun_of is not null order by 1", name)


def failing(name):
    return {"name": name, "steps": {"first": {"call": "transform", "with": {"value": "${ .input.n }"}},
                                    "t": {"needs": ["first"], "call": "transform", "with": {"value": "${ .input.x | error }"}}}}


def test_many_are_done_again_in_new_runs(stack, api, other):
    name = "bulk-" + uuid.uuid4().hex[:8]
    assert api("PUT", "/v1/workflows/" + name, failing(name)).ok
    assert api("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"first": {"call": "transform", "with": {"value": 0}},
               "t": {"needs": ["first"], "call": "transform", "with": {"value": "${ .steps.first.output }"}}}}).ok
    assert api("POST", f"/v1/workflows/{name}:rollback", {"version": 1}).ok
    old = [api("POST", f"/v1/workflows/{name}/runs", {"input": {"n": n}, "labels": {"n": str(n)}}).json()["run_id"] for n in range(30)]
    drive.until("they fail", lambda: by_status(stack, name) == {"failed": 30})
    asked = {"filter": {"workflow": name, "status": "failed"}, "from": "t", "version": 2}
    planned = api("POST", "/v1/runs:rerun", {**asked, "dry_run": True}).json()
    assert planned["would_ask"]["count"] == 30 and not reruns(stack, name), "a dry run does nothing"
    answer = api("POST", "/v1/runs:rerun", asked)
    assert answer.status_code == 202 and answer.json()["runs"] == 30, answer.text
    shown = done(other, answer.headers["location"])
    assert (shown["applied"], shown["refused"], shown["kind"]) == (30, 0, "rerun"), shown
    assert sorted(one for one, _ in reruns(stack, name)) == sorted(old), "each once"
    assert len(shown["new_runs"]) == 20 and {(r["run_id"], r["new_run_id"]) for r in shown["new_runs"]} <= set(reruns(stack, name))
    drive.until("they succeed", lambda: by_status(stack, name) == {"failed": 30, "succeeded": 30})
    for run, new in reruns(stack, name)[:5]:
        run, new = api("GET", "/v1/runs/" + run).json(), api("GET", "/v1/runs/" + new).json()
        assert new["version"] == 2 and new["labels"] == run["labels"]
        assert new["steps"]["t"]["output"] == run["input"]["n"] == int(run["labels"]["n"]), "the first step's result was taken over"


def test_runs_that_cannot_be_done_again_say_why_and_the_others_go_on(stack, api, no):
    name, plain = "bulk-" + uuid.uuid4().hex[:8], "bulk-" + uuid.uuid4().hex[:8]
    steps = {"once": {"call": "http", "delivery": "at_most_once", "with": {"method": "POST", "url": no + "/"}}}
    label = {"labels": {"both": name}}
    assert api("PUT", "/v1/workflows/" + name, {"name": name, "steps": steps}).ok
    assert api("PUT", "/v1/workflows/" + plain, {"name": plain, "steps": {"n": {"call": "noop"}}}).ok
    once, twice = started(api, name, 2, **label), started(api, plain, 2, **label)
    drive.until("they end", lambda: by_status(stack, name) == {"failed": 2} and by_status(stack, plain) == {"succeeded": 2})
    asked = {"filter": {"label.both": name}}
    shown = done(api, api("POST", "/v1/runs:rerun", asked).headers["location"])
    assert (shown["applied"], shown["refused"]) == (2, 2), shown
    assert {(r["run_id"], r["code"]) for r in shown["refusals"]} == {(run, "confirmation_needed") for run in once}
    assert all("'once'" in r["reason"] for r in shown["refusals"])
    assert [run for run, _ in reruns(stack, plain)] == sorted(twice) and not reruns(stack, name)
    asked = {"filter": {"workflow": name}, "from": "nope"}
    shown = done(api, api("POST", "/v1/runs:rerun", asked).headers["location"])
    assert {(r["code"], r["reason"]) for r in shown["refusals"]} == {("invalid_rerun", "the run cannot be done again so: /from: the workflow has no such step of its own")}
    shown = done(api, api("POST", "/v1/runs:rerun", {"filter": {"workflow": name}, "confirm": ["once"]}).headers["location"])
    assert shown["applied"] == 2, shown


@pytest.mark.parametrize("body, code, pointer", [
    ({"from": 1}, "wrong_type", "/from"), ({"version": 0}, "wrong_type", "/version"), ({"outputs": []}, "wrong_type", "/outputs"),
    ({"confirm": "yes"}, "wrong_type", "/confirm"), ({"compensate": True}, "unknown_field", "/compensate")])
def test_a_rerun_that_no_run_could_be_asked_is_refused_as_a_whole(stack, api, body, code, pointer):
    before = stack.sql("select count(*) from bulk_operation")
    answer = api("POST", "/v1/runs:rerun", {"filter": {"workflow": "x"}, **body})
    assert answer.status_code == 422 and [(e["code"], e["pointer"]) for e in answer.json()["errors"]] == [(code, pointer)], answer.text
    assert stack.sql("select count(*) from bulk_operation") == before


def test_child_runs_are_done_again_with_their_parents(stack, api):
    child, parent = ("bulk-" + uuid.uuid4().hex[:8] for _ in range(2))
    label = {"labels": {"one": parent}}
    assert api("PUT", "/v1/workflows/" + child, {"name": child, "steps": {"n": {"call": "noop"}}}).ok
    assert api("PUT", "/v1/workflows/" + parent, {"name": parent, "steps": {"c": {"call": "workflow", "with": {"name": child}}}}).ok
    run, = started(api, parent, 1, **label)
    drive.until("they end", lambda: by_status(stack, parent) == {"succeeded": 1} and by_status(stack, child) == {"succeeded": 1})
    found = api("POST", "/v1/runs:rerun", {"filter": {"workflow": child}, "dry_run": True}).json()
    assert (found["would_ask"]["count"], found["would_leave"]["count"]) == (0, 0)
    assert done(api, api("POST", "/v1/runs:rerun", {"filter": {"workflow": child}}).headers["location"])["runs"] == 0
    shown = done(api, api("POST", "/v1/runs:rerun", {"filter": {"parent": run}}).headers["location"])
    assert (shown["runs"], shown["applied"]) == (1, 1) and len(reruns(stack, child)) == 1


def test_gateways_that_die_in_the_middle_neither_forget_nor_double_a_rerun(own):
    """Two gateways share the work; each is killed in turn while it is under way, the same request is sent again and again."""
    name, count = "bulk-" + uuid.uuid4().hex[:8], 400
    first, second = (Api(url, own.key) for url in own.urls)
    assert first("PUT", "/v1/workflows/" + name, {"name": name, "steps": {"n": {"call": "transform", "with": {"value": 1}}}}).ok
    threads = [threading.Thread(target=started, args=(Api(own.urls[i % 2], own.key), name, count // 8)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drive.until("all have ended", lambda: by_status(own, name) == {"succeeded": count}, 60)
    key, body = {"Idempotency-Key": "again"}, {"filter": {"workflow": name, "created_before": "2999-01-01T00:00:00Z", "status": "succeeded"}}
    answer = first("POST", "/v1/runs:rerun", body, headers=key)
    assert answer.status_code == 202 and answer.json()["runs"] == count
    drive.until("it is under way", lambda: len(reruns(own, name)) > 5)
    own.signal("gateway-1")
    assert len(reruns(own, name)) < count, "it was in the middle"
    assert second("POST", "/v1/runs:rerun", body, headers=key).json() == answer.json()
    drive.until("the other one goes on", lambda: len(reruns(own, name)) > count // 2, 60)
    own.signal("gateway-2")
    own.stack("start", "gateway-1")
    own.stack("start", "gateway-2")
    drive.until("a gateway answers", lambda: api_answers(own))
    # what the dead ones had in hand is tried again when nobody holds it any more
    shown = done(Api(own.urls[0], own.key), answer.headers["location"], 90)
    assert (shown["applied"], shown["refused"]) == (count, 0), shown
    made = reruns(own, name)
    assert len(made) == count and len({old for old, _ in made}) == count, "each was done again, once"
    drive.until("all have ended", lambda: by_status(own, name) == {"succeeded": 2 * count}, 60)


def api_answers(stack):
    try:
        return all(requests.get(url + "/readyz", timeout=5).status_code == 200 for url in stack.urls)
    except requests.RequestException:
        return False


@pytest.fixture
def no():
    """A server that has had each request, and wants none."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(400)

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_refusals_are_told_with_their_reason(stack, api, no):
    """A step that may not be repeated is not, unless that is confirmed: its runs refuse, one by one."""
    name = "bulk-" + uuid.uuid4().hex[:8]
    steps = {"once": {"call": "http", "delivery": "at_most_once", "with": {"method": "POST", "url": no + "/"}}}
    assert api("PUT", "/v1/workflows/" + name, {"name": name, "steps": steps}).ok
    runs = started(api, name, 2)
    drive.until("they fail", lambda: by_status(stack, name) == {"failed": 2})
    answer = api("POST", "/v1/runs:retry", {"filter": {"workflow": name}})
    shown = done(api, answer.headers["location"])
    assert (shown["applied"], shown["refused"]) == (0, 2), shown
    assert sorted(r["run_id"] for r in shown["refusals"]) == sorted(runs) and all("once" in r["reason"] for r in shown["refusals"]), shown
    answer = api("POST", "/v1/runs:retry", {"filter": {"workflow": name}, "confirm": True})
    assert done(api, answer.headers["location"])["applied"] == 2


def test_a_dry_run_names_what_needs_a_confirmation_and_what_would_refuse(stack, api, no):
    """Each run is looked at as its own plan would; what is said is what then happens."""
    once, gone, plain = ("bulk-" + uuid.uuid4().hex[:8] for _ in range(3))
    label = {"labels": {"plan": once}}
    post = {"call": "http", "delivery": "at_most_once", "with": {"method": "POST", "url": no + "/"}}
    assert api("PUT", "/v1/workflows/" + once, {"name": once, "steps": {"n": {"call": "noop"}, "once": {"needs": ["n"], **post}}}).ok
    assert api("PUT", "/v1/workflows/" + gone, {"name": gone, "steps": {"other": {"call": "noop"}}}).ok
    assert api("PUT", "/v1/workflows/" + plain, {"name": plain, "steps": {"n": {"call": "noop"}}}).ok
    risky, without, fine = started(api, once, 22, **label), started(api, gone, 2, **label), started(api, plain, 3, **label)
    drive.until("they end", lambda: by_status(stack, once) == {"failed": 22} and by_status(stack, gone) == {"succeeded": 2}
                and by_status(stack, plain) == {"succeeded": 3})
    asked = {"filter": {"label.plan": once}, "from": "n"}
    found = api("POST", "/v1/runs:rerun", {**asked, "dry_run": True}).json()
    assert (found["would_ask"]["count"], found["looked_at"]) == (27, 27) and len(found["would_ask"]["runs"]) == 20
    needs = found["needs_confirmation"]
    assert (needs["count"], needs["at_least"], len(needs["runs"])) == (22, False, 20), needs
    assert all(one["run_id"] in risky and one["steps"] == ["once"] for one in needs["runs"])
    refuse = found["would_refuse"]
    assert refuse["count"] == 2 and {(r["run_id"], r["code"]) for r in refuse["runs"]} == {(run, "invalid_rerun") for run in without}, refuse
    assert all("no such step" in r["reason"] for r in refuse["runs"])
    confirmed = api("POST", "/v1/runs:rerun", {**asked, "confirm": ["once"], "dry_run": True}).json()
    assert confirmed["needs_confirmation"] == {"count": 0, "at_least": False, "runs": []}
    # a list of steps is for workflows that have them
    assert {r["run_id"] for r in confirmed["would_refuse"]["runs"]} <= set(without + fine)
    shown = done(api, api("POST", "/v1/runs:rerun", asked).headers["location"])
    assert (shown["applied"], shown["refused"]) == (len(fine), 24), shown
    # the same of a retry
    asked = {"filter": {"workflow": once, "status": "failed"}}
    found = api("POST", "/v1/runs:retry", {**asked, "dry_run": True}).json()
    assert (found["needs_confirmation"]["count"], found["would_refuse"]["count"]) == (22, 0), found
    assert api("POST", "/v1/runs:retry", {**asked, "confirm": True, "dry_run": True}).json()["needs_confirmation"]["count"] == 0
    shown = done(api, api("POST", "/v1/runs:retry", asked).headers["location"])
    assert (shown["applied"], shown["refused"]) == (0, 22), shown


def test_another_organisation_sees_nothing_of_it(stack, api, stranger, flow):
    started(api, flow, 2)
    all_wait(stack, flow, 2)
    assert stranger("POST", "/v1/runs:cancel", {"all": True, "dry_run": True}).json()["would_ask"]["count"] == 0
    answer = stranger("POST", "/v1/runs:cancel", {"all": True})
    assert answer.status_code == 202 and answer.json()["runs"] == 0
    mine = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}})
    assert stranger("GET", mine.headers["location"]).status_code == 404
    assert stranger("POST", mine.headers["location"] + ":cancel").status_code == 404
    assert api("GET", "/v1/operations/nothing").status_code == 404


def planted(stack, name, count):
    """So many runs at once, as starts leave them in the tables."""
    stack.sql("""with made as (
                     insert into run (id, organisation, workflow, version, priority, created_at, input, labels)
                     select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid,
                            1, %s, 1, 2, now(), '{}', '{}' from generate_series(1, %s) n returning id)
                 insert into command (shard, organisation, run_id, kind)
                 select s.shard, 1, m.id, 'start' from made m join slot s on s.slot = ('x' || right(m.id::text, 3))::bit(12)::int returning 1""", name, count)


def test_an_operation_has_no_greatest_size_and_outlives_its_gateways(own, flow):
    """More runs than commands may be out: they are asked in slices, by whichever gateway is there."""
    count = 5_000
    first, second = (Api(url, own.key) for url in own.urls)
    own.stack("stop", "scheduler-1")
    assert second("PUT", "/v1/workflows/" + flow, waiting(flow)).ok
    planted(own, flow, count)
    key, body = {"Idempotency-Key": "all"}, {"filter": {"workflow": flow}}
    answer = first("POST", "/v1/runs:cancel", body, headers=key)
    assert answer.status_code == 202 and answer.json()["runs"] == count, answer.text
    late = started(second, flow, 3)
    out = drive.until("a slice is out", lambda: own.sql("select count(*)::int from command where kind = 'cancel'")[0][0])
    assert 0 < out < count / 2, "others' commands do not stand behind all of them"
    shown = first("GET", answer.headers["location"]).json()
    assert (shown["status"], shown["waiting"], shown["applied"]) == ("running", count, 0)
    own.signal("gateway-1")
    own.stack("start", "scheduler-1")
    drive.until("the other gateway goes on", lambda: second("GET", answer.headers["location"]).json()["applied"] > out, 60)
    own.signal("gateway-2")
    own.stack("start", "gateway-1")
    drive.until("a gateway answers", lambda: requests.get(own.urls[0] + "/readyz", timeout=5).ok)
    shown = done(Api(own.urls[0], own.key), answer.headers["location"], 120)
    assert (shown["applied"], shown["refused"], shown["left"]) == (count, 0, 0), shown
    assert Api(own.urls[0], own.key)("POST", "/v1/runs:cancel", body, headers=key).json() == answer.json()
    drive.until("all have ended", lambda: by_status(own, flow).get("cancelled") == count, 60)
    assert verdicts(own, flow) == count, "each run was asked once"
    assert all(Api(own.urls[0], own.key)("GET", "/v1/runs/" + run).json()["status"] != "cancelled" for run in late)
    drive.until("nothing is looked at any more", lambda: own.sql("select next_at from bulk_operation where id = %s", answer.json()["id"]) == [(None,)])


def test_an_operation_that_is_cancelled_asks_no_more(own, flow):
    count = 3_000
    first, second = (Api(url, own.key) for url in own.urls)
    own.stack("stop", "scheduler-1")
    assert second("PUT", "/v1/workflows/" + flow, waiting(flow)).ok
    planted(own, flow, count)
    location = first("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}}).headers["location"]
    out = drive.until("a slice is out", lambda: own.sql("select count(*)::int from command where kind = 'cancel'")[0][0])
    shown = second("POST", location + ":cancel").json()
    assert (shown["status"], shown["waiting"], shown["left"]) == ("cancelling", out, count - out), shown
    assert second.key.startswith(shown["cancelled_by"]) and shown["cancelled_at"]
    own.stack("start", "scheduler-1")
    shown = drive.until("what is out has its verdicts", lambda: (now := first("GET", location).json())["status"] == "cancelled" and now, 60)
    assert (shown["applied"], shown["waiting"], shown["left"]) == (out, 0, count - out), shown
    drive.until("they end", lambda: by_status(own, flow).get("cancelled") == out, 60)
    again = first("POST", location + ":cancel")
    assert again.status_code == 200 and again.json()["cancelled_at"] == shown["cancelled_at"], "asked twice it is as before"
    # one that is over stays what it was
    over = first("POST", "/v1/runs:pause", {"filter": {"workflow": flow, "status": "cancelled"}}).headers["location"]
    assert first("POST", over + ":cancel").json()["status"] == "done"
    assert first("POST", "/v1/operations/nothing:cancel").status_code == 404


def test_reruns_of_an_operation_that_is_cancelled_are_not_started(own, flow):
    count = 600
    api = Api(own.url, own.key)
    own.stack("stop", "scheduler-1")
    assert api("PUT", "/v1/workflows/" + flow, waiting(flow)).ok
    planted(own, flow, count)
    own.stack("start", "scheduler-1")
    location = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}}).headers["location"]
    done(api, location)
    drive.until("they end", lambda: by_status(own, flow).get("cancelled") == count, 60)
    location = api("POST", "/v1/runs:rerun", {"filter": {"workflow": flow}}).headers["location"]
    drive.until("some are done again", lambda: len(reruns(own, flow)) > 20)
    shown = api("POST", location + ":cancel").json()
    assert shown["status"] == "cancelled" and 0 < shown["left"] < count, shown
    shown = drive.until("it is at rest", lambda: own.sql(
        "select applied, runs from bulk_operation where id = %s and next_at is null", location.rpartition("/")[2]), 90)
    (applied, runs), = shown
    made = reruns(own, flow)
    assert 0 < len(made) == applied < runs == count, "what was in hand came to its end, and nothing more"
    told = api("GET", location).json()
    assert (told["status"], told["applied"], told["left"]) == ("cancelled", applied, count - applied)


def test_a_gateway_that_is_killed_while_it_accepts(own, flow):
    """Whatever the gateway had done when it died, the same request elsewhere gives one operation of all runs."""
    first, second = (Api(url, own.key) for url in own.urls)
    assert second("PUT", "/v1/workflows/" + flow, waiting(flow)).ok
    planted(own, flow, 1000)
    all_wait(own, flow, 1000)
    key, body, killed = {"Idempotency-Key": "the-thousand"}, {"filter": {"workflow": flow}}, threading.Event()

    def ask():
        try:
            first("POST", "/v1/runs:cancel", body, headers=key)
        except requests.RequestException:
            killed.set()

    asking = threading.Thread(target=ask)
    with psycopg.connect(own.env["ROPEWALK_ADMIN_PG_URL"]) as db:      # the statement waits where it writes the list
        db.execute("lock table ropewalk.bulk_run in share mode")
        asking.start()
        drive.until("it is under way", lambda: own.sql(
            "select count(*) from pg_locks where not granted and relation = 'ropewalk.bulk_run'::regclass")[0][0])
        own.signal("gateway-1")
        asking.join()
    assert killed.is_set(), "the client has had no answer"
    late = started(second, flow, 3)
    answer = second("POST", "/v1/runs:cancel", body, headers=key)
    # the first statement goes on when the lock is gone, beside the three that come then, and sees some of them or none
    assert answer.status_code == 202 and 1000 <= answer.json()["runs"] <= 1003, answer.text
    shown = done(second, answer.headers["location"])
    assert shown["refused"] == 0 and shown["applied"] == answer.json()["runs"]
    drive.until("all have ended", lambda: by_status(own, flow).get("cancelled") == answer.json()["runs"])
    (operations,), = own.sql("select count(distinct operation)::int from bulk_run b join run r on r.id = b.run_id where r.workflow = %s", flow)
    assert (operations, verdicts(own, flow)) == (1, answer.json()["runs"]), "each run was asked once"
    alive = [run for run in late if second("GET", "/v1/runs/" + run).json()["status"] != "cancelled"]
    assert len(alive) == 1003 - answer.json()["runs"], "what it counted was cancelled, and nothing else"


def test_operations_are_removed_with_their_runs_when_their_time_is_over(stack, api, flow):
    started(api, flow, 3)
    all_wait(stack, flow, 3)
    location = api("POST", "/v1/runs:cancel", {"filter": {"workflow": flow}}).headers["location"]
    done(api, location)
    operation = location.rpartition("/")[2]
    stack.sql("update bulk_operation set expires_at = now() - interval '1 second' where id = %s returning 1", operation)
    drive.until("it is gone", lambda: api("GET", location).status_code == 404, 60)
    assert stack.sql("select count(*)::int from bulk_run where operation = %s", operation) == [(0,)]


def test_the_command_line_cancels_many(stack, api, flow):
    def cli(*words, code=0):
        ran = subprocess.run([str(drive.BUILD / "bin/ropewalk"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             timeout=90, env={"ROPEWALK_URL": stack.url, "ROPEWALK_API_KEY": stack.key})
        assert ran.returncode == code, ran
        return ran

    runs = started(api, flow, 3)
    all_wait(stack, flow, 3)
    lines = cli("cancel", "--all-matching", f"workflow={flow},status=waiting", "--dry-run").stdout
    assert lines.startswith("3 runs would be asked\n") and all(run in lines for run in runs)
    operation = api("POST", "/v1/runs:pause", {"filter": {"workflow": flow, "status": "paused"}}).json()["id"]
    assert cli("operation", operation).stdout == cli("operation", operation, "--cancel").stdout == "0 runs asked: 0 done, 0 refused, 0 waiting\n"
    cli("operation", "nothing", code=3)
    assert cli("cancel", "--all-matching", f"workflow={flow}").stdout == "3 runs asked: 3 done, 0 refused, 0 waiting\n"
    assert json.loads(cli("retry", "--all-matching", f"workflow={flow},status=failed", "-o", "json").stdout)["runs"] == 0
    drive.until("they end", lambda: by_status(stack, flow) == {"cancelled": 3})
    assert cli("rerun", "--all-matching", f"workflow={flow}", "--dry-run").stdout.startswith("3 runs would be asked\n")
    lines = cli("rerun", "--all-matching", f"workflow={flow}", "--from", "w", "--input", '{"n": 1}').stdout.splitlines()
    assert lines[0] == "3 runs asked: 3 done, 0 refused, 0 waiting" and sorted(lines[1:]) == [f"  {old}  done again as {new}" for old, new in reruns(stack, flow)]
    assert all(api("GET", "/v1/runs/" + new).json()["input"] == {"n": 1} for _, new in reruns(stack, flow))
    cli("rerun", "--all-matching", "workflow=x", "--plan", code=2)
    cli("cancel", "--all-matching", "workflow", code=2)
    cli("cancel", "--all-matching", "workflow=x", runs[0], code=2)
    cli("cancel", "--all-matching", "flow=x", code=3)
    cli("retry", "--all-matching", "workflow=x", "--plan", code=2)
