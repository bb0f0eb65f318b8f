/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_on_error_no_room.c - a disk without room: what waits for it, what fails,
 * and that it goes on by itself.
 */
#include <errno.h>

#include "failing_disk.h"
#include "vbd_internal.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_room_ends_by_itself),
		cmocka_unit_test(test_slow_retry),
		cmocka_unit_test(test_flush_waits_for_room),
		cmocka_unit_test(test_flush_is_answered_by_the_policy),
		cmocka_unit_test(test_pause_while_a_flush_waits),
		cmocka_unit_test(test_close_while_a_flush_waits),
		cmocka_unit_test(test_commands_without_room),
		cmocka_unit_test(test_sync_without_room),
		cmocka_unit_test(test_resize_without_room),
		cmocka_unit_test(test_probe_waits_for_room),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("on error: no room", tests, NULL, NULL);
}
