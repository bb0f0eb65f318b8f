# SPDX-License-Identifier: LGPL-2.1-or-later
"""lab.py - a guest's disk in the Xen lab: tap, which is ours, qdisk, xen-blkback and null in one boot (tests/xen/bench).

null is our backend without a disk: the limit for backends of this kind.
"""
import os
import subprocess
import tempfile

from bench import servers
from bench.case import Batch, Case, result_of
from bench.ring import GRID

BENCH = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "xen", "bench")
PEERS = ("qdisk", "blkback", "null")


def _figures(path):
    """{(rw, bs, depth): {backend: [(iops, cpu_us) of each round]}}"""
    cells = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            _, backend, rw, bs, depth, iops, cpu = line.split()
            cells.setdefault((rw, bs, int(depth)), {}).setdefault(backend, []).append((float(iops), float(cpu)))
    return cells


def _versions(path):
    """bench-dom0 writes them, a line NAME VERSION... each."""
    with open(path, encoding="utf-8") as file:
        return {f"lab {name}": version.strip() for name, _, version in (line.partition(" ") for line in file)}


def _cell(guest, queues, job):
    """The two cases of a job (rw, bs, depth): requests, and processor time."""
    rw, bs, depth = job
    poll = f"-poll{servers.Disk.poll}" if servers.Disk.poll else ""
    name = f"lab-{guest}-{queues}q{poll}-{rw}-{bs}-qd{depth}"
    # 64k is one request with our indirect segments; qdisk's requests have 44k at most
    goals = {"goal": 1.5} if (bs, depth) == ("64k", 32) else {"goal": 1.2, "limit": "null", "limit_goal": 0.95}
    return (Case(name, "lab", None, "a guest's disk, to qdisk", also={"blkback": 1.0}, **goals),
            Case(f"{name}-cpu", "lab-cpu", None, "dom0's processor time for a request, to qdisk", unit="us", less=True, goal=1 / 0.7))


def _boot(guest, queues):
    def measure(bench):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([BENCH, "-o", directory, "-T", guest, "-q", str(queues), "-p", str(servers.Disk.poll), str(bench.rounds),
                            str(round(bench.seconds)), "tap", *PEERS], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            cells, versions = _figures(f"{directory}/raw"), _versions(f"{directory}/versions")
        for job, sides in cells.items():
            for index, case in enumerate(_cell(guest, queues, job)):
                figures = {side: [{"value": f[index]} for f in rounds] for side, rounds in sides.items()}
                yield case.name, {**result_of(case, figures, bench.seconds), "versions": versions}
    return measure


def cases():
    for guest in "pv", "pvh":
        for queues in 1, 4:
            yield Batch(f"lab-{guest}-{queues}q", "lab", _boot(guest, queues), [c for job in GRID for c in _cell(guest, queues, job)],
                        f"a boot of the Xen lab: {guest.upper()} guest, {queues} queue{'s' if queues > 1 else ''}", long=True)
