"""Parts of the figures about the language: large graphs, loops, many waiting steps, branches side by side."""
import random
import time

WAITING_STEPS = 100000


def noop(needs=None):
    return {"call": "noop", **({"needs": needs} if needs else {})}


def random_dag(count, seed=1):
    """Each step needs one to three of the forty before it; no path is longer than the limit on depth allows."""
    rng = random.Random(seed)
    steps, depth = {}, []
    for i in range(count):
        near = [n for n in range(max(0, i - 40), i) if depth[n] < 90]
        needs = rng.sample(near, min(len(near), rng.randint(1, 3)))
        depth.append(1 + max((depth[n] for n in needs), default=0))
        steps[f"s{i}"] = noop([f"s{n}" for n in needs])
    return steps


def chain_and_fan(count):
    """Rows of 50 side by side, joined by one step, one row after the other."""
    steps, last, row = {}, None, 0
    while len(steps) + 51 <= count:
        names = [f"f{row}_{i}" for i in range(50)]
        for name in names:
            steps[name] = noop([last] if last else None)
        last = f"j{row}"
        steps[last] = noop(names)
        row += 1
    return steps


class Language:
    """For class Figures: needs self.stack, self.table."""

    def took(self, run_id):
        return float(self.stack.sql(f"select extract(epoch from ended_at - started_at) from run where id = '{run_id}'") or 0)

    def timed(self, document, value=None, times=3):
        """Seconds of the best of a few runs, each from its first event to its last."""
        self.stack.save(document)
        best = None
        for _ in range(times):
            run_id = self.stack.call("POST", f"/v1/workflows/{document['name']}/runs", {"input": value})["run_id"]
            self.stack.wait_until_ended()
            status = self.stack.sql(f"select status from run where id = '{run_id}'")
            if status != "succeeded":
                raise SystemExit(f"figures: the run of {document['name']} ended {status}")
            seconds = self.took(run_id)
            best = seconds if best is None else min(best, seconds)
        return best

    def graphs(self):
        for what, steps in (("random DAG of 1,000 steps", random_dag(1000)), ("50-wide fans in a chain, 4,998 steps", chain_and_fan(5000)),
                            ("50-wide fans in a chain, 969 steps", chain_and_fan(1000))):
            before = self.stack.memory_mb("scheduler")[0]
            seconds = self.timed({"name": "graph", "steps": steps})
            self.table.row(f"{what}, a step", f"{seconds / len(steps) * 1e6:.0f} us",
                           f"{seconds:.2f} s; scheduler {before:.1f} to {self.stack.memory_mb('scheduler')[0]:.1f} MB")

    def loops(self):
        for call, steps in (("transform", {"go": {"call": "transform", "with": {"value": "${ .item }"}}}), ("noop", {"go": noop()})):
            for concurrency in (10, 1000):
                cost = {}
                for count in (1000, 10000):
                    document = {"name": "loop", "steps": {"each": {"call": "foreach", "with": {
                        "items": "${ .input }", "concurrency": concurrency, "steps": steps}}}}
                    cost[count] = self.timed(document, list(range(count))) / count
                self.table.row(f"foreach of {call}, {concurrency} at a time, an item of 10,000", f"{cost[10000] * 1e6:.0f} us",
                               f"{cost[10000] / cost[1000]:.2f} times one of 1,000 ({cost[1000] * 1e6:.0f} us)")

    def many(self):
        """Waiting steps: what they hold, and what they cost while nothing happens."""
        document = {"name": "many", "steps": {"each": {"call": "foreach", "with": {
            "items": "${ [range(10000)] }", "concurrency": 10000,
            "steps": {"wait": {"call": "wait_signal", "with": {"signal": "go-${ .index }"}}}}}}}
        self.stack.save(document)
        time.sleep(1)
        before = self.stack.memory_mb("scheduler")[0]
        runs = [self.stack.call("POST", "/v1/workflows/many/runs", {"input": {}})["run_id"] for _ in range(WAITING_STEPS // 10000)]
        began = time.monotonic()
        while (have := self.stack.number("select count(*) from open_work where kind = 7")) < WAITING_STEPS:
            if time.monotonic() - began > 300:
                raise SystemExit(f"figures: only {have} steps wait")
            time.sleep(0.5)
        time.sleep(3)
        after = self.stack.memory_mb("scheduler")[0]
        self.table.row(f"scheduler's memory for a waiting step of {WAITING_STEPS}", f"{(after - before) * 1048576 / WAITING_STEPS:.0f} bytes",
                       f"{before:.1f} to {after:.1f} MB resident; all waited after {time.monotonic() - began - 3:.1f} s")
        calls, _ = self.stack.statements()
        received, _ = self.stack.messages()
        began = time.monotonic()
        time.sleep(20)
        seconds = time.monotonic() - began
        calls_now, _ = self.stack.statements()
        received_now, _ = self.stack.messages()
        self.table.row(f"queries a second, idle, {WAITING_STEPS} waiting steps", f"{(calls_now - calls) / seconds:.1f}",
                       f"{(received_now - received) / seconds:.1f} messages a second")
        for run_id in runs:
            self.stack.call("POST", f"/v1/runs/{run_id}:cancel")
        self.stack.wait_until_ended()
