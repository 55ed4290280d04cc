"""Ways to break the promise on purpose, so that it can be seen that a campaign fails when it should."""
import json
import urllib.request


def lost_event(c):
    """One event of a run that has ended is gone."""
    c.sql("delete from event where (run_id, seq) in (select run_id, max(seq) - 1 from event group by run_id having max(seq) > 4 limit 1)")


def lost_command(c):
    """A run is there, and the command that would start it is not."""
    c.sql("insert into run (id, organisation, workflow, version, created_at, input) select (left(id::text, 33) || 'fff')::uuid, organisation, workflow, version, "
          "now(), input from run where parent is null order by id desc limit 1")


def second_outcome(c):
    """A step that has succeeded succeeds once more, after the end."""
    c.sql("insert into event (run_id, seq, organisation, at, type, step, attempt, data) select run_id, seq + 1, organisation, now(), 24, 'again', 1, '{}' "
          "from event where (run_id, seq) in (select run_id, max(seq) from event group by run_id limit 1)")


def phantom_effect(c):
    """The outside world was asked for something under a key that no step has."""
    marker = next(iter(json.loads((c.dir / "load.json").read_text())["markers"].values()))
    request = urllib.request.Request(f"http://127.0.0.1:{c.links['workers>ledger'].target[1]}/ok", data=json.dumps({"of": marker}).encode(), method="POST",
                                     headers={"Idempotency-Key": "of-nobody", "Ropewalk-Run": "0190f000-0000-7000-8000-000000000000", "Ropewalk-Step": "x",
                                              "Ropewalk-Attempt": "1"})
    urllib.request.urlopen(request, timeout=20).read()


SABOTAGES = {"lost-event": lost_event, "lost-command": lost_command, "second-outcome": second_outcome, "phantom-effect": phantom_effect}
