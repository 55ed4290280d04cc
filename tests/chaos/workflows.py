"""The workflows of a chaos run: every kind of step, against the scripts of the ledger, drawn from a seed.

`documents(seed, marker, ledger, refused)` gives {name: (document, ends)}: `ends` are the statuses in which a run of it may
end when nothing but the ledger's own scripts goes wrong.
"""
import random

RETRY = {"max_attempts": 6, "initial": "100ms", "factor": 2, "max": "2s", "jitter": 0.2}
LOSSY = ["lose", "lose?after=200", "reset", "half", "chunks", "garbage", "hang", "lose?times=2"]
SLOW = ["drip?ms=300", "ok?before=150", "ok?after=150", "ok?pad=20000"]
CHAINED = ("s0", "s1", "s2", "s3")     # of the workflow that is done again from one of them on
# Started several at a time, or nobody would wait for a slot, and many would be one. What they have in common is a label.
BURSTS = {"limited": 4, "keyed": 4, "skipping": 3, "newest": 4, "batch": 4, "again": 2, "again-many": 3}
RUNNING_RUNS = 12       # of the last organisation, at a time
TICK_SECONDS = 4        # between two times of the schedule
ANSWERED = ["seq?say=503,200", "seq?say=503,503,200", "seq?say=429,200&retry_after=1", "seq?say=500,502,200", "stripe", "redirect"]


class Maker:
    def __init__(self, chance, marker, ledger, refused):
        self.chance, self.marker, self.ledger, self.refused = chance, marker, ledger, refused

    def http(self, script, needs=None, method="POST", body=None, **more):
        step = {"call": "http", "timeout": "3s", "retry": RETRY,
                "with": {"method": method, "url": f"{self.ledger}/{script}",
                         "headers": {"X-Marker": self.marker}, "body": {"marker": self.marker, "n": "${ .input.n }", **(body or {})}}}
        return self.step(step, needs, **more)

    def step(self, step, needs=None, **more):
        if isinstance(step, str):
            step = {"call": step}
        if needs:
            step["needs"] = needs
        step.update(more)
        return step

    def any_script(self):
        """Three in ten apply and then lose the answer."""
        roll = self.chance.random()
        return self.chance.choice(LOSSY if roll < 0.3 else SLOW if roll < 0.5 else ANSWERED if roll < 0.65 else ["ok"])

    # --- shapes ----------------------------------------------------------------------------------------------------

    def chain(self, length=8):
        steps = {"s0": self.http("ok")}
        for i in range(1, length):
            steps[f"s{i}"] = self.http(self.any_script(), [f"s{i - 1}"])
        return {"steps": steps, "output": {"marker": self.marker, "last": f"${{ .steps.s{length - 1}.output.body.step }}"}}

    def fork_join(self, width=8):
        steps = {"fork": self.http("ok")}
        for i in range(width):
            steps[f"b{i}"] = self.http(self.any_script(), ["fork"])
        steps["join"] = self.http("ok", [f"b{i}" for i in range(width)])
        return {"steps": steps}

    def graph(self, size):
        """An irregular graph. Every edge either names what is accepted or is plain; what is skipped, skips on."""
        steps, branching, implied = {}, {}, {}
        for i in range(size):
            name = f"g{i}"
            before = sorted(self.chance.sample(range(max(0, i - 8), i), min(i, self.chance.choice([1, 1, 1, 2, 2, 3]))))
            needs = {}
            for parent in (f"g{p}" for p in before):
                branches = branching.get(parent)
                needs[parent] = [self.chance.choice(branches)] if branches and self.chance.random() < 0.7 else ["succeeded"]
            extra = {}
            taken = self.all_taken(needs, implied)
            if taken is None or (len(needs) > 1 and self.chance.random() < 0.5):
                extra["join"] = "any"
                if self.chance.random() < 0.5:
                    needs[next(iter(needs))] = ["succeeded", "skipped"]
            implied[name] = {} if "join" in extra else taken
            if needs and self.chance.random() < 0.1:
                extra["when"] = f"${{ .input.n % 7 != {i % 7} }}"
            plain = all(accepted == ["succeeded"] for accepted in needs.values())
            steps[name] = self.node(name, list(needs) if plain else needs, branching, **extra)
        return {"steps": steps}

    @staticmethod
    def all_taken(needs, implied):
        """Which branches must have been taken when all these edges hold; None when two are of one step."""
        taken = {}
        for parent, accepted in needs.items():
            own = {} if accepted == ["succeeded"] else {parent: accepted[0]}
            for step, branch in {**implied[parent], **own}.items():
                if taken.setdefault(step, branch) != branch:
                    return None
        return taken

    def node(self, name, needs, branching, **extra):
        kind = self.chance.choices(["http", "noop", "transform", "condition", "switch", "delay"], [50, 12, 12, 10, 8, 8])[0]
        if kind == "http":
            return self.http(self.any_script(), needs, **extra)
        if kind == "condition":
            branching[name] = ["true", "false"]
            return self.step({"call": kind, "with": {"if": f"${{ .input.n % {self.chance.randint(2, 4)} == 0 }}"}}, needs, **extra)
        if kind == "switch":
            branching[name] = ["small", "large", "other"]
            cases = [{"name": "small", "if": "${ .input.n % 10 < 3 }"}, {"name": "large", "if": "${ .input.n % 10 > 6 }"}]
            return self.step({"call": kind, "with": {"cases": cases, "default": "other"}}, needs, **extra)
        given = {"transform": {"value": {"n": "${ .input.n + 1 }", "marker": self.marker}},
                 "delay": {"duration": f"{self.chance.choice([20, 100, 500])}ms"}}.get(kind)
        return self.step({"call": kind, "with": given} if given else kind, needs, **extra)

    # --- one of each thing that the language can do ----------------------------------------------------------------

    def losses(self):
        scripts = LOSSY + SLOW + ANSWERED
        return {"steps": {f"w{i}": self.http(script) for i, script in enumerate(scripts)}}

    def keys(self):
        """Keys that stay the same whatever is answered, and keys of one's own."""
        return {"steps": {
            "kept": self.http("seq?say=503,503,200&per=key", idempotency={"per": "step"}),
            "own": self.http("lose", idempotency={"key": "own-${ .run.id }"}),
            "after": self.http("lose", ["kept", "own"], idempotency={"per": "step"})}}

    def hostile(self):
        once = {"on_failure": "continue", "retry": {**RETRY, "max_attempts": 2}}
        return {"steps": {
            "huge": self.http("huge", **once), "bomb": self.http("bomb", **once), "gone": self.http("seq?say=404", **once),
            "refused": self.http("ok", **once, **{"with": {"url": self.refused + "/ok"}}),
            "never": self.http("lose?times=9", **once), "broken": self.http("seq?say=500", **once),
            "fine": self.http("ok")}}

    def retry_on(self):
        return {"steps": {
            "listed": self.http("seq?say=503,200", retry={**RETRY, "on": ["http_503"]}),
            "class": self.http("seq?say=502,504,200", retry={**RETRY, "on": ["http_5xx"]}),
            "cut": self.http("lose", retry={**RETRY, "on": ["connection_lost", "timeout", "worker_lost"]}),
            "other": self.http("seq?say=503,200", retry={**RETRY, "on": ["http_429", "worker_lost"]}, on_failure="continue")}}

    def once(self):
        """at_most_once: what is lost is never sent again, and somebody below says so."""
        sent = {"delivery": "at_most_once"}
        return {"steps": {
            "sure": self.http("ok", **sent),
            "lost": self.http("lose?times=9", **sent), "cut": self.http("half?times=9", ["sure"], **sent),
            "mend": self.http("ok", {"lost": ["outcome_unknown"]}), "look": self.http("ok", {"cut": ["outcome_unknown"]})}}

    def held(self):
        return {"steps": {
            "doubt": self.http("lose?times=9", delivery="at_most_once", on_unknown="wait", deadline="60s", on_failure="continue"),
            "then": self.http(self.any_script(), ["doubt"])}}

    def signals(self):
        def wait(name, needs, **more):
            return self.step({"call": "wait_signal", "with": {"signal": name, "timeout": "45s", **more}}, needs, on_failure="continue")
        return {"steps": {
            "before": self.http("ok?before=200"), "early": wait("early", ["before"]), "between": self.http(self.any_script(), ["early"]),
            "late": wait("late", ["between"], once=True), "end": self.http(self.any_script(), ["late"])},
            "output": ["${ .steps.early.output }", "${ .steps.late.output }"]}

    def polls(self):
        def poll(script, **more):
            return {"call": "poll", "retry": RETRY, "timeout": "3s", "with": {
                "call": "http", "interval": "200ms", "timeout": "50s", "until": "${ .output.body.state == \"done\" }",
                "with": {"url": f"{self.ledger}/{script}", "headers": {"X-Marker": self.marker}}}, **more}
        return {"steps": {"begin": self.http("ok"), "wait": poll("state?turns=3", needs=["begin"]), "now": poll("state?turns=0"),
                          "end": self.http(self.any_script(), ["wait", "now"])}}

    def loops(self):
        inner = {"call": "foreach", "needs": ["go"], "with": {"items": [1, 2, 3], "concurrency": 2, "steps": {
            "deep": self.http(self.any_script(), body={"item": "${ .item }"})}}}
        outer = {"call": "foreach", "needs": ["first"], "with": {"items": "${ [range(.input.n % 2 + 4)] }", "concurrency": 3, "steps": {
            "go": self.http(self.any_script(), body={"item": "${ .item }"}), "inner": inner,
            "done": self.http("lose", ["inner"])}}}
        some = {"call": "foreach", "needs": ["first"], "with": {
            "items": [200, 404, 200], "on_item_failure": "continue", "steps": {"try": self.http("seq?say=${ .item }")}}}
        return {"steps": {"first": self.http("ok"), "each": outer, "some": some,
                          "last": self.http("ok", {"each": ["succeeded"], "some": ["succeeded"]})}}

    def parent(self):
        child = {"call": "workflow", "with": {"name": "chain-0", "input": {"n": "${ .input.n }", "k": "${ .input.k }/child"}}}
        each = {"call": "foreach", "needs": ["first"], "with": {"items": [1, 2], "steps": {
            "kid": {"call": "workflow", "with": {"name": "fork-join-0", "input": {"n": "${ .item }", "k": "${ .input.k }/kid"}}}}}}
        return {"steps": {"first": self.http("lose"), "child": {**child, "needs": ["first"]}, "each": each,
                          "end": self.http("ok", ["child", "each"])}}

    def undo(self):
        def step(script, needs=None, undo="ok", **more):
            action = self.http(undo, method="DELETE")
            return self.http(script, needs, compensate={name: action[name] for name in ("call", "with", "retry", "timeout")}, **more)
        return {"steps": {"a": step("ok"), "b": step("lose", ["a"], "lose"), "c": step("seq?say=503,200", ["b"], "seq?say=503,200"),
                          "d": step(self.any_script(), ["a"]), "bad": self.http("seq?say=404", ["c", "d"])}}

    def notify(self):
        action = self.http("lose", body={"why": "${ .run.error.code }", "run": "${ .run.id }"})
        action["with"]["body"].pop("n")
        return {"steps": {"a": self.http(self.any_script()), "bad": self.http("seq?say=404", ["a"])},
                "on_failure_notify": {name: action[name] for name in ("call", "with", "retry", "timeout")}}

    def cancelled(self):
        step = self.http("ok")
        undo = self.http("lose", method="DELETE")
        step["compensate"] = {name: undo[name] for name in ("call", "with", "retry", "timeout")}
        return {"steps": {"a": step, "long": self.step({"call": "delay", "with": {"duration": "60s"}}, ["a"]),
                          "b": self.http("ok", ["long"])}}

    # --- for those who operate, and for slots ----------------------------------------------------------------------

    def operated(self):
        """Long enough that a pause meets it in the middle."""
        return {"steps": {"a": self.http("ok?before=150"), "wait": self.step({"call": "delay", "with": {"duration": "400ms"}}, ["a"]),
                          "b": self.http(self.any_script(), ["a"]), "c": self.http("ok?before=150", ["b", "wait"]),
                          "d": self.http(self.any_script(), ["c"])}}

    def redone(self):
        """Fails until somebody retries it, several times: what has succeeded is kept, what was cut is done after all, in its loop
        and in its child run too."""
        each = {"call": "foreach", "needs": ["a"], "with": {"items": [1, 2, 3, 4], "concurrency": 2, "steps": {
            "go": self.http(self.any_script(), body={"item": "${ .item }"}),
            "some": self.http("seq?say=${ if .item == 2 then \"404,200\" else \"200\" end }", ["go"])}}}
        kid = {"call": "workflow", "needs": ["a"], "with": {"name": "redone-kid", "input": {"n": "${ .input.n }", "k": "${ .input.k }/kid"}}}
        return {"steps": {"each": each, "kid": kid, "a": self.http("ok"), "b": self.http("seq?say=404,200", ["a"]), "c": self.http(self.any_script(), ["b"]),
                          "d": self.http("ok?before=100", ["a"]), "e": self.http(self.any_script(), ["d"])}}

    def redone_kid(self):
        """Of itself it may be started, too; then nobody retries it."""
        return {"steps": {"k": self.http("ok"), "l": self.http("seq?say=404,200", ["k"]), "m": self.http(self.any_script(), ["l"]),
                          "each": {"call": "foreach", "needs": ["k"], "with": {"items": [1, 2, 3], "concurrency": 1, "steps": {
                              "go": self.http(self.any_script(), body={"item": "${ .item }"})}}}}}

    def again(self):
        return {"steps": {name: self.http("ok" if i == 0 else self.any_script(), [CHAINED[i - 1]] if i else None)
                          for i, name in enumerate(CHAINED)}}

    def limited(self, **concurrency):
        return {"concurrency": concurrency, "steps": {"a": self.http("ok?before=100"), "b": self.http(self.any_script(), ["a"])}}

    def ticking(self):
        """What no outage is long enough for is made good: no time is left out."""
        return {"triggers": {"tick": {"every": {"interval": f"{TICK_SECONDS}s", "catch_up": 100}, "input": {"n": 1, "k": "tick", "marker": self.marker}}},
                "steps": {"a": self.http("ok"), "b": self.http(self.any_script(), ["a"])}}


def documents(seed, marker, ledger, refused):
    maker = Maker(random.Random(f"{seed}/{marker}"), marker, ledger, refused)
    good, made = ["succeeded"], {}

    def add(name, document, ends=good):
        made[name] = ({"name": name, "timeout": "10m", **document}, ends)

    for i in range(2):
        add(f"chain-{i}", maker.chain())
        add(f"fork-join-{i}", maker.fork_join())
    for i in range(4):
        add(f"graph-{i}", maker.graph((12, 24, 40, 40)[i]))
    add("losses", maker.losses())
    add("keys", maker.keys())
    add("hostile", maker.hostile(), ["partially_completed"])
    add("retry-on", maker.retry_on(), ["partially_completed"])
    add("once", maker.once())
    add("held", maker.held(), ["succeeded", "partially_completed"])
    add("signals", maker.signals(), ["succeeded", "partially_completed"])
    add("polls", maker.polls())
    add("loops", maker.loops(), ["partially_completed"])
    add("parent", maker.parent())
    add("undo", maker.undo(), ["compensated"])
    add("notify", maker.notify(), ["failed"])
    add("cancelled", maker.cancelled(), ["cancelled", "compensated", "succeeded"])
    add("operated", maker.operated())
    add("redone-kid", maker.redone_kid(), ["failed"])
    add("redone", maker.redone(), ["succeeded", "failed"])
    add("again", maker.again())
    add("again-many", maker.again())
    add("batch", maker.operated(), ["succeeded", "cancelled"])
    add("limited", maker.limited(limit=2))
    add("keyed", maker.limited(limit=1, key="${ .input.n % 2 }"))
    add("skipping", maker.limited(limit=1, on_limit="skip"), ["succeeded", "cancelled"])
    add("newest", maker.limited(limit=2, on_limit="cancel_oldest"), ["succeeded", "cancelled"])
    add("ticking", maker.ticking())
    return made
