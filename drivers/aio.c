/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aio.c - the raw driver: the bytes of a file or block device are the bytes
 * of the disk, whatever they look like.
 *
 * Invariants:
 *  1. A request that the device accepts unchanged becomes one engine_io on the
 *     caller's own iovecs. No allocation: requests come from a free list
 *     that grows to the largest number in flight.
 *  2. After a flush has failed every later one fails, until the image is
 *     opened again: the kernel reports a lost write only once, and the lost
 *     data does not come back.
 */
#include <errno.h>
#include <stdlib.h>

#include "aio.h"

static int aio_open(void **handle, struct engine *engine, const char *path,
		    const struct driver_options *options, struct error_text *error)
{
	struct aio_disk *disk = calloc(1, sizeof(*disk));
	int ret;

	if (!disk)
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	disk->engine = engine;
	ret = file_open(&disk->file, path, options, error);
	if (ret) {
		free(disk);
		return ret;
	}
	*handle = disk;
	return 0;
}

static void aio_close(void *handle)
{
	struct aio_disk *disk = handle;
	struct aio_request *r;

	while ((r = disk->free)) {
		disk->free = r->next;
		free(r);
	}
	file_close(disk->file);
	free(disk);
}

static void aio_geometry(void *handle, struct driver_geometry *geometry)
{
	const struct image_file *file = ((struct aio_disk *)handle)->file;
	unsigned physical = file->physical_sector_size;

	/* A guest would treat a size that does not divide the disk as an error. */
	if (physical < file->sector_size || file->size % physical)
		physical = file->sector_size;
	*geometry = (struct driver_geometry){
		.sectors = file->size >> SECTOR_SHIFT,
		.sector_size = file->sector_size,
		.physical_sector_size = physical,
		.read_only = file->read_only,
		.direct = file->direct,
		.discard = file->discard,
		.discard_granularity = file->discard_granularity,
		.discard_alignment = file->discard_alignment,
		.fast_zeroes = file->fast_zeroes,
		.pages_stable = file->pages_stable,
	};
}

struct aio_request *aio_request_get(struct aio_disk *disk, struct block_request *req)
{
	struct aio_request *r = disk->free;

	if (r) {
		disk->free = r->next;
	} else {
		r = calloc(1, sizeof(*r));
		if (!r)
			return NULL;
		r->disk = disk;
	}
	r->req = req;
	return r;
}

void aio_request_done(struct aio_request *r, int error)
{
	struct block_request *req = r->req;

	r->next = r->disk->free;
	r->disk->free = r;
	backend_done(req, error);
}

void aio_request_queue(struct aio_request *r, struct engine_io *io, enum engine_op op, uint64_t offset,
		       uint64_t length, const struct iovec *iov, int iovcnt,
		       void (*done)(struct engine_io *io, int error))
{
	io->op = op;
	io->fd = r->disk->file->fd;
	io->blkdev = r->disk->file->blkdev;
	io->may_block = r->disk->file->may_block;
	io->offset = offset;
	io->length = length;
	io->iov = iov;
	io->iovcnt = iovcnt;
	io->done = done;
	io->owner = r;
	engine_queue(r->disk->engine, io);
}

static void aio_done(struct engine_io *io, int error)
{
	aio_request_done(io->owner, error);
}

static void aio_flush_done(struct engine_io *io, int error)
{
	struct aio_request *r = io->owner;

	if (error && !r->disk->flush_error)
		r->disk->flush_error = error;
	/* A flush in flight when another failed may not have covered the lost write. */
	aio_request_done(r, r->disk->flush_error);
}

static void aio_start(struct aio_request *r, enum engine_op op)
{
	const struct block_request *req = r->req;

	aio_request_queue(r, &r->io, op, req->sector << SECTOR_SHIFT, req->nr_sectors << SECTOR_SHIFT,
			  req->iov, req->iovcnt, aio_done);
}

static void aio_start_flush(struct aio_request *r)
{
	/* Nothing was written through a read-only disk. */
	if (r->disk->flush_error || r->disk->file->read_only)
		aio_request_done(r, r->disk->flush_error);
	else
		aio_request_queue(r, &r->io, ENGINE_SYNC, 0, 0, NULL, 0, aio_flush_done);
}

/* Only whole units can be freed; the rest keeps its contents, which a discard allows. */
static void aio_start_discard(struct aio_request *r)
{
	uint64_t unit = r->disk->file->unit;
	uint64_t start = r->req->sector << SECTOR_SHIFT;
	uint64_t end = start + (r->req->nr_sectors << SECTOR_SHIFT);

	start = (start + unit - 1) / unit * unit;	/* no overflow: inside the disk, whose size is a multiple */
	end = end / unit * unit;
	if (start >= end)
		aio_request_done(r, 0);
	else
		aio_request_queue(r, &r->io, ENGINE_DISCARD, start, end - start, NULL, 0, aio_done);
}

static void aio_submit(void *handle, struct block_request *req)
{
	struct aio_disk *disk = handle;
	bool any_sector = disk->file->unit == SECTOR_SIZE && disk->file->memory_align == SECTOR_SIZE;
	struct aio_request *r;

	if (req->op == BLOCK_STATUS) {
		aio_status_submit(disk, req);
		return;
	}
	if (!any_sector && req->op != BLOCK_FLUSH && req->op != BLOCK_DISCARD) {
		aio_unaligned_submit(disk, req);
		return;
	}
	r = aio_request_get(disk, req);
	if (!r) {
		backend_done(req, -ENOMEM);
		return;
	}
	switch (req->op) {
	case BLOCK_READ:
		aio_start(r, ENGINE_READ);
		break;
	case BLOCK_WRITE:
		aio_start(r, ENGINE_WRITE);
		break;
	case BLOCK_WRITE_ZEROES:
		aio_start(r, ENGINE_ZERO);
		break;
	case BLOCK_DISCARD:
		aio_start_discard(r);
		break;
	default:
		aio_start_flush(r);
		break;
	}
}

static int aio_refresh_size(void *handle, struct error_text *error)
{
	return file_refresh_size(((struct aio_disk *)handle)->file, error);
}

const struct driver_ops driver_aio = {
	.name = "aio",
	.help = "PATH: a raw image file or block device",
	.open = aio_open,
	.close = aio_close,
	.geometry = aio_geometry,
	.submit = aio_submit,
	.refresh_size = aio_refresh_size,
};
