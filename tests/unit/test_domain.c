/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain.c - snapshots of a domain, without Xen: the operations, what
 * they refuse, and what is left when they are killed at each of their steps.
 * The disks are stores at real tapdisks, the domain is domain_fake.c's.
 */
#include "domain_fake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client_private.h"
#include "tap-ctl.h"

#define PATIENCE_MS 20000

static struct outcome create(const char *name)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = name });
}

static struct outcome revert(const char *name)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = name });
}

static struct outcome delete(const char *name, bool children)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_DELETE, .name = name, .children = children });
}

static struct outcome list(void)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY });
}

#define must(call) \
	do { \
		struct outcome must_ = (call); \
		if (must_.error) \
			fail_msg("%s: %d: %s", #call, must_.error, must_.text); \
	} while (0)

/* It failed with that error, and says so in one line that has @word in it. */
static void must_fail(struct outcome outcome, int error, const char *word)
{
	if (outcome.error != error || !strstr(outcome.text, word) || strchr(outcome.text, '\n'))
		fail_msg("%d, \"%s\"; expected %d, \"...%s...\"", outcome.error, outcome.text, error, word);
}

static void expect_list(const char *names)
{
	struct outcome outcome = list();

	must(outcome);
	assert_string_equal(outcome.names, names);
}

/* The names of the snapshots that a disk has. */
static void expect_disk(unsigned number, const char *names)
{
	struct domain_disks disks = { 0 };
	struct domain_disk disk = { .vdev = "xvda", .pid = -1, .minor = -1 };
	char path[128], found[400] = "";
	struct error_text text = { "" };
	json_t *snapshots, *one;
	size_t i;

	fake_store(path, number);
	assert_true(asprintf(&disk.target, "%s:%s", fake_type(number), path) > 0);
	assert_int_equal(disks_append(&disks, &disk), 0);
	assert_int_equal(disks_open(&disks, &text), 0);
	assert_int_equal(tapctl_snapshot_list(&(struct tapctl_disk){ disks.disk[0].pid, disks.disk[0].minor }, &snapshots,
					      PATIENCE_MS, &text), 0);
	json_array_foreach(snapshots, i, one) {
		size_t used = strlen(found);

		snprintf(found + used, sizeof(found) - used, "%s%s", used ? " " : "", info_string(one, "name"));
	}
	json_decref(snapshots);
	disks_close(&disks);
	disks_free(&disks);
	assert_string_equal(found, names);
}

static void expect_disks(const char *names)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		expect_disk(i, names);
}

/* Files in the domain's folder, the lock and the state not counted. */
static unsigned count_files(void)
{
	struct dirent *entry;
	unsigned count = 0;
	char path[200];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID, fake_dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0 && strcmp(entry->d_name, STATE_FILE) != 0;
	if (dir)
		closedir(dir);
	return count;
}

static void expect_files(unsigned count)
{
	assert_int_equal(count_files(), count);
}

/* Of what groups of disks have decided nobody needs a record any more. */
static void expect_no_records(void)
{
	struct dirent *entry;
	char path[200];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/state/groups", fake_dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			fail_msg("%s/%s is left", path, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

static void expect_running(int memory)
{
	assert_true(fake->there);
	assert_false(fake->suspended);
	assert_false(fake->paused);
	assert_int_equal(fake->memory, memory);
}

/* ---- */

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
	struct domain_folder folder;
	struct error_text text = { "" };
	json_t *info;

	must(create("a"));
	must(create("b"));
	must(create("c"));
	must(fake_run(edit));
	must(delete("b", false));
	assert_int_equal(folder_open(&folder, FAKE_UUID, false, &text), 0);
	assert_int_equal(info_read(&folder, "c", &info, &text), 0);
	assert_string_equal(info_string(info, "parent"), "a");
	json_decref(info);
	folder_close(&folder);
	must(delete("c", false));
	assert_string_equal(list().current, "a");
	must(delete(NULL, false));
	expect_disks("");
	expect_files(0);
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

/* Whatever fails, the domain runs on, and nothing is left. */
static void test_failures(void **state)
{
	struct error_text text = { "" };
	struct tapctl_disk second = { fake->pid[1], fake->minor[1] };
	struct tapctl_snapshot snapshot = { .name = "x", .timeout_ms = PATIENCE_MS };

	fake->fail_save = -EIO;
	must_fail(create("x"), -EIO, "the guest did not answer");
	fake->fail_save = 0;
	expect_running(1);
	expect_disks("");
	expect_files(0);

	/* the second disk has one of that name: it stays, and the first gets none */
	assert_int_equal(tapctl_snapshot_group(&second, 1, &snapshot, &text), 0);
	must_fail(create("x"), -EEXIST, "xvdb");
	expect_running(1);
	expect_disk(0, "");
	expect_disk(1, "x");
	assert_int_equal(tapctl_snapshot_delete(&second, 1, "x", PATIENCE_MS, &text), 0);

	/* a disk that has lost its snapshot is found before the domain is touched */
	must(create("x"));
	assert_int_equal(tapctl_snapshot_delete(&second, 1, "x", PATIENCE_MS, &text), 0);
	fake->memory = 5;
	must_fail(revert("x"), -ENOENT, "xvdb");
	expect_running(5);
	must(delete("x", false));
	expect_disks("");

	/* it is at the snapshot though it does not start, and the next try starts it */
	must(create("x"));
	fake->fail_restore = -EIO;
	must_fail(revert("x"), -EIO, "does not want to");
	fake->fail_restore = 0;
	assert_false(fake->there);
	must(revert("x"));
	expect_running(5);
	must(delete("x", false));
	expect_files(0);
}

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
	char folder[100], away[120];

	note_stood(step);
	if (strcmp(step, "prepared"))
		return;
	snprintf(folder, sizeof(folder), "%s/state/groups", fake_dir);
	snprintf(away, sizeof(away), "%s.away", folder);
	assert_int_equal(rename(folder, away), 0);
}

/* The domain stands still until all disks do, not until what they keep is durable; it is no harm when that fails. */
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

static void test_disks_only(void **state)
{
	const char *const left_out[] = { "xvdb", NULL };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "d", .disk_only = true };

	must(fake_run(request));
	request.name = "half";
	request.leave_out = left_out;
	must(fake_run(request));
	expect_disk(0, "d half");
	expect_disk(1, "d");
	request.live = true;
	must_fail(fake_run(request), -EINVAL, "live");
	/* without memory it is left off */
	must(revert("d"));
	assert_false(fake->there);
	/* and can have snapshots while it is */
	must(create("off"));
	expect_list("d half off");
	expect_disk(0, "d half off");
	expect_disk(1, "d off");
	must(delete("half", false));
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = "off", .after = DOMAIN_PAUSED };
	must(fake_run(request));
	assert_true(fake->there && fake->paused);
	fake->paused = false;
	must(delete("d", true));
	expect_disks("");
	expect_files(0);
}

/* A raw disk is refused, or moves onto a store; the domain's configuration goes on saying "aio:". */
static void test_raw(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "r" };
	char path[128];
	int fd;

	fake_stop_domain();
	fake->raw = true;
	fake_store(path, 1);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	fake_start_domain();
	fake->memory = 6;
	must_fail(fake_run(request), -EOPNOTSUPP, "--store");
	expect_running(6);
	expect_disk(0, "");
	request.store = fake_dir;
	must(fake_run(request));
	expect_disks("r");
	fake->memory = 7;
	must(revert("r"));
	expect_running(6);
	must(delete("r", false));
	expect_disks("");
}

static void test_changed(void **state)
{
	const struct domain_snapshot_request force = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "a", .force = true };

	must(create("a"));
	fake->memory = 4;
	fake->attached = true;
	must_fail(revert("a"), -ESTALE, "disk xvdc is new");
	fake->attached = false;
	fake->detached = true;
	must_fail(revert("a"), -ESTALE, "disk xvdb has been detached");
	expect_running(4);
	must(fake_run(force));
	fake->detached = false;
	expect_running(1);
	must(delete("a", false));
}

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

static void test_damaged(void **state)
{
	char path[300];
	int fd;

	must(create("a"));
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID "/snapshotdata-b.xl", fake_dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "{\"name\": \"b\"}", 13), 13);
	close(fd);
	must_fail(list(), -EBADMSG, "snapshotdata-b.xl: damaged");
	must_fail(revert("b"), -EBADMSG, "damaged");
	assert_int_equal(unlink(path), 0);
	must(delete("a", false));
}

static void test_hook(void **state)
{
	char hook[100], log[100], words[200] = "";
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "h", .hook = hook };
	FILE *file;

	snprintf(hook, sizeof(hook), "%s/hook", fake_dir);
	snprintf(log, sizeof(log), "%s/hook.log", fake_dir);
	file = fopen(hook, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\necho $1 $2 >>%s\n[ $1 = thaw ] || [ ! -e %s/refuse ] || { echo not now >&2; exit 1; }\n", log,
		fake_dir);
	fclose(file);
	assert_int_equal(chmod(hook, 0700), 0);
	must(fake_run(request));
	must(revert("h"));
	must(delete("h", false));
	snprintf(words, sizeof(words), "%s/refuse", fake_dir);
	close(open(words, O_WRONLY | O_CREAT, 0600));
	must_fail(fake_run(request), -EIO, "not now");
	unlink(words);
	memset(words, 0, sizeof(words));
	file = fopen(log, "r");
	assert_true(fread(words, 1, sizeof(words) - 1, file) > 0);
	fclose(file);
	assert_string_equal(words, "freeze guest\nthaw guest\nthaw guest\nfreeze guest\nthaw guest\n");
	expect_running(1);
	expect_files(0);
}

static void test_clone(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly",
	};
	struct arguments args = { .timeout_ms = PATIENCE_MS };
	struct error_text text = { "" };
	struct outcome outcome;
	char target[200];
	json_t *disk;
	int pid, minor;

	must(create("c"));
	outcome = fake_run(request);
	must(outcome);
	assert_int_equal(access(outcome.clone, R_OK), 0);
	must_fail(fake_run(request), -EEXIST, "is there already");
	/* its disk is one that can be opened beside the original's */
	snprintf(target, sizeof(target), "cow:%s/dolly-xvda.cow", fake_dir);
	args.target = target;
	if (disk_create(&args, &pid, &minor, &disk, &text))
		fail_msg("%s", text.text);
	assert_int_equal(json_integer_value(json_object_get(disk, "sector_size")), 4096);
	json_decref(disk);
	assert_int_equal(disk_destroy(pid, minor, false, PATIENCE_MS, &text), 0);
	must_fail(delete("c", false), -EBUSY, "dolly-xvda.cow");
	for (char letter = 'a'; letter <= 'b'; letter++) {
		snprintf(target, sizeof(target), "%s/dolly-xvd%c.cow", fake_dir, letter);
		assert_int_equal(unlink(target), 0);
	}
	must(delete("c", false));
	expect_files(0);
}

/* A clone without memory boots from a config file. */
static void test_clone_config(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .disk_only = true };
	char words[2000] = "", path[200];
	struct outcome outcome;
	FILE *file;

	must(fake_run(request));
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "polly" };
	outcome = fake_run(request);
	must(outcome);
	file = fopen(outcome.clone, "r");
	assert_non_null(file);
	assert_true(fread(words, 1, sizeof(words) - 1, file) > 0);
	fclose(file);
	assert_non_null(strstr(words, "name = \"polly\""));
	assert_non_null(strstr(words, "memory = 256\n"));
	assert_non_null(strstr(words, "on_reboot = \"rename-restart\""));
	assert_non_null(strstr(words, "vdev=xvdb,script=block-tapsnap,access=rw,target=cow:"));
	assert_non_null(strstr(words, "bridge=br0"));
	assert_null(strstr(words, "mac="));
	assert_null(strstr(words, FAKE_UUID));
	for (char letter = 'a'; letter <= 'b'; letter++) {
		snprintf(path, sizeof(path), "%s/polly-xvd%c.cow", fake_dir, letter);
		assert_int_equal(unlink(path), 0);
	}
	must(delete("c", false));
}

/* ---- killed at each step ---- */

/* All of it, or nothing. */
static void expect_all_or_nothing(const char *name)
{
	struct outcome outcome = list();
	bool whole;

	must(outcome);
	whole = !strcmp(outcome.names, name);
	if (!whole)
		assert_string_equal(outcome.names, "");
	expect_running(3);
	expect_disks(whole ? name : "");
	expect_files(whole ? 2 : 0);
	expect_no_records();
	if (whole) {
		must(revert(name));
		expect_running(3);
		must(delete(name, false));
	}
}

static void test_create_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	unsigned step = 0;
	bool killed;

	fake->memory = 3;
	do {
		killed = fake_run_killed(request, ++step);
		expect_all_or_nothing("k");
	} while (killed);
	assert_true(step > 10);
}

/* The host went down at each step, and the domain with it. */
static void test_create_power_cut(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	struct outcome outcome;
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		fake_stop_domain();
		outcome = fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER, .domain = FAKE_UUID });
		must(outcome);
		if (count_files()) {
			expect_list("k");
			expect_disks("k");
			must(revert("k"));
			expect_running(1);
			must(delete("k", false));
		} else {
			expect_disks("");
			fake_start_domain();
			fake->memory = 1;
		}
		expect_files(0);
		expect_no_records();
	} while (killed);
}

static void test_revert_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;
	bool killed;

	fake->memory = 3;
	must(create("k"));
	do {
		fake->memory = 4;
		killed = fake_run_killed(request, ++step);
		expect_list("k");
		/* before the domain was destroyed nothing was lost, after it all is at the snapshot */
		expect_running(killed && step == 1 ? 4 : 3);
		expect_disks("k");
		expect_files(2);
		expect_no_records();
	} while (killed);
	assert_true(step > 6);
}

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

/* A disk that cannot go back when the domain is destroyed already: the next command goes on. */
static void test_revert_half_way(void **state)
{
	must(create("k"));
	fake->memory = 8;
	domain_step = lose_store;
	must_fail(revert("k"), -ENOENT, "next command goes on");
	domain_step = NULL;
	assert_false(fake->there);
	expect_list("k");
	must_fail(create("other"), -ENOENT, "an earlier revert");
	move_store(false);
	expect_list("k");
	expect_running(1);
	expect_files(2);
}

static void test_delete_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "k" };
	unsigned step = 0;
	bool killed;

	do {
		must(create("k"));
		killed = fake_run_killed(request, ++step);
		expect_list("");
		expect_disks("");
		expect_files(0);
	} while (killed);
	assert_true(step > 2);
	expect_running(1);
}

static void test_clone_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "k", .new_name = "molly",
	};
	char path[200];

	must(create("k"));
	assert_true(fake_run_killed(request, 1));
	expect_list("k");
	snprintf(path, sizeof(path), "%s/molly-xvda.cow", fake_dir);
	assert_int_equal(access(path, F_OK), -1);
	must(delete("k", false));
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back),
		TEST(test_tree),
		TEST(test_refusals),
		TEST(test_failures),
		TEST(test_goes_on_early),
		TEST(test_disks_only),
		TEST(test_raw),
		TEST(test_changed),
		TEST(test_busy),
		TEST(test_removed_meanwhile),
		TEST(test_removed_while_waiting),
		TEST(test_damaged),
		TEST(test_hook),
		TEST(test_clone),
		TEST(test_clone_config),
		TEST(test_create_killed),
		TEST(test_create_power_cut),
		TEST(test_revert_killed),
		TEST(test_revert_half_way),
		TEST(test_delete_killed),
		TEST(test_clone_killed),
		TEST(test_session),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
