/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_base.c - the bases for stores of live_disk.h: a raw file, and a snapshot
 * in another store, with the same contents. Both end within a block.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow_format.h"
#include "live_disk.h"
#include "path.h"
#include "protocol.h"

#define BASE_SECTORS (25u * LIVE_STRIDE + 43)

char live_raw_base[128], live_cow_base[128], live_own_base[128];

bool live_base_shows(enum live_base base, unsigned cell)
{
	return base && live_sector(cell) < BASE_SECTORS;
}

static void island_fill(uint64_t *data, unsigned island)
{
	unsigned i;

	for (i = 0; i < LIVE_ISLAND * SECTOR_SIZE / sizeof(*data); i++)
		data[i] = live_base_tag(island * LIVE_ISLAND + i * sizeof(*data) / SECTOR_SIZE);
}

static uint64_t island_sectors(unsigned island)
{
	uint64_t first = island * LIVE_STRIDE;

	return first + LIVE_ISLAND <= BASE_SECTORS ? LIVE_ISLAND : first < BASE_SECTORS ? BASE_SECTORS - first : 0;
}

static int make_raw(const char *path, uint64_t sectors)
{
	uint64_t data[LIVE_ISLAND * SECTOR_SIZE / sizeof(uint64_t)];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned i;

	assert_true(fd >= 0);
	for (i = 0; i < LIVE_ISLANDS; i++) {
		island_fill(data, i);
		assert_true(pwrite(fd, data, island_sectors(i) * SECTOR_SIZE, (uint64_t)i * LIVE_STRIDE * SECTOR_SIZE) >= 0);
	}
	assert_int_equal(ftruncate(fd, sectors * SECTOR_SIZE), 0);
	return fd;
}

int live_base_own(const char *path)
{
	return make_raw(path, LIVE_DISK);
}

static void make_cow(const char *path)
{
	struct cow_create_options options = { .sectors = BASE_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	uint64_t data[LIVE_ISLAND * SECTOR_SIZE / sizeof(uint64_t)];
	struct cow_open_options open_options = { 0 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	unsigned i;

	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &open_options, &error), 0);
	for (i = 0; i < LIVE_ISLANDS && island_sectors(i); i++) {
		island_fill(data, i);
		assert_int_equal(cow_write(store, data, (uint64_t)i * LIVE_STRIDE, island_sectors(i)), 0);
	}
	assert_int_equal(cow_snapshot_create(store, "base", NULL, &error), 0);
	assert_int_equal(cow_write_zeroes(store, 0, BASE_SECTORS), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

/* The directory in which tapdisk looks for decisions. */
static void make_decisions(const char *directory)
{
	char path[120];

	snprintf(path, sizeof(path), "%.90s/state", directory);
	assert_int_equal(setenv(STATE_DIR_ENV, path, 1), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	strcat(path, "/" COW_DECISION_DIRECTORY);
	assert_int_equal(mkdir(path, 0700), 0);
}

void live_decision_name(char path[LIVE_DECISION_MAX])
{
	static unsigned count;

	snprintf(path, LIVE_DECISION_MAX, "%s/" COW_DECISION_DIRECTORY "/%032x", path_state_dir(), count++);
}

void live_base_make(const char *directory)
{
	char path[100];

	if (live_raw_base[0])
		return;
	snprintf(live_raw_base, sizeof(live_raw_base), "%.90s/base.raw", directory);
	snprintf(live_own_base, sizeof(live_own_base), "%.90s/own.raw", directory);
	snprintf(path, sizeof(path), "%.90s/base.cow", directory);
	snprintf(live_cow_base, sizeof(live_cow_base), "%s@base", path);
	close(make_raw(live_raw_base, BASE_SECTORS));
	make_cow(path);
	make_decisions(directory);
}
