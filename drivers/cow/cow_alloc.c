/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_alloc.c - which store blocks are in use.
 *
 * A page of the bitmap is loaded when it is first needed and stays while it
 * differs from the store. Blocks are allocated one after the other in the
 * page with the most free blocks, so that writes land next to each other; a
 * file grows when too few are free.
 *
 * The reserve is the most that the next checkpoint may need. Data is not
 * allocated from it, so that a full store can still write a checkpoint.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define SLACK_BLOCKS 32		/* for roots of taller trees, a longer version table */
#define GROW_PAGES 2
#define KEEP_PAGES 64

unsigned cow_bitmap_levels(uint64_t store_blocks)
{
	uint64_t pages = (store_blocks + COW_PAGE_BITS - 1) / COW_PAGE_BITS;
	unsigned levels = 1;

	for (; pages > 1; pages = (pages + COW_NODE_REFS - 1) / COW_NODE_REFS)
		levels++;
	return levels;
}

static unsigned page_blocks(uint64_t store_blocks, size_t page)
{
	uint64_t rest = store_blocks - (uint64_t)page * COW_PAGE_BITS;

	return rest < COW_PAGE_BITS ? (unsigned)rest : COW_PAGE_BITS;
}

/* Allocates the references for a bitmap of this size. New pages are clear. Unchanged on failure. */
static int alloc_resize(struct cow_alloc *alloc, uint64_t store_blocks)
{
	size_t pages = (store_blocks + COW_PAGE_BITS - 1) / COW_PAGE_BITS, nodes[COW_BITMAP_MAX_LEVELS + 1] = { 0, pages };
	unsigned level, levels = cow_bitmap_levels(store_blocks);
	struct cow_page *grown;
	struct cow_ref *refs;

	grown = reallocarray(alloc->page, pages, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	alloc->page = grown;
	memset(grown + alloc->pages, 0, (pages - alloc->pages) * sizeof(*grown));
	for (level = 2; level <= levels; level++) {
		nodes[level] = (nodes[level - 1] + COW_NODE_REFS - 1) / COW_NODE_REFS;
		refs = reallocarray(alloc->node[level], nodes[level], sizeof(*refs));
		if (!refs)
			return -ENOMEM;
		alloc->node[level] = refs;
		memset(refs + alloc->nodes[level], 0, (nodes[level] - alloc->nodes[level]) * sizeof(*refs));
	}
	for (level = 2; level <= levels; level++)
		alloc->nodes[level] = nodes[level];
	alloc->pages = pages;
	alloc->levels = levels;
	return 0;
}

/* Counts the new blocks of pages that have grown, or are new, since there were @old blocks. */
static void alloc_count(struct cow_store *store, uint64_t old)
{
	struct cow_alloc *alloc = &store->alloc;
	size_t page = old / COW_PAGE_BITS;
	unsigned had;

	for (; page < alloc->pages; page++) {
		had = (uint64_t)page * COW_PAGE_BITS < old ? page_blocks(old, page) : 0;
		alloc->page[page].clear += page_blocks(store->store_blocks, page) - had;
		alloc->clear += page_blocks(store->store_blocks, page) - had;
	}
}

int cow_alloc_init(struct cow_store *store)
{
	int ret = alloc_resize(&store->alloc, store->store_blocks);

	if (!ret)
		alloc_count(store, 0);
	return ret;
}

int cow_alloc_grow(struct cow_store *store, uint64_t store_blocks)
{
	uint64_t old = store->store_blocks;
	int ret = alloc_resize(&store->alloc, store_blocks);

	if (ret)
		return ret;
	store->store_blocks = store_blocks;
	alloc_count(store, old);
	return 0;
}

/* Loads the references below one bitmap node, down to those of the pages. */
static int alloc_load_node(struct cow_store *store, const struct cow_ref *ref, unsigned level, size_t index,
			   uint64_t old_blocks)
{
	struct cow_alloc *alloc = &store->alloc;
	struct cow_ref refs[COW_NODE_REFS] __attribute__((aligned(COW_BLOCK)));
	size_t i, at;
	int ret;

	if (level == 1) {
		if (ref->where && ref->extra > page_blocks(old_blocks, index))
			return -EUCLEAN;
		alloc->page[index].ref = *ref;
		alloc->page[index].clear = ref->where ? ref->extra : page_blocks(old_blocks, index);
		alloc->clear += alloc->page[index].clear;
		return 0;
	}
	alloc->node[level][index] = *ref;
	memset(refs, 0, sizeof(refs));
	if (ref->where) {
		ret = store->device->ops->read(store->device, refs, cow_entry_block(ref->where) << COW_SHIFT, COW_BLOCK);
		if (ret)
			return ret;
		if (cow_crc(0, refs, COW_BLOCK) != ref->crc)
			return -EUCLEAN;
	}
	for (i = 0; i < COW_NODE_REFS; i++) {
		at = index * COW_NODE_REFS + i;
		if (at >= (level == 2 ? alloc->pages : alloc->nodes[level - 1])) {
			if (refs[i].where)
				return -EUCLEAN;
			continue;
		}
		if (!cow_entry_valid(store, refs[i].where, COW_MAX_GENERATION))
			return -EUCLEAN;
		ret = alloc_load_node(store, &refs[i], level - 1, at, old_blocks);
		if (ret)
			return ret;
	}
	return 0;
}

/* Loads the superblock's bitmap, in the store's size then; blocks that the device has gained since are clear. */
int cow_alloc_load(struct cow_store *store, struct error_text *error)
{
	uint64_t now = store->store_blocks;
	int ret;

	if (store->sb.bitmap_levels != cow_bitmap_levels(store->sb.store_blocks) ||
	    !cow_entry_valid(store, store->sb.bitmap.where, COW_MAX_GENERATION))
		return error_set(error, -EUCLEAN, "%s: damaged: its bitmap has the wrong shape", store->device->name);
	store->store_blocks = store->sb.store_blocks;
	ret = alloc_resize(&store->alloc, store->store_blocks);
	if (!ret)
		ret = alloc_load_node(store, &store->sb.bitmap, store->sb.bitmap_levels, 0, store->store_blocks);
	if (!ret && now > store->store_blocks)
		ret = cow_alloc_grow(store, now);
	if (ret)
		return error_set(error, ret, "%s: its bitmap cannot be read: %s", store->device->name, strerror(-ret));
	return 0;
}

void cow_alloc_free(struct cow_alloc *alloc)
{
	unsigned level;
	size_t i;

	for (i = 0; i < alloc->pages; i++) {
		cow_set_free(&alloc->page[i].bits);
		cow_set_free(&alloc->page[i].hold);
		cow_set_free(&alloc->page[i].unpunched);
	}
	for (level = 2; level <= COW_BITMAP_MAX_LEVELS; level++)
		free(alloc->node[level]);
	free(alloc->page);
	*alloc = (struct cow_alloc){ 0 };
}

void cow_alloc_trim_page(struct cow_alloc *alloc, size_t page)
{
	if (!alloc->page[page].loaded || alloc->page[page].dirty || page == alloc->at_page)
		return;
	cow_set_free(&alloc->page[page].bits);
	alloc->page[page].loaded = false;
}

void cow_alloc_trim(struct cow_alloc *alloc)
{
	size_t i, loaded = 0;

	for (i = 0; i < alloc->pages; i++) {
		if (!alloc->page[i].loaded || alloc->page[i].dirty || i == alloc->at_page || ++loaded < KEEP_PAGES)
			continue;
		cow_alloc_trim_page(alloc, i);
	}
}

static int page_read(struct cow_store *store, const struct cow_ref *ref, uint8_t *bytes)
{
	int ret;

	memset(bytes, 0, COW_BLOCK);
	if (!ref->where)
		return 0;
	ret = store->device->ops->read(store->device, bytes, cow_entry_block(ref->where) << COW_SHIFT, COW_BLOCK);
	return !ret && cow_crc(0, bytes, COW_BLOCK) != ref->crc ? -EUCLEAN : ret;
}

/* Wrong counts would wrap around later. Bits behind the store's end are clear. */
static int page_accept(struct cow_store *store, size_t index, const uint8_t *bytes)
{
	struct cow_page *page = &store->alloc.page[index];
	int ret = cow_set_load(&page->bits, bytes);

	if (!ret && page->clear + page->bits.count != page_blocks(store->store_blocks, index)) {
		cow_set_free(&page->bits);
		ret = -EUCLEAN;
	}
	page->loaded = !ret;
	return ret;
}

/*
 * In a fiber, others may run during the read: they may load the page first,
 * change it and write it elsewhere, or grow the store, which moves all pages
 * in memory.
 */
static int page_load(struct cow_store *store, size_t index)
{
	struct cow_ref ref;
	uint8_t *bytes;
	int ret = 0;

	if (store->alloc.page[index].loaded)
		return 0;
	bytes = aligned_alloc(COW_BLOCK, COW_BLOCK);
	if (!bytes)
		return -ENOMEM;
	do {
		ref = store->alloc.page[index].ref;
		ret = page_read(store, &ref, bytes);
	} while (!store->alloc.page[index].loaded && !cow_ref_same(&ref, &store->alloc.page[index].ref));
	if (store->alloc.page[index].loaded)
		ret = 0;
	else if (!ret)
		ret = page_accept(store, index, bytes);
	free(bytes);
	return ret;
}

static void page_set_dirty(struct cow_alloc *alloc, struct cow_page *page)
{
	if (!page->dirty)
		alloc->dirty_pages++;
	page->dirty = true;
}

int cow_alloc_move_pages(struct cow_store *store)
{
	struct cow_alloc *alloc = &store->alloc;
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < alloc->pages; i++) {
		if (!alloc->page[i].ref.where)
			continue;
		ret = page_load(store, i);
		if (!ret)
			page_set_dirty(alloc, &alloc->page[i]);
	}
	return ret;
}

bool cow_alloc_is_used(struct cow_store *store, uint64_t block, int *error)
{
	*error = page_load(store, block / COW_PAGE_BITS);
	return !*error && cow_set_has(&store->alloc.page[block / COW_PAGE_BITS].bits, block % COW_PAGE_BITS);
}

void cow_alloc_unhold(struct cow_store *store, uint64_t block)
{
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];

	if (!cow_set_has(&page->hold, block % COW_PAGE_BITS))
		return;
	cow_set_put(&page->hold, block % COW_PAGE_BITS, false);
	store->alloc.held--;
	if (!page->hold.count)
		cow_set_free(&page->hold);
}

int cow_alloc_mark(struct cow_store *store, uint64_t block)
{
	int ret = page_load(store, block / COW_PAGE_BITS);
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];
	unsigned bit = block % COW_PAGE_BITS;

	if (ret)
		return ret;
	if (!cow_set_has(&page->bits, bit)) {
		ret = cow_set_put(&page->bits, bit, true);
		if (ret)
			return ret;
		page->clear--;
		store->alloc.clear--;
		page_set_dirty(&store->alloc, page);
	}
	cow_alloc_unhold(store, block);
	return 0;
}

int cow_alloc_release(struct cow_store *store, uint64_t block)
{
	int ret = page_load(store, block / COW_PAGE_BITS);
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];
	unsigned bit = block % COW_PAGE_BITS;
	bool held = cow_set_has(&page->hold, bit);

	if (!ret)
		ret = cow_set_put(&page->hold, bit, true);
	if (ret)
		return ret;
	if (cow_set_has(&page->bits, bit)) {
		ret = cow_set_put(&page->bits, bit, false);
		if (ret) {
			cow_set_put(&page->hold, bit, held);
			return ret;
		}
		page->clear++;
		store->alloc.clear++;
	}
	store->alloc.held += !held;
	page_set_dirty(&store->alloc, page);
	cow_cache_drop(&store->cache, block);
	return 0;
}

void cow_alloc_return(struct cow_store *store, uint64_t block, uint64_t count)
{
	for (; count; block++, count--) {
		if (cow_alloc_release(store, block))
			store->failed = -EIO;
		cow_alloc_unhold(store, block);
	}
}

void cow_alloc_give_back(struct cow_store *store, uint64_t block, uint64_t count)
{
	struct cow_alloc *alloc = &store->alloc;

	cow_alloc_return(store, block, count);
	if (count && count <= alloc->at_bit && block + count == (uint64_t)alloc->at_page * COW_PAGE_BITS + alloc->at_bit)
		alloc->at_bit -= (unsigned)count;
}

/* The most nodes that a checkpoint of @entries map changes can need. */
static uint64_t reserve_for(uint64_t entries, uint64_t blocks)
{
	uint64_t sum = 0, total;
	unsigned level;

	for (level = 1; entries && level <= COW_MAX_LEVELS; level++) {
		total = blocks / cow_span(level) + 1;
		sum += total < entries ? total : entries;
		if (total == 1)
			break;
	}
	return sum;
}

static uint64_t version_reserve(const struct cow_version *version)
{
	uint64_t entries = version->layer.count + (version->layer.below ? version->layer.below->count : 0);

	return reserve_for(entries + 64, cow_blocks_for(version->sectors));
}

/* The layers of inactive versions change only at snapshots, reverts and checkpoints. */
void cow_alloc_count_others(struct cow_store *store)
{
	const struct cow_version *version;

	if (store->others_valid)
		return;
	store->others = 0;
	store->others_entries = store->others_reserve = 0;
	for (version = store->versions; version; version = version->next) {
		if (version == store->active || (version->has_tree && !version->layer.count))
			continue;
		store->others++;
		store->others_entries += version->layer.count;
		store->others_reserve += version_reserve(version);
	}
	store->others_valid = true;
}

uint64_t cow_alloc_reserve(struct cow_store *store)
{
	uint64_t sum = SLACK_BLOCKS + cow_version_table_blocks(store) + store->alloc.pages + version_reserve(store->active);
	unsigned level;

	for (level = 2; level <= store->alloc.levels; level++)
		sum += store->alloc.nodes[level];
	cow_alloc_count_others(store);
	return sum + store->others_reserve;
}

static uint32_t page_room(const struct cow_page *page)
{
	return page->clear - page->hold.count;
}

/* Move to the start of the page with the most free blocks. False: there are none. */
static bool alloc_next_page(struct cow_alloc *alloc)
{
	size_t i, best = 0;

	for (i = 1; i < alloc->pages; i++) {
		if (page_room(&alloc->page[i]) > page_room(&alloc->page[best]))
			best = i;
	}
	alloc->at_page = best;
	alloc->at_bit = 0;
	return page_room(&alloc->page[best]);
}

static bool has_room(const struct cow_store *store, uint64_t need)
{
	return store->alloc.clear - store->alloc.held >= need;
}

/* An administrator can enlarge a device in use, so check its size when there is no room. */
static int alloc_follow_device(struct cow_store *store, uint64_t need)
{
	uint64_t blocks = store->device->ops->size_now ? store->device->ops->size_now(store->device) >> COW_SHIFT : 0;
	int ret = 0;

	if (blocks > COW_MAX_BLOCKS)
		blocks = COW_MAX_BLOCKS;
	if (blocks > store->store_blocks)
		ret = cow_alloc_grow(store, blocks);
	return ret ? ret : has_room(store, need) ? 0 : -ENOSPC;
}

bool cow_alloc_has_reserve(struct cow_store *store)
{
	return store->device->ops->resize || has_room(store, cow_alloc_reserve(store)) ||
		!alloc_follow_device(store, cow_alloc_reserve(store));
}

/*
 * A limit of the file's size is a lack of room, too: deleted snapshots give some. In a fiber, others may run meanwhile,
 * and take blocks; but not make the file larger.
 */
static int alloc_grow_file(struct cow_store *store, uint64_t blocks)
{
	int ret;

	if (blocks > COW_MAX_BLOCKS)
		return -ENOSPC;
	assert(!store->alloc.growing && blocks > store->store_blocks);
	store->alloc.growing = true;
	ret = store->device->ops->resize(store->device, blocks << COW_SHIFT);
	store->alloc.growing = false;
	if (ret)
		return ret == -EDQUOT || ret == -EFBIG ? -ENOSPC : ret;
	return cow_alloc_grow(store, blocks);
}

static int alloc_make_larger(struct cow_store *store, uint64_t need)
{
	uint64_t blocks = store->store_blocks + need;

	if (!store->device->ops->resize)
		return alloc_follow_device(store, need);
	return alloc_grow_file(store, blocks + GROW_PAGES * COW_PAGE_BITS - blocks % COW_PAGE_BITS);
}

uint64_t cow_alloc_room(struct cow_store *store)
{
	uint64_t keep = cow_alloc_reserve(store);

	return has_room(store, keep) ? store->alloc.clear - store->alloc.held - keep : 0;
}

int cow_alloc_make_room(struct cow_store *store, uint64_t count)
{
	int ret = 0;

	while (!ret && !has_room(store, count + cow_alloc_reserve(store)))
		ret = alloc_make_larger(store, count + cow_alloc_reserve(store));
	return ret;
}

static bool is_free(const struct cow_page *page, unsigned bit)
{
	return !cow_set_has(&page->bits, bit) && !cow_set_has(&page->hold, bit);
}

/* Allocates the free blocks at the cursor and next to it, up to @want. Cannot fail, because the page is a bitmap. */
static uint64_t alloc_take(struct cow_alloc *alloc, struct cow_page *page, uint64_t want, unsigned limit)
{
	uint64_t got = 0;

	while (alloc->at_bit < limit && !is_free(page, alloc->at_bit))
		alloc->at_bit++;
	while (got < want && alloc->at_bit < limit && is_free(page, alloc->at_bit)) {
		cow_set_put(&page->bits, alloc->at_bit++, true);
		got++;
	}
	page->clear -= (uint32_t)got;
	alloc->clear -= got;
	return got;
}

/* In a fiber, another one may move to the next page during the read. */
static int page_load_current(struct cow_store *store)
{
	size_t at;
	int ret;

	do {
		at = store->alloc.at_page;
		ret = page_load(store, at);
	} while (!ret && at != store->alloc.at_page);
	return ret ? ret : cow_set_make_bitmap(&store->alloc.page[at].bits);
}

/* The first free bit at or after the cursor; false: none in the page. */
static bool alloc_seek(const struct cow_store *store, unsigned *first)
{
	const struct cow_alloc *alloc = &store->alloc;
	const struct cow_page *page = &alloc->page[alloc->at_page];
	unsigned bit = alloc->at_bit, limit = page_blocks(store->store_blocks, alloc->at_page);

	while (bit < limit && !is_free(page, bit))
		bit++;
	*first = bit;
	return bit < limit;
}

static bool page_ready(const struct cow_store *store, unsigned *bit)
{
	return store->alloc.page[store->alloc.at_page].bits.form == COW_SET_BITMAP && alloc_seek(store, bit);
}

/* Moves on when the current page is used up: a large write may need the free blocks of several pages. */
bool cow_alloc_ready(struct cow_store *store, unsigned *bit)
{
	if (page_ready(store, bit))
		return true;
	return store->alloc.page[store->alloc.at_page].loaded && alloc_next_page(&store->alloc) && page_ready(store, bit);
}

unsigned cow_alloc_hold_run(struct cow_store *store, uint64_t block, unsigned most, unsigned least)
{
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];
	unsigned i, count, bit = block % COW_PAGE_BITS, limit = page_blocks(store->store_blocks, block / COW_PAGE_BITS);

	if (!page->loaded)
		return 0;
	for (count = 0; count < most && bit + count < limit; count++) {
		if (!is_free(page, bit + count))
			break;
	}
	if (count < least)
		return 0;
	for (i = 0; i < count; i++) {
		if (cow_set_put(&page->hold, bit + i, true))
			break;
	}
	store->alloc.held += i;
	return i;
}

void cow_alloc_unhold_run(struct cow_store *store, uint64_t block, unsigned count)
{
	for (; count; block++, count--)
		cow_alloc_unhold(store, block);
}

int cow_alloc_prepare(struct cow_store *store, uint64_t count)
{
	int ret = cow_alloc_make_room(store, count);
	unsigned bit;

	while (!ret && !(ret = page_load_current(store)) && !alloc_seek(store, &bit)) {
		if (!alloc_next_page(&store->alloc))
			ret = -ENOSPC;
	}
	return ret;
}

int cow_alloc_run(struct cow_store *store, uint64_t want, bool data, uint64_t *block, uint64_t *got)
{
	struct cow_alloc *alloc = &store->alloc;
	struct cow_page *page;
	int ret;

	for (;;) {
		uint64_t need = want + (data ? cow_alloc_reserve(store) : 0);

		if (has_room(store, need))
			break;
		ret = alloc_make_larger(store, need);
		if (ret && (ret != -ENOSPC || want == 1))
			return ret;
		if (ret)
			want = 1;
	}
	for (;;) {
		ret = page_load_current(store);
		if (ret)
			return ret;
		page = &alloc->page[alloc->at_page];
		*got = alloc_take(alloc, page, want, page_blocks(store->store_blocks, alloc->at_page));
		if (*got)
			break;
		if (!alloc_next_page(alloc))
			return -ENOSPC;
	}
	page_set_dirty(alloc, page);
	*block = (uint64_t)alloc->at_page * COW_PAGE_BITS + alloc->at_bit - *got;
	return 0;
}
