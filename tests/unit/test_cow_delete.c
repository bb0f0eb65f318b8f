/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_delete.c - the walk that frees a deleted snapshot's blocks: what it
 * costs, and two at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"

#define LEAF_SECTORS (COW_LEAF_ENTRIES * COW_SECTORS)

static struct sim sim;
static struct cow_store *store;
static struct error_text error;
static unsigned nodes_read;

int __real_cow_node_get(struct cow_store *of, const struct cow_ref *ref, unsigned level, void *bytes);
int __wrap_cow_node_get(struct cow_store *of, const struct cow_ref *ref, unsigned level, void *bytes);

int __wrap_cow_node_get(struct cow_store *of, const struct cow_ref *ref, unsigned level, void *bytes)
{
	nodes_read++;
	return __real_cow_node_get(of, ref, level, bytes);
}

/* A store whose disk has room for @leaves leaves of the map. */
static void begin(unsigned leaves, uint64_t bytes)
{
	struct cow_create_options options = { .sectors = leaves * LEAF_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };

	sim_init(&sim, bytes, 0, 1);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim.device, &(struct cow_open_options){ 0 }, &error), 0);
}

static void end(void)
{
	struct cow_check check = { 0 };

	assert_int_equal(cow_flush(store), 0);
	assert_int_equal(cow_check(store, &check, false), 0);
	assert_int_equal(check.errors, 0);
	assert_int_equal(check.leaks, 0);
	assert_int_equal(cow_close(store), 0);
	sim_free(&sim);
}

/* Writes @value to block @block of each of the first @leaves leaves. */
static void write_leaves(unsigned leaves, unsigned block, uint8_t value)
{
	uint8_t data[COW_BLOCK];
	unsigned i;

	memset(data, value, sizeof(data));
	for (i = 0; i < leaves; i++)
		assert_int_equal(cow_write(store, data, i * LEAF_SECTORS + block * COW_SECTORS, COW_SECTORS), 0);
}

static void expect_leaves(unsigned leaves, unsigned block, uint8_t value)
{
	uint8_t data[COW_BLOCK], expected[COW_BLOCK];
	unsigned i;

	memset(expected, value, sizeof(expected));
	for (i = 0; i < leaves; i++) {
		assert_int_equal(cow_read(store, data, i * LEAF_SECTORS + block * COW_SECTORS, COW_SECTORS), 0);
		assert_memory_equal(data, expected, sizeof(data));
	}
}

static void make(const char *name)
{
	assert_int_equal(cow_snapshot_create(store, name, NULL, &error), 0);
}

static void delete(const char *name)
{
	assert_int_equal(cow_snapshot_delete(store, name, &error), 0);
}

static void delete_to_the_end(void)
{
	int ret;

	while ((ret = cow_delete_step(store)) > 0)
		;
	assert_int_equal(ret, 0);
}

#define CHANGED 10u		/* leaves in which that many blocks are changed */

static void change_100_blocks(uint8_t value)
{
	unsigned i;

	for (i = 0; i < CHANGED; i++)
		write_leaves(CHANGED, i, value);
}

/* The snapshot "deleted" differs in 100 blocks from the one before it; the disk in all. */
static void differ_from_parent(unsigned leaves)
{
	make("before");
	change_100_blocks(2);
	make("deleted");
	write_leaves(leaves, 0, 3);
}

/* There is none before it; the disk differs in 100 blocks. */
static void differ_from_child(unsigned leaves)
{
	make("deleted");
	change_100_blocks(3);
}

/* The nodes that the deletion reads. */
static unsigned cost(unsigned leaves, void (*differ)(unsigned leaves))
{
	unsigned read;

	begin(leaves, (6ull * leaves + 2048) << COW_SHIFT);
	write_leaves(leaves, 0, 1);
	differ(leaves);
	delete("deleted");
	assert_int_equal(cow_checkpoint(store), 0);
	nodes_read = 0;
	delete_to_the_end();
	read = nodes_read;
	expect_leaves(CHANGED, 0, 3);
	end();
	print_message("# %u leaves: %u nodes read\n", leaves, read);
	return read;
}

#define SMALL_MAP 16u
#define LARGE_MAP (64u * SMALL_MAP)
#define LEVEL_COST 9u		/* one node more on the ways to the root of all three maps, for each of the nodes that it adds */

/* The deletion of the same blocks costs the same in a map of 64 times the size, but for that map's one level more. */
static void test_cost_follows_the_difference(void **state)
{
	void (*const differ[])(unsigned leaves) = { differ_from_parent, differ_from_child };
	unsigned i, small;

	for (i = 0; i < ARRAY_SIZE(differ); i++) {
		small = cost(SMALL_MAP, differ[i]);
		assert_in_range(small, CHANGED, 10 * CHANGED);
		assert_in_range(cost(LARGE_MAP, differ[i]), small, small + LEVEL_COST);
	}
}

#define MANY 400u		/* leaves; a step walks fewer */

/*
 * 5. Deletions of neighbours run one after the other: one is deleted while the walk of the other is in the middle. If that
 * were walked first, each would leave to the other what only the two of them have.
 */
static void neighbours(const char *first, const char *second)
{
	begin(MANY, 32u << 20);
	write_leaves(MANY, 0, 1);
	make("a");
	write_leaves(MANY, 1, 1);
	make("b");
	write_leaves(MANY, 0, 2);
	write_leaves(MANY, 1, 2);
	delete(first);
	assert_int_equal(cow_delete_step(store), 1);
	assert_non_null(store->begun);
	assert_string_equal(store->begun->name, first);
	delete(second);
	delete_to_the_end();
	assert_int_equal(store->version_count, 1);
	expect_leaves(MANY, 0, 2);
	expect_leaves(MANY, 1, 2);
	end();
}

static void test_neighbours(void **state)
{
	neighbours("b", "a");
	neighbours("a", "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cost_follows_the_difference),
		cmocka_unit_test(test_neighbours),
	};

	return cmocka_run_group_tests_name("cow: delete", tests, NULL, NULL);
}
