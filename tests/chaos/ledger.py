#!/usr/bin/python3
"""The effect ledger: the outside world that workflows of a chaos run call. It shares no code with Ropewalk.

    tests/chaos/ledger.py --port P --file DIR/ledger.jsonl [--host 127.0.0.1]

Every request leaves lines in the file, and each is on disk (fdatasync, shared by requests that wait at the same time)
before a byte of the answer leaves:

    begin      the request has been read to its end
    applied    its effect has happened; `times` counts the effects of this Idempotency-Key
    answered   `status`, and `how`: full, or the way in which the script spoils the answer; `gone`: the client had left
               already. Written before the last byte of the answer is sent, so that nothing that follows from the answer
               can have an earlier `ns`.

Each line: ns (CLOCK_MONOTONIC), conn, req, phase, method, path, run, step, attempt, key, body_sha, body_bytes, markers.
What the answer is says the script: the first part of the path, or the header `X-Ledger: SCRIPT?NAME=VALUE&...`; see
SCRIPTS below and README.md. DIR/ledger.json tells where it listens, with a port that refuses connections.
"""
import argparse
import asyncio
import gzip
import hashlib
import itertools
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse

HEAD_LIMIT = 65536
BODY_LIMIT = 16 << 20
HUGE = 1 << 30
BOMB = 64 << 20
CHUNK = b"\0" * 65536
MARKER = re.compile(rb"mark-[a-z0-9-]+-[0-9a-f]{12}")
PLAIN = {"Content-Type": "application/json"}


class Journal:
    """Lines of JSON, in the order in which they were given; `sync` waits until all given so far are on disk."""

    def __init__(self, path, loop):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.loop = loop
        self.lines, self.waiting = [], []
        self.wake = threading.Condition()
        threading.Thread(target=self.write_for_ever, daemon=True).start()

    def add(self, line):
        line["ns"] = time.monotonic_ns()
        with self.wake:
            self.lines.append(json.dumps(line, separators=(",", ":")) + "\n")

    async def sync(self):
        done = self.loop.create_future()
        with self.wake:
            self.waiting.append(done)
            self.wake.notify()
        await done

    def write_for_ever(self):
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.waiting)
                lines, self.lines, waiting, self.waiting = self.lines, [], self.waiting, []
            try:
                data = "".join(lines).encode()
                while data:
                    data = data[os.write(self.fd, data):]
                os.fdatasync(self.fd)
            except OSError as why:      # a ledger with a hole proves nothing
                print(f"ledger: {why}", file=sys.stderr)
                os._exit(1)
            self.loop.call_soon_threadsafe(settle, waiting)


def settle(futures):
    for one in futures:
        if not one.done():
            one.set_result(None)


class Request:
    """One request as it was read, and what has been written of it."""

    def __init__(self, ledger, conn, number, method, target, headers, body):
        self.ledger, self.conn, self.number = ledger, conn, number
        self.method, self.target, self.headers, self.body = method, target, headers, body
        script = headers.get("x-ledger") or target.lstrip("/")
        self.script, _, query = script.partition("?")
        self.script = self.script.split("/")[0]
        self.args = {name: values[-1] for name, values in urllib.parse.parse_qs(query).items()}
        self.run, self.step = headers.get("ropewalk-run"), headers.get("ropewalk-step")
        self.key = headers.get("idempotency-key")
        text = target.encode() + b" " + body + b" " + " ".join(headers.values()).encode()
        self.markers = sorted({m.decode() for m in MARKER.findall(text)})
        self.sha = hashlib.sha256(body).hexdigest()

    def number_of(self, name, default=0):
        return int(self.args.get(name, default))

    async def pause(self, name):
        if ms := self.number_of(name):
            await self.ledger.journal.sync()
            await asyncio.sleep(ms / 1000)

    def note(self, phase, **more):
        attempt = self.headers.get("ropewalk-attempt", "")
        self.ledger.journal.add({
            "conn": self.conn.number, "req": self.number, "phase": phase, "method": self.method, "path": self.target,
            "run": self.run, "step": self.step, "attempt": int(attempt) if attempt.isdigit() else None, "key": self.key,
            "body_sha": self.sha, "body_bytes": len(self.body), "markers": self.markers, **more})

    def apply(self):
        times = self.ledger.effects[self.key] = self.ledger.effects.get(self.key, 0) + 1
        self.note("applied", times=times)

    def turn(self):
        """How often this step (or, with per=key, this key) has asked before."""
        who = (self.script, self.key) if self.args.get("per") == "key" else (self.script, self.run, self.step)
        turn = self.ledger.turns[who] = self.ledger.turns.get(who, 0) + 1
        return turn - 1

    def json(self, **more):
        body = {"ok": True, "step": self.step, "sha": self.sha[:12], "markers": self.markers, **more}
        return json.dumps(body).encode()

    # --- answers ---------------------------------------------------------------------------------------------------

    async def answer(self, status=200, body=None, headers=None, how="full", **more):
        """The whole answer; the line says so before it leaves."""
        self.note("answered", status=status, how=how, gone=self.conn.is_gone(), **more)
        await self.ledger.journal.sync()
        await self.conn.send(head(status, len(body or b""), {**PLAIN, **(headers or {})}) + (body or b""))

    async def spoil(self, how, data=b"", reset=False, status=None):
        """These bytes instead of an answer, and the connection's end."""
        self.note("answered", status=status, how=how, gone=self.conn.is_gone())
        await self.ledger.journal.sync()
        if data:
            await self.conn.send(data)
        self.conn.end(reset)


def head(status, length, headers):
    lines = [f"HTTP/1.1 {status} Said By The Script"] + [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


# --- scripts: each `async def` is one, by its name ------------------------------------------------------------------
# Arguments of all: before=MS, after=MS around the effect; pad=BYTES more in the answer. Of those that spoil the answer:
# times=N spoils the first N (1) of this step, what comes later is answered.

async def begun(request):
    await request.pause("before")
    request.apply()
    await request.pause("after")


async def ok(request):
    """Applies, answers 200."""
    await begun(request)
    pad = request.number_of("pad")
    await request.answer(body=request.json(**({"pad": "x" * pad} if pad else {})))


async def lose(request):
    """Applies, then closes without an answer."""
    await spoiled(request, lambda: request.spoil("closed"))


async def reset(request):
    """Applies, answers in full, then resets the connection: the client may have seen the answer or not."""
    body = request.json()
    await spoiled(request, lambda: request.spoil("reset", head(200, len(body), PLAIN) + body, True, 200))


async def half(request):
    """Applies, sends half of the answer and closes."""
    body = request.json()
    await spoiled(request, lambda: request.spoil("half", head(200, len(body), PLAIN) + body[:len(body) // 2]))


async def chunks(request):
    """Applies, answers with broken chunking."""
    data = head(200, None, {**PLAIN, "Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\nzz-no-number\r\nworld\r\n0\r\n\r\n"
    await spoiled(request, lambda: request.spoil("chunks", data))


async def garbage(request):
    """Applies, answers with bytes that are no HTTP."""
    await spoiled(request, lambda: request.spoil("garbage", b"\x16\x03\x01\0\xff\xfe\0" * 40 + b"\r\n\r\n"))


async def hang(request):
    """Applies (with apply=0 not), and says nothing until the client leaves."""
    async def silence():
        request.note("answered", status=None, how="hang", gone=False)
        await request.ledger.journal.sync()
        await request.conn.gone(600)
        request.conn.end()
    if request.args.get("apply") == "0":
        await spoiled(request, silence, apply=False)
    else:
        await spoiled(request, silence)


async def spoiled(request, way, apply=True):
    if request.turn() >= request.number_of("times", 1):
        await ok(request)
        return
    if apply:
        await begun(request)
    await way()


async def drip(request):
    """Applies, answers byte by byte over ms=MS (1000)."""
    await begun(request)
    data = request.json()
    data = head(200, len(data), PLAIN) + data
    await request.ledger.journal.sync()
    for byte in data[:-1]:
        await request.conn.send(bytes([byte]))
        await asyncio.sleep(request.number_of("ms", 1000) / 1000 / len(data))
    request.note("answered", status=200, how="drip", gone=request.conn.is_gone())
    await request.ledger.journal.sync()
    await request.conn.send(data[-1:])


async def seq(request):
    """Answers say=503,503,200 in turn, the last again and again; applies only with a 2xx. retry_after=S is sent along."""
    say = request.args.get("say", "200").split(",")
    status = int(say[min(request.turn(), len(say) - 1)])
    if 200 <= status <= 299:
        await ok(request)
        return
    more = {"Retry-After": request.args["retry_after"]} if "retry_after" in request.args else {}
    await request.pause("before")
    await request.answer(status, request.json(ok=False), more)


async def stripe(request):
    """The first key of a step gets say=500 and nothing is applied; every key gets its first answer again for ever."""
    said = request.ledger.firsts.get(request.key)
    if said is None:
        first = request.turn() == 0
        said = request.ledger.firsts[request.key] = request.number_of("say", 500) if first else 200
        if not first:
            await begun(request)
    await request.answer(said, request.json(ok=said == 200))


async def state(request):
    """For polls: {"state": "busy"} turns=N (2) times, then "done". A question, not an effect."""
    await request.pause("before")
    said = "done" if request.turn() >= request.number_of("turns", 2) else "busy"
    await request.answer(body=request.json(state=said), said=said)


async def redirect(request):
    """307 to ok on this server; applies nothing itself."""
    await request.answer(307, b"", {"Location": f"/ok?from={urllib.parse.quote(request.script)}"}, "redirect")


async def huge(request):
    """Applies, answers with a body of 1 GiB."""
    await begun(request)
    request.note("answered", status=200, how="huge", gone=request.conn.is_gone())
    await request.ledger.journal.sync()
    await request.conn.send(head(200, HUGE, {"Content-Type": "text/plain"}))
    for _ in range(HUGE // len(CHUNK)):
        await request.conn.send(CHUNK)


async def bomb(request):
    """Applies, answers with a small gzip body that unpacks to 64 MiB."""
    await begun(request)
    await request.answer(body=request.ledger.bomb, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"}, how="bomb")


SCRIPTS = {one.__name__: one for one in
           (ok, lose, reset, half, chunks, garbage, hang, drip, seq, stripe, state, redirect, huge, bomb)}


# --- connections ------------------------------------------------------------------------------------------------------

class Gone(Exception):
    """The client has left, or speaks no HTTP."""


class Connection:
    def __init__(self, ledger, number, reader, writer):
        self.ledger, self.number, self.reader, self.writer = ledger, number, reader, writer

    async def line(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Gone
        return line.decode("latin-1").rstrip("\r\n")

    async def read(self, size):
        if size > BODY_LIMIT:
            raise Gone
        return await self.reader.readexactly(size)

    async def body(self, headers):
        if "chunked" not in headers.get("transfer-encoding", ""):
            return await self.read(int(headers.get("content-length", 0)))
        whole = b""
        while size := int((await self.line()).split(";")[0], 16):
            whole += await self.read(size)
            await self.line()
        while await self.line():
            pass
        return whole

    async def request(self, number):
        first = (await self.line()).split(" ")
        if len(first) != 3 or not first[2].startswith("HTTP/1."):
            raise Gone
        headers, size = {}, 0
        while line := await self.line():
            size += len(line)
            if size > HEAD_LIMIT:
                raise Gone
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return Request(self.ledger, self, number, first[0], first[1], headers, await self.body(headers))

    async def serve(self):
        for number in itertools.count(1):
            request = await self.request(number)
            request.note("begin")
            script = SCRIPTS.get(request.script)
            if script is None:
                await request.answer(404, request.json(ok=False, error=f"no script '{request.script}'"))
            else:
                await script(request)
            if self.writer.is_closing() or request.headers.get("connection", "").lower() == "close":
                return

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def is_gone(self):
        return self.reader.at_eof() or self.reader.exception() is not None or self.writer.is_closing()

    async def gone(self, seconds):
        """Waits until the client leaves."""
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except (asyncio.TimeoutError, ConnectionError):
            pass

    def end(self, abruptly=False):
        if abruptly:        # RST instead of FIN, whatever is still unread
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


class Ledger:
    def __init__(self, path, loop):
        self.journal = Journal(path, loop)
        self.effects, self.turns, self.firsts = {}, {}, {}
        self.numbers = itertools.count(1)
        self.bomb = gzip.compress(bytes(BOMB), 1)      # now: nobody else is served while it is made

    async def connected(self, reader, writer):
        conn = Connection(self, next(self.numbers), reader, writer)
        try:
            await conn.serve()
        except (Gone, ConnectionError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            pass        # what was begun and not answered is to be seen in the file
        finally:
            conn.end()


async def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--port", type=int, default=0, help="0: a free one")
    words.add_argument("--host", default="127.0.0.1")
    words.add_argument("--file", required=True)
    args = words.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
    loop = asyncio.get_running_loop()
    ledger = Ledger(args.file, loop)
    server = await asyncio.start_server(ledger.connected, args.host, args.port, limit=HEAD_LIMIT, backlog=1024)
    refusing = socket.socket()
    refusing.bind((args.host, 0))       # bound and never listened on: nobody else gets it, and it refuses
    about = {"url": f"http://{args.host}:{server.sockets[0].getsockname()[1]}",
             "refuse_url": f"http://{args.host}:{refusing.getsockname()[1]}", "pid": os.getpid()}
    where = os.path.join(os.path.dirname(os.path.abspath(args.file)), "ledger.json")
    with open(where + ".new", "w") as out:
        json.dump(about, out)
    os.rename(where + ".new", where)
    print(json.dumps(about), flush=True)
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    await end.wait()
    await ledger.journal.sync()


if __name__ == "__main__":
    asyncio.run(main())
