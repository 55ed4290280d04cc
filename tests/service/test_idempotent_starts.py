"""One Idempotency-Key is one run and one answer: over three gateways at once, without Redis, and when a gateway dies."""
import concurrent.futures
import itertools
import threading
import time
import uuid

import pytest
import requests

from drive import private_stack, until
from target import Target

CLIENTS = 200
SLOW = """
create or replace function ropewalk.slow_start() returns trigger language plpgsql as $$
begin
    perform pg_sleep((new.labels ->> 'slow')::float);
    return new;
end $$;
create or replace trigger slow_start before insert on ropewalk.run for each row
    when (new.labels ->> 'slow' is not null) execute function ropewalk.slow_start()
"""


@pytest.fixture(scope="module")
def drive():
    with private_stack(gateways=3) as one, Target() as target:
        one.target = target
        one.save({"name": "once", "steps": {"effect": {"call": "http", "with": {"method": "POST", "url": target.url + "/effect"}}}})
        one.save({"name": "nothing", "steps": {"a": {"call": "noop"}}})
        yield one


@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        yield threads


def post(drive, url, key, body, workflow="once"):
    return requests.post(f"{url}/v1/workflows/{workflow}/runs", data=body, timeout=30,
                         headers={"Authorization": "Bearer " + drive.key, "Idempotency-Key": key, "Content-Type": "application/json"})


def at_once(pool, count, call):
    """call(0) ... call(count - 1), begun together."""
    gate = threading.Barrier(count)

    def one(i):
        gate.wait(30)
        return call(i)

    return list(pool.map(one, range(count)))


def is_one(drive, key, answers):
    """One run, one answer, one effect."""
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == len({answer.headers["location"] for answer in answers}) == 1
    run = answers[0].json()["run_id"]
    assert [str(row[0]) for row in drive.sql("select run_id from idempotency where key = %s", key)] == [run]
    assert [str(row[0]) for row in drive.sql("select run_id from run_label where key = 'key' and value = %s", key)] == [run]
    assert drive.ended(run)["status"] == "succeeded"
    assert drive.sql("select count(*) from event where run_id = %s and type = 1", run) == [(1,)]
    assert len([r for r in drive.target.requests("/effect") if r["headers"]["Ropewalk-Run"] == run]) == 1
    return run


def bodies(key):
    """The same request in two spellings."""
    return f'{{"input":{{"a":1,"b":[2]}},"labels":{{"key":"{key}"}}}}', f'{{ "labels": {{"key": "{key}"}}, "input": {{"b": [2], "a": 1}} }}'


def test_200_at_once_over_three_gateways_are_one_run_and_one_answer(drive, pool):
    key = uuid.uuid4().hex
    answers = at_once(pool, CLIENTS, lambda i: post(drive, drive.urls[i % 3], key, bodies(key)[i % 2]))
    run = is_one(drive, key, answers)
    again = [post(drive, url, key, bodies(key)[0]) for url in drive.urls]     # the run has ended meanwhile: the answer stays
    assert {a.content for a in again} == {answers[0].content} and again[0].json()["run_id"] == run


def test_without_redis_it_is_the_same(drive, pool):
    drive.stack("stop", "redis-1")
    try:
        key = uuid.uuid4().hex
        is_one(drive, key, at_once(pool, CLIENTS, lambda i: post(drive, drive.urls[i % 3], key, bodies(key)[i % 2])))
    finally:
        drive.stack("start", "redis-1")


@pytest.mark.parametrize("moment", ["under way", "answered"])
def test_a_gateway_that_dies_in_the_middle_and_clients_that_repeat(drive, pool, moment):
    """While a transaction is under way and nobody has an answer, or after the first answer. Clients ask again, elsewhere."""
    drive.sql(SLOW)
    key, answered, cut = uuid.uuid4().hex, threading.Event(), []
    spelled = [body.replace('"key"', '"slow": "0.7", "key"') if moment == "under way" else body for body in bodies(key)]

    def client(i):
        deadline = time.monotonic() + 60
        for turn in itertools.count():
            assert time.monotonic() < deadline, "no answer within 60 s"
            try:
                answer = post(drive, drive.urls[(i + turn) % 3], key, spelled[i % 2])
            except requests.RequestException:
                cut.append(i)
                continue
            answered.set()
            if answer.status_code == 202:
                return answer
            assert answer.status_code == 503 or answer.json()["code"] == "idempotency_in_progress", answer.text

    def killer():
        if moment == "under way":
            in_flight(drive)
        else:
            assert answered.wait(30)
        drive.signal("gateway-1")

    ending = threading.Thread(target=killer)
    ending.start()
    try:
        answers = at_once(pool, CLIENTS, client)
    finally:
        ending.join()
        drive.stack("start", "gateway-1")
    assert cut or moment == "answered", "nobody noticed that the gateway died"
    is_one(drive, key, answers)


def test_of_two_bodies_under_one_key_one_wins_everywhere(drive, pool):
    key = uuid.uuid4().hex
    inputs = ['{"input":{"n":1}}', '{"input":{"n":2}}']
    answers = at_once(pool, CLIENTS, lambda i: post(drive, drive.urls[i % 3], key, inputs[i // 3 % 2], "nothing"))
    by_body = [{answers[i].status_code for i in range(CLIENTS) if i // 3 % 2 == n} for n in (0, 1)]
    assert sorted(map(sorted, by_body)) == [[202], [422]]
    winner = by_body.index({202})
    taken = [a for a in answers if a.status_code == 202]
    assert len({a.content for a in taken}) == 1
    assert {a.json()["code"] for a in answers if a.status_code == 422} == {"idempotency_key_reused"}
    assert drive.ended(taken[0].json()["run_id"])["input"] == {"n": winner + 1}
    for url in drive.urls:
        assert post(drive, url, key, inputs[1 - winner], "nothing").status_code == 422
        assert post(drive, url, key, inputs[winner], "nothing").content == taken[0].content


def test_a_second_one_waits_for_the_first_that_is_in_flight(drive, pool):
    drive.sql(SLOW)
    key, body = uuid.uuid4().hex, '{"labels":{"slow":"1.5"}}'
    first = pool.submit(post, drive, drive.urls[0], key, body, "nothing")
    in_flight(drive)
    others = [pool.submit(post, drive, url, key, body, "nothing") for url in drive.urls[1:]]
    assert first.result().status_code == 202
    assert {other.result().content for other in others} == {first.result().content}


def test_after_5_s_it_is_told_that_the_first_is_still_in_flight(drive, pool):
    drive.sql(SLOW)
    key, body = uuid.uuid4().hex, '{"labels":{"slow":"8"}}'
    first = pool.submit(post, drive, drive.urls[0], key, body, "nothing")
    in_flight(drive)
    began = time.monotonic()
    other = post(drive, drive.urls[1], key, body, "nothing")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_in_progress")
    assert time.monotonic() - began > 4.5 and not first.done()
    different = post(drive, drive.urls[2], key, '{"input":{"x":1}}', "nothing")     # nobody knows yet what the first one says
    assert different.status_code in (409, 422)
    assert first.result().status_code == 202
    assert post(drive, drive.urls[1], key, body, "nothing").content == first.result().content


def test_a_gateway_that_dies_while_its_transaction_is_under_way_holds_the_key_up_no_longer_than_that(drive, pool):
    drive.sql(SLOW)
    key, body = uuid.uuid4().hex, '{"labels":{"slow":"2"}}'
    first = pool.submit(post, drive, drive.urls[0], key, body, "nothing")
    in_flight(drive)
    drive.signal("gateway-1")
    try:
        with pytest.raises(requests.RequestException):
            first.result()
        runs = {post(drive, url, key, body, "nothing").json()["run_id"] for url in drive.urls[1:]}
    finally:
        drive.stack("start", "gateway-1")
    assert len(runs) == 1 and post(drive, drive.urls[0], key, body, "nothing").json()["run_id"] in runs
    assert drive.sql("select count(*) from run where id = %s", *runs) == [(1,)]
    assert drive.ended(*runs)["status"] == "succeeded"


def in_flight(drive):
    """Until a start sleeps inside its transaction."""
    until("the first start to be in flight", lambda: drive.sql("select 1 from pg_stat_activity where wait_event = 'PgSleep'"))
