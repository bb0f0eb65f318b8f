/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_open.c - opens a store that is to be served, and its base: the list
 * of the stores that this process has open.
 *
 * This reads and writes the store's metadata, and blocks the event loop
 * meanwhile, except in backend_open_begin(). A store that is being opened or
 * closed is in the list, and nobody else can open it.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aio.h"
#include "cow_base.h"
#include "cow_disk.h"

#define DELETE_REST 4		/* deletion gets at most a fifth of the time */
#define HOLE_REST 15		/* holes get a sixteenth */

static struct cow_disk *disks;

struct cow_disk *cow_disk_find(const struct stat *st)
{
	struct cow_disk *disk = disks;

	while (disk && (disk->dev != st->st_dev || disk->ino != st->st_ino))
		disk = disk->next;
	return disk;
}

static void disk_unlink(const struct cow_disk *disk)
{
	struct cow_disk **link = &disks;

	while (*link != disk)
		link = &(*link)->next;
	*link = disk->next;
}

struct opening {
	struct cow_disk *disk;
	const struct driver_options *options;
	struct error_text *error;
	int ret;
};

/* cow_base_open() checks that the base is unchanged since the store was put on it. */
static int check_raw_base(struct cow_disk *disk, const struct cow_base_fields *fields, struct error_text *error)
{
	struct cow_base base;
	int ret = cow_base_open(&base, COW_BASE_RAW, fields, &disk->device, error);

	if (!ret)
		cow_base_close(&base);
	return ret;
}

/* And that it is the same device, if it is one: what its name leads to may have changed. */
static int check_device(struct cow_disk *disk, struct error_text *error)
{
	const struct aio_disk *base = disk->base_backend->handle;

	return cow_base_check_device(&disk->device, disk->base_backend->path, base->file->fd, error);
}

static int check_cow_base(const struct cow_disk *disk, const struct cow_base_fields *fields, struct error_text *error)
{
	const struct cow_export *export = disk->base_backend->handle;
	const struct cow_store *store = export->disk->store;
	const struct cow_version *version = cow_version_find(store, export->snapshot);

	if (!version || memcmp(store->sb.uuid, fields->uuid, sizeof(fields->uuid)) || version->id != fields->version ||
	    version->time != fields->time)
		return error_set(error, -ESTALE, "%s: not the snapshot that the store was made on", fields->target);
	return 0;
}

struct file_opening {
	struct backend **backend;
	struct engine *engine;
	const char *target;
	const struct driver_options *options;
	struct error_text *error;
};

static int open_apart_run(void *arg)
{
	const struct file_opening *file = arg;

	return backend_open(file->backend, file->engine, file->target, file->options, file->error);
}

/* In a fiber, backend_open() of a raw image, as_is: it does not use the engine, so a thread does it. */
static int open_apart(struct backend **backend, struct engine *engine, const char *target, const struct driver_options *options,
		      struct error_text *error)
{
	struct file_opening file = { backend, engine, target, options, error };

	return cow_disk_call(engine, open_apart_run, &file);
}

static int open_base(struct opening *opening, enum cow_base_kind kind, const struct cow_base_fields *fields,
		     struct cow_base *base)
{
	struct cow_disk *disk = opening->disk;
	struct driver_options options = { .read_only = true, .no_direct = opening->options->no_direct,
		.as_is = true, .above = disk };
	int ret = 0;

	if (kind == COW_BASE_NONE)
		return 0;
	if (kind == COW_BASE_RAW)
		ret = check_raw_base(disk, fields, opening->error);
	options.aside = opening->options->aside && kind == COW_BASE_COW;
	if (!ret && opening->options->aside && kind == COW_BASE_RAW)
		ret = open_apart(&disk->base_backend, disk->engine, fields->target, &options, opening->error);
	else if (!ret)
		ret = backend_open(&disk->base_backend, disk->engine, fields->target, &options, opening->error);
	if (!ret && kind == COW_BASE_RAW)
		ret = check_device(disk, opening->error);
	if (!ret && kind == COW_BASE_COW)
		ret = check_cow_base(disk, fields, opening->error);
	/* whatever sector size that disk has: ours may be smaller, and both drivers take any */
	if (!ret)
		disk->base_backend->geometry.sector_size = SECTOR_SIZE;
	if (!ret)
		*base = (struct cow_base){ .read = cow_disk_base_read, .owner = disk,
			.sectors = fields->sectors };	/* the base may be larger, after an interrupted commit */
	return ret;
}

static void open_run(void *arg)
{
	struct opening *opening = arg;
	struct cow_disk *disk = opening->disk;
	struct cow_open_options options = { .read_only = disk->read_only, .cache_bytes = opening->options->cache_bytes,
		.layer_entries = opening->options->layer_entries, .journal = opening->options->journal };
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	int ret;

	ret = cow_probe(&disk->device, &kind, &fields, opening->error);
	if (!ret)
		ret = open_base(opening, kind, &fields, &options.base);
	if (!ret)
		ret = cow_open(&disk->store, &disk->device, &options, opening->error);
	if (!ret && !opening->options->undecided)
		ret = cow_prepared_settle(disk->store, opening->error);
	opening->ret = ret;
}

static void disk_free(struct cow_disk *disk)
{
	struct cow_request *r;

	if (disk->store)
		cow_abandon(disk->store);
	while ((r = disk->free)) {
		disk->free = r->next;
		free(r->pieces);
		free(r->iov);
		free(r->joined);
		free(r);
	}
	cow_merge_free(disk);
	backend_close(disk->base_backend);
	backend_close(disk->backend);
	backend_close(disk->reader);
	free(disk);
}

void cow_disk_forget(struct cow_disk *disk)
{
	disk_unlink(disk);
	disk_free(disk);
}

static struct cow_disk *disk_new(struct engine *engine, const struct stat *st, bool read_only)
{
	struct cow_disk *disk = calloc(1, sizeof(*disk));

	if (!disk)
		return NULL;
	disk->dev = st->st_dev;
	disk->ino = st->st_ino;
	disk->engine = engine;
	disk->read_only = read_only;
	disk->last_command = &disk->commands;
	disk->last_retired = &disk->retired;
	cow_task_init(disk);
	cow_pace_init(&disk->delete_pace, disk, DELETE_REST, cow_task_wake);
	cow_pace_init(&disk->hole_pace, disk, HOLE_REST, cow_retire_wake);
	cow_requests_init(&disk->held);
	cow_requests_init(&disk->overlapping);
	cow_requests_init(&disk->ready);
	cow_line_init(&disk->gate);
	cow_line_init(&disk->places);
	cow_requests_init(&disk->no_room);
	cow_requests_init(&disk->zeroes);
	cow_requests_init(&disk->flushes);
	return disk;
}

int cow_disk_open_backend(struct cow_disk *disk, struct backend **backend, const char *path,
			  const struct driver_options *options, struct error_text *error)
{
	struct driver_options below = { .read_only = options->read_only, .no_direct = options->no_direct,
		.shared = options->shared, .locked = options->locked, .as_is = true };
	char target[PATH_MAX + 8];

	if (snprintf(target, sizeof(target), "aio:%s", path) >= (int)sizeof(target))
		return error_set(error, -ENAMETOOLONG, "%s: path too long", path);
	return options->aside ? open_apart(backend, disk->engine, target, &below, error) :
		backend_open(backend, disk->engine, target, &below, error);
}

static int disk_open_backend(struct cow_disk *disk, const char *path, const struct driver_options *options,
			     struct error_text *error)
{
	int ret = cow_disk_open_backend(disk, &disk->backend, path, options, error);

	if (ret)
		return ret;
	disk->device.name = disk->backend->path;
	disk->device.ops = ((struct aio_disk *)disk->backend->handle)->file->blkdev ? &cow_disk_blkdev_ops :
		&cow_disk_file_ops;
	return 0;
}

void cow_disk_set_store(struct cow_disk *disk, struct cow_store *store)
{
	disk->store = store;
	/* Its feature bits may allow this program to read it only. */
	disk->read_only = store->read_only;
	store->retire = cow_retire;
	store->retire_owner = disk;
	store->pause = cow_task_pause;
	disk->want_delete = !disk->read_only && cow_delete_next(store);
	if (!disk->read_only && disk->backend->geometry.discard)
		cow_retire_search(disk);
}

int cow_disk_open(struct cow_disk **result, struct engine *engine, const char *path, const struct stat *st,
		  const struct driver_options *options, struct error_text *error)
{
	struct cow_disk *disk = disk_new(engine, st, options->read_only);
	struct opening opening = { disk, options, error };
	int ret;

	if (!disk)
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	disk->opening = true;
	disk->above = options->above;
	disk->next = disks;
	disks = disk;
	ret = disk_open_backend(disk, path, options, error);
	if (!ret)
		ret = cow_disk_run(disk, open_run, &opening);
	if (!ret)
		ret = opening.ret;
	disk->opening = false;
	disk->above = NULL;
	if (ret) {
		disk_unlink(disk);
		if (disk->store)
			cow_journal_end(disk->store, false);	/* no request was answered; what was replayed is in the store */
		disk_free(disk);
		return ret;
	}
	cow_disk_set_store(disk, disk->store);
	*result = disk;
	return 0;
}
