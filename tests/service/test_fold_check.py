"""fold-check finds nothing in what the engine wrote, and finds what somebody else did to it."""
import http.server
import json
import os
import subprocess
import threading

import pytest
import requests

from drive import BUILD, private_stack, until

PAIR = {"name": "fold-pair", "steps": {"a": {"call": "noop"}, "b": {"needs": ["a"], "call": "noop"}}}
OPEN = {"name": "fold-open", "steps": {"a": {"call": "noop"}, "nap": {"call": "delay", "with": {"duration": "1h"}}}}
PARENT = {"name": "fold-parent", "steps": {"kid": {"call": "workflow", "with": {"name": "fold-open"}}}}


@pytest.fixture(scope="module")
def drive():
    with private_stack(whole=False) as one:
        for document in PAIR, OPEN, PARENT:
            one.save(document)
        yield one


def check(drive, *args, **env):
    done = subprocess.run([str(BUILD / "bin/fold-check"), *args], env={**drive.env, **env}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout.splitlines()


def at_rest(drive, workflow):
    """A new run, once it and its child move no more by themselves."""
    run = drive.start(workflow)
    if workflow == "fold-pair":
        drive.ended(run)
    else:
        until("the wait", lambda: drive.sql("select 1 from event e join run r on r.id = e.run_id where %s in (r.id, r.parent) "
                                            "and e.type = 22 and e.step = 'nap'", run))
    return run


def test_what_the_engine_wrote_is_whole_and_the_api_agrees(drive):
    for workflow in "fold-pair", "fold-open", "fold-parent":
        at_rest(drive, workflow)
    status, lines = check(drive, "--api")
    assert status == 0 and lines[-1].endswith(" 0 violations"), lines
    runs = drive.sql("select count(*) from run")[0][0]
    assert f"fold-check: {runs} runs" in lines[-1] and f" {runs} answers of the API" in lines[-1]
    assert drive.faults_of_history() == []


TAMPERED = {
    "another-status": ("fold-pair", "update run set status = 'failed' where id = %s", "run says 'failed', its history 'succeeded'"),
    "no-end": ("fold-pair", "update run set ended_at = null where id = %s", "differ on whether it has ended"),
    "a-gap": ("fold-pair", "delete from event where run_id = %s and seq = 3", "event 4 follows event 2"),
    "another-step": ("fold-pair", "update event set step = 'b' where run_id = %s and type = 24 and step = 'a'",
                     "it came before step 'a', which it needs, had ended"),
    "no-last-event": ("fold-pair", "delete from event where run_id = %s and type = 2", "its history 'active'"),
    "work-of-an-ended-run": ("fold-pair", "insert into open_work (shard, run_id, seq, organisation, kind, step, attempt, dispatch, opened_at) "
                             "select 0, id, 2, organisation, 1, 'a', 1, 1, now() from run where id = %s", "history does not explain"),
    "work-gone": ("fold-open", "delete from open_work where run_id = %s", "open_work has 0 rows"),
    "another-time": ("fold-open", "update open_work set due_at = due_at + interval '1 s' where run_id = %s and step = 'nap'", "is due at"),
    "another-attempt": ("fold-open", "update open_work set attempt = 7 where run_id = %s and step = 'nap'", "attempt 7"),
    "no-run": ("fold-pair", "delete from run where id = %s", "is not there, but has a row of event_rows"),
    "child-gone": ("fold-parent", "update run set ended_at = now(), status = 'succeeded' where parent = %s", "0 open, 0 commands"),
    "another-parent-step": ("fold-parent", "update run set parent_step = 'x' where parent = %s", "says so in 0 events"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_somebody_else_wrote_is_found(drive, how):
    workflow, statement, told = TAMPERED[how]
    run = at_rest(drive, workflow)
    before = check(drive)[1]
    assert not [line for line in before if run in line]
    ids = {run} | {str(row[0]) for row in drive.sql("select id from run where parent = %s", run)}
    drive.sql(statement, run)
    status, lines = check(drive)
    found = [line for line in lines if line.startswith("violation: ") and line not in before]
    assert status == 1 and any(told in line for line in found), lines
    assert all(any(each in line for each in ids) for line in found), "it is not told of others"


LIES = {
    "status": (lambda run: run.update(status="failed"), "its status is failed"),
    "end": (lambda run: run.update(ended_at=None), "it ended at null"),
    "error": (lambda run: run.update(error={"code": "x", "step": "a", "message": ""}), "its error is x"),
    "version": (lambda run: run.update(version=99), "its version is 99"),
    "step": (lambda run: run["steps"]["b"].update(status="skipped"), "step 'b' is skipped"),
    "attempt": (lambda run: run["steps"]["a"]["attempts"][0].update(attempt=2), "the last attempt of step 'a' is 2"),
    "steps": (lambda run: run["steps"].pop("b"), "its steps are"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_of_the_api_that_differs_is_found(drive, lie):
    change, told = LIES[lie]
    victim = at_rest(drive, "fold-pair")

    class Liar(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = requests.get(drive.url + self.path, headers={"Authorization": self.headers["Authorization"]}, timeout=10)
            body = answer.json()
            if self.path.endswith(victim):
                change(body)
            text = json.dumps(body).encode()
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        status, lines = check(drive, "--api", ROPEWALK_URL=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert status == 1
    assert [line for line in lines if f"violation: run {victim}: the API says {told}" in line], lines


def test_what_it_needs_it_asks_for(drive):
    assert check(drive, "--nonsense") == (2, ["usage: fold-check [--api]"])
    without = {name: value for name, value in os.environ.items() if not name.startswith("ROPEWALK_")}
    for env, args, told in [({}, [], "ROPEWALK_ADMIN_PG_URL"),
                            ({"ROPEWALK_ADMIN_PG_URL": drive.env["ROPEWALK_ADMIN_PG_URL"]}, ["--api"], "ROPEWALK_URL")]:
        done = subprocess.run([str(BUILD / "bin/fold-check"), *args], env={**without, **env}, stderr=subprocess.PIPE, text=True, timeout=20)
        assert done.returncode == 2 and told in done.stderr
