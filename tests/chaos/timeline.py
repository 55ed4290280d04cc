"""Which faults come when: chosen from a seed before anything runs, so that the seed says it all."""
import random

from faults import ALL, Shape
import faults_client  # noqa: F401  (they register themselves)
import faults_link  # noqa: F401
import faults_message  # noqa: F401
import faults_process  # noqa: F401
import faults_service  # noqa: F401

WARM_S = 6.0            # load alone, before the first fault
QUIET_S = (2.5, 4.5)    # without a fault, between two
TOGETHER = 0.3          # how often a fault begins before the one before it has ended

# The twelve points that every change is tested with, in the form that can be seen from outside.
SMOKE = ("gateway-after-commit", "scheduler-after-commit", "scheduler-before-confirm", "scheduler-before-ack", "freeze-scheduler",
         "worker-before-answer", "worker-before-ack", "freeze-worker", "rabbitmq-kill", "postgres-crash", "redis-flush", "cut-link",
         "hold-link")


class Item:
    def __init__(self, at, fault, quiet_after):
        self.at, self.fault, self.quiet_after = at, fault, quiet_after


def timeline(seed, seconds, names, counts, root):
    """Items in order of their beginning. When all the names fit in the time each comes once at least."""
    chance, shape = random.Random(seed), Shape(counts)
    usable = [name for name in names if root or not ALL[name].needs_root]
    order, items, at = [], [], WARM_S
    while at < seconds:
        if not order:
            first = not items
            order = list(usable) if first else chance.choices(usable, [ALL[name].weight for name in usable], k=len(usable))
            chance.shuffle(order)
        fault = ALL[order.pop()](random.Random(chance.getrandbits(64)), shape)
        together = chance.random() < TOGETHER
        quiet = 0.0 if together else chance.uniform(*QUIET_S)
        items.append(Item(at, fault, quiet))
        at += fault.duration * (0.4 if together else 1.0) + quiet
    return items


def selected(words):
    """Names of faults: all, `smoke`, or those of a list of names and rows (G2, N)."""
    if not words:
        return sorted(ALL)
    found = []
    for word in words.split(","):
        here = [name for name, cls in ALL.items() if word in (name, "all") or word in cls.rows or (len(word) == 1 and any(row.startswith(word) for row in cls.rows))]
        here = list(SMOKE) if word == "smoke" else here
        if not here:
            raise SystemExit(f"chaos: no fault '{word}'; there are: smoke, all, {', '.join(sorted(ALL))}, and the rows of the matrix")
        found += [name for name in here if name not in found]
    return found
