/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_superblock.c - the two copies of the superblock side by side.
 * Whatever a crash leaves while they are written, torn between any of their
 * sectors, is no damage, and everything else is.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"
#include "cow_sim.h"

#define STORE_BYTES (3u << 20)
#define PARTS (COW_BLOCK / 512)

/* What a superblock may say of its base. */
enum state { ALONE, RAW, MARKED, MOVED, LONG_NAME, LONGER_NAME, SNAPSHOT, OTHER_SNAPSHOT, STATES };

static struct sim sim;

static struct cow_superblock *copy_at(unsigned copy)
{
	return (void *)(sim.now + (copy ? COW_COPY_BLOCK << COW_SHIFT : 0));
}

static void sign(struct cow_superblock *sb)
{
	sb->crc = 0;
	sb->crc = cow_crc(0, sb, sizeof(*sb));
}

static void base_fill(struct cow_superblock *sb, enum state state)
{
	struct cow_base_fields *base = &sb->base;
	size_t length = state == LONG_NAME ? 400 : state == LONGER_NAME ? 900 : 0;

	if (state == ALONE)
		return;
	sb->base_kind = state >= SNAPSHOT ? COW_BASE_COW : COW_BASE_RAW;
	base->sectors = 8000;
	base->flags = state == MARKED ? COW_BASE_COMMITTING : 0;
	strcpy(base->target, state == MOVED ? "aio:/elsewhere" : "aio:/base");
	if (length)
		memset(base->target + 5, 'a' + (char)state, length);
	if (state < SNAPSHOT)
		return;
	strcpy(base->target, state == SNAPSHOT ? "cow:/base@one" : "cow:/base@two");
	memset(base->uuid, 0x70 + state, sizeof(base->uuid));
	base->version = 5 + state;
	base->time = 1700000000 + state;
}

/* Of a store that was in use: no two writes have the same roots. */
static struct cow_superblock written(enum state state, uint64_t sequence, uint64_t roots)
{
	struct cow_superblock sb = {
		.magic = COW_MAGIC, .version = COW_FORMAT_VERSION, .uuid = { 1, 2, 3 }, .sequence = sequence, .salt = roots * 77,
		.log_start = COW_LOG_START, .log_blocks = COW_LOG_MIN_BLOCKS, .sector_size = 512,
		.versions = { .where = cow_entry(600 + roots, 1), .crc = (uint32_t)roots },
	};

	base_fill(&sb, state);
	sign(&sb);
	return sb;
}

/* The parts in @mask of @from reach the medium. */
static void copy_write(const struct cow_superblock *from, unsigned mask)
{
	uint8_t *to = (void *)copy_at(from->sequence % 2);
	unsigned part;

	for (part = 0; part < PARTS; part++) {
		if (mask >> part & 1)
			memcpy(to + part * 512, (const uint8_t *)from + part * 512, 512);
	}
}

#define ALL ((1u << PARTS) - 1)
#define MASKS 8u			/* the first three parts have all that is not zero */

static void must_fit(const char *when, unsigned mask)
{
	char text[128] = "";
	int ret = cow_superblock_compare(&sim.device, text, sizeof(text));

	if (ret)
		fail_msg("%s, parts %x: %d: %s", when, mask, ret, text);
}

/* The power fails while @now is written over @before, and once more while @then is, as after each crash. */
static void cut(enum state before, enum state now, enum state then, uint64_t sequence, unsigned mask)
{
	struct cow_superblock sb;

	sb = written(before, sequence, 1);
	copy_write(&sb, ALL);
	sb = written(before, sequence + 1, 1);
	copy_write(&sb, ALL);
	must_fit("both written", 0);
	sb = written(now, sequence + 2, 2);
	copy_write(&sb, mask % MASKS);
	must_fit("the first is being written", mask);
	sb = written(then, sequence + 2, 3);
	copy_write(&sb, mask / MASKS);
	must_fit("the first is being written again", mask);
	copy_write(&sb, ALL);
	must_fit("the first is written", mask);
	sb = written(then, sequence + 3, 3);
	copy_write(&sb, mask % MASKS);
	must_fit("the second is being written", mask);
	sb = written(before, sequence + 3, 4);
	copy_write(&sb, mask / MASKS);
	must_fit("the second is being written, by the next open", mask);
	copy_write(&sb, ALL);
	must_fit("the second is written", mask);
}

static void test_every_tear(void **state)
{
	unsigned before, now, mask;
	uint64_t sequence;

	for (before = 0; before < STATES; before++) {
		for (now = 0; now < STATES; now++) {
			for (mask = 0; mask < MASKS * MASKS; mask++) {
				for (sequence = 8; sequence < 10; sequence++) {
					cut(before, now, now, sequence, mask);
					cut(before, now, before, sequence, mask);
				}
			}
		}
	}
}

/* The first writes of a new store follow a wipe. */
static void test_creation(void **state)
{
	struct cow_superblock sb;
	unsigned base, mask;

	for (base = 0; base < STATES; base++) {
		for (mask = 0; mask < MASKS; mask++) {
			memset(copy_at(0), 0, COW_BLOCK);
			memset(copy_at(1), 0, COW_BLOCK);
			sb = written(base, 1, 1);
			copy_write(&sb, ALL);
			must_fit("the first is written", mask);
			sb = written(base, 2, 1);
			copy_write(&sb, mask);
			must_fit("the second is being written", mask);
			sb = written(base, 2, 2);
			copy_write(&sb, MASKS - 1 - mask);
			must_fit("the second is being written by the first open", mask);
		}
	}
}

static void must_be_found(const char *what, enum state base)
{
	char text[128] = "";

	if (cow_superblock_compare(&sim.device, text, sizeof(text)) != 1 || strncmp(text, "superblock copy ", 16))
		fail_msg("base %u: %s: not found: \"%s\"", base, what, text);
}

static void both_write(enum state base)
{
	struct cow_superblock sb = written(base, 8, 1);

	copy_write(&sb, ALL);
	sb = written(base, 9, 1);
	copy_write(&sb, ALL);
	must_fit("both written", 0);
}

/* Where a changed byte may be of another base, in a write that was cut off. With a long name nothing verifies the first sector. */
static bool may_be_of_another(enum state base, unsigned at)
{
	if (base < LONG_NAME)
		return at == 512 || at == 1024;		/* a name goes on there */
	return at >= (base < SNAPSHOT ? offsetof(struct cow_superblock, crc) : offsetof(struct cow_superblock, base)) &&
		at < offsetof(struct cow_superblock, zero);
}

static void flip_each_byte(enum state base)
{
	unsigned copy, at;
	uint8_t *bytes;

	for (copy = 0; copy < 2; copy++) {
		bytes = (void *)copy_at(copy);
		for (at = 0; at < COW_BLOCK; at++) {
			if (may_be_of_another(base, at))
				continue;
			bytes[at] ^= 0x10;
			must_be_found("a bit was flipped", base);
			bytes[at] ^= 0x10;
		}
	}
}

static void test_damage(void **state)
{
	struct cow_superblock sb;
	unsigned base, copy;

	for (base = 0; base < STATES; base++) {
		both_write(base);
		flip_each_byte(base);
		for (copy = 0; copy < 2; copy++) {
			both_write(base);
			memset(copy_at(copy), 0, COW_BLOCK);
			must_be_found("a copy was wiped", base);
			memset(copy_at(copy), 0x55, 512);
			must_be_found("a copy was overwritten", base);
			*copy_at(copy) = *copy_at(!copy);
			must_be_found("a copy of the other", base);
			both_write(base);
			memset(copy_at(copy)->uuid, 9, 16);
			sign(copy_at(copy));
			must_be_found("of another store", base);
		}
		both_write(base);
		sb = written(base, 6, 3);
		copy_write(&sb, ALL);
		must_be_found("a write was lost", base);
		both_write(base);
		sb = *copy_at(0);
		*copy_at(0) = *copy_at(1);
		*copy_at(1) = sb;
		must_be_found("changed places", base);
	}
}

static int read_one(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	if (!offset)
		return -EIO;
	memcpy(data, sim.now + offset, length);
	return 0;
}

static void test_unreadable(void **state)
{
	struct cow_device_ops ops = *sim.device.ops;
	const struct cow_device_ops *before = sim.device.ops;

	both_write(ALONE);
	ops.read = read_one;
	sim.device.ops = &ops;
	must_be_found("cannot be read", ALONE);
	memset(copy_at(1), 0, COW_BLOCK);
	assert_int_equal(cow_superblock_compare(&sim.device, NULL, 0), -EIO);
	sim.device.ops = before;
	memset(copy_at(0), 0, COW_BLOCK);
	assert_int_equal(cow_superblock_compare(&sim.device, NULL, 0), -EUCLEAN);
}

static int setup(void **state)
{
	sim_init(&sim, STORE_BYTES, 0, 1);
	return 0;
}

static int teardown(void **state)
{
	sim_free(&sim);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_tear, setup, teardown),
		cmocka_unit_test_setup_teardown(test_creation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
	};

	return cmocka_run_group_tests_name("cow: the copies of the superblock", tests, NULL, NULL);
}
