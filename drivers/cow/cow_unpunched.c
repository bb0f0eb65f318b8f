/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_unpunched.c - blocks that were freed and still take space on the host.
 *
 * They are free like others, and may be allocated before they are punched:
 * then they must not be punched. So each is checked again when its turn comes,
 * and is on hold while it is punched.
 *
 * A block that is not recorded here, for lack of memory, or because the store
 * was closed before or its process died, costs space on the host until it is
 * used again, or an open searches for it. Which free blocks these are is
 * nowhere: so the search punches all that are free, page by page, as the
 * others in the background.
 */
#include "cow_internal.h"

static void unpunched_drop(struct cow_alloc *alloc, struct cow_page *page, unsigned bit)
{
	cow_set_put(&page->unpunched, bit, false);
	alloc->unpunched--;
	if (!page->unpunched.count)
		cow_set_free(&page->unpunched);
}

void cow_unpunched_add(struct cow_store *store, uint64_t block)
{
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];

	if (cow_set_has(&page->unpunched, block % COW_PAGE_BITS))
		return;
	if (cow_set_put(&page->unpunched, block % COW_PAGE_BITS, true))
		store->alloc.unrecorded = true;
	else
		store->alloc.unpunched++;
}

static void page_forget(struct cow_alloc *alloc, struct cow_page *page)
{
	alloc->unrecorded |= page->unpunched.count;
	alloc->unpunched -= page->unpunched.count;
	cow_set_free(&page->unpunched);
}

void cow_unpunched_forget(struct cow_store *store)
{
	size_t i;

	for (i = 0; i < store->alloc.pages; i++)
		page_forget(&store->alloc, &store->alloc.page[i]);
}

/* The first at or after the cursor, then from the start. There must be one. */
static uint64_t next_unpunched(const struct cow_alloc *alloc)
{
	size_t page = alloc->unpunched_at / COW_PAGE_BITS;
	unsigned bit = alloc->unpunched_at % COW_PAGE_BITS;

	for (;; page = (page + 1) % alloc->pages, bit = 0) {
		bit = cow_set_next(&alloc->page[page].unpunched, bit);
		if (bit < COW_PAGE_BITS)
			return (uint64_t)page * COW_PAGE_BITS + bit;
	}
}

/* Removes the run that begins at @block, as far as it is free, or one block that is in use. */
static unsigned run_take(struct cow_store *store, uint64_t block)
{
	struct cow_page *page = &store->alloc.page[block / COW_PAGE_BITS];
	unsigned bit = block % COW_PAGE_BITS, most = 1, count, i;

	while (bit + most < COW_PAGE_BITS && cow_set_has(&page->unpunched, bit + most))
		most++;
	count = cow_alloc_hold_run(store, block, most, 1);
	for (i = 0; i < (count ? count : 1); i++)
		unpunched_drop(&store->alloc, page, bit + i);
	return count;
}

unsigned cow_unpunched_hold(struct cow_store *store, uint64_t *block)
{
	struct cow_alloc *alloc = &store->alloc;
	unsigned count = 0;
	int error;

	while (!count && alloc->unpunched) {
		*block = next_unpunched(alloc);
		cow_alloc_is_used(store, *block, &error);	/* loads the page */
		if (error) {
			page_forget(alloc, &alloc->page[*block / COW_PAGE_BITS]);
			continue;
		}
		count = run_take(store, *block);
		alloc->unpunched_at = *block;
	}
	return count;
}

void cow_unpunched_search(struct cow_store *store)
{
	struct cow_alloc *alloc = &store->alloc;

	alloc->searching = alloc->unrecorded;
	alloc->unrecorded = false;
	alloc->search_at = store->pool_start;
}

static unsigned hold_at_most(struct cow_store *store, uint64_t block, uint64_t most)
{
	return cow_alloc_hold_run(store, block, most < COW_PAGE_BITS ? (unsigned)most : COW_PAGE_BITS, 1);
}

unsigned cow_unpunched_search_hold(struct cow_store *store, uint64_t ready, uint64_t *block)
{
	struct cow_alloc *alloc = &store->alloc;
	size_t page = alloc->search_at / COW_PAGE_BITS;
	uint64_t end = (uint64_t)(page + 1) * COW_PAGE_BITS, cursor, most;
	unsigned count = 0;
	int error = 0;

	if (alloc->page[page].clear)
		cow_alloc_is_used(store, alloc->search_at, &error);	/* loads the page */
	if (error)
		alloc->unrecorded = true;
	if (error || !alloc->page[page].clear)
		alloc->search_at = end;
	cursor = (uint64_t)alloc->at_page * COW_PAGE_BITS + alloc->at_bit;
	most = cow_alloc_room(store) / 8 + 1;		/* so that the allocator is not short of free blocks */
	while (!count && alloc->search_at < end && alloc->search_at < store->store_blocks) {
		*block = alloc->search_at;
		if (*block < cursor)
			count = hold_at_most(store, *block, most < cursor - *block ? most : cursor - *block);
		else if (*block >= ready)
			count = hold_at_most(store, *block, most);
		alloc->search_at += count ? count : 1;
	}
	if (alloc->search_at >= end)
		cow_alloc_trim_page(alloc, page);
	alloc->searching = alloc->search_at < store->store_blocks;
	return count;
}

bool cow_unpunched_left(const struct cow_store *store)
{
	return store->alloc.unpunched || store->alloc.unrecorded || store->alloc.searching;
}
