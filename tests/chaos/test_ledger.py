"""Each script of the ledger does on the wire what it says, and every line is on disk before what follows from it."""
import asyncio
import gzip
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ledger as under_test  # noqa: E402


class Ledger:
    def __init__(self, folder, *command):
        self.file = folder / "ledger.jsonl"
        self.process = subprocess.Popen([*command, str(HERE / "ledger.py"), "--port", "0", "--file", str(self.file)], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("{"), "the ledger did not start"
        self.about = json.loads(line)
        self.at = ("127.0.0.1", int(self.about["url"].rpartition(":")[2]))

    def lines(self):
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def phases(self, conn=None):
        return [line["phase"] for line in self.lines() if conn in (None, line["conn"])]

    def connect(self):
        sock = socket.create_connection(self.at, timeout=20)
        return sock

    def send(self, path, sock=None, step="a", key=None, method="POST", body=b'{"n": 1}', headers=()):
        sock = sock or self.connect()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Ropewalk-Run: r1", f"Ropewalk-Step: {step}",
                 "Ropewalk-Attempt: 1", f"Idempotency-Key: {key or 'r1:' + step}", *headers]
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return sock

    def exchange(self, path, **more):
        """(everything that came until the end or the whole answer, how the connection ended: "open", "closed", "reset")"""
        sock = self.send(path, **more)
        data = b""
        try:
            while chunk := sock.recv(65536):
                data += chunk
                head, _, body = data.partition(b"\r\n\r\n")
                length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
                if length and len(body) >= length[0]:
                    sock.settimeout(0.3)        # is anything to follow?
        except ConnectionResetError:
            return data, "reset"
        except TimeoutError:
            return data, "open"
        finally:
            sock.close()
        return data, "closed"

    def status(self, path, **more):
        return int(self.exchange(path, **more)[0].split(b" ")[1])

    def end(self):
        os.kill(self.about["pid"], signal.SIGTERM)      # not strace, which may stand between us
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def ledger(tmp_path):
    one = Ledger(tmp_path)
    yield one
    one.end()


def body_of(data):
    return json.loads(data.partition(b"\r\n\r\n")[2])


def test_a_request_leaves_its_phases_in_order_with_all_that_identifies_it(ledger):
    data, end = ledger.exchange("/ok", headers=["X-Marker: mark-amber-0123456789ab"])
    assert data.startswith(b"HTTP/1.1 200 ") and end == "open" and body_of(data)["ok"] is True
    lines = ledger.lines()
    assert [line["phase"] for line in lines] == ["begin", "applied", "answered"]
    assert [line["ns"] for line in lines] == sorted(line["ns"] for line in lines)
    for line in lines:
        assert (line["method"], line["path"], line["run"], line["step"], line["attempt"], line["key"]) == ("POST", "/ok", "r1", "a", 1, "r1:a")
        assert line["body_bytes"] == 8 and len(line["body_sha"]) == 64 and line["markers"] == ["mark-amber-0123456789ab"]
    assert lines[1]["times"] == 1 and (lines[2]["status"], lines[2]["how"], lines[2]["gone"]) == (200, "full", False)


def test_the_script_may_come_in_a_header(ledger):
    assert ledger.status("/anything", headers=["X-Ledger: seq?say=418"]) == 418


def test_effects_of_a_key_are_counted(ledger):
    for _ in range(3):
        ledger.status("/ok")
    assert [line["times"] for line in ledger.lines() if line["phase"] == "applied"] == [1, 2, 3]


def spoils(path, first, phases=("begin", "applied", "answered")):
    return pytest.param(path, first, list(phases), id=path)


@pytest.mark.parametrize("path,first,phases", [
    spoils("/lose", lambda data, end: data == b"" and end == "closed"),
    spoils("/reset", lambda data, end: end == "reset"),
    spoils("/half", lambda data, end: b"200" in data and end == "closed" and
           len(data.partition(b"\r\n\r\n")[2]) * 2 <= int(data.split(b"Content-Length: ")[1].split(b"\r\n")[0])),
    spoils("/chunks", lambda data, end: b"Transfer-Encoding: chunked" in data and b"zz-no-number" in data and end == "closed"),
    spoils("/garbage", lambda data, end: data and not data.startswith(b"HTTP") and end == "closed"),
])
def test_an_answer_is_spoiled_once_after_the_effect_and_then_given(ledger, path, first, phases):
    data, end = ledger.exchange(path)
    assert first(data, end), (data, end)
    assert ledger.phases() == phases
    assert ledger.lines()[-1]["how"] != "full"
    assert ledger.status(path) == 200
    assert ledger.lines()[-1]["how"] == "full"
    ledger.exchange(path + "?times=2", step="b")
    data, end = ledger.exchange(path + "?times=2", step="b")
    assert first(data, end), "as often as it is told"


def test_a_hanging_request_is_applied_or_not_and_never_answered(ledger):
    for path, phases in (("/hang", ["begin", "applied", "answered"]), ("/hang?apply=0", ["begin", "answered"])):
        sock = ledger.send(path, step=path)
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert [line["phase"] for line in ledger.lines() if line["step"] == path] == phases
        assert ledger.lines()[-1]["how"] == "hang"
        sock.close()
    assert ledger.status("/hang", step="/hang") == 200


def test_statuses_come_in_turn_and_only_a_good_one_has_an_effect(ledger):
    path = "/seq?say=503,429,200&retry_after=7"
    data, _ = ledger.exchange(path)
    assert data.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 7" in data
    assert [ledger.status(path, key=f"k{n}") for n in range(3)] == [429, 200, 200]
    assert ledger.phases().count("applied") == 2
    assert ledger.status(path, step="other") == 503, "each step has its own sequence"
    assert [ledger.status("/seq?say=500,200&per=key", step=f"s{n}", key="same") for n in range(2)] == [500, 200]


def test_a_key_gets_its_first_answer_again_as_payment_providers_do(ledger):
    assert [ledger.status("/stripe", key="k1") for _ in range(3)] == [500, 500, 500]
    assert "applied" not in ledger.phases()
    assert [ledger.status("/stripe", key="k2") for _ in range(2)] == [200, 200]
    assert ledger.phases().count("applied") == 1


def test_a_poll_is_busy_and_then_done_and_has_no_effect(ledger):
    said = [body_of(ledger.exchange("/state?turns=2", method="GET", body=b"")[0])["state"] for _ in range(3)]
    assert said == ["busy", "busy", "done"]
    assert "applied" not in ledger.phases()
    assert [line["said"] for line in ledger.lines() if line["phase"] == "answered"] == said


def test_a_redirect_leads_to_the_effect(ledger):
    data, _ = ledger.exchange("/redirect")
    assert data.startswith(b"HTTP/1.1 307 ") and b"Location: /ok?from=redirect" in data
    assert "applied" not in ledger.phases()


def test_an_answer_drips_and_is_noted_before_its_last_byte(ledger):
    sock = ledger.send("/drip?ms=600")
    began, data, pieces = time.monotonic(), b"", 0
    while not data.endswith(b"}"):
        assert "answered" not in ledger.phases() or len(data) > 100
        data += sock.recv(4096)
        pieces += 1
    assert pieces > 20 and time.monotonic() - began >= 0.4
    assert ledger.lines()[-1]["how"] == "drip"


def test_a_huge_body_comes_as_far_as_the_client_reads(ledger):
    sock = ledger.send("/huge")
    data = b""
    while len(data) < 3 << 20:
        data += sock.recv(1 << 20)
    sock.close()
    assert b"Content-Length: 1073741824" in data
    assert ledger.status("/ok") == 200, "and others are served"
    assert ledger.phases(1) == ["begin", "applied", "answered"]


def test_a_bomb_is_small_and_unpacks_to_much(ledger):
    data, _ = ledger.exchange("/bomb")
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head and len(body) < 1 << 20
    assert len(gzip.decompress(body)) == 64 << 20


def test_waits_are_before_and_after_the_effect(ledger):
    ledger.status("/ok?before=300&after=200")
    begin, applied, answered = (line["ns"] / 1e9 for line in ledger.lines())
    assert applied - begin >= 0.3 and answered - applied >= 0.2


def test_one_address_refuses_connections(ledger):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(ledger.about["refuse_url"].rpartition(":")[2])), timeout=5)


def test_a_client_that_left_before_the_answer_is_noted(ledger):
    sock = ledger.send("/ok?after=400")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    deadline = time.monotonic() + 10
    while "answered" not in ledger.phases():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ledger.lines()[-1]["gone"] is True


def test_chunked_and_pipelined_requests_and_kept_connections(ledger):
    sock = ledger.connect()
    sock.sendall(b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                 b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while data.count(b"HTTP/1.1 200") < 2:
        data += sock.recv(65536)
    assert [(line["conn"], line["req"], line["body_bytes"]) for line in ledger.lines() if line["phase"] == "begin"] == [(1, 1, 5), (1, 2, 0)]


def test_nonsense_ends_its_connection_and_nothing_else(ledger):
    for data in (b"\x16\x03\x01\0\r\n\r\n", b"POST /ok HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST /ok HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                 b"A" * 200000, b"POST /ok HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        sock = ledger.connect()
        sock.sendall(data)
        sock.settimeout(10)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert ledger.status("/nothing-of-the-kind") == 404
    assert ledger.status("/ok") == 200


def test_two_hundred_connections_at_a_time(ledger):
    async def one(number):
        reader, writer = await asyncio.open_connection(*ledger.at)
        for turn in range(5):
            writer.write(f"POST /ok?after=50 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nIdempotency-Key: {number}/{turn}\r\n\r\n{{}}".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        writer.close()

    async def all_of_them():
        await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(200))), 120)
    asyncio.run(all_of_them())
    lines = ledger.lines()
    assert [sum(line["phase"] == phase for line in lines) for phase in ("begin", "applied", "answered")] == [1000] * 3
    assert len({line["key"] for line in lines}) == 1000


# --- durability: what is on disk when -------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/ok", "/ok?after=100", "/lose", "/half", "/drip?ms=50", "/huge", "/seq?say=503"])
def test_nothing_of_an_answer_leaves_before_its_lines_are_on_disk(tmp_path, path):
    """strace sees the order of the calls: between the lines' write and the first byte of the answer lies an fdatasync."""
    trace = tmp_path / "trace"
    one = Ledger(tmp_path, "strace", "-f", "-qq", "-s", "32", "-e", "trace=write,fdatasync,sendto,sendmsg,close,shutdown", "-o", str(trace))
    try:
        sock = one.send(path)
        got = sock.recv(1)
        assert got == b"" or got == b"H"
        sock.close()
    finally:
        one.end()
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    answered = next(i for i, call in enumerate(calls) if call.startswith("sendto(") or (path == "/lose" and call.startswith(("shutdown(", "close(")) and i > first_line(calls)))
    written = [i for i, call in enumerate(calls) if call.startswith("write(") and '"{\\"conn' in call]
    synced = [i for i, call in enumerate(calls) if "fdatasync" in call and call.rstrip().endswith("= 0")]
    assert written and written[0] < answered
    last = max(i for i in written if i < answered)
    assert any(last < i < answered for i in synced), calls[written[0]:answered + 1]


def first_line(calls):
    return next(i for i, call in enumerate(calls) if call.startswith("write(") and '"{\\"conn' in call)


def test_what_was_answered_is_in_the_file_when_the_ledger_is_killed(tmp_path):
    one = Ledger(tmp_path)
    socks = [one.send("/ok", step=f"s{n}") for n in range(20)]
    assert socks[0].recv(1) == b"H"
    one.process.send_signal(signal.SIGKILL)
    one.process.wait(10)
    answered = {f"s{n}" for n, sock in enumerate(socks) if has_answer(sock, n)}
    lines = [json.loads(line) for line in one.file.read_text().splitlines()]
    assert answered <= {line["step"] for line in lines if line["phase"] == "answered"}
    one.process.stdout.close()


def has_answer(sock, number):
    try:
        return number == 0 or sock.recv(1) == b"H"
    except OSError:
        return False


def test_a_ledger_that_cannot_write_ends_itself(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    one = Ledger(tmp_path)
    sock = one.send("/ok")
    try:
        assert sock.recv(1) == b"", "nothing is answered that is not on disk"
    except ConnectionResetError:
        pass
    assert one.process.wait(10) == 1
    one.process.stdout.close()


def test_every_script_is_told_in_the_page_about_it():
    page = (HERE / "README.md").read_text()
    assert [name for name in under_test.SCRIPTS if f"`{name}`" not in page] == []
