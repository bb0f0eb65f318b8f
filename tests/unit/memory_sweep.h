/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory_sweep.h - every command and some I/O, again and again, with the
 * Nth allocation in tap-ctl or tapdisk failing, for N = 1, 2, 3, ... until the
 * whole went through before the Nth came.
 *
 * What must hold each time: nothing crashes; what fails says so in a line;
 * what succeeds is right and whole; after it everything works as before, and
 * what could not be started has left nothing.
 */
#ifndef TESTS_MEMORY_SWEEP_H
#define TESTS_MEMORY_SWEEP_H

/* As a cmocka group. Every @every-th allocation fails; of a start, which has many, the square of that. */
int memory_sweep_run(unsigned every);

/* Tests of it: memory_sweep_io.c. */
void memory_sweep_connect(void **state);
void memory_sweep_io(void **state);

#endif
