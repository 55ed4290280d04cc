"""Schedules: in the list at once, fired once, whoever dies; paused, overridden, set off by hand. ROPEWALK_SCHEDULES_LONG=1 has
50 schedules for 120 s instead of 20 for 24 s."""
import datetime
import os
import subprocess
import time
import uuid

import pytest

from drive import BUILD, private_stack, until

LONG = bool(os.environ.get("ROPEWALK_SCHEDULES_LONG"))


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=1, schedulers=2, workers=1) as drive:
        yield drive


def saved(drive, triggers, status=201, name=None, steps=None, **more):
    name = name or "timed-" + uuid.uuid4().hex[:8]
    answer = drive.call("PUT", "/v1/workflows/" + name, {"name": name, "triggers": triggers, "steps": steps or {"a": {"call": "noop"}}, **more})
    assert answer.status_code == status, answer.text
    return name


def listed(drive, name):
    return {item["trigger"]: item for item in drive.ask("GET", "/v1/schedules?workflow=" + name)["items"]}


def runs_of(drive, name):
    return drive.ask("GET", f"/v1/runs?workflow={name}&page_size=500")["items"]


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_schedule_is_listed_from_the_answer_of_the_save_on(drive):
    name = saved(drive, {"nightly": {"cron": {"expression": "0 2 * * *", "timezone": "Europe/Berlin"}}, "later": {"at": "2099-01-01T00:00:00Z"},
                         "off": {"every": "1m", "enabled": False}})
    items = listed(drive, name)
    assert set(items) == {"nightly", "later"}
    assert items["nightly"]["status"] == "active" and items["nightly"]["next_at"] > items["nightly"]["created_at"]
    assert items["later"]["next_at"] == "2099-01-01T00:00:00.000Z" and items["later"]["last_at"] is None
    saved(drive, {"later": {"at": "2099-01-01T00:00:00Z"}}, 200, name)
    again = listed(drive, name)
    assert set(again) == {"later"} and again["later"]["id"] == items["later"]["id"]
    assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204
    assert listed(drive, name) == {}


def test_a_preview_marks_times_at_which_the_clocks_are_set(drive):
    name = saved(drive, {"t": {"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin", "dst_overlap": "twice"}}})
    path = f"/v1/schedules/{listed(drive, name)['t']['id']}/preview"
    times = drive.ask("GET", path + "?n=2&after=2027-03-27T12:00:00Z")["items"]
    assert times == [{"utc": "2027-03-28T01:00:00.000Z", "local": "2027-03-28T03:00:00+02:00", "transition": "after_gap"},
                     {"utc": "2027-03-29T00:30:00.000Z", "local": "2027-03-29T02:30:00+02:00", "transition": None}]
    times = drive.ask("GET", path + "?n=2&after=2027-10-30T12:00:00Z")["items"]
    assert [(one["utc"], one["transition"]) for one in times] == [("2027-10-31T00:30:00.000Z", "first_pass"), ("2027-10-31T01:30:00.000Z", "second_pass")]
    assert len(drive.ask("GET", path)["items"]) == 10
    assert drive.call("GET", path + "?n=1001").status_code == drive.call("GET", path + "?after=soon").status_code == 400
    assert drive.call("GET", f"/v1/schedules/{uuid.uuid4()}/preview").status_code == 404


def test_runs_know_the_nominal_time_and_get_their_input(drive):
    name = saved(drive, {"tick": {"every": "1s", "input": {"n": 1}}}, output="${ {at: .trigger.nominal_at, kind: .trigger.kind, n: .input.n} }")
    first = until("a run", lambda: runs_of(drive, name), 10)[-1]
    run = drive.ended(first["id"])
    schedule = listed(drive, name)["tick"]
    assert run["trigger"]["name"] == "tick" and run["trigger"]["kind"] == "every" and run["trigger"]["schedule"] == schedule["id"]
    assert run["output"] == {"at": run["trigger"]["nominal_at"], "kind": "every", "n": 1}
    assert moment(run["created_at"]) >= moment(run["trigger"]["nominal_at"]), "fired before its time"
    assert drive.call("POST", f"/v1/workflows/{name}:disable").status_code == 200
    count = len(runs_of(drive, name))
    assert listed(drive, name)["tick"]["status"] == "disabled"
    time.sleep(2.5)  # two of its times
    assert len(runs_of(drive, name)) == count
    assert drive.call("POST", f"/v1/schedules/{schedule['id']}:trigger").status_code == 409
    assert drive.call("POST", f"/v1/workflows/{name}:enable").status_code == 200
    until("it goes on", lambda: len(runs_of(drive, name)) > count, 10)
    assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204


def test_a_run_begins_at_the_step_that_the_trigger_names(drive):
    steps = {"a": {"call": "noop"}, "b": {"call": "noop", "needs": ["a"]}}
    name = saved(drive, {"tick": {"every": "1s", "start_at_step": "b"}}, steps=steps)
    first = until("a run", lambda: runs_of(drive, name), 10)[-1]
    by_hand = drive.ask("POST", f"/v1/schedules/{listed(drive, name)['tick']['id']}:trigger")["run_id"]
    assert drive.call("POST", f"/v1/workflows/{name}:disable").status_code == 200
    for run in (drive.ended(first["id"]), drive.ended(by_hand)):
        assert run["status"] == "succeeded"
        assert {step: state["status"] for step, state in run["steps"].items()} == {"a": "skipped", "b": "succeeded"}


def test_pause_resume_override_and_a_run_by_hand(drive):
    name = saved(drive, {"t": {"at": "2099-01-01T00:00:00Z"}})
    path = "/v1/schedules/" + listed(drive, name)["t"]["id"]
    run = drive.ended(drive.ask("POST", path + ":trigger")["run_id"])
    assert run["status"] == "succeeded" and run["trigger"]["manual"] is True and run["trigger"]["kind"] == "at"
    assert drive.ask("POST", path + ":pause")["status"] == "paused"
    changed = drive.ask("PATCH", path, {"override": {"every": "1s"}})
    assert changed["status"] == "paused" and changed["override"] == {"every": "1s"} and changed["next_at"] is None
    assert drive.ask("POST", path + ":resume")["status"] == "active"
    until("the override's runs", lambda: len(runs_of(drive, name)) >= 3, 10)
    saved(drive, {"t": {"at": "2098-01-01T00:00:00Z"}}, 200, name)
    kept = listed(drive, name)["t"]
    assert kept["override"] == {"every": "1s"} and kept["definition"] == {"at": "2098-01-01T00:00:00Z"}
    count = len(runs_of(drive, name))
    until("it goes on over a new version", lambda: len(runs_of(drive, name)) > count, 10)
    back = drive.ask("PATCH", path, {"override": None})
    assert back["next_at"] == "2098-01-01T00:00:00.000Z" and back["override"] is None
    faults = drive.call("PATCH", path, {"override": {"cron": {"expression": "0 0 31 2 *"}}})
    assert faults.status_code == 422 and faults.json()["errors"][0]["pointer"] == "/override/cron/expression"
    assert drive.call("PATCH", path, {"override": {}}).status_code == drive.call("PATCH", path, {}).status_code == 422


def test_a_run_by_hand_is_started_once_for_its_key(drive):
    name = saved(drive, {"t": {"at": "2099-01-01T00:00:00Z", "input": {"by": "${ .trigger.manual }"}}}, output="${ .input }")
    other = saved(drive, {"t": {"at": "2099-01-01T00:00:00Z"}}, name=name + "-2")
    path = f"/v1/schedules/{listed(drive, name)['t']['id']}:trigger"
    first, again = (drive.call("POST", path, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.status_code == again.status_code == 202 and first.json()["id"] == again.json()["id"]
    assert drive.call("POST", path, headers={"Idempotency-Key": "l"}).json()["id"] != first.json()["id"]
    assert drive.ended(first.json()["id"])["output"] == {"by": True}
    until("two runs", lambda: len(runs_of(drive, name)) == 2, 5)
    # the key is the workflow's: a plain start under it is another request
    problem = drive.call("POST", f"/v1/workflows/{name}/runs", {}, headers={"Idempotency-Key": "k"})
    assert problem.status_code == 422 and problem.json()["code"] == "idempotency_key_reused"
    assert drive.call("POST", f"/v1/schedules/{listed(drive, other)['t']['id']}:trigger", headers={"Idempotency-Key": "k"}).status_code == 202


def test_the_command_line_does_all_of_it_and_an_override_survives_a_restart(drive, tmp_path):
    name = saved(drive, {"t": {"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}}})
    schedule = listed(drive, name)["t"]["id"]

    def cli(*words, code=0):
        done = subprocess.run([str(BUILD / "bin/ropewalk"), "schedule", *words], capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "ROPEWALK_URL": drive.url, "ROPEWALK_API_KEY": drive.key})
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stderr
    [titles, row] = [line.split() for line in cli("list", "--workflow", name).splitlines()]
    assert titles == ["SCHEDULE", "WORKFLOW", "TRIGGER", "KIND", "STATUS", "NEXT", "LAST"] and row[:5] == [schedule, name, "t", "cron", "active"]
    times = [line.split() for line in cli("preview", schedule, "--n", "2", "--after", "2027-03-27T12:00:00Z").splitlines()]
    assert times[0] == ["UTC", "LOCAL", "CLOCKS"] and times[1] == ["2027-03-28T01:00:00.000Z", "2027-03-28T03:00:00+02:00", "after_gap"]
    assert len(times) == 3 and times[2][:2] == ["2027-03-29T00:30:00.000Z", "2027-03-29T02:30:00+02:00"]
    assert cli("pause", schedule) == f"paused {schedule}\n" and listed(drive, name)["t"]["status"] == "paused"
    assert drive.ended(cli("trigger", schedule).strip())["trigger"]["manual"] is True
    assert cli("resume", f"{name}/t") == f"goes on: {name}/t\n" and listed(drive, name)["t"]["status"] == "active"
    (tmp_path / "override.json").write_text('{"at": "2098-01-01T00:00:00Z"}')
    assert cli("override", schedule, f"@{tmp_path / 'override.json'}") == f"overridden: {schedule}\n"
    drive.stack("stop", "scheduler-1", "scheduler-2", "gateway-1")
    drive.stack("start", "scheduler-1", "scheduler-2", "gateway-1")
    drive.read_env()
    assert cli("list", "--workflow", name).split()[12] == "2098-01-01T00:00:00.000Z"
    assert "/override/cron" in cli("override", schedule, '{"cron": "0 0 31 2 *"}', code=3)
    assert cli("override", schedule, "--remove") == f"as in the document again: {schedule}\n" and listed(drive, name)["t"]["override"] is None
    for words in (("list", "more"), ("pause",), ("override", schedule), ("override", schedule, "{}", "--remove"), ("nonsense", schedule)):
        cli(*words, code=2)
    assert cli("preview", f"{name}/t", "--n", "1").split()[3:4] == [listed(drive, name)["t"]["next_at"]]
    for nobody in (str(uuid.uuid4()), name + "/none", "none/t"):
        assert "not_found" in cli("pause", nobody, code=3)
    assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204


def test_skip_and_cancel_previous(drive):
    waits = {"w": {"call": "wait_signal", "with": {"signal": "go"}}}
    skips = saved(drive, {"t": {"every": {"interval": "1s", "overlap": "skip"}}}, steps=waits)
    cancels = saved(drive, {"t": {"every": {"interval": "1s", "overlap": "cancel_previous"}}}, steps=waits)
    until("runs that were cancelled", lambda: sum(run["status"] == "cancelled" for run in runs_of(drive, cancels)) >= 2, 20)
    schedule = listed(drive, skips)["t"]["id"]
    until("times that were skipped", lambda: drive.sql("select count(*) from schedule_fire where schedule = %s and run_id is null", schedule)[0][0] >= 3, 10)
    assert len(runs_of(drive, skips)) == 1
    for name in (skips, cancels):
        assert drive.call("POST", f"/v1/workflows/{name}:disable").status_code == 200


def test_queued_times_start_one_after_another(drive):
    name = saved(drive, {"t": {"every": {"interval": "1s", "overlap": "queue"}}}, steps={"w": {"call": "wait_signal", "with": {"signal": "go"}}})
    until("times that wait", lambda: listed(drive, name)["t"]["waiting"] >= 3, 20)
    path = "/v1/schedules/" + listed(drive, name)["t"]["id"]
    assert drive.call("PATCH", path, {"override": {"at": "2099-01-01T00:00:00Z"}}).status_code == 200  # no more times; what waits goes on
    ended = []
    for _ in range(4):
        [open_run] = until("the next one", lambda: [run for run in runs_of(drive, name) if run["status"] not in ("succeeded", "pending")], 10)
        drive.ask("POST", f"/v1/runs/{open_run['id']}/signals/go", {})
        ended.append(drive.ended(open_run["id"])["trigger"]["nominal_at"])
    assert ended == sorted(set(ended)) and len(ended) == 4
    gaps = {round((moment(b) - moment(a)).total_seconds()) for a, b in zip(ended, ended[1:])}
    assert gaps == {1}, "one of the times that waited was left out"
    assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204


def test_expressions_make_the_input(drive):
    schema = {"type": "object", "required": ["day"], "properties": {"day": {"type": "string", "maxLength": 10}}}
    name = saved(drive, {"t": {"every": "1s", "input": {"day": "${ .trigger.nominal_at[0:10] }", "from": "${ .trigger.name }", "price": "$${ 1"}}},
                 input_schema=schema, output="${ .input }")
    run = drive.ended(until("a run", lambda: runs_of(drive, name), 10)[-1]["id"])
    assert run["output"] == {"day": run["trigger"]["nominal_at"][:10], "from": "t", "price": "${ 1"}
    saved(drive, {"t": {"every": "1s", "input": {"day": "${ .trigger.nominal_at }"}}}, 200, name, input_schema=schema)
    error = until("what was wrong", lambda: listed(drive, name)["t"]["last_error"], 10)
    assert error["code"] == "invalid_input" and error["nominal_at"] and "day" in error["message"]
    saved(drive, {"t": {"every": "1s", "input": {"day": "${ error(\"no day\") }"}}}, 200, name, input_schema=schema)
    until("what was wrong then", lambda: (listed(drive, name)["t"]["last_error"] or {}).get("code") == "expression_failed", 10)
    count = len(runs_of(drive, name))
    saved(drive, {"t": {"every": "1s", "input": {"day": "today"}}}, 200, name, input_schema=schema)
    until("runs again", lambda: len(runs_of(drive, name)) > count, 10)
    until("the error is gone", lambda: listed(drive, name)["t"]["last_error"] is None, 10)
    assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204


def test_a_schedule_that_postgresql_refuses_stands_alone(drive):
    good = saved(drive, {f"t{i}": {"every": "1s"} for i in range(12)})
    bad = saved(drive, {"t": {"at": "2099-01-01T00:00:00Z"}})
    schedule = listed(drive, bad)["t"]["id"]
    drive.sql(f"alter table schedule_fire add constraint refused check (schedule <> '{schedule}') not valid")
    try:
        assert drive.call("PATCH", "/v1/schedules/" + schedule, {"override": {"every": "1s"}}).status_code == 200
        refused = until("it is refused", lambda: listed(drive, bad)["t"]["status"] == "refused" and listed(drive, bad)["t"], 30)
        assert refused["fault"]["code"] == "refused_data" and "refused" in refused["fault"]["message"] and refused["next_at"] is None
        assert runs_of(drive, bad) == []
        count = len(runs_of(drive, good))
        until("the others go on", lambda: len(runs_of(drive, good)) >= min(count + 24, 400), 20)
        assert {item["status"] for item in listed(drive, good).values()} == {"active"}
    finally:
        drive.sql("alter table schedule_fire drop constraint refused")
    assert drive.ask("POST", f"/v1/schedules/{schedule}:resume")["status"] == "active"
    until("it is fired", lambda: runs_of(drive, bad), 10)
    for name in (good, bad):
        assert drive.call("DELETE", "/v1/workflows/" + name).status_code == 204


def test_of_what_was_missed_the_latest_are_made_good(drive):
    name = saved(drive, {"two": {"cron": {"expression": "0 * * * *", "catch_up": 2}}, "none": {"cron": {"expression": "0 * * * *", "catch_up": 0}}})
    drive.sql("update schedule set after_at = date_trunc('hour', now()) - interval '30 hours', due_at = now() where workflow = %s", name)
    until("what was missed", lambda: len(runs_of(drive, name)) >= 2, 10)
    hour = drive.sql("select date_trunc('hour', now())")[0][0]
    if drive.sql("select now() - date_trunc('hour', now()) > interval '70 seconds'")[0][0]:  # else the latest is merely late
        fired = sorted(row[0] for row in drive.sql("select nominal_at from schedule_fire f join schedule s on s.id = f.schedule where s.workflow = %s", name))
        assert fired == [hour - datetime.timedelta(hours=1), hour]


def test_every_time_is_fired_once_while_schedulers_are_killed(drive):
    count, seconds = (50, 120) if LONG else (20, 24)
    names = [saved(drive, {f"t{i}": {"every": {"interval": "1s", "catch_up": 100}} for i in range(10)}) for _ in range(count // 10)]
    began, kills = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        victim = f"scheduler-{kills % 2 + 1}"
        time.sleep(3)
        drive.signal(victim)
        kills += 1
        drive.stack("start", victim)
    rows = "select s.id, s.anchor_at, f.nominal_at, f.run_id from schedule s join schedule_fire f on f.schedule = s.id where s.workflow = any(%s)"
    end = drive.sql("select now()")[0][0]
    until("what was due then", lambda: drive.sql("select min(coalesce(last_at, anchor_at)) from schedule where workflow = any(%s)", names)[0][0]
          > end - datetime.timedelta(seconds=1), 60)
    for name in names:
        assert drive.call("POST", f"/v1/workflows/{name}:disable").status_code == 200
    fired = {}
    for schedule, anchor, nominal, run in drive.sql(rows, names):
        assert run is not None
        fired.setdefault((schedule, anchor), []).append(nominal)
    assert len(fired) == count and kills >= 5
    for (_, anchor), times in fired.items():
        gaps = {anchor + datetime.timedelta(seconds=k + 1) for k in range(len(times))} ^ set(times)
        assert not gaps, sorted(gaps)[:5]
    runs = drive.sql("select trigger->>'schedule', trigger->>'nominal_at', count(*) from run where workflow = any(%s) group by 1, 2", names)
    assert all(n == 1 for _, _, n in runs) and len(runs) == sum(map(len, fired.values())), "doubles"
    until("their ends", lambda: drive.sql("select count(*) from run where workflow = any(%s) and ended_at is null", names)[0][0] == 0, 120)
