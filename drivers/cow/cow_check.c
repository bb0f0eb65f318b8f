/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_check.c - compare all maps with the bitmap, and the copies of the superblock.
 *
 * Each block is counted for the oldest version that holds it. Blocks that a
 * version has from its parent were counted there, and a subtree shared with
 * the parent is skipped. Of a version whose deletion is in progress only
 * the part ahead of the cursor counts: behind it, its child is compared with
 * the version above.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

struct checker {
	struct cow_store *store;
	struct cow_check *check;
	const struct cow_version *version;
	uint8_t *seen;
	uint64_t nodes;			/* of this version */
	uint64_t done, total;		/* disk blocks of all versions, then store blocks */
};

static void __attribute__((format(printf, 2, 3))) complain(struct cow_check *check, const char *format, ...)
{
	char text[256];
	va_list args;

	if (!check->report)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	check->report(check->owner, text);
}

static int check_copies(struct cow_store *store, struct cow_check *check)
{
	char text[128];
	int ret = cow_superblock_compare(store->device, text, sizeof(text));

	if (ret < 1)
		return ret;
	check->copies++;
	complain(check, "%s", text);
	return 0;
}

static bool seen_get(const struct checker *checker, uint64_t block)
{
	return checker->seen[block / 8] >> block % 8 & 1;
}

/* False when the block was marked before. */
static bool mark(struct checker *checker, uint64_t block, uint64_t *counter, const char *what)
{
	++*counter;
	if (seen_get(checker, block)) {
		checker->check->errors++;
		complain(checker->check, "store block %" PRIu64 " (%s) is in use twice", block, what);
		return false;
	}
	checker->seen[block / 8] |= (uint8_t)(1u << block % 8);
	return true;
}

/* A crafted tree that contains its own nodes would be walked for years. */
static bool too_many_nodes(struct checker *checker)
{
	if (++checker->nodes <= checker->store->store_blocks)
		return false;
	if (checker->nodes == checker->store->store_blocks + 1) {
		checker->check->errors++;
		complain(checker->check, "version %u: its map has more nodes than the store has blocks", checker->version->id);
	}
	return true;
}

/* The version from which it has the block that ends at @end. */
static const struct cow_version *parent_at(const struct cow_version *version, uint64_t end)
{
	const struct cow_version *parent = version->parent;

	while (parent && parent->deleted && parent->cursor >= end)
		parent = parent->parent;
	return parent;
}

/* 1: the parent's entry cannot be read. */
static int check_data(struct checker *checker, uint64_t block, uint64_t entry)
{
	const struct cow_version *version = checker->version, *parent = parent_at(version, block + 1);
	uint64_t theirs = 0;
	int ret = parent ? cow_map_find(checker->store, parent, block, &theirs) : 0;

	if (ret == -EUCLEAN)
		return 1;		/* already reported for the parent, with its neighbours */
	if (ret || cow_entry_block(theirs) == cow_entry_block(entry))
		return ret;
	if (block >= cow_blocks_for(version->sectors)) {
		checker->check->errors++;
		complain(checker->check, "version %u: disk block %" PRIu64 " is mapped beyond the end of the disk", version->id,
			 block);
	}
	mark(checker, cow_entry_block(entry), &checker->check->mapped, "data");
	return 0;
}

static int progress(const struct checker *checker, uint64_t more)
{
	const struct cow_check *check = checker->check;

	return check->progress ? check->progress(check->owner, checker->done + more, checker->total) : 0;
}

static int check_leaf(struct checker *checker, uint64_t start, const uint64_t *entry)
{
	uint64_t newer;
	unsigned i;
	int ret = progress(checker, start);

	for (i = 0; i < COW_LEAF_ENTRIES && !ret; i++) {
		if (cow_entry_block(entry[i]) && !cow_layer_find(&checker->version->layer, start + i, &newer))
			ret = check_data(checker, start + i, entry[i]);
	}
	return ret < 0 ? ret : 0;
}

/* *@is: the node is the parent's. *@whole: with all nodes below it. */
static int is_parents(struct checker *checker, unsigned level, uint64_t index, const struct cow_ref *ref, bool *is,
		      bool *whole)
{
	uint64_t start = index * cow_span(level), end = start + cow_span(level);
	const struct cow_version *parent = parent_at(checker->version, end), *tree = cow_map_tree(parent);
	struct cow_ref theirs;
	int ret;

	ret = cow_map_node(checker->store, parent, level, index, &theirs);
	*is = !ret && theirs.where && cow_entry_block(theirs.where) == cow_entry_block(ref->where);
	*whole = *is && !(tree->deleted && tree->cursor > start);
	return ret == -EUCLEAN ? 0 : ret;
}

static int check_node(struct checker *checker, unsigned level, uint64_t index, const struct cow_ref *ref)
{
	uint64_t node[COW_LEAF_ENTRIES];
	const struct cow_ref *child = (const struct cow_ref *)node;
	bool is, whole;
	unsigned i;
	int ret;

	if (!ref->where || (index + 1) * cow_span(level) <= checker->version->cursor)
		return 0;
	ret = is_parents(checker, level, index, ref, &is, &whole);
	if (ret || whole)
		return ret;
	/* in use twice: the nodes below it were checked at its first place */
	if (too_many_nodes(checker) || (!is && !mark(checker, cow_entry_block(ref->where), &checker->check->metadata, "map")))
		return 0;
	ret = cow_node_get(checker->store, ref, level, node);
	if (ret == -EUCLEAN) {
		checker->check->errors++;
		complain(checker->check, "version %u: map node at store block %" PRIu64 " is damaged", checker->version->id,
			 cow_entry_block(ref->where));
		return 0;
	}
	if (ret || level == 1)
		return ret ? ret : check_leaf(checker, index * COW_LEAF_ENTRIES, node);
	for (i = 0; i < COW_NODE_REFS && !ret; i++)
		ret = check_node(checker, level - 1, index * COW_NODE_REFS + i, &child[i]);
	return ret;
}

static int check_version(struct checker *checker)
{
	const struct cow_version *version = checker->version;
	struct cow_map_element *elements;
	size_t i, count;
	int ret = 0;

	checker->nodes = 0;
	if (version->has_tree)
		ret = check_node(checker, version->levels, 0, &version->root);
	if (!ret)
		ret = cow_layer_sorted(&version->layer, &elements, &count);
	if (ret)
		return ret;
	for (i = 0; i < count && ret >= 0; i++) {
		if (cow_entry_block(elements[i].entry))
			ret = check_data(checker, elements[i].block, elements[i].entry);
	}
	free(elements);
	return ret < 0 ? ret : 0;
}

static void mark_fixed(struct checker *checker)
{
	struct cow_alloc *alloc = &checker->store->alloc;
	uint64_t unused = 0;
	unsigned level;
	size_t i;

	for (i = 0; i < checker->store->pool_start; i++)
		mark(checker, i, &unused, "fixed");
	for (i = 0; i < checker->store->table_blocks.count; i++)
		mark(checker, checker->store->table_blocks.item[i], &checker->check->metadata, "version table");
	for (i = 0; i < alloc->pages; i++) {
		if (alloc->page[i].ref.where)
			mark(checker, cow_entry_block(alloc->page[i].ref.where), &checker->check->metadata, "bitmap");
	}
	for (level = 2; level <= alloc->levels; level++) {
		for (i = 0; i < alloc->nodes[level]; i++) {
			if (alloc->node[level][i].where)
				mark(checker, cow_entry_block(alloc->node[level][i].where), &checker->check->metadata, "bitmap");
		}
	}
}

static int compare_block(struct checker *checker, uint64_t block, bool repair, uint64_t *clear)
{
	struct cow_store *store = checker->store;
	int ret = 0;
	bool used = cow_alloc_is_used(store, block, &ret), seen = seen_get(checker, block);

	*clear += !ret && !used;
	if (ret || used == seen)
		return ret;
	if (seen) {
		checker->check->errors++;
		complain(checker->check, "store block %" PRIu64 " is in use but marked free", block);
		return 0;
	}
	checker->check->leaks++;
	complain(checker->check, "store block %" PRIu64 " is marked used but not referenced (leak)", block);
	if (repair) {
		ret = cow_alloc_release(store, block);
		cow_alloc_unhold(store, block);
	}
	return ret;
}

static int compare_bitmap(struct checker *checker, bool repair)
{
	struct cow_store *store = checker->store;
	uint64_t block, page, end, clear;
	uint32_t counted;
	int ret = 0;

	for (page = 0; page < store->alloc.pages && !ret; page++) {
		ret = progress(checker, page * COW_PAGE_BITS);
		if (ret)
			break;
		counted = store->alloc.page[page].clear;
		clear = 0;
		end = (page + 1) * COW_PAGE_BITS < store->store_blocks ? (page + 1) * COW_PAGE_BITS : store->store_blocks;
		for (block = page * COW_PAGE_BITS; block < end && !ret; block++)
			ret = compare_block(checker, block, repair, &clear);
		if (!ret && clear == counted)
			continue;
		if (ret && ret != -EUCLEAN)
			return ret;
		checker->check->errors++;
		complain(checker->check, ret ? "bitmap page %" PRIu64 " is damaged" :
			 "bitmap page %" PRIu64 " has a wrong count of free blocks", page);
		ret = 0;
	}
	return ret;
}

static uint64_t blocks_of_all(const struct cow_store *store)
{
	const struct cow_version *version;
	uint64_t sum = 0;

	for (version = store->versions; version; version = version->next)
		sum += cow_blocks_for(version->sectors);
	return sum;
}

int cow_check(struct cow_store *store, struct cow_check *check, bool repair)
{
	struct checker checker = { .store = store, .check = check };
	int ret;

	check->copies = 0;
	check->leaks = check->errors = check->mapped = check->metadata = 0;
	if (repair && (store->failed || store->read_only))
		return store->failed ? store->failed : -EROFS;
	checker.seen = calloc(store->store_blocks / 8 + 1, 1);
	if (!checker.seen)
		return -ENOMEM;
	ret = check_copies(store, check);
	mark_fixed(&checker);
	checker.total = blocks_of_all(store) + store->store_blocks;
	for (checker.version = store->versions; checker.version && !ret; checker.version = checker.version->next) {
		ret = check_version(&checker);
		checker.done += cow_blocks_for(checker.version->sectors);
	}
	if (!ret)
		ret = compare_bitmap(&checker, repair && !check->errors);
	free(checker.seen);
	if (!ret && repair && (check->leaks || check->copies) && !check->errors)
		ret = cow_checkpoint(store);
	return ret;
}
