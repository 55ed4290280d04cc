"""Faults of messages: copied, shuffled, held back, old ones sent again, forged, and plain garbage. A consumer of our own,
of the highest priority, takes messages of the queues for a moment and puts them back changed."""
import contextlib
import json
import random
import threading
import time

import pika

from faults import Fault, fault

PRIORITIES = ("critical", "high", "normal", "low")
TASK_QUEUES = [f"ropewalk.task.default.{priority}" for priority in PRIORITIES]
INBOXES = [f"ropewalk.inbox.{shard}" for shard in range(16)]
GRIP_S = 0.15           # how long messages are taken for, each time
GIVEN_UP = (pika.exceptions.AMQPError, OSError)


class Stash:
    """Messages that were seen, for faults that send old ones again."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kept = []          # (when, queue, properties, body)

    def keep(self, queue, properties, body):
        with self.lock:
            if len(self.kept) < 20000:
                self.kept.append((time.monotonic(), queue, properties, body))

    def older_than(self, seconds):
        limit = time.monotonic() - seconds
        with self.lock:
            return [entry for entry in self.kept if entry[0] < limit]


STASH = Stash()


class Messages(Fault):
    """A connection of our own to the broker, made again when it is lost, and something done over it now and again."""
    pause_s = 0.5

    def choose(self):
        self.target = "messages"
        self.random = random.Random(self.chance.random())
        self.detail = {}

    def begin(self, c):
        self.url, self.connection = c.amqp_url(), None
        self.again_and_again(self._one, self.pause_s)

    def _one(self):
        try:
            if self.connection is None:
                self.connection = pika.BlockingConnection(pika.URLParameters(self.url + "?heartbeat=30&blocked_connection_timeout=5"))
            self.work(self.connection)
        except GIVEN_UP:                            # another fault has the broker: try again
            with contextlib.suppress(*GIVEN_UP):
                self.connection and self.connection.close()
            self.connection = None

    def work(self, connection):
        raise NotImplementedError

    def end(self, c):
        self.end_thread()
        with contextlib.suppress(*GIVEN_UP):
            self.connection and self.connection.close()

    def count(self, what, by=1):
        self.detail[what] = self.detail.get(what, 0) + by


def repetition(body):
    """A task as the scheduler itself sends it again. A broker marks what it delivers twice; a copy that says it is the first
    can only be forged."""
    return body.replace(b'"publication":1,', b'"publication":2,')


def existing(connection, queues):
    """Those that are there now."""
    found = []
    for queue in queues:
        with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
            channel = connection.channel()
            channel.queue_declare(queue, passive=True)
            channel.close()
            found.append(queue)
    return found


@fault("watch-messages", "B9", (2, 5), 0.3)
class WatchMessages(Messages):
    """Takes messages and puts them back as they are: only their order and "redelivered" tell. What was seen is kept."""
    queues = None

    def work(self, connection):
        if self.queues is None or not connection.is_open:
            self.queues = existing(connection, TASK_QUEUES + INBOXES)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=100)
        taken = []
        for queue in self.queues:
            channel.basic_consume(queue, lambda _, method, props, body, q=queue: taken.append((q, method.delivery_tag, props, body)),
                                  arguments={"x-priority": 2000000000})
        connection.process_data_events(GRIP_S)
        for tag in list(channel.consumer_tags):
            channel.basic_cancel(tag)
        for queue, _, properties, body in taken:
            STASH.keep(queue, properties, body)
        self.count("taken", len(taken))
        self.give_back(channel, taken)

    def give_back(self, channel, taken):
        channel.close()                             # what was not acknowledged goes back

    def _one(self):
        if self.connection is None:
            self.queues = None
        super()._one()


@fault("copy-messages", "B8", (4, 10))
class CopyMessages(WatchMessages):
    """Each message up to three times, in another order; one in ten comes up to 6 s late."""
    pause_s = 0.1

    def choose(self):
        super().choose()
        self.late = []                              # (when, channel, message): their channel stays open until then

    def give_back(self, channel, taken):
        channel.confirm_delivery()
        self.random.shuffle(taken)
        later = [message for message in taken if self.random.random() < 0.1]
        for message in taken:
            if message not in later:
                self.copies(channel, message)
        if later:
            self.late.append((time.monotonic() + self.random.uniform(1, 6), channel, later))
        else:
            channel.close()
        for entry in [entry for entry in self.late if entry[0] < time.monotonic()]:
            self.late.remove(entry)
            for message in entry[2]:
                self.copies(entry[1], message)
                self.count("late")
            entry[1].close()

    def copies(self, channel, message):
        queue, tag, properties, body = message
        times = self.random.choice((1, 2, 3))
        for number in range(times):
            channel.basic_publish("", queue, repetition(body) if number and queue in TASK_QUEUES else body, properties, mandatory=True)
        channel.basic_ack(tag)
        self.count("copies", times - 1)


@fault("old-messages", "B9", (2, 5))
class OldMessages(Messages):
    """Messages that were seen some time ago come once more: of steps and runs that have ended since."""

    def work(self, connection):
        old = STASH.older_than(5)
        channel = connection.channel()
        for _, queue, properties, body in self.random.sample(old, min(len(old), 20)):
            channel.basic_publish("", queue, repetition(body) if queue in TASK_QUEUES else body, properties)
            self.count("sent")
        channel.close()


@fault("forged-messages", "B9", (2, 5))
class ForgedMessages(Messages):
    """Results of real tasks with another outcome or task, which their token does not fit."""

    def work(self, connection):
        results = [entry for entry in STASH.older_than(0) if entry[1] in INBOXES]
        channel = connection.channel()
        for _, queue, properties, body in self.random.sample(results, min(len(results), 10)):
            try:
                value = json.loads(body)
                items = value.get("results", [value])
                other = json.loads(self.random.choice(results)[3])
                theirs = self.random.choice(other.get("results", [other]))
                for item in items:
                    item["task_id"] = self.random.choice((theirs["task_id"], item["task_id"] + "0"))
                    if item["task_id"] == theirs["task_id"] and item["token"] == theirs["token"]:
                        item["token"] = "0" * len(item["token"])
            except (KeyError, ValueError, AttributeError):
                continue
            channel.basic_publish("", queue, json.dumps(value).encode(), properties)
            self.count("sent")
        channel.close()


GARBAGE = {
    "no-json": b"\x00\xff\x17garbage", "empty": b"", "half": b'{"v": 1, "task_id": "', "other-version": b'{"v": 99, "task_id": "x", "token": "y"}',
    "wrong-types": b'{"v": 1, "task_id": 5, "token": [], "worker": {}, "status": 1}', "list": b"[1, 2, 3]",
    "deep": b'{"v": 1, "a": ' * 5000 + b"1" + b"}" * 5000, "large": b'{"v": 1, "task_id": "' + b"x" * (10 << 20) + b'"}',
}


@fault("garbage-messages", "B7", (1, 3))
class GarbageMessages(Messages):
    """What cannot be decoded, in inboxes and task queues."""

    def work(self, connection):
        channel = connection.channel()
        kind = self.random.choice(sorted(GARBAGE))
        queue = self.random.choice(INBOXES + TASK_QUEUES)
        message_type = self.random.choice((None, "result", "started", "nudge", "watch", "nonsense"))
        channel.basic_publish("", queue, GARBAGE[kind], pika.BasicProperties(type=message_type, delivery_mode=2))
        self.count(kind)
        channel.close()
