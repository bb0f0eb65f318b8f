/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain.c - snapshots of a domain, without Xen: the operations, and the
 * requests that they refuse. Real tapdisks serve the disks, which are stores;
 * the domain is domain_fake.c's.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "array.h"
#include "client_internal.h"
#include "protocol.h"

static json_t *read_info(const char *name)
{
	struct domain_directory directory;
	struct error_text text = { "" };
	json_t *info;

	if (directory_open(&directory, FAKE_UUID, false, &text) || info_read(&directory, name, &info, &text))
		fail_msg("%s", text.text);
	directory_close(&directory);
	return info;
}

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
	/* without memory the domain is left shut off */
	must(revert("d"));
	assert_false(fake->there);
	/* and can have snapshots in that state */
	must(create("off"));
	expect_list("d half off");
	expect_disk(0, "d half off");
	expect_disk(1, "d off");
	must(delete("half", false));
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = "off", .after = DOMAIN_SNAPSHOT_PAUSED };
	must(fake_run(request));
	assert_true(fake->there && fake->paused);
	fake->paused = false;
	must(delete("d", true));
	expect_disks("");
	expect_files(0);
}

/* A domain that cannot be booted is noticed while it runs. */
static void test_unbootable(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "d", .disk_only = true };

	must(fake_run(request));
	fake->memory = 2;
	fake->unbootable = true;
	request.command = DOMAIN_SNAPSHOT_REVERT;
	for (request.after = DOMAIN_SNAPSHOT_RUNNING; request.after <= DOMAIN_SNAPSHOT_PAUSED; request.after++) {
		must_fail(fake_run(request), -EOPNOTSUPP, "it has devices");
		expect_running(2);
		expect_files(1);
	}
	request.after = DOMAIN_SNAPSHOT_AS_SAVED;
	must(fake_run(request));
	assert_false(fake->there);
	fake->unbootable = false;
	must(delete("d", false));
}

/* A paused domain stays paused, or gets the state that was asked for. */
static void test_disks_only_paused(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "a", .disk_only = true };

	fake->paused = true;
	must(fake_run(request));
	assert_true(fake->paused);
	request.name = "b";
	request.after = DOMAIN_SNAPSHOT_RUNNING;
	must(fake_run(request));
	expect_running(1);
	must(delete("a", false));
	must(delete("b", false));
}

/* A raw disk is refused, or moves onto a store; the domain's configuration still says "aio:". */
static void test_raw(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "r" };
	char path[128];
	json_t *info, *disk;

	use_raw(6);
	must_fail(fake_run(request), -EOPNOTSUPP, "--store");
	expect_running(6);
	expect_disk(0, "");
	request.store = fake_dir;
	must(fake_run(request));
	expect_disks("r");
	info = read_info("r");
	disk = json_array_get(json_object_get(info, "disks"), 1);
	snprintf(path, sizeof(path), "aio:%s/b.img", fake_dir);
	assert_string_equal(info_string(disk, "target"), path);
	snprintf(path, sizeof(path), "%s/b.img.cow", fake_dir);
	assert_string_equal(info_string(disk, "path"), path);
	assert_string_equal(info_string(disk, "format"), "cow");
	json_decref(info);
	fake->memory = 7;
	must(revert("r"));
	expect_running(6);
	must(delete("r", false));
	expect_disks("");
}

/* A disk has moved for a snapshot that failed: it moves back. */
static void test_raw_undone(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "r", .store = fake_dir, .hook = hook,
	};

	use_raw(6);
	make_hook();
	refuse("thaw", true);
	must_fail(fake_run(request), -EIO, "not now");
	assert_false(is_moved());
	expect_files(0);
	fake->fail_save = -EIO;
	must_fail(fake_run(request), -EIO, "the guest did not answer");
	fake->fail_save = 0;
	assert_false(is_moved());
	expect_files(0);
	expect_running(6);
	expect_disk(0, "");
	refuse("thaw", false);
	must(fake_run(request));
	expect_disks("r");
	must(delete("r", false));
}

/* A disk without a tapdisk in its configuration may be written by others, who do not know of a store: it is not moved. */
static void test_raw_unsaid(void **state)
{
	const char *const left_out[] = { "xvdb", NULL };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "r", .store = fake_dir };
	char config[100];

	use_raw(6);
	fake_stop_domain();
	snprintf(config, sizeof(config), "%s/guest.cfg", fake_dir);
	close(open(config, O_WRONLY | O_CREAT, 0600));
	request.domain = config;
	fake->unsaid = true;
	must_fail(fake_run(request), -EOPNOTSUPP, "disk xvdb: no tapdisk serves it");
	request.leave_out = left_out;
	must(fake_run(request));
	must(delete("r", false));
	fake->unsaid = false;
	fake_start_domain();
	assert_false(is_moved());
}

/*
 * A config file is named: for a running domain the host's configuration counts; of a domain that is
 * off the file is remembered.
 */
static void test_config_file(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "on", .domain = "./guest.cfg",
	};
	char path[100], *config, *here = getcwd(NULL, 0);
	struct error_text text = { "" };
	json_t *info;
	int fd;

	assert_int_equal(chdir(fake_dir), 0);
	close(open("guest.cfg", O_WRONLY | O_CREAT, 0600));
	must(fake_run(request));
	info = read_info("on");
	assert_non_null(json_object_get(json_object_get(info, "config"), "b_info"));
	assert_null(info_string(info, "config_file"));
	fd = open(info_string(info, "save"), O_RDONLY);
	assert_int_equal(save_read_head(fd, &config, &text), 0);
	close(fd);
	assert_non_null(strstr(config, "b_info"));
	free(config);
	json_decref(info);
	fake_stop_domain();
	request.name = "off";
	request.hook = "./hook";
	must(fake_run(request));
	info = read_info("off");
	snprintf(path, sizeof(path), "%s/./guest.cfg", fake_dir);
	assert_string_equal(info_string(info, "config_file"), path);
	snprintf(path, sizeof(path), "%s/./hook", fake_dir);
	assert_string_equal(info_string(info, "hook"), path);
	json_decref(info);
	assert_int_equal(chdir(here), 0);
	free(here);
	must(delete("on", true));
}

/* A running domain is not taken for one that is shut off if its name has changed. */
static void test_renamed(void **state)
{
	json_t *info;

	must(create("before"));
	fake->renamed = true;
	must(create("after"));
	info = read_info("after");
	assert_non_null(info_string(info, "save"));
	json_decref(info);
	must(delete("before", true));
	fake->renamed = false;
}

/*
 * Nor if it was restarted without a uuid in its config file, and has another one: its snapshots stay
 * with the old uuid.
 */
static void test_other_uuid(void **state)
{
	const char *const names[] = { FAKE_UUID, NULL };
	char config[100];

	must(create("a"));
	fake_stop_domain();
	fake_start_domain();
	fake->memory = 2;
	fake->other_uuid = true;
	snprintf(config, sizeof(config), "%s/guest.cfg", fake_dir);
	close(open(config, O_WRONLY | O_CREAT, 0600));
	for (unsigned i = 0; i < 2; i++) {
		struct domain_snapshot_request request = {
			.command = DOMAIN_SNAPSHOT_CREATE, .name = "b", .domain = names[i] ? names[i] : config,
		};
		struct outcome outcome;

		must_fail(fake_run(request), -ENOENT, "put uuid=\"" FAKE_UUID "\" into its configuration");
		request.command = DOMAIN_SNAPSHOT_REVERT;
		request.name = "a";
		must_fail(fake_run(request), -ENOENT, "put uuid=\"" FAKE_UUID "\" into its configuration");
		request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY, .domain = request.domain };
		outcome = fake_run(request);
		must(outcome);
		assert_string_equal(outcome.names, "a");
		expect_running(2);
		expect_disks("a");
		expect_files(2);
	}
	must(fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_DELETE, .name = "a", .domain = FAKE_UUID }));
	expect_disks("");
	fake->other_uuid = false;
}

/* When it is gone it is found by the name that it had when the snapshot began. */
static void test_name_lost(void **state)
{
	must(create("before"));
	fake->loses_store = true;
	must(create("a"));
	fake->loses_store = fake->store_lost = false;
	fake_stop_domain();
	must(revert("a"));
	expect_running(1);
	must(delete("before", true));
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
		DOMAIN_TEST(test_there_and_back),
		DOMAIN_TEST(test_tree),
		DOMAIN_TEST(test_at_none),
		DOMAIN_TEST(test_refusals),
		DOMAIN_TEST(test_words),
		DOMAIN_TEST(test_failures),
		DOMAIN_TEST(test_goes_on_early),
		DOMAIN_TEST(test_goes_on_early_alone),
		DOMAIN_TEST(test_disk_hangs),
		DOMAIN_TEST(test_disk_not_told),
		DOMAIN_TEST(test_disks_only),
		DOMAIN_TEST(test_unbootable),
		DOMAIN_TEST(test_disks_only_paused),
		DOMAIN_TEST(test_raw),
		DOMAIN_TEST(test_raw_undone),
		DOMAIN_TEST(test_raw_unsaid),
		DOMAIN_TEST(test_config_file),
		DOMAIN_TEST(test_renamed),
		DOMAIN_TEST(test_other_uuid),
		DOMAIN_TEST(test_name_lost),
		DOMAIN_TEST(test_changed),
		DOMAIN_TEST(test_memory_cut_short),
		DOMAIN_TEST(test_unfinished_file),
		DOMAIN_TEST(test_signals),
		DOMAIN_TEST(test_own_group),
		DOMAIN_TEST(test_hook),
		DOMAIN_TEST(test_hook_stopped),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
