"""A process dies at each place of common/base/fault.def, with runs in flight, and is started again: every run that was
acknowledged ends as it should, nothing that must be once is twice, and histories fold to what the tables say."""
import re
import subprocess
import time

import pika
import pytest

from flight import BUILD, CHECKOUT, KINDS, SECRETS, Delivery, Event, Held, ManyAgain, ManyCancelled, Message, Process, open_lab, until

PLACES = re.findall(r"^FAULT\((\w+),", (CHECKOUT / "common/base/fault.def").read_text(), re.M)

# At which passage, where it is not the second: some places are passed once by three runs.
PASSAGE = {"scheduler_held_sent": 1, "scheduler_held_committed": 1, "gateway_event_sent": 1, "gateway_event_committed": 1, "gateway_event_acking": 1, "gateway_hook_refused": 1, "gateway_hook_lines_sent": 1, "gateway_hook_lines_written": 1, "gateway_bulk_asked": 1, "gateway_bulk_rerun_taken": 1, "gateway_command_read": 1, "gateway_command_written": 1, "gateway_command_nudged": 1,
           "scheduler_registered": 1, "scheduler_shard_taken": 1, "scheduler_shard_read": 1, "scheduler_runs_read": 1,
           "scheduler_looked": 1, "scheduler_shard_giving": 3, "scheduler_shard_given": 3, "scheduler_left": 1, "scheduler_started_received": 1,
           "scheduler_child_applied": 1, "scheduler_child_committed": 1, "scheduler_tell_applied": 1,
           "scheduler_tell_committed": 1, "scheduler_timer_applied": 1, "scheduler_timer_committed": 1,
           "scheduler_started_committed": 1, "scheduler_undo_committed": 1, "scheduler_end_committed": 1,
           "scheduler_dead_letter_applied": 1, "scheduler_dead_letter_committed": 1, "scheduler_grant_published": 1,
           "scheduler_journal_written": 7, "scheduler_journal_cleared": 7, "scheduler_batch_committed": 4,
           "worker_task_received": 1, "worker_claim_taken": 1, "worker_granted": 1, "worker_result_confirmed": 3}
table = {}


@pytest.fixture(scope="module")
def lab():
    with open_lab() as one:
        yield one


def garbage(lab):
    """A message that nobody can read, in the inbox of a shard."""
    with pika.BlockingConnection(pika.URLParameters(lab.drive.env["ROPEWALK_AMQP_URL"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "ropewalk.inbox.3", b"{no json", pika.BasicProperties(type="result", delivery_mode=2),
                              mandatory=True)


def in_the_air(lab, flights):
    """Until the effects of these runs have begun."""
    before = len(lab.target.requests())
    until("effects to begin", lambda: len(lab.target.requests()) > before or all(f.done() for f in flights), 20, 0.005)


def start_with_runs_in_flight(lab, process, order):
    flights = launch(lab)
    in_the_air(lab, flights)
    process.kill()
    process.start(order, ready=False)
    return flights


def start_and_fly(lab, process, order):
    process.kill()
    process.start(order)
    return launch(lab)


def fly_and_throw_garbage(lab, process, order):
    flights = start_and_fly(lab, process, order)
    garbage(lab)
    return flights


def fly_and_share(lab, process, order):
    flights = start_and_fly(lab, process, order)
    lab.second = Process(lab, process.kind, 2)
    lab.second.start()
    return flights


def fly_and_stop(lab, process, order):
    flights = start_and_fly(lab, process, order)
    in_the_air(lab, flights)
    process.signal(15)
    return flights


def fly_with_what_another_has_dropped(lab, process, order):
    flights = start_and_fly(lab, process, "worker_task_received:2")
    assert process.wait() == -9
    process.start(order, ready=False)
    return flights


def fly_and_do_many_again(lab, process, order):
    many = ManyAgain(lab)
    return start_and_fly(lab, process, order) + [lab.pool.submit(many.fly)]


def fly_and_deliver(lab, process, order):
    process.kill()
    process.start(order)
    return launch(lab) + [lab.pool.submit(Delivery(lab).fly)]


def fly_and_send_an_event(lab, process, order):
    event = (Message if "acking" in order else Event)(lab)
    return start_and_fly(lab, process, order) + [lab.pool.submit(event.fly), lab.pool.submit(Held(lab).fly)]


def fly_and_put_together(lab, process, order):
    return start_and_fly(lab, process, order) + [lab.pool.submit(Held(lab).fly)]


def fly_and_cancel_many(lab, process, order):
    many = ManyCancelled(lab)
    return start_and_fly(lab, process, order) + [lab.pool.submit(many.fly)]


HOW = {"gateway_bulk_asked": fly_and_cancel_many, **{place: fly_and_deliver for place in PLACES if place.startswith("gateway_hook_")},
       "gateway_event_sent": fly_and_send_an_event, "gateway_event_committed": fly_and_send_an_event,
       "gateway_event_acking": fly_and_send_an_event,
       "scheduler_held_sent": fly_and_put_together, "scheduler_held_committed": fly_and_put_together,
       "gateway_bulk_rerun_taken": fly_and_do_many_again, "gateway_bulk_rerun_made": fly_and_do_many_again,
       "scheduler_registered": start_with_runs_in_flight, "scheduler_shard_taken": start_with_runs_in_flight,
       "scheduler_shard_read": start_with_runs_in_flight, "scheduler_runs_read": start_with_runs_in_flight,
       "scheduler_dead_letter_applied": fly_and_throw_garbage, "scheduler_dead_letter_committed": fly_and_throw_garbage,
       "scheduler_shard_giving": fly_and_share, "scheduler_shard_given": fly_and_share, "scheduler_left": fly_and_stop,
       "worker_claim_taken": fly_with_what_another_has_dropped}


def launch(lab):
    return lab.launch("good", "bad", "cancelled")


def dead(lab, process, flights):
    """Its exit status. The busier the machine, the more is done in one batch and the fewer passages three runs make: while
    the process has work to do and does not die, it is given more."""
    deadline = time.monotonic() + 60
    while (status := process.wait(0.1)) is None and time.monotonic() < deadline:
        if all(flight.done() for flight in flights) and process.ready():
            flights += launch(lab)
    return status


@pytest.mark.parametrize("place", PLACES)
def test_a_death_at(lab, place):
    process = lab.processes[place.partition("_")[0]]
    letters = lab.drive.sql("select count(*) from dead_letter")[0][0]
    flights = HOW.get(place, start_and_fly)(lab, process, f"{place}:{PASSAGE.get(place, 2)}")
    status = dead(lab, process, flights)
    died = time.monotonic()
    assert (status, process.killed_at()) == (-9, place), f"{place} was never passed: the process has status {status}"
    process.start()
    faults, ended, repeated, unknown = lab.land(flights)
    if hasattr(lab, "second"):
        lab.second.signal(15)
        assert lab.second.wait() == 0
        del lab.second
    assert faults == []
    assert unknown == 0 or process.kind == "worker", "only a worker's death leaves doubt about an effect"
    if "dead_letter" in place:
        until("the dead letter", lambda: lab.drive.sql("select count(*) from dead_letter")[0][0] > letters)
        # what cannot be read has no name of its own: when its acknowledgement is lost its row is written once more
        assert lab.drive.sql("select count(*) from dead_letter")[0][0] - letters <= (2 if "committed" in place else 1)
    table[place] = (max(0, ended - died) * 1000, repeated, unknown)


@pytest.mark.parametrize("place", [p for p in PLACES if p.startswith(("gateway_start_", "gateway_answer_", "gateway_hook_"))])
def test_a_death_under_a_delivery_at(lab, place):
    """The first passage is the delivery's: nothing else starts."""
    process = lab.processes["gateway"]
    process.kill()
    process.start(place + ":1")
    flight = lab.pool.submit(Delivery(lab).fly)
    assert (process.wait(), process.killed_at()) == (-9, place)
    process.start()
    assert lab.land([flight])[0] == []


def test_secrets_are_in_no_row_and_no_log_whoever_died(lab):
    for value in SECRETS.values():
        for (table,) in lab.drive.sql("select quote_ident(tablename) from pg_tables where schemaname = 'ropewalk'"):
            assert lab.drive.sql(f"select count(*) from {table} t where t::text like %s", f"%{value}%") == [(0,)], table
        for log in lab.drive.dir.rglob("*.log"):
            assert value.encode() not in log.read_bytes(), log


def test_all_places_were_passed_and_histories_are_whole(lab, capsys):
    with capsys.disabled():
        print(f"\n{'killed at':34} {'recovered ms':>12} {'effects repeated':>17} {'outcomes unknown':>17}")
        for place, (ms, repeated, unknown) in table.items():
            print(f"{place:34} {ms:12.0f} {repeated:17} {unknown:17}")
    assert sorted(table) == sorted(PLACES)
    assert lab.drive.faults_of_history() == []
    assert lab.unended() == []
    assert set(lab.published()) == lab.to_tell()
    assert lab.drive.sql("select count(*) from quarantine") == [(0,)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shipped_has_no_such_places(kind):
    def traces(program):
        text = (BUILD / "bin" / program).read_bytes()
        symbols = subprocess.run(["nm", str(BUILD / "bin" / program)], stdout=subprocess.PIPE, text=True, check=True).stdout
        return [word in text for word in (b"ROPEWALK_FAULT_KILL", b"fault: killed at")] + ["fault_due" in symbols]

    assert traces(f"ropewalk-{kind}") == [False, False, False]
    assert traces(f"ropewalk-{kind}-faults") == [True, True, True]


def test_an_order_that_names_no_place_is_refused():
    for order in ("nowhere:1", "worker_granted", "worker_granted:0", "worker_granted:x"):
        done = subprocess.run([str(BUILD / "bin/ropewalk-worker-faults")], env={"ROPEWALK_FAULT_KILL": order}, stderr=subprocess.PIPE,
                              text=True, timeout=10)
        assert done.returncode == 2 and "ROPEWALK_FAULT_KILL" in done.stderr and order in done.stderr
