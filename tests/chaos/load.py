#!/usr/bin/python3
"""The clients of a chaos run: careful ones, who repeat what they do not know about, under the same key.

    tests/chaos/load.py DIR --seed S --rate R

Reads DIR/cluster.json and DIR/ledger.json, saves the workflows (workflows.py) in every organisation and starts R runs a
second until SIGTERM; then it submits nothing new, brings what is under way to an end (at most 20 s), and ends. Every
request is a line of DIR/client.jsonl: what was asked, when (CLOCK_MONOTONIC, ns), and what is known of it:

    ok         an answer 2xx
    fail       it did not happen: an answer that says so (4xx but 408 and "in progress"), or no connection
    unknown    anything else: no answer, 5xx, in progress

`expect` names the status of a request that has to be refused. DIR/load.json tells the checker which workflows there are,
how they may end, and the markers of the organisations.
"""
import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import operate  # noqa: E402
import workflows  # noqa: E402

MARKER = re.compile(rb"mark-[a-z0-9-]+-[0-9a-f]{12}")
ANSWER_SECONDS = 10     # how long a client waits for one answer
PATIENCE_SECONDS = 60   # how long it repeats a request whose outcome it does not know
SAVE_SECONDS, SAVES_AT_ONCE = 120, 4        # of each organisation
DRAIN_SECONDS = 20      # how long those who wait for an answer may still have one at the end
UNDER_WAY = 400         # starts and what belongs to them; more are not begun
REST = 0.15             # mean wait between two tries


def marker_of(seed, organisation):
    return f"mark-{organisation}-{hashlib.sha256(f'{seed}/{organisation}'.encode()).hexdigest()[:12]}"


async def exchange(url, method, path, headers, body):
    """One request on a connection of its own: (status, body). OSError when no connection came about: nothing was sent."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            return await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as why:
            raise Unknown(f"{type(why).__name__} {why}") from why
    finally:
        writer.close()


async def read_answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "chunked" in fields.get("transfer-encoding", ""):
        whole = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            whole += (await reader.readexactly(size + 2))[:-2]
        return status, whole
    return status, await reader.readexactly(int(fields.get("content-length", 0)))


class Unknown(Exception):
    """Sent, and nobody knows what became of it."""


class NotSaved(Exception):
    """There is nothing to start."""


class Client:
    """One organisation's client."""

    def __init__(self, load, name, key):
        self.load, self.name, self.key = load, name, key
        self.saving = asyncio.Semaphore(SAVES_AT_ONCE)
        self.marker = marker_of(load.seed, name)
        self.made = workflows.documents(load.seed, self.marker, load.ledger["url"], load.ledger["refuse_url"])

    async def ask(self, op, method, path, body=None, key=None, gateway=None, expect=None, workflow=None, run=None, wait=ANSWER_SECONDS, **more):
        """One request and its line; gives (outcome, status, answer)."""
        load = self.load
        data = b"" if body is None else body
        headers = {"Authorization": "Bearer " + self.key, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        url = load.gateways[load.chance.randrange(len(load.gateways)) if gateway is None else gateway % len(load.gateways)]
        line = {"t_invoke": time.monotonic_ns(), "op": op, "org": self.name, "key": key, "workflow": workflow, "run": run,
                "body_sha": hashlib.sha256(data).hexdigest(), "gateway": url, **more}
        status, text, known = None, b"", "unknown"
        try:
            status, text = await asyncio.wait_for(exchange(url, method, path, headers, data), wait)
            known = outcome_of(status, text)
        except asyncio.TimeoutError:        # also an OSError
            line["error"] = "no answer in time"
        except OSError as why:
            known, line["error"] = "fail", str(why)
        except Unknown as why:
            line["error"] = str(why)
        except asyncio.CancelledError:
            line["error"] = "the load was stopped"
            raise
        finally:
            answer = as_object(text)
            load.write({**line, "t_return": time.monotonic_ns(), "status": status, "outcome": known, "expect": expect,
                        "run": run or answer.get("run_id"), "operation": answer.get("id") if op == "bulk" else None, "code": answer.get("code"), "run_status": answer.get("status"),
                        "markers": sorted({m.decode() for m in MARKER.findall(text)})})
        return known, status, answer

    async def insist(self, op, method, path, body=None, seconds=PATIENCE_SECONDS, gateway=None, **more):
        """Repeats the same request, each time through another gateway, until its outcome is known. A connection that
        was refused, 429 and 503 are known, and asked again all the same."""
        turn = self.load.chance.randrange(64) if gateway is None else gateway
        until = time.monotonic() + seconds
        while True:
            known, status, answer = await self.ask(op, method, path, body, gateway=turn, **more)
            if known == "ok" or (known == "fail" and status not in (None, 429)):
                return known, status, answer
            if time.monotonic() > until:
                return "unknown", status, answer
            turn += 1
            await asyncio.sleep(self.load.chance.expovariate(1 / REST))

    # --- what a client does ----------------------------------------------------------------------------------------

    async def save_all(self):
        # A few at a time: a gateway checks expressions one by one, and on a busy machine all at once would never be done.
        few = asyncio.Semaphore(SAVES_AT_ONCE)

        async def one(name):
            async with few:
                await self.save(name)
        await asyncio.gather(*(one(name) for name in self.made if name != "parent"))
        await self.save("parent")       # after its children

    async def stop_ticking(self):
        document = {name: part for name, part in self.made["ticking"][0].items() if name != "triggers"}
        await self.save("ticking", document)

    async def save(self, name, document=None):
        document = document or self.made[name][0]
        async with self.saving:
            known, status, answer = await self.insist("save", "PUT", f"/v1/workflows/{name}", json.dumps(document).encode(), SAVE_SECONDS, workflow=name,
                                                      wait=SAVE_SECONDS / 3)      # its expressions are compiled
        if known != "ok":
            raise NotSaved(f"load: workflow '{name}' of '{self.name}' was not saved: {status} {json.dumps(answer)[:2000]}")

    def body(self, key, batch=None):
        chance = self.load.chance
        body = {"input": {"n": chance.randrange(1000), "k": key, "marker": self.marker}}
        if chance.random() < 0.2:
            body["priority"] = chance.choice(["critical", "high", "low"])
        if batch:
            body["labels"] = {"batch": batch}
        return json.dumps(body).encode()

    async def start_one(self, name, key, batch=None, first_of_batch=False):
        chance, path, body = self.load.chance, f"/v1/workflows/{name}/runs", self.body(key, batch)
        start = dict(op="start", method="POST", path=path, body=body, key=key, workflow=name)
        if chance.random() < 0.1:       # several at once, through as many gateways as there are
            first = chance.randrange(64)
            said = await asyncio.gather(*(self.insist(**start, gateway=first + i) for i in range(chance.randint(2, 5))))
            known, _, answer = next((one for one in said if one[0] == "ok"), said[0])
        else:
            known, _, answer = await self.insist(**start)
        if known != "ok":
            return
        if chance.random() < 0.1:
            await self.insist(**start)
        if chance.random() < 0.05:
            await self.insist(**{**start, "body": self.body(key + "/other")}, expect=422)
        await asyncio.gather(self.follow(name, answer["run_id"], key), operate.after_start(
            self, name, answer["run_id"], key, batch if first_of_batch else None))

    async def follow(self, name, run, key):
        chance = self.load.chance
        if chance.random() < 0.3:       # a 202 can be read back at once, through any gateway
            await self.ask("get", "GET", f"/v1/runs/{run}", run=run)
        if chance.random() < 0.05:
            other = chance.choice([one for one in self.load.clients if one is not self] or [self])
            await other.ask("get", "GET", f"/v1/runs/{run}", run=run, expect=404 if other is not self else None)
        if name == "signals":
            await self.signal(run, "early", key)
            await asyncio.sleep(chance.uniform(0.3, 3))
            await self.signal(run, "late", key)
        elif name == "held":
            await self.settle(run)
        elif name == "cancelled":
            await asyncio.sleep(chance.uniform(0, 2))
            undo = chance.random() < 0.5
            await self.insist("cancel", "POST", f"/v1/runs/{run}:cancel", b'{"compensate": true}' if undo else b"{}", run=run)

    async def signal(self, run, name, key):
        body = json.dumps({"marker": self.marker, "k": key, "signal": name}).encode()
        await self.insist("signal", "POST", f"/v1/runs/{run}/signals/{name}", body, run=run, key=f"{key}/{name}", signal=name)

    async def settle(self, run):
        """Looks until the step is held, and says how it was."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            known, _, answer = await self.ask("get", "GET", f"/v1/runs/{run}", run=run)
            step = (answer.get("steps") or {}).get("doubt", {}) if known == "ok" else {}
            if step.get("status") == "waiting":
                how = self.load.chance.choice(["succeeded", "failed"])
                body = json.dumps({"as": how, **({"output": {"marker": self.marker}} if how == "succeeded" else {})}).encode()
                await self.insist("settle", "POST", f"/v1/runs/{run}/steps/doubt:settle", body, run=run, step="doubt")
                return
            if step and step["status"] not in ("pending", "queued", "running"):
                return
            await asyncio.sleep(0.5)


def outcome_of(status, text):
    if 200 <= status <= 299:
        return "ok"
    if status >= 500 or status == 408 or (status == 409 and as_object(text).get("code") == "idempotency_in_progress"):
        return "unknown"
    return "fail"


def as_object(text):
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}


class Load:
    def __init__(self, folder, seed, rate, drain_seconds):
        self.folder, self.seed, self.rate, self.drain_seconds = folder, seed, rate, drain_seconds
        self.chance = random.Random(f"load/{seed}")
        cluster = json.loads((folder / "cluster.json").read_text())
        self.ledger = json.loads((folder / "ledger.json").read_text())
        self.ledger.update(cluster.get("ledger", {}))       # as the workers see it, where that is another address
        self.gateways = cluster["gateways"]
        self.out = (folder / "client.jsonl").open("a", buffering=1)
        self.clients = [Client(self, name, key) for name, key in cluster["organisations"].items()]
        self.stopping = asyncio.Event()
        self.tasks = set()
        self.left_out, self.times = 0, {}
        self.mistake = None         # of the load itself

    def write(self, line):
        self.out.write(json.dumps(line, separators=(",", ":")) + "\n")

    def describe(self, **times):
        self.times.update(times)
        text = json.dumps({
            "seed": self.seed, "rate": self.rate, "markers": {one.name: one.marker for one in self.clients},
            "ends": {name: ends for name, (_, ends) in self.clients[0].made.items()},
            "running_runs": {self.clients[-1].name: workflows.RUNNING_RUNS}, "left_out": self.left_out, **self.times})
        (self.folder / "load.json.new").write_text(text)
        os.rename(self.folder / "load.json.new", self.folder / "load.json")

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self.describe()
        await asyncio.gather(*(one.save_all() for one in self.clients), operate.bound_runs(self.clients[-1]))
        self.describe(t_begin=time.monotonic_ns())
        print("load: submitting", flush=True)
        names = list(self.clients[0].made)
        for number in range(1 << 30):
            if len(self.tasks) < UNDER_WAY:
                self.begin(self.chance.choice(self.clients), names[number % len(names)], number)
            else:
                self.left_out += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), self.chance.expovariate(self.rate))
            if self.stopping.is_set():
                break
        ended = time.monotonic_ns()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=self.drain_seconds)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(one.stop_ticking() for one in self.clients))
        await asyncio.gather(*(operate.resume_all(one) for one in self.clients))     # whoever paused a run may have been stopped
        self.describe(t_end=ended, t_drained=time.monotonic_ns())
        if self.mistake:
            raise self.mistake

    def begin(self, client, name, number):
        key, burst = f"k-{self.seed}-{number}", workflows.BURSTS.get(name)
        for i in range(burst or 1):
            task = asyncio.ensure_future(client.start_one(name, f"{key}-{i}", key, i == 0) if burst else client.start_one(name, key))
            self.tasks.add(task)
            task.add_done_callback(self.finished)

    def finished(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.mistake = task.exception()
            self.stopping.set()


async def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=pathlib.Path)
    words.add_argument("--seed", default="1")
    words.add_argument("--rate", type=float, default=10, help="starts a second")
    words.add_argument("--drain", type=float, default=DRAIN_SECONDS, help="seconds for what is under way at the end")
    args = words.parse_args()
    try:
        await Load(args.folder, args.seed, args.rate, args.drain).run()
    except NotSaved as why:
        sys.stderr.write(f"{why}\n")
        sys.stderr.flush()
        os._exit(1)         # what is still being saved need not end


if __name__ == "__main__":
    asyncio.run(main())
