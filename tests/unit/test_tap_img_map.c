/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tap_img_map.c - `tap-img map` prints each part of a disk when it has
 * found it, and keeps none in memory: what comes before a part whose map cannot be
 * read is there, and the exit status says that it is not all.
 */
#include "cow_internal.h"
#include "tap_img.h"

#define LEAVES 3u
#define LEAF_SECTORS ((uint64_t)COW_LEAF_ENTRIES * COW_SECTORS)
#define PARTS 5u			/* of data, in each leaf */

static struct cow_device *device;
static struct cow_store *store;

static void image_open(void)
{
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };

	tap_img_must(cow_file_open(&device, tap_img_image, false, &error), &error);
	tap_img_must(cow_open(&store, device, &options, &error), &error);
}

static void image_close(void)
{
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

static void image_make(void)
{
	struct cow_create_options options = { .sectors = LEAVES * LEAF_SECTORS };
	struct error_text error = { "" };
	uint8_t data[COW_BLOCK] = { 1 };
	unsigned leaf, part;

	unlink(tap_img_image);
	tap_img_must(cow_file_create(&device, tap_img_image, &error), &error);
	tap_img_must(cow_create(device, &options, &error), &error);
	cow_file_close(device);
	image_open();
	for (leaf = 0; leaf < LEAVES; leaf++) {
		for (part = 0; part < PARTS; part++)
			assert_int_equal(cow_write(store, data, leaf * LEAF_SECTORS + 2 * part * COW_SECTORS, COW_SECTORS), 0);
	}
	image_close();
}

static void leaf_break(uint64_t leaf)
{
	static const uint8_t junk[COW_BLOCK] = { 0xdb };
	struct cow_ref ref;
	uint64_t place;

	image_open();
	assert_int_equal(cow_map_node(store, store->active, 1, leaf, &ref), 0);
	place = cow_entry_block(ref.where);
	assert_int_not_equal(place, 0);
	image_close();
	/* the close has changed nothing there: the map is as it was */
	tap_img_must(cow_file_open(&device, tap_img_image, false, &(struct error_text){ "" }), &(struct error_text){ "" });
	assert_int_equal(device->ops->write(device, junk, place << COW_SHIFT, COW_BLOCK), 0);
	cow_file_close(device);
}

static void test_json(void **state)
{
	image_make();
	tap_img_exits(0, "map --json");
	assert_int_equal(tap_img_count("\"kind\": \"data\""), LEAVES * PARTS);
	assert_int_equal(tap_img_count("\"kind\": \"zero\""), LEAVES * PARTS);
	assert_int_equal(tap_img_count("]"), 1);
	leaf_break(1);
	tap_img_exits(1, "map --json");
	assert_int_equal(tap_img_count("\"kind\": \"data\""), PARTS);
	assert_int_equal(tap_img_count("its map cannot be read"), 1);
	assert_int_equal(tap_img_count("]"), 0);
}

static void test_text(void **state)
{
	image_make();
	tap_img_exits(0, "map");
	assert_int_equal(tap_img_count(" data "), LEAVES * PARTS);
	leaf_break(1);
	tap_img_exits(1, "map");
	assert_int_equal(tap_img_count(" data "), PARTS);
	assert_int_equal(tap_img_count("its map cannot be read"), 1);
}

/* An image that cannot be opened has no part: the failure is JSON, too. */
static void test_no_image(void **state)
{
	unlink(tap_img_image);
	tap_img_exits(1, "map --json");
	assert_int_equal(tap_img_count("\"ok\": false"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_no_image),
	};

	tap_img_init();
	return cmocka_run_group_tests_name("tap-img: map", tests, NULL, NULL);
}
