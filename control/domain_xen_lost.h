/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_lost.h - detects that xenstored has died.
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
	void (*give_up)(void *owner);	/* called repeatedly on the thread once xenstored is lost, or after bark */
	void *owner;
};

/* Fails if xenstored is gone already. Call stop also after a failure. */
int xen_watchdog_start(struct xen_watchdog *watchdog, void (*give_up)(void *owner), void *owner, struct error_text *text);
void xen_watchdog_stop(struct xen_watchdog *watchdog);
/* Make the thread call give_up() from now on. From any thread; does not wait. */
void xen_watchdog_bark(struct xen_watchdog *watchdog);
bool xen_lost(const struct xen_watchdog *watchdog);
/*
 * The same after a failure that may be due to its death. A dying process closes its connections one after the other, so
 * this sends xenstored a request, unless it is known to be lost.
 */
bool xen_lost_now(struct xen_watchdog *watchdog);

#endif
