# SPDX-License-Identifier: LGPL-2.1-or-later
"""fio.py - one run of fio, and its figures."""
import json
import os
import subprocess

from bench.case import built

JOBS = os.path.join(os.path.dirname(__file__), "..", "jobs")
HERTZ = os.sysconf("SC_CLK_TCK")


def ticks(pids):
    """Processor time of these processes so far, threads included, in clock ticks."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def run(bench, options, server_pids=(), job=None):
    """One run; @job names a file in jobs/, otherwise @options are complete. Returns the sum of its jobs' figures.

    cpu_us is processor time for each request, fio's and the servers'.
    """
    output = bench.path("fio.json")
    command = ["fio", "--output-format=json", f"--output={output}", f"--runtime={round(bench.seconds * 1000)}ms", *options]
    if job:
        command.append(os.path.join(JOBS, job + ".fio"))
    before = ticks(server_pids)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    spent = (ticks(server_pids) - before) / HERTZ
    with open(output, encoding="utf-8") as file:
        jobs = json.load(file)["jobs"]
    count = sum(j[way]["total_ios"] for j in jobs for way in ("read", "write"))
    if not count:
        raise RuntimeError(f"no request was made: {' '.join(command)}")
    spent += sum((j["usr_cpu"] + j["sys_cpu"]) / 100 * j["job_runtime"] / 1000 for j in jobs)

    def percentile(which):
        return max(j[way].get("clat_ns", {}).get("percentile", {}).get(which, 0)
                   for j in jobs for way in ("read", "write")) / 1000
    iops = sum(j[way]["iops"] for j in jobs for way in ("read", "write"))
    return {"value": iops, "mib_s": sum(j[way]["bw_bytes"] for j in jobs for way in ("read", "write")) / 2**20,
            "p50_us": percentile("50.000000"), "p99_us": percentile("99.000000"), "cpu_us": spent * 1e6 / count}


def size_bytes(text):
    """Bytes of a size like 512M or 2G, as fio reads it."""
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30, "T": 40}[text[-1].upper()]


def fill(bench, options, size):
    """Write every block once, so that there are no holes."""
    run(bench, [*options, "--name=fill", f"--size={size}", "--runtime=0", "--rw=write", "--bs=1M", "--iodepth=8", "--direct=1",
                "--end_fsync=1"])


def on_file(path):
    return ["--ioengine=io_uring", f"--filename={path}"]


def on_nbd(socket, export=""):
    return ["--ioengine=nbd", f"--uri=nbd+unix:///{export}?socket={socket}"]


def on_ring(bench, disk):
    engine = built(bench.build, "lib/fio-blkfront.so", "make fio-engine")
    return [f"--ioengine=external:{engine}", f"--tapdisk_pid={disk.pid}", f"--minor={disk.minor}"]
