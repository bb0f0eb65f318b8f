/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fiber.h - a function that can stop in the middle and continue later: it
 * has a stack of its own, on the thread that started it. The store's
 * library is written as plain calls that wait for their I/O; in a fiber they
 * wait without blocking the event loop.
 *
 * Threads: a fiber belongs to the thread that started it.
 */
#ifndef DRIVERS_FIBER_H
#define DRIVERS_FIBER_H

struct fiber;

/* Runs @run(@arg) until its end or its first fiber_yield(). The fiber frees itself at its end. -ENOMEM. */
int fiber_start(void (*run)(void *arg), void *arg);

/* The running fiber; NULL outside of fibers. */
struct fiber *fiber_current(void);

/* Return to the caller that started or resumed the fiber. */
void fiber_yield(void);

/* Continue a fiber that has yielded, until it yields again or ends. May be called from another fiber. */
void fiber_resume(struct fiber *fiber);

#endif
