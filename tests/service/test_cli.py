"""The command line against a real gateway: what a user types in a day, and its exit codes."""
import json
import os
import socket
import subprocess
import threading
import time
import uuid

import pytest

import drive

FLOW = """\
name: {name}
input_schema: {{type: object, required: [n], properties: {{n: {{type: number}}}}}}
steps:
  one: {{call: transform, with: {{value: "${{ .input.n }}"}}}}
  large:
    needs: [one]
    call: condition
    with: {{if: "${{ .input.n > 100 }}"}}
  work: {{call: noop, needs: {{large: [false]}}}}
  never: {{call: noop, needs: {{large: [true]}}}}
output: {{n: "${{ .input.n }}", exact: 0.10}}
"""
WAITS = "name: {name}\nsteps:\n  nap: {{call: delay, with: {{duration: 1h}}}}\n"
FAILS = 'name: {name}\nsteps:\n  bad: {{call: transform, with: {{value: "${{ .input | error }}"}}}}\n'


@pytest.fixture
def cli(stack):
    def run(*words, code=0, stdin=None, env=None):
        done = subprocess.run([str(drive.BUILD / "bin/ropewalk"), *words], input=stdin, capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "ROPEWALK_URL": stack.urls[0], "ROPEWALK_API_KEY": stack.key, **(env or {})})
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture
def name():
    return "cli-" + uuid.uuid4().hex[:8]


def test_save_run_and_look_up(cli, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW.format(name=name))
    assert cli("validate", str(path)).stdout == f"{path}: valid\n"
    assert cli("apply", str(path)).stdout == f"{name} version 1 saved, new workflow\n"
    assert cli("apply", str(path)).stdout == f"{name} version 1 unchanged\n"
    lines = cli("run", name, "--input", '{"n": 12.50}', "--label", "who=cli", "--watch").stdout.splitlines()
    run_id = lines[0].removeprefix("run ")
    assert lines[1] == "run running" and lines[-2] == "run succeeded"
    assert "large succeeded, branch false" in lines and any(line.startswith("never skipped") for line in lines)
    assert json.loads(lines[-1]) == {"n": 12.5, "exact": 0.1} and '"exact":0.10' in lines[-1]
    shown = cli("get", "run", run_id).stdout
    assert f"run {run_id} of {name} version 1: succeeded" in shown and '"exact": 0.10' in shown
    assert json.loads(cli("get", "run", run_id, "-o", "json").stdout)["steps"]["never"]["status"] == "skipped"
    shown = cli("get", "run", run_id, "-o", "yaml").stdout
    assert "\nstatus: succeeded\n" in shown and "\n  never:\n    status: skipped\n" in shown and "\n  exact: 0.10\n" in shown
    assert run_id in cli("list", "runs", "--workflow", name, "--label", "who=cli", "--status", "succeeded").stdout
    assert run_id not in cli("list", "runs", "--workflow", name, "--status", "failed").stdout
    assert name in cli("get", "workflows", "--limit", "500").stdout
    history = cli("events", run_id).stdout.splitlines()
    assert history[0].split()[2] == "run.started" and history[-1].split()[2] == "run.succeeded"
    assert cli("events", run_id, "-f").stdout.splitlines() == history
    assert "succeeded" in cli("explain", run_id).stdout


def test_faults_are_shown_with_their_lines(cli, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(f"name: {name}\ntimeout: soon\nsteps:\n  a:\n    call: http\n    retries: 3\n    with: {{uri: x}}\n  b: {{call: noop, needs: [c]}}\n")
    said = cli("validate", str(path), code=3).stdout
    for line, pointer, code in [(2, "/timeout", "bad_duration"), (6, "/steps/a/retries", "unknown_field"), (7, "/steps/a/with/uri", "unknown_field"),
                                (7, "/steps/a/with/url", "missing_field")]:
        assert any(text.startswith(f"{path}:{line}: error: {pointer}: ") and text.endswith(f"({code})") for text in said.splitlines()), said
    assert "did you mean 'retry'?" in said
    assert f"{path}:6: /steps/a/retries" in cli("apply", str(path), code=3).stderr
    path.write_text(f"name: {name}\nsteps:\n  a: {{call: noop, needs: [b]}}\n  b: {{call: noop, needs: [a]}}\n")
    assert "(cycle)" in cli("validate", str(path), code=3).stdout


def test_exit_codes(cli, name):
    cli("apply", "-", stdin=FLOW.format(name=name))
    assert "/input/n: must be a number" in cli("run", name, "--input", '{"n": "x"}', code=3).stderr
    assert "not_found" in cli("run", "no-such-" + name, code=3).stderr
    cli("apply", "-", stdin=FAILS.format(name=name + "-fails"))
    assert "run failed: step bad" in cli("run", name + "-fails", "--wait", code=1).stderr
    cli("apply", "-", stdin=WAITS.format(name=name + "-waits"))
    assert "goes on" in cli("run", name + "-waits", "--wait", "--timeout", "1", code=5).stderr
    assert "(401" in cli("list", code=3, env={"ROPEWALK_API_KEY": "rw_wrong"}).stderr
    assert "cannot reach" in cli("list", code=4, env={"ROPEWALK_URL": "http://127.0.0.1:1"}).stderr
    run = cli("run", name + "-waits").stdout.strip()
    drive.until("its first step", lambda: "waits until" in cli("explain", run).stdout)


def test_the_same_key_starts_one_run(cli, name):
    cli("apply", "-", stdin=FLOW.format(name=name))
    first = cli("run", name, "--input", '{"n": 1}', "--idempotency-key", "k").stdout
    assert cli("run", name, "--input", '{"n":1}', "--idempotency-key", "k").stdout == first
    cli("run", name, "--input", '{"n": 2}', "--idempotency-key", "k", code=3)


def test_following_goes_on_while_the_run_does(cli, api, name):
    cli("apply", "-", stdin=WAITS.format(name=name))
    run_id = cli("run", name).stdout.strip()
    said = []
    follower = threading.Thread(target=lambda: said.append(cli("events", run_id, "-f").stdout))
    follower.start()
    time.sleep(1)
    assert follower.is_alive()
    assert api("POST", f"/v1/runs/{run_id}:cancel").status_code == 200
    follower.join(10)
    assert said and said[0].splitlines()[-1].split()[2] == "run.cancelled"


def test_keys_come_and_go(cli, stack):
    key = cli("keys", "create", "of a test", "--role", "viewer").stdout.strip()
    mine = {"ROPEWALK_API_KEY": key}
    cli("list", env=mine)
    assert "(403" in cli("keys", "list", code=3, env=mine).stderr
    row = next(line for line in cli("keys", "list", "--limit", "500").stdout.splitlines() if key[:10] in line)
    cli("keys", "revoke", row.split()[0])
    deadline = time.monotonic() + 6
    while subprocess.run([str(drive.BUILD / "bin/ropewalk"), "list"], capture_output=True,
                         env={**os.environ, "ROPEWALK_URL": stack.urls[0], **mine}).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)


SIGNAL = """\
name: {name}
steps:
  ask: {{call: wait_signal, with: {{signal: approved}}}}
output: "${{ .steps.ask.output }}"
"""


def test_signals_and_cancellation(cli, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(SIGNAL.format(name=name))
    cli("apply", str(path))
    run_id = cli("run", name).stdout.strip()
    assert cli("signal", run_id, "approved", '{"by": "ann"}').stdout == "signalled\n"
    assert json.loads(cli("run", name, "--wait", "--timeout", "1", code=5).stdout or "null") is None
    until_ended = time.monotonic() + 20
    while json.loads(cli("get", "run", run_id, "-o", "json").stdout)["status"] != "succeeded":
        assert time.monotonic() < until_ended
        time.sleep(0.05)
    refused = cli("signal", run_id, "approved", code=3)
    assert "run_ended" in refused.stderr or "ended" in refused.stderr
    cli("signal", run_id, "approved", "not json", code=2)
    other = cli("run", name).stdout.strip()
    assert cli("resume", other).stdout == "resumed\n"          # that holds already
    assert cli("pause", other).stdout == "paused: nothing new begins\n"
    assert json.loads(cli("get", "run", other, "-o", "json").stdout)["status"] == "paused"
    assert other in cli("list", "runs", "--status", "paused").stdout
    assert cli("resume", other).stdout == "resumed\n"
    assert cli("cancel", other).stdout.startswith("cancelled")
    assert "run_ended" in cli("pause", other, code=3).stderr
    assert "nothing_to_compensate" in cli("compensate", other, code=3).stderr


def test_an_unknown_outcome_is_settled_by_hand(cli, name, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        def hang_up():
            connection, _ = deaf.accept()
            connection.recv(65536)
            connection.close()
        threading.Thread(target=hang_up, daemon=True).start()
        path = tmp_path / "flow.json"
        path.write_text(json.dumps({"name": name, "output": "${ .steps.once.output }", "steps": {"once": {
            "call": "http", "delivery": "at_most_once", "on_unknown": "wait",
            "with": {"method": "POST", "url": f"http://127.0.0.1:{deaf.getsockname()[1]}/"}}}}))
        cli("apply", str(path))
        run_id = cli("run", name).stdout.strip()
        deadline = time.monotonic() + 30
        while json.loads(cli("get", "run", run_id, "-o", "json").stdout)["steps"]["once"]["status"] != "waiting":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    cli("settle", run_id, "once", "--as", "perhaps", code=2)
    assert cli("settle", run_id, "once", "--as", "succeeded", "--output", '{"done": true}').stdout == "settled\n"
    assert "not" in cli("settle", run_id, "once", "--as", "failed", code=3).stderr


def test_versions_are_compared_and_taken_back(cli, name, tmp_path):
    path = tmp_path / "flow.json"
    for n in (1, 2):
        path.write_text(json.dumps({"name": name, "steps": {f"only{n}": {"call": "noop"}, "say": {"call": "transform", "with": {"value": n}}}}))
        cli("apply", str(path))
    lines = cli("diff", name, "1", "2").stdout
    assert "/steps/only1 removed" in lines and "/steps/only2 added" in lines and "/steps/say/with/value changed\n  - 1\n  + 2" in lines
    assert cli("rollback", name, "1").stdout == f"{name} version 3 is version 1 again\n"
    assert cli("diff", name, "1", "3").stdout == ""
    cli("rollback", name, "none", code=2)


def test_top_shows_what_waits_and_who_works(cli, stack, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(WAITS.format(name=name))
    cli("apply", str(path))
    run_id = cli("run", name).stdout.strip()
    drive.until("the delay is seen", lambda: any(row["kind"] == "delay" for row in json.loads(cli("top", "-o", "json").stdout)["waiting"]))
    stats = json.loads(cli("top", "-o", "json").stdout)
    assert stats["organisation"] == "default" and stats["runs"]["open"]["active"] >= 1 and stats["runs"]["last_minute"]["started"] >= 1
    assert drive.until("workers are heard", lambda: json.loads(cli("top", "-o", "json").stdout)["workers"] >= 1, 20)
    workers = stack.ask("GET", "/v1/workers")["items"]
    assert workers and all(w["name"] and w["tasks"] is not None and w["heard_at"] for w in workers)
    said = cli("top").stdout
    assert "schedulers, " in said and f"{run_id}  " in said and "delay" in said
    cli("cancel", run_id)


def test_top_shows_runs_that_wait_for_a_slot(cli, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text("concurrency: {limit: 1}\n" + WAITS.format(name=name))
    cli("apply", str(path))
    runs = [cli("run", name).stdout.strip() for _ in range(3)]

    def waiting():
        return {row["kind"]: row["count"] for row in json.loads(cli("top", "-o", "json").stdout)["waiting"]}
    drive.until("two wait for the third", lambda: waiting().get("admission", 0) >= 2)
    assert "admission" in cli("top").stdout
    for run_id in reversed(runs):
        cli("cancel", run_id)


def test_pictures_and_the_state_of_workflows(cli, name, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW.format(name=name))
    cli("apply", str(path))
    picture = cli("mermaid", name).stdout
    assert picture.startswith("flowchart TD\n") and picture == cli("mermaid", str(path)).stdout == cli("mermaid", name, "--version", "1").stdout
    run_id = cli("run", name, "--input", '{"n": 1}').stdout.strip()
    cli("events", run_id, "-f")
    shown = cli("mermaid", "run", run_id).stdout
    steps = {line.split('"')[1].split("<")[0]: line.split('"')[0].strip(" [{") for line in picture.splitlines() if "<br/>" in line}
    assert shown.startswith(picture)
    assert {line.strip() for line in shown.splitlines() if line.startswith("    class s")} == {
        f"class {steps[step]} {state}" for step, state in {"one": "succeeded", "large": "succeeded", "work": "succeeded", "never": "skipped"}.items()}
    cli("disable", name)
    assert "workflow_disabled" in cli("run", name, "--input", '{"n": 1}', code=3).stderr
    cli("enable", name)
    assert "not_quarantined" in cli("release", run_id, code=3).stderr
    assert [item["version"] for item in json.loads(cli("list", "versions", "--workflow", name, "-o", "json").stdout)["items"]] == [1]
    cli("delete", name)
    assert "404" in cli("run", name, "--input", '{"n": 1}', code=3).stderr
    assert cli("get", "run", run_id).stdout.startswith(f"run {run_id} of {name} version 1: succeeded")


def test_events_are_sent_and_followed(cli, api, name, tmp_path):
    (tmp_path / "flow.yaml").write_text(f"name: {name}\ntriggers:\n  t: {{event: {{type: {name}, filter: '${{ .event.data.n > 1 }}'}}}}\n"
                                        f"  bad: {{event: {{type: {name}, source: /bad, filter: '${{ .event.id }}'}}}}\n"
                                        "steps: {a: {call: noop}}\n")
    cli("apply", str(tmp_path / "flow.yaml"))
    (tmp_path / "data.json").write_text('{"n": 0.20e1}')
    started = cli("events", "publish", name, f"@{tmp_path / 'data.json'}", "--source", "/bad", "--id", "one", "--subject", "s")
    assert started.stdout.strip() == api("GET", f"/v1/runs?workflow={name}").json()["items"][0]["id"] and "not a boolean" in started.stderr
    assert cli("events", "publish", name, "{\"n\": 2}", "--source", "/bad", "--id", "one").stdout == started.stdout, "the same event"
    assert cli("events", "publish", name, '{"n": 1}').stdout == ""
    taken = json.loads(cli("events", "publish", name, '{"n": 3}', "-o", "json").stdout)
    lines = cli("events", "tail", "--all", "--once", "--type", name).stdout.splitlines()
    assert len(lines) == 3 and f"{name} /bad one" in lines[0] and started.stdout.strip() in lines[0] and "not_boolean" in lines[0]
    assert " -> " not in lines[1] and lines[2].endswith(f"-> {name} {taken['starts'][0]['run_id']}")
    items = [json.loads(line) for line in cli("events", "tail", "--all", "--once", "--source", "/bad", "--type", name, "-o", "json").stdout.splitlines()]
    assert [item["event"]["subject"] for item in items] == ["s"]
    assert cli("events", "tail", "--once", "--type", name).stdout == "", "from now on"
    cli("events", "publish", "", code=3)
    cli("events", "publish", code=2)


def test_a_tail_goes_on_while_events_come(stack, name):
    tail = subprocess.Popen([str(drive.BUILD / "bin/ropewalk"), "events", "tail", "--all", "--type", name], stdout=subprocess.PIPE, text=True,
                            env={"PATH": "/usr/bin:/bin", "ROPEWALK_URL": stack.urls[0], "ROPEWALK_API_KEY": stack.key})
    try:
        for number in range(3):  # each is sent when the one before has been seen, over the other gateway
            event = {"specversion": "1.0", "id": str(number), "source": "/tail", "type": name}
            stack.ask("POST", "/v1/events", event, url=stack.urls[1])
            assert f"{name} /tail {number}" in tail.stdout.readline()
    finally:
        tail.terminate()
        tail.wait(10)
