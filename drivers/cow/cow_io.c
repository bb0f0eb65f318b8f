/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_io.c - the disk's reads and writes.
 *
 * A block that only the active disk holds is overwritten in place. Any other
 * is written whole to a new block; the rest of a partly written block
 * is read first. The map changes only after the data has been written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define CUT_BLOCKS 65536u		/* zeroed in one step */

static bool range_valid(const struct cow_version *version, uint64_t sector, uint64_t nr_sectors)
{
	return sector <= version->sectors && nr_sectors <= version->sectors - sector;
}

static int base_read(struct cow_store *store, const struct cow_version *version, uint8_t *data, uint64_t sector,
		     uint64_t nr_sectors)
{
	uint64_t there = cow_base_sectors(store, version);

	there = there > sector ? there - sector : 0;
	there = there < nr_sectors ? there : nr_sectors;
	memset(data + there * SECTOR_SIZE, 0, (nr_sectors - there) * SECTOR_SIZE);
	return there ? store->base.read(store->base.owner, data, sector, there) : 0;
}

/* The number of blocks from @block on, at most @max, that are consecutive in the store from @entry on. */
static int run_length(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t entry,
		      uint64_t max, uint64_t *run)
{
	uint64_t next;
	int ret;

	for (*run = 1; *run < max; ++*run) {
		ret = cow_map_find(store, version, block + *run, &next);
		if (ret)
			return ret;
		if (cow_entry_block(next) != cow_entry_block(entry) + *run)
			break;
	}
	return 0;
}

static int version_read(struct cow_store *store, const struct cow_version *version, uint8_t *data, uint64_t sector,
			uint64_t nr_sectors)
{
	uint64_t entry, block, skip, run, n;
	int ret;

	for (; nr_sectors; sector += n, nr_sectors -= n, data += n * SECTOR_SIZE) {
		block = sector / COW_SECTORS;
		skip = sector % COW_SECTORS;
		run = 1;
		ret = cow_map_find(store, version, block, &entry);
		if (!ret && cow_entry_block(entry))
			ret = run_length(store, version, block, entry, (skip + nr_sectors + COW_SECTORS - 1) / COW_SECTORS,
					 &run);
		if (ret)
			return ret;
		n = run * COW_SECTORS - skip < nr_sectors ? run * COW_SECTORS - skip : nr_sectors;
		if (cow_entry_block(entry))
			ret = store->device->ops->read(store->device, data, (cow_entry_block(entry) << COW_SHIFT) +
						       skip * SECTOR_SIZE, n * SECTOR_SIZE);
		else if (entry)
			memset(data, 0, n * SECTOR_SIZE);
		else
			ret = base_read(store, version, data, sector, n);
		if (ret)
			return ret;
	}
	return 0;
}

int cow_read(struct cow_store *store, void *data, uint64_t sector, uint64_t nr_sectors)
{
	if (!range_valid(store->active, sector, nr_sectors))
		return -EINVAL;
	return version_read(store, store->active, data, sector, nr_sectors);
}

int cow_snapshot_read(struct cow_store *store, const char *name, void *data, uint64_t sector, uint64_t nr_sectors)
{
	const struct cow_version *version = cow_version_by_name(store, name);

	if (!version)
		return -ENOENT;
	if (!range_valid(version, sector, nr_sectors))
		return -EINVAL;
	return version_read(store, version, data, sector, nr_sectors);
}

int cow_view_read(struct cow_store *store, const struct cow_view *view, void *data, uint64_t sector,
		  uint64_t nr_sectors)
{
	const struct cow_version *version = cow_version_find(store, view->id);

	if (!version)
		return -ENOENT;
	if (!range_valid(version, sector, nr_sectors))
		return -EINVAL;
	return version_read(store, version, data, sector, nr_sectors);
}

static bool in_place(const struct cow_store *store, uint64_t entry)
{
	return cow_entry_block(entry) && cow_entry_birth(entry) > cow_map_shared_until(store);
}

/*
 * Removes the entry of @block. A block that only the active disk holds is
 * freed when that is in the log. The journal gets it last, after all that can
 * fail: after a failure the map still has the entry.
 */
static int entry_drop(struct cow_store *store, uint64_t block, uint64_t entry)
{
	uint64_t where = cow_entry_block(entry);
	int ret;

	if (!where || !cow_map_exclusive(store->active, cow_entry_birth(entry), block + 1))
		return 0;
	ret = cow_alloc_release(store, where);
	if (ret)
		return ret;
	ret = cow_list_add(&store->releases, where);
	if (ret)
		cow_alloc_mark(store, where);		/* its page is loaded, so this does not fail */
	else
		cow_journal_release(store, where);
	return ret;
}

static int alloc_with_checkpoint(struct cow_store *store, uint64_t want, uint64_t *block, uint64_t *got)
{
	int ret = cow_alloc_run(store, want, true, block, got);

	/* Blocks freed, but not yet durable, may be enough. */
	if (ret == -ENOSPC) {
		ret = cow_checkpoint(store);
		if (!ret)
			ret = cow_alloc_run(store, want, true, block, got);
	}
	return ret;
}

/* Writes whole blocks to new places; returns how many in @done. */
static int write_fresh(struct cow_store *store, const uint8_t *data, uint64_t block, uint64_t want, uint64_t *done)
{
	struct cow_layer *layer;
	uint64_t place, i;
	int ret;

	ret = alloc_with_checkpoint(store, want, &place, done);
	if (ret)
		return ret;
	layer = &store->active->layer;
	ret = cow_layer_reserve(layer, *done);
	if (!ret)
		ret = store->device->ops->write(store->device, data, place << COW_SHIFT, *done << COW_SHIFT);
	if (ret) {
		cow_alloc_return(store, place, *done);
		return ret;
	}
	for (i = 0; i < *done; i++)
		cow_layer_set(layer, block + i, cow_entry(place + i, store->generation), true);
	cow_journal_map(store, block, cow_entry(place, store->generation), *done);
	return 0;
}

/* Writes part of one block. */
static int write_part(struct cow_store *store, const uint8_t *data, uint64_t sector, uint64_t n)
{
	uint64_t block = sector / COW_SECTORS, skip = sector % COW_SECTORS, entry, done, here;
	uint8_t whole[COW_BLOCK] __attribute__((aligned(COW_BLOCK)));
	int ret;

	ret = cow_map_find(store, store->active, block, &entry);
	if (ret)
		return ret;
	if (in_place(store, entry))
		return store->device->ops->write(store->device, data, (cow_entry_block(entry) << COW_SHIFT) +
						 skip * SECTOR_SIZE, n * SECTOR_SIZE);
	here = store->active->sectors - block * COW_SECTORS;
	memset(whole, 0, sizeof(whole));
	ret = version_read(store, store->active, whole, block * COW_SECTORS, here < COW_SECTORS ? here : COW_SECTORS);
	if (ret)
		return ret;
	memcpy(whole + skip * SECTOR_SIZE, data, n * SECTOR_SIZE);
	return write_fresh(store, whole, block, 1, &done);
}

/* Writes whole blocks: a run from @block on that are all in place or all fresh. */
static int write_run(struct cow_store *store, const uint8_t *data, uint64_t block, uint64_t count, uint64_t *done)
{
	uint64_t entry, next;
	bool place;
	int ret;

	ret = cow_map_find(store, store->active, block, &entry);
	if (ret)
		return ret;
	place = in_place(store, entry);
	for (*done = 1; *done < count; ++*done) {
		ret = cow_map_find(store, store->active, block + *done, &next);
		if (ret)
			return ret;
		if (in_place(store, next) != place ||
		    (place && cow_entry_block(next) != cow_entry_block(entry) + *done))
			break;
	}
	if (!place)
		return write_fresh(store, data, block, *done, done);
	return store->device->ops->write(store->device, data, cow_entry_block(entry) << COW_SHIFT, *done << COW_SHIFT);
}

int cow_write(struct cow_store *store, const void *bytes, uint64_t sector, uint64_t nr_sectors)
{
	const uint8_t *data = bytes;
	uint64_t n, blocks = 0;
	int ret;

	if (!range_valid(store->active, sector, nr_sectors))
		return -EINVAL;
	for (; nr_sectors; sector += n, nr_sectors -= n, data += n * SECTOR_SIZE) {
		ret = cow_checkpoint_if_due(store);
		if (ret)
			return ret;
		if (sector % COW_SECTORS || nr_sectors < COW_SECTORS) {
			n = COW_SECTORS - sector % COW_SECTORS;
			n = n < nr_sectors ? n : nr_sectors;
			ret = write_part(store, data, sector, n);
		} else {
			ret = write_run(store, data, sector / COW_SECTORS, nr_sectors / COW_SECTORS, &blocks);
			n = blocks * COW_SECTORS;
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* A map change will need room in a tree. */
static int zero_room(struct cow_store *store)
{
	int ret = cow_checkpoint_if_due(store);

	if (!ret && !cow_alloc_has_reserve(store)) {
		ret = cow_checkpoint(store);
		if (!ret && !cow_alloc_has_reserve(store))
			ret = -ENOSPC;
	}
	return ret;
}

static int zero_block(struct cow_store *store, uint64_t block)
{
	uint64_t entry, zero = 0;
	int ret;

	ret = cow_map_find(store, store->active, block, &entry);
	if (cow_map_shows_base(store, store->active, block))
		zero = cow_entry(0, store->generation);
	if (ret || (!cow_entry_block(entry) && !entry == !zero))
		return ret;
	ret = zero_room(store);
	if (!ret)
		ret = cow_layer_reserve(&store->active->layer, 1);
	if (!ret)
		ret = entry_drop(store, block, entry);
	if (ret)
		return ret;
	cow_layer_set(&store->active->layer, block, zero, true);
	cow_journal_map(store, block, zero, 1);
	return 0;
}

/* Adds a zero entry where there is none, so that no base ever shows there. */
int cow_zero_mask(struct cow_store *store, uint64_t block)
{
	uint64_t entry;
	int ret = cow_map_find(store, store->active, block, &entry);

	if (ret || entry)
		return ret;
	ret = zero_room(store);
	if (!ret)
		ret = cow_layer_reserve(&store->active->layer, 1);
	if (ret)
		return ret;
	cow_layer_set(&store->active->layer, block, cow_entry(0, store->generation), true);
	cow_journal_map(store, block, cow_entry(0, store->generation), 1);
	return 0;
}

/* Zeroes part of a block, unless it reads as zeros already. */
static int zero_part(struct cow_store *store, uint64_t sector, uint64_t n)
{
	static const uint8_t zeros[COW_BLOCK] __attribute__((aligned(COW_BLOCK)));
	uint64_t entry, block = sector / COW_SECTORS;
	int ret;

	ret = cow_map_find(store, store->active, block, &entry);
	if (ret || (!cow_entry_block(entry) && (entry || !cow_map_shows_base(store, store->active, block))))
		return ret;
	return cow_write(store, zeros, sector, n);
}

/* The length from @sector, a block's start, that is neither mapped nor shows the base. */
static int zero_skip(struct cow_store *store, uint64_t sector, uint64_t end, uint64_t *n)
{
	uint64_t block = sector / COW_SECTORS, next;
	int ret;

	*n = 0;
	if (sector % COW_SECTORS || cow_map_shows_base(store, store->active, block))
		return 0;
	ret = cow_map_next(store, store->active, block, cow_blocks_for(end), &next);
	*n = next * COW_SECTORS < end ? next * COW_SECTORS - sector : end - sector;
	return ret;
}

/* Zeroes a block, or part of one, from @sector on; @n: how much of it. */
static int zero_one(struct cow_store *store, uint64_t sector, uint64_t end, bool parts, uint64_t *n)
{
	*n = COW_SECTORS - sector % COW_SECTORS;
	*n = *n < end - sector ? *n : end - sector;
	/* The disk's last block counts as whole when all that exists of it is zeroed. */
	if (!(sector % COW_SECTORS) && (*n == COW_SECTORS || sector + *n == store->active->sectors))
		return zero_block(store, sector / COW_SECTORS);
	return parts ? zero_part(store, sector, *n) : 0;
}

int cow_zero_some(struct cow_store *store, uint64_t *sector, uint64_t end, bool parts, uint64_t *budget)
{
	uint64_t n;
	int ret;

	if (*sector > end || !range_valid(store->active, *sector, end - *sector))
		return -EINVAL;
	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	for (; *sector < end && *budget; *sector += n) {
		ret = zero_skip(store, *sector, end, &n);
		if (!ret && !n) {
			ret = zero_one(store, *sector, end, parts, &n);
			--*budget;
		}
		if (ret)
			return ret;
	}
	return 0;
}

static int zero_range(struct cow_store *store, uint64_t sector, uint64_t nr_sectors, bool parts)
{
	uint64_t budget = UINT64_MAX;

	if (!range_valid(store->active, sector, nr_sectors))
		return -EINVAL;
	return cow_zero_some(store, &sector, sector + nr_sectors, parts, &budget);
}

int cow_discard(struct cow_store *store, uint64_t sector, uint64_t nr_sectors)
{
	return zero_range(store, sector, nr_sectors, false);
}

int cow_write_zeroes(struct cow_store *store, uint64_t sector, uint64_t nr_sectors)
{
	return zero_range(store, sector, nr_sectors, true);
}

/*
 * Before a disk shrinks, the part behind its new end is zeroed, the rest of
 * the last block too, and the base never shows there again: so growing shows
 * zeros. The base is hidden first, so that zeroing needs no entries to mask it.
 */
static int resize_hide_base(struct cow_store *store, uint64_t sectors)
{
	struct cow_version *active = store->active;
	struct cow_resize_payload payload = { active->sectors, sectors };
	int ret;

	if (sectors >= active->base_shows)
		return 0;
	ret = cow_event_add(store, active, COW_RECORD_RESIZE, 1, &payload, sizeof(payload));
	if (!ret)
		active->base_shows = sectors;
	return ret;
}

static int size_check(const struct cow_store *store, uint64_t sectors, struct error_text *error)
{
	if (sectors && sectors <= COW_MAX_BLOCKS * COW_SECTORS && sectors % (store->sb.sector_size / SECTOR_SIZE) == 0)
		return 0;
	return error_set(error, -EINVAL, "%s: invalid disk size %llu sectors: must be whole sectors, at most 4 PiB",
			 store->device->name, (unsigned long long)sectors);
}

static int resize_failed(const struct cow_store *store, uint64_t sectors, int ret, struct error_text *error)
{
	return error_set(error, ret, "%s: cannot be resized to %llu sectors: %s", store->device->name,
			 (unsigned long long)sectors, strerror(-ret));
}

int cow_resize_cut(struct cow_store *store, uint64_t sectors, uint64_t *sector, struct error_text *error)
{
	uint64_t budget = CUT_BLOCKS;
	int ret = size_check(store, sectors, error);

	if (ret)
		return ret;
	ret = resize_hide_base(store, sectors);
	if (!ret)
		ret = cow_zero_some(store, sector, store->active->sectors, true, &budget);
	return ret ? resize_failed(store, sectors, ret, error) : 0;
}

int cow_resize(struct cow_store *store, uint64_t sectors, struct error_text *error)
{
	struct cow_resize_payload payload = { sectors, sectors };
	struct cow_version *active = store->active;
	int ret = size_check(store, sectors, error);

	if (ret)
		return ret;
	ret = cow_checkpoint_if_due(store);
	if (!ret)
		ret = cow_log_probe(store);
	if (!ret && sectors < active->sectors)
		ret = resize_hide_base(store, sectors);
	if (!ret && sectors < active->sectors)
		ret = cow_write_zeroes(store, sectors, active->sectors - sectors);
	if (payload.base_shows > active->base_shows)
		payload.base_shows = active->base_shows;
	if (!ret)
		ret = cow_event_add(store, active, COW_RECORD_RESIZE, 1, &payload, sizeof(payload));
	if (!ret) {
		active->sectors = sectors;
		active->base_shows = payload.base_shows;
		ret = cow_flush(store);
	}
	return ret ? resize_failed(store, sectors, ret, error) : 0;
}
