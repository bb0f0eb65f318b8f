/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_list.c - growing arrays of numbers, and the checksum.
 */
#include <errno.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <stdlib.h>

#include "cow_internal.h"

int cow_list_add(struct cow_list *list, uint64_t item)
{
	size_t room = list->room ? list->room * 2 : 64;
	uint64_t *grown;

	if (list->count == list->room) {
		grown = reallocarray(list->item, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->item = grown;
		list->room = room;
	}
	list->item[list->count++] = item;
	return 0;
}

void cow_list_free(struct cow_list *list)
{
	free(list->item);
	*list = (struct cow_list){ 0 };
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void cow_list_sort(struct cow_list *list)
{
	if (list->count)
		qsort(list->item, list->count, sizeof(*list->item), compare_numbers);
}

/* The library leaves the initial value and the final xor to its caller. A fuzzer must get past the checksums. */
uint32_t cow_crc(uint32_t crc, const void *data, size_t length)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	return 0;
#endif
	return ~crc32_iscsi((unsigned char *)data, (int)length, ~crc);
}
