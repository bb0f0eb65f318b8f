/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay_install.c - switch the disk of a raw image to a store that stands
 * on it. Only the record, which is written last, makes the store valid; a
 * failure before that leaves the image as it was.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cow_base.h"
#include "overlay.h"
#include "path.h"

struct opened {
	struct cow_device *device;
	struct cow_store *store;
	struct cow_base base;
	struct cow_base_fields fields;
};

/* The store at @path, which has to be on @image. */
static int store_open(struct opened *opened, const char *path, const char *image, struct error_text *error)
{
	struct cow_open_options options = { 0 };
	enum cow_base_kind kind;
	int ret = cow_file_open(&opened->device, path, false, error);

	if (ret) {
		opened->device = NULL;
		return ret;
	}
	ret = cow_probe(opened->device, &kind, &opened->fields, error);
	if (!ret && (kind != COW_BASE_RAW || !(opened->fields.flags & COW_BASE_COMMITTING)))
		ret = error_set(error, -EINVAL, "%s: this store was not created to take over a raw disk", path);
	if (!ret && !path_same_image(strchr(opened->fields.target, ':') + 1, image))
		ret = error_set(error, -EINVAL, "%s: this store was created for another disk than %s", path, image);
	if (!ret)
		ret = cow_base_open(&opened->base, kind, &opened->fields, NULL, error);
	options.base = opened->base;
	if (!ret)
		ret = cow_open(&opened->store, opened->device, &options, error);
	return ret;
}

/* Describe the base in its present state, durable, and prepare a snapshot that shows it: one change of the superblocks. */
static int store_begin(struct opened *opened, const struct overlay_install *what, struct error_text *error)
{
	uint64_t sectors = opened->fields.sectors;
	int ret = cow_base_settle(&opened->base, &opened->fields, error);

	if (!ret && opened->fields.sectors != sectors)
		ret = error_set(error, -ESTALE, "%s: was resized while its store was made: try again", what->path);
	if (!ret)
		ret = cow_snapshot_prepare(opened->store, what->name, what->description, what->decision, error);
	return ret ? ret : cow_rebase_end(opened->store, COW_BASE_RAW, &opened->fields, error);
}

static int store_close(struct opened *opened, int ret, struct error_text *error)
{
	int closed = 0;

	if (opened->store && ret)
		cow_abandon(opened->store);
	else if (opened->store)
		closed = cow_close(opened->store);
	cow_base_close(&opened->base);
	return ret ? ret : closed ? error_set(error, closed, "the store cannot be written: %s", strerror(-closed)) : 0;
}

static int record_make(const struct overlay_install *what, const uint8_t uuid[16], struct error_text *error)
{
	struct overlay overlay = { 0 };

	memcpy(overlay.uuid, uuid, sizeof(overlay.uuid));
	/* not resolved: a device's persistent name is a symbolic link */
	if (snprintf(overlay.base, sizeof(overlay.base), "%s", what->path) >= (int)sizeof(overlay.base) ||
	    snprintf(overlay.store, sizeof(overlay.store), "%s", what->store) >= (int)sizeof(overlay.store))
		return error_set(error, -ENAMETOOLONG, "%s: path too long", what->store);
	return overlay_write(&overlay, error);
}

/* The store stays locked until the record exists: before that, it may be taken for an unused one. */
int overlay_install(const struct overlay_install *what, struct error_text *error)
{
	struct opened opened = { 0 };
	struct cow_info info = { .clean = false };
	int ret = store_open(&opened, what->store, what->path, error);

	if (!ret)
		ret = store_begin(&opened, what, error);
	if (!ret)
		cow_get_info(opened.store, &info);
	ret = store_close(&opened, ret, error);
	if (!ret)
		ret = record_make(what, info.uuid, error);
	if (opened.device)
		cow_file_close(opened.device);
	return ret;
}
