# SPDX-License-Identifier: LGPL-2.1-or-later
"""machine.py - the results file: figures, versions, and the machine.

    {"machine": {...}, "versions": {...},
     "cases": {NAME: {"group", "unit", "less", "ours", "peer", "sides": {SIDE: medians},
                      "values": {SIDE: of each round}, "ratios": {SIDE: median}, "goal", ...,
                      "version": ours, "processor", "time"}}}
"""
import json
import os
import platform
import re
import subprocess
import sys
import time


def _first(pattern, path):
    with open(path, encoding="utf-8", errors="replace") as file:
        match = re.search(pattern, file.read(), re.MULTILINE)
    return match[1] if match else None


def _output(*words):
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip().partition("\n")[0] or None


def describe(build):
    directory = os.stat(build).st_dev
    disk = f"{os.major(directory)}:{os.minor(directory)}"
    return {"processor": _first(r"^model name\s*: (.*)", "/proc/cpuinfo") or platform.machine(),
            "processors": len(os.sched_getaffinity(0)),
            "memory_mib": int(_first(r"^MemTotal:\s*(\d+)", "/proc/meminfo")) // 1024,
            "file_system": _output("stat", "-f", "-c", "%T", build),
            "disk": os.path.basename(os.path.realpath(f"/sys/dev/block/{disk}"))}


def versions():
    return {"kernel": platform.release(), "fio": _output("fio", "--version"),
            "qemu-storage-daemon": _output("qemu-storage-daemon", "--version"),
            "nbdkit": _output("nbdkit", "--version")}


class Results:
    """Written after each case, so that an interrupted run keeps its figures."""

    def __init__(self, path, source):
        self._path = path
        self._version = _output("git", "-C", source, "describe", "--always", "--abbrev=12")
        # the results may be in the tree themselves
        if self._version and _output("git", "-C", source, "status", "--porcelain", "--", ".", ":(exclude)docs/performance"):
            self._version += "-dirty"
            print(f"run: the tree has changes that are not committed: results will be marked {self._version}", file=sys.stderr)
        self._all = {"cases": {}}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self._all = json.load(file)
        self._all["machine"] = describe(os.path.dirname(path) or ".")
        self._all["versions"] = versions()

    def put(self, name, result):
        result["version"] = self._version
        result["processor"] = self._all["machine"]["processor"]
        result["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._all["cases"][name] = result
        with open(self._path + ".new", "w", encoding="utf-8") as file:
            json.dump(self._all, file, indent=1)
            file.write("\n")
        os.replace(self._path + ".new", self._path)
