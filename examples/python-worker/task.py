"""Tasks as they come, results as they go: proto/task.v1.json and proto/result.v1.json."""
import dataclasses
import datetime
import json
import re

OUTPUT_MAX = 1 << 20

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Failed(Exception):
    """What a call raises when it fails. Transient failures are tried again, by the step's `retry`."""

    def __init__(self, code, message, transient=False, status=None, retry_after=None):
        super().__init__(message)
        self.code, self.message, self.transient = code, message, transient
        self.status, self.retry_after = status, retry_after


class Deferred(Exception):
    """What a call raises that has not begun and should come again later: it costs no attempt."""

    def __init__(self, code, message, seconds):
        super().__init__(message)
        self.code, self.message, self.seconds = code, message, seconds


class BadTask(Exception):
    """Not a task. Holds what could be read of it, for the answer."""

    def __init__(self, message, fields):
        super().__init__(message)
        self.fields = fields


def duration(text):
    """Seconds of "1500ms", "20s", "2h"; a year at most."""
    match = re.fullmatch(r"([0-9]{1,12})(ms|s|m|h|d)", text, re.ASCII)
    if not match or int(match[1]) * UNITS[match[2]] > 366 * 86400:
        raise ValueError(f"'{text}' is no duration")
    return int(match[1]) * UNITS[match[2]]


def milliseconds(seconds):
    return f"{max(0, round(seconds * 1000))}ms"


def moment(text):
    """Seconds since 1970 of "2026-11-21T04:00:00.123Z"."""
    when = datetime.datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"'{text}' names no time zone")
    return when.timestamp()


def moment_text(seconds):
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclasses.dataclass(frozen=True)
class Task:
    task_id: str
    token: str
    publication: int
    run_id: str
    step: str
    attempt: int
    workflow: str
    organisation: str
    call: str
    delivery: str
    reply_to: str
    arguments: dict             # `with`
    timeout: float | None       # seconds
    deadline: float | None      # seconds since 1970
    ask_after: float | None     # seconds since 1970: who asks, asks then; this worker does not
    idempotency_key: str | None
    traceparent: str | None
    output_max: int             # bytes
    secrets: tuple              # names of the sealed values that belong into `with`


def text_of(fields, name, most, optional=False, least=1):
    value = fields.get(name)
    if value is None and optional:
        return None
    if not isinstance(value, str) or not least <= len(value.encode()) <= most:
        raise ValueError(f"'{name}' must be a text of {least} to {most} bytes")
    return value


def number_of(fields, name, most, least=1, otherwise=None):
    """OTHERWISE: what it is where it is absent or null; None: it must be there."""
    value = fields.get(name)
    if value is None and otherwise is not None:
        return otherwise
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"'{name}' must be a whole number from {least} to {most}")
    return value


def secrets_of(fields):
    entries = fields.get("secrets")
    if entries is None:
        return ()
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("'secrets' must be a list of objects")
    return tuple(text_of(entry, "name", 63) for entry in entries if text_of(entry, "pointer", 4096))


def read(fields):
    if fields.get("v") != 1:
        raise ValueError("'v' must be 1")
    if fields.get("delivery") not in ("at_least_once", "at_most_once"):
        raise ValueError("'delivery' must be at_least_once or at_most_once")
    arguments = fields.get("with")
    if arguments is not None and not isinstance(arguments, dict):
        raise ValueError("'with' must be an object")
    timeout = text_of(fields, "timeout", 32, True)
    deadline, ask_after = text_of(fields, "deadline", 40, True), text_of(fields, "ask_after", 40, True)
    return Task(task_id=text_of(fields, "task_id", 512), token=text_of(fields, "token", 128),
                publication=number_of(fields, "publication", 10**9), run_id=text_of(fields, "run_id", 36, least=36),
                step=text_of(fields, "step", 512), attempt=number_of(fields, "attempt", 65535),
                workflow=text_of(fields, "workflow", 63), organisation=text_of(fields, "organisation", 63),
                call=text_of(fields, "call", 128), delivery=fields["delivery"],
                reply_to=text_of(fields, "reply_to", 255), arguments=arguments or {},
                timeout=None if timeout is None else duration(timeout),
                deadline=None if deadline is None else moment(deadline),
                ask_after=None if ask_after is None else moment(ask_after),
                idempotency_key=text_of(fields, "idempotency_key", 1024, True),
                traceparent=text_of(fields, "traceparent", 128, True),
                output_max=number_of(fields, "max_output_bytes", 32 << 20, 1024, OUTPUT_MAX),
                secrets=secrets_of(fields))


def refuse(word):
    raise ValueError(f"'{word}' is no JSON")     # Python reads NaN and Infinity


def decode(body):
    """Fields that it does not know are passed over, so that releases can differ."""
    try:
        fields = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadTask(f"is not JSON: {error}", {}) from None
    if not isinstance(fields, dict):
        raise BadTask("is no object", {})
    try:
        return read(fields)
    except ValueError as error:
        raise BadTask(str(error), fields) from None


def encode(value):
    """JSON without blanks; ValueError for what JSON has no word for, such as NaN or a lone surrogate."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def error_of(failure, sent=False, answered=False):
    """Of a Failed, as it stands in a result."""
    error = {"class": "transient" if failure.transient else "permanent", "code": failure.code,
             "message": failure.message[:1000], "sent": sent, "answered": answered}
    if failure.status is not None:
        error["status"] = failure.status
    if failure.retry_after is not None:
        error["retry_after"] = milliseconds(failure.retry_after)
    return error
