/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * waiter.h - whoever waits for something to end: a drain, a close, a
 * disconnect. Several may wait for the same end.
 */
#ifndef TAPDISK_WAITER_H
#define TAPDISK_WAITER_H

struct waiter;

/* Call @done(@arg, error) when the list is woken, in the order of the calls. 0 or -ENOMEM. */
int waiter_add(struct waiter **list, void (*done)(void *arg, int error), void *arg);
/* All that are in the list now; it is empty before the first is called. A done() may free whatever the list was in. */
void waiter_wake_all(struct waiter **list, int error);

#endif
