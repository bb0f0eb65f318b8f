/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory_sweep.c - allocations that fail, one by one (memory_sweep.h). */
#include "memory_sweep.h"

#include "memory_fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "overlay.h"
#include "scratch.h"

#define IMAGE_BYTES (4u << 20)
#define END_MS 20000

static struct blkfront *front;

static void test_asking(void **state)
{
	static const char info[] = "info -p PID -m MINOR --json", stats[] = "stats -p PID -m MINOR",
			  list[] = "list --json";

	front = fixture_connect(&fault.disk, (struct blkfront_options){ .queues = 2, .persistent = true });
	assert_int_equal(blkfront_pwrite(front, fault.target, 512, 0), 0);
	fault_sweep(list, fault_restore_running, must_json(list), true);
	fault_sweep(info, fault_restore_running, must_json(info), true);
	fault_sweep(stats, fault_restore_running, must_json(stats), false);
}

static void test_pause(void **state)
{
	fault_sweep("pause -p PID -m MINOR", fault_restore_running, NULL, false);
	fault_sweep("unpause -p PID -m MINOR", fault_restore_paused, NULL, false);
	fault_sweep("resize -p PID -m MINOR", fault_restore_running, NULL, false);
	blkfront_disconnect(front);
	front = NULL;
}

/* There is no export, and no export's socket. */
static void restore_unexported(void)
{
	json_t *info, *export;
	char words[64];
	size_t i;

	fault_restore_running();
	info = must_json("info -p PID -m MINOR --json");
	json_array_foreach(json_object_get(json_object_get(info, "disk"), "exports"), i, export) {
		snprintf(words, sizeof(words), "unexport -p PID -m MINOR %d",
			 (int)json_integer_value(json_object_get(export, "id")));
		must(words);
	}
	json_decref(info);
	if (!access(scratch_path("export"), F_OK))
		fail_msg("after allocation %ld had failed the socket of an export is still there", fault.number);
}

static void test_export(void **state)
{
	char words[PATH_MAX + 64];

	snprintf(words, sizeof(words), "export -p PID -m MINOR unix:%s", scratch_path("export"));
	fault_sweep(words, restore_unexported, NULL, false);
	restore_unexported();
}

/* An NBD client may fail, with an answer; the next one must not. */
static void test_nbd(void **state)
{
	int64_t start = clock_ms();
	bool fired = true;
	char copy[400];
	int status;

	snprintf(copy, sizeof(copy), "env -u LD_PRELOAD nbdcopy --connections=2 "
		 "'nbd+unix:///?socket=%s/nbd%d.%d' null: 2>/dev/null", fault.disk.dir, fault.disk.pid, fault.disk.minor);
	for (long number = fault_first(fault.stride); fault_goes_on(fired, start); number += fault.stride) {
		fault_arm(number);
		status = system(copy);
		fired = fault_disarm_fired();
		if (status && !fired)
			fail_msg("nbdcopy fails by itself");
		assert_int_equal(fault_disk_state(), 0);
		assert_int_equal(system(copy), 0);
	}
}

static void test_open_and_close(void **state)
{
	char words[sizeof(fault.target) + 64];

	snprintf(words, sizeof(words), "open -p PID -m MINOR -a %s", fault.target);
	fault_sweep(words, fault_restore_closed, NULL, false);
	fault_sweep("close -p PID -m MINOR", fault_restore_running, NULL, false);
}

static bool in_store(void)
{
	json_t *info = must_json("info -p PID -m MINOR --json");
	bool found = json_object_get(json_object_get(info, "disk"), "store");

	json_decref(info);
	return found;
}

/* The disk may be moving back by itself: then a commit finds that running, or finds a raw disk, and fails. */
static void leave_store(void)
{
	int64_t start = clock_ms();

	while (in_store()) {
		if (tap_ctl("commit -p PID -m MINOR") && clock_ms() - start > END_MS)
			fail_msg("after allocation %ld had failed the disk does not leave its store: %s", fault.number, fault.err);
	}
}

/* In each case the disk is its raw image in the end, and nothing else is left. */
static void restore_raw(void)
{
	fault_restore_running();
	if (in_store()) {
		tap_ctl("snapshot-delete -p PID -m MINOR -n one");	/* it may not have been taken */
		leave_store();
	}
	unlink(scratch_path("moved.cow"));
	assert_int_not_equal(access(scratch_path("moved" OVERLAY_SUFFIX), F_OK), 0);
}

static char move_words[PATH_MAX + 64];

static void restore_stored(void)
{
	restore_raw();
	must(move_words);
	must("snapshot-delete -p PID -m MINOR -n one");
}

/* A raw image, which is a file because devices here have no lasting names. */
static void test_overlay(void **state)
{
	char target[sizeof(fault.target)];

	memcpy(target, fault.target, sizeof(target));
	must("close -p PID -m MINOR");
	snprintf(fault.target, sizeof(fault.target), "aio:%s", scratch_file("moved", IMAGE_BYTES));
	fault_open_disk();
	snprintf(move_words, sizeof(move_words), "snapshot-create -p PID -m MINOR -n one --store %s", scratch_path("moved.cow"));
	fault_sweep(move_words, restore_raw, NULL, false);
	fault_sweep("commit -p PID -m MINOR", restore_stored, NULL, false);
	restore_raw();
	must("close -p PID -m MINOR");
	memcpy(fault.target, target, sizeof(target));
	fault_open_disk();
}

/* The process @pid has to exit and leave no statistics. */
static void expect_end(int pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char path[64];
	struct stat st;

	if (fd >= 0 && poll(&poll_fd, 1, END_MS) != 1) {
		kill(pid, SIGKILL);
		fail_msg("allocation %ld: tapdisk %d does not end: %s", fault.number, pid, fault.err);
	}
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof(path), "/dev/shm/td3-%d", pid);
	assert_int_equal(stat(path, &st), -1);
}

/* Whether @pid was started for our run directory. Its environment shows it. */
static bool is_ours(int pid)
{
	char path[64], environment[16384];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, environment, sizeof(environment));
	if (fd >= 0)
		close(fd);
	return pid != getpid() && length > 0 && memmem(environment, length, fault.disk.dir, strlen(fault.disk.dir));
}

/* Waits for those that are still exiting. */
static void expect_no_process(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (atoi(entry->d_name) > 0 && is_ours(atoi(entry->d_name)))
			expect_end(atoi(entry->d_name));
	}
	closedir(dir);
}

/* No process is left, and nothing in the run directory. */
static void expect_nothing_left(void)
{
	struct dirent *entry;
	DIR *dir = opendir(fault.disk.dir);
	char path[128];

	expect_no_process();
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "tapdisk"))
			fail_msg("allocation %ld: %s was left", fault.number, entry->d_name);
	}
	closedir(dir);
	snprintf(path, sizeof(path), "%s/tapdisk", fault.disk.dir);
	if (rmdir(path) && errno != ENOENT)
		fail_msg("allocation %ld: a marker was left: %s", fault.number, strerror(errno));
}

static void create_disk(bool must_work)
{
	char words[sizeof(fault.target) + 64];
	json_t *json;
	int status;

	snprintf(words, sizeof(words), "create --json -a %s", fault.target);
	status = tap_ctl(words);
	if (status && must_work)
		fail_msg("%s", fault.err);
	fault.disk.pid = 0;
	if (status) {
		fault_check_failure(words, status);
		return;
	}
	json = json_loads(fault.out, 0, NULL);
	fault.disk.pid = (int)json_integer_value(json_object_get(json, "pid"));
	fault.disk.minor = (int)json_integer_value(json_object_get(json, "minor"));
	json_decref(json);
	if (!fault.disk.pid)
		fail_msg("create: allocation %ld: %s", fault.number, fault.out);
}

/* Destroys tapdisks, one for each allocation of destroy. */
static void test_destroy(void **state)
{
	static const char words[] = "destroy -p PID -m MINOR";
	int64_t start = clock_ms();
	bool fired = true;
	int status;

	for (long number = fault_first(fault.stride); fault_goes_on(fired, start); number += fault.stride) {
		fault_arm(number);
		status = tap_ctl(words);
		fired = fault_disarm_fired();
		if (status) {
			fault_check_failure(words, status);
			/* the first run did what it could; the second has to complete */
			must(words);
		}
		expect_nothing_left();
		create_disk(true);
	}
	must(words);
	expect_nothing_left();
}

static void test_create(void **state)
{
	int64_t start = clock_ms();
	bool fired = true;

	for (long number = fault_first(fault.stride * fault.stride); fault_goes_on(fired, start); number += fault.stride * fault.stride) {
		fault_arm(number);
		create_disk(false);
		fired = fault_disarm_fired();
		if (fault.disk.pid) {
			assert_int_equal(fault_disk_state(), 0);
			must("destroy -p PID -m MINOR");
		}
		expect_nothing_left();
	}
}

static int setup(void **state)
{
	const char *image = scratch_file("image", IMAGE_BYTES), *device = scratch_loop(image, 4096);
	char library[300];
	int fd = fault_open_output("fault");

	assert_int_equal(ftruncate(fd, sizeof(*fault.shared)), 0);
	fault.shared = mmap(NULL, sizeof(*fault.shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(fault.shared, MAP_FAILED);
	snprintf(fault.target, sizeof(fault.target), "aio:%s", device ? device : image);
	fixture_find_program(library, sizeof(library), "../lib/fault-malloc.so");
	assert_int_equal(access(library, R_OK), 0);
	setenv(FAULT_MALLOC_ENV, scratch_path("fault"), 1);
	setenv("LD_PRELOAD", library, 1);
	setenv(STATE_DIR_ENV, scratch_path("state"), 1);
	fixture_make_dir(&fault.disk);
	create_disk(true);
	assert_true(atomic_load(&fault.shared->count) > 0);	/* their allocations are counted */
	return 0;
}

static int teardown(void **state)
{
	unsetenv("LD_PRELOAD");
	return rmdir(fault.disk.dir);
}

int memory_sweep_run(unsigned every)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asking),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_export),
		cmocka_unit_test(test_nbd),
		cmocka_unit_test(test_open_and_close),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(memory_sweep_connect),
		cmocka_unit_test(memory_sweep_io),
		cmocka_unit_test(test_destroy),
		cmocka_unit_test(test_create),
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	puts("1..0 # SKIP a sanitizer has its own malloc, which has to come first");
	return 0;
#endif
	fault.stride = every;
	scratch_init();
	fault.directory = scratch_dir;
	return cmocka_run_group_tests(tests, setup, teardown);
}
