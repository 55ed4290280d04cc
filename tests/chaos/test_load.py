"""The clients of the load are careful, and honest in what they write down."""
import collections
import http.server
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import campaign  # noqa: E402
import load as under_test  # noqa: E402
import workflows  # noqa: E402


class Gateway:
    """Answers each request by `answer(number of the request of this key, method, path)`: a status, "cut", or "none"."""

    def __init__(self, answer):
        self.seen, self.lock, self.closed, outer = [], threading.Lock(), threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                key = self.headers.get("Idempotency-Key")
                with outer.lock:
                    turn = sum(one[2] == key and one[3] == body for one in outer.seen)
                    outer.seen.append((self.command, self.path, key, body))
                said = answer(turn, self.command, self.path)
                if said == "none":
                    outer.closed.wait(120)
                    return
                if said == "cut":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                text = json.dumps({"run_id": f"run-of-{key}", "status": "pending"} if said == 202 else {"code": f"code_{said}"}).encode()
                self.send_response(said)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()


def run_load(folder, gateways, enough, rate="40", seconds=60, drain="2"):
    """Runs it until enough(lines) and SIGTERM; the lines of client.jsonl. What is under way then would never end: no run here does."""
    (folder / "cluster.json").write_text(json.dumps({"gateways": gateways, "organisations": {"amber": "k1", "birch": "k2", "coral": "k3"}}))
    (folder / "ledger.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "refuse_url": "http://127.0.0.1:1"}))
    with subprocess.Popen([str(HERE / "load.py"), str(folder), "--seed", "7", "--rate", rate, "--drain", drain], stdout=subprocess.PIPE, text=True) as one:
        try:
            deadline = time.monotonic() + seconds
            while not enough(lines := campaign.lines_of(folder / "client.jsonl")):
                assert one.poll() is None and time.monotonic() < deadline, (one.returncode, lines[-3:])
                time.sleep(0.1)
        finally:
            one.send_signal(signal.SIGTERM)
            one.wait(180)
    assert one.returncode == 0
    return campaign.lines_of(folder / "client.jsonl")


@pytest.fixture
def gateways():
    made = []

    def make(answer):
        made.append(Gateway(answer))
        return made[-1]
    yield make
    for one in made:
        one.close()


def starts(lines):
    return [line for line in lines if line["op"] == "start" and not line["expect"]]


def saved_or(answer):
    return lambda turn, method, path: 201 if method == "PUT" else 200 if method in ("GET", "PATCH") else answer(turn)


def test_an_unknown_start_is_repeated_with_the_same_key_and_body_through_another_gateway(tmp_path, gateways):
    bad, good = gateways(saved_or(lambda turn: "cut")), gateways(saved_or(lambda turn: 503 if turn == 0 else 202))
    lines = run_load(tmp_path, [bad.url, good.url], lambda lines: sum(line["outcome"] == "ok" for line in starts(lines)) > 15)
    by_key = {}
    for line in starts(lines):
        by_key.setdefault(line["key"], []).append(line)
    assert {"cut", "503", "ok"} == {"ok" if line["outcome"] == "ok" else str(line["status"] or "cut") for line in starts(lines)}
    repeated = 0
    for tries in by_key.values():
        assert len({(line["org"], line["workflow"], line["body_sha"]) for line in tries}) == 1
        repeated += len({line["gateway"] for line in tries}) == 2
        for line in tries:
            assert line["t_invoke"] <= line["t_return"]
            assert line["outcome"] == ("ok" if line["status"] == 202 else "unknown"), line
            assert line["run"] == (f"run-of-{line['key']}" if line["status"] == 202 else None)
    assert repeated > 10


def test_what_was_refused_is_not_repeated_and_what_was_not_sent_is_a_failure(tmp_path, gateways):
    refusing = gateways(saved_or(lambda turn: 403))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        lines = run_load(tmp_path, [refusing.url, closed], lambda lines: sum(line["status"] == 403 for line in starts(lines)) > 15)
    assert {line["outcome"] for line in starts(lines)} == {"fail"}
    for line in starts(lines):
        assert (line["status"] == 403) == (line["gateway"] == refusing.url)
    singles = [key for key in {line["key"] for line in starts(lines)}
               if len({line["t_invoke"] for line in starts(lines) if line["key"] == key and line["gateway"] == refusing.url}) == 1]
    assert len(singles) > 8, "one start in ten is sent several times at once, the others once"


def test_some_keys_are_sent_at_once_several_times_and_some_again_with_another_body(tmp_path, gateways):
    one, two = gateways(saved_or(lambda turn: 202)), gateways(saved_or(lambda turn: 202))
    lines = run_load(tmp_path, [one.url, two.url], lambda lines: len(starts(lines)) > 150 and any(line["expect"] == 422 for line in lines), "80")
    by_key = {}
    for line in starts(lines):
        by_key.setdefault(line["key"], []).append(line)
    together = [tries for tries in by_key.values() if len(tries) > 1 and max(line["t_invoke"] for line in tries[:2]) < min(line["t_return"] for line in tries[:2])]
    assert together and any(len({line["gateway"] for line in tries}) == 2 for tries in together)
    for line in lines:
        if line["expect"] == 422:
            assert line["body_sha"] != by_key[line["key"]][0]["body_sha"]


def test_a_silent_gateway_keeps_nobody_for_ever_and_the_end_is_written_down(tmp_path, gateways):
    silent, good = gateways(saved_or(lambda turn: "none")), gateways(saved_or(lambda turn: 202))
    lines = run_load(tmp_path, [good.url, silent.url], lambda lines: sum(line["gateway"] == silent.url for line in starts(lines)) > 3, "10", 90,
                     drain=str(under_test.ANSWER_SECONDS + 1))
    unknown = [line for line in lines if line["op"] == "start" and line["gateway"] == silent.url]
    assert unknown and {line["outcome"] for line in unknown} == {"unknown"}
    assert all((line["t_return"] - line["t_invoke"]) / 1e9 < under_test.ANSWER_SECONDS + 5 for line in unknown)
    told = json.loads((tmp_path / "load.json").read_text())
    assert told["t_begin"] < told["t_end"] <= told["t_drained"]


def test_whatever_is_paused_is_resumed_and_all_of_it_at_the_end_once_more(tmp_path, gateways):
    bad, good = gateways(saved_or(lambda turn: "cut")), gateways(saved_or(lambda turn: 202))
    lines = run_load(tmp_path, [bad.url, good.url], lambda lines: sum(line["op"] == "pause" and line["outcome"] == "ok" for line in lines) > 3, "80")
    known = [line for line in lines if line["outcome"] == "ok"]
    assert sum(line["op"] == "limit" for line in known) == 1
    last = {}
    for line in lines:
        if line["op"] == "bulk" and line["kind"] == "resume" and line["key"].startswith("all-"):
            last.setdefault(line["org"], []).append(line)
    assert last.keys() == {"amber", "birch", "coral"}
    latest = max(line["t_invoke"] for line in lines if line["op"] == "pause")
    for tries in last.values():
        assert tries[-1]["outcome"] == "ok" and tries[-1]["t_invoke"] > latest and len({line["body_sha"] for line in tries}) == 1


def test_runs_that_are_to_meet_are_started_together_under_one_label():
    made = workflows.documents("5", "mark-a-0123456789ab", "http://l", "http://r")
    assert workflows.BURSTS.keys() <= made.keys()
    bounds = [document["concurrency"] for document, _ in made.values() if "concurrency" in document]
    assert {bound.get("on_limit", "queue") for bound in bounds} == {"queue", "skip", "cancel_oldest"}
    assert {"key" in bound for bound in bounds} == {True, False}
    assert all(workflows.BURSTS[name] > document["concurrency"]["limit"] for name, (document, _) in made.items() if "concurrency" in document)


def test_the_seed_says_it_all_and_every_organisation_has_its_own_marker():
    one = workflows.documents("5", "mark-a-0123456789ab", "http://l", "http://r")
    assert one == workflows.documents("5", "mark-a-0123456789ab", "http://l", "http://r")
    other = workflows.documents("6", "mark-a-0123456789ab", "http://l", "http://r")
    assert one != other and one.keys() == other.keys()
    assert len({under_test.marker_of("5", name) for name in ("amber", "birch", "coral")}) == 3


def test_three_in_ten_requests_lose_their_answer_and_every_call_is_there():

    lossy = collections.Counter()
    calls = set()
    for seed in range(20):
        for name, (document, _) in workflows.documents(str(seed), "mark-a-0123456789ab", "http://l", "http://r").items():
            plan = campaign.Plan(document)
            calls |= {step["call"] for step in plan.steps.values()}
            assert len(document["steps"]) <= 40
            if name.startswith(("chain", "fork", "graph")):
                for step in plan.steps.values():
                    if step["call"] == "http":
                        lossy[step["with"]["url"].removeprefix("http://l/") in workflows.LOSSY] += 1
    assert calls == {"http", "noop", "transform", "condition", "switch", "delay", "wait_signal", "poll", "foreach", "workflow"}
    assert 0.25 < lossy[True] / (lossy[True] + lossy[False]) < 0.32
