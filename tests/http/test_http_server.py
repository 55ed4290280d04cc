#!/usr/bin/python3
"""The HTTP server on raw sockets: what must be refused, what must be served, who is too slow, who goes away.

HTTP_ECHO names the program under test (tests/http/http_echo.c).
"""
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest


class Echo:
    def __init__(self):
        self.process = subprocess.Popen([os.environ["HTTP_ECHO"]], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def connect(self, rcvbuf=None):
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(10)
        s.connect(("127.0.0.1", self.port))
        return s

    def talk(self, *parts, pause=0.0, half_close=True):
        """Sends the parts, then reads to the end."""
        with self.connect() as s:
            for part in parts:
                s.sendall(part if isinstance(part, bytes) else part.encode())
                time.sleep(pause)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            return read_all(s)

    def ends(self):
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=15)
        return out


def read_all(s):
    data = bytearray()
    while True:
        try:
            part = s.recv(1 << 20)
        except ConnectionResetError:
            return bytes(data) + b"<reset>"
        if not part:
            return bytes(data)
        data += part


def statuses(data):
    return [int(n) for n in re.findall(rb"HTTP/1\.1 (\d+) ", data)]


@pytest.fixture(scope="module")
def echo():
    e = Echo()
    yield e
    if e.process.poll() is None:
        e.ends()
    assert e.process.returncode == 0


@pytest.fixture
def own():
    e = Echo()
    yield e
    if e.process.poll() is None:
        e.process.kill()
        e.process.wait()
    e.process.stdout.close()


HOST = "Host: x\r\n"
REFUSED = {
    "CL and TE": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n{HOST}\r\n"),
    "TE and CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    "two CLs that differ": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 44\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two equal CLs": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    "a list of CLs": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 2, 2\r\n\r\nab"),
    "signed CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: +2\r\n\r\nab"),
    "negative CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: -2\r\n\r\nab"),
    "hex CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 0x2\r\n\r\nab"),
    "empty CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: \r\n\r\nab"),
    "huge CL": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 99999999999999999999\r\n\r\nab"),
    "CL beyond the limit": (413, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1048577\r\n\r\n"),
    "bare LF everywhere": (400, "GET / HTTP/1.1\nHost: x\n\n"),
    "bare LF after one line": (400, "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
    "bare CR": (400, "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n"),
    "obs-fold": (400, f"GET / HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n"),
    "obs-fold by tab": (400, f"GET / HTTP/1.1\r\n{HOST}X: a\r\n\tb\r\n\r\n"),
    "first header folded": (400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    "space before colon": (400, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length : 2\r\n\r\nab"),
    "no colon": (400, f"GET / HTTP/1.1\r\n{HOST}nothing\r\n\r\n"),
    "empty header name": (400, f"GET / HTTP/1.1\r\n{HOST}: x\r\n\r\n"),
    "NUL in header": (400, f"GET / HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n"),
    "NUL in target": (400, f"GET /\0 HTTP/1.1\r\n{HOST}\r\n"),
    "control in value": (400, f"GET / HTTP/1.1\r\n{HOST}X: a\x01b\r\n\r\n"),
    "TE gzip": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "TE xchunked": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "TE identity": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: identity\r\n\r\n"),
    "TE with vertical tab": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "two TEs": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE in HTTP/1.0": (400, f"POST /echo HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunk size with 0x": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n"),
    "chunk size of 9 digits": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n000000002\r\nab\r\n0\r\n\r\n"),
    "chunk size with sign": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n"),
    "chunk without size": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n\r\nab\r\n0\r\n\r\n"),
    "chunk longer than its size": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
    "chunk size ends in LF": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n"),
    "chunk extension ends in LF": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2;a\nab\r\n0\r\n\r\n"),
    "chunk data ends in LF": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n"),
    "chunk beyond the limit": (413, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n100001\r\n"),
    "trailer without colon": (400, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
    "method that is no token": (400, f"GE(T / HTTP/1.1\r\n{HOST}\r\n"),
    "method in lower case": (501, f"get / HTTP/1.1\r\n{HOST}\r\n"),
    "unknown method": (501, f"BREW / HTTP/1.1\r\n{HOST}\r\n"),
    "CONNECT": (501, f"CONNECT x:1 HTTP/1.1\r\n{HOST}\r\n"),
    "HTTP/0.9": (400, "GET /\r\n\r\n"),
    "HTTP/2 preface": (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/1.2": (505, f"GET / HTTP/1.2\r\n{HOST}\r\n"),
    "HTTP/1.10": (400, f"GET / HTTP/1.10\r\n{HOST}\r\n"),
    "http in lower case": (400, f"GET / http/1.1\r\n{HOST}\r\n"),
    "two spaces": (400, f"GET  / HTTP/1.1\r\n{HOST}\r\n"),
    "space in target": (400, f"GET /a b HTTP/1.1\r\n{HOST}\r\n"),
    "fragment": (400, f"GET /#a HTTP/1.1\r\n{HOST}\r\n"),
    "target without slash": (400, f"GET a HTTP/1.1\r\n{HOST}\r\n"),
    "UTF-8 in target": (400, f"GET /ü HTTP/1.1\r\n{HOST}\r\n"),
    "no Host": (400, "GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "Host with a path": (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "unknown Expect": (417, f"POST /echo HTTP/1.1\r\n{HOST}Expect: tea\r\nContent-Length: 1\r\n\r\na"),
    "101 headers": (431, f"GET / HTTP/1.1\r\n{HOST}" + "a: b\r\n" * 100 + "\r\n"),
    "header block over 32 KiB": (431, f"GET / HTTP/1.1\r\n{HOST}X: " + "a" * 33000 + "\r\n\r\n"),
    "target over 8 KiB": (414, "GET /" + "a" * 8192 + f" HTTP/1.1\r\n{HOST}\r\n"),
    "endless target": (414, "GET /" + "a" * 20000),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "two empty lines first": (400, f"\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(echo, name):
    status, text = REFUSED[name]
    data = echo.talk(text, f"GET /hidden HTTP/1.1\r\n{HOST}\r\n", half_close=False)
    assert statuses(data) == [status], data
    assert b"connection: close" in data
    assert b"application/problem+json" in data
    assert b"<reset>" not in data


@pytest.mark.parametrize("name", ["CL and TE", "obs-fold", "chunk longer than its size", "target over 8 KiB"])
def test_byte_by_byte_gives_the_same_refusal(echo, name):
    status, text = REFUSED[name]
    with echo.connect() as s:
        try:
            for byte in text.encode()[:9000]:
                s.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert statuses(read_all(s)) == [status]


SERVED = {
    "plain": (b"ok", f"GET / HTTP/1.1\r\n{HOST}\r\n"),
    "an empty line before": (b"ok", f"\r\nGET / HTTP/1.1\r\n{HOST}\r\n"),
    "absolute form": (b"ok", "GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "HTTP/1.0": (b"ok", "GET / HTTP/1.0\r\n\r\n"),
    "upgrade ignored": (b"ok", f"GET / HTTP/1.1\r\n{HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
    "100 headers": (b"ok", f"GET / HTTP/1.1\r\n{HOST}" + "a: b\r\n" * 99 + "\r\n"),
    "length": (b"hello", f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello"),
    "no body": (b"", f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n"),
    "chunked": (b"hello world", f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    "extensions and trailers": (b"hello", f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n00\r\nX-Sum: 1\r\nY: 2\r\n\r\n"),
    "limit": (b"a" * 1048576, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1048576\r\n\r\n" + "a" * 1048576),
    "chunked limit": (b"a" * 1048576, f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n100000\r\n" + "a" * 1048576 + "\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_well_formed_is_served_whole_or_in_pieces(echo, name):
    body, text = SERVED[name]
    data = echo.talk(text)
    assert statuses(data) == [200]
    assert data.split(b"\r\n\r\n", 1)[1] == body
    if len(text) < 9000:
        with echo.connect() as s:
            for byte in text.encode():
                s.send(bytes([byte]))
            s.shutdown(socket.SHUT_WR)
            data = read_all(s)
        assert data.split(b"\r\n\r\n", 1)[1] == body


def test_every_answer_has_a_date_and_head_has_no_body(echo):
    data = echo.talk(f"HEAD / HTTP/1.1\r\n{HOST}\r\nGET / HTTP/1.1\r\n{HOST}\r\n")
    assert statuses(data) == [200, 200]
    assert data.count(b"\r\ndate: ") == 2 and data.count(b"content-length: 2") == 2
    assert data.count(b"\r\n\r\nok") == 1


def test_pipelined_requests_are_answered_in_order(echo):
    data = echo.talk("".join(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 6\r\n\r\n{i:06d}" for i in range(3000)))
    assert re.findall(rb"\r\n\r\n(\d{6})", data) == [b"%06d" % i for i in range(3000)]


def test_a_slow_request_holds_back_those_behind_it(echo):
    with echo.connect() as s:
        s.sendall((f"GET /slow?200 HTTP/1.1\r\n{HOST}\r\nPOST /echo HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nab"
                   f"GET /slow?1 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n").encode())
        data = read_all(s)
    assert [part[:4] for part in data.split(b"\r\n\r\n")[1:]] == [b"slow", b"abHT", b"slow"]


def test_a_half_closed_client_gets_its_answers(echo):
    data = echo.talk(f"GET /slow?300 HTTP/1.1\r\n{HOST}\r\nGET / HTTP/1.1\r\n{HOST}\r\n")
    assert statuses(data) == [200, 200] and data.endswith(b"ok")


def test_connection_close_is_respected(echo):
    data = echo.talk(f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n", half_close=False)
    assert statuses(data) == [200] and b"connection: close" in data


def test_expect_100_continue(echo):
    with echo.connect() as s:
        s.sendall(f"POST /echo HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"ab")
        assert s.recv(1000).endswith(b"\r\n\r\nab")


def test_a_body_too_large_is_refused_before_it_is_sent(echo):
    with echo.connect() as s:
        s.sendall(f"POST /echo HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n".encode())
        assert statuses(read_all(s)) == [413]


def test_the_refusal_of_a_large_body_reaches_a_client_that_keeps_sending(echo):
    with echo.connect() as s:
        s.sendall(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 20000000\r\n\r\n".encode())
        for _ in range(200):
            s.sendall(b"a" * 100000)
        s.shutdown(socket.SHUT_WR)
        assert statuses(read_all(s)) == [413]


def post(path, body, *headers, chunked=False, close=False):
    head = [f"POST {path} HTTP/1.1", HOST.strip(), *headers, *(["Connection: close"] if close else [])]
    if chunked:
        body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 3]), body[i:i + 3]) for i in range(0, len(body), 3)) + b"0\r\n\r\n"
    return "\r\n".join([*head, "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}", "", ""]).encode() + body


@pytest.mark.parametrize("path", ["/held", "/held/later"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_asked_for_is_read_as_far_as_it_may(echo, path, chunked):
    whole, next_ = post(path + "?10", b"0123456789", chunked=chunked), post("/echo", b"next", close=True)
    for pieces in ([whole + next_], [whole, next_], [whole[i:i + 1] for i in range(len(whole))] + [next_]):
        data = echo.talk(*pieces, half_close=False, pause=0.002)
        assert statuses(data) == [200, 200] and b"\r\n\r\n0123456789HTTP" in data and data.endswith(b"next"), data
    long = post(path + "?10", b"0123456789a", chunked=chunked)
    data = echo.talk(long + (next_ if chunked else b""), half_close=False)
    assert statuses(data)[0] == 413 and b"too long" in data
    if chunked:
        assert statuses(data) == [413] and b"connection: close" in data              # where the next one begins nobody knows
    assert statuses(echo.talk(post(path + "?2000000", b"x" * 1048577, chunked=chunked), half_close=False)) == [413]    # the server's own bound
    assert echo.talk(post(path + "?0", b"", close=True), half_close=False).startswith(b"HTTP/1.1 200")


def test_what_is_too_long_is_refused_by_what_it_says_to_be(echo):
    for path, expected in (("/held?10", 413), ("/held/later?10", 413), ("/held/unread", 403)):
        with echo.connect() as s:
            s.sendall(f"POST {path} HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 11000000\r\n\r\n".encode())
            data = read_all(s)
            assert statuses(data) == [expected] and b"connection: close" in data
    with echo.connect() as s:
        s.sendall(f"POST /held/later?2 HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"ab")
        assert s.recv(1000).endswith(b"\r\n\r\nab")


def test_a_body_that_nobody_asks_for_is_skipped_where_all_of_it_has_come(echo):
    data = echo.talk(post("/held/unread", b"not read") + post("/echo", b"next", close=True), half_close=False)
    assert statuses(data) == [403, 200] and b"not readHTTP" in data and data.endswith(b"next")
    half = post("/held/unread", b"not read")[:-4]
    data = echo.talk(half, post("/echo", b"next", close=True), half_close=False, pause=0.2)
    assert statuses(data) == [403] and data.endswith(b"not ")


@pytest.mark.parametrize("path", ["/held?100", "/held/later?100"])
def test_a_body_that_breaks_off_ends_its_request(echo, path):
    head = f"POST {path} HTTP/1.1\r\n{HOST}"
    assert echo.talk(f"{head}Content-Length: 5\r\n\r\nab") == b""
    assert statuses(echo.talk(f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n", half_close=False)) == [400]
    with echo.connect() as s:
        s.sendall(f"{head}Content-Length: 5\r\n\r\nab".encode())
        assert statuses(read_all(s)) == [408]


@pytest.mark.parametrize("start", ["", "GET / HT", f"GET / HTTP/1.1\r\n{HOST}X: "])
def test_slowloris_is_cut_off(echo, start):
    with echo.connect() as s:
        began = time.monotonic()
        s.sendall(start.encode())
        data = b""
        s.settimeout(0.1)
        while True:
            try:
                part = s.recv(1000)
                if not part:
                    break
                data += part
            except TimeoutError:
                if start:
                    try:
                        s.send(b"a")
                    except OSError:
                        break
            assert time.monotonic() - began < 5
        assert 0.5 < time.monotonic() - began < 4.5
        if start:
            assert statuses(data) == [408]


def test_a_slow_body_is_cut_off(echo):
    with echo.connect() as s:
        began = time.monotonic()
        s.sendall(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\n".encode())
        s.settimeout(0.1)
        data = b""
        while not data:
            try:
                data = s.recv(1000)
            except TimeoutError:
                s.send(b"a")
            assert time.monotonic() - began < 5
        assert statuses(data) == [408]


def test_a_client_that_does_not_read_is_cut_off_and_others_are_served(echo):
    with echo.connect(rcvbuf=4096) as s:
        s.sendall(f"GET /big?8000000 HTTP/1.1\r\n{HOST}\r\n".encode())
        time.sleep(0.2)
        assert echo.talk(f"GET / HTTP/1.1\r\n{HOST}\r\n").endswith(b"ok")
        time.sleep(9)  # 1 s of grace, and the seconds that 8 MB take at 1 MiB/s
        s.settimeout(5)
        assert len(read_all(s)) < 8000000


def test_an_idle_connection_is_closed(echo):
    with echo.connect() as s:
        s.sendall(f"GET / HTTP/1.1\r\n{HOST}\r\n".encode())
        assert s.recv(1000).endswith(b"ok")
        began = time.monotonic()
        assert s.recv(1000) == b""
        assert 1 < time.monotonic() - began < 3


def test_a_large_answer_arrives_whole_and_the_next_one_behind_it(echo):
    with echo.connect() as s:
        s.sendall((f"GET /big?20000000 HTTP/1.1\r\n{HOST}\r\n" * 2 + f"GET / HTTP/1.1\r\n{HOST}\r\n").encode())
        s.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        data = read_all(s)
    assert statuses(data) == [200] * 3 and len(data) > 40000000 and data.endswith(b"ok")


def test_a_header_value_cannot_end_its_line(echo):
    body = "a\r\nset-cookie: x"
    data = echo.talk(f"POST /header HTTP/1.1\r\n{HOST}Content-Length: {len(body)}\r\n\r\n{body}")
    assert b"x-echo: a__set-cookie: x\r\n" in data


def test_a_stream_is_chunked_and_the_connection_goes_on_after_it(echo):
    with echo.connect() as s:
        s.sendall(f"GET /stream HTTP/1.1\r\n{HOST}\r\nGET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())
        data = read_all(s)
    assert b"transfer-encoding: chunked" in data and b"9\r\ndata: 1\n\n\r\n" in data
    assert data.index(b"0\r\n\r\nHTTP/1.1 200") > 0 and data.endswith(b"ok")


def test_a_stream_to_http_1_0_ends_with_the_connection(echo):
    with echo.connect() as s:
        s.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        data = read_all(s)
    assert b"transfer-encoding" not in data and data.endswith(b"data: 40\n\n")


@pytest.mark.parametrize("path", ["/stream", "/slow?3000"])
def test_the_handler_hears_of_a_client_that_went_away(own, path):
    s = own.connect()
    s.sendall(f"GET {path} HTTP/1.1\r\n{HOST}\r\n".encode())
    time.sleep(0.2)
    began = time.monotonic()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()
    assert own.process.stdout.readline() == "gone\n"
    assert time.monotonic() - began < 1
    own.ends()
    assert own.process.returncode == 0


def test_drain_answers_what_it_has_and_accepts_no_more(own):
    slow, idle, half = own.connect(), own.connect(), own.connect()
    slow.sendall(f"GET /slow?700 HTTP/1.1\r\n{HOST}\r\n".encode())
    idle.sendall(f"GET / HTTP/1.1\r\n{HOST}\r\n".encode())
    assert idle.recv(1000).endswith(b"ok")
    half.sendall(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\nab".encode())
    time.sleep(0.1)
    began = time.monotonic()
    own.process.send_signal(signal.SIGTERM)
    assert idle.recv(1000) == b"" and time.monotonic() - began < 0.5
    with pytest.raises(ConnectionRefusedError):
        own.connect()
    half.sendall(b"cd")
    answer = read_all(half)
    assert answer.endswith(b"abcd") and b"connection: close" in answer
    answer = read_all(slow)
    assert answer.endswith(b"slow") and b"connection: close" in answer
    for s in slow, idle, half:
        s.close()
    assert "drained" in own.process.communicate(timeout=5)[0]
    assert own.process.returncode == 0


def test_more_connections_than_allowed_are_told_so(own):
    many = [own.connect() for _ in range(1500)]
    with own.connect() as s:
        assert statuses(read_all(s)) == [503]
    for s in many:
        s.close()
    time.sleep(0.3)
    assert own.talk(f"GET / HTTP/1.1\r\n{HOST}\r\n").endswith(b"ok")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q", "-x", "-p", "no:cacheprovider", *sys.argv[1:]]))
