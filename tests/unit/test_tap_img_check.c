/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tap_img_check.c - `tap-img check -r` writes to a store only after a
 * check that wrote nothing, and only what that check found it can mend.
 */
#include <errno.h>

#include "array.h"
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
	uint8_t byte = 0;

	assert_int_equal(pread(fd, &byte, 1, (off_t)(block << COW_SHIFT)), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(block << COW_SHIFT)), 1);
	close(fd);
}

/* Of all bytes and where they are; most of the image is a hole. */
static uint32_t image_sum(void)
{
	int fd = open(tap_img_image, O_RDONLY | O_CLOEXEC);
	uint8_t bytes[COW_BLOCK];
	uint32_t sum = 0;
	off_t at = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		n = pread(fd, bytes, sizeof(bytes), at);
		assert_true(n > 0);
		sum = cow_crc(cow_crc(sum, &at, sizeof(at)), bytes, (size_t)n);
		at += n;
	}
	close(fd);
	return sum;
}

/* The command ends with @code, and the image is the same to the byte. */
static void changes_nothing(int code, const char *arguments)
{
	uint32_t before = image_sum();

	tap_img_exits(code, arguments);
	if (image_sum() != before)
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

/* Opening needs only one copy of the superblock, so nobody would notice that the other one is gone. */
static void test_copies(void **state)
{
	static const uint64_t copies[] = { 0, COW_COPY_BLOCK };
	size_t i;

	for (i = 0; i < 2 * ARRAY_SIZE(copies); i++) {
		image_make(i > 1, i % 2 ? KILLED : CLOSED);
		byte_flip(copies[i / 2]);
		changes_nothing(2, "check");
		tap_img_says(i > 1 ? "superblock copy 1 (store block 256) is damaged" : "superblock copy 0 (store block 0) is damaged");
		tap_img_exits(0, "check -r");
		assert_int_equal(tap_img_count("is damaged"), 1);
		tap_img_says("the damaged copy of the superblock is written anew");
		assert_int_equal(tap_img_count("1 leaked blocks freed"), i > 1);
		changes_nothing(0, "check -r");
		image_holds(2);
	}
}

/* With other damage, too, all is left as it is. */
static void test_copy_and_damage(void **state)
{
	image_make(false, CLOSED);
	byte_flip(root);
	byte_flip(0);
	changes_nothing(2, "check -r");
	tap_img_says("2 errors, ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_copy_and_damage),
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_leaks),
	};

	tap_img_init();
	return cmocka_run_group_tests_name("tap-img: check, and its repair", tests, NULL, NULL);
}
