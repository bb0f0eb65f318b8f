/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver.c - the driver `cow` with many requests in flight, power
 * cuts at every step and faults, beside deletes and commits, too, as in the unit
 * tests, with many seeds.
 *
 * TAPSNAP_SOAK_SECONDS: how long (600), or longer, until there have been
 * POWER_CUTS. TAPSNAP_SEED: only this seed; with TAPSNAP_SEEDS, this number of
 * seeds from there on.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

#define FAULT_STRIDE 41
#define POWER_CUTS 10000u

static void faults(const struct live_options *options, bool (*run)(const struct live_options *options, const char *directory,
								  uint64_t nth, int error))
{
	uint64_t nth = 1 + options->seed % FAULT_STRIDE;

	while (run(options, scratch_dir, nth, options->seed % 2 ? -EIO : -ENOSPC))
		nth += FAULT_STRIDE;
}

static void one_seed(uint64_t seed)
{
	struct live_options options = { .seed = seed, .base = seed % 3, .small = seed / 3 % 2, .full = seed / 6 % 4 == 3 };
	struct live_options own = { .seed = seed, .base = LIVE_OWN_BASE, .small = seed / 3 % 2, .no_commands = true };

	options.small |= options.full;
	live_run(&options, scratch_dir);
	live_run_cuts(&options, scratch_dir);
	faults(&options, live_run_fault);
	faults(&options, live_run_fault_deletes);
	live_run_merge(&own, scratch_dir);
	faults(&own, live_run_merge_fault);
}

static void test_seed_after_seed(void **state)
{
	const char *text = getenv("TAPSNAP_SOAK_SECONDS");
	uint64_t first = model_first_seed(time(NULL)), seed = first;
	time_t end = time(NULL) + (text ? atoi(text) : 600);

	print_message("# TAPSNAP_SEED=%llu\n", (unsigned long long)first);
	do
		one_seed(seed++);
	while ((time(NULL) < end || live_cuts + live_restarts < POWER_CUTS) && seed - first < model_seeds(UINT32_MAX));
	print_message("# %llu seeds, %llu power cuts looked at, %llu lived through\n", (unsigned long long)(seed - first),
		      (unsigned long long)live_cuts, (unsigned long long)live_restarts);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_seed_after_seed) };

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, for long", tests, NULL, NULL);
}
