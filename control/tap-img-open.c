/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-open.c - opens a store with its base, and parses sizes such as 10G.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-img.h"

const char *image_path(const char *target)
{
	return strncmp(target, "cow:", 4) ? target : target + 4;
}

static void image_release(struct image *image)
{
	cow_base_close(&image->base);
	if (image->device)
		cow_file_close(image->device);
	image->device = NULL;
}

static int unread(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	return -EIO;
}

static int base_open(struct image *image, enum image_base how, struct error_text *error)
{
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	int ret = cow_probe(image->device, &kind, &fields, error);

	if (ret)
		return ret;
	if (how == BASE_WRITE && kind == COW_BASE_RAW)
		return cow_base_open_writable(&image->base, &fields, image->device, error);
	if (how == BASE_UNREAD)
		image->base = (struct cow_base){ .read = unread, .sectors = fields.sectors };
	return how == BASE_UNREAD ? 0 : cow_base_open(&image->base, kind, &fields, image->device, error);
}

int image_open_on(struct image *image, const char *target, bool read_only, enum image_base how, struct error_text *error)
{
	struct cow_open_options options = { .read_only = read_only, .layer_entries = LAYER_ENTRIES };
	int ret;

	*image = (struct image){ 0 };
	ret = cow_file_open(&image->device, image_path(target), read_only, error);
	if (ret) {
		image->device = NULL;
		return ret;
	}
	ret = base_open(image, how, error);
	options.base = image->base;
	if (!ret)
		ret = cow_open(&image->store, image->device, &options, error);
	if (ret)
		goto out;
	image->prepared = cow_prepared_count(image->store);
	ret = cow_prepared_settle(image->store, error);
	if (!ret)
		return 0;
	cow_abandon(image->store);
out:
	image_release(image);
	return ret;
}

int image_open(struct image *image, const char *target, bool read_only, struct error_text *error)
{
	return image_open_on(image, target, read_only, BASE_READ, error);
}

int image_close(struct image *image, struct error_text *error)
{
	int ret = cow_close(image->store);

	if (ret)
		error_set(error, ret, "%s: could not be closed cleanly: %s", image->device->name, strerror(-ret));
	image_release(image);
	return ret;
}
