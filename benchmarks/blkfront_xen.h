/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_xen.h - the frontend of blkfront.h on real Xen: pages from
 * gntalloc, event channels, and the handshake in xenstore that a guest's
 * kernel does, also step by step for tests that break its rules.
 *
 * The frontend's nodes need not be where a kernel looks for devices: then a
 * process in dom0 can be the frontend of a disk there, unknown to blkfront in
 * dom0's kernel. The caller has written `backend`, and perhaps `backend-id`,
 * below the path in options.xen_frontend, and the domain is our own.
 *
 *   blkfront_connect()     waits for InitWait, then publish and finish
 *   blkfront_disconnect()  Closing; Closed after the backend's reaction; then frees
 *   blkfront_vanish()      frees, xenstore stays as it was
 */
#ifndef BLKFRONT_XEN_H
#define BLKFRONT_XEN_H

#include "blkfront.h"

/* enum xenbus_state of xen/io/xenbus.h */
enum blkfront_state {
	BLKFRONT_GONE,			/* no such node, or not a number */
	BLKFRONT_INITIALISING,
	BLKFRONT_INIT_WAIT,
	BLKFRONT_INITIALISED,
	BLKFRONT_CONNECTED,
	BLKFRONT_CLOSING,
	BLKFRONT_CLOSED,
};

/* For options.transport. */
extern const struct blkfront_transport blkfront_xen;

/* Set up our own side; no node is written. Errors as from blkfront_connect(). */
int blkfront_xen_prepare(struct blkfront **front, const struct blkfront_options *options, char *text, size_t size);
/* Replace all old nodes by the rings' nodes, in one transaction. */
int blkfront_xen_write_nodes(struct blkfront *front);
/* The same, then state Initialised. */
int blkfront_xen_publish(struct blkfront *front);
/* Wait until the backend is Connected, learn the geometry, become Connected. */
int blkfront_xen_finish(struct blkfront *front);

/* 0 or -errno. */
int blkfront_xen_set_state(struct blkfront *front, enum blkfront_state state);
enum blkfront_state blkfront_xen_backend_state(struct blkfront *front);
/* 0, -ETIMEDOUT. */
int blkfront_xen_wait_backend(struct blkfront *front, enum blkfront_state state, int timeout_ms);
/* Wait until the backend has written its state, with any value, since the last call. 0, -ETIMEDOUT. */
int blkfront_xen_wait_written(struct blkfront *front, int timeout_ms);
/* Read sectors, features and so on again. -ENOENT: a node is missing. */
int blkfront_xen_learn_geometry(struct blkfront *front);

/* The values in the nodes. */
uint32_t blkfront_xen_ring_ref(const struct blkfront *front, unsigned queue, unsigned page);
uint32_t blkfront_xen_port(const struct blkfront *front, unsigned queue);

#endif
