"""order-fulfilment on its 60 orders: what the shop did is what the runs say, also when processes are killed."""
import json
import pathlib
import subprocess
import tempfile
import time

import pytest

from drive import BUILD, EXAMPLE, Drive, Shop, private_stack, until

ORDERS = [json.loads(line) for line in (EXAMPLE / "orders.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def two_of_each():
    with private_stack(gateways=2, schedulers=2, workers=2) as drive:
        yield drive


def apply(drive: Drive, shop):
    """Saves the workflow with this shop's address, by the command line, as the demo does."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "workflow.yaml")
        path.write_text((EXAMPLE / "workflow.yaml").read_text().replace("http://shop.example", shop.url))
        done = subprocess.run([str(BUILD / "bin/ropewalk"), "apply", str(path)], env={**drive.env, "PATH": "/usr/bin:/bin"},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        assert done.returncode == 0, done.stdout


def raw_orders():
    return dict(zip((order["order_id"] for order in ORDERS), (EXAMPLE / "orders.jsonl").read_text().splitlines()))


def start_all(drive, batch):
    """Each order goes over the wire as it stands in the file, under a key of its own."""
    ids = []
    for number, (order_id, text) in enumerate(raw_orders().items()):
        answer = drive.call("POST", "/v1/workflows/order-fulfilment/runs", data=('{"input": %s}' % text).encode(),
                            headers={"Idempotency-Key": f"{batch}-{order_id}"}, url=drive.urls[number % len(drive.urls)])
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["run_id"])
    return ids


def compare(shop, runs):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "runs.jsonl")
        path.write_text("".join(json.dumps(run) + "\n" for run in runs))
        done = subprocess.run([str(EXAMPLE / "compare"), "--orders", str(EXAMPLE / "orders.jsonl"), "--runs", str(path),
                               "--ledger", str(shop.folder / "ledger")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=30)
        assert done.returncode == 0, done.stdout


def test_each_order_is_done_once_although_the_shop_fails(two_of_each):
    drive = two_of_each
    with Shop(seed=11) as shop:
        apply(drive, shop)
        runs = [drive.ended(run_id) for run_id in start_all(drive, "plain")]
        assert {run["status"] for run in runs} == {"succeeded"}
        compare(shop, runs)
        said = shop.requests()
        assert min(said["refuse"], said["cut_before"], said["cut_after"]) > 0, "the shop's failures were not met"
        assert said["repeated"] >= 1 and said["bad"] == 0, said
        assert said["repeated"] == said["cut_after"], "each request whose answer was lost came once more under its key"
        kinds = [entry["kind"] for entry in shop.entries()]
        assert kinds.count("charge") == kinds.count("shipment") == kinds.count("message") == len(ORDERS)
    assert drive.faults_of_history() == []


def test_amounts_and_names_arrive_as_they_were_written(two_of_each):
    drive = two_of_each
    with Shop(faults=0) as shop:
        apply(drive, shop)
        runs = [drive.ended(run_id) for run_id in start_all(drive, "exact")]
        wanted = {order["order_id"]: text.rpartition('"amount": ')[2].split(",")[0] for order, text in
                  zip(ORDERS, raw_orders().values())}
        charged = {entry["body"]["order"]: entry["body"]["amount"] for entry in shop.entries() if entry["kind"] == "charge"}
        assert charged == wanted
        letters = {entry["body"]["order"]: entry["body"]["text"] for entry in shop.entries() if entry["kind"] == "message"}
        for order, run in zip(ORDERS, runs):
            pieces = sum(item["quantity"] for item in order["items"])
            assert letters[order["order_id"]] == (
                f"Dear {order['customer']['name']}, your order {order['order_id']} ({pieces} pieces) is on its way as "
                f"{run['output']['tracking']}.")


@pytest.mark.parametrize("victims", [["worker-1"], ["scheduler-1"], ["worker-2", "scheduler-2"]], ids="+".join)
def test_killed_in_the_middle(two_of_each, victims):
    drive = two_of_each
    with Shop(seed=23, latency_ms=40) as shop:
        apply(drive, shop)
        ids = start_all(drive, "killed-" + "-".join(victims))
        until("some charges", lambda: sum(entry["kind"] == "charge" for entry in shop.entries()) >= 15)
        for name in victims:
            drive.signal(name)
        time.sleep(1)
        drive.stack("start", *victims)
        runs = [drive.ended(run_id, 90) for run_id in ids]
        compare(shop, runs)
        for run in runs:
            notify = run["steps"]["notify"]["status"]
            wanted = {"succeeded": "succeeded", "outcome_unknown": "partially_completed"}
            assert run["status"] == wanted.get(notify), f"{run['id']}: {run['status']}, notify {notify}"
            for step in ("charge", "stock", "ship", "letter"):
                assert run["steps"][step]["status"] == "succeeded", (run["id"], step)
    assert drive.faults_of_history() == []
