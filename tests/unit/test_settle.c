/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_settle.c - a pause or a close of a store with many changes of its map:
 * they are written without blocking the loop, for a pause while the guest goes
 * on, otherwise when the disk is drained, for as long as the storage answers.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "failing_disk.h"

#define CHANGES 1000u
#define APART 512u			/* blocks: each change is in a node of its own */
#define PATIENT_MS 60000u		/* the limit for what ends when the kernel likes */
#define FEW 64u				/* I/Os: what a close always needs */

static struct engine_ops counting;
static unsigned waits;			/* for I/O, by the whole loop: none */
static unsigned stopped_at;		/* I/Os seen when the client was stopped */
static bool opens;			/* with each I/O of the close, open_it_too() */
static unsigned opened;
static unsigned answers;		/* I/Os of the close that the storage answers yet */
static unsigned slow;			/* so many of those take as long as the limit each */
static bool stuck;			/* vbd_is_stuck(), at the last of those */

static int count_wait(struct engine *engine)
{
	waits++;
	return 0;
}

/* While the store is being closed. */
static void open_it_too(void)
{
	const struct driver_options options = { .shared = true, .no_direct = true };
	struct error_text text = { "" };
	struct backend *backend;

	assert_int_equal(backend_open(&backend, &fault.engine, vbd->target, &options, &text), -EAGAIN);
	assert_non_null(strstr(text.text, "still closing it"));
	opened++;
}

static void take_the_limit(void)
{
	uint64_t begin = loop_clock();

	while (loop_clock() - begin < vbd->close_limit_ms * 1000000ull)
		;
	if (!--slow)
		vbd->close_limit_ms = PATIENT_MS;
}

/* One at a time: a checkpoint is many turns of the loop. */
static int reap_one(struct engine *engine)
{
	bool closes = vbd->state == VBD_RELEASING;
	struct engine_io *io = closes && !answers ? NULL : engine_list_take(&fault.over);

	if (io && closes) {
		answers--;
		stuck = vbd_is_stuck(vbd);
		if (opens)
			open_it_too();
		if (slow)
			take_the_limit();
	}
	while (io && !engine_complete(engine, io, io->priv[0]))
		io->priv[0] = fault_engine_call(&fault, io);
	return io != NULL;
}

static void note_stop(struct vbd_client *c)
{
	stopped_at = fault.seen;
}

static void nothing(struct vbd_client *c)
{
}

static const struct vbd_client_ops noting_ops = { .stop = note_stop, .start = nothing };

static void write_all(unsigned stamp)
{
	for (unsigned i = 0; i < CHANGES; i++) {
		submit(0, BLOCK_WRITE, i * APART, 1, stamp);
		run();
		assert_int_equal(entries[0].error, 0);
	}
}

static void snapshot_over(struct vbd_snapshot *snapshot, int error)
{
	*(int *)snapshot->owner = error;
}

static void take_snapshot(void)
{
	int error = 1;
	struct vbd_snapshot snapshot = {
		.command = { .op = SNAPSHOT_CREATE, .name = "one" }, .done = snapshot_over, .owner = &error,
	};

	vbd_snapshot(vbd, &snapshot);
	for (unsigned i = 0; error == 1 && i < 100; i++)
		run();
	assert_int_equal(error, 0);
}

/* A store whose map has CHANGES changes, each in a node that has to be read: none of them is in the cache. */
static void begin(void)
{
	static const struct cow_create_options options = { .sectors = (uint64_t)CHANGES * APART * BLOCK / SECTOR_SIZE };
	const char *path = scratch_path("image");
	struct error_text text = { "" };
	struct cow_device *device;
	char target[PATH_MAX + 4];

	unlink(path);
	assert_int_equal(cow_file_create(&device, path, &text), 0);
	if (cow_create(device, &options, &text))
		fail_msg("%s", text.text);
	cow_file_close(device);
	snprintf(target, sizeof(target), "cow:%s", path);
	disk_open(target, ON_ERROR_REPORT);
	vbd->options.cache_bytes = 1;
	write_all(1);
	take_snapshot();
	pause_forced();
	unpause();
	write_all(2);
	client.ops = &noting_ops;
	counting = fault_engine_ops;
	counting.wait = count_wait;
	counting.reap = reap_one;
	fault.engine.ops = &counting;
	fault.seen = waits = stopped_at = 0;
	answers = UINT_MAX;
	slow = 0;
	stuck = false;
}

static void check_and_end(void)
{
	if (vbd->state == VBD_PAUSED)
		unpause();
	for (unsigned i = 0; i < CHANGES; i++) {
		submit(0, BLOCK_READ, i * APART, 1, 9);
		run();
		assert_int_equal(entries[0].error, 0);
		assert_int_equal(entries[0].data[0], 2);
	}
	disk_close();
}

/* A forced pause drains immediately. Its changes are written then, but others are served meanwhile. */
static void test_the_loop_goes_on(void **state)
{
	begin();
	pause_forced();
	assert_true(fault.seen > CHANGES);
	assert_int_equal(waits, 0);
	check_and_end();
}

static void pause_now(void *arg)
{
	struct error_text text = { "" };

	assert_int_equal(vbd_pause(vbd, false, note_end, arg, &text), 0);
}

/* As the command does it: the guest's requests are served until nearly all is written. */
static void test_the_guest_goes_on(void **state)
{
	struct error_text text = { "" };

	begin();
	paused = false;
	vbd_settle(vbd, pause_now, &paused);
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), -EBUSY);
	submit(0, BLOCK_WRITE, 0, 1, 2);
	while (entries[0].busy)
		assert_int_equal(engine_reap(&fault.engine), 1);
	assert_int_equal(entries[0].error, 0);
	assert_int_equal(stopped_at, 0);
	for (unsigned i = 0; !paused && i < 100; i++)
		run();
	assert_true(paused);
	assert_true(stopped_at > CHANGES);
	assert_in_range(fault.seen - stopped_at, 1, FEW);
	assert_int_equal(waits, 0);
	check_and_end();
}

static void note_settled(void *arg)
{
	*(bool *)arg = true;
}

/* A close in between takes over: the checkpoint that is under way ends first. */
static void test_closed_meanwhile(void **state)
{
	bool settled = false;

	begin();
	vbd_settle(vbd, note_settled, &settled);
	disk_close();
	assert_true(settled);
	assert_int_equal(waits, 0);
}

/* Nobody else can open a store while it is being closed. */
static void test_opened_meanwhile(void **state)
{
	begin();
	opens = true;
	opened = 0;
	pause_forced();
	opens = false;
	assert_true(opened > CHANGES);
	check_and_end();
}

static void note_result(void *arg, int error)
{
	*(int *)arg = error;
	loop_quit(loop);
}

static int pause_result(void)
{
	struct error_text text = { "" };
	int result = 1;

	assert_int_equal(vbd_pause(vbd, true, note_result, &result, &text), 0);
	for (unsigned i = 0; result == 1 && i < 100; i++)
		run();
	return result;
}

/* All of a close may take any time, as long as each I/O is answered. */
static void test_slow_storage(void **state)
{
	begin();
	vbd->close_limit_ms = 1;
	slow = FEW;
	assert_int_equal(pause_result(), 0);
	assert_int_equal(slow, 0);
	check_and_end();
}

/* Nobody waits for storage that answers no more, after how many I/Os ever; until it answers again. */
static void test_dead_storage(void **state)
{
	begin();
	vbd->close_limit_ms = 1;
	for (unsigned n = 0; n < 3; n++) {
		answers = n * CHANGES / 4;
		assert_int_equal(pause_result(), -ETIMEDOUT);
		assert_true(vbd_is_stuck(vbd));
	}
	answers = UINT_MAX;
	vbd->close_limit_ms = PATIENT_MS;
	assert_int_equal(pause_result(), 0);
	assert_false(stuck);
	check_and_end();
}

/* A device that fails meanwhile: the pause ends all the same, and the changes are in the log. */
static void test_failing(void **state)
{
	for (unsigned nth = 1; nth < 2 * CHANGES; nth += 97) {
		begin();
		fault.fail_at = nth;
		fault.error = -EIO;
		paused = false;
		vbd_settle(vbd, pause_now, &paused);
		for (unsigned i = 0; !paused && i < 100; i++)
			run();
		assert_true(paused);
		fault.fail_at = 0;
		if (vbd->state != VBD_PAUSED)
			pause_forced();
		unpause();
		disk_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_loop_goes_on),
		cmocka_unit_test(test_the_guest_goes_on),
		cmocka_unit_test(test_closed_meanwhile),
		cmocka_unit_test(test_opened_meanwhile),
		cmocka_unit_test(test_slow_storage),
		cmocka_unit_test(test_dead_storage),
		cmocka_unit_test(test_failing),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("settle before a close", tests, NULL, NULL);
}
