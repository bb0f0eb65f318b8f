/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-touched.c - under which nodes of a tree a layer has changes: a hash
 * table of those nodes, open addressing, at most half full.
 *
 * Invariant: with a node all above it are in it, up to the highest level.
 *
 * Who asks saves work by a no. So without memory for more it says yes to
 * everything from then on.
 */
#include <assert.h>
#include <stdlib.h>

#include "cow-internal.h"

#define FIRST_ROOM 64

static_assert(COW_MAX_BLOCKS / COW_LEAF_ENTRIES <= 1u << 31, "a leaf's number fits into 31 bits, all others' into 24");

/* Not 0. */
static uint32_t name_of(unsigned level, uint64_t index)
{
	return (level == 1 ? (uint32_t)index : 1u << 31 | level << 24 | (uint32_t)index) + 1;
}

/* Where it is, or would be. */
static size_t slot_for(const struct cow_touched *touched, uint32_t name)
{
	size_t i = (name * 0x9e3779b97f4a7c15ull) >> 20 & (touched->room - 1);

	while (touched->slot[i] && touched->slot[i] != name)
		i = (i + 1) & (touched->room - 1);
	return i;
}

static bool touched_grow(struct cow_touched *touched)
{
	struct cow_touched grown = { .room = touched->room ? 2 * touched->room : FIRST_ROOM, .count = touched->count };
	size_t i;

	grown.slot = calloc(grown.room, sizeof(*grown.slot));
	for (i = 0; grown.slot && i < touched->room; i++) {
		if (touched->slot[i])
			grown.slot[slot_for(&grown, touched->slot[i])] = touched->slot[i];
	}
	free(touched->slot);
	*touched = grown.slot ? grown : (struct cow_touched){ .all = true };
	return grown.slot != NULL;
}

void cow_touched_add(struct cow_touched *touched, uint64_t block)
{
	unsigned level;
	uint32_t name;
	size_t i;

	for (level = 1; !touched->all && level <= COW_MAX_LEVELS; level++) {
		if (2 * touched->count >= touched->room && !touched_grow(touched))
			return;
		name = name_of(level, block / cow_span(level));
		i = slot_for(touched, name);
		if (touched->slot[i])
			return;
		touched->slot[i] = name;
		touched->count++;
	}
}

bool cow_touched_has(const struct cow_touched *touched, unsigned level, uint64_t index)
{
	return touched->all || (touched->count && touched->slot[slot_for(touched, name_of(level, index))]);
}

void cow_touched_free(struct cow_touched *touched)
{
	free(touched->slot);
	*touched = (struct cow_touched){ 0 };
}
