/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_waits.c - writes to a store that wait for room, for memory,
 * or for their part of the log, but not forever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "live_rules.h"

#include "fault_store.h"

static bool no_fibers;			/* there is no memory for a fiber */
static unsigned starts;			/* of writes, restarted ones included */

int __real_fiber_start(void (*run)(void *arg), void *arg);
int __wrap_fiber_start(void (*run)(void *arg), void *arg);

int __wrap_fiber_start(void (*run)(void *arg), void *arg)
{
	return no_fibers ? -ENOMEM : __real_fiber_start(run, arg);
}

void __real_cow_write_start(struct cow_request *r);
void __wrap_cow_write_start(struct cow_request *r);

void __wrap_cow_write_start(struct cow_request *r)
{
	starts++;
	__real_cow_write_start(r);
}

/* Leaves at most @spare free blocks in each page of the bitmap. */
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

/* A write that does not fit into any page of the bitmap takes its blocks from several. */
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

/* A store that cannot grow, and a write that waits for room in it. */
static void begin_full(void)
{
	unsigned i;

	begin((struct live_options){ .small = true, .full = true });
	for (i = 0; !disk.backend->waiting; i++) {
		assert_true(i < LIVE_ISLANDS);
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, LIVE_ISLAND);
		rounds(PLENTY);
	}
}

static void discard_and_retry(void)
{
	unsigned i;

	live_submit(&disk, BLOCK_DISCARD, 0, 5 * LIVE_STRIDE);
	for (i = 0; disk.backend->waiting && i < 10; i++) {
		rounds(PLENTY);
		backend_retry(disk.backend);
		rounds(PLENTY);
	}
	assert_int_equal(disk.backend->waiting, 0);
}

/* A discard makes room for a write that waits for room. */
static void test_discard_makes_room(void **state)
{
	begin_full();
	discard_and_retry();
	end();
}

/* The snapshot of a group, in which this disk's write goes on waiting for room. */
static struct live_snapshot *snapshot_while_a_write_waits(void)
{
	struct live_snapshot *snapshot;

	assert_int_equal(disk.backend->waiting, 1);
	live_command(&disk, &disk.freezer, SNAPSHOT_FREEZE, NULL);
	rounds(PLENTY);
	assert_false(disk.freezer.busy);
	assert_int_equal(disk.freezer.error, 0);
	snapshot = live_prepare(&disk);
	rounds(PLENTY);
	assert_int_equal(snapshot->state, LIVE_PREPARED);
	live_decide(&disk, snapshot, true);
	rounds(PLENTY);
	assert_int_equal(snapshot->state, LIVE_THERE);
	assert_int_equal(disk.backend->waiting, 1);
	return snapshot;
}

/* A write that waits for room in the store does not block a freeze, nor what follows it. */
static void test_freeze_of_a_full_store(void **state)
{
	struct live_snapshot *snapshot;

	begin_full();
	snapshot = snapshot_while_a_write_waits();
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	rounds(PLENTY);
	assert_int_equal(snapshot->state, LIVE_NONE);
	discard_and_retry();
	end();
}

/* Nor does one that found no room in the file system below, and had begun. */
static void test_freeze_with_no_room_below(void **state)
{
	begin((struct live_options){ 0 });
	do_write(0, COW_SECTORS);		/* from now on there are places that are prefilled */
	disk.crash.fail_writes_only = true;
	disk.crash.fail_error = -ENOSPC;
	disk.crash.fail_at = disk.crash.queued + 1;
	live_submit(&disk, BLOCK_WRITE, COW_SECTORS, COW_SECTORS);
	rounds(PLENTY);
	snapshot_while_a_write_waits();
	backend_retry(disk.backend);
	rounds(PLENTY);
	assert_int_equal(disk.backend->in_flight, 0);
	end();
}

static unsigned deletions(void)
{
	struct cow_leftover leftover;

	assert_true(cow_backend_leftover(disk.backend, &leftover));
	return leftover.deletions;
}

/* A deletion finds no room for its records, and no request waits: it goes on by itself when there is room. */
static void test_deletion_waits_for_room(void **state)
{
	struct live_snapshot *snapshot;

	begin((struct live_options){ 0 });
	do_write(0, LIVE_ISLAND);
	snapshot = create();
	do_write(0, LIVE_ISLAND);
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	live_drain(&disk);
	disk.crash.fail_writes_only = true;
	disk.crash.fail_error = -ENOSPC;
	disk.crash.fail_at = disk.crash.queued + 1;
	disk.crash.fail_more = UINT32_MAX;
	rounds(3000);
	assert_int_equal(deletions(), 1);
	assert_int_equal(disk.backend->in_flight, 0);
	disk.crash.fail_at = 0;
	rounds(3000);
	assert_int_equal(deletions(), 0);
	end();
}

#define BURST 80u			/* requests of a MiB: their map changes alone are more than the smallest log holds */
#define BURST_SECTORS 2048u

static struct iovec burst_data(void)
{
	struct iovec iov = { aligned_alloc(COW_BLOCK, BURST_SECTORS * SECTOR_SIZE), BURST_SECTORS * SECTOR_SIZE };

	assert_non_null(iov.iov_base);
	memset(iov.iov_base, 1, iov.iov_len);
	return iov;
}

/* Writes that are all in flight at once fill no more of the log than it has, even if it is small. */
static void test_more_in_flight_than_the_log_holds(void **state)
{
	static struct block_request req[BURST + 1];
	struct iovec iov = burst_data();
	struct fault_store store;
	int result[BURST + 1];
	unsigned i;

	fault_store_small(&store, "burst", BURST * BURST_SECTORS);
	starts = 0;
	for (i = 0; i < BURST; i++)
		fault_store_submit(&store, &req[i], BLOCK_WRITE, i * BURST_SECTORS, &iov, &result[i]);
	fault_store_reap(&store, 10 * BURST);
	fault_store_submit(&store, &req[BURST], BLOCK_FLUSH, 0, NULL, &result[BURST]);
	fault_store_reap(&store, 10 * BURST);
	for (i = 0; i <= BURST; i++)
		assert_int_equal(result[i], 0);
	assert_in_range(starts, BURST, 5 * BURST);	/* when one has ended, not all of the others are retried */
	fault_store_end(&store);
	free(iov.iov_base);
}

#define READS 500u
#define WAITERS 20u

static void read_done(struct block_request *req, int error)
{
	++*(unsigned *)req->owner;
	assert_int_equal(error, 0);
}

/* Writes that wait for the end of another one are restarted when it ends, and not at the end of any other. */
static void test_only_whose_turn_it_is_is_started(void **state)
{
	static struct block_request req[READS];
	static uint8_t data[COW_BLOCK] __attribute__((aligned(COW_BLOCK)));
	struct iovec iov = { data, COW_BLOCK };
	unsigned i, ended = 0;

	begin((struct live_options){ 0 });
	do_write(0, COW_SECTORS);
	for (i = 0; i < READS; i++) {
		req[i] = (struct block_request){ .op = BLOCK_READ, .nr_sectors = COW_SECTORS, .iov = &iov, .iovcnt = 1,
			.done = read_done, .owner = &ended };
		backend_submit(disk.backend, &req[i]);
	}
	write_held(ENGINE_WRITE, COW_SECTORS, 3 * COW_SECTORS);
	starts = 0;
	for (i = 0; i < WAITERS; i++)
		assert_non_null(live_submit(&disk, BLOCK_WRITE, (1 + i % 3) * COW_SECTORS, COW_SECTORS));
	disk.crash.at_most = 1;
	rounds(2 * READS);
	assert_int_equal(ended, READS);
	assert_int_equal(starts, WAITERS);
	disk.crash.held = NULL;
	rounds(PLENTY);
	assert_int_equal(starts, 2 * WAITERS);
	disk.crash.at_most = 3;
	end();
}

/* With nothing in flight, there is no memory for the fiber that a write needs: it waits as for room, and is retried. */
static void test_write_without_memory_for_a_fiber(void **state)
{
	struct live_request *r;

	begin((struct live_options){ 0 });
	no_fibers = true;
	r = live_submit(&disk, BLOCK_WRITE, 0, 8);	/* needs a block that is prefilled */
	rounds(PLENTY);
	assert_int_equal(disk.backend->waiting, 1);
	backend_retry(disk.backend);
	rounds(PLENTY);
	assert_false(r->busy);
	no_fibers = false;
	end();
}

#define FILLED 9u			/* of those writes: more than an eighth of the log waits to be written */

/* The same for a write that waits until the flusher has emptied the log. */
static void test_write_without_memory_for_the_flusher(void **state)
{
	struct iovec iov = burst_data();
	struct fault_store store;
	struct block_request req;
	int result;
	unsigned i;

	fault_store_small(&store, "flusher", BURST * BURST_SECTORS);
	for (i = 0; i < FILLED; i++) {
		fault_store_submit(&store, &req, BLOCK_WRITE, i * BURST_SECTORS, &iov, &result);
		engine_reap(&store.fault.engine);
		assert_int_equal(result, 0);
	}
	no_fibers = true;
	fault_store_submit(&store, &req, BLOCK_WRITE, i * BURST_SECTORS, &iov, &result);
	engine_reap(&store.fault.engine);
	assert_int_equal(store.backend->waiting, 1);
	no_fibers = false;
	backend_retry(store.backend);
	engine_reap(&store.fault.engine);
	assert_int_equal(result, 0);
	fault_store_end(&store);
	free(iov.iov_base);
}

#define SMALL_WRITES 20000u		/* more than make a checkpoint due */
#define LARGE_AT 100u
#define LARGE_SECTORS ((COW_LOG_MIN_BLOCKS << COW_SHIFT) / 4 / sizeof(struct cow_map_element) * COW_SECTORS + COW_SECTORS)

/* First writes of a block, always two in flight, until there were SMALL_WRITES. */
struct small_writes {
	struct backend *backend;
	struct block_request req[2];
	struct iovec iov;
	unsigned begun, ended, failed;
	struct block_request large;		/* is submitted when LARGE_AT have ended */
	struct iovec large_iov;
	unsigned large_after;			/* number that had ended when it ended; 0: it has not */
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

/* A write too large for the log beside others gets its turn, although other writes keep coming. */
static void test_large_write_beside_small_ones(void **state)
{
	uint8_t *data = aligned_alloc(COW_BLOCK, LARGE_SECTORS * SECTOR_SIZE);
	struct small_writes small = { .iov = { data, COW_BLOCK }, .large_iov = { data, LARGE_SECTORS * SECTOR_SIZE } };
	struct fault_store store;

	assert_non_null(data);
	memset(data, 1, small.large_iov.iov_len);
	fault_store_small(&store, "beside", LARGE_SECTORS + SMALL_WRITES * COW_SECTORS);
	small.backend = store.backend;
	small_next(&small, &small.req[0], small_done);
	small_next(&small, &small.req[1], small_done);
	fault_store_reap(&store, 1000);
	assert_int_equal(small.ended, SMALL_WRITES);
	assert_int_equal(small.failed, 0);
	assert_in_range(small.large_after, LARGE_AT, SMALL_WRITES - 3);
	fault_store_end(&store);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room_in_many_pages),
		cmocka_unit_test(test_discard_makes_room),
		cmocka_unit_test(test_freeze_of_a_full_store),
		cmocka_unit_test(test_freeze_with_no_room_below),
		cmocka_unit_test(test_deletion_waits_for_room),
		cmocka_unit_test(test_more_in_flight_than_the_log_holds),
		cmocka_unit_test(test_only_whose_turn_it_is_is_started),
		cmocka_unit_test(test_write_without_memory_for_a_fiber),
		cmocka_unit_test(test_write_without_memory_for_the_flusher),
		cmocka_unit_test(test_large_write_beside_small_ones),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, writes that wait", tests, NULL, NULL);
}
