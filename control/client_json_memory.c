/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_json_memory.c - a reserve for jansson (json_memory.h).
 *
 * Invariant: reserve_used is 0 when no piece of the reserve is in use; pieces
 * are allocated consecutively and not reused before that.
 */
#include "json_memory.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define RESERVE_BYTES (1u << 20)

static _Alignas(max_align_t) char reserve[RESERVE_BYTES];
static size_t reserve_used;
static unsigned reserve_out;	/* pieces in use */
static bool failed;

static void *reserve_take(size_t size)
{
	const size_t align = _Alignof(max_align_t);
	void *piece = reserve + reserve_used;

	if (size > RESERVE_BYTES - reserve_used) {
		failed = true;
		return NULL;
	}
	size = (size + align - 1) / align * align;	/* the reserve's size is a multiple of align: it still fits */
	reserve_used += size;
	reserve_out++;
	return piece;
}

static void *json_memory_take(size_t size)
{
	void *memory = malloc(size);

	return memory ? memory : reserve_take(size);	/* cppcheck-suppress memleak; it is what is returned */
}

void json_memory_free(void *memory)
{
	uintptr_t at = (uintptr_t)memory;

	if (at < (uintptr_t)reserve || at >= (uintptr_t)reserve + RESERVE_BYTES)
		free(memory);
	else if (!--reserve_out)
		reserve_used = 0;
}

void json_memory_init(void)
{
	json_set_alloc_funcs(json_memory_take, json_memory_free);
}

bool json_memory_failed(void)
{
	bool was = failed;

	failed = false;
	return was;
}
