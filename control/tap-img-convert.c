/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-convert.c - `tap-img convert`: copies a disk to another format. A
 * long enough run of zeros is not written where the copy reads as zeros
 * anyway; a copy with a base gets only data that differs from the base.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "path.h"
#include "size.h"
#include "tap-img.h"

#define CHUNK DISK_CHUNK
#define UNIT 8u				/* sectors: zeros are detected in pieces of 4 KiB */
#define MAX_HOLE (32u << 10)		/* sectors: 16 MiB, as in qemu-img */

struct convert {
	const char *source, *target, *source_format, *snapshot, *base, *base_format;
	struct target_options options;
	struct cow_base_fields fields;
	bool progress, json;
	uint64_t sectors, written;
	uint64_t hole;			/* sectors: a shorter run of zeros is written; 0: every run is */
};

/* A run of zeros that is not in the copy yet: too short for a hole so far. */
struct zeros {
	uint64_t sector, nr_sectors;
	bool hole;			/* the run has become a hole: more zeros extend it */
};

struct copy {
	struct convert *convert;
	struct source source;
	struct target target;
	uint8_t *data, *below;		/* the source's data; the content of the copy's base */
	uint8_t *zero;			/* a chunk of zeros */
	struct zeros zeros;
};

static int below_read(struct copy *copy, uint64_t sector, uint64_t n)
{
	const struct cow_base *base = &copy->target.base;
	uint64_t there = base->sectors > sector ? smaller(base->sectors - sector, n) : 0;

	memset(copy->below + there * SECTOR_SIZE, 0, (n - there) * SECTOR_SIZE);
	return there ? base->read(base->owner, copy->below, sector, there) : 0;
}

enum piece { PIECE_SAME, PIECE_ZERO, PIECE_DATA };

/* What to do with the unit at offset @at of the chunk. */
static enum piece piece_at(const struct copy *copy, uint64_t at, uint64_t n)
{
	const uint8_t *data = copy->data + at * SECTOR_SIZE;
	size_t length = smaller(UNIT, n - at) * SECTOR_SIZE;

	if (copy->target.base.read && !memcmp(data, copy->below + at * SECTOR_SIZE, length))
		return PIECE_SAME;
	return cow_all_zero(data, length) ? PIECE_ZERO : PIECE_DATA;
}

static int data_write(struct copy *copy, const uint8_t *data, uint64_t sector, uint64_t n)
{
	copy->convert->written += n * SECTOR_SIZE;
	return target_write(&copy->target, data, sector, n);
}

/* The run of zeros ends: write the zeros that are pending. */
static int zeros_end(struct copy *copy)
{
	struct zeros *zeros = &copy->zeros;
	uint64_t n;
	int ret = 0;

	for (; !ret && zeros->nr_sectors; zeros->sector += n, zeros->nr_sectors -= n) {
		n = smaller(zeros->nr_sectors, CHUNK);
		ret = data_write(copy, copy->zero, zeros->sector, n);
	}
	zeros->hole = false;
	return ret;
}

/* Once the run is a hole its zeros are not kept pending. */
static int zeros_add(struct copy *copy, uint64_t sector, uint64_t n)
{
	struct zeros *zeros = &copy->zeros;
	int ret;

	if (!zeros->nr_sectors)
		zeros->sector = sector;
	zeros->nr_sectors += n;
	if (!copy->convert->hole)
		return zeros_end(copy);
	zeros->hole |= zeros->nr_sectors >= copy->convert->hole;
	if (!zeros->hole)
		return 0;
	ret = target_zero(&copy->target, zeros->sector, zeros->nr_sectors);
	zeros->nr_sectors = 0;
	return ret;
}

static int copy_piece(struct copy *copy, enum piece piece, uint64_t at, uint64_t sector, uint64_t n)
{
	int ret;

	if (piece == PIECE_ZERO)
		return zeros_add(copy, sector, n);
	ret = zeros_end(copy);
	if (!ret && piece == PIECE_DATA)
		ret = data_write(copy, copy->data + at * SECTOR_SIZE, sector, n);
	return ret;
}

static int copy_chunk(struct copy *copy, uint64_t sector, uint64_t n)
{
	uint64_t at, run;
	enum piece piece;
	int ret;

	ret = copy->source.disk.read(copy->source.disk.owner, copy->data, sector, n);
	if (!ret && copy->target.base.read)
		ret = below_read(copy, sector, n);
	for (at = 0; !ret && at < n; at += run) {
		piece = piece_at(copy, at, n);
		for (run = smaller(UNIT, n - at); at + run < n && piece_at(copy, at + run, n) == piece;)
			run += smaller(UNIT, n - at - run);
		ret = copy_piece(copy, piece, at, sector + at, run);
	}
	return ret;
}

/* Copies whole units, so that no block is written in two parts. */
static int copy_some(struct copy *copy, uint64_t sector, uint64_t *done)
{
	uint64_t rest = copy->convert->sectors - sector, n = rest;
	bool zero;
	int ret = disk_zero_from(&copy->source.disk, sector, &n, &zero);

	if (n < rest)
		n -= n % UNIT;
	if (zero && n && !copy->target.base.read) {
		*done = copy->convert->hole ? n : smaller(n, CHUNK);
		return ret ? ret : zeros_add(copy, sector, *done);
	}
	*done = smaller(n ? n : UNIT, smaller(rest, CHUNK));
	return ret ? ret : copy_chunk(copy, sector, *done);
}

static int copy_all(struct copy *copy, struct error_text *error)
{
	struct convert *convert = copy->convert;
	struct progress progress;
	uint64_t sector, n;
	int ret = 0;

	progress_begin(&progress, "convert", convert->progress);
	for (sector = 0; !ret && sector < convert->sectors; sector += n) {
		ret = copy_some(copy, sector, &n);
		if (!ret)
			ret = progress_step(&progress, (sector + n) * SECTOR_SIZE, convert->sectors * SECTOR_SIZE);
	}
	if (!ret)
		ret = zeros_end(copy);
	progress_end(&progress);
	if (ret == -EINTR)
		error_set(error, ret, "%s: interrupted; not created", convert->target);
	else if (ret)
		error_set(error, ret, "%s: could not be copied to %s: %s", convert->source, convert->target, strerror(-ret));
	return ret;
}

static int target_prepare(struct copy *copy, const char *path, struct error_text *error)
{
	struct convert *convert = copy->convert;
	struct cow_create_options *create = &convert->options.cow;

	if (path_same_image(copy->source.path, path))
		return error_set(error, -EINVAL, "%s: is also the source", path);
	convert->sectors = copy->source.disk.sectors;
	create->sectors = convert->sectors;
	create->sector_size = copy->source.sector_size;
	if (!convert->base)
		return convert->base_format ? error_set(error, -EINVAL, "-F %s without -B BASE", convert->base_format) : 0;
	if (strcmp(convert->options.format, "cow"))
		return error_set(error, -EINVAL, "-B: only a cow image can be made on a base");
	if (path_same_image(convert->base, path))
		return error_set(error, -EINVAL, "%s: is its own base", path);
	create->base = &convert->fields;
	return image_base_describe(convert->base, convert->base_format, &create->base_kind, &convert->fields, error);
}

static int convert_run(struct convert *convert, struct error_text *error)
{
	struct copy copy = { .convert = convert };
	const char *path;
	int ret;

	convert->options.format = image_format(convert->target, convert->options.format, 'O', &path, error);
	if (!convert->options.format)
		return -EINVAL;
	ret = source_open(&copy.source, convert->source, convert->source_format, 'f', convert->snapshot, error);
	if (ret)
		return ret;
	copy.data = aligned_alloc(4096, 3 * CHUNK * SECTOR_SIZE);
	ret = copy.data ? target_prepare(&copy, path, error) : error_set(error, -ENOMEM, "out of memory");
	copy.below = copy.data + CHUNK * SECTOR_SIZE;
	copy.zero = copy.below + CHUNK * SECTOR_SIZE;
	if (!ret)
		memset(copy.zero, 0, CHUNK * SECTOR_SIZE);
	if (!ret)
		ret = target_begin(&copy.target, path, &convert->options, error);
	if (!ret)
		ret = target_end(&copy.target, copy_all(&copy, error), error);
	free(copy.data);
	source_close(&copy.source);
	return ret;
}

/* -S, with qemu-img's limit. */
static void hole_read(const char *text, struct convert *convert)
{
	struct error_text error = { "" };
	uint64_t bytes;

	if (!size_parse(text, &bytes, &error) && bytes / SECTOR_SIZE > MAX_HOLE)
		error_set(&error, -EINVAL, "%s: 16M at most", text);
	if (*error.text) {
		fprintf(stderr, "tap-img: convert: -S: %s\n", error.text);
		exit(1);
	}
	convert->hole = bytes / SECTOR_SIZE;
}

static void arguments_read(const struct image_command *command, int argc, char **argv, struct convert *convert)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' }, { "output-format", required_argument, NULL, 'O' },
		{ "snapshot", required_argument, NULL, 'l' }, { "base", required_argument, NULL, 'B' },
		{ "base-format", required_argument, NULL, 'F' }, { "sparse", required_argument, NULL, 'S' },
		{ "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	int letter;

	while ((letter = image_getopt(command, argc, argv, "f:O:l:B:F:S:ph", options)) != -1) {
		if (letter == 'f')
			convert->source_format = optarg;
		else if (letter == 'O')
			convert->options.format = optarg;
		else if (letter == 'l')
			convert->snapshot = optarg;
		else if (letter == 'B')
			convert->base = optarg;
		else if (letter == 'F')
			convert->base_format = optarg;
		else if (letter == 'S')
			hole_read(optarg, convert);
		else if (letter == 'p')
			convert->progress = true;
		else
			convert->json = true;
	}
	image_arguments(command, argc, 2);
	convert->source = argv[optind];
	convert->target = argv[optind + 1];
	if (!convert->options.format && strncmp(convert->target, "cow:", 4))
		convert->options.format = "raw";
}

static int run_convert(const struct image_command *command, int argc, char **argv)
{
	struct convert convert = { .hole = UNIT };
	struct error_text error = { "" };
	int ret;

	arguments_read(command, argc, argv, &convert);
	ret = convert_run(&convert, &error);
	if (ret)
		return image_fail(ret, &error);
	if (convert.json)
		return image_print_json(json_pack("{s:s, s:s, s:s, s:I, s:I}", "source", convert.source, "target",
						  convert.target, "format", convert.options.format, "virtual-size",
						  (json_int_t)(convert.sectors * SECTOR_SIZE), "written",
						  (json_int_t)convert.written));
	return 0;
}

const struct image_command command_convert = {
	.name = "convert", .usage = "-f FMT [-O FMT] [-l SNAPSHOT] [-B BASE -F FMT] [-S SIZE] [-p] SOURCE TARGET",
	.help = "copy a disk into an image of another format",
	.options = "  -f, --format FMT  of SOURCE: raw, cow, qcow2, vhd, vhdx or vmdk; it is never guessed\n"
		"  -O, --output-format FMT  of TARGET; default: raw\n"
		"  -l, --snapshot NAME  of a cow image, instead of its disk; also written cow:PATH@NAME\n"
		"  -B, --base BASE  the base of TARGET, a cow image, which gets only what differs\n"
		"  -F, --base-format FMT  raw or cow (BASE is PATH@NAME then)\n"
		"  -S, --sparse SIZE  turn at least this many zeros in a row into a hole; default: 4k; 0: no holes\n"
		"  -p, --progress  show it even without a terminal\n",
	.run = run_convert,
};
