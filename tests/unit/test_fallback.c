/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_fallback.c - tapdisk where io_uring is not permitted: it says so, and
 * serves its disk through libaio.
 *
 * A seccomp filter simulates a machine that refuses. The test starts this
 * program in tapdisk's place: it installs the filter, then executes tapdisk,
 * logging to a file.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#define DISK_BYTES (4u << 20)

/* The errors of the calls, as numbers; 0 or nothing: they work. */
#define URING_ENV "TEST_URING_ERROR"
#define AIO_ENV "TEST_AIO_ERROR"
#define LOG_ENV "TEST_LOG"

static struct fixture f;
static char log_file[] = "/var/tmp/tapsnap-fallback.XXXXXX";

static int number_in(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

static void refuse(scmp_filter_ctx filter, int call, int error)
{
	if (error && seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), call, 0))
		exit(1);
}

/* Runs as tapdisk would. */
static int become_tapdisk(char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	char path[300], log_stderr[] = "--log-stderr";
	char *arguments[] = { path, argv[1], argv[2], log_stderr, NULL };
	int fd = open(getenv(LOG_ENV), O_WRONLY | O_APPEND | O_CLOEXEC);

	if (!filter || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		return 1;
	fixture_find_program(path, sizeof(path), "tapdisk");
	refuse(filter, SCMP_SYS(io_uring_setup), number_in(URING_ENV));
	refuse(filter, SCMP_SYS(io_setup), number_in(AIO_ENV));
	if (seccomp_load(filter))
		return 1;
	seccomp_release(filter);
	execv(path, arguments);
	return 1;
}

static void set_errors(int uring_error, int aio_error)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", uring_error);
	setenv(URING_ENV, number, 1);
	snprintf(number, sizeof(number), "%d", aio_error);
	setenv(AIO_ENV, number, 1);
	assert_int_equal(truncate(log_file, 0), 0);
}

static void expect_logged(const char *words)
{
	char text[8192];
	int fd = open(log_file, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	assert_true(length >= 0);
	close(fd);
	text[length] = '\0';
	if (!strstr(text, words))
		fail_msg("not logged: %s; but: %s", words, text);
}

static void expect_engine(const char *name)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor));

	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "disk"), "engine")), name);
	json_decref(reply);
}

/* The whole disk, through the ring, in pieces of several sizes; then the file is compared. */
static void verify_disk(bool persistent)
{
	static const size_t sizes[] = { 512, 4096, 45056, 131072, 3584 };
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .persistent = persistent });
	uint8_t *written = malloc(DISK_BYTES), *read_back = malloc(DISK_BYTES);
	size_t at = 0, bytes;
	int fd;

	fixture_pattern(written, DISK_BYTES, persistent);
	for (unsigned i = 0; at < DISK_BYTES; i++, at += bytes) {
		bytes = sizes[i % 5] < DISK_BYTES - at ? sizes[i % 5] : DISK_BYTES - at;
		assert_int_equal(blkfront_pwrite(front, written + at, bytes, at), 0);
	}
	assert_int_equal(blkfront_sync(front), 0);
	assert_int_equal(blkfront_pread(front, read_back, DISK_BYTES, 0), 0);
	assert_memory_equal(written, read_back, DISK_BYTES);
	if (blkfront_geometry(front)->discard) {
		assert_int_equal(blkfront_discard(front, 0, 1, 0, 2048, false), 0);
		assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_DISCARD), BLKIF_RSP_OKAY);
		memset(written, 0, 2048 * 512);
	}
	blkfront_disconnect(front);
	fd = open(f.image, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, read_back, DISK_BYTES), DISK_BYTES);
	close(fd);
	assert_memory_equal(written, read_back, DISK_BYTES);
	free(written);
	free(read_back);
}

static void falls_back(int uring_error)
{
	char words[128];

	set_errors(uring_error, 0);
	fixture_start(&f, DISK_BYTES, NULL, NULL);
	snprintf(words, sizeof(words), "io_uring is not available (%s): using libaio", strerror(uring_error));
	expect_logged(words);
	expect_logged("engine libaio\n");
	expect_engine("libaio");
	verify_disk(false);
	verify_disk(true);
	fixture_stop(&f);
}

static void test_not_permitted(void **state)
{
	falls_back(EPERM);
}

static void test_kernel_without(void **state)
{
	falls_back(ENOSYS);
}

/* It cannot start, says what to do, and leaves nothing behind. */
static void start_fails(int error, const char *words)
{
	struct error_text text = { "" };
	struct stat st;
	char path[128];
	int ret;

	fixture_make_dir(&f);
	ret = tapctl_spawn(&text);
	if (ret != -error || !strstr(text.text, words))
		fail_msg("%d: %s", ret, text.text);
	expect_logged(words);
	snprintf(path, sizeof(path), "%s/tapdisk", f.dir);
	if (!stat(path, &st))
		assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(f.dir), 0);
}

static void test_no_room_for_libaio(void **state)
{
	set_errors(EPERM, EAGAIN);
	start_fails(EDQUOT, "fs.aio-max-nr");
}

static void test_neither(void **state)
{
	set_errors(ENOSYS, ENOSYS);
	start_fails(ENOSYS, "no I/O engine can be opened: Function not implemented");
}

/* A fallback does not hide other errors. */
static void test_another_failure(void **state)
{
	set_errors(EMFILE, 0);
	start_fails(EMFILE, "no I/O engine can be opened: Too many open files");
}

static int setup(void **state)
{
	int fd = mkstemp(log_file);

	close(fd);
	setenv(LOG_ENV, log_file, 1);
	fixture_tapdisk = "/proc/self/exe";
	return fd < 0;
}

static int teardown(void **state)
{
	return unlink(log_file);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_permitted),
		cmocka_unit_test(test_kernel_without),
		cmocka_unit_test(test_no_room_for_libaio),
		cmocka_unit_test(test_neither),
		cmocka_unit_test(test_another_failure),
	};

	if (argc == 3)
		return become_tapdisk(argv);
	return cmocka_run_group_tests(tests, setup, teardown);
}
