/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* waiter.c - lists of callbacks that wait for an event (waiter.h). */
#include "waiter.h"

#include <errno.h>
#include <stdlib.h>

struct waiter {
	struct waiter *next;
	void (*done)(void *arg, int error);
	void *arg;
};

int waiter_add(struct waiter **list, void (*done)(void *arg, int error), void *arg)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return -ENOMEM;
	waiter->done = done;
	waiter->arg = arg;
	while (*list)
		list = &(*list)->next;
	*list = waiter;
	return 0;
}

void waiter_wake_all(struct waiter **list, int error)
{
	struct waiter *waiters = *list, *waiter;

	*list = NULL;
	while ((waiter = waiters)) {
		waiters = waiter->next;
		waiter->done(waiter->arg, error);
		free(waiter);
	}
}
