/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_layer.c - map changes in memory: a hash table from disk block to
 * entry, open addressing, at most three quarters full, without deletions
 * (an entry that was dropped is one of value 0).
 *
 * While a checkpoint makes a tree of a layer, that stands still beneath a new
 * one, which takes what changes meanwhile, and is joined with it again should
 * the checkpoint come to nothing: so there is always room in it for both.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define FIRST_ROOM 64

static size_t first_slot(const struct cow_layer *layer, uint64_t block)
{
	return ((block + 1) * 0x9e3779b97f4a7c15ull) >> 20 & (layer->room - 1);
}

static size_t slot_for(const struct cow_layer *layer, uint64_t block)
{
	size_t i = first_slot(layer, block);

	while (layer->slot[i].block && layer->slot[i].block != block + 1)
		i = (i + 1) & (layer->room - 1);
	return i;
}

bool cow_layer_find(const struct cow_layer *layer, uint64_t block, uint64_t *entry)
{
	size_t i;

	if (cow_dirty_nodes_has(&layer->dirty_nodes, 1, block / COW_LEAF_ENTRIES)) {
		i = slot_for(layer, block);
		if (layer->slot[i].block) {
			*entry = layer->slot[i].entry;
			return true;
		}
	}
	return layer->below && cow_layer_find(layer->below, block, entry);
}

void cow_layer_prefetch(const struct cow_layer *layer, uint64_t block)
{
	if (layer->count)
		__builtin_prefetch(&layer->slot[first_slot(layer, block)]);
}

static int layer_grow(struct cow_layer *layer, size_t room)
{
	struct cow_layer grown = { .room = room, .count = layer->count, .dirty_count = layer->dirty_count,
		.dirty_nodes = layer->dirty_nodes, .below = layer->below };
	size_t i, at;

	grown.slot = calloc(room, sizeof(*grown.slot));
	grown.dirty = calloc(room, 1);
	if (!grown.slot || !grown.dirty) {
		free(grown.slot);
		free(grown.dirty);
		return -ENOMEM;
	}
	for (i = 0; i < layer->room; i++) {
		if (!layer->slot[i].block)
			continue;
		at = slot_for(&grown, layer->slot[i].block - 1);
		grown.slot[at] = layer->slot[i];
		grown.dirty[at] = layer->dirty[i];
	}
	layer->below = NULL;
	layer->dirty_nodes = (struct cow_dirty_nodes){ 0 };
	cow_layer_free(layer);
	*layer = grown;
	return 0;
}

int cow_layer_reserve(struct cow_layer *layer, size_t more)
{
	size_t room = layer->room ? layer->room : FIRST_ROOM;

	int ret = layer->below ? cow_layer_reserve(layer->below, layer->count + more) : 0;

	while (layer->count + more > room / 4 * 3)
		room *= 2;
	return ret || room == layer->room ? ret : layer_grow(layer, room);
}

void cow_layer_set(struct cow_layer *layer, uint64_t block, uint64_t entry, bool dirty)
{
	size_t i = slot_for(layer, block);

	if (!layer->slot[i].block) {
		layer->count++;
		cow_dirty_nodes_add(&layer->dirty_nodes, block);
	}
	layer->slot[i] = (struct cow_map_element){ block + 1, entry };
	if (dirty && !layer->dirty[i])
		layer->dirty_count++;
	layer->dirty[i] |= dirty;
}

void cow_layer_free(struct cow_layer *layer)
{
	if (layer->below)
		cow_layer_drop_below(layer);
	free(layer->slot);
	free(layer->dirty);
	cow_dirty_nodes_free(&layer->dirty_nodes);
	*layer = (struct cow_layer){ 0 };
}

void cow_layer_drop_below(struct cow_layer *layer)
{
	cow_layer_free(layer->below);
	free(layer->below);
	layer->below = NULL;
}

int cow_layer_split(struct cow_layer *layer)
{
	struct cow_layer *below = malloc(sizeof(*below));

	if (!below)
		return -ENOMEM;
	*below = *layer;
	*layer = (struct cow_layer){ .below = below };
	return 0;
}

void cow_layer_join(struct cow_layer *layer)
{
	struct cow_layer *below = layer->below;
	size_t i;

	for (i = 0; i < layer->room; i++) {
		if (layer->slot[i].block)
			cow_layer_set(below, layer->slot[i].block - 1, layer->slot[i].entry, layer->dirty[i]);
	}
	layer->below = NULL;
	cow_layer_free(layer);
	*layer = *below;
	free(below);
}

bool cow_layer_touches(const struct cow_layer *layer, unsigned level, uint64_t index)
{
	return cow_dirty_nodes_has(&layer->dirty_nodes, level, index) ||
	       (layer->below && cow_layer_touches(layer->below, level, index));
}

static int compare_elements(const void *a, const void *b)
{
	const struct cow_map_element *x = a, *y = b;

	return (x->block > y->block) - (x->block < y->block);
}

int cow_layer_sorted(const struct cow_layer *layer, struct cow_map_element **elements, size_t *count)
{
	struct cow_map_element *all;
	size_t i, n = 0;

	*elements = NULL;
	*count = 0;
	if (!layer->count)
		return 0;
	all = malloc(layer->count * sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (i = 0; i < layer->room; i++) {
		if (layer->slot[i].block)
			all[n++] = (struct cow_map_element){ layer->slot[i].block - 1, layer->slot[i].entry };
	}
	qsort(all, n, sizeof(*all), compare_elements);
	*elements = all;
	*count = n;
	return 0;
}
