/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain.c - snapshots of a domain, without Xen: the operations, and the
 * requests that they refuse. Real tapdisks serve the disks, which are stores;
 * the domain is domain_fake.c's.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"

static void test_there_and_back(void **state)
{
	must(create("one"));
	expect_running(1);
	fake->memory = 2;
	must(create("two"));
	expect_list("one two");
	assert_string_equal(list().current, "two");
	expect_disks("one two");
	must(revert("one"));
	expect_running(1);
	assert_string_equal(list().current, "one");
	must(create("branch"));
	must(revert("two"));
	expect_running(2);
	expect_files(6);
	must(delete("one", true));
	expect_disks("");
	expect_files(0);
	expect_list("");
}

static void test_tree(void **state)
{
	const struct domain_snapshot_request edit = {
		.command = DOMAIN_SNAPSHOT_EDIT, .name = "b", .description = "said later",
	};
	json_t *info;

	must(create("a"));
	must(create("b"));
	must(create("c"));
	must(fake_run(edit));
	must(delete("b", false));
	info = read_info("c");
	assert_string_equal(info_string(info, "parent"), "a");
	json_decref(info);
	must(delete("c", false));
	assert_string_equal(list().current, "a");
	must(delete(NULL, false));
	expect_disks("");
	expect_files(0);
}

/* The current snapshot is gone: a command that names none gets an error with the domain's name. */
static void test_at_none(void **state)
{
	static const enum domain_snapshot_command commands[] = {
		DOMAIN_SNAPSHOT_REVERT, DOMAIN_SNAPSHOT_DELETE, DOMAIN_SNAPSHOT_CLONE, DOMAIN_SNAPSHOT_EDIT,
	};

	must(create("a"));
	must(create("b"));
	must(revert("a"));
	must(delete("a", false));
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		must_fail(fake_run((struct domain_snapshot_request){ .command = commands[i], .new_name = "new" }), -ENOENT,
			  "domain " FAKE_NAME " has no current snapshot");
	must(delete("b", false));
}

static void test_refusals(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "a/b" };

	must_fail(fake_run(request), -EINVAL, "not a snapshot name");
	must_fail(create("../x"), -EINVAL, "not a snapshot name");
	must_fail(revert("none"), -ENOENT, "has no snapshots");
	must(create("a"));
	must_fail(create("a"), -EEXIST, "already");
	must_fail(revert("none"), -ENOENT, "no snapshot called");
	must_fail(delete("none", false), -ENOENT, "no snapshot called");
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY, .domain = "stranger" };
	must_fail(fake_run(request), -ENOENT, "stranger");
	fake->unable = true;
	must_fail(create("b"), -EOPNOTSUPP, "cannot be saved");
	fake->unable = false;
	expect_running(1);
	expect_list("a");
	must(delete("a", false));
}

/* A name or text that cannot be stored is refused before anything is done. */
static void test_words(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "u", .description = "caf\xe9" };
	json_t *info;

	must_fail(fake_run(request), -EILSEQ, "the description is not UTF-8");
	request.description = "caf\xc3\xa9";
	must(fake_run(request));
	request.command = DOMAIN_SNAPSHOT_EDIT;
	request.description = "tea\xff";
	must_fail(fake_run(request), -EILSEQ, "the description is not UTF-8");
	info = read_info("u");
	assert_string_equal(info_string(info, "description"), "caf\xc3\xa9");
	json_decref(info);
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = "v", .hook = "/\xe9" };
	must_fail(fake_run(request), -EILSEQ, "the hook is not UTF-8");
	must(delete("u", false));
}

/* If anything fails, the domain continues to run, and nothing is left. */
static void test_failures(void **state)
{
	struct error_text text = { "" };
	struct tapctl_disk second = { fake->pid[1], fake->minor[1] };
	struct tapctl_snapshot snapshot = { .name = "x", .timeout_ms = TIMEOUT_MS };

	fake->fail_save = -EIO;
	must_fail(create("x"), -EIO, "the guest did not answer");
	fake->fail_save = 0;
	expect_running(1);
	expect_disks("");
	expect_files(0);

	/* the second disk already has one of that name: it stays, and the first disk gets none */
	assert_int_equal(tapctl_snapshot_group(&second, 1, &snapshot, &text), 0);
	must_fail(create("x"), -EEXIST, "xvdb");
	expect_running(1);
	expect_disk(0, "");
	expect_disk(1, "x");
	assert_int_equal(tapctl_snapshot_delete(&second, 1, "x", TIMEOUT_MS, &text), 0);

	/* a disk that has lost its snapshot is noticed before the domain is touched */
	must(create("x"));
	assert_int_equal(tapctl_snapshot_delete(&second, 1, "x", TIMEOUT_MS, &text), 0);
	fake->memory = 5;
	must_fail(revert("x"), -ENOENT, "xvdb");
	expect_running(5);
	must(delete("x", false));
	expect_disks("");

	/* it is at the snapshot although it does not start, and the next try starts it */
	must(create("x"));
	fake->fail_restore = -EIO;
	must_fail(revert("x"), -EIO, "does not want to; the disks are at snapshot \"x\" and the domain is shut off: revert to it again");
	fake->fail_restore = 0;
	assert_false(fake->there);
	must(revert("x"));
	expect_running(5);
	must(delete("x", false));
	expect_files(0);
}

static void test_changed(void **state)
{
	const struct domain_snapshot_request force = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "a", .force = true };
	char swapped[128];

	snprintf(swapped, sizeof(swapped), "%s/swapped.cow", fake_dir);
	fake_make_store(swapped, 512);
	must(create("a"));
	fake->memory = 4;
	fake->attached = true;
	must_fail(revert("a"), -ESTALE, "disk xvdc has been added");
	fake->attached = false;
	fake->detached = true;
	must_fail(revert("a"), -ESTALE, "disk xvdb has been detached");
	fake->detached = false;
	fake->swapped = true;
	must_fail(revert("a"), -ESTALE, "and is another image now, cow:");
	expect_running(4);
	must(fake_run(force));
	fake->swapped = false;
	expect_running(1);
	must(delete("a", false));
}

/* Before the domain is destroyed for it. */
static void test_memory_cut_short(void **state)
{
	struct stat st;
	char path[300];

	must(create("a"));
	fake->memory = 2;
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID "/a.save", fake_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1), 0);
	must_fail(revert("a"), -EBADMSG, "a.save: damaged");
	expect_running(2);
	must(delete("a", false));
}

/* A file that was being written when the command was killed. */
static void test_unfinished_file(void **state)
{
	char path[300];

	must(create("a"));
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID "/snapshotdata-b.xl.new", fake_dir);
	assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
	expect_files(3);
	must(delete("a", false));
	expect_files(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_there_and_back),
		DOMAIN_TEST(test_tree),
		DOMAIN_TEST(test_at_none),
		DOMAIN_TEST(test_refusals),
		DOMAIN_TEST(test_words),
		DOMAIN_TEST(test_failures),
		DOMAIN_TEST(test_changed),
		DOMAIN_TEST(test_memory_cut_short),
		DOMAIN_TEST(test_unfinished_file),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
