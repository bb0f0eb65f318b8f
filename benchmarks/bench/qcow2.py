# SPDX-License-Identifier: LGPL-2.1-or-later
"""qcow2.py - snapshot stores against qcow2: QEMU's own block layer over NBD, and its tools.

fio's nbd engine drives both; both are opened without the page cache and by
io_uring, and every block of both was written before.
"""
import contextlib
import itertools
import os
import time

from bench import fio, servers
from bench.case import Case
from bench.ring import GRID

RANDOM = ["--name=guest", "--bs=4k", "--iodepth=32", "--randrepeat=0"]
TIMES = ("10G", "100G", "1000G")
CHAINS = (1, 10, 100)
CHAIN_SIZE, CHAIN_BLOCK = 256, 64               # MiB, KiB
SPACE_SIZE, SPACE_WRITES = "1G", 20000

_numbers = itertools.count(1)


@contextlib.contextmanager
def _store(bench, size, name="disk.cow"):
    path = bench.path(name)
    servers.command("tap-img", "create", path, size)
    with servers.tapdisk(f"cow:{path}") as disk:
        disk.path = path
        fio.fill(bench, disk.nbd, size)
        yield disk
    os.unlink(path)


@contextlib.contextmanager
def _qcow2(bench, size, name="disk.qcow2"):
    path = bench.path(name)
    servers.command("qemu-img", "create", "-q", "-f", "qcow2", path, size)
    with servers.storage_daemon(bench, path, "qcow2", name=name) as server:
        server.path = path
        fio.fill(bench, server.nbd, size)
        yield server
    os.unlink(path)


def _both(bench):
    return bench.shared("qcow2-ours", _store, bench, bench.sized()), bench.shared("qcow2-peer", _qcow2, bench, bench.sized())


def _snapshot(server):
    name = f"bench{next(_numbers)}"
    if isinstance(server, servers.Disk):
        server.ctl("snapshot-create", "-n", name)
    else:
        server.qmp("blockdev-snapshot-internal-sync", device="disk", name=name)


def _steady(job):
    @contextlib.contextmanager
    def sides(bench):
        ours, peer = _both(bench)

        def by(server):
            return fio.run(bench, [*server.nbd, f"--size={bench.sized()}"], [server.pid], job)
        yield {"cow": lambda: by(ours), "qcow2": lambda: by(peer)}
    return sides


def _written_once(bench, server):
    return fio.run(bench, [*server.nbd, *RANDOM, f"--size={bench.sized()}", "--rw=randwrite"], [server.pid])


def _first_writes(bench, server):
    """Take a snapshot, then write every block once."""
    _snapshot(server)
    return _written_once(bench, server)


@contextlib.contextmanager
def _base(bench):
    """A qcow2 with every block written, as a base for overlays."""
    with _qcow2(bench, bench.sized(), "base.qcow2") as server:
        path = f"{server.path}.closed"
        os.link(server.path, path)
    yield path
    os.unlink(path)


def _first_writes_above(bench, base):
    """The same on a fresh overlay of @base."""
    path = bench.path("overlay.qcow2")
    servers.command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path)
    with servers.storage_daemon(bench, path, "qcow2", name="overlay", backing=[base]) as server:
        result = _written_once(bench, server)
    os.unlink(path)
    return result


@contextlib.contextmanager
def _first_write(bench):
    ours, peer = _both(bench)
    base = bench.shared("qcow2-base", _base, bench)
    yield {"cow": lambda: _first_writes(bench, ours), "qcow2": lambda: _first_writes(bench, peer),
           "qcow2 overlay": lambda: _first_writes_above(bench, base)}


@contextlib.contextmanager
def _space(bench):
    """The host's space per byte of scattered first writes. On fresh disks, because a store keeps some free space."""
    with _store(bench, SPACE_SIZE, "space.cow") as ours, _qcow2(bench, SPACE_SIZE, "space.qcow2") as peer:
        def taken(server):
            before = os.stat(server.path).st_blocks
            _snapshot(server)
            fio.run(bench, [*server.nbd, *RANDOM, f"--size={SPACE_SIZE}", "--rw=randwrite", f"--number_ios={SPACE_WRITES}",
                            "--runtime=0"])
            return {"value": (os.stat(server.path).st_blocks - before) * 512 / (SPACE_WRITES * 4096) * 100}
        yield {"cow": lambda: taken(ours), "qcow2": lambda: taken(peer)}


def _tool_time(size, verb):
    """One command of tap-img and of qemu-img, on a fully allocated disk."""
    def snapshot(tool, path, option):
        started = time.monotonic()
        servers.command(tool, "snapshot", option, "s", path)
        return {"value": (time.monotonic() - started) * 1000}

    def once(tool, path):
        """Create, apply and delete, so that each round finds the same state; the time of @verb."""
        return {option: snapshot(tool, path, option) for option in ("-c", "-a", "-d")}[verb]

    @contextlib.contextmanager
    def sides(bench):
        ours, peer = bench.path("large.cow"), bench.path("large.qcow2")
        bench.shared(f"large-{size}", _large, ours, peer, size)
        yield {"cow": lambda: once("tap-img", ours), "qcow2": lambda: once("qemu-img", peer)}
    return sides


@contextlib.contextmanager
def _large(ours, peer, size):
    for path in ours, peer:                     # remove both before the next size: the largest takes 2 GB
        if os.path.exists(path):
            os.unlink(path)
    servers.command("tap-img", "create", "--preallocation", "metadata", ours, size)
    servers.command("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", peer, size)
    yield


def _chain(length):
    """Random reads of a disk whose blocks were written, one after the other, in @length snapshots or overlays."""
    def layer(bench, server, number):
        if number < length:
            fio.run(bench, [*server.nbd, "--name=layer", f"--bs={CHAIN_BLOCK}k", "--iodepth=8", "--runtime=0",
                            f"--rw=write:{(length - 1) * CHAIN_BLOCK}k", f"--offset={number * CHAIN_BLOCK}k",
                            f"--size={CHAIN_SIZE}M", f"--io_size={CHAIN_SIZE * 1024 // length}k"])

    @contextlib.contextmanager
    def sides(bench):
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(_empty_store(bench))
            for number in range(length):
                layer(bench, ours, number)
                _snapshot(ours)
            for number in range(length):
                with _overlay(bench, number) as server:
                    layer(bench, server, number)
            peer = stack.enter_context(_overlay(bench, length))

            def by(server):
                return fio.run(bench, [*server.nbd, *RANDOM, "--rw=randread", f"--size={CHAIN_SIZE}M",
                                       "--time_based=1", "--norandommap=1"], [server.pid])
            yield {"cow": lambda: by(ours), "qcow2": lambda: by(peer)}
    return sides


@contextlib.contextmanager
def _empty_store(bench):
    path = bench.path("chain.cow")
    servers.command("tap-img", "create", path, f"{CHAIN_SIZE}M")
    with servers.tapdisk(f"cow:{path}") as disk:
        yield disk
    os.unlink(path)


@contextlib.contextmanager
def _overlay(bench, number):
    """Overlay @number of a chain, on overlay @number - 1."""
    path, *below = (bench.path(f"chain{n}.qcow2") for n in range(number, -1, -1))
    on = ["-F", "qcow2", "-b", below[0]] if number else []
    servers.command("qemu-img", "create", "-q", "-f", "qcow2", *on, path, f"{CHAIN_SIZE}M")
    with servers.storage_daemon(bench, path, "qcow2", name="chain", backing=below[::-1]) as server:
        yield server


def cases():
    for rw, bs, depth in GRID:
        job = f"{rw}-{bs}-qd{depth}"
        what = f"{bs} at random places, {'one at a time' if depth == 1 else f'{depth} at a time'}"
        yield Case(f"qcow2-{job}", "qcow2", _steady(job), f"{rw[4:]}s of {what}, blocks that the disk owns", goal=1.2)
    yield Case("qcow2-first-write", "qcow2", _first_write, "4k writes, 32 at a time, each block's first after a snapshot",
               goal=10)
    yield Case("qcow2-space", "qcow2", _space, f"taken by {SPACE_WRITES:,} scattered first writes of 4k, of their data",
               unit="%", less=True, once=True)
    for length in CHAINS:
        yield Case(f"chain-{length}", "chains", _chain(length),
                   f"4k random reads, 32 at a time, through {length} snapshots; the peer's are overlays")
    for size in TIMES:
        for verb, name in ("-c", "create"), ("-a", "revert"), ("-d", "delete"):
            yield Case(f"{name}-{size}", "times", _tool_time(size, verb),
                       f"tap-img and qemu-img snapshot {verb}, {size} with a full map", unit="ms", less=True,
                       long=size == "1000G")
