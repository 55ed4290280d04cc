"""More invariants: times, limits, tenants, resources, what other readers of the same history say, and whether enough has
succeeded for any of it to mean something."""
import collections
import pathlib
import re

from campaign import ATTEMPT_FAILED, DISPATCHED, LATE, MARKER, OUTCOMES, STEP_REOPENED
from invariants import LATEST_RETRY_S, POLICY, rule, seconds, starts_of

EARLY_S = 0.02              # the clocks of database and scheduler are read at slightly different moments
QUIET_SHARE, SUCCEEDED_SHARE, SUCCEEDED_LEAST = 0.8, 0.3, 10
MORE_FDS, MORE_RSS_KB = 24, 48 << 10        # beside the 10 %: connections that are kept, caches that fill


def policy_wait(step, attempt):
    policy = {**POLICY, **step.get("retry", {})}
    wait = min(seconds(policy["max"]), seconds(policy["initial"]) * policy["factor"] ** (attempt - 1))
    return wait, wait * (1 + policy["jitter"])


def stated_wait(step, attempt, code):
    """(least, most) seconds between this failure and the next attempt."""
    least, most = policy_wait(step, attempt)
    if code == "worker_lost":           # at once: the worker was at fault, not the target
        return 0, 0
    asked = re.search(r"retry_after=(\d+)", str(step["with"].get("url", "")))
    if asked and code == "http_429":
        least, most = max(least, float(asked[1])), max(most, float(asked[1]))
    if step["call"] == "poll":          # an answer in between forgives what failed before
        least = policy_wait({**step, "retry": step.get("retry", {})}, 1)[0]
    return least, most


@rule("I11", "retries come when their policy says; loops keep their concurrency, as the ledger sees it and by history")
def in_time(c, found):
    retries = loops = 0
    for run in c.runs.values():
        dispatched = {(event.step, event.attempt): event for event in run.events if event.type == DISPATCHED}
        for event in run.events:
            if event.type == ATTEMPT_FAILED and event.step and (step := run.plan.find(event.step)):
                retries += 1
                one_retry(c, run, step, event, dispatched.get((event.step, event.attempt + 1)), found)
        for path in {path[:path.index("[")] for path in run.requests if "[" in path}:
            loops += 1
            one_loop(c, run, path, found)
        loops_by_history(run, found)
    return f"{retries} retries, {loops} loops"


def one_retry(c, run, step, event, after, found):
    least, most = stated_wait(step, event.attempt - run.attempts_before(event.step, event.seq), event.code)
    stated = (event.due_us - event.at_us) / 1e6
    what = f"{run}: attempt {event.attempt + 1} of {event.step}"
    if not least - EARLY_S <= stated <= most + EARLY_S and not (stated < least and ("deadline" in step or step["call"] == "poll")):
        found.append(f"{what} is due after {stated:.3f} s, its policy says {least:.3f} to {most:.3f} s")
    # Whoever retries what was cancelled in its back-off does not wait for that.
    if after is None or any(one.type == STEP_REOPENED and one.step == event.step and event.seq < one.seq < after.seq for one in run.events):
        return
    if after.at_us < event.due_us - EARLY_S * 1e6:
        found.append(f"{what} came {(event.due_us - after.at_us) / 1e6:.3f} s before it was due")
    late = (after.at_us - event.due_us) / 1e6
    held = any(begin.seq < after.seq and (end is None or end.seq > event.seq) for begin, end in run.pauses())
    if late > LATEST_RETRY_S and not held and not c.disturbed(c.mono(event.due_us), c.mono(after.at_us)):
        found.append(f"{what} came {late:.1f} s after it was due, and no fault explains it")
    # Around a fault two workers may have sent it; the answer that counts is the one that history names.
    answered = [request.answered for request in run.requests[event.step]
                if request.attempt == event.attempt and request.refused() and request.how == "full" and event.code == f"http_{request.status}"]
    again = [request.begin for request in run.requests[event.step] if request.attempt == event.attempt + 1]
    if answered and again and (min(again) - min(answered)) / 1e9 < least - EARLY_S:
        found.append(f"{what} reached the ledger {(min(again) - min(answered)) / 1e9:.3f} s after the answer, its policy says {least:.3f} s at least")


def one_loop(c, run, path, found):
    """An iteration is under way at least from its first request to the first answer that may have ended its last step. A retry goes
    on with those that were cut, perhaps much later: each part counts by itself, and is over when the run is opened again. An
    answer to what was cut may be heard of late and end a later part, before what that has sent arrives."""
    step = run.plan.find(path)
    if step is None or step["call"] != "foreach":
        return
    parts = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
    for one, requests in run.requests.items():
        if one.startswith(path + "[") and ":" not in one:
            for request in requests:
                parts[run.opened_before(one, request.attempt)][one[len(path) + 1:one.index("]", len(path))]][one].append(request)
    moments, over = [], 1 << 62
    for opened in sorted(parts, reverse=True):
        spans = [span_of(run, steps, over) for steps in parts[opened].values()]
        over = min(begin for begin, _ in spans)
        moments += [moment for begin, end in spans for moment in ((begin, 1), (end, -1))]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    if most > step["with"].get("concurrency", 10):
        found.append(f"{run}: {most} iterations of {path} at a time, of which there may be {step['with'].get('concurrency', 10)}")


def loops_by_history(run, found):
    """History has an order that needs no clock, and no fault excuses: an iteration goes on from its first event to its outcome."""
    goes_on = collections.defaultdict(set)
    for event in run.events:
        path = event.step or ""
        if ":" in path or event.type == LATE:
            continue
        if event.type in OUTCOMES:
            goes_on.pop(path, None)
        for end in (at for at, char in enumerate(path) if char == "]"):
            loop, _, number = path[:end].rpartition("[")
            if end == len(path) - 1 and event.type in OUTCOMES:
                goes_on[loop].discard(number)
                continue
            goes_on[loop].add(number)
            most = run.plan.find(loop)["with"].get("concurrency", 10)
            if len(goes_on[loop]) > most:
                found.append(f"{run}: with event {event.seq} {len(goes_on[loop])} iterations of {loop} go on, of which there may be {most}")


def span_of(run, steps, over):
    """Of an iteration, or of the part of it that these requests are: it was over then at the latest."""
    begin = min(request.begin for requests in steps.values() for request in requests)
    ends = [min([request.answered for request in run.requests[path] if request.good()]
                or [request.begin for request in requests]) for path, requests in steps.items()]
    return begin, max(begin, min(max(ends), over))


@rule("I12", "no organisation sees a byte of another: effects, answers, tables, logs")
def tenants_apart(c, found):
    own, looked = c.load["markers"], 0

    def look(what, org, markers):
        nonlocal looked
        looked += 1
        for marker in markers:
            if marker != own.get(org):
                found.append(f"{what} of organisation {org} has marker '{marker}'")
    for run in c.runs.values():
        look(str(run), run.org, run.markers)
        for event in run.events:
            look(f"event {event.seq} of {run}", run.org, event.markers)
        for path, requests in run.requests.items():
            for request in requests:
                look(f"a request of {path} of {run}", run.org, request.markers)
    for one in c.operations:
        look(f"the answer to {one.op} of run {one.run}", one.org, one.markers)
    for path, number, markers in logged_markers(c):
        found.append(f"{path}:{number}: a log holds what users sent: {', '.join(sorted(markers))}")
    return f"{looked} places"


def logged_markers(c):
    """Lines of our processes' logs with a marker: payloads are not logged, whosever they are."""
    folders = {pathlib.Path(c.cluster["state_dir"]), c.dir / "log", c.dir / "logdisk"}
    for folder in sorted(folders):
        for kind in ("gateway", "scheduler", "worker"):
            for path in sorted(folder.glob(f"**/{kind}-*.log")):
                with open(path, errors="replace") as file:
                    for number, line in enumerate(file, 1):
                        if markers := set(re.findall(MARKER, line)):
                            yield path, number, markers


@rule("I13", "file descriptors, memory and children are back at what they were")
def resources_back(c, found):
    before, after = {}, {}
    for row in c.resources:
        (before if row.when == "before" else after)[row.process] = row
    for name, row in after.items():
        was = before.get(name)
        if was is None:
            continue
        for what, is_now, most in (("fds", row.fds, was.fds * 1.1 + MORE_FDS), ("children", row.children, was.children * 1.1),
                                   ("rss_kb", row.rss_kb, was.rss_kb * 1.1 + MORE_RSS_KB)):
            if is_now > most:
                found.append(f"{name}: {what} {getattr(was, what)} before and {is_now} after")
    for name in before.keys() - after.keys():
        found.append(f"{name}: is there before and not after")
    return f"{len(after)} processes" if after else None


@rule("I14", "enough has succeeded for all this to mean something, and what no fault touched ended as it should")
def enough(c, found):
    quiet = []
    for start in starts_of(c).values():
        if start.tries:
            first = min(start.tries, key=lambda one: one.t_invoke)
            if not c.disturbed(first.t_invoke, first.t_return, 0):
                quiet.append(start)
    good = sum(start.acknowledged() for start in quiet)
    if good < QUIET_SHARE * len(quiet) or not quiet:
        found.append(f"{good} of {len(quiet)} submissions in quiet phases succeeded")
    runs = [run for run in c.runs.values() if run.parent is None]
    succeeded = sum(run.status == "succeeded" for run in runs)
    least = max(SUCCEEDED_LEAST, SUCCEEDED_SHARE * len(runs))
    if succeeded < least:
        found.append(f"{succeeded} of {len(runs)} runs succeeded, at least {least:.0f} must")
    untouched = odd = 0
    for run in runs:
        if run.is_open() or run.workflow not in c.load["ends"]:
            continue
        if c.disturbed(c.mono(run.created_us), c.mono(run.ended_us)):
            odd += run.status not in c.load["ends"][run.workflow]
            continue
        untouched += 1
        if run.status not in c.load["ends"][run.workflow]:
            found.append(f"{run}: no fault touched it, and it ended {run.status}, not {' or '.join(c.load['ends'][run.workflow])}")
    return (f"{good} of {len(quiet)} quiet submissions, {succeeded} of {len(runs)} runs succeeded, {untouched} untouched by faults, "
            f"{odd} others ended otherwise than without faults")


# --- the same history, told by others -----------------------------------------------------------------------------------------

@rule("fold", "fold-check agrees")
def folded(c, found):
    for row in c.rows("fold"):
        if row["code"]:
            found += row["text"].splitlines()[-20:]
        return (row["text"].strip().splitlines() or ["nothing said"])[-1]
    return None


@rule("API", "what the API answers is what history says")
def api_agrees(c, found):
    steps = 0
    for row in c.rows("api"):
        run = c.runs.get(row["run"])
        if run is None or run.is_open():
            continue
        if row["http"] != 200:
            found.append(f"{run}: the API answered {row['http']}")
            continue
        if row["status"] != run.status:
            found.append(f"{run}: the API says {row['status']}, its history {run.status}")
        kept = run.kept()
        for name, status in row["steps"].items():
            steps += 1
            if kept.get(name, ("none",))[0] != status:
                found.append(f"{run}: the API says of step {name} {status}, its history {kept.get(name, ('none',))[0]}")
    return f"{len(c.rows('api'))} runs, {steps} steps" if c.rows("api") else None
