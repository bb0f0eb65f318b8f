/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_holes.c - the space of a deleted snapshot and of discarded
 * blocks is given back to the file system also when tapdisk was killed, or the
 * store closed, between the freeing and the punching: the next opening does it.
 */
#include <stdlib.h>
#include <string.h>

#include "live_rules.h"

#include "fault_store.h"

#define BLOCKS 8192u
#define FREED (BLOCKS / 2)		/* every second block: a hole each */
#define OTHERS 1000u			/* free blocks with data that nothing gives back: filled ahead, former nodes */
#define MS 1000000u

static uint8_t data[256 * COW_BLOCK] __attribute__((aligned(COW_BLOCK)));

static struct cow_disk *served(const struct fault_store *store)
{
	return ((struct cow_export *)store->backend->handle)->disk;
}

static void request(struct fault_store *store, enum block_op op, uint64_t block, unsigned blocks)
{
	struct iovec iov = { data, (size_t)blocks * COW_BLOCK };
	struct block_request req;
	int result;

	fault_store_submit(store, &req, op, block * COW_SECTORS, &iov, &result);
	if (op == BLOCK_DISCARD)
		req.iovcnt = 0;
	fault_store_reap(store, UINT_MAX);
	assert_int_equal(result, 0);
}

static void flush(struct fault_store *store)
{
	struct block_request req;
	int result;

	fault_store_submit(store, &req, BLOCK_FLUSH, 0, NULL, &result);
	fault_store_reap(store, UINT_MAX);
	assert_int_equal(result, 0);
}

static void command_done(struct snapshot_command *command, int error)
{
	*(int *)command->owner = error;
}

static void run_command(struct fault_store *store, enum snapshot_op op)
{
	int error = 1;
	struct snapshot_command command = { .op = op, .name = "s", .done = command_done, .owner = &error };

	backend_snapshot(store->backend, &command);
	while (error == 1)
		engine_reap(&store->fault.engine);
	assert_int_equal(error, 0);
}

/* The disk is idle for a while. */
static void ms_pass(struct fault_store *store, unsigned ms)
{
	for (; ms; ms--) {
		live_clock += MS;
		engine_run_timers(&store->fault.engine, live_clock);
		engine_reap(&store->fault.engine);
	}
}

/* That many reads, writes and holes. */
static void ios_pass(struct fault_store *store, unsigned ios)
{
	struct engine_io *io;

	while (ios-- && (io = engine_list_take(&store->fault.over)))
		engine_complete(&store->fault.engine, io, io->priv[0]);
}

static void make(struct fault_store *store)
{
	unsigned i;

	fault_store_small(store, "store", BLOCKS * COW_SECTORS);
	for (i = 0; i < BLOCKS; i += 256)
		request(store, BLOCK_WRITE, i, 256);
	/* a pause that lasts until the end */
	engine_set_timer(&store->fault.engine, &served(store)->hole_pace.timer, UINT64_MAX);
}

/* What a deleted snapshot held is free, and nothing of it punched. */
static void free_snapshot(struct fault_store *store)
{
	unsigned i;

	run_command(store, SNAPSHOT_CREATE);
	for (i = 0; i < BLOCKS; i += 2)
		request(store, BLOCK_WRITE, i, 1);
	run_command(store, SNAPSHOT_DELETE);
	while (served(store)->want_delete)
		ms_pass(store, 1);
	assert_int_equal(served(store)->store->alloc.unpunched, FREED);
}

static void free_discarded(struct fault_store *store)
{
	unsigned i;

	for (i = 0; i < BLOCKS; i += 2)
		request(store, BLOCK_DISCARD, i, 1);
	flush(store);
	assert_int_equal(served(store)->store->alloc.unpunched, FREED);
}

/* Free blocks in the file that take space. */
static unsigned taken(const char *path)
{
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint64_t block, length = 0;
	unsigned count = 0;
	bool hole = true;
	int ret;

	if (cow_file_open(&device, path, true, &error) ||
	    cow_open(&store, device, &(struct cow_open_options){ .read_only = true }, &error))
		fail_msg("%s", error.text);
	for (block = store->pool_start; block < store->store_blocks; block++, length -= COW_BLOCK) {
		if (!length) {
			length = (store->store_blocks - block) << COW_SHIFT;
			assert_int_equal(device->ops->hole(device, block << COW_SHIFT, &length, &hole), 0);
		}
		count += !cow_alloc_is_used(store, block, &ret) && !hole;
	}
	cow_abandon(store);
	cow_file_close(device);
	return count;
}

/* The file as it is now, holes included: what a killed process leaves. */
static void kill_now(struct fault_store *store)
{
	static uint8_t block[COW_BLOCK];
	const char *copy = scratch_path("killed");
	int from = open(store->target + 4, O_RDONLY), to = open(copy, O_RDWR | O_CREAT | O_TRUNC, 0600);
	off_t at = 0, hole;

	assert_true(from >= 0 && to >= 0);
	assert_int_equal(ftruncate(to, lseek(from, 0, SEEK_END)), 0);
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		for (hole = lseek(from, at, SEEK_HOLE); at < hole; at += COW_BLOCK) {
			assert_int_equal(pread(from, block, COW_BLOCK, at), COW_BLOCK);
			assert_int_equal(pwrite(to, block, COW_BLOCK, at), COW_BLOCK);
		}
	}
	close(from);
	close(to);
	fault_store_end(store);
	assert_int_equal(rename(copy, store->target + 4), 0);
}

static void expect_data(struct fault_store *store, bool discarded)
{
	unsigned i;

	for (i = 0; i < BLOCKS; i++) {
		request(store, BLOCK_READ, i, 1);
		assert_true(data[0] == (discarded && !(i % 2) ? 0 : 'd') && !memcmp(data, data + 1, COW_BLOCK - 1));
	}
	memset(data, 'd', sizeof(data));
}

/* Opens the store, which gives back what is left, and closes it. */
static void expect_given_back(struct fault_store *store, bool discarded)
{
	fault_store_open(store);
	assert_true(served(store)->store->alloc.searching);
	ms_pass(store, 10000);
	assert_false(cow_retire_pending(served(store)));
	expect_data(store, discarded);
	backend_close(store->backend);
	assert_in_range(taken(store->target + 4), 0, OTHERS);
	/* it is known to be given back */
	fault_store_open(store);
	assert_false(served(store)->store->alloc.searching);
	fault_store_end(store);
}

static void test_killed(void **state)
{
	struct fault_store store;

	for (unsigned discarded = 0; discarded < 2; discarded++) {
		make(&store);
		(discarded ? free_discarded : free_snapshot)(&store);
		kill_now(&store);
		assert_true(taken(store.target + 4) >= FREED);
		expect_given_back(&store, discarded);
	}
}

/* A pause closes the store, too. A close leaves most of the holes to the next opening, whichever that is. */
static void test_closed(void **state)
{
	struct error_text error = { "" };
	struct cow_device *device;
	struct fault_store store;
	struct cow_store *tool;

	for (unsigned discarded = 0; discarded < 2; discarded++) {
		make(&store);
		(discarded ? free_discarded : free_snapshot)(&store);
		backend_close(store.backend);
		assert_true(taken(store.target + 4) > FREED / 2);
		if (cow_file_open(&device, store.target + 4, false, &error) ||
		    cow_open(&tool, device, &(struct cow_open_options){ 0 }, &error))
			fail_msg("%s", error.text);
		assert_int_equal(cow_close(tool), 0);
		cow_file_close(device);
		expect_given_back(&store, discarded);
	}
}

/* The next opening ends in the middle of it. */
static void test_twice(void **state)
{
	struct fault_store store;

	for (unsigned killed = 0; killed < 2; killed++) {
		make(&store);
		free_snapshot(&store);
		kill_now(&store);
		fault_store_open(&store);
		live_clock += COW_IDLE_NS;
		engine_run_timers(&store.fault.engine, live_clock);
		ios_pass(&store, FREED / 2);
		assert_true(served(&store)->store->alloc.searching);
		if (killed)
			kill_now(&store);
		else
			backend_close(store.backend);
		assert_in_range(taken(store.target + 4), OTHERS, FREED - 1);
		expect_given_back(&store, false);
	}
}

/* Writes meanwhile: they take free blocks, which then are not punched. */
static void test_beside_writes(void **state)
{
	struct fault_store store;
	unsigned i;

	make(&store);
	free_snapshot(&store);
	kill_now(&store);
	fault_store_open(&store);
	run_command(&store, SNAPSHOT_CREATE);
	for (i = 0; i < BLOCKS; i += 8) {
		request(&store, BLOCK_WRITE, i, 2);
		ms_pass(&store, 8);
	}
	ms_pass(&store, 10000);
	assert_false(cow_retire_pending(served(&store)));
	expect_data(&store, false);
	backend_close(store.backend);
	assert_in_range(taken(store.target + 4), 0, OTHERS);
	unlink(store.target + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_beside_writes),
	};

	memset(data, 'd', sizeof(data));
	scratch_init_in(access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	return cmocka_run_group_tests_name("cow: the driver, holes after an interruption", tests, NULL, NULL);
}
