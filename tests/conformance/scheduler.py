"""The scheduler's side of the messages: publishes tasks, reads what workers say, holds each message against proto/."""
import datetime
import json
import pathlib
import time
import uuid
from decimal import Decimal

import jsonschema
import pika

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
PRIORITIES = ("critical", "high", "normal", "low")
HEARTBEATS = "ropewalk.heartbeat"
SMALL = 64 << 10
INBOX_EXPIRES_MS = 3600 * 1000


class Broken(AssertionError):
    """The worker does not do what the messages ask for."""


def need(condition, message):
    if not condition:
        raise Broken(message)


def load(text):
    return json.loads(text, parse_float=Decimal)


def schema(name):
    return jsonschema.Draft202012Validator(json.loads((PROTO / f"{name}.v1.json").read_text()))


def seconds_of(text):
    when = datetime.datetime.fromisoformat(text)
    need(when.tzinfo is not None, f"the time '{text}' has no zone")
    return when.timestamp()


class Scheduler:
    def __init__(self, url, pool):
        self.pool = pool
        self.schemas = {name: schema(name) for name in ("result", "started", "heartbeat", "task", "grant", "cancel", "drain")}
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.inbox = "ropewalk.conformance." + uuid.uuid4().hex
        self.inboxes = []
        self.declare_inbox(self.inbox)
        self.insist_on_an_inbox()
        self.channel.exchange_declare(HEARTBEATS, "fanout", durable=True)
        self.beats_queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.beats_queue, HEARTBEATS)
        self.tokens = {}        # of every task that was published
        self.results = []       # in the order of arrival; "bytes" is the size of the message that brought it
        self.started = []
        self.beats = []

    def close(self):
        for queue in self.inboxes:
            self.channel.queue_delete(queue)
        self.connection.close()

    def declare_inbox(self, name):
        for queue in (name, name + ".large"):
            self.channel.queue_declare(queue, durable=True, arguments={"x-expires": INBOX_EXPIRES_MS})
            self.inboxes.append(queue)

    def insist_on_an_inbox(self):
        """Where there are schedulers this one is always there: workers put into it what they cannot read."""
        with self.connection.channel() as channel:
            try:
                channel.queue_declare("ropewalk.inbox.0", passive=True)
                return
            except pika.exceptions.ChannelClosedByBroker:
                pass
        self.channel.queue_declare("ropewalk.inbox.0", durable=True, arguments={"x-queue-type": "classic"})

    # --- to the worker ------------------------------------------------------------------------------------------------

    def queue(self, priority="normal"):
        return f"ropewalk.task.{self.pool}.{priority}"

    def look(self, priority="normal"):
        """(messages that wait, consumers) of a task queue; (0, 0) without one."""
        with self.connection.channel() as channel:
            try:
                there = channel.queue_declare(self.queue(priority), passive=True).method
            except pika.exceptions.ChannelClosedByBroker:
                return 0, 0
            return there.message_count, there.consumer_count

    def task(self, call, arguments=None, **fields):
        run = str(uuid.uuid4())
        task = {"v": 1, "task_id": f"{run}/step/1/1", "token": uuid.uuid4().hex, "publication": 1, "run_id": run, "step": "step",
                "attempt": 1, "workflow": "conformance", "organisation": "default", "call": call, "with": arguments or {},
                "timeout": "30s", "deadline": None, "delivery": "at_least_once", "idempotency_key": f"{run}:step",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "reply_to": self.inbox}
        task.update(fields)
        return task

    def put(self, task, priority="normal"):
        self.schemas["task"].validate(json.loads(json.dumps(task)))
        self.tokens[task["task_id"]] = task["token"]
        self.put_raw(json.dumps(task), task["task_id"], priority)
        return task

    def put_raw(self, body, message_id, priority="normal"):
        self.channel.basic_publish("", self.queue(priority), body, pika.BasicProperties(
            type="task", message_id=message_id, delivery_mode=2, timestamp=int(time.time())))

    def tell(self, started, kind, **fields):
        """A control message to the worker that said `started`."""
        message = {"v": 1, **fields}
        self.schemas[kind].validate(message)
        self.tell_raw(started, kind, json.dumps(message))

    def tell_raw(self, started, kind, body):
        self.channel.basic_publish("", started["reply_to"], body, pika.BasicProperties(type=kind))

    # --- from the worker ----------------------------------------------------------------------------------------------

    def pump(self):
        """Reads all that is there and checks what holds for every message."""
        for queue in [*self.inboxes, self.beats_queue]:
            while (got := self.channel.basic_get(queue, auto_ack=True))[0] is not None:
                _method, properties, body = got
                message = load(body)
                if queue == self.beats_queue:
                    self.schemas["heartbeat"].validate(message)
                    self.beats.append(message)
                    continue
                need(properties.type in ("result", "started"), f"a message of type '{properties.type}' in the inbox")
                need(properties.delivery_mode == 2, f"a {properties.type} that is not persistent")
                self.schemas[properties.type].validate(message)
                if properties.type == "started":
                    self.on_started(message)
                else:
                    for result in message.get("results", [message]):
                        self.on_result(result, len(body), queue.endswith(".large"), len(message.get("results", [message])))

    def on_started(self, message):
        need(self.tokens.get(message["task_id"]) == message["token"], "a started with another token than its task's")
        seconds_of(message["at"])
        self.started.append(message)

    def on_result(self, result, size, large, count):
        known = self.tokens.get(result["task_id"])
        need(known is not None, f"a result of a task that was not published: {result['task_id']}")
        need(result["token"] == known, "a result with another token than its task's")
        need(not large or count == 1, "a result for .large that shares its message")
        need(large or size <= 2 * SMALL, f"a message of {size} bytes in the inbox for small results")
        times = [seconds_of(result[name]) for name in ("started_at", "ended_at") if result.get(name)]
        need(times == sorted(times), "a result that ended before it began")
        if result["status"] == "succeeded":
            need(result.get("error") is None, "a success with an error")
        else:
            need(result.get("output") is None, f"'{result['status']}' with an output")
        if result["status"] in ("failed", "deferred"):
            need(result["error"].get("message"), "an error that says nothing to people")
        self.results.append(dict(result, bytes=size, large=large))

    def wait(self, what, check, seconds=15):
        """Reads until check() gives something true."""
        deadline = time.monotonic() + seconds
        while True:
            self.pump()
            if value := check():
                return value
            need(time.monotonic() < deadline, f"{what}: not within {seconds} s")
            self.connection.sleep(0.01)

    def results_of(self, task):
        return [result for result in self.results if result["task_id"] == task["task_id"]]

    def started_of(self, task):
        return [message for message in self.started if message["task_id"] == task["task_id"]]

    def result(self, task, seconds=15):
        return self.wait(f"the result of task {task['task_id']}", lambda: self.results_of(task), seconds)[0]

    def says_started(self, task, seconds=10, count=1):
        """The count-th `started` of a task."""
        return self.wait(f"`started` number {count}", lambda: self.started_of(task)[count - 1:], seconds)[0]

    def is_beating(self, task):
        return self.beats and any(task["task_id"] in beat["tasks"] for beat in self.beats)

    def run(self, task, seconds=15):
        self.put(task)
        return self.result(task, seconds)
