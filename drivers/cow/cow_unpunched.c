/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_unpunched.c - blocks that were freed and still take space on the host.
 *
 * They are free like others, and may be given out before anybody comes to
 * punch them out: then there is nothing to be punched. So it is looked at
 * once more when its turn comes, and what is punched is on hold meanwhile.
 *
 * What is not remembered here, for want of memory, or because the store was
 * closed before, costs space on the host until it is used again, no more.
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

	if (!cow_set_has(&page->unpunched, block % COW_PAGE_BITS) &&
	    !cow_set_put(&page->unpunched, block % COW_PAGE_BITS, true))
		store->alloc.unpunched++;
}

static void page_forget(struct cow_alloc *alloc, struct cow_page *page)
{
	alloc->unpunched -= page->unpunched.count;
	cow_set_free(&page->unpunched);
}

void cow_unpunched_forget(struct cow_store *store)
{
	size_t i;

	for (i = 0; i < store->alloc.pages; i++)
		page_forget(&store->alloc, &store->alloc.page[i]);
}

/* There is one: the first at the cursor or behind it, then from the start. */
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

/* A run that begins at @block is taken out, as far as it is free, or one block that is not. */
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
