/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_frontend.h - what a guest's blkfront wrote about its rings.
 *
 * Everything here comes from a guest that may be hostile: every number is
 * parsed strictly and bounded by what we advertised. Source of the nodes'
 * meaning: xen/io/blkif.h.
 */
#ifndef TAPBACK_FRONTEND_H
#define TAPBACK_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "error.h"
#include "protocol.h"
#include "tapback_xenstore.h"

/* enum xenbus_state of xen/io/xenbus.h, and XENBUS_GONE. */
enum xenbus {
	XENBUS_GONE = -1,		/* no such node */
	XENBUS_UNREADABLE = 0,		/* not one of the numbers below; also Xen's "unknown" */
	XENBUS_INITIALISING = 1,
	XENBUS_INIT_WAIT = 2,
	XENBUS_INITIALISED = 3,
	XENBUS_CONNECTED = 4,
	XENBUS_CLOSING = 5,
	XENBUS_CLOSED = 6,
};

struct frontend_ring {
	char protocol[16];		/* "" for native */
	bool persistent;
	unsigned nr_queues;		/* 0: none read */
	unsigned ring_pages;		/* per queue; a power of two */
	bool refs_known;		/* false: only the ports are known (an older tapdisk's list) */
	struct {
		uint32_t refs[1 << MAX_RING_PAGE_ORDER];
		uint32_t port;
	} queues[MAX_QUEUES];
};

/* "Connected", ... */
const char *xenbus_name(enum xenbus state);
/* The `state` node below @dir. Never fails: an invalid value is XENBUS_UNREADABLE. */
enum xenbus xenbus_read_state(struct xenstore *xenstore, const char *dir);

/*
 * Read the rings' parameters below @dir, in a transaction. -EINVAL, -ERANGE,
 * -ENOENT with a text that names the node, -EAGAIN: they change all the time;
 * *@ring is then empty.
 */
int frontend_read_ring(struct xenstore *xenstore, const char *dir, unsigned max_queues,
		       struct frontend_ring *ring, struct error_text *text);

/* The same shared pages and event channels? */
bool frontend_ring_same(const struct frontend_ring *a, const struct frontend_ring *b);

/* Members of the `connect` command; NULL when out of memory. */
json_t *frontend_ring_json(const struct frontend_ring *ring);
/* The reverse, from a connection in tapdisk's disk object. -EINVAL. */
int frontend_ring_from_json(const json_t *connection, struct frontend_ring *ring);

#endif
