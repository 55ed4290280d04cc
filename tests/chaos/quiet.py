#!/usr/bin/python3
"""A campaign in which nothing is broken but by the ledger's own scripts: what load and checker are tried against.

    tests/chaos/quiet.py DIR [--seconds N] [--rate R] [--seed S]      runs one, leaves its files in DIR; DIR/stack is up
    tests/chaos/quiet.py DIR --clean                                  takes the stack away
"""
import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "service"))
import drive  # noqa: E402
from slots import Looks  # noqa: E402

ORGANISATIONS = ("amber", "birch", "coral")


def describe(folder, stack):
    """DIR/cluster.json, with organisations made for this run."""
    one = f"{time.time_ns() & 0xffffffff:08x}"      # a stack may see several campaigns
    keys = {f"{name}-{one}": stack.ask("POST", "/v1/organisations", {"name": f"{name}-{one}"})["api_key"] for name in ORGANISATIONS}
    (folder / "cluster.json").write_text(json.dumps({
        "pg_dsn": stack.env["ROPEWALK_ADMIN_PG_URL"], "gateways": stack.urls, "direct_gateways": stack.urls,
        "organisations": keys, "build_dir": str(drive.BUILD), "state_dir": str(folder / "stack")}))


@contextlib.contextmanager
def ledger(folder):
    with subprocess.Popen([str(HERE / "ledger.py"), "--file", str(folder / "ledger.jsonl")], stdout=subprocess.PIPE, text=True) as one:
        try:
            assert one.stdout.readline().startswith("{"), "the ledger did not start"
            yield json.loads((folder / "ledger.json").read_text())
        finally:
            one.terminate()


def load(folder, seconds, rate, seed):
    with subprocess.Popen([str(HERE / "load.py"), str(folder), "--seed", seed, "--rate", str(rate)], stdout=subprocess.PIPE, text=True) as one:
        try:
            assert one.stdout.readline().startswith("load: submitting"), "the load did not start"
            time.sleep(seconds)         # what is measured out here is the load itself
        finally:
            one.terminate()
    assert one.returncode == 0, f"the load ended with {one.returncode}"


def stack_of(folder, gateways=2, schedulers=2, workers=2):
    where = folder / "stack"
    subprocess.run([str(drive.STACK), "up", str(where), "--build-dir", str(drive.BUILD), "--gateways", str(gateways),
                    "--schedulers", str(schedulers), "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL)
    return drive.Drive(where)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=pathlib.Path)
    words.add_argument("--seconds", type=float, default=20)
    words.add_argument("--rate", type=float, default=8)
    words.add_argument("--seed", default="1")
    words.add_argument("--clean", action="store_true")
    args = words.parse_args()
    folder = args.folder.resolve()
    if args.clean:
        sys.exit(subprocess.run([str(drive.STACK), "clean", str(folder / "stack")]).returncode)
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o711)
    describe(folder, stack_of(folder))
    (folder / "faults.jsonl").touch()
    with ledger(folder):
        looks = Looks(json.loads((folder / "cluster.json").read_text())["pg_dsn"], folder / "slots.jsonl")
        load(folder, args.seconds, args.rate, args.seed)
        looks.close()
        checked = subprocess.run([str(HERE / "check.py"), str(folder)]).returncode
    sys.exit(checked)


if __name__ == "__main__":
    main()
