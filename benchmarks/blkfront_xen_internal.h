/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_xen_internal.h - shared by the two files of the frontend on Xen: pages
 * and signals (blkfront_xen.c), the handshake in xenstore (blkfront_xenbus.c).
 */
#ifndef BLKFRONT_XEN_INTERNAL_H
#define BLKFRONT_XEN_INTERNAL_H

#include "blkfront_internal.h"
#include "blkfront_xen.h"

struct blkfront_xen {
	struct xengntdev_handle *grants;
	struct xs_handle *xs;		/* watches the backend's state */
	char *backend;			/* its path */
	unsigned backend_domid;
};

/* Find the backend and watch its state. */
int blkfront_xenbus_open(struct blkfront *front, struct error_text *text);
void blkfront_xenbus_close(struct blkfront *front);
int blkfront_xenbus_connect(struct blkfront *front, struct error_text *text);
void blkfront_xenbus_disconnect(struct blkfront *front);
int blkfront_xenbus_fd(struct blkfront *front);
bool blkfront_xenbus_is_alive(struct blkfront *front);

#endif
