/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_crash.c - power cuts at every write, sync and punch of random
 * sequences. Unsynced writes are kept, lost or torn, in any order. After the
 * next open the crash rule holds for the disk and every snapshot, and the check
 * finds nothing; also after a second crash, which may come while the store is
 * being opened. The same at the end of the log's area, with a log that goes on at
 * its start.
 *
 * TAPSNAP_SEED repeats one sequence, TAPSNAP_SEEDS says how many.
 */
#include <stdlib.h>

#include "cow_internal.h"
#include "cow_model.h"

#define STORE_BYTES (20u << 20)
#define OPERATIONS 60
#define SECTORS 5003
#define STEPS_LEAST 60u		/* of any seed: if a run has fewer, it no longer does what it should */

#define WRAP_OPERATIONS 24

static uint64_t cuts, wrapped;		/* wrapped: those while the log went on at the start of its area */

static bool log_wraps(const struct cow_log *log)
{
	return log->head > log->tail && (log->head - 1) / log->size != log->tail / log->size;
}

/* Uses the open store until the power fails; @flushes: with a flush after each operation. @ret: the error of the open. */
static void use(struct model *model, int ret, unsigned operations, bool flushes)
{
	unsigned i;

	for (i = 0; !ret && i < operations; i++) {
		ret = model_step(model);
		if (!ret && flushes)
			ret = model_flush(model);
	}
	if (ret && !model->sim->off)
		fail_msg("TAPSNAP_SEED=%llu cut %llu operation %llu: error %d", (unsigned long long)model_seed,
			 (unsigned long long)model_cut, (unsigned long long)model->operations, ret);
	if (model->store) {
		wrapped += model->sim->off && log_wraps(&model->store->log);
		cow_abandon(model->store);
	}
	model->store = NULL;
}

static void run_phase(struct model *model, unsigned operations)
{
	use(model, model_open(model), operations, false);
}

/* Few blocks of the log's area are left, and for some seeds the next flush has a record of several blocks. */
static void reach_end(struct model *model, uint64_t seed)
{
	const struct cow_log *log;
	uint64_t block = 0;

	assert_int_equal(model_open(model), 0);
	log = &model->store->log;
	for (; log->size - log->head % log->size > (1 + seed % 4) * COW_BLOCK; block++) {
		assert_int_equal(model_write(model, block * COW_SECTORS, COW_SECTORS), 0);
		assert_int_equal(model_flush(model), 0);
	}
	assert_int_equal(cow_checkpoint(model->store), 0);	/* otherwise the next one would come before the start */
	for (; seed % 2 && block < SECTORS / COW_SECTORS - 5; block += 5)
		assert_int_equal(model_write(model, block * COW_SECTORS, 5 * COW_SECTORS), 0);
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
static uint64_t run_cut(uint64_t seed, uint64_t cut, bool at_end)
{
	struct model *model;
	struct sim sim;
	uint64_t steps;

	model_seed = seed;
	model_cut = cut;
	sim_init(&sim, seed % 3 ? 0x300000 : STORE_BYTES, seed % 3 ? 1ull << 30 : 0, seed * 1000003 + cut);
	model = model_new(&sim, seed, SECTORS, seed % 2);
	if (at_end)
		reach_end(model, seed);
	sim.steps = 0;
	sim.cut = cut;
	if (at_end)
		use(model, 0, WRAP_OPERATIONS, true);
	else
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

static void run_seeds(unsigned count, bool at_end)
{
	uint64_t seed = model_first_seed(1), cut, steps;
	unsigned i, seeds = model_seeds(count);

	cuts = wrapped = 0;
	for (i = 0; i < seeds; i++) {
		steps = run_cut(seed + i, 1ull << 40, at_end);
		assert_in_range(steps, STEPS_LEAST, UINT32_MAX);
		for (cut = 1; cut <= steps; cut++)
			run_cut(seed + i, cut, at_end);
	}
	assert_true(cuts > 2ull * STEPS_LEAST * seeds);
	print_message("# %llu crashes, %llu of them with a log that wraps, %u seeds from %llu\n", (unsigned long long)cuts,
		      (unsigned long long)wrapped, seeds, (unsigned long long)seed);
}

static void test_every_cut(void **state)
{
	run_seeds(16, false);
}

static void test_every_cut_in_a_wrap(void **state)
{
	run_seeds(12, true);
	assert_true(wrapped > cuts / 4 || getenv("TAPSNAP_SEED"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_every_cut_in_a_wrap),
	};

	return cmocka_run_group_tests_name("cow: power cuts", tests, NULL, NULL);
}
