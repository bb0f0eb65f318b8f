/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_takeover.c - a tapdisk with connected frontends dies: tapback
 * starts a takeover, and follows the successor; or says why not. A script that
 * the test writes stands for `tap-ctl takeover`.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "tapback_fixture.h"

#define SUCCESSOR 4321

static struct fake_tapdisk second;

static void write_file(const char *name, mode_t mode, const char *text)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", run_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The record of the tapdisk @pid about its disk. */
static void write_record(int pid)
{
	char boot[64] = "", text[400], path[200];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	assert_true(read(fd, boot, sizeof(boot) - 1) > 0);
	close(fd);
	boot[strcspn(boot, "\n")] = '\0';
	snprintf(path, sizeof(path), "%s/takeover", run_dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/takeover/0", run_dir);
	mkdir(path, 0700);
	snprintf(text, sizeof(text), "{\"version\":1,\"boot\":\"%s\",\"pid\":%d,\"name\":\"%d-1\",\"minor\":0,\"target\":\"aio:/x\","
		 "\"paused\":false,\"read_only\":false}", boot, pid, pid);
	write_file("takeover/0/disk", 0600, text);
}

/* The script counts its runs, checks its arguments, and does @what. */
static void write_script(const char *what)
{
	char text[600];

	snprintf(text, sizeof(text), "#!/bin/sh\ncd %s\necho run >>runs\n[ \"$*\" = \"takeover -p %d\" ] || exit 9\n%s\n", run_dir, PID,
		 what);
	write_file("tap-ctl", 0700, text);
}

static unsigned runs(void)
{
	struct stat st;
	char path[200];

	snprintf(path, sizeof(path), "%s/runs", run_dir);
	return stat(path, &st) ? 0 : (unsigned)st.st_size / 4;
}

static void wait_for_error(const char *part)
{
	for (int turns = 0; turns < 200 && !strstr(back(3, "error"), part); turns++) {
		assert_true(sd_event_run(tapback.event, WAIT_US) > 0);
		settle();
	}
	assert_non_null(strstr(back(3, "error"), part));
}

static void test_followed(void **state)
{
	char path[200];

	connect_disk(3, "w");
	write_record(PID);
	write_script("sed -i s/\\\"pid\\\":1234/\\\"pid\\\":4321/ takeover/0/disk");
	fake_tapdisk_start(&second, tapback.event, SUCCESSOR);
	fake_tapdisk_die(&tapdisk);
	wait_for(3, "pid", "4321");
	snprintf(path, sizeof(path), "%s/nbd%d.0", run_dir, SUCCESSOR);
	assert_string_equal(back(3, "physical-device-path"), path);
	wait_for(3, "kthread-pid", "4321");
	assert_int_equal(runs(), 1);
	assert_int_equal(second.connects, 1);
	assert_true(json_is_true(json_object_get(second.last_connect, "take_over")));
	assert_string_equal(back(3, "state"), "4");
	assert_string_equal(back(3, "error"), "(none)");
}

/* A frontend that has not used its ring yet has nothing in it: that is a new connection. */
static void test_fresh(void **state)
{
	connect_disk(3, "w");
	assert_true(json_is_false(json_object_get(tapdisk.last_connect, "take_over")));
}

/* Another process was faster, for example `tap-ctl upgrade`. */
static void test_done_by_others(void **state)
{
	connect_disk(3, "w");
	write_record(SUCCESSOR);
	write_script("exit 1");
	fake_tapdisk_start(&second, tapback.event, SUCCESSOR);
	fake_tapdisk_die(&tapdisk);
	wait_for(3, "pid", "4321");
	wait_for(3, "kthread-pid", "4321");
	assert_int_equal(runs(), 0);
	assert_int_equal(second.connects, 1);
}

static void test_failure_is_told(void **state)
{
	connect_disk(3, "w");
	write_record(PID);
	write_script("echo 'tap-ctl: takeover: the image is gone' >&2; exit 1");
	fake_tapdisk_die(&tapdisk);
	wait_for_error("the image is gone");
	assert_string_equal(back(3, "pid"), "1234");
	assert_int_equal(runs(), 1);
}

/* Each reports that it has taken over, and is dead when it is queried. */
static void test_no_end(void **state)
{
	connect_disk(3, "w");
	write_record(PID);
	write_script("exit 0");
	fake_tapdisk_die(&tapdisk);
	wait_for_error("not replaced again");
	assert_int_equal(runs(), 5);
}

/* The toolstack removes the disk meanwhile. */
static void test_leaving(void **state)
{
	connect_disk(3, "w");
	write_record(PID);
	write_script("exit 1");
	put_front(3, "state", "6");
	toolstack_detaches(3);
	fake_tapdisk_die(&tapdisk);
	wait_for(3, "state", "6");
	assert_int_equal(runs(), 0);
}

static int tear_down_two(void **state)
{
	int ret = tear_down(state);
	char path[200];

	if (second.pid)
		fake_tapdisk_die(&second);
	memset(&second, 0, sizeof(second));
	snprintf(path, sizeof(path), "%s/takeover", run_dir);
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	snprintf(path, sizeof(path), "%s/runs", run_dir);
	unlink(path);
	return ret;
}

static int make_dir(void **state)
{
	char path[4096];
	int ret = make_run_dir(state);

	snprintf(path, sizeof(path), "%s:%s", run_dir, getenv("PATH"));
	return ret || setenv("PATH", path, 1);
}

#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_two)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_TWO(test_followed), TEST_TWO(test_fresh), TEST_TWO(test_done_by_others), TEST_TWO(test_failure_is_told),
		TEST_TWO(test_no_end), TEST_TWO(test_leaving),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_run_dir);
}
