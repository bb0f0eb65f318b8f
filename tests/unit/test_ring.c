/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_ring.c - every operation of the block ring, in every ABI and shape,
 * against a real tapdisk over the stand-in transport.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "array.h"

#define PAGE 4096u
#define DISK_BYTES (64u << 20)
#define MAX_SEGMENTS 256

struct shape {
	const char *name;
	struct blkfront_options options;
	unsigned segments;		/* a request */
	bool indirect;
};

static const struct shape shapes[] = {
	{ "native", { .abi = BLKFRONT_NATIVE }, 11, false },
	{ "x86_32-abi", { .abi = BLKFRONT_X86_32 }, 11, false },
	{ "x86_64-abi", { .abi = BLKFRONT_X86_64 }, 11, false },
	{ "arm-abi", { .abi = BLKFRONT_ARM }, 11, false },
	{ "persistent grants", { .persistent = true }, 11, false },
	{ "indirect", { .abi = BLKFRONT_NATIVE }, 32, true },
	{ "indirect, x86_32-abi", { .abi = BLKFRONT_X86_32 }, 32, true },
	{ "indirect, one segment", { .abi = BLKFRONT_NATIVE }, 1, true },
	{ "indirect, persistent", { .persistent = true }, 32, true },
	{ "indirect, largest", { .ring_page_order = 4 }, MAX_SEGMENTS, true },
	{ "indirect, largest, persistent", { .persistent = true, .ring_page_order = 4 }, MAX_SEGMENTS, true },
	{ "2 ring pages", { .ring_page_order = 1 }, 11, false },
	{ "16 ring pages, x86_32-abi, persistent", { .abi = BLKFRONT_X86_32, .ring_page_order = 4, .persistent = true },
	  11, false },
	{ "indices wrap around", { .start_index = 0xfffffff0u }, 11, false },
	{ "indices wrap around, 16 ring pages", { .start_index = 0xffffff00u, .ring_page_order = 4 }, 11, false },
};

static void fill_segments(struct blkfront *front, struct blkfront_segment *segments, unsigned first_page, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		segments[i] = (struct blkfront_segment){ blkfront_data_ref(front, first_page + i), 0, 7 };
}

static uint8_t *data_page(struct blkfront *front, unsigned page)
{
	return (uint8_t *)blkfront_data(front) + (size_t)page * PAGE;
}

/* Fill the ring with writes, read everything back with a second full ring, and compare with the image as well. */
static void write_and_read(struct fixture *f, struct blkfront *front, unsigned queue, const struct shape *shape)
{
	unsigned depth = blkfront_ring_size(front, queue), bytes = shape->segments * PAGE;
	struct blkfront_segment segments[MAX_SEGMENTS];
	struct blkfront_response *responses;
	uint8_t *expected = malloc(bytes);

	if (depth > DISK_BYTES / bytes)
		depth = DISK_BYTES / bytes;
	if (depth > 4096 / shape->segments)
		depth = 4096 / shape->segments;		/* of guest memory */
	responses = calloc(depth, sizeof(*responses));
	for (unsigned write = 1; write <= 1; write--) {
		for (unsigned i = 0; i < depth; i++) {
			fill_segments(front, segments, i * shape->segments, shape->segments);
			if (write)
				fixture_pattern(data_page(front, i * shape->segments), bytes, i);
			assert_int_equal(blkfront_rw(front, queue, 1000 + i, write, (uint64_t)i * bytes / 512, segments,
						     shape->segments, shape->indirect), 0);
		}
		fixture_finish(front, queue, responses, depth);
		for (unsigned i = 0; i < depth; i++) {
			assert_int_equal(responses[i].status, BLKIF_RSP_OKAY);
			assert_int_equal(responses[i].operation, write ? BLKIF_OP_WRITE : BLKIF_OP_READ);
			assert_in_range(responses[i].id, 1000, 1000 + depth - 1);
		}
		if (write)
			memset(blkfront_data(front), 0xee, (size_t)depth * bytes);
	}
	for (unsigned i = 0; i < depth; i++) {
		fixture_pattern(expected, bytes, i);
		assert_memory_equal(data_page(front, i * shape->segments), expected, bytes);
	}
	free(expected);
	free(responses);
}

static void test_shapes(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct fixture f;
		struct blkfront *front;

		print_message("# %s\n", shapes[i].name);
		fixture_start(&f, DISK_BYTES, NULL, NULL);
		front = fixture_connect(&f, shapes[i].options);
		/* Three rounds, so that slots and grants are reused. */
		for (unsigned round = 0; round < 3; round++)
			write_and_read(&f, front, 0, &shapes[i]);
		blkfront_disconnect(front);
		fixture_stop(&f);
	}
}

static void test_queues(void **state)
{
	struct fixture f;
	struct blkfront *front;
	const struct shape shape = { "queues", { .queues = 4, .persistent = true }, 11, false };

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, shape.options);
	for (unsigned queue = 0; queue < 4; queue++)
		write_and_read(&f, front, queue, &shape);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

/* Parts of pages: the sectors in between must not change. */
static void partial_segments(bool persistent)
{
	struct fixture f;
	struct blkfront *front;
	struct blkfront_segment segments[3];
	uint8_t expected[6 * 512];

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ .persistent = persistent });
	segments[0] = (struct blkfront_segment){ blkfront_data_ref(front, 0), 7, 7 };
	segments[1] = (struct blkfront_segment){ blkfront_data_ref(front, 5), 0, 0 };
	segments[2] = (struct blkfront_segment){ blkfront_data_ref(front, 2), 2, 5 };
	fixture_pattern(expected, sizeof(expected), 77);
	memcpy(data_page(front, 0) + 7 * 512, expected, 512);
	memcpy(data_page(front, 5), expected + 512, 512);
	memcpy(data_page(front, 2) + 2 * 512, expected + 1024, 2048);
	assert_int_equal(blkfront_rw(front, 0, 1, true, 9, segments, 3, false), 0);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);

	memset(blkfront_data(front), 0x11, 8 * PAGE);
	assert_int_equal(blkfront_rw(front, 0, 2, false, 9, segments, 3, false), 0);
	assert_int_equal(fixture_one(front, 0, 2, BLKIF_OP_READ), BLKIF_RSP_OKAY);
	assert_memory_equal(data_page(front, 0) + 7 * 512, expected, 512);
	assert_memory_equal(data_page(front, 5), expected + 512, 512);
	assert_memory_equal(data_page(front, 2) + 2 * 512, expected + 1024, 2048);
	/* Nothing outside the segments was written. */
	assert_int_equal(data_page(front, 0)[7 * 512 - 1], 0x11);
	assert_int_equal(data_page(front, 5)[512], 0x11);
	assert_int_equal(data_page(front, 2)[2 * 512 - 1], 0x11);
	assert_int_equal(data_page(front, 2)[6 * 512], 0x11);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static void test_partial_segments(void **state)
{
	partial_segments(false);
	partial_segments(true);
}

static json_int_t completed(struct fixture *f, const char *operation)
{
	json_t *reply = fixture_call(f, json_pack("{s:s, s:i}", "command", "stats", "minor", f->minor));
	json_int_t count = -1;

	assert_int_equal(json_unpack(reply, "{s:{s:{s:{s:I}}}}", "stats", "total", operation, "completed", &count), 0);
	json_decref(reply);
	return count;
}

static void test_flush_and_barrier(void **state)
{
	struct blkfront_segment segments[11];
	struct blkfront_response responses[8];
	struct fixture f;
	struct blkfront *front;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	fill_segments(front, segments, 0, 11);

	assert_int_equal(blkfront_flush(front, 0, 1), 0);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_OKAY);
	assert_int_equal(completed(&f, "flush"), 1);
	assert_int_equal(blkfront_barrier(front, 0, 2, 0, NULL, 0), 0);
	assert_int_equal(fixture_one(front, 0, 2, BLKIF_OP_WRITE_BARRIER), BLKIF_RSP_OKAY);

	/* Writes before and after a barrier to the same place: the order is kept. */
	for (uint64_t i = 0; i < 3; i++) {
		fixture_pattern(data_page(front, i), PAGE, i);
		fill_segments(front, segments, i, 1);
		if (i == 1)
			assert_int_equal(blkfront_barrier(front, 0, 10 + i, 64, segments, 1), 0);
		else
			assert_int_equal(blkfront_rw(front, 0, 10 + i, true, 64, segments, 1, false), 0);
	}
	fixture_finish(front, 0, responses, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(responses[i].id, 10 + i);
		assert_int_equal(responses[i].status, BLKIF_RSP_OKAY);
	}
	fill_segments(front, segments, 8, 1);
	assert_int_equal(blkfront_rw(front, 0, 20, false, 64, segments, 1, false), 0);
	assert_int_equal(fixture_one(front, 0, 20, BLKIF_OP_READ), BLKIF_RSP_OKAY);
	assert_memory_equal(data_page(front, 8), data_page(front, 2), PAGE);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static void test_barriers_back_to_back(void **state)
{
	struct blkfront_segment segment;
	struct blkfront_response responses[32];
	struct fixture f;
	struct blkfront *front;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	for (unsigned i = 0; i < 32; i++) {
		segment = (struct blkfront_segment){ blkfront_data_ref(front, i), 0, 7 };
		if (i % 3 == 2)
			assert_int_equal(blkfront_rw(front, 0, i, true, i, &segment, 1, false), 0);
		else
			assert_int_equal(blkfront_barrier(front, 0, i, i * 8, &segment, i % 3), 0);
	}
	fixture_finish(front, 0, responses, 32);
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(responses[i].id, i);
		assert_int_equal(responses[i].status, BLKIF_RSP_OKAY);
	}
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static void discard_and_check(struct fixture *f, struct blkfront *front, uint64_t id, bool secure)
{
	struct blkfront_segment segment = { blkfront_data_ref(front, 0), 0, 7 };
	uint64_t sector = id * 4096;
	struct stat before, after;

	for (unsigned i = 0; i < 256; i++) {
		fixture_pattern(data_page(front, 0), PAGE, i);
		assert_int_equal(blkfront_rw(front, 0, id, true, sector + i * 8, &segment, 1, false), 0);
		assert_int_equal(fixture_one(front, 0, id, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
	}
	assert_int_equal(blkfront_sync(front), 0);
	assert_int_equal(stat(f->image, &before), 0);
	assert_int_equal(blkfront_discard(front, 0, id, sector, 256 * 8, secure), 0);
	assert_int_equal(fixture_one(front, 0, id, BLKIF_OP_DISCARD), BLKIF_RSP_OKAY);
	assert_int_equal(stat(f->image, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - 256 * 8);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(blkfront_rw(front, 0, id, false, sector + 8, &segment, 1, false), 0);
	assert_int_equal(fixture_one(front, 0, id, BLKIF_OP_READ), BLKIF_RSP_OKAY);
	for (unsigned i = 0; i < PAGE; i++)
		assert_int_equal(data_page(front, 0)[i], 0);
}

static void test_discard(void **state)
{
	struct fixture f;
	struct blkfront *front;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	discard_and_check(&f, front, 1, false);
	discard_and_check(&f, front, 2, true);
	/* No sectors at all, and the whole disk. */
	assert_int_equal(blkfront_discard(front, 0, 3, 100, 0, false), 0);
	assert_int_equal(fixture_one(front, 0, 3, BLKIF_OP_DISCARD), BLKIF_RSP_OKAY);
	assert_int_equal(blkfront_discard(front, 0, 4, 0, DISK_BYTES / 512, false), 0);
	assert_int_equal(fixture_one(front, 0, 4, BLKIF_OP_DISCARD), BLKIF_RSP_OKAY);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

/* The last sector can be accessed, the one after it cannot. */
static void test_end_of_disk(void **state)
{
	uint64_t last = DISK_BYTES / 512 - 1;
	struct blkfront_segment segment;
	struct fixture f;
	struct blkfront *front;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	assert_int_equal(blkfront_geometry(front)->sectors, last + 1);
	segment = (struct blkfront_segment){ blkfront_data_ref(front, 0), 0, 0 };
	for (unsigned write = 0; write < 2; write++) {
		uint8_t op = write ? BLKIF_OP_WRITE : BLKIF_OP_READ;

		assert_int_equal(blkfront_rw(front, 0, 1, write, last, &segment, 1, false), 0);
		assert_int_equal(fixture_one(front, 0, 1, op), BLKIF_RSP_OKAY);
		assert_int_equal(blkfront_rw(front, 0, 2, write, last + 1, &segment, 1, false), 0);
		assert_int_equal(fixture_one(front, 0, 2, op), BLKIF_RSP_ERROR);
	}
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static void test_read_only(void **state)
{
	struct blkfront_segment segment;
	struct fixture f;
	struct blkfront *front;
	char text[512];
	struct blkfront_options writer = { 0 };

	fixture_start(&f, DISK_BYTES, NULL, json_pack("{s:b}", "read_only", 1));
	writer.pid = f.pid;
	writer.minor = f.minor;
	assert_int_equal(blkfront_connect(&front, &writer, text, sizeof(text)), -EROFS);
	front = fixture_connect(&f, (struct blkfront_options){ .read_only = true });
	segment = (struct blkfront_segment){ blkfront_data_ref(front, 0), 0, 7 };
	assert_int_equal(blkfront_rw(front, 0, 1, false, 0, &segment, 1, false), 0);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_READ), BLKIF_RSP_OKAY);
	assert_int_equal(blkfront_rw(front, 0, 2, true, 0, &segment, 1, false), 0);
	assert_int_equal(fixture_one(front, 0, 2, BLKIF_OP_WRITE), BLKIF_RSP_ERROR);
	assert_int_equal(blkfront_discard(front, 0, 3, 0, 8, false), 0);
	assert_int_equal(fixture_one(front, 0, 3, BLKIF_OP_DISCARD), BLKIF_RSP_ERROR);
	assert_int_equal(blkfront_flush(front, 0, 4), 0);
	assert_int_equal(fixture_one(front, 0, 4, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_OKAY);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

/* Two frontends on one minor (the two ends of a localhost migration): one disconnects, the other stays. */
static void test_two_frontends(void **state)
{
	char written[PAGE], read[PAGE];
	struct fixture f;
	struct blkfront *source, *target;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	source = fixture_connect(&f, (struct blkfront_options){ .domid = 1 });
	target = fixture_connect(&f, (struct blkfront_options){ .domid = 2 });
	fixture_pattern(written, PAGE, 1);
	assert_int_equal(blkfront_pwrite(source, written, PAGE, 0), 0);
	blkfront_vanish(source);
	assert_int_equal(blkfront_pread(target, read, PAGE, 0), 0);
	assert_memory_equal(read, written, PAGE);
	blkfront_disconnect(target);
	fixture_stop(&f);
}

/* Requests that come while the disk is paused wait in the ring; the stall is measured. */
static void test_pause(void **state)
{
	struct blkfront_segment segment;
	struct blkfront_response response;
	struct fixture f;
	struct blkfront *front;
	json_t *reply;
	double last = 0;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "pause", "minor", f.minor)));
	segment = (struct blkfront_segment){ blkfront_data_ref(front, 0), 0, 7 };
	assert_int_equal(blkfront_rw(front, 0, 1, true, 0, &segment, 1, false), 0);
	blkfront_push(front, 0);
	assert_int_equal(blkfront_wait(front, 0, 100), 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "unpause", "minor", f.minor)));
	fixture_finish(front, 0, &response, 1);
	assert_int_equal(response.status, BLKIF_RSP_OKAY);
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "stats", "minor", f.minor));
	assert_int_equal(json_unpack(reply, "{s:{s:{s:F}}}", "stats", "stalls", "last_us", &last), 0);
	assert_true(last >= 100000);
	json_decref(reply);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_partial_segments),
		cmocka_unit_test(test_flush_and_barrier),
		cmocka_unit_test(test_barriers_back_to_back),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_end_of_disk),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_two_frontends),
		cmocka_unit_test(test_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
