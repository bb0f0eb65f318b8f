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
	bool libxl_knows;			/* this Xen's libxl knows the kind vbd3, and removes its nodes with a domain */
};

/* *@domid: the number of @domain, which is a number or a name. */
int xen_find_domain(struct xs_handle *xs, const char *domain, unsigned *domid, struct error_text *text);

/* @domain: a number or a name. Call close also after a failed open. */
int xen_device_open(struct xen_device *device, const char *domain, const char *vdev, struct error_text *text);
void xen_device_close(struct xen_device *device);

/* Write all nodes in one transaction. -EEXIST: the device exists. */
int xen_device_add(struct xen_device *device, const char *target, bool read_only, struct error_text *text);
/* Write the hotplug script's nodes: which tapdisk serves the disk, and that it is ready. */
int xen_device_publish(struct xen_device *device, int pid, int minor, struct error_text *text);
/* Ask the backend to close: online 0, state Closing. */
int xen_device_close_backend(struct xen_device *device, struct error_text *text);
void xen_device_remove_frontend(struct xen_device *device);
/* Remove all nodes of the device, and the domain's directory if it was the last one. */
int xen_device_remove(struct xen_device *device, struct error_text *text);

/* 0, -ETIMEDOUT, -EINTR (it calls interrupts_catch()), -ENOENT (the node is gone); @text includes the backend's error. */
int xen_device_wait_state(struct xen_device *device, enum xenbus_state state, int timeout_ms, struct error_text *text);
enum xenbus_state xen_device_state(const struct xen_device *device, const char *directory);

/* The backend's pid and minor; -ENOENT: they were never written. */
int xen_device_tapdisk(const struct xen_device *device, int *pid, int *minor);
/* Does the same tapdisk and minor serve another device, of any domain? */
bool xen_device_is_shared(const struct xen_device *device, int pid, int minor);

#endif
