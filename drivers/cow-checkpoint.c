/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-checkpoint.c - turning the layers into trees, and switching the
 * superblocks to them.
 *
 * Everything is written to fresh blocks. Should it fail before the first
 * superblock is touched, all that was allocated is given back, all that was
 * freed is taken back, and the store is as before. What the old state used
 * and the new one does not stays on hold until both superblocks are durable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow-internal.h"

#define MAX_VERSIONS_WITH_LAYERS 64
#define MAX_DIRTY_PAGES 1024
#define GATHER_BLOCKS 64u

struct builder {
	struct cow_store *store;
	struct cow_version *version;
	struct cow_list allocated, freed;
	uint8_t *node[COW_MAX_LEVELS + 1];	/* one for each level of the path */
	/* Nodes of one version that go to neighbouring blocks are written together. Nothing reads them before its end. */
	uint8_t *gathered;
	uint64_t first;
	unsigned count;
};

static int builder_init(struct builder *builder, struct cow_store *store)
{
	unsigned level;

	*builder = (struct builder){ .store = store, .gathered = aligned_alloc(COW_BLOCK, GATHER_BLOCKS * COW_BLOCK) };
	if (!builder->gathered)
		return -ENOMEM;
	for (level = 1; level <= COW_MAX_LEVELS; level++) {
		builder->node[level] = aligned_alloc(COW_BLOCK, COW_BLOCK);
		if (!builder->node[level])
			return -ENOMEM;
	}
	return 0;
}

static void builder_free(struct builder *builder)
{
	unsigned level;

	for (level = 1; level <= COW_MAX_LEVELS; level++)
		free(builder->node[level]);
	free(builder->gathered);
	cow_list_free(&builder->allocated);
	cow_list_free(&builder->freed);
}

static int builder_release(struct builder *builder, uint64_t block)
{
	int ret = cow_list_add(&builder->freed, block);

	return ret ? ret : cow_alloc_release(builder->store, block);
}

/* As if nothing had been. What was both allocated and freed again ends as free. */
static void builder_undo(struct builder *builder)
{
	size_t i;

	for (i = 0; i < builder->freed.count; i++) {
		if (cow_alloc_mark(builder->store, builder->freed.item[i]))
			builder->store->failed = -EIO;
	}
	for (i = 0; i < builder->allocated.count; i++) {
		if (cow_alloc_release(builder->store, builder->allocated.item[i]))
			builder->store->failed = -EIO;
		cow_alloc_unhold(builder->store, builder->allocated.item[i]);
	}
}

static bool all_zero(const uint8_t *bytes)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, COW_BLOCK - 1);
}

static int gathered_write(struct builder *builder)
{
	struct cow_device *device = builder->store->device;
	unsigned count = builder->count;

	builder->count = 0;
	return count ? device->ops->write(device, builder->gathered, builder->first << COW_SHIFT, count * COW_BLOCK) : 0;
}

static int gather(struct builder *builder, uint64_t block, const uint8_t *bytes)
{
	int ret = 0;

	if (builder->count == GATHER_BLOCKS || block != builder->first + builder->count)
		ret = gathered_write(builder);
	if (!builder->count)
		builder->first = block;
	memcpy(builder->gathered + builder->count++ * COW_BLOCK, bytes, COW_BLOCK);
	return ret;
}

static int node_write(struct builder *builder, unsigned level, const uint8_t *bytes, struct cow_ref *ref)
{
	struct cow_store *store = builder->store;
	uint64_t block, got;
	int ret;

	*ref = (struct cow_ref){ 0 };
	if (all_zero(bytes))
		return 0;
	ret = cow_alloc_run(store, 1, false, &block, &got);
	if (ret)
		return ret;
	ret = cow_list_add(&builder->allocated, block);
	if (ret) {
		cow_alloc_release(store, block);
		cow_alloc_unhold(store, block);
		return ret;
	}
	ref->where = cow_entry(block, builder->version->generation);
	ref->crc = cow_crc(0, bytes, COW_BLOCK);
	ret = cow_cache_insert(store, ref, level, bytes);
	return ret ? ret : gather(builder, block, bytes);
}

/* The version has no use for this node any more. It may be its parent's, too. */
static int node_replaced(struct builder *builder, const struct cow_ref *ref, unsigned level, uint64_t index)
{
	uint64_t end = (index + 1) * cow_span(level);

	if (!ref->where || !cow_map_exclusive(builder->version, cow_entry_birth(ref->where), end))
		return 0;
	return builder_release(builder, cow_entry_block(ref->where));
}

static int node_begin(struct builder *builder, unsigned level, const struct cow_ref *ref)
{
	if (ref->where)
		return cow_node_get(builder->store, ref, level, builder->node[level]);
	memset(builder->node[level], 0, COW_BLOCK);
	return 0;
}

/* Those of the children, from the next on that will change, that have to be read for it. */
static void children_read(struct builder *builder, unsigned level, const struct cow_ref *child,
			  const struct cow_map_element *element, size_t count)
{
	struct cow_wanted wanted = { .count = 0 };
	uint64_t slot, before = UINT64_MAX;

	for (; count; element++, count--) {
		slot = element->block / cow_span(level - 1);
		if (slot != before && !cow_wanted_add(&wanted, builder->store, &child[slot % COW_NODE_REFS], level - 1))
			break;
		before = slot;
	}
	cow_wanted_read(&wanted, builder->store);
}

/* @ref: the node that stands at @level, @index now, and then the one in its place with the changes in it. */
static int node_build(struct builder *builder, unsigned level, uint64_t index, struct cow_ref *ref,
		      const struct cow_map_element *element, size_t count)
{
	uint64_t *entry = (uint64_t *)builder->node[level], slot;
	struct cow_ref *child = (struct cow_ref *)builder->node[level], *here, old = *ref;
	size_t n;
	int ret;

	ret = node_begin(builder, level, ref);
	for (; !ret && count; element += n, count -= n) {
		if (level == 1) {
			entry[element->block % COW_LEAF_ENTRIES] = element->entry;
			n = 1;
			continue;
		}
		slot = element->block / cow_span(level - 1);
		for (n = 1; n < count && element[n].block / cow_span(level - 1) == slot; n++)
			;
		here = &child[slot % COW_NODE_REFS];
		if (here->where && !cow_cache_find(&builder->store->cache, here, level - 1))
			children_read(builder, level, child, element, count);
		ret = node_build(builder, level - 1, slot, here, element, n);
	}
	if (!ret)
		ret = node_write(builder, level, builder->node[level], ref);
	return ret ? ret : node_replaced(builder, &old, level, index);
}

/* A disk that has grown needs a taller tree. */
static int tree_raise(struct builder *builder, unsigned level, struct cow_ref *root)
{
	int ret;

	memset(builder->node[level], 0, COW_BLOCK);
	memcpy(builder->node[level], root, sizeof(*root));
	ret = node_write(builder, level, builder->node[level], root);
	return ret ? ret : gathered_write(builder);		/* it is read again at once */
}

static int tree_build(struct builder *builder)
{
	struct cow_version *version = builder->version;
	struct cow_map_element *elements;
	size_t count;
	unsigned levels;
	int ret;

	ret = cow_layer_sorted(&version->layer, 0, &elements, &count);
	if (ret || !count)
		goto out;
	levels = cow_levels_for((elements[count - 1].block + 1) * COW_SECTORS);
	if (!version->new_root.where)
		version->new_levels = levels;
	while (!ret && version->new_levels < levels)
		ret = tree_raise(builder, ++version->new_levels, &version->new_root);
	if (!ret)
		ret = node_build(builder, version->new_levels, 0, &version->new_root, elements, count);
	if (!version->new_root.where)
		version->new_levels = 0;
out:
	free(elements);
	return ret;
}

/* From the oldest on: one without a tree of its own starts from its parent's new one. */
static int trees_build(struct builder *builder)
{
	struct cow_version *version;
	int ret;

	for (version = builder->store->versions; version; version = version->next) {
		version->new_root = (struct cow_ref){ 0 };
		version->new_levels = 0;
		if (version->has_tree) {
			version->new_root = version->root;
			version->new_levels = version->levels;
		} else if (version->parent) {
			version->new_root = version->parent->new_root;
			version->new_levels = version->parent->new_levels;
		}
		builder->version = version;
		ret = tree_build(builder);
		if (!ret)
			ret = gathered_write(builder);
		if (ret)
			return ret;
	}
	return 0;
}

static int table_build(struct builder *builder, struct cow_list *blocks, struct cow_ref *ref)
{
	struct cow_store *store = builder->store;
	size_t i;
	int ret;

	ret = cow_version_save(store, blocks, ref);
	for (i = 0; i < blocks->count; i++) {
		if (cow_list_add(&builder->allocated, blocks->item[i]))
			store->failed = ret = -ENOMEM;	/* cannot be undone */
	}
	for (i = 0; !ret && i < store->table_blocks.count; i++)
		ret = builder_release(builder, store->table_blocks.item[i]);
	return ret;
}

static void superblock_fill(const struct cow_store *store, struct cow_superblock *sb, uint32_t flags, uint64_t salt)
{
	*sb = store->sb;
	sb->salt = salt;
	sb->flags = flags;
	sb->store_blocks = store->store_blocks;
	sb->log_tail = store->log.head % store->log.size;
	sb->log_sequence = store->log.sequence;
	sb->log_chain = store->log.chain;
	sb->generation = store->generation;
	sb->active = store->active->id;
	sb->next_version = store->next_version;
	sb->versions_count = store->version_count;
	sb->bitmap_levels = cow_bitmap_levels(store->store_blocks);
}

static void checkpoint_finish(struct builder *builder, const struct cow_superblock *sb, struct cow_list *table)
{
	struct cow_store *store = builder->store;
	struct cow_version *version;
	size_t i;

	store->sb = *sb;
	store->others_valid = false;
	store->log.tail = store->log.head;
	store->log.salt = sb->salt;
	for (version = store->versions; version; version = version->next) {
		version->has_tree = true;
		version->root = version->new_root;
		version->levels = version->new_levels;
		cow_layer_free(&version->layer);
	}
	for (i = 0; i < builder->freed.count; i++)
		cow_alloc_unhold(store, builder->freed.item[i]);
	cow_list_free(&store->table_blocks);
	store->table_blocks = *table;
	*table = (struct cow_list){ 0 };
	cow_alloc_trim(&store->alloc);
}

/* The caller has flushed: the layers hold nothing that is not durable. */
int cow_checkpoint_write(struct cow_store *store, uint32_t flags, uint64_t salt)
{
	struct cow_superblock sb;
	struct cow_list table = { 0 };
	struct builder builder;
	int ret;

	ret = builder_init(&builder, store);
	if (!ret)
		ret = trees_build(&builder);
	superblock_fill(store, &sb, flags, salt);
	if (!ret)
		ret = table_build(&builder, &table, &sb.versions);
	if (!ret)
		ret = cow_bitmap_write(store, &builder.allocated, &builder.freed, &sb.bitmap);
	/* Blocks in the bitmap may have come from a file that grew while it was being made. */
	sb.store_blocks = store->store_blocks;
	sb.bitmap_levels = cow_bitmap_levels(store->store_blocks);
	if (ret) {
		builder_undo(&builder);
		goto out;
	}
	ret = store->device->ops->sync(store->device);
	if (!ret)
		ret = cow_superblock_write(store, &sb);
	if (ret)
		store->failed = -EIO;
	else
		checkpoint_finish(&builder, &sb, &table);
out:
	cow_list_free(&table);
	builder_free(&builder);
	return ret;
}

int cow_checkpoint(struct cow_store *store)
{
	int ret = cow_flush(store);

	return ret ? ret : cow_checkpoint_write(store, 0, store->log.salt);
}

bool cow_checkpoint_due(struct cow_store *store)
{
	cow_alloc_count_others(store);
	return store->others_entries + store->active->layer.count >= store->layer_entries ||
		store->others > MAX_VERSIONS_WITH_LAYERS || store->alloc.dirty_pages > MAX_DIRTY_PAGES ||
		cow_log_used(&store->log) > store->log.size / 2;
}

uint64_t cow_flush_bytes(const struct cow_store *store)
{
	return store->active->layer.dirty_count * sizeof(struct cow_map_element) + store->releases.count * sizeof(uint64_t);
}

int cow_checkpoint_if_due(struct cow_store *store)
{
	int ret = 0;

	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	if (cow_flush_bytes(store) > store->log.size / 8)
		ret = cow_flush(store);
	if (!ret && cow_checkpoint_due(store))
		ret = cow_checkpoint(store);
	return ret;
}
