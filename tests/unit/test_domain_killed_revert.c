/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_killed_revert.c - snapshots of a domain, without Xen: the state
 * after a revert is killed at each of its steps, fails at the destruction of
 * the domain, or is replaced by another.
 */
#include "domain_expect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void test_revert_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;
	bool killed;

	fake->memory = 3;
	must(create("k"));
	do {
		fake->memory = 4;
		killed = fake_run_killed(request, ++step);
		expect_list("k");
		/* before the domain was destroyed nothing was lost, after it everything is at the snapshot */
		expect_running(killed && step == 1 ? 4 : 3);
		expect_disks("k");
		expect_files(2);
		expect_no_records();
	} while (killed);
	assert_true(step > 6);
}

/* The domain was being destroyed, and it cannot be: what needs it says so, until it can. */
static void test_revert_torn(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;

	fake->memory = 3;
	must(create("k"));
	do {
		must(list());
		assert_true(fake_run_killed(request, ++step));
	} while (!fake->torn);
	fake->fail_destroy = -EIO;
	must_fail(create("other"), -EIO, "cannot be cleaned up yet: it does not die");
	must_fail(revert("k"), -EIO, "it does not die");
	fake->fail_destroy = 0;
	must(create("other"));
	expect_running(3);
	must(delete("k", true));
	expect_no_records();
}

/* The command itself could not bring it to its end: the next one does. */
static void test_revert_half_destroyed(void **state)
{
	fake->memory = 3;
	must(create("k"));
	fake->fail_destroy = -EINPROGRESS;
	must_fail(revert("k"), -EIO, "it does not die; the domain may have lost its disks: the next command destroys it");
	fake->fail_destroy = 0;
	assert_true(fake->torn);
	must(list());
	expect_running(3);
	must(delete("k", false));
	expect_no_records();
}

/* To a snapshot of disks, with another state of the domain than it had. */
static void test_revert_disks_killed(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	const enum domain_snapshot_after after[] = { DOMAIN_SNAPSHOT_AS_SAVED, DOMAIN_SNAPSHOT_RUNNING, DOMAIN_SNAPSHOT_PAUSED };
	unsigned step;
	bool killed;

	must(fake_run(create_k));
	for (unsigned i = 0; i < 3; i++) {
		request.after = after[i];
		step = 0;
		do {
			killed = fake_run_killed(request, ++step);
			expect_list("k");
			expect_files(1);
			expect_no_records();
			assert_int_equal(fake->there, step == 1 || after[i] != DOMAIN_SNAPSHOT_AS_SAVED);
			assert_int_equal(fake->paused, step != 1 && after[i] == DOMAIN_SNAPSHOT_PAUSED);
			if (!fake->there)
				fake_start_domain();
			fake->paused = false;
		} while (killed);
		assert_true(step > 6);
	}
	must(delete("k", false));
}

static char *read_phase(void)
{
	struct domain_directory directory;
	char *phase = NULL;
	json_t *intent;

	assert_int_equal(directory_open(&directory, FAKE_UUID, false, NULL), 0);
	if (!directory_read(&directory, INTENT_FILE, &intent, NULL)) {
		phase = strdup(info_string(intent, "phase"));
		json_decref(intent);
	}
	directory_close(&directory);
	return phase;
}

/* The host was restarted, and the domain with it. */
static void restart_host(void)
{
	if (fake->there)
		fake_stop_domain();
	tapctl_process_list(kill_tapdisk, NULL);
	fake_start_domain();
	fake->memory = 9;
}

/*
 * A killed revert to "a" leaves some disks reverted. A revert to "b" that replaces it and stops as
 * well, because it is killed or because the domain does not die, must not forget that. Every command
 * reports a domain that runs on such disks.
 */
static bool replace_revert(unsigned step, bool by_kill, unsigned *half_ways)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "a" };
	bool killed = fake_run_killed(request, step), half_way, noted;
	char *phase = read_phase();

	if (!by_kill)
		restart_host();
	noted = !phase || (!strcmp(phase, "start") && fake->there);
	half_way = !noted && strcmp(phase, "stop") != 0;
	request.name = "b";
	fake->fail_destroy = by_kill ? 0 : -EIO;
	if (by_kill)
		assert_true(fake_run_killed(request, 1));
	else
		must_fail(fake_run(request), -EIO, "it does not die");
	fake->fail_destroy = 0;
	if (by_kill)
		restart_host();
	if (half_way) {
		must_fail(recover(false), -EBUSY, "its disks are only partly reverted to \"b\"");
		fake_stop_domain();
	}
	must(recover(false));
	expect_running(half_way ? 2 : 9);
	assert_string_equal(list().current, noted ? "a" : "b");
	*half_ways += half_way;
	free(phase);
	return killed;
}

static void test_revert_replaced(void **state)
{
	unsigned half_ways = 0;

	must(create("a"));
	fake->memory = 2;
	must(create("b"));
	for (unsigned i = 0; i < 2; i++) {
		unsigned step = 0;

		do
			must(revert("b"));
		while (replace_revert(++step, i, &half_ways));
	}
	assert_true(half_ways > 4);
	expect_files(4);
	expect_no_records();
	must(delete("a", true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_revert_killed),
		DOMAIN_TEST(test_revert_torn),
		DOMAIN_TEST(test_revert_half_destroyed),
		DOMAIN_TEST(test_revert_disks_killed),
		DOMAIN_TEST(test_revert_replaced),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: a killed revert", tests, NULL, NULL);
}
