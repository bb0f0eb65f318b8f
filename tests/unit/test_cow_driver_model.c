/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_model.c - the driver `cow` with many requests in flight,
 * completed in any order, and snapshots taken, read, deleted and gone back to
 * meanwhile. Whatever is read is something that can be there; a snapshot
 * holds what had ended when it was taken; and after each closing the tools
 * find the same in the store, and nothing wrong with it.
 *
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

static void run_seeds(struct live_options options, unsigned count)
{
	uint64_t first = model_first_seed(1), seeds = model_seeds(count);

	for (options.seed = first; options.seed < first + seeds; options.seed++)
		live_run(&options, scratch_dir);
}

static void test_alone(void **state)
{
	run_seeds((struct live_options){ 0 }, 12);
}

static void test_on_a_raw_base(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_RAW_BASE, .small = true }, 12);
}

static void test_on_a_snapshot(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_COW_BASE }, 8);
}

/* The store is too small for all that is asked for: what waits for room goes on when there is some. */
static void test_without_room(void **state)
{
	live_waited = 0;
	run_seeds((struct live_options){ .small = true, .full = true }, 8);
	run_seeds((struct live_options){ .base = LIVE_RAW_BASE, .small = true, .full = true }, 8);
	assert_true(live_waited > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_on_a_raw_base),
		cmocka_unit_test(test_on_a_snapshot),
		cmocka_unit_test(test_without_room),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, many requests in flight", tests, NULL, NULL);
}
