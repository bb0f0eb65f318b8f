/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xen_disks.h - lists the disks that a domain can write, from the backends'
 * nodes in xenstore, which the domain cannot write.
 *
 * A snapshot of "all disks" must not miss one, so disks that other backends
 * serve are listed, too.
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
	int pid, minor;			/* -1: no tapdisk serves it (yet) */
};

/* Call @each for all disks of domain @domid, until it returns an error, which is returned. */
int xen_disks_each(struct xs_handle *xs, unsigned domid,
		   int (*each)(void *arg, const struct xen_disk *disk, struct error_text *text), void *arg, struct error_text *text);

/* The number of the domain that we run in. */
unsigned xen_own_domid(struct xs_handle *xs);
/* A node's value; the caller frees it. NULL: no such node. */
char *xen_read_value(struct xs_handle *xs, const char *directory, const char *name);
/* -1: not a number in 0..@max. */
int xen_read_number(struct xs_handle *xs, const char *directory, const char *name, int max);

#endif
