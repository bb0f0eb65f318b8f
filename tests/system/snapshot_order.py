# SPDX-License-Identifier: LGPL-2.1-or-later
"""
snapshot_order.py - writes that depend on each other, across disks.

    snapshot_order.py write STOP URI...   the number n to each disk in turn, each after the answer of the one
                                          before; n = 1, 2, 3, ... until the file STOP is there
    snapshot_order.py check URI...        the numbers that snapshots of them hold: none is newer than the one
                                          before it, none more than one behind
"""
import os
import struct
import sys

import nbd


def connect(uri):
    disk = nbd.NBD()
    disk.connect_uri(uri)
    return disk


def write(stop, disks):
    number = 0
    while not os.path.exists(stop):
        number += 1
        for disk in disks:
            disk.pwrite(struct.pack("<Q", number).ljust(4096, b"\0"), 0)
    print(number)


def check(disks):
    numbers = [struct.unpack_from("<Q", disk.pread(512, 0))[0] for disk in disks]
    if any(not 0 <= before - after <= 1 for before, after in zip(numbers, numbers[1:])) or \
            numbers[0] - numbers[-1] > 1:
        sys.exit("out of order: %s" % numbers)
    print(*numbers)


if sys.argv[1] == "write":
    write(sys.argv[2], [connect(uri) for uri in sys.argv[3:]])
else:
    check([connect(uri) for uri in sys.argv[2:]])
