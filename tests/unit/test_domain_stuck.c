/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_stuck.c - snapshots of a domain, without Xen: an operation that
 * cannot be ended because a disk is gone, or another one; and the way out.
 */
#include "domain_expect.h"

#include "client_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void move_store(bool away)
{
	char here[128], there[140];

	fake_store(here, 1);
	snprintf(there, sizeof(there), "%s.away", here);
	assert_int_equal(away ? rename(here, there) : rename(there, here), 0);
}

static void lose_store(const char *step)
{
	if (!strcmp(step, "stopped"))
		move_store(true);
}

/* A disk that cannot be reverted after the domain was destroyed: the next command continues. */
static void test_revert_half_way(void **state)
{
	must(create("k"));
	fake->memory = 8;
	domain_step = lose_store;
	must_fail(revert("k"), -ENOENT, "next command continues");
	domain_step = NULL;
	assert_false(fake->there);
	expect_list("k");
	must_fail(create("other"), -ENOENT, "an earlier revert");
	move_store(false);
	expect_list("k");
	expect_running(1);
	expect_files(2);
}

static void replace_at_step(const char *step)
{
	char path[128], target[140];
	struct disk_options options = { .timeout_ms = TIMEOUT_MS, .target = target };
	struct error_text text = { "" };
	json_t *disk;

	if (strcmp(step, "stopped") != 0)
		return;
	fake_store(path, 1);
	snprintf(target, sizeof(target), "%s:%s", fake_type(1), path);
	if (disk_create(&options, &fake->pid[1], &fake->minor[1], &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	replace_snapshot("k");
	assert_int_equal(disk_destroy(fake->pid[1], fake->minor[1], false, TIMEOUT_MS, NULL), 0);
}

/* One of the disks has got another snapshot of that name: memory and disks would be of different times. */
static void test_revert_to_another(void **state)
{
	must(create("k"));
	domain_step = replace_at_step;
	must_fail(revert("k"), -ENOENT, "another one has that name now");
	domain_step = NULL;
	must_fail(recover(false), -ENOENT, "another one has that name now");
	assert_false(fake->there);
	must(recover(true));
	expect_files(2);
	fake_start_domain();
}

/*
 * A create that cannot be undone because a disk is not available lets the domain run once, and not
 * again with each later command.
 */
static void test_create_stuck(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };
	unsigned step = 0;
	char log[100];

	make_hook();
	snprintf(log, sizeof(log), "%s/hook.log", fake_dir);
	do {
		must(list());
		unlink(log);
		assert_true(fake_run_killed(request, ++step));
	} while (!fake->suspended);
	kill_tapdisk(fake->pid[1], NULL);
	move_store(true);
	must_fail(recover(false), -ENOENT, "cannot be cleaned up yet");
	expect_running(1);
	expect_told("ft");
	fake->paused = true;
	for (unsigned i = 0; i < 2; i++) {
		must_fail(recover(false), -ENOENT, "cannot be cleaned up yet");
		assert_true(fake->paused);
		expect_told("");
	}
	move_store(false);
	must(recover(false));
	assert_true(fake->paused);
	expect_files(0);
	expect_disks("");
	fake->paused = false;
}

/* The second disk is gone for good: nothing can be completed until the user says so. */
static void expect_way_out(struct domain_snapshot_request request, unsigned kill, const char *names)
{
	struct outcome outcome;

	assert_true(fake_run_killed(request, kill));
	if (fake->there)
		fake_stop_domain();
	move_store(true);
	must_fail(recover(false), -ENOENT, "cannot be cleaned up yet: disk xvdb");
	must_fail(revert("k"), -ENOENT, request.command == DOMAIN_SNAPSHOT_REVERT ? "xvdb" : "xl-snapshot recover --force");
	outcome = recover(true);
	must(outcome);
	assert_non_null(strstr(outcome.text, "disk xvdb"));
	move_store(false);
	fake_start_domain();
	fake->memory = 1;
	expect_list(names);
	expect_files(*names ? 2 : 0);
	expect_no_records();
	must(create("next"));
	must(delete("next", false));
}

/* What is left on the disk if it does come back. */
static void forget_stray(void)
{
	const struct tapctl_disk second = { fake->pid[1], fake->minor[1] };

	assert_int_equal(tapctl_snapshot_delete(&second, 1, "k", TIMEOUT_MS, NULL), 0);
	expect_disks("");
}

static void test_disk_gone(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	const struct domain_snapshot_request delete_k = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "k" };
	const struct domain_snapshot_request revert_k = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };

	expect_way_out(create_k, 8, "");
	forget_stray();
	must(create("k"));
	expect_way_out(revert_k, 3, "k");
	expect_way_out(delete_k, 1, "");
	forget_stray();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_revert_half_way),
		DOMAIN_TEST(test_revert_to_another),
		DOMAIN_TEST(test_create_stuck),
		DOMAIN_TEST(test_disk_gone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: an operation that cannot be ended", tests, NULL, NULL);
}
