"""Webhooks at the edge of the network: who is calling, over IPv6 and through proxies; and what they carry stays out of
everything that is kept or sent on."""
import contextlib
import json
import socket
import subprocess
import uuid

import pika
import requests

from drive import BUILD, until
from test_secrets_in_runs import everything_stored, forms

OPEN = {"webhook": {}}
SENSITIVE = ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "X-Mine"]


def name_of(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def allow(*networks, **more):
    return {"webhook": {"allow": list(networks), **more}}


@contextlib.contextmanager
def gateway(stack, host="127.0.0.1", **settings):
    """One more, at an address of its own."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind((host, 0))
        address = f"{f'[{host}]' if ':' in host else host}:{free.getsockname()[1]}"
    name = name_of("gateway-edge")
    env = {**stack.environment("gateway-1"), "ROPEWALK_NAME": name, "ROPEWALK_LISTEN": address,
           **{"ROPEWALK_" + key: str(value) for key, value in settings.items()}}
    with open(stack.dir / "log" / f"{name}.log", "ab") as log:
        process = subprocess.Popen([str(BUILD / "bin/ropewalk-gateway")], env=env, stderr=log, stdin=subprocess.DEVNULL)

    def ready():
        assert process.poll() is None, (stack.dir / "log" / f"{name}.log").read_text()
        with contextlib.suppress(requests.RequestException):
            return stack.session.get(f"http://{address}/readyz", timeout=6).status_code == 200
        return False
    try:
        until("a gateway at " + address, ready, 30)
        yield f"http://{address}"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def save(stack, triggers):
    document = {"name": name_of("edge"), "triggers": triggers, "steps": {"a": {"call": "noop"}}}
    stack.save(document)
    return document["name"]


def send(stack, url, workflow, trigger, headers=()):
    """Its status, and the address that the log has of it."""
    body = json.dumps({"id": uuid.uuid4().hex})
    answer = requests.Request("POST", f"{url}/hooks/default/{workflow}/{trigger}", data=body, headers=dict(headers)).prepare()
    status = stack.session.send(answer, timeout=30).status_code
    [(address, reason)] = until("its line", lambda: stack.sql(
        "select address, reason from delivery where workflow = %s and excerpt = %s", workflow, body))
    return status, address, reason


def test_callers_over_ipv6_are_judged_by_their_address(stack):
    workflow = save(stack, {"six": allow("::1/128"), "four": allow("127.0.0.0/8"), "any": allow("::/0"),
                            "denied": {"webhook": {"deny": ["::/64"]}}, "other": allow("2001:db8::/32", "::2/127")})
    with gateway(stack, "::1") as url:
        assert send(stack, url, workflow, "six") == (202, "::1", "accepted")
        assert send(stack, url, workflow, "any") == (202, "::1", "accepted")
        assert send(stack, url, workflow, "four") == (403, "::1", "address_not_allowed")
        assert send(stack, url, workflow, "other") == (403, "::1", "address_not_allowed")
        assert send(stack, url, workflow, "denied") == (403, "::1", "address_denied")
    assert send(stack, stack.url, workflow, "six") == (403, "127.0.0.1", "address_not_allowed")
    assert send(stack, stack.url, workflow, "four") == (202, "127.0.0.1", "accepted")


def test_a_forwarded_address_is_believed_as_deep_as_there_are_proxies(stack):
    workflow = save(stack, {"in": allow("192.0.2.0/24", "2001:db8::/32"), "open": OPEN})

    def through(url, *forwarded, trigger="in"):
        return send(stack, url, workflow, trigger, {"X-Forwarded-For": ", ".join(forwarded)})
    refused = "address_not_allowed"
    assert through(stack.url, "192.0.2.7") == (403, "127.0.0.1", refused)            # nobody of ours wrote it
    with gateway(stack, TRUSTED_PROXIES=1) as url:
        assert through(url, "192.0.2.7") == (202, "192.0.2.7", "accepted")
        assert through(url, "192.0.2.7", "198.51.100.1") == (403, "198.51.100.1", refused)       # the first one is the caller's own
        assert through(url, "198.51.100.1", "[2001:db8::5]:4711") == (202, "2001:db8::5", "accepted")
        assert through(url, "192.0.2.9:4711") == (202, "192.0.2.9", "accepted")
        assert through(url, "unknown") == (403, "::", "address_unknown")
        assert through(url, "unknown", trigger="open")[0] == 202                       # it judges nobody by address
        assert send(stack, url, workflow, "in") == (403, "127.0.0.1", refused)         # no proxy: the peer itself
    with gateway(stack, TRUSTED_PROXIES=2) as url:
        assert through(url, "198.51.100.1", "192.0.2.7", "10.0.0.1") == (202, "192.0.2.7", "accepted")
        assert through(url, "192.0.2.7", "198.51.100.1", "10.0.0.1") == (403, "198.51.100.1", refused)
        assert through(url, "192.0.2.7,10.0.0.1") == (202, "192.0.2.7", "accepted")


def test_sensitive_values_are_in_no_row_key_queue_or_log(stack):
    planted, seen = "planted-" + uuid.uuid4().hex, "seen-" + uuid.uuid4().hex
    pool = name_of("nobody")
    document = {"name": name_of("edge"), "triggers": {
        "in": {"webhook": {"hide_headers": ["X-Mine"], "rate_limit": {"limit": 100, "per": "1h"}, "verify_token": "another-token"}, "input": {"all": "${ .trigger }"}},
        "shut": {"webhook": {"hide_headers": ["X-Mine"], "signature": {"scheme": "github", "secrets": ["a-secret-that-is-not-planted"]}}}},
        "steps": {"a": {"call": "http", "with": {"url": "http://127.0.0.1:9/", "method": "POST", "body": "${ .trigger }"}, "pool": pool}}}
    stack.save(document)
    headers = {name: planted for name in SENSITIVE} | {"X-Seen": seen, "Content-Type": "application/json"}
    body = json.dumps({"id": uuid.uuid4().hex})
    hooks = f"{stack.url}/hooks/default/{document['name']}"
    taken = requests.post(hooks + "/in", data=body, headers=headers, timeout=30)
    assert taken.status_code == 202, taken.text
    shut = requests.post(hooks + "/shut", data=body, headers=headers | {"X-Hub-Signature-256": "sha256=" + planted}, timeout=30)
    assert shut.status_code == 401
    asked = requests.get(hooks + "/in", params={"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": planted}, headers=headers, timeout=30)
    assert asked.status_code in (401, 403, 404), asked.text
    until("their lines", lambda: len(stack.sql("select id from delivery where workflow = %s", document["name"])) >= 3)
    queue = f"ropewalk.task.{pool}.normal"
    with pika.BlockingConnection(pika.URLParameters(stack.env["ROPEWALK_AMQP_URL"])) as connection:
        def look():
            channel = connection.channel()
            try:
                return channel.basic_get(queue, auto_ack=True)[2]
            except pika.exceptions.ChannelClosedByBroker:
                return None
        task = until("the task in its queue", look)
    stored = everything_stored(stack)
    assert seen.encode() in task and seen.encode() in stored           # what is not sensitive is there: we look at the right places
    for form in forms(planted):
        assert form not in task and form not in stored, form
    stack.ask("POST", f"/v1/runs/{taken.json()['run_id']}:cancel")


def begun(stack, workflow, trigger, length, sent=b"", chunked=False, address=None):
    """What is answered to a delivery of which only the head and these bytes are ever sent."""
    host, port = (address or stack.url).removeprefix("http://").rsplit(":", 1)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    with socket.create_connection((host, int(port)), 20) as s:
        s.sendall(f"POST /hooks/default/{workflow}/{trigger} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode() + sent)
        data = b""
        while b"\r\n\r\n" not in data or not data.rstrip().endswith(b"}"):
            part = s.recv(65536)
            assert part, data
            data += part
    return int(data.split()[1]), data


def test_nothing_of_a_body_is_read_for_whom_it_is_refused(stack):
    """By the address, and by how long it says to be: also beyond what the server takes from anybody. Each is a line of the log."""
    workflow = save(stack, {"far": allow("192.0.2.0/24"), "small": {"webhook": {"max_body_bytes": 10}}, "open": OPEN,
                            "told": {"webhook": {"max_body_bytes": 10, "modes": {"size": "audit"}}}})
    before = stack.session.get(stack.url + "/metrics").text

    def refused(stage):
        name = f'ropewalk_hooks_refused_total{{stage="{stage}"}} '
        return [int(text.partition(name)[2].split()[0]) for text in (before, stack.session.get(stack.url + "/metrics").text)]

    def line(trigger, excerpt):
        return until("its line", lambda: stack.sql("select stage, reason, status, body_bytes, run_id from delivery where workflow = %s and trigger = %s "
                                                   "and excerpt = %s", workflow, trigger, excerpt))
    assert begun(stack, workflow, "far", 20000, b'{"far": 1')[0] == 403
    assert line("far", '{"far": 1') == [("address", "address_not_allowed", 403, 20000, None)]
    assert begun(stack, workflow, "far", 10**12)[0] == 403                           # the address comes first, however much it is
    assert begun(stack, workflow, "small", 16385, b'{"s')[0] == 413
    assert line("small", '{"s') == [("size", "too_large", 413, 16385, None)]
    status, answer = begun(stack, workflow, "open", 10**12, b'{"o')
    assert status == 413 and b'"too_large"' in answer
    assert line("open", '{"o') == [("size", "too_large", 413, 2**31 - 1, None)]
    assert begun(stack, workflow, "small", 0, b"a\r\n{\"a\": 1234\r\n1\r\n", chunked=True)[0] == 413      # 11 bytes, of which 10 have come
    assert stack.sql("select count(*) from delivery where workflow = %s and stage = 'size'", workflow) == [(3,)]
    assert refused("size")[1] - refused("size")[0] == 3 and refused("address")[1] - refused("address")[0] == 2
    told = requests.post(f"{stack.url}/hooks/default/{workflow}/told", json={"a": 1234567890}, timeout=30)
    assert told.status_code == 202
    assert stack.sql("select audit, body_bytes from delivery where run_id = %s", told.json()["run_id"]) == [("size:too_large", 17)]
    with requests.Session() as s:                                                    # what is small is read at once, and its connection goes on
        s.trust_env = False
        assert [s.post(f"{stack.url}/hooks/default/{workflow}/far", data=b"{}").headers.get("Connection") for _ in range(2)] == [None, None]
