/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tap_img_check.c - `tap-img check -r` writes to a store only after a
 * check that wrote nothing, and only what that check found it can mend.
 */
#include <errno.h>

#include "cow_internal.h"
#include "tap_img.h"

#define SECTORS 4096u
#define PART 64u			/* sectors that are written, and compared */

enum end { CLOSED, KILLED };		/* KILLED: the log has what no checkpoint has */

static struct cow_device *device;
static struct cow_store *store;
static uint64_t root;			/* store block with the root of the map of "there" */

static void image_open(bool read_only)
{
	struct cow_open_options options = { .read_only = read_only };
	struct error_text error = { "" };

	tap_img_must(cow_file_open(&device, tap_img_image, read_only, &error), &error);
	tap_img_must(cow_open(&store, device, &options, &error), &error);
}

static void image_end(enum end end)
{
	if (end == CLOSED)
		assert_int_equal(cow_close(store), 0);
	else
		cow_abandon(store);
	cow_file_close(device);
}

static void part_write(int with)
{
	uint8_t data[PART * SECTOR_SIZE];

	memset(data, with, sizeof(data));
	assert_int_equal(cow_write(store, data, 0, PART), 0);
}

static void block_leak(void)
{
	uint64_t block, got;

	assert_int_equal(cow_alloc_run(store, 1, true, &block, &got), 0);
	assert_int_equal(cow_checkpoint(store), 0);
}

/* "there" holds 1s, the disk 2s. */
static void image_make(bool leak, enum end end)
{
	struct cow_create_options options = { .sectors = SECTORS };
	struct error_text error = { "" };

	unlink(tap_img_image);
	tap_img_must(cow_file_create(&device, tap_img_image, &error), &error);
	tap_img_must(cow_create(device, &options, &error), &error);
	cow_file_close(device);
	image_open(false);
	part_write(1);
	tap_img_must(cow_snapshot_create(store, "there", NULL, &error), &error);
	assert_int_equal(cow_checkpoint(store), 0);
	root = cow_entry_block(cow_version_by_name(store, "there")->root.where);
	if (leak)
		block_leak();
	part_write(2);
	assert_int_equal(cow_flush(store), 0);
	image_end(end);
}

static void image_holds(int with)
{
	uint8_t found[PART * SECTOR_SIZE], expected[PART * SECTOR_SIZE];

	memset(expected, with, sizeof(expected));
	image_open(true);
	assert_int_equal(cow_read(store, found, 0, PART), 0);
	assert_memory_equal(found, expected, sizeof(found));
	image_end(KILLED);
}

static void byte_flip(uint64_t block)
{
	int fd = open(tap_img_image, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)(block << COW_SHIFT)), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(block << COW_SHIFT)), 1);
	close(fd);
}

/* The command ends with @code, and the image is the same to the byte. */
static void changes_nothing(int code, const char *arguments)
{
	char command[3 * PATH_MAX];

	snprintf(command, sizeof(command), "cp --sparse=always %s %s", tap_img_image, scratch_path("before"));
	assert_int_equal(scratch_run(command), 0);
	tap_img_exits(code, arguments);
	snprintf(command, sizeof(command), "cmp %s %s", tap_img_image, scratch_path("before"));
	if (scratch_run(command))
		fail_msg("tap-img %s has written to the image", arguments);
}

static void test_sound(void **state)
{
	for (enum end end = CLOSED; end <= KILLED; end++) {
		image_make(false, end);
		changes_nothing(0, "check");
		changes_nothing(0, "check -r");
		tap_img_says("No errors were found");
		image_holds(2);
	}
}

/* What is damaged cannot be mended, and a checkpoint on top could overwrite what is still right. */
static void test_damaged(void **state)
{
	for (enum end end = CLOSED; end <= KILLED; end++) {
		image_make(true, end);
		byte_flip(root);
		changes_nothing(2, "check -r");
		tap_img_says("is damaged");
		tap_img_says("1 errors, ");
	}
}

static void test_leaks(void **state)
{
	for (enum end end = CLOSED; end <= KILLED; end++) {
		image_make(true, end);
		changes_nothing(3, "check");
		tap_img_exits(0, "check -r");
		assert_int_equal(tap_img_count("(leak)"), 1);
		tap_img_says("1 leaked blocks freed");
		changes_nothing(0, "check -r");
		image_holds(2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_leaks),
	};

	tap_img_init();
	return cmocka_run_group_tests_name("tap-img: check, and its repair", tests, NULL, NULL);
}
