/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_busy.c - snapshots of a domain, without Xen: another process has
 * one of its disks open, or reads a snapshot.
 */
#include "domain_expect.h"

#include "nbd_client.h"
#include "client_disk.h"

/* Another process opens a disk while the domain is off, and has a client. */
static struct {
	int pid, minor, client;
} other;

static int connect_to(int pid, int minor, const char *export)
{
	char path[108];
	int fd;

	snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, tapctl_run_dir(), pid, minor);
	fd = client_greet_on(path, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	assert_int_equal(client_go_to(fd, export), NBD_REP_ACK);
	return fd;
}

static void come(void)
{
	char path[128], target[140];
	struct disk_options options = { .timeout_ms = TIMEOUT_MS, .target = target };
	struct error_text text = { "" };
	json_t *disk;

	fake_store(path, 0);
	snprintf(target, sizeof(target), "%s:%s", fake_type(0), path);
	if (disk_create(&options, &other.pid, &other.minor, &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	other.client = connect_to(other.pid, other.minor, "");
}

static void leave(void)
{
	client_leave(other.client);
	assert_int_equal(disk_destroy(other.pid, other.minor, false, TIMEOUT_MS, NULL), 0);
}

static const char *comes_at;

static void come_at_step(const char *step)
{
	if (comes_at && !strcmp(step, comes_at)) {
		comes_at = NULL;
		come();
	}
}

/* A tapdisk notices in its own time that a client has disconnected. */
static void expect_reverted(const char *name)
{
	struct outcome outcome;

	do
		outcome = revert(name);
	while (outcome.error == -EBUSY);
	must(outcome);
}

/* A refused operation is not carried out later, when it would be possible. */
static void test_revert_refused(void **state)
{
	must(create("k"));
	fake_stop_domain();
	come();
	must_fail(revert("k"), -EBUSY, "disk xvda");
	expect_files(2);
	leave();
	expect_list("k");
	assert_false(fake->there);
	expect_disks("k");

	/* the client comes after the check that there is none */
	comes_at = "intent";
	domain_step = come_at_step;
	must_fail(revert("k"), -EBUSY, "nothing was done");
	domain_step = NULL;
	expect_files(2);
	leave();
	expect_list("k");
	assert_false(fake->there);
	must(revert("k"));
	expect_running(1);
	must(delete("k", false));
}

/*
 * The domain has been destroyed: the revert continues when it can, unless the domain was started
 * meanwhile or the revert is abandoned.
 */
static void test_revert_waits(void **state)
{
	const struct domain_snapshot_request give_up = { .command = DOMAIN_SNAPSHOT_RECOVER, .force = true };
	struct outcome outcome;

	must(create("k"));
	for (unsigned i = 0; i < 3; i++) {
		fake->memory = 2;
		comes_at = "stopped";
		domain_step = come_at_step;
		must_fail(revert("k"), -EBUSY, "the next command continues the revert");
		domain_step = NULL;
		assert_false(fake->there);
		must_fail(create("other"), -EBUSY, "an earlier revert was interrupted");
		if (i == 1) {
			outcome = fake_run(give_up);
			must(outcome);
			assert_non_null(strstr(outcome.text, "its disks are unchanged"));
		}
		leave();
		if (i)
			fake_start_domain();
		if (i)
			fake->memory = 3;
		expect_list("k");
		assert_string_equal(list().current, "k");
		expect_running(i ? 3 : 1);
		expect_files(2);
	}
	must(delete("k", false));
	expect_no_records();
}

/* If another revert replaces it and fails as well, the domain must not stay destroyed. */
static void test_revert_waits_twice(void **state)
{
	must(create("k"));
	domain_step = come_at_step;
	comes_at = "stopped";
	must_fail(revert("k"), -EBUSY, "the next command continues the revert");
	leave();
	comes_at = "intent";
	must_fail(revert("k"), -EBUSY, "the next command continues the revert");
	domain_step = NULL;
	leave();
	expect_list("k");
	expect_running(1);
	must(delete("k", false));
	expect_no_records();
}

/* A running domain is not destroyed for a revert that an NBD client would only stop afterwards. */
static void test_revert_of_running_refused(void **state)
{
	int client;

	must(create("k"));
	fake->memory = 2;
	client = connect_to(fake->pid[0], fake->minor[0], "");
	must_fail(revert("k"), -EBUSY, "disk xvda");
	expect_running(2);
	expect_files(2);
	client_leave(client);
	expect_list("k");
	expect_running(2);
	expect_reverted("k");
	expect_running(1);
	must(delete("k", false));
}

static const char *starts_at;

static void start_at_step(const char *step)
{
	if (!starts_at || strcmp(step, starts_at))
		return;
	starts_at = NULL;
	fake_start_domain();
	fake->memory = 7;
}

/*
 * Somebody starts the domain between the checks and the disks: it runs on disks that were not
 * reverted, and the error says so.
 */
static void test_revert_of_started(void **state)
{
	must(create("k"));
	domain_step = start_at_step;
	for (unsigned there = 0; there < 2; there++) {
		if (!there)
			fake_stop_domain();
		starts_at = there ? "stopped" : "intent";
		must_fail(revert("k"), -EBUSY, "was started in the meantime");
		expect_running(7);
		expect_files(2);
		expect_list("k");
		expect_running(7);
	}
	domain_step = NULL;
	must(revert("k"));
	expect_running(1);
	must(delete("k", false));
	expect_no_records();
}

/* A snapshot that is being read is refused; it must not be deleted on some disks. */
static void expect_not_deleted(void)
{
	must_fail(delete("k", true), -EBUSY, "disk xvda: its snapshot \"k\" is open");
	expect_list("k l");
	expect_disks("k l");
	expect_files(4);
}

/* A tapdisk notices the end of a client after some time. */
static void expect_deleted(void)
{
	struct outcome outcome;

	do
		outcome = delete("k", false);
	while (outcome.error == -EBUSY);
	must(outcome);
	expect_list("l");
	expect_disks("l");
}

static void test_delete_refused(void **state)
{
	struct disk_options options = { .timeout_ms = TIMEOUT_MS, .read_only = true };
	char path[128], target[140];
	struct error_text text = { "" };
	int pid, minor, client;
	json_t *disk;

	must(create("k"));
	must(create("l"));
	client = connect_to(fake->pid[0], fake->minor[0], "k");
	expect_not_deleted();
	client_leave(client);
	expect_deleted();
	must(delete("l", false));

	must(create("k"));
	must(create("l"));
	fake_store(path, 0);
	snprintf(target, sizeof(target), "cow:%s@k", path);
	options.target = target;
	if (disk_create(&options, &pid, &minor, &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	expect_not_deleted();
	assert_int_equal(disk_destroy(pid, minor, false, TIMEOUT_MS, NULL), 0);
	expect_deleted();
	must(delete("l", false));
	expect_files(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_revert_refused),
		DOMAIN_TEST(test_revert_waits),
		DOMAIN_TEST(test_revert_waits_twice),
		DOMAIN_TEST(test_revert_of_running_refused),
		DOMAIN_TEST(test_revert_of_started),
		DOMAIN_TEST(test_delete_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: somebody else has a disk", tests, NULL, NULL);
}
