"""What a worker does with a task: proto/README.md and docs/write-a-worker.md say why."""
import asyncio
import inspect
import logging
import time

from broker import Intake, Publisher
from task import BadTask, Deferred, Failed, decode, encode, error_of, milliseconds, moment_text

STARTED_AFTER_S = 1
HEARTBEAT_S = 2
ASK_AGAIN_S = 5
PUBLISH_AGAIN_S = 1
SPENT_S = 900                   # longer than any copy of an ended attempt can come
LONGEST_S = 20 * 60             # RabbitMQ closes a channel that leaves a message unacknowledged for 30 minutes
LARGE = 64 << 10                # larger results go alone to the inbox for large ones
BATCH_BYTES, BATCH_RESULTS = 48 << 10, 256
DRAIN_LAST_S = 3

log = logging.getLogger("worker")


class Job:
    """A task in hand, from its delivery until the broker has its result. Calls get it as their first argument."""

    def __init__(self, task, task_id, token, reply_to):
        self.task, self.task_id, self.token, self.reply_to = task, task_id, token, reply_to
        self.messages = []      # (channel, delivery tag) of its message and of copies: acknowledged together
        self.runner = None      # the asyncio task that works on it
        self.stop = None        # why it was stopped: "cancelled" or "worker_stopped"
        self.granted = None     # at_most_once: a future
        self.said_started = False
        self.begun_at = None
        self.sent = False       # set by calls: a part of a request may have left
        self.answered = False   # set by calls: a definite answer came
        self.result = None      # bytes, an item of a result message


class Worker:
    def __init__(self, name, url, pools, calls, capacity, queue_type, drain_s):
        self.name, self.calls, self.drain_s = name, calls, drain_s
        self.control_queue = f"ropewalk.worker.{name}"
        self.in_hand = {}       # by task id
        self.spent = {}         # ended at_most_once tasks: until when to remember them; never again in this process
        self.ended = []         # results to be sent
        self.has_ended, self.empty, self.drain_asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.background = set()
        queues = [f"ropewalk.task.{pool}.{priority}" for pool in pools
                  for priority in ("critical", "high", "normal", "low")]
        self.publisher = Publisher(url, f"{name} results", "ropewalk.heartbeat")
        # Two connections: when the broker is short of memory it stops those that publish, and acknowledgements go on.
        self.intake = Intake(url, f"{name} tasks", queues, queue_type, max(1, capacity // len(queues)),
                             self.control_queue, self.on_task, self.on_control, self.on_intake_lost)

    async def run(self):
        services = [asyncio.ensure_future(service) for service in
                    (self.publisher.run(), self.intake.run(), self.send_results(), self.tick())]
        drain = asyncio.ensure_future(self.drain())
        done, _ = await asyncio.wait({drain, *services}, return_when=asyncio.FIRST_COMPLETED)
        for ended in done - {drain}:
            ended.result()      # none ends by itself: raises what went wrong
        self.publisher.close()
        self.intake.close()
        for service in services[2:]:
            service.cancel()
        await asyncio.wait(services, timeout=1)

    def spawn(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    # --- what comes ---------------------------------------------------------------------------------------------------

    def on_task(self, channel, method, _properties, body):
        try:
            task = decode(body)
        except BadTask as bad:
            self.refuse(channel, method.delivery_tag, bad)
            return
        if self.drain_asked.is_set():
            channel.basic_nack(method.delivery_tag, requeue=True)
        elif task.task_id in self.in_hand:              # a copy of what is being done
            self.in_hand[task.task_id].messages.append((channel, method.delivery_tag))
        elif task.task_id in self.spent:
            channel.basic_ack(method.delivery_tag)
        else:
            job = Job(task, task.task_id, task.token, task.reply_to)
            self.take(job, channel, method.delivery_tag)
            job.runner = self.spawn(self.work(job, method.redelivered or task.publication > 1))

    def take(self, job, channel, tag):
        job.messages.append((channel, tag))
        self.in_hand[job.task_id] = job

    def refuse(self, channel, tag, bad):
        names = [bad.fields.get(name) for name in ("task_id", "token", "reply_to")]
        log.error("a message that is no task: %s", bad)
        if not all(isinstance(name, str) and name for name in names) or names[0] in self.in_hand:
            channel.basic_ack(tag)      # nobody can be told; the scheduler misses the answer and asks again
            return
        job = Job(None, *names)
        self.take(job, channel, tag)
        self.end(job, "failed", error=error_of(Failed("bad_task", str(bad))))

    def on_control(self, kind, message):
        if kind == "drain":
            self.drain_asked.set()
            return
        job = self.in_hand.get(message.get("task_id"))
        if job is None:
            return
        if kind == "cancel":
            self.stop(job, "cancelled")
        elif kind == "grant" and job.granted is not None and not job.granted.done():
            job.granted.set_result(message.get("go") is True)

    def on_intake_lost(self):
        """What was not acknowledged comes again, here or to another worker; what runs goes on."""
        for job in self.in_hand.values():
            job.messages.clear()

    # --- the life of a job --------------------------------------------------------------------------------------------

    async def work(self, job, again):
        try:
            await self.attempt(job, again)
        except asyncio.CancelledError:
            self.end_stopped(job)
        except Failed as failure:
            self.end(job, "failed", error=error_of(failure, job.sent, job.answered))
        except Deferred as wish:
            error = {"class": "transient", "code": wish.code, "message": wish.message,
                     "retry_after": milliseconds(wish.seconds)}
            job.begun_at = None
            self.end(job, "deferred", error=error)
        except Exception:
            log.exception("call '%s' of task %s", job.task.call, job.task_id)
            failure = Failed("internal_error", "the call broke; the worker's log says how")
            self.end(job, "failed", error=error_of(failure, job.sent, job.answered))

    async def attempt(self, job, again):
        once = job.task.delivery == "at_most_once"
        if again and not once:          # it may have been begun elsewhere: nothing here remembers that
            self.end(job, "abandoned")
            return
        if job.task.secrets:            # it has no master key, and would send the references
            raise Failed("secrets_not_configured", "this worker opens no secrets, and the step needs " + ", ".join(job.task.secrets))
        call = self.bind(job)
        if once and not await self.is_granted(job):
            self.forget(job)            # somebody else does it, or did
            return
        seconds = self.bound(job.task)
        job.begun_at = time.time()
        started = asyncio.get_running_loop().call_later(STARTED_AFTER_S, self.say_started, job)
        try:
            async with asyncio.timeout(seconds) as bound:
                output = await call()
        except TimeoutError:
            if not bound.expired():
                raise
            raise Failed("timeout", "the call did not end in time", transient=True) from None
        finally:
            started.cancel()
        self.end(job, "succeeded", output=output)

    def bind(self, job):
        function = self.calls.get(job.task.call)
        if function is None:
            raise Failed("unknown_call", "this worker has no such call")
        try:
            bound = inspect.signature(function).bind(job, **job.task.arguments)
        except TypeError as error:
            raise Failed("invalid_request", str(error)) from None
        return lambda: function(*bound.args, **bound.kwargs)

    @staticmethod
    def bound(task):
        """Seconds that the call may take. The deadline is a time of the schedulers' clock: keep clocks in step."""
        seconds = LONGEST_S if task.timeout is None else min(task.timeout, LONGEST_S)
        if task.deadline is not None:
            left = task.deadline - time.time()
            if left <= 0:
                raise Failed("deadline", "the step's deadline passed before the attempt began")
            seconds = min(seconds, left)
        return seconds

    async def is_granted(self, job):
        """at_most_once: the scheduler says whether it is this worker that may do it."""
        job.granted = asyncio.get_running_loop().create_future()
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            self.say_started(job)
            await asyncio.wait({job.granted}, timeout=ASK_AGAIN_S)
            if job.granted.done():
                return job.granted.result()
        raise Failed("not_granted", "no scheduler has answered", transient=True)

    def stop(self, job, why):
        if job.stop is None and job.runner is not None and job.result is None:
            job.stop = why
            asyncio.get_running_loop().call_soon(job.runner.cancel)     # once it has begun: it has to tell of it

    def end_stopped(self, job):
        if job.stop == "cancelled":
            failure = Failed("cancelled", "the run was cancelled")
            self.end(job, "failed", error=error_of(failure, job.sent, job.answered))
        elif job.task.delivery == "at_least_once":
            self.end(job, "abandoned")  # another worker takes the next attempt at once
        else:
            failure = Failed("worker_stopped", "the worker was stopped", transient=True)
            self.end(job, "failed", error=error_of(failure, job.sent, job.answered))

    def end(self, job, status, output=None, error=None):
        item = {"task_id": job.task_id, "token": job.token, "worker": self.name, "status": status}
        if job.begun_at is not None:
            item["started_at"] = moment_text(job.begun_at)
        item["ended_at"] = moment_text(time.time())
        if error is None and status == "succeeded":
            try:
                size = len(encode(output))
            except (TypeError, ValueError) as bad:
                error = error_of(Failed("bad_output", str(bad)), job.sent, job.answered)
            else:
                if size > job.task.output_max:
                    failure = Failed("too_large", f"the output has {size} bytes, more than {job.task.output_max}")
                    error = error_of(failure, job.sent, job.answered)
        if error is not None:
            item["status"] = "failed" if status == "succeeded" else status
            item["error"] = error
        elif status == "succeeded":
            item["output"] = output
        job.result = encode(item)
        if job.task is not None and job.task.delivery == "at_most_once":
            self.spent[job.task_id] = time.monotonic() + SPENT_S
        self.ended.append(job)
        self.has_ended.set()

    def forget(self, job):
        """Its result is with the broker, or none is to be sent: only now its messages are done with."""
        for channel, tag in job.messages:
            if channel.is_open:
                channel.basic_ack(tag)
        del self.in_hand[job.task_id]
        if not self.in_hand:
            self.empty.set()

    # --- what goes ----------------------------------------------------------------------------------------------------

    def say_started(self, job):
        """The attempt takes longer than a moment (or asks to be granted): from now on heartbeats keep its lease."""
        job.said_started = True
        self.publisher.publish(job.reply_to, "started", encode({
            "v": 1, "task_id": job.task_id, "token": job.token, "worker": self.name, "reply_to": self.control_queue,
            "at": moment_text(job.begun_at or time.time())}), message_id=job.task_id, reply_to=self.control_queue)

    async def tick(self):
        while True:
            tasks = [job.task_id for job in self.in_hand.values() if job.said_started]
            self.publisher.broadcast("heartbeat", encode({"v": 1, "worker": self.name, "tasks": tasks}))
            for task_id in [task_id for task_id, until in self.spent.items() if until < time.monotonic()]:
                del self.spent[task_id]
            await asyncio.sleep(HEARTBEAT_S)

    async def send_results(self):
        """Those that ended in the same turn share a message; nothing waits to fill one."""
        while True:
            await self.has_ended.wait()
            self.has_ended.clear()
            jobs, self.ended = self.ended, []
            for queue, batch in batches(jobs):
                self.spawn(self.send(queue, batch))

    async def send(self, queue, jobs):
        body = b'{"v":1,"results":[' + b",".join(job.result for job in jobs) + b"]}"
        while not await self.publisher.publish(queue, "result", body):
            await asyncio.sleep(PUBLISH_AGAIN_S)        # the link is down, or the scheduler's inbox is not there yet
        for job in jobs:
            self.forget(job)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def drain(self):
        """Takes no more tasks, lets what runs end, stops what does not end in time, and tells the scheduler."""
        await self.drain_asked.wait()
        log.info("drains, with %d tasks in hand", len(self.in_hand))
        self.intake.stop()
        if not await self.is_empty(self.drain_s):
            for job in list(self.in_hand.values()):
                self.stop(job, "worker_stopped")
            await self.is_empty(DRAIN_LAST_S)

    async def is_empty(self, seconds):
        self.empty.clear()
        if not self.in_hand:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self.empty.wait()
        except TimeoutError:
            return False
        return True


def batches(jobs):
    """(queue, jobs) for each message."""
    open_batches = {}           # by inbox: (jobs, bytes)
    for job in jobs:
        if len(job.result) > LARGE:
            yield job.reply_to + ".large", [job]
            continue
        batch, size = open_batches.get(job.reply_to, ([], 0))
        if batch and (size + len(job.result) > BATCH_BYTES or len(batch) == BATCH_RESULTS):
            yield job.reply_to, batch
            batch, size = [], 0
        batch.append(job)
        open_batches[job.reply_to] = (batch, size + len(job.result))
    for queue, (batch, _size) in open_batches.items():
        yield queue, batch
