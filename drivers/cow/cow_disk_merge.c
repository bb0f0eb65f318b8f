/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_merge.c - commit a disk that is in use: copy the store's data to the
 * raw base, until the base is the disk.
 *
 *   BEGIN: the store records that its base is being written ---> STEP, STEP, ..., SYNC ---> END: the rest, then
 *   the store records that the base is complete                       |
 *                                                                     +---> CANCEL, or a crash: begin again
 *
 * Invariants:
 * 1. A block of the base is written only when the store has an entry for it,
 *    or the base does not show there. Neither changes until the end, so
 *    nobody reads the block. If a crash loses an entry that was not flushed,
 *    the base has, sector by sector, data written since the last flush, which
 *    is allowed after a crash.
 * 2. Marks in memory show where the base may be out of date: at the beginning
 *    everywhere, later where a request has changed the disk, when it ends. A
 *    mark is cleared before its part is looked at. So when no write is running
 *    and there is no mark, the base is the disk; an overtaken copy is repeated.
 * 3. The map is read while it cannot change; the result may be out of date
 *    during the copy, which 2 covers.
 * 4. After the store has recorded the end of the merge it is not written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aio.h"
#include "cow_base.h"
#include "cow_disk.h"

#define MARKS (8u << 20)		/* at most, in bits: 1 MiB */
#define PIECE_SECTORS 2048u		/* copied at once: 1 MiB */
#define PIECE_PARTS (PIECE_SECTORS / COW_SECTORS)
#define RUN_SECTORS (1u << 21)		/* marks cleared at once: 1 GiB */

struct cow_merge {
	struct backend *base;		/* for writing */
	uint8_t *marks;
	uint8_t *buffer;		/* a piece */
	uint64_t granule;		/* sectors per mark */
	uint64_t granules, marked;
	uint64_t cursor;		/* next granule to look at */
	uint64_t at, end;		/* sectors whose marks are cleared, but that are still to be looked at */
	unsigned pass;
	uint64_t copied;		/* bytes copied by the running step */
};

/* Requests of one fiber that run in parallel. */
struct batch {
	struct fiber *fiber;
	unsigned count, pending;
	bool waits;
	int error;
	struct block_request req[PIECE_PARTS];
	struct iovec iov[PIECE_PARTS];
};

static void batch_done(struct block_request *req, int error)
{
	struct batch *batch = req->owner;

	if (error && !batch->error)
		batch->error = error;
	if (!--batch->pending && batch->waits)
		fiber_resume(batch->fiber);
}

static void batch_add(struct batch *batch, struct backend *backend, enum block_op op, uint64_t sector, uint64_t nr_sectors,
		      void *data)
{
	struct block_request *req = &batch->req[batch->count];

	batch->iov[batch->count] = (struct iovec){ data, nr_sectors * SECTOR_SIZE };
	*req = (struct block_request){ .op = op, .sector = sector, .nr_sectors = nr_sectors, .iov = &batch->iov[batch->count],
		.iovcnt = data ? 1 : 0, .done = batch_done, .owner = batch };
	batch->count++;
	batch->pending++;
	backend_submit(backend, req);
}

static int batch_wait(struct batch *batch)
{
	batch->fiber = fiber_current();
	while (batch->pending) {
		batch->waits = true;
		fiber_yield();
		batch->waits = false;
	}
	batch->count = 0;
	return batch->error;
}

static bool is_marked(const struct cow_merge *merge, uint64_t granule)
{
	return merge->marks[granule / 8] & 1u << granule % 8;
}

static void mark(struct cow_merge *merge, uint64_t granule)
{
	merge->marked += !is_marked(merge, granule);
	merge->marks[granule / 8] |= (uint8_t)(1u << granule % 8);
}

static void unmark(struct cow_merge *merge, uint64_t granule)
{
	merge->marked -= is_marked(merge, granule);
	merge->marks[granule / 8] &= (uint8_t)~(1u << granule % 8);
}

void cow_merge_changed(struct cow_disk *disk, uint64_t first, uint64_t end)
{
	struct cow_merge *merge = disk->merge;
	uint64_t granule;

	for (granule = first * COW_SECTORS / merge->granule; granule * merge->granule < end * COW_SECTORS; granule++)
		mark(merge, granule);
}

/* The next mark from the cursor on, then from the beginning. There must be one. */
static uint64_t next_marked(struct cow_merge *merge)
{
	for (;;) {
		while (merge->cursor < merge->granules && !is_marked(merge, merge->cursor))
			merge->cursor += merge->cursor % 8 || merge->marks[merge->cursor / 8] ? 1 : 8;
		if (merge->cursor < merge->granules)
			return merge->cursor;
		merge->cursor = 0;
		merge->pass++;
	}
}

/* The parts of one step, from all over the disk. */
struct parts {
	struct cow_extent part[PIECE_PARTS];
	unsigned count;
	uint64_t data;			/* sectors of kind DATA, which are consecutive in the buffer */
};

static bool anything_left(const struct cow_merge *merge)
{
	return merge->marked || merge->at < merge->end;
}

/* Take the next sectors to look at: a run of marked granules. */
static void take_run(struct cow_merge *merge, uint64_t sectors)
{
	uint64_t granule = next_marked(merge);

	merge->at = merge->end = granule * merge->granule;
	for (; granule < merge->granules && is_marked(merge, granule) && merge->end - merge->at < RUN_SECTORS; granule++) {
		unmark(merge, granule);
		merge->end += merge->granule;
	}
	merge->cursor = granule;
	merge->end = merge->end < sectors ? merge->end : sectors;
}

/* The part at merge->at; at most @room sectors of data. */
static int find_part(struct cow_disk *disk, uint64_t room, struct cow_extent *part)
{
	struct cow_merge *merge = disk->merge;
	uint64_t max = merge->end - merge->at;
	int ret;

	/* look no further than @room for data */
	ret = cow_version_extent(disk->store, disk->store->active, merge->at, max < room ? max : room, part);
	if (!ret && part->kind != COW_EXTENT_DATA)
		ret = cow_version_extent(disk->store, disk->store->active, merge->at, max, part);
	return ret;
}

/* Call while the map cannot change. Parts are whole blocks, except at the disk's end. */
static int find_parts(struct cow_disk *disk, struct parts *parts)
{
	struct cow_merge *merge = disk->merge;
	struct cow_extent *part;
	int ret = 0;

	while (!ret && anything_left(merge) && parts->count < PIECE_PARTS && parts->data < PIECE_SECTORS) {
		if (merge->at == merge->end)
			take_run(merge, disk->store->active->sectors);
		part = &parts->part[parts->count];
		ret = find_part(disk, PIECE_SECTORS - parts->data, part);
		if (ret)
			break;
		merge->at += part->nr_sectors;
		parts->data += part->kind == COW_EXTENT_DATA ? part->nr_sectors : 0;
		parts->count++;
	}
	return ret;
}

static int parts_read(struct cow_disk *disk, const struct parts *parts, struct batch *batch)
{
	const struct cow_extent *part;
	uint8_t *at = disk->merge->buffer;

	for (part = parts->part; part < parts->part + parts->count; part++) {
		if (part->kind != COW_EXTENT_DATA)
			continue;
		batch_add(batch, disk->backend, BLOCK_READ, part->offset / SECTOR_SIZE, part->nr_sectors, at);
		at += part->nr_sectors * SECTOR_SIZE;
	}
	return batch_wait(batch);
}

/* Adjacent parts of one kind are written together, wherever they were in the store. */
static int parts_write(struct cow_disk *disk, const struct parts *parts, struct batch *batch)
{
	const struct cow_extent *part = parts->part, *end = part + parts->count, *first;
	uint64_t shown = cow_base_sectors(disk->store, disk->store->active), n;
	uint8_t *at = disk->merge->buffer;

	while (part < end) {
		first = part;
		for (n = 0; part < end && part->kind == first->kind && part->sector == first->sector + n; part++)
			n += part->nr_sectors;
		if (first->kind == COW_EXTENT_DATA) {
			batch_add(batch, disk->merge->base, BLOCK_WRITE, first->sector, n, at);
			at += n * SECTOR_SIZE;
		} else if (first->kind == COW_EXTENT_ZERO) {
			batch_add(batch, disk->merge->base, BLOCK_WRITE_ZEROES, first->sector, n, NULL);
		} else if (first->sector + n > shown) {	/* it ends within the last block that shows the base */
			batch_add(batch, disk->merge->base, BLOCK_WRITE_ZEROES, shown, first->sector + n - shown, NULL);
		}
	}
	return batch_wait(batch);
}

static int step(struct cow_disk *disk)
{
	struct parts *parts = calloc(1, sizeof(*parts));
	struct batch *batch = calloc(1, sizeof(*batch));
	int ret = parts && batch ? 0 : -ENOMEM;

	if (!ret) {
		cow_exclusive_begin(disk);
		ret = find_parts(disk, parts);
		cow_exclusive_end(disk);
	}
	if (!ret)
		ret = parts_read(disk, parts, batch);
	if (!ret)
		ret = parts_write(disk, parts, batch);
	if (!ret)
		disk->merge->copied += parts->data * SECTOR_SIZE;
	free(parts);
	free(batch);
	return ret;
}

static const struct image_file *base_file(const struct cow_disk *disk)
{
	return ((struct aio_disk *)disk->base_backend->handle)->file;
}

void cow_merge_free(struct cow_disk *disk)
{
	struct cow_merge *merge = disk->merge;

	if (!merge)
		return;
	disk->merge = NULL;
	backend_close(merge->base);
	file_relock(base_file(disk), false);	/* back to a reader's lock, if it is a writer's: nothing can conflict */
	free(merge->marks);
	free(merge->buffer);
	free(merge);
}

/* The lock of the read-only open excludes other users from both. */
static int base_lock(struct cow_disk *disk, struct error_text *error)
{
	if (file_relock(base_file(disk), true))
		return error_set(error, -EBUSY, "%s: other processes also read it: close it there first",
				 disk->base_backend->path);
	return 0;
}

/* This may already change the base's mtime. */
static int base_open(struct cow_disk *disk, struct error_text *error)
{
	struct driver_options options = { .shared = true, .as_is = true, .no_direct = !disk->base_backend->geometry.direct };

	return backend_open(&disk->merge->base, disk->engine, disk->store->sb.base.target, &options, error);
}

/* The disk may have grown in the store: a file grows with it. */
static int base_grow(struct cow_disk *disk, struct error_text *error)
{
	struct backend *base = disk->merge->base;
	uint64_t sectors = disk->store->active->sectors;
	int ret;

	if (base->geometry.sectors >= sectors)
		return 0;
	if (base_file(disk)->blkdev)
		return cow_commit_too_small(disk->store, base->path, error);
	ret = cow_disk_enlarge(disk, base, sectors * SECTOR_SIZE);
	return ret ? error_set(error, ret, "%s: cannot be made larger: %s", base->path, strerror(-ret)) : 0;
}

static int merge_new(struct cow_disk *disk)
{
	uint64_t sectors = disk->store->active->sectors;
	struct cow_merge *merge = calloc(1, sizeof(*merge));

	if (!merge)
		return -ENOMEM;
	for (merge->granule = COW_SECTORS; (sectors + merge->granule - 1) / merge->granule > MARKS; merge->granule *= 2)
		;
	merge->granules = (sectors + merge->granule - 1) / merge->granule;
	merge->pass = 1;
	merge->marks = calloc((merge->granules + 7) / 8, 1);
	merge->buffer = aligned_alloc(COW_BLOCK, PIECE_SECTORS * SECTOR_SIZE);
	disk->merge = merge;
	if (merge->marks && merge->buffer)
		return 0;
	cow_merge_free(disk);
	return -ENOMEM;
}

static int begin(struct cow_disk *disk, struct snapshot_command *command)
{
	struct error_text *error = &command->error;
	int ret;

	if (disk->merge)
		return error_set(error, -EBUSY, "%s: a commit is already running", disk->device.name);
	if (disk->store->sb.base_kind != COW_BASE_RAW)
		return error_set(error, -EINVAL, "%s: has no raw base to commit to", disk->device.name);
	ret = cow_no_snapshots(disk->store, "delete them first", error);
	if (ret)
		return ret;
	disk->want_delete = cow_delete_next(disk->store);
	if (disk->want_delete)
		return -EAGAIN;
	ret = merge_new(disk);
	cow_exclusive_begin(disk);
	if (!ret)
		ret = base_lock(disk, error);
	if (!ret)
		ret = cow_commit_mark(disk->store, COW_BASE_COMMITTING);
	if (!ret)
		ret = base_open(disk, error);
	if (!ret)
		ret = base_grow(disk, error);
	/* from here on the end of every write sets marks */
	if (!ret)
		cow_merge_changed(disk, 0, cow_blocks_for(disk->store->active->sectors));
	cow_exclusive_end(disk);
	if (ret)
		cow_merge_free(disk);
	return ret;
}

static int flush_base(struct cow_disk *disk)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	int ret = -ENOMEM;

	if (batch) {
		batch_add(batch, disk->merge->base, BLOCK_FLUSH, 0, 0, NULL);
		ret = batch_wait(batch);
	}
	free(batch);
	return ret;
}

static int sync_both(struct cow_disk *disk)
{
	int ret = flush_base(disk);

	if (ret)
		return ret;
	cow_exclusive_begin(disk);
	ret = cow_checkpoint(disk->store);
	cow_exclusive_end(disk);
	return ret;
}

/* On success the disk stays frozen. */
static int end(struct cow_disk *disk)
{
	int ret = 0;

	disk->frozen = true;
	while (disk->writes)
		cow_task_wait(disk);
	while (!ret && anything_left(disk->merge))
		ret = step(disk);
	if (!ret)
		ret = flush_base(disk);
	if (!ret) {
		cow_exclusive_begin(disk);
		ret = cow_commit_mark(disk->store, COW_BASE_COMMITTED);
		cow_exclusive_end(disk);
	}
	if (ret) {
		disk->frozen = false;
		cow_disk_kick(disk);
	}
	return ret;
}

int cow_merge_run(struct cow_disk *disk, struct snapshot_command *command)
{
	struct cow_merge *merge = disk->merge;
	int ret = 0;

	if (command->op == SNAPSHOT_MERGE_BEGIN)
		ret = begin(disk, command);
	else if (!merge)
		ret = -EINVAL;
	else if (command->op == SNAPSHOT_MERGE_CANCEL)
		cow_merge_free(disk);
	else
		merge->copied = 0;
	if (!ret && command->op == SNAPSHOT_MERGE_STEP)
		ret = step(disk);
	else if (!ret && command->op == SNAPSHOT_MERGE_SYNC)
		ret = sync_both(disk);
	else if (!ret && command->op == SNAPSHOT_MERGE_END)
		ret = end(disk);
	merge = disk->merge;
	if (merge) {
		command->copied = merge->copied;
		command->left = merge->marked * merge->granule * SECTOR_SIZE + (merge->end - merge->at) * SECTOR_SIZE;
		command->pass = merge->pass;
	}
	return ret && ret != -EAGAIN ? error_set(&command->error, ret, "%s: cannot be committed to %s: %s", disk->device.name,
			       disk->store->sb.base.target, strerror(-ret)) : ret;
}
