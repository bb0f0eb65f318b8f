/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_store.c - open and use crafted stores. The fuzzer changes bytes in the
 * live metadata of a good store, without or with a base; this build does not
 * verify checksums (FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION), so the code
 * behind them is reached. The tools' library uses the store, or the driver
 * serves it, as tapdisk does (fuzz_serve.h).
 *
 * An input is a byte of switches, then changes: which live block (1 byte),
 * where in it (2), how many bytes (1, of which the lowest 4 bits count), bytes.
 * Switches: 1 read-only, 8 with a base, 16 the driver; to the library 2 repair,
 * 4 abandon instead of close; to the driver 2 a snapshot is open, 4 many
 * requests at a time.
 *
 * At the end it prints the number of opened stores.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"
#include "cow_base.h"
#include "cow_internal.h"
#include "fuzz_serve.h"
#include "protocol.h"

#define STORE_BYTES (3u << 20)
#define SECTORS 4200u
#define MAX_LIVE 64u
#define MAX_STEPS 2000
#define NO_STATE "/nonexistent"	/* has no decision records, and none can be made */

struct image {
	char path[32];			/* of a file in memory */
	uint8_t *now, *pristine;	/* now: the file, mapped */
	uint16_t live[MAX_LIVE];
	unsigned nr_live;
	uint16_t touched[4096];
	unsigned nr_touched;
};

static struct image alone, based, *image;
static char base_path[64];
static unsigned long long opens;

/* The library must never go beyond the end. */
static void check_range(uint64_t offset, size_t length)
{
	assert(offset <= STORE_BYTES && length <= STORE_BYTES - offset);
}

static int device_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	check_range(offset, length);
	memcpy(data, image->now + offset, length);
	return 0;
}

static void touch(uint64_t offset, uint64_t length)
{
	uint64_t block;

	for (block = offset >> COW_SHIFT; length && block <= (offset + length - 1) >> COW_SHIFT; block++) {
		if (image->nr_touched < ARRAY_SIZE(image->touched))
			image->touched[image->nr_touched++] = (uint16_t)block;
	}
}

/* The driver's I/O; only the store is written. */
static void changed(uint64_t offset, uint64_t length)
{
	check_range(offset, length);
	touch(offset, length);
}

static int device_write(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	check_range(offset, length);
	touch(offset, length);
	memcpy(image->now + offset, data, length);
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
	memset(image->now + offset, 0xdb, length);
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

static int base_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	assert(sector <= SECTORS && nr_sectors <= SECTORS - sector);
	memset(data, 0xba, nr_sectors * SECTOR_SIZE);
	return 0;
}

/* Ignored by a store without a base. */
static const struct cow_base base = { .read = base_read, .sectors = SECTORS };

static struct cow_store *must_open(void)
{
	struct cow_open_options options = { .cache_bytes = 1, .base = base };
	struct error_text error = { "" };
	struct cow_store *store;

	if (cow_open(&store, &device, &options, &error))
		abort();
	return store;
}

/* Make a store with snapshots, one deleted and still held by two, one prepared, and a log without a checkpoint. */
static void make_store(void)
{
	struct cow_base_fields fields;
	static uint8_t bytes[64 * SECTOR_SIZE];
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	struct cow_store *store;

	must(cow_base_describe(&fields, base_path, &error));
	if (image == &based) {
		options.base_kind = COW_BASE_RAW;
		options.base = &fields;
	}
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
	must(cow_snapshot_prepare(store, "five", "undecided", NO_STATE "/groups/0123456789abcdef0123456789abcdef", &error));
	must(cow_flush(store));
	cow_abandon(store);
}

/* Find all blocks that are not plain data. */
static void find_live(void)
{
	unsigned block, i;

	for (block = 0; block < STORE_BYTES >> COW_SHIFT && image->nr_live < MAX_LIVE; block++) {
		const uint8_t *at = image->now + ((uint64_t)block << COW_SHIFT);

		for (i = 0; i < COW_BLOCK && (at[i] == 0x5a || at[i] == 0xdb || !at[i]); i++)
			;
		if (i < COW_BLOCK)
			image->live[image->nr_live++] = (uint16_t)block;
	}
}

/* check adds up the printed numbers. */
static void say_count(void)
{
	printf("counted %llu opens\n", opens);
	fflush(stdout);
}

static void make_image(struct image *which)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	image = which;
	must(fd < 0 || ftruncate(fd, STORE_BYTES) || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
	snprintf(image->path, sizeof(image->path), "/proc/self/fd/%d", fd);
	image->now = mmap(NULL, STORE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	image->pristine = malloc(STORE_BYTES);
	if (image->now == MAP_FAILED || !image->pristine)
		abort();
	make_store();
	find_live();
	memcpy(image->pristine, image->now, STORE_BYTES);
	image->nr_touched = 0;
}

/* The contents that base_read() returns, where the driver can open them. */
static void make_base(void)
{
	static uint8_t bytes[SECTORS * SECTOR_SIZE];
	int fd;

	strcpy(base_path, access("/dev/shm", W_OK) ? "/tmp/tapsnap-fuzz.XXXXXX" : "/dev/shm/tapsnap-fuzz.XXXXXX");
	fd = mkostemp(base_path, O_CLOEXEC);
	memset(bytes, 0xba, sizeof(bytes));
	must(fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes) || close(fd));
}

static void end(void)
{
	unlink(base_path);
	say_count();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (atexit(end) || setenv(STATE_DIR_ENV, NO_STATE, 1))
		abort();
	make_base();
	serve_init(changed);
	make_image(&based);
	make_image(&alone);
	return 0;
}

static void restore(void)
{
	unsigned i;

	if (image->nr_touched == ARRAY_SIZE(image->touched))
		memcpy(image->now, image->pristine, STORE_BYTES);
	for (i = 0; i < image->nr_touched; i++)
		memcpy(image->now + ((size_t)image->touched[i] << COW_SHIFT),
		       image->pristine + ((size_t)image->touched[i] << COW_SHIFT), COW_BLOCK);
	image->nr_touched = 0;
}

static void apply(const uint8_t *data, size_t size)
{
	while (size > 4) {
		size_t offset = (size_t)image->live[data[0] % image->nr_live] << COW_SHIFT, at = (data[1] | data[2] << 8) % COW_BLOCK;
		size_t length = (data[3] & 15) + 1;

		data += 4;
		size -= 4;
		if (length > size)
			length = size;
		if (length > COW_BLOCK - at)
			length = COW_BLOCK - at;
		touch(offset, 1);
		memcpy(image->now + offset + at, data, length);
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

	if (!read_only)
		cow_prepared_settle(store, &error);
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

/* The library opens it, and uses it. */
static void open_and_use(uint8_t switches)
{
	struct cow_open_options options = { .cache_bytes = 1 << 20, .layer_entries = 64, .base = base };
	struct error_text error = { "" };
	struct cow_store *store;

	options.read_only = switches & 1;
	if (cow_open(&store, &device, &options, &error)) {
		assert(error.text[0] && !strchr(error.text, '\n'));
		return;
	}
	use(store, options.read_only, switches & 2);
	if (switches & 4)
		cow_abandon(store);
	else
		cow_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	image = data[0] & 8 ? &based : &alone;
	apply(data + 1, size - 1);
	opens++;
	if (data[0] & 16)
		serve(image->path, data[0] & 1, data[0] & 2, data[0] & 4);
	else
		open_and_use(data[0]);
	restore();
	return 0;
}
