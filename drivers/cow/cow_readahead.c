/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_readahead.c - map nodes that are needed next, read together.
 *
 * It only fills the cache: what cannot be read, or had to make room again,
 * is read once more by who needs it, and that one hears of the error.
 */
#include <stdlib.h>

#include "cow_internal.h"

/* No more at a time than can stay: the cache has to hold the paths to them as well. */
static unsigned readahead_most(const struct cow_store *store)
{
	return store->cache.limit / 4 < COW_READAHEAD_MAX ? (unsigned)(store->cache.limit / 4) : COW_READAHEAD_MAX;
}

bool cow_readahead_add(struct cow_readahead *readahead, struct cow_store *store, const struct cow_ref *ref, unsigned level)
{
	if (!ref->where || cow_cache_find(&store->cache, ref, level))
		return true;
	if (readahead->count >= readahead_most(store))
		return false;
	readahead->node[readahead->count++] = (struct cow_missing){ *ref, level };
	return true;
}

static int read_all(struct cow_store *store, const struct cow_read_part *part, unsigned count)
{
	struct cow_device *device = store->device;
	unsigned i;
	int ret = 0;

	if (device->ops->read_many)
		return device->ops->read_many(device, part, count);
	for (i = 0; !ret && i < count; i++)
		ret = device->ops->read(device, part[i].data, part[i].offset, part[i].length);
	return ret;
}

void cow_readahead_read(struct cow_readahead *readahead, struct cow_store *store)
{
	struct cow_read_part part[COW_READAHEAD_MAX];
	uint8_t *bytes;
	unsigned i;

	bytes = readahead->count > 1 ? aligned_alloc(COW_BLOCK, readahead->count * COW_BLOCK) : NULL;
	for (i = 0; bytes && i < readahead->count; i++)
		part[i] = (struct cow_read_part){ bytes + i * COW_BLOCK, cow_entry_block(readahead->node[i].ref.where) << COW_SHIFT,
			COW_BLOCK };
	if (bytes && !read_all(store, part, readahead->count)) {
		for (i = 0; i < readahead->count; i++)
			cow_node_accept(store, &readahead->node[i].ref, readahead->node[i].level, part[i].data);
	}
	free(bytes);
	readahead->count = 0;
}
