/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aio_status.c - find an image file's holes, by SEEK_DATA and SEEK_HOLE. A
 * block device does not report any: all of it is data.
 *
 * The file system answers from memory, or reads a little of its own metadata
 * first. But it also waits for a write that has the file locked, and for a file
 * server that does not answer, so a thread of the engine's looks. The number of
 * calls per request is bounded, because other requests for the file wait for
 * them. Writes that are in flight at the same time may be in the answer or not.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aio.h"

#define MAX_SEEKS 128
#define MAX_HINTS 8	/* looks in flight from which on a hint is not worth waiting for */

/*
 * From @offset to *@next the file is all data or all hole. No data up to the
 * end of the file: a hole, unless the file was truncated.
 */
static int next_extent(const struct image_file *file, uint64_t offset, uint64_t end, uint64_t *next, bool *hole)
{
	off_t found = lseek(file->fd, offset, SEEK_DATA);
	struct stat st;

	*next = end;
	*hole = false;
	if (found < 0 && errno == ENXIO) {
		*hole = true;
		return fstat(file->fd, &st) ? -errno : (uint64_t)st.st_size < end ? -EIO : 0;
	}
	if (found < 0)		/* the file system does not support it */
		return 0;
	*hole = (uint64_t)found > offset;
	if (!*hole)
		found = lseek(file->fd, offset, SEEK_HOLE);
	if (found > (off_t)offset && (uint64_t)found < end)
		*next = found;
	return 0;
}

/* A sector that is partly data counts as data. */
static uint64_t round_extent(const struct image_file *file, uint64_t next, uint64_t end, bool hole)
{
	uint64_t rest = next % file->sector_size;

	if (rest && hole)
		next -= rest;
	else if (rest)
		next += file->sector_size - rest;
	return next < end ? next : end;
}

/* In the thread: touches only what belongs to the request. */
static int file_status(const struct engine_io *io)
{
	const struct aio_request *r = io->owner;
	const struct image_file *file = r->disk->file;
	const struct block_request *req = r->req;
	uint64_t offset = req->sector << SECTOR_SHIFT, end = offset + (req->nr_sectors << SECTOR_SHIFT), next;
	unsigned seeks;
	bool hole;
	int ret;

	req->status->count = 0;		/* after EINTR it may not be the first time */
	req->status->nr_sectors = 0;
	for (seeks = 0; offset < end && seeks < MAX_SEEKS; seeks++) {
		ret = next_extent(file, offset, end, &next, &hole);
		if (ret)
			return ret;
		next = round_extent(file, next, end, hole);
		if (next <= offset) {		/* the sector begins with a hole, but has data */
			next = offset + file->sector_size;
			hole = false;
		}
		if (!block_status_add(req->status, (next - offset) >> SECTOR_SHIFT,
				      hole ? BLOCK_EXTENT_HOLE | BLOCK_EXTENT_ZERO : 0))
			break;
		offset = next;
	}
	return 0;
}

static void status_done(struct engine_io *io, int error)
{
	struct aio_request *r = io->owner;

	r->disk->looks--;
	aio_request_done(r, error);
}

static void status_queue(struct aio_disk *disk, struct block_request *req)
{
	struct aio_request *r = aio_request_get(disk, req);

	if (!r) {
		backend_done(req, -ENOMEM);
		return;
	}
	disk->looks++;
	r->io.call = file_status;
	aio_request_queue(r, &r->io, ENGINE_CALL, req->sector << SECTOR_SHIFT, req->nr_sectors << SECTOR_SHIFT, NULL, 0,
			  status_done);
}

void aio_status_submit(struct aio_disk *disk, struct block_request *req)
{
	if (req->status->since) {
		backend_done(req, -EOPNOTSUPP);
	} else if (disk->file->blkdev || (req->status->hint && disk->looks >= MAX_HINTS)) {
		block_status_add(req->status, req->nr_sectors, 0);
		backend_done(req, 0);
	} else {
		status_queue(disk, req);
	}
}
