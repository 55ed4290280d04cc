"""Bad input, missing dependencies, full disks, killed processes: a clear error or a clean wait with a log line, and
nothing is lost."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest
import requests

from drive import BUILD, Drive, private_stack, until

CHAIN = {"name": "chain5", "steps": {f"s{i}": {"call": "noop", **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(5)}}
ECHO = {"name": "echo", "steps": {"say": {"call": "transform", "with": {"value": "${ .input }"}}}, "output": "${ .steps.say.output }"}


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2, schedulers=2, workers=2) as drive:
        drive.save(CHAIN)
        drive.save(ECHO)
        yield drive


@pytest.fixture(autouse=True)
def everything_runs_again(request):
    """Whatever a test broke is mended, and the next one finds a stack that works."""
    yield
    if "drive" in request.fixturenames:
        drive = request.getfixturevalue("drive")
        drive.stack("up", "--gateways", "2", "--schedulers", "2", "--workers", "2")
        assert drive.ended(drive.start_for_sure("echo", f"after-{time.time()}"))["status"] == "succeeded"


def problem(answer, status, code=None):
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.headers
    value = answer.json()
    assert value["status"] == status and value["code"] and value["title"], value
    if code:
        codes = [value["code"]] + [error["code"] for error in value.get("errors", [])]
        assert code in codes, value
    return value


def history_is_whole(drive: Drive):
    assert drive.faults_of_history() == []


# --- bad input ------------------------------------------------------------------------------------------------------

RUNS = "/v1/workflows/echo/runs"


@pytest.mark.parametrize("body", [b"{", b'{"input": }', b"[1", b'{"input": {}} x', b"\xff\xfe{}", b'{"input": "\x00"}',
                                  b'{"input": {}, "input": {}}', b'{"input": 1e999999}', b'{"a":' * 1000 + b"1" + b"}" * 1000],
                         ids=["open", "no-value", "open-list", "two-values", "not-utf8", "nul", "key-twice",
                              "number-too-large", "too-deep"])
def test_what_is_not_json_is_refused(drive, body):
    answer = drive.call("POST", RUNS, data=body)
    assert answer.status_code in (400, 413, 422), answer.text
    problem(answer, answer.status_code)


@pytest.mark.parametrize("body", ['[]', '"x"', '{"inputs": {}}', '{"labels": {"a": 1}}', '{"labels": []}', '{"priority": "urgent"}'])
def test_wrong_types_and_unknown_fields_are_refused(drive, body):
    problem(drive.call("POST", RUNS, data=body.encode()), 422)


def test_a_faulty_document_is_told_all_its_faults_at_once(drive):
    document = {"name": "faulty", "timeout": "soon", "steps": {
        "a": {"call": "noop", "needs": ["c"]}, "b": {"call": "htpp"}, "c": {"call": "noop", "needs": ["a"]},
        "d": {"call": "transform", "with": {"value": "${ .input. }"}}, "e": {"call": "noop", "needs": ["nobody"], "retires": 1}}}
    value = problem(drive.call("PUT", "/v1/workflows/faulty", document), 422)
    pointers = {error["pointer"] for error in value["errors"]}
    assert {"/timeout", "/steps/e/retires"} <= pointers, value
    assert drive.call("GET", "/v1/workflows/faulty").status_code == 404


@pytest.mark.parametrize("document", [
    {"triggers": {"shop": {"webhook": {}}}}, {"steps": {"a": {"call": "wait_signal", "with": {"signal": "go"}}}},
    {"steps": {"a": {"call": "foreach", "with": {"items": [], "steps": {"b": {"call": "noop"}}}}}},
    {"steps": {"a": {"call": "noop", "compensate": {"call": "noop"}}}}], ids=["trigger", "wait_signal", "foreach", "compensate"])
def test_what_is_not_built_yet_is_refused_and_not_ignored(drive, document):
    value = {"name": "later", "steps": {"a": {"call": "noop"}}, **document}
    problem(drive.call("PUT", "/v1/workflows/later", value), 422, "not_available")


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer nonsense", "Basic Zm9vOmJhcg==", "Bearer " + "x" * 5000])
def test_a_wrong_key_is_refused_everywhere(drive, header):
    for method, path in (("GET", "/v1/workflows"), ("POST", RUNS), ("GET", "/v1/runs"), ("GET", "/v1/api-keys"), ("PUT", "/v1/workflows/x")):
        answer = requests.request(method, drive.url + path, data=b"{}" if method != "GET" else None,
                                  headers={"Authorization": header} if header else {}, timeout=10)
        problem(answer, 401)


def test_a_body_may_be_as_large_as_the_limit_and_not_one_byte_larger(drive):
    limit = 1 << 20
    frame = b'{"input": "%s"}'
    exact = frame % (b"x" * (limit - len(frame) + 2))
    assert len(exact) == limit
    run_id = drive.ask("POST", RUNS, data=exact)["run_id"]
    drive.ended(run_id)
    problem(drive.call("POST", RUNS, data=exact + b" "), 413)
    with socket.create_connection(address(drive)) as raw:           # told by its length, before a byte of it is sent
        raw.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 9000000000\r\n\r\n"
                    % (RUNS.encode(), drive.key.encode()))
        raw.settimeout(5)
        assert b" 413 " in raw.recv(1000)


def address(drive):
    host, _, port = drive.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def test_clients_that_go_away_harm_nobody(drive):
    drive.save({"name": "pause", "steps": {"wait": {"call": "delay", "with": {"duration": "2s"}}}})
    head = "Host: x\r\nAuthorization: Bearer %s\r\n" % drive.key
    before = drive.sql("select count(*) from run where workflow = 'pause'")[0][0]
    for _ in range(32):
        with socket.create_connection(address(drive)) as raw:       # waits for the end, and does not wait
            raw.sendall(f"POST /v1/workflows/pause/runs?wait=30s HTTP/1.1\r\n{head}Content-Length: 13\r\n\r\n".encode() + b'{"input": {}}')
            time.sleep(0.01)
        with socket.create_connection(address(drive)) as raw:       # half a body
            raw.sendall(f"POST {RUNS} HTTP/1.1\r\n{head}Content-Length: 1000\r\n\r\n".encode() + b'{"input": ')
        with socket.create_connection(address(drive)) as raw:       # half a head
            raw.sendall(b"GET /v1/runs HTTP/1.1\r\nHos")
    run_id = drive.start("pause")
    for _ in range(16):
        with socket.create_connection(address(drive)) as raw:       # a live stream that nobody reads to its end
            raw.sendall(f"GET /v1/runs/{run_id}/events HTTP/1.1\r\n{head}Accept: text/event-stream\r\n\r\n".encode())
            raw.settimeout(5)
            assert b" 200 " in raw.recv(1000)
    assert drive.ended(run_id)["status"] == "succeeded"
    started = drive.sql("select count(*) from run where workflow = 'pause'")[0][0] - before - 1
    assert 1 <= started <= 32, "a request that was whole may have started a run, half a one may not"
    until("the end of every run", lambda: not drive.sql("select 1 from run where workflow = 'pause' and ended_at is null limit 1"))
    history_is_whole(drive)


# --- a service that answers garbage ---------------------------------------------------------------------------------

GARBAGE = {
    "no-http": b"\x00\xff\x17garbage\r\n\r\n",
    "closed-at-once": b"",
    "half-a-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "short-body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    "bad-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
    "bad-gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nnotgzip",
    "huge-head": b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"y" * 400000 + b"\r\nContent-Length: 0\r\n\r\n",
    "too-large": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3000000,
    "too-large-untold": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3000000,
    "error-with-garbage": b"HTTP/1.1 500 \xff\xfe\r\nContent-Length: 4\r\n\r\n\x00\x01\xfe\xff",
}
STRANGE_BUT_WHOLE = {
    "json-that-is-none": (b"application/json", b"{not json"),
    "json-postgresql-cannot-hold": (b"application/json", b'{"a": "\\u0000", "b": "\\ud800"}'),
    "number-out-of-range": (b"application/json", b'{"a": 1e999999}'),
    "bytes": (b"application/octet-stream", bytes(range(256))),
    "text-with-nul": (b"text/plain", b"a\x00b"),
    "bad-utf8": (b"text/plain; charset=utf-8", b"\xff\xfe\xfd"),
}


@contextlib.contextmanager
def serving(answer):
    """A server that answers every connection with these bytes and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(65536)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield "http://127.0.0.1:%d/" % listener.getsockname()[1]
    finally:
        stop.set()
        thread.join()
        listener.close()


def ask_it(drive, url):
    drive.save({"name": "ask", "steps": {"ask": {"call": "http", "with": {"url": url}, "timeout": "5s",
                                                 "retry": {"max_attempts": 2, "initial": "10ms"}}},
                "output": "${ .steps.ask.output }"})
    return drive.ended(drive.start("ask"))


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_from_a_service_fails_its_step_and_says_why(drive, kind):
    with serving(GARBAGE[kind]) as url:
        run = ask_it(drive, url)
    step = run["steps"]["ask"]
    assert run["status"] == step["status"] == "failed", run
    assert step["error"]["code"] and step["error"]["message"], step
    assert 1 <= len(step["attempts"]) <= 2
    history_is_whole(drive)


@pytest.mark.parametrize("kind", STRANGE_BUT_WHOLE)
def test_a_strange_body_is_kept_or_refused_and_the_run_ends(drive, kind):
    content_type, body = STRANGE_BUT_WHOLE[kind]
    with serving(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (content_type, len(body), body)) as url:
        run = ask_it(drive, url)
    step = run["steps"]["ask"]
    assert run["status"] in ("succeeded", "failed"), run
    if run["status"] == "succeeded":
        assert run["output"]["status"] == 200 and "body" in run["output"], run
    else:
        assert step["error"]["code"] and step["error"]["message"], step
    history_is_whole(drive)


# --- settings -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("service", ["gateway", "scheduler", "worker"])
def test_every_wrong_setting_is_reported_at_once(drive, service):
    env = drive.environment(service + "-1")
    del env["ROPEWALK_AMQP_URL"]
    env["ROPEWALK_DRAIN_MS"] = "soon"
    done = subprocess.run([str(BUILD / f"bin/ropewalk-{service}")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=10)
    assert done.returncode == 2, done.stdout
    for name in ("ROPEWALK_AMQP_URL", "ROPEWALK_DRAIN_MS"):
        assert name in done.stdout, done.stdout


@pytest.mark.parametrize("service", ["gateway", "scheduler", "worker"])
@pytest.mark.parametrize("name, value", [("ROPEWALK_LOG_LEVEL", "chatty"), ("ROPEWALK_LISTEN", "nowhere")])
def test_a_wrong_setting_ends_the_process_and_is_named(drive, service, name, value):
    env = drive.environment(service + "-1")
    env.update({"ROPEWALK_LISTEN": "127.0.0.1:0", "ROPEWALK_NAME": "faulty", "ROPEWALK_STATE_DIR": "", name: value})
    done = subprocess.run([str(BUILD / f"bin/ropewalk-{service}")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=10)
    assert done.returncode == 2, (done.returncode, done.stdout)
    assert name in done.stdout or value in done.stdout, done.stdout


@pytest.mark.parametrize("service", ["gateway", "scheduler"])
def test_a_role_that_can_do_too_much_is_refused(drive, service):
    env = drive.environment(service + "-1")
    env.update({"ROPEWALK_PG_URL": drive.env["ROPEWALK_ADMIN_PG_URL"], "ROPEWALK_LISTEN": "127.0.0.1:0",
                "ROPEWALK_NAME": "mighty", "ROPEWALK_STATE_DIR": ""})
    done = subprocess.run([str(BUILD / f"bin/ropewalk-{service}")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=10)
    assert done.returncode == 2, done.stdout
    assert "superuser" in done.stdout, done.stdout


def test_secrets_are_not_shown(drive):
    for service in ("gateway", "scheduler", "worker"):
        env = drive.environment(service + "-1")
        shown = subprocess.run([str(BUILD / f"bin/ropewalk-{service}"), "--print-config"], env=env, stdout=subprocess.PIPE, text=True,
                               timeout=10)
        assert shown.returncode == 0
        passwords = [line.partition("=")[2] for line in (drive.dir / "etc/secrets").read_text().splitlines()]
        for text in [shown.stdout] + [path.read_text(errors="replace") for path in (drive.dir / "log").glob(service + "-*.log")]:
            assert not [password for password in passwords if password in text]
            assert drive.key not in text


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
            status, text = until("an answer on /readyz", lambda: (a := drive.readyz(port))[0] and a, 10)
            assert status == 503 and NAMES[missing] in text, (status, text)
            assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
            time.sleep(1.5)
            assert process.poll() is None, "it gave up"
            drive.stack("start", missing)
            until("readiness", lambda: drive.readyz(port)[0] == 200, 10)
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
                    status, text = until("503 of " + service, lambda p=port: (a := drive.readyz(p))[0] == 503 and a, 10)
                    assert NAMES[victim] in text
        time.sleep(1)
        drive.stack("start", victim)
        for service in NEEDED:
            until("readiness of " + service, lambda p=drive.port(service + "-1"): drive.readyz(p)[0] == 200, 10)
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
        for _ in range(5):
            drive.stack("rabbitmqctl", "-q", "eval", "[catch rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list()].")
    all_succeed(drive, load.ids, 90)


# --- full disks -----------------------------------------------------------------------------------------------------

def test_a_log_that_cannot_be_written_stops_nobody(drive):
    env = drive.environment("worker-1")
    drive.stack("stop", "worker-1")
    with open("/dev/full", "wb", buffering=0) as full:
        process = subprocess.Popen([str(BUILD / "bin/ropewalk-worker")], env=env, stdin=subprocess.DEVNULL, stderr=full)
    try:
        until("readiness", lambda: drive.readyz(drive.port("worker-1"))[0] == 200, 10)
        assert drive.ended(drive.start("chain5"))["status"] == "succeeded"
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(15)


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
