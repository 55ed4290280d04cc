"""Poison: a step that kills its workers, a run that kills its scheduler, messages that nobody can use. Each costs itself
an end that is explained, and nobody else anything."""
import contextlib
import json
import multiprocessing
import os
import random
import signal
import struct
import subprocess
import time
import uuid

import pika
import pytest

from drive import BUILD, CHAIN, Drive, private_stack, until
from target import Target


@pytest.fixture(scope="module")
def drive():
    given = os.environ.get("ROPEWALK_TEST_STACK")
    with contextlib.nullcontext(Drive(given)) if given else private_stack() as drive:
        drive.save(CHAIN)
        yield drive
        assert drive.orphans() == {}
        assert drive.faults_of_history() == []


def metric(drive, name, process="scheduler-1"):
    text = drive.session.get(f"http://127.0.0.1:{drive.port(process)}/metrics", timeout=10).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


# --- a step that kills its workers ----------------------------------------------------------------------------------

class Workers:
    """Workers of a pool, one after another: whoever is killed is replaced."""

    def __init__(self, drive, pool):
        self.env = {**drive.environment("worker-1"), "ROPEWALK_POOLS": pool, "ROPEWALK_NAME": "victim", "ROPEWALK_LISTEN": "127.0.0.1:0",
                    "ROPEWALK_HEARTBEAT_MS": "200", "ROPEWALK_HOLDER_TTL_MS": "1000"}
        self.log = open(drive.dir / "log/victims.log", "ab")
        self.killed = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen([str(BUILD / "bin/ropewalk-worker")], env=self.env, stdin=subprocess.DEVNULL, stderr=self.log)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.killed += 1
        self.start()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def test_a_step_that_three_workers_in_a_row_died_of_is_poison(drive):
    with Target() as world:
        url = world.on("/deadly", {"wait": 60})
        drive.save({"name": "deadly", "on_failure": "continue", "steps": {
            "kill": {"call": "http", "pool": "victims", "with": {"url": url}},
            "beside": {"call": "noop"}, "after": {"call": "noop", "needs": ["kill"]},
            "told": {"call": "noop", "needs": {"kill": ["failed"]}}}})
        victims = Workers(drive, "victims")
        try:
            run_id = drive.start("deadly")
            for number in range(1, 4):
                until(f"request {number}", lambda: len([one for one in world.seen if one["path"] == "/deadly"]) >= number, 40)
                victims.kill()
                assert drive.ended(drive.start("chain5"), 30)["status"] == "succeeded"
            run = drive.ended(run_id, 60)
        finally:
            victims.stop()
        assert len([one for one in world.seen if one["path"] == "/deadly"]) == 3
    step = run["steps"]["kill"]
    assert step["status"] == "failed" and step["error"]["code"] == "poison" and len(step["attempts"]) == 3, step
    assert {attempt["error"]["code"] for attempt in step["attempts"][:2]} == {"worker_lost"}, step
    assert run["status"] == "succeeded" and run["steps"]["told"]["status"] == "succeeded", run     # the failure was handled
    assert run["steps"]["after"]["status"] == "skipped" and run["steps"]["beside"]["status"] == "succeeded"
    letters = [one for one in drive.ask("GET", "/v1/dead-letters")["items"] if one["run_id"] == run_id]
    assert len(letters) == 1, letters
    letter = drive.ask("GET", "/v1/dead-letters/" + letters[0]["id"])
    assert letter["kind"] == "task" and letter["reason"] == "poison" and letter["step"] == "kill", letter
    assert letter["source"] == "ropewalk.task.victims.normal" and letter["organisation"] == "default", letter
    assert "worker" in letter["body"], letter
    refused = drive.call("POST", f"/v1/dead-letters/{letter['id']}:requeue")
    assert refused.status_code == 409 and refused.json()["code"] == "not_requeueable" and "three workers" in refused.json()["detail"]
    assert drive.ask("POST", f"/v1/dead-letters/{letter['id']}:discard")["status"] == "discarded"


# --- a run that kills its scheduler ---------------------------------------------------------------------------------

def die_of(drive, run_id):
    """The scheduler dies while it applies this run: what its journal says in the end is what its successor finds."""
    drive.signal("scheduler-1", signal.SIGSTOP)
    with open(drive.dir / "state/scheduler-1/journal", "r+b") as journal:
        journal.seek(8)
        journal.write(struct.pack("=I", 1))
        journal.seek(16)
        journal.write(uuid.UUID(run_id).bytes)
    drive.signal("scheduler-1", signal.SIGKILL)
    drive.stack("start", "scheduler-1")
    until("a scheduler that is ready", lambda: drive.readyz(drive.port("scheduler-1"))[0] == 200, 30)


def test_a_run_that_its_scheduler_died_of_twice_is_quarantined_and_released(drive):
    drive.save({"name": "killer", "steps": {"word": {"call": "wait_signal", "with": {"signal": "go"}}, "then": {"call": "noop", "needs": ["word"]}}})
    run_id, other = drive.start("killer"), drive.start("killer")
    for one in (run_id, other):
        until("the run waits", lambda: drive.run(one)["status"] == "waiting")
    die_of(drive, run_id)
    assert drive.ask("GET", f"/v1/runs/{run_id}/explain")["reason"] != "quarantined", "once is no proof"
    die_of(drive, run_id)
    explained = until("quarantine", lambda: (e := drive.ask("GET", f"/v1/runs/{run_id}/explain"))["reason"] == "quarantined" and e, 30)
    assert "died" in explained["sentence"] and ":release" in explained["hint"], explained
    assert metric(drive, "ropewalk_runs_quarantined_total") == 1
    assert drive.sql("select run_id::text, reason from quarantine")[0][0] == run_id
    assert drive.run(run_id)["status"] == "waiting"
    accepted = drive.call("POST", f"/v1/runs/{run_id}/signals/go", 1)
    assert accepted.status_code == 202, accepted.text
    assert drive.call("POST", f"/v1/runs/{other}/signals/go", 1).status_code == 202
    assert drive.ended(other)["status"] == "succeeded"               # the shard goes on
    until("the signal is kept", lambda: drive.sql("select 1 from command where run_id = %s and held", run_id))
    assert drive.run(run_id)["status"] == "waiting"
    released = drive.call("POST", f"/v1/runs/{run_id}:release")
    assert released.status_code == 200 and released.json()["applied"] is True, released.text
    assert drive.ended(run_id)["status"] == "succeeded"
    assert drive.sql("select 1 from quarantine") == []


# --- messages that nobody can use -----------------------------------------------------------------------------------

class Shower:
    """Strangers at the broker, of every kind, in a process of their own: what it takes them to send costs the canary nothing.
    Counts what must become a dead letter, and what must be dropped."""

    def __init__(self, url, open_task, control):
        self.url, self.open_task, self.control = url, open_task, control
        self.random = random.Random(1)
        self.dead = self.forged = self.sent = 0
        self.line, self.its_line = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self.pour, daemon=True)
        self.process.start()

    def begin(self):
        self.line.send("begin")

    def pause(self):
        self.line.send("pause")
        self.sent, self.dead, self.forged = self.line.recv()

    def end(self):
        self.process.terminate()
        self.process.join()

    def pour(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self.channel = connection.channel()
        while True:
            while not self.its_line.poll():
                connection.sleep(0.02)
            self.its_line.recv()
            self.huge()
            while not self.its_line.poll():
                for _ in range(5):
                    self.once()
                connection.sleep(0.02)
            self.its_line.recv()
            self.its_line.send((self.sent, self.dead, self.forged))

    def send(self, queue, body, kind="result", exchange=""):
        self.channel.basic_publish(exchange, queue, body, pika.BasicProperties(type=kind, delivery_mode=2))
        self.sent += 1

    def garbage(self):
        return self.random.choice([
            b"", b"\x00\xff\x17", b"{", b"[" * 100000, b'{"a":' * 200 + b"1" + b"}" * 200, b'{"v":99,"results":[]}', b'{"v":1,"results":7}',
            b'{"v":1,"results":[{"task_id":7}]}', b'"text"', b"null", self.random.randbytes(300)])

    def once(self):
        inbox = f"ropewalk.inbox.{self.random.randrange(16)}"
        kind = self.random.randrange(6)
        if kind == 0:
            self.send(inbox, self.garbage(), self.random.choice(["result", "started"]))
            self.dead += 1
        elif kind == 1:
            self.send(inbox, b'{"v":1}', self.random.choice(["unheard-of", "task", ""]))
            self.dead += 1
        elif kind == 2:
            self.send("ropewalk.task.default.normal", self.garbage(), "task")
            self.dead += 1
        elif kind == 3:
            self.send(inbox, json.dumps({**self.open_task, "token": "%064x" % self.random.getrandbits(256)}).encode())
            self.forged += 1
        elif kind == 4:
            self.send("", self.garbage(), "heartbeat", "ropewalk.heartbeat")
        else:
            queue = self.random.choice(self.control)
            self.send(queue, self.garbage(), self.random.choice(["grant", "cancel", "x"]))   # a drain needs no more than {"v":1}

    def huge(self):
        self.send("ropewalk.inbox.0", b'{"v":1,"results":["' + b"x" * (10 << 20))
        self.send("ropewalk.task.default.normal", b"[" * (10 << 20), "task")
        self.dead += 2


def control_queues(drive):
    text = drive.stack("rabbitmqctl", "-q", "list_queues", "name")
    return [line.strip() for line in text.splitlines() if line.startswith("ropewalk.worker.")]


def depths(drive):
    text = drive.stack("rabbitmqctl", "-q", "list_queues", "name", "messages")
    rows = [line.split() for line in text.splitlines() if line.startswith("ropewalk.")]
    return {name: int(count) for name, count in rows if int(count) > 0}


def canary(drive, times, count):
    """Start to end of single runs, as a client sees them."""
    for _ in range(count):
        began = time.monotonic()
        assert drive.ask("POST", "/v1/workflows/chain5/runs?wait=30s", {"input": {}})["status"] == "succeeded"
        times.append(time.monotonic() - began)


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def test_a_shower_of_nonsense_slows_nobody_down_and_changes_nothing(drive):
    drive.save({"name": "open", "steps": {"work": {"call": "noop", "pool": "nobody"}}})
    run_id = drive.start("open")
    until("an open task", lambda: drive.sql("select 1 from open_work where run_id = %s and kind = 1", run_id))
    control = control_queues(drive)
    assert control
    shower = Shower(drive.env["ROPEWALK_AMQP_URL"],
                    {"v": 1, "task_id": f"{run_id}/work/1/1", "worker": "forger", "status": "succeeded",
                     "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"}, control)
    letters = drive.sql("select count(*) from dead_letter")[0][0]
    forged = metric(drive, "ropewalk_results_forged_total")
    history = drive.sql("select count(*) from event where run_id = %s", run_id)
    calm, wet = [], []
    canary(drive, [], 10)
    for _ in range(8):                            # one after the other, so that both see the same machine
        canary(drive, calm, 25)
        shower.begin()
        canary(drive, wet, 25)
        shower.pause()
    shower.end()
    told = {name: {part: round(1000 * percentile(times, part), 1) for part in (0.5, 0.99)} for name, times in (("calm", calm), ("wet", wet))}
    print("canary, ms:", told, "messages:", shower.sent, "dead:", shower.dead, "forged:", shower.forged)
    assert shower.dead > 100 and shower.forged > 30, "too little for a test"
    until("every dead letter", lambda: drive.sql("select count(*) from dead_letter")[0][0] - letters >= shower.dead, 60)
    assert drive.sql("select count(*) from dead_letter")[0][0] - letters == shower.dead
    large = drive.sql("select type, bytes, length(body) from dead_letter where bytes > 1048576 order by type")
    assert large == [("result", (10 << 20) + 19, 1 << 20)] * 8 + [("task", 10 << 20, 1 << 20)] * 8, large
    assert metric(drive, "ropewalk_results_forged_total") - forged == shower.forged
    assert drive.sql("select count(*) from event where run_id = %s", run_id) == history, "a forged result changed a run"
    until("queues without nonsense", lambda: set(depths(drive)) <= {"ropewalk.task.nobody.normal"}, 30, 1)
    assert percentile(wet, 0.5) <= 2 * percentile(calm, 0.5) + 0.02, told
