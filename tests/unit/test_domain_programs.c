/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_programs.c - snapshots of a domain, without Xen: the programs that
 * an operation runs, xl and the hook.
 */
#include "domain_expect.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A caller may ignore a signal; a program that is run does not. */
static void test_signals(void **state)
{
	char path[100], line[100];
	const char *const arguments[] = { "cp", "/proc/self/status", path, NULL };
	const struct domain_operation operation = { 0 };
	unsigned long long ignored = ~0ull;
	FILE *file;

	snprintf(path, sizeof(path), "%s/status", fake_dir);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	xl_run(&operation, arguments, NULL);	/* which cannot learn the result */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) && sscanf(line, "SigIgn: %llx", &ignored) != 1)
		;
	fclose(file);
	assert_int_equal(ignored & (1ull << (SIGCHLD - 1) | 1ull << (SIGPIPE - 1)), 0);
}

/* A Ctrl-C, which goes to our process group, must not reach it. */
static void test_own_group(void **state)
{
	const char *const arguments[] = { "sh", "-c", "read -r pid name state parent group session rest </proc/$$/stat; "
					  "[ $group = $$ ] && [ $session = $$ ]", NULL };
	const struct domain_operation operation = { 0 };
	struct error_text text = { "" };

	if (xl_run(&operation, arguments, &text))
		fail_msg("%s", text.text);
}

static void test_hook(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "h", .hook = hook };

	make_hook();
	must(fake_run(request));
	expect_told("ft");
	must(revert("h"));
	expect_told("t");
	must(delete("h", false));
	refuse("freeze", true);
	must_fail(fake_run(request), -EIO, "not now");
	refuse("freeze", false);
	expect_told("ft");
	expect_running(1);
	expect_files(0);
}

/* A guest that is paused or gone is not told to thaw, and its snapshot is complete all the same. */
static void test_hook_stopped(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "p", .hook = hook, .after = DOMAIN_SNAPSHOT_PAUSED,
	};
	struct outcome outcome;

	make_hook();
	refuse("thaw", true);
	outcome = fake_run(request);
	must(outcome);
	assert_non_null(strstr(outcome.text, "hook thaw guest' when it is unpaused"));
	expect_told("f");
	assert_true(fake->there && fake->paused);
	fake->paused = false;
	request.name = "s";
	request.after = DOMAIN_SNAPSHOT_SHUTDOWN;
	must(fake_run(request));
	expect_told("f");
	assert_false(fake->there);
	expect_list("p s");
	/* the same in a revert: it is at the snapshot, and runs */
	must_fail(revert("s"), -EIO, "and runs, frozen as it was then: run '");
	expect_told("t");
	expect_running(1);
	outcome = fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = "s", .after = DOMAIN_SNAPSHOT_PAUSED });
	must(outcome);
	assert_non_null(strstr(outcome.text, "hook thaw guest' when it is unpaused"));
	expect_told("");
	assert_true(fake->paused);
	refuse("thaw", false);
	must(revert("s"));
	expect_told("t");
	expect_running(1);
	must(delete("p", true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_signals),
		DOMAIN_TEST(test_own_group),
		DOMAIN_TEST(test_hook),
		DOMAIN_TEST(test_hook_stopped),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: programs that are run", tests, NULL, NULL);
}
