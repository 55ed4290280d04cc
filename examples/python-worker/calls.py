"""The calls of this worker. A workflow's step names one in `call`; what stands in its `with` becomes the arguments.

A call may be stopped at any `await`, when the run is cancelled or its time is over; nothing is to be done about that.
What blocks belongs into `asyncio.to_thread`. It raises Failed or Deferred; anything else it raises is a fault of ours.
"""
import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import time
import urllib.parse

from task import Deferred, Failed, duration

TEXT_MAX = 16 << 20
CONNECT_S = 10
TRANSIENT = {408, 425, 429, *range(500, 600)} - {501, 505}

CALLS = {}


def call(name):
    def add(function):
        CALLS[name] = function
        return function
    return add


def must_be(kind, **values):
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Failed("invalid_request", f"'{name}' has the wrong type")


@call("noop")
async def noop(_attempt):
    """Every worker has this one: it shows that a pool is served."""


@call("text.reverse")
async def reverse(_attempt, text):
    must_be(str, text=text)
    return text[::-1]


@call("text.repeat")
async def repeat(_attempt, text, times):
    must_be(str, text=text)
    must_be(int, times=times)
    if len(text) * times > TEXT_MAX:
        raise Failed("too_large", f"more than {TEXT_MAX} characters")
    return text * times


@call("text.describe")
async def describe(_attempt, value):
    """The value and its JSON. Python's whole numbers have any length; others are doubles, as in expressions."""
    text = json.dumps(value, ensure_ascii=False)
    return {"value": value, "json": text, "characters": len(text)}


@call("text.sleep")
async def sleep(_attempt, seconds):
    must_be((int, float), seconds=seconds)
    await asyncio.sleep(seconds)


# --- a call that reaches out ------------------------------------------------------------------------------------------

# A workflow's author is not the worker's operator: only these origins are reached, whatever a step says.
RECEIVERS = os.environ.get("ROPEWALK_TEXT_RECEIVERS", "").split()

next_delivery = {}      # by receiver: when the next one may go, on time.monotonic's clock


@call("text.deliver")
async def deliver(attempt, to, text, at_most_every="0s"):
    """POSTs the text. `at_most_every` spares the receiver: what comes sooner is deferred, which costs no attempt."""
    must_be(str, to=to, text=text, at_most_every=at_most_every)
    url = urllib.parse.urlsplit(to)
    if f"{url.scheme}://{url.netloc}" not in RECEIVERS:
        raise Failed("not_allowed", "the receiver is none of ROPEWALK_TEXT_RECEIVERS")
    try:
        pause = duration(at_most_every)
    except ValueError as error:
        raise Failed("invalid_request", str(error)) from None
    wait_for_turn(to, pause)
    headers = {"Content-Type": "text/plain; charset=utf-8", "Ropewalk-Run": attempt.task.run_id,
               "Ropewalk-Step": attempt.task.step, "Ropewalk-Attempt": str(attempt.task.attempt)}
    if attempt.task.idempotency_key:    # the receiver knows a repeated request by it
        headers["Idempotency-Key"] = attempt.task.idempotency_key.encode()
    if attempt.task.traceparent:
        headers["traceparent"] = attempt.task.traceparent
    attempt.sent = True                 # from here on it may have had its effect
    try:
        status, wait = await post(url, text.encode(), headers)
    except (OSError, http.client.HTTPException) as error:
        raise Failed("connection_lost", str(error) or type(error).__name__, transient=True) from None
    attempt.answered = True
    if 200 <= status < 300:
        return {"status": status}
    raise Failed(f"http_{status}", f"the receiver answered {status}", transient=status in TRANSIENT, status=status,
                 retry_after=retry_after(wait))


def retry_after(text):
    """Seconds, at most an hour; dates are not read here."""
    return min(int(text), 3600) if text and re.fullmatch("[0-9]{1,9}", text) else None


def wait_for_turn(receiver, pause):
    now = time.monotonic()
    for name in [name for name, turn in next_delivery.items() if turn <= now]:
        del next_delivery[name]
    if pause > 0 and receiver in next_delivery:
        raise Deferred("rate_limited", "the receiver had one just now", next_delivery[receiver] - now)
    if pause > 0:
        next_delivery[receiver] = now + pause


async def post(url, body, headers):
    """A request on a connection of its own, which nothing repeats: (status, Retry-After)."""
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=CONNECT_S)

    def exchange():
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.settimeout(None)    # the attempt's own timeout ends it
            connection.request("POST", urllib.parse.urlunsplit(("", "", url.path or "/", url.query, "")), body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Retry-After")

    try:
        return await asyncio.to_thread(exchange)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, AttributeError):      # the thread sits in a read: end it
            connection.sock.shutdown(socket.SHUT_RDWR)
        raise
