# SPDX-License-Identifier: LGPL-2.1-or-later
"""stall.py - for how long a snapshot holds up a guest's writes.

As the guest sees it: the largest latency, by fio, of the writes that were in
flight while the snapshot was taken. "at rest" is the same of a period of equal length
shortly before, without a snapshot; "reply" is what the command says: the time for which
the store held back writes.
"""
import bisect
import contextlib
import glob
import itertools
import json
import os
import statistics
import time

from bench import servers
from bench.case import Case
from bench.store import LARGE, load, new_name, shared_mapped, shared_store, size_of, snapshot, together

SNAPSHOTS = 3                           # of a round
APART = 1                               # s
GROUP = 4                               # disks of a snapshot at one instant
GROUP_SIZE = "64M"
GROUP_SNAPSHOTS = 20
GROUP_APART = 0.2                       # s, in which thousands of first writes are made
SIDES = ("I/O", "at rest", "reply")


def _log(bench):
    return bench.path("stall")


def _latencies(bench):
    """Of each write of the load: when it was completed (s, to a millisecond), and its latency in us; in this order."""
    writes = []
    for path in glob.glob(f"{_log(bench)}_clat.*.log"):
        with open(path, encoding="ascii") as file:
            for line in file:
                end_ms, latency_ns = line.split(",", 2)[:2]
                writes.append((int(end_ms) / 1e3, int(latency_ns) / 1e3))
        os.unlink(path)
    writes.sort()
    return writes


def _longest(writes, begin, end):
    """The largest latency of those that were in flight between @begin and @end."""
    latest = end + max(latency for _, latency in writes) / 1e6
    found = itertools.takewhile(lambda write: write[0] <= latest + 0.001,
                                itertools.islice(writes, bisect.bisect_left(writes, (begin - 0.001,)), None))
    return max(latency for completed, latency in found if completed - latency / 1e6 <= end + 0.001)


def _stalls(bench, size, disks, number, apart, create, after=lambda: None):
    """For each of @number snapshots its figures in us, in the order of SIDES. @create returns the third."""
    logged = f"--write_lat_log={_log(bench)}", "--log_unix_epoch=1", "--disable_lat=1", "--disable_slat=1"
    times, replies = [], []
    with load(bench, size, *disks, more=logged):
        for _ in range(number):
            time.sleep(apart)
            begin = time.time()
            replies.append(create())
            times.append((begin, time.time()))
            after()
    writes = _latencies(bench)
    return [(_longest(writes, begin, end), _longest(writes, begin - apart / 2, end - apart / 2), reply)
            for (begin, end), reply in zip(times, replies)]


def _of(stalls, summary):
    return {side: {"value": summary(each)} for side, each in zip(SIDES, zip(*stalls))}


def _under_load(bench, disk, size):
    return _of(_stalls(bench, size, [disk], SNAPSHOTS, APART, lambda: snapshot(disk)), max)


def _group(bench, _):
    with contextlib.ExitStack() as stack:
        disks = []
        for number in range(GROUP):
            path = bench.path(f"group{number}.cow")
            servers.command("tap-img", "create", path, GROUP_SIZE)
            stack.callback(os.unlink, path)
            disks.append(stack.enter_context(servers.tapdisk(f"cow:{path}")))
        named = [word for disk in disks for word in ("-p", str(disk.pid), "-m", str(disk.minor))]
        last = None

        def create():
            nonlocal last
            last = new_name()
            return json.loads(servers.command("tap-ctl", "snapshot-create", "-n", last, "--json", *named))["stall_us"]

        def delete():
            time.sleep(GROUP_APART)
            servers.command("tap-ctl", "snapshot-delete", "-n", last, *named)
        return _of(_stalls(bench, GROUP_SIZE, disks, GROUP_SNAPSHOTS, GROUP_APART, create, delete), statistics.median)


def _beside_small(size):
    """The peer is a disk of 10 GiB whose blocks are all mapped too."""
    def measure(bench, asked_first):
        def one(which):
            return _under_load(bench, shared_mapped(bench, which), which)
        if asked_first == "10G":
            small, large = one("10G"), one(size)
        else:
            large, small = one(size), one("10G")
        return {**large, "10G": small["I/O"], "10G reply": small["reply"]}
    first, *others = SIDES
    return together((first, "10G", *others, "10G reply"), measure)


def cases():
    alone = {"unit": "us", "less": True, "most": 10000}
    what = f"the largest latency of a write during a snapshot under load, of {SNAPSHOTS} snapshots"
    yield Case("stall", "stalls", together(SIDES, lambda bench, _: _under_load(bench, shared_store(bench), size_of(bench))), what, **alone)
    yield Case("stall-group", "stalls", together(SIDES, _group), f"the same of {GROUP} disks at one instant, each under load, the median of "
               f"{GROUP_SNAPSHOTS} snapshots", unit="us", less=True, once=True, most=20000)
    for size in LARGE:
        yield Case(f"stall-{size}", "stalls", _beside_small(size), f"the same on {size}, every block mapped; the peer is 10G in this run",
                   long=True, **alone, goal=0.5)
