"""Missing dependencies, full disks, killed and frozen processes: a clean wait with a log line, and nothing is lost."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest
import redis
import requests

from drive import BUILD, CHAIN, Drive, private_stack, restored, until


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2, schedulers=2, workers=2) as drive:
        drive.save(CHAIN)
        yield drive


@pytest.fixture(autouse=True)
def everything_runs_again(request):
    yield
    if "drive" in request.fixturenames:
        restored(request.getfixturevalue("drive"), 2)


def metric(port, name):
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


def history_is_whole(drive: Drive):
    assert drive.faults_of_history() == []


# --- dependencies ---------------------------------------------------------------------------------------------------

NEEDED = {"gateway": ["postgres-1"], "scheduler": ["postgres-1", "rabbitmq-1"], "worker": ["rabbitmq-1"]}
NAMES = {"postgres-1": "postgresql", "rabbitmq-1": "rabbitmq", "redis-1": "redis"}


@pytest.mark.parametrize("service, missing", [(service, each) for service, all_of in NEEDED.items() for each in all_of])
def test_without_a_dependency_at_start_a_process_waits_and_says_so(drive, service, missing):
    env = drive.environment(service + "-1")
    port = drive.port(service + "-1")
    drive.stack("stop", service + "-1", missing)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(BUILD / f"bin/ropewalk-{service}")], env=env, stdin=subprocess.DEVNULL, stderr=log)
        try:
            status, text = until("an answer on /readyz", lambda: (a := drive.readyz(port))[0] and a, 30)
            assert status == 503 and NAMES[missing] in text, (status, text)
            assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
            time.sleep(1.5)
            assert process.poll() is None, "it gave up"
            drive.stack("start", missing)
            until("readiness", lambda: drive.readyz(port)[0] == 200, 30)
            log.seek(0)
            said = [json.loads(line) for line in log.read().decode().splitlines() if line.startswith("{")]
            assert any(line["level"] in ("warn", "error") for line in said), "not a word in the log"
        finally:
            process.terminate()
            process.wait(15)


def test_without_redis_everything_goes_on(drive):
    drive.stack("stop", "redis-1")
    runs = [drive.ended(drive.start("chain5")) for _ in range(10)]
    assert {run["status"] for run in runs} == {"succeeded"}
    for service in NEEDED:
        assert drive.readyz(drive.port(service + "-1"))[0] == 200
    history_is_whole(drive)


class Load:
    """Starts runs one after another in a thread, each until it is taken, as a careful client does."""

    def __init__(self, drive, workflow, count, name):
        self.drive, self.workflow, self.count, self.name = drive, workflow, count, name
        self.ids = []
        self.error = None
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        own = Drive(self.drive.dir)
        try:
            for number in range(self.count):
                self.ids.append(own.start_for_sure(self.workflow, f"{self.name}-{number}", seconds=90))
                time.sleep(0.02)
        except BaseException as error:                  # told by the thread that waits for this one
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.thread.join(120)
        if kind is None:
            assert self.error is None, self.error
            assert len(set(self.ids)) == self.count, "one run for each key"


def all_succeed(drive, ids, seconds):
    deadline = time.monotonic() + seconds
    for run_id in ids:
        run = drive.ended(run_id, max(deadline - time.monotonic(), 1))
        assert run["status"] == "succeeded", run
        assert {step["status"] for step in run["steps"].values()} == {"succeeded"}, run
    history_is_whole(drive)


@pytest.mark.parametrize("victim", ["postgres-1", "rabbitmq-1", "redis-1"])
def test_a_dependency_that_stops_and_comes_back_loses_nothing(drive, victim):
    with Load(drive, "chain5", 100, "stop-" + victim) as load:
        until("some runs", lambda: len(load.ids) >= 30, 30)
        drive.stack("stop", victim)
        if victim != "redis-1":
            for service, needs in NEEDED.items():
                if victim in needs:
                    port = drive.port(service + "-1")
                    status, text = until("503 of " + service, lambda p=port: (a := drive.readyz(p))[0] == 503 and a, 30)
                    assert NAMES[victim] in text
        time.sleep(1)
        drive.stack("start", victim)
        for service in NEEDED:
            until("readiness of " + service, lambda p=drive.port(service + "-1"): drive.readyz(p)[0] == 200, 30)
    all_succeed(drive, load.ids, 90)


@pytest.mark.parametrize("victim", ["gateway-1", "scheduler-1", "worker-1", "postgres-1", "rabbitmq-1", "redis-1"])
def test_kill_9_in_the_middle_of_100_runs(drive, victim):
    with Load(drive, "chain5", 100, "kill-" + victim) as load:
        until("some runs", lambda: len(load.ids) >= 30, 30)
        drive.signal(victim)
        time.sleep(1)
        drive.stack("start", victim)
    all_succeed(drive, load.ids, 120)


@pytest.mark.parametrize("victim", ["scheduler-1", "worker-1"])
def test_a_frozen_process_is_replaced_and_does_no_harm_when_it_wakes(drive, victim):
    with Load(drive, "chain5", 100, "freeze-" + victim) as load:
        until("some runs", lambda: len(load.ids) >= 30, 30)
        drive.signal(victim, signal.SIGSTOP)
        time.sleep(12)
        drive.signal(victim, signal.SIGCONT)
    all_succeed(drive, load.ids, 90)


def test_messages_that_are_purged_are_sent_again(drive):
    """Losing every message in RabbitMQ costs seconds, never a run."""
    with Load(drive, "chain5", 100, "purge") as load:
        until("some runs", lambda: len(load.ids) >= 30, 30)
        drive.stack("rabbitmqctl", "-q", "eval",            # again and again, while runs go on
                    "[begin [catch rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list()], timer:sleep(200) end || _ <- lists:seq(1, 10)].")
    all_succeed(drive, load.ids, 90)


def test_tasks_that_rabbitmq_had_in_memory_are_sent_again_when_it_is_back(drive):
    def waiting():
        lines = drive.stack("rabbitmqctl", "-q", "list_queues", "name", "messages").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("ropewalk.task.default.normal"))

    def sent_again():
        return sum(metric(drive.port(f"scheduler-{n}"), "ropewalk_tasks_republished_total") for n in (1, 2))

    drive.stack("stop", "worker-1", "worker-2")
    ids = [drive.start("chain5") for _ in range(5)]
    until("5 tasks in the queue", lambda: waiting() == 5, 60)
    before = sent_again()
    drive.signal("rabbitmq-1")
    drive.stack("start", "rabbitmq-1")
    until("some of them again", lambda: sent_again() > before, 90)  # another scheduler may see these, and wait for workers
    drive.stack("start", "worker-1", "worker-2")
    all_succeed(drive, ids, 90)
    assert sent_again() >= before + 5


# --- full disks -----------------------------------------------------------------------------------------------------

def test_a_log_that_cannot_be_written_stops_nobody(drive):
    env = drive.environment("worker-1")
    drive.stack("stop", "worker-1")
    with open("/dev/full", "wb", buffering=0) as full:
        process = subprocess.Popen([str(BUILD / "bin/ropewalk-worker")], env=env, stdin=subprocess.DEVNULL, stderr=full)
    try:
        until("readiness", lambda: drive.readyz(drive.port("worker-1"))[0] == 200, 30)
        assert drive.ended(drive.start("chain5"))["status"] == "succeeded"
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(15)


def test_while_the_brokers_disk_is_full_starts_are_taken_and_tasks_wait(drive):
    def limit(size, more="ok"):
        return drive.stack("rabbitmqctl", "-q", "eval", f"rabbit_disk_monitor:set_disk_free_limit({size}), {more}.")

    try:                                                 # more than there is: publishers are blocked
        assert "disk" in limit(10 ** 15, "(fun Wait(0) -> none; Wait(N) -> case rabbit_alarm:get_alarms() of "
                                         "[] -> timer:sleep(50), Wait(N - 1); Found -> Found end end)(400)")
        ids = [drive.start_for_sure("chain5", f"blocked-{number}") for number in range(20)]
        time.sleep(2)
        assert drive.run(ids[-1])["status"] not in ("succeeded", "failed")
    finally:
        limit(10 ** 8)
    all_succeed(drive, ids, 60)


def test_a_full_cache_stops_nobody(drive):
    cache = redis.Redis.from_url(drive.env["ROPEWALK_REDIS_URL"])
    cache.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.exceptions.ResponseError):
            cache.set("any", "thing")
        all_succeed(drive, [drive.start("chain5") for _ in range(20)], 30)
    finally:
        cache.config_set("maxmemory", "256mb")


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size, owner=None):
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        pytest.skip("cannot mount a small disk here: " + done.stderr.strip())
    try:
        if owner:
            shutil.chown(folder, *owner)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def fill(path: pathlib.Path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_scheduler_whose_state_folder_is_full_says_so_and_does_not_crash(drive):
    env = drive.environment("scheduler-2")
    with tempfile.TemporaryDirectory() as folder, small_disk(pathlib.Path(folder), "64k") as disk:
        fill(disk / "filler")
        env["ROPEWALK_STATE_DIR"] = str(disk)
        env["ROPEWALK_NAME"] = "scheduler-9"
        env["ROPEWALK_LISTEN"] = "127.0.0.1:0"
        done = subprocess.run([str(BUILD / "bin/ropewalk-scheduler")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=20)
        assert done.returncode in (1, 2), (done.returncode, done.stdout)
        assert "No space left" in done.stdout or "full" in done.stdout, done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_database_disk_loses_nothing_that_was_acknowledged():
    with contextlib.ExitStack() as stack:
        def before_up(where):
            data = where / "data/postgres-1"
            for folder in (where, where / "data"):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711)
            stack.enter_context(small_disk(data, "220m", ("postgres", "postgres")))
        drive = stack.enter_context(private_stack(before_up=before_up))
        drive.save(CHAIN)
        taken, refused = [], 0
        filler = drive.dir / "data/postgres-1/filler"
        for number in range(400):
            if number == 20:
                fill(filler)
            try:
                answer = drive.call("POST", "/v1/workflows/chain5/runs", {"input": "x" * 100000}, timeout=20)
            except requests.RequestException:
                refused += 1
            else:
                assert answer.status_code in (202, 503), f"{answer.status_code} {answer.text[:500]}"
                taken += [answer.json()["run_id"]] if answer.status_code == 202 else []
                refused += answer.status_code == 503
            if refused >= 5:
                break
        assert refused, "the disk did not fill"
        assert len(taken) >= 20
        filler.unlink()
        drive.stack("up")                                # PostgreSQL gives up when its log cannot be written
        all_succeed(drive, taken, 60)
