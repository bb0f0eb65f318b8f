/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-compare.c - `tap-img compare` and `tap-img measure`, which only read
 * disks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "size.h"
#include "tap-img.h"

#define CHUNK DISK_CHUNK
#define LEAF_SECTORS 4096u		/* covered by one leaf of a cow image's map: 2 MiB */
#define BLOCK_SECTORS 8u

/* As qemu-img's: equal, different, an image could not be opened, or not be read. */
enum { EXIT_SAME, EXIT_DIFFERENT, EXIT_NOT_OPENED, EXIT_NOT_READ = 4 };

struct compare {
	const char *format[2];
	bool strict, quiet, progress, json;
	struct source source[2];
	uint8_t *data[2];
	uint64_t offset;		/* bytes: the first difference */
	int error;			/* -errno */
};

/* As disk_zero_from(); sectors beyond the end of the disk count as zeros. */
static int part_zero(const struct cow_base *disk, uint64_t sector, uint64_t *n, bool *zero)
{
	*zero = sector >= disk->sectors;
	if (*zero)
		return 0;
	*n = smaller(*n, disk->sectors - sector);
	return disk_zero_from(disk, sector, n, zero);
}

static int part_read(const struct cow_base *disk, uint8_t *data, uint64_t sector, uint64_t n)
{
	if (sector < disk->sectors)
		return disk->read(disk->owner, data, sector, n);
	memset(data, 0, n * SECTOR_SIZE);
	return 0;
}

/* 1: they differ, at compare->offset. */
static int compare_part(struct compare *compare, uint64_t sector, uint64_t n)
{
	uint64_t at;
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++)
		ret = part_read(&compare->source[i].disk, compare->data[i], sector, n);
	if (ret || !memcmp(compare->data[0], compare->data[1], n * SECTOR_SIZE))
		return ret;
	for (at = 0; compare->data[0][at] == compare->data[1][at]; at++)
		;
	compare->offset = sector * SECTOR_SIZE + at;
	return 1;
}

static int compare_some(struct compare *compare, uint64_t sector, uint64_t *n)
{
	bool zero[2] = { false, false };
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++)
		ret = part_zero(&compare->source[i].disk, sector, n, &zero[i]);
	if (ret || (zero[0] && zero[1]))
		return ret;
	*n = smaller(*n, CHUNK);
	return compare_part(compare, sector, *n);
}

static int compare_all(struct compare *compare)
{
	uint64_t a = compare->source[0].disk.sectors, b = compare->source[1].disk.sectors, all = a > b ? a : b, sector, n;
	struct progress progress;
	int ret = 0;

	progress_begin(&progress, "compare", compare->progress);
	for (sector = 0; !ret && sector < all; sector += n) {
		n = all - sector;
		ret = compare_some(compare, sector, &n);
		if (!ret)
			ret = progress_step(&progress, (sector + n) * SECTOR_SIZE, all * SECTOR_SIZE);
	}
	progress_end(&progress);
	return ret;
}

static int compare_print(const struct compare *compare, int different, bool strictly)
{
	uint64_t a = compare->source[0].disk.sectors, b = compare->source[1].disk.sectors;
	json_t *json;

	if (compare->json) {
		json = json_pack("{s:b, s:[I, I]}", "identical", !different, "virtual-sizes", (json_int_t)(a * SECTOR_SIZE),
				 (json_int_t)(b * SECTOR_SIZE));
		if (different && !strictly)
			json_object_set_new(json, "offset", json_integer(compare->offset));
		image_print_json(json);
	} else if (!compare->quiet) {
		if (strictly)
			printf("Strict mode: Image size mismatch!\n");
		else if (a != b)
			printf("Warning: Image size mismatch!\n");
		if (different && !strictly)
			printf("Content mismatch at offset %" PRIu64 "!\n", compare->offset);
		else if (!different)
			printf("Images are identical.\n");
	}
	return different ? EXIT_DIFFERENT : EXIT_SAME;
}

static int compare_opened(struct compare *compare, struct error_text *error)
{
	bool strictly = compare->strict && compare->source[0].disk.sectors != compare->source[1].disk.sectors;
	int ret;

	compare->data[0] = malloc(2 * CHUNK * SECTOR_SIZE);
	if (!compare->data[0]) {
		compare->error = error_set(error, -ENOMEM, "out of memory");
		return EXIT_NOT_READ;
	}
	compare->data[1] = compare->data[0] + CHUNK * SECTOR_SIZE;
	ret = strictly ? 1 : compare_all(compare);
	free(compare->data[0]);
	if (ret < 0) {
		compare->error = error_set(error, ret, "%s and %s: could not be compared: %s", compare->source[0].path,
					   compare->source[1].path, ret == -EINTR ? "interrupted" : strerror(-ret));
		return EXIT_NOT_READ;
	}
	return compare_print(compare, ret, strictly);
}

static int run_compare(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' }, { "other-format", required_argument, NULL, 'F' },
		{ "strict", no_argument, NULL, 's' }, { "quiet", no_argument, NULL, 'q' },
		{ "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	struct compare compare = { 0 };
	struct error_text error = { "" };
	int letter, code = EXIT_NOT_OPENED;

	while ((letter = image_getopt(command, argc, argv, "f:F:sqph", options)) != -1) {
		if (letter == 'f' || letter == 'F')
			compare.format[letter == 'F'] = optarg;
		compare.strict |= letter == 's';
		compare.quiet |= letter == 'q';
		compare.progress |= letter == 'p';
		compare.json |= letter == JSON_LETTER;
	}
	image_arguments(command, argc, 2);
	compare.error = source_open(&compare.source[0], argv[optind], compare.format[0], 'f', NULL, &error);
	if (!compare.error)
		compare.error = source_open(&compare.source[1], argv[optind + 1], compare.format[1], 'F', NULL, &error);
	if (!compare.error)
		code = compare_opened(&compare, &error);
	source_close(&compare.source[0]);
	source_close(&compare.source[1]);
	if (compare.error)
		image_fail(compare.error, &error);
	return code;
}

const struct image_command command_compare = {
	.name = "compare", .usage = "-f FMT -F FMT [-s] [-q] [-p] A B",
	.help = "check whether two disks have the same contents",
	.options = "  -f, --format FMT  of A, unless it is written aio:PATH, cow:PATH or cow:PATH@NAME\n"
		"  -F, --other-format FMT  of B\n"
		"  -s, --strict  different sizes count as a difference, even if the rest is zeros\n"
		"  -q, --quiet  print nothing\n"
		"  -p, --progress  show it even without a terminal\n"
		"exit status 0: the same, 1: different, 2: not opened or wrong usage, 4: not read\n",
	.run = run_compare, .failed = EXIT_NOT_READ, .misused = EXIT_NOT_OPENED,
};

struct measure { uint64_t sectors, blocks, leaves, last_leaf; };

/* Count the blocks that begin in [@sector, @sector + @n), and the leaves that they need. */
static void measure_add(struct measure *measure, uint64_t sector, uint64_t n)
{
	uint64_t first = sector / LEAF_SECTORS + 1, last = (sector + n - 1) / LEAF_SECTORS + 1;

	measure->blocks += (sector + n + BLOCK_SECTORS - 1) / BLOCK_SECTORS - sector / BLOCK_SECTORS;
	measure->leaves += last - first + (first != measure->last_leaf);
	measure->last_leaf = last;
}

static int measure_source(struct measure *measure, const struct cow_base *disk)
{
	uint64_t sector, n;
	bool zero;
	int ret = 0;

	measure->sectors = disk->sectors;
	for (sector = 0; !ret && sector < disk->sectors; sector += n) {
		n = disk->sectors - sector;
		ret = disk_zero_from(disk, sector, &n, &zero);
		if (!ret && !zero)
			measure_add(measure, sector, n);
	}
	return ret;
}

static int measure_given(struct measure *measure, const char *target, const char *format, const char *snapshot,
			 struct error_text *error)
{
	struct source source;
	int ret = source_open(&source, target, format, 'f', snapshot, error);

	if (ret)
		return ret;
	ret = measure_source(measure, &source.disk);
	if (ret)
		error_set(error, ret, "%s: could not be read: %s", target, strerror(-ret));
	source_close(&source);
	return ret;
}

static int measure_print(const struct measure *measure, const char *format, bool json, struct error_text *error)
{
	uint64_t blocks = measure->sectors / BLOCK_SECTORS + !!(measure->sectors % BLOCK_SECTORS);
	uint64_t required = measure->blocks * 4096, full = measure->sectors * SECTOR_SIZE;

	if (!strcmp(format, "cow")) {
		required = cow_measure(measure->sectors, measure->blocks, measure->leaves);
		full = cow_measure(measure->sectors, blocks, measure->sectors / LEAF_SECTORS + 1);
		if (!full)
			return error_set(error, -EFBIG, "%" PRIu64 " bytes: a cow image can hold a disk of 4 PiB at most",
					 measure->sectors * SECTOR_SIZE);
	}
	if (json)
		image_print_json(json_pack("{s:I, s:I}", "required", (json_int_t)required, "fully-allocated",
					   (json_int_t)full));
	else
		printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", required, full);
	return 0;
}

static int run_measure(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' }, { "output-format", required_argument, NULL, 'O' },
		{ "snapshot", required_argument, NULL, 'l' }, { "size", required_argument, NULL, 's' }, COMMON_OPTIONS
	};
	const char *format = NULL, *output = "raw", *snapshot = NULL, *size = NULL, *path;
	struct error_text error = { "" };
	struct measure measure = { 0 };
	bool json = false;
	int letter, ret;

	while ((letter = image_getopt(command, argc, argv, "f:O:l:h", options)) != -1) {
		if (letter == 'f')
			format = optarg;
		else if (letter == 'O')
			output = optarg;
		else if (letter == 'l')
			snapshot = optarg;
		else if (letter == 's')
			size = optarg;
		else
			json = true;
	}
	image_arguments(command, argc, size ? 0 : 1);
	output = image_format("", output, 'O', &path, &error);
	if (!output)
		return image_fail(-EINVAL, &error);
	if (strcmp(output, "raw") && strcmp(output, "cow"))
		return image_fail(error_set(&error, -ENOTSUP, "%s: only raw and cow images can be measured", output), &error);
	if (size) {
		ret = size_parse(size, &measure.sectors, &error);
		measure.sectors /= SECTOR_SIZE;
	} else {
		ret = measure_given(&measure, argv[optind], format, snapshot, &error);
	}
	if (!ret)
		ret = measure_print(&measure, output, json, &error);
	return ret ? image_fail(ret, &error) : 0;
}

const struct image_command command_measure = {
	.name = "measure", .usage = "[-O FMT] (--size SIZE | -f FMT [-l SNAPSHOT] SOURCE)",
	.help = "show how much space an image will need",
	.options = "  -O, --output-format FMT  of the image: raw (default) or cow\n"
		"  --size SIZE  of an empty disk\n"
		"  -f, --format FMT  of SOURCE, an image to be converted\n"
		"  -l, --snapshot NAME  of a cow SOURCE\n",
	.run = run_measure,
};
