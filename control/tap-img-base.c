/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-base.c - `tap-img commit` and `tap-img rebase`: an image and its
 * base. Each may be interrupted at any moment, by a signal, a kill or a crash:
 * the disk's content stays the same, and the command can be repeated.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "overlay.h"
#include "tap-img.h"
#include "tapctl.h"

#define TAPDISK_TIMEOUT_MS 10000

/* Ask the tapdisk that has the store about the snapshot; -ENOENT without a text: no tapdisk has it. */
static int describe_running(struct cow_base_fields *fields, const char *store, const char *name, struct error_text *error)
{
	struct snapshot_info info = { .name = name };
	json_t *snapshots, *snapshot = NULL;
	struct tapctl_disk disk = { .pid = 0 };
	size_t i;
	int ret;

	disk.pid = tapctl_store_owner(store, &disk.minor);
	if (!disk.pid)
		return -ENOENT;
	ret = tapctl_snapshot_list(&disk, &snapshots, TAPDISK_TIMEOUT_MS, error);
	if (ret)
		return ret;
	json_array_foreach(snapshots, i, snapshot) {
		if (!strcmp(json_string_value(json_object_get(snapshot, "name")), name))
			break;
	}
	info.id = (uint32_t)json_integer_value(json_object_get(snapshot, "id"));
	info.time = (uint64_t)json_integer_value(json_object_get(snapshot, "time"));
	info.sectors = (uint64_t)json_integer_value(json_object_get(snapshot, "sectors"));
	if (i == json_array_size(snapshots))
		ret = error_set(error, -EINVAL, "%s: has no snapshot called \"%.64s\"", store, name);
	else
		ret = cow_base_describe_peek(fields, store, &info, error);
	json_decref(snapshots);
	return ret;
}

/* A store that is in use cannot be read here, but its tapdisk can be asked. */
static int describe_snapshot(struct cow_base_fields *fields, const char *target, struct error_text *error)
{
	struct error_text running = { "" };
	const char *name;
	char *store, path[PATH_MAX];
	int ret = cow_base_describe_snapshot(fields, target, error);

	if (ret != -EBUSY)
		return ret;
	store = cow_target_split(target, &name);
	ret = store && realpath(store, path) ? describe_running(fields, path, name, &running) : -ENOENT;
	free(store);
	if (ret && running.text[0])
		*error = running;
	return ret == -ENOENT ? -EBUSY : ret;
}

int image_base_describe(const char *base, const char *format, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error)
{
	const char *path;

	format = image_format(base, format, 'F', &path, error);
	if (!format)
		return -EINVAL;
	if (!strcmp(format, "raw")) {
		*kind = COW_BASE_RAW;
		return cow_base_describe(fields, path, error);
	}
	if (strcmp(format, "cow"))
		return error_set(error, -ENOTSUP, "%s: bases of format %s are not supported: use raw or cow", base, format);
	*kind = COW_BASE_COW;
	return describe_snapshot(fields, path, error);
}

static int interrupted(const char *target, int ret, struct error_text *error)
{
	if (ret == -EINTR)
		return error_set(error, ret, "%s: interrupted: nothing is lost, and it can be run again", target);
	return error_set(error, ret, "%s: %s", target, strerror(-ret));
}

/* Close the store in any case; returns @ret, or the error of the close. */
static int close_after(struct image *image, int ret, struct error_text *error)
{
	int ret_close = image_close(image, error);

	return ret ? ret : ret_close;
}

static const char *raw_path(const char *base)
{
	return strncmp(base, "aio:", 4) ? NULL : base + 4;
}

/* As overlay_find(); *@ours: the record names the store @target. */
static int find_record(const char *target, const char *base, struct overlay *overlay, bool *ours, struct error_text *error)
{
	struct stat named, image;
	int ret = raw_path(base) ? overlay_find(raw_path(base), overlay, error) : 0;

	*ours = ret == 1 && !stat(overlay->store, &named) && !stat(image_path(target), &image) &&
		named.st_dev == image.st_dev && named.st_ino == image.st_ino;
	return ret;
}

/* If the base's record names another store, refuse: the disk is in that one. We hold the base's lock, so this stays valid. */
static int check_record(const char *target, const char *base, struct error_text *error)
{
	struct overlay overlay;
	bool ours;
	int ret = find_record(target, base, &overlay, &ours, error);

	if (ret != 1 || ours || overlay.finished)
		return ret < 0 ? ret : 0;
	return error_set(error, -EBUSY, "%s: its disk has moved to the store %s: commit that, not %s", raw_path(base),
			 overlay.store,
			 image_path(target));
}

static int commit_copy(struct image *image, const char *target, bool always, struct error_text *error)
{
	struct progress progress;
	struct cow_info info;
	uint64_t sector, n;
	int ret = 0;

	cow_get_info(image->store, &info);
	progress_begin(&progress, "commit", always);
	for (sector = 0; !ret && sector < info.sectors; sector += n) {
		ret = cow_commit_step(image->store, cow_base_device(&image->base), sector, &n);
		if (!ret)
			ret = progress_step(&progress, (sector + n) * SECTOR_SIZE, info.sectors * SECTOR_SIZE);
	}
	progress_end(&progress);
	return ret ? interrupted(target, ret, error) : 0;
}

static int commit_opened(struct image *image, const char *target, bool always, char *base, struct error_text *error)
{
	struct cow_base_fields fields;
	struct cow_info info;
	int ret;

	cow_get_info(image->store, &info);
	fields = *info.base;
	strcpy(base, fields.target);
	ret = check_record(target, base, error);
	if (ret)
		return ret;
	ret = cow_commit_begin(image->store, info.base_kind == COW_BASE_RAW ? cow_base_device(&image->base) : NULL, error);
	if (!ret)
		ret = commit_copy(image, target, always, error);
	if (!ret)
		ret = cow_base_settle(&image->base, &fields, error);
	return ret ? ret : cow_commit_end(image->store, &fields, error);
}

/* Remove the base's record if it names this image, so that the base can be opened directly. */
static int remove_record(const char *target, const char *base, struct error_text *error)
{
	struct overlay overlay;
	bool ours;
	int ret = find_record(target, base, &overlay, &ours, error);

	return ret < 0 || !ours ? ret : overlay_remove(raw_path(base), error);
}

static int run_commit(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = { { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS };
	struct error_text error = { "" };
	bool json = false, always = false;
	char base[COW_TARGET_MAX];
	struct image image;
	int letter, ret;

	while ((letter = image_getopt(command, argc, argv, "ph", options)) != -1) {
		always |= letter == 'p';
		json |= letter == JSON_LETTER;
	}
	image_arguments(command, argc, 1);
	ret = image_open_on(&image, argv[optind], false, BASE_WRITE, &error);
	if (!ret)
		ret = close_after(&image, commit_opened(&image, argv[optind], always, base, &error), &error);
	if (!ret)
		ret = remove_record(argv[optind], base, &error);
	if (ret)
		return image_fail(ret, &error);
	if (json)
		return image_print_json(json_pack("{s:s, s:s}", "path", image_path(argv[optind]), "base", base));
	printf("Image committed to %s\n", base);
	return 0;
}

const struct image_command command_commit = {
	.name = "commit", .usage = "[-p] PATH", .help = "write the disk to its raw base, and empty the image",
	.options = "  -p, --progress  show it even without a terminal\n", .run = run_commit,
};

struct rebase {
	const char *target, *base, *format;
	bool unsafe, progress, json;
	enum cow_base_kind kind;
	struct cow_base_fields fields;
};

static int rebase_copy(struct image *image, const struct rebase *rebase, const struct cow_base *next,
		       struct error_text *error)
{
	struct progress progress;
	struct cow_info info;
	uint64_t sector, n;
	int ret = 0;

	cow_get_info(image->store, &info);
	progress_begin(&progress, "rebase", rebase->progress);
	for (sector = 0; !ret && sector < info.sectors; sector += n) {
		ret = cow_rebase_step(image->store, next->read ? next : NULL, sector, &n);
		if (!ret)
			ret = progress_step(&progress, (sector + n) * SECTOR_SIZE, info.sectors * SECTOR_SIZE);
	}
	progress_end(&progress);
	return ret ? interrupted(rebase->target, ret, error) : 0;
}

static int rebase_onto(const struct rebase *rebase, const struct cow_base *next, struct error_text *error)
{
	struct image image;
	int ret;

	/* An image based on this one cannot be its base; check first, because opening it would fail: we have it locked. */
	if (cow_base_includes(next, image_path(rebase->target)))
		return error_set(error, -ELOOP, "%s: would be its own base", rebase->target);
	ret = image_open_on(&image, rebase->target, false, rebase->unsafe ? BASE_UNREAD : BASE_READ, error);
	if (ret)
		return ret;
	if (!rebase->unsafe)
		ret = cow_rebase_begin(image.store, error);
	if (!ret && !rebase->unsafe)
		ret = rebase_copy(&image, rebase, next, error);
	if (!ret)
		ret = cow_base_confirm(image.device, rebase->kind, &rebase->fields, error);
	if (!ret)
		ret = cow_rebase_end(image.store, rebase->kind, &rebase->fields, error);
	return close_after(&image, ret, error);
}

static void rebase_arguments(const struct image_command *command, int argc, char **argv, struct rebase *rebase)
{
	static const struct option options[] = {
		{ "base", required_argument, NULL, 'b' }, { "base-format", required_argument, NULL, 'F' },
		{ "unsafe", no_argument, NULL, 'u' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	int letter;

	while ((letter = image_getopt(command, argc, argv, "b:F:uph", options)) != -1) {
		if (letter == 'b')
			rebase->base = optarg;
		else if (letter == 'F')
			rebase->format = optarg;
		rebase->unsafe |= letter == 'u';
		rebase->progress |= letter == 'p';
		rebase->json |= letter == JSON_LETTER;
	}
	if (!rebase->base)
		image_misused(command, "-b BASE is missing; -b '' is for none");
	image_arguments(command, argc, 1);
	rebase->target = argv[optind];
}

static int rebase_run(struct rebase *rebase, struct error_text *error)
{
	struct cow_base next = { 0 };
	int ret = 0;

	if (*rebase->base)
		ret = image_base_describe(rebase->base, rebase->format, &rebase->kind, &rebase->fields, error);
	if (!ret)
		ret = cow_base_open(&next, rebase->kind, &rebase->fields, NULL, error);
	if (!ret)
		ret = rebase_onto(rebase, &next, error);
	cow_base_close(&next);
	return ret;
}

static int run_rebase(const struct image_command *command, int argc, char **argv)
{
	struct error_text error = { "" };
	struct rebase rebase = { 0 };
	int ret;

	rebase_arguments(command, argc, argv, &rebase);
	ret = rebase_run(&rebase, &error);
	if (ret)
		return image_fail(ret, &error);
	if (rebase.json)
		return image_print_json(json_pack("{s:s, s:s*}", "path", image_path(rebase.target), "base",
						  rebase.kind ? rebase.fields.target : NULL));
	printf("%s: base: %s\n", image_path(rebase.target), rebase.kind ? rebase.fields.target : "none");
	return 0;
}

const struct image_command command_rebase = {
	.name = "rebase", .usage = "[-u] -b BASE [-F FMT] [-p] PATH", .help = "change the image's base, or remove it",
	.options = "  -b, --base BASE  empty: no base\n"
		"  -F, --base-format FMT  raw, or cow (BASE is PATH@NAME then)\n"
		"  -u, --unsafe  only change the reference: the other base has the same contents\n"
		"  -p, --progress  show it even without a terminal\n",
	.run = run_rebase,
};
