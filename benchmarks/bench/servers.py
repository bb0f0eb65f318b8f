# SPDX-License-Identifier: LGPL-2.1-or-later
"""servers.py - tapdisk and its peers, as context managers.

Each is one process with one disk: .pid, and .nbd, fio's options to reach it.
processes() adds what it has started: a tapdisk has an opener.
"""
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time

from bench import fio


def command(*words):
    """Run a command and return its output; the command prints its own errors."""
    return subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def _end(pid, by=signal.SIGTERM):
    """Wait until a process, which need not be a child of ours, has ended."""
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, by)
    select.select([process], [], [])
    os.close(process)


def processes(pid):
    """A server and the processes that it has started, those of these too."""
    found = [pid]
    for parent in found:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


class Disk:
    """A disk of ours, in a tapdisk of its own."""
    poll = 0        # microseconds (tapdisk --poll), where a case does not say

    def __init__(self, target, *options, poll=None):
        self._create = "tap-ctl", "create", *options, "-a", target
        os.environ["TAPSNAP_POLL"] = str(self.poll if poll is None else poll)
        self.open()

    def open(self):
        """Open the disk, at first and again after its process was killed."""
        marker = command(*self._create).strip()
        self.minor = int(marker.rpartition("-")[2])
        self.pid = int(re.search(r"pid=(\d+)", command("tap-ctl", "list", "-m", str(self.minor)))[1])
        self.nbd = fio.on_nbd(f"{os.environ['TAPSNAP_RUN_DIR']}/nbd{self.pid}.{self.minor}")

    def ctl(self, verb, *options):
        return command("tap-ctl", verb, "-p", str(self.pid), "-m", str(self.minor), *options)

    def kill(self):
        _end(self.pid, signal.SIGKILL)

    def close(self):
        self.ctl("destroy")


@contextlib.contextmanager
def tapdisk(target, *options, poll=None):
    disk = Disk(target, *options, poll=poll)
    try:
        yield disk
    finally:
        disk.close()


def _image_nodes(layers, image_format):
    """qemu-storage-daemon's options for an image on its backing images: these do not inherit how a file is opened."""
    below = ""
    for number, path in enumerate(layers):
        top = number == len(layers) - 1
        name, access = ("", "discard=unmap") if top else (str(number), "read-only=on")
        yield from ("--blockdev", f"driver=file,node-name=file{name},filename={path},aio=io_uring,cache.direct=on,locking=off,{access}",
                    "--blockdev", f"driver={image_format},node-name=disk{name},file=file{name},cache.direct=on,{access}{below}")
        below = f",backing=disk{name}"


def _check_direct(pid, paths):
    """All images are open with O_DIRECT, or what is measured is the page cache."""
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = os.readlink(f"/proc/{pid}/fd/{number}")
        if path not in paths:
            continue
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
        if not flags & os.O_DIRECT:
            raise RuntimeError(f"{path} is open without O_DIRECT")
        found.add(path)
    if found != set(paths):
        raise RuntimeError(f"not open: {' '.join(set(paths) - found)}")


class StorageDaemon:
    """QEMU's block layer behind NBD; @backing: the images below, from the base upwards."""

    def __init__(self, bench, path, image_format="raw", name="qsd", backing=()):
        self.socket, self._monitor = bench.path(f"{name}.nbd"), bench.path(f"{name}.qmp")
        pid_file = bench.path(f"{name}.pid")
        command("qemu-storage-daemon", "--daemonize", "--pidfile", pid_file, *_image_nodes([*backing, path], image_format),
                "--nbd-server", f"addr.type=unix,addr.path={self.socket}",
                "--export", "type=nbd,id=export,node-name=disk,writable=on",
                "--chardev", f"socket,id=monitor,path={self._monitor},server=on,wait=off",
                "--monitor", "chardev=monitor")
        with open(pid_file, encoding="ascii") as file:
            self.pid = int(file.read())
        self.nbd = fio.on_nbd(self.socket, "disk")
        try:
            _check_direct(self.pid, [*backing, path])
        except RuntimeError:
            _end(self.pid)
            raise

    def qmp(self, execute, **arguments):
        """One command, on a connection of its own."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._monitor)
            stream = connection.makefile("rw")
            stream.readline()
            for request in {"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
                if "error" in answer:
                    raise RuntimeError(f"qemu-storage-daemon: {execute}: {answer['error']['desc']}")
        return answer["return"]


@contextlib.contextmanager
def storage_daemon(bench, path, image_format="raw", name="qsd", backing=()):
    server = StorageDaemon(bench, path, image_format, name, backing)
    try:
        yield server
    finally:
        _end(server.pid)


class Nbdkit:
    """nbdkit's file plugin: through the page cache, so answered writes are not on the disk yet."""

    def __init__(self, bench, path):
        self._path, self._files = path, (bench.path("nbdkit.nbd"), bench.path("nbdkit.pid"))
        address, ready = self._files
        self._process = subprocess.Popen(["nbdkit", "-f", "-P", ready, "-U", address, "file", path])
        self.pid = self._process.pid
        self.nbd = fio.on_nbd(address)
        while not os.path.exists(ready):        # written once it listens
            if self._process.poll() is not None:
                raise RuntimeError("nbdkit has not started")
            time.sleep(0.01)

    def close(self):
        self._process.terminate()
        self._process.wait()
        for path in self._files:
            os.unlink(path)

    def settle(self):
        """Write out and drop its page cache, which would affect the measurement of the next side."""
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def nbdkit(bench, path):
    server = Nbdkit(bench, path)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def raw_file(bench, name="disk.img", size=None):
    """A raw image with every block written."""
    path = bench.path(name)
    fio.fill(bench, fio.on_file(path), size or bench.sized())
    try:
        yield path
    finally:
        os.unlink(path)
