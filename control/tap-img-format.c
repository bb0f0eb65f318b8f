/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-format.c - opens disks for reading, and knows the names of formats.
 * We read raw and cow images; QEMU's tools read the others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "tap-img.h"

static const char *const formats[][2] = {
	{ "raw", "raw" }, { "aio", "raw" }, { "cow", "cow" },
	{ "qcow2", "qcow2" }, { "vpc", "vpc" }, { "vhd", "vpc" }, { "vhdx", "vhdx" }, { "vmdk", "vmdk" },
};

static const char *format_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (!strcmp(formats[i][0], name))
			return formats[i][1];
	}
	return NULL;
}

const char *image_format(const char *target, const char *given, char given_by, const char **path, struct error_text *error)
{
	const char *typed = !strncmp(target, "cow:", 4) ? "cow" : !strncmp(target, "aio:", 4) ? "raw" : NULL;
	const char *format = given ? format_find(given) : typed;

	*path = typed ? target + 4 : target;
	if (given && !format)
		error_set(error, -EINVAL, "%s: no such format: raw, cow, qcow2, vhd, vhdx and vmdk are known", given);
	else if (!format)
		error_set(error, -EINVAL, "%s: give its format with -%c: raw, cow, qcow2, vhd, vhdx or vmdk", target,
			  given_by);
	else if (typed && strcmp(typed, format))
		error_set(error, -EINVAL, "%s: contradicts the format %s", target, format);
	else
		return format;
	return NULL;
}

int disk_zero_from(const struct cow_base *disk, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	uint64_t all = *nr_sectors;
	int ret = 0;

	*zero = false;
	*nr_sectors = all < DISK_CHUNK ? all : DISK_CHUNK;
	if (disk->zero)
		ret = disk->zero(disk->owner, sector, nr_sectors, zero);
	/* Query no more data than is read at once: querying more would examine the same extents repeatedly. */
	if (ret || !*zero || *nr_sectors < DISK_CHUNK)
		return ret;
	*nr_sectors = all < DISK_SKIP ? all : DISK_SKIP;
	return disk->zero(disk->owner, sector, nr_sectors, zero);
}

static int raw_open(struct source *source, struct error_text *error)
{
	struct cow_base_fields fields;
	int ret = cow_base_describe(&fields, source->path, error);

	return ret ? ret : cow_base_open(&source->disk, COW_BASE_RAW, &fields, NULL, error);
}

static int view_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct source *source = owner;

	return cow_view_read(source->image.store, &source->view, data, sector, nr_sectors);
}

static int view_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	struct source *source = owner;

	return cow_view_zero(source->image.store, &source->view, sector, nr_sectors, zero);
}

static int cow_source_open(struct source *source, const char *snapshot, struct error_text *error)
{
	struct cow_info info;
	int ret = image_open(&source->image, source->path, true, error);

	if (ret)
		return ret;
	ret = cow_view_find(source->image.store, snapshot, &source->view);
	if (ret)
		return error_set(error, ret, "%s: has no snapshot called \"%.64s\"", source->path, snapshot);
	cow_get_info(source->image.store, &info);
	source->sector_size = info.sector_size;
	source->disk = (struct cow_base){ view_read, source, source->view.sectors, view_zero };
	return 0;
}

/* QEMU has its own locks; ours exclude tapdisk. */
static int nbd_open(struct source *source, const char *format, struct error_text *error)
{
	int ret = cow_file_open(&source->lock, source->path, true, error);

	if (ret) {
		source->lock = NULL;
		return ret;
	}
	source->is_nbd = true;
	return nbd_image_open(&source->disk, source->path, format, true, error);
}

int source_open(struct source *source, const char *target, const char *format, char format_letter, const char *snapshot,
		struct error_text *error)
{
	const char *path, *name = NULL;
	int ret;

	*source = (struct source){ .sector_size = 512 };
	format = image_format(target, format, format_letter, &path, error);
	if (!format)
		return -EINVAL;
	/* An @ separates a snapshot's name only after cow:. */
	source->path = path != target && !snapshot && !strcmp(format, "cow") ? cow_target_split(target, &name) : strdup(path);
	snapshot = snapshot ? snapshot : name;
	if (!source->path)
		ret = error_set(error, -ENOMEM, "%s: out of memory", target);
	else if (snapshot && strcmp(format, "cow"))
		ret = error_set(error, -EINVAL, "%s: only snapshots of cow images can be read", target);
	else if (!strcmp(format, "raw"))
		ret = raw_open(source, error);
	else if (!strcmp(format, "cow"))
		ret = cow_source_open(source, snapshot, error);
	else
		ret = nbd_open(source, format, error);
	if (ret)
		source_close(source);
	return ret;
}

void source_close(struct source *source)
{
	struct error_text unused = { "" };

	if (source->is_nbd)
		nbd_image_close(&source->disk, source->path, false, &unused);
	else if (source->image.store)
		image_close(&source->image, &unused);
	else
		cow_base_close(&source->disk);
	if (source->lock)
		cow_file_close(source->lock);
	free(source->path);
	*source = (struct source){ 0 };
}
