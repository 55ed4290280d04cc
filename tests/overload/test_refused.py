"""What is refused when too much waits, and what goes on meanwhile. Time plays no part in it."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import overload  # noqa: E402
from overload import drive  # noqa: E402

FEW = 250               # more than schedulers keep to themselves
NOBODY = {"name": "nobody", "steps": {f"s{i}": {"call": "noop", "pool": "nobody"} for i in range(FEW)}}
WAITS = {"name": "waits", "steps": {"w": {"call": "wait_signal", "with": {"signal": "go"}}}}


@pytest.fixture(scope="module")
def small():
    """A stack where FEW of anything are too many."""
    with drive.private_stack(gateways=2, settings={"gateway": {"BACKLOG_MAX": FEW}}) as stack:
        yield stack


def start(stack, workflow, url=None, key=None, value=None, **headers):
    sent = {"Idempotency-Key": key} if key else {}
    return stack.call("POST", f"/v1/workflows/{workflow}/runs", {"input": value or {}}, headers={**sent, **headers}, url=url)


def refused(answer, status, code):
    return answer.status_code == status and answer.json()["code"] == code and 1 <= int(answer.headers["Retry-After"]) <= 30


def metric(stack, url, name):
    text = stack.session.get(url + "/metrics", timeout=10).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


def test_with_too_much_waiting_starts_are_refused_and_all_else_goes_on(small):
    small.save(overload.ONE)
    small.save(WAITS)
    waiting = small.start("waits")
    other = small.start("waits")
    drive.until("both wait", lambda: small.sql("select count(*) from open_work where kind = 7")[0][0] == 2)
    small.stack("stop", "scheduler-1")
    try:
        first = [start(small, "one", key=f"before-{i}") for i in range(FEW)]
        assert {answer.status_code for answer in first} == {202}
        for url in small.urls:
            drive.until("the refusal", lambda: refused(start(small, "one", url=url), 503, "overloaded"))
            assert refused(start(small, "one", url=url, key="another"), 503, "overloaded")
            again = start(small, "one", url=url, key="before-7")
            assert again.status_code == 202 and again.json() == first[7].json()
            assert start(small, "one", url=url, key="before-7", value={"other": 1}).status_code == 422
            assert small.session.get(url + "/readyz", timeout=10).status_code == 200
            assert metric(small, url, 'ropewalk_starts_refused_total{reason="backlog"}') >= 2
            assert metric(small, url, "ropewalk_starts_waiting") >= FEW
        assert small.run(first[7].json()["run_id"])["status"] == "pending"
        assert small.ask("GET", f"/v1/runs/{first[7].json()['run_id']}/explain")["reason"] == "no_scheduler"
        assert small.call("POST", f"/v1/runs/{waiting}/signals/go", {}).status_code == 202
        assert small.call("POST", f"/v1/runs/{other}:cancel", {}).status_code == 202
        assert any(line["event"] == "admission.backlog_refused" for line in small.log("gateway"))
    finally:
        small.stack("start", "scheduler-1")
    drive.until("starts are taken again", lambda: start(small, "one", key="another").status_code == 202, 30)
    assert small.ended(waiting)["status"] == "succeeded"
    assert small.ended(other)["status"] == "cancelled"
    for answer in first:
        assert small.ended(answer.json()["run_id"])["status"] == "succeeded"
    assert small.sql("select count(*) from idempotency where key = 'another'")[0][0] == 1
    assert small.faults_of_history() == []


def test_an_organisation_with_too_much_waiting_is_refused_alone(small):
    made = small.ask("POST", "/v1/organisations", {"name": "patient"})["api_key"]
    key = {"Authorization": "Bearer " + made}
    for document in (overload.ONE, NOBODY):
        assert small.call("PUT", "/v1/workflows/" + document["name"], document, headers=key).ok
    small.save(overload.ONE)
    run = start(small, "nobody", **key).json()["run_id"]
    drive.until("its refusal", lambda: refused(start(small, "one", **key), 429, "organisation_busy"))
    assert refused(start(small, "one", key="k", **key), 429, "organisation_busy")
    assert small.ended(small.start("one"))["status"] == "succeeded"
    assert metric(small, small.url, 'ropewalk_starts_refused_total{reason="share"}') >= 1
    assert small.call("POST", f"/v1/runs/{run}:cancel", {}, headers=key).status_code == 200
    drive.until("starts are taken again", lambda: start(small, "one", **key).status_code == 202)
