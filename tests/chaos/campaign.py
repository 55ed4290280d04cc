"""What a campaign left behind, as the checker sees it: the clients' log, the ledger, the faults, and the tables as plain
SQL tells them. No code is shared with Ropewalk: numbers of event types and the rules of documents are written down here
again.

The tables are read once and kept in DIR/database.jsonl, so that a campaign can be judged again when its database is gone.
"""
import collections
import contextlib
import json
import pathlib
import re
import time

MARKER = r"mark-[a-z0-9-]+-[0-9a-f]{12}"

RUN_STARTED, RUN_CANCELLING, RUN_TIMING_OUT, RUN_COMPENSATING, RUN_REOPENED, SIGNAL = 1, 7, 8, 9, 12, 13
RUN_PAUSED, RUN_RESUMED, RUN_QUEUED, RUN_ADMITTED, STEP_REOPENED, GIVEN, CONTINUED = 14, 15, 17, 18, 32, 33, 34
DISPATCHED, STARTED, WAITING, ATTEMPT_FAILED, SUCCEEDED = 20, 21, 22, 23, 24
FAILED, TIMED_OUT, SKIPPED, CANCELLED, OUTCOME_UNKNOWN, LATE, SETTLED, COMMAND_APPLIED, COMMAND_REFUSED = 25, 26, 27, 28, 29, 30, 31, 40, 41
ENDS = {2: "succeeded", 3: "failed", 4: "partially_completed", 5: "cancelled", 6: "timed_out", 10: "compensated", 11: "compensation_failed"}
OUTCOMES = {24: "succeeded", 25: "failed", 26: "timed_out", 27: "skipped", 28: "cancelled", 29: "outcome_unknown"}
OPEN = ("pending", "active", "paused")
AFTERWARDS_NS = 5 * 10**9       # what a fault leaves behind may show for so long

QUERIES = {
    "organisation": "SELECT id, name FROM organisation",
    "document": "SELECT organisation, workflow, version, convert_from(document, 'UTF8') AS document FROM workflow_version",
    "run": f"""SELECT id::text, organisation, workflow, version, status, (extract(epoch FROM created_at) * 1e6)::bigint AS created_us,
               (extract(epoch FROM ended_at) * 1e6)::bigint AS ended_us, input->>'k' AS key, parent::text, parent_step, rerun_of::text, begins->>'from' AS begins_from,
               ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(input::text || labels::text || coalesce(error_text, ''), '({MARKER})', 'g') m) AS markers
               FROM run""",
    "event": f"""SELECT run_id::text AS run, seq, organisation, (extract(epoch FROM at) * 1e6)::bigint AS at_us, type, step, attempt, data->>'code' AS code,
               (data->>'due_at')::bigint AS due_us, (data->>'started_at')::bigint AS started_us, data->>'as' AS said, data->>'name' AS name, data->>'waits' AS waits, data->>'child' AS child,
               data->>'key' AS slot, (data->>'count')::int AS bound, (data->>'ref')::int AS ref, (data->>'command')::bigint AS command, md5(output::jsonb::text) AS output,
               ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(coalesce(data::text, '') || coalesce(output::text, ''), '({MARKER})', 'g') m) AS markers
               FROM event ORDER BY run_id, seq""",
    "open_work": """SELECT run_id::text AS run, organisation, seq, kind, step, attempt, (extract(epoch FROM due_at) * 1e6)::bigint AS due_us, reason FROM open_work""",
    "command": "SELECT run_id::text AS run, organisation, id, kind FROM command",
    "idempotency": "SELECT organisation, scope, key, run_id::text AS run, command FROM idempotency",
    "dead_letter": "SELECT organisation, kind, source, reason, run_id::text AS run, step, (extract(epoch FROM at) * 1e6)::bigint AS at_us FROM dead_letter",
    "quarantine": "SELECT organisation, run_id::text AS run, reason FROM quarantine",
    "schedule_fire": """SELECT schedule::text, organisation, (extract(epoch FROM nominal_at) * 1e6)::bigint AS nominal_us, run_id::text AS run
                        FROM schedule_fire ORDER BY schedule, nominal_at""",
    "shard": "SELECT shard, owner, epoch FROM shard",
    "admission": "SELECT key::text, organisation, run_id::text AS run, granted FROM admission",
    "admission_key": "SELECT key::text, organisation, held, waiting FROM admission_key",
    "bulk": "SELECT organisation, id::text, kind, runs, applied, refused, next_at IS NULL AS over FROM bulk_operation",
    "bulk_run": "SELECT organisation, operation::text, run_id::text AS run, command, new_run::text, code FROM bulk_run",
}


def lines_of(path):
    """The JSON lines of a file; a last line that was cut is none."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        with open(path, errors="replace") as file:
            for line in file:
                if line.endswith("\n"):
                    found.append(json.loads(line))
    return found


class Fact:
    """A line of a file, or a row of a table: its fields as attributes."""

    def __init__(self, fields):
        self.__dict__.update(fields)

    def __getattr__(self, name):        # a field that the line does not have
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def bare(path):
    """The step's path without numbers of items: each[3].go -> each.go"""
    return re.sub(r"\[\d+\]", "", path)


class Plan:
    """A document: its steps by bare path."""

    def __init__(self, document):
        self.document, self.steps = document, {}
        self.add("", document["steps"])
        if "on_failure_notify" in document:
            self.steps[":notify"] = document["on_failure_notify"]

    def add(self, prefix, steps):
        for name, step in steps.items():
            self.steps[prefix + name] = step
            if "compensate" in step:
                self.steps[f"{prefix}{name}:compensate"] = step["compensate"]
            if step["call"] == "foreach":
                self.add(f"{prefix}{name}.", step["with"]["steps"])

    def find(self, path):
        return self.steps.get(bare(path))

    def needs(self, path):
        """Paths of the parents, which are in the same iteration."""
        frame, _, name = path.rpartition(".")
        return [f"{frame}.{one}" if frame else one for one in self.find(path).get("needs", [])]

    def children(self, path):
        """Bare paths of the steps of a loop."""
        prefix = bare(path) + "."
        return [one for one in self.steps if one.startswith(prefix) and "." not in one[len(prefix):] and ":" not in one]


class Run:
    def __init__(self, row, plan):
        self.__dict__.update(row)
        self.plan, self.events, self.requests, self.children = plan, [], collections.defaultdict(list), {}
        self.scheduled = False

    def __str__(self):
        return f"run {self.id} ({self.workflow})"

    def is_open(self):
        return self.status in OPEN

    def kept(self):
        """Steps by path: the last outcome that history has, and the seq of it; settlements count."""
        found = {}
        for event in self.events:
            if event.type in OUTCOMES:
                found[event.step] = (OUTCOMES[event.type], event.seq)
            elif event.type in (SETTLED, GIVEN):
                found[event.step] = (event.said, event.seq)
            elif event.type in (DISPATCHED, WAITING, STARTED, STEP_REOPENED, CONTINUED) and event.step in found:
                del found[event.step]       # it got another chance
        return found


    def given(self, path):
        """Was its outcome another run's, or that of whoever started it? Then it says nothing of what was done here."""
        return any(event.type == GIVEN and event.step == path for event in self.events)

    def attempts_before(self, path, seq=1 << 30):
        """How many attempts a step had when it was opened again, before this event: its policy counts from there."""
        return max(self.openings(path, seq), default=0)

    def openings(self, path, seq=1 << 30):
        """How many attempts a step had each time that it was opened again, before this event."""
        found, known = [], 0
        for event in self.events:
            if event.seq < seq and event.step == path:
                known = event.attempt if event.type == DISPATCHED else known
                found += [known] if event.type == STEP_REOPENED else []
        return found

    def opened_before(self, path, attempt):
        """How many times the run had been opened again when this attempt was dispatched: by its history, whose order no clock says."""
        count = 0
        for event in self.events:
            if event.type == RUN_REOPENED:
                count += 1
            elif event.type == DISPATCHED and event.step == path and event.attempt == attempt:
                return count
        return 0

    def pauses(self):
        """(event that paused it, event that ended the pause or None), one after another."""
        found, begin = [], None
        for event in self.events:
            if event.type == RUN_PAUSED and begin is None:
                begin = event
            elif begin is not None and event.type in (RUN_RESUMED, RUN_CANCELLING, RUN_TIMING_OUT, *ENDS):
                found.append((begin, event))
                begin = None
        return found + ([(begin, None)] if begin else [])


class Request:
    """One request as the ledger has it."""

    def __init__(self, begin):
        self.__dict__.update(begin)
        self.begin, self.applied, self.answered = begin["ns"], None, None
        self.status = self.how = self.gone = self.said = None

    def good(self):
        """May its answer have ended the step as a success?"""
        return self.status is not None and 200 <= self.status <= 299 and self.how in ("full", "drip", "reset") and self.said != "busy"

    def spoiled(self):
        """Did the ledger itself, or the client who left, see to it that the answer did not arrive?"""
        return self.answered is None or self.gone or self.how not in ("full", "redirect")

    def refused(self):
        """A definite answer that is no success."""
        return self.status is not None and self.how in ("full", "reset", "drip") and not 200 <= self.status <= 299


class Fault:
    """An interval, in ns. It lasts until the installation has carried a run through again."""

    def __init__(self, fields):
        self.begin, self.name, self.rows = fields["t_begin"], fields["fault"], fields.get("rows") or []
        detail = fields.get("detail") or {}
        recovered_ms, self.kills = detail.get("recovered_ms") or 0, detail.get("kills") or 0
        self.end = (fields.get("t_end") or 1 << 62) + recovered_ms * 1000000


class Campaign:
    def __init__(self, folder, database):
        self.dir = pathlib.Path(folder)
        self.cluster = json.loads((self.dir / "cluster.json").read_text())
        self.load = json.loads((self.dir / "load.json").read_text())
        self.operations = [Fact(line) for line in lines_of(self.dir / "client.jsonl")]
        self.faults = [Fault(line) for line in lines_of(self.dir / "faults.jsonl")]
        self.resources = [Fact(line) for line in lines_of(self.dir / "resources.jsonl")]
        self.slots = lines_of(self.dir / "slots.jsonl")
        self.tables = database
        self.read_tables()
        self.read_ledger()

    def rows(self, table):
        return self.tables.get(table, [])

    def read_tables(self):
        self.organisations = {row["id"]: row["name"] for row in self.rows("organisation") if row["name"] in self.cluster["organisations"]}
        self.clock = next(iter(self.rows("clock")), {"mono_ns": 0, "wall_us": 0})
        plans = {}
        for row in self.rows("document"):
            if row["organisation"] in self.organisations:
                plans[row["organisation"], row["workflow"], row["version"]] = Plan(json.loads(row["document"]))
        self.runs = {}
        for row in self.rows("run"):
            if row["organisation"] in self.organisations:
                run = Run(row, plans.get((row["organisation"], row["workflow"], row["version"])))
                run.org = self.organisations[row["organisation"]]
                self.runs[row["id"]] = run
        for row in self.rows("schedule_fire"):
            if row["run"] in self.runs:
                self.runs[row["run"]].scheduled = True
        self.strays = []        # events of runs that there are not
        for row in self.rows("event"):
            if row["organisation"] in self.organisations:
                run = self.runs.get(row["run"])
                (run.events if run else self.strays).append(Fact(row))
        for run in self.runs.values():
            run.events.sort(key=lambda event: event.seq)
            if run.parent in self.runs:
                self.runs[run.parent].children[run.parent_step] = run

    def read_ledger(self):
        self.requests, self.unknown_requests, open_ones = [], [], {}
        for line in lines_of(self.dir / "ledger.jsonl"):
            who = line["conn"], line["req"]
            if line["phase"] == "begin":
                open_ones[who] = Request(line)
                self.requests.append(open_ones[who])
            elif line["phase"] == "applied":
                # an effect twice in one request would be the ledger's own fault, and is not hidden
                open_ones[who].applied = line["ns"] if open_ones[who].applied is None else -1
            else:
                request = open_ones[who]
                request.answered = line["ns"]
                request.status, request.how, request.gone, request.said = line["status"], line["how"], line["gone"], line.get("said")
        foreign = {row["id"] for row in self.rows("run")} - self.runs.keys()     # organisations that are not of the load
        for request in self.requests:
            if request.run in self.runs:
                self.runs[request.run].requests[request.step].append(request)
            elif request.run not in foreign:
                self.unknown_requests.append(request)

    # --- faults ----------------------------------------------------------------------------------------------------

    def disturbed(self, begin, end, afterwards_ns=AFTERWARDS_NS):
        """Did a fault, or what it left behind, touch this interval (ns)?"""
        return any(fault.begin <= end and begin <= fault.end + afterwards_ns for fault in self.faults)

    def mono(self, wall_us):
        """A time of the database on the clock of the ledger and the clients (ns)."""
        return self.clock["mono_ns"] + (wall_us - self.clock["wall_us"]) * 1000


# --- the database -----------------------------------------------------------------------------------------------------

def read_database(db):
    """All tables in one snapshot."""
    tables = {}
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for table, text in QUERIES.items():
            cursor = db.execute(text)
            names = [column.name for column in cursor.description]
            tables[table] = [dict(zip(names, row)) for row in cursor]
    tables["clock"] = [{"mono_ns": time.monotonic_ns(), "wall_us": time.time_ns() // 1000}]
    return tables


def keep(tables, path):
    with open(path, "w") as out:
        for table, rows in tables.items():
            for row in rows:
                out.write(json.dumps({"table": table, **{"row": row}}, separators=(",", ":")) + "\n")


def recall(path):
    tables = collections.defaultdict(list)
    for line in lines_of(path):
        tables[line["table"]].append(line["row"])
    return dict(tables)
