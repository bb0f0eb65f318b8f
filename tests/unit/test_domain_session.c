/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_session.c - snapshots of a domain, without Xen: concurrent
 * operations, and operations that come in between.
 */
#include "domain_expect.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int __real_poll(struct pollfd *fds, nfds_t count, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int ms);

static void test_busy(void **state)
{
	struct domain_directory directory;
	struct error_text text = { "" };

	must(create("a"));
	assert_int_equal(directory_open(&directory, FAKE_UUID, false, &text), 0);
	assert_int_equal(directory_lock(&directory, 0, &text), 0);
	expect_list("a");
	must_fail(create("b"), -EBUSY, "another command");
	directory_close(&directory);
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
		assert_true(poll(&poll_fd, 1, TIMEOUT_MS) > 0);
		domain_snapshots_dispatch(session);
	}
}

/* The directory is removed with the last snapshot, while another session reads it. */
static void test_removed_meanwhile(void **state)
{
	struct domain_directory directory;
	struct error_text text = { "" };
	json_t *infos;

	must(create("a"));
	assert_int_equal(directory_open(&directory, FAKE_UUID, false, &text), 0);
	must(delete("a", false));
	if (info_read_all(&directory, &infos, NULL, &text))
		fail_msg("%s", text.text);
	assert_int_equal(json_array_size(infos), 0);
	json_decref(infos);
	assert_int_equal(directory_lock(&directory, 1, NULL), -ESTALE);
	directory_close(&directory);
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

/* The same, while another session waits to create a snapshot in it. */
static void test_removed_while_waiting(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "w", .domain = FAKE_NAME,
	};
	struct done done = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshots *session;
	struct domain_directory directory;
	struct error_text text = { "" };
	char lock[PATH_MAX];

	assert_int_equal(directory_open(&directory, FAKE_UUID, true, &text), 0);
	assert_int_equal(directory_lock(&directory, 1, &text), 0);
	assert_int_equal(directory_path(&directory, "lock", lock, &text), 0);
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, NULL, &text), 0);
	while (count_open(lock) < 2)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	directory_remove_empty(&directory);
	directory_close(&directory);
	wait_for(session, &done, 1);
	domain_snapshots_close(session);
	assert_int_equal(done.error, 0);
	expect_list("w");
	must(delete("w", false));
	expect_files(0);
}

/* A guard that ends before it watches is no guard: nothing is done without one. */
static void test_guard_that_ends(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "w", .domain = FAKE_NAME,
	};
	struct done done = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshots *session;
	struct error_text text = { "" };

	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, "/bin/true", &text), 0);
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, NULL, &text), 0);
	wait_for(session, &done, 1);
	domain_snapshots_close(session);
	assert_int_equal(done.error, -ECHILD);
	expect_list("");
	expect_files(0);
}

static void make_hanging_guard(char *path)
{
	FILE *file;

	sprintf(path, "%s/guard", fake_dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\ncd %s && echo $$ >part && mv part begun && exec sleep 1000\n", fake_dir);
	fclose(file);
	assert_int_equal(chmod(path, 0700), 0);
}

/* Waits for the hanging guard, and returns its pid. */
static int guard_pid(void)
{
	char path[100];
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "%s/begun", fake_dir);
	while (!(file = fopen(path, "r")))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	unlink(path);
	return pid;
}

/* A cancel does not wait for a guard that does not say that it watches. */
static void test_guard_canceled(void **state)
{
	static const enum domain_snapshot_command commands[] = { DOMAIN_SNAPSHOT_CREATE, DOMAIN_SNAPSHOT_REVERT };
	struct domain_snapshot_operation *operation;
	struct domain_snapshots *session;
	struct error_text text = { "" };
	char guard[100];
	int pid;

	make_hanging_guard(guard);
	must(create("a"));
	for (unsigned i = 0; i < 2; i++) {
		const struct domain_snapshot_request request = {
			.command = commands[i], .name = commands[i] == DOMAIN_SNAPSHOT_REVERT ? "a" : "w", .domain = FAKE_NAME,
		};
		struct done done = { 0 };
		const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };

		assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, guard, &text), 0);
		assert_int_equal(domain_snapshots_start(session, &request, &callbacks, &operation, &text), 0);
		pid = guard_pid();
		domain_snapshots_cancel(operation);
		wait_for(session, &done, 1);
		domain_snapshots_close(session);
		assert_int_equal(done.error, -ECANCELED);
		assert_int_equal(kill(pid, 0), -1);
		fake->aborted = false;
		expect_running(1);
	}
	expect_list("a");
	expect_files(2);
}

/* While one session saves memory, others query; it is canceled, and everything is undone. */
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

struct told {
	struct done done;
	unsigned halves;		/* of the memory, approximately */
	bool late;
};

static void note_done(void *owner, const struct domain_snapshot_result *result)
{
	count_done(&((struct told *)owner)->done, result);
}

static void note_progress(void *owner, const char *step, int percent)
{
	struct told *told = owner;

	told->late |= told->done.count;
	told->halves += !strcmp(step, "memory") && percent == 42;
}

/* The progress of the memory is reported while it is saved, and not after the end. */
static void test_progress(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .domain = FAKE_NAME,
	};
	struct told told = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = note_done, .progress = note_progress, .owner = &told };
	struct domain_snapshots *session;
	struct error_text text = { "" };
	struct pollfd poll_fd = { .events = POLLIN };

	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	poll_fd.fd = domain_snapshots_fd(session);
	fake->hold_save = true;
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, NULL, &text), 0);
	while (!told.halves) {
		assert_int_equal(poll(&poll_fd, 1, TIMEOUT_MS), 1);
		domain_snapshots_dispatch(session);
	}
	assert_int_equal(told.done.count, 0);
	fake->hold_save = false;
	wait_for(session, &told.done, 1);
	domain_snapshots_close(session);
	assert_int_equal(told.done.error, 0);
	assert_int_equal(told.halves, 1);
	assert_false(told.late);
	must(delete("c", false));
}

static void start_on(struct domain_snapshots *session, const char *domain, enum domain_snapshot_command command,
		     struct done *done)
{
	const struct domain_snapshot_request request = { .command = command, .name = "c", .domain = domain };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = done };
	struct error_text text = { "" };

	if (domain_snapshots_start(session, &request, &callbacks, NULL, &text))
		fail_msg("%s", text.text);
}

/* Two domains are changed at the same time; a slow operation on one does not delay the other. */
static void test_domains(void **state)
{
	static const enum domain_snapshot_command commands[] = { DOMAIN_SNAPSHOT_REVERT, DOMAIN_SNAPSHOT_DELETE };
	struct done first = { 0 }, second = { 0 };
	struct domain_snapshots *session;
	struct error_text text = { "" };
	char path[128], config[128];

	snprintf(path, sizeof(path), "%s/" FAKE_SECOND ".cow", fake_dir);
	snprintf(config, sizeof(config), "%s/" FAKE_SECOND ".cfg", fake_dir);
	fake_make_store(path, 512);
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	fake->hold_save = true;
	start_on(session, FAKE_NAME, DOMAIN_SNAPSHOT_CREATE, &first);
	start_on(session, config, DOMAIN_SNAPSHOT_CREATE, &second);
	wait_for(session, &second, 1);
	assert_int_equal(second.error, 0);
	assert_int_equal(first.count, 0);
	fake->hold_save = false;
	wait_for(session, &first, 1);
	assert_int_equal(first.error, 0);
	for (unsigned i = 0; i < 2; i++) {
		fake->memory = 5;
		start_on(session, FAKE_NAME, commands[i], &first);
		start_on(session, config, commands[i], &second);
		wait_for(session, &first, i + 2);
		wait_for(session, &second, i + 2);
		assert_int_equal(first.error, 0);
		assert_int_equal(second.error, 0);
		expect_running(i ? 5 : 1);
		expect_disks(i ? "" : "c");
	}
	domain_snapshots_close(session);
	expect_files(0);
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_SECOND_UUID, fake_dir);
	assert_int_equal(access(path, F_OK), -1);
}

static struct domain_snapshot_operation *_Atomic to_cancel;
static unsigned steps_left;		/* until it is canceled, there; 0: it is not */
static char canceled_at[40];

static void cancel_at_step(const char *step)
{
	while (!to_cancel)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (!steps_left || --steps_left)
		return;
	snprintf(canceled_at, sizeof(canceled_at), "%s", step);
	domain_snapshots_cancel(to_cancel);
}

/*
 * Canceled at step @step (0: as soon as it has started), or by closing the session when @until says
 * so. Returns the error.
 */
static int run_canceled(struct domain_snapshot_request request, unsigned step, bool (*until)(void))
{
	struct done done = { 0 };
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshot_operation *operation;
	struct domain_snapshots *session;
	struct error_text text = { "" };

	request.domain = FAKE_NAME;
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	canceled_at[0] = '\0';
	to_cancel = NULL;
	steps_left = step;
	domain_step = cancel_at_step;
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, &operation, &text), 0);
	if (!step && !until)
		domain_snapshots_cancel(operation);
	to_cancel = operation;
	while (until && !until())
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (!until)
		wait_for(session, &done, 1);
	domain_snapshots_close(session);
	domain_step = NULL;
	fake->aborted = false;
	return done.error;
}

static bool came_before(const char *step, const char *const steps[])
{
	for (; *steps; steps++) {
		if (!strcmp(step, *steps))
			return true;
	}
	return false;
}

/* Wherever it is canceled, everything is undone; unless it was complete. */
static void sweep_canceled(struct domain_snapshot_request request)
{
	static const char *const before[] = { "intent", "suspended", "resumed", "disks", NULL };
	unsigned step = 0;
	int error;

	do {
		error = run_canceled(request, step, NULL);
		if (error || !step || came_before(canceled_at, before)) {
			assert_int_equal(error, -ECANCELED);
			expect_files(0);
			expect_disks("");
		} else {
			must(delete(request.name, false));
		}
		assert_false(is_frozen());
		expect_running(1);
		expect_no_records();
		step++;
	} while (step == 1 || canceled_at[0]);
	assert_true(step > 4);
}

static void test_create_canceled(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .hook = hook };

	make_hook();
	sweep_canceled(request);
	request.disk_only = true;
	sweep_canceled(request);
}

static atomic_bool takes_signals, takes_children;

static void look_at_mask(const char *step)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	takes_signals = !sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGUSR1);
	takes_children = !sigismember(&mask, SIGCHLD);
}

/*
 * The library's threads take none of the caller's signals. SIGCHLD, which libxl needs, stays as the
 * caller has it.
 */
static void test_signals(void **state)
{
	struct done done = { 0 };
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .domain = FAKE_NAME, .name = "s", .disk_only = true,
	};
	const struct domain_snapshot_callbacks callbacks = { .done = count_done, .owner = &done };
	struct domain_snapshots *session;
	struct error_text text = { "" };
	sigset_t before, after;

	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	domain_step = look_at_mask;
	takes_signals = true;
	takes_children = false;
	assert_int_equal(domain_snapshots_start(session, &request, &callbacks, NULL, &text), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	wait_for(session, &done, 1);
	domain_snapshots_close(session);
	domain_step = NULL;
	assert_int_equal(done.error, 0);
	assert_false(takes_signals);
	assert_true(takes_children);
	for (int number = 1; number < SIGRTMIN; number++)
		assert_int_equal(sigismember(&before, number), sigismember(&after, number));
	must(delete("s", false));
}

static bool has_sleeper(void)
{
	return sleeper();
}

static bool sleeper_lives(void)
{
	struct pollfd gone = { .fd = (int)syscall(SYS_pidfd_open, sleeper(), 0), .events = POLLIN };
	bool lives = gone.fd >= 0 && !__real_poll(&gone, 1, 0);

	if (gone.fd >= 0)
		close(gone.fd);
	return lives;
}

static bool short_limit;

/* A hook's short limit begins when it hangs: on a busy machine it may begin late. */
int __wrap_poll(struct pollfd *fds, nfds_t count, int ms)
{
	int ready;

	do
		ready = __real_poll(fds, count, ms);
	while (!ready && short_limit && !sleeper_lives());
	return ready;
}

/*
 * Nothing waits for a hook that does not end: it is killed with all processes that it started, and the
 * guest is thawed.
 */
static void test_hook_canceled(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .hook = hook, .disk_only = true,
	};

	make_hook();
	hang("freeze", true);
	freeze();
	run_canceled(request, 0, has_sleeper);
	expect_no_sleeper();
	expect_told("ft");
	assert_false(is_frozen());
	expect_files(0);
	expect_disks("");
	hang("freeze", false);
	/* the other call gets some time */
	hang("thaw", true);
	hook_timeout_ms = 200;
	short_limit = true;
	run_canceled(request, 0, has_sleeper);
	short_limit = false;
	hook_timeout_ms = 30000;
	expect_told("ftt");
	expect_no_sleeper();
	expect_files(0);
	expect_disks("");
	hang("thaw", false);
}

/* A canceled clone leaves nothing, at any step; a canceled revert or delete has not begun. */
static void test_others_canceled(void **state)
{
	const struct domain_snapshot_request clone = { .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly" };
	const struct domain_snapshot_request back = { .command = DOMAIN_SNAPSHOT_REVERT, .name = "c" };
	const struct domain_snapshot_request away = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "c" };
	static const char *const made[] = { "dolly-xvda.cow", "dolly-xvdb.cow", "dolly.save" };
	unsigned step = 0;
	char path[200];
	int error;

	must(create("c"));
	fake->memory = 2;
	assert_int_equal(run_canceled(back, 0, NULL), -ECANCELED);
	assert_int_equal(run_canceled(away, 0, NULL), -ECANCELED);
	expect_running(2);
	expect_disks("c");
	do {
		error = run_canceled(clone, step, NULL);
		assert_int_equal(error, !step || canceled_at[0] ? -ECANCELED : 0);
		for (unsigned i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "%s/%s", fake_dir, made[i]);
			assert_int_equal(unlink(path), error ? -1 : 0);
		}
		expect_files(2);
		step++;
	} while (error);
	assert_true(step > 3);
	must(delete("c", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_busy),
		DOMAIN_TEST(test_removed_meanwhile),
		DOMAIN_TEST(test_removed_while_waiting),
		DOMAIN_TEST(test_guard_that_ends),
		DOMAIN_TEST(test_guard_canceled),
		DOMAIN_TEST(test_session),
		DOMAIN_TEST(test_signals),
		DOMAIN_TEST(test_progress),
		DOMAIN_TEST(test_domains),
		DOMAIN_TEST(test_create_canceled),
		DOMAIN_TEST(test_hook_canceled),
		DOMAIN_TEST(test_others_canceled),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: side by side", tests, NULL, NULL);
}
