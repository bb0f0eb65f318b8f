/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_crash.c - power cuts while the driver `cow` has many requests
 * in flight: at every write, sync and discard of random runs. Unsynced writes
 * are kept, lost or torn, in any order. After the next open each sector holds
 * what the last flush made durable or something later; all snapshots are there
 * and exact; the check finds nothing, also after the deletions that were
 * going on have been finished.
 *
 * Most cuts are checked in a copy while the run continues. Some end the run: then
 * the driver opens the result, and the power may fail again meanwhile.
 *
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include <stdlib.h>

#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

#define CUTS_LEAST 100u		/* of a run; they are more than twice as many */

static void run_seeds(struct live_options options, unsigned count)
{
	uint64_t first = model_first_seed(1), seeds = model_seeds(count), cuts = live_cuts, restarts = live_restarts;

	for (options.seed = first; options.seed < first + seeds; options.seed++)
		live_run_cuts(&options, scratch_dir);
	assert_true(live_cuts - cuts >= CUTS_LEAST * seeds);
	assert_true(live_restarts - restarts >= seeds);
}

static void test_alone(void **state)
{
	run_seeds((struct live_options){ .small = true }, 6);
}

/* The log goes on at the start of its area. */
static void test_log_that_wraps(void **state)
{
	uint64_t cuts = live_cuts;

	run_seeds((struct live_options){ .small = true, .log_end = true }, 4);
	assert_true(live_wraps > (live_cuts - cuts) / 10 || getenv("TAPSNAP_SEED"));
}

static void test_on_a_raw_base(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_RAW_BASE }, 4);
}

static void test_on_a_snapshot(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_COW_BASE, .small = true }, 2);
	print_message("# %llu power cuts looked at, %llu of them with a log that wraps; %llu lived through\n",
		      (unsigned long long)live_cuts, (unsigned long long)live_wraps, (unsigned long long)live_restarts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_log_that_wraps),
		cmocka_unit_test(test_on_a_raw_base),
		cmocka_unit_test(test_on_a_snapshot),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: power cuts under the driver", tests, NULL, NULL);
}
