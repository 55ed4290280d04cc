"""What operators do to the runs of a chaos run while faults go on: pause and resume, retry, do again from a step on, one by
one and many at once. Careful like all clients: what is not known is asked again, and nothing that was paused stays so."""
import asyncio
import json

import workflows

SOME = 0.08             # of the runs that are nobody's in particular are paused, too
ASKED_AGAIN = 0.2
RETRIES = 6
OVER_SECONDS = 20
CONFIRMED = b'{"confirm": ["kid"]}'     # what a child run has done nobody looks into
PATIENCE_SECONDS = 240  # with what has to be taken back
ENDS = ("succeeded", "failed", "partially_completed", "cancelled", "timed_out", "compensated", "compensation_failed")


async def after_start(client, name, run, key, batch):
    chance = client.load.chance
    if name == "operated" or (name not in ("held", "signals", "redone", "again", "batch", "again-many") and chance.random() < SOME):
        await pause(client, run)
    elif name == "redone":
        await retry(client, run)
    elif name == "again":
        await again(client, run, key, from_a_step=batch is not None)
    elif batch and name == "batch":
        await many(client, batch)
    elif batch and name == "again-many":
        await many_again(client, run, batch)


async def pause(client, run):
    chance, path = client.load.chance, f"/v1/runs/{run}"
    await asyncio.sleep(chance.uniform(0, 1))
    await client.insist("pause", "POST", path + ":pause", run=run)
    if chance.random() < ASKED_AGAIN:
        await client.insist("pause", "POST", path + ":pause", run=run)
    await asyncio.sleep(chance.uniform(0.3, 3))
    await client.insist("resume", "POST", path + ":resume", seconds=PATIENCE_SECONDS, run=run)


async def ended(client, run, seconds=60):
    """Its status, or None when it goes on for longer."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        known, _, answer = await client.ask("get", "GET", f"/v1/runs/{run}", run=run)
        if known == "ok" and answer.get("status") in ENDS:
            return answer["status"]
        await asyncio.sleep(0.5)
    return None


async def retry(client, run):
    """As often as it takes: what was cut by one failure may meet another when it is gone on with."""
    for _ in range(RETRIES):
        if await ended(client, run) != "failed":
            return
        await client.insist("retry", "POST", f"/v1/runs/{run}:retry", CONFIRMED, run=run)


async def again(client, run, key, from_a_step):
    """In a new run, now and then asked for twice at once, under one key."""
    chance = client.load.chance
    if await ended(client, run) is None:
        return
    step = chance.choice(workflows.CHAINED[1:]) if from_a_step else None
    body = json.dumps({"from": step} if step else {}).encode()
    times = 2 if chance.random() < ASKED_AGAIN else 1
    await asyncio.gather(*(client.insist("rerun", "POST", f"/v1/runs/{run}:rerun", body, gateway=i, key=key + "/again", of=run, step=step)
                           for i in range(times)))


async def many(client, batch):
    """All runs with one label: paused, resumed, and now and then cancelled."""
    chance = client.load.chance
    await asyncio.sleep(chance.uniform(0.1, 0.8))
    await ask_many(client, "pause", batch)
    await asyncio.sleep(chance.uniform(0.3, 2))
    await ask_many(client, "resume", batch)
    if chance.random() < 0.4:
        await ask_many(client, "cancel", batch)


async def many_again(client, run, batch):
    """All that have ended of those with one label, in new runs: from a step on or whole."""
    if await ended(client, run) is None:
        return
    step = client.load.chance.choice([None, *workflows.CHAINED[1:]])
    await ask_many(client, "rerun", batch, "again-many", **({"from": step} if step else {}))


async def ask_many(client, what, batch, workflow="batch", **more):
    """Until all have given their verdict: what is asked next is of those that this has met."""
    body = json.dumps({"filter": {"workflow": workflow, "label.batch": batch}, **more}).encode()
    known, _, answer = await client.insist("bulk", "POST", f"/v1/runs:{what}", body, seconds=PATIENCE_SECONDS, key=f"{batch}/{what}", kind=what)
    loop = asyncio.get_running_loop()
    until, operation = loop.time() + OVER_SECONDS, answer.get("id")
    while known == "ok" and operation and loop.time() < until:
        _, _, told = await client.ask("operation", "GET", f"/v1/operations/{operation}")
        if told.get("status") == "done":
            return
        await asyncio.sleep(0.2)


async def resume_all(client):
    await client.insist("bulk", "POST", "/v1/runs:resume", b'{"all": true}', seconds=PATIENCE_SECONDS, kind="resume",
                        key=f"all-{client.load.seed}-{client.name}")


async def bound_runs(client):
    """So many runs of the organisation may go on at a time."""
    body = json.dumps({"limits": {"max_running_runs": workflows.RUNNING_RUNS}}).encode()
    await client.insist("limit", "PATCH", f"/v1/organisations/{client.name}", body)
