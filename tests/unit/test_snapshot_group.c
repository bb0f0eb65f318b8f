/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_snapshot_group.c - a snapshot of three disks: all of them or none,
 * whatever fails, dies or is killed, at every step. Over the driver of
 * snapshot_process.h, which has no data; the tests check the commands that
 * each disk received, and that no disk stays frozen or in doubt.
 */
#include "snapshot_group.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "array.h"
#include "cow.h"
#include "overlay.h"
#include "protocol.h"

#define LONG_LEASE_MS 30000	/* no test waits for it: things that have to end at once end earlier */

static int take(struct tapctl_snapshot *snapshot, struct error_text *text)
{
	*snapshot = (struct tapctl_snapshot){ .name = "snap", .lease_ms = LONG_LEASE_MS, .timeout_ms = TIMEOUT_MS };
	return tapctl_snapshot_group(disks, NR_DISKS, snapshot, text);
}

/* Waits until the living disks are settled. @listed: whether the snapshot is listed; -1: either, but the same on all. */
static void expect_settled(int listed)
{
	for (unsigned i = 0; i < NR_DISKS; i++) {
		const volatile struct fake_disk *disk = processes[i].disk;

		if (kill(processes[i].pid, 0) || disk->die[SNAPSHOT_FREEZE] || disk->die[SNAPSHOT_PREPARE] ||
		    disk->die[SNAPSHOT_COMMIT])
			continue;
		wait_until(!disk->frozen && !disk->prepared[0]);
		if (listed < 0)
			listed = disk->listed[0] != 0;
		assert_int_equal(disk->listed[0] != 0, listed);
	}
}

static void test_all_of_them(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };

	/* each stood still for 1 ms; from the first one's freeze to the last one's thaw it was longer */
	processes[0].disk->thawed_ns = 17000000;
	processes[1].disk->thawed_ns = 12000000;
	processes[2].disk->thawed_ns = 15000000;
	if (take(&snapshot, &text))
		fail_msg("%s", text.text);
	assert_true(snapshot.taken);
	assert_true(snapshot.stall_us > 5999 && snapshot.stall_us < 6001);
	expect_settled(1);
	expect_records(0);
}

static void test_one_disk_needs_no_decision(void **state)
{
	struct tapctl_snapshot snapshot = { .name = "snap", .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };

	assert_int_equal(tapctl_snapshot_group(disks, 1, &snapshot, &text), 0);
	assert_true(snapshot.taken);
	assert_true(snapshot.stall_us >= 2000);
	assert_int_equal(processes[0].disk->calls[SNAPSHOT_CREATE], 1);
	assert_int_equal(access(fake_state, F_OK), -1);
}

static void test_bad_arguments(void **state)
{
	struct tapctl_snapshot snapshot = { .name = "snap", .timeout_ms = TIMEOUT_MS };
	struct tapctl_disk twice[] = { disks[0], disks[1], disks[0] };
	struct error_text text = { "" };

	assert_int_equal(tapctl_snapshot_group(twice, 3, &snapshot, &text), -EINVAL);
	assert_non_null(strstr(text.text, "twice"));
	assert_int_equal(tapctl_snapshot_group(disks, 0, &snapshot, NULL), -EINVAL);
	snapshot.name = "\xff";
	assert_int_equal(tapctl_snapshot_group(disks, 3, &snapshot, NULL), -EINVAL);
	snapshot.name = "snap";
	disks[2].minor++;
	assert_int_equal(tapctl_snapshot_group(disks, 3, &snapshot, NULL), -ENODEV);
	expect_settled(0);
	expect_records(0);
}

/* A failure of each command on each disk, before the decision. */
static void fails_at(enum snapshot_op op, unsigned which, bool late)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };

	processes[which].disk->fail[op] = -EIO;
	processes[which].disk->fail_late = late;
	assert_int_equal(take(&snapshot, &text), -EIO);
	assert_false(snapshot.taken);
	assert_non_null(strstr(text.text, "minor"));
	expect_settled(0);
	expect_records(0);
	processes[which].disk->fail[op] = 0;
	/* and the next try works */
	if (take(&snapshot, &text))
		fail_msg("op %d, disk %u: %s", op, which, text.text);
	expect_settled(1);
	assert_int_equal(tapctl_snapshot_delete(disks, NR_DISKS, "snap", TIMEOUT_MS, &text), 0);
	expect_settled(0);
}

static void test_failures_before_the_decision(void **state)
{
	for (unsigned i = 0; i < NR_DISKS; i++) {
		fails_at(SNAPSHOT_FREEZE, i, false);
		fails_at(SNAPSHOT_PREPARE, i, false);
		fails_at(SNAPSHOT_PREPARE, i, true);
	}
}

static void test_failure_after_the_decision(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };
	char record[400], line[16] = "";
	int fd;

	processes[1].disk->fail[SNAPSHOT_COMMIT] = -EIO;
	assert_int_equal(take(&snapshot, &text), -EIO);
	assert_true(snapshot.taken);
	assert_string_equal(processes[0].disk->listed, "snap");
	assert_string_equal(processes[2].disk->listed, "snap");
	assert_string_equal(processes[1].disk->prepared, "snap");
	assert_int_equal(count_records(record, sizeof(record)), 1);
	assert_non_null(strstr(text.text, record));
	assert_string_equal(record, processes[1].disk->decision);
	fd = open(record, O_RDONLY);
	assert_int_equal(read(fd, line, sizeof(line)), 7);
	close(fd);
	assert_string_equal(line, "commit\n");
}

static unsigned lost;

static void lose_connection(const char *step)
{
	char path[108];

	if (strcmp(step, "decided"))
		return;
	snprintf(path, sizeof(path), CONTROL_SOCKET_FORMAT ".new", tapctl_run_dir(), processes[1].pid);	/* its name at bind() */
	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_un peer = { 0 };
		socklen_t length = sizeof(peer);

		if (fd == tapctl_fd(processes[1].ctl) || getpeername(fd, (struct sockaddr *)&peer, &length) ||
		    strcmp(peer.sun_path, path))
			continue;
		assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
		lost++;
	}
}

/* A disk that cannot be told the decision learns it by itself, and the call waits for that. */
static void test_disk_not_told(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };
	int error;

	lost = 0;
	client_group_step = lose_connection;
	error = take(&snapshot, &text);
	client_group_step = NULL;
	assert_int_equal(lost, 1);
	if (error)
		fail_msg("%d: %s", error, text.text);
	for (unsigned i = 0; i < NR_DISKS; i++)
		assert_string_equal(processes[i].disk->listed, "snap");
	expect_records(0);
}

static ino_t synced[16];
static unsigned nr_synced;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;

	if (nr_synced < ARRAY_SIZE(synced) && !fstat(fd, &st))
		synced[nr_synced++] = st.st_ino;
	return __real_fsync(fd);
}

static unsigned nr_synced_at_decision;

static void note_syncs(const char *step)
{
	if (!strcmp(step, "prepared"))
		nr_synced_at_decision = nr_synced;
}

static bool was_synced(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	for (unsigned i = 0; i < nr_synced_at_decision; i++) {
		if (synced[i] == st.st_ino)
			return true;
	}
	return false;
}

/*
 * Another process may have made the record's directories and died before they were durable: they have
 * to be for this decision.
 */
static void test_directories_that_are_there_last(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };
	char path[120];

	snprintf(path, sizeof(path), "%s/groups", fake_state);
	assert_int_equal(mkdir(fake_state, 0700), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	nr_synced = nr_synced_at_decision = 0;
	client_group_step = note_syncs;
	assert_int_equal(take(&snapshot, &text), 0);
	client_group_step = NULL;
	assert_true(was_synced(fake_dir));
	assert_true(was_synced(fake_state));
}

/* No room for the record: there is no decision, and no snapshot. */
static void test_no_decision_to_be_had(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };
	int fd;

	fd = open(fake_state, O_WRONLY | O_CREAT, 0600);	/* a file where the directory should be */
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(take(&snapshot, &text), -ENOTDIR);
	assert_false(snapshot.taken);
	assert_int_equal(processes[0].disk->calls[SNAPSHOT_FREEZE], 0);
	unlink(fake_state);
	expect_settled(0);
}

/* A tapdisk exits at a command. */
static void test_disk_dies(void **state)
{
	static const enum snapshot_op ops[] = { SNAPSHOT_FREEZE, SNAPSHOT_PREPARE, SNAPSHOT_COMMIT };

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		struct tapctl_snapshot snapshot;
		struct error_text text = { "" };

		processes[i].disk->die[ops[i]] = true;
		assert_int_equal(take(&snapshot, &text), -EPIPE);
		assert_int_equal(snapshot.taken, ops[i] == SNAPSHOT_COMMIT);
		expect_settled(snapshot.taken);
		expect_records(snapshot.taken);
		fake_stop(&processes[i]);
		fake_start(&processes[i]);
		disks[i] = (struct tapctl_disk){ processes[i].pid, processes[i].minor };
	}
}

/* A tapdisk does not answer: the others do not wait longer than the lease. */
static void test_disk_hangs(void **state)
{
	struct tapctl_snapshot snapshot = { .name = "snap", .lease_ms = 50, .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };

	processes[2].disk->hold[SNAPSHOT_FREEZE] = true;
	assert_int_equal(tapctl_snapshot_group(disks, NR_DISKS, &snapshot, &text), -ETIMEDOUT);
	expect_settled(0);
	processes[2].disk->hold[SNAPSHOT_FREEZE] = false;
	/* stopped altogether */
	text.text[0] = '\0';
	kill(processes[0].pid, SIGSTOP);
	assert_int_equal(tapctl_snapshot_group(disks, NR_DISKS, &snapshot, &text), -ETIMEDOUT);
	kill(processes[0].pid, SIGCONT);
	expect_settled(0);
}

static int take_in_child(void)
{
	struct tapctl_snapshot snapshot;

	return take(&snapshot, NULL);
}

static void clear_snapshot(void)
{
	for (unsigned i = 0; i < NR_DISKS; i++)
		processes[i].disk->listed[0] = '\0';
}

static void test_coordinator_killed_between_steps(void **state)
{
	static const struct { const char *step; int listed; } steps[] = {
		{ "frozen", 0 }, { "prepared", 0 }, { "decided", 1 }, { "committed", 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		killed_after = steps[i].step;
		coordinate(take_in_child, -1);
		expect_settled(steps[i].listed);
		clear_snapshot();
	}
	killed_after = NULL;
}

/* One disk finds no room for its record: that waits, and the disk with it for nothing else. */
static void test_coordinator_killed_without_room(void **state)
{
	static const struct { const char *step; enum snapshot_op op; } ends[] = {
		{ "prepared", SNAPSHOT_ABORT }, { "decided", SNAPSHOT_COMMIT },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		struct fake_disk *disk = processes[1].disk;
		unsigned before = disk->calls[ends[i].op];

		disk->fail[ends[i].op] = -ENOSPC;
		killed_after = ends[i].step;
		coordinate(take_in_child, -1);
		wait_until(disk->calls[ends[i].op] >= before + 3);
		assert_true(disk->prepared[0]);
		disk->fail[ends[i].op] = 0;
		expect_settled(ends[i].op == SNAPSHOT_COMMIT);
		clear_snapshot();
	}
	killed_after = NULL;
}

static void test_coordinator_killed_within_steps(void **state)
{
	static const enum snapshot_op ops[] = { SNAPSHOT_FREEZE, SNAPSHOT_PREPARE, SNAPSHOT_COMMIT };

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		for (int which = 0; which < NR_DISKS; which++) {
			processes[which].disk->kill_at = (int)ops[i];
			coordinate(take_in_child, which);
			expect_settled(ops[i] == SNAPSHOT_COMMIT);
			clear_snapshot();
			processes[which].disk->kill_at = -1;
		}
	}
}

static void test_decided_otherwise(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };

	client_group_step = decide_against;
	assert_int_equal(take(&snapshot, &text), -ECANCELED);
	client_group_step = NULL;
	assert_false(snapshot.taken);
	expect_settled(0);
}

static void test_delete_and_revert(void **state)
{
	struct tapctl_snapshot snapshot;
	struct error_text text = { "" };

	assert_int_equal(take(&snapshot, &text), 0);
	/* not on all of them */
	processes[2].disk->listed[0] = '\0';
	assert_int_equal(tapctl_snapshot_delete(disks, NR_DISKS, "snap", TIMEOUT_MS, &text), -ENOENT);
	assert_int_equal(tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, NULL), -ENOENT);
	for (unsigned i = 0; i < NR_DISKS; i++)
		assert_int_equal(processes[i].disk->calls[SNAPSHOT_DELETE] + processes[i].disk->calls[SNAPSHOT_REVERT], 0);
	strcpy(processes[2].disk->listed, "snap");
	assert_int_equal(tapctl_snapshot_delete(disks, NR_DISKS, "snap", TIMEOUT_MS, NULL), 0);
	expect_settled(0);
}

static char image[PATH_MAX], store[PATH_MAX + 8];

/* A raw disk, in place of the first one. */
static int setup_raw(void **state)
{
	char target[PATH_MAX + 8];

	snprintf(image, sizeof(image), "%s/image", fake_dir);
	snprintf(store, sizeof(store), "%s.cow", image);
	snprintf(target, sizeof(target), "aio:%s", image);
	close(open(image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(truncate(image, FAKE_SECTORS * SECTOR_SIZE), 0);
	fake_start_on(&processes[0], target);
	disks[0] = (struct tapctl_disk){ processes[0].pid, processes[0].minor, .store = fake_dir };
	return 0;
}

static int teardown_raw(void **state)
{
	fake_stop(&processes[0]);
	overlay_remove(image, NULL);
	unlink(store);
	return unlink(image);
}

/* The store is made; then the snapshot is abandoned. */
static void make_and_undo(void (*meanwhile)(void))
{
	struct tapctl_snapshot snapshot = { .name = "snap", .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };
	struct tapctl_group *group;

	if (tapctl_group_begin(&group, disks, 1, &snapshot, &text))
		fail_msg("%s", text.text);
	assert_int_equal(access(store, F_OK), 0);
	meanwhile();
	tapctl_group_end(group);
}

static void nothing(void)
{
}

static void move_disk(void)
{
	struct overlay_install what = { .path = image, .store = store, .name = "other" };
	struct error_text text = { "" };

	json_decref(fake_call(&processes[0], fake_request(&processes[0], "pause")));
	if (overlay_install(&what, &text))
		fail_msg("%s", text.text);
}

static struct cow_device *opened;

static void open_store(void)
{
	assert_int_equal(cow_file_open(&opened, store, false, NULL), 0);
}

/* A paused disk does not report its store: only its record shows it, and until there is a record the lock. */
static void test_store_that_another_took(void **state)
{
	make_and_undo(nothing);
	assert_int_equal(access(store, F_OK), -1);
	make_and_undo(open_store);
	assert_int_equal(access(store, F_OK), 0);
	cow_file_close(opened);
	make_and_undo(move_disk);
	assert_int_equal(access(store, F_OK), 0);
	json_decref(fake_call(&processes[0], fake_request(&processes[0], "unpause")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISKS(test_all_of_them),
		ON_DISKS(test_one_disk_needs_no_decision),
		ON_DISKS(test_bad_arguments),
		ON_DISKS(test_failures_before_the_decision),
		ON_DISKS(test_failure_after_the_decision),
		ON_DISKS(test_disk_not_told),
		ON_DISKS(test_directories_that_are_there_last),
		ON_DISKS(test_no_decision_to_be_had),
		ON_DISKS(test_disk_dies),
		ON_DISKS(test_disk_hangs),
		ON_DISKS(test_coordinator_killed_between_steps),
		ON_DISKS(test_coordinator_killed_within_steps),
		ON_DISKS(test_coordinator_killed_without_room),
		ON_DISKS(test_decided_otherwise),
		ON_DISKS(test_delete_and_revert),
		cmocka_unit_test_setup_teardown(test_store_that_another_took, setup_raw, teardown_raw),
	};

	return cmocka_run_group_tests_name("snapshot group", tests, fake_make_directory, fake_remove_directory);
}
