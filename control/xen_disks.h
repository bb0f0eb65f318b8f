/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xen_disks.h - the disks that a domain can write, by the backends' nodes in
 * xenstore, which the domain cannot write.
 *
 * A snapshot of "all disks" that leaves one out is none: those that somebody
 * else serves are told, too.
 */
#ifndef TAPSNAP_XEN_DISKS_H
#define TAPSNAP_XEN_DISKS_H

#include <stdbool.h>
#include <xenstore.h>

#include "driver.h"

struct xen_disk {
	struct xs_handle *xs;
	const char *backend;		/* its directory */
	bool ours;			/* of the kind that tapdisks serve */
	int pid, minor;			/* -1: nobody serves it yet, or somebody else */
};

/* Call @each for all of domain @domid, until it returns an error, which is returned. */
int xen_disks_each(struct xs_handle *xs, unsigned domid,
		   int (*each)(void *arg, const struct xen_disk *disk, struct error_text *text), void *arg, struct error_text *text);

/* The domain that we run in. */
unsigned xen_own_domid(struct xs_handle *xs);
/* A node's value, the caller's; NULL when there is none. */
char *xen_read_value(struct xs_handle *xs, const char *directory, const char *name);
/* -1 when it is no number in 0..@max. */
int xen_read_number(struct xs_handle *xs, const char *directory, const char *name, int max);

#endif
