/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_frontend.h - connect a frontend's rings to a disk, and disconnect
 * them. blkif.h has the connection itself.
 */
#ifndef TAPDISK_BLKIF_FRONTEND_H
#define TAPDISK_BLKIF_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

struct error_text;
struct vbd;

/* A frontend's parameters, from the `connect` command. */
struct blkif_params {
	bool shm;				/* the stand-in transport */
	uint32_t domid, devid;
	const char *protocol;			/* "x86_64-abi", ..., NULL: native */
	bool persistent, direct_io_safe, read_only;
	bool take_over;				/* continue rings that a dead tapdisk served */
	unsigned nr_queues, ring_pages;		/* ring_pages: per queue, a power of two */
	struct {
		uint32_t refs[1 << MAX_RING_PAGE_ORDER];
		uint32_t port;
	} queues[MAX_QUEUES];
	int fds[PROTOCOL_MAX_FDS];		/* shm only; blkif_connect() takes ownership, on failure too */
	unsigned nr_fds;
};

int blkif_connect(struct vbd *vbd, const struct blkif_params *params, struct error_text *text);
/* Drain that frontend's requests, unmap, unbind, then call done(arg, 0); @done may be NULL. -ENOENT: not connected.
 * Several callers may wait for the same disconnect. */
int blkif_disconnect(struct vbd *vbd, uint32_t domid, uint32_t devid,
		     void (*done)(void *arg, int error), void *arg, struct error_text *text);

#endif
