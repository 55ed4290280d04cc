"""Dead letters: what is kept of a message that nobody can read, who sees it, and what an operator makes of it."""
import base64
import concurrent.futures
import json
import os
import subprocess
import uuid

import pika
import pytest

from conftest import Api
from drive import BUILD, until

BY_HAND = {"name": "by-hand", "steps": {"work": {"call": "noop", "pool": "byhand", "retry": {"max_attempts": 1}}},
           "output": "${ .steps.work.output }"}
QUEUE = "ropewalk.task.byhand.normal"


class Broker:
    """A stranger at the broker: takes tasks of a pool that has no workers, and publishes what it likes."""

    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()

    def task(self):
        def look():
            method, _, body = self.channel.basic_get(QUEUE, auto_ack=True)
            return json.loads(body) if method else None
        return until("a task", look)

    def send(self, queue, body, kind="result", message_id=None, exchange=""):
        self.channel.basic_publish(exchange, queue, body, pika.BasicProperties(type=kind, message_id=message_id, delivery_mode=2))

    def close(self):
        self.connection.close()


@pytest.fixture
def broker(stack):
    stack.save(BY_HAND)
    one = Broker(stack.env["ROPEWALK_AMQP_URL"])
    one.channel.queue_declare(QUEUE, durable=True)
    yield one
    one.close()


def result_of(task, **more):
    return {"v": 1, "task_id": task["task_id"], "token": task["token"], "worker": "a-hand", "status": "succeeded", "output": 42,
            "started_at": "2026-01-01T00:00:00.000Z", "ended_at": "2026-01-01T00:00:01.000Z", **more}


def letters(api, **query):
    items, token = [], None
    while True:
        sent = "&".join(f"{k}={v}" for k, v in {**query, **({"page_token": token} if token else {})}.items())
        page = api("GET", "/v1/dead-letters" + ("?" + sent if sent else "")).json()
        items += page["items"]
        token = page["next_page_token"]
        if not token:
            return items


def new_letter(api, before, what="a dead letter"):
    known = {letter["id"] for letter in before}
    return until(what, lambda: [letter for letter in letters(api) if letter["id"] not in known])[0]


def requeue(api, letter, body=None):
    return api("POST", f"/v1/dead-letters/{letter['id']}:requeue", body)


def broken(stack, api, broker, cut=b'{"v":1,"results":[{"status":'):
    """A run whose only task has been answered with something that nobody can read."""
    run_id, before = stack.start("by-hand"), letters(api)
    task = broker.task()
    broker.send(task["reply_to"], cut)
    return run_id, task, new_letter(api, before)


def test_a_message_that_nobody_can_read_is_kept_and_sent_again_corrected(stack, api, broker):
    run_id, task, letter = broken(stack, api, broker)
    assert letter["kind"] == "message" and letter["organisation"] is None and letter["run_id"] is None, letter
    assert letter["source"] == task["reply_to"] and letter["properties"] == {"type": "result", "message_id": None}, letter
    assert letter["status"] == "open" and letter["bytes"] == 28 and "not JSON" in letter["reason"], letter
    whole = api("GET", f"/v1/dead-letters/{letter['id']}").json()
    assert whole["body"] == '{"v":1,"results":[{"status":' and whole["encoding"] == "utf-8" and whole["truncated"] is False, whole

    as_it_was = requeue(api, letter)
    assert as_it_was.status_code == 422 and as_it_was.json()["code"] == "not_json", as_it_was.text
    wrong = requeue(api, letter, {"v": 1, "results": [result_of(task, status="suceeded")]})
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["pointer"] == "/results/0/status", wrong.text
    many = requeue(api, letter, {"v": 1, "results": [{}] * 10001})
    assert many.status_code == 422 and many.json()["errors"][0]["pointer"] == "/results" and "10000" in many.text, many.text
    nobody = requeue(api, letter, result_of(task, task_id=f"{uuid.uuid4()}/work/1/1"))
    assert nobody.status_code == 422 and nobody.json()["code"] == "unknown_run", nobody.text
    assert api("GET", f"/v1/dead-letters/{letter['id']}").json()["status"] == "open"
    assert stack.run(run_id)["status"] not in ("succeeded", "failed")

    right = {"v": 1, "results": [result_of(task)]}
    sent = requeue(api, letter, right)
    assert sent.status_code == 200 and sent.json()["status"] == "requeued" and sent.json()["decided_by"], sent.text
    run = stack.ended(run_id)
    assert run["status"] == "succeeded" and run["output"] == 42, run
    again = requeue(api, letter, right)
    assert again.status_code == 200 and again.json() == sent.json()
    other = requeue(api, letter, {"v": 1, "results": [result_of(task, output=43)]})
    assert other.status_code == 409 and other.json()["code"] == "already_requeued", other.text
    put_away = api("POST", f"/v1/dead-letters/{letter['id']}:discard")
    assert put_away.status_code == 409 and put_away.json()["code"] == "already_requeued", put_away.text
    assert stack.faults_of_history() == []


def test_what_is_forged_comes_back_as_a_letter_that_names_its_ancestor(stack, api, broker):
    run_id, task, letter = broken(stack, api, broker)
    before = letters(api)
    assert requeue(api, letter, result_of(task, token="0" * 64)).status_code == 200
    child = new_letter(api, before)
    assert child["ancestor"] == letter["id"] and "token" in child["reason"] and child["kind"] == "message", child
    assert stack.run(run_id)["status"] not in ("succeeded", "failed")
    assert requeue(api, child, result_of(task)).status_code == 200
    assert stack.ended(run_id)["status"] == "succeeded"


def test_asked_many_times_at_once_it_is_sent_once(stack, api, broker):
    run_id, task, letter = broken(stack, api, broker)
    body = result_of(task)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: requeue(Api(stack.urls[n % len(stack.urls)], stack.key), letter, body), range(32)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers if answer.status_code != 200]
    assert len({answer.json()["decided_at"] for answer in answers}) == 1
    assert stack.ended(run_id)["status"] == "succeeded"
    assert stack.sql("select count(*) from event where run_id = %s and type = 24", run_id) == [(1,)]
    assert not [one for one in letters(api) if one["ancestor"] == letter["id"]]


def test_a_letter_is_put_away_and_stays_so(stack, api, broker):
    run_id, task, letter = broken(stack, api, broker)
    assert api("POST", f"/v1/dead-letters/{letter['id']}:discard").json()["status"] == "discarded"
    again = api("POST", f"/v1/dead-letters/{letter['id']}:discard")
    assert again.status_code == 200 and again.json()["status"] == "discarded"
    late = requeue(api, letter, result_of(task))
    assert late.status_code == 409 and late.json()["code"] == "already_discarded", late.text
    assert letter["id"] in {one["id"] for one in letters(api, status="discarded")}
    assert letter["id"] not in {one["id"] for one in letters(api, status="open")}
    assert letter["id"] in {one["id"] for one in letters(api, reason=letter["reason"])}
    assert letters(api, reason="none-such") == []
    assert api("GET", "/v1/dead-letters?status=lost").status_code == 400
    broker.send(task["reply_to"], json.dumps(result_of(task)).encode())     # the task itself is open still
    assert stack.ended(run_id)["status"] == "succeeded"


def test_a_letter_that_names_its_attempt_belongs_to_the_runs_organisation(stack, api, broker, stranger):
    stranger("PUT", "/v1/workflows/by-hand", BY_HAND)
    run_id = stranger("POST", "/v1/workflows/by-hand/runs", {}).json()["run_id"]
    task = broker.task()
    broker.send(task["reply_to"], json.dumps(result_of(task, status="perhaps")).encode())
    letter = until("a dead letter", lambda: letters(stranger))[0]
    assert letter["run_id"] == run_id and letter["step"] == "work" and letter["organisation"] == stranger.organisation, letter
    run = until("the end", lambda: (one := stranger("GET", "/v1/runs/" + run_id).json())["status"] == "failed" and one)
    assert run["error"]["code"] == "undecodable_result", run["error"]
    assert letter["id"] not in {one["id"] for one in letters(api)}
    for method, verb in (("GET", ""), ("POST", ":requeue"), ("POST", ":discard")):
        assert api(method, f"/v1/dead-letters/{letter['id']}{verb}").status_code == 404
    history = stranger("GET", f"/v1/runs/{run_id}/events").json()["items"]
    assert requeue(stranger, letter, result_of(task)).status_code == 200    # too late: the attempt has had its word
    until("the command to be done", lambda: not stack.sql("select 1 from command where run_id = %s", run_id))
    assert stranger("GET", f"/v1/runs/{run_id}/events").json()["items"] == history


def test_letters_of_nobody_are_for_admins_of_the_first_organisation(stack, api, broker, stranger):
    run_id, task, letter = broken(stack, api, broker)
    for client in (stranger, api.as_role("operator")):
        assert letter["id"] not in {one["id"] for one in letters(client)}
        assert client("GET", f"/v1/dead-letters/{letter['id']}").status_code == 404
        assert requeue(client, letter, result_of(task)).status_code == 404
        assert client("POST", f"/v1/dead-letters/{letter['id']}:discard").status_code == 404
    assert requeue(api, letter, result_of(task)).status_code == 200
    assert stack.ended(run_id)["status"] == "succeeded"


def test_any_bytes_are_kept_as_they_are_and_large_ones_in_part(api, broker):
    binary, before = bytes(range(256)), letters(api)
    broker.send("ropewalk.inbox.3", binary, "\x01odd\x7f", "a/b")
    letter = new_letter(api, before)
    whole = api("GET", f"/v1/dead-letters/{letter['id']}").json()
    assert whole["encoding"] == "base64" and base64.b64decode(whole["body"]) == binary, whole
    assert whole["source"] == "ropewalk.inbox.3" and whole["properties"] == {"type": "?odd?", "message_id": "a/b"}, whole
    before = letters(api)
    broker.send("ropewalk.inbox.3", b"[" * (10 << 20))
    letter = new_letter(api, before)
    assert letter["bytes"] == 10 << 20
    whole = api("GET", f"/v1/dead-letters/{letter['id']}").json()
    assert whole["truncated"] and len(whole["body"]) == 1 << 20
    refused = requeue(api, letter)
    assert refused.status_code == 409 and refused.json()["code"] == "truncated", refused.text


def test_a_task_that_no_worker_can_read_is_a_letter_that_names_its_queue(api, broker):
    before = letters(api)
    broker.send("ropewalk.task.default.normal", b'{"v":1,"task_id":', "task")
    letter = new_letter(api, before)
    assert letter["source"] == "ropewalk.task.default.normal" and letter["properties"]["type"] == "task", letter
    refused = requeue(api, letter, {"v": 1})
    assert refused.status_code == 409 and refused.json()["code"] == "not_requeueable", refused.text


def test_pages_go_back_in_time(api, broker):
    before = letters(api)
    for number in range(5):
        broker.send("ropewalk.inbox.0", b"page %d" % number)
    until("five letters", lambda: len(letters(api)) == len(before) + 5)
    items = letters(api, page_size=2)
    assert len(items) == len({item["id"] for item in items}) == len(before) + 5
    times = [item["at"] for item in items]
    assert times == sorted(times, reverse=True)


def test_the_command_line(stack, api, broker, tmp_path):
    def cli(*words, code=0):
        done = subprocess.run([str(BUILD / "bin/ropewalk"), "dead-letter", *words], capture_output=True, text=True, timeout=60,
                              env={"PATH": os.environ["PATH"], "ROPEWALK_URL": stack.url, "ROPEWALK_API_KEY": stack.key})
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    run_id, task, letter = broken(stack, api, broker, b'{"v":1,"status":"succeeded"')
    assert any(line.split()[:2] == [letter["id"], "open"] for line in cli("list", "--status", "open").splitlines())
    shown = cli("show", letter["id"])
    assert "not JSON" in shown and '{"v":1,"status":"succeeded"' in shown and "ropewalk.inbox." in shown
    assert cli("show", letter["id"], "--body") == '{"v":1,"status":"succeeded"'
    assert "not_json" in cli("requeue", letter["id"], code=3)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result_of(task)))
    assert cli("requeue", letter["id"], "--body", str(file)) == f"requeued {letter['id']}\n"
    assert stack.ended(run_id)["output"] == 42
    assert "already_requeued" in cli("discard", letter["id"], code=3)
    assert "there is no such" in cli("show", str(uuid.uuid4()), code=3)
    assert "takes list" in cli("burn", code=2)
