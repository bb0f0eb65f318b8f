/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory_sweep.h - run every command and some I/O with the Nth allocation in
 * tap-ctl or tapdisk failing, for N = 1, 2, 3, ... until the run has fewer than
 * N allocations.
 *
 * Each time: nothing crashes; a failure prints one line; a success has the right
 * and complete result; afterwards everything works as before, and a failed
 * start has left nothing.
 */
#ifndef TESTS_MEMORY_SWEEP_H
#define TESTS_MEMORY_SWEEP_H

/* Run as a cmocka group. Every @every-th allocation fails; of a start, which has many, every (@every * @every)-th. */
int memory_sweep_run(unsigned every);

/* Tests of the group: memory_sweep_io.c. */
void memory_sweep_connect(void **state);
void memory_sweep_io(void **state);

#endif
