"""Debounce, throttle and batch of triggers: exact over gateways and schedulers, and whoever is killed."""
import collections
import concurrent.futures
import contextlib
import itertools
import json
import signal
import threading
import time
import uuid

import pytest
import requests

from drive import private_stack, restored, until

EVENT = "application/cloudevents+json"


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=2, schedulers=2, workers=1) as one:
        yield one
        assert one.sql("select count(*) from held_item i where not exists (select from held_group g where g.id = i.held_group)") == [(0,)]


def saved(drive, trigger, kind="event", name=None, **more):
    """A workflow with one trigger; gives its name and what sets it off."""
    name = name or "paced-" + uuid.uuid4().hex[:8]
    what = {"event": {"type": name}} if kind == "event" else {"webhook": {}}
    drive.save({"name": name, "triggers": {"t": {**what, **trigger}}, "steps": {"a": {"call": "noop"}}, **more})
    return name


def arrive(drive, kind, name, data, url=None, key=None):
    """What it was answered: (a run or None, the state)."""
    url = url or drive.url
    if kind == "event":
        event = {"specversion": "1.0", "id": key or uuid.uuid4().hex, "source": "/pacing", "type": name, "data": data}
        answer = requests.post(url + "/v1/events", data=json.dumps(event), timeout=60,
                               headers={"Authorization": "Bearer " + drive.key, "Content-Type": EVENT})
        assert answer.status_code == 202, answer.text
        [start] = answer.json()["starts"]
        return start.get("run_id"), start.get("status", "pending" if "run_id" in start else start.get("code"))
    answer = requests.post(f"{url}/hooks/default/{name}/t", data=json.dumps(data), timeout=60,
                           headers={"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})})
    assert answer.status_code == 202, answer.text
    assert answer.json()["id"] == answer.json()["run_id"]
    return answer.json()["run_id"], answer.json()["status"]


def many(drive, kind, name, values, threads=16):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda i_v: arrive(drive, kind, name, i_v[1], drive.urls[i_v[0] % 2]), enumerate(values)))


def runs(drive, name):
    """(id, input, trigger) of its runs, oldest first."""
    return drive.sql("select id::text, input, trigger, created_at from run where workflow = %s order by id", name)


def waiting(drive, name):
    return drive.sql("select count(*)::int from held_item i join held_group g on g.id = i.held_group where g.workflow = %s", name)[0][0]


def settled(drive, name, count, seconds=30):
    """Its runs, when there are so many and nothing waits."""
    until(f"{count} runs of {name}", lambda: len(runs(drive, name)) >= count and waiting(drive, name) == 0, seconds)
    return runs(drive, name)


KINDS = ["event", "webhook"]


@pytest.mark.parametrize("kind", KINDS)
def test_100_arrivals_over_two_gateways_are_one_run_with_the_last_payload(drive, kind):
    name = saved(drive, {"debounce": {"period": "3s"}}, kind)
    answers = many(drive, kind, name, [{"n": i} for i in range(99)])
    answers.append(arrive(drive, kind, name, {"n": "last"}, drive.urls[1]))
    assert collections.Counter(answers) == {(None, "debounced"): 100}
    assert waiting(drive, name) == 1 and runs(drive, name) == []
    [(_, given, trigger, _)] = settled(drive, name, 1)
    assert given == {"n": "last"}
    assert (trigger["event"]["data"] if kind == "event" else trigger["body"]) == {"n": "last"}
    assert drive.sql("select count(*) from held_group where workflow = %s", name) == [(0,)]
    if kind == "webhook":
        lines = drive.sql("select stage, reason, run_id is not null, count(*)::int from delivery where workflow = %s group by 1, 2, 3", name)
        assert sorted(lines) == [("hold", "debounced", False, 99), ("hold", "debounced", True, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_100_arrivals_over_two_gateways_are_10_runs_of_10_each_once(drive, kind):
    name = saved(drive, {"batch": {"max_size": 10, "timeout": "60s"}}, kind)
    answers = many(drive, kind, name, list(range(100)))
    assert collections.Counter(state for _, state in answers) == {"batched": 90, "pending": 10}
    all_runs = runs(drive, name)
    assert {run for run, _ in answers if run} == {run[0] for run in all_runs} and len(all_runs) == 10
    assert [len(given) for _, given, _, _ in all_runs] == [10] * 10
    assert sorted(n for _, given, _, _ in all_runs for n in given) == list(range(100))
    for run, given, trigger, _ in all_runs:
        assert [one["event"]["data"] if kind == "event" else one["body"] for one in trigger["batch"]] == given
        assert drive.ended(run)["status"] == "succeeded"
    if kind == "webhook":
        lines = drive.sql("select run_id::text, count(*)::int from delivery where workflow = %s group by 1", name)
        assert sorted(lines) == sorted((run[0], 10) for run in all_runs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_does_not_fill_starts_when_its_time_is_over(drive, kind):
    name = saved(drive, {"batch": {"max_size": 10, "timeout": "2s"}}, kind)
    for i in range(3):
        assert arrive(drive, kind, name, i) == (None, "batched")
    [(run, given, trigger, created)] = settled(drive, name, 1)
    assert given == [0, 1, 2] and trigger["name"] == "t" and trigger["kind"] == kind
    [(first,)] = drive.sql("select %s::timestamptz", trigger["received_at"])
    assert 1.5 < (created - first).total_seconds(), "before its time"
    assert drive.run(run)["trigger"] == {"name": "t", "kind": kind}


@pytest.mark.parametrize("kind", KINDS)
def test_a_throttle_that_drops_starts_exactly_as_many_as_it_says(drive, kind):
    name = saved(drive, {"throttle": {"limit": 7, "per": "1h", "on_limit": "drop"}}, kind)
    answers = many(drive, kind, name, list(range(60)))
    assert collections.Counter(state for _, state in answers) == {"pending": 7, "dropped": 53}
    assert sorted(run for run, _ in answers if run) == [run[0] for run in runs(drive, name)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_throttle_that_queues_starts_all_in_order_and_never_more_in_its_time(drive, kind):
    name = saved(drive, {"throttle": {"limit": 4, "per": "2s"}}, kind)
    answers = [arrive(drive, kind, name, i, drive.urls[i % 2]) for i in range(14)]
    assert [state for _, state in answers][:4] == ["pending"] * 4 and answers[-1] == (None, "queued")
    all_runs = settled(drive, name, 14)
    # the first ones have the time that their gateway believed it was
    assert sorted(given for _, given, _, _ in all_runs[:4]) == list(range(4)) and [given for _, given, _, _ in all_runs[4:]] == list(range(4, 14))
    times = [created.timestamp() for _, _, _, created in all_runs]
    assert all(later - earlier > 1.9 for earlier, later in zip(times[4:], times[8:]))
    until("the group to go", lambda: drive.sql("select count(*) from held_group where workflow = %s", name) == [(0,)])


def test_keys_do_not_disturb_each_other(drive):
    name = saved(drive, {"batch": {"max_size": 5, "timeout": "60s", "key": "${ .trigger.body.shop }"}}, "webhook")
    many(drive, "webhook", name, [{"shop": ["a", "b", "c"][i % 3], "n": i} for i in range(30)])
    assert sorted([one["shop"] for one in given] for _, given, _, _ in runs(drive, name)) == [["a"] * 5] * 2 + [["b"] * 5] * 2 + [["c"] * 5] * 2
    other = saved(drive, {"throttle": {"limit": 1, "per": "1h", "on_limit": "drop", "key": "${ .event.data.shop }"}})
    states = [arrive(drive, "event", other, {"shop": shop})[1] for shop in "aabbaé"]
    assert states == ["pending", "dropped", "pending", "dropped", "dropped", "pending"]


def test_keys_of_any_value_and_length_are_told_apart(drive):
    name = saved(drive, {"throttle": {"limit": 1, "per": "1h", "on_limit": "drop", "key": "${ .trigger.body }"}}, "webhook")
    values = [None, "", "null", 1, "1", [1], {"a": 1, "b": 2}, "x" * 400, "x" * 401, "é"]
    assert [arrive(drive, "webhook", name, value)[1] for value in values] == ["pending"] * len(values)
    assert [arrive(drive, "webhook", name, value)[1] for value in values] == ["dropped"] * len(values)
    answer = requests.post(f"{drive.url}/hooks/default/{name}/t", data=b'{"b": 2,"a": 1}', headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.json()["status"] == "dropped", "the same object, its members in another order"


def test_a_debounce_is_put_off_no_longer_than_its_timeout(drive):
    name = saved(drive, {"debounce": {"period": "2s", "timeout": "3s"}}, "webhook")
    stop = threading.Event()

    def go_on():
        i = 0
        while not stop.is_set():
            arrive(drive, "webhook", name, i, drive.urls[i % 2])
            i += 1
            stop.wait(0.1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(go_on)
        try:
            until("a run while arrivals go on", lambda: runs(drive, name), 20)
        finally:
            stop.set()
        done.result(60)


def test_what_cannot_have_its_key_is_told(drive):
    key = "${ .trigger.body.n + 1 }"
    name = saved(drive, {"debounce": {"period": "1s", "key": key}}, "webhook")
    answer = requests.post(f"{drive.url}/hooks/default/{name}/t", data=b'{"n": []}', headers={"Content-Type": "application/json"}, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (422, "expression_failed") and "debounce" in answer.json()["detail"]
    other = saved(drive, {"debounce": {"period": "1s", "key": "${ .event.data.n + 1 }"}})
    assert arrive(drive, "event", other, {"n": []}) == (None, "expression_failed")
    assert waiting(drive, name) == waiting(drive, other) == 0


def test_of_a_batch_each_input_keeps_the_schema_of_the_list(drive):
    name = saved(drive, {"batch": {"max_size": 2, "timeout": "60s"}, "input": "${ .trigger.body.n }"}, "webhook",
                 input_schema={"type": "array", "items": {"type": "integer"}})
    bad = requests.post(f"{drive.url}/hooks/default/{name}/t", data=b'{"n": "x"}', headers={"Content-Type": "application/json"}, timeout=30)
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_input")
    assert [arrive(drive, "webhook", name, {"n": n})[1] for n in (1, 2)] == ["batched", "pending"]
    assert [given for _, given, _, _ in runs(drive, name)] == [[1, 2]]


def test_a_copy_an_equal_key_and_a_replay_arrive_once(drive):
    name = saved(drive, {"batch": {"max_size": 3, "timeout": "60s"}}, "event")
    assert {arrive(drive, "event", name, 1, url, name) for url in drive.urls * 5} == {(None, "batched")}
    assert waiting(drive, name) == 1
    hook = saved(drive, {"batch": {"max_size": 3, "timeout": "60s"}}, "webhook")
    assert {arrive(drive, "webhook", hook, 1, url, "a key") for url in drive.urls * 5} == {(None, "batched")}
    assert waiting(drive, hook) == 1
    for n in (2, 3):
        last = arrive(drive, "webhook", hook, n, key=f"key {n}")
    assert last[1] == "pending" and arrive(drive, "webhook", hook, 3, drive.urls[1], "key 3") == last
    assert arrive(drive, "webhook", hook, 1, key="a key") == (None, "batched"), "what was answered is answered"
    start = drive.call("POST", f"/v1/workflows/{hook}/runs", {"input": 1}, headers={"Idempotency-Key": "a key"})
    assert (start.status_code, start.json()["code"]) == (422, "idempotency_key_reused")


def test_what_is_full_is_refused_and_leaves_nothing(drive):
    name = saved(drive, {"throttle": {"limit": 1, "per": "1h", "max_waiting": 2}}, "webhook")
    assert [arrive(drive, "webhook", name, i)[1] for i in range(3)] == ["pending", "queued", "queued"]
    for _ in range(2):                  # not known by its key the second time
        full = requests.post(f"{drive.url}/hooks/default/{name}/t", data=b"3", timeout=30,
                             headers={"Content-Type": "application/json", "Idempotency-Key": "full"})
        assert (full.status_code, full.json()["code"]) == (429, "queue_full") and int(full.headers["Retry-After"]) > 0
    other = saved(drive, {"throttle": {"limit": 1, "per": "1h", "max_waiting": 1}})
    assert [arrive(drive, "event", other, i)[1] for i in range(2)] == ["pending", "queued"]
    event = {"specversion": "1.0", "id": "full-" + other, "source": "/pacing", "type": other, "data": 3}
    for _ in range(2):
        full = drive.call("POST", "/v1/events", event, headers={"Content-Type": EVENT})
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert drive.sql("select count(*) from incoming_event where id = %s", event["id"]) == [(0,)]
    assert (waiting(drive, name), waiting(drive, other)) == (2, 1)


def test_an_organisation_may_have_so_many_wait(drive):
    organisation = "paced-" + uuid.uuid4().hex[:8]
    key = drive.ask("POST", "/v1/organisations", {"name": organisation})["api_key"]

    def ask(method, path, value):
        return drive.call(method, path, value, headers={"Authorization": "Bearer " + key})
    assert ask("PATCH", "/v1/organisations/" + organisation, {"limits": {"held_arrivals": 3}}).ok
    trigger = {"event": {"type": "a"}, "batch": {"max_size": 10, "timeout": "60s", "key": "${ .event.data }"}}
    assert ask("PUT", "/v1/workflows/w", {"name": "w", "triggers": {"t": trigger}, "steps": {"a": {"call": "noop"}}}).ok

    def send(n):
        return drive.call("POST", "/v1/events", {"specversion": "1.0", "id": str(n), "source": "/", "type": "a", "data": n},
                          headers={"Authorization": "Bearer " + key, "Content-Type": EVENT})
    assert [send(n).status_code for n in range(4)] == [202, 202, 202, 429]
    assert send(3).json()["code"] == "queue_full"


def test_what_waits_goes_on_waiting_while_the_workflow_is_disabled_and_goes_with_it(drive):
    name = saved(drive, {"batch": {"max_size": 10, "timeout": "1s"}}, "event")
    arrive(drive, "event", name, 1)
    drive.ask("POST", f"/v1/workflows/{name}:disable")
    before = drive.sql("select due_at from held_group where workflow = %s", name)
    until("it to be looked at", lambda: drive.sql("select due_at from held_group where workflow = %s", name) != before)
    assert waiting(drive, name) == 1 and runs(drive, name) == []
    drive.ask("POST", f"/v1/workflows/{name}:enable")
    assert [given for _, given, _, _ in settled(drive, name, 1)] == [[1]]
    gone = saved(drive, {"batch": {"max_size": 10, "timeout": "1h"}}, "event")
    arrive(drive, "event", gone, 1)
    assert drive.call("DELETE", f"/v1/workflows/{gone}").ok
    assert waiting(drive, gone) == 0 and drive.sql("select count(*) from held_group where workflow = %s", gone) == [(0,)]


def test_the_run_is_of_the_version_that_is_newest_when_it_starts(drive):
    name = saved(drive, {"debounce": {"period": "2s"}}, "event")
    arrive(drive, "event", name, 1)
    drive.save({"name": name, "priority": "high", "triggers": {"t": {"event": {"type": name}, "start_at_step": "b"}},
                "steps": {"a": {"call": "noop"}, "b": {"call": "noop", "needs": ["a"]}}})
    [(run, _, _, _)] = settled(drive, name, 1)
    ended = drive.ended(run)
    assert (ended["version"], ended["steps"]["a"]["status"], ended["steps"]["b"]["status"]) == (2, "skipped", "succeeded")
    assert drive.sql("select priority::int from run where id = %s", run) == [(1,)]


def test_two_ways_of_pacing_one_after_the_other_lose_nothing(drive):
    name = saved(drive, {"throttle": {"limit": 1, "per": "2s"}}, "event")
    for n in (1, 2):
        arrive(drive, "event", name, n)
    saved(drive, {"debounce": {"period": "1s"}}, "event", name)
    arrive(drive, "event", name, 3)
    assert sorted(given for _, given, _, _ in settled(drive, name, 3)) == [1, 2, 3]


def test_a_throttle_that_drops_can_answer_with_what_its_run_gives(drive):
    name = "answering-" + uuid.uuid4().hex[:8]
    drive.save({"name": name, "triggers": {"t": {"webhook": {"respond": {"wait": "20s"}}, "throttle": {"limit": 1, "per": "1h", "on_limit": "drop"}}},
                "steps": {"a": {"call": "noop"}}, "output": "${ .input }"})
    first, second = [requests.post(f"{drive.url}/hooks/default/{name}/t", data=b"7", headers={"Content-Type": "application/json"}, timeout=60)
                     for _ in range(2)]
    assert (first.status_code, first.json()) == (200, 7)
    assert (second.status_code, second.json()) == (202, {"run_id": None, "id": None, "status": "dropped"})


def test_a_held_delivery_is_not_sent_again_and_is_told_so(drive):
    name = saved(drive, {"batch": {"max_size": 2, "timeout": "60s"}}, "webhook")
    arrive(drive, "webhook", name, 1)
    [line] = drive.ask("GET", f"/v1/deliveries?workflow={name}")["items"]
    assert (line["stage"], line["reason"], line["status"], line["run_id"]) == ("hold", "batched", 202, None)
    again = drive.call("POST", f"/v1/deliveries/{line['id']}:redeliver", {})
    assert (again.status_code, again.json()["code"]) == (409, "held")
    run, _ = arrive(drive, "webhook", name, 2)
    assert [line["run_id"] for line in drive.ask("GET", f"/v1/deliveries?workflow={name}")["items"]] == [run, run]


def careful(drive, kind, name, value, seconds=60):
    """As a careful sender: the same again, on any gateway, until it is answered."""
    deadline, turn, key = time.monotonic() + seconds, value, f"{name}-{value}"
    while True:
        with contextlib.suppress(requests.RequestException):
            url = drive.urls[turn % 2]
            if kind == "event":
                event = {"specversion": "1.0", "id": key, "source": "/pacing", "type": name, "data": value}
                answer = requests.post(url + "/v1/events", data=json.dumps(event), timeout=10,
                                       headers={"Authorization": "Bearer " + drive.key, "Content-Type": EVENT})
            else:
                answer = requests.post(f"{url}/hooks/default/{name}/t", data=json.dumps(value), timeout=10,
                                       headers={"Content-Type": "application/json", "Idempotency-Key": key})
            if answer.status_code == 202:
                return
            assert answer.status_code in (429, 503) or answer.json()["code"] == "idempotency_in_progress", answer.text
        assert time.monotonic() < deadline, f"no answer within {seconds} s"
        turn += 1
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_is_twice_while_gateways_and_schedulers_are_killed(drive, kind):
    batch = saved(drive, {"batch": {"max_size": 7, "timeout": "1s"}}, kind)
    throttle = saved(drive, {"throttle": {"limit": 20, "per": "1s", "max_waiting": 100000}}, kind)
    debounce = saved(drive, {"debounce": {"period": "500ms", "key": "${ .trigger." + ("event.data" if kind == "event" else "body") + " % 10 }"}}, kind)
    names, numbers, killed = (batch, throttle, debounce), itertools.count(), []

    def go_on():
        while len(killed) < 5:
            n = next(numbers)
            careful(drive, kind, names[n % 3], n)
            sent.append(n)
            time.sleep(0.1)
    sent = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        senders = [pool.submit(go_on) for _ in range(8)]
        while len(killed) < 5 and not any(sender.done() for sender in senders):
            victim = ["gateway-1", "scheduler-1", "gateway-2", "scheduler-2"][len(killed) % 4]
            before = len(sent)
            until("arrivals to go on", lambda b=before: len(sent) > b + 20 or any(sender.done() for sender in senders), 60)
            drive.signal(victim, signal.SIGKILL)
            drive.stack("start", victim)
            killed.append(victim)
        for sender in senders:
            sender.result(120)
    restored(drive, 2)
    for name in names:
        until(f"nothing of {name} to wait", lambda n=name: waiting(drive, n) == 0, 60)
    assert sorted(sent) == list(range(len(sent)))
    batches = [given for _, given, _, _ in runs(drive, batch)]
    assert sorted(n for given in batches for n in given) == list(range(0, len(sent), 3)) and max(map(len, batches)) <= 7
    assert sorted(n for _, n, _, _ in runs(drive, throttle)) == list(range(1, len(sent), 3))
    debounced = [n for _, n, _, _ in runs(drive, debounce)]
    assert len(debounced) == len(set(debounced)) and {n % 10 for n in debounced} == set(range(10))
