/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * waiter.h - lists of callbacks that wait for an event: the end of a drain, a
 * close, a disconnect.
 */
#ifndef TAPDISK_WAITER_H
#define TAPDISK_WAITER_H

struct waiter;

/* Call @done(@arg, error) when the list is woken, in the order of the calls. 0 or -ENOMEM. */
int waiter_add(struct waiter **list, void (*done)(void *arg, int error), void *arg);
/* Call and free all waiters; *@list is empty before the first call, so done() may free the structure with the list. */
void waiter_wake_all(struct waiter **list, int error);

#endif
