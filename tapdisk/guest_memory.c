/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * guest_memory.c - the cache of persistent grants and the bounce buffers.
 *
 * Bounce buffers are a buddy allocator. Invariant: a page is in at most one free
 * block, and never are both buddies free (they would have been merged).
 */
#include "guest_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * Limit of pages mapped for all frontends of this process. Each is a separate
 * mapping, and Linux allows 65530 (vm.max_map_count); without the limit a guest
 * with several disks could use them all.
 */
#define GRANTS_TOTAL 32768
static unsigned grants_mapped;

/* A frontend's references are close together; an odd factor spreads them. */
static unsigned grant_map_slot(const struct grant_map *map, uint32_t ref)
{
	return (ref * 2654435769u) & (map->size - 1);
}

int grant_map_init(struct grant_map *map, struct transport *transport, unsigned max)
{
	unsigned size = 64;

	while (size < 2 * max)
		size *= 2;
	map->entries = calloc(size, sizeof(*map->entries));
	if (!map->entries)
		return -ENOMEM;
	map->transport = transport;
	map->size = size;
	map->count = 0;
	map->max = max;
	return 0;
}

void grant_map_fini(struct grant_map *map)
{
	for (unsigned i = 0; i < map->size; i++)
		if (map->entries[i].address)
			map->transport->ops->unmap(map->transport, map->entries[i].address, 1);
	free(map->entries);
	map->entries = NULL;
	grants_mapped -= map->count;
	map->size = map->count = 0;
}

void *grant_map_page(struct grant_map *map, uint32_t ref, bool *failed)
{
	unsigned slot = grant_map_slot(map, ref);

	while (map->entries[slot].address) {
		if (map->entries[slot].ref == ref)
			return map->entries[slot].address;
		slot = (slot + 1) & (map->size - 1);
	}
	if (*failed || map->count == map->max || grants_mapped == GRANTS_TOTAL)
		return NULL;
	if (map->transport->ops->map(map->transport, &ref, 1, &map->entries[slot].address)) {
		map->entries[slot].address = NULL;
		*failed = true;
		return NULL;
	}
	map->entries[slot].ref = ref;
	map->count++;
	grants_mapped++;
	return map->entries[slot].address;
}

static bool bounce_pool_is_free(const struct bounce_pool *pool, unsigned order, unsigned block)
{
	return pool->free[order][block / 64] >> (block % 64) & 1;
}

static void bounce_pool_flip(struct bounce_pool *pool, unsigned order, unsigned block)
{
	pool->free[order][block / 64] ^= 1ull << (block % 64);
	if (bounce_pool_is_free(pool, order, block))
		pool->nr_free[order]++;
	else
		pool->nr_free[order]--;
}

static unsigned bounce_pool_find(const struct bounce_pool *pool, unsigned order)
{
	unsigned word = 0;

	while (!pool->free[order][word])
		word++;
	return word * 64 + __builtin_ctzll(pool->free[order][word]);
}

static unsigned bounce_order(unsigned pages)
{
	unsigned order = 0;

	while ((1u << order) < pages)
		order++;
	return order;
}

int bounce_pool_init(struct bounce_pool *pool, unsigned pages)
{
	void *area;

	assert(pages % (1u << BOUNCE_MAX_ORDER) == 0);
	*pool = (struct bounce_pool){ .pages = pages };
	for (unsigned order = 0; order <= BOUNCE_MAX_ORDER; order++) {
		pool->free[order] = calloc((pages >> order) / 64 + 1, sizeof(uint64_t));
		if (!pool->free[order]) {
			bounce_pool_fini(pool);
			return -ENOMEM;
		}
	}
	/* only used pages become resident */
	area = mmap(NULL, (size_t)pages << GUEST_PAGE_SHIFT, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED) {
		bounce_pool_fini(pool);
		return -ENOMEM;
	}
	pool->area = area;
	for (unsigned block = 0; block < pages >> BOUNCE_MAX_ORDER; block++)
		bounce_pool_flip(pool, BOUNCE_MAX_ORDER, block);
	return 0;
}

void bounce_pool_fini(struct bounce_pool *pool)
{
	if (pool->area)
		munmap(pool->area, (size_t)pool->pages << GUEST_PAGE_SHIFT);
	pool->area = NULL;
	for (unsigned order = 0; order <= BOUNCE_MAX_ORDER; order++) {
		free(pool->free[order]);
		pool->free[order] = NULL;
	}
}

void *bounce_pool_get(struct bounce_pool *pool, unsigned pages)
{
	unsigned wanted = bounce_order(pages), order = wanted, block;

	while (order <= BOUNCE_MAX_ORDER && !pool->nr_free[order])
		order++;
	if (order > BOUNCE_MAX_ORDER)
		return NULL;
	block = bounce_pool_find(pool, order);
	bounce_pool_flip(pool, order, block);
	/* Split: the upper half of each step stays free. */
	while (order > wanted) {
		order--;
		block *= 2;
		bounce_pool_flip(pool, order, block + 1);
	}
	return pool->area + ((size_t)block << (order + GUEST_PAGE_SHIFT));
}

void bounce_pool_put(struct bounce_pool *pool, void *buffer, unsigned pages)
{
	unsigned order = bounce_order(pages);
	unsigned block = (unsigned)(((uint8_t *)buffer - pool->area) >> (order + GUEST_PAGE_SHIFT));

	assert(!bounce_pool_is_free(pool, order, block));
	while (order < BOUNCE_MAX_ORDER && bounce_pool_is_free(pool, order, block ^ 1)) {
		bounce_pool_flip(pool, order, block ^ 1);
		block /= 2;
		order++;
	}
	bounce_pool_flip(pool, order, block);
}
