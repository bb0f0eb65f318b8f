/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_lost.h - notices that xenstored has gone.
 */
#ifndef TAPSNAP_DOMAIN_XEN_LOST_H
#define TAPSNAP_DOMAIN_XEN_LOST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "error.h"

struct xen_watchdog {
	int fd, event;			/* -1: none */
	bool started;
	atomic_bool over, told, lost;
	pthread_t thread;
	void (*give_up)(void *owner);	/* on the thread, every now and then from when it is lost, or from bark on */
	void *owner;
};

/* An error is that xenstored is gone already. stop is right after a failure, too. */
int xen_watchdog_start(struct xen_watchdog *watchdog, void (*give_up)(void *owner), void *owner, struct error_text *text);
void xen_watchdog_stop(struct xen_watchdog *watchdog);
/* From any thread; does not wait. */
void xen_watchdog_bark(struct xen_watchdog *watchdog);
bool xen_lost(const struct xen_watchdog *watchdog);
/*
 * The same once something has failed, or was not found, which may be because of it: the connections of a process that
 * dies end one after the other. So it is asked something, unless it is known already.
 */
bool xen_lost_now(struct xen_watchdog *watchdog);

#endif
