/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_delete.c - free the blocks that only a deleted version holds.
 *
 * Its map is walked in the order of disk blocks, together with its parent's
 * and its only child's: blocks that neither of them has are freed. Subtrees
 * shared with the parent, or with a child that has not changed there, are
 * skipped, so the cost is that of the difference.
 *
 * Invariants:
 * 1. One version is walked at a time, to its end.
 * 2. One record has the blocks that a step freed and the cursor after it.
 *    The child's map changes up to then are before it in the log.
 * 3. The cursor stops before a node. Data at disk block b is settled when
 *    the cursor is behind b, a node when it is at or behind the node's end.
 *    Settled blocks belong to the child or the parent, the others to us.
 * 4. A step looks at a limited number of the version's nodes, and all steps
 *    together at no more than the store has blocks: a crafted map may contain
 *    the same few again and again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define STEP_BLOCKS 4096u
#define STEP_NODES 256u

struct walk {
	struct cow_store *store;
	struct cow_version *version, *parent, *child;
	struct cow_list freed;
	uint64_t cursor;
	unsigned nodes, done;		/* nodes looked at; of these: done with all below */
	bool looks;				/* only load the nodes into the cache */
	bool stopped;
};

struct cow_version *cow_delete_next(struct cow_store *store)
{
	if (store->begun)
		return store->begun;
	while (store->gone_from && !cow_version_gone(store->gone_from))
		store->gone_from = store->gone_from->next;
	return store->gone_from;
}

static bool has_settled_tree(const struct cow_version *version)
{
	return !version || (version->has_tree && !version->layer.count);
}

/* True if the child has changed there since its tree was written. */
static bool child_changed(const struct walk *walk, unsigned level, uint64_t index)
{
	return walk->child && cow_layer_touches(&walk->child->layer, level, index);
}

/* The entries of the parent's or the child's leaf; all absent where there is none. */
static int leaf_of(struct walk *walk, const struct cow_ref *ref, uint64_t *entry)
{
	memset(entry, 0, COW_BLOCK);
	return ref->where ? cow_node_get(walk->store, ref, 1, entry) : 0;
}

static void apply_changes(const struct walk *walk, uint64_t start, uint64_t *entry)
{
	unsigned i;

	if (!child_changed(walk, 1, start / COW_LEAF_ENTRIES))
		return;
	for (i = 0; i < COW_LEAF_ENTRIES; i++)
		cow_layer_find(&walk->child->layer, start + i, &entry[i]);
}

static int walk_leaf(struct walk *walk, uint64_t start, const uint64_t *entry, const struct cow_ref *parent,
		     const struct cow_ref *child)
{
	uint64_t parents[COW_LEAF_ENTRIES], childs[COW_LEAF_ENTRIES], mine;
	unsigned i;
	int ret;

	if (walk->looks)
		return 0;
	ret = leaf_of(walk, parent, parents);
	if (!ret)
		ret = leaf_of(walk, child, childs);
	apply_changes(walk, start, childs);
	for (i = 0; !ret && i < COW_LEAF_ENTRIES; i++) {
		mine = cow_entry_block(entry[i]);
		if (mine && mine != cow_entry_block(parents[i]) && mine != cow_entry_block(childs[i]))
			ret = cow_list_add(&walk->freed, mine);
	}
	return ret;
}

/* The references below node @level, @index in another version's tree, which may have fewer levels. */
static int nodes_beneath(struct walk *walk, const struct cow_version *version, unsigned level, uint64_t index,
			 struct cow_ref *beneath)
{
	struct cow_ref ref;
	int ret;

	memset(beneath, 0, COW_BLOCK);
	version = cow_map_tree(version);
	if (!version)
		return 0;
	if (level == version->levels + 1 && !index)
		beneath[0] = version->root;
	ret = cow_map_node(walk->store, version, level, index, &ref);
	return ret || !ref.where ? ret : cow_node_get(walk->store, &ref, level, beneath);
}

/* True if the parent, or a child that has not changed there, has the same node, and so all below it. */
static bool walk_skips(const struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref,
		       const struct cow_ref *parent, const struct cow_ref *child)
{
	uint64_t end = (index + 1) * cow_span(level), block = cow_entry_block(ref->where);

	return !block || end <= walk->version->cursor || block == cow_entry_block(parent->where) ||
		(block == cow_entry_block(child->where) && !child_changed(walk, level, index));
}

/* Reads the nodes that the walk needs next, of all three trees. */
static void read_ahead(struct walk *walk, unsigned level, uint64_t index, unsigned from, const struct cow_ref *ref,
		       const struct cow_ref *parent, const struct cow_ref *child)
{
	struct cow_readahead readahead = { .count = 0 };
	bool room = true;
	unsigned i;

	for (i = from; room && i < COW_NODE_REFS; i++) {
		if (!walk_skips(walk, level, index + i, &ref[i], &parent[i], &child[i]))
			room = cow_readahead_add(&readahead, walk->store, &ref[i], level) &&
				cow_readahead_add(&readahead, walk->store, &parent[i], level) &&
				cow_readahead_add(&readahead, walk->store, &child[i], level);
	}
	cow_readahead_read(&readahead, walk->store);
}

static int walk_node(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref,
		     const struct cow_ref *parent, const struct cow_ref *child);

static int walk_children(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref)
{
	struct cow_ref parent[COW_NODE_REFS], child[COW_NODE_REFS];
	uint64_t first = index * COW_NODE_REFS;
	unsigned i;
	int ret;

	ret = nodes_beneath(walk, walk->parent, level, index, parent);
	if (!ret)
		ret = nodes_beneath(walk, walk->child, level, index, child);
	for (i = 0; i < COW_NODE_REFS && !ret && !walk->stopped; i++) {
		if (walk_skips(walk, level - 1, first + i, &ref[i], &parent[i], &child[i]))
			continue;
		if (!cow_cache_find(&walk->store->cache, &ref[i], level - 1))
			read_ahead(walk, level - 1, first, i, ref, parent, child);
		ret = walk_node(walk, level - 1, first + i, &ref[i], &parent[i], &child[i]);
	}
	return ret;
}

static int walk_node(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref,
		     const struct cow_ref *parent, const struct cow_ref *child)
{
	uint64_t start = index * cow_span(level), node[COW_LEAF_ENTRIES];
	int ret;

	if (walk_skips(walk, level, index, ref, parent, child))
		return 0;
	if (walk->nodes >= STEP_NODES || (level == 1 && walk->freed.count >= STEP_BLOCKS)) {
		walk->stopped = true;
		walk->cursor = start;
		return 0;
	}
	walk->nodes++;
	ret = cow_node_get(walk->store, ref, level, node);
	if (!ret)
		ret = level == 1 ? walk_leaf(walk, start, node, parent, child) :
			walk_children(walk, level, index, (const struct cow_ref *)node);
	if (ret || walk->stopped || walk->looks)
		return ret;
	if (++walk->done + walk->version->nodes_done > walk->store->store_blocks)
		return -EUCLEAN;
	return cow_entry_block(ref->where) == cow_entry_block(child->where) ? 0 :
		cow_list_add(&walk->freed, cow_entry_block(ref->where));
}

/* Adds the record, and puts the freed blocks on hold until it is durable. */
static int walk_record(struct walk *walk)
{
	struct cow_store *store = walk->store;
	size_t i, length = sizeof(struct cow_free_payload) + walk->freed.count * sizeof(uint64_t);
	struct cow_free_payload *payload = malloc(length);
	int ret;

	if (!payload)
		return -ENOMEM;
	*payload = (struct cow_free_payload){ walk->version->id, walk->stopped ? 0 : COW_FREE_DONE, walk->cursor };
	if (walk->freed.count)
		memcpy(payload + 1, walk->freed.item, walk->freed.count * sizeof(uint64_t));
	ret = cow_event_add(store, store->active, COW_RECORD_FREE, (uint32_t)walk->freed.count, payload, length);
	free(payload);
	for (i = 0; !ret && i < walk->freed.count; i++) {
		ret = cow_alloc_release(store, walk->freed.item[i]);
		if (ret)
			store->failed = -EIO;
	}
	return ret;
}

static int walk_tree(struct walk *walk)
{
	const struct cow_version *version = walk->version;
	struct cow_ref parent, child;
	int ret;

	if (!version->levels)
		return 0;
	ret = cow_map_node(walk->store, walk->parent, version->levels, 0, &parent);
	if (!ret)
		ret = cow_map_node(walk->store, walk->child, version->levels, 0, &child);
	return ret ? ret : walk_node(walk, version->levels, 0, &version->root, &parent, &child);
}

static int walk_run(struct walk *walk)
{
	const struct cow_version *version = walk->version;
	int ret;

	walk->cursor = version->levels ? cow_span(version->levels) : 0;
	ret = walk_tree(walk);
	if (!ret && !walk->looks)
		ret = walk_record(walk);
	if (!ret)
		walk->version->nodes_done += walk->done;
	cow_list_free(&walk->freed);
	return ret;
}

static struct walk walk_of(struct cow_store *store, bool looks)
{
	struct cow_version *version = cow_delete_next(store);

	return (struct walk){ .store = store, .version = version, .parent = version->parent,
		.child = cow_version_child(version), .looks = looks };
}

uint64_t cow_delete_left(const struct cow_store *store)
{
	const struct cow_version *version;
	uint64_t left = 0, at;

	for (version = store->gone_from; version; version = version->next) {
		at = version->cursor * COW_SECTORS;
		if (cow_version_gone(version) && at < version->sectors)
			left += (version->sectors - at) * SECTOR_SIZE;
	}
	return left;
}

bool cow_delete_ready(struct cow_store *store)
{
	const struct cow_version *version = cow_delete_next(store), *child = cow_version_child(version);

	return !cow_checkpoint_behind(store) && has_settled_tree(version) && has_settled_tree(version->parent) &&
		(!child || child->has_tree) && !cow_checkpoint_due(store);
}

void cow_delete_look(struct cow_store *store)
{
	struct walk walk = walk_of(store, true);

	walk_run(&walk);
}

int cow_delete_walk(struct cow_store *store)
{
	struct walk walk = walk_of(store, false);

	return walk_run(&walk);
}

int cow_delete_step(struct cow_store *store)
{
	int ret = 0;

	if (!cow_delete_next(store))
		return 0;
	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	if (!cow_delete_ready(store))
		ret = cow_checkpoint(store);
	if (!ret)
		ret = cow_delete_walk(store);
	if (!ret)
		ret = cow_flush(store);
	return ret ? ret : cow_delete_next(store) != NULL;
}
