/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_faults.c - the Nth operation below the driver `cow` fails:
 * of a store alone, on a raw base or on a snapshot; while snapshots are deleted;
 * and while the disk is committed to its base. Each request ends, or waits for
 * room and continues when there is; nothing hangs; reads still return the right
 * data; and after the next open the store has the right contents.
 *
 * `make check` takes every 29th N, from another one on for each seed. With
 * TAPSNAP_STRIDE=1, as in `make soak`, it is every N. TAPSNAP_SEED repeats one
 * run, TAPSNAP_SEEDS says how many.
 */
#include <errno.h>
#include <stdlib.h>

#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

static uint64_t stride(void)
{
	const char *text = getenv("TAPSNAP_STRIDE");

	return text ? strtoull(text, NULL, 0) : 29;
}

/* @least: operations in a run that can fail; any seed has more. */
static void expect_faults(uint64_t faults, unsigned seeds, unsigned least)
{
	print_message("# %llu faults\n", (unsigned long long)faults);
	assert_true(faults * stride() >= (uint64_t)seeds * least);
}

typedef bool run_fault(const struct live_options *options, const char *directory, uint64_t nth, int error);

static struct live_options of_seed(uint64_t seed)
{
	return (struct live_options){ .seed = seed, .small = seed % 2, .base = seed % 3 };
}

static uint64_t sweep_one(run_fault *run, struct live_options options, int error)
{
	uint64_t step = stride(), nth, faults = 0;

	for (nth = 1 + options.seed * 5 % step; run(&options, scratch_dir, nth, error); nth += step)
		faults++;
	return faults;
}

static void sweep(int error, unsigned count)
{
	uint64_t first = model_first_seed(1), seed, faults = 0;

	for (seed = first; seed < first + model_seeds(count); seed++)
		faults += sweep_one(live_run_fault, of_seed(seed), error);
	expect_faults(faults, model_seeds(count), 150);
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

/* The same for writes alone, also of the store's records, pages and superblocks: and no request fails. */
static void test_no_room_for_any_write(void **state)
{
	uint64_t first = model_first_seed(1), seed, faults = 0, step = stride(), nth;
	struct live_options options;

	for (seed = first; seed < first + model_seeds(6); seed++) {
		options = of_seed(seed);
		for (nth = 1 + seed * 5 % step; live_run_no_room(&options, scratch_dir, nth, 1 + nth % 7); nth += step)
			faults++;
	}
	expect_faults(faults, model_seeds(6), 80);
}

static void test_deletes(void **state)
{
	uint64_t first = model_first_seed(1), seed, faults = 0;

	for (seed = first; seed < first + model_seeds(6); seed++)
		faults += sweep_one(live_run_fault_deletes, of_seed(seed), seed % 2 ? -EIO : -ENOSPC);
	expect_faults(faults, model_seeds(6), 150);
}

static void test_commit(void **state)
{
	uint64_t first = model_first_seed(1), seed, faults = 0;
	struct live_options options = { .base = LIVE_OWN_BASE, .no_commands = true };

	for (seed = first; seed < first + model_seeds(4); seed++) {
		options.seed = seed;
		options.small = seed / 2 % 2;
		faults += sweep_one(live_run_merge_fault, options, seed % 2 ? -EIO : -ENOSPC);
	}
	expect_faults(faults, model_seeds(4), 120);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_input_output_errors),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_no_room_for_any_write),
		cmocka_unit_test(test_deletes),
		cmocka_unit_test(test_commit),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: faults under the driver", tests, NULL, NULL);
}
