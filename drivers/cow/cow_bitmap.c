/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_bitmap.c - the bitmap's part of a checkpoint.
 *
 * Where the new pages go, and the old ones go from, changes the bitmap once
 * more. So first every page and node that will change gets its block, again
 * and again until no other page has become dirty by that; only then are they
 * written, with the contents that they have at the end. Only when all are
 * does memory refer to them: a file system that is full undoes it all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define GATHER_BLOCKS 64u

/* New references, by level and index; level 1 are the pages. None: stays where it is. */
struct plan {
	struct cow_store *store;
	struct cow_list *allocated, *freed;
	struct cow_ref *fresh[COW_BITMAP_MAX_LEVELS + 1];
	size_t count[COW_BITMAP_MAX_LEVELS + 1];
	unsigned levels;
	uint8_t *gathered;		/* neighbours, to be written together */
	uint64_t first;
	unsigned gathering;
};

static size_t level_count(const struct cow_alloc *alloc, unsigned level)
{
	return level == 1 ? alloc->pages : alloc->nodes[level];
}

static struct cow_ref *level_ref(struct cow_alloc *alloc, unsigned level, size_t index)
{
	return level == 1 ? &alloc->page[index].ref : &alloc->node[level][index];
}

/* A file may grow, and the bitmap with it, while the plan is being made. */
static int plan_fit(struct plan *plan)
{
	struct cow_alloc *alloc = &plan->store->alloc;
	struct cow_ref *grown;
	unsigned level;

	plan->levels = alloc->levels;
	for (level = 1; level <= plan->levels; level++) {
		grown = reallocarray(plan->fresh[level], level_count(alloc, level), sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		memset(grown + plan->count[level], 0,
		       (level_count(alloc, level) - plan->count[level]) * sizeof(*grown));
		plan->fresh[level] = grown;
		plan->count[level] = level_count(alloc, level);
	}
	return 0;
}

static int plan_one(struct plan *plan, unsigned level, size_t index)
{
	struct cow_store *store = plan->store;
	uint64_t block, got, old = cow_entry_block(level_ref(&store->alloc, level, index)->where);
	int ret;

	ret = cow_alloc_run(store, 1, false, &block, &got);
	if (ret)
		return ret;
	ret = cow_list_add(plan->allocated, block);
	if (ret) {
		cow_alloc_release(store, block);
		cow_alloc_unhold(store, block);
		return ret;
	}
	ret = plan_fit(plan);
	if (ret)
		return ret;
	plan->fresh[level][index].where = cow_entry(block, store->generation);
	if (!old)
		return 0;
	ret = cow_list_add(plan->freed, old);
	return ret ? ret : cow_alloc_release(store, old);
}

/* A store that has grown has more clear bits in what was its last page: the page is as it was, its reference is not. */
static bool page_recounted(const struct cow_page *page)
{
	return page->ref.where && page->ref.extra != page->clear;
}

static bool child_moves(const struct plan *plan, unsigned level, size_t index)
{
	size_t i, at;

	for (i = 0; i < COW_NODE_REFS; i++) {
		at = index * COW_NODE_REFS + i;
		if (at >= plan->count[level - 1])
			break;
		if (plan->fresh[level - 1][at].where || (level == 2 && page_recounted(&plan->store->alloc.page[at])))
			return true;
	}
	return false;
}

/* One round: 1 when it found something to move, 0 when all has its place. */
static int plan_round(struct plan *plan)
{
	struct cow_alloc *alloc = &plan->store->alloc;
	unsigned level;
	size_t i;
	int ret, found = 0;

	for (level = 1; level <= alloc->levels; level++) {
		for (i = 0; i < level_count(alloc, level); i++) {
			if (plan->fresh[level][i].where ||
			    !(level == 1 ? alloc->page[i].dirty : child_moves(plan, level, i)))
				continue;
			ret = plan_one(plan, level, i);
			if (ret)
				return ret;
			found = 1;
		}
	}
	return found;
}

static uint32_t add_clear(uint32_t a, uint32_t b)
{
	uint32_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT32_MAX : sum;
}

/* The references beneath node @index of @level, as the node is on the store. */
static void node_fill(struct plan *plan, unsigned level, size_t index, struct cow_ref *refs, uint32_t *clear)
{
	size_t i, at;

	memset(refs, 0, COW_BLOCK);
	*clear = 0;
	for (i = 0; i < COW_NODE_REFS; i++) {
		at = index * COW_NODE_REFS + i;
		if (at >= plan->count[level - 1])
			break;
		refs[i] = plan->fresh[level - 1][at];
		if (!refs[i].where)
			refs[i] = *level_ref(&plan->store->alloc, level - 1, at);
		if (!refs[i].where)
			refs[i] = (struct cow_ref){ 0 };
		else if (level == 2)
			refs[i].extra = plan->store->alloc.page[at].clear;
		*clear = add_clear(*clear, refs[i].extra);
	}
}

static int gathered_write(struct plan *plan)
{
	struct cow_device *device = plan->store->device;
	unsigned count = plan->gathering;

	plan->gathering = 0;
	return count ? device->ops->write(device, plan->gathered, plan->first << COW_SHIFT, count * COW_BLOCK) : 0;
}

static int plan_write_one(struct plan *plan, unsigned level, size_t index)
{
	struct cow_ref *ref = &plan->fresh[level][index];
	uint64_t block = cow_entry_block(ref->where);
	uint8_t *bytes;
	int ret = 0;

	if (plan->gathering == GATHER_BLOCKS || block != plan->first + plan->gathering)
		ret = gathered_write(plan);
	if (ret)
		return ret;
	if (!plan->gathering)
		plan->first = block;
	bytes = plan->gathered + (size_t)plan->gathering++ * COW_BLOCK;
	if (level == 1) {
		cow_set_store(&plan->store->alloc.page[index].bits, bytes);
		ref->extra = plan->store->alloc.page[index].clear;
	} else {
		node_fill(plan, level, index, (struct cow_ref *)bytes, &ref->extra);
	}
	ref->crc = cow_crc(0, bytes, COW_BLOCK);
	return 0;
}

static int plan_write(struct plan *plan)
{
	unsigned level;
	size_t i;
	int ret;

	for (level = 1; level <= plan->levels; level++) {
		for (i = 0; i < plan->count[level]; i++) {
			ret = plan->fresh[level][i].where ? plan_write_one(plan, level, i) : 0;
			if (ret)
				return ret;
		}
	}
	return gathered_write(plan);
}

static void plan_commit(struct plan *plan, struct cow_ref *root)
{
	struct cow_alloc *alloc = &plan->store->alloc;
	unsigned level;
	size_t i;

	for (level = 1; level <= plan->levels; level++) {
		for (i = 0; i < plan->count[level]; i++) {
			if (plan->fresh[level][i].where)
				*level_ref(alloc, level, i) = plan->fresh[level][i];
		}
	}
	for (i = 0; i < alloc->pages; i++) {
		alloc->page[i].dirty = false;
		if (alloc->page[i].ref.where)
			alloc->page[i].ref.extra = alloc->page[i].clear;
	}
	alloc->dirty_pages = 0;
	*root = *level_ref(alloc, plan->levels, 0);
}

int cow_bitmap_write(struct cow_store *store, struct cow_list *allocated, struct cow_list *freed, struct cow_ref *root)
{
	struct plan plan = { .store = store, .allocated = allocated, .freed = freed,
		.gathered = aligned_alloc(COW_BLOCK, GATHER_BLOCKS * COW_BLOCK) };
	unsigned level;
	int ret;

	ret = plan.gathered ? plan_fit(&plan) : -ENOMEM;
	while (!ret && (ret = plan_round(&plan)) == 1)
		ret = 0;
	if (!ret)
		ret = plan_write(&plan);
	if (!ret)
		plan_commit(&plan, root);
	for (level = 1; level <= COW_BITMAP_MAX_LEVELS; level++)
		free(plan.fresh[level]);
	free(plan.gathered);
	return ret;
}
