/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_rules.c - orders of events that chance seldom brings about,
 * each of which the driver `cow` has to get right. An operation below is kept
 * in flight for as long as a test wants it to be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow-base.h"
#include "cow-disk.h"
#include "cow_model.h"
#include "fault_engine.h"
#include "live_disk.h"
#include "scratch.h"

#define PLENTY 200			/* rounds of the event loop: what has not ended by then waits for something */

static struct live_disk disk;
static bool no_fibers;			/* there is no memory for one */

int __real_fiber_start(void (*run)(void *arg), void *arg);
int __wrap_fiber_start(void (*run)(void *arg), void *arg);

int __wrap_fiber_start(void (*run)(void *arg), void *arg)
{
	return no_fibers ? -ENOMEM : __real_fiber_start(run, arg);
}

static void begin(struct live_options options)
{
	options.seed = model_first_seed(1);
	live_disk_init(&disk, &options, scratch_dir);
	live_expect_right(&disk);
}

static void end(void)
{
	live_drain(&disk);
	live_expect_right(&disk);
	live_close(&disk);
	live_check(&disk, disk.path, LIVE_CLOSED);
	live_check(&disk, disk.path, LIVE_CRASHED);
	live_expect_right(&disk);
	live_disk_free(&disk);
}

static void do_write(uint64_t sector, uint64_t nr_sectors)
{
	live_submit(&disk, BLOCK_WRITE, sector, nr_sectors);
	live_drain(&disk);
	live_expect_right(&disk);
}

static struct live_snapshot *create_begin(void)
{
	struct live_snapshot *snapshot = live_snapshot_free(&disk);

	assert_non_null(snapshot);
	snapshot->state = LIVE_CREATING;
	live_watch(&disk);
	live_command(&disk, &disk.maker, SNAPSHOT_CREATE, snapshot);
	return snapshot;
}

static struct live_snapshot *create(void)
{
	struct live_snapshot *snapshot = create_begin();

	live_drain(&disk);
	live_expect_right(&disk);
	return snapshot;
}

static void rounds(unsigned n)
{
	while (n--)
		live_reap(&disk);
	live_expect_right(&disk);
}

static struct live_request *write_held(enum engine_op op, uint64_t sector, uint64_t nr_sectors)
{
	struct live_request *r;

	disk.crash.hold_op = op;
	disk.crash.hold_next = true;
	r = live_submit(&disk, BLOCK_WRITE, sector, nr_sectors);
	assert_non_null(r);
	assert_non_null(disk.crash.held);
	return r;
}

/* A snapshot waits for the writes that run. */
static void test_snapshot_waits_for_writes(void **state)
{
	begin((struct live_options){ 0 });
	do_write(0, 8);
	write_held(ENGINE_WRITE, 0, 8);
	create_begin();
	rounds(PLENTY);
	assert_true(disk.maker.busy);
	disk.crash.held = NULL;
	end();
}

/* A freeze that has not had its turn is taken back; the snapshot in front of it still waits for the writes. */
static void test_thaw_of_a_freeze_that_waits(void **state)
{
	begin((struct live_options){ 0 });
	do_write(0, 8);
	write_held(ENGINE_WRITE, 0, 8);
	create_begin();
	live_command(&disk, &disk.freezer, SNAPSHOT_FREEZE, NULL);
	live_command(&disk, &disk.thawer, SNAPSHOT_THAW, NULL);
	rounds(PLENTY);
	assert_false(disk.freezer.busy || disk.thawer.busy);
	assert_int_equal(disk.freezer.error, -ECANCELED);
	assert_true(disk.maker.busy);
	disk.crash.held = NULL;
	end();
}

static int open_snapshot(const struct live_snapshot *snapshot, struct backend **backend)
{
	struct driver_options options = live_driver_options();
	struct error_text error = { "" };
	char target[80];

	options.read_only = true;
	snprintf(target, sizeof(target), "cow:%s@%s", disk.path, snapshot->name);
	return backend_open(backend, &disk.crash.engine, target, &options, &error);
}

/* One that is being deleted is not opened; one that is open is not deleted. */
static void test_open_or_deleted(void **state)
{
	struct live_snapshot *snapshot;
	struct backend *backend;

	begin((struct live_options){ 0 });
	do_write(0, 16);
	snapshot = create();
	assert_int_equal(open_snapshot(snapshot, &backend), 0);
	disk.faulty = true;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	live_drain(&disk);
	assert_int_equal(disk.remover.error, -EBUSY);
	disk.faulty = false;
	backend_close(backend);
	write_held(ENGINE_WRITE, 8, 8);		/* to a fresh place: the deletion has to wait for it */
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	rounds(PLENTY);
	assert_true(disk.remover.busy);
	assert_int_equal(open_snapshot(snapshot, &backend), -EBUSY);
	disk.crash.held = NULL;
	live_drain(&disk);
	assert_int_equal(open_snapshot(snapshot, &backend), -ENOENT);
	end();
}

/* A block that a read has begun on is not used again before its end. */
static void test_read_of_what_is_freed(void **state)
{
	struct live_snapshot *snapshot;
	unsigned i;

	begin((struct live_options){ .small = true, .full = true });
	do_write(0, 88);
	snapshot = create();
	do_write(0, 88);
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 0, 88);
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	live_submit(&disk, BLOCK_DISCARD, 0, 88);
	rounds(PLENTY);
	/* Everything else is written again and again, at places that are looked for all over the store. */
	for (i = 1; i < 30; i++) {
		live_submit(&disk, BLOCK_WRITE, i % 8 * LIVE_STRIDE, 88);
		live_submit(&disk, BLOCK_FLUSH, 0, 0);
		rounds(PLENTY);
		live_submit(&disk, BLOCK_DISCARD, i % 8 * LIVE_STRIDE, 88);
		live_submit(&disk, BLOCK_FLUSH, 0, 0);
		rounds(PLENTY);
	}
	disk.crash.held = NULL;
	end();
}

static struct cow_disk *open_disk(void)
{
	return ((struct cow_export *)disk.backend->handle)->disk;
}

/* Free blocks in the last page of the bitmap, each a hole of its own. */
static void leave_stale(unsigned count)
{
	struct cow_store *store = open_disk()->store;
	uint64_t block = (store->alloc.pages - 1) * COW_PAGE_BITS;

	for (; count; block += 2, count--)
		cow_stale_add(store, block);
	cow_retire_wake(open_disk());
}

/* A guest that reads and writes does not pay for a deletion and for holes at the same time. */
static void test_no_holes_beside_a_deletion(void **state)
{
	struct cow_disk *store;

	begin((struct live_options){ .pages = 20 });
	do_write(0, 8);
	store = open_disk();
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 0, 8);
	assert_non_null(disk.crash.held);
	store->want_delete = true;
	store->next_delete_step = UINT64_MAX;
	leave_stale(1);
	live_submit(&disk, BLOCK_READ, 0, 8);
	rounds(PLENTY);
	assert_int_equal(store->store->alloc.stale, 1);
	store->want_delete = false;
	live_submit(&disk, BLOCK_READ, 0, 8);
	rounds(PLENTY);
	assert_int_equal(store->store->alloc.stale, 0);
	disk.crash.held = NULL;
	end();
}

/* Who closes a disk does not wait for all the holes that a deletion has left. */
static void test_close_leaves_holes(void **state)
{
	uint64_t steps;

	begin((struct live_options){ .pages = 20 });
	leave_stale(3000);
	steps = disk.crash.steps;
	live_close(&disk);
	assert_true(disk.crash.steps - steps > 900);
	assert_true(disk.crash.steps - steps < 1500);
	assert_int_equal(live_open(&disk), 0);
	end();
}

/* A node of the map that is replaced, and its place used for something else, while it is being read is read anew. */
static void test_read_of_a_node_that_is_replaced(void **state)
{
	static const uint8_t junk[COW_BLOCK] = { 0xdb };
	unsigned i;

	begin((struct live_options){ 0 });
	for (i = 0; i < LIVE_ISLANDS; i++)
		do_write(i * LIVE_STRIDE, 8);
	live_close(&disk);
	assert_int_equal(live_open(&disk), 0);
	do_write(88, 4);			/* the first leaf will be replaced */
	for (i = 2; i < LIVE_ISLANDS; i++) {	/* and the cache has no room for the first leaf any more */
		live_submit(&disk, BLOCK_READ, i * LIVE_STRIDE, 8);
		live_drain(&disk);
	}
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 40, 8);
	assert_non_null(disk.crash.held);
	for (i = 2; i < 20; i++)		/* a checkpoint is due */
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, 88);
	rounds(PLENTY);
	assert_int_equal(pwrite(disk.fd, junk, sizeof(junk), disk.crash.held->offset), sizeof(junk));
	disk.crash.held = NULL;
	end();
}

/* A flush says nothing before what it covers is in the log, whoever writes that. */
static void test_flush_beside_a_flush(void **state)
{
	struct live_request *first, *second;

	begin((struct live_options){ 0 });
	do_write(0, 8);
	disk.crash.hold_op = ENGINE_SYNC;
	disk.crash.hold_next = true;
	first = live_submit(&disk, BLOCK_FLUSH, 0, 0);
	assert_non_null(disk.crash.held);
	second = live_submit(&disk, BLOCK_FLUSH, 0, 0);
	rounds(PLENTY);
	assert_true(first->busy && second->busy);
	disk.crash.held = NULL;
	end();
}

/* What lies behind the end of the snapshot that a disk went back to is refused from then on. */
static void test_revert_to_another_size(void **state)
{
	struct live_request *r;
	uint64_t smaller;

	begin((struct live_options){ 0 });
	live_close(&disk);
	do
		live_resize(&disk);
	while (disk.model.sectors == LIVE_DISK);
	smaller = disk.model.sectors;
	assert_int_equal(live_open(&disk), 0);
	create();
	live_close(&disk);
	do
		live_resize(&disk);
	while (disk.model.sectors != LIVE_DISK);
	assert_int_equal(live_open(&disk), 0);
	do_write(LIVE_DISK - 8, 8);
	live_revert(&disk, NULL);
	live_expect_right(&disk);
	assert_int_equal(disk.backend->geometry.sectors, smaller);
	disk.faulty = true;
	r = live_submit(&disk, BLOCK_WRITE, LIVE_DISK - 8, 8);
	assert_false(r->busy);
	assert_int_equal(disk.errors, 1);
	end();
}

/* Leaves no more than @spare blocks in each page of the bitmap. */
static void use_up(unsigned spare)
{
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint64_t block;

	assert_int_equal(cow_file_open(&device, disk.path, false, &error), 0);
	assert_int_equal(cow_open(&store, device, &options, &error), 0);
	for (block = store->pool_start; block < store->store_blocks; block++) {
		if (block % COW_PAGE_BITS < COW_PAGE_BITS - spare)
			assert_int_equal(cow_alloc_mark(store, block), 0);
	}
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

/* A write that no page of the bitmap has room for takes its blocks from several. */
static void test_room_in_many_pages(void **state)
{
	unsigned i;

	begin((struct live_options){ .pages = 20 });
	live_close(&disk);
	use_up(10);
	assert_int_equal(live_open(&disk), 0);
	for (i = 0; i < 4; i++)
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, LIVE_ISLAND);
	rounds(3000);
	for (i = 0; i < 4; i++)
		assert_false(disk.request[i].busy);
	live_close(&disk);
	live_check(&disk, disk.path, LIVE_CLOSED_LEAKY);
	live_expect_right(&disk);
	live_disk_free(&disk);
}

/* A discard makes room for a write that waits for it. */
static void test_discard_makes_room(void **state)
{
	unsigned i;

	begin((struct live_options){ .small = true, .full = true });
	for (i = 0; !disk.backend->waiting; i++) {
		assert_true(i < LIVE_ISLANDS);
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, LIVE_ISLAND);
		rounds(PLENTY);
	}
	live_submit(&disk, BLOCK_DISCARD, 0, 5 * LIVE_STRIDE);
	for (i = 0; disk.backend->waiting && i < 10; i++) {
		rounds(PLENTY);
		backend_retry(disk.backend);
		rounds(PLENTY);
	}
	assert_int_equal(disk.backend->waiting, 0);
	end();
}

#define BURST 80u			/* requests of a MiB: their places alone are more than the smallest log holds */
#define BURST_SECTORS 2048u

static void burst_done(struct block_request *req, int error)
{
	int *result = req->owner;

	*result = error;
}

static void burst_write(struct backend *backend, struct block_request *req, uint64_t sector, const struct iovec *iov,
			int *result)
{
	*result = 1;
	*req = (struct block_request){ .op = iov ? BLOCK_WRITE : BLOCK_FLUSH, .sector = sector,
		.nr_sectors = iov ? BURST_SECTORS : 0, .iov = iov, .iovcnt = iov ? 1 : 0, .done = burst_done, .owner = result };
	backend_submit(backend, req);
}

static void make_with_smallest_log(const char *path, uint64_t sectors)
{
	struct cow_create_options options = { .sectors = sectors, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	struct cow_device *device;

	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	cow_file_close(device);
}

/* Writes that are all in flight at once fill no more of the log than it has, small as it is. */
static void test_more_in_flight_than_the_log_holds(void **state)
{
	static struct block_request req[BURST + 1];
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	char target[PATH_MAX + 4];
	struct fault_engine fault;
	struct backend *backend;
	int result[BURST + 1];
	struct iovec iov = { aligned_alloc(COW_BLOCK, BURST_SECTORS * SECTOR_SIZE), BURST_SECTORS * SECTOR_SIZE };
	unsigned i;

	assert_non_null(iov.iov_base);
	memset(iov.iov_base, 1, iov.iov_len);
	snprintf(target, sizeof(target), "cow:%s", scratch_path("burst"));
	make_with_smallest_log(target + 4, BURST * BURST_SECTORS);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, &error), 0);
	for (i = 0; i < BURST; i++)
		burst_write(backend, &req[i], i * BURST_SECTORS, &iov, &result[i]);
	for (i = 0; backend->in_flight && i < 10 * BURST; i++)
		engine_reap(&fault.engine);
	burst_write(backend, &req[BURST], 0, NULL, &result[BURST]);
	for (i = 0; backend->in_flight && i < 10 * BURST; i++)
		engine_reap(&fault.engine);
	for (i = 0; i <= BURST; i++)
		assert_int_equal(result[i], 0);
	backend_close(backend);
	free(iov.iov_base);
	unlink(target + 4);
}

/* With nothing in flight a write that needs a fiber finds no memory for it: it waits as for room, and is tried again. */
static void test_write_without_memory_for_a_fiber(void **state)
{
	struct live_request *r;

	begin((struct live_options){ 0 });
	no_fibers = true;
	r = live_submit(&disk, BLOCK_WRITE, 0, 8);	/* wants a place that is prefilled */
	rounds(PLENTY);
	assert_int_equal(disk.backend->waiting, 1);
	backend_retry(disk.backend);
	rounds(PLENTY);
	assert_false(r->busy);
	no_fibers = false;
	end();
}

#define FILLED 9u			/* of those writes: more than an eighth of the log waits to be written */

/* The same of one that waits until the flusher has emptied the log. */
static void test_write_without_memory_for_the_flusher(void **state)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	char target[PATH_MAX + 4];
	struct fault_engine fault;
	struct backend *backend;
	struct block_request req;
	struct iovec iov = { aligned_alloc(COW_BLOCK, BURST_SECTORS * SECTOR_SIZE), BURST_SECTORS * SECTOR_SIZE };
	int result;
	unsigned i;

	assert_non_null(iov.iov_base);
	memset(iov.iov_base, 1, iov.iov_len);
	snprintf(target, sizeof(target), "cow:%s", scratch_path("flusher"));
	make_with_smallest_log(target + 4, BURST * BURST_SECTORS);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, &error), 0);
	for (i = 0; i < FILLED; i++) {
		burst_write(backend, &req, i * BURST_SECTORS, &iov, &result);
		engine_reap(&fault.engine);
		assert_int_equal(result, 0);
	}
	no_fibers = true;
	burst_write(backend, &req, i * BURST_SECTORS, &iov, &result);
	engine_reap(&fault.engine);
	assert_int_equal(backend->waiting, 1);
	no_fibers = false;
	backend_retry(backend);
	engine_reap(&fault.engine);
	assert_int_equal(result, 0);
	backend_close(backend);
	free(iov.iov_base);
	unlink(target + 4);
}

#define SMALL_WRITES 20000u		/* more than make a checkpoint due */
#define LARGE_AT 100u
#define LARGE_SECTORS ((COW_LOG_MIN_BLOCKS << COW_SHIFT) / 4 / sizeof(struct cow_map_element) * COW_SECTORS + COW_SECTORS)

/* First writes of a block, two always on their way, until there were SMALL_WRITES. */
struct small_writes {
	struct backend *backend;
	struct block_request req[2];
	struct iovec iov;
	unsigned begun, ended, failed;
	struct block_request large;		/* comes when LARGE_AT have ended */
	struct iovec large_iov;
	unsigned large_after;			/* so many had ended when it did; 0: it has not */
};

static void small_next(struct small_writes *small, struct block_request *req, void (*done)(struct block_request *, int))
{
	*req = (struct block_request){ .op = BLOCK_WRITE, .sector = LARGE_SECTORS + small->begun++ * COW_SECTORS,
		.nr_sectors = COW_SECTORS, .iov = &small->iov, .iovcnt = 1, .done = done, .owner = small };
	backend_submit(small->backend, req);
}

static void large_done(struct block_request *req, int error)
{
	struct small_writes *small = req->owner;

	small->large_after = small->ended;
	small->failed += error != 0;
}

static void small_done(struct block_request *req, int error)
{
	struct small_writes *small = req->owner;

	small->ended++;
	small->failed += error != 0;
	if (small->begun < SMALL_WRITES)
		small_next(small, req, small_done);
	if (small->ended != LARGE_AT)
		return;
	small->large = (struct block_request){ .op = BLOCK_WRITE, .nr_sectors = LARGE_SECTORS, .iov = &small->large_iov,
		.iovcnt = 1, .done = large_done, .owner = small };
	backend_submit(small->backend, &small->large);
}

/* A write that is larger than the log takes beside others gets its turn, though others come without end. */
static void test_large_write_beside_small_ones(void **state)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	char target[PATH_MAX + 4];
	struct fault_engine fault;
	uint8_t *data = aligned_alloc(COW_BLOCK, LARGE_SECTORS * SECTOR_SIZE);
	struct small_writes small = { .iov = { data, COW_BLOCK }, .large_iov = { data, LARGE_SECTORS * SECTOR_SIZE } };
	unsigned i;

	assert_non_null(data);
	memset(data, 1, small.large_iov.iov_len);
	snprintf(target, sizeof(target), "cow:%s", scratch_path("beside"));
	make_with_smallest_log(target + 4, LARGE_SECTORS + SMALL_WRITES * COW_SECTORS);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&small.backend, &fault.engine, target, &options, &error), 0);
	small_next(&small, &small.req[0], small_done);
	small_next(&small, &small.req[1], small_done);
	for (i = 0; small.backend->in_flight && i < 1000; i++)
		engine_reap(&fault.engine);
	assert_int_equal(small.ended, SMALL_WRITES);
	assert_int_equal(small.failed, 0);
	assert_in_range(small.large_after, LARGE_AT, SMALL_WRITES - 3);
	backend_close(small.backend);
	free(data);
	unlink(target + 4);
}

#define MANY_SNAPSHOTS 4000u		/* two of the largest records are a block of the table */

static void make_with_many_snapshots(const char *path)
{
	struct cow_create_options options = { .sectors = 8, .log_blocks = COW_LOG_MAX_BLOCKS };
	struct cow_open_options open_options = { 0 };
	char description[COW_DESCRIPTION_MAX + 1], name[16];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	unsigned i;

	memset(description, 'd', COW_DESCRIPTION_MAX);
	description[COW_DESCRIPTION_MAX] = '\0';
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &open_options, &error), 0);
	for (i = 0; i < MANY_SNAPSHOTS; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(cow_snapshot_prepare(store, name, description, NULL, &error), 0);
	}
	assert_int_equal(cow_flush(store), 0);
	cow_abandon(store);
	cow_file_close(device);
}

/* The table of the versions may be longer than a fiber's stack is deep. */
static void test_many_snapshots(void **state)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	char target[PATH_MAX + 4];
	struct fault_engine fault;
	struct backend *backend;

	snprintf(target, sizeof(target), "cow:%s", scratch_path("many"));
	make_with_many_snapshots(target + 4);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, &error), 0);
	backend_close(backend);
	unlink(target + 4);
}

/* A snapshot of @path, whose disk has sectors of 4096 bytes, all of it 7s. */
static void make_large_sectors(const char *path)
{
	struct cow_create_options options = { .sectors = 64, .sector_size = 4096, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct cow_open_options open_options = { 0 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint8_t data[64 * SECTOR_SIZE];

	memset(data, 7, sizeof(data));
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &open_options, &error), 0);
	assert_int_equal(cow_write(store, data, 0, 64), 0);
	assert_int_equal(cow_snapshot_create(store, "v1", NULL, &error), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

static void make_on_snapshot(const char *path, const char *base)
{
	struct cow_create_options options = { .sectors = 64, .log_blocks = COW_LOG_MIN_BLOCKS, .base_kind = COW_BASE_COW };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct cow_device *device;
	char target[PATH_MAX + 4];

	snprintf(target, sizeof(target), "%s@v1", base);
	assert_int_equal(cow_base_describe_snapshot(&fields, target, &error), 0);
	options.base = &fields;
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	cow_file_close(device);
}

/* A disk may have smaller sectors than the one whose snapshot it stands on. */
static void test_base_of_larger_sectors(void **state)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	uint8_t data[SECTOR_SIZE] __attribute__((aligned(SECTOR_SIZE))) = { 0 };
	struct iovec iov = { data, sizeof(data) };
	char target[PATH_MAX + 4], base[PATH_MAX];
	struct fault_engine fault;
	struct backend *backend;
	struct block_request req = { .op = BLOCK_READ, .sector = 3, .nr_sectors = 1, .iov = &iov, .iovcnt = 1, .done = burst_done };
	int result = 1;

	snprintf(base, sizeof(base), "%s", scratch_path("large"));
	snprintf(target, sizeof(target), "cow:%s", scratch_path("small"));
	make_large_sectors(base);
	make_on_snapshot(target + 4, base);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, &error), 0);
	req.owner = &result;
	backend_submit(backend, &req);
	while (backend->in_flight)
		engine_reap(&fault.engine);
	assert_int_equal(result, 0);
	assert_int_equal(data[0], 7);
	backend_close(backend);
	unlink(base);
	unlink(target + 4);
}

static struct cow_disk *inside(void)
{
	return ((struct cow_export *)disk.backend->handle)->disk;
}

/* First writes and flushes end while a checkpoint is at its nodes. */
static void test_writes_beside_a_checkpoint(void **state)
{
	const uint64_t all = LIVE_ISLAND / COW_SECTORS * COW_SECTORS;
	struct live_request *r;
	unsigned i, j;

	begin((struct live_options){ 0 });
	for (i = 0; i < LIVE_ISLANDS; i++)
		do_write(i * LIVE_STRIDE, all);
	create();
	for (i = 0; !inside()->exclusive; i++) {
		assert_true(i < LIVE_ISLANDS / 2);
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, all);
		for (j = 0; j < PLENTY && !inside()->exclusive; j++)
			rounds(1);
	}
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	rounds(PLENTY);
	assert_non_null(disk.crash.held);
	assert_non_null(inside()->store->checkpoint);
	for (i = 1; i <= 8; i++) {
		r = live_submit(&disk, i % 4 ? BLOCK_WRITE : BLOCK_FLUSH, i % 4 ? (LIVE_ISLANDS - i) * LIVE_STRIDE : 0, i % 4 ? all : 0);
		rounds(PLENTY);
		assert_false(r->busy);
	}
	assert_non_null(inside()->store->checkpoint);
	disk.crash.held = NULL;
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot_waits_for_writes),
		cmocka_unit_test(test_thaw_of_a_freeze_that_waits),
		cmocka_unit_test(test_open_or_deleted),
		cmocka_unit_test(test_read_of_what_is_freed),
		cmocka_unit_test(test_no_holes_beside_a_deletion),
		cmocka_unit_test(test_close_leaves_holes),
		cmocka_unit_test(test_read_of_a_node_that_is_replaced),
		cmocka_unit_test(test_flush_beside_a_flush),
		cmocka_unit_test(test_revert_to_another_size),
		cmocka_unit_test(test_room_in_many_pages),
		cmocka_unit_test(test_discard_makes_room),
		cmocka_unit_test(test_more_in_flight_than_the_log_holds),
		cmocka_unit_test(test_write_without_memory_for_a_fiber),
		cmocka_unit_test(test_write_without_memory_for_the_flusher),
		cmocka_unit_test(test_large_write_beside_small_ones),
		cmocka_unit_test(test_many_snapshots),
		cmocka_unit_test(test_base_of_larger_sectors),
		cmocka_unit_test(test_writes_beside_a_checkpoint),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, orders of events", tests, NULL, NULL);
}
