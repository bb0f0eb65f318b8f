/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_reopen.c - reopen a store for writing that is open read-only because
 * clones of its snapshots are in use. If they have kept it open for writing,
 * its prepared snapshots are only settled when its disk is opened again.
 *
 *    reader's lock ---> writer's lock ---> open the store again ---> replace the old one
 *
 * Invariants:
 * 1. New requests wait, so none reads the old state while the new opening
 *    changes the store.
 * 2. Reads in flight continue: the reader's backend stays open. It has the
 *    locks, and has one of them at every moment.
 * 3. After a failure the store stays open read-only. It is loaded again,
 *    because it may have been changed already.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "aio.h"
#include "cow_disk.h"

struct reopening {
	struct cow_disk *disk;
	struct cow_open_options options;
	bool undecided;
	struct cow_store *store;	/* out */
	struct error_text *error;
	int ret;
};

static void reopen_run(void *arg)
{
	struct reopening *reopening = arg;
	int ret;

	ret = cow_open(&reopening->store, &reopening->disk->device, &reopening->options, reopening->error);
	if (ret)
		reopening->store = NULL;
	else if (!reopening->undecided)
		ret = cow_prepared_settle(reopening->store, reopening->error);
	reopening->ret = ret;
}

/* The clones' snapshots must still exist: a dead process's log may contain a deletion. */
static int check_snapshots(const struct cow_disk *disk, const struct cow_store *store, struct error_text *error)
{
	const struct cow_export *export;
	const struct cow_version *version;

	for (export = disk->snapshots; export; export = export->next) {
		version = cow_version_find(store, export->snapshot);
		if (!version || (version->deleted && !store->read_only))
			return error_set(error, -ESTALE, "%s: an open snapshot was deleted", disk->device.name);
	}
	return 0;
}

static int store_reopen(struct cow_disk *disk, const struct driver_options *options, bool read_only,
			struct error_text *error)
{
	struct reopening reopening = { .disk = disk, .undecided = options->undecided, .error = error, .options = {
		.read_only = read_only, .base = disk->store->base, .cache_bytes = options->cache_bytes,
		.layer_entries = options->layer_entries, .journal = options->journal } };
	int ret = cow_disk_run(disk, reopen_run, &reopening);

	if (!ret)
		ret = reopening.ret;
	if (!ret)
		ret = check_snapshots(disk, reopening.store, error);
	if (ret) {
		if (reopening.store) {
			cow_journal_end(reopening.store, false);	/* as when a first open fails */
			cow_abandon(reopening.store);
		}
		return ret;
	}
	cow_abandon(disk->store);
	cow_disk_set_store(disk, reopening.store);
	return 0;
}

static const struct image_file *file_of(const struct backend *backend)
{
	return ((struct aio_disk *)backend->handle)->file;
}

static int check_same(const struct backend *reader, const struct backend *writer, struct error_text *error)
{
	struct stat was, is;

	if (fstat(file_of(reader)->fd, &was) || fstat(file_of(writer)->fd, &is))
		return error_set(error, -errno, "%s: %s", writer->path, strerror(errno));
	if (was.st_dev != is.st_dev || was.st_ino != is.st_ino)
		return error_set(error, -ESTALE, "%s: was replaced while it was being opened", writer->path);
	return 0;
}

static int writer_open(struct cow_disk *disk, const char *path, struct error_text *error)
{
	struct backend *reader = disk->backend, *writer;
	int ret;

	if (file_relock(file_of(reader), true))
		return error_set(error, -EBUSY, "%s: in use by this process, for reading, and by another one: close it there first",
				 disk->device.name);
	ret = cow_disk_open_backend(disk, &writer, path, &(struct driver_options){ .locked = true,
				    .no_direct = !reader->geometry.direct }, error);
	if (!ret) {
		ret = check_same(reader, writer, error);
		if (ret)
			backend_close(writer);
	}
	if (ret) {
		file_relock(file_of(reader), false);
		return ret;
	}
	disk->reader = reader;
	disk->backend = writer;
	return 0;
}

static void writer_close(struct cow_disk *disk)
{
	backend_close(disk->backend);
	disk->backend = disk->reader;
	disk->reader = NULL;
	file_relock(file_of(disk->backend), false);
}

static void one_settled(struct snapshot_command *command, int error)
{
	*(int *)command->owner = error;
}

/* By a command, since the task may be running. */
static int settle_one(struct cow_disk *disk, const struct cow_version *version, struct error_text *error)
{
	int decided = cow_decision_abort(version->decision, error), result = 1;
	struct snapshot_command command = { .op = decided ? SNAPSHOT_COMMIT : SNAPSHOT_ABORT, .done = one_settled,
		.owner = &result };
	char name[COW_NAME_MAX + 1];

	if (decided < 0)
		return decided;
	snprintf(name, sizeof(name), "%s", version->name);
	command.name = name;
	cow_command_start(disk, &command);
	while (result == 1) {
		disk->engine->ops->wait(disk->engine);
		engine_reap(disk->engine);
	}
	return result ? error_set(error, result, "%s", command.error.text) : 0;
}

int cow_disk_settle(struct cow_disk *disk, struct error_text *error)
{
	const struct cow_version *version;
	unsigned count;
	int ret = 0;

	/* It may fail because another command has just settled it: then there is one less, too. */
	while (!ret && (version = cow_prepared_next(disk->store))) {
		count = cow_prepared_count(disk->store);
		ret = settle_one(disk, version, error);
		if (cow_prepared_count(disk->store) < count)
			ret = 0;
	}
	return ret;
}

int cow_disk_reopen(struct cow_disk *disk, const char *path, const struct driver_options *options,
		    struct error_text *error)
{
	int ret;

	disk->reopening = true;
	ret = writer_open(disk, path, error);
	if (!ret) {
		ret = store_reopen(disk, options, false, error);
		if (ret) {
			writer_close(disk);
			store_reopen(disk, options, true, NULL);
		}
	}
	disk->reopening = false;
	cow_disk_kick(disk);
	return ret;
}
