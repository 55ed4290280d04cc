"""The checker finds what is wrong: a small campaign without faults is judged, and then its files and tables are tampered
with, one thing at a time. Each tampering must break the invariant that is about it.

ROPEWALK_CHAOS_DIR names the folder of a campaign that was judged before, to be used instead of a new one.
"""
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import uuid

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import bounds  # noqa: E402,F401
import campaign  # noqa: E402
import check  # noqa: E402

FILES = ("client", "ledger", "faults", "resources", "slots")


class Record:
    """The files of a campaign, in memory."""

    def __init__(self, folder):
        for name in FILES:
            setattr(self, name, campaign.lines_of(folder / f"{name}.jsonl"))
        self.tables = campaign.recall(folder / "database.jsonl")
        self.load = json.loads((folder / "load.json").read_text())
        self.cluster = json.loads((folder / "cluster.json").read_text())
        ours = self.ours()
        for table in ("run", "event"):
            self.tables[table] = [row for row in self.tables[table] if row["organisation"] in ours]

    def write(self, folder):
        for name in FILES:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in getattr(self, name)))
        (folder / "load.json").write_text(json.dumps(self.load))
        (folder / "cluster.json").write_text(json.dumps({**self.cluster, "state_dir": str(folder)}))

    # --- finding one's way ----------------------------------------------------------------------------------------

    def ours(self):
        return {row["id"] for row in self.tables["organisation"] if row["name"] in self.cluster["organisations"]}

    def run(self, workflow, status="succeeded"):
        return next(row for row in self.tables["run"]
                    if row["workflow"] == workflow and row["status"] == status and row["parent"] is None and row["organisation"] in self.ours())

    def events(self, run, kind=None, step=None):
        return [row for row in self.tables["event"] if row["run"] == run["id"] and kind in (None, row["type"]) and step in (None, row["step"])]

    def renumber(self, run):
        for number, row in enumerate(self.events(run), 1):
            row["seq"] = number

    def add_after(self, event, **changes):
        """Another event like this one, behind it."""
        self.tables["event"].insert(self.tables["event"].index(event) + 1, {**event, **changes})
        self.renumber({"id": event["run"]})

    def requests(self, run, step, phase=None):
        return [line for line in self.ledger if line["run"] == run["id"] and line["step"] == step and phase in (None, line["phase"])]

    def request_again(self, of, path, delay_ms=200, **changes):
        """The step's last request a second time, later, on a connection of its own."""
        last = self.requests(of, path, "begin")[-1]
        lines = [line for line in self.ledger if (line["conn"], line["req"]) == (last["conn"], last["req"])]
        conn = 1 + max(line["conn"] for line in self.ledger)
        self.ledger += [{**line, "conn": conn, "ns": line["ns"] + delay_ms * 1000000, **changes} for line in lines]

    def operation(self, op, outcome="ok", **fields):
        return next(line for line in self.client if line["op"] == op and line["outcome"] == outcome
                    and all(line.get(name) == value for name, value in fields.items()))

    def marker_of(self, run):
        return self.load["markers"][next(row["name"] for row in self.tables["organisation"] if row["id"] == run["organisation"])]

    def foreign_marker(self, run):
        return next(marker for marker in self.load["markers"].values() if marker != self.marker_of(run))

    def fault_around_everything(self):
        self.faults.append({"t_begin": 0, "t_end": 1 << 62, "fault": "all", "rows": ["X"], "target": "all", "detail": {}})


@pytest.fixture(scope="session")
def original():
    """A campaign of every kind of workflow, judged once with everything up."""
    if os.environ.get("ROPEWALK_CHAOS_DIR"):
        yield pickle.dumps(Record(pathlib.Path(os.environ["ROPEWALK_CHAOS_DIR"])))
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ropewalk-chaos."))
    try:
        done = subprocess.run([str(HERE / "quiet.py"), str(folder), "--seconds", "20", "--rate", "6"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=480)
        assert done.returncode == 0, done.stdout
        yield pickle.dumps(Record(folder))
    finally:
        subprocess.run([str(HERE / "quiet.py"), str(folder), "--clean"], stdout=subprocess.DEVNULL, timeout=180)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def record(original):
    return pickle.loads(original)


@pytest.fixture
def judged(tmp_path):
    def judge(record):
        """{number of the invariant: what is wrong} of those that are broken."""
        record.write(tmp_path)
        c = campaign.Campaign(tmp_path, record.tables)
        return {number: found for number, _, _, found in check.judge(c) if found}
    return judge


def test_the_campaign_as_it_was_holds(record, judged, tmp_path):
    assert judged(record) == {}
    campaign.keep(record.tables, tmp_path / "database.jsonl")
    done = subprocess.run([str(HERE / "check.py"), str(tmp_path), "--recorded"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and "BROKEN" not in done.stdout
    assert {row["workflow"] for row in record.tables["run"]} >= set(record.load["ends"]), "every kind of workflow ran"


def test_a_broken_invariant_is_named_and_is_the_exit_code(record, judged, tmp_path):
    record.tables["fold"][0].update(code=1, text="violation: run x: nonsense\n")
    judged(record)
    campaign.keep(record.tables, tmp_path / "database.jsonl")
    done = subprocess.run([str(HERE / "check.py"), str(tmp_path), "--recorded"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "fold  BROKEN" in done.stdout and "nonsense" in done.stdout


def test_a_folder_that_cannot_be_read_is_no_success(tmp_path):
    done = subprocess.run([str(HERE / "check.py"), str(tmp_path)], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and "cluster.json" in done.stderr


# --- tampering: the invariant that it breaks, and what is done, in words -------------------------------------------------------

TAMPERINGS = []


def breaks(number, what):
    def add(function):
        TAMPERINGS.append(pytest.param(number, function, id=f"{number}-{what.replace(' ', '-')}"))
        return function
    return add


@breaks("I1", "an acknowledged run is gone")
def drop_run(r):
    gone = r.run("chain-0")
    for table, field in (("run", "id"), ("event", "run"), ("api", "run")):
        r.tables[table] = [row for row in r.tables[table] if row[field] != gone["id"]]


@breaks("I1", "a run has no end")
def drop_end(r):
    run = r.run("chain-0")
    r.tables["event"].remove(r.events(run)[-1])
    run.update(status="active", ended_us=None)


@breaks("I1", "an acknowledged signal is gone")
def drop_signal(r):
    run = r.run("signals")
    r.tables["event"].remove(r.events(run, campaign.SIGNAL)[0])
    r.renumber(run)


@breaks("I1", "a signal is there twice")
def double_signal(r):
    r.add_after(r.events(r.run("signals"), campaign.SIGNAL)[0])


@breaks("I1", "an acknowledged settlement is gone")
def drop_settlement(r):
    done = r.operation("settle")
    event = r.events({"id": done["run"]}, campaign.SETTLED)[0]
    event["type"] = 25


@breaks("I1", "a gateway does not know an acknowledged run")
def not_read_back(r):
    r.operation("get", status=200).update(status=404, outcome="fail")


@breaks("I2", "a run that nobody started")
def phantom_run(r):
    key = r.run("chain-0")["key"]
    r.client = [line for line in r.client if line["key"] != key]


@breaks("I2", "an effect of a run that is not there")
def phantom_effect(r):
    run = r.run("chain-0")
    r.request_again(run, "s0", run=str(uuid.uuid4()))


@breaks("I2", "an effect of a run that is not there and says nothing of an organisation")
def phantom_of_nobody(r):
    r.request_again(r.run("chain-0"), "s0", run=str(uuid.uuid4()), markers=[], key="of-nobody")


@breaks("I2", "an effect of no run")
def phantom_without_run(r):
    r.request_again(r.run("chain-0"), "s0", run=None, markers=[], key="of-nobody")


@breaks("I2", "an effect of a step that is not there")
def phantom_step(r):
    r.request_again(r.run("chain-0"), "s0", step="s99", key="other")


@breaks("I2", "an effect of an attempt that was never dispatched")
def phantom_attempt(r):
    r.request_again(r.run("chain-0"), "s0", attempt=4)


@breaks("I2", "more attempts than the policy allows")
def too_many_attempts(r):
    run = r.run("chain-0")
    for number in range(2, 8):
        last = r.events(run, campaign.DISPATCHED, "s0")[-1]
        r.add_after(last, type=campaign.ATTEMPT_FAILED, code="worker_lost", due_us=last["at_us"])
        r.add_after(r.events(run, campaign.ATTEMPT_FAILED, "s0")[-1], attempt=number, type=campaign.DISPATCHED)
    r.request_again(run, "s0", attempt=7)


@breaks("I2", "a success that the ledger never gave")
def never_answered(r):
    for line in r.requests(r.run("chain-0"), "s0", "answered"):
        line.update(status=500)


@breaks("I3", "a step begins before its parent is answered")
def swapped(r):
    run = r.run("chain-0")
    end = max(line["ns"] for line in r.requests(run, "s0", "answered"))
    for line in r.requests(run, "s1", "begin"):
        line["ns"] = end - 1000000


@breaks("I3", "a step begins before the step above the one between is answered")
def swapped_over_one(r):
    run = next(row for row in r.tables["run"] if row["workflow"] == "parent" and row["status"] == "succeeded" and row["organisation"] in r.ours())
    child = next(row for row in r.tables["run"] if row["parent"] == run["id"] and row["parent_step"] == "child")
    end = max(line["ns"] for line in r.requests(child, "s7", "answered") if line["status"] == 200)
    for line in r.requests(run, "end", "begin"):
        line["ns"] = end - 1000000


@breaks("I3", "an iteration begins before what the loop needs")
def loop_too_soon(r):
    run = r.run("loops", "partially_completed")
    end = min(line["ns"] for line in r.requests(run, "first", "answered"))
    for line in r.requests(run, "each[0].go", "begin"):
        line["ns"] = end - 1000000


@breaks("I3", "what follows a loop begins before its end")
def loop_too_late(r):
    run = r.run("loops", "partially_completed")
    for line in r.requests(run, "last", "begin"):
        line["ns"] = min(one["ns"] for one in r.requests(run, "each[0].done", "begin"))


@breaks("I3", "undone in another order")
def undone_in_order(r):
    run = r.run("undo", "compensated")
    for line in r.requests(run, "a:compensate"):
        line["ns"] -= 60 * 10**9


@breaks("I4", "an effect twice")
def effect_twice(r):
    r.request_again(r.run("chain-0"), "s0")


@breaks("I4", "an effect under a second key")
def second_key(r):
    run = r.run("chain-0")
    r.request_again(run, "s0", key=f"{run['id']}:s0:2")


@breaks("I4", "a new key although nobody answered")
def key_without_answer(r):
    run = r.run("losses")
    step = next(line["step"] for line in r.ledger if line["run"] == run["id"] and line["path"].startswith("/lose"))
    for line in r.requests(run, step)[3:]:
        line["key"] += ":2"


@breaks("I4", "an attempt is sent many times")
def sent_many_times(r):
    run = r.run("losses")
    step = next(line["step"] for line in r.ledger if line["run"] == run["id"] and line["path"].startswith("/lose"))
    for number in range(3):
        r.request_again(run, step, 100 * (number + 1))


@breaks("I4", "two steps share a key")
def shared_key(r):
    run = r.run("chain-0")
    for line in r.requests(run, "s1"):
        line["key"] = f"{run['id']}:s0"


@breaks("I4", "another body under a key")
def other_body(r):
    run = r.run("losses")
    step = next(line["step"] for line in r.ledger if line["run"] == run["id"] and line["path"].startswith("/lose"))
    last = r.requests(run, step, "begin")[-1]
    last["body_sha"] = "0" * 64


@breaks("I4", "at most once sent twice")
def once_twice(r):
    run = r.run("once")
    r.fault_around_everything()         # which is no excuse here
    r.request_again(run, "lost")


@breaks("I5", "an attempt is dispatched twice")
def dispatched_twice(r):
    r.add_after(r.events(r.run("chain-0"), campaign.DISPATCHED, "s0")[0])


@breaks("I5", "an attempt is sent after the one that followed it")
def given_up_and_sent(r):
    run = next(row for row in r.tables["run"] if row["organisation"] in r.ours()
               and any(line["attempt"] == 2 and line["phase"] == "applied" for line in r.requests(row, "listed")))
    r.request_again(run, "listed", attempt=1)


@breaks("I6", "an event is gone")
def drop_event(r):
    r.tables["event"].remove(r.events(r.run("chain-0"))[4])


@breaks("I6", "a step has two outcomes")
def two_outcomes(r):
    r.add_after(r.events(r.run("chain-0"), campaign.SUCCEEDED)[0])


@breaks("I6", "a run ends twice")
def two_ends(r):
    r.add_after(r.events(r.run("chain-0"))[-1])


@breaks("I6", "something happens after the end")
def after_the_end(r):
    run = r.run("chain-0")
    r.add_after(r.events(run)[-1], type=campaign.DISPATCHED, step="s0", attempt=9)


@breaks("I6", "an attempt is left out")
def attempt_left_out(r):
    for event in r.events(r.run("chain-0"), None, "s0"):
        event["attempt"] = event["attempt"] and event["attempt"] + 1


@breaks("I6", "a result of an attempt that was closed")
def closed_attempt(r):
    run = r.run("chain-0")
    event = r.events(run, campaign.SUCCEEDED, "s0")[0]
    r.add_after(event, type=campaign.ATTEMPT_FAILED, code="http_503", due_us=event["at_us"])


@breaks("I6", "the row says another status")
def other_status(r):
    r.run("chain-0")["status"] = "failed"


@breaks("I6", "events of no run")
def strays(r):
    r.tables["event"].append({**r.events(r.run("chain-0"))[0], "run": str(uuid.uuid4())})


@breaks("I7", "two runs of a key")
def two_runs(r):
    run, copied = r.run("chain-0"), str(uuid.uuid4())
    r.tables["run"].append({**run, "id": copied})
    r.tables["event"] += [{**row, "run": copied} for row in r.events(run)]


@breaks("I7", "two answers to a key")
def two_answers(r):
    run = r.run("chain-0")
    line = r.operation("start", key=run["key"])
    r.client.append({**line, "run": r.run("fork-join-0")["id"]})


@breaks("I7", "another body is accepted")
def body_accepted(r):
    r.operation("start", "fail", expect=422).update(status=202, outcome="ok")


@breaks("I7", "the same body is refused")
def body_refused(r):
    line = r.operation("start", key=r.run("chain-0")["key"])
    r.client.append({**line, "status": 422, "outcome": "fail", "run": None})


@breaks("I7", "the key leads to another run")
def key_elsewhere(r):
    run = r.run("chain-0")
    next(row for row in r.tables["idempotency"] if row["run"] == run["id"])["run"] = r.run("chain-1")["id"]


@breaks("I10", "open work is left")
def work_left(r):
    run = r.run("chain-0")
    r.tables.setdefault("open_work", []).append({"run": run["id"], "organisation": run["organisation"], "seq": 2, "kind": 1, "step": "s0"})


@breaks("I10", "a command is left")
def command_left(r):
    run = r.run("chain-0")
    r.tables.setdefault("command", []).append({"run": run["id"], "organisation": run["organisation"], "id": 1, "kind": "cancel"})


@breaks("I10", "a message is left")
def message_left(r):
    r.tables["queue"][0]["messages"] = 1


@breaks("I10", "a dead letter that nobody sent")
def dead_letter(r):
    r.tables.setdefault("dead_letter", []).append({"organisation": None, "kind": "message", "source": "x", "reason": "bad", "run": None,
                                                   "step": None, "at_us": 0})


@breaks("I8", "a time of a schedule is left out")
def left_out(r):
    rows = [row for row in r.tables["schedule_fire"] if row["organisation"] in r.ours()]
    rows[1]["nominal_us"] += 1


@breaks("I8", "a schedule goes silent")
def silent(r):
    first = {}
    for row in r.tables["schedule_fire"]:
        first.setdefault(row["schedule"], row)
    gone = {row["run"] for row in r.tables["schedule_fire"] if row not in first.values()}
    r.tables["schedule_fire"] = list(first.values())
    for table, field in (("run", "id"), ("event", "run")):
        r.tables[table] = [row for row in r.tables[table] if row[field] not in gone]
    r.ledger = [line for line in r.ledger if line["run"] not in gone]


@breaks("I8", "a schedule starts a run before its time")
def before_its_time(r):
    fire = next(row for row in r.tables["schedule_fire"] if row["organisation"] in r.ours())
    next(row for row in r.tables["run"] if row["id"] == fire["run"])["created_us"] = fire["nominal_us"] - 1000


@breaks("I8", "two times of a schedule have one run")
def one_for_two(r):
    rows = [row for row in r.tables["schedule_fire"] if row["organisation"] in r.ours()]
    rows[1]["run"] = rows[0]["run"]


@breaks("I8", "a run of a schedule is not there")
def no_run_of_it(r):
    next(row for row in r.tables["schedule_fire"] if row["organisation"] in r.ours())["run"] = str(uuid.uuid4())


@breaks("I2", "a time of a schedule starts two runs")
def two_for_one(r):
    fire = next(row for row in r.tables["schedule_fire"] if row["organisation"] in r.ours())
    run = next(row for row in r.tables["run"] if row["id"] == fire["run"])
    r.tables["run"].append({**run, "id": str(uuid.uuid4())})


@breaks("I10", "a poisoned step has no dead letter")
def no_letter(r):
    r.events(r.run("hostile", "partially_completed"), 25, "gone")[0]["code"] = "poison"


@breaks("I10", "a dead letter of a step that is not poison")
def other_letter(r):
    run = r.run("chain-0")
    r.tables.setdefault("dead_letter", []).append({"organisation": run["organisation"], "kind": "task", "source": "x", "reason": "poison",
                                                   "run": run["id"], "step": "s0", "at_us": 0})


@breaks("I10", "a run is quarantined")
def quarantined(r):
    r.tables.setdefault("quarantine", []).append({"organisation": 1, "run": r.run("chain-0")["id"], "reason": "it crashed"})


@breaks("I10", "a step has no outcome")
def no_outcome(r):
    run = r.run("chain-0")
    r.tables["event"] = [row for row in r.tables["event"] if row["run"] != run["id"] or row["step"] != "s7"]
    r.renumber(run)


@breaks("I11", "a retry comes too soon")
def too_soon(r):
    run = r.run("losses")
    failed = r.events(run, campaign.ATTEMPT_FAILED)[0]
    again = next(row for row in r.events(run, campaign.DISPATCHED, failed["step"]) if row["attempt"] == failed["attempt"] + 1)
    again["at_us"] = failed["due_us"] - 50000


@breaks("I11", "a retry comes much too late")
def too_late(r):
    run = r.run("losses")
    failed = r.events(run, campaign.ATTEMPT_FAILED)[0]
    next(row for row in r.events(run, campaign.DISPATCHED, failed["step"]) if row["attempt"] == failed["attempt"] + 1)["at_us"] += 40 * 10**6


@breaks("I11", "a wait that the policy does not say")
def other_wait(r):
    r.events(r.run("losses"), campaign.ATTEMPT_FAILED)[0]["due_us"] += 10**6


@breaks("I11", "the ledger hears a retry too soon")
def heard_too_soon(r):
    run = r.run("retry-on", "partially_completed")
    answered = min(line["ns"] for line in r.requests(run, "listed", "answered"))
    for line in r.requests(run, "listed", "begin"):
        line["ns"] = min(line["ns"], answered + 20 * 10**6)


@breaks("I11", "too many iterations at a time")
def crowded(r):
    run = next(row for row in r.tables["run"] if row["workflow"] == "loops" and row["organisation"] in r.ours()
               and r.requests(row, "each[3].go"))
    begin = max(line["ns"] for n in range(4) for line in r.requests(run, f"each[{n}].go", "begin"))
    for n in range(4):
        for line in r.requests(run, f"each[{n}].done", "answered"):
            line["ns"] = begin + 10**9


@breaks("I11", "history has too many iterations at a time, whatever the ledger saw")
def crowded_in_history(r):
    """The outcome of an iteration comes behind the beginning of those that waited for it."""
    for run in r.tables["run"]:
        if run["workflow"] != "loops" or run["organisation"] not in r.ours() or not r.requests(run, "each[3].go"):
            continue
        events = sorted((row for row in r.tables["event"] if row["run"] == run["id"]), key=lambda row: row["seq"])
        ends = [row for row in events if row["step"] and re.fullmatch(r"each\[\d+\]", row["step"]) and row["type"] == campaign.SUCCEEDED]
        behind = [row for row in events if row not in ends]
        last = max(at for at, row in enumerate(behind) if (row["step"] or "").startswith("each["))
        for seq, row in enumerate(behind[:last + 1] + ends + behind[last + 1:], 1):
            row["seq"] = seq
        r.tables["event"].sort(key=lambda row: (row["run"], row["seq"]))
        return
    raise AssertionError("no run has a loop of four")


@breaks("I12", "a marker of another in an effect")
def foreign_effect(r):
    run = r.run("chain-0")
    r.requests(run, "s0", "begin")[0]["markers"] = [r.foreign_marker(run)]


@breaks("I12", "a marker of another in history")
def foreign_event(r):
    run = r.run("chain-0")
    r.events(run)[3]["markers"] = [r.foreign_marker(run)]


@breaks("I12", "a marker of another in a run")
def foreign_run(r):
    run = r.run("chain-0")
    run["markers"] = [r.foreign_marker(run)]


@breaks("I12", "a marker of another in an answer")
def foreign_answer(r):
    run = r.run("chain-0")
    r.operation("start", run=run["id"])["markers"] = [r.foreign_marker(run)]


@breaks("I1", "a run is shown to another organisation")
def shown(r):
    r.operation("get", "fail", expect=404).update(status=200, outcome="ok")


def resources(when, **changed):
    return {"when": when, "process": "worker-1", "pid": 1, "fds": 60, "rss_kb": 40000, "children": 4, **changed}


@breaks("I13", "descriptors are lost")
def descriptors(r):
    r.resources += [resources("before"), resources("after", fds=120)]


@breaks("I13", "memory is lost")
def memory(r):
    r.resources += [resources("before"), resources("after", rss_kb=400000)]


@breaks("I13", "children are lost")
def children(r):
    r.resources += [resources("before"), resources("after", children=5)]


@breaks("I13", "a process is gone")
def process_gone(r):
    r.resources += [resources("before"), resources("after"), resources("before", process="worker-2")]


@breaks("I14", "submissions fail without a fault")
def unanswered(r):
    for line in r.client:
        if line["op"] == "start" and line["outcome"] == "ok" and line["t_invoke"] % 3 == 0:
            line.update(outcome="unknown", run=None, status=None)


@breaks("I14", "there was no quiet moment")
def no_quiet(r):
    r.fault_around_everything()


@breaks("I14", "a run ends otherwise than it should")
def odd_end(r):
    r.load["ends"]["undo"] = ["succeeded"]


@breaks("I14", "too few runs succeed")
def too_few(r):
    for run in r.tables["run"]:
        if run["workflow"].startswith(("chain", "fork", "graph", "losses", "keys", "polls")):
            run["status"] = "failed"


@breaks("ops", "a command has no verdict")
def no_verdict(r):
    run = {"id": r.operation("pause", status=200)["run"]}
    r.tables["event"] = [row for row in r.tables["event"] if row["run"] != run["id"] or row["type"] not in (40, 41)]
    r.renumber(run)


@breaks("I11", "too many iterations at a time after a retry")
def crowded_again(r):
    """Of the loop's two at a time, all that were gone on with: their requests begin before any of them is answered."""
    for run in r.tables["run"]:
        reopened = r.events(run, campaign.RUN_REOPENED) if run["workflow"] == "redone" and run["organisation"] in r.ours() else []
        after = {row["step"]: row["attempt"] for row in r.events(run, campaign.DISPATCHED)
                 if reopened and row["seq"] > reopened[0]["seq"] and row["step"].startswith("each[")}
        if len({step.split(".")[0] for step in after}) > 2:
            lines = [line for step in after for line in r.requests(run, step)]
            first = min(line["ns"] for line in lines if line["phase"] == "begin" and line["attempt"] == after[line["step"]])
            for line in lines:
                if line["phase"] == "begin" and line["attempt"] == after[line["step"]]:
                    line["ns"] = first
            return
    raise AssertionError("no run was retried with more of its loop to do than may go on at a time")


@breaks("ops", "a bulk rerun does a run again that it does not name")
def other_rerun(r):
    row = next(row for row in r.tables["bulk_run"] if row["new_run"] and row["organisation"] in r.ours())
    row["new_run"] = next(other["new_run"] for other in r.tables["bulk_run"] if other["new_run"] not in (None, row["new_run"]))


@breaks("ops", "a bulk rerun forgets a run")
def forgotten_rerun(r):
    next(row for row in r.tables["bulk_run"] if row["new_run"] and row["organisation"] in r.ours())["new_run"] = None


@breaks("ops", "a bulk form counts wrongly")
def miscounted(r):
    next(row for row in r.tables["bulk"] if row["runs"] and row["over"] and row["organisation"] in r.ours())["applied"] += 1


@breaks("ops", "a run of a bulk form was not asked")
def not_asked(r):
    r.tables["bulk_run"].remove(next(row for row in r.tables["bulk_run"] if row["organisation"] in r.ours()))


@breaks("ops", "a command of a bulk form has no verdict")
def no_bulk_verdict(r):
    next(row for row in r.tables["bulk_run"] if row["command"] and row["organisation"] in r.ours())["command"] = 1 << 40


@breaks("ops", "an acknowledged bulk form is gone")
def no_bulk(r):
    r.tables["bulk"] = [row for row in r.tables["bulk"] if row["id"] != r.operation("bulk")["operation"]]


@breaks("ops", "a bulk form is there twice")
def two_bulks(r):
    line = r.operation("bulk")
    r.client.append({**line, "operation": next(row["id"] for row in r.tables["bulk"] if row["id"] != line["operation"])})


def rerun(r, whole=False):
    return next(row for row in r.tables["run"] if row["rerun_of"] and bool(row["begins_from"]) != whole and row["organisation"] in r.ours())


@breaks("ops", "a run was done again and nobody asked")
def rerun_of_nobody(r):
    old = rerun(r)["rerun_of"]
    r.client = [line for line in r.client if line.get("of") != old]


@breaks("ops", "a run was done again twice")
def rerun_twice(r):
    run, copied = rerun(r), str(uuid.uuid4())
    r.tables["run"].append({**run, "id": copied})
    r.tables["event"] += [{**row, "run": copied} for row in r.events(run)]


@breaks("ops", "an acknowledged rerun is gone")
def rerun_gone(r):
    gone = rerun(r)["id"]
    for table, field in (("run", "id"), ("event", "run"), ("api", "run")):
        r.tables[table] = [row for row in r.tables[table] if row[field] != gone]


@breaks("ops", "what was taken over is another output")
def other_output(r):
    r.events(rerun(r), campaign.GIVEN)[0]["output"] = "0" * 32


@breaks("ops", "a step is not taken over")
def not_taken_over(r):
    r.events(rerun(r), campaign.GIVEN)[0].update(type=campaign.SUCCEEDED, attempt=1)


@breaks("ops", "what was taken over is done again")
def taken_over_and_done(r):
    run = rerun(r)
    r.request_again({"id": run["rerun_of"]}, "s0", run=run["id"], key=f"{run['id']}:s0")


def paused(r):
    """A run, what paused it, and what it did next."""
    for row in r.tables["run"]:
        events = r.events(row)
        at = next((i for i, event in enumerate(events) if event["type"] == campaign.RUN_PAUSED), None)
        end = at and next((i for i in range(at, len(events)) if events[i]["type"] == campaign.RUN_RESUMED), None)
        later = end and next((i for i in range(end, len(events)) if events[i]["type"] == campaign.DISPATCHED and r.requests(row, events[i]["step"])), None)
        if later and row["organisation"] in r.ours():
            return row, events[at], events[end], events[later]
    raise AssertionError("no run was paused in the middle")


@breaks("pause", "a step begins in a pause")
def begins_in_a_pause(r):
    run, pause, _, later = paused(r)
    r.tables["event"].remove(later)
    r.tables["event"].insert(r.tables["event"].index(pause) + 1, later)
    r.renumber(run)


@breaks("pause", "the ledger hears in a pause what was dispatched later")
def heard_in_a_pause(r):
    run, pause, resume, later = paused(r)
    clock = r.tables["clock"][0]
    resume["at_us"] = later["at_us"]
    for line in r.requests(run, later["step"], "begin"):
        line["ns"] = clock["mono_ns"] + (pause["at_us"] + later["at_us"] - 2 * clock["wall_us"]) // 2 * 1000


@breaks("pause", "the ledger hears long after a pause what was dispatched before")
def begun_late_in_a_pause(r):
    run, pause, resume, _ = paused(r)
    step = next(row["step"] for row in r.events(run, campaign.DISPATCHED) if row["seq"] < pause["seq"])
    clock = r.tables["clock"][0]
    resume["at_us"] = pause["at_us"] + 60 * 10**6
    for line in r.requests(run, step):
        line["ns"] = clock["mono_ns"] + (pause["at_us"] + 30 * 10**6 - clock["wall_us"]) * 1000


@breaks("retry", "what had succeeded is sent again")
def kept_and_sent(r):
    run = next(row for row in r.tables["run"] if row["workflow"] == "redone" and row["status"] == "succeeded" and row["organisation"] in r.ours())
    r.request_again(run, "a", 20000, attempt=2, key=f"{run['id']}:a:2")


@breaks("retry", "what had succeeded gets another chance")
def kept_and_reopened(r):
    run = r.run("redone")
    success = r.events(run, campaign.SUCCEEDED, "a")[0]
    r.add_after(r.events(run, campaign.STEP_REOPENED)[0], type=campaign.SUCCEEDED, step="a", output=success["output"], attempt=1)


@breaks("retry", "a retry does nothing")
def nothing_again(r):
    run = r.run("redone")
    for event in r.events(run, campaign.STEP_REOPENED):
        r.tables["event"].remove(event)
    r.renumber(run)


@breaks("I6", "a step that had succeeded is opened again")
def reopened_success(r):
    r.events(r.run("redone"), campaign.STEP_REOPENED)[0]["step"] = "a"


@breaks("I6", "a step begins before its run")
def before_its_run(r):
    run = r.run("limited")
    dispatched = r.events(run, campaign.DISPATCHED)[0]
    r.tables["event"].remove(dispatched)
    r.tables["event"].insert(r.tables["event"].index(r.events(run)[0]) + 1, dispatched)
    r.renumber(run)


def waited(r):
    """Two runs of one slot: one that held it, and the next."""
    held = {}
    for row in r.tables["run"]:
        if row["workflow"] == "keyed" and row["organisation"] in r.ours() and row["status"] == "succeeded":
            queued = next(event for event in r.events(row, campaign.RUN_QUEUED) if event["waits"] == "workflow")
            admitted = next(event for event in r.events(row, campaign.RUN_ADMITTED) if event["ref"] == queued["seq"])
            held.setdefault(queued["slot"], []).append((admitted["at_us"], row, queued, admitted))
    return next(sorted(there, key=lambda one: one[0])[:2] for there in held.values() if len(there) > 1)


@breaks("slots", "by the ledger one too many")
def crowded_ledger(r):
    (_, first, _, _), (_, second, _, _) = waited(r)
    begin = min(line["ns"] for line in r.ledger if line["run"] == second["id"])
    for line in r.requests(first, "b"):
        if line["phase"] == "answered":
            line["ns"] = begin + 10**6


@breaks("slots", "by history one too many")
def crowded_history(r):
    (_, first, _, _), (admitted, _, _, _) = waited(r)
    next(event for event in r.events(first) if event["type"] in campaign.ENDS)["at_us"] = admitted + 10**5


@breaks("slots", "the second comes first")
def overtaken(r):
    (_, _, queued, admitted), (later, _, other, _) = waited(r)
    queued["at_us"], other["at_us"], admitted["at_us"] = later - 5 * 10**6, later - 3 * 10**6, later + 10**6


def look(r, *rows):
    """A look at the table: of the key of these two runs, (number, granted) each."""
    two = waited(r)
    r.slots.append({"ns": 1, "rows": [[one[2]["slot"], one[1]["id"], number, granted, False] for one, (number, granted) in zip(two, rows)]})


@breaks("slots", "the table shows one too many")
def crowded_table(r):
    look(r, (1, True), (2, True))


@breaks("slots", "the table shows one who was passed over")
def passed_over(r):
    look(r, (1, False), (2, True))


@breaks("slots", "a slot is left")
def slot_left(r):
    run = r.run("keyed")
    r.tables.setdefault("admission", []).append({"key": "k", "organisation": run["organisation"], "run": run["id"], "granted": True})


@breaks("fold", "fold-check objects")
def fold(r):
    r.tables["fold"][0].update(code=1, text="violation")


@breaks("API", "the API says another status")
def api_status(r):
    r.tables["api"][0]["status"] = "timed_out"


@breaks("API", "the API says another outcome of a step")
def api_step(r):
    r.tables["api"][0]["steps"] = {name: "timed_out" for name in r.tables["api"][0]["steps"]}


@breaks("API", "the API does not answer")
def api_silent(r):
    r.tables["api"][0].update(http=500)


@pytest.mark.parametrize("number,tamper", TAMPERINGS)
def test_tampering_is_found(number, tamper, record, judged):
    tamper(record)
    assert number in judged(record)


# --- and what is no fault of anybody is not called one ------------------------------------------------------------------------

def test_a_repeat_around_a_fault_is_counted_and_forgiven(record, judged):
    effect_twice(record)
    begin = record.requests(record.run("chain-0"), "s0", "begin")[0]["ns"]
    record.faults.append({"t_begin": begin, "t_end": begin + 10**8, "fault": "kill", "rows": ["W3"], "target": "worker-1", "detail": {}})
    assert judged(record) == {}


def test_a_fault_at_another_time_explains_nothing(record, judged):
    effect_twice(record)
    begin = record.requests(record.run("chain-0"), "s0", "begin")[0]["ns"]
    record.faults.append({"t_begin": begin - 20 * 10**9, "t_end": begin - 10 * 10**9, "fault": "kill", "rows": ["W3"], "target": "worker-1", "detail": {}})
    assert "I4" in judged(record)


def test_an_answer_that_came_too_late_explains_a_repeat_and_one_that_did_not_does_not(record, judged):
    run = record.run("chain-0")
    dispatched = record.events(run, campaign.DISPATCHED, "s0")[0]
    began = record.requests(run, "s0", "begin")[-1]["ns"]
    clock = record.tables["clock"][0]
    started = clock["wall_us"] + (began - clock["mono_ns"]) // 1000
    record.add_after(dispatched, type=campaign.ATTEMPT_FAILED, code="timeout", due_us=started + 3110000, at_us=started + 3000000, started_us=started)
    record.add_after(record.events(run, campaign.ATTEMPT_FAILED, "s0")[0], type=campaign.DISPATCHED, attempt=2, at_us=started + 3120000)
    record.events(run, campaign.SUCCEEDED, "s0")[0]["attempt"] = 2
    record.request_again(run, "s0", 3200, attempt=2)
    assert "I4" in judged(record), "it had been answered at once"
    for line in record.requests(run, "s0", "answered"):
        if line["attempt"] == 1:
            line["ns"] = began + 3050 * 10**6
    assert "I4" not in judged(record)


def test_dead_letters_of_a_fault_that_sends_garbage_are_explained(record, judged):
    dead_letter(record)
    begin = record.ledger[0]["ns"]
    record.faults.append({"t_begin": begin, "t_end": begin + 10**8, "fault": "garbage", "rows": ["B7"], "target": "messages", "detail": {}})
    assert judged(record) == {}


def test_a_log_may_not_hold_what_users_sent(record, judged, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log/gateway-1.log").write_text('{"event": "x"}\n{"event": "' + record.marker_of(record.run("chain-0")) + '"}\n')
    found = judged(record)
    assert list(found) == ["I12"] and "gateway-1.log:2" in found["I12"][0]


def test_effects_of_organisations_that_are_not_of_the_load_are_nobodys_business(record, judged):
    run = record.run("chain-0")
    record.tables["run"].append({**run, "id": "of-another", "organisation": 1 << 20})
    record.request_again(run, "s0", run="of-another", markers=[], key="of-another:s0")
    assert judged(record) == {}


def test_starts_that_nobody_knows_of_are_neither_lost_nor_unexpected(record, judged):
    line = record.operation("start")
    record.client.append({**line, "key": "never-came", "outcome": "unknown", "run": None, "status": None})
    for line in record.client:
        if line["key"] == record.run("chain-0")["key"]:
            line.update(outcome="unknown", run=None, status=None)
    assert judged(record) == {}
