"""Shards that go over to a scheduler that joins: who gave one up listens to it no more, and nothing that arrives meanwhile stays
with it."""
import threading

import drive
import target
from drive import until

ITEMS = 30
LARGE = {"name": "large", "steps": {
    "each": {"call": "foreach", "with": {
        "items": "${ .input.list }", "concurrency": ITEMS, "output": "${ .index }",
        "steps": {"get": {"call": "http", "with": {"url": "${ .input.url }"}, "timeout": "120s"}}}}}}


def shares(stack):
    return sorted(count for _, count in stack.sql("SELECT incarnation, count(*) FROM shard WHERE incarnation IN (SELECT incarnation "
                                                  "FROM scheduler WHERE lease_until > now()) GROUP BY 1"))


def inboxes(stack):
    """How many consumers each inbox has."""
    text = stack.stack("rabbitmqctl", "-q", "list_queues", "name", "consumers")
    pairs = [line.split() for line in text.splitlines() if line.startswith("ropewalk.inbox.")]
    return {name: int(count) for name, count in pairs}


def shard_of(run_id):
    return int(run_id[-3:], 16) % 16


def start_in_a_shard_that_will_go(stack, url):
    """The first of the shards keep their owner."""
    while True:
        run_id = stack.start("large", {"list": list(range(ITEMS)), "url": url})
        if shard_of(run_id) >= 8:
            return run_id
        stack.ask("POST", f"/v1/runs/{run_id}:cancel")


def test_large_results_that_arrive_while_a_scheduler_joins_are_applied_and_each_inbox_has_one_consumer():
    answer = threading.Event()
    with drive.private_stack(schedulers=2, workers=2) as stack, target.Target() as world:
        stack.save(LARGE)
        stack.stack("stop", "scheduler-2")
        until("one owner", lambda: shares(stack) == [16], 20)
        url = world.on("/large", {"until": answer, "body": {"text": "x" * 1_000_000}})
        run_id = start_in_a_shard_that_will_go(stack, url)
        until("all requests", lambda: len(world.requests("/large")) >= ITEMS, 30)
        stack.stack("start", "scheduler-2")
        answer.set()                                # 30 MB arrive while shards go over
        until("two owners", lambda: shares(stack) == [8, 8], 30)
        run = stack.ended(run_id, 120)
        assert run["status"] == "succeeded", run
        until("one consumer for each inbox", lambda: len(inboxes(stack)) == 32 and set(inboxes(stack).values()) == {1}, 20)

        # and what arrives behind it, in a shard that went
        again = start_in_a_shard_that_will_go(stack, url)
        assert stack.ended(again, 120)["status"] == "succeeded"
