/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * block.h - one block request on its way from a ring to a driver.
 *
 * A request is made by a front (a ring, the NBD server, a tool), goes down
 * through backend_submit() (driver.h) and comes back exactly once through
 * its done() call. The maker owns the request and everything it points to,
 * and keeps all of it unchanged until done() has been called.
 *
 * Threads: a request is submitted and completed on the thread that runs the
 * engine it ends in. done() may be called from inside backend_submit().
 */
#ifndef TAPSNAP_BLOCK_H
#define TAPSNAP_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* The unit of every address and length in a request, whatever the sector
 * size a disk shows its guest (xen/io/blkif.h, "sectors"). */
#define SECTOR_SHIFT 9
#define SECTOR_SIZE  (1u << SECTOR_SHIFT)

struct backend;

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,		/* every write completed before this was submitted is durable when it completes */
	BLOCK_DISCARD,		/* contents become undefined or zero; space may be given back */
	BLOCK_WRITE_ZEROES,	/* contents read as zero afterwards */
	BLOCK_STATUS,		/* what is known of contents without reading them: block_request.status */
	BLOCK_NR_OPS,
};

/* Flags of an extent, a part of a disk. */
#define BLOCK_EXTENT_HOLE	(1u << 0)	/* takes no space */
#define BLOCK_EXTENT_ZERO	(1u << 1)	/* reads as zeros */
#define BLOCK_EXTENT_CHANGED	(1u << 2)	/* differs, or may differ, from the snapshot */

struct block_extent {
	uint64_t nr_sectors;		/* 512-byte sectors; whole sectors of the disk */
	unsigned flags;
};

/*
 * The question of a STATUS request and its answer: consecutive extents from the
 * request's first sector on. They may end before the request does, so that no
 * answer takes long, but there is always at least one.
 */
struct block_status {
	bool hint;			/* an extent without flags that comes at once is better than a late answer */
	uint32_t since;			/* 0: report HOLE and ZERO; else the id of a snapshot in the
					 * store (driver.h): report CHANGED */
	struct block_extent *extents;	/* the maker's */
	unsigned room, count;		/* number of extents; count is 0 at first */
	uint64_t nr_sectors;		/* covered by the extents */
};

/* Zeroed before its first use; may be submitted again once done() was called. */
struct block_request {
	enum block_op op;
	uint64_t sector;		/* first 512-byte sector; 0 for a flush */
	uint64_t nr_sectors;		/* 512-byte sectors; 0 for a flush */
	const struct iovec *iov;	/* data, READ and WRITE only: exactly nr_sectors * 512 bytes, */
	int iovcnt;			/* each piece a multiple of 512 bytes at a 512-byte boundary; at most 1024 */
	struct block_status *status;	/* STATUS only */
	void (*done)(struct block_request *req, int error);	/* error: 0 or -errno */

	/* For the layer that has the request; free for other use in between. */
	void *owner;			/* the maker's */
	void *driver_data;		/* the driver's, from submit to done */
	struct backend *backend;	/* the backend that has the request, set by backend_submit(); NULL again in done() */
	struct block_request *next;	/* link of whatever queue holds it */

	/* For a layer between the maker and backend_submit(), such as tapdisk's vbd_submit(). */
	void *front;			/* the client of that layer that made the request; NULL: no such layer */
	int front_error;		/* while the layer holds the request back: its error, -errno; 0: not tried yet */

	/* The backend's, also while such a layer has the request, which may set it: it waits for room, or did before it was tried again. */
	bool had_no_room;
};

/* "read", "write", "flush", "discard", "write-zeroes", "status". */
const char *block_op_name(enum block_op op);

/* For drivers: append an extent to the answer, or extend the last one if its flags are equal. False: no room. */
bool block_status_add(struct block_status *status, uint64_t nr_sectors, unsigned flags);

#endif
