/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-base.c - a raw file or device as the base of a store, for the tools.
 * A file that was written since it was attached is noticed by its size, its
 * time and its inode; on a device only the size can tell.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow.h"

#define TYPE_RAW "aio:"

static int base_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct cow_device *device = owner;

	return device->ops->read(device, data, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
}

static int fields_fill(struct cow_base_fields *fields, const char *path, struct cow_device *device,
		       struct error_text *error)
{
	uint64_t size = device->ops->size(device);
	struct stat st;

	if (!size || size % SECTOR_SIZE)
		return error_set(error, -EINVAL, "%s: %llu bytes: a base has one or more whole sectors of %u", path,
				 (unsigned long long)size, SECTOR_SIZE);
	if (stat(path, &st))
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

int cow_base_describe(struct cow_base_fields *fields, const char *path, struct error_text *error)
{
	struct cow_device *device;
	char *absolute;
	int ret = 0;

	memset(fields, 0, sizeof(*fields));
	absolute = realpath(path, NULL);
	if (!absolute)
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (strlen(absolute) + sizeof(TYPE_RAW) > sizeof(fields->target))
		ret = error_set(error, -ENAMETOOLONG, "%s: too long a path for a base", path);
	else
		snprintf(fields->target, sizeof(fields->target), TYPE_RAW "%s", absolute);
	if (!ret)
		ret = cow_file_open(&device, absolute, true, error);
	free(absolute);
	if (ret)
		return ret;
	ret = fields_fill(fields, fields->target + strlen(TYPE_RAW), device, error);
	cow_file_close(device);
	return ret;
}

int cow_base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields,
		  struct error_text *error)
{
	const char *path = fields->target + strlen(TYPE_RAW);
	struct cow_base_fields now = { 0 };
	struct cow_device *device;
	int ret;

	*base = (struct cow_base){ 0 };
	if (kind == COW_BASE_NONE)
		return 0;
	if (kind != COW_BASE_RAW || strncmp(fields->target, TYPE_RAW, strlen(TYPE_RAW)))
		return error_set(error, -ENOTSUP, "%s: bases of this type cannot be read here", fields->target);
	ret = cow_file_open(&device, path, true, error);
	if (ret)
		return ret;
	ret = fields_fill(&now, path, device, error);
	if (!ret && (now.sectors != fields->sectors || now.size != fields->size || now.inode != fields->inode ||
		     now.mtime_sec != fields->mtime_sec || now.mtime_nsec != fields->mtime_nsec))
		ret = error_set(error, -ESTALE, "%s: the base was written, resized or replaced since the store was made on it",
				path);
	if (ret)
		cow_file_close(device);
	else
		*base = (struct cow_base){ base_read, device, fields->sectors };
	return ret;
}

void cow_base_close(struct cow_base *base)
{
	if (base->owner)
		cow_file_close(base->owner);
	*base = (struct cow_base){ 0 };
}
