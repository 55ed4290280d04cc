"""The watch: whatever is taken from under a run, it is put back, counted and told, and the run reaches its end."""
import pytest

import drive as driving
from drive import CHAIN, private_stack, until

KINDS = {"name": "kinds", "steps": {
    "task": {"call": "noop", "pool": "later"},
    "word": {"call": "wait_signal", "with": {"signal": "go"}},
    "each": {"call": "foreach", "with": {"items": [1, 2, 3], "concurrency": 2, "steps": {"in": {"call": "wait_signal", "with": {"signal": "item"}}}}},
    "kid": {"call": "workflow", "with": {"name": "kid"}}}}
NAP = {"name": "nap", "steps": {"nap": {"call": "delay", "with": {"duration": "15s"}}}}
KID = {"name": "kid", "steps": {"word": {"call": "wait_signal", "with": {"signal": "go"}}}, "output": {"exact": 0.10}}
PARENT = {"name": "parent", "steps": {"kid": {"call": "workflow", "with": {"name": "kid"}}}, "output": "${ .steps.kid.output }"}


@pytest.fixture(scope="module")
def drive():
    with private_stack(settings={"scheduler": {"WATCH_SWEEP_MS": 1000}}) as drive:
        for document in (CHAIN, NAP, KID, KINDS, PARENT):
            drive.save(document)
        yield drive
        assert drive.faults_of_history() == []


def orphans(drive, reason):
    text = drive.session.get(f"http://127.0.0.1:{drive.port('scheduler-1')}/metrics", timeout=10).text
    return int(text.partition('ropewalk_orphans_total{reason="%s"} ' % reason)[2].split()[0])


def restart(drive, while_down):
    drive.stack("stop", "scheduler-1")
    try:
        while_down()
    finally:
        drive.stack("start", "scheduler-1")
    until("a scheduler that is ready", lambda: drive.readyz(drive.port("scheduler-1"))[0] == 200, 30)


def rows(drive, run_id):
    return sorted(drive.sql("select seq, kind, step, attempt from open_work where run_id = %s", run_id))


def child_of(drive, run_id):
    return until("the child", lambda: drive.ask("GET", f"/v1/runs?parent={run_id}")["items"])[0]["id"]


def begin_kinds(drive):
    run_id = drive.start("kinds")
    until("all that it waits for", lambda: len(rows(drive, run_id)) == 7)        # with the run's timeout, and two items
    return run_id


def finish_kinds(drive, run_id):
    for signal in ("go", "item", "item", "item"):
        assert drive.call("POST", f"/v1/runs/{run_id}/signals/{signal}").status_code == 202
    assert drive.call("POST", f"/v1/runs/{child_of(drive, run_id)}/signals/go").status_code == 202
    assert drive.ended(run_id, 90)["status"] == "succeeded"


@pytest.fixture
def later(drive):
    """A worker for the pool "later", when the test wants it."""
    started = []

    def start():
        env = {**drive.environment("worker-1"), "ROPEWALK_POOLS": "later", "ROPEWALK_LISTEN": "127.0.0.1:0"}
        started.append(driving.subprocess.Popen([str(driving.BUILD / "bin/ropewalk-worker")], env=env, stderr=driving.subprocess.DEVNULL))
    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def test_rows_of_every_kind_come_back_after_a_takeover_and_the_run_ends(drive, later):
    run_id, nap = begin_kinds(drive), drive.start("nap")
    before = rows(drive, run_id)
    until("the nap", lambda: len(rows(drive, nap)) == 2)
    restart(drive, lambda: drive.sql("delete from open_work where run_id = any(%s::uuid[])", [run_id, nap]))
    until("the rows", lambda: rows(drive, run_id) == before, 40, 0.2)
    assert drive.ended(nap)["status"] == "succeeded"
    assert orphans(drive, "lost_work") == len(before) + 2
    told = [line for line in drive.log("scheduler") if line["event"] == "run.repaired" and line["run_id"] == run_id]
    assert told and told[-1]["reason"] == "lost_work" and told[-1]["rows"] == len(before)
    assert {reason for (reason,) in drive.sql("select reason from open_work where run_id = %s", run_id)} >= {"repaired"}
    later()
    finish_kinds(drive, run_id)


def test_rows_come_back_under_a_scheduler_that_knows_them_too(drive, later):
    run_id = begin_kinds(drive)
    before, counted = rows(drive, run_id), orphans(drive, "lost_work")
    drive.sql("delete from open_work where run_id = %s and kind in (1, 7)", run_id)
    until("the rows", lambda: rows(drive, run_id) == before, 40, 0.2)
    until("the count", lambda: orphans(drive, "lost_work") == counted + 4)
    later()
    finish_kinds(drive, run_id)


def test_a_row_that_no_history_explains_goes(drive):
    run_id = drive.start("parent")
    kid = child_of(drive, run_id)
    counted = orphans(drive, "stray_work")
    restart(drive, lambda: drive.sql("insert into open_work (shard, run_id, seq, organisation, kind, opened_at, due_at) select shard, run_id, "
                                     "seq + 100, organisation, 3, now(), now() from open_work where run_id = %s and kind = 8", run_id))
    until("the row to go", lambda: not [row for row in rows(drive, run_id) if row[0] > 100], 40, 0.2)
    assert orphans(drive, "stray_work") == 1 >= counted
    assert drive.call("POST", f"/v1/runs/{kid}/signals/go").status_code == 202
    assert drive.ended(run_id)["output"] == {"exact": 0.1}


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


def test_a_parent_hears_of_its_childs_end_although_the_command_was_lost(drive):
    counted = orphans(drive, "child_end")
    run_id = drive.start("parent")
    kid = child_of(drive, run_id)
    until("the parent waits", lambda: drive.sql("select 1 from open_work where run_id = %s and kind = 8", run_id))
    with Lost(drive, "child_ended"):
        assert drive.call("POST", f"/v1/runs/{kid}/signals/go").status_code == 202
        assert drive.ended(kid)["status"] == "succeeded"
    assert drive.run(run_id)["status"] == "waiting"
    run = drive.ended(run_id, 60)
    assert run["status"] == "succeeded" and run["output"] == {"exact": 0.1}, run
    assert orphans(drive, "child_end") == counted + 1


def test_a_run_whose_start_was_lost_is_started(drive):
    with Lost(drive, "start"):
        run_id = drive.start("chain5")
    assert drive.run(run_id)["status"] == "pending"
    assert drive.ended(run_id, 60)["status"] == "succeeded"
    assert orphans(drive, "no_start") == 1


def test_a_signal_that_was_written_but_not_taken_is_taken(drive):
    run_id = drive.start("parent")
    kid = child_of(drive, run_id)
    until("the child waits", lambda: drive.sql("select 1 from open_work where run_id = %s and kind = 7", kid))
    restart(drive, lambda: drive.sql("insert into event (run_id, seq, organisation, at, type, data) select run_id, max(seq) + 1, "
                                     "max(organisation), now(), 13, '{\"name\":\"go\",\"command\":1}' from event where run_id = %s group by run_id", kid))
    assert drive.ended(run_id, 60)["status"] == "succeeded"
    assert orphans(drive, "not_at_rest") == 1
