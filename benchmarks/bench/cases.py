# SPDX-License-Identifier: LGPL-2.1-or-later
"""cases.py - all cases."""
from bench import cow, lab, qcow2, ring, scale, stall
from bench.case import Batch

CASES = [*ring.cases(), *cow.cases(), *stall.cases(), *qcow2.cases(), *scale.cases(), *lab.cases()]


def defined():
    """{name: Case}, those of the batches one by one."""
    return {each.name: each for c in CASES for each in (c.cases if isinstance(c, Batch) else [c])}
