/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_session.c - snapshots of a domain, without Xen: operations side
 * by side, and others that come between.
 */
#include "domain_expect.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void test_busy(void **state)
{
	struct domain_folder folder;
	struct error_text text = { "" };

	must(create("a"));
	assert_int_equal(folder_open(&folder, FAKE_UUID, false, &text), 0);
	assert_int_equal(folder_lock(&folder, 0, &text), 0);
	expect_list("a");
	must_fail(create("b"), -EBUSY, "another command");
	folder_close(&folder);
	must(delete("a", false));
}

struct done {
	unsigned count;
	int error;
};

static void count_done(void *owner, const struct domain_snapshot_result *result)
{
	struct done *done = owner;

	done->count++;
	done->error = result->error;
}

static void wait_for(struct domain_snapshots *session, const struct done *done, unsigned count)
{
	struct pollfd poll_fd = { .fd = domain_snapshots_fd(session), .events = POLLIN };

	while (done->count < count) {
		assert_true(poll(&poll_fd, 1, PATIENCE_MS) > 0);
		domain_snapshots_dispatch(session);
	}
}

/* The folder goes with the last snapshot, while somebody looks into it. */
static void test_removed_meanwhile(void **state)
{
	struct domain_folder folder;
	struct error_text text = { "" };
	json_t *infos;

	must(create("a"));
	assert_int_equal(folder_open(&folder, FAKE_UUID, false, &text), 0);
	must(delete("a", false));
	if (info_read_all(&folder, &infos, &text))
		fail_msg("%s", text.text);
	assert_int_equal(json_array_size(infos), 0);
	json_decref(infos);
	assert_int_equal(folder_lock(&folder, 1, NULL), -ESTALE);
	folder_close(&folder);
}

static unsigned count_open(const char *path)
{
	char link[300], to[PATH_MAX];
	struct dirent *entry;
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	ssize_t length;

	while ((entry = readdir(dir))) {
		snprintf(link, sizeof(link), "/proc/self/fd/%s", entry->d_name);
		length = readlink(link, to, sizeof(to) - 1);
		to[length > 0 ? length : 0] = '\0';
		count += !strcmp(to, path);
	}
	closedir(dir);
	return count;
}

/* The same, while somebody waits to make a new one. */
static void test_removed_while_waiting(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "w", .domain = FAKE_NAME,
	};
	struct done done = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshots *session;
	struct domain_folder folder;
	struct error_text text = { "" };
	char lock[PATH_MAX];

	assert_int_equal(folder_open(&folder, FAKE_UUID, true, &text), 0);
	assert_int_equal(folder_lock(&folder, 1, &text), 0);
	assert_int_equal(folder_path(&folder, "lock", lock, &text), 0);
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, NULL, &text), 0);
	while (count_open(lock) < 2)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	folder_remove_empty(&folder);
	folder_close(&folder);
	wait_for(session, &done, 1);
	domain_snapshots_close(session);
	assert_int_equal(done.error, 0);
	expect_list("w");
	must(delete("w", false));
	expect_files(0);
}

/* While one saves memory, others look; it is cancelled, and all is undone. */
static void test_session(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .domain = FAKE_NAME };
	struct done made = { 0 }, looked = { 0 };
	const struct domain_snapshot_callbacks on_made = { .done = count_done, .owner = &made };
	const struct domain_snapshot_callbacks on_looked = { .done = count_done, .owner = &looked };
	struct domain_snapshot_operation *operation;
	struct domain_snapshots *session;
	struct error_text text = { "" };

	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	fake->hold_save = true;
	assert_int_equal(domain_snapshots_start(session, &request, &on_made, &operation, &text), 0);
	while (!fake->saving)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY, .domain = FAKE_NAME };
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(domain_snapshots_start(session, &request, &on_looked, NULL, &text), 0);
	wait_for(session, &looked, 4);
	assert_int_equal(looked.error, 0);
	assert_int_equal(made.count, 0);
	domain_snapshots_cancel(operation);
	wait_for(session, &made, 1);
	assert_int_equal(made.error, -ECANCELED);
	fake->hold_save = fake->aborted = false;
	domain_snapshots_close(session);
	expect_running(1);
	expect_disks("");
	expect_files(0);
}

static struct domain_snapshot_operation *_Atomic to_cancel;

static void cancel_at_stores(const char *step)
{
	if (strcmp(step, "stores") != 0)
		return;
	while (!to_cancel)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	domain_snapshots_cancel(to_cancel);
}

/* A clone that is cancelled when its memory is about to be copied leaves nothing. */
static void test_clone_cancelled(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly", .domain = FAKE_NAME,
	};
	struct done done = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshot_operation *operation;
	struct domain_snapshots *session;
	struct error_text text = { "" };
	char path[200];

	must(create("c"));
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	domain_step = cancel_at_stores;
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, &operation, &text), 0);
	to_cancel = operation;
	wait_for(session, &done, 1);
	domain_step = NULL;
	domain_snapshots_close(session);
	fake->aborted = false;
	assert_int_equal(done.error, -ECANCELED);
	snprintf(path, sizeof(path), "%s/dolly-xvda.cow", fake_dir);
	assert_int_equal(access(path, F_OK), -1);
	expect_files(2);
	must(delete("c", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_busy),
		DOMAIN_TEST(test_removed_meanwhile),
		DOMAIN_TEST(test_removed_while_waiting),
		DOMAIN_TEST(test_session),
		DOMAIN_TEST(test_clone_cancelled),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: side by side", tests, NULL, NULL);
}
