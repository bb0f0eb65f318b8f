/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-xenstore.h - a block device's nodes in xenstore, as a toolstack
 * writes and removes them.
 */
#ifndef TAPSNAP_TAP_CTL_XENSTORE_H
#define TAPSNAP_TAP_CTL_XENSTORE_H

#include <stdbool.h>
#include <xenstore.h>
#include <xen/io/xenbus.h>

#include "error.h"

struct xen_device {
	struct xs_handle *xs;
	unsigned domid, devid, backend_domid;
	const char *vdev;
	char *frontend, *backend, *libxl;	/* directories */
	bool libxl_knows;			/* this Xen's libxl knows the kind vbd3, and cleans up after a domain */
};

/* The number of @domain, which is a number or a name. */
int xen_find_domain(struct xs_handle *xs, const char *domain, unsigned *domid, struct error_text *text);

/* @domain: a number or a name. close is right after a failed open, too. */
int xen_device_open(struct xen_device *device, const char *domain, const char *vdev, struct error_text *text);
void xen_device_close(struct xen_device *device);

/* Write all nodes in one transaction. -EEXIST when there is such a device. */
int xen_device_add(struct xen_device *device, const char *target, bool read_only, struct error_text *text);
/* What the hotplug script writes: where the disk is served, and that it is. */
int xen_device_publish(struct xen_device *device, int pid, int minor, struct error_text *text);
/* Ask for the end: online 0, state Closing. */
int xen_device_close_backend(struct xen_device *device, struct error_text *text);
void xen_device_remove_frontend(struct xen_device *device);
/* Remove whatever is left of the device, and the domain's directory when it was the last. */
int xen_device_remove(struct xen_device *device, struct error_text *text);

/* 0, -ETIMEDOUT, -EINTR (interrupts_catch(), which it calls), -ENOENT (the node is gone); the text has the backend's own reason. */
int xen_device_wait_state(struct xen_device *device, enum xenbus_state state, int timeout_ms, struct error_text *text);
enum xenbus_state xen_device_state(const struct xen_device *device, const char *directory);

/* The backend's pid and minor; -ENOENT when it never got that far. */
int xen_device_tapdisk(const struct xen_device *device, int *pid, int *minor);
/* Another device, of any domain, is served by the same tapdisk and minor. */
bool xen_device_is_shared(const struct xen_device *device, int pid, int minor);

#endif
