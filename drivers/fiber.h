/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fiber.h - a call that may stop in the middle and go on later: a function
 * with a stack of its own, on the thread that started it. The store's
 * library is written as plain calls that wait for their I/O; in a fiber they
 * wait without holding up the event loop.
 *
 * Threads: a fiber belongs to the thread that started it.
 */
#ifndef DRIVERS_FIBER_H
#define DRIVERS_FIBER_H

struct fiber;

/* Runs @run(@arg) until its end or its first fiber_yield(). The fiber frees itself at its end. -ENOMEM. */
int fiber_start(void (*run)(void *arg), void *arg);

/* The one that is running; NULL outside of any. */
struct fiber *fiber_current(void);

/* Back to whoever started or resumed it. */
void fiber_yield(void);

/* Go on with one that has yielded, until it yields again or ends. It may be called from another fiber. */
void fiber_resume(struct fiber *fiber);

#endif
