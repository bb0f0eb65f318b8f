/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_merge.c - random runs of the commit of a disk in use to its
 * raw base: requests in flight that complete in any order, power cuts of store
 * and base at every write and sync, commits that are canceled, interrupted and
 * restarted. Every sector always holds an allowed value; in the end the base
 * equals the disk.
 *
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

static void run_seeds(struct live_options options, unsigned count)
{
	uint64_t first = model_first_seed(1), seeds = model_seeds(count);

	options.base = LIVE_OWN_BASE;
	options.no_commands = true;
	for (options.seed = first; options.seed < first + seeds; options.seed++)
		live_run_merge(&options, scratch_dir);
}

static void test_merge(void **state)
{
	run_seeds((struct live_options){ .small = false }, 2);
}

static void test_merge_of_a_store_that_grows(void **state)
{
	run_seeds((struct live_options){ .small = true }, 1);
	print_message("# %llu power cuts looked at, %llu lived through\n", (unsigned long long)live_cuts,
		      (unsigned long long)live_restarts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_merge_of_a_store_that_grows),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: commit of a disk in use", tests, NULL, NULL);
}
