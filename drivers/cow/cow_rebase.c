/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_rebase.c - put a store on another base. Where the disk shows the old
 * base, and the new one differs, the disk first gets blocks of its own; what
 * it reads does not change by that. Then the superblocks name the new base.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "cow_internal.h"

#define STEP_SECTORS 2048u		/* compared at once: 1 MiB */
#define SKIP_SECTORS (1u << 21)		/* skipped at once: 1 GiB */

int cow_rebase_begin(struct cow_store *store, struct error_text *error)
{
	return cow_only_active(store, "delete them, or change the reference alone with -u", error);
}

/* The number of sectors that the next base will show from @sector on. */
static uint64_t next_shown(const struct cow_store *store, const struct cow_base *next, uint64_t sector)
{
	uint64_t shown = next ? next->sectors : 0;

	shown = shown < store->active->base_shows ? shown : store->active->base_shows;
	return shown > sector ? shown - sector : 0;
}

static int next_read(struct cow_store *store, const struct cow_base *next, void *data, uint64_t sector,
		     uint64_t nr_sectors)
{
	uint64_t shown = next_shown(store, next, sector);

	shown = shown < nr_sectors ? shown : nr_sectors;
	memset((char *)data + shown * SECTOR_SIZE, 0, (nr_sectors - shown) * SECTOR_SIZE);
	return shown ? next->read(next->owner, data, sector, shown) : 0;
}

static int next_zero(struct cow_store *store, const struct cow_base *next, uint64_t sector, uint64_t *nr_sectors,
		     bool *zero)
{
	uint64_t shown = next_shown(store, next, sector);

	*zero = !shown;
	if (!shown)
		return 0;
	*nr_sectors = shown < *nr_sectors ? shown : *nr_sectors;
	return next->zero ? next->zero(next->owner, sector, nr_sectors, zero) : 0;
}

enum keep { KEEP_NOTHING, KEEP_ZERO, KEEP_DATA };

/* Compares a block of the disk's present contents with the future ones. */
static enum keep keep_of(const uint8_t *now, const uint8_t *then, uint64_t nr_sectors)
{
	size_t length = (nr_sectors < COW_SECTORS ? nr_sectors : COW_SECTORS) * SECTOR_SIZE;

	if (!memcmp(now, then, length))
		return KEEP_NOTHING;
	return cow_all_zero(now, length) ? KEEP_ZERO : KEEP_DATA;
}

static int keep_run(struct cow_store *store, enum keep keep, const uint8_t *data, uint64_t sector, uint64_t nr_sectors)
{
	uint64_t block = sector / COW_SECTORS, end = block + cow_blocks_for(nr_sectors);
	int ret = 0;

	if (keep == KEEP_DATA)
		return cow_write(store, data, sector, nr_sectors);
	for (; keep == KEEP_ZERO && !ret && block < end; block++)
		ret = cow_zero_mask(store, block);
	return ret;
}

static int keep_what_differs(struct cow_store *store, const struct cow_base *next, uint64_t sector, uint64_t nr_sectors)
{
	uint8_t *now = aligned_alloc(COW_BLOCK, 2 * STEP_SECTORS * SECTOR_SIZE), *then = now + STEP_SECTORS * SECTOR_SIZE;
	uint64_t at, run;
	enum keep keep;
	int ret = now ? cow_read(store, now, sector, nr_sectors) : -ENOMEM;

	if (!ret)
		ret = next_read(store, next, then, sector, nr_sectors);
	for (at = 0; !ret && at < nr_sectors; at += run) {
		keep = keep_of(now + at * SECTOR_SIZE, then + at * SECTOR_SIZE, nr_sectors - at);
		run = COW_SECTORS;
		while (at + run < nr_sectors && keep == keep_of(now + (at + run) * SECTOR_SIZE,
								then + (at + run) * SECTOR_SIZE, nr_sectors - at - run))
			run += COW_SECTORS;
		ret = keep_run(store, keep, now + at * SECTOR_SIZE, sector + at,
			       at + run < nr_sectors ? run : nr_sectors - at);
	}
	free(now);
	return ret;
}

int cow_rebase_step(struct cow_store *store, const struct cow_base *next, uint64_t sector, uint64_t *nr_sectors)
{
	struct cow_view view = { .id = store->active->id };
	struct cow_extent extent;
	bool zero_now, zero_then;
	uint64_t n;
	int ret;

	ret = cow_version_extent(store, store->active, sector, SKIP_SECTORS, &extent);
	n = extent.nr_sectors;
	if (!ret && extent.kind != COW_EXTENT_DATA) {
		ret = cow_view_zero(store, &view, sector, &n, &zero_now);
		if (!ret)
			ret = next_zero(store, next, sector, &n, &zero_then);
		if (ret)
			return ret;
		/* A part that ends within a block is compared together with the block's rest. */
		if (n < extent.nr_sectors)
			n = n < COW_SECTORS ? n : n - n % COW_SECTORS;
		if (!zero_now || !zero_then || n < COW_SECTORS) {
			n = cow_blocks_for(n) * COW_SECTORS;
			n = n < extent.nr_sectors ? n : extent.nr_sectors;
			n = n < STEP_SECTORS ? n : STEP_SECTORS;
			ret = keep_what_differs(store, next, sector, n);
		}
	}
	*nr_sectors = n;
	return ret;
}

int cow_rebase_end(struct cow_store *store, enum cow_base_kind kind, const struct cow_base_fields *fields,
		   struct error_text *error)
{
	int ret = cow_checkpoint_catch_up(store);
	const struct cow_superblock before = store->sb;

	if (!ret) {
		store->sb.base_kind = kind;
		store->sb.base = *fields;
		ret = cow_checkpoint(store);
		/* the superblock may be on the medium: which of the two the next open finds is unknown */
		if (ret && store->checkpoint)
			store->failed = -EIO;
	}
	if (ret) {
		store->sb.base_kind = before.base_kind;
		store->sb.base = before.base;
	}
	return ret ? error_set(error, ret, "%s: cannot be written: %s", store->device->name, strerror(-ret)) : 0;
}
