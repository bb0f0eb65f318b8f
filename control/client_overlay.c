/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_overlay.c - creates the stores that raw disks move to for a snapshot:
 * before any disk is frozen, because that takes time. Removes them if the
 * snapshot fails.
 *
 * Until a disk's overlay record names a store, the store is an unused file. It
 * is marked as having a base that is still written, until the disk moves to it
 * (overlay.h).
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_internal.h"
#include "client_many.h"
#include "cow_base.h"
#include "overlay.h"
#include "path.h"

static json_t *info_request(struct many_disk *disk, void *arg)
{
	disk->skip = !disk->ctl || !disk->disk.store;
	return disk->skip ? NULL : json_pack("{s:s, s:i}", "command", "info", "minor", disk->disk.minor);
}

static const json_t *info_of(const struct many_disk *disk)
{
	return json_object_get(disk->reply, "disk");
}

static const char *info_string(const struct many_disk *disk, const char *name)
{
	return json_string_value(json_object_get(info_of(disk), name));
}

static bool is_directory(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Is it a raw disk that is not in a store? */
static bool is_raw(const struct many_disk *disk)
{
	const char *type = info_string(disk, "type");

	return type && !strcmp(type, "aio") && !info_string(disk, "store");
}

static int check_disk(const struct many_disk *disk, struct error_text *text)
{
	if (!info_string(disk, "type"))
		return error_set(text, -EINVAL, "minor %d of tapdisk %d has no image open", disk->disk.minor, disk->disk.pid);
	if (!is_raw(disk))
		return error_set(text, -EEXIST, "%s is already in a store: do not give --store for it",
				 info_string(disk, "target"));
	if (json_is_true(json_object_get(info_of(disk), "read_only")))
		return error_set(text, -EROFS, "%s is open read-only", info_string(disk, "target"));
	return overlay_check(info_string(disk, "path"), text);
}

/* The store's absolute path: --store, or a file in it if that is a directory. The caller frees it. */
static char *name_store(const char *given, const char *image, struct error_text *text)
{
	char directory[PATH_MAX], copy[PATH_MAX], real[PATH_MAX], *path = NULL;

	if (is_directory(given) && realpath(given, directory) &&
	    snprintf(copy, sizeof(copy), "%s", image) < (int)sizeof(copy)) {
		if (asprintf(&path, "%s/%s.cow", directory, basename(copy)) < 0)
			path = NULL;
	} else if (snprintf(copy, sizeof(copy), "%s", given) < (int)sizeof(copy) && realpath(dirname(copy), directory)) {
		snprintf(real, sizeof(real), "%s", given);
		if (asprintf(&path, "%s/%s", directory, basename(real)) < 0)
			path = NULL;
	} else {
		error_set(text, -ENOENT, "%s: no such directory", given);
	}
	if (!path)
		error_set(text, -ENOMEM, "out of memory");
	return path;
}

static int nothing_to_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	return -EIO;
}

/* Does it have at most its initial snapshot, and was nothing ever written to its disk? */
static bool store_unused(struct cow_device *device, const struct cow_base_fields *fields)
{
	struct cow_open_options options = { .read_only = true,
		.base = { .read = nothing_to_read, .sectors = fields->sectors } };
	struct cow_extent extent = { .kind = COW_EXTENT_DATA };
	struct cow_store *store;
	struct cow_info info;
	bool unused;

	if (cow_open(&store, device, &options, NULL))
		return false;
	cow_get_info(store, &info);
	unused = !info.deletions && info.snapshots + cow_prepared_count(store) == !(fields->flags & COW_BASE_COMMITTING) &&
		!cow_extent_find(store, 0, &extent) && extent.kind == COW_EXTENT_BASE && extent.nr_sectors == info.sectors;
	cow_abandon(store);
	return unused;
}

/*
 * Remove a store that a failed or killed command made for this image, if the
 * disk never moved to it. No record names it, and we hold its lock, so no
 * process is about to write one; check again here, because the disk may have
 * moved since it was asked. True: the store is removed.
 */
static bool remove_left_over(const char *path, const char *image)
{
	struct cow_base_fields fields;
	struct cow_device *device;
	enum cow_base_kind kind;
	bool gone = false;

	if (cow_file_open(&device, path, false, NULL))
		return false;
	if (!overlay_refuse(image, NULL) && !cow_probe(device, &kind, &fields, NULL) && kind == COW_BASE_RAW &&
	    !strncmp(fields.target, "aio:", 4) && path_same_image(fields.target + 4, image) && store_unused(device, &fields))
		gone = !unlink(path);
	cow_file_close(device);
	return gone;
}

/* Create the store. An existing file is refused, unless it is left over from a failed attempt; a device is overwritten. */
static int make_store(const struct many_disk *disk, const char *path, struct error_text *text)
{
	struct cow_create_options options = { .base_kind = COW_BASE_RAW };
	struct cow_base_fields fields;
	struct cow_device *device;
	bool is_device;
	struct stat st;
	int error;

	if (strchr(strrchr(path, '/'), '@'))
		return error_set(text, -EINVAL, "%s: a store's name cannot contain '@': give another one with --store", path);
	is_device = !stat(path, &st) && S_ISBLK(st.st_mode);
	if (!is_device && !lstat(path, &st) &&
	    !(S_ISREG(st.st_mode) && remove_left_over(path, info_string(disk, "path"))))
		return error_set(text, -EEXIST, "%s: already exists: give another name, or remove it if no disk is in it",
				 path);
	options.sectors = json_integer_value(json_object_get(info_of(disk), "sectors"));
	options.sector_size = (unsigned)json_integer_value(json_object_get(info_of(disk), "sector_size"));
	options.base = &fields;
	error = cow_base_describe_running(&fields, info_string(disk, "path"), options.sectors, text);
	if (!error)
		error = is_device ? cow_file_create(&device, path, text) : cow_file_new(&device, path, text);
	if (error)
		return error;
	error = cow_create(device, &options, text);
	if (!error && !is_device)
		error = cow_file_place(device, text);
	cow_file_close(device);
	return error ? error_set(text, error, "%s: cannot be created: %s", path, strerror(-error)) : 0;
}

int client_overlay_make(struct many *many, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, info_request, NULL, false, timeout_ms, text);

	for (unsigned i = 0; !error && i < many->count; i++) {
		struct many_disk *disk = &many->disks[i];
		char *path;

		/* a directory applies only to disks that need a store */
		if (!disk->disk.store || (is_directory(disk->disk.store) && info_string(disk, "type") && !is_raw(disk)))
			continue;
		error = check_disk(disk, text);
		path = error ? NULL : name_store(disk->disk.store, info_string(disk, "path"), text);
		if (!error && !path)
			error = -ENOENT;
		if (!error)
			error = make_store(disk, path, text);
		if (error)
			free(path);
		else
			disk->store = path;
	}
	if (error)
		client_overlay_undo(many, timeout_ms);
	return error;
}

static void remove_if_file(const char *path, const char *image)
{
	struct stat st;

	if (!stat(path, &st) && S_ISREG(st.st_mode))
		remove_left_over(path, image);
}

void client_overlay_give_up(const char *given, const char *image)
{
	char *path = name_store(given, image, NULL);

	if (path)
		remove_if_file(path, image);
	free(path);
}

static json_t *commit_request(struct many_disk *disk, void *arg)
{
	disk->skip = !disk->ctl || !disk->done;
	return disk->skip ? NULL : json_pack("{s:s, s:i}", "command", "commit", "minor", disk->disk.minor);
}

/* Remove the disk's new store, unless the disk uses it, or could not be asked. */
static void remove_unused(struct many_disk *disk)
{
	const char *used = info_string(disk, "store");

	disk->done = disk->store && used && !strcmp(used, disk->store);
	if (!disk->store || !info_string(disk, "type") || used)
		return;
	remove_if_file(disk->store, info_string(disk, "path"));
	free(disk->store);
	disk->store = NULL;
}

void client_overlay_undo(struct many *many, int timeout_ms)
{
	struct error_text ignored = { "" };

	many_reconnect(many);
	many_call(many, info_request, NULL, false, timeout_ms, &ignored);
	for (unsigned i = 0; i < many->count; i++)
		remove_unused(&many->disks[i]);
	/* tapdisk commits in the background; if that fails, the disk stays in the store */
	many_call(many, commit_request, NULL, false, timeout_ms, &ignored);
}
