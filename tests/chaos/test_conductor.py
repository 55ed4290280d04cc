"""The harness itself: what the proxies do to a connection, and that a seed says it all."""
import contextlib
import pathlib
import signal
import socket
import sys
import threading
import time
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import timeline  # noqa: E402
from daemon import Daemon, Supervisor  # noqa: E402
from faults import ALL  # noqa: E402
from proxy import TO_CLIENT, TO_SERVER, Proxies  # noqa: E402

COUNTS = {"gateway": 2, "scheduler": 3, "worker": 3}


@pytest.fixture
def echo():
    """A server that answers each line with the same line, and keeps what it heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                heard.append(data)
                connection.sendall(data)
    threading.Thread(target=serve, daemon=True).start()
    yield types.SimpleNamespace(at=listener.getsockname(), heard=heard)
    listener.close()


@pytest.fixture
def link(echo):
    proxies = Proxies()
    yield proxies.add("a>b", echo.at)
    proxies.close()


def connected(link):
    made = socket.create_connection((link.host, link.port), 5)
    made.settimeout(5)
    return made


def said(client, text):
    client.sendall(text)
    return client.recv(65536)


def silent(client, seconds=0.3):
    client.settimeout(seconds)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(5)
    return True


def heard(echo, text):
    deadline = time.monotonic() + 5
    while text not in b"".join(echo.heard):
        assert time.monotonic() < deadline, f"{text} did not arrive"
        time.sleep(0.01)
    return True


def test_what_is_said_arrives(link):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        assert said(client, b"x" * 20000)[:1] == b"x"


def test_a_cut_link_resets_and_refuses_and_is_there_again_on_the_same_port(link):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        link.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connected(link)
    link.restore()
    with connected(link) as client:
        assert said(client, b"two") == b"two"


def test_what_a_held_link_was_given_comes_late(link, echo):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        link.hold()
        client.sendall(b"two")
        assert silent(client) and b"two" not in b"".join(echo.heard)
        link.restore()
        assert client.recv(10) == b"two"


def test_what_a_held_link_was_given_is_lost_with_its_connection(link, echo):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        link.hold()
        client.sendall(b"two")
        assert silent(client)
        link.restore(reset=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connected(link) as client:
        assert said(client, b"three") == b"three"
    assert b"two" not in b"".join(echo.heard)


def test_one_direction_alone_can_be_held(link, echo):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        link.hold(TO_CLIENT)
        client.sendall(b"two")
        assert heard(echo, b"two") and silent(client)
        link.restore()
        assert client.recv(10) == b"two"
        link.hold(TO_SERVER)
        client.sendall(b"three")
        assert silent(client) and b"three" not in b"".join(echo.heard)
        link.restore()
        assert heard(echo, b"three")


def test_a_client_that_dies_while_answers_are_held_is_seen_to_go(link, echo):
    with connected(link) as client:
        assert said(client, b"one") == b"one"
        link.hold(TO_CLIENT)
        client.sendall(b"two")
        assert heard(echo, b"two")
    link.restore()
    with connected(link) as client:
        assert said(client, b"three") == b"three"


def test_a_slow_link_takes_its_time(link):
    link.slow(delay_s=0.2)
    with connected(link) as client:
        began = time.monotonic()
        assert said(client, b"one") == b"one"
        assert time.monotonic() - began >= 0.4


def told(items):
    return [(round(item.at, 6), item.fault.name, item.fault.target, round(item.fault.duration, 6), repr(item.fault.detail)) for item in items]


def test_a_seed_says_it_all():
    one, again, other = (told(timeline.timeline(seed, 600, sorted(ALL), COUNTS, True)) for seed in (7, 7, 8))
    assert one == again != other


def test_the_short_campaign_has_all_its_points():
    names = [item.fault.name for item in timeline.timeline(1, 90, timeline.selected("smoke"), COUNTS, True)]
    assert set(names) >= set(timeline.SMOKE)


def test_faults_are_found_by_row_by_letter_and_by_name():
    assert timeline.selected("S2,redis-flush") == ["scheduler-after-commit", "redis-flush"]
    assert set(timeline.selected("R")) >= {"redis-flush", "redis-kill", "redis-stale", "redis-full"}
    with pytest.raises(SystemExit, match="no fault 'nothing'"):
        timeline.selected("nothing")


def test_every_row_of_the_matrix_that_is_in_scope_has_a_fault():
    rows = {row for cls in ALL.values() for row in cls.rows}
    wanted = "G1 G2 G3 G4 S1 S2 S3 S4 S5 S6 S8 S9 W1 W2 W3 W4 W5 W6 W8 B1 B2 B3 B4 B6 B7 B8 B9 P1 P2 P6 P7 P8 R1 R2 R3 R4 N1 N2 N3 N4 N5 D1 C1 L1 U1 U2 U3"
    assert rows >= set(wanted.split())


@pytest.mark.parametrize("script, surprising", [("exec sleep 60", False), ("echo '{}'; exec sleep 60", True)],
                         ids=["before it could listen", "after it has spoken"])
def test_an_end_by_a_sigterm_is_a_finding_unless_nothing_had_begun(tmp_path, script, surprising):
    supervisor = Supervisor(pause_s=60)
    daemon = Daemon("d-1", "d", ("127.0.0.1", 1), ["/bin/sh", "-c", script], {}, tmp_path / "log", None)
    (tmp_path / "log").write_text("of a former life\n")
    supervisor.start(daemon)
    deadline = time.monotonic() + 10
    while daemon.pid is None or daemon.has_spoken() != surprising:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process = daemon.process
    daemon.signal(signal.SIGTERM)
    process.wait(10)
    supervisor.closing = True           # its turn is finished first: the end has been looked at
    supervisor.thread.join(10)
    if supervisor.surprises == []:
        supervisor._look(daemon)
    assert [surprise["code"] for surprise in supervisor.surprises] == ([-signal.SIGTERM] if surprising else [])
