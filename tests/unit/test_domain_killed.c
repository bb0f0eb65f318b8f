/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_killed.c - snapshots of a domain, without Xen: the state after a
 * create or a delete is killed at each of its steps.
 */
#include <unistd.h>

#include "domain_expect.h"

static void test_create_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	unsigned step = 0;
	bool killed;

	fake->memory = 3;
	do {
		killed = fake_run_killed(request, ++step);
		expect_all_or_nothing("k");
	} while (killed);
	assert_true(step > 10);
}

/* The domain is destroyed when the snapshot is complete; if it does not become complete, the domain continues to run. */
static void test_shutdown_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0;
	bool killed;

	do {
		fake->memory = 3;
		killed = fake_run_killed(request, ++step);
		must(list());
		if (!count_files()) {
			expect_running(3);
			expect_disks("");
			continue;
		}
		assert_false(fake->there);
		must(revert("k"));
		expect_running(3);
		must(delete("k", false));
		expect_disks("");
		expect_files(0);
		expect_no_records();
	} while (killed);
	assert_true(step > 10);
}

static void restart_domain(void)
{
	if (fake->there)
		fake_stop_domain();
	fake_start_domain();
}

/*
 * Of disks only: the next command, which may come much later, destroys the domain only where that was begun already, because
 * it has lost its disks then.
 */
static void test_shutdown_disks_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0, torn = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		torn += fake->torn;
		must(list());
		if (fake->there) {
			assert_true(killed);
			expect_running(1);
		} else {
			fake_start_domain();
			fake->memory = 1;
		}
		if (count_files())
			must(delete("k", false));
		expect_disks("");
		expect_no_records();
	} while (killed);
	assert_int_equal(torn, 1);
}

/* It was started again before the next command: that is another domain. */
static void test_shutdown_restarted(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		restart_domain();
		fake->memory = 4;
		must(list());
		expect_running(4);
		if (count_files())
			must(delete("k", false));
	} while (killed);
	expect_disks("");
}

/*
 * Of disks only: the domain is paused, if at all, when the snapshot is complete. The next command,
 * which may come much later, does not pause it. If it was paused already, it stays paused.
 */
static void test_paused_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_PAUSED,
	};
	unsigned step = 0;
	bool killed, whole, before, after;

	do {
		before = step % 2;
		fake->paused = before;
		killed = fake_run_killed(request, ++step);
		after = fake->paused;
		must(list());
		whole = count_files();
		assert_true(fake->there && !fake->suspended);
		assert_int_equal(fake->paused, after);
		assert_true(after == before || whole);
		assert_true(after || killed);
		expect_disks(whole ? "k" : "");
		if (whole)
			must(delete("k", false));
	} while (killed);
	fake->paused = false;
	assert_true(step > 10);
}

/* The guest was not asked to suspend yet: nothing is done to it. */
static void test_create_not_begun(void **state)
{
	assert_true(fake_run_killed((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" }, 1));
	fake->paused = true;
	must(list());
	assert_true(fake->paused);
	fake->paused = false;
	expect_files(0);
}

/* The file of the store that the raw disk moves to. */
static bool has_store(void)
{
	char image[128], store[140];

	fake_store(image, 1);
	snprintf(store, sizeof(store), "%s.cow", image);
	return !access(store, F_OK);
}

/* A raw disk is in its store if the snapshot exists; otherwise it is unchanged, and there is no store. */
static void test_raw_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .store = fake_dir };
	unsigned step = 0;
	bool killed;

	use_raw(3);
	do {
		killed = fake_run_killed(request, ++step);
		must(recover(false));
		expect_running(3);
		assert_int_equal(is_moved(), count_files() > 0);
		if (!count_files()) {
			expect_disk(0, "");
			assert_false(has_store());
			continue;
		}
		expect_disks("k");
		must(revert("k"));
		must(delete("k", false));
		move_back();
	} while (killed);
	expect_no_records();
}

/* The same while the domain is off: the next process opens it. */
static void test_raw_off_killed(void **state)
{
	const char *const raw[] = { "xvdb", NULL };
	const struct domain_snapshot_request before = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "before", .leave_out = raw };
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .store = fake_dir };
	unsigned step = 0;
	bool killed;

	use_raw(3);
	must(fake_run(before));
	fake_stop_domain();
	do {
		killed = fake_run_killed(request, ++step);
		must(recover(false));
		fake_start_domain();
		assert_int_equal(is_moved(), count_files() > 2);
		assert_int_equal(has_store(), is_moved());
		if (count_files() > 2) {
			expect_disk(1, "k");
			must(delete("k", false));
			move_back();
		}
		expect_disk(0, "before");
		fake_stop_domain();
	} while (killed);
	expect_no_records();
	fake_start_domain();
}

/* The host went down at each step, and the domain with it. */
static void test_create_power_cut(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	struct outcome outcome;
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		fake_stop_domain();
		outcome = fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER });
		must(outcome);
		if (count_files()) {
			expect_list("k");
			expect_disks("k");
			must(revert("k"));
			expect_running(1);
			must(delete("k", false));
		} else {
			expect_disks("");
			fake_start_domain();
			fake->memory = 1;
		}
		expect_files(0);
		expect_no_records();
	} while (killed);
}

/* ... and it was restarted: the create does not decide any more whether that one runs or is paused. */
static void test_create_restarted(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		restart_domain();
		fake->paused = true;
		must(list());
		assert_true(fake->there && fake->paused);
		fake->paused = false;
		if (count_files())
			must(delete("k", false));
		expect_disks("");
		expect_no_records();
	} while (killed);
	assert_true(step > 10);
}

static bool has_directory(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID, fake_dir);
	return !access(path, F_OK);
}

static void test_delete_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "k" };
	unsigned step = 0;
	bool killed;

	do {
		must(create("k"));
		killed = fake_run_killed(request, ++step);
		expect_list("");
		expect_disks("");
		expect_files(0);
		if (killed)
			must(recover(false));
		assert_false(has_directory());
	} while (killed);
	assert_true(step > 2);
	expect_running(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_create_killed),
		DOMAIN_TEST(test_shutdown_killed),
		DOMAIN_TEST(test_shutdown_disks_killed),
		DOMAIN_TEST(test_shutdown_restarted),
		DOMAIN_TEST(test_paused_killed),
		DOMAIN_TEST(test_create_not_begun),
		DOMAIN_TEST(test_raw_killed),
		DOMAIN_TEST(test_raw_off_killed),
		DOMAIN_TEST(test_create_power_cut),
		DOMAIN_TEST(test_create_restarted),
		DOMAIN_TEST(test_delete_killed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: killed at each step", tests, NULL, NULL);
}
