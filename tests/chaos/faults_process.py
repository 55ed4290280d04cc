"""Faults of our own processes: killed at random, killed at a point between two durable actions, frozen, restarted, slow,
with a wrong clock, with a full log disk."""
import contextlib
import os
import signal
import time

from cluster import until
from faults import Fault, fault, wait_until
from proxy import TO_CLIENT, TO_SERVER

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


def came_back(c, names, seconds=90):
    for name in names:
        until(f"{name} after a fault", lambda n=name: c.daemons[n].pid and c.ready(c.daemons[n]), seconds)


class Kill(Fault):
    kind = ""

    def choose(self):
        self.target = self.chance.choice(self.shape.names(self.kind))

    def begin(self, c):
        c.daemons[self.target].signal(signal.SIGKILL)

    def end(self, c):
        until(f"a new {self.target}", lambda: c.daemons[self.target].pid, 20)


@fault("kill-gateway", "G3", (0.5, 3))
class KillGateway(Kill):
    kind = "gateway"


@fault("kill-scheduler", "S4", (0.5, 3))
class KillScheduler(Kill):
    kind = "scheduler"


@fault("kill-worker", "W4", (0.5, 3))
class KillWorker(Kill):
    kind = "worker"


class Freeze(Kill):
    def begin(self, c):
        c.daemons[self.target].signal(signal.SIGSTOP)

    def end(self, c):
        c.daemons[self.target].signal(signal.SIGCONT)


@fault("freeze-gateway", "N1", (2, 6), 0.5)
class FreezeGateway(Freeze):
    kind = "gateway"


@fault("freeze-scheduler", "S8", (7, 10))
class FreezeScheduler(Freeze):
    kind = "scheduler"


@fault("freeze-worker", "W6", (13, 16))
class FreezeWorker(Freeze):
    kind = "worker"


class Point(Fault):
    """Kills at a place between two durable actions, seen from outside: one direction of one link is held, so that what was
    done cannot be heard (or what was decided cannot be said), and the process dies in that state; several times."""
    victims, link, direction = "", "", ""

    def choose(self):
        names = self.shape.names(self.victims)
        self.rounds = [(self.chance.choice(names), self.chance.uniform(0.2, 1.2)) for _ in range(3)]
        self.target = "+".join(sorted({name for name, _ in self.rounds}))
        self.detail = {"held": self.link, "direction": self.direction, "kills": 0}

    def touches(self):
        names = {name for name, _ in self.rounds}
        return names | {self.link.format(name) for name in names}

    def begin(self, c):
        for name, held_s in self.rounds:
            link = c.links[self.link.format(name)]
            until(f"{name} before it is killed again", lambda n=name: c.daemons[n].pid, 20)
            came_back(c, [name])
            link.hold(self.direction)
            time.sleep(held_s)
            if c.daemons[name].signal(signal.SIGKILL):
                self.detail["kills"] += 1
            link.restore()

    def end(self, c):
        came_back(c, {name for name, _ in self.rounds})


def point(name, row, victims, link, direction, doc):
    """Makes one such fault."""
    cls = type("Point" + row, (Point,), {"victims": victims, "link": link, "direction": direction, "__doc__": doc})
    fault(name, row, (0, 0.5))(cls)


point("gateway-before-commit", "G1", "gateway", "{}>postgres", TO_SERVER, "The request is read; no transaction reaches PostgreSQL.")
point("gateway-after-commit", "G2", "gateway", "{}>postgres", TO_CLIENT, "The run is committed; the gateway never hears it, the client gets no answer.")
point("gateway-in-answer", "G3", "gateway", "clients>{}", TO_CLIENT, "The answer is written; the client does not get it.")
point("scheduler-before-commit", "S1 S5", "scheduler", "{}>postgres", TO_SERVER, "Results are applied in memory; no batch reaches PostgreSQL.")
point("scheduler-after-commit", "S2", "scheduler", "{}>postgres", TO_CLIENT, "The batch is committed; its tasks are not published.")
point("scheduler-before-confirm", "S3", "scheduler", "{}>rabbitmq", TO_CLIENT, "Tasks are published; their confirms are not heard.")
point("scheduler-before-ack", "S6", "scheduler", "{}>rabbitmq", TO_SERVER, "Batches are committed; no acknowledgement reaches RabbitMQ.")
point("worker-before-claim", "W1", "worker", "{}>redis", TO_SERVER, "Tasks are taken; no claim reaches Redis.")
point("worker-before-effect", "W2", "worker", "workers>ledger", TO_SERVER, "Tasks are claimed; no request reaches the other side.")
point("worker-before-answer", "W3", "worker", "workers>ledger", TO_CLIENT, "The effect has happened; its answer is not heard.")
point("worker-before-result", "W4", "worker", "{}>rabbitmq", TO_SERVER, "The answer was heard; no result reaches RabbitMQ.")
point("worker-before-ack", "W5", "worker", "{}>rabbitmq", TO_CLIENT, "Results are stored; their confirms are not heard, so nothing is acknowledged.")


@fault("kill-schedulers", "S9", (8, 15))
class KillSchedulers(Fault):
    """One of the schedulers every 3 s."""

    def choose(self):
        self.target = "schedulers"
        self.order = [self.chance.choice(self.shape.names("scheduler")) for _ in range(200)]
        self.detail = {"kills": 0}

    def touches(self):
        return set(self.shape.names("scheduler"))

    def begin(self, c):
        names = iter(self.order)

        def one():
            if c.daemons[next(names)].signal(signal.SIGKILL):
                self.detail["kills"] += 1
        self.again_and_again(one, 3)

    def end(self, c):
        self.end_thread()
        came_back(c, self.shape.names("scheduler"))


@fault("rolling-restart", "U1", (0, 1))
class RollingRestart(Fault):
    """SIGTERM to each process, one after another, each when the one before is back."""

    def choose(self):
        self.target = "all"
        self.order = self.shape.all_names()
        self.chance.shuffle(self.order)

    def touches(self):
        return set(self.order)

    def begin(self, c):
        longest = 0.0
        for name in self.order:
            daemon, began = c.daemons[name], time.monotonic()
            pid = daemon.signal(signal.SIGTERM)
            until(f"the drain of {name}", lambda d=daemon, p=pid: d.pid not in (None, p), 40)
            longest = max(longest, time.monotonic() - began)
            came_back(c, [name])
        self.detail["longest_drain_s"] = round(longest, 2)


@fault("expression-processes", "W8", (3, 6))
class ExpressionProcesses(Fault):
    """Kills and freezes the processes that evaluate expressions."""

    def choose(self):
        self.target = self.chance.choice(self.shape.names("scheduler"))
        self.detail = {"killed": 0, "frozen": 0}

    def begin(self, c):
        def one():
            for pid in c.daemons[self.target].children():
                number = self.chance.choice((signal.SIGKILL, signal.SIGSTOP))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    self.detail["killed" if number == signal.SIGKILL else "frozen"] += 1
        self.again_and_again(one, 1)

    def end(self, c):
        self.end_thread()
        for pid in c.daemons[self.target].children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@fault("slow-worker", "L1", (6, 12))
class SlowWorker(Fault):
    """A worker that gets one fiftieth of its time: it beats and holds its tasks, and hardly moves."""

    def choose(self):
        self.target = self.chance.choice(self.shape.names("worker"))

    def begin(self, c):
        daemon = c.daemons[self.target]

        def one():
            daemon.signal(signal.SIGSTOP)
            time.sleep(0.5)
            daemon.signal(signal.SIGCONT)
        self.again_and_again(one, 0.01)

    def end(self, c):
        self.end_thread()
        c.daemons[self.target].signal(signal.SIGCONT)


@fault("clock", "C1", (9, 14))
class Clock(Fault):
    """The process runs under a clock of its own, which jumps while it runs."""
    JUMPS = ("+1h", "-1h", "+1d", "+0 x1.1", "-300s")

    def choose(self):
        self.target = self.chance.choice(self.shape.all_names())
        self.jumps = self.chance.sample(self.JUMPS, 3)
        self.detail = {"jumps": self.jumps}

    def begin(self, c):
        daemon = c.daemons[self.target]
        self.file = c.dir / f"clock-{self.target}"
        self.file.write_text("+0\n")
        if not os.path.exists(FAKETIME):
            self.detail["left_out"] = "no libfaketime"
            return
        daemon.extra = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                        "FAKETIME_CACHE_DURATION": "1"}
        self._restart(c, daemon)
        steps = iter(self.jumps)

        def one():
            if jump := next(steps, None):
                self.file.write_text(jump + "\n")
        self.again_and_again(one, self.duration / 4)

    def _restart(self, c, daemon):
        pid = daemon.signal(signal.SIGTERM)
        until(f"the drain of {daemon.name}", lambda: daemon.pid not in (None, pid), 40)

    def end(self, c):
        self.end_thread()
        daemon = c.daemons[self.target]
        if daemon.extra:
            daemon.extra = {}
            self._restart(c, daemon)
            came_back(c, [daemon.name])


@fault("log-disk-full", "D1", (4, 10))
class LogDiskFull(Fault):
    """The disk of the logs of gateway-1, scheduler-1 and worker-1 is full."""
    needs_root = True

    def choose(self):
        self.target = "log disk"

    def begin(self, c):
        fill(c.dir / "logdisk/filler")

    def end(self, c):
        with contextlib.suppress(FileNotFoundError):
            (c.dir / "logdisk/filler").unlink()


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


@fault("migrate", "U2", (0, 1), 0.5)
class Migrate(Fault):
    """The migrator runs while everything runs, twice at once."""

    def choose(self):
        self.target = "schema"

    def begin(self, c):
        done, text = c.migrate()
        self.detail["migrated"] = done
        if not done:
            self.detail["said"] = text[-300:]


def all_up(c, seconds=90):
    """Whether every process is ready."""
    return wait_until(lambda: all(c.ready(d) for d in c.daemons.values()), seconds)
