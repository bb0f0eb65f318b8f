/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_frontend.h - a frontend's rings at a disk: what a connection is made
 * of, how it begins and how it ends. blkif.h has the connection itself.
 */
#ifndef TAPDISK_BLKIF_FRONTEND_H
#define TAPDISK_BLKIF_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

struct error_text;
struct vbd;

/* A frontend's parameters, out of the `connect` command. */
struct blkif_params {
	bool shm;				/* the stand-in transport */
	uint32_t domid, devid;
	const char *protocol;			/* "x86_64-abi", ..., NULL: native */
	bool persistent, direct_io_safe, read_only;
	bool take_over;				/* the frontend goes on with rings that a tapdisk which died had */
	unsigned nr_queues, ring_pages;		/* ring_pages: per queue, a power of two */
	struct {
		uint32_t refs[1 << MAX_RING_PAGE_ORDER];
		uint32_t port;
	} queues[MAX_QUEUES];
	int fds[PROTOCOL_MAX_FDS];		/* shm only; taken over whether it works or not */
	unsigned nr_fds;
};

int blkif_connect(struct vbd *vbd, const struct blkif_params *params, struct error_text *text);
/* Drain that frontend's requests, unmap, unbind, then done(arg, 0). -ENOENT when there is no such frontend. Several
 * may wait for the same end. @done may be NULL. */
int blkif_disconnect(struct vbd *vbd, uint32_t domid, uint32_t devid,
		     void (*done)(void *arg, int error), void *arg, struct error_text *text);

#endif
