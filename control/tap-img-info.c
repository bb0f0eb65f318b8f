/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-info.c - `tap-img info`, `tap-img map`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tap-img.h"
#include "tapctl.h"

static bool json_only(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS };
	bool json = false;

	while (image_getopt(command, argc, argv, "h", options) != -1)
		json = true;
	image_arguments(command, argc, 1);
	return json;
}

static void uuid_text(const uint8_t *uuid, char text[37])
{
	int i, at = 0;

	for (i = 0; i < 16; i++)
		at += sprintf(text + at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

static json_t *info_json(const char *path, const struct cow_info *info, uint64_t actual)
{
	json_t *json;
	char uuid[37];

	uuid_text(info->uuid, uuid);
	json = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:s, s:b, s:i, s:i, s:I}", "filename", path, "format", "cow",
			 "virtual-size", (json_int_t)(info->sectors * SECTOR_SIZE), "actual-size", (json_int_t)actual,
			 "store-size", (json_int_t)(info->store_blocks * 4096), "free", (json_int_t)(info->free_blocks * 4096),
			 "sector-size", info->sector_size, "uuid", uuid, "clean", info->clean, "snapshots", info->snapshots,
			 "deletions", info->deletions, "generation", (json_int_t)info->generation);
	if (info->base_kind) {
		json_object_set_new(json, "base", json_string(info->base->target));
		json_object_set_new(json, "committing", json_boolean(info->base->flags & COW_BASE_COMMITTING));
	}
	return json;
}

static void info_print(const char *path, const struct cow_info *info, uint64_t actual)
{
	char uuid[37];

	uuid_text(info->uuid, uuid);
	printf("image: %s\nformat: cow\nuuid: %s\n", path, uuid);
	printf("virtual size: %" PRIu64 " bytes, sectors of %u\n", info->sectors * SECTOR_SIZE, info->sector_size);
	printf("space taken: %" PRIu64 " bytes\n", actual);
	if (info->base_kind)
		printf("base: %s\n", info->base->target);
	if (info->base->flags & COW_BASE_COMMITTING)
		printf("a commit to the base was not finished: the disk is here, not there; run the commit again\n");
	printf("snapshots: %u\n", info->snapshots);
	if (info->deletions)
		printf("deleted snapshots that are not freed yet, or that others need: %u\n", info->deletions);
	printf("closed cleanly: %s\n", info->clean ? "yes" : "no");
}

static int run_info(const struct image_command *command, int argc, char **argv)
{
	struct error_text error = { "" };
	bool json = json_only(command, argc, argv);
	const char *path = image_path(argv[optind]);
	struct cow_info info;
	struct image image;
	uint64_t actual = 0;
	struct stat st;
	int ret = image_open(&image, argv[optind], true, &error);

	if (ret)
		return image_fail(ret, &error);
	cow_get_info(image.store, &info);
	if (!stat(path, &st))
		actual = S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : (info.store_blocks - info.free_blocks) * 4096;
	if (json)
		image_print_json(info_json(path, &info, actual));
	else
		info_print(path, &info, actual);
	ret = image_close(&image, &error);
	return ret ? image_fail(ret, &error) : 0;
}

const struct image_command command_info = {
	.name = "info", .usage = "PATH", .help = "show sizes, base and state", .run = run_info,
};

static const char *const extent_names[] = {
	[COW_EXTENT_DATA] = "data", [COW_EXTENT_ZERO] = "zero", [COW_EXTENT_BASE] = "base",
};

static void map_one(const struct cow_extent *extent, bool as_json)
{
	json_t *json;

	if (!as_json) {
		printf("%#-18" PRIx64 "%#-18" PRIx64 "%-8s", extent->sector * SECTOR_SIZE, extent->nr_sectors * SECTOR_SIZE,
		       extent_names[extent->kind]);
		if (extent->kind == COW_EXTENT_DATA)
			printf("%#" PRIx64, extent->offset);
		putchar('\n');
		return;
	}
	json = json_pack("{s:I, s:I, s:s}", "start", (json_int_t)(extent->sector * SECTOR_SIZE), "length",
			 (json_int_t)(extent->nr_sectors * SECTOR_SIZE), "kind", extent_names[extent->kind]);
	if (extent->kind == COW_EXTENT_DATA)
		json_object_set_new(json, "offset", json_integer(extent->offset));
	image_list_json(json);
}

/* Each extent is printed when it is found: a large disk may have very many. */
static int run_map(const struct image_command *command, int argc, char **argv)
{
	struct error_text error = { "" };
	bool as_json = json_only(command, argc, argv);
	struct cow_extent extent;
	struct cow_info info;
	struct image image;
	uint64_t sector;
	int ret = image_open(&image, argv[optind], true, &error);

	if (ret)
		return image_fail(ret, &error);
	cow_get_info(image.store, &info);
	if (!as_json)
		printf("%-18s%-18s%-8s%s\n", "start", "length", "kind", "offset");
	for (sector = 0; !ret && sector < info.sectors; sector += extent.nr_sectors) {
		ret = cow_extent_find(image.store, sector, &extent);
		if (ret)
			error_set(&error, ret, "%s: its map cannot be read: %s", argv[optind], strerror(-ret));
		else
			map_one(&extent, as_json);
	}
	if (as_json && !ret)
		image_list_end();
	image_close(&image, &error);
	return ret ? image_fail(ret, &error) : 0;
}

const struct image_command command_map = {
	.name = "map", .usage = "PATH", .help = "show where the parts of the disk are", .run = run_map,
};
