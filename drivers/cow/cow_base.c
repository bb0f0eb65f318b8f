/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_base.c - bases, for the tools: a raw file or device, or a snapshot in
 * another store, which may have a base itself.
 *
 * If a raw file was written since it became a base, its size, mtime or inode
 * shows it; for a device only the size does. A snapshot cannot be written. It
 * is identified by its store's uuid, its id, which that store never reuses,
 * and its time, which tells it from a snapshot that was taken in a copy of
 * the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow_base.h"
#include "image_directories.h"
#include "path.h"

#define TYPE_RAW "aio:"
#define TYPE_COW "cow:"

/* An open base. */
struct base_image {
	struct cow_device *device;
	struct cow_store *store;	/* NULL: a raw base */
	struct cow_view view;
	struct cow_base beneath;	/* the store's own base */
};

static int raw_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct cow_device *device = ((struct base_image *)owner)->device;

	return device->ops->read(device, data, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
}

/* Holes are file system blocks, hence whole sectors. */
static int raw_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	struct cow_device *device = ((struct base_image *)owner)->device;
	uint64_t length = *nr_sectors * SECTOR_SIZE;
	int ret = 0;

	*zero = false;
	if (device->ops->hole)
		ret = device->ops->hole(device, sector * SECTOR_SIZE, &length, zero);
	if (length >= SECTOR_SIZE)
		*nr_sectors = length / SECTOR_SIZE;
	else
		*zero = false;
	return ret;
}

static int snapshot_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct base_image *image = owner;

	return cow_view_read(image->store, &image->view, data, sector, nr_sectors);
}

static int snapshot_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	struct base_image *image = owner;

	return cow_view_zero(image->store, &image->view, sector, nr_sectors, zero);
}

static void image_free(struct base_image *image)
{
	if (!image)
		return;
	if (image->store)
		cow_abandon(image->store);
	if (image->device)
		cow_file_close(image->device);
	cow_base_close(&image->beneath);
	free(image);
}

static struct base_image *image_new(const char *path, struct error_text *error)
{
	struct base_image *image = calloc(1, sizeof(*image));

	if (!image)
		error_set(error, -ENOMEM, "%s: out of memory", path);
	return image;
}

static int device_open(struct base_image *image, const char *path, bool read_only, struct error_text *error)
{
	int ret = cow_file_open_as_is(&image->device, path, read_only, error);

	if (ret)
		image->device = NULL;
	return ret;
}

static int fields_fill(struct cow_base_fields *fields, const char *path, struct cow_device *device,
		       struct error_text *error)
{
	uint64_t size = device->ops->size(device);
	struct stat st;

	if (!size || size % SECTOR_SIZE)
		return error_set(error, -EINVAL, "%s: size %llu is not a positive multiple of %u bytes", path,
				 (unsigned long long)size, SECTOR_SIZE);
	if (path_stat(path, &st))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	fields->sectors = size / SECTOR_SIZE;
	if (S_ISREG(st.st_mode)) {
		fields->size = size;
		fields->mtime_sec = st.st_mtim.tv_sec;
		fields->mtime_nsec = st.st_mtim.tv_nsec;
		fields->inode = st.st_ino;
	}
	return 0;
}

static int target_fill(struct cow_base_fields *fields, const char *type, const char *path, const char *name,
		       struct error_text *error)
{
	char absolute[PATH_MAX];
	int length;

	if (!path_real(path, absolute))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	length = snprintf(fields->target, sizeof(fields->target), "%s%s%s%s", type, absolute, name ? "@" : "",
			  name ? name : "");
	if (length >= (int)sizeof(fields->target))
		return error_set(error, -ENAMETOOLONG, "%s: path too long for a base", path);
	return 0;
}

/* A device's persistent name is a symbolic link to a name that may be another device's after the next boot: keep it as it is. */
static int raw_target_fill(struct cow_base_fields *fields, const char *path, struct error_text *error)
{
	struct stat st;

	if (*path != '/' || path_stat(path, &st) || !S_ISBLK(st.st_mode))
		return target_fill(fields, TYPE_RAW, path, NULL, error);
	if (snprintf(fields->target, sizeof(fields->target), TYPE_RAW "%s", path) >= (int)sizeof(fields->target))
		return error_set(error, -ENAMETOOLONG, "%s: path too long for a base", path);
	return 0;
}

int cow_base_describe(struct cow_base_fields *fields, const char *path, struct error_text *error)
{
	struct cow_device *device;
	int ret;

	memset(fields, 0, sizeof(*fields));
	ret = raw_target_fill(fields, path, error);
	if (!ret)
		ret = cow_file_open(&device, path, true, error);
	if (ret)
		return ret;
	ret = fields_fill(fields, path, device, error);
	cow_file_close(device);
	return ret;
}

int cow_base_describe_running(struct cow_base_fields *fields, const char *path, uint64_t sectors, struct error_text *error)
{
	struct stat st;
	int ret;

	memset(fields, 0, sizeof(*fields));
	if (path_stat(path, &st))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	ret = raw_target_fill(fields, path, error);
	if (ret)
		return ret;
	fields->sectors = sectors;
	fields->flags = COW_BASE_COMMITTING;
	if (S_ISREG(st.st_mode)) {
		fields->inode = st.st_ino;
		fields->size = sectors * SECTOR_SIZE;
	}
	return 0;
}

/* Compares inode numbers, too: a copy in the image's place may have the same time. */
static bool raw_is_as_described(const struct cow_base_fields *now, const struct cow_base_fields *fields)
{
	if (fields->flags & COW_BASE_COMMITTING)
		return now->inode == fields->inode && now->sectors >= fields->sectors;
	return now->sectors == fields->sectors && now->size == fields->size && now->inode == fields->inode &&
		now->mtime_sec == fields->mtime_sec && now->mtime_nsec == fields->mtime_nsec;
}

static int raw_open(struct cow_base *base, const struct cow_base_fields *fields, bool read_only, struct cow_device *store,
		    struct error_text *error)
{
	const char *path = fields->target + strlen(TYPE_RAW);
	struct cow_base_fields now = { 0 };
	struct base_image *image = image_new(path, error);
	int ret;

	if (!image)
		return -ENOMEM;
	ret = device_open(image, path, read_only, error);
	if (!ret && store)
		ret = cow_base_check_device(store, path, cow_file_descriptor(image->device), error);
	if (!ret)
		ret = fields_fill(&now, path, image->device, error);
	if (!ret && !raw_is_as_described(&now, fields))
		ret = error_set(error, -ESTALE, "%s: the base was written, resized or replaced since the store was made on it",
				path);
	if (ret)
		image_free(image);
	else
		*base = (struct cow_base){ raw_read, image, fields->sectors, raw_zero };
	return ret;
}

char *cow_target_split(const char *target, const char **name)
{
	const char *path = strncmp(target, TYPE_COW, strlen(TYPE_COW)) ? target : target + strlen(TYPE_COW);
	const char *at = strrchr(path, '@');

	*name = at && at[1] && !strchr(at, '/') ? at + 1 : NULL;
	return *name ? strndup(path, at - path) : strdup(path);
}

int cow_target_check(const char *target, struct error_text *error)
{
	const char *name;
	char *path;
	int ret;

	if (!strncmp(target, TYPE_RAW, strlen(TYPE_RAW)))
		return image_directories_check(target + strlen(TYPE_RAW), error);
	path = cow_target_split(target, &name);
	ret = path ? image_directories_check(path, error) : error_set(error, -ENOMEM, "out of memory");
	free(path);
	return ret;
}

static int base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields, unsigned depth,
		     struct cow_device *store, struct error_text *error);

/* Opens the store at @path for reading, with its base. */
static int store_open(struct base_image *image, const char *path, unsigned depth, struct error_text *error)
{
	struct cow_open_options options = { .read_only = true };
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	int ret;

	if (depth > COW_BASE_DEPTH)
		return error_set(error, -ELOOP, "%s: chain of more than %u bases, or a loop", path,
				 COW_BASE_DEPTH);
	ret = device_open(image, path, true, error);
	if (!ret)
		ret = cow_probe(image->device, &kind, &fields, error);
	if (!ret)
		ret = base_open(&image->beneath, kind, &fields, depth + 1, image->device, error);
	if (ret)
		return ret;
	options.base = image->beneath;
	ret = cow_open(&image->store, image->device, &options, error);
	if (ret)
		image->store = NULL;
	return ret;
}

static int snapshot_check(struct base_image *image, const struct cow_base_fields *fields, struct error_text *error)
{
	struct cow_info info;
	int ret;

	cow_get_info(image->store, &info);
	if (memcmp(info.uuid, fields->uuid, sizeof(info.uuid)))
		return error_set(error, -ESTALE, "%s: not the store that holds the base (different uuid)",
				 image->device->name);
	ret = cow_view_find_id(image->store, fields->version, &image->view);
	if (ret)
		return error_set(error, ret, "%s: the base is gone: the snapshot was deleted", fields->target);
	if (image->view.time != fields->time || image->view.sectors != fields->sectors)
		return error_set(error, -ESTALE, "%s: not the snapshot that was the base", fields->target);
	return 0;
}

static int snapshot_open(struct cow_base *base, const struct cow_base_fields *fields, unsigned depth,
			 struct error_text *error)
{
	struct base_image *image = image_new(fields->target, error);
	const char *name;
	char *path;
	int ret;

	if (!image)
		return -ENOMEM;
	path = cow_target_split(fields->target, &name);
	ret = path ? store_open(image, path, depth, error) : error_set(error, -ENOMEM, "out of memory");
	if (!ret)
		ret = snapshot_check(image, fields, error);
	free(path);
	if (ret)
		image_free(image);
	else
		*base = (struct cow_base){ snapshot_read, image, fields->sectors, snapshot_zero };
	return ret;
}

static int base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields, unsigned depth,
		     struct cow_device *store, struct error_text *error)
{
	*base = (struct cow_base){ 0 };
	if (kind == COW_BASE_NONE)
		return 0;
	if (kind == COW_BASE_RAW && !strncmp(fields->target, TYPE_RAW, strlen(TYPE_RAW)))
		return raw_open(base, fields, true, store, error);
	if (kind == COW_BASE_COW && !strncmp(fields->target, TYPE_COW, strlen(TYPE_COW)))
		return snapshot_open(base, fields, depth, error);
	return error_set(error, -ENOTSUP, "%s: bases of this type cannot be read here", fields->target);
}

int cow_base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields,
		  struct cow_device *store, struct error_text *error)
{
	return base_open(base, kind, fields, 1, store, error);
}

int cow_base_open_writable(struct cow_base *base, const struct cow_base_fields *fields, struct cow_device *store,
			   struct error_text *error)
{
	*base = (struct cow_base){ 0 };
	if (strncmp(fields->target, TYPE_RAW, strlen(TYPE_RAW)))
		return error_set(error, -ENOTSUP, "%s: only raw images can be written to", fields->target);
	return raw_open(base, fields, false, store, error);
}

struct cow_device *cow_base_device(const struct cow_base *base)
{
	return ((struct base_image *)base->owner)->device;
}

void cow_base_close(struct cow_base *base)
{
	image_free(base->owner);
	*base = (struct cow_base){ 0 };
}

bool cow_base_includes(const struct cow_base *base, const char *path)
{
	const struct base_image *image = base->owner;

	return image && (path_same_image(image->device->name, path) || cow_base_includes(&image->beneath, path));
}

int cow_base_describe_snapshot(struct cow_base_fields *fields, const char *target, struct error_text *error)
{
	struct base_image *image;
	struct cow_info info;
	const char *name;
	char *path;
	int ret;

	memset(fields, 0, sizeof(*fields));
	path = cow_target_split(target, &name);
	if (!path || !name) {
		free(path);
		return error_set(error, -EINVAL, "%s: a base in a store is one of its snapshots: PATH@NAME", target);
	}
	ret = target_fill(fields, TYPE_COW, path, name, error);
	image = ret ? NULL : image_new(path, error);
	if (image)
		ret = store_open(image, path, 1, error);
	else if (!ret)
		ret = -ENOMEM;
	if (!ret) {
		ret = cow_view_find(image->store, name, &image->view);
		if (ret)
			error_set(error, ret, "%s: has no snapshot called \"%.64s\"", path, name);
	}
	if (!ret) {
		cow_get_info(image->store, &info);
		memcpy(fields->uuid, info.uuid, sizeof(fields->uuid));
		fields->version = image->view.id;
		fields->time = image->view.time;
		fields->sectors = image->view.sectors;
	}
	image_free(image);
	free(path);
	return ret;
}

int cow_base_settle(const struct cow_base *base, struct cow_base_fields *fields, struct error_text *error)
{
	struct cow_device *device = cow_base_device(base);
	/* fsync(), because the base is identified by its mtime, which fdatasync() does not write */
	int ret = path_sync(device->name);

	if (ret)
		return error_set(error, ret, "%s: cannot be made durable: %s", device->name, strerror(-ret));
	fields->flags &= ~COW_BASE_COMMITTING;
	return fields_fill(fields, device->name, device, error);
}
