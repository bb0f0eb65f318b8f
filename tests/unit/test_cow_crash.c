/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_crash.c - power cuts at every write, sync and punch of random
 * sequences. Unsynced writes are kept, lost or torn, in any order. After the
 * next open the crash rule holds for the disk and every snapshot, and the check
 * finds nothing; also after a second crash, which may come while the store is
 * being opened.
 *
 * TAPSNAP_SEED repeats one sequence, TAPSNAP_SEEDS says how many.
 */
#include <stdlib.h>

#include "cow_model.h"

#define STORE_BYTES (20u << 20)
#define OPERATIONS 60
#define SECTORS 5003
#define STEPS_LEAST 60u		/* of any seed: if a run has fewer, it no longer does what it should */

static uint64_t cuts;

/* Opens the store and uses it until the power fails. */
static void run_phase(struct model *model, unsigned operations)
{
	unsigned i;
	int ret = model_open(model);

	for (i = 0; !ret && i < operations; i++)
		ret = model_step(model);
	if (ret && !model->sim->off)
		fail_msg("TAPSNAP_SEED=%llu cut %llu operation %llu: error %d", (unsigned long long)model_seed,
			 (unsigned long long)model_cut, (unsigned long long)model->operations, ret);
	if (model->store)
		cow_abandon(model->store);
	model->store = NULL;
}

static void recover(struct model *model)
{
	sim_power_cycle(model->sim);
	model_check_copies(model->sim);
	assert_int_equal(model_open(model), 0);
	model_verify_crashed(model);
	model_check(model);
	cuts++;
}

/* Returns the number of steps of the first phase. */
static uint64_t run_cut(uint64_t seed, uint64_t cut)
{
	struct model *model;
	struct sim sim;
	uint64_t steps;

	model_seed = seed;
	model_cut = cut;
	sim_init(&sim, seed % 3 ? 0x300000 : STORE_BYTES, seed % 3 ? 1ull << 30 : 0, seed * 1000003 + cut);
	model = model_new(&sim, seed, SECTORS, seed % 2);
	sim.steps = 0;
	sim.cut = cut;
	run_phase(model, OPERATIONS);
	steps = sim.steps;
	recover(model);
	cow_abandon(model->store);
	model->store = NULL;
	sim.cut = 1 + sim_random(&sim.random) % 40;
	run_phase(model, 20);
	recover(model);
	model_finish_deletions(model);
	model_verify(model);
	model_check(model);
	model_end(model);
	return steps;
}

static void test_every_cut(void **state)
{
	uint64_t seed = model_first_seed(1), cut, steps;
	unsigned i, seeds = model_seeds(16);

	for (i = 0; i < seeds; i++) {
		steps = run_cut(seed + i, 1ull << 40);
		assert_in_range(steps, STEPS_LEAST, UINT32_MAX);
		for (cut = 1; cut <= steps; cut++)
			run_cut(seed + i, cut);
	}
	assert_true(cuts > 2ull * STEPS_LEAST * seeds);
	print_message("# %llu crashes, %u seeds from %llu\n", (unsigned long long)cuts, seeds, (unsigned long long)seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_cut) };

	return cmocka_run_group_tests_name("cow: power cuts", tests, NULL, NULL);
}
