/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_dirty_nodes.c - under which nodes of a tree a layer has changes: a hash
 * table of those nodes, open addressing, at most half full.
 *
 * Invariant: with a node all above it are in it, up to the highest level.
 *
 * Who asks saves work by a no. So without memory for more it says yes to
 * everything from then on.
 */
#include <assert.h>
#include <stdlib.h>

#include "cow_internal.h"

#define FIRST_ROOM 64

static_assert(COW_MAX_BLOCKS / COW_LEAF_ENTRIES <= 1u << 31, "a leaf's number fits into 31 bits, all others' into 24");

/* Not 0. */
static uint32_t name_of(unsigned level, uint64_t index)
{
	return (level == 1 ? (uint32_t)index : 1u << 31 | level << 24 | (uint32_t)index) + 1;
}

/* Where it is, or would be. */
static size_t slot_for(const struct cow_dirty_nodes *dirty, uint32_t name)
{
	size_t i = (name * 0x9e3779b97f4a7c15ull) >> 20 & (dirty->room - 1);

	while (dirty->slot[i] && dirty->slot[i] != name)
		i = (i + 1) & (dirty->room - 1);
	return i;
}

static bool dirty_nodes_grow(struct cow_dirty_nodes *dirty)
{
	struct cow_dirty_nodes grown = { .room = dirty->room ? 2 * dirty->room : FIRST_ROOM, .count = dirty->count };
	size_t i;

	grown.slot = calloc(grown.room, sizeof(*grown.slot));
	for (i = 0; grown.slot && i < dirty->room; i++) {
		if (dirty->slot[i])
			grown.slot[slot_for(&grown, dirty->slot[i])] = dirty->slot[i];
	}
	free(dirty->slot);
	*dirty = grown.slot ? grown : (struct cow_dirty_nodes){ .all = true };
	return grown.slot != NULL;
}

void cow_dirty_nodes_add(struct cow_dirty_nodes *dirty, uint64_t block)
{
	unsigned level;
	uint32_t name;
	size_t i;

	for (level = 1; !dirty->all && level <= COW_MAX_LEVELS; level++) {
		if (2 * dirty->count >= dirty->room && !dirty_nodes_grow(dirty))
			return;
		name = name_of(level, block / cow_span(level));
		i = slot_for(dirty, name);
		if (dirty->slot[i])
			return;
		dirty->slot[i] = name;
		dirty->count++;
	}
}

bool cow_dirty_nodes_has(const struct cow_dirty_nodes *dirty, unsigned level, uint64_t index)
{
	return dirty->all || (dirty->count && dirty->slot[slot_for(dirty, name_of(level, index))]);
}

void cow_dirty_nodes_free(struct cow_dirty_nodes *dirty)
{
	free(dirty->slot);
	*dirty = (struct cow_dirty_nodes){ 0 };
}
