"""Faults of PostgreSQL, RabbitMQ and Redis: killed, frozen, emptied, full, blocked, locked."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import psycopg
import redis

from cluster import until
from faults import Fault, fault
from faults_process import fill


class Service(Fault):
    target_name = ""

    def choose(self):
        self.target = self.target_name

    def end(self, c):
        c.start_service(self.target)


# --- PostgreSQL -----------------------------------------------------------------------------------------------------

def postgres_pids(c):
    """The postmaster and all its children: those who work in its folder."""
    data, found = c.stack_dir / "data/postgres-1", []
    for cwd in pathlib.Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if cwd.samefile(data) and (cwd.parent / "comm").read_text().strip() == "postgres":
                found.append(int(cwd.parent.name))
    return found


class Postgres(Service):
    target_name = "postgres-1"


@fault("postgres-crash", "P1", (0.2, 3))
class PostgresCrash(Postgres):
    """Immediate stop, or kill -9 of the postmaster, and a start; twice."""

    def choose(self):
        super().choose()
        self.signals = [self.chance.choice((signal.SIGQUIT, signal.SIGKILL)) for _ in range(2)]
        self.detail = {"signals": [number.name for number in self.signals]}

    def begin(self, c):
        first, second = self.signals
        self.kill(c, first)
        time.sleep(self.duration / 3)
        c.start_service(self.target)
        time.sleep(1)
        self.kill(c, second)

    def kill(self, c, number):
        """And waits for its end: one that still writes its last line counts as running, and would not be started again."""
        pid = c.service_pid(self.target)
        os.kill(pid, number)
        until(f"the end of {self.target}", lambda: pid not in postgres_pids(c), 20, 0.01)


@fault("postgres-stop", "P1", (6, 12))
class PostgresStop(Postgres):
    """Away for longer than any lease."""

    def begin(self, c):
        c.stack("stop", self.target)


@fault("postgres-freeze", "P1", (4, 8), 0.5)
class PostgresFreeze(Postgres):
    """All its processes stand still."""

    def begin(self, c):
        self.pids = postgres_pids(c)
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def end(self, c):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@fault("postgres-backends", "P2", (3, 6))
class PostgresBackends(Postgres):
    """Single connections of ours are ended by the server, now and again."""

    def choose(self):
        super().choose()
        self.detail = {"terminated": 0}

    def begin(self, c):
        def one():
            rows = c.sql("select pg_terminate_backend(pid) from (select pid from pg_stat_activity where usename like 'rw\\_%' order by random() limit 1) chosen")
            self.detail["terminated"] += len(rows)
        self.again_and_again(one, 0.3)

    def end(self, c):
        self.end_thread()


@fault("postgres-locks", "P2 P7", (3, 7))
class PostgresLocks(Postgres):
    """A client that holds locks on everything that is written, idle in its transaction."""
    TABLES = ("open_work", "command", "event", "run", "idempotency", "shard", "scheduler")

    def choose(self):
        super().choose()
        self.tables = self.chance.sample(self.TABLES, self.chance.randint(1, 3))
        self.detail = {"locked": self.tables}

    def begin(self, c):
        self.db = psycopg.connect(c.dsn, connect_timeout=10)
        self.db.execute("set search_path = ropewalk; set lock_timeout = '5s'")
        self.db.commit()
        for table in self.tables:
            try:
                self.db.execute(f"lock table {table} in share row exclusive mode")
            except psycopg.Error as error:                  # a deadlock or a time-out: what is held so far must do
                self.detail["not_locked"] = f"{table}: {str(error).strip().splitlines()[0]}"
                self.db.rollback()

    def end(self, c):
        self.db.close()


@fault("postgres-connections", "P7", (4, 8))
class PostgresConnections(Postgres):
    """No connection is left, and ours lose some of theirs."""

    def begin(self, c):
        self.held = []
        try:
            while len(self.held) < 500:
                self.held.append(psycopg.connect(c.dsn, autocommit=True, connect_timeout=5))
        except psycopg.OperationalError:
            pass
        self.detail["held"] = len(self.held)
        if self.held:
            self.held[0].execute("select pg_terminate_backend(pid) from (select pid from pg_stat_activity where usename like 'rw\\_%' order by random() limit 4) chosen")
            with contextlib.suppress(psycopg.OperationalError):
                while len(self.held) < 500:
                    self.held.append(psycopg.connect(c.dsn, autocommit=True, connect_timeout=5))

    def end(self, c):
        for one in self.held:
            one.close()


@fault("postgres-disk-full", "P6", (4, 9))
class PostgresDiskFull(Postgres):
    """The disk of its data and its log is full."""
    needs_root = True

    def begin(self, c):
        self.filler = c.stack_dir / "data/postgres-1/filler"
        if self.filler.parent not in c.mounts:
            self.detail["left_out"] = "no small disk"
            return
        fill(self.filler)

    def end(self, c):
        with contextlib.suppress(FileNotFoundError):
            self.filler.unlink()
        super().end(c)


@fault("postgres-fsync", "P8", (1, 3), 0.5)
class PostgresFsync(Postgres):
    """fsync fails once in each process of the server: it must panic and recover from its log."""

    def begin(self, c):
        pids = [word for pid in postgres_pids(c) for word in ("-p", str(pid))]
        try:
            self.tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e",
                                            "inject=fsync,fdatasync:error=EIO:when=1", *pids], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except FileNotFoundError:
            self.tracer, self.detail["left_out"] = None, "no strace"

    def end(self, c):
        if self.tracer:
            self.tracer.terminate()
            said = self.tracer.communicate(timeout=10)[1]
            if said and b"ptrace" in said:
                self.detail["left_out"] = said.decode(errors="replace")[:200]
        super().end(c)


# --- RabbitMQ -------------------------------------------------------------------------------------------------------

class Rabbit(Service):
    target_name = "rabbitmq-1"


@fault("rabbitmq-kill", "B1", (0.2, 3))
class RabbitKill(Rabbit):
    def begin(self, c):
        os.kill(c.service_pid(self.target), signal.SIGKILL)


@fault("rabbitmq-stop", "B2", (15, 25))
class RabbitStop(Rabbit):
    """Away for long; starts are taken all the same."""

    def begin(self, c):
        c.stack("stop", self.target)


@fault("rabbitmq-freeze", "N1", (5, 14), 0.7)
class RabbitFreeze(Rabbit):
    def begin(self, c):
        os.kill(c.service_pid(self.target), signal.SIGSTOP)

    def end(self, c):
        os.kill(c.service_pid(self.target), signal.SIGCONT)


@fault("rabbitmq-wipe", "B3", (0.2, 2))
class RabbitWipe(Rabbit):
    """It comes back without its data: no queue, no message."""

    def begin(self, c):
        os.kill(c.service_pid(self.target), signal.SIGKILL)

    def end(self, c):
        c.stack("stop", self.target)
        shutil.rmtree(c.stack_dir / "data/rabbitmq-1/mnesia", ignore_errors=True)
        super().end(c)


@fault("queues-purge", "B3", (1, 3))
class QueuesPurge(Rabbit):
    def begin(self, c):
        for _ in range(3):
            c.in_broker("[catch rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list()], ok.")

    def end(self, c):
        pass


@fault("queues-delete", "B3", (1, 2))
class QueuesDelete(Rabbit):
    """Every queue is deleted, exclusive ones too; who consumed there is told."""

    def begin(self, c):
        c.in_broker('[catch rabbit_amqqueue:delete(Q, false, false, <<"chaos">>) || Q <- rabbit_amqqueue:list()], ok.')

    def end(self, c):
        pass


class Alarm(Rabbit):
    """Publishing connections are blocked."""
    limit, low, normal = "", "", ""

    def begin(self, c):
        c.in_broker(f"{self.limit}({self.low}), ok.")

    def end(self, c):
        c.in_broker(f"{self.limit}({self.normal}), ok.")


@fault("memory-alarm", "B4", (4, 10))
class MemoryAlarm(Alarm):
    limit, low, normal = "vm_memory_monitor:set_vm_memory_high_watermark", "0.000001", "0.4"


@fault("disk-alarm", "B4", (4, 10))
class DiskAlarm(Alarm):
    limit, low, normal = "rabbit_disk_monitor:set_disk_free_limit", "1000000000000000", '"100MB"'


# --- Redis ----------------------------------------------------------------------------------------------------------

class Redis(Service):
    target_name = "redis-1"

    def client(self, c):
        return redis.Redis.from_url(c.redis_url(), socket_timeout=10)


@fault("redis-flush", "R1", (2, 4))
class RedisFlush(Redis):
    """Everything is gone, again and again."""

    def choose(self):
        super().choose()
        self.detail = {"flushed": 0}

    def begin(self, c):
        client = self.client(c)

        def one():
            client.flushall()
            self.detail["flushed"] += 1
        self.again_and_again(one, 0.3)

    def end(self, c):
        self.end_thread()


@fault("redis-kill", "R2", (0.2, 8))
class RedisKill(Redis):
    def begin(self, c):
        os.kill(c.service_pid(self.target), signal.SIGKILL)


@fault("redis-freeze", "R2", (3, 8))
class RedisFreeze(Redis):
    def begin(self, c):
        os.kill(c.service_pid(self.target), signal.SIGSTOP)

    def end(self, c):
        os.kill(c.service_pid(self.target), signal.SIGCONT)


@fault("redis-pause", "R2", (3, 8))
class RedisPause(Redis):
    def begin(self, c):
        self.client(c).execute_command("CLIENT", "PAUSE", int(self.duration * 1000), "ALL")

    def end(self, c):
        pass


@fault("redis-stale", "R3", (4, 8))
class RedisStale(Redis):
    """It comes back as it was some seconds ago: newer keys are missing, older ones have their old values."""

    def begin(self, c):
        self.kept = {}
        client = self.client(c)
        for key in client.scan_iter(count=1000):
            if (value := client.dump(key)) is not None:
                self.kept[key] = (value, max(client.pttl(key), 0))
        self.detail["keys"] = len(self.kept)

    def end(self, c):
        client = self.client(c)
        client.flushall()
        pipe = client.pipeline(transaction=False)
        for key, (value, ttl) in self.kept.items():
            pipe.restore(key, ttl, value, replace=True)
        pipe.execute()


@fault("redis-full", "R4", (3, 8))
class RedisFull(Redis):
    """Writes fail, or other keys are thrown out for them."""

    def choose(self):
        super().choose()
        self.policy = self.chance.choice(("noeviction", "allkeys-lru"))
        self.detail = {"policy": self.policy}

    def begin(self, c):
        client = self.client(c)
        client.config_set("maxmemory-policy", self.policy)
        client.config_set("maxmemory", "1" if self.policy == "noeviction" else "1500000")

    def end(self, c):
        client = self.client(c)
        client.config_set("maxmemory", "256mb")
        client.config_set("maxmemory-policy", "noeviction")
