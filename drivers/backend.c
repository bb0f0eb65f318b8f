/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * backend.c - the only way to call a driver; checks each request.
 *
 * A driver sees a request only when
 *  1. it lies inside the disk, in whole sectors of the disk's sector size,
 *  2. its data, where it has any, is exactly as long as its range, in
 *     pieces of whole 512-byte sectors at 512-byte boundaries,
 *  3. the disk is writable if it changes anything, and supports discards if it is one.
 * A STATUS request has room for an answer, and the driver gives at least one extent.
 * Each request is completed exactly once: req->backend is set from submit
 * to done, and both assert it.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "fiber.h"
#include "file.h"
#include "overlay.h"

const struct driver_ops *const drivers[] = { &driver_aio, &driver_cow, &driver_null, NULL };

const char *block_op_name(enum block_op op)
{
	static const char *const names[BLOCK_NR_OPS] = {
		[BLOCK_READ] = "read",
		[BLOCK_WRITE] = "write",
		[BLOCK_FLUSH] = "flush",
		[BLOCK_DISCARD] = "discard",
		[BLOCK_WRITE_ZEROES] = "write-zeroes",
		[BLOCK_STATUS] = "status",
	};

	return (unsigned)op < BLOCK_NR_OPS ? names[op] : "unknown";
}

bool block_status_add(struct block_status *status, uint64_t nr_sectors, unsigned flags)
{
	unsigned count = status->count;

	if (count && status->extents[count - 1].flags == flags) {
		status->extents[count - 1].nr_sectors += nr_sectors;
	} else if (count < status->room) {
		status->extents[status->count++] = (struct block_extent){ nr_sectors, flags };
	} else {
		return false;
	}
	status->nr_sectors += nr_sectors;
	return true;
}

/* "aio, cow, null" */
static const char *backend_type_names(char *buffer, size_t size)
{
	size_t used = 0;
	int i;

	buffer[0] = '\0';
	for (i = 0; drivers[i] && used < size; i++)
		used += snprintf(buffer + used, size - used, "%s%s", i ? ", " : "", drivers[i]->name);
	return buffer;
}

int backend_parse_target(const char *target, const struct driver_ops **ops, const char **path,
			 struct error_text *error)
{
	const char *colon = strchr(target, ':');
	char names[128];
	int i;

	if (!colon)
		return error_set(error, -EINVAL, "%s: no type: write TYPE:PATH, for example aio:%s",
				 target, target);
	if (!colon[1])
		return error_set(error, -EINVAL, "%s: no path after the colon", target);
	for (i = 0; drivers[i]; i++) {
		if (strlen(drivers[i]->name) == (size_t)(colon - target) &&
		    !memcmp(drivers[i]->name, target, colon - target)) {
			*ops = drivers[i];
			*path = colon + 1;
			return 0;
		}
	}
	return error_set(error, -EINVAL, "%s: unknown type \"%.*s\": use one of %s", target,
			 (int)(colon - target), target, backend_type_names(names, sizeof(names)));
}

bool backend_open_again(int error, unsigned tries)
{
	/* I/O in flight takes as long as the device needs; a toolstack waits for 10 seconds and more */
	return error == -EAGAIN ? tries < 1000 / OPEN_AGAIN_MS : error == -EOWNERDEAD && tries < 9000 / OPEN_AGAIN_MS;
}

/* If an overlay record says that a raw image's disk is in a store, open the store. */
static int backend_follow(struct backend *backend, const char **path, const struct driver_options *options,
			  struct error_text *error)
{
	struct overlay overlay;
	int ret;

	if (options->only_raw && (backend->ops != &driver_aio || overlay_find(*path, &overlay, NULL)))
		return -EXDEV;
	if (backend->ops != &driver_aio || options->as_is || options->only_raw)
		return 0;
	ret = overlay_resolve(*path, options->read_only, &overlay, error);
	if (ret != 1)
		return ret;
	backend->overlay = strdup(overlay.store);
	if (!backend->overlay)
		return error_set(error, -ENOMEM, "%s: out of memory", *path);
	backend->ops = &driver_cow;
	*path = backend->overlay;
	return 0;
}

/* Check again now that the image is locked: a record may have been written since backend_follow(). */
static int backend_followed(const struct backend *backend, const char *path, const struct driver_options *options,
			    struct error_text *error)
{
	struct overlay overlay;
	int ret;

	if (backend->ops != &driver_aio || options->as_is)
		return 0;
	ret = overlay_resolve(path, true, &overlay, error);
	return ret == 1 ? error_set(error, -EBUSY, "%s: its disk is moving to a store: try again", path) : ret;
}

int backend_open(struct backend **result, struct engine *engine, const char *target,
		 const struct driver_options *options, struct error_text *error)
{
	struct backend *backend;
	const char *path;
	int ret;

	backend = calloc(1, sizeof(*backend));
	if (!backend)
		return error_set(error, -ENOMEM, "%s: out of memory", target);
	ret = backend_parse_target(target, &backend->ops, &path, error);
	if (ret)
		goto out;
	if (options->sector_size != 0 && options->sector_size != 512 && options->sector_size != 4096) {
		ret = error_set(error, -EINVAL, "%s: sector size %u: only 512 and 4096 are possible", target,
				options->sector_size);
		goto out;
	}
	ret = backend_follow(backend, &path, options, error);
	if (!ret && options->aside && backend->ops != &driver_cow)
		ret = -EXDEV;
	if (ret)
		goto out;
	backend->engine = engine;
	backend->path = strdup(path);
	if (!backend->path) {
		ret = error_set(error, -ENOMEM, "%s: out of memory", target);
		goto out;
	}
	ret = backend->ops->open(&backend->handle, engine, path, options, error);
	if (ret) {
		error_set(error, ret, "%s: %s", target, strerror(-ret));
		goto out;
	}
	ret = backend_followed(backend, path, options, error);
	if (ret) {
		backend->ops->close(backend->handle);
		goto out;
	}
	backend->ops->geometry(backend->handle, &backend->geometry);
	*result = backend;
	return 0;

out:
	free(backend->overlay);
	free(backend->path);
	free(backend);
	return ret;
}

struct backend_opening {
	struct backend *backend;
	struct engine *engine;
	struct driver_options options;
	struct error_text text;
	bool ended;
	int error;
	char target[];
};

static void opening_run(void *arg)
{
	struct backend_opening *opening = arg;

	opening->error = backend_open(&opening->backend, opening->engine, opening->target, &opening->options, &opening->text);
	opening->ended = true;
}

int backend_open_begin(struct backend_opening **result, struct engine *engine, const char *target,
		       const struct driver_options *options)
{
	struct backend_opening *opening = calloc(1, sizeof(*opening) + strlen(target) + 1);
	int ret;

	if (!opening)
		return -ENOMEM;
	strcpy(opening->target, target);
	opening->engine = engine;
	opening->options = *options;
	opening->options.aside = true;
	opening->options.journal = NULL;
	ret = fiber_start(opening_run, opening);
	if (ret)
		free(opening);
	else
		*result = opening;
	return ret;
}

bool backend_open_ended(const struct backend_opening *opening)
{
	return opening->ended;
}

int backend_open_end(struct backend_opening *opening, struct backend **backend, struct error_text *error)
{
	int ret = opening->error;

	*backend = ret ? NULL : opening->backend;
	if (ret)
		error_set(error, ret, "%s", opening->text.text);
	free(opening);
	return ret;
}

int backend_start(struct backend *backend, const char *journal, struct error_text *error)
{
	return backend->ops->start ? backend->ops->start(backend->handle, journal, error) : 0;
}

void backend_close(struct backend *backend)
{
	if (!backend)
		return;
	assert(!backend->in_flight && !backend->waiting && !backend->retried);
	backend->ops->close(backend->handle);
	free(backend->overlay);
	free(backend->path);
	free(backend);
}

bool backend_finish(struct backend *backend)
{
	assert(!backend->in_flight);
	return !backend->ops->finish || backend->ops->finish(backend->handle, &backend->answered);
}

struct image_file *backend_release(struct backend *backend)
{
	struct image_file *files = NULL;

	file_collect(&files);
	backend_close(backend);
	file_collect(NULL);
	return files;
}

void backend_close_files(struct image_file *files)
{
	file_close_all(files);
}

static int backend_check_data(const struct block_request *req, uint64_t bytes)
{
	uint64_t sum = 0;
	int i;

	if (req->iovcnt > ENGINE_MAX_IOV)
		return -EINVAL;
	for (i = 0; i < req->iovcnt; i++) {
		if (((uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len) % SECTOR_SIZE)
			return -EINVAL;
		if (__builtin_add_overflow(sum, req->iov[i].iov_len, &sum))
			return -EINVAL;
	}
	return sum == bytes ? 0 : -EINVAL;
}

static int backend_check_range(const struct backend *backend, const struct block_request *req)
{
	unsigned unit = backend->geometry.sector_size >> SECTOR_SHIFT;
	uint64_t end;

	if (!req->nr_sectors || __builtin_add_overflow(req->sector, req->nr_sectors, &end))
		return -EINVAL;
	if (end > backend->geometry.sectors || req->sector % unit || req->nr_sectors % unit)
		return -EINVAL;
	return 0;
}

static int backend_check(const struct backend *backend, const struct block_request *req)
{
	int error;

	if ((unsigned)req->op >= BLOCK_NR_OPS)
		return -EOPNOTSUPP;
	if (req->op == BLOCK_FLUSH)
		return req->sector || req->nr_sectors ? -EINVAL : 0;
	error = backend_check_range(backend, req);
	if (error)
		return error;
	if (req->op == BLOCK_STATUS)
		return req->status && req->status->room && !req->status->count ? 0 : -EINVAL;
	if (req->op != BLOCK_READ && backend->geometry.read_only)
		return -EROFS;
	if (req->op == BLOCK_DISCARD && !backend->geometry.discard)
		return -EOPNOTSUPP;
	if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
		return backend_check_data(req, req->nr_sectors << SECTOR_SHIFT);	/* within the disk: no overflow */
	return 0;
}

/* @tried: the request had reached the driver. */
static void backend_end(struct block_request *req, int error, bool tried)
{
	struct backend *backend = req->backend;

	assert(backend && backend->in_flight && error <= 0);
	assert(error || req->op != BLOCK_STATUS ||
	       (req->status->nr_sectors && req->status->nr_sectors <= req->nr_sectors));
	req->backend = NULL;
	backend->in_flight--;
	backend->retried -= req->had_no_room;
	req->had_no_room = false;
	backend->completions++;
	if (error && tried && backend->failed && backend->failed(req, error))
		return;
	req->done(req, error);
}

void backend_submit(struct backend *backend, struct block_request *req)
{
	int error;

	assert(!req->backend);
	req->backend = backend;
	backend->in_flight++;
	backend->retried += req->had_no_room;
	error = backend_check(backend, req);
	if (error)
		backend_end(req, error, false);
	else
		backend->ops->submit(backend->handle, req);
}

void backend_prefetch(struct backend *backend, uint64_t sector)
{
	if (backend->ops->prefetch)
		backend->ops->prefetch(backend->handle, sector);
}

void backend_done(struct block_request *req, int error)
{
	backend_end(req, error, true);
}

int backend_refresh_size(struct backend *backend, struct error_text *error)
{
	int ret;

	if (!backend->ops->refresh_size)
		return 0;
	ret = backend->ops->refresh_size(backend->handle, error);
	if (ret)
		return error_set(error, ret, "%s: %s", backend->path, strerror(-ret));
	backend->ops->geometry(backend->handle, &backend->geometry);
	return 0;
}

void backend_snapshot(struct backend *backend, struct snapshot_command *command)
{
	if (backend->ops->snapshot && !backend->geometry.read_only) {
		backend->ops->snapshot(backend->handle, command);
		return;
	}
	error_set(&command->error, -EOPNOTSUPP, backend->ops->snapshot ? "%s:%s: opened read-only" :
		  "%s:%s: disks of this type have no snapshots (a raw one gets them with snapshot-create --store)",
		  backend->ops->name, backend->path);
	command->done(command, -EOPNOTSUPP);
}

int backend_snapshot_list_from(struct backend *backend, uint64_t from,
			       int (*each)(void *owner, const struct snapshot_info *info), void *owner)
{
	return backend->ops->snapshot_list ? backend->ops->snapshot_list(backend->handle, from, each, owner) : 0;
}

int backend_snapshot_list(struct backend *backend, int (*each)(void *owner, const struct snapshot_info *info),
			  void *owner)
{
	return backend_snapshot_list_from(backend, 0, each, owner);
}

void backend_wait(struct block_request *req)
{
	req->backend->waiting++;
	req->backend->retried -= req->had_no_room;
	req->had_no_room = true;
}

void backend_wait_over(struct block_request *req)
{
	req->backend->waiting--;
	req->backend->retried++;
}

void backend_retry(struct backend *backend)
{
	if (backend->ops->retry)
		backend->ops->retry(backend->handle);
}

void backend_give_up(struct backend *backend)
{
	if (backend->ops->give_up)
		backend->ops->give_up(backend->handle);
}
