/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-info.c - `tap-img info`, `tap-img map`, `tap-img check`.
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

static void map_one(const struct cow_extent *extent, json_t *list)
{
	json_t *json;

	if (!list) {
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
	json_array_append_new(list, json);
}

static int run_map(const struct image_command *command, int argc, char **argv)
{
	struct error_text error = { "" };
	json_auto_t *list = json_only(command, argc, argv) ? json_array() : NULL;
	struct cow_extent extent;
	struct cow_info info;
	struct image image;
	uint64_t sector;
	int ret = image_open(&image, argv[optind], true, &error);

	if (ret)
		return image_fail(ret, &error);
	cow_get_info(image.store, &info);
	if (!list)
		printf("%-18s%-18s%-8s%s\n", "start", "length", "kind", "offset");
	for (sector = 0; !ret && sector < info.sectors; sector += extent.nr_sectors) {
		ret = cow_extent_find(image.store, sector, &extent);
		if (ret)
			error_set(&error, ret, "%s: its map cannot be read: %s", argv[optind], strerror(-ret));
		else
			map_one(&extent, list);
	}
	if (list && !ret)
		image_print_json(json_incref(list));
	image_close(&image, &error);
	return ret ? image_fail(ret, &error) : 0;
}

const struct image_command command_map = {
	.name = "map", .usage = "PATH", .help = "show where the parts of the disk are", .run = run_map,
};

#define REPORT_LINES 40

struct check_report {
	unsigned lines;
	bool json;
	json_t *problems;	/* the lines, then */
	struct progress progress;
};

static void report_line(void *owner, const char *text)
{
	struct check_report *report = owner;

	if (report->lines++ >= REPORT_LINES)
		return;
	if (report->json) {
		json_array_append_new(report->problems, tapctl_text_json(text));
		return;
	}
	progress_end(&report->progress);
	fprintf(stderr, "%s\n", text);
	if (report->lines == REPORT_LINES)
		fprintf(stderr, "(further problems are not shown)\n");
}

static int report_progress(void *owner, uint64_t done, uint64_t total)
{
	struct check_report *report = owner;

	return progress_step(&report->progress, done * 4096, total * 4096);
}

static int check_result(const struct cow_check *check, const struct cow_check *before, bool repaired,
			const struct check_report *report)
{
	if (report->json)
		image_print_json(json_pack("{s:I, s:I, s:I, s:I, s:b, s:O}", "corruptions", (json_int_t)check->errors, "leaks",
					   (json_int_t)check->leaks, "mapped", (json_int_t)(check->mapped * 4096), "metadata",
					   (json_int_t)(check->metadata * 4096), "repaired", repaired, "problems", report->problems));
	else if (repaired)
		printf("%" PRIu64 " leaked blocks freed\n", before->leaks);
	else if (!check->errors && !check->leaks)
		printf("No errors were found: %" PRIu64 " bytes of data, %" PRIu64 " of maps and tables.\n",
		       check->mapped * 4096, check->metadata * 4096);
	else
		printf("%" PRIu64 " errors, %" PRIu64 " leaked blocks\n", check->errors, check->leaks);
	return check->errors ? EXIT_CORRUPT : check->leaks ? EXIT_LEAKS : 0;
}

static int run_check(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'r' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	json_auto_t *problems = json_array();
	struct check_report report = { .problems = problems };
	struct cow_check check = { .report = report_line, .progress = report_progress, .owner = &report }, before;
	struct error_text error = { "" };
	bool repair = false, repaired = false, always = false;
	struct image image;
	int letter, ret, ret_close;

	while ((letter = image_getopt(command, argc, argv, "rph", options)) != -1) {
		repair = repair || letter == 'r';
		always = always || letter == 'p';
		report.json = report.json || letter == JSON_LETTER;
	}
	image_arguments(command, argc, 1);
	ret = image_open(&image, argv[optind], !repair, &error);
	/* A store too damaged to open is corrupt; one that is missing or in use could not be checked. */
	if (ret) {
		image_fail(ret, &error);
		return ret == -EUCLEAN ? EXIT_CORRUPT : 1;
	}
	progress_begin(&report.progress, "check", always);
	ret = cow_check(image.store, &check, repair);
	before = check;
	if (!ret && repair && check.leaks && !check.errors) {
		repaired = true;
		ret = cow_check(image.store, &check, false);
	}
	progress_end(&report.progress);
	if (ret)
		error_set(&error, ret, "%s: the check could not be finished: %s", argv[optind], strerror(-ret));
	ret_close = image_close(&image, &error);
	if (ret || ret_close)
		return image_fail(ret ? ret : ret_close, &error);
	return check_result(&check, &before, repaired, &report);
}

const struct image_command command_check = {
	.name = "check", .usage = "[-r] [-p] PATH", .help = "check all maps, tables and checksums",
	.options = "  -r, --repair  free leaked blocks\n  -p, --progress  show it even without a terminal\n"
		"exit status 0: fine, 1: not checked, 2: damaged, 3: blocks leaked, "
		"no other damage\n",
	.run = run_check,
};
