/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_guest_memory.c - the guest pages that frontends can make tapdisk map and
 * hold; all of them are released again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest_memory.h"

#define PER_FRONTEND 16384u
#define FRONTENDS 5
#define MAX_MAP_COUNT 65530u	/* Linux' default of vm.max_map_count */
#define POOL_PAGES 2048u

static unsigned mapped;		/* by the transport, now */
static bool map_fails;

static int count_map(struct transport *transport, const uint32_t *refs, unsigned count, void **address)
{
	if (map_fails)
		return -EINVAL;
	mapped += count;
	*address = (void *)(((uintptr_t)refs[0] + 1) << GUEST_PAGE_SHIFT);
	return 0;
}

static void count_unmap(struct transport *transport, void *address, unsigned count)
{
	mapped -= count;
}

static const struct transport_ops counting_ops = { .name = "counting", .map = count_map, .unmap = count_unmap };
static struct transport counting = { .ops = &counting_ops };

static void test_a_page_is_mapped_once(void **state)
{
	struct grant_map map;
	bool failed = false;
	void *page;

	assert_int_equal(grant_map_init(&map, &counting, 100), 0);
	page = grant_map_page(&map, 7, &failed);
	assert_non_null(page);
	assert_ptr_equal(grant_map_page(&map, 7, &failed), page);
	assert_ptr_not_equal(grant_map_page(&map, 7 + map.size, &failed), page);
	assert_int_equal(mapped, 2);
	map_fails = true;
	assert_null(grant_map_page(&map, 8, &failed));
	assert_true(failed);
	assert_ptr_equal(grant_map_page(&map, 7, &failed), page);
	map_fails = false;
	assert_null(grant_map_page(&map, 8, &failed));	/* not tried again */
	failed = false;
	assert_non_null(grant_map_page(&map, 8, &failed));
	for (uint32_t ref = 0; ref < 200; ref++)
		grant_map_page(&map, ref, &failed);
	assert_int_equal(mapped, 100);
	assert_false(failed);	/* the limit is no failure */
	grant_map_fini(&map);
	assert_int_equal(mapped, 0);
}

/* A guest with many disks in one process must leave enough mappings for the rest of the process. */
static void test_all_frontends_together_are_limited(void **state)
{
	struct grant_map maps[FRONTENDS];
	bool failed = false;

	for (unsigned i = 0; i < FRONTENDS; i++) {
		assert_int_equal(grant_map_init(&maps[i], &counting, PER_FRONTEND), 0);
		for (uint32_t ref = 0; ref < PER_FRONTEND; ref++)
			grant_map_page(&maps[i], ref, &failed);
	}
	assert_in_range(mapped, PER_FRONTEND, MAX_MAP_COUNT * 3 / 4);
	for (unsigned i = 0; i < FRONTENDS; i++)
		grant_map_fini(&maps[i]);
	assert_int_equal(mapped, 0);
	/* and a mapping that one disk gives back can be used by another */
	assert_int_equal(grant_map_init(&maps[0], &counting, PER_FRONTEND), 0);
	for (uint32_t ref = 0; ref < PER_FRONTEND; ref++)
		assert_non_null(grant_map_page(&maps[0], ref, &failed));
	grant_map_fini(&maps[0]);
}

/* Buffers of all sizes come and go; none overlap, and in the end the pool is complete again. */
static void test_bounce_buffers(void **state)
{
	static struct { uint8_t *buffer; unsigned pages; } held[64];
	struct bounce_pool pool;
	unsigned seed = 4711;

	assert_int_equal(bounce_pool_init(&pool, POOL_PAGES), 0);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = rand_r(&seed) % 64;

		if (held[i].buffer) {
			for (unsigned page = 0; page < held[i].pages; page++)
				assert_int_equal(held[i].buffer[page * GUEST_PAGE_SIZE], i + 1);
			bounce_pool_put(&pool, held[i].buffer, held[i].pages);
			held[i].buffer = NULL;
			continue;
		}
		held[i].pages = 1 + rand_r(&seed) % (rand_r(&seed) % 4 ? 12 : 256);
		held[i].buffer = bounce_pool_get(&pool, held[i].pages);
		for (unsigned page = 0; held[i].buffer && page < held[i].pages; page++)
			held[i].buffer[page * GUEST_PAGE_SIZE] = i + 1;
	}
	for (unsigned i = 0; i < 64; i++)
		if (held[i].buffer)
			bounce_pool_put(&pool, held[i].buffer, held[i].pages);
	for (unsigned i = 0; i < POOL_PAGES / 256; i++)
		assert_non_null(bounce_pool_get(&pool, 256));
	assert_null(bounce_pool_get(&pool, 1));
	bounce_pool_fini(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_page_is_mapped_once),
		cmocka_unit_test(test_all_frontends_together_are_limited),
		cmocka_unit_test(test_bounce_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
