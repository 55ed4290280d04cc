"""What operations on runs and concurrency limits promise: by histories, by the ledger, and by the tables of slots as they were
seen many times a second (slots.jsonl)."""
import collections
import re

from bounds import EARLY_S
from campaign import DISPATCHED, ENDS, GIVEN, RUN_ADMITTED, RUN_QUEUED, RUN_REOPENED, RUN_STARTED, STEP_REOPENED, SUCCEEDED
from invariants import rule

HELD_BACK_S = 5         # what was in a worker's queue when the pause came may still begin
OVERTAKEN_S = 1         # those who ask so long after another are behind it
VERDICTS = (40, 41)
COMMANDS = ("cancel", "pause", "resume", "retry")
KILLS = re.compile(r"kill|crash|wipe")         # faults that end a process once and do not count it


@rule("ops", "what operators asked for has its verdict; a rerun is one run of its key, and copies what it does not do")
def asked_and_done(c, found):
    said = collections.Counter()
    for one in c.operations:
        if one.op in COMMANDS and one.outcome == "ok":
            said[one.run] += 1
    verdicts = {run.id: {event.command for event in run.events if event.type in VERDICTS} for run in c.runs.values()}
    for run_id, count in said.items():
        if run_id in c.runs and len(verdicts[run_id]) < count:
            found.append(f"lost: {c.runs[run_id]}: {count} commands were acknowledged, {len(verdicts[run_id])} have a verdict")
    many = bulk_forms(c, verdicts, found)
    reruns = run_again(c, found)
    kinds = collections.Counter(one.op for one in c.operations if one.op in COMMANDS and one.outcome == "ok")
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + f"; {many} commands by bulk forms; {reruns} reruns"


def bulk_forms(c, verdicts, found):
    """An operation that was acknowledged covers what it said, and each of its runs was answered."""
    made = {row["id"]: row for row in c.rows("bulk") if row["organisation"] in c.organisations}
    runs = collections.defaultdict(list)
    for row in c.rows("bulk_run"):
        runs[row["operation"]].append(row)
    keys = collections.defaultdict(set)
    for one in c.operations:
        if one.op == "bulk" and one.outcome == "ok":
            keys[one.org, one.key].add(one.operation)
            if one.operation not in made:
                found.append(f"lost: operation {one.operation} ({one.kind}) was acknowledged and is not there")
    for who, operations in keys.items():
        if len(operations) > 1:
            found.append(f"duplicated: key '{who[1]}' was answered with operations {', '.join(sorted(map(str, operations)))}")
    for id, row in made.items():
        if len(runs[id]) != row["runs"]:
            found.append(f"operation {id} ({row['kind']}) is of {row['runs']} runs, and {len(runs[id])} are there")
        for one in runs[id]:
            if one["run"] in c.runs and row["kind"] == "rerun":
                done_again(c, id, one, found)
            elif one["run"] in c.runs and one["command"] not in verdicts[one["run"]]:
                found.append(f"lost: {c.runs[one['run']]}: command {one['command']} of operation {id} ({row['kind']}) has no verdict")
        if row["over"] and row["applied"] + row["refused"] != row["runs"]:
            found.append(f"operation {id} ({row['kind']}) of {row['runs']} runs is over, and counts {row['applied']} applied and {row['refused']} refused")
    return sum(map(len, runs.values()))


def done_again(c, id, one, found):
    """A run of a bulk rerun: one new run of it, or why not."""
    new = c.runs.get(one["new_run"])
    if one["new_run"] is None and one["code"] is None:
        found.append(f"lost: {c.runs[one['run']]}: operation {id} has neither done it again nor refused")
    elif one["new_run"] and (new is None or new.rerun_of != one["run"]):
        found.append(f"lost: {c.runs[one['run']]}: operation {id} names run {one['new_run']}, which is no rerun of it")


def run_again(c, found):
    asked = collections.defaultdict(lambda: (set(), set()))
    for one in c.operations:
        if one.op == "rerun":
            asked[one.of][0].add(one.key)
            if one.outcome == "ok":
                asked[one.of][1].add(one.run)
                if one.run not in c.runs:
                    found.append(f"lost: run {one.run}, a rerun of {one.of}, was acknowledged and is not there")
    made, by_bulk = collections.defaultdict(list), {row["new_run"] for row in c.rows("bulk_run") if row["new_run"]}
    for run in c.runs.values():
        if run.rerun_of:
            made[run.rerun_of].append(run)
    for old, runs in made.items():
        if sum(run.id not in by_bulk for run in runs) > len(asked[old][0]):
            found.append(f"duplicated: run {old} was done again in {len(runs)} runs, and asked for {len(asked[old][0])} times")
        for run in runs:
            taken_over(run, c.runs.get(old), found)
    for old, (_, answered) in asked.items():
        if len(answered) > len(asked[old][0]):
            found.append(f"duplicated: the rerun of run {old} was answered with {len(answered)} runs")
    return sum(map(len, made.values()))


def taken_over(run, old, found):
    """Of a chain: what comes before the step where it begins has the old run's outcome, and was not sent."""
    if old is None:
        found.append(f"{run}: it is a rerun of run {run.rerun_of}, which is not there")
        return
    names = list(run.plan.document["steps"])
    before = names[:names.index(run.begins_from)] if run.begins_from else []
    given = {event.step: event for event in run.events if event.type == GIVEN}
    outputs = {event.step: event.output for event in old.events if event.type in (SUCCEEDED, GIVEN)}
    if sorted(given) != sorted(before):
        found.append(f"{run}: given were {', '.join(sorted(given)) or 'none'}, not {', '.join(before) or 'none'}")
    for name, event in given.items():
        if event.output != outputs.get(name):
            found.append(f"{run}: the output of {name} is not that of {old}")
        if run.requests.get(name) or any(one.type == DISPATCHED and one.step == name for one in run.events):
            found.append(f"duplicated: {run}: {name} was taken over from {old}, and done again")


@rule("pause", "a paused run begins nothing")
def nothing_begins(c, found):
    pauses = during = 0
    for run in c.runs.values():
        for begin, end in run.pauses():
            pauses += 1
            last = end.seq if end else 1 << 30
            for before, event in zip(run.events, run.events[1:]):
                started = event.type == RUN_STARTED and before.type != RUN_ADMITTED      # its slot may come meanwhile; no step begins
                if begin.seq < event.seq < last and (event.type == DISPATCHED or started):
                    found.append(f"{run}: event {event.seq} (type {event.type}) {event.step or ''} is within the pause {begin.seq} to {last}")
            during += requests_within(c, run, begin, end, found)
    return f"{pauses} pauses, {during} requests in them of what had been handed over before"


def requests_within(c, run, begin, end, found):
    """Requests that began in the pause: of attempts that had been dispatched, and soon, or around a fault."""
    since, until = c.mono(begin.at_us) + int(EARLY_S * 1e9), c.mono(end.at_us) - int(EARLY_S * 1e9) if end else 1 << 62
    dispatched = {(event.step, event.attempt): event.seq for event in run.events if event.type == DISPATCHED}
    count = 0
    for path, requests in run.requests.items():
        for request in requests:
            if not since < request.begin < until:
                continue
            count += 1
            if dispatched.get((path, request.attempt), 0) > begin.seq:
                found.append(f"{run}: attempt {request.attempt} of {path} was sent in a pause, before it was dispatched")
            first = min(one.begin for one in requests if one.attempt == request.attempt)
            if first - since > HELD_BACK_S * 1e9 and not c.disturbed(since, request.begin):
                found.append(f"{run}: attempt {request.attempt} of {path} began {(first - since) / 1e9:.1f} s after the pause, and no fault explains it")
    return count


@rule("retry", "a retry keeps what has succeeded, and does again what it says")
def kept_by_retries(c, found):
    retries = again = kept = 0
    for run in c.runs.values():
        for number, reopened in enumerate(run.events):
            if reopened.type != RUN_REOPENED or reopened.code != "retry":
                continue
            retries += 1
            succeeded = {event.step: event for event in run.events[:number] if event.step and event.type == SUCCEEDED}
            named = {event.step for event in run.events[number:] if event.type == STEP_REOPENED}
            again += len(named)
            if not named:
                found.append(f"{run}: retried, and no step is opened again")
            for path, success in succeeded.items():
                kept += 1
                answered = [one.attempt for one in run.requests.get(path, ()) if one.begin > c.mono(reopened.at_us) + int(EARLY_S * 1e9)]
                if any(attempt > (success.attempt or 0) for attempt in answered if attempt):
                    found.append(f"duplicated: {run}: {path} had succeeded before the retry, and was sent again")
                if any(event.step == path and event.type in (DISPATCHED, SUCCEEDED) for event in run.events[number:]):
                    found.append(f"{run}: {path} had succeeded before the retry, and has another chance")
    return f"{retries} retries, {again} steps opened again, {kept} kept"


# --- slots --------------------------------------------------------------------------------------------------------------------

class Hold:
    """A run and a key that admitted it."""

    def __init__(self, run, queued, admitted, bound):
        self.run, self.key, self.queued, self.admitted, self.bound = run, queued.slot, queued, admitted, bound
        self.end = next((event for event in run.events if event.type in ENDS and event.seq > admitted.seq), None)

    def by_ledger(self):
        """From its first request to the latest of those answers that it cannot have ended without: surely not longer than it
        held the slot, and by one clock."""
        if any(event.type == RUN_REOPENED for event in self.run.events):
            return None         # it held one several times
        begin = [request.begin for requests in self.run.requests.values() for request in requests]
        done = [path for path, (outcome, _) in self.run.kept().items() if outcome == "succeeded"]
        answers = [min((request.answered for request in self.run.requests.get(path, ()) if request.good()), default=0) for path in done]
        return (min(begin), max(answers)) if begin and max(answers, default=0) > min(begin) else None

    def by_history(self, c):
        if self.end is None:
            return None
        margin = int(EARLY_S * 1e9)
        begin, end = c.mono(self.admitted.at_us) + margin, c.mono(self.end.at_us) - margin
        return (begin, end) if begin < end else None


def holds_of(c):
    limits = c.load.get("running_runs", {})
    for run in c.runs.values():
        asked = {event.seq: event for event in run.events if event.type == RUN_QUEUED}
        for event in run.events:
            if event.type == RUN_ADMITTED and event.ref in asked:
                queued = asked[event.ref]
                yield Hold(run, queued, event, queued.bound if queued.waits == "workflow" else limits.get(run.org))


def most_at_once(spans):
    now = most = 0
    for _, change in sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]):
        now += change
        most = max(most, now)
    return most


@rule("slots", "never more runs of a key than its limit; first come, first served; none is left at the end")
def slots_kept(c, found):
    by_key = collections.defaultdict(list)
    for hold in holds_of(c):
        by_key[hold.key].append(hold)
    clocks = [fault for fault in c.faults if "C1" in fault.rows]
    for key, holds in by_key.items():
        bound = holds[0].bound
        for what, spans in (("the ledger", [hold.by_ledger() for hold in holds]), ("history", [] if clocks else [hold.by_history(c) for hold in holds])):
            most = most_at_once([span for span in spans if span])
            if most > bound:
                found.append(f"key {key} of {holds[0].run.workflow}: by {what} {most} runs went on at a time, of which there may be {bound}")
        in_turn(c, holds, found)
    seen = as_seen(c, by_key, found)
    for table in ("admission", "admission_key"):
        for row in c.rows(table):
            if row["organisation"] in c.organisations:
                found.append(f"a row of {table} is left: {row}")
    kills = sum(fault.kills or bool(KILLS.search(fault.name)) for fault in c.faults)
    count = sum(map(len, by_key.values()))
    waited = sum(hold.admitted.at_us - hold.queued.at_us > 200000 for holds in by_key.values() for hold in holds)
    return (f"never exceeded in {len({hold.run.id for holds in by_key.values() for hold in holds})} runs of {len(by_key)} keys under {kills} kills "
            f"({len(c.faults)} faults); {count} slots, {waited} waited for; {seen}") if by_key else None


def in_turn(c, holds, found):
    """Who has asked clearly earlier goes on earlier. With one slot exactly; with several one may hear of its slot late. When a
    batch was committed nobody knows but around a fault."""
    holds.sort(key=lambda hold: hold.queued.at_us)
    for number, first in enumerate(holds):
        for later in holds[number + 1:]:
            if later.queued.at_us - first.queued.at_us > OVERTAKEN_S * 1e6 and later.admitted.at_us < first.admitted.at_us - EARLY_S * 1e6 \
                    and not c.disturbed(c.mono(first.queued.at_us), c.mono(first.admitted.at_us)):
                found.append(f"{later.run} asked {(later.queued.at_us - first.queued.at_us) / 1e6:.1f} s after {first.run} for key {first.key}, and went on before it")


def as_seen(c, by_key, found):
    """Each look at the table is of one moment: no more granted than may be, and nobody granted who came after one that waits."""
    bounds = {key: holds[0].bound for key, holds in by_key.items()}
    waiting = 0
    for look in c.slots:
        rows = collections.defaultdict(list)
        for key, run, number, granted, told in look["rows"]:
            if run in c.runs:
                rows[key].append((number, run, granted, told))
        for key, there in rows.items():
            granted = [number for number, _, is_granted, _ in there if is_granted]
            queue = [number for number, _, is_granted, told in there if not is_granted and not told]
            waiting += bool(queue)
            if key in bounds and len(granted) > bounds[key]:
                found.append(f"key {key}: {len(granted)} slots were granted at a time, of which there are {bounds[key]}")
            if queue and granted and min(queue) < max(granted):
                found.append(f"key {key}: a slot was granted to number {max(granted)} while number {min(queue)} waited")
    return f"{len(c.slots)} looks at the table, {waiting} queues in them"
