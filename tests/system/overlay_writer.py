#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# overlay_writer.py - what test_overlay.sh writes to a disk that may die at
# any time, and what has to be there afterwards.
#
#   write URI FILE SEED   write counters to blocks at random, eight in flight, a flush now and then, until the disk is
#                         gone; then FILE says what each block may hold: what the last flush has made sure of, or later
#   check URI FILE        read and compare; what was found is all that the next one may find
import json
import os
import random
import struct
import sys

import nbd

BLOCK = 4096
BLOCKS = 2048
DEPTH = 8


def block_of(counter):
    return struct.pack("<Q", counter) * (BLOCK // 8)


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return {int(block): may for block, may in json.load(file).items()}


def save(path, may):
    with open(path + ".new", "w") as file:
        json.dump(may, file)
    os.rename(path + ".new", path)


class Writer:
    def __init__(self, uri, path, seed):
        self.path = path
        self.random = random.Random(seed)
        self.may = load(path)
        self.counter = max([0] + [max(may) for may in self.may.values()])
        self.flight = {}  # cookie: block
        self.written = 0
        self.uri = uri
        self.disk = nbd.NBD()

    def submit(self):
        block = self.random.randrange(BLOCKS)
        if block in self.flight.values():
            return
        self.counter += 1
        # until a flush makes sure of it, each of them may be there
        self.may[block] = self.may.get(block, [0]) + [self.counter]
        buffer = nbd.Buffer.from_bytearray(bytearray(block_of(self.counter)))
        self.flight[self.disk.aio_pwrite(buffer, block * BLOCK)] = block

    def reap(self):
        for cookie in list(self.flight):
            if self.disk.aio_command_completed(cookie):
                del self.flight[cookie]
                self.written += 1

    def flush(self):
        while self.flight:
            self.disk.poll(-1)
            self.reap()
        self.disk.flush()
        self.may = {block: counters[-1:] for block, counters in self.may.items()}

    def run(self):
        try:
            self.disk.connect_uri(self.uri)
            while True:
                while len(self.flight) < DEPTH:
                    self.submit()
                self.disk.poll(-1)
                self.reap()
                if self.random.randrange(200) == 0:
                    self.flush()
        except nbd.Error:
            pass
        save(self.path, self.may)
        print(f"{self.written} writes, {len(self.flight)} in flight at the end")


def check(uri, path):
    disk = nbd.NBD()
    disk.connect_uri(uri)
    may = load(path)
    for block, counters in may.items():
        data = disk.pread(BLOCK, block * BLOCK)
        found = struct.unpack("<Q", data[:8])[0]
        if found not in counters or data != block_of(found):
            sys.exit(f"block {block}: {found}, not one of {counters}")
        may[block] = [found]
    save(path, may)
    print(f"{len(may)} blocks are right")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        Writer(*sys.argv[2:5]).run()
    else:
        check(*sys.argv[2:4])
