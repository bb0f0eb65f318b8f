/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_model.c - long random use of a store, against an array.
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include <errno.h>
#include <stdlib.h>

#include "cow_model.h"

#define STORE_BYTES (24u << 20)
#define OPERATIONS 1500

static void run_seed(uint64_t seed)
{
	struct model *model;
	struct sim sim;
	unsigned i;
	int ret;

	model_seed = seed;
	sim_init(&sim, seed % 3 ? 0x300000 : STORE_BYTES, seed % 3 ? 1ull << 30 : 0, seed);
	model = model_new(&sim, seed, 1 + seed * 997 % MODEL_SECTORS, seed % 2);
	model->small_cache = seed % 5 == 0;
	assert_int_equal(model_open(model), 0);
	for (i = 1; i <= OPERATIONS; i++) {
		ret = model_step(model);
		if (ret)
			fail_msg("TAPSNAP_SEED=%llu operation %u: error %d", (unsigned long long)seed, i, ret);
		if (i % 50 == 0) {
			model_verify(model);
			model_check(model);
		}
	}
	model_finish_deletions(model);
	model_verify(model);
	model_check(model);
	model_end(model);
}

static void test_random_use(void **state)
{
	uint64_t seed = model_first_seed(1);
	unsigned i, seeds = model_seeds(12);

	for (i = 0; i < seeds; i++)
		run_seed(seed + i);
	print_message("# %u seeds from %llu, %u operations each\n", seeds, (unsigned long long)seed, OPERATIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_use) };

	return cmocka_run_group_tests_name("cow: random use against a model", tests, NULL, NULL);
}
