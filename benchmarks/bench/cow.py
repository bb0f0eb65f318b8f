# SPDX-License-Identifier: LGPL-2.1-or-later
"""cow.py - a snapshot store against the raw driver, both through the ring.

Two disks of the same size, both filled once, serve all cases of a run one
after the other: the store keeps the data and snapshots of earlier cases.
"""
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import time

from bench import fio, servers
from bench.case import Case

SIZE = "10G"
RANDOM = ["--bs=4k", "--iodepth=32"]
TIMED = ["--time_based=1", "--norandommap=1"]
UNTIMED = ["--runtime=0"]
SEQUENTIAL = ["--time_based=1", "--rw=read", "--bs=256k", "--iodepth=8"]
LARGE = ("1T", "10T")
SPACE_WRITES = 20000
MANY = 1000
CACHE = 32                              # MiB of the map, at most
CHANGED = 4                             # a fourth of the disk changes before a snapshot is deleted
GROUP = 4                               # disks of a snapshot at one instant
GROUP_SIZE = "64M"
GROUP_SNAPSHOTS = 20
LEAST = 0.5                             # seconds, the shortest time to measure

_numbers = itertools.count(1)


def _size(bench):
    return bench.sized(SIZE)


def _guest(bench, disk, *options, size=None):
    return fio.run(bench, ["--name=guest", *fio.on_ring(bench, disk), f"--size={size or _size(bench)}", "--randrepeat=0",
                           *options], [disk.pid])


@contextlib.contextmanager
def _image(bench, target, path):
    disk = servers.Disk(f"{target}:{path}")
    disk.path = path
    try:
        fio.fill(bench, fio.on_ring(bench, disk), _size(bench))
        yield disk
    finally:
        disk.close()
        os.unlink(path)


def _store(bench):
    path = bench.path("store.cow")
    if not os.path.exists(path):
        servers.command("tap-img", "create", path, _size(bench))
    return bench.shared("cow-store", _image, bench, "cow", path)


def _raw(bench):
    path = bench.path("store.raw")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.truncate(fio.size_bytes(_size(bench)))
    return bench.shared("cow-raw", _image, bench, "aio", path)


def _snapshot(disk):
    name = f"bench{next(_numbers)}"
    return json.loads(disk.ctl("snapshot-create", "-n", name, "--json"))["stall_us"]


def _no_preparation(bench):
    pass


def _fresh(bench):
    _snapshot(_store(bench))


def _scatter(bench, part=10):
    """Take a snapshot, then write 1/@part of the disk in small pieces."""
    _fresh(bench)
    _guest(bench, _store(bench), *RANDOM, *UNTIMED, "--rw=randwrite", f"--io_size={fio.size_bytes(_size(bench)) // part}")


def _against_raw(options, each=_no_preparation, before=_no_preparation):
    """Call @before once, and @each before each measurement of ours."""
    @contextlib.contextmanager
    def sides(bench):
        store, raw = _store(bench), _raw(bench)
        before(bench)

        def ours():
            each(bench)
            return _guest(bench, store, *options(bench))
        yield {"cow": ours, "raw": lambda: _guest(bench, raw, *options(bench))}
    return sides


def _same_file(options):
    """Both sides on one file, in each round another: where a file lies on the disk changes its speed by up to a fifth.

    Random writes by the raw driver end the store, so it comes second.
    """
    def pair(bench):
        path = bench.path("same.cow")
        servers.command("tap-img", "create", path, _size(bench))
        try:
            with servers.tapdisk(f"cow:{path}") as store:
                fio.fill(bench, fio.on_ring(bench, store), _size(bench))
                _guest(bench, store, *options)  # the first writes after the fill are slower
                figures = {"cow": _guest(bench, store, *options)}
            with servers.tapdisk(f"aio:{path}") as raw:
                figures["raw"] = _guest(bench, raw, *options)
        finally:
            os.unlink(path)
        return figures

    @contextlib.contextmanager
    def sides(bench):
        measured = {}

        def side(name):
            if name not in measured:
                measured.update(pair(bench))
            return measured.pop(name)
        yield {name: lambda name=name: side(name) for name in ("cow", "raw")}
    return sides


def _fixed(*options):
    return lambda bench: options


def _amount(mib, *options):
    """Write @mib for each second of a normal run, without a time limit."""
    return lambda bench: (*options, *UNTIMED, f"--io_size={round(bench.seconds * mib)}M")


def _leftover(disk):
    """The number of deletions that are not finished, and of bytes that are free but not yet punched out of the file."""
    stats = json.loads(disk.ctl("stats"))
    return stats["deletions"], stats["unpunched"]


def _settle(disk):
    """End background work, which would slow the next measurement. Closing a disk drops holes not punched yet."""
    while _leftover(disk)[0]:
        time.sleep(0.1)
    disk.ctl("pause")
    disk.ctl("unpause")


def _scattered_snapshot(bench):
    """Take a snapshot, change 1/CHANGED of the disk, end the background work; returns the snapshot's name."""
    store = _store(bench)
    _scatter(bench, CHANGED)
    _settle(store)
    return json.loads(store.ctl("snapshot-list", "--json"))["snapshots"][-1]["name"]


def _written(disk):
    return json.loads(disk.ctl("stats"))["total"]["write"]["requests"]


@contextlib.contextmanager
def _load(bench, size, *disks):
    """Overwrite at random places, of all @disks at the same time, until the context ends."""
    jobs = [option for number, disk in enumerate(disks)
            for option in (f"--name=load{number}", *fio.on_ring(bench, disk), f"--size={size}", "--randrepeat=0", "--rw=randwrite",
                           *RANDOM, *TIMED, "--runtime=1d")]
    before = [_written(disk) for disk in disks]
    load = subprocess.Popen(["fio", f"--output={bench.path('load.out')}", *jobs], stdin=subprocess.DEVNULL)
    try:
        while any(_written(disk) - written < 10000 for disk, written in zip(disks, before)):
            if load.poll() is not None:
                raise RuntimeError("fio, which was to write meanwhile, has ended")
            time.sleep(0.05)
        yield
        if load.poll() is not None:
            raise RuntimeError("fio, which was to write meanwhile, has ended")
    finally:
        load.send_signal(signal.SIGINT)
        load.wait()


def _rate_while(bench, disk, begin, goes_on):
    """Overwrites per second from @begin on, while @goes_on is true, at most for the time of a run."""
    with _load(bench, _size(bench), disk):
        begin()
        started, before = time.monotonic(), _written(disk)
        while goes_on() and time.monotonic() - started < bench.seconds:
            time.sleep(0.1)         # seldom, because the query costs processor time
        written = _written(disk) - before
        spent = time.monotonic() - started
    if spent < LEAST:
        raise RuntimeError(f"over after {spent:.2f} s, too soon to be measured: a larger disk (-s) takes longer")
    return {"value": written / spent}


def _beside_itself(bench, ours):
    """The peer is the same store without background work; other cases compare it with the raw driver."""
    def at_rest(disk):
        return lambda: _rate_while(bench, disk, lambda: None, lambda: True)
    return {"cow": ours, "at rest": at_rest(_store(bench)), "raw": at_rest(_raw(bench))}


@contextlib.contextmanager
def _delete(bench):
    """Measure while the blocks are being freed."""
    store = _store(bench)

    def ours():
        name = _scattered_snapshot(bench)
        result = _rate_while(bench, store, lambda: store.ctl("snapshot-delete", "-n", name), lambda: _leftover(store)[0])
        _settle(store)
        return result
    yield _beside_itself(bench, ours)


@contextlib.contextmanager
def _punch(bench):
    """Measure while the freed blocks are punched out of the file."""
    store = _store(bench)

    def free():
        while _leftover(store)[0]:
            time.sleep(0.01)

    def ours():
        store.ctl("snapshot-delete", "-n", _scattered_snapshot(bench))
        result = _rate_while(bench, store, free, lambda: _leftover(store)[1])
        _settle(store)
        return result
    yield _beside_itself(bench, ours)


def _alone(figure):
    """A figure of the store that has no peer."""
    @contextlib.contextmanager
    def sides(bench):
        yield {"cow": lambda: {"value": figure(bench)}}
    return sides


def _space(size):
    def figure(bench):
        path = bench.path("space.cow")
        servers.command("tap-img", "create", path, size)
        with servers.tapdisk(f"cow:{path}") as disk:
            before = os.stat(path).st_blocks
            _guest(bench, disk, *RANDOM, *UNTIMED, "--rw=randwrite", f"--number_ios={SPACE_WRITES}", size=size)
        taken = (os.stat(path).st_blocks - before) * 512
        os.unlink(path)
        return taken / (SPACE_WRITES * 4096) * 100
    return figure


def _longest_stall(bench, disk, size):
    """The longest stall of three snapshots, a second apart, under load."""
    stalls = []
    with _load(bench, size, disk):
        for _ in range(3):
            time.sleep(1)
            stalls.append(_snapshot(disk))
    return max(stalls)


def _group_stall(bench):
    """The median of snapshots of several disks at one instant, each under load, from the first freeze to the last thaw."""
    stalls, paths = [], [bench.path(f"group{number}.cow") for number in range(GROUP)]
    with contextlib.ExitStack() as stack:
        disks = []
        for path in paths:
            servers.command("tap-img", "create", path, GROUP_SIZE)
            stack.callback(os.unlink, path)
            disks.append(stack.enter_context(servers.tapdisk(f"cow:{path}")))
        named = [word for disk in disks for word in ("-p", str(disk.pid), "-m", str(disk.minor))]
        with _load(bench, GROUP_SIZE, *disks):
            for number in range(GROUP_SNAPSHOTS):
                result = servers.command("tap-ctl", "snapshot-create", "-n", f"s{number}", "--json", *named)
                stalls.append(json.loads(result)["stall_us"])
                time.sleep(0.2)         # in which thousands of first writes are made
                servers.command("tap-ctl", "snapshot-delete", "-n", f"s{number}", *named)
    return statistics.median(stalls)


@contextlib.contextmanager
def _full_store(bench, size):
    path = bench.path(f"full-{size}.cow")
    servers.command("tap-img", "create", "--preallocation", "metadata", path, size)
    try:
        with servers.tapdisk(f"cow:{path}") as disk:
            yield disk
    finally:
        os.unlink(path)


def _full(size, figure):
    """A figure of a fully allocated disk to which nothing was written."""
    return _alone(lambda bench: figure(bench, bench.shared(f"cow-full-{size}", _full_store, bench, size), size))


def _own(figure):
    """The same figure of the disk that the other cases use."""
    return _alone(lambda bench: figure(bench, _store(bench), _size(bench)))


def _revert(bench, disk, size):
    """The time of the command: the disk is usable when it returns."""
    disk.ctl("snapshot-create", "-n", "back")
    _guest(bench, disk, *RANDOM, *UNTIMED, "--norandommap=1", "--rw=randwrite", "--io_size=100M", size=size)
    started = time.monotonic()
    disk.ctl("snapshot-revert", "-n", "back")
    spent = time.monotonic() - started
    disk.ctl("snapshot-delete", "-n", "back")
    return spent * 1000


def _open_after_crash(bench):
    """The time of an open with a log that is as full as it gets before a checkpoint."""
    store = _store(bench)
    _fresh(bench)
    _guest(bench, store, *RANDOM, *UNTIMED, "--rw=randwrite", "--io_size=400M", "--fdatasync=64")
    store.kill()
    started = time.monotonic()
    store.open()
    return (time.monotonic() - started) * 1000


def _memory(bench, disk, size):
    """Memory after reads and writes all over the disk have filled its cache."""
    _guest(bench, disk, *TIMED, *RANDOM, "--rw=randrw", size=size)
    with open(f"/proc/{disk.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) / 1024


@contextlib.contextmanager
def _through_many(bench):
    """Reads before and after a thousand more snapshots."""
    store = _store(bench)

    def read():
        return _guest(bench, store, *TIMED, *RANDOM, "--rw=randread")
    few = read()

    def many():
        for i in range(MANY):
            _snapshot(store)
            if i % 100 == 0:
                _guest(bench, store, *RANDOM, *UNTIMED, "--rw=randwrite", "--io_size=1M")
        return read()
    yield {"cow": many, "before": lambda: few}


def cases():
    write = (*TIMED, *RANDOM, "--rw=randwrite")
    first = ("--rw=randwrite", *RANDOM)
    group = "cow"
    yield Case("overwrite", group, _same_file(write), "4k writes at random places, 32 at a time, blocks that the disk owns",
               goal=0.95)
    yield Case("read", group, _against_raw(_fixed(*TIMED, *RANDOM, "--rw=randread")), "4k reads, 32 at a time", goal=0.95)
    yield Case("sequential", group, _against_raw(_fixed(*SEQUENTIAL)), "256k reads in order, of what was written in order", goal=0.95)
    yield Case("first-write", group, _against_raw(_amount(100, *first), each=_fresh),
               "4k writes at random places, 32 at a time, each block's first after a snapshot", goal=0.7)
    yield Case("first-flushed", group, _against_raw(_amount(20, *first, "--fdatasync=16"), each=_fresh),
               "the same with a flush after every 16", goal=0.5)
    yield Case("scattered", group, _against_raw(_fixed(*SEQUENTIAL), before=_scatter),
               "256k reads in order, after a tenth was overwritten in small pieces after a snapshot", goal=0.6)
    yield Case("delete", group, _delete, "4k overwrites while a snapshot, a fourth of which has changed since, is given back", goal=0.8)
    yield Case("punch", group, _punch, "4k overwrites after that, while its blocks are punched out of the file", goal=0.8)
    for size, most in ("1G", 110), ("10G", 130), ("1T", 220):
        yield Case(f"space-{size}", group, _alone(_space(size)), f"taken by {SPACE_WRITES:,} scattered first writes of 4k, of their data",
                   unit="%", less=True, once=True, most=most)
    alone = {"unit": "us", "less": True, "once": True, "most": 10000}
    what = "how long writes stand still for a snapshot under load, the longest of three"
    yield Case("stall", group, _own(_longest_stall), what, **alone)
    yield Case("stall-group", group, _alone(_group_stall), f"how long writes to {GROUP} disks stand still for a snapshot of all at one "
               f"instant, each under load, the median of {GROUP_SNAPSHOTS}", unit="us", less=True, once=True, most=20000)
    for size in LARGE:
        yield Case(f"stall-{size}", group, _full(size, _longest_stall), f"the same on {size}, every block mapped", long=True, **alone)
    alone = {"unit": "ms", "less": True, "most": 100}
    yield Case("revert", group, _own(_revert), "back to a snapshot, until the disk can be used", **alone)
    for size in LARGE:
        yield Case(f"revert-{size}", group, _full(size, _revert), f"the same on {size}, every block mapped", long=True, **alone)
    alone = {"unit": "MiB", "less": True, "once": True, "most": CACHE + 16}
    yield Case("memory", group, _own(_memory), "of the process, beyond what it shares, after reads and writes all over the disk", **alone)
    for size in LARGE:
        yield Case(f"memory-{size}", group, _full(size, _memory), f"the same on {size}, every block mapped", long=True, **alone)
    yield Case("open", group, _alone(_open_after_crash), "opening after a crash with a full log", unit="ms", less=True, most=1000)
    yield Case("snapshots", group, _through_many, "4k reads, 32 at a time, through 1,000 snapshots; the peer is before them",
               goal=0.95, once=True, long=True)
