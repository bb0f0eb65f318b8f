/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_merge.c - the commit of a disk that is in use: all that the store has
 * of it is copied to its raw base, until the base is the disk.
 *
 *   BEGIN: the store says that its base is being written ---> STEP, STEP, ..., SYNC ---> END: the rest, then
 *   the store says that all of it is there                            |
 *                                                                     +---> CANCEL, or a crash: begin again
 *
 * Invariants:
 * 1. A block of the base is written only when the store has an entry for it,
 *    or the base does not show there. Until the end neither of the two ends,
 *    so nobody reads what is written; where a crash takes an entry back that
 *    was not flushed, the base has what a write put there since the last
 *    flush, sector by sector, which is what the rule of crashes allows.
 * 2. What the base may lack is marked, in memory: all of the disk at the
 *    beginning, later what a request has changed, when that ends. A mark goes
 *    before its part is looked at. So at a moment when no write runs and there
 *    is no mark the base is the disk; a copy that was overtaken is made anew.
 * 3. The map is looked at while it stands still; what it said may be out of
 *    date while it is being copied, which 2 makes good.
 * 4. When the store has said that it is merged it is written no more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aio.h"
#include "cow_base.h"
#include "cow_disk.h"

#define MARKS (8u << 20)		/* bits at most: 1 MiB of them */
#define PIECE_SECTORS 2048u		/* copied at once: 1 MiB */
#define PIECE_PARTS (PIECE_SECTORS / COW_SECTORS)
#define RUN_SECTORS (1u << 21)		/* of which the marks go at once: 1 GiB */

struct cow_merge {
	struct backend *base;		/* for writing */
	uint8_t *marks;
	uint8_t *buffer;		/* a piece */
	uint64_t granule;		/* sectors for a mark */
	uint64_t granules, marked;
	uint64_t cursor;		/* granule */
	uint64_t at, end;		/* sectors that are not marked any more and still to be looked at */
	unsigned pass;
	uint64_t copied;		/* bytes, of the step that runs */
};

/* Requests of a fiber that run together. */
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
	merge->marks[granule / 8] |= 1u << granule % 8;
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

/* From the cursor on, and then from the beginning. There is one. */
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

/* What one step copies, from all over the disk. */
struct parts {
	struct cow_extent part[PIECE_PARTS];
	unsigned count;
	uint64_t data;			/* sectors of kind DATA, which are in the buffer one after the other */
};

static bool anything_left(const struct cow_merge *merge)
{
	return merge->marked || merge->at < merge->end;
}

/* The next sectors to be looked at, of marked granules in a row. */
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

/* What begins at merge->at; of data no more than there is room for. */
static int find_part(struct cow_disk *disk, uint64_t room, struct cow_extent *part)
{
	struct cow_merge *merge = disk->merge;
	uint64_t max = merge->end - merge->at;
	int ret;

	/* of data a longer look would be for nothing */
	ret = cow_version_extent(disk->store, disk->store->active, merge->at, max < room ? max : room, part);
	if (!ret && part->kind != COW_EXTENT_DATA)
		ret = cow_version_extent(disk->store, disk->store->active, merge->at, max, part);
	return ret;
}

/* With the map standing still. Whole blocks: only the disk's end may be within one. */
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

/* Neighbours of one kind are written together, wherever they were in the store. */
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
		} else if (first->sector + n > shown) {	/* it ends within the last block that shows it */
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
	file_relock(base_file(disk), false);	/* from a writer's lock, if it was had: nobody can be in its way */
	free(merge->marks);
	free(merge->buffer);
	free(merge);
}

/* The lock of the one that is open for reading keeps others away from both. */
static int base_lock(struct cow_disk *disk, struct error_text *error)
{
	if (file_relock(base_file(disk), true))
		return error_set(error, -EBUSY, "%s: others read it, too: close it there first", disk->base_backend->path);
	return 0;
}

/* Already this may change its time. */
static int base_open(struct cow_disk *disk, struct error_text *error)
{
	struct driver_options options = { .shared = true, .as_is = true, .no_direct = !disk->base_backend->geometry.direct };

	return backend_open(&disk->merge->base, disk->engine, disk->store->sb.base.target, &options, error);
}

/* The disk may have become larger in the store: a file follows it. */
static int base_grow(struct cow_disk *disk, struct error_text *error)
{
	struct backend *base = disk->merge->base;
	uint64_t sectors = disk->store->active->sectors;

	if (base->geometry.sectors >= sectors)
		return 0;
	if (base_file(disk)->blkdev)
		return cow_commit_too_small(disk->store, base->path, error);
	if (ftruncate(((struct aio_disk *)base->handle)->file->fd, (off_t)(sectors * SECTOR_SIZE)))
		return error_set(error, -errno, "%s: cannot be made larger: %s", base->path, strerror(errno));
	return backend_refresh_size(base, error);
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
		return error_set(error, -EBUSY, "%s: is being committed already", disk->device.name);
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
	/* from here on every end of a write marks */
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

/* Stays frozen when it is done. */
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
