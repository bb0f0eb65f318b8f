/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_on_error.c - a disk whose requests fail: stop, pause, close, change of
 * policy. (The result of each request: test_on_error_sweep.c.)
 */
#include <errno.h>

#include "failing_disk.h"
#include "vbd_internal.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_pause_while_stopped),
		cmocka_unit_test(test_pause_that_fails_while_stopped),
		cmocka_unit_test(test_goes_on_after_pause_that_fails),
		cmocka_unit_test(test_close_ends_what_waits),
		cmocka_unit_test(test_another_policy),
		cmocka_unit_test(test_loss_while_stopped),
		cmocka_unit_test(test_client_goes),
		cmocka_unit_test(test_events_of_answered_errors),
		cmocka_unit_test(test_bad_requests_never_wait),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("on error", tests, NULL, NULL);
}
