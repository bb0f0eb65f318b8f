/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-delete.c - giving back what only a deleted version holds.
 *
 * Its map is walked in the order of disk blocks, next to its parent's and to
 * its only child's: what neither of them has is free. What it shares with
 * the parent, or with a child that has not changed since, is skipped whole,
 * so the cost is that of the difference.
 *
 * Invariants:
 * 1. One version is walked at a time, to its end.
 * 2. A record carries what a step freed together with the cursor after it.
 *    The child's map changes up to then stand in the log before it.
 * 3. The cursor stops before a leaf. Data at disk block b is settled when
 *    the cursor is behind b, a node when it is at or behind the node's end.
 *    What is settled is the child's, or the parent's; what is not, ours.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow-internal.h"

#define STEP_BLOCKS 4096u
#define STEP_NODES 256u

struct walk {
	struct cow_store *store;
	struct cow_version *version, *parent, *child;
	struct cow_map_element *changes;	/* the child's since its tree was written, by disk block */
	size_t nr_changes;
	struct cow_list freed;
	uint64_t cursor;
	unsigned nodes;
	bool stopped;
};

struct cow_version *cow_delete_next(const struct cow_store *store)
{
	struct cow_version *version, *found = NULL;

	for (version = store->versions; version; version = version->next) {
		if (!cow_version_gone(version))
			continue;
		if (version->cursor)
			return version;
		found = found ? found : version;
	}
	return found;
}

static bool has_settled_tree(const struct cow_version *version)
{
	return !version || (version->has_tree && !version->layer.count);
}

static bool child_changed(const struct walk *walk, uint64_t start, uint64_t end)
{
	size_t low = 0, high = walk->nr_changes, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (walk->changes[middle].block < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < walk->nr_changes && walk->changes[low].block < end;
}

static int mapped_at(struct walk *walk, const struct cow_version *version, uint64_t block, uint64_t *at)
{
	uint64_t entry = 0;
	int ret = version ? cow_map_find(walk->store, version, block, &entry) : 0;

	*at = cow_entry_block(entry);
	return ret;
}

static int walk_leaf(struct walk *walk, uint64_t start, const uint64_t *entry)
{
	uint64_t mine, parents, childs;
	unsigned i;
	int ret;

	for (i = 0; i < COW_LEAF_ENTRIES; i++) {
		mine = cow_entry_block(entry[i]);
		if (!mine)
			continue;
		ret = mapped_at(walk, walk->parent, start + i, &parents);
		if (!ret)
			ret = mapped_at(walk, walk->child, start + i, &childs);
		if (!ret && mine != parents && mine != childs)
			ret = cow_list_add(&walk->freed, mine);
		if (ret)
			return ret;
	}
	return 0;
}

static int walk_node(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref);

static int walk_children(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *child)
{
	unsigned i;
	int ret = 0;

	for (i = 0; i < COW_NODE_REFS && !ret && !walk->stopped; i++) {
		if (child[i].where)
			ret = walk_node(walk, level - 1, index * COW_NODE_REFS + i, &child[i]);
	}
	return ret;
}

static int walk_node(struct walk *walk, unsigned level, uint64_t index, const struct cow_ref *ref)
{
	uint64_t start = index * cow_span(level), end = start + cow_span(level), block = cow_entry_block(ref->where);
	uint64_t node[COW_LEAF_ENTRIES];
	struct cow_ref parents, childs;
	int ret;

	if (end <= walk->version->cursor)
		return 0;
	ret = cow_map_node(walk->store, walk->parent, level, index, &parents);
	if (!ret)
		ret = cow_map_node(walk->store, walk->child, level, index, &childs);
	/* cppcheck-suppress uninitStructMember; without an error both are there */
	if (ret || block == cow_entry_block(parents.where) ||
	    /* cppcheck-suppress uninitStructMember */
	    (block == cow_entry_block(childs.where) && !child_changed(walk, start, end)))
		return ret;
	if (level == 1 && (walk->freed.count >= STEP_BLOCKS || walk->nodes >= STEP_NODES)) {
		walk->stopped = true;
		walk->cursor = start;
		return 0;
	}
	walk->nodes++;
	ret = cow_node_get(walk->store, ref, level, node);
	if (!ret)
		ret = level == 1 ? walk_leaf(walk, start, node) :
			walk_children(walk, level, index, (const struct cow_ref *)node);
	if (!ret && !walk->stopped && block != cow_entry_block(childs.where))
		ret = cow_list_add(&walk->freed, block);
	return ret;
}

/* The record, and what it frees on hold until it is durable. */
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
	return ret ? ret : cow_flush(store);
}

static int walk_step(struct cow_store *store, struct cow_version *version)
{
	struct walk walk = { .store = store, .version = version, .parent = version->parent,
		.child = cow_version_child(store, version) };
	int ret = 0;

	walk.cursor = version->levels ? cow_span(version->levels) : 0;
	if (walk.child)
		ret = cow_layer_sorted(&walk.child->layer, version->cursor, &walk.changes, &walk.nr_changes);
	if (!ret && version->root.where)
		ret = walk_node(&walk, version->levels, 0, &version->root);
	if (!ret)
		ret = walk_record(&walk);
	free(walk.changes);
	cow_list_free(&walk.freed);
	return ret;
}

int cow_delete_step(struct cow_store *store)
{
	struct cow_version *version = cow_delete_next(store), *child;
	int ret;

	if (!version)
		return 0;
	ret = cow_checkpoint_if_due(store);
	child = cow_version_child(store, version);
	if (!ret && !(has_settled_tree(version) && has_settled_tree(version->parent) && (!child || child->has_tree)))
		ret = cow_checkpoint(store);
	if (!ret)
		ret = walk_step(store, version);
	return ret ? ret : cow_delete_next(store) != NULL;
}
