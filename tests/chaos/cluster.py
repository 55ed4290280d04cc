"""A whole installation that a campaign may break: PostgreSQL, RabbitMQ and Redis of its own (deploy/local/stack), several
of each of our processes, every link between two of them through a fault proxy, and a supervisor that starts again
what ended. One process of each kind lives in a network namespace where that is possible (root)."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import psycopg
import psycopg.waiting
import requests

from daemon import Daemon, Supervisor
from network import Namespace, namespaces_work
from proxy import Proxies

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
STACK = CHECKOUT / "deploy/local/stack"
SERVICES = ("postgres-1", "rabbitmq-1", "redis-1")
SERVICE_OF = {"postgres": "postgres-1", "rabbitmq": "rabbitmq-1", "redis": "redis-1"}
USES = {"gateway": ("postgres", "rabbitmq"), "scheduler": ("postgres", "rabbitmq"), "worker": ("rabbitmq", "redis")}
PROGRAMS = ("ropewalk-gateway", "ropewalk-scheduler", "ropewalk-worker", "fold-check")
ORGANISATIONS = ("amber", "birch", "cedar")
RABBIT_LOCAL = "consumer_timeout = 60000\n"
RABBIT_ADVANCED = "[{rabbit, [{channel_tick_interval, 5000}]}].\n"     # how often it looks at that
POSTGRES_LOCAL = "max_wal_size = 128MB\nmin_wal_size = 80MB\nmax_connections = 120\n"


psycopg.waiting.wait = psycopg.waiting.wait_epoll      # select() knows 1,024 descriptors; the proxies may have more


class Trouble(Exception):
    """The harness itself could not do what it must; says nothing about what is tested."""


def until(what, check, seconds=30, every=0.05):
    deadline = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > deadline:
            raise Trouble(f"{what}: not within {seconds} s")
        time.sleep(every)
    return value


def settings_of(path):
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in pairs}


class Cluster:
    def __init__(self, folder, build, counts, disk_mb, scaled_acknowledgement=False):
        self.dir, self.built, self.build = pathlib.Path(folder), pathlib.Path(build), pathlib.Path(folder) / "build"
        self.stack_dir = self.dir / "stack"
        self.counts, self.disk_mb, self.scaled = counts, disk_mb, scaled_acknowledgement
        self.http = requests.Session()
        self.http.trust_env = False
        self.mounts, self.namespaces, self.ledger = [], {}, None
        self.daemons = {}
        self.proxies = Proxies()
        self.links = self.proxies.links
        self.supervisor = Supervisor()
        self.root = os.geteuid() == 0

    # --- up and down ------------------------------------------------------------------------------------------------

    def up(self):
        (self.dir / "log").mkdir(exist_ok=True)
        (self.build / "bin").mkdir(parents=True, exist_ok=True)
        for program in PROGRAMS:                        # of our own, so that a build meanwhile changes nothing
            shutil.copy(self.built / "bin" / program, self.build / "bin" / program)
        self._disks()
        (self.stack_dir / "etc").mkdir(parents=True, exist_ok=True)
        (self.stack_dir / "etc").chmod(0o711)
        (self.stack_dir / "etc/postgresql.local.conf").write_text(POSTGRES_LOCAL)
        if self.scaled:
            (self.stack_dir / "etc/rabbitmq.local.conf").write_text(RABBIT_LOCAL)
            (self.stack_dir / "etc/rabbitmq-advanced.config").write_text(RABBIT_ADVANCED)
        self.stack("up", "--services-only", "--build-dir", str(self.build))
        self.secrets = settings_of(self.stack_dir / "etc/secrets")
        self.ports = {name: int(port) for name, port in settings_of(self.stack_dir / "ports").items()}
        self.dsn = settings_of(self.stack_dir / "env")["ROPEWALK_ADMIN_PG_URL"]
        self._start_ledger()
        self.migrate()
        self.sql("grant ropewalk_gateway to rw_gateway", "grant ropewalk_scheduler to rw_scheduler")
        self._daemons()
        for daemon in self.daemons.values():
            self.supervisor.start(daemon)
        for daemon in self.daemons.values():
            until(f"readiness of {daemon.name}", lambda d=daemon: self.ready(d), 30)
        self._organisations()

    def _disks(self):
        """Small disks that a fault can fill: PostgreSQL's data, and the logs of the first of each of our processes."""
        data, logs = self.stack_dir / "data/postgres-1", self.dir / "logdisk"
        for folder in (self.dir, self.stack_dir, self.stack_dir / "data", data, logs):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        if not self.root:
            data.rmdir()
            return
        self._mount(data, self.disk_mb, "postgres")
        self._mount(logs, 32, None)

    def _mount(self, folder, size_mb, owner):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(folder)], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(f"chaos: no small disk: {done.stderr.strip()}", file=sys.stderr)
            if owner:
                folder.rmdir()
            return
        self.mounts.append(folder)
        if owner:
            shutil.chown(folder, owner, owner)

    def _start_ledger(self):
        """The effect ledger, its real port behind a link of its own."""
        script = CHECKOUT / "tests/chaos/ledger.py"
        link = self.proxies.add("workers>ledger", ("127.0.0.1", 0), "0.0.0.0" if self.root and namespaces_work() else "127.0.0.1")
        # The ledger binds the port itself, so it is chosen by opening and closing a socket of ours.
        spare = self.proxies.add("spare", ("127.0.0.1", 0))
        link.target = ("127.0.0.1", spare.port)
        spare.close()
        del self.links["spare"]
        with open(self.dir / "log/ledger.log", "ab") as log:
            self.ledger = subprocess.Popen(["/usr/bin/python3", str(script), "--port", str(link.target[1]), "--file", str(self.dir / "ledger.jsonl")],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def listens():
            if self.ledger.poll() is not None:
                raise Trouble(f"the ledger ended with {self.ledger.returncode}: {(self.dir / 'log/ledger.log').read_text()[-2000:]}")
            return (self.dir / "ledger.json").exists()
        until("the ledger", listens, 15)

    def _daemons(self):
        isolated = self.root and namespaces_work()
        for kind, count in self.counts.items():
            for number in range(1, count + 1):
                name = f"{kind}-{number}"
                space = None
                if isolated and number == 2:
                    space = self.namespaces[name] = Namespace(name)
                self.daemons[name] = self._daemon(kind, name, space)
        ledger = self.links["workers>ledger"]
        first = next(iter(self.namespaces.values()), None)
        self.ledger_url = f"http://{first.outside if first else '127.0.0.1'}:{ledger.port}"
        told = self.dir / "ledger.json"                 # what the ledger says of itself is behind the link from now on
        told.write_text(json.dumps({**json.loads(told.read_text()), "url": self.ledger_url}))

    def _daemon(self, kind, name, space):
        host = space.outside if space else "127.0.0.1"
        links = {service: self.proxies.add(f"{name}>{service}", ("127.0.0.1", self.ports[SERVICE_OF[service]]), host) for service in USES[kind]}
        probe = self.proxies.add("port", ("127.0.0.1", 0))     # for the choice of its port only
        port = probe.port
        probe.close()
        del self.links["port"]
        at = (space.inside if space else "127.0.0.1", port)
        env = {"PATH": os.environ["PATH"], "ROPEWALK_NAME": name, "ROPEWALK_LISTEN": f"{at[0]}:{at[1]}"}
        if "postgres" in links:
            password = self.secrets[kind.upper() + "_PASSWORD"]
            env["ROPEWALK_PG_URL"] = f"postgresql://rw_{kind}:{password}@{host}:{links['postgres'].port}/ropewalk"
        env["ROPEWALK_AMQP_URL"] = self.amqp_url(host, links["rabbitmq"].port)
        if "redis" in links:
            env["ROPEWALK_REDIS_URL"] = self.redis_url(host, links["redis"].port)
        if kind == "scheduler":
            env["ROPEWALK_STATE_DIR"] = str(self.dir / "state" / name)
            (self.dir / "state" / name).mkdir(parents=True, exist_ok=True)
        if kind == "worker":
            env["ROPEWALK_EGRESS_ALLOW"] = "127.0.0.0/8,10.0.0.0/8"
            if self.scaled:
                env["ROPEWALK_ACK_AFTER_MS"] = "5000"
        if kind == "gateway":
            self.proxies.add(f"clients>{name}", at)
        logs = self.dir / ("logdisk" if name.endswith("-1") else "log")
        return Daemon(name, kind, at, [str(self.build / f"bin/ropewalk-{kind}")], env, logs / f"{name}.log", space)

    def amqp_url(self, host="127.0.0.1", port=None):
        return f"amqp://ropewalk:{self.secrets['AMQP_PASSWORD']}@{host}:{port or self.ports['rabbitmq-1']}/%2f"

    def redis_url(self, host="127.0.0.1", port=None):
        return f"redis://:{self.secrets['REDIS_PASSWORD']}@{host}:{port or self.ports['redis-1']}/0"

    def _organisations(self):
        self.admin_key = (self.stack_dir / "admin.key").read_text().strip()
        direct = [d.url for d in self.of_kind("gateway")]
        keys = {}
        for name in ORGANISATIONS:
            answer = self.http.post(direct[0] + "/v1/organisations", json={"name": name}, timeout=30, headers={"Authorization": "Bearer " + self.admin_key})
            if answer.status_code != 201:
                raise Trouble(f"organisation {name}: {answer.status_code} {answer.text[:500]}")
            keys[name] = answer.json()["api_key"]
        told = {"pg_dsn": self.dsn, "gateways": [f"http://127.0.0.1:{self.links['clients>' + d.name].port}" for d in self.of_kind("gateway")],
                "direct_gateways": direct, "organisations": keys, "ledger_url": self.ledger_url, "build_dir": str(self.build),
                "state_dir": str(self.dir / "state")}
        (self.dir / "cluster.json").write_text(json.dumps(told, indent=1) + "\n")

    def down(self):
        """Ends what was started, whatever state it is in; logs and files of the campaign stay."""
        with contextlib.ExitStack() as steps:           # the last one first, each whatever became of the others
            for space in self.namespaces.values():
                steps.callback(space.remove)
            steps.callback(self._stack_quietly, "clean")
            for folder in self.mounts:
                steps.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)
            steps.callback(self._keep_logs)
            steps.callback(self._stack_quietly, "stop")
            for service in SERVICES:
                steps.callback(self._wake, service)
            steps.callback(self.proxies.close)
            steps.callback(self._end_ledger)
            steps.callback(self.supervisor.close)

    def _stack_quietly(self, verb):
        subprocess.run([str(STACK), verb, str(self.stack_dir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=180)

    def _wake(self, service):
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.service_pid(service), signal.SIGCONT)

    def _end_ledger(self):
        if self.ledger and self.ledger.poll() is None:
            self.ledger.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ledger.wait(5)
            self.ledger.kill()

    def _keep_logs(self):
        found = [*(self.stack_dir / "log").glob("*.log"), *(self.dir / "logdisk").glob("*.log")]
        for file in found:
            shutil.copy(file, self.dir / "log" / file.name)

    # --- services ---------------------------------------------------------------------------------------------------

    def stack(self, verb, *args, patience=150):
        done = subprocess.run([str(STACK), verb, str(self.stack_dir), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience)
        if done.returncode != 0:
            raise Trouble(f"stack {verb} {' '.join(args)}: {done.stdout[-3000:]}")
        return done.stdout

    def in_broker(self, expression):
        """Evaluates Erlang inside RabbitMQ. Its own command-line tool would take seconds for that."""
        done = subprocess.run(["erl_call", "-address", f"127.0.0.1:{self.ports['rabbitmq-dist']}", "-e"], input=expression + "\n", text=True, timeout=60,
                              env={**os.environ, "HOME": str(self.stack_dir / "data/rabbitmq-1/home")}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0 or "{ok," not in done.stdout:
            raise Trouble(f"RabbitMQ was asked to do {expression}: {done.stdout[-1000:]}")
        return done.stdout

    def service_pid(self, name):
        return int((self.stack_dir / "pids" / name).read_text())

    def start_service(self, name, tries=8):
        """Starts it when it does not run. Remains of a killed PostgreSQL may need a moment to go."""
        for left in reversed(range(tries)):
            try:
                return self.stack("start", name)
            except Trouble:
                if not left:
                    raise
                time.sleep(0.5)
        return None

    def migrate(self):
        env = {"ROPEWALK_ADMIN_PG_URL": self.dsn, "ROPEWALK_ADMIN_KEY_FILE": str(self.stack_dir / "admin.key"), "PATH": os.environ["PATH"]}
        done = subprocess.run([str(self.build / "bin/ropewalk-scheduler"), "--migrate"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        return done.returncode == 0, done.stdout

    def sql(self, *texts):
        """Each statement on one direct connection; the rows of the last."""
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as db:
            db.execute("set search_path = ropewalk, public")
            for text in texts:
                done = db.execute(text)
            return done.fetchall() if done.description else None

    # --- our processes ----------------------------------------------------------------------------------------------

    def of_kind(self, kind):
        return [d for d in self.daemons.values() if d.kind == kind]

    def ready(self, daemon):
        try:
            return self.http.get(daemon.url + "/readyz", timeout=3).status_code == 200
        except requests.RequestException:
            return False

    def metric(self, daemon, name):
        """The sum of a metric's series, or None when the process does not answer."""
        try:
            text = self.http.get(daemon.url + "/metrics", timeout=3).text
        except requests.RequestException:
            return None
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def heal(self):
        """Whatever a fault left behind is mended: links as new, nothing frozen, every service up and every process ready."""
        for link in self.links.values():
            link.restore()
        for space in self.namespaces.values():
            space.join()
        for service in SERVICES:
            self._wake(service)
            self.start_service(service)
        for daemon in self.daemons.values():
            daemon.signal(signal.SIGCONT)
            daemon.wanted = True
        for daemon in self.daemons.values():
            until(f"readiness of {daemon.name} after all faults", lambda d=daemon: self.ready(d), 60)

    def resources(self, when):
        rows = []
        for daemon in self.daemons.values():
            if row := daemon.resources():
                rows.append({"when": when, "process": daemon.name, **row})
        with open(self.dir / "resources.jsonl", "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return rows
