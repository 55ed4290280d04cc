"""The invariants that a campaign is judged by. Each rule looks at the whole campaign, adds to `found` what breaks it, and
gives its figures in words. The numbers are those of the project's list of invariants."""
import collections

from campaign import (ATTEMPT_FAILED, CONTINUED, DISPATCHED, ENDS, FAILED, GIVEN, LATE, OUTCOMES, RUN_REOPENED, RUN_STARTED, SETTLED, SIGNAL, STARTED, STEP_REOPENED,
                      TIMED_OUT, WAITING)
from workflows import TICK_SECONDS

RULES = []
POLICY = {"max_attempts": 5, "initial": "1s", "factor": 2, "max": "60s", "jitter": 0.2}
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
LATEST_RETRY_S = 30         # beyond its policy, unless a fault was near
SENT_AT_ONCE = 2
LATEST_TICK_NS = 5 * 10**9  # a time that nothing disturbs is fired by then
LAST_MOMENT_S = 0.3         # an answer sent this long before the attempt's timeout may come too late


def rule(number, title):
    def add(function):
        RULES.append((number, title, function))
        return function
    return add


def seconds(duration):
    number = duration.rstrip("smhd")
    return float(number) * UNITS[duration[len(number):]]


class Start:
    """All requests that tried to start one thing: organisation, workflow, key."""

    def __init__(self, who):
        self.org, self.workflow, self.key = who
        self.tries, self.others, self.runs = [], [], set()

    def __str__(self):
        return f"start of {self.workflow} with key '{self.key}'"

    def acknowledged(self):
        return bool(self.runs)

    def unknown(self):
        return not self.runs and any(one.outcome == "unknown" for one in self.tries)


def starts_of(c):
    found = {}
    for one in c.operations:
        if one.op == "start":
            start = found.setdefault((one.org, one.workflow, one.key), Start((one.org, one.workflow, one.key)))
            (start.others if one.expect else start.tries).append(one)
            if one.outcome == "ok":
                start.runs.add(one.run)
    return found


def runs_by_key(c):
    found = collections.defaultdict(list)
    for run in c.runs.values():
        if run.parent is None and run.rerun_of is None and not run.scheduled:
            found[run.org, run.workflow, run.key].append(run)
    return found


@rule("I1", "nothing acknowledged is lost, every run ends")
def nothing_lost(c, found):
    starts = starts_of(c)
    for start in starts.values():
        for run_id in start.runs:
            if run_id not in c.runs:
                found.append(f"lost: {start} was acknowledged as run {run_id}, which is not there")
    for run in c.runs.values():
        if run.is_open():
            found.append(f"stuck: {run} is {run.status}, its last event is {run.events[-1].seq if run.events else 'none'}")
    for one in c.operations:
        if one.op in ("get", "signal", "cancel", "settle") and one.status == 404 and one.expect != 404:
            found.append(f"lost: {one.op} of run {one.run}, which had been acknowledged, was answered 404 by {one.gateway}")
        if one.expect == 404 and one.outcome == "ok":
            found.append(f"run {one.run} was shown to organisation {one.org}, whose it is not")
    acknowledged, asked = collections.defaultdict(set), collections.defaultdict(set)
    for one in c.operations:
        if one.op == "signal":
            asked[one.run, one.signal].add(one.key)
            if one.outcome == "ok":
                acknowledged[one.run, one.signal].add(one.key)
    for (run_id, name), keys in asked.items():
        if run_id not in c.runs:
            continue
        run = c.runs[run_id]
        received = sum(event.type == SIGNAL and event.name == name for event in run.events)
        refused = sum(event.type == 41 for event in run.events)
        if received > len(keys):
            found.append(f"{run}: {received} signals '{name}', of which {len(keys)} were sent")
        if received + refused < len(acknowledged[run_id, name]):
            found.append(f"lost: {run}: signal '{name}' was acknowledged and is not in its history")
    for one in c.operations:
        if one.op == "settle" and one.outcome == "ok" and one.run in c.runs:
            if not any(event.type == SETTLED and event.step == one.step for event in c.runs[one.run].events):
                found.append(f"lost: {c.runs[one.run]}: the settlement of {one.step} was acknowledged and is not in its history")
    return f"{sum(start.acknowledged() for start in starts.values())} acknowledged starts, {len(c.runs)} runs, {sum(map(len, acknowledged.values()))} signals"


@rule("I2", "no phantom: every effect is of a run, a step and an attempt that history knows")
def no_phantoms(c, found):
    starts, effects = starts_of(c), 0
    for request in c.unknown_requests:
        found.append(f"unexpected: a request of step {request.step} names run {request.run}, which is not there")
    for run in c.runs.values():
        if run.parent is None and run.rerun_of is None and not run.scheduled and (run.org, run.workflow, run.key) not in starts:
            found.append(f"unexpected: {run} was started by nobody (key '{run.key}')")
        for path, requests in run.requests.items():
            step = run.plan.find(path)
            if step is None:
                found.append(f"{run}: an effect of step {path}, which its workflow does not have")
                continue
            dispatched = {event.attempt for event in run.events if event.type == DISPATCHED and event.step == path}
            allowed = {**POLICY, **step.get("retry", {})}["max_attempts"]
            for request in requests:
                effects += request.applied is not None
                if request.attempt not in dispatched:
                    found.append(f"{run}: a request of attempt {request.attempt} of {path}, which was never dispatched")
                elif request.attempt - run.attempts_before(path) > allowed:
                    found.append(f"{run}: attempt {request.attempt} of {path}, of which there may be {allowed}")
                if request.applied == -1:
                    found.append(f"ledger: connection {request.conn} applied one request twice")
        for path, (outcome, _) in run.kept().items():
            step = run.plan.find(path)
            settled = any(event.type in (SETTLED, GIVEN) and event.step == path for event in run.events)
            if step and step["call"] in ("http", "poll") and outcome == "succeeded" and not settled and not path.endswith("]"):
                if not any(request.good() for request in run.requests[path]):
                    found.append(f"{run}: {path} succeeded, and the ledger never answered it so")
    return f"{effects} effects"


# --- order ----------------------------------------------------------------------------------------------------------------

class Clock:
    """When, by the ledger, a step of a run can have begun and must have ended at the latest before what needs it."""

    def __init__(self, run):
        self.run, self.known = run, {}

    def under(self, path):
        """Paths with requests that belong to this step: itself and, of a loop, its iterations."""
        return [one for one in self.run.requests if ":" not in one and (one == path or one.startswith(path + "["))]

    def begins(self, path):
        """(ns, path) of its first request, also in child runs."""
        found = [(request.begin, one) for one in self.under(path) for request in self.run.requests[one]]
        for at, child in self.run.children.items():
            if at == path or (at or "").startswith(path + "["):
                found += [(request.begin, f"{at} > {one}") for one, requests in child.requests.items() if ":" not in one for request in requests]
        return min(found, default=None)

    def ends(self, path):
        """ns of the latest answer without which it cannot have succeeded, its own parents' included; 0 when there is none."""
        if path not in self.known:
            found = [self.own_end(self.run, one) for one in self.under(path)]
            for at, child in self.run.children.items():
                if at == path or (at or "").startswith(path + "["):
                    found += [self.own_end(child, one) for one in child.requests if ":" not in one]
            found += [self.ends(parent) for parent in self.run.plan.needs(path)]
            self.known[path] = max(found, default=0)
        return self.known[path]

    @staticmethod
    def own_end(run, path):
        if run.kept().get(path, ("",))[0] != "succeeded" or any(event.type == SETTLED and event.step == path for event in run.events):
            return 0
        return min((request.answered for request in run.requests[path] if request.good()), default=0)


@rule("I3", "a step begins after everything it needs has been answered, by the ledger's clock")
def in_order(c, found):
    edges = 0
    for run in c.runs.values():
        clock = Clock(run)
        paths = {path for path in run.requests if ":" not in path}
        paths |= {path[:path.rindex("[")] for path in paths if "[" in path} | {step for step in run.children if step}
        for path in sorted(paths):
            if run.plan.find(path) is None:
                continue
            first = clock.begins(path)
            for parent in run.plan.needs(path):
                end = clock.ends(parent)
                if first and end:
                    edges += 1
                    if first[0] <= end:
                        found.append(f"{run}: {first[1]} began {(end - first[0]) / 1e6:.3f} ms before {parent} was answered")
            if first and "." in path:      # inside a loop: after what the loop needs
                loop = path.rpartition(".")[0].rpartition("[")[0]
                end = max((clock.ends(parent) for parent in run.plan.needs(loop)), default=0)
                edges += bool(end)
                if end and first[0] <= end:
                    found.append(f"{run}: {first[1]} began before what {loop} needs was answered")
        undo_in_order(run, found)
    return f"{edges} edges"


def undo_in_order(run, found):
    """Compensation: newest success first, one after another."""
    actions = [path for path in run.requests if path.endswith(":compensate")]
    if any(event.type in (LATE, RUN_REOPENED) for event in run.events):
        return
    kept = run.kept()
    wanted = sorted(actions, key=lambda path: -kept.get(path.removesuffix(":compensate"), ("", 0))[1])
    seen = sorted(actions, key=lambda path: min(request.begin for request in run.requests[path]))
    if wanted != seen:
        found.append(f"{run}: undone in the order {', '.join(seen)}, not {', '.join(wanted)}")
    for before, after in zip(seen, seen[1:]):
        end = Clock.own_end(run, before)
        if end >= min(request.begin for request in run.requests[after]):
            found.append(f"{run}: {after} began before {before} was answered")


# --- once -------------------------------------------------------------------------------------------------------------------

def repeats_of(c):
    """Effects beyond the first of a step: (run, path, request, why), why None when nothing explains it. What the ledger's
    script did to an answer explains a repeat under the same key; under another key only a fault does, which let an attempt
    be sent again after it had been answered."""
    for run in c.runs.values():
        for path, requests in run.requests.items():
            applied = sorted((one for one in requests if one.applied is not None), key=lambda one: one.begin)
            for last, request in zip(applied, applied[1:]):
                same_key = [one for one in requests if one.key == request.key and one.begin < request.begin]
                if any(one.spoiled() for one in same_key):
                    yield run, path, request, "script"
                elif c.disturbed(last.begin, request.begin):
                    yield run, path, request, "fault"
                elif any(timed_out(c, run, path, one) for one in same_key):
                    yield run, path, request, "late answer"
                elif reopened_between(run, path, last, request):
                    yield run, path, request, "retry"
                else:
                    yield run, path, request, None


def timed_out(c, run, path, request):
    """Did the attempt end by its timeout, with an answer that the ledger gave too late or at the last moment?"""
    for event in run.events:
        if event.type in (ATTEMPT_FAILED, TIMED_OUT) and event.step == path and event.attempt == request.attempt and event.code == "timeout":
            allowed = seconds(run.plan.find(path).get("timeout", "30s"))
            return event.started_us is not None and request.answered >= c.mono(event.started_us) + int((allowed - LAST_MOMENT_S) * 1e9)
    return False


def reopened_between(run, path, last, request):
    """Did an operator's retry open the step again between these two? What it had sent and not been told of is sent once more."""
    return any((last.attempt or 0) <= before < (request.attempt or 0) for before in run.openings(path))


@rule("I4", "one effect per step, repeats have a reason, the same key and body; a new key only after a refusal; at_most_once is sent once")
def effects_once(c, found):
    reasons = collections.Counter()
    for run, path, request, why in repeats_of(c):
        reasons[why] += 1
        if why is None:
            found.append(f"duplicated: {run}: another effect of {path}, key '{request.key}', and neither script nor fault explains it")
    owners, steps = {}, 0
    for run in c.runs.values():
        for path, requests in run.requests.items():
            step = run.plan.find(path)
            if step is None:
                continue
            steps += 1
            requests.sort(key=lambda request: request.begin)
            one_step(run, path, step, requests, owners, found)
    inside = within_attempts(c)
    for (run_id, path, attempt), requests in inside.items():
        if len(requests) > SENT_AT_ONCE and not c.disturbed(requests[0].begin, requests[-1].begin):
            found.append(f"duplicated: {c.runs[run_id]}: attempt {attempt} of {path} was sent {len(requests)} times, and no fault explains it")
    return (f"{steps} steps with effects, {sum(reasons.values())} raw repeats ({reasons['script']} by script, {reasons['fault']} by fault, "
            f"{reasons['late answer']} after a late answer, {reasons['retry']} by an operator's retry), "
            f"{sum(len(requests) - 1 for requests in inside.values())} requests repeated inside one attempt")


def within_attempts(c):
    """The requests of each attempt. There may be two: a worker's library sends a request again, once, when the connection
    that it had kept for it ends. More are copies of the task that were done."""
    found = collections.defaultdict(list)
    for run in c.runs.values():
        for path, requests in run.requests.items():
            if (run.plan.find(path) or {}).get("call") == "http":
                for request in sorted(requests, key=lambda one: one.begin):
                    if request.how != "redirect":
                        found[run.id, path, request.attempt].append(request)
    return found


def one_step(run, path, step, requests, owners, found):
    keys = list(dict.fromkeys(request.key for request in requests))
    own = "key" in step.get("idempotency", {})
    for key in keys:
        if owners.setdefault(key, (run.id, path)) != (run.id, path):
            found.append(f"{run}: key '{key}' of {path} is also that of {owners[key]}")
        base = f"{run.id}:{path.removeprefix(':')}"
        if not own and key != base and not (key or "").startswith(base + ":"):
            found.append(f"{run}: {path} was sent with key '{key}'")
        if step["call"] == "http" and len({request.body_sha for request in requests if request.key == key and request.how != "redirect"}) > 1:
            found.append(f"{run}: {path} was sent with different bodies under key '{key}'")
    for before, after in zip(keys, keys[1:] if step["call"] == "http" else ()):     # each try of a poll is a new question
        first = min(request.begin for request in requests if request.key == after)
        if not any(request.refused() and request.answered < first for request in requests if request.key == before):
            found.append(f"duplicated: {run}: {path} got the new key '{after}', and the old one had no definite answer")
    if step.get("delivery") == "at_most_once" and len(requests) > 1:
        found.append(f"duplicated: {run}: {path} is at_most_once and was sent {len(requests)} times")


@rule("I5", "fencing: no attempt is dispatched twice, and after a later attempt an earlier one is sent only around a fault")
def fenced(c, found):
    late = 0
    for run in c.runs.values():
        seen = set()
        for event in run.events:
            if event.type == DISPATCHED:
                if (event.step, event.attempt) in seen:
                    found.append(f"{run}: attempt {event.attempt} of {event.step} was dispatched twice")
                seen.add((event.step, event.attempt))
        for path, requests in run.requests.items():
            newest = None
            for request in sorted(requests, key=lambda one: one.begin):
                if newest and (request.attempt or 0) < (newest.attempt or 0):
                    late += 1
                    if not c.disturbed(newest.begin, request.begin):
                        found.append(f"{run}: attempt {request.attempt} of {path} was sent after attempt {newest.attempt}, and no fault explains it")
                else:
                    newest = request
    return f"{late} requests of attempts that had been given up"


# --- history ----------------------------------------------------------------------------------------------------------------

class Step:
    def __init__(self):
        self.attempt, self.open, self.ended = 0, False, None


class History:
    """Walks the events of a run along the documented machine."""

    def __init__(self, run, found):
        self.run, self.found, self.steps, self.end, self.started = run, found, collections.defaultdict(Step), None, False

    def wrong(self, event, text):
        self.found.append(f"{self.run}: event {event.seq} (type {event.type}) {event.step or ''}: {text}")

    def walk(self):
        for number, event in enumerate(self.run.events, 1):
            if event.seq != number:
                self.wrong(event, f"event {number} is missing")
                return
            if event.step and event.type in (DISPATCHED, STARTED, WAITING, ATTEMPT_FAILED, LATE, SETTLED, STEP_REOPENED, GIVEN, CONTINUED, *OUTCOMES):
                self.of_step(event, self.steps[event.step])
            else:
                self.of_run(event)
        status = self.end or "open"
        if status != (self.run.status if not self.run.is_open() else "open"):
            self.found.append(f"{self.run}: its row says {self.run.status}, its history {status}")

    def of_run(self, event):
        if event.type == RUN_STARTED:
            if self.started:
                self.wrong(event, "started again")
            self.started = True
        elif event.type in ENDS:
            if self.end:
                self.wrong(event, f"ended {self.end} before")
            self.end = ENDS[event.type]
        elif event.type == RUN_REOPENED:
            if not self.end:
                self.wrong(event, "reopened without an end")
            self.end = None
            for step in self.steps.values():
                if step.ended != "succeeded" and event.code != "retry":     # a retry says which
                    step.ended = None

    def of_step(self, event, step):
        attempt = event.attempt or 0
        if self.end and event.type not in (LATE, SETTLED):
            self.wrong(event, f"after the end ({self.end})")
        if event.type == LATE:
            if attempt > step.attempt:
                self.wrong(event, "a late result of an attempt that was never dispatched")
        elif event.type == SETTLED:
            step.ended, step.open = event.said, False
            for other in self.steps.values():       # what its doubt had stopped may begin after all
                if other.ended in ("cancelled", "skipped"):
                    other.ended = None
        elif event.type == STEP_REOPENED:
            if step.ended in (None, "succeeded"):
                self.wrong(event, f"opened again, and it had {'succeeded' if step.ended else 'not ended'}")
            step.ended, step.open = None, False
        elif event.type == CONTINUED:       # an iteration; of a step itself its loop or child, once it is opened again
            if event.step.endswith("]") == (step.ended in (None, "succeeded")):
                self.wrong(event, f"goes on, and it had {step.ended or 'not ended'}")
            step.ended = None
        elif step.ended:
            self.wrong(event, f"it had ended ({step.ended})")
        elif event.type == GIVEN:
            step.ended = event.said
        elif event.type in (DISPATCHED, WAITING, STARTED, ATTEMPT_FAILED) and not self.started:
            self.wrong(event, "before its run has started")
        elif event.type == DISPATCHED:
            if step.open or attempt != step.attempt + 1:
                self.wrong(event, f"attempt {attempt} after {step.attempt}, which was {'open' if step.open else 'closed'}")
            step.attempt, step.open = attempt, True
        elif event.type in (STARTED, ATTEMPT_FAILED):
            if not step.open or attempt != step.attempt:
                self.wrong(event, f"of attempt {attempt}, while {step.attempt} was {'open' if step.open else 'closed'}")
            step.open = step.open and event.type == STARTED
        elif event.type == WAITING:
            step.open = False
        else:
            if attempt > step.attempt:
                self.wrong(event, f"an outcome of attempt {attempt}, which was never dispatched")
            step.open, step.ended = False, OUTCOMES[event.type]


@rule("I6", "history has no gap, states move along the machine, one outcome per step, one end per run")
def along_the_machine(c, found):
    for event in c.strays:
        found.append(f"event {event.seq} is of run {event.run}, which is not there")
    for run in c.runs.values():
        History(run, found).walk()
    late = sum(event.type == LATE for run in c.runs.values() for event in run.events)
    return f"{sum(len(run.events) for run in c.runs.values())} events, {late} late results"


@rule("I7", "one run per idempotency key; another body under a key is refused")
def one_run_per_key(c, found):
    runs, starts = runs_by_key(c), starts_of(c)
    for start in starts.values():
        there = runs.get((start.org, start.workflow, start.key), [])
        if len(there) > 1:
            found.append(f"duplicated: {start} made {len(there)} runs: {', '.join(run.id for run in there)}")
        if len(start.runs) > 1:
            found.append(f"duplicated: {start} was answered with {len(start.runs)} runs: {', '.join(sorted(map(str, start.runs)))}")
        for one in start.others:
            if one.outcome == "ok" or (one.outcome == "fail" and one.status not in (None, one.expect, 429)):
                found.append(f"{start}: another body under its key was answered {one.status}, not {one.expect}")
        for one in start.tries:
            if one.status == 422:
                found.append(f"{start}: the same body was refused ({one.code})")
    kept = {(c.organisations.get(row["organisation"]), row["scope"], row["key"]): row["run"] for row in c.rows("idempotency") if row["command"] is None}
    for who, there in runs.items():
        if who[2] and kept.get(who) not in [run.id for run in there]:
            found.append(f"{there[0]}: the key '{who[2]}' leads to run {kept.get(who)}")
    return f"{len(starts)} keys, {sum(len(start.tries) for start in starts.values())} requests, {sum(len(start.others) for start in starts.values())} other bodies"


@rule("I8", "each time of a schedule starts one run: none is left out, none comes twice, none early")
def schedules(c, found):
    times, runs = collections.defaultdict(list), collections.Counter()
    for row in c.rows("schedule_fire"):
        if row["organisation"] in c.organisations:
            times[row["organisation"], row["schedule"]].append(row["nominal_us"])
            run = c.runs.get(row["run"])
            runs[row["run"]] += 1
            if run is None:
                found.append(f"lost: time {row['nominal_us']} of schedule {row['schedule']} has run {row['run']}, which is not there")
            elif run.created_us < row["nominal_us"]:
                found.append(f"{run} was started {(row['nominal_us'] - run.created_us) / 1e6:.3f} s before its time")
    found += [f"run {run} is that of {count} times" for run, count in runs.items() if count > 1]
    for (org, schedule), known in times.items():
        known.sort()
        for before, after in zip(known, known[1:]):
            if after - before != TICK_SECONDS * 1000000:
                found.append(f"schedule {schedule} of {c.organisations[org]} was fired for {before} and then for {after}, {(after - before) / 1e6} s later")
        next_ns = c.mono(known[-1]) + TICK_SECONDS * 10**9
        if next_ns + LATEST_TICK_NS < c.load.get("t_end", 0) and not c.disturbed(next_ns, c.load.get("t_end", 0)):
            found.append(f"schedule {schedule} of {c.organisations[org]} was not fired any more {(c.load['t_end'] - next_ns) / 1e9:.1f} s before the end")
    for org in c.organisations.keys() - {org for org, _ in times}:
        found.append(f"the schedule of {c.organisations[org]} was never fired")
    return f"{sum(map(len, times.values()))} times of {len(times)} schedules"


@rule("I9", "the audit chain verifies")
def audit(_, __):
    return None


@rule("I10", "at rest every step has an outcome, and no work, command, message or quarantined run is left")
def conserved(c, found):
    outcomes = collections.Counter()
    for run in c.runs.values():
        if run.is_open():
            continue
        kept = run.kept()
        for name in run.plan.document["steps"]:
            if any(event.type == RUN_STARTED for event in run.events):
                outcomes[kept.get(name, ("none",))[0]] += 1
                if name not in kept:
                    found.append(f"{run}: has ended ({run.status}), and step {name} has no outcome")
    for table in ("open_work", "command"):
        for row in c.rows(table):
            if row["run"] in c.runs and not c.runs[row["run"]].is_open():
                found.append(f"{c.runs[row['run']]}: has ended, and a row of {table} is left (kind {row['kind']})")
    for row in c.rows("quarantine"):
        found.append(f"run {row['run']} is quarantined: {row['reason']}")
    letters_explained(c, found)
    for row in c.rows("queue"):
        if row["messages"]:
            found.append(f"queue {row['name']} holds {row['messages']} messages")
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) + f"; {len(c.rows('dead_letter'))} dead letters"


def letters_explained(c, found):
    """A dead letter is a step that history calls poison, one each, or a message that a fault made."""
    poisoned = {(run.id, event.step) for run in c.runs.values() for event in run.events if event.type == FAILED and event.code == "poison" and event.attempt}
    letters = [row for row in c.rows("dead_letter") if row["organisation"] in c.organisations or row["organisation"] is None]
    told = collections.Counter((row["run"], row["step"]) for row in letters if row["reason"] == "poison")
    for who in poisoned | told.keys():
        if told[who] != (who in poisoned):
            found.append(f"run {who[0]}: step {who[1]} has {told[who]} dead letters, and is {'' if who in poisoned else 'not '}poison in history")
    others = [row for row in letters if row["reason"] != "poison"]
    if others and not any({"B7", "B9"} & set(fault.rows) for fault in c.faults):
        found.append(f"{len(others)} dead letters, and no fault sent any: {others[0]['source']}: {others[0]['reason']}")
