/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_pace.c - the share of time that a store spends on background
 * work: freeing the blocks of deleted snapshots, and punching holes. The test
 * supplies the clock.
 */
#include <stdlib.h>
#include <string.h>

#include "live_rules.h"

#include "fault_store.h"

#define MS 1000000u
#define IDLE_MS (COW_IDLE_NS / MS)

static unsigned wakes;

static void count_wake(struct cow_disk *of)
{
	wakes++;
}

static void ms_pass(struct engine *engine, uint64_t ms)
{
	live_clock += ms * MS;
	engine_run_timers(engine, live_clock);
}

static void turn(struct cow_pace *pace, unsigned ms)
{
	cow_pace_begin(pace);
	live_clock += ms * MS;
	cow_pace_end(pace);
}

/* A pace for work that takes at most a fifth of the time, on a disk without other work. */
struct paced {
	struct engine engine;
	struct cow_disk disk;
	struct cow_pace pace;
};

static struct paced *paced_new(void)
{
	struct paced *paced = calloc(1, sizeof(*paced));

	assert_non_null(paced);
	paced->disk.engine = &paced->engine;
	cow_pace_init(&paced->pace, &paced->disk, 4, count_wake);
	assert_true(cow_pace_due(&paced->pace));
	wakes = 0;
	return paced;
}

static void paced_free(struct paced *paced)
{
	cow_pace_stop(&paced->pace);
	assert_null(paced->engine.timers);
	free(paced);
}

/* After a turn there is a pause of four times its length, then the next turn may begin. */
static void test_pause(void **state)
{
	struct paced *paced = paced_new();

	turn(&paced->pace, 10);
	ms_pass(&paced->engine, 39);
	assert_false(cow_pace_due(&paced->pace));
	assert_int_equal(wakes, 0);
	ms_pass(&paced->engine, 1);
	assert_true(cow_pace_due(&paced->pace));
	assert_int_equal(wakes, 1);
	paced_free(paced);
}

/* However short the turn was. */
static void test_least_pause(void **state)
{
	struct paced *paced = paced_new();

	turn(&paced->pace, 1);
	ms_pass(&paced->engine, IDLE_MS - 1);
	assert_false(cow_pace_due(&paced->pace));
	ms_pass(&paced->engine, 1);
	assert_true(cow_pace_due(&paced->pace));
	paced_free(paced);
}

/* A pause without a request shows that the disk is idle: no more pauses, until a request comes. */
static void test_no_pauses_when_idle(void **state)
{
	struct paced *paced = paced_new();
	unsigned i;

	turn(&paced->pace, 10);
	ms_pass(&paced->engine, 40);
	for (i = 0; i < 5; i++) {
		turn(&paced->pace, 10);
		assert_true(cow_pace_due(&paced->pace));
	}
	paced->disk.sequence++;			/* a request has come, and has ended */
	turn(&paced->pace, 10);
	assert_false(cow_pace_due(&paced->pace));
	paced_free(paced);
}

/* No request may be running now, but one came in the pause, or one runs during all of it. */
static void test_not_idle(void **state)
{
	struct paced *paced = paced_new();
	struct cow_request r = { .disk = &paced->disk };

	turn(&paced->pace, 10);
	paced->disk.sequence++;
	ms_pass(&paced->engine, 40);
	turn(&paced->pace, 10);
	assert_false(cow_pace_due(&paced->pace));
	paced->disk.oldest = &r;
	ms_pass(&paced->engine, 40);
	paced->disk.oldest = NULL;
	turn(&paced->pace, 10);
	assert_false(cow_pace_due(&paced->pace));
	paced_free(paced);
}

#define LEAVES 1000u			/* blocks of the map that only a snapshot has: a deletion of several steps */
#define LEAF_SECTORS ((uint64_t)COW_LEAF_ENTRIES * COW_SECTORS)

static struct cow_disk *served(const struct fault_store *store)
{
	return ((struct cow_export *)store->backend->handle)->disk;
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

static void write_leaves(struct fault_store *store, const struct iovec *iov)
{
	struct block_request req;
	unsigned i;
	int result;

	for (i = 0; i < LEAVES; i++) {
		fault_store_submit(store, &req, BLOCK_WRITE, i * LEAF_SECTORS, iov, &result);
		fault_store_reap(store, UINT_MAX);
		assert_int_equal(result, 0);
	}
}

/* What happened while the space of a snapshot was being freed. */
struct deletion {
	unsigned ms, turns;
};

/* In each millisecond @reads requests come and end; none is running at its end. */
static struct deletion delete_beside(unsigned reads)
{
	static uint8_t data[COW_BLOCK] __attribute__((aligned(COW_BLOCK)));
	struct iovec iov = { data, sizeof(data) };
	struct block_request req[2];
	struct fault_store store;
	struct deletion seen = { 0 };
	uint64_t begun = 0;
	int result[2];
	unsigned i;

	fault_store_small(&store, "paced", LEAVES * LEAF_SECTORS);
	write_leaves(&store, &iov);
	run_command(&store, SNAPSHOT_CREATE);
	write_leaves(&store, &iov);
	run_command(&store, SNAPSHOT_DELETE);
	for (; served(&store)->want_delete && seen.ms < 10000; seen.ms++) {
		for (i = 0; i < reads; i++)
			fault_store_submit(&store, &req[i], BLOCK_READ, i * LEAF_SECTORS, &iov, &result[i]);
		engine_reap(&store.fault.engine);
		fault_store_reap(&store, UINT_MAX);
		ms_pass(&store.fault.engine, 1);
		seen.turns += served(&store)->delete_pace.begun != begun;
		begun = served(&store)->delete_pace.begun;
	}
	assert_false(served(&store)->want_delete);
	fault_store_end(&store);
	return seen;
}

/* With endless requests the deletion makes its pauses, and still ends. */
static void test_deletion_beside_requests(void **state)
{
	struct deletion seen = delete_beside(2);

	assert_in_range(seen.turns, 4, 20);
	assert_in_range(seen.ms, (seen.turns - 2) * IDLE_MS, seen.turns * 2 * IDLE_MS);
}

static void test_deletion_on_an_idle_disk(void **state)
{
	assert_in_range(delete_beside(0).ms, 1, 2 * IDLE_MS);
}

/* Free blocks in the last page of the bitmap, each a separate hole. */
static void leave_unpunched(unsigned count)
{
	struct cow_store *store = inside()->store;
	uint64_t block = (store->alloc.pages - 1) * COW_PAGE_BITS;

	for (; count; block += 2, count--)
		cow_unpunched_add(store, block);
	cow_retire_wake(inside());
}

/* A guest that reads and writes does not pay for a deletion and for punching holes at the same time. */
static void test_no_holes_beside_a_deletion(void **state)
{
	struct cow_disk *store;

	begin((struct live_options){ .pages = 20 });
	do_write(0, 8);
	store = inside();
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 0, 8);
	assert_non_null(disk.crash.held);
	store->want_delete = true;
	engine_set_timer(store->engine, &store->delete_pace.timer, UINT64_MAX);	/* which causes a long pause */
	leave_unpunched(1);
	live_submit(&disk, BLOCK_READ, 0, 8);
	rounds(PLENTY);
	assert_int_equal(store->store->alloc.unpunched, 1);
	store->want_delete = false;
	live_submit(&disk, BLOCK_READ, 0, 8);
	rounds(PLENTY);
	assert_int_equal(store->store->alloc.unpunched, 0);
	disk.crash.held = NULL;
	end();
}

#define HOLES 60u
#define BESIDE_MS 200u

/* Endless requests leave a little time for holes; without requests they are all punched at once. */
static void test_holes_beside_requests(void **state)
{
	unsigned i;

	begin((struct live_options){ .pages = 20 });
	do_write(0, 8);
	leave_unpunched(HOLES);
	for (i = 0; i < BESIDE_MS; i++) {
		live_submit(&disk, BLOCK_READ, 0, 8);
		rounds(1);
	}
	assert_in_range(inside()->store->alloc.unpunched, HOLES / 2, HOLES - 4);
	rounds(2 * PLENTY);
	assert_int_equal(inside()->store->alloc.unpunched, 0);
	end();
}

/* A close does not wait until all the holes of a deletion are punched. */
static void test_close_leaves_holes(void **state)
{
	uint64_t steps;

	begin((struct live_options){ .pages = 20 });
	leave_unpunched(3000);
	steps = disk.crash.steps;
	live_close(&disk);
	assert_true(disk.crash.steps - steps > 900);
	assert_true(disk.crash.steps - steps < 1500);
	assert_int_equal(live_open(&disk), 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_least_pause),
		cmocka_unit_test(test_no_pauses_when_idle),
		cmocka_unit_test(test_not_idle),
		cmocka_unit_test(test_deletion_beside_requests),
		cmocka_unit_test(test_deletion_on_an_idle_disk),
		cmocka_unit_test(test_no_holes_beside_a_deletion),
		cmocka_unit_test(test_holes_beside_requests),
		cmocka_unit_test(test_close_leaves_holes),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, the pace of deletion and holes", tests, NULL, NULL);
}
