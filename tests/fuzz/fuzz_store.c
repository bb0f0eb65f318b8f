/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_store.c - stores that somebody made up, opened and used. The fuzzer
 * changes bytes in the live metadata of a good store; checksums are not
 * looked at in this build (FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION), so
 * everything behind them is reached.
 *
 * An input is a byte of switches, then changes: which live block (1 byte),
 * where in it (2), how many bytes (1, of which the lowest 4 bits count), bytes.
 *
 * At the end it says how often a store was opened.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow-internal.h"

#define STORE_BYTES (3u << 20)
#define SECTORS 4200u
#define MAX_LIVE 64u
#define MAX_STEPS 2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static uint8_t *now, *pristine;
static uint16_t live[MAX_LIVE];
static unsigned nr_live;
static uint16_t touched[4096];
static unsigned nr_touched;
static unsigned long long opens;

/* The library must never go beyond the end. */
static void check_range(uint64_t offset, size_t length)
{
	assert(offset <= STORE_BYTES && length <= STORE_BYTES - offset);
}

static int device_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	check_range(offset, length);
	memcpy(data, now + offset, length);
	return 0;
}

static void touch(uint64_t offset, size_t length)
{
	uint64_t block;

	for (block = offset >> COW_SHIFT; length && block <= (offset + length - 1) >> COW_SHIFT; block++) {
		if (nr_touched < sizeof(touched) / sizeof(touched[0]))
			touched[nr_touched++] = block;
	}
}

static int device_write(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	check_range(offset, length);
	touch(offset, length);
	memcpy(now + offset, data, length);
	return 0;
}

static int device_sync(struct cow_device *device)
{
	return 0;
}

static int device_punch(struct cow_device *device, uint64_t offset, uint64_t length)
{
	check_range(offset, length);
	touch(offset, length);
	memset(now + offset, 0xdb, length);
	return 0;
}

static uint64_t device_size(struct cow_device *device)
{
	return STORE_BYTES;
}

static const struct cow_device_ops ops = {
	.read = device_read, .write = device_write, .write_durable = device_write, .sync = device_sync,
	.punch = device_punch, .size = device_size,
};
static struct cow_device device = { .ops = &ops, .name = "fuzzed" };

static struct cow_store *must_open(void)
{
	struct cow_open_options options = { .cache_bytes = 1 };
	struct error_text error = { "" };
	struct cow_store *store;

	if (cow_open(&store, &device, &options, &error))
		abort();
	return store;
}

static void must(int ret)
{
	if (ret)
		abort();
}

/* With snapshots, one of them deleted and still held by two, and a log that was not checkpointed. */
static void make_store(void)
{
	static uint8_t bytes[64 * SECTOR_SIZE];
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	struct cow_store *store;

	memset(bytes, 0x5a, sizeof(bytes));
	must(cow_create(&device, &options, &error));
	store = must_open();
	must(cow_write(store, bytes, 80, 40));
	must(cow_write(store, bytes, 4150, 40));
	must(cow_snapshot_create(store, "one", "first", &error));
	must(cow_write(store, bytes, 96, 8));
	must(cow_snapshot_create(store, "two", "", &error));
	must(cow_write(store, bytes, 800, 24));
	must(cow_snapshot_revert(store, "one", &error));
	must(cow_discard(store, 80, 8));
	must(cow_snapshot_create(store, "three", "", &error));
	must(cow_close(store));
	store = must_open();
	must(cow_write(store, bytes, 2000, 64));
	must(cow_snapshot_delete(store, "two", &error));
	must(cow_snapshot_create(store, "four", "in the log", &error));
	must(cow_flush(store));
	cow_abandon(store);
}

/* All blocks that are not plain data. */
static void find_live(void)
{
	unsigned block, i;

	for (block = 0; block < STORE_BYTES >> COW_SHIFT && nr_live < MAX_LIVE; block++) {
		const uint8_t *at = now + ((uint64_t)block << COW_SHIFT);

		for (i = 0; i < COW_BLOCK && (at[i] == 0x5a || at[i] == 0xdb || !at[i]); i++)
			;
		if (i < COW_BLOCK)
			live[nr_live++] = block;
	}
}

/* check adds up what it says. */
static void say_count(void)
{
	printf("counted %llu opens\n", opens);
	fflush(stdout);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (atexit(say_count))
		abort();
	now = calloc(1, STORE_BYTES);
	pristine = malloc(STORE_BYTES);
	if (!now || !pristine)
		abort();
	make_store();
	find_live();
	memcpy(pristine, now, STORE_BYTES);
	return 0;
}

static void restore(void)
{
	unsigned i;

	if (nr_touched == sizeof(touched) / sizeof(touched[0]))
		memcpy(now, pristine, STORE_BYTES);
	for (i = 0; i < nr_touched; i++)
		memcpy(now + ((size_t)touched[i] << COW_SHIFT), pristine + ((size_t)touched[i] << COW_SHIFT), COW_BLOCK);
	nr_touched = 0;
}

static void apply(const uint8_t *data, size_t size)
{
	while (size > 4) {
		size_t offset = (size_t)live[data[0] % nr_live] << COW_SHIFT, at = (data[1] | data[2] << 8) % COW_BLOCK;
		size_t length = (data[3] & 15) + 1;

		data += 4;
		size -= 4;
		if (length > size)
			length = size;
		if (length > COW_BLOCK - at)
			length = COW_BLOCK - at;
		touch(offset, 1);
		memcpy(now + offset + at, data, length);
		data += length;
		size -= length;
	}
}

static int no_more(void *owner, const struct snapshot_info *info)
{
	unsigned *left = owner;

	return --*left ? 0 : 1;
}

static void use(struct cow_store *store, bool read_only, bool repair)
{
	static uint8_t bytes[64 * SECTOR_SIZE];
	struct cow_check check = { 0 };
	struct cow_extent extent;
	struct cow_info info;
	struct error_text error = { "" };
	uint64_t sector, last;
	unsigned left = 100, i;

	cow_get_info(store, &info);
	cow_check(store, &check, repair && !read_only);
	cow_snapshot_list(store, no_more, &left);
	last = info.sectors > 64 ? info.sectors - 64 : 0;
	for (sector = 0; sector < SECTORS && sector + 60 <= info.sectors; sector += 60) {
		cow_read(store, bytes, sector, 60);
		cow_snapshot_read(store, "one", bytes, sector, 60);
		if (!read_only)
			cow_write(store, bytes, sector, 7);
	}
	if (info.sectors >= 64)
		cow_read(store, bytes, last, 64);
	cow_extent_find(store, 0, &extent);
	if (read_only)
		return;
	cow_snapshot_create(store, "new", NULL, &error);
	if (info.sectors > 400)
		cow_discard(store, 0, 400);
	cow_snapshot_delete(store, "four", &error);
	cow_snapshot_revert(store, "one", &error);
	cow_resize(store, info.sectors + 8, &error);
	for (i = 0; cow_delete_step(store) > 0; i++)
		assert(i < MAX_STEPS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cow_open_options options = { .cache_bytes = 1 << 20, .layer_entries = 64 };
	struct error_text error = { "" };
	struct cow_store *store;

	if (!size)
		return 0;
	options.read_only = data[0] & 1;
	apply(data + 1, size - 1);
	opens++;
	if (!cow_open(&store, &device, &options, &error)) {
		use(store, options.read_only, data[0] & 2);
		if (data[0] & 4)
			cow_abandon(store);
		else
			cow_close(store);
	} else {
		assert(error.text[0] && !strchr(error.text, '\n'));
	}
	restore();
	return 0;
}
