"""What a fault is, and the list of all. A fault is chosen, target and all, from a seeded generator before anything runs;
then begin() injects it and end() takes it back and returns when what it broke is there again. The files faults_*.py hold
the faults themselves; README.md tells which row of the fault matrix each of them is."""
import threading
import time

ALL = {}


def fault(name, rows, seconds, weight=1.0):
    """Registers a class under a name: the rows of the matrix, how long it lasts (least, most), how often it is chosen."""
    def register(cls):
        cls.name, cls.rows, cls.seconds, cls.weight = name, rows.split(), seconds, weight
        ALL[name] = cls
        return cls
    return register


class Fault:
    name, rows, seconds, weight = "", [], (1, 1), 1.0
    needs_root = False
    scaled_acknowledgement = False      # the cluster must be made with short times of acknowledgement

    def __init__(self, chance, shape):
        self.chance, self.shape = chance, shape
        self.duration = chance.uniform(*self.seconds)
        self.target, self.detail = "", {}
        self.stopping = threading.Event()
        self.thread, self.error = None, None
        self.choose()

    def choose(self):
        """Picks target and detail; must ask nothing but self.chance and self.shape."""

    def touches(self):
        """Names that no other fault may touch at the same time."""
        return {self.target}

    def begin(self, c):
        raise NotImplementedError

    def end(self, c):
        """Takes back what begin() did."""

    def again_and_again(self, call, every):
        """Calls call() in a thread until end_thread()."""
        def run():
            while not self.stopping.is_set():
                try:
                    call()
                except Exception as error:          # told by the conductor, which asks for it
                    self.error = error
                self.stopping.wait(every)
        self.thread = threading.Thread(target=run, daemon=True, name=self.name)
        self.thread.start()

    def end_thread(self):
        self.stopping.set()
        if self.thread:
            self.thread.join(30)


class Shape:
    """How many of each process a cluster has; the names that follow from it."""

    def __init__(self, counts, isolated=True):
        self.counts, self.isolated = counts, isolated

    def names(self, kind):
        return [f"{kind}-{number}" for number in range(1, self.counts[kind] + 1)]

    def all_names(self):
        return [name for kind in self.counts for name in self.names(kind)]

    def links(self):
        uses = {"gateway": ("postgres", "rabbitmq"), "scheduler": ("postgres", "rabbitmq"), "worker": ("rabbitmq", "redis")}
        found = ["workers>ledger"] + [f"clients>{name}" for name in self.names("gateway")]
        for kind, services in uses.items():
            found += [f"{name}>{service}" for name in self.names(kind) for service in services]
        return found


def wait_until(check, seconds, every=0.1):
    """Whether check() became true in time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
