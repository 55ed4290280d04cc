"""Bad input of all kinds: a clear error, and everything else goes on."""
import contextlib
import socket
import subprocess
import threading
import time

import pytest
import requests

from drive import BUILD, Drive, private_stack, restored, until

ECHO = {"name": "echo", "steps": {"say": {"call": "transform", "with": {"value": "${ .input }"}}}, "output": "${ .steps.say.output }"}


@pytest.fixture(scope="module")
def drive():
    with private_stack() as drive:
        drive.save(ECHO)
        yield drive


@pytest.fixture(autouse=True)
def everything_runs_still(request):
    yield
    if "drive" in request.fixturenames:
        restored(request.getfixturevalue("drive"), 1)


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


def test_what_is_not_built_yet_is_refused_and_not_ignored(drive):
    value = {"name": "later", "input_schema": {"unevaluatedProperties": False}, "steps": {"a": {"call": "noop"}}}
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
