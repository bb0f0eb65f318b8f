/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-target.c - creates images. A new file gets its name when it is complete
 * and durable (cow_file_new()). A file that replaces another, and one that QEMU
 * writes, has a temporary name in the same directory until then. So the name always
 * refers to the new image, or to the old file. A device is written in place; if
 * that fails, it is left without a valid store.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"
#include "tap-img.h"

static bool is_format(const struct target *target, const char *format)
{
	return !strcmp(target->format, format);
}

static bool is_nbd(const struct target *target)
{
	return !is_format(target, "raw") && !is_format(target, "cow");
}

/* Create the temporary file. A file that it will replace must not be in use; its owner and mode are kept. */
static int part_make(struct target *target, const char *path, struct error_text *error)
{
	char *real = realpath(path, NULL);
	struct stat st;
	int fd, ret;

	if (real) {
		free(target->path);
		target->path = real;
		ret = cow_file_open(&target->lock, target->path, false, error);
		if (ret)
			target->lock = NULL;
		if (ret)
			return ret;
	}
	if (asprintf(&target->part, "%s.XXXXXX", target->path) < 0) {
		target->part = NULL;
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	}
	fd = mkostemp(target->part, O_CLOEXEC);
	if (fd < 0) {
		ret = error_set(error, -errno, "%s: %s", path, strerror(errno));
		free(target->part);
		target->part = NULL;
		return ret;
	}
	if (real && (stat(target->path, &st) || fchown(fd, st.st_uid, st.st_gid) || fchmod(fd, st.st_mode & 07777)))
		ret = error_set(error, -errno, "%s: its owner and mode cannot be kept: %s", path, strerror(errno));
	else
		ret = 0;
	close(fd);
	return ret;
}

static int device_open(struct target *target, struct error_text *error)
{
	int ret;

	if (target->is_new)
		ret = cow_file_new(&target->device, target->path, error);
	else
		ret = cow_file_create(&target->device, target->part ? target->part : target->path, error);
	if (ret)
		target->device = NULL;
	else
		target->device->name = target->path;	/* the requested name, not the temporary one */
	return ret;
}

static int raw_begin(struct target *target, uint64_t sectors, struct error_text *error)
{
	struct cow_device *device = target->device;
	int ret = 0;

	if (device->ops->resize)
		ret = device->ops->resize(device, sectors * SECTOR_SIZE);
	if (ret)
		return error_set(error, ret, "%s: cannot be made large enough: %s", target->path, strerror(-ret));
	if (device->ops->size(device) / SECTOR_SIZE < sectors)
		return error_set(error, -ENOSPC, "%s: too small: %llu bytes are needed", target->path,
				 (unsigned long long)sectors * SECTOR_SIZE);
	target->is_zero = device->ops->resize;
	return 0;
}

static int cow_begin(struct target *target, const struct cow_create_options *create, struct error_text *error)
{
	struct cow_open_options open = { .layer_entries = LAYER_ENTRIES };
	int ret = 0;

	if (create->base_kind)
		ret = cow_base_open(&target->base, create->base_kind, create->base, NULL, error);
	if (!ret)
		ret = cow_create(target->device, create, error);
	target->made = !ret;
	if (!ret)
		ret = cow_base_confirm(target->device, create->base_kind, create->base, error);
	open.base = target->base;
	if (!ret)
		ret = cow_open(&target->store, target->device, &open, error);
	target->is_zero = true;
	return ret;
}

static int nbd_begin(struct target *target, uint64_t sectors, struct error_text *error)
{
	int ret;

	if (!target->part)
		return error_set(error, -ENOTSUP, "%s: only raw and cow images can be made on a device", target->path);
	ret = nbd_image_create(target->part, target->format, sectors, error);
	target->is_zero = true;
	return ret ? ret : nbd_image_open(&target->nbd, target->part, target->format, false, error);
}

int target_begin(struct target *target, const char *path, const struct target_options *options, struct error_text *error)
{
	struct stat st;
	int ret = 0;

	interrupts_catch();
	*target = (struct target){ .path = strdup(path), .format = options->format };
	if (!target->path)
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	target->is_new = !is_nbd(target) && lstat(path, &st) && errno == ENOENT;
	if (!target->is_new && (stat(path, &st) || !S_ISBLK(st.st_mode)))
		ret = part_make(target, path, error);
	if (!ret && !is_nbd(target))
		ret = device_open(target, error);
	if (!ret && is_format(target, "raw"))
		ret = raw_begin(target, options->cow.sectors, error);
	else if (!ret && is_format(target, "cow"))
		ret = cow_begin(target, &options->cow, error);
	else if (!ret)
		ret = nbd_begin(target, options->cow.sectors, error);
	return ret ? target_end(target, ret, error) : 0;
}

int target_write(struct target *target, const void *data, uint64_t sector, uint64_t nr_sectors)
{
	if (target->store)
		return cow_write(target->store, data, sector, nr_sectors);
	if (target->nbd.owner)
		return nbd_image_write(&target->nbd, data, sector, nr_sectors);
	return target->device->ops->write(target->device, data, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
}

/* A store itself finds the blocks that are zero already, and those that show the base. */
int target_zero(struct target *target, uint64_t sector, uint64_t nr_sectors)
{
	if (target->store)
		return target->base.read ? cow_write_zeroes(target->store, sector, nr_sectors) : 0;
	if (target->is_zero)
		return 0;
	return cow_device_zero(target->device, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
}

/* Sync the file before the rename, and the rename before reporting success. */
static int part_place(struct target *target)
{
	int ret = path_sync(target->part);

	if (!ret && rename(target->part, target->path))
		ret = -errno;
	if (!ret) {
		free(target->part);
		target->part = NULL;
		ret = path_sync_name(target->path);
	}
	return ret;
}

static void target_release(struct target *target)
{
	if (target->device)
		cow_file_close(target->device);
	if (target->lock)
		cow_file_close(target->lock);
	cow_base_close(&target->base);
	free(target->part);
	free(target->path);
	*target = (struct target){ 0 };
}

int target_end(struct target *target, int ret, struct error_text *error)
{
	/* wipe an incomplete copy on a device, but not the old content if no store was created yet */
	bool wipe = !target->part && !target->is_new && target->made;
	int ret_end = 0;

	if (target->store && ret)
		cow_abandon(target->store);
	else if (target->store)
		ret_end = cow_close(target->store);
	else if (!ret && target->device)
		ret_end = target->device->ops->sync(target->device);
	if (nbd_image_close(&target->nbd, target->path, !ret, error) && !ret_end)
		ret_end = -EIO;
	if (!ret && !ret_end && target->part)
		ret_end = part_place(target);
	else if (!ret && !ret_end && target->is_new)
		ret_end = cow_file_place(target->device, error);
	if (!ret && ret_end)
		ret = error_set(error, ret_end, "%s: could not be completed: %s", target->path, strerror(-ret_end));
	if (ret && target->part)
		unlink(target->part);
	if (ret && wipe)
		cow_wipe(target->device);
	target_release(target);
	return ret;
}
