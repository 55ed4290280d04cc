"""Faults of the links between two processes."""
import time

from faults import Fault, fault
from proxy import TO_CLIENT, TO_SERVER


class OneLink(Fault):
    def choose(self):
        self.target = self.chance.choice(self.shape.links())
        self.reset_at_end = self.chance.random() < 0.5

    def end(self, c):
        c.links[self.target].restore(reset=self.reset_at_end)


@fault("cut-link", "N1", (3, 10), 2)
class CutLink(OneLink):
    """Refused, and what was open is reset."""

    def begin(self, c):
        c.links[self.target].cut()


@fault("hold-link", "N1", (3, 12), 2)
class HoldLink(OneLink):
    """Silence in both directions or in one; what was held comes late, or is lost with its connections."""

    def choose(self):
        super().choose()
        self.directions = self.chance.choice(((TO_SERVER, TO_CLIENT), (TO_SERVER,), (TO_CLIENT,)))
        self.detail = {"directions": self.directions, "then": "reset" if self.reset_at_end else "late"}

    def begin(self, c):
        c.links[self.target].hold(*self.directions)


@fault("hold-link-long", "N1", (30, 45), 0.5)
class HoldLinkLong(HoldLink):
    """The same for longer than any lease and time-out."""


@fault("slow-link", "N3", (5, 12))
class SlowLink(OneLink):
    """500 ms on the way, or 8 kB a second."""

    def choose(self):
        super().choose()
        self.reset_at_end = False
        self.how = self.chance.choice(({"delay_s": 0.5}, {"delay_s": 0.05}, {"bytes_per_s": 8000}))
        self.detail = dict(self.how)

    def begin(self, c):
        c.links[self.target].slow(**self.how)


@fault("reset-links", "N1", (2, 5))
class ResetLinks(Fault):
    """Connections of any link are reset, one link after another."""

    def choose(self):
        self.target = "any link"
        self.order = [self.chance.choice(self.shape.links()) for _ in range(100)]
        self.detail = {"resets": 0}

    def begin(self, c):
        names = iter(self.order)

        def one():
            c.links[next(names)].reset()
            self.detail["resets"] += 1
        self.again_and_again(one, 0.2)

    def end(self, c):
        self.end_thread()


@fault("target-link", "N5", (3, 8))
class TargetLink(OneLink):
    """The way to what workflows call: refused, silent or slow."""

    def choose(self):
        super().choose()
        self.target = "workers>ledger"
        self.how = self.chance.choice(("cut", "hold", "answers", "slow"))
        self.detail = {"how": self.how}

    def begin(self, c):
        link = c.links[self.target]
        {"cut": link.cut, "hold": link.hold, "answers": lambda: link.hold(TO_CLIENT), "slow": lambda: link.slow(bytes_per_s=200)}[self.how]()


@fault("vanish", "N2", (8, 20))
class Vanish(Fault):
    """A whole process is gone from the network without a word, in both directions or one (its namespace's frames go
    astray); it comes back with its connections as they were."""
    needs_root = True

    def choose(self):
        self.target = self.chance.choice([f"{kind}-2" for kind in self.shape.counts])
        self.how = self.chance.choice(((True, True), (True, False), (False, True)))
        self.detail = {"to_inside": self.how[0], "to_outside": self.how[1]}

    def touches(self):
        return {self.target} | {link for link in self.shape.links() if link.startswith(self.target + ">")}

    def begin(self, c):
        c.namespaces[self.target].vanish(*self.how)

    def end(self, c):
        c.namespaces[self.target].join()


@fault("swizzle", "N4", (3, 6))
class Swizzle(Fault):
    """All links are cut or held one by one, in random order, and restored in another."""

    def choose(self):
        self.target = "all links"
        links = self.shape.links()
        self.down = self.chance.sample(links, len(links))
        self.up = self.chance.sample(links, len(links))
        self.how = {name: (self.chance.choice(("cut", "hold")), self.chance.random() < 0.5) for name in links}
        self.pause_s = self.chance.uniform(0.1, 0.5)

    def touches(self):
        return set(self.shape.links())

    def begin(self, c):
        for name in self.down:
            link = c.links[name]
            (link.cut if self.how[name][0] == "cut" else link.hold)()
            time.sleep(self.pause_s)

    def end(self, c):
        for name in self.up:
            c.links[name].restore(reset=self.how[name][1])
            time.sleep(self.pause_s)
