"""Incoming events: each once by source and id, whoever sends it how often and where; runs start by type, source and filter."""
import base64
import concurrent.futures
import contextlib
import json
import uuid

import pika
import pytest
import requests

from drive import private_stack, until

STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2, schedulers=2, workers=1, settings={"gateway": {"EVENT_ORGANISATIONS": "default,elsewhere"}}) as drive:
        yield drive


@contextlib.contextmanager
def broker(drive):
    with pika.BlockingConnection(pika.URLParameters(drive.env["ROPEWALK_AMQP_URL"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def send(channel, body, exchange="ropewalk.events", message_id=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    channel.basic_publish(exchange, "", body, pika.BasicProperties(delivery_mode=2, content_type=STRUCTURED, message_id=message_id))


def unread(drive, queue="ropewalk.events"):
    """Messages that are in the queue or in hand: with all consumers gone none comes back."""
    with broker(drive) as channel:
        return channel.queue_declare(queue, passive=True).method.message_count


def event(kind, **more):
    return {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/shop/orders", "type": kind, **more}


def publish(drive, value, content_type=STRUCTURED, status=202, url=None):
    answer = drive.call("POST", "/v1/events", value, headers={"Content-Type": content_type}, url=url)
    assert answer.status_code == status, answer.text
    return answer.json()


def saved(drive, triggers, **more):
    name = "evented-" + uuid.uuid4().hex[:8]
    drive.save({"name": name, "triggers": triggers, "steps": {"a": {"call": "noop"}}, **more})
    return name


def kind():
    return "test.kind." + uuid.uuid4().hex[:8]


def runs_of(drive, name):
    return drive.ask("GET", f"/v1/runs?workflow={name}&page_size=500")["items"]


def faults(problem):
    return [(fault["code"], fault["pointer"]) for fault in problem["errors"]]


def test_an_event_starts_the_runs_that_its_type_source_and_filter_say(drive):
    this = kind()
    name = saved(drive, {
        "any": {"event": {"type": this}},
        "ours": {"event": {"type": this, "source": "/shop/orders"}, "input": {"n": "${ .event.data.n }", "of": "${ .trigger.event.id }"}},
        "theirs": {"event": {"type": this, "source": "/elsewhere"}},
        "large": {"event": {"type": this, "filter": "${ .event.data.n > 10 }"}},
        "small": {"event": {"type": this, "filter": "${ [.event.data.n, 5] | max == 5 }"}},
        "off": {"event": {"type": this}, "enabled": False},
        "late": {"event": {"type": this}, "start_at_step": "b"}},
        steps={"a": {"call": "noop"}, "b": {"call": "noop", "needs": ["a"]}},
        output="${ {input, name: .trigger.name, kind: .trigger.kind, event: .trigger.event} }")
    sent = event(this, data={"n": 42}, subject="42", time="2026-11-22T04:00:00Z", tenant="blue")
    taken = publish(drive, sent)
    assert (taken["id"], taken["source"], taken["type"]) == (sent["id"], sent["source"], this)
    runs = {start["trigger"]: drive.ended(start["run_id"]) for start in taken["starts"]}
    assert set(runs) == {"any", "ours", "large", "late"}
    assert runs["any"]["output"] == {"input": {"n": 42}, "name": "any", "kind": "event", "event": sent}
    assert runs["ours"]["input"] == {"n": 42, "of": sent["id"]}
    assert runs["late"]["steps"]["a"]["status"] == "skipped"
    assert runs["any"]["trigger"] == {"name": "any", "kind": "event", "event": {"id": sent["id"], "source": "/shop/orders", "type": this}}
    assert {start["trigger"] for start in publish(drive, event(this, data={"n": 3}))["starts"]} == {"any", "ours", "small", "late"}
    assert publish(drive, event(kind()))["starts"] == []
    drive.ask("POST", f"/v1/workflows/{name}:disable")
    assert publish(drive, event(this, data={"n": 3}))["starts"] == []
    drive.ask("POST", f"/v1/workflows/{name}:enable")
    drive.save({"name": name, "steps": {"a": {"call": "noop"}}, "triggers": {"new": {"event": {"type": this}}}})
    assert [start["trigger"] for start in publish(drive, event(this, data={"n": 3}))["starts"]] == ["new"]
    drive.call("DELETE", "/v1/workflows/" + name)
    assert publish(drive, event(this, data={"n": 3}))["starts"] == []


def test_a_filter_that_fails_is_told_and_starts_nothing(drive):
    this = kind()
    name = saved(drive, {"fails": {"event": {"type": this, "filter": "${ .event.data.n | tonumber > 1 }"}},
                         "text": {"event": {"type": this, "filter": "${ .event.id }"}},
                         "input": {"event": {"type": this}, "input": {"n": "${ .event.data | keys }"}},
                         "schema": {"event": {"type": this}}, "good": {"event": {"type": this}, "input": {"n": 1}}},
                 input_schema={"type": "object", "required": ["n"]})
    before = drive.sql("select count(*) from run")[0][0]
    starts = {start["trigger"]: start for start in publish(drive, event(this, data="x"))["starts"]}
    assert {trigger: start.get("code") for trigger, start in starts.items()} == {
        "fails": "expression_failed", "text": "not_boolean", "input": "expression_failed", "schema": "invalid_input", "good": None}
    assert [run["id"] for run in runs_of(drive, name)] == [starts["good"]["run_id"]]
    assert drive.sql("select count(*) from run")[0][0] == before + 1
    assert {line["code"] for line in drive.log("gateway") if line["event"] == "event.trigger_failed" and line["workflow"] == name} == {
        "expression_failed", "not_boolean", "invalid_input"}
    text = "".join(requests.get(url + "/metrics", timeout=10).text for url in drive.urls)
    assert sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("ropewalk_events_trigger_failed_total")) >= 4


def test_fifty_copies_over_two_gateways_are_one_run(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this, "filter": "${ [.event.data.n] | add == 1 }"}}})
    sent = event(this, data={"n": 1})
    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        def send(i):
            return requests.post(drive.urls[i % 2] + "/v1/events", json=sent, headers={"Authorization": "Bearer " + drive.key}, timeout=60)
        answers = list(pool.map(send, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1, "copies get the answer of the first"
    assert [run["id"] for run in runs_of(drive, name)] == [answers[0].json()["starts"][0]["run_id"]]
    # the same id of another source is another event; of another organisation, too
    assert publish(drive, {**sent, "source": "/other"})["starts"][0]["run_id"] != answers[0].json()["starts"][0]["run_id"]
    assert len(runs_of(drive, name)) == 2


def test_an_organisation_has_its_own_events(drive):
    this = kind()
    saved(drive, {"t": {"event": {"type": this}}})
    made = drive.ask("POST", "/v1/organisations", {"name": "events-" + uuid.uuid4().hex[:8]})
    theirs = {"Authorization": "Bearer " + made["api_key"]}
    sent = event(this)
    assert drive.call("POST", "/v1/events", sent, headers=theirs).json()["starts"] == []
    assert len(publish(drive, sent)["starts"]) == 1
    listed = drive.call("GET", f"/v1/events?type={this}", headers=theirs).json()["items"]
    assert len(listed) == 1 and listed[0]["starts"] == []
    ours = drive.ask("GET", f"/v1/events?type={this}")["items"][0]["number"]
    assert drive.call("GET", f"/v1/events/{ours}", headers=theirs).status_code == 404
    viewer = drive.ask("POST", "/v1/api-keys", {"name": "v", "role": "viewer"})["key"]
    assert drive.call("POST", "/v1/events", event(this), headers={"Authorization": "Bearer " + viewer}).status_code == 403


def test_what_is_no_cloudevent_is_refused_with_all_its_faults(drive):
    before = drive.sql("select count(*) from incoming_event")[0][0]
    assert faults(publish(drive, {}, status=422)) == [("missing_field", "/" + name) for name in ("specversion", "id", "source", "type")]
    bad = event("", specversion="0.3", source="a b", subject="", time="noon", datacontenttype="json", dataschema="order", Upper="x", n=1.5, o={}, data_base64="!")
    assert set(faults(publish(drive, bad, status=422))) == {
        ("out_of_range", "/" + name) for name in ("type", "specversion", "source", "subject", "time", "datacontenttype", "dataschema", "n", "data_base64")
    } | {("unknown_field", "/Upper"), ("wrong_type", "/o")}
    assert faults(publish(drive, event("a", data=1, data_base64="AAAA"), status=422)) == [("unknown_field", "/data_base64")]
    assert faults(publish(drive, event("a", id="x\u0007"), status=422)) == [("out_of_range", "/id")]
    assert faults(publish(drive, event("a", id="x" * 256), status=422)) == [("out_of_range", "/id")]
    assert faults(publish(drive, [event("a"), {**event("a"), "id": 7}], BATCHED, 422)) == [("wrong_type", "/1/id")]
    assert publish(drive, [event("a")] * 101, BATCHED, 413)["code"] == "too_large"
    assert faults(publish(drive, event("a"), BATCHED, 422)) == [("wrong_type", "")]
    assert publish(drive, event("a"), "text/plain", 415)["code"] == "unsupported_media_type"
    answer = drive.call("POST", "/v1/events", event("a"), headers={"Idempotency-Key": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")
    for data in (b"{", b'{"id": "1", "id": "2"}', b""):
        assert drive.call("POST", "/v1/events", data=data, headers={"Content-Type": STRUCTURED}).status_code in (400, 422)
    assert drive.sql("select count(*) from incoming_event")[0][0] == before, "nothing was taken"
    assert publish(drive, event("a", subject=None, time=None, n=2147483647, b=True, data_base64=base64.b64encode(b"\0\1").decode()))["starts"] == []
    assert publish(drive, event("a", id="x" * 255))["starts"] == []


def test_binary_mode_has_attributes_in_headers(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this}}}, output="${ {input, event: .trigger.event} }")

    def binary(data, content_type, status=202, **more):
        headers = {"ce-specversion": "1.0", "ce-id": uuid.uuid4().hex, "ce-source": "/binary", "ce-type": this, "Content-Type": content_type, **more}
        answer = drive.call("POST", "/v1/events", data=data, headers=headers)
        assert answer.status_code == status, answer.text
        return drive.ended(answer.json()["starts"][0]["run_id"])["output"] if status == 202 else answer.json()

    one = binary(b' {"n": 0.10} ', "application/json", **{"ce-subject": "caf%C3%A9 %22x%22", "ce-tenant": "blue"})
    assert one["input"] == {"n": 0.10} and one["event"]["subject"] == 'café "x"' and one["event"]["tenant"] == "blue"
    assert one["event"]["datacontenttype"] == "application/json"
    assert binary("zwei\nZeilen ä".encode(), "text/plain; charset=utf-8")["input"] == "zwei\nZeilen ä"
    raw = binary(b"\x00\xff", "application/octet-stream")
    assert base64.b64decode(raw["event"]["data_base64"]) == b"\x00\xff" == base64.b64decode(raw["input"])
    assert binary(b"{", "application/json", 400)["code"] == "not_json"
    assert faults(binary(b"{}", "application/json", 422, **{"ce-time": "noon"})) == [("out_of_range", "/time")]
    assert binary(b"{}", "application/json", 400, **{"ce-subject": "%ff"})["code"] == "bad_header"
    assert len(runs_of(drive, name)) == 3


def test_a_batch_is_taken_whole_and_its_copies_change_nothing(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this}}})
    events = [event(this, data=i) for i in range(20)]
    first = publish(drive, events + events[:3], BATCHED)["items"]
    assert [item["id"] for item in first] == [one["id"] for one in events + events[:3]]
    assert first[:3] == first[20:] and publish(drive, events[5:], BATCHED, url=drive.urls[1])["items"] == first[5:20]
    assert publish(drive, [], BATCHED) == {"items": []}
    assert len(runs_of(drive, name)) == 20


def test_events_are_listed_and_read_on_from_a_place(drive):
    this = kind()
    place = drive.ask("GET", f"/v1/events:tail?type={this}")
    assert place["items"] == []
    large = event(this, data="x" * 5000, subject="large")
    sent = [event(this, data=i) for i in range(120)]
    for start in range(0, 120, 40):
        publish(drive, sent[start:start + 40], BATCHED, url=drive.urls[start // 40 % 2])
    publish(drive, large)
    seen, after = [], place["after"]

    def read():
        nonlocal after
        page = drive.ask("GET", f"/v1/events:tail?type={this}&after={after}", url=drive.urls[len(seen) % 2])
        assert len(page["items"]) <= 100
        seen.extend(page["items"])
        after = page["after"]
        return len(seen) >= 121
    until("all events", read)
    assert sorted(item["event"]["id"] for item in seen if item["event"]) == sorted(one["id"] for one in sent)
    assert seen[-1]["event"] is None and seen[-1]["bytes"] > 5000
    assert drive.ask("GET", f"/v1/events/{seen[-1]['number']}")["event"] == large
    listed = drive.ask("GET", f"/v1/events?type={this}&page_size=100")
    more = drive.ask("GET", f"/v1/events?type={this}&page_size=100&page_token={listed['next_page_token']}")
    assert len(listed["items"]) == 100 and len(more["items"]) == 21 and more["next_page_token"] is None
    assert [item["bytes"] for item in drive.ask("GET", f"/v1/events?type={this}&subject=large")["items"]] == [seen[-1]["bytes"]]
    assert drive.call("GET", "/v1/events:tail?after=soon").status_code == 400


def test_an_event_that_is_on_its_way_is_not_passed_over_by_a_tail(drive):
    """One that began to be written first and is committed last comes behind the place that was told meanwhile."""
    import psycopg
    this = kind()
    place = drive.ask("GET", f"/v1/events:tail?type={this}")["after"]
    with psycopg.connect(drive.env["ROPEWALK_ADMIN_PG_URL"]) as slow:
        slow.execute("insert into ropewalk.incoming_event (organisation, source, id, type, event, starts) values (1, '/slow', %s, %s, %s, '[]')",
                     (uuid.uuid4().hex, this, json.dumps({"slow": True})))
        publish(drive, event(this))
        page = drive.ask("GET", f"/v1/events:tail?type={this}&after={place}")
        assert page["items"] == [], "it waits for the one before it"
        slow.commit()
    seen = []
    until("both", lambda: seen.extend(drive.ask("GET", f"/v1/events:tail?type={this}&after={page['after']}")["items"]) or len(seen) >= 2)
    assert [item["event"].get("slow", False) for item in seen] == [True, False]


def test_events_are_forgotten_after_seven_days(drive):
    this = kind()
    old, new = event(this), event(this)
    publish(drive, [old, new], BATCHED)
    drive.sql("update incoming_event set at = now() - interval '8 days' where id = %s", old["id"])
    until("it to be forgotten", lambda: [item["event"]["id"] for item in drive.ask("GET", f"/v1/events?type={this}")["items"]] == [new["id"]], 40)


def test_the_exchange_takes_events_and_batches(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this}}})
    events = [event(this, data=i) for i in range(250)]
    with broker(drive) as channel:
        for one in events[:200]:
            send(channel, one)
        send(channel, events[200:])
        send(channel, events[:100])
    until("all runs", lambda: drive.sql("select count(*) from run where workflow = %s", name)[0][0] == 250, 60)
    until("all messages to be acknowledged", lambda: unread(drive) == 0)
    assert drive.sql("select count(*), count(distinct id) from incoming_event where type = %s", this)[0] == (250, 250)


def test_fifty_copies_over_the_api_of_two_gateways_and_the_exchange_are_one_run(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this, "filter": "${ [.event.data.n] | add == 1 }"}}})
    sent = event(this, data={"n": 1})

    def over_the_exchange(_):
        with broker(drive) as channel:
            for _ in range(10):
                send(channel, sent)

    def over_http(i):
        return requests.post(drive.urls[i % 2] + "/v1/events", json=sent, headers={"Authorization": "Bearer " + drive.key}, timeout=60).text
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        messages = [pool.submit(over_the_exchange, i) for i in range(2)]
        answers = set(pool.map(over_http, range(30)))
        for message in messages:
            message.result()
    until("all messages to be acknowledged", lambda: unread(drive) == 0)
    assert len(answers) == 1 and [run["id"] for run in runs_of(drive, name)] == [json.loads(answers.pop())["starts"][0]["run_id"]]


def test_whose_an_event_is_says_its_exchange(drive):
    """While there is no such organisation its messages wait."""
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this}}})
    with broker(drive) as channel:
        send(channel, event(this), "ropewalk.events.elsewhere")
    made = drive.ask("POST", "/v1/organisations", {"name": "elsewhere"})
    theirs = {"Authorization": "Bearer " + made["api_key"]}
    until("it to be taken", lambda: drive.call("GET", f"/v1/events?type={this}", headers=theirs).json()["items"], 20)
    assert runs_of(drive, name) == [] and drive.ask("GET", f"/v1/events?type={this}")["items"] == []


def test_a_message_that_is_no_event_is_a_dead_letter(drive):
    mark = uuid.uuid4().hex
    bad = [b"{no json " + mark.encode(), json.dumps({"id": mark}).encode(), json.dumps([event("a"), {**event("a"), "source": mark + " x"}]).encode(),
           json.dumps([event("a", data=mark)] * 101).encode(), b'"' + mark.encode() + b"x" * (1 << 20) + b'"']
    with broker(drive) as channel:
        for body in bad:
            send(channel, body, message_id="m-" + mark)

    def letters():
        return [item for item in drive.ask("GET", "/v1/dead-letters?page_size=500")["items"] if item["properties"]["message_id"] == "m-" + mark]
    until("their letters", lambda: len(letters()) == len(bad), 20)
    until("all messages to be acknowledged", lambda: unread(drive) == 0)
    assert sorted(letter["reason"].partition(":")[0] for letter in letters()) == ["missing_field", "not_json", "out_of_range", "too_large", "too_large"]
    assert {(letter["kind"], letter["properties"]["type"], letter["source"]) for letter in letters()} == {("message", "event", "ropewalk.events")}
    drive.ask("POST", f"/v1/dead-letters/{letters()[0]['id']}:discard")


def test_a_dead_letter_is_taken_as_an_event_once_it_is_corrected(drive):
    this, mark = kind(), uuid.uuid4().hex
    name = saved(drive, {"t": {"event": {"type": this}}})
    right = [event(this), event(this)]
    with broker(drive) as channel:
        for wrong in (b"{no json", json.dumps([right[0], {**right[1], "source": ""}]).encode(), json.dumps([event(this, data=mark)] * 101).encode()):
            send(channel, wrong, message_id="m-" + mark)

    def letters(status):
        return {item["reason"].partition(":")[0]: item["id"] for item in drive.ask("GET", f"/v1/dead-letters?page_size=500&status={status}")["items"]
                if item["properties"]["message_id"] == "m-" + mark}
    found = until("their letters", lambda: len(found := letters("open")) == 3 and found, 20)

    def requeue(letter, body=None, url=None):
        answer = drive.call("POST", f"/v1/dead-letters/{letter}:requeue", body, url=url)
        return answer.status_code, answer.json()
    reasons = sorted(found)
    assert reasons == ["not_json", "out_of_range", "too_large"], reasons
    assert requeue(found["not_json"])[1]["errors"][0]["code"] == "not_json"
    status, problem = requeue(found["out_of_range"])
    assert (status, problem["code"], faults(problem)) == (422, "invalid_event", [("out_of_range", "/1/source")])
    assert requeue(found["too_large"])[0] == 413
    assert runs_of(drive, name) == [] and len(letters("open")) == 3              # what is refused is left as it was
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: requeue(found["out_of_range"], right, drive.urls[n % 2]), range(16)))
    assert {(status, letter["status"]) for status, letter in answers} == {(200, "requeued")}
    assert len(runs_of(drive, name)) == 2
    assert requeue(found["out_of_range"], right[0])[1]["code"] == "already_requeued"
    drive.sql("update dead_letter set status = 'open', decided_at = null, decided_by = null, corrected = null where id = %s", found["out_of_range"])
    assert requeue(found["out_of_range"], right)[0] == 200                       # its gateway had died before the note: the events are known
    assert len(runs_of(drive, name)) == 2
    stranger = {"Authorization": "Bearer " + drive.ask("POST", "/v1/organisations", {"name": "stranger-" + mark[:8]})["api_key"]}
    assert drive.call("POST", f"/v1/dead-letters/{found['not_json']}:requeue", right[0], headers=stranger).status_code == 404


def test_messages_wait_while_gateways_or_postgresql_are_away(drive):
    this = kind()
    name = saved(drive, {"t": {"event": {"type": this}}})
    drive.stack("stop", "gateway-1", "gateway-2")
    with broker(drive) as channel:
        for i in range(20):
            send(channel, event(this, data=i))
    assert unread(drive) == 20
    drive.stack("start", "gateway-1", "gateway-2")
    drive.read_env()
    until("all runs", lambda: drive.sql("select count(*) from run where workflow = %s", name)[0][0] == 20, 60)
    until("all messages to be acknowledged", lambda: unread(drive) == 0)
