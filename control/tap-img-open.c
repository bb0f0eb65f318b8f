/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-open.c - opening a store with its base, and sizes as people write them.
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

int image_open(struct image *image, const char *target, bool read_only, struct error_text *error)
{
	struct cow_open_options options = { .read_only = read_only };
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	int ret;

	*image = (struct image){ 0 };
	ret = cow_file_open(&image->device, image_path(target), read_only, error);
	if (ret) {
		image->device = NULL;
		return ret;
	}
	ret = cow_probe(image->device, &kind, &fields, error);
	if (!ret)
		ret = cow_base_open(&image->base, kind, &fields, error);
	options.base = image->base;
	if (!ret)
		ret = cow_open(&image->store, image->device, &options, error);
	if (!ret && !read_only && cow_prepared_settle(image->store, error)) {
		cow_abandon(image->store);
		ret = -EIO;
	}
	if (ret)
		image_release(image);
	return ret;
}

int image_close(struct image *image, struct error_text *error)
{
	int ret = cow_close(image->store);

	if (ret)
		error_set(error, ret, "%s: could not be closed cleanly: %s", image->device->name, strerror(-ret));
	image_release(image);
	return ret;
}

int image_parse_size(const char *text, uint64_t *bytes, struct error_text *error)
{
	static const char suffixes[] = "bkmgtp";
	const char *suffix = suffixes;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || end == text)
		return error_set(error, -EINVAL, "%s: not a size: digits and one of b k M G T P", text);
	if (*end)
		suffix = strchr(suffixes, tolower((unsigned char)*end++));
	if (!suffix || *end)
		return error_set(error, -EINVAL, "%s: not a size: digits and one of b k M G T P", text);
	if (errno || __builtin_mul_overflow(*bytes, 1ull << 10 * (suffix - suffixes), bytes))
		return error_set(error, -ERANGE, "%s: too large a size", text);
	if (*bytes % SECTOR_SIZE)
		return error_set(error, -EINVAL, "%s: not a multiple of %u bytes", text, SECTOR_SIZE);
	return 0;
}
