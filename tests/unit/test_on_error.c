/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_on_error.c - a disk whose requests fail: stop, pause, close, change of
 * policy, a device that does not answer. (The result of each request:
 * test_on_error_sweep.c.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "failing_disk.h"
#include "vbd_internal.h"

static void break_disk(int error)
{
	fault.seen = 0;
	fault.fail_at = 1;
	fault.broken = true;
	fault.error = error;
}

static void repair_disk(void)
{
	fault.fail_at = 0;
	fault.writes_only = fault.syncs_only = false;
}

static void open_raw(enum vbd_on_error policy)
{
	char target[PATH_MAX];

	make_image("aio", target, sizeof(target));
	disk_open(target, policy);
}

/*
 * A stopped disk gets no requests, not even flushes; resume tries all of them, and stops again at the
 * first that still fails.
 */
static void test_stop(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	assert_true(vbd->errors.stopped);
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	submit(2, BLOCK_READ, 0, 1, 9);
	run();
	assert_int_equal(fault.seen, 1);
	assert_int_equal(vbd->errors.waiting.count, 3);
	expect_events("io-error");
	assert_int_equal(resume(), 3);
	assert_int_equal(fault.seen, 2);	/* the write alone */
	assert_int_equal(vbd->errors.waiting.count, 3);
	expect_events("io-error");
	repair_disk();
	assert_int_equal(resume(), 3);
	assert_int_equal(nr_busy, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(entries[i].error, 0);
	assert_int_equal(entries[2].data[0], 1);
	assert_int_equal(resume(), 0);
	expect_events("resumed");
	disk_close();
}

/*
 * The disk works again and is full: it must not stay stopped for that. A client that disconnects takes
 * the probing request with it.
 */
static void test_probe(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	submit(1, BLOCK_READ, 0, 1, 9);
	fault.error = -ENOSPC;
	fault.broken = false;
	fault.seen = 0;
	resume();
	assert_int_equal(entries[1].error, 0);
	expect_events("io-error resumed");
	assert_int_equal(entries[0].error, 0);	/* retried at once, behind it */

	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	submit(1, BLOCK_WRITE, 8, 1, 1);
	run();
	nr_events = 0;
	fault.silent = true;
	assert_int_equal(vbd_error_go_on(vbd), 2);
	gone = true;
	vbd_error_drop_unwanted(&client);
	assert_int_equal(entries[1].error, -ECANCELED);
	fault.silent = false;
	run();
	assert_int_equal(entries[0].error, -EIO);
	assert_false(vbd->errors.stopped);	/* no request waits any more, so nothing could notice it */
	expect_events("resumed");
	repair_disk();
	disk_close();
}

/*
 * Writes wait for room, reads and flushes continue; when there is room the writes continue by
 * themselves, and an event reports it.
 */
static void test_no_room_ends_by_itself(void **state)
{
	open_raw(ON_ERROR_ENOSPC);
	break_disk(-ENOSPC);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	repair_disk();
	submit(1, BLOCK_READ, 0, 1, 9);
	submit(2, BLOCK_FLUSH, 0, 0, 0);
	run();
	assert_int_equal(entries[1].error | entries[2].error, 0);
	assert_false(vbd->errors.stopped);
	assert_true(entries[0].busy);
	expect_events("no-space");
	wait_for_event();
	assert_int_equal(entries[0].error, 0);
	expect_events("space");
	disk_close();
}

static void quit(void *arg)
{
	loop_quit(loop);
}

/* A retry that takes long has not found room yet: it may still find none. */
static void slow_retry(const char *type)
{
	struct loop_source *timer;
	char target[PATH_MAX];

	make_image(type, target, sizeof(target));
	disk_open(target, ON_ERROR_ENOSPC);
	break_disk(-ENOSPC);
	fault.writes_only = true;
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	expect_events("no-space");
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			repair_disk();
		fault.silent = true;
		assert_int_equal(vbd_error_go_on(vbd), 1);
		assert_int_equal(loop_add_timer(loop, &timer, 1000, quit, NULL), 0);	/* behind the disk's own */
		wait_for_event();
		assert_true(entries[0].busy && vbd->no_space);
		expect_events("");
		fault.silent = false;
		if (!i)
			run();
	}
	wait_for_event();
	assert_int_equal(entries[0].error, 0);
	assert_false(vbd->no_space);
	expect_events("space");
	disk_close();
}

static void test_slow_retry(void **state)
{
	slow_retry("aio");
	slow_retry("cow");
}

/* Waiting requests are not in flight: a pause ends at once, and then they go to the image that is open. */
static void test_pause_while_stopped(void **state)
{
	struct error_text text = { "" };
	unsigned count;

	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	pause_forced();
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_true(entries[0].busy);
	assert_int_equal(vbd_error_resume(vbd, &count, &text), -EBUSY);
	repair_disk();
	unpause();
	assert_int_equal(entries[0].error, 0);
	assert_false(vbd->errors.stopped);
	submit(1, BLOCK_READ, 3, 1, 9);
	run();
	assert_int_equal(entries[1].data[0], 1);
	disk_close();
}

/* Not forced: the flush at its end fails, the disk still runs, and is stopped as before. */
static void test_pause_that_fails_while_stopped(void **state)
{
	struct error_text text = { "" };

	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	paused = false;
	assert_int_equal(vbd_pause(vbd, false, note_end, &paused, &text), 0);
	while (!paused)
		run();
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_true(vbd->errors.stopped && entries[0].busy);
	repair_disk();
	resume();
	assert_int_equal(entries[0].error, 0);
	disk_close();
}

/* The policy is set while the disk drains; the flush at the end fails. */
static void fail_pause(enum vbd_on_error policy)
{
	struct error_text text = { "" };

	paused = false;
	assert_int_equal(vbd_pause(vbd, false, note_end, &paused, &text), 0);
	vbd_on_error_set(vbd, policy);
	fault.seen = 0;
	fault.fail_at = 1;
	fault.broken = false;
	fault.error = -EIO;
	fault.silent = false;
	while (!paused)
		run();
	run();
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_false(vbd->errors.stopped);
	assert_int_equal(nr_busy, 0);
}

/* A failed write has stopped the disk, and a read waits behind it; the device would work again. */
static void stop_and_repair(void)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	submit(1, BLOCK_READ, 3, 1, 9);
	repair_disk();
}

/* A pause drains the disk and fails: requests that waited behind the error are tried then. */
static void test_goes_on_after_pause_that_fails(void **state)
{
	stop_and_repair();
	fault.silent = true;
	vbd_error_go_on(vbd);
	fail_pause(ON_ERROR_STOP);
	assert_int_equal(entries[0].error | entries[1].error, 0);
	assert_int_equal(entries[1].data[0], 1);
	disk_close();

	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	submit(1, BLOCK_READ, 3, 1, 9);
	fail_pause(ON_ERROR_REPORT);
	assert_int_equal(entries[0].error, -EIO);
	assert_int_equal(entries[1].error | entries[1].data[0], 0);
	disk_close();
}

static void close_ends(enum vbd_on_error policy, int error, bool while_paused)
{
	struct error_text text = { "" };

	open_raw(policy);
	break_disk(error);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	assert_true(entries[0].busy);
	if (while_paused)
		pause_forced();
	ended = false;
	assert_int_equal(vbd_close(vbd, true, note_end, &ended, &text), 0);
	assert_int_equal(entries[0].error, error);
	disk_close();
}

static void test_close_ends_what_waits(void **state)
{
	close_ends(ON_ERROR_STOP, -EIO, false);
	close_ends(ON_ERROR_STOP, -EIO, true);
	close_ends(ON_ERROR_ENOSPC, -ENOSPC, false);
	close_ends(ON_ERROR_ENOSPC, -ENOSPC, true);
}

/* Requests that may not wait under the new policy are answered; those that were held back untried go to the disk. */
static void test_another_policy(void **state)
{
	stop_and_repair();
	vbd_on_error_set(vbd, ON_ERROR_REPORT);
	run();
	assert_int_equal(entries[0].error, -EIO);
	assert_int_equal(entries[1].error, 0);
	break_disk(-ENOSPC);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	assert_int_equal(entries[0].error, -ENOSPC);
	expect_events("io-error resumed io-error");
	disk_close();
}

/* A store whose file system has no room, not even for what overwrites: the log cannot be written. */
static void fill_up(void)
{
	break_disk(-ENOSPC);
	fault.writes_only = true;
}

/* Block 3 has stamp 1, and the flush that is to make it durable, request 1, has found no room. */
static void flush_without_room(enum vbd_on_error policy)
{
	char target[PATH_MAX];

	make_image("cow", target, sizeof(target));
	disk_open(target, policy);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	assert_int_equal(entries[0].error, 0);
	fill_up();
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
}

static void expect_block(unsigned block, unsigned stamp)
{
	submit(9, BLOCK_READ, block, 1, 31);
	run();
	assert_int_equal(entries[9].error, 0);
	assert_int_equal(entries[9].data[0], stamp);
}

/* Nothing is lost: a flush waits as a write does, reads continue, and so does all when there is room. */
static void test_flush_waits_for_room(void **state)
{
	static const enum vbd_on_error policies[] = { ON_ERROR_ENOSPC, ON_ERROR_STOP };

	for (unsigned i = 0; i < 2; i++) {
		flush_without_room(policies[i]);
		assert_true(entries[1].busy && !vbd->errors.stopped);
		expect_block(3, 1);
		submit(2, BLOCK_WRITE, 5, 1, 2);
		run();
		assert_true(entries[2].busy);
		expect_events("no-space");
		resume();
		assert_true(entries[1].busy && entries[2].busy);
		repair_disk();
		if (i)
			assert_int_equal(resume(), 2);
		else
			wait_for_event();
		assert_int_equal(entries[1].error | entries[2].error, 0);
		expect_block(5, 2);
		disk_close();
	}
}

static void test_flush_is_answered_by_the_policy(void **state)
{
	flush_without_room(ON_ERROR_REPORT);
	assert_int_equal(entries[1].error, -ENOSPC);
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
	assert_int_equal(entries[1].error, -ENOSPC);
	repair_disk();
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
	assert_int_equal(entries[1].error, 0);
	disk_close();

	flush_without_room(ON_ERROR_ENOSPC);
	vbd_on_error_set(vbd, ON_ERROR_REPORT);
	run();
	assert_int_equal(entries[1].error, -ENOSPC);
	repair_disk();
	disk_close();
}

/* A pause needs its own flush, and fails; the guest's flush goes on waiting. */
static void test_pause_while_a_flush_waits(void **state)
{
	struct error_text text = { "" };

	flush_without_room(ON_ERROR_ENOSPC);
	paused = false;
	assert_int_equal(vbd_pause(vbd, false, note_end, &paused, &text), 0);
	for (unsigned i = 0; !paused && i < 100; i++)
		run();
	assert_true(paused && vbd->state == VBD_RUNNING);
	assert_true(entries[1].busy);
	repair_disk();
	resume();
	assert_int_equal(entries[1].error, 0);
	disk_close();

	/* forced: the writes before it are lost, and it reports that */
	flush_without_room(ON_ERROR_ENOSPC);
	pause_forced();
	assert_true(entries[1].busy);
	repair_disk();
	unpause();
	assert_int_equal(entries[1].error, -EIO);
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
	assert_int_equal(entries[1].error, 0);
	disk_close();
}

/* A flush that waits untried behind an error reports the loss, too. */
static void test_loss_while_stopped(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	pause_forced();
	repair_disk();
	unpause();
	assert_int_equal(entries[0].error, 0);
	assert_int_equal(entries[1].error, -EIO);
	disk_close();
}

static void test_close_while_a_flush_waits(void **state)
{
	struct error_text text = { "" };

	flush_without_room(ON_ERROR_ENOSPC);
	ended = false;
	assert_int_equal(vbd_close(vbd, true, note_end, &ended, &text), 0);
	for (unsigned i = 0; entries[1].busy && i < 100; i++)
		run();
	assert_int_equal(entries[1].error, -ENOSPC);
	disk_close();
}

static void command_over(struct vbd_snapshot *snapshot, int error)
{
	*(int *)snapshot->owner = error;
}

/* It must end without waiting for room. */
static int command_run(const struct snapshot_command *command)
{
	int error = 1;
	struct vbd_snapshot snapshot = { .command = *command, .done = command_over, .owner = &error };

	vbd_snapshot(vbd, &snapshot);
	for (unsigned i = 0; error == 1 && i < 100; i++)
		run();
	return error;
}

static int command(enum snapshot_op op, const char *name)
{
	return command_run(&(struct snapshot_command){ .op = op, .name = name });
}

static int resize(uint64_t sectors)
{
	return command_run(&(struct snapshot_command){ .op = SNAPSHOT_RESIZE, .sectors = sectors });
}

static int count_one(void *owner, const struct snapshot_info *info)
{
	++*(unsigned *)owner;
	return 0;
}

static unsigned snapshots(void)
{
	unsigned count = 0;

	backend_snapshot_list(vbd->backend, count_one, &count);
	return count;
}

/* Commands do not wait: they fail, and then nothing of them is left; with room they succeed. */
static void test_commands_without_room(void **state)
{
	char target[PATH_MAX];

	make_image("cow", target, sizeof(target));
	disk_open(target, ON_ERROR_ENOSPC);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	fill_up();
	assert_int_equal(command(SNAPSHOT_CREATE, "one"), -ENOSPC);
	assert_int_equal(snapshots(), 0);
	assert_int_equal(command(SNAPSHOT_CREATE, "one"), -ENOSPC);
	repair_disk();
	assert_int_equal(command(SNAPSHOT_CREATE, "one"), 0);
	assert_int_equal(snapshots(), 1);
	submit(0, BLOCK_WRITE, 3, 1, 2);
	run();
	fill_up();
	assert_int_equal(command(SNAPSHOT_DELETE, "one"), -ENOSPC);
	assert_int_equal(snapshots(), 1);
	vbd_remove_client(&client);
	assert_int_equal(command(SNAPSHOT_REVERT, "one"), -ENOSPC);
	assert_int_equal(vbd_add_client(vbd, &client), 0);
	expect_block(3, 2);
	repair_disk();
	vbd_remove_client(&client);
	assert_int_equal(command(SNAPSHOT_REVERT, "one"), 0);
	assert_int_equal(vbd_add_client(vbd, &client), 0);
	expect_block(3, 1);
	assert_int_equal(command(SNAPSHOT_DELETE, "one"), 0);
	assert_int_equal(snapshots(), 0);
	disk_close();
}

/* Block 3 has stamp 1, durable. @logged: the next flush has a record of block 5 to write. */
static void open_before_sync(bool logged)
{
	char target[PATH_MAX];

	make_image("cow", target, sizeof(target));
	disk_open(target, ON_ERROR_STOP);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
	submit(0, BLOCK_WRITE, logged ? 5 : 3, 1, 2);
	run();
	assert_int_equal(entries[0].error | entries[1].error, 0);
	break_disk(-ENOSPC);
	fault.syncs_only = true;
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	run();
}

/*
 * A sync that finds no room is not a wait, as for a write: nobody has the data any more that it has not
 * written. The flush says so, and no later one succeeds before the store is opened again.
 */
static void test_sync_without_room(void **state)
{
	for (unsigned logged = 0; logged < 2; logged++) {
		open_before_sync(logged);
		assert_int_equal(entries[1].error, -EIO);
		assert_false(vbd->errors.stopped);
		repair_disk();
		submit(0, BLOCK_FLUSH, 0, 0, 0);
		run();
		assert_int_equal(entries[0].error, -EIO);
		vbd_on_error_set(vbd, ON_ERROR_REPORT);
		submit(0, BLOCK_WRITE, 3, 1, 3);
		run();
		assert_int_equal(entries[0].error, -EIO);
		expect_block(3, logged ? 1 : 2);
		assert_int_equal(command(SNAPSHOT_CREATE, "one"), -EIO);
		pause_forced();
		unpause();
		submit(0, BLOCK_FLUSH, 0, 0, 0);
		submit(1, BLOCK_WRITE, 3, 1, 4);
		run();
		assert_int_equal(entries[0].error, -EIO);	/* the pause has lost writes */
		submit(0, BLOCK_FLUSH, 0, 0, 0);
		run();
		assert_int_equal(entries[0].error | entries[1].error, 0);
		expect_block(3, 4);
		disk_close();
	}
}

/* A size that cannot be made durable is not shown, either. */
static void test_resize_without_room(void **state)
{
	char target[PATH_MAX];
	uint64_t before;

	make_image("cow", target, sizeof(target));
	disk_open(target, ON_ERROR_ENOSPC);
	before = vbd->geometry.sectors;
	fill_up();
	assert_int_equal(resize(2 * before), -ENOSPC);
	assert_int_equal(vbd->geometry.sectors, before);
	repair_disk();
	pause_forced();
	unpause();
	assert_int_equal(vbd->geometry.sectors, before);
	assert_int_equal(resize(2 * before), 0);
	assert_int_equal(vbd->geometry.sectors, 2 * before);
	disk_close();
}

/* The request that is tried alone after an error finds no room: it goes on by itself when there is some, and so does the disk. */
static void test_probe_waits_for_room(void **state)
{
	char target[PATH_MAX];

	make_image("cow", target, sizeof(target));
	disk_open(target, ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 5, 1, 2);
	run();
	assert_true(entries[0].busy && vbd->errors.stopped);
	fill_up();
	resume();
	assert_true(entries[0].busy && vbd->errors.stopped);
	expect_events("io-error no-space");
	repair_disk();
	wait_for_event();
	expect_events("resumed");
	assert_int_equal(entries[0].error, 0);
	assert_false(vbd->errors.stopped);
	expect_block(5, 2);
	disk_close();
}

/* A client disconnects: its waiting requests end, and those at the disk or still to come do not wait either. */
static void test_client_goes(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	fault.silent = true;
	vbd->errors.stopped = false;	/* one that was at the disk already */
	submit(1, BLOCK_WRITE, 3, 1, 1);
	vbd->errors.stopped = true;
	gone = true;
	vbd_error_drop_unwanted(&client);
	assert_int_equal(entries[0].error, -ECANCELED);
	fault.silent = false;
	run();
	assert_int_equal(entries[1].error, -EIO);
	submit(2, BLOCK_READ, 3, 1, 1);
	assert_int_equal(entries[2].error, -ECANCELED);
	assert_int_equal(vbd->errors.waiting.count, 0);
	repair_disk();
	disk_close();
}

/* Logged once in a second, however many requests fail. */
static void test_events_of_answered_errors(void **state)
{
	open_raw(ON_ERROR_REPORT);
	break_disk(-EIO);
	for (unsigned i = 0; i < 200; i++) {
		submit(0, BLOCK_READ, 3, 1, 1);
		run();
		assert_int_equal(entries[0].error, -EIO);
	}
	assert_int_equal(vbd->errors.answered, 200);
	assert_true(nr_events >= 1 && nr_events < 10);
	repair_disk();
	disk_close();
}

/* A request that is invalid itself says nothing about the disk. */
static void test_bad_requests_never_wait(void **state)
{
	open_raw(ON_ERROR_STOP);
	submit(0, BLOCK_READ, BLOCKS, 1, 1);
	run();
	assert_int_equal(entries[0].error, -EINVAL);
	assert_false(vbd->errors.stopped);
	expect_events("");
	disk_close();
}

/*
 * A device that answers nothing: one event, the disk can be queried, a pause waits; when it answers
 * everything continues.
 */
static void test_unresponsive_device(void **state)
{
	struct error_text text = { "" };
	json_t *info;

	open_raw(ON_ERROR_STOP);
	vbd_unresponsive_ms = 20;
	fault.silent = true;
	submit(0, BLOCK_WRITE, 3, 1, 1);
	wait_for_event();
	expect_events("not-answering");
	info = vbd_info(vbd);
	assert_true(json_is_false(json_object_get(info, "answering")));
	json_decref(info);
	paused = false;
	assert_int_equal(vbd_pause(vbd, true, note_end, &paused, &text), 0);
	assert_false(paused);
	fault.silent = false;
	while (!paused)
		run();
	assert_int_equal(entries[0].error, 0);
	if (!nr_events)
		wait_for_event();
	expect_events("answering");
	unpause();
	vbd_unresponsive_ms = 5000;
	disk_close();
}

/* One slow request is not reported while others are answered. */
static void test_latency_spikes(void **state)
{
	open_raw(ON_ERROR_STOP);
	vbd_unresponsive_ms = 20;
	for (unsigned i = 0; i < 200; i++) {
		uint64_t until = loop_clock() + 1000000;

		fault.silent = true;
		submit(0, BLOCK_WRITE, 3, 1, 1);
		while (loop_clock() < until)
			;
		fault.silent = false;
		run();
		assert_int_equal(entries[0].error, 0);
	}
	expect_events("");
	vbd_unresponsive_ms = 5000;
	disk_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_no_room_ends_by_itself),
		cmocka_unit_test(test_slow_retry),
		cmocka_unit_test(test_pause_while_stopped),
		cmocka_unit_test(test_pause_that_fails_while_stopped),
		cmocka_unit_test(test_goes_on_after_pause_that_fails),
		cmocka_unit_test(test_close_ends_what_waits),
		cmocka_unit_test(test_another_policy),
		cmocka_unit_test(test_flush_waits_for_room),
		cmocka_unit_test(test_flush_is_answered_by_the_policy),
		cmocka_unit_test(test_pause_while_a_flush_waits),
		cmocka_unit_test(test_loss_while_stopped),
		cmocka_unit_test(test_close_while_a_flush_waits),
		cmocka_unit_test(test_commands_without_room),
		cmocka_unit_test(test_sync_without_room),
		cmocka_unit_test(test_resize_without_room),
		cmocka_unit_test(test_probe_waits_for_room),
		cmocka_unit_test(test_client_goes),
		cmocka_unit_test(test_events_of_answered_errors),
		cmocka_unit_test(test_bad_requests_never_wait),
		cmocka_unit_test(test_unresponsive_device),
		cmocka_unit_test(test_latency_spikes),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("on error", tests, NULL, NULL);
}
