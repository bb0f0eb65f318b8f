/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * heap.c - malloc's thresholds (heap.h says why).
 */
#include "heap.h"

#include <malloc.h>

#define TABLE_BYTES	(2 << 20)	/* larger blocks get their own mapping; more than any guest's request */
#define KEPT_BYTES	(4 << 20)

static unsigned keepers;

static void give_back_from(int bytes)
{
	mallopt(M_MMAP_THRESHOLD, bytes);
	mallopt(M_TRIM_THRESHOLD, bytes);
}

void heap_init(void)
{
	give_back_from(TABLE_BYTES);
}

void heap_keep(void)
{
	if (keepers++ == 0)
		give_back_from(KEPT_BYTES);
}

void heap_release(void)
{
	if (--keepers)
		return;
	give_back_from(TABLE_BYTES);
	malloc_trim(0);
}
