#!/usr/bin/python3
"""What organisations and workers have of one another: shares, and what one notices of another's backlog. A table.

    tests/overload/fairness.py [--build-dir BUILD] [--schedulers N] [--capacity N]

A private stack whose worker has few slots, so that they are what is shared out and not the machine's cores. Every step is
an http call of 200 ms. What is compared are medians and 95 % of one stack, before and while another organisation waits with
20,000 steps."""
import argparse
import asyncio
import collections
import contextlib
import pathlib
import sys
import threading
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "service"))
import drive  # noqa: E402

CALL_S = 0.2
FLOOD_RUNS, FLOOD_STEPS = 40, 500
SAMPLES, EVERY_S = 100, 0.12


class Target:
    """Answers any request after a while, and notes for each path how many began."""

    def __init__(self, seconds=CALL_S):
        self.seconds = seconds
        self.begun = collections.Counter()
        self.loop = asyncio.new_event_loop()

    async def serve(self, reader, writer):
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.begun[head.split(b" ", 2)[1].decode()] += 1
                await asyncio.sleep(self.seconds)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()

    def __enter__(self):
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024))
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        async def end():
            self.server.close()                     # or workers would wait for answers when they are to end
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)


class Organisation:
    def __init__(self, stack, name, weight=1):
        self.stack, self.name = stack, f"{name}-{uuid.uuid4().hex[:6]}"
        key = stack.ask("POST", "/v1/organisations", {"name": self.name})["api_key"]
        self.headers = {"Authorization": "Bearer " + key}
        stack.ask("PATCH", "/v1/organisations/" + self.name, {"weight": weight})

    def ask(self, method, path, value=None):
        return self.stack.ask(method, path, value, headers=self.headers)

    def save(self, document):
        return self.ask("PUT", "/v1/workflows/" + document["name"], document)

    def start(self, workflow):
        while True:
            answer = self.stack.call("POST", f"/v1/workflows/{workflow}/runs", {"input": {}}, headers=self.headers)
            if answer.status_code == 202:
                return answer.json()["run_id"]
            assert answer.status_code == 429, answer.text
            time.sleep(0.1)


def call(target, path):
    return {"call": "http", "with": {"url": f"{target.url}/{path}"}}


def flood(organisation, target, runs=FLOOD_RUNS, path="flood"):
    """20,000 steps that are ready at once."""
    organisation.save({"name": "wide", "steps": {f"s{i}": call(target, path) for i in range(FLOOD_STEPS)}})
    for _ in range(runs):
        organisation.start("wide")
    drive.until("the flood", lambda: waiting(organisation) + target.begun["/" + path] >= runs * FLOOD_STEPS, 90, 0.2)


def waiting(organisation):
    return organisation.stack.sql("select count(*) from open_work w join organisation o on o.id = w.organisation "
                                  "where w.kind = 1 and o.name = %s", organisation.name)[0][0]


def latencies(organisation, count=SAMPLES):
    """Seconds from start to end of runs of one call, one every now and then whether the last has ended or not: sorted."""
    runs = []
    begin = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, begin + i * EVERY_S - time.monotonic()))
        runs.append(organisation.start("one"))
    drive.until("the end of the runs", lambda: organisation.stack.sql(
        "select count(*) from run where id = any(%s::uuid[]) and status <> 'succeeded'", runs)[0][0] == 0, 120, 0.2)
    return [float(row[0]) for row in organisation.stack.sql(
        "select extract(epoch from ended_at - created_at) as s from run where id = any(%s::uuid[]) order by s", runs)]


def quantile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


class Notice:
    """What a small organisation has of a big one: latencies of its runs alone, and then beside the big one's flood."""

    def __init__(self, stack, target):
        self.target = target
        self.small, self.big = Organisation(stack, "small"), Organisation(stack, "big")
        self.small.save({"name": "one", "steps": {"go": call(target, "small")}})
        latencies(self.small, 5)
        self.alone = latencies(self.small)
        flood(self.big, target)

    def beside(self):
        """Latencies, and how many of the flood's steps began in a second of that time."""
        latencies(self.small, 5)
        time.sleep(2)                               # what a flood does in its first moments is not what it does for hours
        before, began = self.target.begun["/flood"], time.monotonic()
        found = latencies(self.small)
        pace = (self.target.begun["/flood"] - before) / (time.monotonic() - began)
        assert waiting(self.big) > 5000, "the flood was over too soon"
        return found, pace


def change(stack, schedulers, capacity):
    """The stack goes on with so many schedulers, and with a worker of so many slots."""
    if stack.environment("worker-1")["ROPEWALK_CAPACITY"] != str(capacity):
        drive.tell(stack.dir, {"worker": {"CAPACITY": capacity}})
        stack.stack("stop", "worker-1")
    stack.stack("up", "--schedulers", str(schedulers))


def shares(stack, target, weights):
    """Organisations that all have more to do than there is room for: how many calls of each began in some seconds."""
    many = [Organisation(stack, f"share{weight}", weight) for weight in weights]
    paths = [f"share{i}" for i in range(len(many))]
    for one, path in zip(many, paths):
        flood(one, target, 4, path)
    time.sleep(2)
    before = collections.Counter(target.begun)
    drive.until("a sample", lambda: sum(target.begun["/" + path] - before["/" + path] for path in paths) >= 300, 120, 0.1)
    assert all(waiting(one) > 100 for one in many), "one of them had nothing left to do"
    return [target.begun["/" + path] - before["/" + path] for path in paths]


def by_worker(stack, run):
    """How many attempts of the run each worker has begun."""
    return collections.Counter(row[0] for row in stack.sql(
        "select data->>'worker' from event where run_id = %s and type = 24 and data->>'worker' is not null", run))


def spread(stack, target, count=FLOOD_STEPS):
    """How a fan of so many calls is spread over the workers."""
    stack.save({"name": "fan", "steps": {f"s{i}": call(target, "fan") for i in range(count)}})
    run = stack.start("fan")
    drive.until("its end", lambda: stack.run(run)["status"] == "succeeded", 120, 0.2)
    return by_worker(stack, run)


def newcomer(stack, target):
    """A worker comes while another has more to do than it can: seconds until its first result, and how many results of others
    came before it."""
    def beginnings():
        return [line for line in stack.log("worker") if line["event"] == "worker.takes_tasks"]

    stack.save({"name": "fan", "steps": {f"s{i}": call(target, "fan") for i in range(FLOOD_STEPS)}})
    before = target.begun["/fan"]
    runs = [stack.start("fan") for _ in range(2)]
    drive.until("a worker at work", lambda: target.begun["/fan"] > before + 50, 30)
    old = list(set().union(*(by_worker(stack, run) for run in runs)))
    there, known = len(list((stack.dir / "pids").glob("worker-*"))), len(beginnings())
    stack.stack("up", "--workers", str(there + 1))
    takes = drive.until("it takes tasks", lambda: beginnings()[known:], 20)[-1]["ts"]
    of_it = "type = 24 and run_id = any(%s::uuid[]) and not data->>'worker' = any(%s)"
    first = drive.until("its first result", lambda: stack.sql(f"select min(at) from event where {of_it}", runs, old)[0][0], 20)
    return [float(stack.sql("select extract(epoch from %s::timestamptz - %s::timestamptz)", first, takes)[0][0]), stack.sql(
        "select count(*) from event where type = 24 and run_id = any(%s::uuid[]) and at between %s and %s", runs, takes, first)[0][0]]


def few_slots(capacity, **more):
    return drive.private_stack(settings={"worker": {"CAPACITY": capacity}}, **more)


def tell_notice(alone, beside, pace, where=""):
    for what, values in (("alone", alone), ("beside 20,000 steps of another", beside)):
        print(f"run of one call of 200 ms {what:<31} p50 {quantile(values, 0.5) * 1000:5.0f} ms  p95 {quantile(values, 0.95) * 1000:5.0f} ms "
              f"({quantile(values, 0.95) / quantile(alone, 0.95):.1f} x)", flush=True)
    print(f"the other's steps meanwhile: {pace:.0f}/s{where}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--capacity", type=int, default=16)
    parser.add_argument("--build-dir", default=str(drive.BUILD))
    options = parser.parse_args()
    drive.BUILD = pathlib.Path(options.build_dir).resolve()
    with few_slots(options.capacity, schedulers=options.schedulers) as stack, Target() as target:
        notice = Notice(stack, target)
        tell_notice(notice.alone, *notice.beside())


if __name__ == "__main__":
    main()
