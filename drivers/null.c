/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * null.c - the driver without storage: reads zeroes, drops writes, completes
 * every request immediately. "null:10G" is a disk of 10 GiB.
 *
 * The shortest driver and the one to read first; with it a benchmark measures
 * the ring and the event loop alone.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "size.h"

struct null_disk {
	struct driver_geometry geometry;
};

static int null_open(void **handle, struct engine *engine, const char *path,
		     const struct driver_options *options, struct error_text *error)
{
	unsigned sector_size = options->sector_size ? options->sector_size : 512;
	struct null_disk *disk;
	uint64_t bytes;

	if (size_parse(path, &bytes, error))
		return -EINVAL;
	if (!bytes || bytes % sector_size)
		return error_set(error, -EINVAL, "null:%s: the size must be a multiple of %u bytes and not 0",
				 path, sector_size);
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return error_set(error, -ENOMEM, "null:%s: out of memory", path);
	disk->geometry = (struct driver_geometry){
		.sectors = bytes >> SECTOR_SHIFT,
		.sector_size = sector_size,
		.physical_sector_size = sector_size,
		.read_only = options->read_only,
		.direct = true,
		.discard = true,
		.fast_zeroes = true,
		.discard_granularity = sector_size,
		.pages_stable = true,
	};
	*handle = disk;
	return 0;
}

static void null_close(void *handle)
{
	free(handle);
}

static void null_geometry(void *handle, struct driver_geometry *geometry)
{
	*geometry = ((struct null_disk *)handle)->geometry;
}

static void null_submit(void *handle, struct block_request *req)
{
	int i;

	if (req->op == BLOCK_READ) {
		for (i = 0; i < req->iovcnt; i++)
			memset(req->iov[i].iov_base, 0, req->iov[i].iov_len);
	}
	if (req->op == BLOCK_STATUS)
		block_status_add(req->status, req->nr_sectors, BLOCK_EXTENT_HOLE | BLOCK_EXTENT_ZERO);
	backend_done(req, 0);
}

const struct driver_ops driver_null = {
	.name = "null",
	.help = "SIZE: no storage: reads zeroes, drops writes (null:10G)",
	.open = null_open,
	.close = null_close,
	.geometry = null_geometry,
	.submit = null_submit,
};
