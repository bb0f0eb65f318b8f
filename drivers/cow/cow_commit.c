/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_commit.c - copy the disk back to its raw base, and empty the store.
 *
 * Invariants:
 * 1. Before the first write to the base the store records, durably, that the
 *    base is being written. Until the end the base is then recognised by its
 *    inode alone, and may have grown.
 * 2. A block of the base is written only where the store has an entry, or
 *    where the base does not show: the disk does not read it there.
 * 3. One switch of the superblocks empties the store, after the base is
 *    durable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "cow_internal.h"

#define STEP_SECTORS 2048u		/* copied at once: 1 MiB */
#define ZERO_SECTORS (1u << 21)		/* zeroed at once: 1 GiB */

int cow_no_snapshots(const struct cow_store *store, const char *otherwise, struct error_text *error)
{
	const struct cow_version *version;

	if (store->failed || store->read_only)
		return error_set(error, store->failed ? store->failed : -EROFS, "%s: cannot be written", store->device->name);
	for (version = store->versions; version; version = version->next) {
		if (version != store->active && !version->deleted)
			return error_set(error, -EBUSY, "%s: its snapshots need the base as it is (\"%s\"): %s",
					 store->device->name, version->name, otherwise);
	}
	return 0;
}

int cow_only_active(struct cow_store *store, const char *otherwise, struct error_text *error)
{
	int ret = cow_no_snapshots(store, otherwise, error);

	if (ret)
		return ret;
	while ((ret = cow_delete_step(store)) > 0)
		;
	return ret ? error_set(error, ret, "%s: the space of deleted snapshots cannot be freed: %s",
			       store->device->name, strerror(-ret)) : 0;
}

static int base_check(const struct cow_store *store, struct error_text *error)
{
	if (store->sb.base_kind == COW_BASE_NONE)
		return error_set(error, -EINVAL, "%s: has no base to commit to", store->device->name);
	if (store->sb.base_kind != COW_BASE_RAW)
		return error_set(error, -ENOTSUP, "%s: its base %s is a snapshot, which is read-only",
				 store->device->name, store->sb.base.target);
	return 0;
}

int cow_commit_too_small(const struct cow_store *store, const char *name, struct error_text *error)
{
	return error_set(error, -ENOSPC, "%s: smaller than the disk (%llu bytes): make it larger, and commit again", name,
			 (unsigned long long)store->active->sectors * SECTOR_SIZE);
}

static int base_grow(const struct cow_store *store, struct cow_device *base, struct error_text *error)
{
	uint64_t bytes = store->active->sectors * SECTOR_SIZE;
	int ret;

	if (base->ops->size(base) >= bytes)
		return 0;
	if (!base->ops->resize)
		return cow_commit_too_small(store, base->name, error);
	ret = base->ops->resize(base, bytes);
	return ret ? error_set(error, ret, "%s: cannot be made larger: %s", base->name, strerror(-ret)) : 0;
}

int cow_commit_mark(struct cow_store *store, uint32_t flag)
{
	int ret = cow_checkpoint_catch_up(store);

	if (ret || store->sb.base.flags & flag)
		return ret;
	store->sb.base.flags |= flag;
	ret = cow_checkpoint(store);
	if (ret)
		store->sb.base.flags &= ~flag;
	/*
	 * A superblock that says so may be on the medium, or get there when there is room. COMMITTING is then what a
	 * commit that was interrupted leaves. But with COMMITTED no open takes the store for the disk.
	 */
	if (ret && store->checkpoint && flag == COW_BASE_COMMITTED)
		store->failed = -EIO;
	return ret;
}

int cow_commit_begin(struct cow_store *store, struct cow_device *base, struct error_text *error)
{
	int ret = base_check(store, error);

	if (!ret)
		ret = cow_only_active(store, "delete them first", error);
	if (ret)
		return ret;
	ret = cow_commit_mark(store, COW_BASE_COMMITTING);
	if (ret)
		return error_set(error, ret, "%s: cannot be written: %s", store->device->name, strerror(-ret));
	return base_grow(store, base, error);
}

static int copy_out(struct cow_store *store, struct cow_device *base, uint64_t sector, uint64_t nr_sectors)
{
	void *data = aligned_alloc(COW_BLOCK, STEP_SECTORS * SECTOR_SIZE);
	int ret = data ? cow_read(store, data, sector, nr_sectors) : -ENOMEM;

	if (!ret)
		ret = base->ops->write(base, data, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
	free(data);
	return ret;
}

/* A hole in the base needs no zeros. */
static int zero_out(struct cow_device *base, uint64_t sector, uint64_t *nr_sectors)
{
	uint64_t length = *nr_sectors * SECTOR_SIZE;
	bool hole = false;
	int ret = 0;

	if (base->ops->hole)
		ret = base->ops->hole(base, sector * SECTOR_SIZE, &length, &hole);
	if (ret)
		return ret;
	length /= SECTOR_SIZE;
	if (length < *nr_sectors)
		length -= length % COW_SECTORS;
	if (length)
		*nr_sectors = length;
	return hole && length ? 0 : cow_device_zero(base, sector * SECTOR_SIZE, *nr_sectors * SECTOR_SIZE);
}

int cow_commit_step(struct cow_store *store, struct cow_device *base, uint64_t sector, uint64_t *nr_sectors)
{
	uint64_t shown = cow_base_sectors(store, store->active);
	struct cow_extent extent;
	int ret;

	ret = cow_version_extent(store, store->active, sector, STEP_SECTORS, &extent);
	if (!ret && extent.kind != COW_EXTENT_DATA)
		ret = cow_version_extent(store, store->active, sector, ZERO_SECTORS, &extent);
	if (ret)
		return ret;
	*nr_sectors = extent.nr_sectors;
	if (extent.kind == COW_EXTENT_ZERO)
		return zero_out(base, sector, nr_sectors);
	if (extent.kind == COW_EXTENT_DATA)
		return copy_out(store, base, sector, *nr_sectors);
	/* The extent may end within the last block that shows the base. */
	if (sector + *nr_sectors <= shown)
		return 0;
	return cow_device_zero(base, shown * SECTOR_SIZE, (sector + *nr_sectors - shown) * SECTOR_SIZE);
}

/*
 * Frees all but the fixed area; blocks that the old superblocks refer to are
 * on hold. The bitmap's pages are among them, so a page must also move if
 * none of its bits changes, because none was set.
 */
static int pool_release(struct cow_store *store)
{
	int ret = cow_alloc_move_pages(store);
	uint64_t block;

	for (block = store->pool_start; !ret && block < store->store_blocks; block++) {
		if (cow_alloc_is_used(store, block, &ret))
			ret = cow_alloc_release(store, block);
	}
	return ret;
}

/* Ends the hold, and punches the free blocks out of a file. A failure costs space only. */
static int pool_punch(struct cow_store *store)
{
	uint64_t block, start = 0, run = 0;
	int ret = 0;

	for (block = store->pool_start; !ret && block <= store->store_blocks; block++) {
		if (block < store->store_blocks && !cow_alloc_is_used(store, block, &ret) && !ret) {
			cow_alloc_unhold(store, block);
			start = run++ ? start : block;
			continue;
		}
		if (run)
			store->device->ops->punch(store->device, start << COW_SHIFT, run << COW_SHIFT);
		run = 0;
	}
	return ret;
}

int cow_commit_end(struct cow_store *store, const struct cow_base_fields *fields, struct error_text *error)
{
	struct cow_version *active = store->active;
	int ret = cow_flush(store);

	if (!ret)
		ret = cow_checkpoint_catch_up(store);
	if (!ret)
		ret = pool_release(store);
	if (!ret) {
		store->sb.base = *fields;
		active->root = (struct cow_ref){ 0 };
		active->levels = 0;
		cow_layer_free(&active->layer);
		active->base_shows = active->sectors;
		ret = cow_checkpoint_write(store, 0, store->log.salt);
	}
	/* Memory has neither the old state nor the new one. */
	if (ret)
		store->failed = -EIO;
	else
		ret = pool_punch(store);
	return ret ? error_set(error, ret, "%s: cannot be emptied: %s: run the commit again", store->device->name,
			       strerror(-ret)) : 0;
}
