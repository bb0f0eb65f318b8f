# SPDX-License-Identifier: LGPL-2.1-or-later
"""cow_log.py - how full a store's log is, from its file (docs/cow-format.md, 3 and 6)."""
import struct

BLOCK = 4096
COPIES = (0, 256 * BLOCK)
CHANGES = 45056                         # of the map, after which a checkpoint is due: DEFAULT_LAYER_ENTRIES
_SUPERBLOCK = struct.Struct("<56x Q 16x 4Q")            # sequence; log_start, log_blocks, log_tail, log_sequence
_RECORD = struct.Struct("<4s 4x Q 3I")
_MAP = 1


def _records(file):
    """The log's size in blocks; and (type, elements, blocks) of each record since the last checkpoint.

    A checksum is not needed to tell them from older ones: sequence numbers only rise.
    """
    heads = []
    for at in COPIES:
        file.seek(at)
        heads.append(_SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size)))
    _, start, blocks, tail, sequence = max(heads)
    found, at, again = [], tail // BLOCK, False
    while True:
        file.seek((start + at % blocks) * BLOCK)
        magic, number, length, kind, count = _RECORD.unpack(file.read(_RECORD.size))
        if magic == b"TLOG" and number == sequence:
            taken = -(-length // BLOCK)
            found.append((kind, count, taken))
            at, sequence, again = at + taken, sequence + 1, False
        elif at % blocks and not again:         # it did not fit before the end of the area
            at, again = at + blocks - at % blocks, True
        else:
            return blocks, found


def limit(path, each):
    """The number of changes of the map that makes a checkpoint due, if each record has that many of them."""
    with open(path, "rb") as file:
        blocks, _ = _records(file)
    return min(blocks // 2 * each, CHANGES)


def fill(path):
    """The part of what makes a checkpoint due: half of the log, or so many changes of the map, whichever is nearer."""
    with open(path, "rb") as file:
        blocks, found = _records(file)
    return max(sum(taken for _, _, taken in found) / (blocks / 2),
               sum(count for kind, count, _ in found if kind == _MAP) / CHANGES)
