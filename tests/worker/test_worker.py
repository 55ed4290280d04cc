#!/usr/bin/python3
"""The worker by itself: tasks are put into its queues by hand, and what comes back is looked at. Reads like a script.

Needs ROPEWALK_AMQP_URL and ROPEWALK_REDIS_URL (skipped without) and ROPEWALK_WORKER, the program.
"""
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

import jsonschema
import pika
import pytest
import redis

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from target import Target  # noqa: E402

AMQP_URL = os.environ.get("ROPEWALK_AMQP_URL")
REDIS_URL = os.environ.get("ROPEWALK_REDIS_URL")
WORKER = os.environ.get("ROPEWALK_WORKER")
PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../proto")


def schema(name):
    with open(os.path.join(PROTO, name + ".v1.json")) as f:
        return jsonschema.Draft202012Validator(json.load(f))


SCHEMAS = {name: schema(name) for name in ("result", "started", "heartbeat", "task")}
# Shortened times, so that the tests wait for tenths of seconds where production waits for seconds.
FAST = {"ROPEWALK_STARTED_AFTER_MS": "200", "ROPEWALK_HEARTBEAT_MS": "100", "ROPEWALK_HOLDER_TTL_MS": "500"}


class Worker:
    def __init__(self, pool, settings=None):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        env = dict(os.environ, ROPEWALK_POOLS=pool, ROPEWALK_NAME="w", ROPEWALK_LOG_LEVEL="debug",
                   ROPEWALK_EGRESS_ALLOW="127.0.0.0/8", **FAST)
        env.update(settings or {})
        self.process = subprocess.Popen([WORKER], env=env, stderr=self.log)
        self.wait_for("worker.broker_up")
        self.wait_for("worker.takes_tasks")

    def lines(self):
        self.log.flush()
        with open(self.log.name) as f:
            return [json.loads(line) for line in f if line.startswith("{")]

    def wait_for(self, event, seconds=10, count=1):
        until = time.time() + seconds
        while time.time() < until:
            found = [line for line in self.lines() if line.get("event") == event]
            if len(found) >= count:
                return found[-1]
            assert self.process.poll() is None, open(self.log.name).read()
            time.sleep(0.02)
        raise AssertionError(f"no {event} in {open(self.log.name).read()}")

    def stop(self, sig=signal.SIGTERM, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            if sig == signal.SIGSTOP:
                return None
        code = self.process.wait(seconds)
        text = open(self.log.name).read()
        assert "Sanitizer" not in text, text
        return code

    def url(self, path):
        port = self.wait_for("service.listening")["port"]
        return f"http://127.0.0.1:{port}{path}"


class Bench:
    """A pool of its own, an inbox, and whatever was started for a test."""

    def __init__(self, target):
        self.target = target
        self.pool = "t" + uuid.uuid4().hex[:12]
        self.inbox = "inbox." + self.pool
        self.connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
        self.channel = self.connection.channel()
        self.redis = redis.Redis.from_url(REDIS_URL)
        for queue in (self.inbox, self.inbox + ".large"):
            self.channel.queue_declare(queue, durable=True)
        self.beats = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.exchange_declare("ropewalk.heartbeat", "fanout", durable=True)
        self.channel.queue_bind(self.beats, "ropewalk.heartbeat")
        self.workers = []
        self.started = []

    def worker(self, **settings):
        w = Worker(self.pool, {"ROPEWALK_" + k.upper(): str(v) for k, v in settings.items()})
        self.workers.append(w)
        return w

    def close(self):
        for w in self.workers:
            if w.process.poll() is None:
                w.process.send_signal(signal.SIGCONT)
                w.stop(signal.SIGKILL)
        for priority in ("critical", "high", "normal", "low"):
            self.channel.queue_delete(self.queue(priority))
        for queue in (self.inbox, self.inbox + ".large"):
            self.channel.queue_delete(queue)
        self.connection.close()

    def queue(self, priority="normal"):
        return f"ropewalk.task.{self.pool}.{priority}"

    def task(self, call="http", with_=None, **fields):
        run = str(uuid.uuid4())
        task = {"v": 1, "task_id": f"{run}/step/1/1", "token": "tok-" + run[:8], "publication": 1, "run_id": run,
                "step": "step", "attempt": 1, "workflow": "flow", "organisation": "default", "call": call,
                "with": with_ if with_ is not None else {}, "timeout": "20s", "deadline": None,
                "delivery": "at_least_once", "idempotency_key": f"{run}:step", "reply_to": self.inbox,
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        task.update(fields)
        return task

    def put(self, *tasks, priority="normal"):
        for task in tasks:
            body = task if isinstance(task, (str, bytes)) else json.dumps(task)
            self.channel.basic_publish("", self.queue(priority), body,
                                       pika.BasicProperties(type="task", delivery_mode=2, timestamp=int(time.time())))

    def answers(self, count=1, seconds=10, large=False):
        """The next results; `started` messages on the way are put aside."""
        results, until = [], time.time() + seconds
        queue = self.inbox + (".large" if large else "")
        while len(results) < count:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method is None:
                assert time.time() < until, f"{len(results)} of {count} results, started: {self.started}"
                self.connection.sleep(0.005)
            elif properties.type == "started":
                self.started.append(json.loads(body))
                SCHEMAS["started"].validate(self.started[-1])
            else:
                assert properties.type == "result" and properties.delivery_mode == 2
                message = json.loads(body)
                SCHEMAS["result"].validate(message)
                assert message["v"] == 1
                results += message["results"] if "results" in message else [message]
        return results

    def answer(self, **kwargs):
        return self.answers(1, **kwargs)[0]

    def nothing_comes(self, seconds):
        until = time.time() + seconds
        while time.time() < until:
            method, properties, body = self.channel.basic_get(self.inbox, auto_ack=True)
            if method is not None and properties.type == "started":
                self.started.append(json.loads(body))
            else:
                assert method is None, body
            self.connection.sleep(0.01)

    def wait_started(self, seconds=10):
        until = time.time() + seconds
        while not self.started:
            assert time.time() < until, "no started"
            method, properties, body = self.channel.basic_get(self.inbox, auto_ack=True)
            if method is not None:
                assert properties.type == "started", body
                self.started.append(json.loads(body))
            else:
                self.connection.sleep(0.005)
        return self.started.pop(0)

    def grant(self, started, go):
        self.channel.basic_publish("", started["reply_to"],
                                   json.dumps({"v": 1, "task_id": started["task_id"], "go": go}),
                                   pika.BasicProperties(type="grant"))

    def get(self, path, **fields):
        return self.task(with_={"url": self.target.url + path}, **fields)

    def run(self, task, **kwargs):
        self.put(task)
        result = self.answer(**kwargs)
        assert result["task_id"] == task["task_id"] and result["token"] == task["token"]
        return result

    def is_settled(self, seconds=3):
        """Every task is acknowledged."""
        until = time.time() + seconds
        total = -1
        while time.time() < until:
            total = 0
            for worker in self.workers:
                if worker.process.poll() is None:
                    with urllib.request.urlopen(worker.url("/metrics")) as page:
                        text = page.read().decode()
                    total += int(float([line for line in text.splitlines()
                                        if line.startswith("ropewalk_tasks_running ")][0].split()[1]))
            if total == 0:
                return True
            time.sleep(0.02)
        return False


@pytest.fixture(scope="session")
def target():
    return Target()


@pytest.fixture
def bench(target):
    b = Bench(target)
    yield b
    b.close()


# --- plain work ---------------------------------------------------------------------------------------------------------

def test_noop_succeeds_with_null_and_is_acknowledged(bench):
    bench.worker()
    task = bench.task("noop")
    result = bench.run(task)
    assert result["status"] == "succeeded" and result["output"] is None
    assert result["worker"].startswith("w-")
    assert bench.is_settled()


def test_tasks_of_every_priority_and_of_all_pools_are_taken(bench):
    bench.worker()
    for priority in ("critical", "high", "normal", "low"):
        bench.put(bench.task("noop"), priority=priority)
    assert {r["status"] for r in bench.answers(4)} == {"succeeded"}


def test_an_unknown_call_is_a_permanent_error(bench):
    bench.worker()
    error = bench.run(bench.task("slack.post"))["error"]
    assert error["class"] == "permanent" and error["code"] == "unknown_call"


def test_what_is_no_task_is_told_where_it_can_be(bench):
    bench.worker()
    bench.put("not json", "[]", json.dumps({"v": 1}))
    broken = bench.task("noop", delivery="exactly_once")
    bench.put(broken)
    result = bench.answer()
    assert result["task_id"] == broken["task_id"] and result["error"]["code"] == "bad_task"
    assert "delivery" in result["error"]["message"]
    later = bench.task("noop", v=2)
    assert bench.run(later)["error"]["code"] == "bad_task"
    assert bench.run(bench.task("noop", surprise=1))["status"] == "succeeded"
    assert bench.is_settled()


def test_a_request_carries_identity_key_and_trace(bench):
    bench.worker()
    task = bench.task(with_={"method": "POST", "url": bench.target.url + "/echo?a=1", "query": {"b": ["x y", 2], "c": True},
                             "headers": {"X-Mine": "yes", "X-Empty": ""}, "body": {"amount": 0.1}})
    result = bench.run(task)
    output = result["output"]
    assert output["status"] == 200 and output["headers"]["x-one"] == "1"
    seen = output["body"]
    assert seen["path"] == "/echo?a=1&b=x%20y&b=2&c=true" and seen["method"] == "POST"
    assert json.loads(seen["body"]) == {"amount": 0.1}
    headers = seen["headers"]
    assert headers["content-type"] == "application/json" and headers["x-mine"] == "yes" and headers["x-empty"] == ""
    assert headers["idempotency-key"] == task["idempotency_key"]
    assert headers["ropewalk-run"] == task["run_id"] and headers["ropewalk-step"] == "step"
    assert headers["ropewalk-attempt"] == "1" and headers["traceparent"] == task["traceparent"]
    assert headers["accept-encoding"] == "gzip"
    assert result["started_at"] <= result["ended_at"]


@pytest.mark.parametrize("method,body", [("GET", None), ("POST", None), ("PUT", "text"), ("DELETE", None), ("HEAD", None),
                                         ("PATCH", [1, 2]), ("GET", {"q": 1}), ("PURGE", None)])
def test_methods_with_and_without_bodies(bench, method, body):
    bench.worker()
    with_ = {"method": method, "url": bench.target.url + "/echo"}
    if body is not None:
        with_["body"] = body
    if method == "PURGE":
        assert bench.run(bench.task(with_=with_))["error"]["code"] == "http_501"
        return
    output = bench.run(bench.task(with_=with_))["output"]
    if method == "HEAD":
        assert output["body"] is None
        return
    seen = output["body"]
    assert seen["method"] == method
    assert seen["body"] == ("" if body is None else body if isinstance(body, str) else json.dumps(body))
    if body is None:
        assert "content-type" not in seen["headers"]
    elif isinstance(body, str):
        assert seen["headers"]["content-type"] == "text/plain; charset=utf-8"


def test_bodies_arrive_as_json_text_or_base64(bench):
    bench.worker()
    bench.put(bench.get("/number"))
    while True:
        method, _, body = bench.channel.basic_get(bench.inbox, auto_ack=True)
        if method:
            break
        time.sleep(0.01)
    assert b'"n": 0.1, "big": 12345678901234567890123' in body  # digits as they came
    assert json.loads(body)["results"][0]["output"]["body"]["nul"] == "a\ufffdb"
    assert bench.run(bench.get("/text"))["output"]["body"] == "grüße"
    output = bench.run(bench.get("/binary"))["output"]
    assert output["body"] == "AP8Q" and output["encoding"] == "base64"
    assert bench.run(bench.get("/badjson"))["output"]["body"] == "{not json"
    assert bench.run(bench.get("/zipped"))["output"]["body"] == {"zipped": True}


@pytest.mark.parametrize("status,transient", [(400, False), (404, False), (408, True), (425, True), (429, True),
                                              (500, True), (501, False), (503, True), (505, False), (507, True),
                                              (304, False)])
def test_a_failing_status_keeps_what_was_said(bench, status, transient):
    bench.worker()
    error = bench.run(bench.get(f"/status?code={status}&size=9000&retry=7"))["error"]
    assert error["code"] == f"http_{status}" and error["class"] == ("transient" if transient else "permanent")
    assert error["status"] == status and error["answered"] and error["sent"]
    assert error["retry_after"] == "7000ms"
    if status != 304:
        assert len(error["detail"]["body"]) == 4096 and error["detail"]["headers"]["content-type"] == "text/plain"


def test_an_endless_failing_answer_is_still_its_status(bench):
    bench.worker()
    error = bench.run(bench.get("/status?code=503&size=5000000"))["error"]
    assert error["code"] == "http_503" and len(error["detail"]["body"]) == 4096


def test_transport_errors_say_which_and_whether_anything_left(bench):
    bench.worker()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    for with_, code, sent in (({"url": f"http://127.0.0.1:{free}/"}, "connect", False),
                              ({"url": "http://no-such-host.invalid/"}, "dns", False),
                              ({"url": bench.target.url + "/cut"}, "connection_lost", True),
                              ({"url": bench.target.url + "/garbage"}, "bad_response", True),
                              ({"url": f"https://127.0.0.1:{bench.target.port}/"}, "tls", False)):
        error = bench.run(bench.task(with_=with_), seconds=20)["error"]
        assert (error["class"], error["code"], error["sent"]) == ("transient", code, sent), error
        assert not error["answered"] and error["message"]


def test_a_request_whose_answer_is_lost_is_repeated_by_the_policy_and_not_by_the_library(bench):
    bench.worker()
    bench.put(*(bench.get(f"/slow?s=0.5&n={n}") for n in range(8)))
    bench.answers(8)        # as many kept connections, on each of which the library would try
    path = "/cut/" + bench.pool
    error = bench.run(bench.get(path))["error"]
    assert (error["class"], error["code"], error["sent"], error["answered"]) == ("transient", "connection_lost", True, False)
    assert len(bench.target.seen(path)) <= 2


def test_an_answer_is_that_of_the_last_hop(bench):
    bench.worker()
    error = bench.run(bench.get("/redirect?code=307&to=/cut"))["error"]
    assert (error["code"], error["sent"], error["answered"]) == ("connection_lost", True, False)
    error = bench.run(bench.get("/redirect?code=307&to=/slow?s=5", timeout="700ms"))["error"]
    assert (error["code"], error["sent"], error["answered"]) == ("timeout", True, False)
    error = bench.run(bench.get("/redirect?code=307&to=/status?code=503"))["error"]
    assert (error["code"], error["answered"]) == ("http_503", True)


def test_a_timeout_counts_from_the_beginning_and_bounds_drips(bench):
    bench.worker()
    for path in ("/slow?s=5", "/drip"):
        begin = time.time()
        error = bench.run(bench.get(path, timeout="700ms"))["error"]
        assert error["code"] == "timeout" and error["class"] == "transient" and error["sent"]
        assert 0.6 < time.time() - begin < 3


def test_a_passed_deadline_begins_nothing(bench):
    bench.worker()
    error = bench.run(bench.get("/echo?deadline", deadline="2020-01-01T00:00:00Z"))["error"]
    assert error["code"] == "deadline" and not error["sent"]


def test_answers_over_the_limit_are_refused(bench):
    bench.worker()
    big = bench.task(with_={"url": bench.target.url + "/large?size=1048577"})
    error = bench.run(big)["error"]
    assert error["code"] == "too_large" and error["class"] == "permanent"
    # A body that is allowed, and with status and headers around it an output that is not.
    wraps = bench.task(with_={"url": bench.target.url + "/large?size=1048576"})
    error = bench.run(wraps)["error"]
    assert error["code"] == "too_large" and "output" in error["message"]
    fits = bench.task(with_={"url": bench.target.url + "/large?size=1048000"})
    bench.put(fits)
    assert len(bench.answer(large=True)["output"]["body"]) == 1047998
    small = bench.task(with_={"url": bench.target.url + "/large?size=101", "max_response_bytes": 100})
    assert bench.run(small)["error"]["code"] == "too_large"


def test_a_gzip_bomb_stops_at_the_limit(bench):
    w = bench.worker()
    error = bench.run(bench.get("/bomb"), seconds=20)["error"]
    assert error["code"] == "too_large"
    with open(f"/proc/{w.process.pid}/status") as f:
        peak_kb = int([line for line in f if line.startswith("VmHWM")][0].split()[1])
    assert peak_kb < 400_000  # sanitizer builds included; the bomb holds 200 MiB


# --- what must not be sent ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("with_", [
    {"url": "URL/echo", "headers": {"X": "a\r\nEvil: 1"}},
    {"url": "URL/echo", "headers": {"X": "a\nb"}},
    {"url": "URL/echo", "headers": {"X\r\nEvil": "1"}},
    {"url": "URL/echo", "headers": {"X:": "1"}},
    {"url": "URL/echo", "headers": {"Host": "other"}},
    {"url": "URL/echo", "headers": {"Content-Length": "5"}},
    {"url": "URL/echo", "headers": {"Transfer-Encoding": "chunked"}},
    {"url": "URL/echo", "headers": {"Accept-Encoding": "br"}},
    {"url": "URL/echo", "headers": {"Ropewalk-Run": "x"}},
    {"url": "URL/echo", "method": "GET / HTTP/1.1\r\nX: "},
    {"url": "URL/echo", "method": "CONNECT"},
    {"url": "URL/echo\r\nX: 1"},
    {"url": "URL/ec ho"},
    {"url": "file:///etc/passwd"},
    {"url": "gopher://127.0.0.1/"},
    {"url": 5},
    {},
    {"url": "URL/echo", "surprise": 1},
    {"url": "URL/echo", "follow_redirects": 99},
    {"url": "URL/echo", "max_response_bytes": -1},
])
def test_requests_that_could_be_split_or_misread_are_refused(bench, with_):
    bench.worker()
    before = len(bench.target.requests)
    with_ = json.loads(json.dumps(with_).replace("URL", bench.target.url))
    error = bench.run(bench.task(with_=with_))["error"]
    assert error["code"] == "invalid_request" and error["class"] == "permanent" and not error["sent"]
    assert len(bench.target.requests) == before


@pytest.mark.parametrize("url", [
    "http://10.0.0.1/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data/", "http://0.0.0.0/",
    "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://[fd00::1]/", "http://[fe80::1]/", "http://[64:ff9b::a00:1]/",
    "http://[2002:a00:1::]/", "http://0x0a000001/", "http://167772161/", "http://012.0.0.1/", "http://10.1/"])
def test_addresses_that_are_not_public_are_refused(bench, url):
    bench.worker()
    error = bench.run(bench.task(with_={"url": url}, timeout="5s"))["error"]
    assert error["code"] == "egress_refused" and error["class"] == "permanent" and not error["sent"], error


def test_without_a_list_loopback_is_refused_too_and_environment_proxies_are_ignored(bench):
    bench.worker(egress_allow="")
    assert bench.run(bench.get("/echo"))["error"]["code"] == "egress_refused"
    os.environ["http_proxy"] = bench.target.url
    try:
        bench.workers[0].stop()
        bench.worker(egress_allow="")
        assert bench.run(bench.task(with_={"url": "http://10.0.0.1/"}))["error"]["code"] == "egress_refused"
    finally:
        del os.environ["http_proxy"]


@pytest.fixture(scope="session")
def secure(tmp_path_factory):
    """An HTTPS and HTTP/2 server with a certificate that only ROPEWALK_CA_FILE knows."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    https = Target()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    https.server.socket = context.wrap_socket(https.server.socket, server_side=True)
    https.url = f"https://127.0.0.1:{https.port}"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (folder / "file").write_text("over h2")
    log = open(folder / "nghttpd.log", "w+")
    h2 = subprocess.Popen(["nghttpd", "-v", "-a", "127.0.0.1", "-d", str(folder), str(port), key, cert], stdout=log)
    yield {"cert": cert, "https": https, "h2": f"https://127.0.0.1:{port}", "h2_log": log.name}
    h2.kill()


def test_certificates_are_verified(bench, secure):
    bench.worker()
    error = bench.run(bench.task(with_={"url": secure["https"].url + "/echo"}))["error"]
    assert error["code"] == "tls" and error["class"] == "permanent" and not error["sent"]
    bench.workers[0].stop()
    bench.worker(ca_file=secure["cert"])
    assert bench.run(bench.task(with_={"url": secure["https"].url + "/echo"}))["status"] == "succeeded"


def test_http_2_is_spoken_where_offered_but_not_for_at_most_once(bench, secure):
    bench.worker(ca_file=secure["cert"])
    for _ in range(50):  # the server may still be starting
        result = bench.run(bench.task(with_={"url": secure["h2"] + "/file"}))
        if result["status"] == "succeeded":
            break
        time.sleep(0.1)
    assert result["output"]["body"] == "over h2"
    with open(secure["h2_log"]) as f:
        assert "recv (stream_id=1) :method: GET" in f.read()
    bench.put(bench.task(with_={"url": secure["h2"] + "/file"}, delivery="at_most_once"))
    bench.grant(bench.wait_started(), True)
    assert bench.answer()["status"] in ("succeeded", "failed")  # nghttpd speaks nothing else


def test_no_redirect_leaves_https(bench, secure):
    bench.worker(ca_file=secure["cert"])
    error = bench.run(bench.task(with_={"url": secure["https"].url + f"/redirect?to={bench.target.url}/echo"}))["error"]
    assert error["code"] == "bad_redirect" and error["class"] == "permanent"


def test_redirects_are_followed_checked_and_counted(bench):
    bench.worker()
    run = lambda with_, **f: bench.run(bench.task(with_=with_, **f))
    url = bench.target.url
    secret = {"Authorization": "Bearer s3cret", "X-Api-Key": "k", "Accept": "application/json"}
    same = run({"url": url + "/redirect?to=/echo", "headers": secret})["output"]["body"]
    assert same["headers"]["authorization"] == "Bearer s3cret" and same["headers"]["x-api-key"] == "k"
    other = run({"url": url + f"/redirect?to=http://localhost:{bench.target.port}/echo", "headers": secret})
    headers = other["output"]["body"]["headers"]
    assert "authorization" not in headers and "x-api-key" not in headers and headers["accept"] == "application/json"
    moved = run({"method": "POST", "url": url + "/redirect?to=/echo", "body": {"a": 1}})["output"]["body"]
    assert moved["method"] == "GET" and moved["body"] == ""
    kept = run({"method": "POST", "url": url + "/redirect?code=307&to=/echo", "body": {"a": 1}})["output"]["body"]
    assert kept["method"] == "POST" and json.loads(kept["body"]) == {"a": 1}
    error = run({"url": url + "/loop"})["error"]
    assert error["code"] == "too_many_redirects" and error["class"] == "permanent"
    assert run({"url": url + "/redirect?to=/echo", "follow_redirects": 0})["error"]["code"] == "http_302"
    error = run({"url": url + "/redirect?to=http://169.254.169.254/"})["error"]
    assert error["code"] == "egress_refused" and error["class"] == "permanent" and error["sent"]
    for bad in ("file:///etc/passwd", "gopher://127.0.0.1:1/"):
        assert run({"url": url + "/redirect?to=" + bad})["error"]["code"] == "bad_redirect"


# --- messages -----------------------------------------------------------------------------------------------------------------

def test_results_of_one_turn_share_a_message_and_large_ones_go_alone(bench):
    tasks = [bench.task("noop") for _ in range(300)]
    for priority in ("critical", "high", "normal", "low"):
        bench.channel.queue_declare(bench.queue(priority), durable=True, arguments={"x-queue-type": "classic"})
    bench.put(*tasks)
    bench.worker()
    time.sleep(1)
    bench.put(bench.task(with_={"url": bench.target.url + "/large?size=200000"}))
    assert len(bench.answer(large=True)["output"]["body"]) == 199998
    messages = bench.channel.queue_declare(bench.inbox, passive=True).method.message_count
    assert messages < 300
    assert {r["task_id"] for r in bench.answers(300)} == {t["task_id"] for t in tasks}


def test_a_long_task_says_started_and_lives_in_heartbeats(bench):
    bench.worker()
    task = bench.get("/slow?s=1.2")
    bench.put(task)
    started = bench.wait_started()
    assert started["task_id"] == task["task_id"] and started["token"] == task["token"]
    until = time.time() + 5
    while True:
        method, _, body = bench.channel.basic_get(bench.beats, auto_ack=True)
        if method and json.loads(body)["tasks"] == [task["task_id"]]:
            SCHEMAS["heartbeat"].validate(json.loads(body))
            assert json.loads(body)["worker"] == started["worker"]
            break
        assert time.time() < until
    result = bench.answer()
    assert result["status"] == "succeeded" and result["worker"] == started["worker"]
    bench.put(bench.task("noop"))
    bench.answer()
    assert bench.started == []  # once, and not for short ones


def test_cancel_stops_a_running_request(bench):
    bench.worker()
    task = bench.get("/slow?s=8")
    bench.put(task)
    started = bench.wait_started()
    cancel = {"v": 1, "task_id": task["task_id"], "if_running": "now"}
    bench.channel.basic_publish("", started["reply_to"], json.dumps(cancel), pika.BasicProperties(type="cancel"))
    error = bench.answer(seconds=3)["error"]
    assert error["code"] == "cancelled" and error["sent"]


def test_a_cancelled_request_may_finish_within_the_grace_and_is_cut_after_it(bench):
    bench.worker(cancel_grace_ms=2000)
    short, long = bench.get("/slow?s=2"), bench.get("/slow?s=60")
    for task in (short, long):
        bench.put(task)
        started = bench.wait_started()
    for task in (short, long):      # to all workers, as when nobody knows who has it
        bench.channel.basic_publish("ropewalk.cancel", "", json.dumps({"v": 1, "task_id": task["task_id"]}),
                                    pika.BasicProperties(type="cancel"))
    assert started["worker"]
    assert bench.answer(seconds=10)["status"] == "succeeded"
    cut = bench.answer(seconds=10)
    assert (cut["task_id"], cut["error"]["code"], cut["error"]["sent"]) == (long["task_id"], "cancelled", True)


def test_what_is_cancelled_before_it_comes_is_never_begun(bench):
    w = bench.worker()
    bench.put(bench.task("noop"))
    bench.answer()                  # it is there, and listens
    never, after = bench.get("/never"), bench.get("/after")
    for body in (json.dumps({"v": 1, "task_id": never["task_id"]}), "garbage"):
        bench.channel.basic_publish("ropewalk.cancel", "", body, pika.BasicProperties(type="cancel"))
    w.wait_for("worker.control_undecodable")  # of one queue, so the cancel has been read, too; tasks come by another
    bench.put(never, after)
    assert bench.answer()["task_id"] == after["task_id"]


def test_a_message_held_too_long_is_acknowledged_and_its_task_goes_on(bench):
    w = bench.worker(ack_after_ms=300, capacity=8)
    bench.put(*[bench.get("/slow?s=2") for _ in range(4)])  # half the capacity: no more are taken
    w.wait_for("worker.takes_no_tasks")
    late = bench.task("noop")
    bench.put(late)
    w.stop(signal.SIGSTOP)
    time.sleep(0.1)
    w.process.send_signal(signal.SIGCONT)
    results = bench.answers(5, seconds=10)
    assert {r["status"] for r in results} == {"succeeded"}
    assert results[-1]["task_id"] == late["task_id"]  # only after the pause
    w.wait_for("worker.takes_tasks", count=2)


# --- duplicates -----------------------------------------------------------------------------------------------------------------

def test_a_copy_of_a_task_in_hand_is_not_done_twice(bench):
    bench.worker()
    path = "/slow/" + bench.pool
    task = bench.get(path + "?s=0.5")
    again = dict(task, publication=2)
    bench.put(task, again)
    assert bench.answer()["status"] == "succeeded"
    bench.nothing_comes(0.7)
    assert len(bench.target.seen(path)) == 1
    assert bench.is_settled()


def test_a_finished_claim_answers_again_without_doing_it_again(bench):
    bench.worker()
    path = "/echo/" + bench.pool
    task = bench.get(path)
    first = bench.run(task)
    assert bench.is_settled()  # until then a copy is one of a task in hand, and says nothing of its own
    second = bench.run(dict(task, publication=2))
    assert second == first
    third = bench.worker()  # another process
    bench.workers[0].stop()
    assert third.process.poll() is None
    assert bench.run(dict(task, publication=3)) == first
    assert len(bench.target.seen(path)) == 1


def test_a_large_finished_result_is_dropped_when_it_comes_again(bench):
    bench.worker()
    path = "/large/" + bench.pool
    task = bench.get(path + "?size=6000")
    bench.run(task)
    assert bench.is_settled()
    bench.put(dict(task, publication=2))
    bench.nothing_comes(0.5)
    assert len(bench.target.seen(path)) == 1 and bench.is_settled()


def test_killed_in_the_middle_the_next_worker_reports_abandoned(bench):
    w = bench.worker()
    path = "/slow/" + bench.pool
    task = bench.get(path + "?s=3")
    bench.put(task)
    bench.wait_started()
    killed_at = time.time()
    w.stop(signal.SIGKILL)
    other = bench.worker()
    result = bench.answer()
    assert result["status"] == "abandoned" and result["task_id"] == task["task_id"]
    assert result["worker"] != w.wait_for("worker.identity")["worker"] if w.process.poll() is None else True
    assert time.time() - killed_at < 8
    assert len(bench.target.seen(path)) == 1
    assert other.process.poll() is None


def test_a_live_holder_makes_others_wait(bench):
    w = bench.worker()
    path = "/slow/" + bench.pool
    task = bench.get(path + "?s=2.5")
    bench.put(task)
    bench.wait_started()
    other = Worker(bench.pool)
    try:
        # the copy may reach either worker; the first would hold it, so make it come to the other
        for _ in range(4):
            bench.put(dict(task, publication=2))
        first = bench.answer()
        assert first["status"] == "succeeded"
        # the other one looked again, found the end, and answered the same
        for extra in range(3):
            method, properties, body = bench.channel.basic_get(bench.inbox, auto_ack=True)
            if method is not None and properties.type == "result":
                for item in json.loads(body)["results"]:
                    assert item == first
        assert len(bench.target.seen(path)) == 1
    finally:
        other.stop()
    assert w.process.poll() is None


def test_a_frozen_holder_counts_as_dead_after_its_key_is_gone(bench):
    w = bench.worker()
    task = bench.get("/slow?s=3")
    bench.put(task)
    bench.wait_started()
    w.stop(signal.SIGSTOP)
    time.sleep(0.7)  # longer than HOLDER_TTL
    bench.worker()
    time.sleep(0.1)
    bench.put(*[dict(task, publication=2 + i) for i in range(30)])  # in turn to all consumers of both
    until = time.time() + 8
    while True:
        method, properties, body = bench.channel.basic_get(bench.inbox, auto_ack=True)
        if method is not None and properties.type == "result":
            assert json.loads(body)["results"][0]["status"] == "abandoned"
            break
        assert time.time() < until
        time.sleep(0.01)
    w.process.send_signal(signal.SIGCONT)


def test_without_redis_first_deliveries_run_and_repeated_ones_are_abandoned(bench):
    bench.worker(redis_url="redis://127.0.0.1:1")
    time.sleep(1.2)
    path = "/echo/" + bench.pool
    assert bench.run(bench.get(path))["status"] == "succeeded"
    assert bench.run(bench.get(path, publication=2))["status"] == "abandoned"
    assert len(bench.target.seen(path)) == 1


def test_an_unclaimed_repeated_task_is_done(bench):
    bench.worker()
    assert bench.run(bench.get("/echo", publication=5))["status"] == "succeeded"


def test_a_strange_claim_is_not_believed(bench):
    bench.worker()
    for value in ("", "?", "fnot json", "f[1]", "r" + "x" * 500):
        task = bench.get("/echo", publication=2)
        bench.redis.set("rw:claim:" + task["task_id"], value)
        assert bench.run(task)["status"] == "abandoned"


# --- at_most_once ---------------------------------------------------------------------------------------------------------------

def test_at_most_once_waits_for_its_grant(bench):
    bench.worker()
    path = "/echo/" + bench.pool
    task = bench.get(path, delivery="at_most_once")
    bench.put(task)
    started = bench.wait_started()
    bench.nothing_comes(0.5)
    assert bench.target.seen(path) == []
    bench.grant(started, True)
    assert bench.answer()["status"] == "succeeded"
    bench.grant(started, True)  # again: nothing
    bench.put(dict(task, publication=2))  # a copy, after the end: never again in this process
    bench.nothing_comes(0.5)
    assert len(bench.target.seen(path)) == 1
    assert bench.is_settled()


def test_at_most_once_refused_is_dropped(bench):
    bench.worker()
    path = "/echo/" + bench.pool
    bench.put(bench.get(path, delivery="at_most_once"))
    bench.grant(bench.wait_started(), False)
    bench.nothing_comes(0.5)
    assert bench.target.seen(path) == [] and bench.is_settled()


def test_at_most_once_uses_fresh_connections_and_follows_nothing(bench):
    bench.worker()
    path = "/echo/" + bench.pool
    for _ in range(3):
        bench.put(bench.get(path, delivery="at_most_once"))
        bench.grant(bench.wait_started(), True)
        bench.answer()
    assert len({r[3] for r in bench.target.seen(path)}) == 3
    bench.put(bench.get("/redirect?to=/echo", delivery="at_most_once"))
    bench.grant(bench.wait_started(), True)
    assert bench.answer()["error"]["code"] == "http_302"
    for _ in range(3):
        bench.run(bench.get(path + "b"))
    assert len({r[3] for r in bench.target.seen(path + "b")}) == 1  # the others are reused


# --- life ------------------------------------------------------------------------------------------------------------------------

def test_sigterm_lets_running_tasks_end_and_gives_the_rest_back(bench):
    w = bench.worker(capacity=2)
    slow = bench.get("/slow?s=1")
    bench.put(slow)
    bench.wait_started()
    bench.put(*[bench.get("/slow?s=0.8") for _ in range(10)])
    time.sleep(0.2)
    assert w.stop(signal.SIGTERM) == 0
    results = bench.answers(1)
    assert {r["status"] for r in results} == {"succeeded"}
    bench.worker()
    statuses = [r["status"] for r in bench.answers(11 - len(results), seconds=15)]
    assert "abandoned" not in statuses, statuses


def test_sigterm_stops_what_does_not_end_in_time(bench):
    w = bench.worker(drain_ms=300)
    bench.put(bench.get("/slow?s=20"))
    bench.wait_started()
    begin = time.time()
    assert w.stop(signal.SIGTERM) == 0
    assert time.time() - begin < 5
    assert bench.answer()["status"] == "abandoned"


def test_without_a_broker_it_waits_is_not_ready_and_says_so(bench):
    env = dict(os.environ, ROPEWALK_AMQP_URL="amqp://guest:guest@127.0.0.1:1/", ROPEWALK_POOLS=bench.pool)
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen([WORKER], env=env, stderr=log)
        time.sleep(1)
        lines = [json.loads(line) for line in open(log.name)]
        assert process.poll() is None
        assert any(line["event"] == "worker.broker_down" for line in lines)
        port = [line["port"] for line in lines if line["event"] == "service.listening"][0]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
        assert refused.value.code == 503
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/livez").status == 200
        process.terminate()
        assert process.wait(10) == 0


def test_every_bad_setting_is_reported_at_once(bench):
    env = {"ROPEWALK_QUEUE_TYPE": "stream", "ROPEWALK_LOG_LEVEL": "loud", "ROPEWALK_EGRESS_ALLOW": "10.0.0.0/99",
           "ROPEWALK_POOLS": "a b", "ROPEWALK_AMQP_URL": "amqp://x"}
    done = subprocess.run([WORKER], env=env, capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    for name in env:
        assert name == "ROPEWALK_AMQP_URL" or name in done.stderr, done.stderr
    done = subprocess.run([WORKER, "--print-config"], env={"ROPEWALK_AMQP_URL": "amqp://u:secret@h/"},
                          capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and "secret" not in done.stdout


def test_200_requests_of_a_second_run_side_by_side(bench):
    bench.worker()
    tasks = [bench.get("/slow?s=1") for _ in range(200)]
    begin = time.time()
    bench.put(*tasks)
    results = bench.answers(200, seconds=30)
    print(f"200 http steps of 1 s: {time.time() - begin:.2f} s", file=sys.stderr)
    assert {r["status"] for r in results} == {"succeeded"}


if __name__ == "__main__":
    if not AMQP_URL or not REDIS_URL:
        print("skipped: ROPEWALK_AMQP_URL and ROPEWALK_REDIS_URL are not set")
        sys.exit(77)
    sys.exit(pytest.main([__file__, "-q", "-x", "-p", "no:cacheprovider"] + sys.argv[1:]))
