#!/usr/bin/python3
"""More load than the machine can carry: what becomes of it. One table.

    tests/overload/overload.py --fairness [--build-dir BUILD]
    tests/overload/overload.py [--factor 3] [--seconds 60] [--workflow chain10|one] [--organisations 2] [--build-dir BUILD]

A private stack; the peak is measured first (closed loop: connections that wait for the end of their run), then the load is
offered at FACTOR times the peak, whether answers come or not (open_load), then the backlog drains, and the peak is measured
once more: on a machine that others use, too, the lower of both is the one that was to be had. Runs are counted in the
database, by their end. Exits 1 when a bound is broken; the bounds are those of judge()."""
import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "service"))
import drive  # noqa: E402

CHAIN10 = {"name": "chain10", "steps": {f"s{i}": {"call": "noop", **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(10)}}
ONE = {"name": "one", "steps": {"s0": {"call": "noop"}}}
DAEMONS = ("gateway", "scheduler", "worker")
# Resident memory that a process may grow to, in MiB: the scheduler's caches are bounded at 256 and 64 MiB, and it keeps an
# entry of some 400 bytes for each task that waits.
MEMORY_BOUND_MB = {"gateway": 128, "scheduler": 448, "worker": 128}
OPEN = "status in ('pending', 'active', 'paused')"
CLOSED_LOOP = 512                   # connections: enough work in hand that nothing waits for a client
GOODPUT_MIN = 0.8
START_DELAY_MAX = 4.0               # beyond what those need that may wait before it is asked for how long; 1 s on a machine of one's own
BACKLOG_MIN = 500                   # of each organisation (ROPEWALK_BACKLOG_MIN)
QUICK = {"gateway": {"START_DELAY_MS": 500}}  # of an installation that would rather refuse than have accepted runs wait; 10 s by default


class Load:
    def __init__(self, stack, workflow, organisations):
        self.stack = stack
        self.workflow = workflow
        self.folder = tempfile.TemporaryDirectory(prefix="ropewalk-overload.")
        self.keys = [stack.key]
        stack.save(CHAIN10)
        stack.save(ONE)
        for _ in range(organisations - 1):
            made = stack.ask("POST", "/v1/organisations", {"name": "more-" + uuid.uuid4().hex[:8]})
            self.keys.append(made["api_key"])
            for document in (CHAIN10, ONE):
                answer = stack.call("PUT", "/v1/workflows/" + document["name"], document,
                                    headers={"Authorization": "Bearer " + made["api_key"]})
                assert answer.ok, answer.text

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def load(self, seconds, rate=0, connections=CLOSED_LOOP, wait=False, shares=None, acked=None):
        """What open_load says; `shares`: of each organisation."""
        shares = shares or [1] * len(self.keys)
        with open(self.path("keys"), "w") as file:
            file.writelines(f"{share} {key}\n" for share, key in zip(shares, self.keys) if share)
        done = subprocess.run(
            [str(drive.BUILD / "bin/open_load"), "--port", self.stack.url.rpartition(":")[2], "--path",
             f"/v1/workflows/{self.workflow}/runs" + ("?wait=30s" if wait else ""), "--keys", self.path("keys"), "--rate", str(rate),
             "--seconds", str(seconds), "--connections", str(connections), "--acked", acked or self.path("acked")],
            stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 100)
        return json.loads(done.stdout)

    def number(self, text, *args):
        return self.stack.sql(text, *args)[0][0]

    def succeeded(self, began, seconds):
        return self.number("select count(*) from run where status = 'succeeded' and ended_at between %s and %s + %s * interval '1 s'",
                           began, began, seconds)

    def clock(self):
        return self.number("select clock_timestamp()")

    def drain(self, seconds=300):
        began = time.monotonic()
        drive.until("the end of every run", lambda: self.number(f"select count(*) from run where {OPEN}") == 0, seconds, 0.2)
        return time.monotonic() - began

    def peak(self, seconds):
        """Runs that succeed in a second when there is always enough to do, and no more than that."""
        self.load(2, wait=True)
        began = self.clock()
        self.load(seconds, wait=True)
        ended = self.succeeded(began, seconds)
        self.drain()
        return ended / seconds

    def start_delays(self, began):
        """From the answer to the first step's beginning, as far as history tells it: to its end, for a step that does nothing."""
        return self.stack.sql(
            "select percentile_cont(array[0.5, 0.99]) within group (order by extract(epoch from e.at - r.created_at)) from run r "
            "join event e on e.run_id = r.id and e.type = 24 and e.step = 's0' where r.created_at >= %s", began)[0][0]

    def lost(self):
        """Acknowledged runs that are not there or have not succeeded."""
        with open(self.path("acked")) as file:
            ids = [line.split()[1] for line in file]
        known = {str(row[0]) for row in self.stack.sql("select id from run where status = 'succeeded'")}
        return len(ids), [one for one in ids if one not in known]


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


class Watch(threading.Thread):
    """The most that each process held, and the most that waited."""

    def __init__(self, load, say):
        super().__init__()
        self.load, self.say = load, say
        self.stop = threading.Event()
        self.memory, self.most = {}, {"starts": 0, "tasks": 0}

    def run(self):
        began = time.monotonic()
        while not self.stop.wait(1):
            for name in (p.name for p in (self.load.stack.dir / "pids").iterdir() if p.name.split("-")[0] in DAEMONS):
                self.memory[name] = max(self.memory.get(name, 0), resident_mb(self.load.stack.pid(name)))
            starts, tasks, done = self.load.stack.sql(
                "select (select count(*) from command), (select count(*) from open_work where kind = 1), "
                "(select count(*) from run where status = 'succeeded')")[0]
            self.most = {"starts": max(self.most["starts"], starts), "tasks": max(self.most["tasks"], tasks)}
            if self.say:
                print(f"  {time.monotonic() - began:6.1f} s  succeeded {done:7d}  starts waiting {starts:6d}  tasks open {tasks:6d}", flush=True)


def offer(load, factor, seconds, peak_seconds=8, say=False, shares=None):
    """Peak, overload, drain, peak again. Gives all figures."""
    before = load.peak(peak_seconds)
    watch = Watch(load, say)
    watch.start()
    try:
        began = load.clock()
        said = load.load(seconds, rate=before * factor, connections=2000, shares=shares)
        good = load.succeeded(began, seconds) / seconds
        drained = load.drain()
    finally:
        watch.stop.set()
        watch.join()
    p50, p99 = load.start_delays(began)
    acked, lost = load.lost()
    left = load.stack.sql("select (select count(*) from command), (select count(*) from open_work)")[0]
    return {"peak": before, "peak_after": load.peak(peak_seconds), "offered": before * factor, "goodput": good, "drained": drained,
            "delay_p50": p50, "delay_p99": p99, "acknowledged": acked, "lost": lost, "left": left, "memory": watch.memory,
            "most": watch.most, "said": said}


def judge(figures):
    """What is not as it should be, in words."""
    said, faults = figures["said"], []
    peak = min(figures["peak"], figures["peak_after"])
    if figures["goodput"] < GOODPUT_MIN * peak:
        faults.append(f"goodput {figures['goodput']:.0f}/s is less than {GOODPUT_MIN:.0%} of the peak, {peak:.0f}/s")
    if set(said["statuses"]) - {"202", "429", "503"}:
        faults.append(f"answers other than 202, 429 and 503: {said['statuses']}")
    if not set(said["statuses"]) & {"429", "503"}:
        faults.append("nothing was refused: that was no overload")
    if said["without_retry_after"] or said["broken"] or said["unanswered"]:
        faults.append(f"without Retry-After {said['without_retry_after']}, broken {said['broken']}, unanswered {said['unanswered']}")
    if figures["lost"]:
        faults.append(f"{len(figures['lost'])} acknowledged runs are lost, such as {figures['lost'][0]}")
    if sum(figures["left"]):
        faults.append(f"left behind: {figures['left'][0]} commands, {figures['left'][1]} rows of open work")
    for name, used in figures["memory"].items():
        if used > MEMORY_BOUND_MB[name.split("-")[0]]:
            faults.append(f"{name} holds {used:.0f} MiB")
    most = START_DELAY_MAX + BACKLOG_MIN * len(said["organisations"]) / max(1, figures["goodput"])
    if figures["delay_p99"] > most:
        faults.append(f"99 % of the accepted runs began within {figures['delay_p99']:.2f} s, not {most:.2f} s")
    return faults


def tell(figures):
    said = figures["said"]
    rows = [("peak, closed loop", f"{figures['peak']:.0f} /s", f"{figures['peak_after']:.0f} /s afterwards"),
            ("offered", f"{figures['offered']:.0f} /s", f"over {said['connections']} connections at most"),
            ("goodput", f"{figures['goodput']:.0f} /s", f"{figures['goodput'] / min(figures['peak'], figures['peak_after']):.0%} of the lower peak"),
            ("answers", "", ", ".join(f"{status}: {count}" for status, count in said["statuses"].items())),
            ("by organisation", "", ", ".join(f"{o['accepted']} of {o['accepted'] + o['refused']}" for o in said["organisations"])),
            ("Retry-After", f"{said['retry_after'][0]}-{said['retry_after'][1]} s", ""),
            ("answer to an accepted start, p99", f"{said['accepted']['p99_ms']:.0f} ms", f"refused: {said['refused']['p99_ms']:.0f} ms"),
            ("start delay of accepted runs, p50", f"{figures['delay_p50']:.2f} s", f"p99 {figures['delay_p99']:.2f} s"),
            ("acknowledged, lost", f"{figures['acknowledged']}, {len(figures['lost'])}", ""),
            ("most starts waiting, tasks open", f"{figures['most']['starts']}, {figures['most']['tasks']}", ""),
            ("drained within", f"{figures['drained']:.1f} s", ""),
            *((f"{name}, resident at most", f"{used:.0f} MiB", f"bound {MEMORY_BOUND_MB[name.split('-')[0]]}")
              for name, used in sorted(figures["memory"].items()))]
    for what, figure, note in rows:
        print(f"{what:<36} {figure:>14}  {note}".rstrip(), flush=True)


def others(load, seconds, pause=0.02):
    """Start delays of the second organisation, which starts a run now and then: median and 99 %."""
    headers = {"Authorization": "Bearer " + load.keys[1]}
    runs, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answer = load.stack.call("POST", "/v1/workflows/one/runs", {"input": {}}, headers=headers)
        assert answer.status_code == 202, f"refused although it asks for little: {answer.status_code} {answer.text}"
        runs.append(answer.json()["run_id"])
        time.sleep(pause)
    drive.until("the end of the others' runs", lambda: load.number(
        "select count(*) from run where id = any(%s::uuid[]) and status <> 'succeeded'", runs) == 0, 60)
    return load.stack.sql("select percentile_cont(array[0.5, 0.99]) within group (order by extract(epoch from e.at - r.created_at)) "
                          "from run r join event e on e.run_id = r.id and e.type = 24 where r.id = any(%s::uuid[])", runs)[0][0]


class Slow(threading.Thread):
    """A worker that gets a hundredth of its time."""

    def __init__(self, stack, name):
        super().__init__()
        self.stack, self.name_of, self.stop = stack, name, threading.Event()

    def run(self):
        while not self.stop.is_set():
            self.stack.signal(self.name_of, signal.SIGSTOP)
            self.stop.wait(0.099)
            self.stack.signal(self.name_of, signal.SIGCONT)
            time.sleep(0.001)


def fairness(load, seconds=6):
    """What an organisation notices of others: its start delays alone, and beside each kind of burden."""
    figures = {"alone": others(load, seconds)}
    flood(load, 10000)
    figures["beside 10,000 tasks of another"] = others(load, seconds)
    load.drain()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        load.stack.save({"name": "hour", "steps": {"long": {"call": "http", "timeout": "1h", "with": {"url": url}}}})
        run = load.stack.start("hour")
        drive.until("the long task", lambda: load.number("select count(*) from event where run_id = %s and type = 21", run) == 1, 20)
        figures["beside a task of an hour"] = others(load, seconds)
        load.stack.ask("POST", f"/v1/runs/{run}:cancel", {})
    load.drain()
    slow = Slow(load.stack, "worker-2")
    slow.start()
    try:
        figures["beside a worker at 1 % speed"] = others(load, seconds)
    finally:
        slow.stop.set()
        slow.join()
    return figures


def flood(load, count):
    """One run of the first organisation with so many tasks, a thousand of them ready at any time."""
    load.stack.save({"name": "wide", "steps": {"each": {"call": "foreach", "with": {
        "items": "${ .input.items }", "concurrency": 1000, "steps": {"do": {"call": "noop"}}}}}})
    load.stack.start("wide", {"items": list(range(count))})


def tell_fairness(figures):
    for what, (p50, p99) in figures.items():
        print(f"start delay {what:<32} p50 {p50 * 1000:6.0f} ms  p99 {p99 * 1000:6.0f} ms ({p99 / figures['alone'][1]:.1f} x)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--factor", type=float, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workflow", choices=("chain10", "one"), default="chain10")
    parser.add_argument("--organisations", type=int, default=2)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--fairness", action="store_true", help="only: what one organisation notices of the burdens of another")
    parser.add_argument("--build-dir", default=str(drive.BUILD))
    options = parser.parse_args()
    drive.BUILD = pathlib.Path(options.build_dir).resolve()
    with drive.private_stack(gateways=options.gateways, settings=QUICK, workers=2 if options.fairness else 1) as stack:
        load = Load(stack, options.workflow, options.organisations)
        if options.fairness:
            tell_fairness(fairness(load))
            return 0
        figures = offer(load, options.factor, options.seconds, say=True)
        tell(figures)
        faults = judge(figures) + stack.faults_of_history()[:10]
    for fault in faults:
        print("FAULT: " + fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
