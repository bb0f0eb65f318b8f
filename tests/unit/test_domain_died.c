/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_died.c - snapshots of a domain, without Xen: a tapdisk has died
 * under the guest, and another one must take over (docs/takeover.md). Until
 * then no other process may open the image, or the guest loses writes that
 * were acknowledged.
 */
#include "domain_expect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blkfront.h"
#include "client_disk.h"
#include "client_internal.h"
#include "fixture.h"

static struct blkfront *front;
static uint8_t written[65536], found[65536];

static void kill_at_freeze(const char *step)
{
	if (!strcmp(step, "intent"))
		kill_tapdisk(fake->pid[1], NULL);
}

/* The guest has written to its second disk, and has not flushed. */
static void write_something(void)
{
	static uint64_t seed;
	struct blkfront_options options = {
		.pid = fake->pid[1], .minor = fake->minor[1], .domid = fake->domid, .persistent = true,
	};
	char text[512] = "";

	if (blkfront_connect(&front, &options, text, sizeof(text)))
		fail_msg("connect: %s", text);
	fixture_pattern(written, sizeof(written), ++seed);
	assert_int_equal(blkfront_pwrite(front, written, sizeof(written), 1 << 20), 0);
}

/* It continues with what it has written. */
static void expect_written(void)
{
	char text[512] = "";

	if (blkfront_follow(front, fake->pid[1], text, sizeof(text)))
		fail_msg("follow: %s", text);
	assert_int_equal(blkfront_pread(front, found, sizeof(found), 1 << 20), 0);
	assert_memory_equal(found, written, sizeof(found));
	blkfront_disconnect(front);
}

static void take_over(void)
{
	struct error_text text = { "" };
	int pid = tapctl_takeover(fake->pid[1], -1, &text);

	if (pid < 0)
		fail_msg("takeover: %s", text.text);
	fake->pid[1] = pid;
	expect_written();
}

/* Nobody takes over: operations that need the disk are refused, and the error says what helps. */
static void test_nobody(void **state)
{
	const struct domain_snapshot_request clone = { .command = DOMAIN_SNAPSHOT_CLONE, .name = "k", .new_name = "dolly" };

	must(create("k"));
	write_something();
	kill_tapdisk(fake->pid[1], NULL);
	must_fail(delete("k", false), -EBUSY, "tap-ctl takeover -p ");
	must_fail(fake_run(clone), -EBUSY, "tap-ctl takeover -p ");
	must_fail(revert("k"), -EBUSY, "tap-ctl takeover -p ");
	expect_list("k");
	take_over();
	must(delete("k", false));
	expect_disks("");
	expect_files(0);
}

/* A create that fails for this reason cannot be undone either until then. */
static void test_undo(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true };
	struct outcome outcome;

	write_something();
	domain_step = kill_at_freeze;
	outcome = fake_run(request);
	domain_step = NULL;
	assert_true(outcome.error);
	assert_non_null(strstr(outcome.text, "tap-ctl takeover -p "));
	take_over();
	must(list());
	expect_files(0);
	expect_disks("");
	expect_running(1);
}

/* A takeover is running: the command waits, and works with the new tapdisk. */
static void test_soon(void **state)
{
	int status;
	pid_t child;

	must(create("k"));
	write_something();
	kill_tapdisk(fake->pid[1], NULL);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
		_exit(tapctl_takeover(fake->pid[1], -1, NULL) < 0);
	}
	must(delete("k", false));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	fake->pid[1] = tapctl_takeover_owner(fake->minor[1]);
	expect_written();
	expect_disks("");
}

/* The guest is gone, too: after the disk was given up, as the hotplug script does, the next one can be attached. */
static void test_guest_gone(void **state)
{
	char path[128], target[140];
	struct disk_options options = { .timeout_ms = TIMEOUT_MS, .target = target };
	struct error_text text = { "" };
	json_t *disk;
	int pid, minor;

	write_something();
	kill_tapdisk(fake->pid[1], NULL);
	blkfront_vanish(front);
	fake_store(path, 1);
	snprintf(target, sizeof(target), "cow:%s", path);
	assert_int_equal(disk_create(&options, &pid, &minor, &disk, &text), -EBUSY);
	assert_non_null(strstr(text.text, "tap-ctl destroy -p "));
	text.text[0] = '\0';
	assert_int_equal(disk_destroy(fake->pid[1], fake->minor[1], false, TIMEOUT_MS, &text), 0);
	if (disk_create(&options, &fake->pid[1], &fake->minor[1], &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
}

/* No guest had it: there is nothing to wait for. */
static void test_no_guest(void **state)
{
	must(create("k"));
	kill_tapdisk(fake->pid[1], NULL);
	must(delete("k", false));
	expect_disks("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_nobody),
		DOMAIN_TEST(test_undo),
		DOMAIN_TEST(test_soon),
		DOMAIN_TEST(test_guest_gone),
		DOMAIN_TEST(test_no_guest),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: a tapdisk has died", tests, NULL, NULL);
}
