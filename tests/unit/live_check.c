/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_check.c - check a store that live_disk.h has used, after a crash or a
 * close, with the tools' library.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "live_disk.h"

struct look {
	struct live_disk *disk;
	enum live_check what;
	struct cow_device *device;
	struct cow_store *store;
	struct cow_base base;
	enum cow_base_kind base_kind;
	struct error_text error;
	uint64_t tags[LIVE_CELLS];
	bool listed[LIVE_SNAPSHOTS];
};

static int look_open(struct look *look, const char *path)
{
	struct cow_open_options options = { .read_only = look->what != LIVE_CRASHED, .cache_bytes = 1, .layer_entries = 150 };
	struct cow_base_fields fields;
	uint32_t flags;
	int ret;

	ret = cow_file_open(&look->device, path, options.read_only, &look->error);
	if (!ret)
		ret = cow_probe(look->device, &look->base_kind, &fields, &look->error);
	/* the state after the power cut stands for the disk */
	if (!ret && look->disk->look_base[0]) {
		flags = fields.flags;	/* cppcheck-suppress uninitStructMember; cow_probe() has set it */
		ret = cow_base_describe(&fields, look->disk->look_base, &look->error);
		fields.flags = flags;
	}
	if (!ret && look->base_kind)
		ret = cow_base_open(&look->base, look->base_kind, &fields, NULL, &look->error);
	options.base = look->base;
	if (!ret)
		ret = cow_open(&look->store, look->device, &options, &look->error);
	if (!ret && !options.read_only)
		ret = cow_prepared_settle(look->store, &look->error);
	if (ret)
		live_failed(look->disk, "reopening it: %s", look->error.text);
	return ret;
}

static void look_close(struct look *look)
{
	if (look->store)
		cow_abandon(look->store);
	if (look->base.read)
		cow_base_close(&look->base);
	if (look->device)
		cow_file_close(look->device);
}

/* Each sector is filled with one tag; anything else was never written. */
static void look_read(struct look *look, const char *name, uint64_t sectors)
{
	static uint8_t data[LIVE_ISLAND * SECTOR_SIZE];
	uint64_t first, n;
	unsigned i, cell;
	int ret;

	memset(look->tags, 0, sizeof(look->tags));
	for (cell = 0; cell < LIVE_CELLS; cell += LIVE_ISLAND) {
		first = live_sector(cell);
		if (first >= sectors)
			return;
		n = sectors - first < LIVE_ISLAND ? sectors - first : LIVE_ISLAND;
		ret = name ? cow_snapshot_read(look->store, name, data, first, n) : cow_read(look->store, data, first, n);
		if (ret)
			live_failed(look->disk, "%s cannot be read: %s", name ? name : "active", strerror(-ret));
		for (i = 0; i < n; i++) {
			memcpy(&look->tags[cell + i], data + i * SECTOR_SIZE, 8);
			if (memcmp(data + i * SECTOR_SIZE, data + i * SECTOR_SIZE + 8, SECTOR_SIZE - 8))
				live_failed(look->disk, "%s: cell %u is torn", name ? name : "active", cell + i);
		}
	}
}

static void check_active(struct look *look)
{
	struct live_disk *disk = look->disk;
	struct cow_info info;
	unsigned i, bad;

	cow_get_info(look->store, &info);
	look_read(look, NULL, info.sectors);
	if (disk->intent.state == LIVE_COMMITTING) {
		if (!live_image_fits(&disk->intent.target->image, look->tags, &bad))
			live_failed(disk, "it has not gone back, though that was decided");
		return;
	}
	if (disk->reverter.busy && disk->intent.state == LIVE_NONE &&
	    live_image_fits(&disk->reverter.snapshot->image, look->tags, &bad))
		return;
	if (info.sectors != disk->model.sectors && !(disk->growing && info.sectors == disk->growing))
		live_failed(disk, "the disk has %llu sectors and should have %llu", (unsigned long long)info.sectors,
			    (unsigned long long)disk->model.sectors);
	for (i = 0; i < LIVE_CELLS; i++) {
		if (!(look->what == LIVE_CLOSED || look->what == LIVE_CLOSED_LEAKY ? live_read(&disk->model, i, disk->model.now, look->tags[i]) :
		      live_after_crash(&disk->model, i, look->tags[i])))
			live_failed(disk, "reopened, cell %u (sector %llu) is %llx, which cannot be", i,
				    (unsigned long long)live_sector(i), (unsigned long long)look->tags[i]);
	}
}

static int note_listed(void *owner, const struct snapshot_info *info)
{
	struct look *look = owner;
	struct live_snapshot *snapshot;
	unsigned i;

	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		snapshot = &look->disk->snapshot[i];
		if (snapshot->state == LIVE_NONE || strcmp(snapshot->name, info->name))
			continue;
		look->listed[i] = true;
		return 0;
	}
	live_failed(look->disk, "snapshot %s should not be there", info->name);
	return 0;
}

static bool must_be_there(const struct live_snapshot *snapshot)
{
	return snapshot->state == LIVE_THERE || snapshot->state == LIVE_COMMITTING;
}

/* Of an undecided group no snapshot may be listed. */
static bool may_be_there(const struct live_snapshot *snapshot)
{
	return must_be_there(snapshot) || snapshot->state == LIVE_CREATING ||
		(snapshot->state == LIVE_DELETING && !snapshot->decision[0]);
}

static void check_snapshot(struct look *look, struct live_snapshot *snapshot, bool listed)
{
	struct live_disk *disk = look->disk;
	struct live_image image = { 0 };
	unsigned bad;

	/* A decided snapshot is listed once an open for writing has settled it. */
	if (!listed && must_be_there(snapshot) && !(snapshot->state == LIVE_COMMITTING && look->what != LIVE_CRASHED))
		live_failed(disk, "snapshot %s is lost", snapshot->name);
	if (listed && !may_be_there(snapshot))
		live_failed(disk, "snapshot %s should not be there: its state is %u", snapshot->name, snapshot->state);
	if (!listed || disk->failure[0])
		return;
	if (snapshot->state == LIVE_CREATING)
		live_image_take(&disk->model, snapshot->from, disk->options.full || disk->faulty, &image);
	else
		image = snapshot->image;
	look_read(look, snapshot->name, image.sectors);
	if (!live_image_fits(&image, look->tags, &bad))
		live_failed(disk, "snapshot %s: cell %u is %llx, which it cannot hold", snapshot->name, bad,
			    (unsigned long long)look->tags[bad < LIVE_CELLS ? bad : 0]);
	if (snapshot->state == LIVE_CREATING)
		live_image_free(&image);
}

static void check_snapshots(struct look *look)
{
	unsigned i;

	memset(look->listed, 0, sizeof(look->listed));
	cow_snapshot_list(look->store, note_listed, look);
	for (i = 0; i < LIVE_SNAPSHOTS; i++)
		check_snapshot(look, &look->disk->snapshot[i], look->listed[i]);
}

static void complaint(void *owner, const char *text)
{
	live_failed(owner, "check: %s", text);
}

static void check_consistent(struct look *look)
{
	struct cow_check check = { .report = look->what == LIVE_CLOSED_LEAKY ? NULL : complaint, .owner = look->disk };
	int ret = cow_check(look->store, &check, false);

	if (ret)
		live_failed(look->disk, "check: %s", strerror(-ret));
	if (check.errors || check.copies || (check.leaks && look->what != LIVE_CLOSED_LEAKY))
		live_failed(look->disk, "check: %llu errors, %llu leaks, %u bad superblock copies", (unsigned long long)check.errors,
			    (unsigned long long)check.leaks, check.copies);
}

static void finish_deletions(struct look *look)
{
	struct cow_info info;
	int ret;

	while ((ret = cow_delete_step(look->store)) > 0)
		;
	if (ret)
		live_failed(look->disk, "deletion: %s", strerror(-ret));
	cow_get_info(look->store, &info);
	if (info.deletions > info.snapshots)
		live_failed(look->disk, "%u deletions are left with %u snapshots", info.deletions, info.snapshots);
}

static void adopt_snapshot(struct look *look, struct live_snapshot *snapshot, bool listed)
{
	struct live_image image = { 0 };
	unsigned bad;

	if (!listed && snapshot->state != LIVE_COMMITTING) {
		snapshot->state = LIVE_NONE;
		return;
	}
	if (snapshot->state == LIVE_CREATING) {
		live_image_take(&look->disk->model, snapshot->from, look->disk->options.full || look->disk->faulty, &image);
		snapshot->image = image;
	}
	snapshot->state = LIVE_THERE;
	snapshot->decision[0] = '\0';
	if (!listed)
		return;
	look_read(look, snapshot->name, snapshot->image.sectors);
	if (!live_image_settle(&snapshot->image, look->tags, &bad))
		live_failed(look->disk, "snapshot %s: cell %u does not fit", snapshot->name, bad);
}

/* The contents do not change any more: the power is off and nothing is in flight. */
static void adopt(struct look *look)
{
	struct live_disk *disk = look->disk;
	struct cow_info info;
	unsigned i;

	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		if (disk->snapshot[i].state != LIVE_NONE)
			adopt_snapshot(look, &disk->snapshot[i], look->listed[i]);
	}
	cow_get_info(look->store, &info);
	disk->model.sectors = info.sectors;
	look_read(look, NULL, info.sectors);
	for (i = 0; i < LIVE_CELLS; i++)
		live_settle(&disk->model, i, look->tags[i]);
	disk->maker.busy = disk->freezer.busy = disk->remover.busy = disk->reverter.busy = false;
	disk->merger.busy = disk->grower.busy = false;
	disk->growing = 0;
	disk->model.watched = LIVE_EVER;
}

/* Whoever opens the store with an undecided snapshot decides against it. The disk continues as if nobody had. */
static void undecide(struct live_disk *disk)
{
	struct live_snapshot *snapshot;

	for (snapshot = disk->snapshot; snapshot < disk->snapshot + LIVE_SNAPSHOTS; snapshot++) {
		if (snapshot->state == LIVE_PREPARING || snapshot->state == LIVE_PREPARED ||
		    (snapshot->state == LIVE_DELETING && snapshot->decision[0]))
			unlink(snapshot->decision);
	}
	if (disk->intent.state != LIVE_NONE && disk->intent.state != LIVE_COMMITTING)
		unlink(disk->intent.decision);
}

void live_check(struct live_disk *disk, const char *path, enum live_check what)
{
	struct look *look = calloc(1, sizeof(*look));

	assert_non_null(look);
	look->disk = disk;
	look->what = what;
	if (!look_open(look, path)) {
		check_active(look);
		check_snapshots(look);
		check_consistent(look);
	}
	if (look->store && what == LIVE_CRASHED && !disk->failure[0]) {
		finish_deletions(look);
		check_consistent(look);
		check_active(look);
		check_snapshots(look);
	}
	if (look->store && what != LIVE_CRASHED && !disk->failure[0])
		adopt(look);
	look_close(look);
	if (what == LIVE_CRASHED)
		undecide(disk);
	free(look);
}
