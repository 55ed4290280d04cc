"""Faults that clients make, and what only clients see: the same start many times at once, workflows that change under
their runs, a flood of one organisation, steps that outlast every time of acknowledgement. The runs belong to the
organisation `default`, which the load does not use; each of these faults verifies its own."""
import concurrent.futures
import contextlib
import http.server
import threading
import time
import uuid

import requests

from faults import Fault, fault, wait_until

ENDS = {"succeeded", "failed", "partially_completed", "cancelled", "timed_out", "compensated", "compensation_failed"}


class Client:
    """The API through the gateways' links, as organisation `default`; tries again until there is an answer."""

    def __init__(self, c):
        self.urls = [f"http://127.0.0.1:{c.links['clients>' + d.name].port}" for d in c.of_kind("gateway")]
        self.headers = {"Authorization": "Bearer " + c.admin_key}

    def once(self, turn, method, path, value=None, headers=None, timeout=10):
        return requests.request(method, self.urls[turn % len(self.urls)] + path, json=value, headers={**self.headers, **(headers or {})}, timeout=timeout)

    def ask(self, method, path, value=None, headers=None, seconds=90):
        """The first answer that is not "try again"; None when there was none in time."""
        deadline, turn = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            try:
                answer = self.once(turn, method, path, value, headers)
                if answer.status_code not in (409, 429, 500, 502, 503, 504):
                    return answer
            except requests.RequestException:
                pass
            turn += 1
            time.sleep(0.2)
        return None

    def start(self, workflow, key, seconds=90):
        answer = self.ask("POST", f"/v1/workflows/{workflow}/runs", {"input": {}}, {"Idempotency-Key": key}, seconds)
        return answer.json()["run_id"] if answer is not None and answer.status_code in (200, 202) else None

    def end_of(self, run, seconds=60):
        """The run when it has ended, else None."""
        found = []

        def look():
            answer = self.ask("GET", f"/v1/runs/{run}", seconds=5)
            if answer is not None and answer.status_code == 200 and answer.json()["status"] in ENDS:
                found.append(answer.json())
            return found
        wait_until(look, seconds, 0.2)
        return found[0] if found else None


class ByClients(Fault):
    def choose(self):
        self.target = "clients " + self.name
        self.mark = f"{self.name}-{self.chance.getrandbits(48):012x}"
        self.detail = {}

    def verify(self, c):
        """After all faults have ended: what is wrong, in words."""
        return []


@fault("same-key", "G4", (0.5, 2))
class SameKey(ByClients):
    """100 starts of one key at the same moment over all gateways, and again until each has an answer."""

    def begin(self, c):
        client = Client(c)
        client.ask("PUT", "/v1/workflows/one", {"name": "one", "steps": {"a": {"call": "noop"}}})
        gate = threading.Barrier(50)

        def one(number):
            if number < 50:
                gate.wait(20)
            return client.start("one", self.mark)
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            self.runs = list(pool.map(one, range(100)))
        self.detail = {"answers": len([run for run in self.runs if run]), "runs": len({run for run in self.runs if run})}

    def verify(self, c):
        faults = []
        if len({run for run in self.runs if run}) > 1:
            faults.append(f"{len(set(self.runs))} runs for the key {self.mark}")
        rows = c.sql(f"select count(*) from run r join idempotency i on i.run_id = r.id where i.key = '{self.mark}'")[0][0]
        if rows != 1 and any(self.runs):
            faults.append(f"{rows} rows for the key {self.mark}")
        return faults


@fault("edit-workflow", "U3", (0.5, 2))
class EditWorkflow(ByClients):
    """A workflow changes, and is deleted, while runs of it are under way: they end as they began."""

    def begin(self, c):
        client, name = Client(c), self.mark

        def document(word):
            return {"name": name, "steps": {"wait": {"call": "delay", "with": {"duration": "3s"}},
                                            "say": {"call": "transform", "needs": ["wait"], "with": {"value": word}}},
                    "output": "${ .steps.say.output }"}
        client.ask("PUT", "/v1/workflows/" + name, document("before"))
        self.runs = [client.start(name, f"{name}-{number}", 20) for number in range(5)]
        client.ask("PUT", "/v1/workflows/" + name, document("after"))
        client.ask("DELETE", "/v1/workflows/" + name)
        self.detail = {"runs": len([run for run in self.runs if run])}

    def verify(self, c):
        client, faults = Client(c), []
        for run in self.runs:
            end = client.end_of(run) if run else None
            if run and (end is None or end["status"] != "succeeded" or end["output"] != "before"):
                faults.append(f"run {run} of the edited workflow {self.mark}: {end and (end['status'], end.get('output'))}")
        return faults


@fault("flood", "L1", (1, 3))
class Flood(ByClients):
    """One organisation starts many runs at once; the others' steps must not wait for them."""
    COUNT = 300

    def begin(self, c):
        client = Client(c)
        client.ask("PUT", "/v1/workflows/flood", {"name": "flood", "steps": {f"s{i}": {"call": "noop"} for i in range(20)}})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.runs = list(pool.map(lambda n: client.start("flood", f"{self.mark}-{n}", 60), range(self.COUNT)))
        self.detail = {"runs": len([run for run in self.runs if run])}

    def verify(self, c):
        names = ",".join(f"'{run}'" for run in self.runs if run) or f"'{uuid.UUID(int=0)}'"
        open_runs = f"select id, status from run where id in ({names}) and status <> 'succeeded'"
        wait_until(lambda: not c.sql(open_runs), 60, 0.5)
        return [f"run {run} of the flood: {status}" for run, status in c.sql(open_runs)]


class SlowServer(http.server.ThreadingHTTPServer):
    """Answers after a while, and counts."""
    daemon_threads = True

    def __init__(self, seconds):
        outer, self.seen, self.lock = self, 0, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                with outer.lock:
                    outer.seen += 1
                time.sleep(seconds)
                with contextlib.suppress(OSError):      # whoever asked may be dead by now
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_):
                pass
        super().__init__(("0.0.0.0", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@fault("long-steps", "B6", (1, 2))
class LongSteps(ByClients):
    """Steps that last longer than the worker's own time of acknowledgement and RabbitMQ's consumer time-out, both scaled
    down: they are acknowledged early and live by their lease."""
    scaled_acknowledgement = True
    SECONDS = 75

    def begin(self, c):
        client = Client(c)
        self.server = SlowServer(self.SECONDS)
        host = c.ledger_url.removeprefix("http://").partition(":")[0]
        document = {"name": "long", "steps": {"long": {"call": "http", "timeout": "200s", "with": {
            "method": "POST", "url": f"http://{host}:{self.server.server_port}/"}}}}
        client.ask("PUT", "/v1/workflows/long", document)
        self.runs = [client.start("long", f"{self.mark}-{number}") for number in range(3)]
        self.detail = {"runs": len([run for run in self.runs if run])}

    def verify(self, c):
        client, faults = Client(c), []
        for run in self.runs:
            end = client.end_of(run, 3 * self.SECONDS) if run else None
            if run and (end is None or end["status"] != "succeeded"):
                faults.append(f"run {run} of a long step: {end and end['status']}")
        log = (c.stack_dir / "log/rabbitmq-1.log").read_text(errors="replace")
        faults += [f"RabbitMQ closed a channel: {line}" for line in log.splitlines() if "acknowledgement" in line and "timed out" in line]
        self.detail["requests"] = self.server.seen
        self.server.shutdown()
        return faults
