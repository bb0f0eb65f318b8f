/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_unresponsive.c - a device that answers late, or not at all: the events,
 * and a pause.
 */
#include "failing_disk.h"
#include "vbd_internal.h"

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
		cmocka_unit_test(test_unresponsive_device),
		cmocka_unit_test(test_latency_spikes),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("a device that does not answer", tests, NULL, NULL);
}
