/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_faults.c - snapshots of a domain, without Xen: syncing each file
 * and directory fails in turn.
 */
#include "domain_expect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned syncs_left;		/* syncs until one fails; 0: none fails */
static unsigned directory_syncs;	/* of fake_dir */
static const char *full_until_gone;	/* while this file exists, no file can be written */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st, directory;

	if (!fstat(fd, &st) && !stat(fake_dir, &directory) && st.st_dev == directory.st_dev && st.st_ino == directory.st_ino)
		directory_syncs++;
	if (full_until_gone && !access(full_until_gone, F_OK) && !fstat(fd, &st) && S_ISREG(st.st_mode)) {
		errno = ENOSPC;
		return -1;
	}
	if (syncs_left && !--syncs_left) {
		errno = EIO;
		return -1;
	}
	return __real_fsync(fd);
}

/* Sync number @number fails. True: that many were made. */
static bool run_failing(struct domain_snapshot_request request, unsigned number, struct outcome *outcome)
{
	bool failed;

	syncs_left = number;
	*outcome = fake_run(request);
	failed = !syncs_left;
	syncs_left = 0;
	return failed;
}

/* Complete and listed, or undone: the domain continues to run, and nothing is left. */
static void sweep_create(struct domain_snapshot_request request)
{
	struct outcome outcome;
	unsigned number = 0;
	bool failed;

	request.command = DOMAIN_SNAPSHOT_CREATE;
	request.name = "f";
	do {
		failed = run_failing(request, ++number, &outcome);
		expect_list(outcome.error ? "" : "f");
		expect_disks(outcome.error ? "" : "f");
		expect_no_records();
		if (outcome.error) {
			expect_files(0);
			expect_running(1);
			continue;
		}
		if (!fake->there)
			must(revert("f"));
		expect_running(1);
		must(delete("f", false));
		expect_files(0);
	} while (failed);
	assert_true(number > 4);
}

static void test_create(void **state)
{
	sweep_create((struct domain_snapshot_request){ 0 });
}

static void test_create_shutdown(void **state)
{
	sweep_create((struct domain_snapshot_request){ .after = DOMAIN_SNAPSHOT_SHUTDOWN });
}

static void test_create_disks(void **state)
{
	sweep_create((struct domain_snapshot_request){ .disk_only = true });
}

/* The files of a clone and their names are durable; an incomplete clone is gone. */
static void test_clone(void **state)
{
	static const char *const files[] = { "dolly-xvda.cow", "dolly-xvdb.cow", "dolly.save" };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly" };
	struct outcome outcome;
	unsigned number = 0;
	char path[200];
	bool failed;

	must(create("c"));
	do {
		directory_syncs = 0;
		failed = run_failing(request, ++number, &outcome);
		/* if it exists and the next command has to clean up after it, the error says so */
		assert_int_equal(failed, outcome.text[0] != 0);
		if (!outcome.error)
			must(list());
		for (unsigned i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "%s/%s", fake_dir, files[i]);
			assert_int_equal(unlink(path), outcome.error ? -1 : 0);
		}
		expect_files(2);
		assert_int_equal(count_there("dolly"), 0);
	} while (failed);
	/* two stores and a save file */
	assert_true(directory_syncs >= 3);
	must(delete("c", false));
}

/* A file system that is full, until the memory of a snapshot is deleted: that works, also when it is killed at any step. */
static void test_delete_on_full(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "b" };
	bool killed = true;
	char save[200];

	snprintf(save, sizeof(save), "%s/snapshots/" FAKE_UUID "/b.save", fake_dir);
	must(create("a"));
	for (unsigned kill = 1; killed; kill++) {
		must(create("b"));
		must(create("c"));
		full_until_gone = save;
		killed = fake_run_killed(request, kill);
		expect_list("a c");
		expect_disks("a c");
		full_until_gone = NULL;
		must(delete("c", false));
		expect_files(2);
		assert_string_equal(list().current, "a");
	}
	must(delete("a", false));
	expect_files(0);
}

static json_t *read_state(char path[200])
{
	json_t *state;

	snprintf(path, 200, "%s/snapshots/" FAKE_UUID "/" STATE_FILE, fake_dir);
	state = json_load_file(path, 0, NULL);
	assert_non_null(state);
	return state;
}

/* The domain has another name now than in the snapshot, which is its own intent; and it is shut off, so only its state says so. */
static void test_delete_on_full_renamed(void **state)
{
	json_t *now;
	char save[200], path[200];

	must(create("a"));
	must(create("b"));
	fake_stop_domain();
	now = read_state(path);
	json_object_set_new(now, "name", json_string("renamed"));
	assert_int_equal(json_dump_file(now, path, 0), 0);
	json_decref(now);

	snprintf(save, sizeof(save), "%s/snapshots/" FAKE_UUID "/b.save", fake_dir);
	full_until_gone = save;
	must(fake_run((struct domain_snapshot_request){
		.command = DOMAIN_SNAPSHOT_DELETE, .name = "b", .domain = "renamed" }));
	full_until_gone = NULL;
	now = read_state(path);
	assert_string_equal(info_string(now, "name"), "renamed");
	assert_string_equal(info_string(now, "current"), "a");
	json_decref(now);
	must(fake_run((struct domain_snapshot_request){
		.command = DOMAIN_SNAPSHOT_DELETE, .name = "a", .domain = "renamed" }));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_create),
		DOMAIN_TEST(test_create_shutdown),
		DOMAIN_TEST(test_create_disks),
		DOMAIN_TEST(test_clone),
		DOMAIN_TEST(test_delete_on_full),
		DOMAIN_TEST(test_delete_on_full_renamed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: what cannot be made durable", tests, NULL, NULL);
}
