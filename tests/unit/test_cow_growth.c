/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_growth.c - growth of a device and its bitmap, of a map that is made
 * before anything is written, of the table of versions, and of a layer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cow_internal.h"
#include "cow_model.h"

#define STORE_BYTES (20u << 20)

/* The new end lies in the same page of the bitmap as the old one, and nothing else changes in the page. */
static void test_device_that_grows_within_a_page(void **state)
{
	struct cow_create_options options = { .sectors = 200000 };
	struct cow_open_options open_options = { 0 };
	struct cow_check check = { 0 };
	struct error_text error = { "" };
	struct cow_store *store;
	struct sim sim;
	uint8_t data[4096], read[4096];

	sim_init(&sim, (uint64_t)COW_PAGE_BITS * 2 << COW_SHIFT, 0, 5);
	sim.size = sim.durable_size = (uint64_t)COW_PAGE_BITS * 3 / 2 << COW_SHIFT;
	memset(data, 7, sizeof(data));
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	store->alloc.at_page = 1;
	assert_int_equal(cow_write(store, data, 0, 8), 0);
	store->alloc.at_page = 0;	/* so that no metadata is in the last page */
	assert_int_equal(cow_close(store), 0);
	sim.size = sim.durable_size = sim.max_size;
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	assert_false(store->alloc.page[1].dirty);
	assert_int_equal(cow_close(store), 0);
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	assert_int_equal(cow_check(store, &check, false), 0);
	assert_int_equal(check.errors + check.leaks, 0);
	store->alloc.at_page = 1;
	assert_int_equal(cow_write(store, data, 80, 8), 0);
	assert_int_equal(cow_read(store, read, 0, 8), 0);
	assert_memory_equal(read, data, sizeof(data));
	assert_int_equal(cow_close(store), 0);
	sim_free(&sim);
}

/* A small log records the blocks of a disk in as many steps as needed. */
static void test_preallocation_fits_into_the_log(void **state)
{
	struct cow_create_options options = { .sectors = 20000 * COW_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct cow_open_options open_options = { 0 };
	struct cow_check check = { 0 };
	struct error_text error = { "" };
	struct cow_store *store;
	uint64_t block, n;
	struct sim sim;

	sim_init(&sim, STORE_BYTES, 256u << 20, 6);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	for (block = 0; block < 20000; block += n)
		assert_int_equal(cow_preallocate_step(store, block, false, &n), 0);
	assert_int_equal(cow_flush(store), 0);
	assert_int_equal(cow_check(store, &check, false), 0);
	assert_int_equal(check.errors + check.leaks, 0);
	assert_int_equal(check.mapped, 20000);
	assert_int_equal(cow_close(store), 0);
	sim_free(&sim);
}

/* On a device with other contents it reads as zeros, and a write to it changes no map. */
static void test_preallocated_is_zeros(void **state)
{
	enum { BLOCKS = 400 };
	struct cow_create_options options = { .sectors = BLOCKS * COW_SECTORS };
	struct cow_open_options open_options = { 0 };
	static uint8_t data[BLOCKS * COW_BLOCK], zeros[BLOCKS * COW_BLOCK];
	struct error_text error = { "" };
	struct cow_store *store;
	uint64_t block, n;
	struct sim sim;
	unsigned full;

	for (full = 0; full < 2; full++) {
		sim_init(&sim, STORE_BYTES, 0, 6);
		memset(sim.now, 0xee, STORE_BYTES);
		memset(sim.durable, 0xee, STORE_BYTES);
		assert_int_equal(cow_create(&sim.device, &options, &error), 0);
		assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
		for (block = 0; block < BLOCKS; block += n)
			assert_int_equal(cow_preallocate_step(store, block, full, &n), 0);
		assert_int_equal(cow_flush(store), 0);
		assert_int_equal(cow_read(store, data, 0, options.sectors), 0);
		assert_memory_equal(data, zeros, sizeof(data));
		n = store->log.head;
		assert_int_equal(cow_write(store, data, 40, COW_SECTORS), 0);
		assert_int_equal(cow_flush(store), 0);
		assert_int_equal(store->log.head, n);
		assert_int_equal(cow_close(store), 0);
		sim_free(&sim);
	}
}

/* Replaces the C library's: the Nth allocation from here fails; 0: none. */
static unsigned fail_reallocarray;

void *reallocarray(void *old, size_t count, size_t size)
{
	size_t bytes;

	if ((fail_reallocarray && !--fail_reallocarray) || __builtin_mul_overflow(count, size, &bytes))
		return NULL;
	return realloc(old, bytes);
}

/* If there is no memory for another level of the bitmap, it stays as it was, and gets the level later. */
static void test_growing_without_memory(void **state)
{
	struct cow_store *store = calloc(1, sizeof(*store));
	uint64_t larger = (uint64_t)COW_PAGE_BITS * (COW_NODE_REFS + 1);
	unsigned nth;

	assert_non_null(store);
	store->store_blocks = larger - COW_PAGE_BITS;
	assert_int_equal(cow_alloc_init(store), 0);
	for (nth = 1; nth <= 3; nth++) {
		fail_reallocarray = nth;
		assert_int_equal(cow_alloc_grow(store, larger), -ENOMEM);
		assert_int_equal(fail_reallocarray, 0);
		assert_int_equal(store->alloc.levels, cow_bitmap_levels(store->store_blocks));
		assert_int_equal(store->alloc.pages, COW_NODE_REFS);
		assert_int_equal(store->alloc.nodes[2], 1);
	}
	assert_int_equal(cow_alloc_grow(store, larger), 0);
	assert_int_equal(store->alloc.levels, 3);
	assert_int_equal(store->alloc.nodes[2], 2);
	assert_int_equal(store->alloc.clear, larger);
	cow_alloc_free(&store->alloc);
	free(store);
}

#define MANY (COW_MAX_VERSIONS / 8)
#define MANY_SECONDS 10			/* of processor time: it takes 0.1, or minutes if it is quadratic */

static double processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* In a store with very many versions each is found by its number, and quickly. */
static void test_very_many_versions(void **state)
{
	struct cow_store *store = calloc(1, sizeof(*store));
	double start = processor_seconds();
	uint32_t id;

	assert_non_null(store);
	for (id = 1; id <= MANY; id++)
		assert_non_null(cow_version_new(store, 2 * id, cow_version_find(store, 2 * id - 2)));
	for (id = 3; id <= MANY; id += 3)
		cow_version_remove(store, cow_version_find(store, 2 * (MANY + 3 - id)));
	assert_true(processor_seconds() - start < MANY_SECONDS);
	for (id = 0; id <= 2 * MANY + 2; id++) {
		struct cow_version *version = cow_version_find(store, id);

		if (!version)
			assert_true(id % 2 || !id || id > 2 * MANY || (2 * MANY + 6 - id) % 6 == 0);
		else
			assert_true(version->id == id && (!version->next || version->next->id > id));
	}
	assert_int_equal(store->version_count, MANY - MANY / 3);
	cow_version_free_all(store);
	free(store);
}

static unsigned looks;			/* queries of versions: are they gone? */

bool __real_cow_version_gone(const struct cow_version *version);
bool __wrap_cow_version_gone(const struct cow_version *version);

bool __wrap_cow_version_gone(const struct cow_version *version)
{
	looks++;
	return __real_cow_version_gone(version);
}

#define KEPT 1000u
#define GONE 100u			/* snapshots taken after those */

static void many_snapshots(struct cow_store *store)
{
	uint8_t data[COW_BLOCK] = { 1 };
	struct error_text error;
	char name[16];
	unsigned i;

	for (i = 0; i < KEPT + GONE; i++) {
		if (i >= KEPT)
			assert_int_equal(cow_write(store, data, i * COW_SECTORS, COW_SECTORS), 0);
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(cow_snapshot_create(store, name, NULL, &error), 0);
	}
	for (i = KEPT; i < KEPT + GONE; i += 2) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(cow_snapshot_delete(store, name, &error), 0);
	}
}

/*
 * The next deletion is known without a search of all kept versions, in the deletion itself and when
 * the log is replayed.
 */
static void test_deletions_beside_many_versions(void **state)
{
	struct cow_create_options options = { .sectors = (KEPT + GONE) * COW_SECTORS };
	struct cow_open_options open_options = { 0 };
	struct error_text error = { "" };
	struct cow_store *store;
	struct sim sim;

	sim_init(&sim, 2 * STORE_BYTES, 0, 7);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	many_snapshots(store);
	looks = 0;
	while (cow_delete_step(store) == 1)
		;
	assert_in_range(looks, 0, 10 * GONE + 2 * (KEPT + GONE));
	assert_int_equal(store->version_count, KEPT + GONE / 2 + 1);
	cow_abandon(store);
	looks = 0;
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	assert_in_range(looks, 0, 10 * GONE + 2 * (KEPT + GONE));
	assert_int_equal(store->version_count, KEPT + GONE / 2 + 1);
	assert_int_equal(cow_close(store), 0);
	sim_free(&sim);
}

/* By a search of the whole tree. */
static bool layer_has(const struct cow_layer *layer, unsigned level, uint64_t index)
{
	size_t i;

	for (i = 0; i < layer->room; i++) {
		if (layer->slot[i].block && (layer->slot[i].block - 1) / cow_span(level) == index)
			return true;
	}
	return false;
}

#define TOUCHES 3000u

/* A layer knows for each node of a tree whether there are changes below it, also if another node is between. */
static void test_layer_touches(void **state)
{
	struct cow_layer layer = { 0 };
	uint64_t random = 1, block;
	unsigned level, i;

	for (i = 0; i < TOUCHES; i++) {
		assert_int_equal(cow_layer_reserve(&layer, 1), 0);
		cow_layer_set(&layer, sim_random(&random) % COW_MAX_BLOCKS >> sim_random(&random) % 40, 1, true);
	}
	for (i = 0; i < TOUCHES; i++) {
		block = sim_random(&random) % COW_MAX_BLOCKS >> sim_random(&random) % 40;
		for (level = 1; level <= COW_MAX_LEVELS; level++)
			assert_int_equal(cow_layer_touches(&layer, level, block / cow_span(level)),
					 layer_has(&layer, level, block / cow_span(level)));
	}
	assert_int_equal(cow_layer_reserve(&layer, 1), 0);
	cow_layer_set(&layer, 5, 1, true);
	assert_int_equal(cow_layer_split(&layer), 0);
	assert_true(cow_layer_touches(&layer, 1, 0));
	cow_layer_free(&layer);
}

#define LAYER_ENTRIES 100u

/* An overdue checkpoint stays overdue while it runs, and after it was aborted. */
static void test_overdue_all_the_while(void **state)
{
	struct cow_create_options options = { .sectors = 200000 };
	struct cow_open_options open_options = { .layer_entries = LAYER_ENTRIES };
	struct error_text error = { "" };
	struct cow_store *store;
	struct sim sim;
	uint64_t block;

	sim_init(&sim, STORE_BYTES, 0, 1);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &open_options, &error), 0);
	assert_int_equal(cow_layer_reserve(&store->active->layer, 3 * LAYER_ENTRIES), 0);
	for (block = 0; block < 3 * LAYER_ENTRIES; block++) {
		assert_false(cow_checkpoint_overdue(store));
		cow_layer_set(&store->active->layer, block, cow_entry(0, store->generation), false);
	}
	assert_true(cow_checkpoint_overdue(store));
	assert_int_equal(cow_checkpoint_begin(store, 0, store->log.salt), 0);
	assert_true(cow_checkpoint_overdue(store));
	cow_checkpoint_abort(store);
	assert_true(cow_checkpoint_overdue(store));
	cow_abandon(store);
	sim_free(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_that_grows_within_a_page),
		cmocka_unit_test(test_preallocation_fits_into_the_log),
		cmocka_unit_test(test_preallocated_is_zeros),
		cmocka_unit_test(test_growing_without_memory),
		cmocka_unit_test(test_very_many_versions),
		cmocka_unit_test(test_deletions_beside_many_versions),
		cmocka_unit_test(test_layer_touches),
		cmocka_unit_test(test_overdue_all_the_while),
	};

	return cmocka_run_group_tests_name("cow: growth", tests, NULL, NULL);
}
