/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aio.h - shared by the parts of the aio driver: aio.c (open, and requests
 * that the device accepts unchanged), aio_unaligned.c (the others) and
 * aio_status.c (where a file has holes).
 */
#ifndef DRIVERS_AIO_H
#define DRIVERS_AIO_H

#include "file.h"

struct aio_disk {
	struct image_file *file;
	struct engine *engine;
	unsigned looks;			/* STATUS requests in flight */
	int flush_error;		/* of the first flush that failed; later ones fail with it too */
	struct aio_request *free;

	/* aio_unaligned.c: writes and zeroing; the waiting list is in order of arrival */
	struct aio_request *active, *waiting, **last_waiting;
};

struct aio_request {
	struct engine_io io;
	struct aio_disk *disk;
	struct block_request *req;
	struct aio_request *next;	/* free, active or waiting list */

	/* aio_unaligned.c only; all in bytes of the disk */
	uint64_t from, to;		/* the request */
	uint64_t start, end;		/* the whole units that overlap it */
	struct aio_request **link;	/* active: the pointer to this request */
	unsigned conflicts;		/* waiting: number of earlier requests in conflict with it */
	bool exclusive;			/* read-modify-write: no other request may write to these units meanwhile */
	char *buffer;			/* NULL, or room for start..end; for zeroing, one unit */
	uint64_t position;		/* zeroing: start of the next step */
	uint64_t window_from, window_to;	/* the current read-modify-write */
	struct engine_io tail;		/* its second read */
	struct iovec iov, tail_iov;
	unsigned pending;		/* reads in flight */
	int error;
};

/* NULL when out of memory. */
struct aio_request *aio_request_get(struct aio_disk *disk, struct block_request *req);
/* End @r: frees it, and completes its block request. */
void aio_request_done(struct aio_request *r, int error);
/* Start one operation of @r. */
void aio_request_queue(struct aio_request *r, struct engine_io *io, enum engine_op op, uint64_t offset,
		       uint64_t length, const struct iovec *iov, int iovcnt,
		       void (*done)(struct engine_io *io, int error));

/* READ, WRITE and WRITE_ZEROES on a device that does not accept every 512-byte request. */
void aio_unaligned_submit(struct aio_disk *disk, struct block_request *req);

/* STATUS. */
void aio_status_submit(struct aio_disk *disk, struct block_request *req);

#endif
