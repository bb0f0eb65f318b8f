/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_map.c - what a version has at a disk block, and whose it is.
 *
 * A lookup never waits: it answers, or says which node has to be loaded
 * first (-EAGAIN), so that an event loop can use it as well.
 *
 * Whose a block is needs no counts. Something born in generation g that V
 * maps is also held by V's nearest ancestor E exactly if g is not later than
 * E's last generation: E was there when V began with all that E had.
 */
#include <errno.h>

#include "cow_internal.h"

uint64_t cow_blocks_for(uint64_t sectors)
{
	return sectors / COW_SECTORS + !!(sectors % COW_SECTORS);
}

unsigned cow_levels_for(uint64_t sectors)
{
	uint64_t blocks = cow_blocks_for(sectors);
	unsigned level = 1;

	while (level < COW_MAX_LEVELS && cow_span(level) < blocks)
		level++;
	return level;
}

bool cow_entry_valid(const struct cow_store *store, uint64_t entry, uint32_t max_birth)
{
	uint64_t block = cow_entry_block(entry);

	if (!entry)
		return true;
	if (!cow_entry_birth(entry) || cow_entry_birth(entry) > max_birth)
		return false;
	return !block || (block >= store->pool_start && block < store->store_blocks);
}

const struct cow_version *cow_map_tree(const struct cow_version *version)
{
	while (version && !version->has_tree)
		version = version->parent;
	return version;
}

/* Where @version's own tree has the entry; NULL: it has none there. */
static int tree_lookup(struct cow_store *store, const struct cow_version *version, uint64_t block, const uint64_t **entry,
		       struct cow_missing *missing)
{
	struct cow_ref ref = version->root;
	unsigned level = version->levels;
	const union cow_node *node;

	*entry = NULL;
	if (!ref.where || block >= cow_span(level))
		return 0;
	node = cow_cache_shortcut(&store->cache, &ref, block / COW_LEAF_ENTRIES);
	if (node) {
		*entry = &node->entry[block % COW_LEAF_ENTRIES];
		return 0;
	}
	for (;; level--) {
		node = cow_cache_find(&store->cache, &ref, level);
		if (!node) {
			*missing = (struct cow_missing){ ref, level };
			return -EAGAIN;
		}
		if (level == 1)
			break;
		ref = node->ref[block / cow_span(level - 1) % COW_NODE_REFS];
		if (!ref.where)
			return 0;
	}
	*entry = &node->entry[block % COW_LEAF_ENTRIES];
	if (version == cow_map_tree(store->active))
		cow_cache_remember(&store->cache, &version->root, block / COW_LEAF_ENTRIES, node);
	return 0;
}

int cow_map_lookup(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry,
		   struct cow_missing *missing)
{
	const uint64_t *found = NULL;
	int ret = 0;

	for (; version; version = version->parent) {
		if (cow_layer_find(&version->layer, block, entry))
			return 0;
		if (version->has_tree) {
			ret = tree_lookup(store, version, block, &found, missing);
			break;
		}
	}
	*entry = found ? *found : 0;
	return ret;
}

void cow_map_prefetch(struct cow_store *store, const struct cow_version *version, uint64_t block)
{
	const struct cow_version *tree = cow_map_tree(version);
	struct cow_missing missing;
	const uint64_t *entry;

	cow_layer_prefetch(&version->layer, block);
	if (tree && tree_lookup(store, tree, block, &entry, &missing) == 0)
		__builtin_prefetch(entry);
}

int cow_map_find(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry)
{
	struct cow_missing missing;
	int ret;

	while ((ret = cow_map_lookup(store, version, block, entry, &missing)) == -EAGAIN) {
		ret = cow_node_load(store, &missing.ref, missing.level, NULL);
		if (ret)
			return ret;
	}
	return ret;
}

uint64_t cow_base_sectors(const struct cow_store *store, const struct cow_version *version)
{
	return version->base_shows < store->sb.base.sectors ? version->base_shows : store->sb.base.sectors;
}

bool cow_map_shows_base(const struct cow_store *store, const struct cow_version *version, uint64_t block)
{
	return block < cow_blocks_for(cow_base_sectors(store, version));
}

int cow_map_node(struct cow_store *store, const struct cow_version *version, unsigned level, uint64_t index,
		 struct cow_ref *ref)
{
	struct cow_ref node[COW_NODE_REFS];
	unsigned at;
	int ret;

	*ref = (struct cow_ref){ 0 };
	version = cow_map_tree(version);
	if (!version || level > version->levels || index >= cow_span(version->levels) / cow_span(level))
		return 0;
	*ref = version->root;
	for (at = version->levels; ref->where && at > level; at--) {
		ret = cow_node_get(store, ref, at, node);
		if (ret)
			return ret;
		*ref = node[index / (cow_span(at - 1) / cow_span(level)) % COW_NODE_REFS];
	}
	return 0;
}

uint32_t cow_map_shared_until(const struct cow_store *store)
{
	const struct cow_version *version = store->active->parent;

	while (version && cow_version_gone(version))
		version = version->parent;
	return version ? version->generation : 0;
}

/*
 * An ancestor whose deletion has passed @end has already left what we hold
 * to us. One whose deletion has still to come there will free it itself,
 * should we have let go of it by then.
 */
bool cow_map_exclusive(const struct cow_version *version, uint32_t birth, uint64_t end)
{
	const struct cow_version *ancestor = version->parent;

	while (ancestor && ancestor->deleted && ancestor->cursor >= end)
		ancestor = ancestor->parent;
	return !ancestor || birth > ancestor->generation;
}
