/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_dead_store.c - a store is opened, paused or closed, and its storage
 * stops answering at each of the requests of that in turn: the process answers
 * commands, and its other disk reads and writes. When the storage answers
 * again the command ends, and the store is clean.
 */
#include "hanging_disks.h"

#define OTHER_BYTES (8u << 20)
#define STORE_BYTES "8M"
#define PIECE 4096u
#define PIECES 40u
#define APART (128u << 10)
#define MANY 1000u			/* requests: no close has as many */
#define AT_CLOSE 3u			/* requests: a drain and a close have more */
#define DRAIN_SYNCS 2u			/* of the drain's flush: data, and log; what is written in the background has none */
#define AT_OPEN 4u			/* requests: an open has more */

/* "cow:" and a store, new, in the file system that hangs. @base: a snapshot of another store, or NULL. */
static const char *new_store(const char *name, const char *base)
{
	static char targets[4][300];
	static unsigned turn;
	char *target = targets[turn++ % 4], path[300];

	hanging_store_path(path, name);
	unlink(path);
	if (base)
		tap_img("create -b %s %s", base, path);
	else
		tap_img("create %s " STORE_BYTES, path);
	snprintf(target, sizeof(targets[0]), "cow:%s/%s", hanging.path, name);
	return target;
}

/* A store on a snapshot of another one, *@below. */
static const char *new_stores(const char *name_below, const char *name, const char **below)
{
	char base[400];

	*below = new_store(name_below, NULL);
	tap_img("snapshot -c one %s", *below);
	snprintf(base, sizeof(base), "%s@one", *below);
	return new_store(name, base);
}

static void check_store(const char *name)
{
	char path[300];

	hanging_store_path(path, name);
	tap_img("check %s", path);
}

#define START_OR_SKIP(seconds) do { if (start_with(OTHER_BYTES, seconds)) skip(); } while (0)

/* True: a request of the store waits. False: the command has ended without one. */
static bool hangs(struct tapctl *command)
{
	for (unsigned ms = 0; !hanging_has_held(1) && !has_answer(command, 0); ms++) {
		assert_true(ms < TIMEOUT_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return hanging_has_held(1);
}

static void use_the_rest(void)
{
	static uint8_t data[65536], back[sizeof(data)];
	static unsigned turn;
	uint64_t offset = ++turn % 60 * sizeof(data);
	int fd;

	call(json_pack("{s:s}", "command", "list"));
	call(minor_request("stats", f.minor));
	fd = client_of(f.minor);
	fixture_pattern(data, sizeof(data), turn);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, offset, sizeof(data), data), 0);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, offset, sizeof(data), back), 0);
	assert_memory_equal(data, back, sizeof(data));
	client_leave(fd);
}

/* Each piece in its own part of the map. Not flushed. */
static void write_pieces(int minor, unsigned stamp)
{
	uint8_t data[PIECE];
	int fd = client_of(minor);

	for (unsigned i = 0; i < PIECES; i++) {
		fixture_pattern(data, sizeof(data), stamp * PIECES + i);
		assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, (uint64_t)i * APART, sizeof(data), data), 0);
	}
	client_leave(fd);
}

static void expect_pieces(int minor, unsigned stamp)
{
	uint8_t data[PIECE], back[PIECE];
	int fd = client_of(minor);

	for (unsigned i = 0; i < PIECES; i++) {
		fixture_pattern(data, sizeof(data), stamp * PIECES + i);
		assert_int_equal(client_command(fd, NBD_CMD_READ, 0, (uint64_t)i * APART, sizeof(back), back), 0);
		assert_memory_equal(data, back, sizeof(data));
	}
	client_leave(fd);
}

/* Sends @request to a tapdisk whose storage stops answering after @requests; false: it has no more of them. */
static bool hang_with(unsigned requests, json_t *request)
{
	struct tapctl *waits;
	bool hung;

	hanging_set_after(requests);
	waits = send_command(request);
	hung = hangs(waits);
	if (hung) {
		use_the_rest();
		assert_false(has_answer(waits, 0));
	}
	hanging_set(false);
	expect_answer(waits);
	return hung;
}

static bool hang_after(unsigned requests, const char *command, int minor)
{
	return hang_with(requests, minor_request(command, minor));
}

static void test_close(void **state)
{
	const char *target;
	unsigned n;
	int minor;

	START_OR_SKIP(FOREVER);
	target = new_store("store", NULL);
	minor = add_disk(target);
	for (n = 0; n < MANY; n++) {
		write_pieces(minor, n);
		if (!hang_after(n, "close", minor))
			break;
		check_store("store");
		call(open_request(minor, target));
		expect_pieces(minor, n);
	}
	assert_in_range(n, AT_CLOSE + 1, MANY - 1);
	call(open_request(minor, target));
	remove_disk(minor);
	check_store("store");
	stop();
}

static void test_pause(void **state)
{
	unsigned n;
	int minor;

	START_OR_SKIP(FOREVER);
	minor = add_disk(new_store("store", NULL));
	for (n = 0; n < MANY; n++) {
		write_pieces(minor, n);
		if (!hang_after(n, "pause", minor))
			break;
		check_store("store");
		call(minor_request("unpause", minor));
		expect_pieces(minor, n);
	}
	assert_in_range(n, AT_CLOSE + 1, MANY - 1);
	call(minor_request("unpause", minor));
	remove_disk(minor);
	check_store("store");
	stop();
}

/* @name: with reads that hang, or without; these hang already when it is found out whether the store answers. */
static void open_in_turn(const char *name)
{
	const char *target;
	unsigned n;
	int minor;

	START_OR_SKIP(FOREVER);
	target = new_store(name, NULL);
	minor = add_disk(target);
	for (n = 0; n < MANY; n++) {
		write_pieces(minor, n);
		call(minor_request("close", minor));
		if (!hang_with(n, open_request(minor, target)))
			break;
		expect_pieces(minor, n);
	}
	assert_in_range(n, AT_OPEN, MANY - 1);
	for (n = 0; n < MANY; n++) {
		write_pieces(minor, n);
		call(minor_request("pause", minor));
		if (!hang_after(n, "unpause", minor))
			break;
		expect_pieces(minor, n);
	}
	assert_in_range(n, AT_OPEN, MANY - 1);
	remove_disk(minor);
	check_store(name);
	stop();
}

static void test_open(void **state)
{
	open_in_turn("store");
}

static void test_open_reading(void **state)
{
	open_in_turn("storeread");
}

/* A store on a snapshot of another one. */
static void test_open_base(void **state)
{
	const char *below, *target;
	unsigned n;
	int minor;

	START_OR_SKIP(FOREVER);
	target = new_stores("storeread1", "storeread2", &below);
	minor = attach();
	for (n = 0; n < MANY && hang_with(n, open_request(minor, target)); n++) {
		if (n)
			expect_pieces(minor, n - 1);
		write_pieces(minor, n);
		call(minor_request("close", minor));
	}
	assert_in_range(n, 2 * AT_OPEN, MANY - 1);
	remove_disk(minor);
	check_store("storeread1");
	check_store("storeread2");
	stop();
}

/* Who waits too long gets no disk, and nothing stays open. */
static void test_open_limit(void **state)
{
	const char *target;
	struct error_text text;
	int minor;

	START_OR_SKIP("1");
	target = new_store("store", NULL);
	minor = attach();
	for (unsigned n = 0; n < AT_OPEN; n++) {
		hanging_set_after(n);
		assert_int_equal(take_answer(send_command(open_request(minor, target)), &text), -ETIMEDOUT);
		use_the_rest();
		assert_int_not_equal(take_answer(send_command(open_request(minor, target)), &text), 0);
		use_the_rest();
		hanging_set(false);
		assert_true(hanging_wait_open(0));
		check_store("store");
	}
	call(open_request(minor, target));
	write_pieces(minor, 1);
	remove_disk(minor);
	check_store("store");
	stop();
}

/* The disk is given up, and the process ends, before the store is open. */
static void test_open_given_up(void **state)
{
	struct tapctl *waits;
	struct error_text text;
	const char *target;
	int minor;

	START_OR_SKIP(FOREVER);
	target = new_store("store", NULL);
	minor = attach();
	hanging_set_after(1);
	waits = send_command(open_request(minor, target));
	assert_true(hangs(waits));
	call(minor_request("detach", minor));
	use_the_rest();
	hanging_set(false);
	assert_int_equal(take_answer(waits, &text), -ENODEV);
	assert_true(hanging_wait_open(0));
	check_store("store");
	call(minor_request("attach", minor));
	hanging_set_after(1);
	waits = send_command(open_request(minor, target));
	assert_true(hangs(waits));
	assert_int_equal(kill(f.pid, SIGTERM), 0);
	assert_int_equal(take_answer(waits, &text), -ESHUTDOWN);
	wait_for_end();
	hanging_set(false);
	assert_true(hanging_wait_open(0));
	free_minor(minor);
	free_minor(f.minor);
	assert_int_equal(unlink(f.image), 0);
	check_store("store");
	hanging_stop();
}

/* The last disk on a snapshot of another store closes that store, too. */
static void test_base(void **state)
{
	const char *below, *target;
	unsigned n;
	int minor, base;

	START_OR_SKIP(FOREVER);
	target = new_stores("store1", "store2", &below);
	for (n = 0; n < MANY; n++) {
		base = add_disk(below);
		minor = add_disk(target);
		write_pieces(base, n);
		write_pieces(minor, n + 1);
		remove_disk(base);	/* open for the other disk, and for writing */
		if (!hang_after(n, "close", minor))
			break;
		remove_disk(minor);
		check_store("store1");
		check_store("store2");
	}
	assert_in_range(n, AT_CLOSE + 1, MANY - 1);
	remove_disk(minor);
	stop();
}

/* Behind the pieces: more map changes than a close writes in a moment. */
static void write_many(int minor)
{
	static uint8_t data[2u << 20];
	int fd = client_of(minor);

	fixture_pattern(data, sizeof(data), 1);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, (uint64_t)PIECES * APART, sizeof(data), data), 0);
	client_leave(fd);
}

/* Nobody waits longer than the limit; until the store is closed it is in use. */
static void limit_with(bool many)
{
	const char *target;
	struct error_text text;
	struct tapctl *again;
	int minor, other;

	START_OR_SKIP("1");
	target = new_store("store", NULL);
	minor = add_disk(target);
	other = attach();
	if (many)
		write_many(minor);
	write_pieces(minor, 1);
	hanging_set_after_syncs(DRAIN_SYNCS);
	expect_stuck(send_command(minor_request("close", minor)), "store", "the disk is closed when it does");
	use_the_rest();
	fixture_call_fails(&f, minor_request("detach", minor), -EBUSY);
	fixture_call_fails(&f, open_request(minor, target), -EEXIST);
	fixture_call_fails(&f, minor_request("unpause", minor), -EBUSY);
	expect_stuck(send_command(minor_request("close", minor)), "store", "the disk is closed when it does");
	assert_int_equal(take_answer(send_command(open_request(other, target)), &text), -ETIMEDOUT);
	use_the_rest();
	again = send_command(minor_request("close", minor));
	hanging_set(false);
	expect_answer(again);
	check_store("store");
	call(open_request(other, target));
	expect_pieces(other, 1);
	remove_disk(other);
	call(minor_request("detach", minor));
	assert_int_equal(tapctl_minor_free(minor, &text), 0);
	stop();
}

static void test_limit(void **state)
{
	limit_with(false);
}

static void test_limit_many(void **state)
{
	limit_with(true);
}

/* A tapdisk that is told to end waits no longer than the limit. What was flushed is there. */
static void test_end(void **state)
{
	struct tapctl *waits;
	struct error_text text;
	const char *target;
	int minor;

	START_OR_SKIP("2");
	target = new_store("store", NULL);
	minor = add_disk(target);
	write_pieces(minor, 1);
	hanging_set_after_syncs(DRAIN_SYNCS);
	waits = send_command(minor_request("close", minor));
	assert_true(hangs(waits));
	assert_int_equal(kill(f.pid, SIGTERM), 0);
	assert_int_equal(take_answer(waits, &text), -ETIMEDOUT);
	wait_for_end();
	hanging_set(false);
	assert_true(hanging_wait_open(0));
	free_minor(minor);
	free_minor(f.minor);
	assert_int_equal(unlink(f.image), 0);
	check_store("store");
	fixture_start(&f, OTHER_BYTES, NULL, NULL);
	minor = add_disk(target);
	expect_pieces(minor, 1);
	remove_disk(minor);
	stop();
}

/* Killed anywhere in a pause: a successor has what was written, flushed or not. */
static void test_killed(void **state)
{
	struct tapctl *waits;
	struct error_text text;
	int minor, pid;
	unsigned n;

	START_OR_SKIP(FOREVER);
	minor = add_disk(new_store("store", NULL));
	for (n = 0; n < MANY; n++) {
		write_pieces(minor, n);
		hanging_set_after(n);
		waits = send_command(minor_request("pause", minor));
		if (!hangs(waits))
			break;
		assert_int_equal(kill(f.pid, SIGKILL), 0);
		tapctl_close(waits);
		hanging_set(false);
		wait_for_end();
		pid = tapctl_takeover(f.pid, -1, &text);
		if (pid < 0)
			fail_msg("%s", text.text);
		f.pid = pid;
		assert_int_equal(tapctl_connect(&f.ctl, pid, &text), 0);
		expect_pieces(minor, n);
	}
	hanging_set(false);
	expect_answer(waits);
	assert_in_range(n, AT_CLOSE + 1, MANY - 1);
	remove_disk(minor);
	check_store("store");
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_open_reading),
		cmocka_unit_test(test_open_base),
		cmocka_unit_test(test_open_limit),
		cmocka_unit_test(test_open_given_up),
		cmocka_unit_test(test_base),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_many),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_killed),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
