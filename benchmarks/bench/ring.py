# SPDX-License-Identifier: LGPL-2.1-or-later
"""ring.py - one raw file: through the ring, over NBD, and directly."""
import contextlib

from bench import fio, servers
from bench.case import Case

POLL_US = 200
GRID = [(rw, bs, depth) for rw in ("randread", "randwrite") for bs in ("4k", "64k") for depth in (1, 32)]


def image(bench):
    return bench.shared("raw-image", servers.raw_file, bench)


def _ring(job, poll=None):
    @contextlib.contextmanager
    def sides(bench):
        path, size = image(bench), f"--size={bench.sized()}"
        with servers.tapdisk(f"aio:{path}", poll=poll) as disk:
            yield {"ring": lambda: fio.run(bench, [*fio.on_ring(bench, disk), size], [disk.pid], job),
                   "io_uring": lambda: fio.run(bench, [*fio.on_file(path), size], [], job)}
    return sides


def _nbd(job):
    @contextlib.contextmanager
    def sides(bench):
        path, size = image(bench), f"--size={bench.sized()}"

        def by(server):
            return fio.run(bench, [*server.nbd, size], [server.pid], job)

        def by_nbdkit(server):
            figures = by(server)
            server.settle()
            return figures
        with servers.tapdisk(f"aio:{path}") as disk, servers.storage_daemon(bench, path) as daemon, \
                servers.nbdkit(bench, path) as kit:
            yield {"tapdisk": lambda: by(disk), "qemu-storage-daemon": lambda: by(daemon),
                   "nbdkit": lambda: by_nbdkit(kit),
                   "io_uring": lambda: fio.run(bench, [*fio.on_file(path), size], [], job)}
    return sides


def cases():
    for rw, bs, depth in GRID:
        job = f"{rw}-{bs}-qd{depth}"
        what = f"{bs} at random places, {'one at a time' if depth == 1 else f'{depth} at a time'}"
        yield Case(f"ring-{job}", "ring", _ring(job), f"{rw[4:]}s of {what}, through the ring",
                   goal=0.9 if depth > 1 else 0.8, quick=bs == "4k")
    for rw, bs, depth in GRID:
        job = f"{rw}-{bs}-qd{depth}"
        yield Case(f"poll-{job}", "poll", _ring(job, POLL_US), f"ring-{job}, tapdisk --poll {POLL_US}",
                   goal=0.9 if depth > 1 else 0.8)
    for rw, bs, depth in GRID:
        job = f"{rw}-{bs}-qd{depth}"
        what = f"{bs} at random places, {'one at a time' if depth == 1 else f'{depth} at a time'}"
        yield Case(f"nbd-{job}", "nbd", _nbd(job), f"{rw[4:]}s of {what}, over NBD",
                   goal=1.2, limit="io_uring", limit_goal=0.95, quick=(bs, depth) == ("4k", 32))
