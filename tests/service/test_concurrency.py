"""Concurrency limits, of workflows, keys and organisations: never more than they allow, in order, whoever dies."""
import collections
import contextlib
import os
import random
import signal
import time
import uuid

import pytest

from drive import ENDS, private_stack, until
from target import Target


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=1, schedulers=2, workers=2, settings={"scheduler": {"WATCH_SWEEP_MS": 1000}}) as drive:
        yield drive


@pytest.fixture(autouse=True)
def every_slot_is_free_again(request):
    yield
    if "drive" not in request.fixturenames:
        return
    drive = request.getfixturevalue("drive")
    until("the slots", lambda: drive.sql("select count(*) from admission")[0][0] == 0, 20)
    until("the keys", lambda: drive.sql("select count(*) from admission_key")[0][0] == 0, 20)


def named(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def held(drive, **concurrency):
    """A saved workflow whose runs wait for a signal."""
    name = named("held")
    drive.save({"name": name, "concurrency": concurrency, "steps": {"wait": {"call": "wait_signal", "with": {"signal": "go"}}}})
    return name


def goes_on(drive, run):
    return until(f"run {run} to go on", lambda: drive.run(run)["status"] == "waiting" and run, 20)


def queued(drive, run):
    """It waits for a slot, and the key knows it."""
    return until(f"run {run} to be queued", lambda: drive.sql("select 1 from admission where run_id = %s and not granted", run) and run, 20)


def let_go(drive, *runs):
    for run in runs:
        assert drive.call("POST", f"/v1/runs/{run}/signals/go").status_code == 202
    return [drive.ended(run) for run in runs]


def test_runs_wait_in_order_and_are_told_where_they_stand(drive):
    name = held(drive, limit=1)
    first = goes_on(drive, drive.start(name))
    others = [queued(drive, drive.start(name)) for _ in range(3)]
    assert [drive.run(run)["status"] for run in others] == ["pending"] * 3
    said = drive.ask("GET", f"/v1/runs/{others[1]}/explain")
    assert said["reason"] == "concurrency", said
    assert said["concurrency"] == {"workflow": name, "key": None, "limit": 1, "held": 1, "position": 2, "waiting": 3,
                                   "holders": [first]}
    assert said["sentence"] == (f"The run waits for a slot of workflow '{name}', as number 2 of 3 in the queue; 1 of 1 are held, "
                                f"by {first}.")
    assert said["open"][0]["kind"] == "admission"
    assert drive.call("POST", f"/v1/runs/{others[1]}:cancel").status_code == 200
    assert drive.ended(others[1])["status"] == "cancelled"
    for run in (first, others[0], others[2]):
        goes_on(drive, run)
        assert let_go(drive, run)[0]["status"] == "succeeded"
    assert drive.ask("GET", f"/v1/runs/{first}/explain")["concurrency"] is None


def test_each_key_has_slots_of_its_own_and_an_expression_makes_it(drive):
    name = held(drive, limit=1, key="customer ${ .input.customer }")
    a, b = (goes_on(drive, drive.start(name, {"customer": c})) for c in ("Zoë", 7))
    waits = queued(drive, drive.start(name, {"customer": "Zoë"}))
    assert drive.ask("GET", f"/v1/runs/{waits}/explain")["concurrency"]["key"] == "customer Zoë"
    let_go(drive, a)
    goes_on(drive, waits)
    let_go(drive, b, waits)


def test_an_input_that_gives_no_key_ends_the_run(drive):
    name = held(drive, limit=1, key="${ .input.customer }")
    ended = drive.ended(drive.start(name, {}))
    assert ended["status"] == "failed" and ended["error"]["code"] == "invalid_input", ended["error"]
    assert "concurrency.key" in ended["error"]["message"]


def test_skip_ends_at_once_with_the_reason(drive):
    name = held(drive, limit=2, on_limit="skip")
    runs = [goes_on(drive, drive.start(name)) for _ in range(2)]
    ended = drive.ended(drive.start(name))
    assert ended["status"] == "cancelled" and ended["error"]["code"] == "concurrency_limit", ended
    let_go(drive, *runs)
    let_go(drive, goes_on(drive, drive.start(name)))


def test_cancel_oldest_makes_room_for_the_newest(drive):
    name = held(drive, limit=2, on_limit="cancel_oldest")
    runs = [goes_on(drive, drive.start(name)) for _ in range(2)]
    runs.append(goes_on(drive, drive.start(name)))
    ended = drive.ended(runs[0])
    assert ended["status"] == "cancelled" and ended["error"]["code"] == "concurrency_limit", ended
    assert runs[2] in ended["error"]["message"]
    assert drive.run(runs[1])["status"] == "waiting"
    let_go(drive, *runs[1:])


def test_a_child_takes_the_slot_of_its_own_workflow(drive):
    child, parent = held(drive, limit=1), named("parent")
    drive.save({"name": parent, "steps": {"down": {"call": "workflow", "with": {"name": child}}}})
    first = goes_on(drive, drive.start(child))
    run = drive.start(parent)
    kid = until("the child", lambda: drive.sql("select id::text from run where parent = %s", run))[0][0]
    queued(drive, kid)
    said = drive.ask("GET", f"/v1/runs/{run}/explain")
    assert said["reason"] == "child" and said["child"]["reason"] == "concurrency", said
    let_go(drive, first)
    goes_on(drive, kid)
    let_go(drive, kid)
    assert drive.ended(run)["status"] == "succeeded"


def test_an_organisation_bounds_its_running_runs(drive):
    name = named("plain")
    drive.save({"name": name, "steps": {"wait": {"call": "wait_signal", "with": {"signal": "go"}}}})
    drive.ask("PATCH", "/v1/organisations/default", {"limits": {"max_running_runs": 2}})
    until("all to know", lambda: drive.sql("select now() > changed_at + interval '5 s' from organisation where id = 1")[0][0])
    try:
        runs = [goes_on(drive, drive.start(name)) for _ in range(2)]
        more = [queued(drive, drive.start(name)) for _ in range(3)]
        said = drive.ask("GET", f"/v1/runs/{more[0]}/explain")
        assert said["reason"] == "concurrency" and said["concurrency"]["workflow"] is None, said
        assert "of its organisation's limit of running runs" in said["sentence"]
        let_go(drive, runs[0])
        goes_on(drive, more[0])
        drive.ask("PATCH", "/v1/organisations/default", {"limits": {"max_running_runs": 3}})
        goes_on(drive, more[1])
        assert drive.run(more[2])["status"] == "pending"
    finally:
        drive.ask("PATCH", "/v1/organisations/default", {"limits": {"max_running_runs": None}})
    goes_on(drive, more[2])
    let_go(drive, runs[1], *more)


GIVEN, QUEUED = 33, 17  # types of events


def in_two(drive, **limit):
    """A saved workflow whose first step's output the second hands on when it has its signal."""
    name = named("two")
    drive.save({"name": name, "output": "${ .steps.tell.output }", **limit, "steps": {
        "make": {"call": "transform", "with": {"value": {"x": "${ .input.x }"}}},
        "wait": {"call": "wait_signal", "with": {"signal": "go"}, "needs": ["make"]},
        "tell": {"call": "transform", "with": {"value": "${ .steps.make.output }"}, "needs": ["wait"]}}})
    return name


def kinds_of_events(drive, run):
    return [kind for (kind,) in drive.sql("select type from event where run_id = %s order by seq", run)]


@pytest.mark.parametrize("bound", ["workflow", "key", "organisation"])
def test_a_run_that_begins_in_the_middle_waits_for_its_slot_with_what_it_was_given(drive, bound):
    by = {"workflow": {"limit": 1}, "key": {"limit": 1, "key": "${ .input.x + 1 }"}}.get(bound)
    name = in_two(drive, **({"concurrency": by} if by else {}))
    old = goes_on(drive, drive.start(name, {"x": 1}))
    assert let_go(drive, old)[0]["output"] == {"x": 1}
    if bound == "organisation":
        drive.ask("PATCH", "/v1/organisations/default", {"limits": {"max_running_runs": 1}})
        until("all to know", lambda: drive.sql("select now() > changed_at + interval '5 s' from organisation where id = 1")[0][0])
    try:
        holder = goes_on(drive, drive.start(name, {"x": 1}))
        asked = drive.call("POST", f"/v1/runs/{old}:rerun", {"from": "wait", "outputs": {"make": {"x": "given"}}})
        assert asked.status_code == 202, asked.text
        again = queued(drive, asked.json()["run_id"])
        taken = drive.call("POST", f"/v1/runs/{old}:rerun", {"from": "tell"}).json()["run_id"]
        queued(drive, taken)
        middle = queued(drive, drive.ask("POST", f"/v1/workflows/{name}/runs", {"input": {"x": 1}, "start_at_step": "wait"})["run_id"])
        assert [drive.run(run)["status"] for run in (again, taken, middle)] == ["pending"] * 3
        assert kinds_of_events(drive, again) == [GIVEN, QUEUED] and kinds_of_events(drive, taken) == [GIVEN, GIVEN, QUEUED]
        for scheduler in ("scheduler-1", "scheduler-2"):
            drive.signal(scheduler, signal.SIGKILL)
            drive.stack("start", scheduler)
        let_go(drive, holder)
        assert let_go(drive, goes_on(drive, again))[0]["output"] == {"x": "given"}
        assert drive.ended(taken)["output"] == {"x": 1}
        ended = let_go(drive, goes_on(drive, middle))[0]
        assert ended["status"] == "succeeded" and ended["output"] is None
        assert ended["steps"]["make"]["status"] == "skipped"
    finally:
        if bound == "organisation":
            drive.ask("PATCH", "/v1/organisations/default", {"limits": {"max_running_runs": None}})
    assert drive.faults_of_history() == []


def test_what_is_given_everything_can_be_cancelled_in_the_queue(drive):
    name = in_two(drive, concurrency={"limit": 1})
    old = goes_on(drive, drive.start(name, {"x": 1}))
    let_go(drive, old)
    holder = goes_on(drive, drive.start(name, {"x": 1}))
    outputs = {"make": 1, "wait": 2, "tell": 3}
    runs = [drive.call("POST", f"/v1/runs/{old}:rerun", {"outputs": outputs}).json()["run_id"] for _ in range(2)]
    for run in runs:
        queued(drive, run)
    assert drive.call("POST", f"/v1/runs/{runs[0]}:cancel").status_code == 200
    assert drive.ended(runs[0])["status"] == "cancelled"
    let_go(drive, holder)
    ended = drive.ended(runs[1])
    assert ended["status"] == "succeeded" and ended["output"] == 3
    assert drive.faults_of_history() == []


class Lost:
    """Commands of a kind vanish while it is open."""

    def __init__(self, drive, kind):
        self.drive, self.kind = drive, kind

    def __enter__(self):
        self.drive.sql("create function ropewalk.lose() returns trigger language plpgsql as 'begin return null; end'")
        self.drive.sql(f"create trigger lose before insert on command for each row when (new.kind = '{self.kind}') execute function lose()")

    def __exit__(self, *_):
        self.drive.sql("drop trigger lose on command")
        self.drive.sql("drop function ropewalk.lose")


def orphans(drive, reason):
    return sum(int(count) for name, count in drive.orphans().items() if f'"{reason}"' in name)


@pytest.mark.parametrize("kind, reason", [("slot_ask", "slot_unheard"), ("slot_grant", "slot_unheard"), ("slot_release", "slot_kept")])
def test_the_watch_finds_what_a_lost_command_leaves_behind(drive, kind, reason):
    name = held(drive, limit=1)
    counted = orphans(drive, reason)
    if kind == "slot_release":
        run = goes_on(drive, drive.start(name))
        with Lost(drive, kind):
            let_go(drive, run)
    else:
        with Lost(drive, kind):
            run = drive.start(name)
            until("the row", lambda: drive.sql("select 1 from open_work where run_id = %s and kind = 9 and not exists "
                                               "(select from command where run_id = %s)", run, run))
            if kind == "slot_grant":
                until("the slot", lambda: drive.sql("select 1 from admission where run_id = %s and granted", run))
    if kind == "slot_release":
        run = drive.start(name)
    until("the run to go on", lambda: drive.run(run)["status"] == "waiting", 60, 0.2)
    let_go(drive, run)
    assert orphans(drive, reason) == counted + 1


# --- under kills ------------------------------------------------------------------------------------------------------

RUNS = int(os.environ.get("ROPEWALK_CONCURRENCY_RUNS", "300"))
KEYS = 4
LIMIT = 2


def overlaps(seen):
    """The most runs of each key that were between their first and their last step at a time, as their target saw it."""
    spans = {}
    for entry in seen:
        _, what, key, run = entry["path"].split("/")
        began, ended = spans.setdefault((key, run), [None, None])
        if what == "enter" and began is None:
            spans[key, run][0] = entry["began"]
        if what == "leave" and ended is None:
            spans[key, run][1] = entry["began"]
    most = collections.Counter()
    for key in {key for key, _ in spans}:
        moments = sorted([(b, 1) for (k, _), (b, e) in spans.items() if k == key and b is not None] +
                         [(e, -1) for (k, _), (b, e) in spans.items() if k == key and b is not None and e is not None])
        now = 0
        for _, change in moments:
            now += change
            most[key] = max(most[key], now)
    return most, spans


def test_never_more_than_the_limit_while_schedulers_are_killed():
    rng = random.Random(7)
    with Target() as target, private_stack(gateways=1, schedulers=3, workers=2) as drive:
        name = named("limited")
        drive.save({"name": name, "concurrency": {"limit": LIMIT, "key": "${ .input.key }"}, "steps": {
            "enter": {"call": "http", "with": {"url": target.url + "/enter/${ .input.key }/${ .run.id }"}},
            "hold": {"needs": ["enter"], "call": "delay", "with": {"duration": "400ms"}},
            "leave": {"needs": ["hold"], "call": "http", "with": {"url": target.url + "/leave/${ .input.key }/${ .run.id }"}}}})
        runs = [drive.start_for_sure(name, f"limited-{i}", {"key": f"k{i % KEYS}"}) for i in range(RUNS)]
        kills, deadline = 0, time.monotonic() + 240
        ends = ", ".join(f"'{end}'" for end in ENDS)
        while (open_runs := drive.sql(f"select count(*) from run where status not in ({ends})")[0][0]) > 0:
            assert time.monotonic() < deadline, f"{open_runs} runs are still open after {kills} kills"
            victim = f"scheduler-{rng.randint(1, 3)}"
            with contextlib.suppress(ProcessLookupError):
                drive.signal(victim, signal.SIGKILL)
                kills += 1
            time.sleep(rng.uniform(0.2, 1.2))
            drive.stack("start", victim)
            time.sleep(rng.uniform(0.5, 2))
        assert {drive.run(run)["status"] for run in runs} == {"succeeded"}
        until("every slot to be free", lambda: drive.sql("select count(*) from admission")[0][0] == 0, 30)
        most, spans = overlaps(target.seen)
        print(f"\n{RUNS} runs of {KEYS} keys with limit {LIMIT}, {kills} kills: at most {dict(most)} at a time, as the target saw it; "
              f"limit exceeded in {sum(n > LIMIT for n in most.values())} keys")
        assert len(spans) == RUNS and kills >= 5
        assert max(most.values()) <= LIMIT, most
        assert max(most.values()) == LIMIT, "never more than one: nothing was shown"
        assert drive.orphans() == {}
