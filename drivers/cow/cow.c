/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow.c - the driver `cow`: "cow:PATH" is the active disk of the store in
 * PATH, "cow:PATH@NAME" one of its snapshots, for reading.
 *
 * A process opens a store once, however many of its snapshots it serves
 * besides the active disk. The lock of the file gives the store to one
 * process: a reader in a second process would read nodes that the first has
 * reused. cow_disk.h shows the path of a request.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow_base.h"
#include "cow_disk.h"
#include "path.h"

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
	export->disk = cow_disk_find(&st);
	ret = export->disk ? check_busy(export->disk, path, error) : 0;
	if (ret)
		return ret;
	if (export->disk && options->aside && !name && !wanted.read_only && !export->disk->active)
		return -EXDEV;		/* it is in use by its snapshots only */
	if (!export->disk) {
		ret = cow_disk_open(&export->disk, engine, path, &st, &wanted, error);
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
		cow_disk_close(export->disk);
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
		cow_disk_close(disk);
}

/* A base may be the last user of its store, too. */
static bool driver_cow_finish(void *handle, uint64_t *answered)
{
	struct cow_disk *disk = ((struct cow_export *)handle)->disk;
	struct backend *base = disk->base_backend;
	bool finished;

	if (disk->exports > 1)
		return true;
	finished = cow_disk_finish(disk) && (!base || backend_finish(base));
	*answered = disk->backend->completions + (base ? base->completions + base->answered : 0);
	return finished;
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
