# SPDX-License-Identifier: LGPL-2.1-or-later
"""store.py - what the cases of snapshot stores share: disks, a load, snapshots.

Two disks of the same size, both filled once, serve all cases of a run one
after the other: the store keeps the data and snapshots of earlier cases.
"""
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

from bench import fio, servers

SIZE = "10G"
RANDOM = ["--bs=4k", "--iodepth=32"]
TIMED = ["--time_based=1", "--norandommap=1"]
UNTIMED = ["--runtime=0"]
LARGE = ("1T", "10T")
WRITES_ROOM = 8 << 30                   # bytes that the cases on a mapped disk write, at most

_numbers = itertools.count(1)


def size_of(bench):
    return bench.sized(SIZE)


def guest(bench, disk, *options, size=None):
    return fio.run(bench, ["--name=guest", *fio.on_ring(bench, disk), f"--size={size or size_of(bench)}", "--randrepeat=0",
                           *options], [disk.pid])


@contextlib.contextmanager
def _image(bench, target, path):
    disk = servers.Disk(f"{target}:{path}")
    disk.path = path
    try:
        fio.fill(bench, fio.on_ring(bench, disk), size_of(bench))
        yield disk
    finally:
        disk.close()
        os.unlink(path)


def shared_store(bench):
    path = bench.path("store.cow")
    if not os.path.exists(path):
        servers.command("tap-img", "create", path, size_of(bench))
    return bench.shared("cow-store", _image, bench, "cow", path)


def shared_raw(bench):
    path = bench.path("store.raw")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.truncate(fio.size_bytes(size_of(bench)))
    return bench.shared("cow-raw", _image, bench, "aio", path)


@contextlib.contextmanager
def mapped_store(bench, size, name="full"):
    """A disk with every block mapped, none of them written; its map takes 1/512 of its size."""
    path = bench.path(f"{name}-{size}.cow")
    needed = fio.size_bytes(size) // 512 * 11 // 10 + WRITES_ROOM
    free = shutil.disk_usage(bench.work).free
    if free < needed:
        raise RuntimeError(f"a mapped disk of {size} and its writes need {needed / 1e9:.0f} GB, and {bench.work} has {free / 1e9:.0f} free")
    servers.command("tap-img", "create", "--preallocation", "metadata", path, size)
    try:
        with servers.tapdisk(f"cow:{path}") as disk:
            yield disk
    finally:
        os.unlink(path)


def shared_mapped(bench, size):
    return bench.shared(f"cow-full-{size}", mapped_store, bench, size)


def without_peer(figure):
    """A figure of the store that has no peer."""
    @contextlib.contextmanager
    def sides(bench):
        yield {"cow": lambda: {"value": figure(bench)}}
    return sides


def together(names, measure):
    """Sides that one function measures together: @measure returns {side: {"value": ...}, ...}, and is told which side is asked first."""
    @contextlib.contextmanager
    def sides(bench):
        measured = {}

        def side(name):
            if name not in measured:
                measured.update(measure(bench, name))
            return measured.pop(name)
        yield {name: lambda name=name: side(name) for name in names}
    return sides


def new_name():
    return f"bench{next(_numbers)}"


def snapshot(disk):
    """Returns for how long it held back writes, by its own account."""
    return json.loads(disk.ctl("snapshot-create", "-n", new_name(), "--json"))["stall_us"]


def snapshots(disk):
    """The names, oldest first."""
    return [s["name"] for s in json.loads(disk.ctl("snapshot-list", "--json"))["snapshots"]]


def leftover(disk):
    """The number of deletions that are not finished, and of bytes that are free but not yet punched out of the file."""
    stats = json.loads(disk.ctl("stats"))
    return stats["deletions"], stats["unpunched"]


def forget(disk):
    """Delete all snapshots."""
    for name in snapshots(disk):
        disk.ctl("snapshot-delete", "-n", name)
    settle(disk)


def settle(disk):
    """End background work, which would slow the next measurement. Closing a disk drops holes not punched yet."""
    while leftover(disk)[0]:
        time.sleep(0.1)
    disk.ctl("pause")
    disk.ctl("unpause")


def written(disk):
    return json.loads(disk.ctl("stats"))["total"]["write"]["requests"]


@contextlib.contextmanager
def load(bench, size, *disks, rw="randwrite", more=()):
    """Requests at random places, of all @disks at the same time, until the context ends."""
    jobs = [option for number, disk in enumerate(disks)
            for option in (f"--name=load{number}", *fio.on_ring(bench, disk), f"--size={size}", "--randrepeat=0", f"--rw={rw}",
                           *RANDOM, *TIMED, "--runtime=1d", *more)]
    before = [written(disk) for disk in disks]
    process = subprocess.Popen(["fio", f"--output={bench.path('load.out')}", *jobs], stdin=subprocess.DEVNULL)
    try:
        while any(written(disk) - number < 10000 for disk, number in zip(disks, before)):
            if process.poll() is not None:
                raise RuntimeError("fio, which was to write meanwhile, has ended")
            time.sleep(0.05)
        yield
        if process.poll() is not None:
            raise RuntimeError("fio, which was to write meanwhile, has ended")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
