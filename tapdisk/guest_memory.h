/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * guest_memory.h - a frontend's data: persistent grants that stay mapped, and
 * bounce buffers for data that has to be copied.
 */
#ifndef TAPDISK_GUEST_MEMORY_H
#define TAPDISK_GUEST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "transport.h"

/*
 * Persistent grants: a page mapped once stays mapped until the frontend is
 * disconnected. Open addressing, never more than half full; entries are
 * never removed one by one.
 */
struct grant_map {
	struct transport *transport;
	struct grant_map_entry {
		void *address;		/* NULL: free */
		uint32_t ref;
	} *entries;
	unsigned size;			/* a power of two */
	unsigned count, max;		/* mapped pages, and their limit */
};

int grant_map_init(struct grant_map *map, struct transport *transport, unsigned max);
void grant_map_fini(struct grant_map *map);	/* unmaps all pages */
/*
 * The page's address (writable); NULL: over the limit, or the guest's grant does not permit it, which sets *@failed.
 * With *@failed set only pages that are mapped already are found: an attempt to map costs several system calls.
 */
void *grant_map_page(struct grant_map *map, uint32_t ref, bool *failed);

/*
 * Bounce buffers: page-aligned, a power of two of pages each, from one area of
 * a fixed size, which limits the memory that a frontend can use.
 */
#define BOUNCE_MAX_ORDER 8		/* 256 pages: the largest indirect request */

struct bounce_pool {
	uint8_t *area;
	unsigned pages;					/* in the area */
	uint64_t *free[BOUNCE_MAX_ORDER + 1];		/* a bit per block of that order: the whole block is free */
	unsigned nr_free[BOUNCE_MAX_ORDER + 1];		/* bits set */
};

int bounce_pool_init(struct bounce_pool *pool, unsigned pages);	/* a multiple of 1 << BOUNCE_MAX_ORDER */
void bounce_pool_fini(struct bounce_pool *pool);
void *bounce_pool_get(struct bounce_pool *pool, unsigned pages);	/* NULL: none free now */
void bounce_pool_put(struct bounce_pool *pool, void *buffer, unsigned pages);

#endif
