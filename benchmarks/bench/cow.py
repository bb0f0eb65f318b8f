# SPDX-License-Identifier: LGPL-2.1-or-later
"""cow.py - a snapshot store against the raw driver, both through the ring."""
import contextlib
import json
import os
import time

from bench import cow_log, fio, servers
from bench.case import Case
from bench.store import (LARGE, RANDOM, TIMED, UNTIMED, forget, guest, leftover, load, mapped_store, settle, shared_mapped, shared_raw,
                         shared_store, size_of, snapshot, snapshots, together, without_peer, written)

SEQUENTIAL = ["--time_based=1", "--rw=read", "--bs=256k", "--iodepth=8"]
SPACE_WRITES = 20000
FULL = 0.85                             # of what makes a checkpoint due
LOG_EACH = 11                           # changes of the map in a record of the log
LOG_TRIES = 60
MANY = 1000
MANY_RATE = 20000                       # writes a second while that many snapshots are taken
CACHE = 32                              # MiB of the map, at most
CHANGED = 4                             # a fourth of the disk changes before a snapshot is deleted
LEAST = 0.5                             # seconds, the shortest time to measure
BLOCK = 4096
FIRST_WRITES = 150000                   # of a round, at least: a checkpoint begins after each 45,056 changes of the map
FIRST_RATE = 25000                      # a second of a normal run, with longer runs
COST_BLOCKS = 100000                    # freed by the peer of delete-cost, which itself frees ten times as many
GROWTH, GROWTH_LIMIT = 3, 120           # seconds without growth, after which memory is taken to be at its most; when to give up


def _no_preparation(bench):
    pass


def _fresh(bench):
    snapshot(shared_store(bench))


def _scatter(bench, part=10):
    """Take a snapshot, then write 1/@part of the disk in small pieces."""
    _fresh(bench)
    guest(bench, shared_store(bench), *RANDOM, *UNTIMED, "--rw=randwrite", f"--io_size={fio.size_bytes(size_of(bench)) // part}")


def _against_raw(options, each=_no_preparation, before=_no_preparation):
    """Call @before once, and @each before each measurement of ours."""
    @contextlib.contextmanager
    def sides(bench):
        store, raw = shared_store(bench), shared_raw(bench)
        before(bench)

        def ours():
            each(bench)
            return guest(bench, store, *options(bench))
        yield {"cow": ours, "raw": lambda: guest(bench, raw, *options(bench))}
    return sides


def _same_file(options, first=None):
    """Both sides on one file, in each round another: where a file lies on the disk changes its speed by up to a fifth.

    @first is the side that comes first, if it has to: random writes by the raw driver end the store.
    """
    def pair(bench, asked_first):
        path = bench.path("same.cow")
        servers.command("tap-img", "create", path, size_of(bench))
        figures = {}
        try:
            with servers.tapdisk(f"cow:{path}") as disk:
                fio.fill(bench, fio.on_ring(bench, disk), size_of(bench))
            for side in sorted(("cow", "raw"), key=(first or asked_first).__ne__):
                with servers.tapdisk(f"{'aio' if side == 'raw' else side}:{path}") as disk:
                    guest(bench, disk, *options)    # after the fill, and with an empty cache, it is slower for a while
                    figures[side] = guest(bench, disk, *options)
        finally:
            os.unlink(path)
        return figures
    return together(("cow", "raw"), pair)


def _fixed(*options):
    return lambda bench: options


def _each_once(*options):
    """FIRST_WRITES or more writes, each of another block, without a time limit."""
    def amount(bench):
        blocks = fio.size_bytes(size_of(bench)) // BLOCK
        if blocks < FIRST_WRITES:
            raise RuntimeError(f"{size_of(bench)} has not {FIRST_WRITES} blocks (-s)")
        number = min(blocks, max(FIRST_WRITES, round(bench.seconds * FIRST_RATE)))
        return (*options, *UNTIMED, f"--number_ios={number}")
    return amount


def _scattered_snapshot(bench):
    """Take a snapshot, change 1/CHANGED of the disk, end the background work; returns the snapshot's name."""
    store = shared_store(bench)
    _scatter(bench, CHANGED)
    settle(store)
    return snapshots(store)[-1]


def _rate_while(bench, disk, begin, goes_on):
    """Overwrites per second from @begin on, while @goes_on is true, at most for the time of a run."""
    with load(bench, size_of(bench), disk):
        begin()
        started, before = time.monotonic(), written(disk)
        while goes_on() and time.monotonic() - started < bench.seconds:
            time.sleep(0.1)         # seldom, because the query costs processor time
        made = written(disk) - before
        spent = time.monotonic() - started
    if spent < LEAST:
        raise RuntimeError(f"over after {spent:.2f} s, too soon to be measured: a larger disk (-s) takes longer")
    return {"value": made / spent}


def _beside_itself(bench, ours):
    """The peer is the same store without background work; other cases compare it with the raw driver."""
    def at_rest(disk):
        return lambda: _rate_while(bench, disk, lambda: None, lambda: True)
    return {"cow": ours, "at rest": at_rest(shared_store(bench)), "raw": at_rest(shared_raw(bench))}


@contextlib.contextmanager
def _delete(bench):
    """Measure while the blocks are being freed."""
    store = shared_store(bench)
    forget(store)       # an older snapshot would keep the blocks

    def ours():
        name = _scattered_snapshot(bench)
        result = _rate_while(bench, store, lambda: store.ctl("snapshot-delete", "-n", name), lambda: leftover(store)[0])
        settle(store)
        return result
    yield _beside_itself(bench, ours)


@contextlib.contextmanager
def _punch(bench):
    """Measure while the freed blocks are punched out of the file."""
    store = shared_store(bench)
    forget(store)

    def free():
        while leftover(store)[0]:
            time.sleep(0.01)

    def ours():
        store.ctl("snapshot-delete", "-n", _scattered_snapshot(bench))
        result = _rate_while(bench, store, free, lambda: leftover(store)[1])
        settle(store)
        return result
    yield _beside_itself(bench, ours)


def _space(size):
    def figure(bench):
        path = bench.path("space.cow")
        servers.command("tap-img", "create", path, size)
        with servers.tapdisk(f"cow:{path}") as disk:
            before = os.stat(path).st_blocks
            guest(bench, disk, *RANDOM, *UNTIMED, "--rw=randwrite", f"--number_ios={SPACE_WRITES}", size=size)
        taken = (os.stat(path).st_blocks - before) * 512
        os.unlink(path)
        return taken / (SPACE_WRITES * 4096) * 100
    return figure


def _full(size, figure):
    """A figure of a fully allocated disk to which nothing was written."""
    return without_peer(lambda bench: figure(bench, shared_mapped(bench, size), size))


def _own(figure):
    """The same figure of the disk that the other cases use."""
    return without_peer(lambda bench: figure(bench, shared_store(bench), size_of(bench)))


def _revert(bench, disk, size):
    """The time of the command: the disk is usable when it returns."""
    disk.ctl("snapshot-create", "-n", "back")
    guest(bench, disk, *RANDOM, *UNTIMED, "--norandommap=1", "--rw=randwrite", "--io_size=100M", size=size)
    started = time.monotonic()
    disk.ctl("snapshot-revert", "-n", "back")
    spent = time.monotonic() - started
    disk.ctl("snapshot-delete", "-n", "back")
    return spent * 1000


def _open_after_crash(bench):
    """The time of an open with a log that is as full as it gets before a checkpoint.

    A record takes a block. With eleven changes in each, the log and the changes in memory reach their limits together.
    """
    store = shared_store(bench)
    _fresh(bench)
    tenth = cow_log.limit(store.path, LOG_EACH) // 10
    for _ in range(LOG_TRIES):
        if cow_log.fill(store.path) >= FULL:
            break
        guest(bench, store, *RANDOM, *UNTIMED, "--rw=randwrite", f"--number_ios={tenth}", f"--fdatasync={LOG_EACH}")
    store.kill()
    full = cow_log.fill(store.path)
    if full < FULL:
        raise RuntimeError(f"{store.path}: the log is {full:.0%} full, and not {FULL:.0%}")
    started = time.monotonic()
    store.open()
    return (time.monotonic() - started) * 1000


def _anonymous(disk):
    """Anonymous memory of the process now, in MiB."""
    with open(f"/proc/{disk.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) / 1024


def _memory(bench, disk, size):
    """The most memory during reads and writes all over the disk, which go on until it has not grown for GROWTH seconds."""
    most = 0
    with load(bench, size, disk, rw="randrw"):
        started = grown = time.monotonic()
        while time.monotonic() - grown < max(GROWTH, bench.seconds):
            now = _anonymous(disk)
            if now > most:
                most, grown = now, time.monotonic()
            if time.monotonic() - started > GROWTH_LIMIT:
                raise RuntimeError(f"still growing after {GROWTH_LIMIT} s, at {most:.1f} MiB")
            time.sleep(0.02)
    return most


def _through_many(bench, _):
    """Reads through MANY snapshots with writes in each, and of the same data in the same places after all were deleted."""
    store, read = shared_store(bench), (*TIMED, *RANDOM, "--rw=randread")
    forget(store)
    with load(bench, size_of(bench), store, more=[f"--rate_iops={MANY_RATE}"]):
        for _ in range(MANY):
            before = written(store)
            snapshot(store)
            while written(store) == before:
                time.sleep(0.005)
    figures = {}
    for side in "cow", "without":
        if side == "without":
            forget(store)
        else:
            settle(store)
        guest(bench, store, *read)      # with an empty cache it is slower for a while
        figures[side] = guest(bench, store, *read)
    return figures


def _cost(bench, disk, size, number):
    """The time to free @number blocks that are all over the disk, per block in us, from the command to its background work's end."""
    snapshot(disk)
    guest(bench, disk, *RANDOM, *UNTIMED, "--rw=randwrite", f"--number_ios={number}", size=size)
    settle(disk)
    name = snapshots(disk)[-1]
    started = time.monotonic()
    disk.ctl("snapshot-delete", "-n", name)
    while leftover(disk)[0]:
        time.sleep(0.01)
    spent = time.monotonic() - started
    settle(disk)
    return {"value": spent / number * 1e6}


def _delete_cost(size):
    """The peer frees a tenth of the blocks, so the ratio is 1 where the time follows their number."""
    @contextlib.contextmanager
    def sides(bench):
        with mapped_store(bench, size, "cost") as disk:
            yield {"cow": lambda: _cost(bench, disk, size, 10 * COST_BLOCKS), "a tenth": lambda: _cost(bench, disk, size, COST_BLOCKS)}
    return sides


def cases():
    write = (*TIMED, *RANDOM, "--rw=randwrite")
    first = ("--rw=randwrite", *RANDOM)
    group = "cow"
    yield Case("overwrite", group, _same_file(write, first="cow"), "4k writes at random places, 32 at a time, blocks that the disk owns",
               goal=0.95)
    yield Case("read", group, _same_file((*TIMED, *RANDOM, "--rw=randread")), "4k reads, 32 at a time", goal=0.95)
    yield Case("sequential", group, _same_file(SEQUENTIAL), "256k reads in order, of what was written in order", goal=0.95)
    yield Case("first-write", group, _against_raw(_each_once(*first), each=_fresh),
               "4k writes at random places, 32 at a time, each block's first after a snapshot", goal=0.7)
    yield Case("first-flushed", group, _against_raw(_each_once(*first, "--fdatasync=16"), each=_fresh),
               "the same with a flush after every 16", goal=0.5)
    yield Case("scattered", group, _against_raw(_fixed(*SEQUENTIAL), before=_scatter),
               "256k reads in order, after a tenth was overwritten in small pieces after a snapshot", goal=0.6)
    yield Case("delete", group, _delete, "4k overwrites while a snapshot, a fourth of which has changed since, is given back", goal=0.8)
    yield Case("punch", group, _punch, "4k overwrites after that, while its blocks are punched out of the file", goal=0.8)
    for size, most in ("1G", 110), ("10G", 130), ("1T", 220):
        yield Case(f"space-{size}", group, without_peer(_space(size)), f"taken by {SPACE_WRITES:,} scattered first writes of 4k, of their data",
                   unit="%", less=True, once=True, most=most)
    alone = {"unit": "ms", "less": True, "most": 100}
    yield Case("revert", group, _own(_revert), "back to a snapshot, until the disk can be used", **alone)
    for size in LARGE:
        yield Case(f"revert-{size}", group, _full(size, _revert), f"the same on {size}, every block mapped", long=True, **alone)
    alone = {"unit": "MiB", "less": True, "once": True, "most": CACHE + 16}
    yield Case("memory", group, _own(_memory), "of the process, beyond what it shares, after reads and writes all over the disk", **alone)
    for size in LARGE:
        yield Case(f"memory-{size}", group, _full(size, _memory), f"the same on {size}, every block mapped", long=True, **alone)
    yield Case("open", group, without_peer(_open_after_crash), "opening after a crash with a full log", unit="ms", less=True, most=1000)
    yield Case("snapshots", group, together(("cow", "without"), _through_many),
               f"4k reads, 32 at a time, through {MANY:,} snapshots with writes in each; the peer is the same store without them",
               goal=0.95, long=True)
    cost = {"unit": "us", "less": True, "goal": 0.8}
    yield Case("delete-cost", group, _delete_cost("10G"), f"time for each freed block of a deleted snapshot, {10 * COST_BLOCKS:,} in all; "
               f"the peer is {COST_BLOCKS:,}", **cost)
    yield Case("delete-cost-1T", group, _delete_cost("1T"), "the same on 1T", long=True, **cost)
