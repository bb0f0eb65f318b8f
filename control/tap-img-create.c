/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-create.c - `tap-img create` and `tap-img resize`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "size.h"
#include "tap-img.h"

struct create_arguments {
	const char *base, *format;
	struct cow_base_fields fields;
	struct cow_create_options options;
	const char *sector_size;	/* NULL: the base's */
	const char *preallocation;	/* "metadata", "full"; NULL: none */
	bool json, progress;
};

/* A disk based on a snapshot keeps its sector size: its partition table counts in these sectors. */
static int take_sector_size(struct create_arguments *arguments, struct error_text *error)
{
	const char *name;
	char *path = cow_target_split(arguments->fields.target, &name);
	int ret = path ? cow_sector_size_peek(path, &arguments->options.sector_size, error) :
		error_set(error, -ENOMEM, "out of memory");

	free(path);
	return ret;
}

static int create_base(struct create_arguments *arguments, struct error_text *error)
{
	int ret;

	if (!arguments->base)
		return arguments->format ? error_set(error, -EINVAL, "-F %s without -b BASE", arguments->format) : 0;
	ret = image_base_describe(arguments->base, arguments->format, &arguments->options.base_kind, &arguments->fields, error);
	if (ret)
		return ret;
	arguments->options.base = &arguments->fields;
	if (!arguments->options.sectors)
		arguments->options.sectors = arguments->fields.sectors;
	if (arguments->options.base_kind == COW_BASE_COW && !arguments->options.sector_size)
		return take_sector_size(arguments, error);
	return 0;
}

/* Refuse to overwrite the base, or one beneath it. If a tapdisk has the base open, it holds the locks of all of them. */
static int not_on_itself(const struct create_arguments *arguments, const char *path, struct error_text *error)
{
	struct cow_base base;
	int ret = cow_base_open(&base, arguments->options.base_kind, &arguments->fields, NULL, error);

	if (ret == -EBUSY && arguments->options.base_kind == COW_BASE_COW)
		return 0;
	if (!ret && cow_base_includes(&base, path))
		ret = error_set(error, -EINVAL, "%s: is its own base", path);
	cow_base_close(&base);
	return ret;
}

static int preallocate(struct cow_store *store, bool full, bool always)
{
	struct cow_info info;
	struct progress progress;
	uint64_t block, blocks, n;
	int ret = 0;

	cow_get_info(store, &info);
	blocks = (info.sectors * SECTOR_SIZE + 4095) / 4096;
	progress_begin(&progress, "create", always);
	for (block = 0; !ret && block < blocks; block += n) {
		ret = cow_preallocate_step(store, block, full, &n);
		if (!ret)
			ret = progress_step(&progress, (block + n) * 4096, blocks * 4096);
	}
	progress_end(&progress);
	return ret;
}

static int create_preallocated(const struct create_arguments *arguments, struct cow_device *device, struct error_text *error)
{
	struct cow_open_options options = { .layer_entries = LAYER_ENTRIES };
	struct cow_store *store;
	int ret, ret_close;

	ret = cow_open(&store, device, &options, error);
	if (ret)
		return ret;
	ret = preallocate(store, !strcmp(arguments->preallocation, "full"), arguments->progress);
	ret_close = cow_close(store);
	ret = ret ? ret : ret_close;
	if (ret && ret != -EINTR)
		error_set(error, ret, "%s: cannot be preallocated: %s", device->name, strerror(-ret));
	return ret;
}

/* Create the store with all options; on failure there is no store. */
static int create_on(const struct create_arguments *arguments, struct cow_device *device, struct error_text *error)
{
	int ret = cow_create(device, &arguments->options, error);

	if (ret)
		return ret;
	if (interrupts_caught())
		ret = -EINTR;
	else if (arguments->preallocation)
		ret = create_preallocated(arguments, device, error);
	if (!ret)
		ret = cow_base_confirm(device, arguments->options.base_kind, &arguments->fields, error);
	if (ret == -EINTR)
		error_set(error, ret, "%s: interrupted; not created", device->name);
	if (ret)
		cow_wipe(device);
	return ret;
}

/* A file that did not exist gets its name when it is complete. */
static int create_store(const struct create_arguments *arguments, const char *path, struct error_text *error)
{
	struct cow_device *device;
	struct stat st;
	bool is_new = lstat(path, &st) && errno == ENOENT;
	int ret = not_on_itself(arguments, path, error);

	interrupts_catch();
	if (!ret)
		ret = is_new ? cow_file_new(&device, path, error) : cow_file_create(&device, path, error);
	if (ret)
		return ret;
	ret = create_on(arguments, device, error);
	if (!ret && is_new)
		ret = cow_file_place(device, error);
	cow_file_close(device);
	return ret;
}

static int create_arguments_read(const struct image_command *command, int argc, char **argv,
				 struct create_arguments *arguments)
{
	static const struct option options[] = {
		{ "base", required_argument, NULL, 'b' }, { "base-format", required_argument, NULL, 'F' },
		{ "sector-size", required_argument, NULL, 's' }, { "preallocation", required_argument, NULL, 'P' },
		{ "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	int letter;

	while ((letter = image_getopt(command, argc, argv, "b:F:s:ph", options)) != -1) {
		if (letter == 'b')
			arguments->base = optarg;
		else if (letter == 'F')
			arguments->format = optarg;
		else if (letter == 's')
			arguments->sector_size = optarg;
		else if (letter == 'P')
			arguments->preallocation = strcmp(optarg, "off") ? optarg : NULL;
		else if (letter == 'p')
			arguments->progress = true;
		else
			arguments->json = true;
	}
	return 0;
}

static int check_sector_size(struct create_arguments *arguments, struct error_text *error)
{
	const char *bytes = arguments->sector_size;

	if (bytes && strcmp(bytes, "512") && strcmp(bytes, "4096"))
		return error_set(error, -EINVAL, "-s %s: sectors of 512 and 4096 bytes are supported", bytes);
	arguments->options.sector_size = !bytes ? 0 : *bytes == '5' ? 512 : 4096;
	return 0;
}

static int check_preallocation(const struct create_arguments *arguments, struct error_text *error)
{
	const char *how = arguments->preallocation;

	if (how && strcmp(how, "metadata") && strcmp(how, "full"))
		return error_set(error, -EINVAL, "--preallocation %s: off, metadata or full", how);
	if (how && arguments->base)
		return error_set(error, -EINVAL, "--preallocation %s: it would hide all of the base", how);
	return 0;
}

static int run_create(const struct image_command *command, int argc, char **argv)
{
	struct create_arguments arguments = { 0 };
	struct error_text error = { "" };
	uint64_t bytes = 0;
	const char *path;
	int ret = 0;

	create_arguments_read(command, argc, argv, &arguments);
	image_arguments(command, argc, arguments.base && argc - optind == 1 ? 1 : 2);
	path = image_path(argv[optind]);
	if (argv[optind + 1]) {
		ret = size_parse(argv[optind + 1], &bytes, &error);
		if (!ret && !bytes)
			ret = error_set(&error, -EINVAL, "%s: the size must not be 0", argv[optind + 1]);
	}
	arguments.options.sectors = bytes / SECTOR_SIZE;
	if (!ret)
		ret = check_sector_size(&arguments, &error);
	if (!ret)
		ret = check_preallocation(&arguments, &error);
	if (!ret)
		ret = create_base(&arguments, &error);
	if (!ret)
		ret = create_store(&arguments, path, &error);
	if (ret)
		return image_fail(ret, &error);
	if (arguments.json)
		return image_print_json(json_pack("{s:s, s:I}", "path", path, "virtual-size",
						  (json_int_t)(arguments.options.sectors * SECTOR_SIZE)));
	printf("%s: a disk of %llu bytes\n", path, (unsigned long long)arguments.options.sectors * SECTOR_SIZE);
	return 0;
}

const struct image_command command_create = {
	.name = "create", .usage = "[-b BASE [-F FMT]] [-s BYTES] [--preallocation HOW] [-p] PATH SIZE",
	.help = "create an empty disk, or one on a base",
	.options = "  -b, --base BASE  what is read where nothing was written; it must not change any more\n"
		"  -F, --base-format FMT  the base's format: raw, or cow (BASE is PATH@NAME then, a snapshot)\n"
		"  -s, --sector-size BYTES  what the guest sees: 512 or 4096; default: as BASE if\n"
		"                   that is a snapshot, else 512\n"
		"  --preallocation HOW  off (default); metadata: allocate all blocks, in the\n"
		"                   order of the disk; full: and write them\n"
		"  -p, --progress  show it even without a terminal\n"
		"SIZE: bytes, or with one of k M G T P; optional with a base\n",
	.run = run_create,
};

static int resize_to(const char *text, uint64_t now, uint64_t *sectors, struct error_text *error)
{
	uint64_t bytes;
	int ret = size_parse(text + (*text == '+' || *text == '-'), &bytes, error);

	if (ret)
		return ret;
	*sectors = bytes / SECTOR_SIZE;
	if (*text == '+')
		*sectors += now;
	else if (*text == '-')
		*sectors = *sectors < now ? now - *sectors : 0;
	return *sectors ? 0 : error_set(error, -EINVAL, "%s: nothing would be left of the disk", text);
}

struct resize {
	const char *target, *size;
	bool shrink, progress, json;
	uint64_t sectors;		/* result */
};

static int resize_cut(struct image *image, const struct resize *resize, uint64_t now, struct error_text *error)
{
	uint64_t sector = resize->sectors;
	struct progress progress;
	int ret = 0;

	progress_begin(&progress, "shrink", resize->progress);
	while (!ret && sector < now) {
		ret = cow_resize_cut(image->store, resize->sectors, &sector, error);
		if (!ret)
			ret = progress_step(&progress, (sector - resize->sectors) * SECTOR_SIZE,
					    (now - resize->sectors) * SECTOR_SIZE);
	}
	progress_end(&progress);
	if (ret == -EINTR)
		return error_set(error, ret, "%s: interrupted: the size is unchanged, but part of what was to be cut off is "
				 "zeros now", resize->target);
	return ret;
}

/* With @read_only this only checks whether the resize would be refused, because opening a store for writing changes it. */
static int resize_image(struct resize *resize, bool read_only, struct error_text *error)
{
	struct cow_info info;
	struct image image;
	int ret, ret_close;

	ret = image_open(&image, resize->target, read_only, error);
	if (ret)
		return ret;
	cow_get_info(image.store, &info);
	ret = resize_to(resize->size, info.sectors, &resize->sectors, error);
	if (!ret && resize->sectors < info.sectors && !resize->shrink)
		ret = error_set(error, -EINVAL, "%s: would become smaller, and lose what lies beyond the new size: give "
				"--shrink for that", resize->target);
	if (!ret && !read_only)
		ret = resize_cut(&image, resize, info.sectors, error);
	if (!ret && !read_only)
		ret = cow_resize(image.store, resize->sectors, error);
	ret_close = image_close(&image, error);
	return ret ? ret : ret_close;
}

/* "-1G" is a size, not options. */
static bool is_option(const char *argument)
{
	return argument[0] == '-' && argument[1] && !strchr("0123456789", argument[1]);
}

/* Sort @argv: options, "--", other words, each in their order. No option takes an argument. Returns the new count. */
static int options_first(int argc, char **argv, char *sorted[])
{
	int i, options_end = 1, count;

	while (options_end < argc && strcmp(argv[options_end], "--"))
		options_end++;
	sorted[0] = argv[0];
	for (i = count = 1; i < options_end; i++) {
		if (is_option(argv[i]))
			sorted[count++] = argv[i];
	}
	sorted[count++] = "--";
	for (i = 1; i < argc; i++) {
		if (i > options_end || (i < options_end && !is_option(argv[i])))
			sorted[count++] = argv[i];
	}
	sorted[count] = NULL;
	return count;
}

static void resize_arguments(const struct image_command *command, int argc, char **argv, struct resize *resize)
{
	static const struct option options[] = {
		{ "shrink", no_argument, NULL, 'S' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	char *sorted[argc + 2];
	int letter;

	argc = options_first(argc, argv, sorted);
	while ((letter = image_getopt(command, argc, sorted, "ph", options)) != -1) {
		resize->shrink |= letter == 'S';
		resize->progress |= letter == 'p';
		resize->json |= letter == JSON_LETTER;
	}
	image_arguments(command, argc, 2);
	resize->target = sorted[optind];
	resize->size = sorted[optind + 1];
}

static int run_resize(const struct image_command *command, int argc, char **argv)
{
	struct error_text error = { "" };
	struct resize resize = { 0 };
	int ret;

	resize_arguments(command, argc, argv, &resize);
	ret = resize_image(&resize, true, &error);
	if (!ret)
		ret = resize_image(&resize, false, &error);
	if (ret)
		return image_fail(ret, &error);
	if (resize.json)
		return image_print_json(json_pack("{s:I}", "virtual-size", (json_int_t)(resize.sectors * SECTOR_SIZE)));
	printf("%s: %llu bytes\n", image_path(resize.target), (unsigned long long)resize.sectors * SECTOR_SIZE);
	return 0;
}

const struct image_command command_resize = {
	.name = "resize", .usage = "[--shrink] [-p] PATH [+|-]SIZE", .help = "change the size of the disk",
	.options = "  --shrink  allow a smaller size\n"
		"  -p, --progress  show it even without a terminal\n",
	.run = run_resize,
};
