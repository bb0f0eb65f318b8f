/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tap_img_prepared.c - a group's tapdisk was killed between PREPARE and
 * COMMIT, before or after the decision, and tap-img is the next to open the
 * store: tap-img settles the prepared snapshot first, before its own changes.
 */
#include <errno.h>

#include "cow_base.h"
#include "tap_img.h"

#define SECTORS 4096u
#define PART 64u			/* sectors that are compared */

static char base[PATH_MAX], record[PATH_MAX];

enum then { PREPARED, DECIDED };

static void make_base(struct cow_create_options *options, struct cow_base_fields *fields)
{
	struct error_text error = { "" };

	snprintf(base, sizeof(base), "%s", scratch_file("base", SECTORS * SECTOR_SIZE));
	tap_img_must(cow_base_describe(fields, base, &error), &error);
	options->base_kind = COW_BASE_RAW;
	options->base = fields;
}

static void write_part(struct cow_store *store, int with)
{
	uint8_t data[PART * SECTOR_SIZE];

	memset(data, with, sizeof(data));
	assert_int_equal(cow_write(store, data, 0, PART), 0);
}

/* "there" holds 1s, "other" 2s, the disk 3s; with @with_base there is no snapshot. @prepare then prepares something. */
static void make_image(bool with_base, int (*prepare)(struct cow_store *store, struct error_text *error), enum then then)
{
	struct cow_create_options options = { .sectors = SECTORS };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct cow_base below = { 0 };
	struct cow_device *device;
	struct cow_store *store;

	unlink(tap_img_image);
	unlink(record);
	if (with_base) {
		make_base(&options, &fields);
		tap_img_must(cow_base_open(&below, COW_BASE_RAW, &fields, NULL, &error), &error);
	}
	tap_img_must(cow_file_create(&device, tap_img_image, &error), &error);
	tap_img_must(cow_create(device, &options, &error), &error);
	tap_img_must(cow_open(&store, device, &(struct cow_open_options){ .base = below }, &error), &error);
	write_part(store, 1);
	if (!with_base) {
		tap_img_must(cow_snapshot_create(store, "there", NULL, &error), &error);
		write_part(store, 2);
		tap_img_must(cow_snapshot_create(store, "other", NULL, &error), &error);
	}
	write_part(store, 3);
	tap_img_must(prepare(store, &error), &error);
	tap_img_must(cow_flush(store), &error);
	if (then == DECIDED)
		tap_img_must(cow_decision_commit(record, &error), &error);
	cow_abandon(store);
	cow_base_close(&below);
	cow_file_close(device);
}

static int revert(struct cow_store *store, struct error_text *error)
{
	return cow_revert_prepare(store, "there", record, error);
}

static int snapshot(struct cow_store *store, struct error_text *error)
{
	return cow_snapshot_prepare(store, "s", NULL, record, error);
}

/* As the next tapdisk opens it: the disk holds @data, and nothing is left to be settled. */
static void expect(int data, bool committed)
{
	uint8_t found[PART * SECTOR_SIZE], expected[PART * SECTOR_SIZE];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;

	tap_img_must(cow_file_open(&device, tap_img_image, false, &error), &error);
	tap_img_must(cow_open(&store, device, &(struct cow_open_options){ 0 }, &error), &error);
	assert_int_equal(cow_prepared_count(store), 0);
	tap_img_must(cow_prepared_settle(store, &error), &error);
	memset(expected, data, sizeof(expected));
	assert_int_equal(cow_read(store, found, 0, PART), 0);
	assert_memory_equal(found, expected, sizeof(found));
	cow_abandon(store);
	cow_file_close(device);
	/* For the other disks of the group, too. */
	assert_int_equal(cow_decision_abort(record, &error), committed);
}

static void test_revert(void **state)
{
	for (enum then then = PREPARED; then <= DECIDED; then++) {
		make_image(false, revert, then);
		tap_img_exits(0, "snapshot -a other");
		expect(2, then == DECIDED);
		make_image(false, revert, then);
		tap_img_exits(0, "snapshot -c more");
		expect(then == DECIDED ? 1 : 3, then == DECIDED);
		make_image(false, revert, then);
		tap_img_exits(0, "check -r");
		expect(then == DECIDED ? 1 : 3, then == DECIDED);
		make_image(false, revert, then);
		tap_img_exits(0, "snapshot -d there");
		expect(then == DECIDED ? 1 : 3, then == DECIDED);
	}
}

static void test_snapshot(void **state)
{
	make_image(false, snapshot, PREPARED);
	tap_img_exits(0, "snapshot -c s");
	expect(3, false);
	make_image(false, snapshot, PREPARED);
	tap_img_exits(1, "snapshot -d s");
	tap_img_says("no snapshot called \"s\"");
	expect(3, false);
	make_image(false, snapshot, DECIDED);
	tap_img_exits(1, "snapshot -c s");
	tap_img_says("already has a snapshot called \"s\"");
	tap_img_exits(0, "snapshot -l");
	tap_img_says(" s ");
	tap_img_exits(0, "check -r");
	expect(3, true);
	make_image(false, snapshot, DECIDED);
	tap_img_exits(0, "snapshot -d s");
	expect(3, true);
}

/* Unlisted snapshots do not count either. */
static void test_info(void **state)
{
	make_image(false, snapshot, PREPARED);
	tap_img_exits(0, "info");
	tap_img_says("snapshots: 2\n");
}

/* Returns its exit code; the disk holds @data, or the snapshot that @options name. */
static int copy_holds(const char *options, int data)
{
	uint8_t found[PART * SECTOR_SIZE], expected[PART * SECTOR_SIZE];
	char command[4 * PATH_MAX];
	int fd, ret;

	snprintf(command, sizeof(command), "%s convert %s cow:%s %s >%s 2>&1", tap_img_program, options, tap_img_image,
		 scratch_path("copy"), scratch_path("out"));
	ret = scratch_run(command) >> 8;
	if (ret)
		return ret;
	memset(expected, data, sizeof(expected));
	fd = open(scratch_path("copy"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, found, sizeof(found)), sizeof(found));
	close(fd);
	assert_memory_equal(found, expected, sizeof(found));
	return 0;
}

/* A reader sees what the next writer will see, and leaves the store and the decision to the writer. */
static void test_reading(void **state)
{
	for (enum then then = PREPARED; then <= DECIDED; then++) {
		make_image(false, revert, then);
		assert_int_equal(copy_holds("", then == DECIDED ? 1 : 3), 0);
		tap_img_exits(0, "check");
		tap_img_exits(0, "info");
		tap_img_says("snapshots: 2\n");
		assert_int_equal(access(record, F_OK), then == DECIDED ? 0 : -1);
		tap_img_exits(0, "check -r");
		expect(then == DECIDED ? 1 : 3, then == DECIDED);

		make_image(false, snapshot, then);
		assert_int_equal(copy_holds("-l s", 3), then == DECIDED ? 0 : 1);
		tap_img_exits(0, "info");
		tap_img_says(then == DECIDED ? "snapshots: 3\n" : "snapshots: 2\n");
		assert_int_equal(access(record, F_OK), then == DECIDED ? 0 : -1);
		tap_img_exits(0, "check -r");
		expect(3, then == DECIDED);
	}
}

static void test_commit_and_rebase(void **state)
{
	make_image(true, snapshot, PREPARED);
	tap_img_exits(0, "commit");
	make_image(true, snapshot, PREPARED);
	tap_img_exits(0, "rebase -b ''");
	expect(3, false);
	make_image(true, snapshot, DECIDED);
	tap_img_exits(1, "commit");
	tap_img_says("\"s\"");
	tap_img_exits(0, "snapshot -l");
	tap_img_says(" s ");
}

static bool is_repaired(const char *arguments)
{
	tap_img_exits(0, arguments);
	if (!tap_img_count("\"repaired\": false"))
		tap_img_says("\"repaired\": true");
	return tap_img_count("\"repaired\": true");
}

/* Settling is a repair, and is reported like the others. */
static void test_check(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		make_image(false, i / 2 ? revert : snapshot, i % 2);
		assert_false(is_repaired("check --json"));
		assert_true(is_repaired("check -r --json"));
		assert_false(is_repaired("check -r --json"));
		make_image(false, i / 2 ? revert : snapshot, i % 2);
		tap_img_exits(0, "check -r");
		tap_img_says("1 prepared snapshots settled");
	}
}

/* The record cannot be created: nothing is done without it. */
static void test_no_decision(void **state)
{
	make_image(false, revert, PREPARED);
	assert_int_equal(mkdir(record, 0700), 0);
	tap_img_exits(1, "snapshot -a other");
	tap_img_says("cannot be read");
	tap_img_exits(1, "info");
	tap_img_says("cannot be read");
	assert_int_equal(rmdir(record), 0);
	tap_img_exits(0, "snapshot -a other");
	expect(2, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_revert),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_commit_and_rebase),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_no_decision),
	};
	char directory[PATH_MAX];

	tap_img_init();
	snprintf(directory, sizeof(directory), "%s", scratch_path("state"));
	setenv(STATE_DIR_ENV, directory, 1);
	mkdir(directory, 0700);
	snprintf(record, sizeof(record), "%s/state/" COW_DECISION_DIRECTORY, scratch_dir);
	mkdir(record, 0700);
	strcat(record, "/0123456789abcdef0123456789abcdef");
	return cmocka_run_group_tests_name("tap-img: what was prepared when a tapdisk was killed", tests, NULL, NULL);
}
