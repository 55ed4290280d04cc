"""One campaign: from a seed a timeline of faults, load all the while, everything mended at the end, and then the question
whether anything was lost, done twice or stuck."""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import traceback

import psycopg
import requests

from cluster import CHECKOUT, Cluster, Trouble, until
from sabotage import SABOTAGES
from slots import Looks
from timeline import timeline

COUNTS = {"gateway": 2, "scheduler": 3, "worker": 3}
SETTLE_S = 150              # the load has its answers by then; and of the runs that are open when it stops one ends within this time, and so on
OPEN = "status in ('pending', 'active', 'paused')"
PROBE = {"name": "probe", "steps": {"a": {"call": "noop"}, "b": {"call": "noop", "needs": ["a"]}}}


def say(text):
    print(text, flush=True)


class Records:
    """faults.jsonl: one line for each fault that began; its end is added when it comes."""

    def __init__(self, path):
        self.path, self.rows, self.lock = path, [], threading.Lock()
        self.write()

    def write(self):
        new = self.path.with_suffix(".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        new.replace(self.path)

    def begin(self, fault):
        with self.lock:
            row = {"t_begin": time.monotonic_ns(), "t_end": None, "fault": fault.name, "rows": fault.rows, "target": fault.target, "detail": fault.detail}
            self.rows.append(row)
            self.write()
            return row

    def note(self):
        """What a fault's detail says has changed."""
        with self.lock:
            self.write()

    def end(self, row):
        with self.lock:
            row["t_end"] = time.monotonic_ns()
            self.write()


class Campaign:
    def __init__(self, folder, options, names):
        self.dir, self.options = pathlib.Path(folder), options
        self.seed, self.seconds = options.seed, options.seconds
        root = os.geteuid() == 0
        self.items = timeline(self.seed, self.seconds, names, COUNTS, root)
        scaled = any(item.fault.scaled_acknowledgement for item in self.items)
        self.cluster = Cluster(folder, options.build_dir, COUNTS, 600 if self.seconds < 900 else 3000, scaled)
        self.records = Records(self.dir / "faults.jsonl")
        self.locks, self.findings, self.recovery_ms = {}, [], []
        self.load = self.looks = None
        self.ended = threading.Event()

    # --- the course of it -------------------------------------------------------------------------------------------

    def run(self):
        c = self.cluster
        try:
            c.up()
            self.save_probe()
            self.looks = Looks(c.dsn, c.dir / "slots.jsonl")
            self.start_load()
            self.zero = time.monotonic()
            say(f"chaos: seed {self.seed}, {len(self.items)} faults in {self.seconds} s, {c.dir}")
            self.wait_until(2.0)
            c.resources("before")
            self.inject()
            c.heal()
            time.sleep(3)                   # the load sees a whole installation before it stops
            self.stop_load()
            if self.options.sabotage:
                SABOTAGES[self.options.sabotage](c)
            self.settle()
            self.looks.close()
            c.resources("after")
            self.verify()
        finally:
            self.ended.set()
            self.kill_load()
            c.down()
        return self.findings

    def wait_until(self, at):
        while (left := self.zero + at - time.monotonic()) > 0:
            self.watch_load()
            time.sleep(min(left, 0.2))

    def inject(self):
        threads = []
        for item in self.items:
            self.wait_until(item.at)
            thread = threading.Thread(target=self.one, args=(item,), daemon=True, name=item.fault.name)
            thread.start()
            threads.append(thread)
        self.wait_until(self.seconds)
        for thread in threads:
            while thread.is_alive():
                self.watch_load()
                thread.join(0.5)

    def one(self, item):
        """A fault from begin to end; waits for those that touch the same."""
        fault = item.fault
        with contextlib.ExitStack() as held:
            for name in sorted(fault.touches()):
                held.enter_context(self.locks.setdefault(name, threading.Lock()))
            row = self.records.begin(fault)
            say(f"  {time.monotonic() - self.zero:6.1f} s  {fault.name}  {fault.target}  {json.dumps(fault.detail)[:110]}")
            try:
                try:
                    fault.begin(self.cluster)
                    time.sleep(max(0.0, fault.duration - (time.monotonic_ns() - row["t_begin"]) / 1e9))
                finally:
                    fault.end(self.cluster)
                if fault.error:
                    row["detail"]["trouble"] = repr(fault.error)[:300]
            except (Trouble, OSError, psycopg.Error, subprocess.SubprocessError) as error:
                self.findings.append(f"{fault.name} of {fault.target}: {error}")
                row["detail"]["trouble"] = str(error)[:1000]
            self.records.end(row)
        row["detail"]["recovered_ms"] = self.probe()
        self.records.note()

    # --- load -------------------------------------------------------------------------------------------------------

    def start_load(self):
        with open(self.dir / "log/load.log", "ab") as log:
            self.load = subprocess.Popen(["/usr/bin/python3", str(CHECKOUT / "tests/chaos/load.py"), str(self.dir), "--seed", str(self.seed), "--rate",
                                          str(self.options.rate)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def submits():
            self.watch_load()
            return "submitting" in (self.dir / "log/load.log").read_text()
        until("the load's first start", submits, 120)

    def watch_load(self):
        if self.load.poll() is not None:
            raise Trouble(f"the load ended with {self.load.returncode}: {(self.dir / 'log/load.log').read_text(errors='replace')[-2000:]}")

    def stop_load(self):
        self.watch_load()
        self.load.terminate()
        try:
            if code := self.load.wait(SETTLE_S):
                self.findings.append(f"the load ended with {code}: {(self.dir / 'log/load.log').read_text(errors='replace')[-1000:]}")
        except subprocess.TimeoutExpired:
            self.findings.append(f"the load did not get its answers within {SETTLE_S} s of the end of all faults")

    def kill_load(self):
        if self.load and self.load.poll() is None:
            self.load.kill()
            self.load.wait(5)

    def save_probe(self):
        key = {"Authorization": "Bearer " + self.cluster.admin_key}
        for gateway in self.cluster.of_kind("gateway")[:1]:
            requests.put(gateway.url + "/v1/workflows/probe", json=PROBE, headers=key, timeout=20).raise_for_status()

    def probe(self):
        """How long until a run of two steps goes through again, in ms."""
        began, turn = time.monotonic(), 0
        key = {"Authorization": "Bearer " + self.cluster.admin_key, "Idempotency-Key": f"probe-{random.getrandbits(64):x}"}
        gateways = self.cluster.of_kind("gateway")
        while time.monotonic() - began < 60 and not self.ended.is_set():
            with contextlib.suppress(requests.RequestException, ValueError):
                answer = requests.post(gateways[turn % len(gateways)].url + "/v1/workflows/probe/runs?wait=2s", json={"input": {}}, headers=key, timeout=4)
                if answer.status_code == 200 and answer.json().get("status") == "succeeded":
                    self.recovery_ms.append(int((time.monotonic() - began) * 1000))
                    return self.recovery_ms[-1]
            turn += 1
            time.sleep(0.05)
        return None

    # --- the end ----------------------------------------------------------------------------------------------------

    def settle(self):
        """Every run ends, and nothing is left over. What waits for slots may take as long as it takes those before it."""
        least, deadline = None, 0
        while left := self.cluster.sql(f"select count(*) from run where {OPEN}")[0][0]:
            if least is None or left < least:
                least, deadline = left, time.monotonic() + SETTLE_S
            elif time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if left:
            rows = self.cluster.sql(f"select id, workflow, status, created_at from run where {OPEN} order by id limit 20")
            self.findings.append(f"{left} runs have not ended, and for {SETTLE_S} s none has: " + "; ".join(" ".join(map(str, row)) for row in rows))
        (self.dir / "stuck.json").write_text(json.dumps(self.open_work(), default=str, indent=1))

    def open_work(self):
        names = ("run_id", "workflow", "step", "kind", "attempt", "dispatch", "opened_at", "due_at", "reason", "shard", "scheduler")
        rows = self.cluster.sql(f"select {', '.join(names)} from v_open_work order by opened_at limit 100")
        return [dict(zip(names, row)) for row in rows]

    def verify(self):
        c = self.cluster
        for surprise in c.supervisor.surprises:
            self.findings.append(f"{surprise['process']} ended by itself with {surprise['code']}: {surprise['log'][-1500:]}")
        for item in self.items:
            if hasattr(item.fault, "verify") and item.fault.duration and any(row["detail"] is item.fault.detail for row in self.records.rows):
                self.findings += item.fault.verify(c)
        self.records.note()
        env = {"ROPEWALK_ADMIN_PG_URL": c.dsn, "PATH": os.environ["PATH"]}
        folded = subprocess.run([str(c.build / "bin/fold-check")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        say("fold-check: " + (folded.stdout.strip().splitlines() or ["nothing"])[-1])
        if folded.returncode:
            self.findings.append("fold-check: " + folded.stdout[-3000:])
        checked = subprocess.run(["/usr/bin/python3", str(CHECKOUT / "tests/chaos/check.py"), str(self.dir)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, timeout=1800)
        say(checked.stdout.rstrip())
        (self.dir / "check.txt").write_text(checked.stdout)
        if checked.returncode:
            self.findings.append(f"check.py says {checked.returncode}")

    def table(self):
        """What was injected how often, and how long a run needed to go through afterwards."""
        by_name = {}
        for row in self.records.rows:
            by_name.setdefault(row["fault"], []).append(row)
        lines = [f"{'fault':26} {'rows':10} {'times':>5} {'seconds':>8} {'recovered after ms, median, most':>34}  what"]
        for name, rows in sorted(by_name.items()):
            seconds = sum(((row["t_end"] or row["t_begin"]) - row["t_begin"]) / 1e9 for row in rows)
            known = sorted(row["detail"]["recovered_ms"] for row in rows if row["detail"].get("recovered_ms") is not None)
            figures = f"{known[len(known) // 2]}, {known[-1]}" if known else "-"
            counted = {}
            for row in rows:
                for key, value in row["detail"].items():
                    if isinstance(value, int) and key != "recovered_ms" and not isinstance(value, bool):
                        counted[key] = counted.get(key, 0) + value
            lines.append(f"{name:26} {' '.join(rows[0]['rows']):10} {len(rows):5} {seconds:8.1f} {figures:>34}  "
                         + ", ".join(f"{value} {key}" for key, value in counted.items()))
        known = sorted(self.recovery_ms)
        if known:
            lines.append(f"recovery of all: p50 {known[len(known) // 2]} ms, p99 {known[min(len(known) * 99 // 100, len(known) - 1)]} ms, most {known[-1]} ms")
        return "\n".join(lines)


def interrupted(*_):
    raise KeyboardInterrupt


def conduct(folder, options, names):
    """Runs one campaign; the exit code."""
    signal.signal(signal.SIGTERM, interrupted)
    campaign = Campaign(folder, options, names)
    try:
        findings = campaign.run()
    except Exception as error:              # whatever it was: what has been seen so far is told
        if not isinstance(error, Trouble):
            traceback.print_exc()
        findings = campaign.findings + [f"the harness: {error!r}"]
    say(campaign.table())
    for finding in findings:
        print("VIOLATION: " + finding, file=sys.stderr, flush=True)
    return 1 if findings else 0
