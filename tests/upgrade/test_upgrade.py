"""Releases meet: a database that an older release left in the middle of its work; a schema that changes under load; processes
that are exchanged one by one. See README.md."""
import contextlib
import datetime
import http.server
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest
import requests

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "service"))
import drive  # noqa: E402

RECORDS = sorted((HERE / "recorded").glob("*.sql"))
RECORDED_TARGET = b"127.0.0.1:47391".hex()  # in the recorded documents, which are bytes
RUN_DAYS = 366                  # the timeout of recorded runs
DRAIN_MAX_S = {"gateway": 10, "scheduler": 12, "worker": 17}    # ROPEWALK_DRAIN_MS and a little
CHAIN = {"name": "chain", "steps": {f"s{i}": {"call": "noop", **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(5)}}


class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def target():
    for port in range(32001, 32768):        # above the ports of stacks, below those of outgoing connections
        with contextlib.suppress(OSError):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Fine)
            break
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


# --- what an older release wrote ---------------------------------------------------------------------------------------


def restore(stack, record, target):
    """The record takes the place of the stack's own schema; the stack's processes are stopped. Its documents call our TARGET:
    a port of the same length, as the one that they were recorded with may be somebody else's today."""
    text = record.read_text()
    assert RECORDED_TARGET in text
    text = text.replace(RECORDED_TARGET, f"127.0.0.1:{target.server_port}".encode().hex())
    for name in ("gateway-1", "scheduler-1", "worker-1"):
        stack.stack("stop", name)
    stack.sql("drop schema ropewalk cascade")
    done = subprocess.run(["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-1", "-f", "-", stack.env["ROPEWALK_ADMIN_PG_URL"]],
                          input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    stack.sql("update ropewalk.idempotency set expires_at = now() + interval '1 hour'")     # as on the day of the record


def expected(stack):
    """What is to become of each run: its label says it; but who comes after its timeout ends it."""
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=RUN_DAYS)
    rows = stack.sql("select id::text, workflow, status, labels ->> 'expect', created_at from run")
    return {run: (workflow, status, "timed_out" if status in ("pending", "active") and created < old else expect)
            for run, workflow, status, expect, created in rows}


@pytest.mark.parametrize("record", RECORDS, ids=[record.stem for record in RECORDS])
def test_a_database_of_an_older_release_goes_on(record, target, monkeypatch):
    assert RECORDS and record.stat().st_size < 300_000
    monkeypatch.setenv("ROPEWALK_POOLS", "default,later")
    with drive.private_stack() as stack:
        restore(stack, record, target)
        before = stack.sql("select max(number) from schema_migration")[0][0]
        runs = expected(stack)
        histories = dict(stack.sql("select run_id::text, string_agg(seq || ':' || type || coalesce(step, '') || coalesce(data::text, '')"
                                   ", ' ' order by seq) from event group by run_id"))
        waiting = stack.sql("select count(*) from command")[0][0]
        open_before = {run for run, (_, status, _) in runs.items() if status in ("pending", "active")}
        assert waiting > 0 and len(open_before) >= 10 and len(runs) - len(open_before) >= 10
        stack.stack("up")
        stack.read_env()
        assert stack.sql("select max(number) from schema_migration")[0][0] > before
        for run, (workflow, status, expect) in runs.items():
            # an at_most_once step that was sent before everything died is in doubt, and is not sent again
            ended = stack.ended(run, 120)
            assert ended["status"] == expect, f"{workflow} {run}: {ended['status']}, not {expect}"
            assert ended["steps"], f"{workflow} {run} has no steps"
            events = stack.ask("GET", f"/v1/runs/{run}/events?page_size=500")["items"]
            assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        unchanged = dict(stack.sql("select run_id::text, string_agg(seq || ':' || type || coalesce(step, '') || coalesce(data::text, '')"
                                   ", ' ' order by seq) from event group by run_id"))
        for run, history in histories.items():
            assert unchanged[run].startswith(history), f"the recorded history of {run} was changed"
        assert {run for run in runs if runs[run][1] not in ("pending", "active")} & open_before == set()
        assert stack.faults_of_history() == []
        again = stack.start("chain", {"n": 6}, {"expect": "succeeded", "number": "2"}, key="chain-2")
        assert again in runs, "an old Idempotency-Key is not known any more"


# --- under load --------------------------------------------------------------------------------------------------------


class Starts(threading.Thread):
    """Starts runs one after the other, each until it is accepted, on whatever gateway answers."""

    def __init__(self, stack, name):
        super().__init__()
        self.stack, self.name_of = stack, name
        self.session = requests.Session()
        self.session.trust_env = False
        self.stop = threading.Event()
        self.accepted, self.statuses, self.broken, self.failed = [], {}, 0, []
        self.longest, self.asked_at = 0.0, None

    def attempt(self, key, url):
        self.asked_at = time.monotonic()
        try:
            answer = self.session.post(f"{url}/v1/workflows/chain/runs", json={"input": {}}, timeout=15,
                                       headers={"Authorization": "Bearer " + self.stack.key, "Idempotency-Key": key})
        except requests.RequestException:
            self.broken += 1
            return None
        finally:
            self.longest, self.asked_at = self.held_up(), None
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        return answer.json()["run_id"] if answer.status_code == 202 else None

    def held_up(self):
        """The longest call, also one that has no answer yet."""
        asked_at = self.asked_at
        return max(self.longest, 0 if asked_at is None else time.monotonic() - asked_at)

    def run(self):
        number = 0
        while not self.stop.is_set():
            key, deadline, turn = f"{self.name_of}-{number}", time.monotonic() + 20, number
            while (run := self.attempt(key, self.stack.urls[turn % len(self.stack.urls)])) is None:
                if time.monotonic() > deadline:
                    self.failed.append(key)
                    break
                turn += 1
                time.sleep(0.05)
            else:
                self.accepted.append(run)
            number += 1
            self.stop.wait(0.03)


class Load:
    def __init__(self, stack, threads=4):
        stack.save(CHAIN)
        self.stack, self.threads = stack, [Starts(stack, f"load{i}") for i in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        drive.until("load", lambda: self.count() > 20, 30)
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.stop.set()
        for thread in self.threads:
            thread.join(60)

    def count(self):
        return sum(len(thread.accepted) for thread in self.threads)

    def goes_on(self):
        before = self.count()
        drive.until("more starts", lambda: self.count() > before + 20, 30)

    def statuses(self):
        every = {}
        for thread in self.threads:
            for status, count in thread.statuses.items():
                every[status] = every.get(status, 0) + count
        return every

    def judge(self):
        """After the load: no call failed for good, every accepted run succeeds, once."""
        assert not [key for thread in self.threads for key in thread.failed]
        assert set(self.statuses()) <= {202, 409, 429, 503}, self.statuses()
        runs = [run for thread in self.threads for run in thread.accepted]
        assert len(runs) == len(set(runs)) and len(runs) > 50
        drive.until("the end of all", lambda: self.stack.sql(
            "select count(*) from run where status in ('pending', 'active', 'paused')")[0][0] == 0, 90)
        assert self.stack.sql("select count(*) from run where id = any(%s::uuid[]) and status = 'succeeded'", runs)[0][0] == len(runs)
        assert self.stack.sql("select count(*) from run where workflow = 'chain'")[0][0] == len(runs), "a run that nobody was told of"
        assert self.stack.faults_of_history() == []
        return len(runs)


def test_the_schema_changes_under_load(capsys):
    with drive.private_stack(gateways=2, schedulers=2, workers=1) as stack:
        with Load(stack) as load:
            columns = "select count(*) from information_schema.columns where column_name in ('next_note', 'next_origin', 'next_capability')"
            with psycopg.connect(stack.env["ROPEWALK_ADMIN_PG_URL"]) as reader:
                reader.execute("select from ropewalk.run limit 1")      # and its lock stands until the transaction ends
                migrator = subprocess.Popen([str(drive.BUILD / "bin/ropewalk-scheduler-next"), "--migrate"], stderr=subprocess.PIPE,
                                            text=True, env={"ROPEWALK_ADMIN_PG_URL": stack.env["ROPEWALK_ADMIN_PG_URL"]})
                drive.until("the migrator in the queue", lambda: stack.sql(
                    "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'")[0][0] > 0, 20, 0.01)
                for thread in load.threads:
                    thread.longest = 0.0
                time.sleep(5)           # what is looked at is how long calls take meanwhile
                held_up = max(thread.held_up() for thread in load.threads)
                load.goes_on()
                assert migrator.poll() is None and stack.sql(columns)[0][0] == 0
            assert migrator.wait(60) == 0, migrator.stderr.read()
            assert stack.sql(columns)[0][0] > 0
            assert held_up < 4, f"a start took {held_up:.1f} s while the migrator waited for a reader"
            load.goes_on()
            # a process of today that starts now finds a schema that is newer than itself
            stack.signal("scheduler-1", signal.SIGKILL)
            stack.stack("start", "scheduler-1")
            drive.until("shards for it", lambda: stack.sql("select count(*) from shard where owner = 'scheduler-1'")[0][0] == 8, 20)
            load.goes_on()
        count = load.judge()
        with capsys.disabled():
            print(f"\nschema changed under load: {count} runs, answers {load.statuses()}, longest start {held_up * 1000:.0f} ms "
                  "while a reader kept the migrator waiting")


def test_an_index_is_built_while_all_goes_on_and_after_it_was_cut():
    with drive.private_stack(gateways=1, schedulers=1, workers=1) as stack:
        admin = {"ROPEWALK_ADMIN_PG_URL": stack.env["ROPEWALK_ADMIN_PG_URL"]}
        valid = "select c.relname, i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname like %s"

        def migrator():
            return subprocess.Popen([str(drive.BUILD / "bin/ropewalk-scheduler-next"), "--migrate"], stderr=subprocess.PIPE, text=True, env=admin)

        def waits():
            return stack.sql("select pid from pg_stat_activity where query like 'CREATE INDEX CONCURRENTLY%%' and wait_event_type = 'Lock'")
        with psycopg.connect(admin["ROPEWALK_ADMIN_PG_URL"], autocommit=True) as session:
            with pytest.raises(psycopg.errors.UniqueViolation):     # begun by somebody, and no good
                session.execute("create unique index concurrently next_slot_by_shard on ropewalk.slot (shard)")
        assert stack.sql(valid, "next_slot_by_shard") == [("next_slot_by_shard", False)]
        with Load(stack, threads=2) as load:
            load.goes_on()
            with psycopg.connect(admin["ROPEWALK_ADMIN_PG_URL"]) as reader:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select from pg_class limit 1")      # a snapshot that an index has to wait for
                first = migrator()
                (pid,), = drive.until("an index that waits", waits, 30)
                others = migrator()         # waits for the first, which must not wait for it
                for thread in load.threads:
                    thread.longest = 0.0
                load.goes_on()
                assert max(thread.held_up() for thread in load.threads) < 4
                first.kill()
                stack.sql("select pg_terminate_backend(%s)", pid)
                first.wait()
                assert any(not whole for _, whole in stack.sql(valid, "%next_run_by_error"))
                drive.until("an index that waits again", waits, 30)
                load.goes_on()
            assert others.wait(60) == 0, others.stderr.read()
            load.goes_on()
            made = dict(stack.sql(valid, "%next_%"))
            partitions = stack.sql("select count(*) from pg_inherits where inhparent = 'ropewalk.run'::regclass")[0][0]
            assert all(made.values()) and made["next_slot_by_shard"]
            assert sum(name.endswith("next_run_by_error") for name in made) == partitions + 1, made
            # a partition that comes later has it, too
            stack.sql("select ropewalk.partitions_ensure(now(), 60)")
            partitions = stack.sql("select count(*) from pg_inherits where inhparent = 'ropewalk.run'::regclass")[0][0]
            assert stack.sql("select count(*) from pg_inherits where inhparent = 'ropewalk.next_run_by_error'::regclass")[0][0] == partitions
        load.judge()


def test_processes_are_exchanged_one_by_one_under_load(capsys):
    with drive.private_stack(gateways=2, schedulers=2, workers=2) as stack:
        took = {}
        with Load(stack) as load:
            for name in ("gateway-1", "scheduler-1", "worker-1", "gateway-2", "scheduler-2", "worker-2"):
                pid, began = stack.pid(name), time.monotonic()
                stack.signal(name, signal.SIGTERM)
                drive.until(f"the end of {name}", lambda: gone(pid), 30, 0.01)
                took[name] = time.monotonic() - began
                assert took[name] < DRAIN_MAX_S[name.split("-")[0]], f"{name} took {took[name]:.1f} s to drain"
                load.goes_on()
                stack.stack("start", name)
                drive.until(f"{name} is ready", lambda: stack.readyz(stack.port(name))[0] == 200, 30)
            load.goes_on()
        count = load.judge()
        ended = [line for line in stack.log() if line["event"] == "service.ended"]
        assert len(ended) >= 6 and {line["exit_code"] for line in ended} == {0}
        with capsys.disabled():
            print(f"\nexchanged one by one: {count} runs, answers {load.statuses()}, {sum(t.broken for t in load.threads)} connections cut; "
                  "drained in " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))


# --- two event formats -------------------------------------------------------------------------------------------------

ASKS = {"name": "asks", "steps": {"a": {"call": "wait_signal", "with": {"signal": "go"}}, "b": {"needs": ["a"], "call": "noop"}}}

SLEEPS = {"name": "sleeps", "steps": {"a": {"call": "delay", "with": {"duration": "1h"}}}}


class Releases:
    """A folder of programs in which the scheduler is `before` or `next`: of the latter signals, settling and compensation are
    new, and the former knows nothing of them (tests/tools/event_format_next.c)."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir()
        for program in ("ropewalk-gateway", "ropewalk-worker"):
            (folder / "bin" / program).symlink_to(drive.BUILD / "bin" / program)
        self.scheduler("before")

    def scheduler(self, release):
        link = self.folder / "bin/ropewalk-scheduler"
        link.unlink(missing_ok=True)
        link.symlink_to(drive.BUILD / f"bin/ropewalk-scheduler-{release}")

    def exchange(self, stack, name, release, number=signal.SIGTERM):
        pid = stack.pid(name)
        stack.signal(name, number)
        drive.until(f"the end of {name}", lambda: gone(pid), 30)
        self.scheduler(release)
        stack.stack("start", name)
        drive.until(f"{name} is ready", lambda: stack.readyz(stack.port(name))[0] == 200, 30)


def metric(stack, name, metric):
    text = stack.session.get(f"http://127.0.0.1:{stack.port(name)}/metrics", timeout=5).text
    return int(re.search(rf"^{metric} (\d+)$", text, re.M).group(1))


def signal_all(stack, runs):
    """As a careful client does: again until it is taken."""
    def told(run):
        answer = stack.call("POST", f"/v1/runs/{run}/signals/go", {})
        assert answer.status_code in (200, 202, 409, 503), answer.text
        return answer.status_code in (200, 202) or answer.json()["code"] == "run_ended"   # one of before was taken
    for run in runs:
        drive.until(f"a signal for {run}", lambda: told(run), 30, 0.2)


def explain(stack, run):
    return stack.ask("GET", f"/v1/runs/{run}/explain")


def explained(stack, run, reason):
    return drive.until(f"'{reason}'", lambda: (said := explain(stack, run))["reason"] == reason and said)


def started(stack, runs):
    return stack.sql("select count(distinct run_id) from event where type = 1 and run_id = any(%s::uuid[])", runs)[0][0]


def test_schedulers_of_two_event_formats_are_exchanged_both_ways(tmp_path):
    tmp_path.chmod(0o711)
    releases = Releases(tmp_path)
    with drive.private_stack(schedulers=2, build=tmp_path) as stack:
        migrated = subprocess.run([str(drive.BUILD / "bin/ropewalk-scheduler-next"), "--migrate"], stderr=subprocess.PIPE, text=True,
                                  env={"ROPEWALK_ADMIN_PG_URL": stack.env["ROPEWALK_ADMIN_PG_URL"]})
        assert migrated.returncode == 0, migrated.stderr
        with Load(stack, threads=2) as load:
            stack.save(ASKS)
            stack.save(SLEEPS)
            sleepers = []

            def asleep():
                sleepers.append(stack.start("sleeps"))
                return sleepers[-1]
            # upwards: what only one of the two could read is refused, or waits
            releases.exchange(stack, "scheduler-1", "next")
            drive.until("two formats", lambda: stack.sql("select count(distinct format) from scheduler")[0][0] == 2)
            # one that is taken before the news of the other is out makes its run the newer one's
            refused = drive.until("a refusal", lambda: next((a.json() for a in [stack.call("POST", f"/v1/runs/{asleep()}/signals/go", {})]
                                                             if a.status_code == 409), None), 20, 0.2)
            assert refused["code"] == "upgrade_in_progress" and "older release" in refused["detail"]
            asks = [stack.start("asks") for _ in range(24)]
            load.goes_on()
            drive.until("starts that were looked at", lambda: sum(metric(stack, f"scheduler-{n}", "ropewalk_inputs_postponed_total")
                                                                  for n in (1, 2)) >= 24)
            assert started(stack, asks) == 0
            assert explained(stack, asks[0], "older_release")["hint"], "why it does not begin"
            releases.exchange(stack, "scheduler-2", "next")
            drive.until("their start", lambda: started(stack, asks) == 24, 20)
            load.goes_on()
            # and down again: the older one leaves what it cannot read to the newer one
            releases.exchange(stack, "scheduler-1", "before")
            signal_all(stack, asks[:16])
            for run in asks[:16]:
                assert stack.ended(run, 60)["status"] == "succeeded"
            met = [line for line in stack.log("scheduler") if line["event"] == "shard.needs_newer_release"]
            assert met, "no run was ever met by the older one"
            left = metric(stack, "scheduler-1", "ropewalk_shards_left_to_newer")
            assert 0 < left <= 16 and stack.sql("select count(*) from shard where format > (select min(format) from scheduler)")[0][0] == left
            load.goes_on()
            # none of the newer ones lives: the other runs of these shards go on, and nothing becomes of those
            pid = stack.pid("scheduler-2")
            stack.signal("scheduler-2", signal.SIGKILL)
            drive.until("the end of scheduler-2", lambda: gone(pid), 10)
            drive.until("all shards for the older one", lambda: stack.sql(
                "select count(*) from shard where owner = 'scheduler-1'")[0][0] == 16, 20)
            load.goes_on()
            for run in asks[16:]:
                assert stack.call("POST", f"/v1/runs/{run}/signals/go", {}).status_code in (202, 409, 503)
            drive.until("a run that it cannot read", lambda: metric(stack, "scheduler-1", "ropewalk_runs_beyond_total") > 0)
            drive.until("a run that says so", lambda: any(explain(stack, run)["reason"] == "newer_release" for run in asks[16:]))
            load.goes_on()
            assert stack.sql("select count(*) from run where id = any(%s::uuid[]) and status = 'succeeded'", asks[16:])[0][0] == 0
            releases.scheduler("next")
            stack.stack("start", "scheduler-2")
            signal_all(stack, asks[16:])
            for run in asks:
                assert stack.ended(run, 60)["status"] == "succeeded"
            load.goes_on()
            for run in sleepers:
                stack.ask("POST", f"/v1/runs/{run}:cancel", {})
        assert stack.sql("select count(*) from quarantine")[0][0] == 0
        assert stack.sql("select count(*) from dead_letter")[0][0] == 0
        load.judge()


def gone(pid):
    try:
        return re.search(r"State:\s+Z", pathlib.Path(f"/proc/{pid}/status").read_text()) is not None
    except FileNotFoundError:
        return True
