/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_extent.c - which parts of a disk are alike, without a look at each of
 * its blocks: what no tree has is passed over a subtree at a time.
 */
#include <errno.h>
#include <string.h>

#include "cow_internal.h"

/* Where the node's first entry at or behind @block is, or where the node ends. @level and @bytes: the node. */
static uint64_t node_next(const void *bytes, unsigned level, uint64_t block, bool *found)
{
	const struct cow_ref *ref = bytes;
	const uint64_t *entry = bytes;
	uint64_t start = block / cow_span(level) * cow_span(level), each = level == 1 ? 1 : cow_span(level - 1);
	unsigned i = (unsigned)((block - start) / each), count = level == 1 ? COW_LEAF_ENTRIES : COW_NODE_REFS;

	while (i < count && !(level == 1 ? entry[i] : ref[i].where))
		i++;
	*found = i < count;
	return start + i * each > block ? start + i * each : block;
}

static int tree_next(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		     uint64_t *next)
{
	uint64_t bytes[COW_LEAF_ENTRIES];
	struct cow_ref ref;
	unsigned level;
	bool found;
	int ret;

	while (block < end && version->root.where && block < cow_span(version->levels)) {
		ref = version->root;
		for (level = version->levels;; level--) {
			ret = cow_node_get(store, &ref, level, bytes);
			if (ret)
				return ret;
			block = node_next(bytes, level, block, &found);
			if (!found || level == 1)
				break;
			ref = ((struct cow_ref *)bytes)[block / cow_span(level - 1) % COW_NODE_REFS];
		}
		if (found) {
			*next = block < end ? block : end;
			return 0;
		}
	}
	*next = end;
	return 0;
}

/* A layer has no order: it is asked block by block for a while, then looked through. */
uint64_t cow_layer_next(const struct cow_layer *layer, uint64_t block, uint64_t end)
{
	uint64_t entry, asked = end - block < layer->room ? end : block + layer->room;
	size_t i;

	if (layer->below)
		end = cow_layer_next(layer->below, block, end);
	if (!layer->count)
		return end;
	for (; block < asked && block < end; block++) {
		if (cow_layer_find(layer, block, &entry))
			return block;
	}
	for (i = 0; block < end && i < layer->room; i++) {
		if (layer->slot[i].block > block && layer->slot[i].block <= end)
			end = layer->slot[i].block - 1;
	}
	return end;
}

int cow_map_next(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		 uint64_t *next)
{
	const struct cow_version *tree = cow_map_tree(version);
	int ret = 0;

	*next = end;
	if (tree)
		ret = tree_next(store, tree, block, end, next);
	for (; !ret && version && *next > block; version = version->parent) {
		*next = cow_layer_next(&version->layer, block, *next);
		if (version == tree)
			break;
	}
	return ret;
}

static enum cow_extent_kind kind_of(const struct cow_store *store, const struct cow_version *version, uint64_t block,
				    uint64_t entry)
{
	if (cow_entry_block(entry))
		return COW_EXTENT_DATA;
	return !entry && cow_map_shows_base(store, version, block) ? COW_EXTENT_BASE : COW_EXTENT_ZERO;
}

/* How many blocks from @block on are as that one is, absent: up to the next entry or to the base's end. */
static int absent_run(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		      uint64_t *n)
{
	uint64_t base = cow_blocks_for(cow_base_sectors(store, version)), next;
	int ret;

	if (block < base && base < end)
		end = base;
	ret = cow_map_next(store, version, block + 1, end, &next);
	*n = next - block;
	return ret;
}

int cow_version_extent(struct cow_store *store, const struct cow_version *version, uint64_t sector, uint64_t max,
		       struct cow_extent *extent)
{
	uint64_t start = sector / COW_SECTORS, end, block, entry, first, n = 1;
	int ret;

	if (sector % COW_SECTORS || sector >= version->sectors)
		return -EINVAL;
	max = max < version->sectors - sector ? max : version->sectors - sector;
	end = cow_blocks_for(sector + max);
	ret = cow_map_find(store, version, start, &first);
	if (ret)
		return ret;
	extent->kind = kind_of(store, version, start, first);
	extent->offset = cow_entry_block(first) << COW_SHIFT;
	for (block = start, entry = first; block < end; block += n) {
		if (block > start)
			ret = cow_map_find(store, version, block, &entry);
		if (ret)
			return ret;
		if (kind_of(store, version, block, entry) != extent->kind ||
		    (cow_entry_block(entry) && cow_entry_block(entry) != cow_entry_block(first) + (block - start)))
			break;
		n = 1;
		ret = entry ? 0 : absent_run(store, version, block, end, &n);
		if (ret)
			return ret;
	}
	extent->sector = sector;
	n = (block - start) * COW_SECTORS;
	extent->nr_sectors = n < max ? n : max;
	return 0;
}

int cow_extent_find(struct cow_store *store, uint64_t sector, struct cow_extent *extent)
{
	return cow_version_extent(store, store->active, sector, UINT64_MAX, extent);
}

static int view_of(const struct cow_store *store, const struct cow_version *version, struct cow_view *view)
{
	if (!version || version->deleted || version->decision[0])
		return -ENOENT;
	*view = (struct cow_view){ version->id, version->sectors, version->time };
	return 0;
}

int cow_view_find(const struct cow_store *store, const char *name, struct cow_view *view)
{
	return view_of(store, name ? cow_version_by_name(store, name) : store->active, view);
}

int cow_view_find_id(const struct cow_store *store, uint32_t id, struct cow_view *view)
{
	return view_of(store, cow_version_find(store, id), view);
}

/* What lies behind the end of what the base shows are zeros. */
static int base_zero(const struct cow_store *store, const struct cow_version *version, uint64_t sector,
		     uint64_t *nr_sectors, bool *zero)
{
	uint64_t shown = cow_base_sectors(store, version);

	*zero = sector >= shown;
	if (*zero)
		return 0;
	if (*nr_sectors > shown - sector)
		*nr_sectors = shown - sector;
	return store->base.zero ? store->base.zero(store->base.owner, sector, nr_sectors, zero) : 0;
}

int cow_view_zero(struct cow_store *store, const struct cow_view *view, uint64_t sector, uint64_t *nr_sectors,
		  bool *zero)
{
	const struct cow_version *version = cow_version_find(store, view->id);
	uint64_t skip = sector % COW_SECTORS;
	struct cow_extent extent;
	int ret;

	if (!version || *nr_sectors > UINT64_MAX - COW_SECTORS)
		return version ? -EINVAL : -ENOENT;
	ret = cow_version_extent(store, version, sector - skip, *nr_sectors + skip, &extent);
	if (ret)
		return ret;
	if (*nr_sectors > extent.nr_sectors - skip)
		*nr_sectors = extent.nr_sectors - skip;
	*zero = extent.kind == COW_EXTENT_ZERO;
	return extent.kind == COW_EXTENT_BASE ? base_zero(store, version, sector, nr_sectors, zero) : 0;
}
