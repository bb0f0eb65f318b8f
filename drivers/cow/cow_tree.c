/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_tree.c - a checkpoint's trees: what the layers hold becomes nodes, in
 * fresh blocks, and the versions' new roots.
 *
 * Others may write to the disk meanwhile. The trees that are replaced are in
 * use until the checkpoint ends, so their nodes are only noted as free.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_tree.h"

#define GATHER_BLOCKS 64u
#define POOL_BLOCKS 64u

int cow_builder_init(struct cow_builder *builder, struct cow_store *store)
{
	unsigned level;

	*builder = (struct cow_builder){ .store = store, .gathered = aligned_alloc(COW_BLOCK, GATHER_BLOCKS * COW_BLOCK) };
	if (!builder->gathered)
		return -ENOMEM;
	for (level = 1; level <= COW_MAX_LEVELS; level++) {
		builder->node[level] = aligned_alloc(COW_BLOCK, COW_BLOCK);
		if (!builder->node[level])
			return -ENOMEM;
	}
	return 0;
}

void cow_builder_free(struct cow_builder *builder)
{
	unsigned level;

	for (level = 1; level <= COW_MAX_LEVELS; level++)
		free(builder->node[level]);
	free(builder->gathered);
	cow_list_free(&builder->allocated);
	cow_list_free(&builder->freed);
}

/* Lookups use them until the end, and need no blocks read for their bits then. */
static int builder_drop(struct cow_builder *builder, uint64_t block)
{
	int ret = cow_list_add(&builder->freed, block), error = 0;

	if (!ret)
		cow_alloc_is_used(builder->store, block, &error);
	return ret ? ret : error;
}

int cow_builder_release(struct cow_builder *builder)
{
	int ret = 0;

	for (; !ret && builder->released < builder->freed.count; builder->released++)
		ret = cow_alloc_release(builder->store, builder->freed.item[builder->released]);
	return ret;
}

static void pool_return(struct cow_builder *builder)
{
	cow_alloc_give_back(builder->store, builder->pool, builder->pool_count);
	builder->pool_count = 0;
}

/* As if nothing had been. What was both allocated and freed again ends as free. */
void cow_builder_undo(struct cow_builder *builder)
{
	size_t i;

	pool_return(builder);
	for (i = 0; i < builder->released; i++) {
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

static int gathered_write(struct cow_builder *builder)
{
	struct cow_store *store = builder->store;
	struct cow_device *device = store->device;
	unsigned count = builder->count;
	int ret = store->pause ? store->pause(store->retire_owner) : 0;

	builder->count = 0;
	if (ret || !count)
		return ret;
	return device->ops->write(device, builder->gathered, builder->first << COW_SHIFT, count * COW_BLOCK);
}

static int gather(struct cow_builder *builder, uint64_t block, const uint8_t *bytes)
{
	int ret = 0;

	if (builder->count == GATHER_BLOCKS || block != builder->first + builder->count)
		ret = gathered_write(builder);
	if (!builder->count)
		builder->first = block;
	memcpy(builder->gathered + builder->count++ * COW_BLOCK, bytes, COW_BLOCK);
	return ret;
}

/* Neighbours, for nodes that follow each other, while writes take what is next to them. */
static int builder_block(struct cow_builder *builder, uint64_t *block)
{
	int ret = 0;

	if (!builder->pool_count)
		ret = cow_alloc_run(builder->store, POOL_BLOCKS, false, &builder->pool, &builder->pool_count);
	if (!ret)
		ret = cow_list_add(&builder->allocated, builder->pool);
	if (ret)
		return ret;
	*block = builder->pool++;
	builder->pool_count--;
	return 0;
}

static int node_write(struct cow_builder *builder, unsigned level, const uint8_t *bytes, struct cow_ref *ref)
{
	struct cow_store *store = builder->store;
	uint64_t block = 0;
	int ret;

	*ref = (struct cow_ref){ 0 };
	if (all_zero(bytes))
		return 0;
	ret = builder_block(builder, &block);
	if (ret)
		return ret;
	ref->where = cow_entry(block, builder->version->generation);
	ref->crc = cow_crc(0, bytes, COW_BLOCK);
	cow_cache_insert(store, ref, level, bytes);
	return gather(builder, block, bytes);
}

/* The version has no use for this node any more. It may be its parent's, too. */
static int node_replaced(struct cow_builder *builder, const struct cow_ref *ref, unsigned level, uint64_t index)
{
	uint64_t end = (index + 1) * cow_span(level);

	if (!ref->where || !cow_map_exclusive(builder->version, cow_entry_birth(ref->where), end))
		return 0;
	return builder_drop(builder, cow_entry_block(ref->where));
}

static int node_begin(struct cow_builder *builder, unsigned level, const struct cow_ref *ref)
{
	if (ref->where)
		return cow_node_get(builder->store, ref, level, builder->node[level]);
	memset(builder->node[level], 0, COW_BLOCK);
	return 0;
}

/* Those of the children, from the next on that will change, that have to be read for it. */
static void children_read(struct cow_builder *builder, unsigned level, const struct cow_ref *child,
			  const struct cow_map_element *element, size_t count)
{
	struct cow_readahead readahead = { .count = 0 };
	uint64_t slot, before = UINT64_MAX;

	for (; count; element++, count--) {
		slot = element->block / cow_span(level - 1);
		if (slot != before && !cow_readahead_add(&readahead, builder->store, &child[slot % COW_NODE_REFS], level - 1))
			break;
		before = slot;
	}
	cow_readahead_read(&readahead, builder->store);
}

/* @ref: the node that stands at @level, @index now, and then the one in its place with the changes in it. */
static int node_build(struct cow_builder *builder, unsigned level, uint64_t index, struct cow_ref *ref,
		      const struct cow_map_element *element, size_t count)
{
	uint64_t *entry = (uint64_t *)builder->node[level], slot;
	struct cow_ref *child = (struct cow_ref *)builder->node[level], *here, old = *ref;
	size_t n;
	int ret;

	if (level == 1)
		builder->done += count;
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
static int tree_raise(struct cow_builder *builder, unsigned level, struct cow_ref *root)
{
	int ret;

	memset(builder->node[level], 0, COW_BLOCK);
	memcpy(builder->node[level], root, sizeof(*root));
	ret = node_write(builder, level, builder->node[level], root);
	return ret ? ret : gathered_write(builder);		/* it is read again at once */
}

/* What becomes a tree: of a layer on which changes come in meanwhile the part that stands still. */
static const struct cow_layer *layer_of(const struct cow_version *version)
{
	return version->layer.below ? version->layer.below : &version->layer;
}

static int tree_build(struct cow_builder *builder)
{
	struct cow_version *version = builder->version;
	const struct cow_layer *layer = layer_of(version);
	struct cow_map_element *elements;
	size_t count;
	unsigned levels;
	int ret;

	ret = cow_layer_sorted(layer, &elements, &count);
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
int cow_builder_trees(struct cow_builder *builder)
{
	struct cow_version *version;
	int ret;

	for (version = builder->store->versions; version; version = version->next)
		builder->changes += layer_of(version)->count;
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
	pool_return(builder);
	return 0;
}
