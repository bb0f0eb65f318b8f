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
	BLOCK_NR_OPS,
};

/* Zeroed before its first use; may be submitted again once done() was called. */
struct block_request {
	enum block_op op;
	uint64_t sector;		/* first 512-byte sector; 0 for a flush */
	uint64_t nr_sectors;		/* 512-byte sectors; 0 for a flush */
	const struct iovec *iov;	/* data, READ and WRITE only: exactly nr_sectors * 512 bytes, */
	int iovcnt;			/* each piece a multiple of 512 bytes at a 512-byte boundary; at most 1024 */
	void (*done)(struct block_request *req, int error);	/* error: 0 or -errno */

	/* For the layer that has the request, free in between. */
	void *owner;			/* the maker's */
	void *driver_data;		/* the driver's, from submit to done */
	struct backend *backend;	/* set by backend_submit(): whose request this is; NULL again in done() */
	struct block_request *next;	/* link of whatever queue holds it */
};

/* "read", "write", "flush", "discard", "write-zeroes". */
const char *block_op_name(enum block_op op);

#endif
