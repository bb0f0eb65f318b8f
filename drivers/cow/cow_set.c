/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_set.c - a set of the bits of one bitmap page.
 *
 * A large store has a hundred thousand pages, and work at random places
 * touches all of them. A page of which few bits are set, or few are clear, is
 * kept as the sorted list of those; only what lies between takes a block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define FEW_MAX 1024u			/* items of a list; twice as many would take a block */
#define FIRST_ROOM 4u

static bool bitmap_get(const uint8_t *bits, unsigned bit)
{
	return bits[bit / 8] >> bit % 8 & 1;
}

static void bitmap_set(uint8_t *bits, unsigned bit, bool value)
{
	uint8_t mask = (uint8_t)(1u << bit % 8);

	bits[bit / 8] = value ? bits[bit / 8] | mask : (uint8_t)(bits[bit / 8] & ~mask);
}

/* Where @bit is in the list, or would be. */
static unsigned list_find(const struct cow_set *set, unsigned bit)
{
	const uint16_t *item = set->items;
	unsigned low = 0, high = set->listed, middle;

	if (high && item[high - 1] < bit)
		return high;
	while (low < high) {
		middle = (low + high) / 2;
		if (item[middle] < bit)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool list_has(const struct cow_set *set, unsigned bit)
{
	const uint16_t *item = set->items;
	unsigned at = list_find(set, bit);

	return at < set->listed && item[at] == bit;
}

bool cow_set_has(const struct cow_set *set, unsigned bit)
{
	if (set->form == COW_SET_BITMAP)
		return bitmap_get(set->items, bit);
	return list_has(set, bit) == (set->form == COW_SET_FEW);
}

unsigned cow_set_next(const struct cow_set *set, unsigned bit)
{
	const uint16_t *item = set->items;
	unsigned at;

	if (set->form == COW_SET_FEW) {
		at = list_find(set, bit);
		return at < set->listed ? item[at] : COW_PAGE_BITS;
	}
	while (bit < COW_PAGE_BITS && !cow_set_has(set, bit))
		bit++;
	return bit;
}

void cow_set_store(const struct cow_set *set, uint8_t *bytes)
{
	const uint16_t *item = set->items;
	unsigned i;

	if (set->form == COW_SET_BITMAP) {
		memcpy(bytes, set->items, COW_BLOCK);
		return;
	}
	memset(bytes, set->form == COW_SET_FEW ? 0 : 0xff, COW_BLOCK);
	for (i = 0; i < set->listed; i++)
		bitmap_set(bytes, item[i], set->form == COW_SET_FEW);
}

int cow_set_make_bitmap(struct cow_set *set)
{
	uint8_t *bytes;

	if (set->form == COW_SET_BITMAP)
		return 0;
	bytes = malloc(COW_BLOCK);
	if (!bytes)
		return -ENOMEM;
	cow_set_store(set, bytes);
	free(set->items);
	set->items = bytes;
	set->form = COW_SET_BITMAP;
	return 0;
}

static int list_insert(struct cow_set *set, unsigned bit)
{
	unsigned at, room = set->room ? 2u * set->room : FIRST_ROOM;
	uint16_t *item = set->items;

	if (set->listed == set->room) {
		item = reallocarray(item, room, sizeof(*item));
		if (!item)
			return -ENOMEM;
		set->items = item;
		set->room = (uint16_t)room;
	}
	at = list_find(set, bit);
	memmove(item + at + 1, item + at, (set->listed - at) * sizeof(*item));
	item[at] = (uint16_t)bit;
	set->listed++;
	return 0;
}

static void list_remove(struct cow_set *set, unsigned bit)
{
	uint16_t *item = set->items;
	unsigned at = list_find(set, bit);

	set->listed--;
	memmove(item + at, item + at + 1, (set->listed - at) * sizeof(*item));
}

int cow_set_put(struct cow_set *set, unsigned bit, bool value)
{
	bool insert = value == (set->form == COW_SET_FEW);
	int ret = 0;

	if (cow_set_has(set, bit) == value)
		return 0;
	if (set->form != COW_SET_BITMAP && insert && set->listed == FEW_MAX)
		ret = cow_set_make_bitmap(set);
	if (ret)
		return ret;
	if (set->form == COW_SET_BITMAP)
		bitmap_set(set->items, bit, value);
	else if (insert)
		ret = list_insert(set, bit);
	else
		list_remove(set, bit);
	if (!ret)
		set->count = (uint16_t)(value ? set->count + 1 : set->count - 1);
	return ret;
}

/* Most bytes have nothing for the list. */
static int list_load(struct cow_set *set, const uint8_t *bytes)
{
	uint8_t same = set->form == COW_SET_FEW ? 0 : 0xff;
	unsigned i, bit;
	int ret = 0;

	for (i = 0; !ret && i < COW_BLOCK; i++) {
		for (bit = 8 * i; !ret && bytes[i] != same && bit < 8 * i + 8; bit++) {
			if (bitmap_get(bytes, bit) == (set->form == COW_SET_FEW))
				ret = list_insert(set, bit);
		}
	}
	return ret;
}

int cow_set_load(struct cow_set *set, const uint8_t *bytes)
{
	unsigned count = 0, i;
	uint64_t word;
	int ret;

	for (i = 0; i < COW_BLOCK; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		count += (unsigned)__builtin_popcountll(word);
	}
	*set = (struct cow_set){ .count = (uint16_t)count };
	if (count > FEW_MAX / 2 && count < COW_PAGE_BITS - FEW_MAX / 2) {
		ret = cow_set_make_bitmap(set);
		if (!ret)
			memcpy(set->items, bytes, COW_BLOCK);
		return ret;
	}
	set->form = count > FEW_MAX / 2 ? COW_SET_ALL_BUT : COW_SET_FEW;
	ret = list_load(set, bytes);
	if (ret)
		cow_set_free(set);
	return ret;
}

void cow_set_free(struct cow_set *set)
{
	free(set->items);
	*set = (struct cow_set){ 0 };
}
