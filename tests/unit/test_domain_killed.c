/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_killed.c - snapshots of a domain, without Xen: the state after an
 * operation is killed at each of its steps, or cannot continue.
 */
#include "domain_expect.h"

#include "client_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct outcome recover(bool force)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER, .force = force });
}

/* Everything, or nothing. */
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

/* The domain is destroyed when the snapshot is complete; if it does not become complete, the domain continues to run. */
static void test_shutdown_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0;
	bool killed;

	do {
		fake->memory = 3;
		killed = fake_run_killed(request, ++step);
		must(list());
		if (!count_files()) {
			expect_running(3);
			expect_disks("");
			continue;
		}
		assert_false(fake->there);
		must(revert("k"));
		expect_running(3);
		must(delete("k", false));
		expect_disks("");
		expect_files(0);
		expect_no_records();
	} while (killed);
	assert_true(step > 10);
}

static void restart_domain(void)
{
	if (fake->there)
		fake_stop_domain();
	fake_start_domain();
}

/*
 * Of disks only: the next command, which may come much later, destroys the domain only where that was begun already, because
 * it has lost its disks then.
 */
static void test_shutdown_disks_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0, torn = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		torn += fake->torn;
		must(list());
		if (fake->there) {
			assert_true(killed);
			expect_running(1);
		} else {
			fake_start_domain();
			fake->memory = 1;
		}
		if (count_files())
			must(delete("k", false));
		expect_disks("");
		expect_no_records();
	} while (killed);
	assert_int_equal(torn, 1);
}

/* It was started again before the next command: that is another domain. */
static void test_shutdown_restarted(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_SHUTDOWN,
	};
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		restart_domain();
		fake->memory = 4;
		must(list());
		expect_running(4);
		if (count_files())
			must(delete("k", false));
	} while (killed);
	expect_disks("");
}

/*
 * Of disks only: the domain is paused, if at all, when the snapshot is complete. The next command,
 * which may come much later, does not pause it. If it was paused already, it stays paused.
 */
static void test_paused_killed(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true, .after = DOMAIN_SNAPSHOT_PAUSED,
	};
	unsigned step = 0;
	bool killed, whole, before, after;

	do {
		before = step % 2;
		fake->paused = before;
		killed = fake_run_killed(request, ++step);
		after = fake->paused;
		must(list());
		whole = count_files();
		assert_true(fake->there && !fake->suspended);
		assert_int_equal(fake->paused, after);
		assert_true(after == before || whole);
		assert_true(after || killed);
		expect_disks(whole ? "k" : "");
		if (whole)
			must(delete("k", false));
	} while (killed);
	fake->paused = false;
	assert_true(step > 10);
}

/* In every case the guest is not left frozen. */
static void test_hook_killed(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };
	const struct domain_snapshot_request revert_k = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;
	bool killed;

	make_hook();
	fake->memory = 3;
	do {
		killed = fake_run_killed(create_k, ++step);
		must(list());
		assert_false(is_frozen());
		expect_all_or_nothing("k");
	} while (killed);
	must(fake_run(create_k));
	step = 0;
	do {
		freeze();
		killed = fake_run_killed(revert_k, ++step);
		expect_list("k");
		/* at the first step it is not destroyed yet */
		assert_int_equal(is_frozen(), step == 1);
		expect_running(3);
	} while (killed);
	must(delete("k", false));
}

static void run_for_long(const struct domain_snapshot_request *request, bool (*is_there)(void))
{
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		fake_run(*request);
		_exit(0);
	}
	while (!is_there())
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static bool has_waited;

static void end_sleeper(const char *step)
{
	if (!strcmp(step, "waiting")) {
		has_waited = true;
		assert_int_equal(kill(sleeper(), SIGKILL), 0);
	}
}

static bool has_sleeper(void)
{
	return sleeper();
}

/* The command is killed, and its hook lives on: a freeze that ends after the thaw would leave the guest frozen. */
static void test_hook_lives_on(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };

	make_hook();
	hang("freeze", true);
	run_for_long(&request, has_sleeper);
	expect_list("");
	expect_told("f");
	domain_step = end_sleeper;
	must(recover(false));
	domain_step = NULL;
	if (!has_waited)
		kill(sleeper(), SIGKILL);
	assert_true(has_waited);
	expect_no_sleeper();
	expect_told("t");
	assert_false(is_frozen());
	expect_running(1);
	expect_files(0);
	/* one that does not end is not waited for for ever */
	run_for_long(&request, has_sleeper);
	hook_timeout_ms = 200;
	must(recover(false));
	hook_timeout_ms = 30000;
	expect_told("ft");
	kill(sleeper(), SIGKILL);
	expect_no_sleeper();
	expect_files(0);
}

static bool has_begun(void)
{
	return count_there("begun");
}

static void end_program(const char *step)
{
	char path[100];

	if (!strcmp(step, "waiting")) {
		has_waited = true;
		snprintf(path, sizeof(path), "%s/go", fake_dir);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
}

/* The command is killed, and xl lives on: no second one is started beside it. */
static void test_xl_lives_on(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };

	must(create("k"));
	snprintf(fake->program, sizeof(fake->program), "cd %s; : >begun; until [ -e go ]; do sleep 0.01; done; : >end", fake_dir);
	run_for_long(&request, has_begun);
	expect_list("k");
	assert_false(fake->there);
	has_waited = false;
	domain_step = end_program;
	must(recover(false));
	domain_step = NULL;
	assert_true(has_waited);
	assert_int_equal(count_there("end"), 1);
	expect_running(1);
	expect_files(2);
}

/* xl has left a domain behind that is not complete: that is not the one that was to be started. */
static void test_left_unbuilt(void **state)
{
	fake->memory = 3;
	must(create("k"));
	fake->fail_restore = -EIO;
	fake->leaves_unbuilt = true;
	must_fail(revert("k"), -EIO, "the domain is shut off: revert to it again");
	assert_false(fake->there);
	fake->fail_destroy = -EIO;
	must_fail(revert("k"), -EIO, "a domain that is not complete is there: destroy it, and revert to it again");
	assert_true(fake->there);
	fake->fail_destroy = fake->fail_restore = 0;
	must(revert("k"));
	expect_running(3);
	must(delete("k", false));
}

/* The guest was not asked to suspend yet: nothing is done to it. */
static void test_create_not_begun(void **state)
{
	assert_true(fake_run_killed((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" }, 1));
	fake->paused = true;
	must(list());
	assert_true(fake->paused);
	fake->paused = false;
	expect_files(0);
}

/* A raw disk is in its store if the snapshot exists; otherwise it is unchanged. */
static void test_raw_killed(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .store = fake_dir };
	unsigned step = 0;
	bool killed;

	use_raw(3);
	do {
		killed = fake_run_killed(request, ++step);
		must(recover(false));
		expect_running(3);
		assert_int_equal(is_moved(), count_files() > 0);
		if (!count_files()) {
			expect_disk(0, "");
			continue;
		}
		expect_disks("k");
		must(revert("k"));
		must(delete("k", false));
		move_back();
	} while (killed);
	expect_no_records();
}

/* The same while the domain is off: the next process opens it. */
static void test_raw_off_killed(void **state)
{
	const char *const raw[] = { "xvdb", NULL };
	const struct domain_snapshot_request before = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "before", .leave_out = raw };
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .store = fake_dir };
	unsigned step = 0;
	bool killed;

	use_raw(3);
	must(fake_run(before));
	fake_stop_domain();
	do {
		killed = fake_run_killed(request, ++step);
		must(recover(false));
		fake_start_domain();
		assert_int_equal(is_moved(), count_files() > 2);
		if (count_files() > 2) {
			expect_disk(1, "k");
			must(delete("k", false));
			move_back();
		}
		expect_disk(0, "before");
		fake_stop_domain();
	} while (killed);
	expect_no_records();
	fake_start_domain();
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
		outcome = fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER });
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

/* ... and it was restarted: the create does not decide any more whether that one runs or is paused. */
static void test_create_restarted(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	unsigned step = 0;
	bool killed;

	do {
		killed = fake_run_killed(request, ++step);
		restart_domain();
		fake->paused = true;
		must(list());
		assert_true(fake->there && fake->paused);
		fake->paused = false;
		if (count_files())
			must(delete("k", false));
		expect_disks("");
		expect_no_records();
	} while (killed);
	assert_true(step > 10);
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
		/* before the domain was destroyed nothing was lost, after it everything is at the snapshot */
		expect_running(killed && step == 1 ? 4 : 3);
		expect_disks("k");
		expect_files(2);
		expect_no_records();
	} while (killed);
	assert_true(step > 6);
}

/* The domain was being destroyed, and it cannot be: what needs it says so, until it can. */
static void test_revert_torn(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	unsigned step = 0;

	fake->memory = 3;
	must(create("k"));
	do {
		must(list());
		assert_true(fake_run_killed(request, ++step));
	} while (!fake->torn);
	fake->fail_destroy = -EIO;
	must_fail(create("other"), -EIO, "cannot be cleaned up yet: it does not die");
	must_fail(revert("k"), -EIO, "it does not die");
	fake->fail_destroy = 0;
	must(create("other"));
	expect_running(3);
	must(delete("k", true));
	expect_no_records();
}

/* The command itself could not bring it to its end: the next one does. */
static void test_revert_half_destroyed(void **state)
{
	fake->memory = 3;
	must(create("k"));
	fake->fail_destroy = -EINPROGRESS;
	must_fail(revert("k"), -EIO, "it does not die; the domain may have lost its disks: the next command destroys it");
	fake->fail_destroy = 0;
	assert_true(fake->torn);
	must(list());
	expect_running(3);
	must(delete("k", false));
	expect_no_records();
}

/* To a snapshot of disks, with another state of the domain than it had. */
static void test_revert_disks_killed(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .disk_only = true };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };
	const enum domain_snapshot_after after[] = { DOMAIN_SNAPSHOT_AS_SAVED, DOMAIN_SNAPSHOT_RUNNING, DOMAIN_SNAPSHOT_PAUSED };
	unsigned step;
	bool killed;

	must(fake_run(create_k));
	for (unsigned i = 0; i < 3; i++) {
		request.after = after[i];
		step = 0;
		do {
			killed = fake_run_killed(request, ++step);
			expect_list("k");
			expect_files(1);
			expect_no_records();
			assert_int_equal(fake->there, step == 1 || after[i] != DOMAIN_SNAPSHOT_AS_SAVED);
			assert_int_equal(fake->paused, step != 1 && after[i] == DOMAIN_SNAPSHOT_PAUSED);
			if (!fake->there)
				fake_start_domain();
			fake->paused = false;
		} while (killed);
		assert_true(step > 6);
	}
	must(delete("k", false));
}

static void kill_tapdisk(int pid, void *arg)
{
	struct pollfd gone = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(poll(&gone, 1, TIMEOUT_MS), 1);
	close(gone.fd);
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

/* A disk that cannot be reverted after the domain was destroyed: the next command continues. */
static void test_revert_half_way(void **state)
{
	must(create("k"));
	fake->memory = 8;
	domain_step = lose_store;
	must_fail(revert("k"), -ENOENT, "next command continues");
	domain_step = NULL;
	assert_false(fake->there);
	expect_list("k");
	must_fail(create("other"), -ENOENT, "an earlier revert");
	move_store(false);
	expect_list("k");
	expect_running(1);
	expect_files(2);
}

static void replace_at_step(const char *step)
{
	char path[128], target[140];
	struct disk_options options = { .timeout_ms = TIMEOUT_MS, .target = target };
	struct error_text text = { "" };
	json_t *disk;

	if (strcmp(step, "stopped") != 0)
		return;
	fake_store(path, 1);
	snprintf(target, sizeof(target), "%s:%s", fake_type(1), path);
	if (disk_create(&options, &fake->pid[1], &fake->minor[1], &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	replace_snapshot("k");
	assert_int_equal(disk_destroy(fake->pid[1], fake->minor[1], false, TIMEOUT_MS, NULL), 0);
}

/* One of the disks has got another snapshot of that name: memory and disks would be of different times. */
static void test_revert_to_another(void **state)
{
	must(create("k"));
	domain_step = replace_at_step;
	must_fail(revert("k"), -ENOENT, "another one has that name now");
	domain_step = NULL;
	must_fail(recover(false), -ENOENT, "another one has that name now");
	assert_false(fake->there);
	must(recover(true));
	expect_files(2);
	fake_start_domain();
}

/*
 * A create that cannot be undone because a disk is not available lets the domain run once, and not
 * again with each later command.
 */
static void test_create_stuck(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k", .hook = hook };
	unsigned step = 0;
	char log[100];

	make_hook();
	snprintf(log, sizeof(log), "%s/hook.log", fake_dir);
	do {
		must(list());
		unlink(log);
		assert_true(fake_run_killed(request, ++step));
	} while (!fake->suspended);
	kill_tapdisk(fake->pid[1], NULL);
	move_store(true);
	must_fail(recover(false), -ENOENT, "cannot be cleaned up yet");
	expect_running(1);
	expect_told("ft");
	fake->paused = true;
	for (unsigned i = 0; i < 2; i++) {
		must_fail(recover(false), -ENOENT, "cannot be cleaned up yet");
		assert_true(fake->paused);
		expect_told("");
	}
	move_store(false);
	must(recover(false));
	assert_true(fake->paused);
	expect_files(0);
	expect_disks("");
	fake->paused = false;
}

static char *read_phase(void)
{
	struct domain_directory directory;
	char *phase = NULL;
	json_t *intent;

	assert_int_equal(directory_open(&directory, FAKE_UUID, false, NULL), 0);
	if (!directory_read(&directory, INTENT_FILE, &intent, NULL)) {
		phase = strdup(info_string(intent, "phase"));
		json_decref(intent);
	}
	directory_close(&directory);
	return phase;
}

/* The host was restarted, and the domain with it. */
static void restart_host(void)
{
	if (fake->there)
		fake_stop_domain();
	tapctl_process_list(kill_tapdisk, NULL);
	fake_start_domain();
	fake->memory = 9;
}

/*
 * A killed revert to "a" leaves some disks reverted. A revert to "b" that replaces it and stops as
 * well, because it is killed or because the domain does not die, must not forget that. Every command
 * reports a domain that runs on such disks.
 */
static bool replace_revert(unsigned step, bool by_kill, unsigned *half_ways)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "a" };
	bool killed = fake_run_killed(request, step), half_way, noted;
	char *phase = read_phase();

	if (!by_kill)
		restart_host();
	noted = !phase || (!strcmp(phase, "start") && fake->there);
	half_way = !noted && strcmp(phase, "stop") != 0;
	request.name = "b";
	fake->fail_destroy = by_kill ? 0 : -EIO;
	if (by_kill)
		assert_true(fake_run_killed(request, 1));
	else
		must_fail(fake_run(request), -EIO, "it does not die");
	fake->fail_destroy = 0;
	if (by_kill)
		restart_host();
	if (half_way) {
		must_fail(recover(false), -EBUSY, "its disks are only partly reverted to \"b\"");
		fake_stop_domain();
	}
	must(recover(false));
	expect_running(half_way ? 2 : 9);
	assert_string_equal(list().current, noted ? "a" : "b");
	*half_ways += half_way;
	free(phase);
	return killed;
}

static void test_revert_replaced(void **state)
{
	unsigned half_ways = 0;

	must(create("a"));
	fake->memory = 2;
	must(create("b"));
	for (unsigned i = 0; i < 2; i++) {
		unsigned step = 0;

		do
			must(revert("b"));
		while (replace_revert(++step, i, &half_ways));
	}
	assert_true(half_ways > 4);
	expect_files(4);
	expect_no_records();
	must(delete("a", true));
}

/* The second disk is gone for good: nothing can be completed until the user says so. */
static void expect_way_out(struct domain_snapshot_request request, unsigned kill, const char *names)
{
	struct outcome outcome;

	assert_true(fake_run_killed(request, kill));
	if (fake->there)
		fake_stop_domain();
	move_store(true);
	must_fail(recover(false), -ENOENT, "cannot be cleaned up yet: disk xvdb");
	must_fail(revert("k"), -ENOENT, request.command == DOMAIN_SNAPSHOT_REVERT ? "xvdb" : "xl-snapshot recover --force");
	outcome = recover(true);
	must(outcome);
	assert_non_null(strstr(outcome.text, "disk xvdb"));
	move_store(false);
	fake_start_domain();
	fake->memory = 1;
	expect_list(names);
	expect_files(*names ? 2 : 0);
	expect_no_records();
	must(create("next"));
	must(delete("next", false));
}

/* What is left on the disk if it does come back. */
static void forget_stray(void)
{
	const struct tapctl_disk second = { fake->pid[1], fake->minor[1] };

	assert_int_equal(tapctl_snapshot_delete(&second, 1, "k", TIMEOUT_MS, NULL), 0);
	expect_disks("");
}

static void test_disk_gone(void **state)
{
	const struct domain_snapshot_request create_k = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "k" };
	const struct domain_snapshot_request delete_k = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "k" };
	const struct domain_snapshot_request revert_k = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "k" };

	expect_way_out(create_k, 8, "");
	forget_stray();
	must(create("k"));
	expect_way_out(revert_k, 3, "k");
	expect_way_out(delete_k, 1, "");
	forget_stray();
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_create_killed),
		DOMAIN_TEST(test_shutdown_killed),
		DOMAIN_TEST(test_shutdown_disks_killed),
		DOMAIN_TEST(test_shutdown_restarted),
		DOMAIN_TEST(test_paused_killed),
		DOMAIN_TEST(test_hook_killed),
		DOMAIN_TEST(test_hook_lives_on),
		DOMAIN_TEST(test_xl_lives_on),
		DOMAIN_TEST(test_left_unbuilt),
		DOMAIN_TEST(test_create_not_begun),
		DOMAIN_TEST(test_raw_killed),
		DOMAIN_TEST(test_raw_off_killed),
		DOMAIN_TEST(test_create_power_cut),
		DOMAIN_TEST(test_create_restarted),
		DOMAIN_TEST(test_revert_killed),
		DOMAIN_TEST(test_revert_torn),
		DOMAIN_TEST(test_revert_half_destroyed),
		DOMAIN_TEST(test_revert_disks_killed),
		DOMAIN_TEST(test_revert_half_way),
		DOMAIN_TEST(test_revert_to_another),
		DOMAIN_TEST(test_create_stuck),
		DOMAIN_TEST(test_revert_replaced),
		DOMAIN_TEST(test_delete_killed),
		DOMAIN_TEST(test_disk_gone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: killed at each step", tests, NULL, NULL);
}
