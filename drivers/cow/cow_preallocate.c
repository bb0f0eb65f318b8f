/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_preallocate.c - giving a new disk all its blocks at once, in the order
 * of the disk: a large sequential layout, and no map changes later on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "cow_internal.h"

#define ZEROS_BYTES (1u << 20)

static int write_zeros(struct cow_device *device, uint64_t offset, uint64_t length)
{
	void *zeros = aligned_alloc(COW_BLOCK, ZEROS_BYTES);
	uint64_t n;
	int ret = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, ZEROS_BYTES);
	for (; !ret && length; offset += n, length -= n) {
		n = length < ZEROS_BYTES ? length : ZEROS_BYTES;
		ret = device->ops->write(device, zeros, offset, n);
	}
	free(zeros);
	return ret;
}

/* What a file has never held is a hole, and needs nothing. */
static int make_zero(struct cow_device *device, uint64_t offset, uint64_t length)
{
	uint64_t n;
	bool hole;
	int ret = 0;

	for (; !ret && length; offset += n, length -= n) {
		n = length;
		hole = false;
		if (device->ops->hole)
			ret = device->ops->hole(device, offset, &n, &hole);
		if (!ret && !hole)
			ret = cow_device_zero(device, offset, n);
	}
	return ret;
}

/* Of what the log has room for in any case: then a flush comes first, and a checkpoint. */
static uint64_t step_blocks(const struct cow_store *store, uint64_t left)
{
	uint64_t most = store->log.size / 8 / sizeof(struct cow_map_element);

	most = most < COW_PAGE_BITS ? most : COW_PAGE_BITS;
	return left < most ? left : most;
}

int cow_preallocate_step(struct cow_store *store, uint64_t block, bool full, uint64_t *count)
{
	struct cow_device *device = store->device;
	uint64_t place, i, left = cow_blocks_for(store->active->sectors) - block;
	int ret;

	ret = cow_checkpoint_if_due(store);
	if (!ret)
		ret = cow_alloc_run(store, step_blocks(store, left), true, &place, count);
	if (ret)
		return ret;
	ret = cow_layer_reserve(&store->active->layer, *count);
	if (!ret && full)
		ret = write_zeros(device, place << COW_SHIFT, *count << COW_SHIFT);
	else if (!ret)
		ret = make_zero(device, place << COW_SHIFT, *count << COW_SHIFT);
	if (ret) {
		cow_alloc_return(store, place, *count);
		return ret;
	}
	for (i = 0; i < *count; i++)
		cow_layer_set(&store->active->layer, block + i, cow_entry(place + i, store->generation), true);
	cow_journal_map(store, block, cow_entry(place, store->generation), *count);
	return 0;
}
