/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * guest_memory.h - the guest's data pages, for one frontend: persistent
 * grants that stay mapped, and buffers of our own for what has to be copied.
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
	unsigned count, max;		/* mapped pages, and how many there may be */
};

int grant_map_init(struct grant_map *map, struct transport *transport, unsigned max);
void grant_map_fini(struct grant_map *map);	/* unmaps all; nothing may use them any more */
/* The page's address (writable); NULL: not to be had, it is over the limit or the guest's grant is no good. */
void *grant_map_page(struct grant_map *map, uint32_t ref);

/*
 * Bounce buffers: page-aligned, in sizes of a power of two of pages, taken
 * from one area of a fixed size, so that a frontend cannot make us use more.
 */
#define BOUNCE_MAX_ORDER 8		/* 256 pages: the largest indirect request */

struct bounce_pool {
	uint8_t *area;
	unsigned pages;					/* in the area */
	uint64_t *free[BOUNCE_MAX_ORDER + 1];		/* a bit for each block of that order: it is free as a whole */
	unsigned nr_free[BOUNCE_MAX_ORDER + 1];		/* bits set */
};

int bounce_pool_init(struct bounce_pool *pool, unsigned pages);	/* a multiple of 1 << BOUNCE_MAX_ORDER */
void bounce_pool_fini(struct bounce_pool *pool);
void *bounce_pool_get(struct bounce_pool *pool, unsigned pages);	/* NULL: none free now */
void bounce_pool_put(struct bounce_pool *pool, void *buffer, unsigned pages);

#endif
