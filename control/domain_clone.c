/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_clone.c - creates a new domain from a snapshot: for each disk a store
 * based on the snapshot, and the configuration with another name and uuid and
 * these disks; with memory also a copy of the save file.
 *
 * The original is not changed, running or not. The snapshot's information
 * names the stores, so that the snapshot is not deleted while they exist.
 *
 * A clone that was killed may be recovered days later, when unrelated files
 * may have the same names. So each file is created under a unique name,
 * PATH.SUFFIX, and then linked to PATH: it is ours if both names are the same
 * file. The file that starts the clone is linked last, after the intent says
 * that all others are complete; from then on recovery finishes, before it undoes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <libxl.h>

#include "cow.h"
#include "cow_base.h"
#include "domain.h"
#include "path.h"

#define COPY_BYTES (64u << 20)		/* between two checks for a cancel */

struct clone {
	struct domain_operation *operation;
	struct domain_directory directory;
	struct domain_disks disks;
	struct error_text *text;
	json_t *info, *config;
	json_t *files;			/* of the clone's disks, in the order of the disks */
	char main[PATH_MAX];		/* the save or config file */
	json_t *intent;
};

static int check_directory(struct clone *clone, const char *path)
{
	char directory[PATH_MAX];
	struct stat st;

	snprintf(directory, sizeof(directory), "%s", path);
	strrchr(directory, '/')[1] = '\0';
	if (stat(directory, &st))
		return error_set(clone->text, -errno, "%s: %s", directory, strerror(errno));
	return S_ISDIR(st.st_mode) ? 0 : error_set(clone->text, -ENOTDIR, "%s: not a directory", directory);
}

static int name_file(struct clone *clone, const char *beside, const char *suffix, char *path)
{
	const struct domain_snapshot_request *request = clone->operation->request;
	const char *slash = strrchr(beside, '/');
	int length = slash ? (int)(slash - beside) : 0, made;
	struct stat st;

	if (request->folder)
		made = snprintf(path, PATH_MAX, "%s/%s%s", request->folder, request->new_name, suffix);
	else
		made = snprintf(path, PATH_MAX, "%.*s/%s%s", length, beside, request->new_name, suffix);
	if (made >= PATH_MAX)
		return error_set(clone->text, -ENAMETOOLONG, "%s: too long", path);
	if (*path != '/')
		return error_set(clone->text, -EINVAL, "%s: not an absolute path", path);
	if (!lstat(path, &st))
		return error_set(clone->text, -EEXIST, "%s: already exists", path);
	return check_directory(clone, path);
}

static int name_files(struct clone *clone)
{
	char path[PATH_MAX], suffix[64], first[PATH_MAX];
	const char *save = info_string(clone->info, "save");
	int error = 0;

	for (unsigned i = 0; !error && i < clone->disks.count; i++) {
		const struct domain_disk *disk = &clone->disks.disk[i];

		if (!disk->moved && strncmp(disk->target, "cow:", 4) != 0)
			return error_set(clone->text, -EOPNOTSUPP, "disk %s: %s: not in a store, so a clone cannot be based on it",
					 disk->vdev, disk->target);
		snprintf(suffix, sizeof(suffix), "-%s.cow", disk->vdev);
		error = name_file(clone, disk_file(disk), suffix, path);
		if (!error)
			json_array_append_new(clone->files, json_string(path));
	}
	if (error)
		return error;
	snprintf(first, sizeof(first), "%s", clone->disks.count ? disk_file(&clone->disks.disk[0]) : save ? save : "");
	return name_file(clone, first, save ? ".save" : ".cfg", clone->main);
}

/* ---- the configuration ---- */

/* The clone and the original must not write the same disk. */
static int set_disk(struct clone *clone, json_t *device)
{
	const char *vdev = info_string(device, "vdev");
	const json_t *writable = json_object_get(device, "readwrite");
	size_t i;

	for (i = 0; vdev && i < clone->disks.count; i++) {
		if (strcmp(clone->disks.disk[i].vdev, vdev) != 0)
			continue;
		json_object_set_new(device, "pdev_path", json_sprintf("cow:%s", json_string_value(json_array_get(clone->files, i))));
		json_object_set_new(device, "script", json_string("block-tapsnap"));
		return 0;
	}
	if (json_is_true(writable) || json_integer_value(writable))
		return error_set(clone->text, -EINVAL, "disk %s is writable and not in the snapshot: a clone cannot share it",
				 vdev ? vdev : "without a name");
	return 0;
}

static int make_config(struct clone *clone)
{
	json_t *c_info, *device;
	char uuid[DOMAIN_UUID_SIZE];
	libxl_uuid fresh;
	int error = 0;
	size_t i;

	clone->config = json_deep_copy(json_object_get(clone->info, "config"));
	c_info = json_object_get(clone->config, "c_info");
	if (!c_info)
		return error_set(clone->text, -EBADMSG, "the snapshot's configuration has no domain name");
	libxl_uuid_generate(&fresh);
	snprintf(uuid, sizeof(uuid), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(fresh));
	json_object_set_new(c_info, "name", json_string(clone->operation->request->new_name));
	json_object_set_new(c_info, "uuid", json_string(uuid));
	json_array_foreach(json_object_get(clone->config, "disks"), i, device) {
		if (!error)
			error = set_disk(clone, device);
	}
	json_array_foreach(json_object_get(clone->config, "nics"), i, device)
		json_object_del(device, "mac");
	return error;
}

/* ---- the files ---- */

static int sync_name(const char *path, struct error_text *text)
{
	int error = path_sync_name(path);

	return error ? error_set(text, error, "%s: its directory cannot be made durable: %s", path, strerror(-error)) : 0;
}

/* The unique name under which the intent's file @path is created. */
static int own_name(const json_t *intent, const char *path, char own[PATH_MAX], struct error_text *text)
{
	if (snprintf(own, PATH_MAX, "%s.%s", path, info_string(intent, "suffix")) >= PATH_MAX)
		return error_set(text, -ENAMETOOLONG, "%s: too long", path);
	return 0;
}

static int make_file(struct clone *clone, const char *path, int *fd)
{
	*fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return *fd < 0 ? error_set(clone->text, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int make_store(struct clone *clone, const struct domain_disk *disk, const char *path)
{
	const struct snapshot_info snapshot = {
		.id = (uint32_t)disk->id, .time = (uint64_t)disk->time, .sectors = (uint64_t)disk->sectors,
		.name = info_string(clone->info, "name"),
	};
	struct cow_base_fields fields;
	struct cow_create_options options = {
		.sectors = snapshot.sectors, .base_kind = COW_BASE_COW, .base = &fields,
	};
	struct cow_device *device;
	int error = cow_base_describe_peek(&fields, disk_file(disk), &snapshot, clone->text), fd;

	if (!error)		/* its partition table counts in these sectors */
		error = cow_sector_size_peek(disk_file(disk), &options.sector_size, clone->text);
	if (!error)
		error = make_file(clone, path, &fd);
	if (error)
		return error;
	close(fd);
	error = cow_file_create(&device, path, clone->text);
	if (error)
		return error;
	error = cow_create(device, &options, clone->text);
	cow_file_close(device);
	return error ? error : sync_name(path, clone->text);
}

static ssize_t copy_piece(int from, int to)
{
	char buffer[65536];
	ssize_t got = copy_file_range(from, NULL, to, NULL, COPY_BYTES, 0), put;

	if (got >= 0)
		return got;
	/* for filesystems without copy_file_range() */
	got = read(from, buffer, sizeof(buffer));
	for (ssize_t done = 0; done < got; done += put) {
		put = write(to, buffer + done, (size_t)(got - done));
		if (put < 0)
			return -errno;
	}
	return got < 0 ? -errno : got;
}

static int copy_stream(struct clone *clone, int from, int to)
{
	struct domain_operation *operation = clone->operation;
	struct stat st;
	ssize_t got;

	if (fstat(from, &st))
		return -errno;
	do {
		off_t at = lseek(from, 0, SEEK_CUR);

		if (domain_check_canceled(operation))
			return -ECANCELED;
		if (operation->progress && st.st_size)
			operation->progress(operation, "copying the memory", (int)(at * 100 / st.st_size));
		got = copy_piece(from, to);
	} while (got > 0);
	return (int)got;
}

static int make_save(struct clone *clone, const char *path)
{
	const char *save = info_string(clone->info, "save");
	char *config = json_dumps(clone->config, JSON_INDENT(4)), *old = NULL;
	int from = open(save, O_RDONLY | O_CLOEXEC), to = -1, error;

	error = !config ? -ENOMEM : from < 0 ? error_set(clone->text, -errno, "%s: %s", save, strerror(errno)) : 0;
	if (!error)
		error = save_read_head(from, &old, clone->text);
	if (!error)
		error = make_file(clone, path, &to);
	if (!error)
		error = save_write_head(to, config, clone->text);
	if (!error)
		error = copy_stream(clone, from, to);
	if (!error && fsync(to))
		error = -errno;
	if (error)
		error_set(clone->text, error, "%s: %s", clone->main, strerror(-error));
	else
		error = sync_name(path, clone->text);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	free(config);
	free(old);
	return error;
}

static int make_files(struct clone *clone)
{
	char own[PATH_MAX];
	int error = 0;

	for (unsigned i = 0; !error && i < clone->disks.count; i++) {
		error = own_name(clone->intent, json_string_value(json_array_get(clone->files, i)), own, clone->text);
		if (!error)
			error = make_store(clone, &clone->disks.disk[i], own);
		if (!error)
			error = domain_check_canceled(clone->operation);
	}
	if (!error)
		error = own_name(clone->intent, clone->main, own, clone->text);
	if (error)
		return error;
	domain_did(clone->operation, "stores");
	if (info_string(clone->info, "save"))
		return make_save(clone, own);
	error = config_write(clone->config, own, clone->text);
	return error ? error : sync_name(own, clone->text);
}

static bool is_same_file(const char *one, const char *other)
{
	struct stat a, b;

	return !lstat(one, &a) && !lstat(other, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Link the file to @path, unless that was done. -EEXIST: another file has that name, and stays. */
static int name_own(const json_t *intent, const char *path, struct error_text *text)
{
	char own[PATH_MAX];
	int error = own_name(intent, path, own, text);

	if (error)
		return error;
	error = link(own, path) ? -errno : 0;
	if (error && (error != -EEXIST || !is_same_file(own, path)))
		return error_set(text, error, "%s: %s", path, strerror(-error));
	return sync_name(path, text);
}

static int name_stores(struct clone *clone)
{
	int error = 0;

	for (unsigned i = 0; !error && i < clone->disks.count; i++)
		error = name_own(clone->intent, json_string_value(json_array_get(clone->files, i)), clone->text);
	return error;
}

/* ---- the steps ---- */

static int check_disks(struct clone *clone)
{
	int error = disks_from_info(&clone->disks, clone->info, clone->text);

	if (!error)
		error = disks_open(&clone->disks, clone->text);
	if (!error)
		error = disks_find_stores(&clone->disks, clone->text);
	if (!error)
		error = disks_check_snapshot(&clone->disks, info_string(clone->info, "name"), clone->text);
	return error;
}

/* In "files" the file that starts the clone is the last. */
static json_t *make_intent(const struct clone *clone)
{
	const struct domain_id *id = &clone->operation->id;
	json_t *files = json_copy(clone->files);
	char suffix[DOMAIN_UUID_SIZE];
	libxl_uuid fresh;

	libxl_uuid_generate(&fresh);
	snprintf(suffix, sizeof(suffix), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(fresh));
	json_array_append_new(files, json_string(clone->main));
	return json_pack("{s:s, s:{s:s, s:s}, s:s, s:b, s:o}", "op", "clone", "domain", "name", id->name, "uuid", id->uuid,
			 "suffix", suffix, "whole", 0, "files", files);
}

/* Record the clone in the snapshot's information, which keeps the snapshot from being deleted. */
static int note_clone(struct clone *clone)
{
	json_t *clones = json_object_get(clone->info, "clones");
	char file[NAME_MAX + 1];

	if (!clones) {
		clones = json_array();
		json_object_set_new(clone->info, "clones", clones);
	}
	json_array_extend(clones, clone->files);
	info_file(file, info_string(clone->info, "name"));
	return directory_write(&clone->directory, file, clone->info, clone->text);
}

/* Remove a file, durably, also if it is missing already. */
static int remove_file(const char *path)
{
	int error;

	if (unlink(path) && errno != ENOENT)
		return -errno;
	error = path_sync_name(path);
	return error == -ENOENT ? 0 : error;	/* its directory is missing, too */
}

static int remove_named(const json_t *intent, const char *path, bool undone, struct error_text *text)
{
	char own[PATH_MAX];
	int error = own_name(intent, path, own, text);

	if (error)
		return error;
	if (undone && is_same_file(own, path))
		error = remove_file(path);
	if (!error)
		error = remove_file(own);
	return error ? error_set(text, error, "%s: cannot be removed: %s", path, strerror(-error)) : 0;
}

/* Remove the files' unique names; with @undone their final names first. The file that starts the clone comes last. */
static int end_files(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent, bool undone)
{
	const json_t *file;
	int error = 0;
	size_t i;

	json_array_foreach(json_object_get(intent, "files"), i, file) {
		if (!error)
			error = remove_named(intent, json_string_value(file), undone, &operation->text);
	}
	return error ? error : directory_remove(directory, INTENT_FILE, &operation->text);
}

/* Link the file that starts the clone. */
static int name_main(const json_t *intent, struct error_text *text)
{
	const json_t *files = json_object_get(intent, "files");

	return name_own(intent, json_string_value(json_array_get(files, json_array_size(files) - 1)), text);
}

/* Undo also if an unrelated file has the name of the last one. Without a suffix no file is known to be ours. */
int domain_end_clone(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent)
{
	bool whole = json_is_true(json_object_get(intent, "whole"));
	struct error_text reason = { "" };
	int error;

	if (!info_string(intent, "suffix"))
		return directory_remove(directory, INTENT_FILE, &operation->text);
	error = whole ? name_main(intent, &reason) : -EEXIST;
	if (error && error != -EEXIST && error != -ENOENT)
		return error_set(&operation->text, error, "%s", reason.text);
	return end_files(operation, directory, intent, error == -EEXIST);
}

/* Writes the intent first: if this is killed, too, recovery must not take the clone for complete. */
static void undo(struct clone *clone)
{
	struct error_text reason = *clone->text;

	json_object_set_new(clone->intent, "whole", json_false());
	directory_write(&clone->directory, INTENT_FILE, clone->intent, NULL);
	end_files(clone->operation, &clone->directory, clone->intent, true);
	*clone->text = reason;
}

static int make_whole(struct clone *clone)
{
	int error = name_stores(clone);

	if (!error)
		error = note_clone(clone);
	json_object_set_new(clone->intent, "whole", json_true());
	if (!error)
		error = directory_write(&clone->directory, INTENT_FILE, clone->intent, clone->text);
	if (!error)
		domain_did(clone->operation, "whole");
	/* if it is killed from here on, the clone is finished, not undone */
	if (!error)
		error = domain_check_canceled(clone->operation);
	return error ? error : name_main(clone->intent, clone->text);
}

static void warn_unwritten(struct clone *clone)
{
	char unwritten[300];

	config_unwritten(clone->config, unwritten, sizeof(unwritten));
	if (!info_string(clone->info, "save") && unwritten[0])
		error_set(clone->text, 0, DOMAIN_UNWRITTEN, unwritten);
}

/* The clone is complete, also if this fails. */
static void clear_up(struct clone *clone)
{
	struct error_text reason;
	int error = end_files(clone->operation, &clone->directory, clone->intent, false);

	if (!error)
		return;
	reason = *clone->text;
	clone->text->text[0] = '\0';
	error_set(clone->text, 0, "the clone is complete, but the next command has to finish this: %.400s", reason.text);
}

static int run(struct clone *clone)
{
	struct domain_operation *operation = clone->operation;
	int error;

	clone->intent = make_intent(clone);
	error = directory_write(&clone->directory, INTENT_FILE, clone->intent, clone->text);
	if (!error)
		domain_did(operation, "intent");
	if (!error)
		error = make_files(clone);
	if (!error)
		error = domain_check_canceled(operation);
	if (!error)
		error = make_whole(clone);
	if (error)
		undo(clone);
	else
		clear_up(clone);
	return error;
}

int domain_clone(struct domain_operation *operation)
{
	struct clone clone = { .operation = operation, .text = &operation->text, .directory = { .fd = -1, .lock = -1 } };
	int error = domain_locate_and_begin(operation, &clone.directory);

	clone.files = json_array();
	if (!error)
		error = info_find_named(operation, &clone.directory, &clone.info);
	if (!error)
		error = check_disks(&clone);
	if (!error)
		error = name_files(&clone);
	if (!error)
		error = make_config(&clone);
	if (!error)
		error = domain_check_canceled(operation);
	if (!error)
		error = run(&clone);
	if (!error)
		warn_unwritten(&clone);
	if (!error) {
		json_array_append(operation->infos, clone.info);
		operation->clone = strdup(clone.main);
		operation->clone_has_memory = info_string(clone.info, "save");
	}
	disks_close(&clone.disks);
	disks_free(&clone.disks);
	directory_close(&clone.directory);
	json_decref(clone.files);
	json_decref(clone.config);
	json_decref(clone.intent);
	json_decref(clone.info);
	return error;
}
