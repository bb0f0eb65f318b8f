/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_killed_programs.c - snapshots of a domain, without Xen: an
 * operation is killed, and its hook or its xl lives on, or xl fails half-way.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In every case the guest is not left frozen. */
static void test_hook_killed(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };
	const struct domain_snapshot_request revert_k = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;
	bool killed;

	make_hook();
	fake->memory = 3;
	do {
		killed = fake_run_killed(create_k, ++step);
		must(list());
		assert_false(is_frozen());
		expect_all_or_nothing("k");
	} while (killed);
	must(fake_run(create_k));
	step = 0;
	do {
		freeze();
		killed = fake_run_killed(revert_k, ++step);
		expect_list("k");
		/* at the first step it is not destroyed yet */
		assert_int_equal(is_frozen(), step == 1);
		expect_running(3);
	} while (killed);
	must(delete("k", false));
}

static void run_for_long(const struct domain_snapshot_request *request, bool (*is_there)(void))
{
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		fake_run(*request);
		_exit(0);
	}
	while (!is_there())
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static bool has_waited;

static void end_sleeper(const char *step)
{
	if (!strcmp(step, "waiting")) {
		has_waited = true;
		assert_int_equal(kill(sleeper(), SIGKILL), 0);
	}
}

static bool has_sleeper(void)
{
	return sleeper();
}

/* The command is killed, and its hook lives on: a freeze that ends after the thaw would leave the guest frozen. */
static void test_hook_lives_on(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };

	make_hook();
	hang("freeze", true);
	run_for_long(&request, has_sleeper);
	expect_list("");
	expect_told("f");
	domain_step = end_sleeper;
	must(recover(false));
	domain_step = NULL;
	if (!has_waited)
		kill(sleeper(), SIGKILL);
	assert_true(has_waited);
	expect_no_sleeper();
	expect_told("t");
	assert_false(is_frozen());
	expect_running(1);
	expect_files(0);
	/* one that does not end is not waited for for ever */
	run_for_long(&request, has_sleeper);
	hook_timeout_ms = 200;
	must(recover(false));
	hook_timeout_ms = 30000;
	expect_told("ft");
	kill(sleeper(), SIGKILL);
	expect_no_sleeper();
	expect_files(0);
}

static bool has_begun(void)
{
	return count_there("begun");
}

static void end_program(const char *step)
{
	char path[100];

	if (!strcmp(step, "waiting")) {
		has_waited = true;
		snprintf(path, sizeof(path), "%s/go", fake_dir);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
}

/* The command is killed, and xl lives on: no second one is started beside it. */
static void test_xl_lives_on(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };

	must(create("k"));
	snprintf(fake->program, sizeof(fake->program), "cd %s; : >begun; until [ -e go ]; do sleep 0.01; done; : >end", fake_dir);
	run_for_long(&request, has_begun);
	expect_list("k");
	assert_false(fake->there);
	has_waited = false;
	domain_step = end_program;
	must(recover(false));
	domain_step = NULL;
	assert_true(has_waited);
	assert_int_equal(count_there("end"), 1);
	expect_running(1);
	expect_files(2);
}

/* xl has left a domain behind that is not complete: that is not the one that was to be started. */
static void test_left_unbuilt(void **state)
{
	fake->memory = 3;
	must(create("k"));
	fake->fail_restore = -EIO;
	fake->leaves_unbuilt = true;
	must_fail(revert("k"), -EIO, "the domain is shut off: revert to it again");
	assert_false(fake->there);
	fake->fail_destroy = -EIO;
	must_fail(revert("k"), -EIO, "a domain that is not complete is there: destroy it, and revert to it again");
	assert_true(fake->there);
	fake->fail_destroy = fake->fail_restore = 0;
	must(revert("k"));
	expect_running(3);
	must(delete("k", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_hook_killed),
		DOMAIN_TEST(test_hook_lives_on),
		DOMAIN_TEST(test_xl_lives_on),
		DOMAIN_TEST(test_left_unbuilt),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: programs that outlive their operation", tests, NULL, NULL);
}
