# SPDX-License-Identifier: LGPL-2.1-or-later
"""scale.py - many concurrent disks, each in a tapdisk of its own; and the cost of an idle one.

Memory and wake-ups are those of all processes of a server, so of a tapdisk and its opener.
"""
import contextlib
import os
import time

from bench import fio, servers
from bench.case import Case

COUNTS = (1, 4, 16, 64)
DISK_SIZE = "64M"
SETTLE_SECONDS = 6              # 5 s after a request tapdisk checks once whether its storage answers
IDLE_SECONDS = 5


def _images(bench, count):
    return [bench.shared(f"scale-{i}", servers.raw_file, bench, f"scale{i}.img", DISK_SIZE) for i in range(count)]


@contextlib.contextmanager
def _disks(bench, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(servers.tapdisk(f"aio:{path}")) for path in _images(bench, count)]


def _jobs(options):
    """One fio job for each list of options."""
    common = ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=8", "--direct=1", f"--size={DISK_SIZE}",
              "--time_based=1", "--norandommap=1", "--randrepeat=0"]
    return [word for i, own in enumerate(options) for word in (f"--name=disk{i}", *common, *own)]


def _throughput(count):
    @contextlib.contextmanager
    def sides(bench):
        with _disks(bench, count) as disks:
            pids = [d.pid for d in disks]
            ring = _jobs(fio.on_ring(bench, d) for d in disks)
            bare = _jobs(fio.on_file(path) for path in _images(bench, count))
            yield {"ring": lambda: fio.run(bench, ring, pids), "io_uring": lambda: fio.run(bench, bare)}
    return sides


def _processes(server):
    return [pid for s in server for pid in servers.processes(s.pid)]


def _memory(pids, kind):
    """Memory in MiB. Pss: shared pages count once for all of these processes; Rss: all pages, as top shows them."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(f"{kind}:"))
    return {"value": total / 1024}


def _wake_ups(pids):
    """The number of wake-ups of all their threads so far."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))
    return total


def _idle_wake_ups(pids):
    time.sleep(SETTLE_SECONDS)
    before = _wake_ups(pids)
    time.sleep(IDLE_SECONDS)
    return {"value": (_wake_ups(pids) - before) / IDLE_SECONDS}


@contextlib.contextmanager
def _daemons(bench, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(servers.storage_daemon(bench, path, name=f"scale{i}"))
               for i, path in enumerate(_images(bench, count))]


def _beside_daemons(count, figure):
    """The same figure of as many qemu-storage-daemons, after some I/O on each disk."""
    def of(bench, server):
        fio.run(bench, _jobs(s.nbd for s in server), [s.pid for s in server])
        return figure(_processes(server))

    @contextlib.contextmanager
    def sides(bench):
        with _disks(bench, count) as ours, _daemons(bench, count) as theirs:
            yield {"tapdisk": lambda: of(bench, ours), "qemu-storage-daemon": lambda: of(bench, theirs)}
    return sides


@contextlib.contextmanager
def _large_idle(bench, figure):
    path = bench.path("large.img")
    with open(path, "wb") as file:
        file.truncate(64 << 30)
    with servers.tapdisk(f"aio:{path}") as ours, servers.storage_daemon(bench, path, name="large") as theirs:
        yield {"tapdisk": lambda: figure(_processes([ours])), "qemu-storage-daemon": lambda: figure(_processes([theirs]))}
    os.unlink(path)


def cases():
    for count in COUNTS:
        yield Case(f"scale-{count}", "scale", _throughput(count),
                   f"{count} disks at once, 4k, 7 reads to 3 writes, 8 at a time for each disk")
    for count in COUNTS:
        yield Case(f"memory-{count}", "scale", _beside_daemons(count, lambda pids: _memory(pids, "Pss")),
                   f"{count} disks that were used over NBD: memory of all processes", unit="MiB", less=True, once=True)
    for count in COUNTS:
        yield Case(f"wakeups-{count}", "scale", _beside_daemons(count, _idle_wake_ups),
                   f"{count} disks that were used and now are not: wake-ups a second", unit="/s", less=True, once=True)
    yield Case("idle-memory", "scale", lambda bench: _large_idle(bench, lambda pids: _memory(pids, "Rss")),
               "a raw disk of 64 GiB that was opened: memory of all processes, all that is mapped", unit="MiB", less=True, once=True, most=8)
    yield Case("idle-wakeups", "scale", lambda bench: _large_idle(bench, _idle_wake_ups),
               "the same: wake-ups a second", unit="/s", less=True, once=True, most=0)
