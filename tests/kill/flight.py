"""Runs in flight while a process dies: a stack whose gateway, scheduler and worker a test starts and kills itself, runs
that use what the language has, and what must hold of each of them afterwards, whatever died when."""
import concurrent.futures
import contextlib
import hmac
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import pika
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "service"))
from drive import BUILD, CHECKOUT, Drive, private_stack, until  # noqa: E402, F401
from target import Target  # noqa: E402

KINDS = ("gateway", "scheduler", "worker")

# The waits that a recovery consists of, scaled down alike: leases, holders, overdue tasks.
SETTINGS = {
    "gateway": {"ROPEWALK_WEBHOOK_TIMEOUT_MS": "500"},
    "scheduler": {"ROPEWALK_ATTEMPT_LEASE_MS": "3000", "ROPEWALK_OVERDUE_MS": "1500", "ROPEWALK_COMMANDS_POLL_MS": "200",
                  "ROPEWALK_LEASE_MS": "1000", "ROPEWALK_RENEW_MS": "300"},
    "worker": {"ROPEWALK_STARTED_AFTER_MS": "100", "ROPEWALK_HEARTBEAT_MS": "300", "ROPEWALK_HOLDER_TTL_MS": "1500",
               "ROPEWALK_CAPACITY": "32"},
}

# Events of histories that others are told of, by their ids.
TO_TELL = """select e.run_id || '-' || lpad(e.seq::text, 6, '0') from event e join run r on r.id = e.run_id
             where r.workflow = 'kill-main' and (e.type in (1, 2, 3, 4, 5, 6, 10, 11) or (e.type = 22 and e.data ->> 'waits' = 'signal')
                   or (e.type in (25, 26, 29) and e.step not like '%%]'))"""

AGAIN = {"max_attempts": 5, "initial": "10ms"}


# What signs deliveries, and what every request brings to the target; both are only named in documents.
SECRETS = {"kill_sign": "planted-" + uuid.uuid4().hex, "kill_send": "planted-" + uuid.uuid4().hex}


def documents(target):
    """Of a run that has in flight whatever the language has: the child first; of one that is done again, of a webhook, and of an event."""
    def post(path, **more):
        return {"call": "http", "with": {"method": "POST", "url": target + path, "body": {"n": 1},
                                         "headers": {"Authorization": "${ .secrets.kill_send }"}}, "retry": AGAIN, **more}

    undo = {"call": "http", "with": {"method": "DELETE", "url": target + "/hello"}, "retry": AGAIN}
    return {"name": "kill-child", "steps": {"effect": post("/child")}}, {
        "name": "kill-again", "steps": {"one": {"call": "transform", "with": {"value": 1}}}}, {
        "name": "kill-wait", "steps": {"wait": {"call": "wait_signal", "with": {"signal": "never"}}}}, {
        "name": "kill-hook", "steps": {"one": post("/hooked/${ .input.id }")},
        "triggers": {"in": {"webhook": {"signature": {"scheme": "github", "secrets": ["${ .secrets.kill_sign }"]}}}}}, {
        "name": "kill-event", "triggers": {"t": {"event": {"type": "kill", "filter": "${ .event.data.n == 41 }"}}},
        "steps": {"one": {"call": "noop"}}}, {
        "name": "kill-held", "steps": {"one": {"call": "noop"}},
        "triggers": {"t": {"event": {"type": "kill-held"}, "batch": {"max_size": 3, "timeout": "300ms", "key": "${ .event.data.key }"},
                           "input": "${ .event.data }"}}}, {
        "name": "kill-main",
        "steps": {
            "hello": post("/hello", compensate=undo),
            "calc": {"needs": ["hello"], "call": "transform", "with": {"value": "${ [.input.n, 1] | add }"}},
            "nap": {"call": "delay", "with": {"duration": "100ms"}},
            "late": {"call": "wait_signal", "with": {"signal": "never", "timeout": "150ms"}},
            "after_late": {"needs": {"late": ["timed_out"]}, "call": "noop"},
            "paid": {"needs": ["nap"], "call": "wait_event", "with": {"type": "kill-paid", "filter": "${ .event.data.run == .run.id }", "timeout": "60s"}},
            "gate": {"call": "wait_signal", "with": {"signal": "go", "timeout": "60s"}},
            "once": post("/once", delivery="at_most_once"),
            "after_once": {"needs": {"once": ["succeeded", "outcome_unknown"]}, "call": "noop"},
            "slow": post("/slow"),
            "kid": {"call": "workflow", "with": {"name": "kill-child"}},
            "each": {"call": "foreach", "with": {"items": [1, 2, 3], "steps": {"go": post("/each/${ .item }")}}},
            "last": post("/${ .input.last }", needs=["calc", "nap", "after_late", "gate", "after_once", "slow", "kid", "each", "paid"]),
        },
        "output": {"sum": "${ .steps.calc.output }"},
    }


ENDS_OF = {"good": {"succeeded"}, "bad": {"compensated"}, "cancelled": {"cancelled"}}
EFFECTS = {"/hello", "/once", "/slow", "/each/1", "/each/2", "/each/3"}


class Process:
    """One of ours, as its stack would start it."""

    def __init__(self, lab, kind, number=1):
        self.kind = kind
        self.env = dict(lab.environments[kind])
        self.log = open(lab.drive.dir / "log" / f"{kind}-kill-{number}.log", "ab", buffering=0)
        self.log_path = pathlib.Path(self.log.name)
        if number > 1:
            self.env.update({"ROPEWALK_NAME": f"{kind}-{number}", "ROPEWALK_LISTEN": "127.0.0.1:0",
                             "ROPEWALK_STATE_DIR": ""})
        self.port = int(self.env["ROPEWALK_LISTEN"].rpartition(":")[2])
        self.process = None

    def start(self, point=None, ready=True, under=()):
        """The shipped program, perhaps UNDER another, or the one that dies at POINT, "NAME:K"."""
        assert self.process is None or self.process.poll() is not None
        self.under = under
        env = dict(self.env)
        if point:
            env["ROPEWALK_FAULT_KILL"] = point
        program = BUILD / f"bin/ropewalk-{self.kind}{'-faults' if point else ''}"
        self.process = subprocess.Popen([*under, str(program)], env=env, stdin=subprocess.DEVNULL, stderr=self.log,
                                        start_new_session=True)
        if ready:
            self.await_ready()

    def ready(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def await_ready(self):
        def answers():
            assert self.process.poll() is None, f"{self.kind} ended with {self.process.returncode} before it was ready"
            return self.ready()
        if self.port:
            until(f"{self.kind} to be ready", answers, 60, 0.01)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            pid = self.process.pid
            for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if self.under else []:
                os.kill(int(child), signal.SIGKILL)    # a tracer's end would set it free
            self.process.kill()
        self.wait()

    def wait(self, seconds=20):
        """Its exit status, -9 for a killed one; None while it lives."""
        try:
            return self.process.wait(seconds) if self.process is not None else None
        except subprocess.TimeoutExpired:
            return None

    def killed_at(self):
        """The place that the last death named."""
        lines = [line for line in self.log_path.read_bytes().splitlines() if line.startswith(b"fault: killed at ")]
        return lines[-1].rpartition(b" ")[2].decode() if lines else None


class Flight:
    """One run, driven as a careful client does: every request is repeated, under its key, until it is answered."""

    def __init__(self, lab, kind):
        self.lab = lab
        self.kind = kind
        self.key = uuid.uuid4().hex
        self.body = {"input": {"n": 41, "last": "refuse" if kind == "bad" else "last"}}
        self.id = self.run = None

    def ask(self, path, value, key=None, good=(200, 202), seconds=30):
        headers = {"Authorization": "Bearer " + self.lab.drive.key}
        if key:
            headers["Idempotency-Key"] = key
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = requests.post(self.lab.drive.url + path, json=value, headers=headers, timeout=10)
                if len(answer.content) != int(answer.headers["content-length"]):
                    continue  # half an answer, which this library takes for a whole one
                if answer.status_code in good:
                    return answer
                assert answer.status_code in (429, 503) or answer.json()["code"] == "idempotency_in_progress", answer.text
            except requests.RequestException:
                pass
            assert time.monotonic() < deadline, f"{path}: no answer within {seconds} s"
            time.sleep(0.02)

    def fly(self):
        self.id = self.ask("/v1/workflows/kill-main/runs", self.body, self.key).json()["run_id"]
        if self.kind == "cancelled":
            # without a key: when the answer to the first one was lost, the second finds an ended run
            self.ask(f"/v1/runs/{self.id}:cancel", {}, good=(200, 202, 409))
        else:
            # before the step that waits for it, as a rule
            self.ask("/v1/events", {"specversion": "1.0", "id": self.key, "source": "/kill", "type": "kill-paid", "data": {"run": self.id}})
            self.ask(f"/v1/runs/{self.id}/signals/go", {"by": self.key}, self.key + "-go")
        self.run = self.lab.drive.ended(self.id, 60)
        self.landed_at = time.monotonic()
        return self

    def check(self):
        """What must never be, in words."""
        faults = []
        run = self.run
        if run["status"] not in ENDS_OF[self.kind]:
            faults.append(f"run {self.id} ({self.kind}) ended {run['status']}: {run.get('error')}")
        again = self.ask("/v1/workflows/kill-main/runs", self.body, self.key).json()["run_id"]
        if again != self.id:
            faults.append(f"the same start under the same key is run {self.id} and run {again}")
        seen = {}
        for request in self.lab.target.requests():
            if request["method"] == "POST" and request["headers"].get("Authorization") != SECRETS["kill_send"]:
                faults.append(f"{request['path']} was sent without the secret")
            if request["headers"].get("Ropewalk-Run") == self.id and request["method"] == "POST":
                seen.setdefault(request["path"], []).append(request["headers"].get("Idempotency-Key"))
        if len(seen.get("/once", [])) > 1:
            faults.append(f"run {self.id}: the at_most_once request was sent {len(seen['/once'])} times")
        for path, keys in seen.items():
            if path not in ("/last", "/refuse") and len(set(keys)) > 1:
                faults.append(f"run {self.id}: {path} was asked for under {len(set(keys))} keys")
        faults += self.lab.faults_of_telling(self.id)
        unknown = run["steps"]["once"]["status"] == "outcome_unknown"
        missing = EFFECTS - set(seen) - ({"/once"} if unknown else set())
        if self.kind != "cancelled" and missing:
            faults.append(f"run {self.id}: never did {sorted(missing)}")
        self.repeated = sum(len(keys) - 1 for keys in seen.values())
        self.unknown = int(unknown and self.kind != "cancelled")  # a request that is cancelled under way is in doubt, too
        return faults


class ManyAgain(Flight):
    """Runs that have ended, and are done again by one request."""

    def __init__(self, lab):
        super().__init__(lab, "again")
        self.old = [self.ask("/v1/workflows/kill-again/runs", {"labels": {"many": self.key}}).json()["run_id"] for _ in range(6)]
        for run in self.old:
            lab.drive.ended(run)

    def fly(self):
        body = {"filter": {"label.many": self.key, "status": "succeeded", "created_before": "2999-01-01T00:00:00Z"}}
        self.ask("/v1/runs:rerun", body, self.key)
        until("each to be done again", lambda: len(self.made()) >= len(self.old), 90, 0.1)
        for _, new in self.made():
            self.lab.drive.ended(new)
        self.landed_at = time.monotonic()
        return self

    def made(self):
        return self.lab.drive.sql("select rerun_of::text, id::text from run where rerun_of = any(%s::uuid[])", self.old)

    def check(self):
        self.repeated = self.unknown = 0
        made = sorted(old for old, _ in self.made())
        return [] if made == sorted(self.old) else [f"of {sorted(self.old)} these were done again: {made}"]


class ManyCancelled(Flight):
    """Runs that wait, and are cancelled by one request."""

    def __init__(self, lab):
        super().__init__(lab, "many")
        self.runs = [self.ask("/v1/workflows/kill-wait/runs", {"labels": {"many": self.key}}).json()["run_id"] for _ in range(6)]

    def fly(self):
        self.ask("/v1/runs:cancel", {"filter": {"label.many": self.key, "created_before": "2999-01-01T00:00:00Z"}}, self.key)
        self.ended = [self.lab.drive.ended(run)["status"] for run in self.runs]
        self.landed_at = time.monotonic()
        return self

    def check(self):
        self.repeated = self.unknown = 0
        asked = self.lab.drive.sql("select count(*)::int from event where run_id = any(%s::uuid[]) and type in (40, 41)", self.runs)[0][0]
        return [] if (self.ended, asked) == (["cancelled"] * 6, 6) else [f"{self.runs} were asked {asked} times and ended {self.ended}"]


class Delivery(Flight):
    """What a vendor sends: again and again, until it hears that it was taken, now or before. First it is signed wrongly."""

    def __init__(self, lab):
        super().__init__(lab, "delivery")
        self.answers = []

    def send(self, secret):
        body = json.dumps({"id": self.key}).encode()
        headers = {"Content-Type": "application/json",
                   "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()}
        return requests.post(self.lab.drive.url + "/hooks/default/kill-hook/in", data=body, headers=headers, timeout=10)

    def send_until(self, secret, *good):
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.RequestException):
                answer = self.send(secret)
                if len(answer.content) == int(answer.headers["content-length"]):    # half an answer is none
                    self.answers.append(answer.status_code)
                    if answer.status_code in good:
                        return
                    assert answer.status_code == 503, answer.text
            assert time.monotonic() < deadline, f"no {good} within 30 s"
            time.sleep(0.02)

    def fly(self):
        self.send_until("wrong", 401)
        self.send_until(SECRETS["kill_sign"], 202, 409)
        [(self.id,)] = self.lines(202, "run_id::text")
        self.run = self.lab.drive.ended(self.id, 60)
        self.landed_at = time.monotonic()
        return self

    def lines(self, status, columns="id"):
        return self.lab.drive.sql(f"select {columns} from delivery where workflow = 'kill-hook' and excerpt like %s and status = %s",
                                  f"%{self.key}%", status)

    def check(self):
        self.repeated = self.unknown = 0
        faults = [] if self.run["status"] == "succeeded" else [f"run {self.id} of a delivery ended {self.run['status']}"]
        runs = self.lab.drive.sql("select id::text from run where workflow = 'kill-hook' and trigger::text like %s", f"%{self.key}%")
        if runs != [(self.id,)]:
            faults.append(f"a delivery is runs {runs}, its line says {self.id}")
        if self.answers.count(202) > 1:
            faults.append(f"a delivery was taken {self.answers.count(202)} times")
        self.send_until(SECRETS["kill_sign"], 409)
        self.send_until("wrong", 401)
        for status in (401, 409):                       # lines are written behind the answer, and only a death loses any
            until(f"the line of a {status}", lambda s=status: self.lines(s))
        return faults


class Event(Flight):
    """An event, sent until it is answered; it starts one run, whose answer every copy has."""

    def __init__(self, lab):
        super().__init__(lab, "event")
        self.body = {"specversion": "1.0", "id": self.key, "source": "/kill", "type": "kill", "data": {"n": 41}}

    def fly(self):
        self.id = self.ask("/v1/events", self.body).json()["starts"][0]["run_id"]
        self.run = self.lab.drive.ended(self.id)
        self.landed_at = time.monotonic()
        return self

    def check(self):
        self.repeated = self.unknown = 0
        runs = [row[0] for row in self.lab.drive.sql("select id::text from run where workflow = 'kill-event' and trigger->'event'->>'id' = %s", self.key)]
        again = self.ask("/v1/events", self.body).json()["starts"][0]["run_id"]
        return [] if runs == [self.id] == [again] else [f"event {self.key} is told to have started {self.id}, then {again}; there are {runs}"]


class Message(Event):
    """The same over the broker, which keeps it until it is acknowledged."""

    def fly(self):
        import pika
        with pika.BlockingConnection(pika.URLParameters(self.lab.drive.env["ROPEWALK_AMQP_URL"])) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("ropewalk.events", "", json.dumps(self.body).encode(), pika.BasicProperties(delivery_mode=2))
        runs = "select id::text from run where workflow = 'kill-event' and trigger->'event'->>'id' = %s"
        [(self.id,)] = until("its run", lambda: self.lab.drive.sql(runs, self.key), 60)
        self.run = self.lab.drive.ended(self.id)
        self.landed_at = time.monotonic()
        return self


class Held(Flight):
    """Events that are put together: one run of the first three, which a gateway starts, one of the last, whose time is over."""

    def __init__(self, lab):
        super().__init__(lab, "held")

    def event(self, n):
        return {"specversion": "1.0", "id": f"{self.key}-{n}", "source": "/kill", "type": "kill-held", "data": {"key": self.key, "n": n}}

    def made(self):
        return self.lab.drive.sql("select id::text, input from run where workflow = 'kill-held' and input->0->>'key' = %s order by id", self.key)

    def fly(self):
        for n in range(4):
            self.ask("/v1/events", self.event(n))
        until("all to have started", lambda: sum(len(given) for _, given in self.made()) >= 4, 90)
        for run, _ in self.made():
            self.lab.drive.ended(run)
        self.landed_at = time.monotonic()
        return self

    def check(self):
        self.repeated = self.unknown = 0
        before = self.made()
        for n in range(4):
            self.ask("/v1/events", self.event(n))
        given = sorted(one["n"] for _, batch in before for one in batch)
        left = self.lab.drive.sql("select count(*) from held_item where input->>'key' = %s", self.key)
        return [] if (given, left, self.made()) == ([0, 1, 2, 3], [(0,)], before) else [f"of four events of {self.key} came {before}, {left} wait"]


class Lab:
    """A stack without processes of ours, and those. One for many deaths."""

    def __init__(self, drive, target, shop):
        self.drive = drive
        self.target = target
        self.shop = shop
        self.environments = {kind: {**drive.environment(kind + "-1"), **SETTINGS[kind]} for kind in KINDS}
        for name, value in SECRETS.items():
            drive.ask("PUT", "/v1/secrets/" + name, {"value": value})
        for document in documents(target.url):
            drive.save(document)
        with self.broker() as channel:
            channel.queue_declare("kill-run-events", durable=True)
            channel.queue_bind("kill-run-events", "ropewalk.run_events", "#")
        drive.ask("POST", "/v1/endpoints", {"url": shop.url + "/told", "workflows": ["kill-main"]})
        drive.ask("POST", "/v1/endpoints", {"kind": "exchange", "workflows": ["kill-main"]})
        drive.stack("stop", *[kind + "-1" for kind in KINDS])
        self.processes = {kind: Process(self, kind) for kind in KINDS}
        self.pool = concurrent.futures.ThreadPoolExecutor(16)
        for process in self.processes.values():
            process.start()

    def launch(self, *kinds):
        return [self.pool.submit(Flight(self, kind).fly) for kind in kinds]

    def land(self, flights):
        """(faults, when the last one ended, effects repeated, outcomes unknown)"""
        landed = [flight.result(120) for flight in flights]
        faults = [fault for flight in landed for fault in flight.check()]
        return faults, max(f.landed_at for f in landed), sum(f.repeated for f in landed), sum(f.unknown for f in landed)

    @contextlib.contextmanager
    def broker(self):
        with pika.BlockingConnection(pika.URLParameters(self.drive.env["ROPEWALK_AMQP_URL"])) as connection:
            yield connection.channel()

    def to_tell(self, *run):
        """What others are to be told of the run, or of all."""
        return {event for event, in self.drive.sql(TO_TELL + (" and r.id = %s" if run else ""), *run)}

    def faults_of_telling(self, run):
        """Each event is told, under its id, and nothing else is."""
        def told():
            return {r["headers"]["webhook-id"] for r in self.shop.requests("/told") if json.loads(r["body"])["subject"] == run}
        until(f"all of run {run} to be told", lambda: told() >= self.to_tell(run), 60)
        extra = told() - self.to_tell(run)
        return [f"run {run}: told of {sorted(extra)}, which is not in its history"] if extra else []

    def published(self):
        """Ids of the events that the exchange has had, each as often as it came."""
        until("every event to be published", lambda: self.drive.sql(
            "select count(*) from outgoing o join endpoint e on e.id = o.endpoint where e.kind = 'exchange'")[0][0] == 0, 60)
        ids = []
        with self.broker() as channel:
            while (got := channel.basic_get("kill-run-events", auto_ack=True))[0]:
                ids.append(json.loads(got[2])["id"])
        return ids

    def unended(self):
        return self.drive.sql("select id from run where ended_at is null and workflow like 'kill-%%'")

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.log.close()
        self.pool.shutdown()


@contextlib.contextmanager
def open_lab():
    """A lab on a stack of its own, or on the one that ROPEWALK_TEST_STACK names."""
    given = os.environ.get("ROPEWALK_TEST_STACK")
    with Target() as target, Target() as shop, contextlib.nullcontext(Drive(given)) if given else private_stack(1, 1, 1) as drive:
        target.on("/refuse", 422)
        target.on("/slow", {"wait": 0.3})
        lab = Lab(drive, target, shop)
        try:
            yield lab
        finally:
            lab.close()
