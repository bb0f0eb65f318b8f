/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_stall.c - snapshots of a domain, without Xen: it stands still
 * only until its disks are frozen, and goes on if that fails or a disk hangs.
 */
#include "domain_expect.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client_internal.h"
#include "protocol.h"

static bool stood[2];			/* at "frozen", at "prepared" */

static void note_stood(const char *step)
{
	if (!strcmp(step, "frozen"))
		stood[0] = fake->suspended;
	else if (!strcmp(step, "prepared"))
		stood[1] = fake->suspended;
}

static void lose_decision(const char *step)
{
	char directory[100], away[120];

	note_stood(step);
	if (strcmp(step, "prepared"))
		return;
	snprintf(directory, sizeof(directory), "%s/state/groups", fake_dir);
	snprintf(away, sizeof(away), "%s.away", directory);
	assert_int_equal(rename(directory, away), 0);
}

/*
 * The domain is stopped until all disks are frozen, but not until their snapshots are durable. If that
 * fails, the domain still runs.
 */
static void test_goes_on_early(void **state)
{
	client_group_step = note_stood;
	must(create("x"));
	assert_true(stood[0]);
	assert_false(stood[1]);
	client_group_step = lose_decision;
	must_fail(create("y"), -ENOENT, "the snapshot of the disks failed");
	client_group_step = NULL;
	assert_false(stood[1]);
	expect_running(1);
	expect_list("x");
	expect_disks("x");
	expect_files(2);
	must(delete("x", false));
}

/* With a single disk it does not wait for that either. */
static void test_goes_on_early_alone(void **state)
{
	const char *const left_out[] = { "xvdb", NULL };
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "x", .leave_out = left_out,
	};

	stood[0] = false;
	stood[1] = true;
	client_group_step = note_stood;
	must(fake_run(request));
	client_group_step = NULL;
	assert_true(stood[0]);
	assert_false(stood[1]);
	expect_running(1);
	expect_disk(0, "x");
	expect_disk(1, "");
	expect_no_records();
	must(delete("x", false));
}

/* The connection to the second disk's tapdisk breaks after the decision. */
static void lose_connection(const char *step)
{
	char path[108];

	if (strcmp(step, "decided"))
		return;
	snprintf(path, sizeof(path), CONTROL_SOCKET_FORMAT ".new", tapctl_run_dir(), fake->pid[1]);	/* its name at bind() */
	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_un peer = { 0 };
		socklen_t length = sizeof(peer);

		if (!getpeername(fd, (struct sockaddr *)&peer, &length) && !strcmp(peer.sun_path, path))
			assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
	}
}

static void stop_tapdisk(const char *step)
{
	if (!strcmp(step, "suspended")) {
		fake->stopped = fake->pid[1];
		assert_int_equal(kill(fake->stopped, SIGSTOP), 0);
	}
}

/* A tapdisk hangs when its disk is to be frozen: the domain goes on. */
static void test_disk_hangs(void **state)
{
	struct outcome outcome;

	domain_step = stop_tapdisk;
	outcome = create("x");
	domain_step = NULL;
	must_fail(outcome, -ETIMEDOUT, "the snapshot of the disks failed: ");
	must_fail(outcome, -ETIMEDOUT, "no answer in time");
	expect_running(1);
	expect_disks("");
	expect_files(0);
	expect_no_records();
}

/* A disk that could not be told the decision has its snapshot, too. */
static void test_disk_not_told(void **state)
{
	for (unsigned i = 0; i < 5; i++) {
		client_group_step = lose_connection;
		must(create("x"));
		client_group_step = NULL;
		expect_disks("x");
		expect_no_records();
		must(delete("x", false));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_goes_on_early),
		DOMAIN_TEST(test_goes_on_early_alone),
		DOMAIN_TEST(test_disk_hangs),
		DOMAIN_TEST(test_disk_not_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: how long it stands still", tests, NULL, NULL);
}
