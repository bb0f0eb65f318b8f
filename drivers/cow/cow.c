/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow.c - the driver `cow`: "cow:PATH" is the active disk of the store in
 * PATH, "cow:PATH@NAME" one of its snapshots, for reading.
 *
 * A process opens a store once, however many of its snapshots it serves
 * besides the active disk. The lock of the file gives the store to one
 * process: a reader in a second process would read nodes that the first has
 * reused. cow_disk.h shows the path of a request.
 *
 * Opening a store reads and writes its metadata, and blocks the event loop
 * meanwhile, except in backend_open_begin(). So does closing it, unless
 * finish() has come before it.
 *
 * A store that is being opened or closed is in the list, and nobody else can
 * open it:
 *
 *   close: stop ---> its fibers have ended ---> log, map, bitmap and superblock are written, in a fiber ---> closed
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
#include "path.h"

#define DELETE_REST 4		/* deletion gets at most a fifth of the time */
#define HOLE_REST 15		/* holes get a sixteenth */

static struct cow_disk *disks;

static struct cow_disk *disk_find(const struct stat *st)
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

/* A store's base may have that store as its base. */
static int check_circle(const struct cow_disk *above, const struct stat *st, const char *path, struct error_text *error)
{
	for (unsigned depth = 1; above; above = above->above, depth++) {
		if (depth == COW_BASE_DEPTH || (above->dev == st->st_dev && above->ino == st->st_ino))
			return error_set(error, -ELOOP, "%s: chain of more than %u bases, or a loop", path,
					 COW_BASE_DEPTH);
	}
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

static int disk_open(struct cow_disk **result, struct engine *engine, const char *path, const struct stat *st,
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

static bool disk_idle(const struct cow_disk *disk)
{
	return !disk->task && !disk->flusher && !disk->filler && !disk->retirer && !disk->loads;
}

/* A failure here does not affect the guest: flushed data is safe, and the next open reads the log. */
static void close_run(void *arg)
{
	struct cow_disk *disk = arg;

	cow_close(disk->store);
	disk->store = NULL;
	disk->close = CLOSE_ENDED;
}

/* Blocks not punched for lack of memory only cost space on the host. */
static void retired_free(struct cow_disk *disk)
{
	struct cow_retired *retired;

	while ((retired = disk->retired)) {
		disk->store->alloc.unrecorded = true;
		disk->retired = retired->next;
		cow_list_free(&retired->blocks);
		free(retired);
	}
}

static void stop(struct cow_disk *disk)
{
	disk->stopping = true;
	if (disk->retirer || cow_retire_pending(disk))
		cow_retire_wake(disk);
}

/* Nothing but the close uses the store from here on. Without memory for a fiber nothing is written: as after a crash. */
static void close_begin(struct cow_disk *disk)
{
	engine_cancel_timer(disk->engine, &disk->room_timer);
	cow_pace_stop(&disk->delete_pace);
	cow_pace_stop(&disk->hole_pace);
	retired_free(disk);
	disk->store->retire = NULL;
	disk->store->pause = NULL;
	disk->close = CLOSE_WRITES;
	if (fiber_start(close_run, disk))
		disk->close = CLOSE_ENDED;
}

/* Call until it returns true, after I/O has completed; from a fiber of the disk it may not be called. */
static bool disk_finish(struct cow_disk *disk)
{
	if (!disk->stopping)
		stop(disk);
	if (disk->close == CLOSE_WAITS && disk_idle(disk))
		close_begin(disk);
	return disk->close == CLOSE_ENDED;
}

static void disk_close(struct cow_disk *disk)
{
	cow_disk_wait(disk, disk_finish);
	disk_unlink(disk);
	disk_free(disk);
}

static int export_of_snapshot(struct cow_export *export, const char *name, struct error_text *error)
{
	const struct cow_version *version = cow_version_by_name(export->disk->store, name);

	if (!version || version->decision[0])
		return error_set(error, -ENOENT, "%s: has no snapshot called \"%.64s\"", export->disk->device.name, name);
	if (version->id == export->disk->deleting)
		return error_set(error, -EBUSY, "%s: snapshot \"%.64s\" is being deleted", export->disk->device.name, name);
	export->snapshot = version->id;
	export->sectors = version->sectors;
	export->next = export->disk->snapshots;
	export->disk->snapshots = export;
	return 0;
}

static int export_of_active(struct cow_export *export, const struct driver_options *options, struct error_text *error)
{
	struct cow_disk *disk = export->disk;

	if (disk->active || (disk->read_only && !options->read_only))
		return error_set(error, -EBUSY, "%s: in use by this process%s", disk->device.name,
				 disk->active ? "" : ", for reading");
	export->sectors = disk->store->active->sectors;
	disk->active = export;
	return 0;
}

static int attach_journal(struct cow_disk *disk, const char *journal, struct error_text *error)
{
	int ret = cow_journal_attach(disk->store, journal);

	if (ret)
		return error_set(error, ret, "%s: %s", journal, strerror(-ret));
	/* the journal is incomplete until the next flush */
	if (!cow_flush_idle(disk->store))
		cow_flusher_wake(disk);
	return 0;
}

/* The store is open for writing because of its snapshots; its disk is opened again. */
static int take_up(struct cow_disk *disk, const struct driver_options *options, struct error_text *error)
{
	int ret = options->journal ? attach_journal(disk, options->journal, error) : 0;

	return ret || options->undecided ? ret : cow_disk_settle(disk, error);
}

struct look { const char *path; struct stat st; };

static int look_run(void *arg)
{
	struct look *look = arg;

	return path_stat(look->path, &look->st) ? -errno : 0;
}

static int look_at(struct engine *engine, const char *path, struct stat *st, bool aside)
{
	struct look look = { .path = path };
	int ret = aside ? cow_disk_call(engine, look_run, &look) : look_run(&look);

	*st = look.st;
	return ret;
}

/* An open store may be in a state in which nobody can open it. */
static int check_busy(const struct cow_disk *disk, const char *path, struct error_text *error)
{
	if (!disk->opening && !disk->reopening && !disk->stopping)
		return 0;
	return error_set(error, -EAGAIN, "%s: in use: this process is still %s it, and its device or file server has not answered: "
			 "try again later", path, disk->stopping ? "closing" : "opening");
}

static int export_open(struct cow_export *export, struct engine *engine, const char *path, const char *name,
		     const struct driver_options *options, struct error_text *error)
{
	struct driver_options wanted = *options;
	struct stat st;
	int ret;

	ret = look_at(engine, path, &st, options->aside);
	if (ret)
		return error_set(error, ret, "%s: %s", path, strerror(-ret));
	ret = check_circle(options->above, &st, path, error);
	if (ret)
		return ret;
	wanted.read_only |= name != NULL;
	export->disk = disk_find(&st);
	ret = export->disk ? check_busy(export->disk, path, error) : 0;
	if (ret)
		return ret;
	if (export->disk && options->aside && !name && !wanted.read_only && !export->disk->active)
		return -EXDEV;		/* it is in use by its snapshots only */
	if (!export->disk) {
		ret = disk_open(&export->disk, engine, path, &st, &wanted, error);
		if (ret)
			return ret;
	} else if (!name && !wanted.read_only && export->disk->read_only && !export->disk->active) {
		ret = cow_disk_reopen(export->disk, path, options, error);
		if (ret)
			return ret;
	} else if (!name && !wanted.read_only && !export->disk->active) {
		ret = take_up(export->disk, options, error);
		if (ret)
			return ret;
	}
	export->disk->exports++;
	ret = name ? export_of_snapshot(export, name, error) : export_of_active(export, options, error);
	export->read_only = wanted.read_only || export->disk->read_only;
	if (ret && !--export->disk->exports)
		disk_close(export->disk);
	return ret;
}

static int driver_cow_open(void **handle, struct engine *engine, const char *target, const struct driver_options *options,
			   struct error_text *error)
{
	struct cow_export *export = calloc(1, sizeof(*export));
	const char *name;
	char *path = cow_target_split(target, &name);
	int ret = -ENOMEM;

	if (export && path && name && !options->read_only)
		ret = error_set(error, -EROFS, "%s: snapshots are read-only: open it read-only, or create a disk on it with "
				"tap-img create -b", target);
	else if (export && path)
		ret = export_open(export, engine, path, name, options, error);
	free(path);
	if (ret) {
		free(export);
		return ret;
	}
	*handle = export;
	if (!options->aside)
		cow_task_wake(export->disk);
	return 0;
}

/* Nothing was written since the open, so the journal has everything from the beginning. */
static int driver_cow_start(void *handle, const char *journal, struct error_text *error)
{
	const struct cow_export *export = handle;
	int ret = journal && !export->read_only ? attach_journal(export->disk, journal, error) : 0;

	if (!ret)
		cow_task_wake(export->disk);
	return ret;
}

static void driver_cow_close(void *handle)
{
	struct cow_export *export = handle, **link;
	struct cow_disk *disk = export->disk;

	if (disk->active == export) {
		disk->active = NULL;
	} else {
		for (link = &disk->snapshots; *link != export; link = &(*link)->next)
			;
		*link = export->next;
	}
	free(export);
	if (!--disk->exports)
		disk_close(disk);
}

/* A base may be the last user of its store, too. */
static bool driver_cow_finish(void *handle)
{
	struct cow_disk *disk = ((struct cow_export *)handle)->disk;

	return disk->exports > 1 || (disk_finish(disk) && (!disk->base_backend || backend_finish(disk->base_backend)));
}

static void driver_cow_geometry(void *handle, struct driver_geometry *geometry)
{
	const struct cow_export *export = handle;
	const struct cow_disk *disk = export->disk;
	const struct driver_geometry *below = &disk->backend->geometry;
	unsigned sector_size = disk->store->sb.sector_size;

	*geometry = (struct driver_geometry){
		.sectors = export->sectors,
		.sector_size = sector_size,
		.physical_sector_size = export->sectors % COW_SECTORS ? sector_size : COW_BLOCK,
		.read_only = export->read_only,
		.direct = below->direct,
		.discard = !export->read_only,
		.discard_granularity = export->read_only ? 0 : COW_BLOCK,
		.fast_zeroes = !export->read_only,
		.pages_stable = below->pages_stable && (!disk->base_backend || disk->base_backend->geometry.pages_stable),
	};
}

/* A revert or a resize has already changed the size; geometry() returns it. */
static int driver_cow_refresh_size(void *handle, struct error_text *error)
{
	return 0;
}

static void driver_cow_submit(void *handle, struct block_request *req)
{
	struct cow_export *export = handle;
	struct cow_request *r = cow_request_get(export->disk, export, req);

	if (r)
		cow_request_start(r);
	else
		backend_done(req, -ENOMEM);
}

static void driver_cow_prefetch(void *handle, uint64_t sector)
{
	struct cow_export *export = handle;

	if (!export->snapshot)
		cow_map_prefetch(export->disk->store, export->disk->store->active, sector / COW_SECTORS);
}

static void driver_cow_snapshot(void *handle, struct snapshot_command *command)
{
	cow_command_start(((struct cow_export *)handle)->disk, command);
}

struct listing {
	const struct cow_disk *disk;
	int (*each)(void *owner, const struct snapshot_info *info);
	void *owner;
};

/* The store does not know which snapshots are open. */
static int list_one(void *owner, const struct snapshot_info *info)
{
	const struct listing *listing = owner;
	struct snapshot_info all = *info;

	all.open = cow_disk_snapshot_open(listing->disk, info->id);
	return listing->each(listing->owner, &all);
}

static int driver_cow_snapshot_list(void *handle, uint64_t from, int (*each)(void *owner, const struct snapshot_info *info),
				    void *owner)
{
	struct listing listing = { ((struct cow_export *)handle)->disk, each, owner };

	return cow_snapshot_list_from(listing.disk->store, from, list_one, &listing);
}

static void no_room_end(struct cow_disk *disk, int error)
{
	struct cow_request *r, *next;

	for (r = cow_requests_take(&disk->no_room); r; r = next) {
		next = r->next;
		backend_wait_over(r->req);
		if (error)
			cow_request_done(r, error);
		else
			cow_request_start(r);
	}
}

static void driver_cow_retry(void *handle)
{
	struct cow_disk *disk = ((struct cow_export *)handle)->disk;

	disk->full = disk->no_room_tried = disk->growth_failed = false;
	disk->want_catch_up |= disk->room_timer.set;
	disk->want_delete |= !disk->read_only && cow_delete_next(disk->store);
	no_room_end(disk, 0);
	cow_task_wake(disk);
}

static void driver_cow_give_up(void *handle)
{
	no_room_end(((struct cow_export *)handle)->disk, -ENOSPC);
}

bool cow_backend_uuid(const struct backend *backend, uint8_t uuid[16])
{
	if (backend->ops != &driver_cow)
		return false;
	memcpy(uuid, ((const struct cow_export *)backend->handle)->disk->store->sb.uuid, 16);
	return true;
}

bool cow_backend_leftover(const struct backend *backend, struct cow_leftover *leftover)
{
	const struct cow_version *version;
	const struct cow_store *store;

	if (backend->ops != &driver_cow)
		return false;
	store = ((const struct cow_export *)backend->handle)->disk->store;
	*leftover = (struct cow_leftover){ .unpunched = store->alloc.unpunched << COW_SHIFT };
	for (version = store->versions; version; version = version->next)
		leftover->deletions += cow_version_gone(version);
	return true;
}

const struct driver_ops driver_cow = {
	.name = "cow",
	.help = "PATH[@SNAPSHOT]: a snapshot store",
	.open = driver_cow_open,
	.close = driver_cow_close,
	.finish = driver_cow_finish,
	.start = driver_cow_start,
	.geometry = driver_cow_geometry,
	.submit = driver_cow_submit,
	.prefetch = driver_cow_prefetch,
	.refresh_size = driver_cow_refresh_size,
	.snapshot = driver_cow_snapshot,
	.snapshot_list = driver_cow_snapshot_list,
	.flush_repeats = true,
	.retry = driver_cow_retry,
	.give_up = driver_cow_give_up,
};
