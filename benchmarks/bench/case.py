# SPDX-License-Identifier: LGPL-2.1-or-later
"""case.py - the definition of a case, and its measurement.

A case has sides: ours first, then its peer, then further ones. Each round
measures every side once; every second round goes through them backwards, so
that other load on the machine affects all alike. The ratio of ours to the peer
is taken within a round; the case's ratio is the median of those.

A ratio says how many times better ours is: for times and sizes, where less is
better, it is the peer's figure over ours.
"""
import contextlib
import os
import statistics
import tempfile
from dataclasses import dataclass


@dataclass
class Case:
    name: str
    group: str
    sides: object               # a context manager of bench: yields {side: function returning {"value": ..., ...}}
    what: str = ""              # one line for -l and for the tables
    unit: str = "IOPS"
    less: bool = False          # less is better
    goal: float = None          # the ratio to reach
    most: float = None          # what our figure may be at most, instead or as well
    limit: str = None           # a side that is the machine's limit ...
    limit_goal: float = None    # ... and the ratio to it that is enough
    also: dict = None           # further sides, and the goal for the ratio to each
    once: bool = False          # one round: the case changes its subject, or takes long
    quick: bool = False         # part of bench-quick
    long: bool = False          # only when named


@dataclass
class Batch:
    """Several cases that an external program measures together."""
    name: str
    group: str
    measure: object             # a function of bench that yields names and results
    cases: list                 # the definitions of these results
    what: str = ""
    quick: bool = False
    long: bool = False


def built(build, name, target):
    """The path of a file that make puts into the build directory."""
    path = f"{build}/{name}"
    if not os.path.exists(path):
        raise RuntimeError(f"{path} is missing: '{target}' builds it")
    return path


class Bench:
    """Shared by the cases of one run: options, a directory, and resources set up once for several of them."""

    def __init__(self, build, size, seconds, rounds):
        self.build = build
        self._size, self.seconds, self.rounds = size, seconds, rounds
        self._stack = contextlib.ExitStack()
        self._shared = {}

    def __enter__(self):
        # sockets are in here, and their names must be short, so not below a directory with a long name
        self.work = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.", dir=self.build))
        # on a tmpfs, as /run is: tapdisk writes to mapped files there with each request
        os.environ["TAPSNAP_RUN_DIR"] = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.", dir="/dev/shm"))
        os.environ["PATH"] = f"{self.build}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def shared(self, key, manager, *arguments, **named):
        """One resource for all cases that use this key; released at the end of the run."""
        if key not in self._shared:
            self._shared[key] = self._stack.enter_context(manager(*arguments, **named))
        return self._shared[key]

    def sized(self, default="2G"):
        """The size of an image."""
        return self._size or default

    def path(self, name):
        return f"{self.work}/{name}"


def _ratio(case, ours, other):
    if not ours or not other:
        return None
    return other / ours if case.less else ours / other


def _medians(figures):
    return {key: statistics.median(f[key] for f in figures) for key in figures[0]}


def measure(bench, case):
    """Run a case; yields names and entries for the results file."""
    if isinstance(case, Batch):
        yield from case.measure(bench)
        return
    figures = {}
    with case.sides(bench) as sides:
        names = list(sides)
        for number in range(1 if case.once else bench.rounds):
            for name in reversed(names) if number % 2 else names:
                figures.setdefault(name, []).append(sides[name]())
    yield case.name, result_of(case, {name: figures[name] for name in names}, bench.seconds)


def described(case):
    """The part of a result that does not depend on a measurement."""
    return {key: getattr(case, key) for key in ("group", "what", "unit", "less", "goal", "most", "limit", "limit_goal", "also")}


def result_of(case, figures, seconds):
    """@figures: for each side, ours first, a list of its rounds' figures."""
    ours, *others = figures
    result = {**described(case), "ours": ours, "peer": others[0] if others else None,
              "sides": {name: _medians(rounds) for name, rounds in figures.items()},
              "values": {name: [f["value"] for f in rounds] for name, rounds in figures.items()}, "ratios": {}}
    for name in others:
        ratios = [_ratio(case, a["value"], b["value"]) for a, b in zip(figures[ours], figures[name])]
        ratios = [r for r in ratios if r is not None]
        result["ratios"][name] = statistics.median(ratios) if ratios else None
    result["rounds"] = len(figures[ours])
    result["seconds"] = seconds
    return result


def reached(result):
    """Whether the goal is reached; None if there is no goal or no ratio."""
    if result["most"] is not None:
        within = result["sides"][result["ours"]]["value"] <= result["most"]
        if not within or result["goal"] is None:
            return within
    ratios = result["ratios"]
    if result["goal"] is None or ratios.get(result["peer"]) is None:
        return None
    if any(ratios.get(side) is not None and ratios[side] < goal for side, goal in (result.get("also") or {}).items()):
        return False
    if ratios[result["peer"]] >= result["goal"]:
        return True
    limit = ratios.get(result["limit"])
    return limit is not None and limit >= result["limit_goal"]
