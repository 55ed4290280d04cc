"""Drives one stack (deploy/local/stack) from a test: calls the API, looks into the database and the logs, kills and
starts processes, runs the example's shop."""
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg
import requests

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
STACK = CHECKOUT / "deploy/local/stack"
BUILD = pathlib.Path(os.environ.get("ROPEWALK_BUILD_DIR", CHECKOUT / "build/release"))
EXAMPLE = CHECKOUT / "examples/order-fulfilment"
CHAIN = {"name": "chain5", "steps": {f"s{i}": {"call": "noop", **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(5)}}
ENDS = {"succeeded", "failed", "partially_completed", "cancelled", "timed_out", "compensated", "compensation_failed"}


def until(what, check, seconds=10, every=0.05):
    """Waits for a true value of check() and gives it."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(every)
    return value


class Drive:
    def __init__(self, folder):
        self.dir = pathlib.Path(folder)
        self.session = requests.Session()
        self.session.trust_env = False
        self.read_env()

    def read_env(self):
        self.env = {}
        for line in (self.dir / "env").read_text().splitlines():
            name, _, value = line.partition("=")
            self.env[name] = value.strip("'")
        self.urls = self.env["ROPEWALK_URLS"].split()
        self.url = self.urls[0]
        self.key = self.env["ROPEWALK_API_KEY"]

    # --- the API ---------------------------------------------------------------------------------------------------

    def call(self, method, path, value=None, data=None, headers=None, url=None, timeout=70):
        sent = {"Authorization": "Bearer " + self.key}
        if value is not None:
            data = json.dumps(value).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        return self.session.request(method, (url or self.url) + path, data=data, headers=sent, timeout=timeout)

    def ask(self, method, path, value=None, **more):
        """The answer's JSON; anything but a 2xx is a failure of the test."""
        answer = self.call(method, path, value, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json()

    def save(self, document):
        return self.ask("PUT", "/v1/workflows/" + document["name"], document)

    def start(self, workflow, value=None, labels=None, key=None, url=None):
        body = {"input": value if value is not None else {}}
        if labels:
            body["labels"] = labels
        headers = {"Idempotency-Key": key} if key else None
        return self.ask("POST", f"/v1/workflows/{workflow}/runs", body, headers=headers, url=url)["run_id"]

    def start_for_sure(self, workflow, key, value=None, seconds=60):
        """As a careful client does: the same key until there is an answer, on any gateway."""
        deadline = time.monotonic() + seconds
        turn = 0
        while True:
            try:
                answer = self.call("POST", f"/v1/workflows/{workflow}/runs", {"input": value if value is not None else {}},
                                   headers={"Idempotency-Key": key}, url=self.urls[turn % len(self.urls)], timeout=10)
                if answer.status_code in (200, 202):
                    return answer.json()["run_id"]
                assert answer.status_code in (409, 429, 503), f"{answer.status_code} {answer.text[:500]}"
            except requests.RequestException:
                pass
            assert time.monotonic() < deadline, f"no start within {seconds} s"
            turn += 1
            time.sleep(0.1)

    def run(self, run_id, url=None):
        return self.ask("GET", "/v1/runs/" + run_id, url=url)

    def ended(self, run_id, seconds=60):
        def look():
            with contextlib.suppress(requests.RequestException):
                answer = self.call("GET", "/v1/runs/" + run_id)
                if answer.ok and answer.json()["status"] in ENDS:
                    return answer.json()
            return None
        return until(f"the end of run {run_id}", look, seconds, 0.1)

    def readyz(self, port):
        """(status, text) of a process, or (0, "") when it does not answer."""
        try:
            answer = self.session.get(f"http://127.0.0.1:{port}/readyz", timeout=6)
            return answer.status_code, answer.text
        except requests.RequestException:
            return 0, ""

    # --- the database ----------------------------------------------------------------------------------------------

    def sql(self, text, *args):
        with psycopg.connect(self.env["ROPEWALK_ADMIN_PG_URL"], autocommit=True, connect_timeout=10) as db:
            db.execute("set search_path = ropewalk, public")
            done = db.execute(text, args)
            return done.fetchall() if done.description else None

    def faults_of_history(self):
        """What must never be, told in words: an empty list is good. While the gateway is there its answers are compared, too."""
        api = ["--api"] if self.url and self.readyz(self.url.rpartition(":")[2])[0] == 200 else []
        folded = subprocess.run([str(BUILD / "bin/fold-check"), *api], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=300)
        faults = folded.stdout.splitlines() if folded.returncode != 0 else []
        for run, count, last in self.sql("select run_id, count(*), max(seq) from event group by run_id "
                                         "having count(*) <> max(seq) or min(seq) <> 1"):
            faults.append(f"run {run}: {count} events, the last numbered {last}")
        outcomes = "(24, 25, 26, 27, 28, 29)"       # step.succeeded ... step.outcome_unknown, common/engine/event.def
        reopened = "select from event o where o.run_id = e.run_id and o.type = 12"
        for run, step, count in self.sql(f"select run_id, step, count(*) from event e where type in {outcomes} "
                                         f"and not exists ({reopened}) group by run_id, step having count(*) > 1"):
            faults.append(f"run {run}: step {step} has {count} outcomes")
        for run, step, attempt, count in self.sql("select run_id, step, attempt, count(*) from event where type = 20 "
                                                  "group by run_id, step, attempt having count(*) > 1"):
            faults.append(f"run {run}: attempt {attempt} of step {step} was dispatched {count} times")
        for run, status, count in self.sql(
                "select r.id, r.status, count(e.seq) - (select count(*) from event o where o.run_id = r.id and o.type = 12) "
                "from run r left join event e on e.run_id = r.id and e.type in (2, 3, 4, 5, 6, 10, 11) "
                "where r.status not in ('pending', 'active', 'paused') group by r.id, r.status "
                "having count(e.seq) - (select count(*) from event o where o.run_id = r.id and o.type = 12) <> 1"):
            faults.append(f"run {run}: {status}, with {count} events of an end")
        for run, kind in self.sql("select w.run_id, w.kind from open_work w join run r on r.id = w.run_id "
                                  "where r.status not in ('pending', 'active', 'paused')"):
            faults.append(f"run {run}: has ended, and still has open work of kind {kind}")
        for (run,) in self.sql("select r.id from run r where r.status in ('pending', 'active') "
                               "and not exists (select from open_work w where w.run_id = r.id) "
                               "and not exists (select from command c where c.run_id = r.id)"):
            faults.append(f"run {run}: is open, and nothing will ever move it")
        return faults

    def orphans(self):
        """What the schedulers that run have found and put right that should never be: {} is good."""
        found = {}
        for path in (self.dir / "pids").glob("scheduler-*"):
            with contextlib.suppress(requests.RequestException, KeyError):
                text = self.session.get(f"http://127.0.0.1:{self.port(path.name)}/metrics", timeout=6).text
                for line in text.splitlines():
                    if line.startswith("ropewalk_orphans_total{") and not line.endswith(" 0"):
                        found[path.name + " " + line.split()[0]] = line.split()[1]
        return found

    # --- processes -------------------------------------------------------------------------------------------------

    def stack(self, verb, *args):
        done = subprocess.run([str(STACK), verb, str(self.dir), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=180)
        assert done.returncode == 0, f"stack {verb} {' '.join(args)}: {done.stdout}"
        return done.stdout

    def pid(self, name):
        return int((self.dir / "pids" / name).read_text())

    def signal(self, name, number=signal.SIGKILL):
        os.kill(self.pid(name), number)

    def port(self, name):
        for line in (self.dir / "ports").read_text().splitlines():
            if line.startswith(name + "="):
                return int(line.partition("=")[2])
        raise KeyError(name)

    def environment(self, name):
        """What the running process NAME was told."""
        text = pathlib.Path(f"/proc/{self.pid(name)}/environ").read_bytes().decode()
        return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)

    def log(self, *kinds):
        """The lines of these processes ("scheduler"), oldest first."""
        lines = []
        for kind in kinds or ("gateway", "scheduler", "worker"):
            for path in sorted((self.dir / "log").glob(kind + "-*.log")):
                for line in path.read_text(errors="replace").splitlines():
                    if line.startswith("{"):
                        lines.append(json.loads(line))
        return sorted(lines, key=lambda line: line["ts"])


def tell(where, settings):
    """What the processes of a kind are told at their next start, beside the usual: {"worker": {"CAPACITY": 16}}."""
    (where / "etc").mkdir(parents=True, exist_ok=True)
    for folder in (where, where / "etc"):
        folder.chmod(0o711)
    for kind, values in settings.items():
        (where / f"etc/{kind}.env").write_text("".join(f"ROPEWALK_{name}={value}\n" for name, value in values.items()))


def up(where, *args):
    done = subprocess.run([str(STACK), "up", str(where), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
    assert done.returncode == 0, done.stdout


@contextlib.contextmanager
def private_stack(gateways=1, schedulers=1, workers=1, settings=None, before_up=None, services_only=False, whole=True, build=BUILD):
    """A stack that a test may break; whatever it did, histories must be WHOLE at the end. Its folder is one that every user
    can enter, so that PostgreSQL can. `settings`: as for tell()."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ropewalk-test."))
    folder.chmod(0o711)
    where = folder / "stack"
    try:
        if settings:
            tell(where, settings)
        if before_up:
            before_up(where)
        args = ["--services-only"] if services_only else ["--gateways", str(gateways), "--schedulers", str(schedulers),
                                                          "--workers", str(workers)]
        up(where, "--build-dir", str(build), *args)
        one = Drive(where)
        yield one
        if whole and not services_only:
            assert one.faults_of_history() == []
    finally:
        subprocess.run([str(STACK), "clean", str(where)], stdout=subprocess.DEVNULL, timeout=180)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def lent_stack(pool, good):
    """One of the stacks below the folder POOL, that tests have one after the other: the first that nobody has just now. It has
    two gateways, a scheduler and a worker, new logs, and whatever earlier tests have left in its database. Histories must be
    whole when it is given back. It is taken away when it is not good() any more."""
    pool.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        where = pool / f"stack-{number}"
        with open(pool / f"{where.name}.lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            whole = False
            try:
                up(where, "--gateways", "2", "--schedulers", "1", "--workers", "1", "--build-dir", str(BUILD))
                one = Drive(where)
                for path in (where / "log").glob("*-*.log"):
                    os.truncate(path, 0)                # who writes there appends
                yield one
                faults, orphans = one.faults_of_history(), one.orphans()
                assert faults == []
                assert orphans == {}, "the watch has repaired a run that no test has harmed"
                whole = good()
            finally:
                if not whole:
                    subprocess.run([str(STACK), "clean", str(where)], stdout=subprocess.DEVNULL, timeout=180)
            return


def restored(drive, count):
    """Whatever a test broke is mended, and the next one finds a stack of `count` of each that works."""
    drive.stack("up", "--gateways", str(count), "--schedulers", str(count), "--workers", str(count))
    drive.save(CHAIN)
    assert drive.ended(drive.start_for_sure("chain5", f"after-{time.time()}"))["status"] == "succeeded"


class Shop:
    """The example's shop, with its ledger in a temporary folder."""

    def __init__(self, seed=1, faults=0.15, latency_ms=5):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ropewalk-shop."))
        self.process = subprocess.Popen(
            [str(EXAMPLE / "shop"), "--ledger", str(self.folder / "ledger"), "--seed", str(seed), "--faults", str(faults),
             "--latency-ms", str(latency_ms)], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the shop did not start"

    def requests(self):
        return requests.get(self.url + "/ledger", timeout=10).json()["requests"]

    def entries(self):
        return [json.loads(line) for line in (self.folder / "ledger").read_text().splitlines()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
