/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_run.c - how far a disk goes on as it is at a block, and how far two
 * versions of it are the same: for an event loop, from nodes in memory.
 *
 * Two versions have the same at a block exactly if they map the same store
 * block, born at the same time: the place of a block that a snapshot holds is
 * not written again while there is the snapshot. So subtrees that they share
 * are the same all over, and are not looked into.
 */
#include <errno.h>

#include "cow_internal.h"

static enum cow_run_kind kind_of(uint64_t entry)
{
	return !entry ? COW_RUN_ABSENT : cow_entry_block(entry) ? COW_RUN_STORED : COW_RUN_ZERO;
}

/* NULL: there is nothing in it, and no level. */
static const struct cow_version *tree_of(const struct cow_version *version)
{
	const struct cow_version *tree = cow_map_tree(version);

	return tree && tree->root.where ? tree : NULL;
}

static uint64_t rest_of(unsigned level, uint64_t block)
{
	return cow_span(level) - block % cow_span(level);
}

/* The reference to the node of @level that has @block, or none. @at: the level at which there was no more. */
static int node_reference(struct cow_store *store, const struct cow_version *tree, unsigned level, uint64_t block,
			  struct cow_ref *ref, unsigned *at, struct cow_missing *missing)
{
	const union cow_node *node;

	*ref = tree ? tree->root : (struct cow_ref){ 0 };
	*at = tree ? tree->levels : level;
	if (tree && block >= cow_span(tree->levels)) {
		*ref = (struct cow_ref){ 0 };
		*at = COW_MAX_LEVELS;
	}
	for (; ref->where && *at > level; (*at)--) {
		node = cow_cache_find(&store->cache, ref, *at);
		if (!node) {
			*missing = (struct cow_missing){ *ref, *at };
			return -EAGAIN;
		}
		*ref = node->ref[block / cow_span(*at - 1) % COW_NODE_REFS];
	}
	return 0;
}

static int leaf_run(struct cow_store *store, const struct cow_ref *ref, uint64_t block, enum cow_run_kind *kind,
		    uint64_t *count, struct cow_missing *missing)
{
	const union cow_node *node = cow_cache_find(&store->cache, ref, 1);
	unsigned i = block % COW_LEAF_ENTRIES, first = i;

	if (!node) {
		*missing = (struct cow_missing){ *ref, 1 };
		return -EAGAIN;
	}
	*kind = kind_of(node->entry[i]);
	while (i < COW_LEAF_ENTRIES && kind_of(node->entry[i]) == *kind)
		i++;
	*count = i - first;
	return 0;
}

static int tree_run(struct cow_store *store, const struct cow_version *tree, uint64_t block, enum cow_run_kind *kind,
		    uint64_t *count, struct cow_missing *missing)
{
	struct cow_ref ref;
	unsigned at;
	int ret = node_reference(store, tree, 1, block, &ref, &at, missing);

	if (ret)
		return ret;
	if (ref.where)
		return leaf_run(store, &ref, block, kind, count, missing);
	*kind = COW_RUN_ABSENT;
	*count = tree ? rest_of(at, block) : UINT64_MAX;
	return 0;
}

/* Shortens *@count to where a layer above the tree of @version has something; 0: at @block already. */
static void run_clip(const struct cow_version *version, uint64_t block, uint64_t *count)
{
	for (; version && *count; version = version->parent) {
		*count = cow_layer_next(&version->layer, block, block + *count) - block;
		if (version->has_tree)
			break;
	}
}

int cow_map_run(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		enum cow_run_kind *kind, uint64_t *count, struct cow_missing *missing)
{
	uint64_t entry;
	int ret = tree_run(store, tree_of(version), block, kind, count, missing);

	if (ret)
		return ret;
	if (*count > end - block)
		*count = end - block;
	run_clip(version, block, count);
	if (*count)
		return 0;
	ret = cow_map_lookup(store, version, block, &entry, missing);
	*kind = kind_of(entry);
	*count = 1;
	return ret;
}

/* From @block on for *@count blocks the trees are one; 0: not, or not known to be. */
static int trees_same(struct cow_store *store, const struct cow_version *a, const struct cow_version *b, uint64_t block,
		      uint64_t *count, struct cow_missing *missing)
{
	unsigned level = !a || (b && b->levels < a->levels) ? (b ? b->levels : 1) : a->levels, at;
	struct cow_ref ref_a, ref_b;
	int ret;

	*count = UINT64_MAX;
	if (a == b)
		return 0;
	for (; level; level--) {
		ret = node_reference(store, a, level, block, &ref_a, &at, missing);
		if (!ret)
			ret = node_reference(store, b, level, block, &ref_b, &at, missing);
		if (ret)
			return ret;
		*count = rest_of(level, block);
		if (ref_a.where == ref_b.where && ref_a.crc == ref_b.crc)
			return 0;
	}
	*count = 0;
	return 0;
}

int cow_map_compare(struct cow_store *store, const struct cow_version *a, const struct cow_version *b, uint64_t block,
		    uint64_t end, bool *same, uint64_t *count, struct cow_missing *missing)
{
	uint64_t entry_a, entry_b;
	int ret = trees_same(store, tree_of(a), tree_of(b), block, count, missing);

	*same = true;
	if (ret)
		return ret;
	if (*count > end - block)
		*count = end - block;
	run_clip(a, block, count);
	run_clip(b, block, count);
	if (*count)
		return 0;
	ret = cow_map_lookup(store, a, block, &entry_a, missing);
	if (!ret)
		ret = cow_map_lookup(store, b, block, &entry_b, missing);
	*same = !ret && entry_a == entry_b;	/* cppcheck-suppress legacyUninitvar; without an error both are there */
	*count = 1;
	return ret;
}
