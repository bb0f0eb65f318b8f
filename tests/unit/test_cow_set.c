/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_set.c - sets of a bitmap page's bits, compared with an array: random
 * changes through all three representations, and the memory that they need.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_sim.h"

static uint64_t seed = 1;

static unsigned random_bit(void)
{
	return (unsigned)(sim_random(&seed) % COW_PAGE_BITS);
}

struct model {
	struct cow_set set;
	uint8_t bits[COW_PAGE_BITS];
	unsigned count;
};

static void model_put(struct model *model, unsigned bit, bool value)
{
	assert_int_equal(cow_set_put(&model->set, bit, value), 0);
	model->count += value - model->bits[bit];
	model->bits[bit] = value;
}

static void model_compare(const struct model *model)
{
	unsigned bit, next = 0;

	assert_int_equal(model->set.count, model->count);
	for (bit = 0; bit < COW_PAGE_BITS; bit++) {
		if (cow_set_has(&model->set, bit) != model->bits[bit])
			fail_msg("bit %u is wrong", bit);
		if (!model->bits[bit])
			continue;
		assert_int_equal(cow_set_next(&model->set, next), bit);
		next = bit + 1;
	}
	assert_int_equal(cow_set_next(&model->set, next), COW_PAGE_BITS);
}

/* Remove it, and put it back. */
static void model_reload(struct model *model)
{
	uint8_t bytes[COW_BLOCK];
	unsigned bit;

	cow_set_store(&model->set, bytes);
	for (bit = 0; bit < COW_PAGE_BITS; bit++)
		assert_int_equal(bytes[bit / 8] >> bit % 8 & 1, model->bits[bit]);
	cow_set_free(&model->set);
	assert_int_equal(cow_set_load(&model->set, bytes), 0);
}

static void test_is_what_was_put(void **state)
{
	static const unsigned goal[] = { 40, 3000, COW_PAGE_BITS - 30, 20000, 600, COW_PAGE_BITS - 600, COW_PAGE_BITS, 0 };
	struct model *model = calloc(1, sizeof(*model));
	bool seen[3] = { false };
	unsigned i, n;

	(void)state;
	assert_non_null(model);
	for (i = 0; i < ARRAY_SIZE(goal); i++) {
		for (n = 0; model->count != goal[i]; n++) {
			model_put(model, random_bit(), model->count < goal[i]);
			if (n > 8 * COW_PAGE_BITS)	/* the last few are found one by one */
				model_put(model, n % COW_PAGE_BITS, model->count < goal[i]);
		}
		model_compare(model);
		model_reload(model);
		model_compare(model);
		seen[model->set.form] = true;
	}
	assert_true(seen[COW_SET_FEW] && seen[COW_SET_ALL_BUT] && seen[COW_SET_BITMAP]);
	cow_set_free(&model->set);
	free(model);
}

/* Blocks that were freed all over a full disk of 10 TiB. */
static void test_few_take_little(void **state)
{
	enum { PAGES = 4096, FREED = 40 };
	struct cow_set *used = calloc(PAGES, sizeof(*used)), *hold = calloc(PAGES, sizeof(*hold));
	uint8_t full[COW_BLOCK];
	size_t before = mallinfo2().uordblks;
	unsigned i, n, bit;

	(void)state;
	assert_non_null(used);
	assert_non_null(hold);
	memset(full, 0xff, sizeof(full));
	for (i = 0; i < PAGES; i++) {
		assert_int_equal(cow_set_load(&used[i], full), 0);
		for (n = 0; n < FREED; n++) {
			bit = random_bit();
			assert_int_equal(cow_set_put(&used[i], bit, false), 0);
			assert_int_equal(cow_set_put(&hold[i], bit, true), 0);
		}
	}
	assert_true(mallinfo2().uordblks - before < (size_t)PAGES * 2 * 160);
	for (i = 0; i < PAGES; i++) {
		cow_set_free(&used[i]);
		cow_set_free(&hold[i]);
	}
	free(used);
	free(hold);
}

/* Putting back what was just removed needs no memory; neither does a bitmap. */
static void test_room_is_kept(void **state)
{
	struct cow_set set = { 0 };
	uint16_t room;
	unsigned bit;

	(void)state;
	for (bit = 0; bit < 8; bit++)
		assert_int_equal(cow_set_put(&set, bit, true), 0);
	room = set.room;
	for (bit = 0; bit < 8; bit++)
		assert_int_equal(cow_set_put(&set, bit, false), 0);
	assert_int_equal(set.count, 0);
	assert_int_equal(set.room, room);
	assert_int_equal(cow_set_make_bitmap(&set), 0);
	assert_false(cow_set_has(&set, 7));
	assert_int_equal(cow_set_put(&set, 7, true), 0);
	assert_int_equal(set.form, COW_SET_BITMAP);
	assert_int_equal(cow_set_next(&set, 0), 7);
	cow_set_free(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_what_was_put),
		cmocka_unit_test(test_few_take_little),
		cmocka_unit_test(test_room_is_kept),
	};

	return cmocka_run_group_tests_name("cow: sets of bits", tests, NULL, NULL);
}
