/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_faults.c - the Nth operation below the driver `cow` fails,
 * for every N. Each request ends, or waits for room and continues when there
 * is; nothing hangs; reads still return the right data; and after the next
 * open the store has the right contents.
 *
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include <errno.h>

#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

#define STRIDE 29			/* not every N each time: the seeds share the work */

static void sweep(int error, unsigned count)
{
	uint64_t first = model_first_seed(1), seeds = model_seeds(count), nth, faults = 0;
	struct live_options options = { 0 };

	for (options.seed = first; options.seed < first + seeds; options.seed++) {
		options = (struct live_options){ .seed = options.seed, .small = options.seed % 2, .base = options.seed % 3 };
		for (nth = 1 + options.seed * 5 % STRIDE; live_run_fault(&options, scratch_dir, nth, error); nth += STRIDE)
			faults++;
	}
	print_message("# %llu faults\n", (unsigned long long)faults);
}

static void test_input_output_errors(void **state)
{
	sweep(-EIO, 6);
}

/* A file system that is full at times: the disk waits for room, and loses nothing. */
static void test_no_space(void **state)
{
	sweep(-ENOSPC, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_input_output_errors),
		cmocka_unit_test(test_no_space),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: faults under the driver", tests, NULL, NULL);
}
