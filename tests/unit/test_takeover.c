/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_takeover.c - a tapdisk is killed under load and replaced; requests that
 * are refused, files that are left alone, data that is not trusted meanwhile.
 */
#include "takeover_load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"

#define DEVID 51712

static struct fixture f;
static struct load load;

/* The fixture, without the raw image that it makes. */
static void start_empty(void)
{
	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "close", "minor", f.minor)));
	assert_int_equal(unlink(f.image), 0);
}

/* The store that replaces it. */
static void open_store(void)
{
	snprintf(f.target, sizeof(f.target), "cow:%s", f.image);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:s}", "command", "open", "minor", f.minor, "target", f.target)));
}

static void start_store(void)
{
	start_empty();
	load_make_disk("cow", f.image);
	open_store();
}

static void start_load(void)
{
	load_start(&load, fixture_connect(&f, load_options(true)), 1);
	for (int i = 0; i < 5; i++) {
		load_put(&load, LOAD_DEPTH);
		assert_true(load_wait(&load));
	}
	load_put(&load, LOAD_DEPTH);
}

static void kill_it(void)
{
	assert_int_equal(kill(f.pid, SIGKILL), 0);
	while (load_wait(&load))	/* what it had answered */
		;
	tapctl_close(f.ctl);
	f.ctl = NULL;
}

static void has_successor(int pid)
{
	struct error_text text = { "" };
	char why[512] = "";

	if (pid < 0)
		fail_msg("%s (%d)", why, pid);
	f.pid = pid;
	if (blkfront_follow(load.front, pid, why, sizeof(why)))
		fail_msg("follow: %s", why);
	if (!f.ctl)
		assert_int_equal(tapctl_connect(&f.ctl, pid, &text), 0);
}

static void take_over(int minor)
{
	struct error_text text = { "" };
	int pid = tapctl_takeover(f.pid, minor, &text);

	if (pid < 0)
		fail_msg("takeover: %s", text.text);
	has_successor(pid);
}

static void refused(int error, const char *part)
{
	struct error_text text = { "" };

	assert_int_equal(tapctl_takeover(f.pid, -1, &text), error);
	if (!strstr(text.text, part))
		fail_msg("it says: %s", text.text);
}

static void finish(void)
{
	assert_true(load_finish(&load));
	load_check(&load);
	blkfront_disconnect(load.front);
	fixture_stop(&f);
}

/* The dead disk is given up, as the hotplug script does it. */
static void give_up(void)
{
	char tap_ctl[300];

	blkfront_vanish(load.front);
	fixture_find_program(tap_ctl, sizeof(tap_ctl), "tap-ctl");
	load_shell("%s destroy -p %d -m %d", tap_ctl, f.pid, f.minor);
	assert_int_equal(unlink(f.image), 0);
	load_shell("rmdir %s/tapdisk %s", f.dir, f.dir);
}

static void test_raw(void **state)
{
	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	start_load();
	kill_it();
	take_over(-1);
	finish();
}

/* Changes that are only in the journal: nothing was flushed when the tapdisk died, and its successor dies, too. */
static void test_store(void **state)
{
	start_store();
	start_load();
	for (int i = 0; i < 3; i++) {
		kill_it();
		take_over(-1);
		load_put(&load, LOAD_DEPTH);
	}
	finish();
}

/* A discard was answered of blocks that are in the log: their old contents must not come back. */
static void test_discard(void **state)
{
	uint8_t block[4096], zeroes[4096] = { 0 };
	struct blkfront_response response;

	start_store();
	load_start(&load, fixture_connect(&f, load_options(true)), 1);
	memset(block, 0x77, sizeof(block));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(blkfront_pwrite(load.front, block, sizeof(block), i * 4096), 0);
	assert_int_equal(blkfront_sync(load.front), 0);
	assert_int_equal(blkfront_discard(load.front, 0, 1, 0, 4 * 8, false), 0);
	fixture_finish(load.front, 0, &response, 1);
	assert_int_equal(response.status, 0);
	kill_it();
	take_over(-1);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(blkfront_pread(load.front, block, sizeof(block), i * 4096), 0);
		if (i < 4)
			assert_memory_equal(block, zeroes, sizeof(block));
		else
			assert_int_equal(block[17], 0x77);
	}
	blkfront_disconnect(load.front);
	fixture_stop(&f);
}

/* Snapshots are not in the log yet, and what was written later must follow them. */
static void test_snapshot(void **state)
{
	json_t *reply;

	start_store();
	start_load();
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:s}", "command", "snapshot-create", "minor", f.minor, "name", "one")));
	for (int i = 0; i < 20; i++) {
		load_put(&load, LOAD_DEPTH);
		assert_true(load_wait(&load));
	}
	kill_it();
	take_over(-1);
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "snapshot-list", "minor", f.minor));
	assert_int_equal(json_array_size(json_object_get(reply, "snapshots")), 1);
	json_decref(reply);
	finish();
}

static void test_limits_and_options(void **state)
{
	json_t *reply, *throttle;

	fixture_start(&f, LOAD_BYTES, NULL, json_pack("{s:i}", "sector_size", 4096));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:i}", "command", "throttle", "minor", f.minor, "iops", 5000)));
	start_load();
	kill_it();
	take_over(-1);
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "stats", "minor", f.minor));
	throttle = json_object_get(json_object_get(reply, "stats"), "throttle");
	assert_int_equal(json_integer_value(json_object_get(throttle, "iops")), 5000);
	json_decref(reply);
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(reply, "disk"), "sector_size")), 4096);
	json_decref(reply);
	finish();
}

int __real_tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text);
int __wrap_tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text);

static bool dies_after_open;

int __wrap_tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text)
{
	bool last = dies_after_open && !strcmp(json_string_value(json_object_get(request, "command")), "open");
	int error = __real_tapctl_call(ctl, request, reply, timeout_ms, text);

	if (last)
		_exit(0);
	return error;
}

/* The process that takes over is killed once the disk is open, and nobody takes over again: the limits still apply. */
static void test_limits_when_client_dies(void **state)
{
	json_t *reply;
	pid_t child;

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:i}", "command", "throttle", "minor", f.minor, "iops", 5000)));
	start_load();
	kill_it();
	fflush(NULL);
	child = fork();
	if (!child) {
		dies_after_open = true;
		tapctl_takeover(f.pid, -1, NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	tapctl_process_clean(f.pid);
	has_successor(tapctl_takeover_owner(f.minor));
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "stats", "minor", f.minor));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(reply, "stats"), "throttle"), "iops")), 5000);
	json_decref(reply);
	finish();
}

static void test_upgrade(void **state)
{
	struct error_text text = { "" };
	int pid;

	start_store();
	start_load();
	refused(-EBUSY, "alive");
	pid = tapctl_upgrade(f.pid, &text);
	if (pid < 0)
		fail_msg("upgrade: %s", text.text);
	tapctl_close(f.ctl);
	f.ctl = NULL;
	load_take(&load);
	has_successor(pid);
	finish();
}

/* Another process may have the image of a paused disk. */
static void test_paused(void **state)
{
	struct error_text text = { "" };

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	start_load();
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "pause", "minor", f.minor)));
	assert_int_equal(tapctl_upgrade(f.pid, &text), -ENOENT);
	kill_it();
	refused(-ENOENT, "paused");
	take_over(f.minor);
	finish();
}

/* Sends one line to the control socket, over a separate connection. */
static int send_command(const char *command)
{
	struct error_text text = { "" };
	struct tapctl *ctl;
	char line[128];
	int fd;

	if (tapctl_connect(&ctl, f.pid, &text))
		fail_msg("connect: %s", text.text);
	fd = dup(tapctl_fd(ctl));
	tapctl_close(ctl);
	snprintf(line, sizeof(line), "{\"version\": 1, \"command\": \"%s\", \"minor\": %d}\n", command, f.minor);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	return fd;
}

static void expect_reply(int fd, const char *part)
{
	char line[512] = "";

	assert_true(read(fd, line, sizeof(line) - 1) > 0);
	if (!strstr(line, part))
		fail_msg("\"%s\" does not say \"%s\"", line, part);
	close(fd);
}

/* A pause that was ended by a close counts no more, and does not affect the next open. */
static void test_closed_instead_of_paused(void **state)
{
	int pause_fd, close_fd;

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	/* both are there before tapdisk looks */
	assert_int_equal(kill(f.pid, SIGSTOP), 0);
	pause_fd = send_command("pause");
	close_fd = send_command("close");
	assert_int_equal(kill(f.pid, SIGCONT), 0);
	expect_reply(pause_fd, "was closed");
	expect_reply(close_fd, "\"ok\":true");
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:s}", "command", "open", "minor", f.minor, "target", f.target)));
	start_load();
	kill_it();
	take_over(-1);
	finish();
}

static void test_store_opened_by_others(void **state)
{
	char tap_img[300];

	start_store();
	start_load();
	kill_it();
	fixture_find_program(tap_img, sizeof(tap_img), "tap-img");
	while (tapctl_process_clean(f.pid))
		;
	load_shell("for i in $(seq 500); do %s snapshot -c x %s 2>/dev/null && exit 0; done; exit 1", tap_img, f.image);
	refused(-ESTALE, "another process has opened it");
	give_up();
}

static void damage(const char *name, off_t offset)
{
	char path[200];
	uint8_t byte;
	int fd;

	snprintf(path, sizeof(path), "%s/takeover/%d/%s", f.dir, f.minor, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x55;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

/* Nothing is flushed: what was answered to the frontend is only in the journal's first area. */
static void test_journal_damaged(void **state)
{
	uint8_t block[4096];

	start_store();
	load_start(&load, fixture_connect(&f, load_options(true)), 1);
	memset(block, 0x77, sizeof(block));
	assert_int_equal(blkfront_pwrite(load.front, block, sizeof(block), 0), 0);
	kill_it();
	damage("journal", 4096 + 20);
	refused(-EUCLEAN, "cannot be replayed");
	give_up();
}

/* Each meaningful byte of it is changed: it is refused, or taken for another frontend's; it never crashes. */
static void test_table_damaged(void **state)
{
	static const off_t places[] = {
		0, 8, 12, 16, 60, 72, 100,	/* magic, version, checksum, boot, counts, protocol, references */
		4096, 4096 + 4, 4096 + 8, 4096 + 12, 4096 + 16, 4096 + 20,	/* taken, responded, pushed */
	};
	char name[64], why[512];

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	start_load();
	kill_it();
	f.pid = tapctl_takeover(f.pid, -1, NULL);
	assert_true(f.pid > 0);
	snprintf(name, sizeof(name), "frontend-1-%d", DEVID);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		int r;

		damage(name, places[i]);
		r = blkfront_follow(load.front, f.pid, why, sizeof(why));
		if (r != -EUCLEAN && r != -EPROTO)
			fail_msg("byte %lld: %d", (long long)places[i], r);
		damage(name, places[i]);
	}
	has_successor(f.pid);
	finish();
}

/* One more disk in the fixture's tapdisk. */
static int open_other(const char *type, const char *image)
{
	char target[200];
	int minor = tapctl_minor_allocate(-1, NULL);

	assert_true(minor > f.minor);
	snprintf(target, sizeof(target), "%s:%s", type, image);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "attach", "minor", minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:s}", "command", "open", "minor", minor, "target", target)));
	return minor;
}

static void destroy_other(int pid, int minor, const char *image)
{
	char tap_ctl[300];

	fixture_find_program(tap_ctl, sizeof(tap_ctl), "tap-ctl");
	load_shell("%s destroy -p %d -m %d", tap_ctl, pid, minor);
	assert_int_equal(unlink(image), 0);
}

/*
 * A disk that cannot be opened does not keep the other disks of the same tapdisk from a takeover, and
 * can be taken over later.
 */
static void test_one_of_two(void **state)
{
	char other[120], away[120];
	int minor, pid;

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	snprintf(other, sizeof(other), "%s/other", f.dir);
	snprintf(away, sizeof(away), "%s/away", f.dir);
	load_make_disk("aio", other);
	minor = open_other("aio", other);
	start_load();
	kill_it();
	assert_int_equal(rename(f.image, away), 0);
	refused(-ENOENT, "minor 0: ");
	pid = tapctl_takeover_owner(minor);
	assert_int_not_equal(pid, f.pid);
	assert_int_equal(tapctl_takeover_owner(f.minor), f.pid);
	assert_int_equal(rename(away, f.image), 0);
	take_over(-1);
	destroy_other(pid, minor, other);
	finish();
}

/* A clone may have a lower minor than its original. */
static void test_clone(void **state)
{
	char original[120], tap_img[300];
	int minor;

	start_empty();
	snprintf(original, sizeof(original), "%s/original", f.dir);
	load_make_disk("cow", original);
	fixture_find_program(tap_img, sizeof(tap_img), "tap-img");
	load_shell("%s snapshot -c s %s && %s create -F cow -b %s@s %s >/dev/null", tap_img, original, tap_img, original, f.image);
	minor = open_other("cow", original);
	open_store();
	start_load();
	kill_it();
	take_over(-1);
	assert_int_equal(tapctl_takeover_owner(minor), f.pid);
	destroy_other(f.pid, minor, original);
	finish();
}

/* A frontend that connects from the beginning has nothing in its rings. */
static void test_fresh_frontend(void **state)
{
	char path[200], other[200];

	fixture_start(&f, LOAD_BYTES, NULL, NULL);
	start_load();
	snprintf(path, sizeof(path), "%s/takeover/%d/frontend-1-%d", f.dir, f.minor, DEVID);
	snprintf(other, sizeof(other), "%s/other", f.dir);
	assert_int_equal(access(path, F_OK), 0);
	assert_true(load_finish(&load));
	blkfront_disconnect(load.front);
	assert_int_equal(access(path, F_OK), -1);
	fixture_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_limits_and_options),
		cmocka_unit_test(test_limits_when_client_dies),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_closed_instead_of_paused),
		cmocka_unit_test(test_store_opened_by_others),
		cmocka_unit_test(test_journal_damaged),
		cmocka_unit_test(test_table_damaged),
		cmocka_unit_test(test_one_of_two),
		cmocka_unit_test(test_clone),
		cmocka_unit_test(test_fresh_frontend),
	};

	return cmocka_run_group_tests_name("takeover", tests, NULL, NULL);
}
