/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_prefill.c - places in a store file that are written before they are needed.
 *
 * A file system has to allocate what is written into a hole, and to commit
 * that at the next sync: both cost more than the write itself. So in a file
 * fresh blocks come from a stretch ahead of the allocator's cursor that has
 * been filled with zeros: sequentially, in large pieces, in the background.
 * Scattered free blocks are left as they are, and large writes go where they
 * are: there is no gain in either.
 *
 * What is being filled is on hold, so that nobody, a checkpoint neither, gets
 * it meanwhile.
 */
#include <errno.h>

#include "cow_disk.h"

#define WINDOW 2048u		/* blocks: how far ahead, at most */
#define WINDOW_PART 256u	/* of a small disk, of which that would be much */
#define LEAST_RUN 64u		/* blocks: shorter ones are not worth it */
#define ZEROS (64u << 10)

static unsigned window_of(const struct cow_disk *disk)
{
	uint64_t part = cow_blocks_for(disk->store->active->sectors) / WINDOW_PART;

	return part > WINDOW ? WINDOW : part > 8 * LEAST_RUN ? (unsigned)part : 8 * LEAST_RUN;
}

static int run_fill(struct cow_disk *disk, uint64_t block, unsigned count)
{
	static const uint8_t zeros[ZEROS] __attribute__((aligned(COW_BLOCK)));
	struct iovec iov[WINDOW * COW_BLOCK / ZEROS];
	uint64_t bytes = (uint64_t)count << COW_SHIFT, n;
	int i;

	for (i = 0; bytes; i++, bytes -= n) {
		n = bytes < ZEROS ? bytes : ZEROS;
		iov[i] = (struct iovec){ (void *)zeros, n };
	}
	return cow_disk_write(disk, iov, i, block << COW_SHIFT, (uint64_t)count << COW_SHIFT);
}

/* What is free in [@from, @to) of the current page. That it fails costs time only: the file system allocates later. */
static void range_fill(struct cow_disk *disk, unsigned from, unsigned to)
{
	uint64_t block = (uint64_t)disk->store->alloc.at_page * COW_PAGE_BITS;
	unsigned count;

	for (; from < to; from += count) {
		count = cow_alloc_hold_run(disk->store, block + from, to - from, LEAST_RUN);
		if (!count) {
			count = 1;
			continue;
		}
		run_fill(disk, block + from, count);
		cow_alloc_unhold_run(disk->store, block + from, count);
	}
}

bool cow_prefill_ready(const struct cow_disk *disk, uint64_t count, uint64_t *most)
{
	const struct cow_alloc *alloc = &disk->store->alloc;
	unsigned bit;

	if (!cow_alloc_ready(disk->store, &bit))
		return false;
	*most = UINT64_MAX;
	if (!disk->device.ops->resize || count >= LEAST_RUN)
		return true;
	if (disk->filled_page != alloc->at_page || bit >= disk->filled_to)
		return false;
	*most = disk->filled_to - bit;
	return true;
}

/* The stretch grows from where it ends, or begins anew at the cursor. */
static void fill_on(struct cow_disk *disk, unsigned window)
{
	const struct cow_alloc *alloc = &disk->store->alloc;
	size_t page = alloc->at_page;
	unsigned from = alloc->at_bit, to;

	if (disk->filled_page == page && disk->filled_to > from)
		from = disk->filled_to;
	to = from + window < COW_PAGE_BITS ? from + window : COW_PAGE_BITS;
	range_fill(disk, from, to);
	disk->filled_page = page;
	disk->filled_to = to;
}

void cow_prefill_now(struct cow_disk *disk)
{
	if (disk->device.ops->resize)
		fill_on(disk, window_of(disk) / 4);
}

static void filler_run(void *arg)
{
	struct cow_disk *disk = arg;

	disk->filler = fiber_current();
	fill_on(disk, window_of(disk) / 2);
	disk->filler = NULL;
	cow_disk_kick(disk);
}

void cow_prefill_ahead(struct cow_disk *disk)
{
	const struct cow_alloc *alloc = &disk->store->alloc;

	if (disk->device.ops->resize && !disk->filler && !disk->stopping && disk->filled_page == alloc->at_page &&
	    disk->filled_to < COW_PAGE_BITS && alloc->at_bit + window_of(disk) / 2 > disk->filled_to)
		fiber_start(filler_run, disk);		/* out of memory: later, then */
}
