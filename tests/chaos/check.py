#!/usr/bin/python3
"""Decides whether a campaign kept the promises: from PostgreSQL, the ledger and the clients' log, with no code of Ropewalk.

    tests/chaos/check.py DIR                waits until every run has ended, reads the tables (kept in DIR/database.jsonl)
    tests/chaos/check.py DIR --recorded     judges again what was read then

Prints the table and a line per invariant; exits 1 when one is broken, 2 when it could not look.
"""
import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bounds  # noqa: E402,F401  (adds its rules)
import campaign  # noqa: E402
import invariants  # noqa: E402
import operations  # noqa: E402,F401

GRACE_S = 30            # beyond the waits that histories themselves state
LONGEST_S = 600
ASKED_OF_API = 400
SHOWN = 10
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]

# Of each open run: when something last happened to it, and until when it says that it waits (timers but that of the run;
# a task that was deferred).
WAITING = """SELECT r.id::text, extract(epoch FROM now())::float,
             greatest(extract(epoch FROM r.created_at), (SELECT extract(epoch FROM max(at)) FROM event e WHERE e.run_id = r.id),
                      (SELECT extract(epoch FROM max(due_at)) FROM open_work w WHERE w.run_id = r.id
                       AND (kind IN (2, 3, 5, 7) OR (kind = 1 AND reason IS NOT NULL))))::float
             FROM run r WHERE r.status IN ('pending', 'active', 'paused') AND r.organisation = ANY(%s)"""


class CannotLook(Exception):
    pass


def connect(cluster):
    until = time.monotonic() + GRACE_S
    while True:
        try:
            db = psycopg.connect(cluster["pg_dsn"], autocommit=True, connect_timeout=10)
            db.execute("SET search_path = ropewalk, public")
            return db
        except psycopg.OperationalError as why:
            if time.monotonic() > until:
                raise CannotLook(f"the database: {why}") from why
            time.sleep(0.5)


def wait_for_ends(db, cluster):
    """Until every run has ended, or one has not moved for longer than it says."""
    began, last = time.monotonic(), time.monotonic() + LONGEST_S
    names = list(cluster["organisations"])
    ids = [row[0] for row in db.execute("SELECT id FROM organisation WHERE name = ANY(%s)", (names,))]
    if len(ids) != len(names):
        raise CannotLook(f"the database has {len(ids)} of the organisations {', '.join(names)}")
    while time.monotonic() < last:
        waiting = db.execute(WAITING, (ids,)).fetchall()
        if not any(now < moves + GRACE_S or time.monotonic() < began + GRACE_S for _, now, moves in waiting):
            return      # all that is still open is stuck, or nothing is
        time.sleep(0.3)


def asked(url, key, run):
    request = urllib.request.Request(f"{url}/v1/runs/{run}", headers={"Authorization": "Bearer " + key})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for left in (2, 1, 0):
        try:
            with opener.open(request, timeout=10) as answer:
                value = json.load(answer)
                return {"run": run, "http": 200, "status": value["status"], "steps": {name: step["status"] for name, step in value["steps"].items()}}
        except urllib.error.HTTPError as why:
            return {"run": run, "http": why.code}
        except OSError as why:
            if not left:
                return {"run": run, "http": str(why)}
            time.sleep(1)


def api_answers(cluster, tables):
    """What the gateways say of the runs, or of an even choice of them."""
    names = {row["id"]: row["name"] for row in tables["organisation"]}
    runs = [row for row in tables["run"] if names[row["organisation"]] in cluster["organisations"]]
    runs = runs[::len(runs) // ASKED_OF_API + 1]
    urls = cluster.get("direct_gateways") or []
    return [asked(urls[number % len(urls)], cluster["organisations"][names[row["organisation"]]], row["id"]) for number, row in enumerate(runs)] if urls else []


def fold_check(cluster):
    program = pathlib.Path(cluster["build_dir"]) / "bin/fold-check"
    done = subprocess.run([str(program)], env={**os.environ, "ROPEWALK_ADMIN_PG_URL": cluster["pg_dsn"]}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600)
    return [{"code": done.returncode, "text": done.stdout}]


def wait_for_slots(db, cluster):
    """What has ended gives back what it had by a command, which may be on its way."""
    until = time.monotonic() + GRACE_S
    while db.execute("SELECT 1 FROM admission a JOIN organisation o ON o.id = a.organisation WHERE o.name = ANY(%s) LIMIT 1",
                     (list(cluster["organisations"]),)).fetchone() and time.monotonic() < until:
        time.sleep(0.3)


def queues_of(folder):
    """Depth of our queues, once they are empty or do not become so."""
    if not (folder / "stack/env").exists():
        return []
    until = time.monotonic() + GRACE_S
    while True:
        done = subprocess.run([str(CHECKOUT / "deploy/local/stack"), "rabbitmqctl", str(folder / "stack"), "-q", "list_queues", "name", "messages"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        fields = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("ropewalk.")]
        found = [{"name": name, "messages": int(count)} for name, count in fields]
        if done.returncode == 0 and not any(row["messages"] for row in found):
            return found
        if time.monotonic() > until:
            return found or [{"name": f"the broker did not tell: {done.stdout[-300:]}", "messages": -1}]
        time.sleep(1)


def look(folder):
    cluster = json.loads((folder / "cluster.json").read_text())
    with connect(cluster) as db:
        wait_for_ends(db, cluster)
        wait_for_slots(db, cluster)
        queues = queues_of(folder)
        tables = campaign.read_database(db)
    tables["queue"] = queues
    tables["fold"] = fold_check(cluster)
    tables["api"] = api_answers(cluster, tables)
    campaign.keep(tables, folder / "database.jsonl")


# --- the verdict ----------------------------------------------------------------------------------------------------------

def judge(c):
    """[(number, title, figures or None when it does not apply, what is wrong)]"""
    verdicts = []
    for number, title, function in invariants.RULES:
        found = []
        verdicts.append((number, title, function(c, found), found))
    return sorted(verdicts, key=lambda one: (not one[0][1:].isdigit(), int(one[0][1:]) if one[0][1:].isdigit() else 0))


def table(c, verdicts):
    starts = invariants.starts_of(c)
    keys = invariants.runs_by_key(c)
    wrong = collections.Counter(text.split(":")[0] for _, _, _, found in verdicts for text in found)
    repeats = collections.Counter(why for _, _, _, why in invariants.repeats_of(c))
    late = sum(event.type == campaign.LATE for run in c.runs.values() for event in run.events)
    acknowledged = sum(start.acknowledged() for start in starts.values())
    unknown = [start for start in starts.values() if start.unknown()]
    recovered = sum(bool(keys.get((start.org, start.workflow, start.key))) for start in unknown)
    rows = [("submitted", len(starts)), ("acknowledged", acknowledged), ("unknown", len(unknown)), ("lost", wrong["lost"]),
            ("unexpected", wrong["unexpected"]), ("duplicated", wrong["duplicated"]), ("recovered", recovered),
            ("raw repeats", sum(repeats.values())), ("stuck", wrong["stuck"]), ("late results", late), ("faults", len(c.faults))]
    return " | ".join(f"{name} {count}" for name, count in rows)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=pathlib.Path)
    words.add_argument("--recorded", action="store_true")
    args = words.parse_args()
    try:
        if not args.recorded:
            look(args.folder)
        c = campaign.Campaign(args.folder, campaign.recall(args.folder / "database.jsonl"))
    except (CannotLook, OSError, psycopg.Error) as why:
        print(f"check: {why}", file=sys.stderr)
        sys.exit(2)
    verdicts = judge(c)
    print(table(c, verdicts))
    for number, title, figures, found in verdicts:
        verdict = "BROKEN" if found else "not applicable" if figures is None else "holds"
        print(f"{number:5} {verdict:14} {title}{': ' + figures if figures else ''}")
        for text in found[:SHOWN]:
            print(f"      {text}")
        if len(found) > SHOWN:
            print(f"      and {len(found) - SHOWN} more")
    sys.exit(any(found for _, _, _, found in verdicts))


if __name__ == "__main__":
    main()
