/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory_sweep.c - allocations that fail, one by one (memory_sweep.h). */
#include "memory_sweep.h"

#include "fixture.h"

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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#include "fault_malloc.h"
#include "overlay.h"
#include "scratch.h"

#define IMAGE_BYTES (4u << 20)
#define END_MS 20000
#define SHORT_MS 2000
#define MAX_WORDS 12
#define FRONT_DEVID 51712

static struct fault_malloc *fault;
static unsigned stride;			/* every that many-th allocation fails */
static long fault_number;		/* for messages */
static struct fixture f;		/* folder, pid and minor of the disk */
static char image_target[PATH_MAX + 8];
static struct blkfront *front;

/* What a tap-ctl printed. */
static char out_text[65536], err_text[4096];

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Runs begin at different ones, so that in time all have their turn. */
static long first(unsigned step)
{
	return 1 + getpid() % step;
}

/* A sweep goes on; but one that leaves some out anyway, not for longer than that on a busy machine. */
static bool goes_on(bool fired, uint64_t start)
{
	return fired && (stride == 1 || now_ms() - start < SHORT_MS);
}

static void disarm(void)
{
	atomic_store(&fault->fail_at, 0);
}

static void arm(long number)
{
	fault_number = number;
	atomic_store(&fault->count, 0);
	atomic_store(&fault->fail_at, number);
}

/* Whether it has failed; nothing does any more. */
static bool disarm_fired(void)
{
	bool fired = atomic_load(&fault->count) >= atomic_load(&fault->fail_at);

	disarm();
	return fired;
}

static int open_output(const char *name)
{
	int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void read_output(int fd, char *text, size_t size)
{
	ssize_t length = pread(fd, text, size - 1, 0);

	assert_true(length >= 0);
	text[length] = '\0';
	close(fd);
}

/* tap-ctl with @words, of which "PID" and "MINOR" stand for the disk's; its exit status. */
static int tap_ctl(const char *words)
{
	int out = open_output("stdout"), err = open_output("stderr"), status;
	char *arguments[MAX_WORDS + 1], line[PATH_MAX + 256], path[300], pid[16], minor[16], *save;
	unsigned count = 0;
	pid_t child;

	snprintf(pid, sizeof(pid), "%d", f.pid);
	snprintf(minor, sizeof(minor), "%d", f.minor);
	snprintf(line, sizeof(line), "tap-ctl %s", words);
	for (char *word = strtok_r(line, " ", &save); word && count < MAX_WORDS; word = strtok_r(NULL, " ", &save))
		arguments[count++] = !strcmp(word, "PID") ? pid : !strcmp(word, "MINOR") ? minor : word;
	arguments[count] = NULL;
	fixture_find_program(path, sizeof(path), "tap-ctl");
	child = fork();
	if (!child) {
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		execv(path, arguments);
		_exit(126);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	read_output(out, out_text, sizeof(out_text));
	read_output(err, err_text, sizeof(err_text));
	if (!WIFEXITED(status))
		fail_msg("tap-ctl %s: allocation %ld: signal %d", words, fault_number, WTERMSIG(status));
	return WEXITSTATUS(status);
}

static void must(const char *words)
{
	if (tap_ctl(words))
		fail_msg("tap-ctl %s, after allocation %ld had failed: %s", words, fault_number, err_text);
}

static json_t *must_json(const char *words)
{
	json_t *json;

	must(words);
	json = json_loads(out_text, 0, NULL);
	if (!json)
		fail_msg("tap-ctl %s: no JSON: %s", words, out_text);
	return json;
}

/* The same members throughout, and the same values where @values; histograms differ in their length. */
static bool same_shape(json_t *a, json_t *b, bool values)
{
	const char *key;
	json_t *member;
	size_t i;

	if (values)
		return json_equal(a, b);
	if (json_is_object(a)) {
		json_object_foreach(a, key, member) {
			if (strcmp(key, "histogram") && !same_shape(member, json_object_get(b, key), false))
				return false;
		}
		return json_is_object(b) && json_object_size(a) == json_object_size(b);
	}
	if (json_is_array(a)) {
		json_array_foreach(a, i, member) {
			if (!same_shape(member, json_array_get(b, i), false))
				return false;
		}
		return json_is_array(b) && json_array_size(a) == json_array_size(b);
	}
	return b && json_typeof(a) == json_typeof(b);
}

/* It failed, with one line for a person. */
static void check_failure(const char *words, int status)
{
	size_t length = strlen(err_text);

	if (!length || strchr(err_text, '\n') != err_text + length - 1)
		fail_msg("tap-ctl %s: allocation %ld: exit status %d, and said: %s", words, fault_number, status, err_text);
}

static void check_answer(const char *words, json_t *wanted, bool values)
{
	json_t *got = json_loads(out_text, 0, NULL);

	if (!got || !same_shape(wanted, got, values) || !same_shape(got, wanted, values))
		fail_msg("tap-ctl %s: allocation %ld: not what it should be: %s", words, fault_number, out_text);
	json_decref(got);
}

static unsigned disk_state(void)
{
	json_t *list = must_json("list --json"), *disk;
	unsigned state = 0, found = 0;
	size_t i;

	json_array_foreach(json_object_get(list, "tapdisks"), i, disk) {
		if (json_integer_value(json_object_get(disk, "pid")) != f.pid)
			continue;
		state = (unsigned)json_integer_value(json_object_get(disk, "state"));
		found++;
	}
	json_decref(list);
	if (found != 1)
		fail_msg("after allocation %ld had failed the disk is listed %u times: %s", fault_number, found, out_text);
	return state;
}

static void open_disk(void)
{
	char words[sizeof(image_target) + 64];

	snprintf(words, sizeof(words), "open -p PID -m MINOR -a %s", image_target);
	must(words);
}

static void restore_running(void)
{
	unsigned state = disk_state();

	if (state & TD_CLOSED)
		open_disk();
	else if (state & TD_PAUSED)
		must("unpause -p PID -m MINOR");
	assert_int_equal(disk_state(), 0);
}

static void restore_paused(void)
{
	restore_running();
	must("pause -p PID -m MINOR");
}

static void restore_closed(void)
{
	if (!(disk_state() & TD_CLOSED))
		must("close -p PID -m MINOR");
}

/* @words with each of its allocations failing, from the state that @restore makes. @wanted: what it prints, or NULL. */
static void sweep(const char *words, void (*restore)(void), json_t *wanted, bool values)
{
	uint64_t start = now_ms();
	bool fired = true;
	int status;

	for (long number = first(stride); goes_on(fired, start); number += stride) {
		restore();
		arm(number);
		status = tap_ctl(words);
		fired = disarm_fired();
		if (status)
			check_failure(words, status);
		else if (wanted)
			check_answer(words, wanted, values);
		if (status && !fired)
			fail_msg("tap-ctl %s fails by itself: %s", words, err_text);
	}
	restore_running();
	json_decref(wanted);
}

static void test_asking(void **state)
{
	static const char info[] = "info -p PID -m MINOR --json", stats[] = "stats -p PID -m MINOR",
			  list[] = "list --json";

	front = fixture_connect(&f, (struct blkfront_options){ .queues = 2, .persistent = true });
	assert_int_equal(blkfront_pwrite(front, image_target, 512, 0), 0);
	sweep(list, restore_running, must_json(list), true);
	sweep(info, restore_running, must_json(info), true);
	sweep(stats, restore_running, must_json(stats), false);
}

static void test_pause(void **state)
{
	sweep("pause -p PID -m MINOR", restore_running, NULL, false);
	sweep("unpause -p PID -m MINOR", restore_paused, NULL, false);
	sweep("resize -p PID -m MINOR", restore_running, NULL, false);
	blkfront_disconnect(front);
	front = NULL;
}

/* No export, and no socket of one. */
static void restore_unexported(void)
{
	json_t *info, *export;
	char words[64];
	size_t i;

	restore_running();
	info = must_json("info -p PID -m MINOR --json");
	json_array_foreach(json_object_get(json_object_get(info, "disk"), "exports"), i, export) {
		snprintf(words, sizeof(words), "unexport -p PID -m MINOR %d",
			 (int)json_integer_value(json_object_get(export, "id")));
		must(words);
	}
	json_decref(info);
	if (!access(scratch_path("export"), F_OK))
		fail_msg("after allocation %ld had failed the socket of an export is still there", fault_number);
}

static void test_export(void **state)
{
	char words[PATH_MAX + 64];

	snprintf(words, sizeof(words), "export -p PID -m MINOR unix:%s", scratch_path("export"));
	sweep(words, restore_unexported, NULL, false);
	restore_unexported();
}

/* An NBD client may fail, with an answer; the next one does not. */
static void test_nbd(void **state)
{
	uint64_t start = now_ms();
	bool fired = true;
	char copy[400];
	int status;

	snprintf(copy, sizeof(copy), "env -u LD_PRELOAD nbdcopy --connections=2 "
		 "'nbd+unix:///?socket=%s/nbd%d.%d' null: 2>/dev/null", f.dir, f.pid, f.minor);
	for (long number = first(stride); goes_on(fired, start); number += stride) {
		arm(number);
		status = system(copy);
		fired = disarm_fired();
		if (status && !fired)
			fail_msg("nbdcopy fails by itself");
		assert_int_equal(disk_state(), 0);
		assert_int_equal(system(copy), 0);
	}
}

static void test_open_and_close(void **state)
{
	char words[sizeof(image_target) + 64];

	snprintf(words, sizeof(words), "open -p PID -m MINOR -a %s", image_target);
	sweep(words, restore_closed, NULL, false);
	sweep("close -p PID -m MINOR", restore_running, NULL, false);
}

static bool in_store(void)
{
	json_t *info = must_json("info -p PID -m MINOR --json");
	bool found = json_object_get(json_object_get(info, "disk"), "store");

	json_decref(info);
	return found;
}

/* It may be on its way back by itself: then a commit finds that going on, or the disk raw already, and fails. */
static void leave_store(void)
{
	uint64_t start = now_ms();

	while (in_store()) {
		if (tap_ctl("commit -p PID -m MINOR") && now_ms() - start > END_MS)
			fail_msg("after allocation %ld had failed the disk does not leave its store: %s", fault_number, err_text);
	}
}

/* Whatever it was, the disk is its raw image then, and nothing else is left. */
static void restore_raw(void)
{
	restore_running();
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
	char target[sizeof(image_target)];

	memcpy(target, image_target, sizeof(target));
	must("close -p PID -m MINOR");
	snprintf(image_target, sizeof(image_target), "aio:%s", scratch_file("moved", IMAGE_BYTES));
	open_disk();
	snprintf(move_words, sizeof(move_words), "snapshot-create -p PID -m MINOR -n one --store %s", scratch_path("moved.cow"));
	sweep(move_words, restore_raw, NULL, false);
	sweep("commit -p PID -m MINOR", restore_stored, NULL, false);
	restore_raw();
	must("close -p PID -m MINOR");
	memcpy(image_target, target, sizeof(target));
	open_disk();
}

static void test_connect(void **state)
{
	struct blkfront_options options = { .pid = f.pid, .minor = f.minor, .queues = 2, .persistent = true };
	uint64_t start = now_ms();
	bool fired = true;
	int error;

	for (long number = first(stride); goes_on(fired, start); number += stride) {
		char text[512] = "";

		arm(number);
		error = blkfront_connect(&front, &options, text, sizeof(text));
		fired = disarm_fired();
		if (error && (!fired || !text[0] || strchr(text, '\n')))
			fail_msg("connect: allocation %ld: %s: %s", number, strerror(-error), text);
		if (!error)
			blkfront_disconnect(front);
		assert_int_equal(disk_state(), 0);
	}
	front = NULL;
}

/* Requests of a round: writes here, reads of what was there before, of one page and of more than fit a direct one. */
enum { REQUESTS = 8, PAGES_EACH = 20, SECTORS_APART = 512 };

/* Not at a multiple of 4 KiB, for devices with such sectors. */
static uint64_t request_sector(unsigned i)
{
	return i * SECTORS_APART + 1;
}

static uint8_t *request_data(unsigned i)
{
	return (uint8_t *)blkfront_data(front) + i * PAGES_EACH * 4096;
}

static unsigned request_pages(unsigned i)
{
	return i % 2 ? 1 : PAGES_EACH;
}

static void put_requests(bool write)
{
	struct blkfront_segment segments[PAGES_EACH];

	for (unsigned i = 0; i < REQUESTS; i++) {
		for (unsigned page = 0; page < request_pages(i); page++)
			segments[page] = (struct blkfront_segment){
				.page = blkfront_data_ref(front, i * PAGES_EACH + page), .first = 0, .last = 7,
			};
		assert_int_equal(blkfront_rw(front, 0, i, write, request_sector(i), segments, request_pages(i), false), 0);
	}
}

static void fill_requests(long seed)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		fixture_pattern(request_data(i), request_pages(i) * 4096, seed * REQUESTS + i);
}

static void check_requests(long seed, const bool *good, const char *when)
{
	static uint8_t wanted[PAGES_EACH * 4096];

	for (unsigned i = 0; i < REQUESTS; i++) {
		fixture_pattern(wanted, request_pages(i) * 4096, seed * REQUESTS + i);
		if (good[i] && memcmp(wanted, request_data(i), request_pages(i) * 4096))
			fail_msg("%s: allocation %ld: request %u, which succeeded, has other data", when, fault_number, i);
	}
}

static void finish_requests(bool *good)
{
	struct blkfront_response responses[REQUESTS];

	fixture_finish(front, 0, responses, REQUESTS);
	for (unsigned i = 0; i < REQUESTS; i++)
		good[responses[i].id] = responses[i].status == BLKIF_RSP_OKAY;
}

static void read_requests(long seed, const bool *good, const char *when)
{
	bool read_good[REQUESTS];

	memset(request_data(0), 0, REQUESTS * PAGES_EACH * 4096);
	put_requests(false);
	finish_requests(read_good);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_true(read_good[i]);
	check_requests(seed, good, when);
}

/* True while there is more: the @number-th allocation was reached, in writing or in reading. */
static bool io_round(long number, bool fail_write, bool persistent)
{
	bool all[REQUESTS], good[REQUESTS], fired;

	memset(all, true, sizeof(all));
	open_disk();			/* a fresh one, which has no memory kept from before */
	front = fixture_connect(&f, (struct blkfront_options){ .persistent = persistent });
	fill_requests(number);
	if (fail_write)
		arm(number);
	put_requests(true);
	finish_requests(good);
	fired = fail_write && disarm_fired();
	if (fail_write) {
		read_requests(number, good, "write");
	} else {
		must("pause -p PID -m MINOR");
		must("unpause -p PID -m MINOR");
		memset(request_data(0), 0, REQUESTS * PAGES_EACH * 4096);
		arm(number);
		put_requests(false);
		finish_requests(good);
		fired = disarm_fired();
		check_requests(number, good, "read");
		read_requests(number, all, "read");
	}
	assert_int_equal(blkfront_sync(front), 0);
	blkfront_disconnect(front);
	front = NULL;
	must("close -p PID -m MINOR");
	return fired;
}

static void test_io(void **state)
{
	restore_closed();
	for (int kind = 0; kind < 4; kind++) {
		uint64_t start = now_ms();
		bool fired = true;

		for (long number = first(stride); goes_on(fired, start); number += stride)
			fired = io_round(number, kind & 1, kind & 2);
	}
	open_disk();
}

/* The process @pid is to end, and to have left no statistics. */
static void expect_end(int pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char path[64];
	struct stat st;

	if (fd >= 0 && poll(&poll_fd, 1, END_MS) != 1) {
		kill(pid, SIGKILL);
		fail_msg("allocation %ld: tapdisk %d does not end: %s", fault_number, pid, err_text);
	}
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof(path), "/dev/shm/td3-%d", pid);
	assert_int_equal(stat(path, &st), -1);
}

/* Whether @pid was started for our run folder, by its environment. */
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
	return pid != getpid() && length > 0 && memmem(environment, length, f.dir, strlen(f.dir));
}

/* Those that are still ending end. */
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

/* No process, and nothing in the run folder. */
static void expect_nothing_left(void)
{
	struct dirent *entry;
	DIR *dir = opendir(f.dir);
	char path[128];

	expect_no_process();
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "tapdisk"))
			fail_msg("allocation %ld: %s was left", fault_number, entry->d_name);
	}
	closedir(dir);
	snprintf(path, sizeof(path), "%s/tapdisk", f.dir);
	if (rmdir(path) && errno != ENOENT)
		fail_msg("allocation %ld: a marker was left: %s", fault_number, strerror(errno));
}

static void create_disk(bool must_work)
{
	char words[sizeof(image_target) + 64];
	json_t *json;
	int status;

	snprintf(words, sizeof(words), "create --json -a %s", image_target);
	status = tap_ctl(words);
	if (status && must_work)
		fail_msg("%s", err_text);
	f.pid = 0;
	if (status) {
		check_failure(words, status);
		return;
	}
	json = json_loads(out_text, 0, NULL);
	f.pid = (int)json_integer_value(json_object_get(json, "pid"));
	f.minor = (int)json_integer_value(json_object_get(json, "minor"));
	json_decref(json);
	if (!f.pid)
		fail_msg("create: allocation %ld: %s", fault_number, out_text);
}

/* The end of one tapdisk, of each as many of them as destroy has allocations. */
static void test_destroy(void **state)
{
	static const char words[] = "destroy -p PID -m MINOR";
	uint64_t start = now_ms();
	bool fired = true;
	int status;

	for (long number = first(stride); goes_on(fired, start); number += stride) {
		arm(number);
		status = tap_ctl(words);
		fired = disarm_fired();
		if (status) {
			check_failure(words, status);
			/* as far as it came, it is done; again, it must come to the end */
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
	uint64_t start = now_ms();
	bool fired = true;

	for (long number = first(stride * stride); goes_on(fired, start); number += stride * stride) {
		arm(number);
		create_disk(false);
		fired = disarm_fired();
		if (f.pid) {
			assert_int_equal(disk_state(), 0);
			must("destroy -p PID -m MINOR");
		}
		expect_nothing_left();
	}
}

static int setup(void **state)
{
	const char *image = scratch_file("image", IMAGE_BYTES), *device = scratch_loop(image, 4096);
	char library[300];
	int fd = open_output("fault");

	assert_int_equal(ftruncate(fd, sizeof(*fault)), 0);
	fault = mmap(NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(fault, MAP_FAILED);
	snprintf(image_target, sizeof(image_target), "aio:%s", device ? device : image);
	fixture_find_program(library, sizeof(library), "../lib/fault-malloc.so");
	assert_int_equal(access(library, R_OK), 0);
	setenv(FAULT_MALLOC_ENV, scratch_path("fault"), 1);
	setenv("LD_PRELOAD", library, 1);
	setenv(STATE_DIR_ENV, scratch_path("state"), 1);
	fixture_make_dir(&f);
	create_disk(true);
	return 0;
}

static int teardown(void **state)
{
	unsetenv("LD_PRELOAD");
	return rmdir(f.dir);
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
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_io),
		cmocka_unit_test(test_destroy),
		cmocka_unit_test(test_create),
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	puts("1..0 # SKIP a sanitizer has its own malloc, which has to come first");
	return 0;
#endif
	stride = every;
	scratch_init();
	return cmocka_run_group_tests(tests, setup, teardown);
}
