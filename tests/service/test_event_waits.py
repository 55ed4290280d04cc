"""Steps that wait for events: that came before them, after them, or just then; in one run or a thousand; over the death of gateways and
schedulers. And the two sides that must not miss each other, a wait that looks back and an event that arrives, as SQL in every order."""
import concurrent.futures
import contextlib
import threading
import uuid

import psycopg
import pytest

from drive import private_stack, until

STRUCTURED = "application/cloudevents+json"


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2, schedulers=2, workers=1) as one:
        yield one


def kind():
    return "test.wait." + uuid.uuid4().hex[:8]


def event(type_, data=None, **more):
    return {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/test", "type": type_, "data": data, **more}


def publish(drive, value, url=None):
    answer = drive.call("POST", "/v1/events", value, headers={"Content-Type": STRUCTURED}, url=url)
    assert answer.status_code == 202, answer.text
    return value


def wait(type_, **more):
    return {"call": "wait_event", "with": {"type": type_, **more}}


def saved(drive, steps, **more):
    name = "event-waits-" + uuid.uuid4().hex[:8]
    drive.save({"name": name, "steps": steps, **more})
    return name


def begun(drive, steps, value=None, **more):
    return drive.start(saved(drive, steps, **more), value)


def waits(drive, run_id, step="e"):
    until(f"{step} to wait", lambda: drive.run(run_id)["steps"][step]["status"] == "waiting", 20)
    return run_id


def restart(drive, *kinds):
    for one in kinds:
        for path in sorted((drive.dir / "pids").glob(one + "-*")):
            drive.signal(path.name)
    drive.stack("up", "--gateways", "2", "--schedulers", "2", "--workers", "1")


def test_an_event_wakes_the_step_that_waits_and_is_its_output(drive):
    this = kind()
    run_id = waits(drive, begun(drive, {"e": wait(this, source="/test", timeout="1h")}, output="${ .steps.e.output }"))
    waiting = drive.run(run_id)["steps"]["e"]["waiting_for"]
    assert (waiting["kind"], waiting["type"], waiting["source"]) == ("event", this, "/test") and waiting["until"], waiting
    publish(drive, event(this, 1, source="/elsewhere"))
    publish(drive, event(kind(), 2))
    sent = publish(drive, event(this, {"n": 9007199254740993}, subject="s", tenant="blue"))
    assert drive.ended(run_id)["output"] == sent
    assert [e["type"] for e in drive.ask("GET", f"/v1/runs/{run_id}/events")["items"]] == [
        "run.started", "step.listening", "step.succeeded", "run.succeeded"]


def test_an_event_that_came_first_counts_since_the_run_began_and_the_oldest_is_taken(drive):
    this = kind()
    publish(drive, event(this, "before the run"))
    run_id = begun(drive, {"gate": {"call": "wait_signal", "with": {"signal": "go"}}, "e": {**wait(this), "needs": ["gate"]}})
    waits(drive, run_id, "gate")
    first = publish(drive, event(this, 1))
    publish(drive, event(this, 2))
    drive.ask("POST", f"/v1/runs/{run_id}/signals/go", {})
    assert drive.ended(run_id)["steps"]["e"]["output"] == first


def test_how_far_it_looks_back_is_what_it_says(drive):
    this = kind()
    sent = publish(drive, event(this, 1))
    far = begun(drive, {"e": wait(this, look_back="7d")})
    assert drive.ended(far)["steps"]["e"]["output"] == sent
    none = waits(drive, begun(drive, {"e": wait(this, look_back="0s")}))
    sent = publish(drive, event(this, 2))
    assert drive.ended(none)["steps"]["e"]["output"] == sent


def test_more_than_one_look_finds_is_looked_through_in_order(drive):
    this = kind()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: publish(drive, event(this, {"n": n})), range(250)))
    match = publish(drive, event(this, {"n": "this"}))
    publish(drive, event(this, {"n": "this"}))
    run_id = begun(drive, {"e": wait(this, look_back="1h", filter='${ .event.data.n == "this" }')})
    assert drive.ended(run_id)["steps"]["e"]["output"] == match


def test_the_event_that_started_the_run_wakes_it_only_when_it_looks_back_so_far(drive):
    this = kind()
    saved(drive, {"e": wait(this)}, triggers={"t": {"event": {"type": this}}})
    answer = drive.call("POST", "/v1/events", event(this, 1), headers={"Content-Type": STRUCTURED}).json()
    first = waits(drive, answer["starts"][0]["run_id"])
    sent = publish(drive, event(this, 2))
    assert drive.ended(first)["steps"]["e"]["output"] == sent
    other = kind()
    saved(drive, {"e": wait(other, look_back="1m")}, triggers={"t": {"event": {"type": other}}})
    value = event(other, 1)
    answer = drive.call("POST", "/v1/events", value, headers={"Content-Type": STRUCTURED}).json()
    assert drive.ended(answer["starts"][0]["run_id"])["steps"]["e"]["output"] == value


def test_two_runs_and_the_items_of_a_loop_share_an_event_and_copies_are_one(drive):
    this = kind()
    name = saved(drive, {"each": {"call": "foreach", "with": {"items": [1, 2], "steps": {
        "e": wait(this, filter="${ .event.data.n == .item }")}}}}, output="${ .steps.each.output | map(.data.n) }")
    runs = [drive.start(name) for _ in range(2)]
    for run_id in runs:
        until("both items to wait", lambda: drive.sql("select count(*) from open_work where run_id = %s and kind = 10 and event_since is null", run_id)[0][0] == 2)
    value = event(this, {"n": 2})
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: publish(drive, value, drive.urls[n % 2]), range(20)))
    publish(drive, event(this, {"n": 1}))
    for run_id in runs:
        assert drive.ended(run_id)["output"] == [1, 2]
        told = drive.sql("select count(*) from event where run_id = %s and type = 24 and step like '%%.e'", run_id)
        assert told == [(2,)]


def test_a_wait_ends_with_its_timeout_and_a_retry_of_it_waits_anew(drive):
    this = kind()
    run_id = begun(drive, {"e": wait(this, timeout="200ms")})
    run = drive.ended(run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "event_timeout")
    sent = publish(drive, event(this, "late"))
    drive.ask("POST", f"/v1/runs/{run_id}:retry", {})
    assert drive.ended(run_id)["steps"]["e"]["output"] == sent, "it came since the run began"


def test_a_paused_run_hears_an_event_and_goes_on_when_it_is_resumed(drive):
    this = kind()
    run_id = waits(drive, begun(drive, {"e": wait(this), "after": {"call": "noop", "needs": ["e"]}}))
    drive.ask("POST", f"/v1/runs/{run_id}:pause")
    publish(drive, event(this))
    until("it to hear", lambda: drive.run(run_id)["steps"]["e"]["status"] == "succeeded")
    assert drive.run(run_id)["steps"]["after"]["status"] == "pending"
    drive.ask("POST", f"/v1/runs/{run_id}:resume")
    assert drive.ended(run_id)["status"] == "succeeded"


def test_a_filter_that_fails_wakes_nothing_and_explain_says_why(drive):
    this = kind()
    run_id = waits(drive, begun(drive, {"e": wait(this, filter="${ .event.data.n | ascii_downcase == \"x\" }")}))
    assert drive.ask("GET", f"/v1/runs/{run_id}/explain")["waiting_for"] == "event"
    publish(drive, event(this, {"n": 7}))
    said = until("the failure", lambda: (e := drive.ask("GET", f"/v1/runs/{run_id}/explain"))["waiting_for"] == "event_filter" and e)
    assert "ascii_downcase" in said["sentence"] and this in said["sentence"], said
    assert drive.run(run_id)["steps"]["e"]["status"] == "waiting"
    assert len(drive.ask("GET", f"/v1/runs/{run_id}/events")["items"]) == 2, "what does not wake it is no event of the run"
    publish(drive, event(this, {"n": "X"}))
    assert drive.ended(run_id)["status"] == "succeeded"


def test_a_thousand_runs_wait_and_one_event_wakes_the_one_it_is_for(drive):
    this = kind()
    name = saved(drive, {"e": wait(this, filter="${ .event.data.n == .input.n }")})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: drive.start(name, {"n": n}), range(1000)))
    until("all to wait", lambda: drive.sql("select count(*) from open_work where event_type = %s and event_since is null", this) == [(1000,)], 120)
    commits = drive.sql("select count(*) from event where run_id = any(%s::uuid[])", runs)
    publish(drive, event(this, {"n": 617}))
    assert drive.ended(runs[617])["status"] == "succeeded"
    until("all to have looked at it", lambda: drive.sql("select count(*) from command where kind = 'event'") == [(0,)], 120)
    assert drive.sql("select count(*) from run where workflow = %s and status <> 'active'", name) == [(1,)]
    assert drive.sql("select count(*) from event where run_id = any(%s::uuid[])", runs)[0][0] == commits[0][0] + 2
    drive.ask("POST", "/v1/runs:cancel", {"filter": {"workflow": name, "status": "waiting"}})
    until("their end", lambda: drive.sql("select count(*) from open_work where event_type = %s", this) == [(0,)], 120)


def test_what_comes_while_no_scheduler_lives_and_what_it_had_not_looked_for_is_there_later(drive):
    this, other = kind(), kind()
    looked = waits(drive, begun(drive, {"e": wait(this)}))
    until("it to have looked", lambda: drive.sql("select count(*) from open_work where event_type = %s and event_since is null", this) == [(1,)])
    blind = waits(drive, begun(drive, {"e": wait(other)}))
    for name in ("scheduler-1", "scheduler-2"):
        drive.signal(name)
    # as if it had died between the commit of the wait and its look
    drive.sql("update open_work set event_since = now() - interval '1 h', event_seen = 0 where event_type = %s", other)
    values = [publish(drive, event(this, 1)), publish(drive, event(other, 2))]
    assert drive.sql("select count(*) from command where kind = 'event'") == [(1,)]
    restart(drive)
    for run_id, value in zip((looked, blind), values):
        assert drive.ended(run_id)["steps"]["e"]["output"] == value


def test_events_meet_waits_while_gateways_and_schedulers_die(drive):
    this = kind()
    name = saved(drive, {"a": {"call": "noop"}, "e": {**wait(this, filter="${ .event.data.n == .input.n }"), "needs": ["a"]}})
    over = threading.Event()

    def send_until_taken(n):
        value = event(this, {"n": n}, id=f"{this}-{n}")
        for turn in range(200):
            with contextlib.suppress(OSError):
                if drive.call("POST", "/v1/events", value, headers={"Content-Type": STRUCTURED}, url=drive.urls[turn % 2], timeout=10).status_code == 202:
                    return
            over.wait(0.1)
        raise AssertionError("nobody took it")

    def one(n):
        if n % 2:
            run_id = drive.start_for_sure(name, f"{this}-{n}", {"n": n})
            send_until_taken(n)
        else:  # its start and its event at once
            with concurrent.futures.ThreadPoolExecutor(1) as beside:
                started = beside.submit(drive.start_for_sure, name, f"{this}-{n}", {"n": n})
                run_id = started.result()
                send_until_taken(n)
        return run_id

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(one, n) for n in range(120)]
        for victim in ("scheduler-1", "gateway-1", "scheduler-2", "gateway-2"):
            until("some to be under way", lambda: sum(run.done() for run in runs) > 5, 60)
            drive.signal(victim)
            drive.stack("up", "--gateways", "2", "--schedulers", "2", "--workers", "1")
        for run in runs:
            assert drive.ended(run.result(), 120)["status"] == "succeeded"


# --- the two sides, statement by statement ---


@pytest.fixture
def sides(drive):
    """A wait that has not looked, as its row, and connections: of the gateway that takes an event, and of the scheduler that looks. No
    scheduler lives meanwhile."""
    for name in ("scheduler-1", "scheduler-2"):
        drive.signal(name)
    with contextlib.ExitStack() as stack:
        gateway, scheduler = (stack.enter_context(psycopg.connect(drive.env["ROPEWALK_ADMIN_PG_URL"])) for _ in range(2))
        for one in (gateway, scheduler):
            one.execute("set search_path = ropewalk, public")
            one.commit()
        yield Sides(drive, gateway, scheduler)
    drive.sql("delete from command where run_id = %s", Sides.RUN)
    drive.sql("delete from open_work where run_id = %s", Sides.RUN)
    restart(drive)


class Sides:
    RUN = "0199aaaa-0000-7000-8000-000000000003"

    def __init__(self, drive, gateway, scheduler):
        self.drive, self.gateway, self.scheduler, self.type = drive, gateway, scheduler, kind()
        self.shard = drive.sql("select shard from slot where slot = 3")[0][0]

    def open(self):
        self.drive.sql("insert into open_work (shard, run_id, seq, organisation, kind, opened_at, event_type, event_since, event_seen) "
                       "values (%s, %s, 2, 1, 10, now(), %s, now() - interval '1 h', 0)", self.shard, self.RUN, self.type)

    def take(self, n):
        self.gateway.execute("insert into incoming_event (organisation, source, id, type, event, starts) "
                             "values (1, '/test', %s, %s, %s, '[]')", (uuid.uuid4().hex, self.type, f'{{"data": {n}}}'))

    def look(self):
        told, remaining = self.scheduler.execute("select told, remaining from event_look(%s::smallint[], 200, 100)", ([self.shard],)).fetchone()
        self.scheduler.commit()
        return told, remaining

    def told(self):
        """What the wait has been told of, in order."""
        return [n for n, in self.drive.sql("select (e.event ->> 'data')::int from command c join incoming_event e on e.organisation = c.organisation "
                                           "and e.number = (c.body ->> 'number')::bigint where c.run_id = %s and c.kind = 'event' order by c.id", self.RUN)]

    def forget(self):
        self.drive.sql("delete from command where run_id = %s", self.RUN)


def test_an_event_that_is_committed_before_the_wait_is_found_by_its_look(sides):
    sides.take(1)
    sides.gateway.commit()
    sides.open()
    assert sides.told() == []
    assert sides.look() == (1, False)
    assert sides.told() == [1]
    assert sides.look() == (0, False)
    assert sides.told() == [1]


def test_an_event_that_is_under_way_when_the_wait_begins_is_waited_for_by_its_look(sides):
    sides.take(1)                    # it has seen no wait, and is not committed
    sides.open()
    with pytest.raises(psycopg.errors.LockNotAvailable):
        sides.look()
    sides.scheduler.rollback()
    assert sides.told() == []
    sides.gateway.commit()
    assert sides.look() == (1, False)
    assert sides.told() == [1]


def test_a_look_that_waits_goes_on_when_the_event_is_committed(sides):
    sides.take(1)
    sides.open()
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        looking = beside.submit(sides.look)
        until("the look to wait", lambda: looking.done() or sides.drive.sql("select count(*) from pg_locks where not granted and locktype = 'advisory'") == [(1,)], 5, 0.005)
        sides.gateway.commit()
        try:
            assert looking.result() == (1, False)
        except psycopg.errors.LockNotAvailable:  # the machine was slower than its patience
            sides.scheduler.rollback()
            assert sides.look() == (1, False)
    assert sides.told() == [1]


def test_an_event_that_comes_while_a_look_is_under_way_waits_and_is_told_by_itself(sides):
    sides.open()
    assert sides.scheduler.execute("select told, remaining from event_look(%s::smallint[], 200, 100)", ([sides.shard],)).fetchone() == (0, False)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        taking = beside.submit(sides.take, 1)
        until("the event to wait", lambda: sides.drive.sql("select count(*) from pg_locks where not granted and locktype = 'advisory'") == [(1,)])
        sides.scheduler.commit()
        taking.result()
    assert sides.told() == []
    sides.gateway.commit()
    assert sides.told() == [1]
    assert sides.look() == (0, False)


def test_an_event_between_the_wait_and_its_look_is_told_once_and_in_its_turn(sides):
    sides.take(1)
    sides.gateway.commit()
    sides.open()
    sides.take(2)                    # the wait is there, and has not looked
    sides.gateway.commit()
    assert sides.told() == []
    assert sides.look() == (2, False)
    sides.take(3)
    sides.gateway.commit()
    assert sides.told() == [1, 2, 3]


def test_an_event_that_is_rolled_back_is_told_to_nobody(sides):
    sides.open()
    assert sides.look() == (0, False)
    sides.take(1)
    sides.gateway.rollback()
    sides.take(2)
    sides.gateway.commit()
    assert sides.told() == [2]


def test_events_of_one_type_do_not_wait_for_each_other(sides):
    sides.open()
    assert sides.look() == (0, False)
    sides.take(1)
    with psycopg.connect(sides.drive.env["ROPEWALK_ADMIN_PG_URL"]) as another:
        another.execute("set search_path = ropewalk, public")
        sides.gateway, first = another, sides.gateway
        sides.take(2)
        another.commit()
        assert sides.told() == [2]
        first.commit()
    assert sides.told() == [1, 2], "both, one of them later"


def test_a_row_that_a_batch_has_in_hand_is_left_for_the_next_look(sides):
    sides.open()
    sides.take(1)
    sides.gateway.commit()
    sides.gateway.execute("update open_work set reason = 'x' where run_id = %s", (sides.RUN,))
    assert sides.look() == (0, True)
    sides.gateway.commit()
    assert sides.look() == (1, False)
    assert sides.told() == [1]


def test_a_look_is_told_page_by_page_and_goes_on_when_the_page_is_done_with(sides):
    for n in range(5):
        sides.take(n)
        sides.gateway.commit()
    sides.open()

    def page():
        answer = sides.scheduler.execute("select told, remaining from event_look(%s::smallint[], 200, 2)", ([sides.shard],)).fetchone()
        sides.scheduler.commit()
        return answer
    assert page() == (2, True)
    assert page() == (0, True), "the first are not done with"
    sides.take(5)
    sides.gateway.commit()
    seen = sides.told()
    sides.forget()
    while page() != (0, False):
        seen += sides.told()
        sides.forget()
    assert seen == [0, 1, 2, 3, 4, 5]
