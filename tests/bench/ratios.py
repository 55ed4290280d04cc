"""What tests/bench/compare has measured, as ratios, as JSON, and as a picture.

    ratios.py RESULTS [--json FILE] [--picture FILE]

RESULTS has a line for each measurement: peer workload connections runs_per_s steps_per_s p50_ms p99_ms errors. A measurement with
errors, or without an answer, has no ratio: an answer that refuses a run is quick.
"""
import argparse
import datetime
import html
import json
import os
import subprocess
import sys

WORKLOADS = ("chain10", "http3", "fan50")
PEERS = ("ropewalk", "restate", "dbos", "celery")
COLOURS = {"ropewalk": "#2b5c92", "restate": "#c9a227", "dbos": "#9a9a9a", "celery": "#c4c4c4"}


def read(path):
    rows = {}
    with open(path) as file:
        for line in file:
            words = line.split()
            if len(words) == 8 and words[0] in PEERS and words[2].isdigit() and words[5] != "-":
                rows[words[0], words[1], int(words[2])] = {"runs_per_s": float(words[3]), "steps_per_s": float(words[4]), "p50_ms": float(words[5]),
                                                           "p99_ms": float(words[6]), "errors": int(words[7])}
    return rows


def ratios(rows):
    """To Restate: {(workload, connections): (runs a second, p50)}. transform10 is the work of chain10 inside the engine."""
    found = {}
    for (peer, workload, connections), ours in rows.items():
        theirs = rows.get(("restate", "chain10" if workload == "transform10" else workload, connections))
        if peer == "ropewalk" and theirs and not ours["errors"] and not theirs["errors"] and ours["runs_per_s"] and theirs["runs_per_s"]:
            found[workload, connections] = (ours["runs_per_s"] / theirs["runs_per_s"], ours["p50_ms"] / theirs["p50_ms"])
    return found


def commit():
    done = subprocess.run(["git", "-C", os.path.dirname(os.path.realpath(__file__)), "rev-parse", "--short=12", "HEAD"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or None


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    return {"processor": model, "cores": os.cpu_count(), "load": [round(n, 1) for n in os.getloadavg()]}


def bars(rows, x, title, unit, value, better):
    """One panel: a group for each workload, a bar for each peer that was measured."""
    shown = [(workload, peer, value(rows, peer, workload)) for workload in WORKLOADS for peer in PEERS]
    shown = [one for one in shown if one[2] is not None]
    if not shown:
        return []
    most, y = max(number for _, _, number in shown), 84
    out = [f'<text x="{x}" y="46" class="title">{html.escape(title)}</text>', f'<text x="{x}" y="64" class="note">{html.escape(unit)}; {better} is better</text>']
    for workload in WORKLOADS:
        out.append(f'<text x="{x}" y="{y + 12}" class="group">{workload}</text>')
        y += 18
        for _, peer, number in (one for one in shown if one[0] == workload):
            width = max(2, round(230 * number / most))
            out += [f'<rect x="{x + 70}" y="{y}" width="{width}" height="14" fill="{COLOURS[peer]}"/>',
                    f'<text x="{x + 64}" y="{y + 11}" class="peer">{peer}</text>', f'<text x="{x + 76 + width}" y="{y + 11}" class="number">{number:,.0f}</text>']
            y += 18
        y += 10
    return out


def picture(rows, said):
    def at(connections, key):
        def value(all_rows, peer, workload):
            row = all_rows.get((peer, workload, connections))
            return None if row is None or row["errors"] or not row[key] else row[key]
        return value

    body = bars(rows, 20, "256 connections", "runs a second", at(256, "runs_per_s"), "more")
    body += bars(rows, 400, "64 connections", "runs a second", at(64, "runs_per_s"), "more")
    body += bars(rows, 780, "1 connection", "p50 of a run, ms", at(1, "p50_ms"), "less")
    where = f"{said['machine']['processor']}, {said['machine']['cores']} cores for all of it; {said['at'][:10]}; fsync on, confirmed, as shipped"
    return "\n".join(
        ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1160 400" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">',
         '<title>Runs a second and latency of Ropewalk beside other engines, from one run on one machine</title>',
         '<style>.title { font-size: 15px; font-weight: bold } .group { font-weight: bold } .peer { text-anchor: end } .note { fill: #555 }</style>',
         '<rect width="1160" height="400" fill="#fff"/>', *body, f'<text x="20" y="388" class="note">{html.escape(where)}</text>', "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--json")
    parser.add_argument("--picture")
    options = parser.parse_args()
    rows = read(options.results)
    found = ratios(rows)
    if found:
        print("\nratios to Restate, from this run (runs/s: more is better; p50: less is better)")
    for (workload, connections), (runs, p50) in sorted(found.items()):
        print(f"{workload:12} {connections:>4} connections  runs/s x{runs:.2f}   p50 x{p50:.2f}")
    said = {"at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit(), "machine": machine(),
            "measured": [{"peer": peer, "workload": workload, "connections": connections, **row} for (peer, workload, connections), row in rows.items()],
            "ratios_to_restate": [{"workload": workload, "connections": connections, "runs_per_s": round(runs, 3), "p50": round(p50, 3)}
                                  for (workload, connections), (runs, p50) in sorted(found.items())]}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(said, file, indent=1)
            file.write("\n")
    if options.picture:
        with open(options.picture, "w") as file:
            file.write(picture(rows, said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
