/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_base.c - commit and rebase, with a power cut at each write and sync
 * of the store and of the base: the disk reads the same at each moment, the
 * base is written only when the store says so, and an interrupted operation
 * can be started again. Extents, and the space that a disk needs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "cow_base.h"
#include "cow_internal.h"
#include "cow_model.h"

#define DISK 9003u			/* sectors */
#define BASE 5003u
#define STORE_BYTES (12u << 20)
#define STORE_BYTES_TWO_PAGES (((uint64_t)COW_PAGE_BITS << COW_SHIFT) + (1u << 20))	/* of the bitmap */
#define BYTES(sectors) ((sectors) * 512u)

struct bench {
	struct sim store_sim, base_sim;
	struct cow_store *store;
	struct cow_base_fields fields;	/* the store's record of its base */
	uint8_t *want;			/* what the disk reads */
	uint8_t *base_before;
	uint64_t sectors;
};

static int bench_base_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct cow_device *device = owner;

	return device->ops->read(device, data, BYTES(sector), BYTES(nr_sectors));
}

/* Reports part of the base as zeros, with borders within a block. */
static int bench_base_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	uint64_t end = sector < 4000 ? 4000 : sector < 4299 ? 4299 : UINT64_MAX;

	*zero = end == 4299;
	*nr_sectors = *nr_sectors < end - sector ? *nr_sectors : end - sector;
	return 0;
}

static void random_fill(struct bench *bench, uint8_t *data, size_t length)
{
	uint64_t number;
	size_t i;

	for (i = 0; i < length; i += sizeof(number)) {
		number = sim_random(&bench->store_sim.random);
		memcpy(data + i, &number, sizeof(number));
	}
}

static void bench_open(struct bench *bench)
{
	struct cow_open_options options = { .cache_bytes = 1 };
	struct error_text error = { "" };
	enum cow_base_kind kind;

	assert_int_equal(cow_probe(&bench->store_sim.device, &kind, &bench->fields, &error), 0);
	options.base = (struct cow_base){ bench_base_read, &bench->base_sim.device, bench->fields.sectors, bench_base_zero };
	if (cow_open(&bench->store, &bench->store_sim.device, &options, &error))
		fail_msg("cut %llu: %s", (unsigned long long)model_cut, error.text);
}

static void bench_write(struct bench *bench, uint64_t sector, uint64_t n, bool zero)
{
	uint8_t *at = bench->want + BYTES(sector);

	if (zero)
		memset(at, 0, BYTES(n));
	else
		random_fill(bench, at, BYTES(n));
	assert_int_equal(zero ? cow_write_zeroes(bench->store, sector, n) : cow_write(bench->store, at, sector, n), 0);
}

/* The disk has shrunk and grown again within the base, so that it shows the base up to the middle of a block. */
static void bench_resize(struct bench *bench, uint64_t between)
{
	struct error_text error = { "" };

	assert_int_equal(cow_resize(bench->store, between, &error), 0);
	assert_int_equal(cow_resize(bench->store, bench->sectors, &error), 0);
	memset(bench->want + BYTES(between), 0, BYTES(bench->sectors - between));
}

static void bench_use(struct bench *bench)
{
	static const struct { uint16_t sector, n; bool zero; } uses[] = {
		{ 0, 3, false }, { 64, 40, false }, { 200, 64, true }, { 1003, 9, false }, { 2000, 800, false },
		{ 2100, 16, true }, { 4700, 40, false }, { BASE - 20, 60, false },
	};
	size_t i;

	bench_resize(bench, 4603);
	for (i = 0; i < ARRAY_SIZE(uses); i++) {
		if (uses[i].sector + uses[i].n <= bench->sectors)
			bench_write(bench, uses[i].sector, uses[i].n, uses[i].zero);
	}
}

/* Page 1 of the bitmap has no bit set, and is described in page 0. */
static void bench_empty_page(struct bench *bench)
{
	struct cow_alloc *alloc = &bench->store->alloc;

	alloc->at_page = 1;
	alloc->at_bit = 0;
	bench_write(bench, 16, 8, false);
	alloc->at_page = 0;
	assert_int_equal(cow_checkpoint(bench->store), 0);
	assert_int_equal(alloc->page[1].bits.count, 1);
	bench_write(bench, 16, 8, true);
	assert_int_equal(cow_checkpoint(bench->store), 0);
	assert_int_equal(alloc->page[1].bits.count, 0);
	assert_in_range(cow_entry_block(alloc->page[1].ref.where), bench->store->pool_start, COW_PAGE_BITS - 1);
}

static const struct cow_device_ops *sim_ops;

/* With much free space the first part is enough, and the rest would take long. */
static int punch_start(struct cow_device *device, uint64_t offset, uint64_t length)
{
	return sim_ops->punch(device, offset, length < STORE_BYTES ? length : STORE_BYTES);
}

static void bench_punch_less(struct bench *bench)
{
	static struct cow_device_ops ops;

	sim_ops = bench->store_sim.device.ops;
	ops = *sim_ops;
	ops.punch = punch_start;
	bench->store_sim.device.ops = &ops;
}

static struct bench *bench_new(uint64_t seed, uint64_t sectors, uint64_t store_bytes)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	struct cow_create_options options = { .sectors = sectors, .log_blocks = COW_LOG_MIN_BLOCKS, .base_kind = COW_BASE_RAW };
	struct error_text error = { "" };

	assert_non_null(bench);
	sim_init(&bench->store_sim, store_bytes, 0, seed);
	bench_punch_less(bench);
	sim_init(&bench->base_sim, BYTES(BASE), BYTES(DISK), seed + 7);
	bench->sectors = sectors;
	bench->want = calloc(1, BYTES(DISK));
	bench->base_before = calloc(1, BYTES(DISK));
	assert_true(bench->want && bench->base_before);
	random_fill(bench, bench->base_before, BYTES(BASE));
	memset(bench->base_before + BYTES(4000), 0, BYTES(300));
	memcpy(bench->base_sim.now, bench->base_before, BYTES(DISK));
	memcpy(bench->base_sim.durable, bench->base_before, BYTES(DISK));
	memcpy(bench->want, bench->base_before, BYTES(sectors < BASE ? sectors : BASE));
	bench->fields = (struct cow_base_fields){ .sectors = BASE, .target = "aio:/base" };
	options.base = &bench->fields;
	assert_int_equal(cow_create(&bench->store_sim.device, &options, &error), 0);
	bench_open(bench);
	bench_use(bench);
	if (store_bytes > STORE_BYTES)
		bench_empty_page(bench);
	assert_int_equal(cow_close(bench->store), 0);
	bench->store = NULL;
	return bench;
}

static void bench_free(struct bench *bench)
{
	if (bench->store)
		cow_abandon(bench->store);
	sim_free(&bench->store_sim);
	sim_free(&bench->base_sim);
	free(bench->want);
	free(bench->base_before);
	free(bench);
}

static void verify_disk(struct bench *bench)
{
	uint8_t *got = malloc(BYTES(DISK));
	struct cow_check check = { 0 };
	uint64_t i;

	assert_non_null(got);
	assert_int_equal(cow_read(bench->store, got, 0, bench->sectors), 0);
	for (i = 0; i < BYTES(bench->sectors); i++) {
		if (got[i] != bench->want[i])
			fail_msg("cut %llu: sector %llu is not what it was", (unsigned long long)model_cut,
				 (unsigned long long)i / 512);
	}
	free(got);
	assert_int_equal(cow_check(bench->store, &check, false), 0);
	if (check.errors || check.leaks || check.copies)
		fail_msg("cut %llu: %llu errors, %llu leaks", (unsigned long long)model_cut, (unsigned long long)check.errors,
			 (unsigned long long)check.leaks);
}

static int commit(struct bench *bench)
{
	struct cow_device *base = &bench->base_sim.device;
	struct cow_base_fields fields = bench->fields;
	struct error_text error = { "" };
	uint64_t sector, n;
	int ret;

	ret = cow_commit_begin(bench->store, base, &error);
	for (sector = 0; !ret && sector < bench->sectors; sector += n)
		ret = cow_commit_step(bench->store, base, sector, &n);
	if (!ret)
		ret = base->ops->sync(base);
	fields.sectors = base->ops->size(base) / 512;
	fields.flags = 0;
	return ret ? ret : cow_commit_end(bench->store, &fields, &error);
}

static void power_cycle(struct bench *bench)
{
	cow_abandon(bench->store);
	bench->store = NULL;
	sim_power_cycle(&bench->store_sim);
	sim_power_cycle(&bench->base_sim);
	model_check_copies(&bench->store_sim);
}

/* The base may have been enlarged: what is beyond its old end does not count until the commit ends. */
static bool base_is_untouched(const struct bench *bench)
{
	return !memcmp(bench->base_sim.now, bench->base_before, BYTES(BASE));
}

static void verify_committed(struct bench *bench)
{
	struct cow_extent extent;
	uint64_t sector;

	assert_memory_equal(bench->base_sim.durable, bench->want, BYTES(bench->sectors));
	assert_false(bench->store->sb.base.flags);
	for (sector = 0; sector < bench->sectors; sector += extent.nr_sectors) {
		assert_int_equal(cow_extent_find(bench->store, sector, &extent), 0);
		assert_int_equal(extent.kind, COW_EXTENT_BASE);
	}
}

/* The power fails in step @cut of one of the two. Returns whether it failed. */
static bool commit_cut(uint64_t seed, uint64_t sectors, uint64_t store_bytes, bool of_base, uint64_t cut)
{
	struct bench *bench = bench_new(seed, sectors, store_bytes);
	struct sim *sim = of_base ? &bench->base_sim : &bench->store_sim;
	bool went;

	model_cut = cut;
	bench_open(bench);
	sim->steps = 0;
	sim->cut = cut;
	/* If the space of an emptied store cannot be freed, that is no failure. */
	if (commit(bench) && !sim->off)
		fail_msg("cut %llu: an error of itself", (unsigned long long)cut);
	went = sim->off;
	power_cycle(bench);
	bench_open(bench);
	if (!base_is_untouched(bench) && !(bench->fields.flags & COW_BASE_COMMITTING) &&
	    memcmp(bench->base_sim.now, bench->want, BYTES(bench->sectors)))
		fail_msg("cut %llu: the base was written and the store does not know", (unsigned long long)cut);
	verify_disk(bench);
	bench_write(bench, 30, 20, false);
	assert_int_equal(commit(bench), 0);
	verify_committed(bench);
	verify_disk(bench);
	assert_int_equal(cow_close(bench->store), 0);
	bench_open(bench);
	verify_disk(bench);
	bench_free(bench);
	return went;
}

static void test_commit_cut_anywhere(void **state)
{
	static const uint64_t sizes[] = { DISK, BASE - 300 }, store_bytes[] = { STORE_BYTES, STORE_BYTES_TWO_PAGES };
	uint64_t cut, cuts = 0;
	unsigned i;

	for (i = 0; i < 8; i++) {
		for (cut = 1; commit_cut(1 + cut * 8 + i, sizes[i % 2], store_bytes[i / 4], i / 2 % 2, cut); cut++)
			cuts++;
	}
	print_message("# %llu crashes\n", (unsigned long long)cuts);
}

static void test_commit_refusals(void **state)
{
	struct bench *bench = bench_new(1, DISK, STORE_BYTES);
	struct error_text error = { "" };

	bench_open(bench);
	assert_int_equal(cow_snapshot_create(bench->store, "one", NULL, &error), 0);
	assert_int_equal(commit(bench), -EBUSY);
	assert_false(bench->store->sb.base.flags);
	assert_true(base_is_untouched(bench));
	assert_int_equal(cow_snapshot_delete(bench->store, "one", &error), 0);
	assert_int_equal(commit(bench), 0);
	verify_committed(bench);
	bench_free(bench);
}

static int other_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	const struct bench *bench = owner;

	memcpy(data, bench->base_before + BYTES(sector), BYTES(nr_sectors));
	return 0;
}

/* Part of the other base is known to be zeros, with borders within blocks. */
static int other_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	uint64_t end = sector < 1003 ? 1003 : sector < 4157 ? 4157 : UINT64_MAX;

	*zero = end == 4157;
	*nr_sectors = *nr_sectors < end - sector ? *nr_sectors : end - sector;
	return 0;
}

/* Replaces the bench's record of the base by another. */
static void other_make(struct bench *bench, bool longer)
{
	memset(bench->base_before + BYTES(1003), 0, BYTES(4157 - 1003));
	random_fill(bench, bench->base_before + BYTES(100), 512);
	random_fill(bench, bench->base_before + BYTES(4157), BYTES(30));
	if (longer)
		random_fill(bench, bench->base_before + BYTES(BASE), BYTES(DISK - BASE));
}

static int rebase(struct bench *bench, const struct cow_base *next)
{
	struct cow_base_fields fields = { 0 };
	struct error_text error = { "" };
	uint64_t sector, n;
	int ret;

	if (next) {
		fields.sectors = next->sectors;
		strcpy(fields.target, "aio:/other");
	}
	ret = cow_rebase_begin(bench->store, &error);
	for (sector = 0; !ret && sector < bench->sectors; sector += n)
		ret = cow_rebase_step(bench->store, next, sector, &n);
	return ret ? ret : cow_rebase_end(bench->store, next ? COW_BASE_RAW : COW_BASE_NONE, &fields, &error);
}

static bool rebase_cut(uint64_t seed, int how, uint64_t cut)
{
	struct bench *bench = bench_new(seed, DISK, STORE_BYTES);
	struct cow_base next = { other_read, bench, how == 1 ? DISK : 4000, other_zero };
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };
	enum cow_base_kind kind;
	bool went;

	model_cut = cut;
	other_make(bench, how == 1);
	bench_open(bench);
	bench->store_sim.steps = 0;
	bench->store_sim.cut = cut;
	went = rebase(bench, how ? &next : NULL) != 0;
	power_cycle(bench);
	assert_int_equal(cow_probe(&bench->store_sim.device, &kind, &bench->fields, &error), 0);
	assert_true(went || (how ? !strcmp(bench->fields.target, "aio:/other") : kind == COW_BASE_NONE));
	options.base = strcmp(bench->fields.target, "aio:/base") ? next :
		(struct cow_base){ bench_base_read, &bench->base_sim.device, BASE, bench_base_zero };
	assert_int_equal(cow_open(&bench->store, &bench->store_sim.device, &options, &error), 0);
	verify_disk(bench);
	bench_free(bench);
	return went;
}

static void test_rebase_cut_anywhere(void **state)
{
	uint64_t cut, cuts = 0;
	int how;

	for (how = 0; how < 3; how++) {
		for (cut = 1; rebase_cut(1 + cut, how, cut); cut++)
			cuts++;
	}
	print_message("# %llu crashes\n", (unsigned long long)cuts);
}

/* Compares each extent with a lookup of each block. */
static void extents_verify(struct cow_store *store)
{
	const struct cow_version *active = store->active;
	struct cow_extent extent;
	uint64_t sector, block, entry, place;

	for (sector = 0; sector < active->sectors; sector += extent.nr_sectors) {
		assert_int_equal(cow_extent_find(store, sector, &extent), 0);
		assert_true(extent.nr_sectors && extent.sector == sector);
		for (block = sector / 8; block * 8 < sector + extent.nr_sectors; block++) {
			assert_int_equal(cow_map_find(store, active, block, &entry), 0);
			place = extent.offset / COW_BLOCK + block - sector / 8;
			if (extent.kind == COW_EXTENT_DATA)
				assert_int_equal(cow_entry_block(entry), place);
			else
				assert_false(cow_entry_block(entry));
			if (extent.kind == COW_EXTENT_BASE)
				assert_true(!entry && cow_map_shows_base(store, active, block));
			if (extent.kind == COW_EXTENT_ZERO)
				assert_true(entry || !cow_map_shows_base(store, active, block));
		}
	}
}

static void test_extents(void **state)
{
	uint64_t seed, i;
	struct model *model;
	struct sim sim;

	for (seed = 1; seed <= 6; seed++) {
		model_seed = seed;
		sim_init(&sim, STORE_BYTES, 0, seed);
		model = model_new(&sim, seed, MODEL_SECTORS, seed % 2);
		assert_int_equal(model_open(model), 0);
		for (i = 0; i < 400; i++) {
			assert_int_equal(model_step(model), 0);
			if (i % 20 == 0)
				extents_verify(model->store);
		}
		model_end(model);
	}
}

static unsigned reads;

static int count_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	struct sim *sim = (struct sim *)device;

	reads++;
	memcpy(data, sim->now + offset, length);
	return 0;
}

/* A disk of a tebibyte with a few blocks in it is discarded and shrunk quickly. */
static void test_large_and_sparse(void **state)
{
	static struct cow_device_ops counting;
	struct cow_create_options create = { .sectors = 1ull << 31 };
	struct cow_open_options options = { .cache_bytes = 1 };
	struct error_text error = { "" };
	struct cow_extent extent;
	struct cow_store *store;
	uint8_t data[4096] = { 1 };
	struct sim sim;
	uint64_t i;

	sim_init(&sim, 64u << 20, 0, 1);
	counting = *sim.device.ops;
	counting.read = count_read;
	sim.device.ops = &counting;
	assert_int_equal(cow_create(&sim.device, &create, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &options, &error), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(cow_write(store, data, i * 12345679 / 8 * 8, 8), 0);
	assert_int_equal(cow_checkpoint(store), 0);
	reads = 0;
	assert_int_equal(cow_extent_find(store, 8, &extent), 0);
	assert_int_equal(extent.nr_sectors, 12345679 / 8 * 8 - 8);
	assert_int_equal(cow_resize(store, 1ull << 29, &error), 0);
	assert_int_equal(cow_discard(store, 8, (1ull << 29) - 8), 0);
	assert_int_equal(cow_extent_find(store, 8, &extent), 0);
	assert_int_equal(extent.nr_sectors, (1ull << 29) - 8);
	assert_true(reads < 4000);
	cow_abandon(store);
	sim_free(&sim);
}

/* A store of the measured size has room for the disk, however scattered its data are. */
static void test_measure(void **state)
{
	static const struct { uint64_t sectors, step, blocks; } disks[] = {
		{ 1u << 16, 8, 8192 }, { 1u << 21, 4096, 512 }, { 1u << 28, 1u << 17, 2048 }, { 8, 8, 1 }, { 1u << 17, 16, 8192 },
	};
	struct error_text error = { "" };
	struct cow_open_options options = { .layer_entries = 700 };
	struct cow_create_options create = { 0 };
	uint8_t data[4096] = { 1 };
	struct cow_store *store;
	uint64_t i, leaves;
	struct sim sim;
	size_t disk;

	for (disk = 0; disk < ARRAY_SIZE(disks); disk++) {
		leaves = disks[disk].sectors / 4096 + 1;
		leaves = leaves < disks[disk].blocks ? leaves : disks[disk].blocks;
		sim_init(&sim, cow_measure(disks[disk].sectors, disks[disk].blocks, leaves), 0, 1);
		create.sectors = disks[disk].sectors;
		assert_int_equal(cow_create(&sim.device, &create, &error), 0);
		options.layer_entries = disk % 2 ? 0 : 700;
		assert_int_equal(cow_open(&store, &sim.device, &options, &error), 0);
		for (i = 0; i < disks[disk].blocks; i++)
			assert_int_equal(cow_write(store, data, i * disks[disk].step, 8), 0);
		assert_int_equal(cow_close(store), 0);
		sim_free(&sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commit_cut_anywhere), cmocka_unit_test(test_commit_refusals),
		cmocka_unit_test(test_rebase_cut_anywhere), cmocka_unit_test(test_extents),
		cmocka_unit_test(test_large_and_sparse), cmocka_unit_test(test_measure),
	};

	return cmocka_run_group_tests_name("cow: bases, commit, rebase", tests, NULL, NULL);
}
