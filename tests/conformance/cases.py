"""What every worker must do. Each function is a case; its first line of documentation is its name in the report."""
import itertools
import json
import subprocess
import time
import uuid

from behaviours import Missing
from scheduler import PRIORITIES, PROTO, SMALL, load, need

MIB = 1 << 20
VALUE = """{"big": 9007199254740993, "tenth": 0.1, "pi": 3.14, "minus": -0.25, "long": 123456789012345678901234567890,
            "text": "za\\u017c\\u00f3\\u0142\\u0107 \\ud83d\\ude00 \\u0007", "nothing": null, "list": [true, [], {}]}"""

CASES = []


def case(function):
    CASES.append(function)
    return function


class Suite:
    """What a case has at hand."""

    def __init__(self, scheduler, server, behaviours, process, line):
        self.scheduler, self.server, self.behaviours, self.process, self.line = scheduler, server, behaviours, process, line

    def ready(self):
        """A worker takes tasks of every class; one of ours that a case has ended is started again."""
        if self.process:
            self.process.start()

        def served():
            need(not self.process or self.process.is_up(), "the worker has ended")
            return all(self.scheduler.look(priority)[1] > 0 for priority in PRIORITIES)
        self.scheduler.wait("a worker at the pool's four queues", served, 30)

    def task(self, behaviour, name=None, seconds=None, size=None, **fields):
        """A task that shows the behaviour, and the id that its effects are counted by."""
        name = name or uuid.uuid4().hex
        call, arguments = self.behaviours.call(behaviour, server=self.server.url, id=name, seconds=seconds, bytes=size,
                                               value=json.loads(VALUE))
        return self.scheduler.task(call, arguments, **fields), name

    def must_own_process(self):
        if not self.process:
            raise Missing("needs --start")

    def succeeded(self, task):
        return any(result["status"] == "succeeded" for result in self.scheduler.results_of(task))

    def must_not_abandon(self, task):
        """A process that has a task in hand knows a copy of it. (Another process of the pool may not: it may say so.)"""
        need(not self.process or all(result["status"] == "succeeded" for result in self.scheduler.results_of(task)),
             "a copy was answered while its task was in hand")

    def is_served(self):
        """A task that was published now is done: what came before has been looked at."""
        task = self.scheduler.task("noop")
        need(self.scheduler.run(task)["status"] == "succeeded", "noop did not succeed")


def fails(result, kind, code=None):
    need(result["status"] == "failed", f"'{result['status']}' instead of failed: {json.dumps(result, default=str)[:500]}")
    error = result["error"]
    need(error["class"] == kind, f"class '{error['class']}' instead of {kind} (code '{error['code']}')")
    need(code is None or error["code"] == code, f"code '{error['code']}' instead of {code}")
    return error


def holds(output, value):
    """The value stands somewhere in the output, digit for digit."""
    if output == value and type(output) is type(value):
        return True
    inner = output.values() if isinstance(output, dict) else output if isinstance(output, list) else ()
    return any(holds(one, value) for one in inner)


# --- results ----------------------------------------------------------------------------------------------------------

@case
def all_priorities(suite):
    """tasks of every priority class are taken"""
    tasks = [suite.scheduler.put(suite.scheduler.task("noop"), priority) for priority in PRIORITIES]
    for task in tasks:
        need(suite.scheduler.result(task)["status"] == "succeeded", "noop did not succeed")


@case
def noop(suite):
    """a result names its task, its token, its worker and its times"""
    result = suite.scheduler.run(suite.scheduler.task("noop"))
    need(result["status"] == "succeeded" and result.get("output") is None, "noop succeeds with null")
    need(result.get("ended_at"), "no ended_at")


@case
def many(suite):
    """two hundred tasks at once are answered once each"""
    tasks = [suite.scheduler.put(suite.scheduler.task("noop")) for _ in range(200)]
    suite.scheduler.wait("all results", lambda: all(suite.scheduler.results_of(task) for task in tasks), 30)
    suite.is_served()
    need(all(len(suite.scheduler.results_of(task)) == 1 for task in tasks), "a task was answered twice")


@case
def value(suite):
    """an output keeps numbers and texts as they were"""
    task, _ = suite.task("value")
    result = suite.scheduler.run(task)
    need(result["status"] == "succeeded", f"failed: {result.get('error')}")
    need(holds(result["output"], load(VALUE)), f"the value is not in {json.dumps(result['output'], default=str)[:800]}")


@case
def unknown_fields(suite):
    """fields that nobody knows yet are passed over, and `with` may be null"""
    task = suite.scheduler.task("noop", from_the_future={"a": [1]}, traceparent=None, idempotency_key=None, timeout=None)
    task["with"] = None
    need(suite.scheduler.run(task)["status"] == "succeeded", "a field too many matters")


@case
def effect(suite):
    """an effect happens once, within its attempt"""
    task, name = suite.task("effect")
    result = suite.scheduler.run(task)
    need(result["status"] == "succeeded", f"failed: {result.get('error')}")
    need(result.get("started_at"), "no started_at")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


# --- errors -----------------------------------------------------------------------------------------------------------

@case
def permanent(suite):
    """what fails for good says so"""
    task, _ = suite.task("permanent")
    error = fails(suite.scheduler.run(task), "permanent")
    for name, wanted in suite.behaviours.error("permanent").items():
        need(error.get(name) == wanted, f"{name} is {error.get(name)!r}, not {wanted!r}")


@case
def transient(suite):
    """what may go well another time says so, and when"""
    task, _ = suite.task("transient")
    error = fails(suite.scheduler.run(task), "transient")
    for name, wanted in suite.behaviours.error("transient").items():
        need(error.get(name) == wanted, f"{name} is {error.get(name)!r}, not {wanted!r}")


@case
def unknown_call(suite):
    """a call that the worker does not have fails for good with unknown_call"""
    fails(suite.scheduler.run(suite.scheduler.task("no-such.call", {"a": 1})), "permanent", "unknown_call")


@case
def malformed(suite):
    """a malformed task that names id, token and inbox fails for good with bad_task"""
    for path in sorted((PROTO / "examples/task.v1").glob("bad-*.json")):
        task = json.loads(path.read_text())
        if not all(task.get(name) for name in ("task_id", "token", "reply_to")):
            continue
        task.update(task_id=f"{uuid.uuid4()}/bad/1/1", reply_to=suite.scheduler.inbox)
        suite.scheduler.tokens[task["task_id"]] = task["token"]
        suite.scheduler.put_raw(json.dumps(task), task["task_id"])
        error = fails(suite.scheduler.result(task), "permanent")
        need(error["code"] == "bad_task", f"{path.name}: code '{error['code']}' instead of bad_task")


@case
def rubbish(suite):
    """what is no task at all is put aside, and the worker goes on"""
    nobody = suite.scheduler.task("noop")
    del nobody["reply_to"]
    bodies = ["", "{", "[]", "null", '"task"', "[" * 100000, '{"v":1}', b"\xff\xfe", json.dumps(nobody)]
    for body in bodies:
        suite.scheduler.put_raw(body, "rubbish")
    suite.is_served()
    suite.scheduler.wait("rubbish leaves the queue", lambda: suite.scheduler.look()[0] == 0)


@case
def timeout(suite):
    """an attempt ends with its timeout: transient, timeout"""
    task, name = suite.task("slow", seconds=20, timeout="1s")
    error = fails(suite.scheduler.run(task), "transient", "timeout")
    need(error.get("sent") is True, "`sent` must be true: the request has left")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


@case
def deadline(suite):
    """nothing begins after the deadline"""
    task, name = suite.task("effect", deadline="2026-01-01T00:00:00Z")
    fails(suite.scheduler.run(task), "permanent", "deadline")
    need(suite.server.effects(name) == 0, "it was done all the same")


# --- size -------------------------------------------------------------------------------------------------------------

@case
def large(suite):
    """a result over 64 KiB comes alone, to the inbox for large ones"""
    task, _ = suite.task("bytes", size=200000)
    result = suite.scheduler.run(task)
    need(result["status"] == "succeeded", f"failed: {result.get('error')}")
    need(result["bytes"] > 200000 and result["large"], "it came to the inbox for small results")
    small, _ = suite.task("bytes", size=1000)
    need(not suite.scheduler.run(small)["large"], "a small one came to the inbox for large results")


@case
def too_large(suite):
    """an output over 1 MiB fails for good with too_large"""
    for size in (MIB + 1, 3 * MIB):
        task, _ = suite.task("bytes", size=size)
        result = suite.scheduler.run(task, 30)
        fails(result, "permanent", "too_large")
        need(result["bytes"] < SMALL, "the error carries the output along")


@case
def own_limit(suite):
    """where the organisation has a limit of its own for outputs, that one counts"""
    over, _ = suite.task("bytes", size=5000)
    within, _ = suite.task("bytes", size=5000)
    fails(suite.scheduler.run({**over, "max_output_bytes": 4096}), "permanent", "too_large")
    need(suite.scheduler.run({**within, "max_output_bytes": 8192})["status"] == "succeeded", "8 KiB were allowed")


# --- time -------------------------------------------------------------------------------------------------------------

@case
def started(suite):
    """a task that runs for about a second says `started`, and heartbeats name it until its end"""
    task, _ = suite.task("slow", seconds=6)
    suite.scheduler.put(task)
    message = suite.scheduler.says_started(task, 6)
    need(not suite.scheduler.results_of(task), "`started` came after the end")
    suite.scheduler.wait("a heartbeat that names it", lambda: suite.scheduler.is_beating(task), 6)
    result = suite.scheduler.result(task)
    need(result["status"] == "succeeded" and result["worker"] == message["worker"], "another worker than `started` said")
    need(len(suite.scheduler.started_of(task)) == 1, "`started` came twice")
    suite.scheduler.wait("a heartbeat without it", lambda: suite.scheduler.beats and any(
        beat["worker"] == message["worker"] and task["task_id"] not in beat["tasks"] for beat in suite.scheduler.beats[-3:]), 10)
    short, _ = suite.task("effect")
    suite.scheduler.run(short)
    need(not suite.scheduler.started_of(short), "a short task said `started`")


@case
def deferred(suite):
    """what the worker puts off comes as deferred, with the time to wait, and was not done"""
    if suite.behaviours.never("deferred"):
        return
    first, name = suite.task("deferred")
    need(suite.scheduler.run(first)["status"] == "succeeded", "the first of two is done")
    second, _ = suite.task("deferred", name)
    result = suite.scheduler.run(second)
    need(result["status"] == "deferred", f"'{result['status']}' instead of deferred")
    need(result["error"].get("retry_after") and result["error"]["class"] == "transient", "no time to wait")
    need(suite.server.effects(name) == 1, "it was done all the same")


# --- control ----------------------------------------------------------------------------------------------------------

@case
def cancel(suite):
    """a running task that is cancelled ends at once: permanent, cancelled"""
    task, _ = suite.task("slow", seconds=60, timeout="120s")
    suite.scheduler.put(task)
    suite.scheduler.tell(suite.scheduler.says_started(task), "cancel", task_id=task["task_id"], if_running="now")
    error = fails(suite.scheduler.result(task), "permanent", "cancelled")
    need(error.get("sent") is True, "`sent` must be true: the request has left")


@case
def cancel_unknown(suite):
    """control messages about unknown tasks, or that are none, change nothing"""
    task, _ = suite.task("slow", seconds=3)
    suite.scheduler.put(task)
    message = suite.scheduler.says_started(task)
    suite.scheduler.tell(message, "cancel", task_id=f"{uuid.uuid4()}/step/1/1")
    suite.scheduler.tell(message, "grant", task_id=f"{uuid.uuid4()}/step/1/1", go=True)
    suite.scheduler.tell(message, "grant", task_id=task["task_id"], go=False)
    for kind, body in (("cancel", "{"), ("cancel", "[]"), ("cancel", '{"v":1}'), ("cancel", '{"v":1,"task_id":7}'),
                       ("cancel", json.dumps({"v": 2, "task_id": task["task_id"]})), ("no-such-type", '{"v":1}'),
                       ("drain", '{"v":2}'), ("drain", "")):
        suite.scheduler.tell_raw(message, kind, body)
    need(suite.scheduler.result(task)["status"] == "succeeded", "the running task suffered")
    suite.is_served()


@case
def granted(suite):
    """at_most_once asks, asks again, does nothing before its grant, and once it is done never again"""
    task, name = suite.task("effect", delivery="at_most_once")
    suite.scheduler.put(task)
    suite.scheduler.says_started(task, 4)
    message = suite.scheduler.says_started(task, 20, count=2)
    suite.scheduler.wait("a heartbeat that names it", lambda: suite.scheduler.is_beating(task), 6)
    need(suite.server.effects(name) == 0 and not suite.scheduler.results_of(task), "it was done before its grant")
    suite.scheduler.tell(message, "grant", task_id=task["task_id"], go=True)
    suite.scheduler.tell(message, "grant", task_id=task["task_id"], go=True)
    need(suite.scheduler.result(task)["status"] == "succeeded", "it failed")
    asked = len(suite.scheduler.started_of(task))
    suite.scheduler.put(dict(task, publication=2))
    suite.is_served()
    again = suite.scheduler.started_of(task)[asked:]
    if again:       # it asks once more: there is nothing to be granted
        suite.scheduler.tell(again[0], "grant", task_id=task["task_id"], go=False)
        suite.is_served()
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")
    need(len(suite.scheduler.results_of(task)) == 1, "it was answered twice")


@case
def not_granted(suite):
    """at_most_once that is refused its grant is dropped without a word"""
    task, name = suite.task("effect", delivery="at_most_once")
    suite.scheduler.put(task)
    suite.scheduler.tell(suite.scheduler.says_started(task, 4), "grant", task_id=task["task_id"], go=False)
    suite.is_served()
    need(suite.server.effects(name) == 0 and not suite.scheduler.results_of(task), "it was done, or answered")


# --- duplicates -------------------------------------------------------------------------------------------------------

@case
def duplicate_running(suite):
    """a copy of a running task is not done again"""
    task, name = suite.task("slow", seconds=5)
    suite.scheduler.put(task)
    suite.scheduler.says_started(task)
    for publication in (2, 3):
        suite.scheduler.put(dict(task, publication=publication))
    suite.scheduler.wait("its success", lambda: suite.succeeded(task))
    suite.is_served()
    suite.must_not_abandon(task)
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


@case
def duplicate_ended(suite):
    """a copy of an ended task gets the same result or `abandoned`, and is not done again"""
    task, name = suite.task("effect")
    first = suite.scheduler.run(task)
    turns = itertools.count(2)

    def answered():
        """A copy that comes before the first one's result is confirmed is acknowledged with it: then another is sent."""
        publication = next(turns)
        if publication % 200 == 2:
            suite.scheduler.put(dict(task, publication=2 + publication // 200))
        return suite.scheduler.results_of(task)[1:]
    second = suite.scheduler.wait("an answer to the copy", answered)[0]
    same = all(second.get(name) == first.get(name) for name in ("status", "output", "error"))
    need(same or second["status"] == "abandoned", f"'{second['status']}' that is not the first result")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


@case
def late_inbox(suite):
    """a result that nobody can take yet is kept until there is an inbox"""
    inbox = suite.scheduler.inbox + ".late"
    task, name = suite.task("effect", reply_to=inbox)
    suite.scheduler.put(task)
    suite.scheduler.wait("the effect", lambda: suite.server.effects(name))
    suite.is_served()
    suite.scheduler.declare_inbox(inbox)
    need(suite.scheduler.result(task)["status"] in ("succeeded", "abandoned"), "neither succeeded nor abandoned")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


# --- faults: these need a process of the suite's own ------------------------------------------------------------------

@case
def cut(suite):
    """a worker that loses its connection goes on, comes back and tells the result late"""
    suite.must_own_process()
    if suite.line is None:
        raise Missing("needs amqp://")
    task, name = suite.task("slow", seconds=3)
    suite.scheduler.put(task)
    suite.scheduler.says_started(task)
    suite.line.cut()
    suite.scheduler.wait("its success", lambda: suite.succeeded(task), 30)
    suite.ready()
    suite.is_served()
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


@case
def killed(suite):
    """a task whose worker died in the middle is reported abandoned, not done again"""
    suite.must_own_process()
    task, name = suite.task("slow", seconds=20)
    suite.scheduler.put(task)
    suite.scheduler.says_started(task)
    suite.process.kill()
    suite.ready()
    result = suite.scheduler.result(task, 30)
    need(result["status"] == "abandoned", f"'{result['status']}' instead of abandoned")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


@case
def killed_before_confirm(suite):
    """a task is not acknowledged before the broker has its result"""
    suite.must_own_process()
    inbox = suite.scheduler.inbox + ".unborn"
    task, name = suite.task("effect", reply_to=inbox)
    suite.scheduler.put(task)
    suite.scheduler.wait("the effect", lambda: suite.server.effects(name))
    suite.is_served()
    suite.process.kill()
    suite.scheduler.declare_inbox(inbox)
    suite.ready()
    need(suite.scheduler.result(task, 30)["status"] in ("succeeded", "abandoned"), "neither succeeded nor abandoned")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")


def drains(suite, stop):
    task, name = suite.task("slow", seconds=4)
    suite.scheduler.put(task)
    message = suite.scheduler.says_started(task)
    stop(message)
    try:
        code = suite.process.exit_code(60)
    except subprocess.TimeoutExpired:
        need(False, "the worker has not ended within 60 s")
    need(code == 0, f"the worker ended with {code}")
    need(suite.scheduler.result(task)["status"] == "succeeded", "what was running did not end well")
    need(suite.server.effects(name) == 1, f"{suite.server.effects(name)} effects")
    need(all(suite.scheduler.look(priority) == (0, 0) for priority in PRIORITIES), "something is left in the queues")
    later = suite.scheduler.put(suite.scheduler.task("noop"))
    suite.ready()
    need(suite.scheduler.result(later)["status"] == "succeeded", "its successor does not work")


@case
def sigterm(suite):
    """SIGTERM: what runs ends and is told, nothing is left unacknowledged, exit 0"""
    suite.must_own_process()
    drains(suite, lambda _message: suite.process.terminate())


@case
def drain(suite):
    """the message `drain` does the same"""
    suite.must_own_process()
    drains(suite, lambda message: suite.scheduler.tell(message, "drain"))


@case
def nothing_left(suite):
    """after all this every message is acknowledged"""
    suite.is_served()
    if suite.process:
        suite.process.terminate()
        need(suite.process.exit_code(60) == 0, "the worker did not end well")
    deadline = time.monotonic() + 10
    while any(suite.scheduler.look(priority)[0] for priority in PRIORITIES):
        need(time.monotonic() < deadline, "there are messages in the task queues")
        suite.scheduler.connection.sleep(0.05)
