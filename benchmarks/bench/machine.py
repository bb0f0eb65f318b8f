# SPDX-License-Identifier: LGPL-2.1-or-later
"""machine.py - the results file: figures, versions, and the machine.

    {"runs": [{"machine": {...}, "versions": {...}}, ...],
     "cases": {NAME: {"group", "unit", "less", "ours", "peer", "sides": {SIDE: medians},
                      "values": {SIDE: of each round}, "ratios": {SIDE: median}, "goal", "rounds", "seconds", ...,
                      "version": ours, "run": index in runs, "time"}}}

A file may have cases of several machines, and of one whose kernel or programs have
changed: a case refers to the run with its own. Older files have one "machine" and one
"versions", the last run's, and only the processor of each case: load() makes runs
of them, which it marks as "last".
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


def _runs_of_old(results):
    """The last run's versions stand for all cases on its processor, though nobody noted that; others have only that."""
    last = {"machine": results.pop("machine", {}), "versions": results.pop("versions", {}), "last": True}
    runs = [last]
    for case in results["cases"].values():
        processor = case.pop("processor", None)
        run = last if processor in (None, last["machine"].get("processor")) else {"machine": {"processor": processor}, "versions": {}}
        if run not in runs:
            runs.append(run)
        case["run"] = runs.index(run)
    return runs


def load(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    if "runs" not in results:
        results["runs"] = _runs_of_old(results)
    return results


class Results:
    """Written after each case, so that an interrupted run keeps its figures."""

    def __init__(self, path, source):
        self._path = path
        self._version = _output("git", "-C", source, "describe", "--always", "--abbrev=12")
        # the results may be in the tree themselves
        if self._version and _output("git", "-C", source, "status", "--porcelain", "--", ".", ":(exclude)docs/performance"):
            self._version += "-dirty"
            print(f"run: the tree has changes that are not committed: results will be marked {self._version}", file=sys.stderr)
        self._all = load(path) if os.path.exists(path) else {"runs": [], "cases": {}}
        self._machine = describe(os.path.dirname(path) or ".")
        self._versions = versions()

    def _run(self, more):
        """The index of this run, which is new if the machine or a version is."""
        run = {"machine": self._machine, "versions": {**self._versions, **more}}
        if run not in self._all["runs"]:
            self._all["runs"].append(run)
        return self._all["runs"].index(run)

    def _forget(self):
        """Remove runs of which no case is left."""
        used = sorted({case["run"] for case in self._all["cases"].values()})
        for case in self._all["cases"].values():
            case["run"] = used.index(case["run"])
        self._all["runs"] = [self._all["runs"][index] for index in used]

    def put(self, name, result):
        """@result may have "versions" of programs that only its case has used."""
        result["version"] = self._version
        result["run"] = self._run(result.pop("versions", {}))
        result["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._all["cases"][name] = result
        self._forget()
        with open(self._path + ".new", "w", encoding="utf-8") as file:
            json.dump(self._all, file, indent=1)
            file.write("\n")
        os.replace(self._path + ".new", self._path)
