/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_store.c - create, open, close and resize the store of live_disk.h.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "cow_sim.h"
#include "live_disk.h"

#define SMALL_BYTES (3u << 20)

struct driver_options live_driver_options(void)
{
	return (struct driver_options){ .no_direct = true, .cache_bytes = 1, .layer_entries = 150 };
}

int live_open(struct live_disk *disk)
{
	struct driver_options options = live_driver_options();
	struct error_text error = { "" };
	char target[64];
	int ret;

	snprintf(target, sizeof(target), "cow:%s", disk->path);
	ret = backend_open(&disk->backend, &disk->crash.engine, target, &options, &error);
	if (ret) {
		disk->backend = NULL;
		live_note_error(disk, error.text, ret);
	}
	return ret;
}

void live_close(struct live_disk *disk)
{
	unsigned i;

	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		if (disk->snapshot[i].backend)
			backend_close(disk->snapshot[i].backend);
		disk->snapshot[i].backend = NULL;
	}
	if (disk->backend)
		backend_close(disk->backend);
	disk->backend = NULL;
	disk->frozen = false;
}

/* After the disk has shrunk and grown, the new part holds zeros. */
void live_resize(struct live_disk *disk)
{
	uint64_t sectors = LIVE_DISK - (live_pick(disk, 3) ? live_pick(disk, LIVE_DISK / 2) : 0);
	struct cow_base base = { 0 };
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	struct cow_device *device;
	struct cow_store *store;
	unsigned i;

	if (cow_file_open(&device, disk->path, false, &error) || cow_probe(device, &kind, &fields, &error) ||
	    (kind && cow_base_open(&base, kind, &fields, NULL, &error)))
		fail_msg("%s", error.text);
	options.base = base;
	if (cow_open(&store, device, &options, &error) || cow_resize(store, sectors, &error) || cow_close(store))
		fail_msg("%s", error.text);
	if (kind)
		cow_base_close(&base);
	cow_file_close(device);
	for (i = live_cell_from(sectors < disk->model.sectors ? sectors : disk->model.sectors); i < LIVE_CELLS; i++)
		live_settle(&disk->model, i, 0);
	disk->model.sectors = sectors;
}

static void describe_base(const struct live_disk *disk, struct cow_create_options *options, struct cow_base_fields *fields)
{
	struct error_text error = { "" };
	int ret = 0;

	if (disk->options.base == LIVE_RAW_BASE)
		ret = cow_base_describe(fields, live_raw_base, &error);
	else if (disk->options.base == LIVE_OWN_BASE)
		ret = cow_base_describe(fields, live_own_base, &error);
	else if (disk->options.base == LIVE_COW_BASE)
		ret = cow_base_describe_snapshot(fields, live_cow_base, &error);
	if (ret)
		fail_msg("%s", error.text);
	options->base_kind = disk->options.base == LIVE_COW_BASE ? COW_BASE_COW : COW_BASE_RAW;
	options->base = fields;
}

static void make_file(struct live_disk *disk, uint64_t bytes)
{
	disk->fd = memfd_create("live", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(disk->fd >= 0);
	assert_int_equal(ftruncate(disk->fd, bytes), 0);
	if (disk->options.full || disk->options.pages)
		assert_int_equal(fcntl(disk->fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	snprintf(disk->path, sizeof(disk->path), "/proc/self/fd/%d", disk->fd);
}

/* Nothing of an earlier run is left on it. */
static void clear_device(struct live_disk *disk, uint64_t bytes)
{
	uint64_t range[2] = { 0, bytes }, size;

	disk->fd = open(disk->options.device, O_RDWR | O_CLOEXEC);
	assert_true(disk->fd >= 0);
	assert_int_equal(ioctl(disk->fd, BLKGETSIZE64, &size), 0);
	assert_int_equal(size, bytes);
	assert_int_equal(ioctl(disk->fd, BLKDISCARD, range), 0);
	snprintf(disk->path, sizeof(disk->path), "%s", disk->options.device);
}

/* Only a few blocks of the log's area are left before its end. A record of the size that the disk has changes nothing. */
static void fill_log(struct cow_device *device, uint64_t seed)
{
	struct error_text error = { "" };
	struct cow_store *store;

	if (cow_open(&store, device, &(struct cow_open_options){ 0 }, &error))
		fail_msg("%s", error.text);
	while (store->log.size - store->log.head % store->log.size > (1 + seed % 4) * COW_BLOCK)
		assert_int_equal(cow_resize(store, LIVE_DISK, &error), 0);
	assert_int_equal(cow_close(store), 0);
}

/* In memory first, on a device of the wanted size. */
static void make_store(struct live_disk *disk)
{
	struct cow_create_options options = { .sectors = LIVE_DISK, .log_blocks = COW_LOG_MIN_BLOCKS };
	uint64_t bytes = disk->options.pages ? (uint64_t)disk->options.pages << 27 : disk->options.small ? SMALL_BYTES : 64u << 20;
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct sim sim;

	if (disk->options.base)
		describe_base(disk, &options, &fields);
	sim_init(&sim, bytes, 0, 1);
	if (cow_create(&sim.device, &options, &error))
		fail_msg("%s", error.text);
	if (disk->options.log_end)
		fill_log(&sim.device, disk->options.seed);
	if (disk->options.device)
		clear_device(disk, bytes);
	else
		make_file(disk, bytes);
	assert_int_equal(pwrite(disk->fd, sim.now, SMALL_BYTES, 0), SMALL_BYTES);
	sim_free(&sim);
}

void live_disk_init(struct live_disk *disk, const struct live_options *options, const char *directory)
{
	unsigned i;

	memset(disk, 0, sizeof(*disk));
	disk->options = *options;
	disk->random = options->seed * 2654435761u | 1;
	live_base_make(directory);
	disk->base_fd = options->base == LIVE_OWN_BASE ? live_base_own(live_own_base) : -1;
	make_store(disk);
	live_model_init(&disk->model, false);
	for (i = 0; i < LIVE_CELLS; i++) {
		if (live_base_shows(options->base, i))
			live_settle(&disk->model, i, live_base_tag(i));
	}
	for (i = 0; i < LIVE_REQUESTS; i++) {
		disk->request[i].disk = disk;
		disk->request[i].buffer = aligned_alloc(COW_BLOCK, (LIVE_ISLAND * SECTOR_SIZE + COW_BLOCK) / COW_BLOCK * COW_BLOCK);
		assert_non_null(disk->request[i].buffer);
	}
	engine_crash_init(&disk->crash, disk->fd, options->seed);
	if (disk->base_fd >= 0)
		engine_crash_second(&disk->crash, disk->base_fd);
	live_open(disk);
}

void live_disk_free(struct live_disk *disk)
{
	unsigned i;

	live_close(disk);
	for (i = 0; i < LIVE_REQUESTS; i++)
		free(disk->request[i].buffer);
	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		live_image_free(&disk->snapshot[i].image);
		if (disk->snapshot[i].decision[0])
			unlink(disk->snapshot[i].decision);
	}
	engine_crash_free(&disk->crash);
	live_model_free(&disk->model);
	close(disk->fd);
	if (disk->base_fd >= 0)
		close(disk->base_fd);
}
