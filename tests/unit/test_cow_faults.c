/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_faults.c - the Nth call to the device fails, for every N, reads of
 * the base included. The store returns the error, still reads, and has the
 * right contents after the next open. A write that found no space leaves the
 * store usable. The same while a disk is committed to its base, and for a
 * process that dies by the fault, with the journal that it leaves.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "cow_model.h"
#include "scratch.h"

#define STORE_BYTES (20u << 20)
#define COMMIT_BYTES (8u << 20)	/* in the end, all of it is punched */
#define OPERATIONS 50

/* A model, not open yet, on a device whose @nth call from here on fails. */
static struct model *begin(struct sim *sim, uint64_t seed, uint64_t nth, int error)
{
	struct model *model;

	model_seed = seed;
	model_cut = nth;
	sim_init(sim, seed % 2 ? 0x300000 : STORE_BYTES, seed % 2 ? 1ull << 30 : 0, seed);
	model = model_new(sim, seed, 5003, seed % 2);
	sim->calls = 0;
	sim->fail_error = error;
	sim->fail_at = nth;
	return model;
}

/* 0: the fault was not reached. */
static bool run_fault(uint64_t seed, uint64_t nth, int error)
{
	struct sim sim;
	struct model *model = begin(&sim, seed, nth, error);
	unsigned i, failed = 0;
	int ret = model_open(model);
	bool came;

	for (i = 0; model->store && !failed && i < OPERATIONS; i++) {
		ret = model_step(model);
		failed = ret != 0;
	}
	came = sim.calls >= nth;
	if (ret && !came)
		fail_msg("TAPSNAP_SEED=%llu call %llu: error %d of itself", (unsigned long long)seed,
			 (unsigned long long)nth, ret);
	if (came && model->store && model->pending == NOTHING)
		assert_int_equal(cow_read(model->store, (uint8_t[512]){ 0 }, 0, 1), 0);
	if (model->store)
		cow_abandon(model->store);
	model->store = NULL;
	sim.fail_at = 0;
	sim_power_cycle(&sim);
	model_check_copies(&sim);
	assert_int_equal(model_open(model), 0);
	model_verify_crashed(model);
	model_check(model);
	model_end(model);
	return came;
}

/* @least: of a run without faults, calls that can fail; any seed has more. */
static void expect_runs(uint64_t runs, unsigned seeds, unsigned least)
{
	print_message("# %llu faults\n", (unsigned long long)runs);
	assert_true(runs >= (uint64_t)seeds * least);
}

static void sweep(int error)
{
	uint64_t first = model_first_seed(1), seed, nth, runs = 0;

	for (seed = first; seed < first + model_seeds(4); seed++) {
		for (nth = 1; run_fault(seed, nth, error); nth++)
			runs++;
	}
	expect_runs(runs, model_seeds(4), 50);
}

static void test_eio_anywhere(void **state)
{
	sweep(-EIO);
}

static void test_enospc_anywhere(void **state)
{
	sweep(-ENOSPC);
}

static void expect_room(struct model *model, int ret)
{
	if (ret || model->store->failed)
		fail_msg("TAPSNAP_SEED=%llu call %llu: error %d when there is room again, or the store has failed with %d",
			 (unsigned long long)model_seed, (unsigned long long)model_cut, ret, model->store->failed);
}

/* Sectors of writes that have failed: whatever is flushed later, they may have their old contents. */
static bool uncertain[MODEL_SECTORS];

static void note_uncertain(const struct model *model)
{
	size_t i;

	for (i = 0; i < model->nr_later; i++)
		uncertain[model->later[i].sector] = true;
}

/* All others have what was written last, whatever comes. */
static void settle_certain(struct model *model)
{
	size_t i, kept = 0;

	for (i = 0; i < model->active.sectors; i++) {
		if (!uncertain[i])
			model->stable.tag[i] = model->active.tag[i];
	}
	for (i = 0; i < model->nr_later; i++) {
		if (uncertain[model->later[i].sector])
			model->later[kept++] = model->later[i];
	}
	model->nr_later = kept;
}

/* While there is no room, writes and flushes may succeed. After a revert it is open whether they belong to the old disk. */
static void use_without_room(struct model *model)
{
	unsigned i;

	note_uncertain(model);
	for (i = 0; i < 6 && model->pending != REVERTING && model->pending != RESIZING; i++) {
		if (model_write(model, (i * 977 + model_seed * 41 + model_cut) % 800, 20))
			note_uncertain(model);
		else if (!cow_flush(model->store))
			settle_certain(model);
	}
}

enum then { ROOM, POWER_CUT, DEATH };

/*
 * The next open settles what is pending; if there is room before, the store does, and is whole without another open. When
 * only the process dies, the journal has what was not flushed.
 */
static void room_again(struct model *model, enum then then)
{
	model->sim->fail_at = 0;
	if (then == ROOM) {
		expect_room(model, cow_flush(model->store));
		expect_room(model, cow_checkpoint(model->store));
	} else {
		cow_abandon(model->store);
		if (then == POWER_CUT) {
			sim_power_cycle(model->sim);
			unlink(model->journal);
		} else {
			settle_certain(model);
		}
		assert_int_equal(model_open(model), 0);
	}
	memset(uncertain, 0, sizeof(uncertain));
	model_verify_crashed(model);
	model_check(model);
}

/* From the @nth write on there is no room for a while. 0: there were fewer. */
static bool run_no_room(uint64_t seed, uint64_t nth)
{
	struct sim sim;
	struct model *model = begin(&sim, seed, 0, -ENOSPC);
	bool come;
	unsigned i;
	int ret = 0;

	model_cut = nth;
	model->journal = scratch_path("journal");
	unlink(model->journal);
	assert_int_equal(model_open(model), 0);
	sim.fail_writes_only = true;
	sim.calls = 0;
	sim.fail_at = nth;
	sim.fail_more = (seed + nth) % 3 ? (unsigned)(nth % 4) : 1000;
	for (i = 0; model->store && !ret && i < OPERATIONS; i++)
		ret = model_step(model);
	come = ret;
	if (model->store && come) {
		assert_int_equal(ret, -ENOSPC);
		expect_room(model, 0);
		use_without_room(model);
		room_again(model, (enum then)(nth / 4 % 3));
	} else if (come) {		/* at the close or the open */
		sim.fail_at = 0;
		assert_int_equal(model_open(model), 0);
		model_verify_crashed(model);
	}
	sim.fail_at = 0;
	for (i = 0; i < OPERATIONS / 2; i++)
		expect_room(model, model_step(model));
	model_verify(model);
	assert_int_equal(cow_close(model->store), 0);
	assert_int_equal(model_open(model), 0);
	model_verify(model);
	model_check(model);
	model_finish_deletions(model);
	model_check(model);
	model_end(model);
	return come;
}

/* Whatever finds no room, records of the log, pages and superblocks included: with room the store goes on, and is whole. */
static void test_room_after_no_space_anywhere(void **state)
{
	uint64_t first = model_first_seed(1), seed, nth, runs = 0;

	for (seed = first; seed < first + model_seeds(8); seed++) {
		for (nth = 1; run_no_room(seed, nth); nth++)
			runs++;
	}
	expect_runs(runs, model_seeds(8), 25);
}

/* What has been answered must be there when the process has died: as after a flush, in a power cut. */
static void all_answered(struct model *model)
{
	model->stable = model->active;
	model->nr_later = 0;
}

/* The process dies by the fault, or at the end; the power stays. The fault may also come while its journal is replayed. */
static bool run_death(uint64_t seed, uint64_t nth, int error)
{
	struct sim sim;
	struct model *model = begin(&sim, seed, nth, error);
	unsigned i;
	bool came;
	int ret;

	model->journal = scratch_path("journal");
	unlink(model->journal);
	ret = model_open(model);
	for (i = 0; !ret && i < OPERATIONS / 2; i++) {
		all_answered(model);
		ret = model_step(model);
	}
	if (model->store)
		cow_abandon(model->store);
	if (model_open(model))
		assert_int_equal(model_open(model), 0);
	came = sim.calls >= nth;
	sim.fail_at = 0;
	model_verify_crashed(model);
	model_check(model);
	model_end(model);
	return came;
}

static void test_death_by_a_fault(void **state)
{
	uint64_t first = model_first_seed(1), seed, nth, runs = 0;

	for (seed = first; seed < first + model_seeds(2); seed++) {
		for (nth = 1; run_death(seed, nth, seed / 2 % 2 ? -ENOSPC : -EIO); nth++)
			runs++;
	}
	expect_runs(runs, model_seeds(2), 25);
}

/* The base of a disk that is committed; it is smaller than the disk. */
static struct sim base_sim;

static int base_sim_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	return base_sim.device.ops->read(&base_sim.device, data, sector * SECTOR_SIZE, nr_sectors * SECTOR_SIZE);
}

static void base_make(uint64_t sectors)
{
	uint8_t data[SECTOR_SIZE];
	uint64_t i;

	sim_init(&base_sim, MODEL_BASE_SECTORS * SECTOR_SIZE, sectors * SECTOR_SIZE, 1);
	for (i = 0; i < MODEL_BASE_SECTORS; i++) {
		sim_fill_sector(data, model_base_tag(i));
		assert_int_equal(base_sim.device.ops->write(&base_sim.device, data, i * SECTOR_SIZE, sizeof(data)), 0);
	}
	assert_int_equal(base_sim.device.ops->sync(&base_sim.device), 0);
}

static int commit(struct model *model)
{
	const struct cow_base_fields fields = { .sectors = model->active.sectors, .target = "aio:/base" };
	struct error_text error = { "" };
	uint64_t sector, n;
	int ret;

	ret = cow_commit_begin(model->store, &base_sim.device, &error);
	for (sector = 0; !ret && sector < model->active.sectors; sector += n)
		ret = cow_commit_step(model->store, &base_sim.device, sector, &n);
	if (!ret)
		ret = base_sim.device.ops->sync(&base_sim.device);
	return ret ? ret : cow_commit_end(model->store, &fields, &error);
}

/* With the base of the size that the store has noted. */
static void reopen_on_base(struct model *model)
{
	struct error_text error = { "" };
	struct cow_base_fields fields;
	enum cow_base_kind kind;

	if (model->store)
		cow_abandon(model->store);
	assert_int_equal(cow_probe(&model->sim->device, &kind, &fields, &error), 0);
	model->base = (struct cow_base){ base_sim_read, NULL, fields.sectors };
	assert_int_equal(model_open(model), 0);
}

static void use_before_commit(struct model *model)
{
	unsigned i;

	for (i = 0; i < 12; i++)
		assert_int_equal(model_write(model, (i * 977 + model_seed * 41) % 5000, 3 + i % 2 * 13), 0);
	assert_int_equal(model_discard(model, 1000, 300, true), 0);
	assert_int_equal(model_discard(model, MODEL_BASE_SECTORS - 2, 400, true), 0);
	assert_int_equal(model_flush(model), 0);
	for (; i < 24; i++)
		assert_int_equal(model_write(model, (i * 977 + model_seed * 41) % 5000, 20), 0);
}

static void expect_committed(struct model *model)
{
	uint8_t data[SECTOR_SIZE], expected[SECTOR_SIZE];
	uint64_t i;

	for (i = 0; i < model->active.sectors; i++) {
		assert_int_equal(base_sim_read(NULL, data, i, 1), 0);
		sim_fill_sector(expected, model->active.tag[i]);
		if (memcmp(data, expected, sizeof(data)))
			fail_msg("fault %llu: sector %llu of the base is wrong", (unsigned long long)model_cut, (unsigned long long)i);
	}
}

/* The fault comes from the store's device, or from the base; then the power fails, and the commit is done again. */
static bool run_commit(uint64_t nth, int error, bool of_base)
{
	struct model *model;
	struct sim sim, *faulty;
	bool came;
	int ret;

	model_seed = nth;
	model_cut = nth;
	sim_init(&sim, COMMIT_BYTES, 0, nth);
	model = model_new(&sim, nth, 5040, true);
	base_make(5040);
	reopen_on_base(model);
	use_before_commit(model);
	faulty = of_base ? &base_sim : &sim;
	faulty->calls = 0;
	faulty->fail_error = error;
	faulty->fail_at = nth;
	ret = commit(model);
	came = faulty->calls >= nth;
	faulty->fail_at = 0;
	if (ret && !came)
		fail_msg("fault %llu: error %d of itself", (unsigned long long)nth, ret);
	if (ret) {
		cow_abandon(model->store);
		model->store = NULL;
		sim_power_cycle(&sim);
		model_check_copies(&sim);
		sim_power_cycle(&base_sim);
		reopen_on_base(model);
		model_verify_crashed(model);
		model_check(model);
		assert_int_equal(commit(model), 0);
	}
	expect_committed(model);
	reopen_on_base(model);
	model_verify(model);
	model_check(model);
	model_end(model);
	sim_free(&base_sim);
	return came;
}

static void test_commit_anywhere(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC };
	uint64_t nth, runs = 0;
	unsigned i;

	for (i = 0; i < 4; i++) {
		for (nth = 1; run_commit(nth, errors[i % 2], i / 2); nth++)
			runs++;
	}
	expect_runs(runs, 4, 25);
}

/* The file system below a growing store is full: writes wait, and continue when there is room. Nothing else is lost. */
static void test_no_space_then_space(void **state)
{
	struct model *model;
	struct sim sim;
	uint64_t at;
	unsigned i;

	sim_init(&sim, 3u << 20, 1u << 30, 1);
	model = model_new(&sim, 1, 12000, false);
	assert_int_equal(model_open(model), 0);
	for (i = 0, at = 0; at + 40 <= 12000; i++, at += 40) {
		if (i % 7 == 3) {
			sim.fail_error = -ENOSPC;
			sim.fail_at = sim.calls + 1;
			assert_int_equal(model_write(model, at, 40), -ENOSPC);
			sim.fail_at = 0;
		}
		assert_int_equal(model_write(model, at, 40), 0);
	}
	model_verify(model);
	assert_int_equal(model_flush(model), 0);
	model_check(model);
	model_end(model);
}

/*
 * A checkpoint that finds no space is undone, or, when it comes to the superblocks, ended by the next one, without another
 * open.
 */
static void test_checkpoint_without_space(void **state)
{
	struct model *model;
	unsigned nth, undone = 0, superblocks = 0;
	struct sim sim;
	int ret = -ENOSPC;

	sim_init(&sim, STORE_BYTES, 0, 1);
	model = model_new(&sim, 1, 12000, false);
	assert_int_equal(model_open(model), 0);
	for (nth = 1; ret; nth++) {
		model_write(model, nth * 40, 40);
		model_write(model, 8000 + nth * 40, 40);
		if (nth % 3 == 0)
			assert_int_equal(cow_discard(model->store, 11000, 8), 0);
		assert_int_equal(model_flush(model), 0);
		sim.fail_error = -ENOSPC;
		sim.fail_writes_only = true;
		sim.fail_at = sim.calls + nth;
		ret = cow_checkpoint(model->store);
		sim.fail_at = 0;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOSPC);
		assert_int_equal(cow_flush(model->store), 0);
		if (!model->store->checkpoint) {
			model_check(model);
			undone++;
		} else {
			superblocks++;
		}
		assert_int_equal(cow_checkpoint(model->store), 0);
		model_verify(model);
		model_check(model);
	}
	assert_true(undone >= 3);
	assert_int_equal(superblocks, 2);
	model_end(model);
}

/* The bitmap's first page is full while @sector is written: the write gets a block of the second. */
static void write_to_second_page(struct model *model, uint64_t sector)
{
	struct cow_store *store = model->store;
	uint64_t block;

	for (block = store->pool_start; block < COW_PAGE_BITS; block++)
		assert_int_equal(cow_alloc_mark(store, block), 0);
	assert_int_equal(model_write(model, sector, COW_SECTORS), 0);
	for (block = store->pool_start; block < COW_PAGE_BITS; block++) {
		assert_int_equal(cow_alloc_release(store, block), 0);
		cow_alloc_unhold(store, block);
	}
}

static const struct cow_device_ops *real_ops;
static struct cow_store *growing;

/* As if another fiber ran in the meantime. */
static int read_growing(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	struct cow_store *store = growing;

	growing = NULL;
	if (store)
		assert_int_equal(cow_alloc_grow(store, 64 * store->store_blocks), 0);
	return real_ops->read(device, data, offset, length);
}

/* All pages move in memory while one of them is being read. */
static void test_growth_while_a_page_is_read(void **state)
{
	struct model *model;
	struct cow_device_ops ops;
	struct cow_page *page;
	struct sim sim;
	int error;

	(void)state;
	sim_init(&sim, 16ull * COW_PAGE_BITS * COW_BLOCK, 0, 1);	/* enough pages for M_PERTURB to see them freed */
	model = model_new(&sim, 1, 12000, false);
	assert_int_equal(model_open(model), 0);
	write_to_second_page(model, 0);
	assert_int_equal(cow_close(model->store), 0);
	assert_int_equal(model_open(model), 0);
	page = &model->store->alloc.page[1];
	cow_set_free(&page->bits);
	page->loaded = false;
	real_ops = sim.device.ops;
	ops = *real_ops;
	ops.read = read_growing;
	sim.device.ops = &ops;
	growing = model->store;
	mallopt(M_PERTURB, 0x5a);		/* the freed memory has other contents */
	cow_alloc_is_used(model->store, COW_PAGE_BITS, &error);
	mallopt(M_PERTURB, 0);
	assert_null(growing);
	assert_int_equal(error, 0);
	sim.device.ops = real_ops;
	model_end(model);
}

/* A discard cannot read the bitmap page of the block that it would free: the block is not freed. */
static void test_discard_without_bitmap(void **state)
{
	struct model *model;
	struct cow_page *page;
	uint64_t entry;
	struct sim sim;
	int error;

	sim_init(&sim, 2ull * COW_PAGE_BITS * COW_BLOCK, 0, 1);
	model = model_new(&sim, 1, 12000, false);
	assert_int_equal(model_open(model), 0);
	write_to_second_page(model, 0);
	assert_int_equal(cow_close(model->store), 0);
	assert_int_equal(model_open(model), 0);
	model_verify(model);			/* the map is in memory */
	page = &model->store->alloc.page[1];
	assert_false(page->dirty);
	cow_set_free(&page->bits);		/* as cow_alloc_trim() does when there are many */
	page->loaded = false;
	sim.fail_error = -EIO;
	sim.fail_at = sim.calls + 1;
	assert_int_equal(cow_discard(model->store, 0, COW_SECTORS), -EIO);
	sim.fail_at = 0;
	model_verify(model);
	assert_int_equal(model_flush(model), 0);
	model_verify(model);
	cow_abandon(model->store);
	assert_int_equal(model_open(model), 0);
	model_verify(model);
	assert_int_equal(cow_map_find(model->store, model->store->active, 0, &entry), 0);
	assert_true(cow_entry_block(entry) >= COW_PAGE_BITS);
	assert_true(cow_alloc_is_used(model->store, cow_entry_block(entry), &error));
	model_check(model);
	model_end(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_eio_anywhere),
		cmocka_unit_test(test_enospc_anywhere),
		cmocka_unit_test(test_room_after_no_space_anywhere),
		cmocka_unit_test(test_death_by_a_fault),
		cmocka_unit_test(test_commit_anywhere),
		cmocka_unit_test(test_no_space_then_space),
		cmocka_unit_test(test_checkpoint_without_space),
		cmocka_unit_test(test_discard_without_bitmap),
		cmocka_unit_test(test_growth_while_a_page_is_read),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: faults", tests, NULL, NULL);
}
