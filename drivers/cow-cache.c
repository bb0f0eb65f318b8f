/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-cache.c - map nodes in memory, a bounded number of them, the ones not
 * used for longest going first. A node is checked when it is read, by its
 * checksum and by the range of each reference in it, and never again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow-internal.h"

#define DEFAULT_BYTES (32u << 20)
#define LEAST_NODES 16

int cow_cache_init(struct cow_cache *cache, size_t bytes)
{
	cache->limit = (bytes ? bytes : DEFAULT_BYTES) / sizeof(struct cow_node);
	if (cache->limit < LEAST_NODES)
		cache->limit = LEAST_NODES;
	for (cache->buckets = LEAST_NODES; cache->buckets < cache->limit; cache->buckets *= 2)
		;
	cache->bucket = calloc(cache->buckets, sizeof(struct cow_node *));
	return cache->bucket ? 0 : -ENOMEM;
}

static struct cow_node **bucket_of(struct cow_cache *cache, uint64_t block)
{
	return &cache->bucket[(block * 0x9e3779b97f4a7c15ull) >> 20 & (cache->buckets - 1)];
}

static void cache_unlink_age(struct cow_cache *cache, struct cow_node *node)
{
	*(node->newer ? &node->newer->older : &cache->newest) = node->older;
	*(node->older ? &node->older->newer : &cache->oldest) = node->newer;
}

static void cache_link_newest(struct cow_cache *cache, struct cow_node *node)
{
	node->newer = NULL;
	node->older = cache->newest;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = node;
	cache->newest = node;
}

static void cache_remove(struct cow_cache *cache, struct cow_node **link)
{
	struct cow_node *node = *link;

	*link = node->chain;
	cache_unlink_age(cache, node);
	cache->count--;
	free(node);
}

void cow_cache_drop(struct cow_cache *cache, uint64_t block)
{
	struct cow_node **link = bucket_of(cache, block);

	while (*link) {
		if ((*link)->block == block)
			cache_remove(cache, link);
		else
			link = &(*link)->chain;
	}
}

/*
 * The level and the checksum are part of the question: in a damaged store a
 * block may be referred to as two things. Both then have their place here, or
 * who needs both would load them in turns for ever.
 */
static struct cow_node **cache_place(struct cow_cache *cache, const struct cow_ref *ref, unsigned level)
{
	uint64_t block = cow_entry_block(ref->where);
	struct cow_node **link = bucket_of(cache, block);

	while (*link && ((*link)->block != block || (*link)->level != level || (*link)->crc != ref->crc))
		link = &(*link)->chain;
	return link;
}

void cow_cache_free(struct cow_cache *cache)
{
	while (cache->newest)
		cow_cache_drop(cache, cache->newest->block);
	free(cache->bucket);
	*cache = (struct cow_cache){ 0 };
}

struct cow_node *cow_cache_find(struct cow_cache *cache, const struct cow_ref *ref, unsigned level)
{
	struct cow_node *node = *cache_place(cache, ref, level);

	if (!node)
		return NULL;
	if (node != cache->newest) {
		cache_unlink_age(cache, node);
		cache_link_newest(cache, node);
	}
	return node;
}

int cow_cache_insert(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes)
{
	struct cow_cache *cache = &store->cache;
	uint64_t block = cow_entry_block(ref->where);
	struct cow_node **same = cache_place(cache, ref, level), *node;

	if (*same)
		cache_remove(cache, same);
	while (cache->count >= cache->limit)
		cow_cache_drop(cache, cache->oldest->block);
	node = malloc(sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->block = block;
	node->crc = ref->crc;
	node->level = level;
	memcpy(node->bytes, bytes, COW_BLOCK);
	node->chain = *bucket_of(cache, block);
	*bucket_of(cache, block) = node;
	cache_link_newest(cache, node);
	cache->count++;
	return 0;
}

static bool node_valid(const struct cow_store *store, const void *bytes, unsigned level, uint32_t birth)
{
	const struct cow_ref *ref = bytes;
	const uint64_t *entry = bytes;
	unsigned i;

	for (i = 0; level == 1 && i < COW_LEAF_ENTRIES; i++) {
		if (!cow_entry_valid(store, entry[i], birth))
			return false;
	}
	for (i = 0; level > 1 && i < COW_NODE_REFS; i++) {
		if (!cow_entry_valid(store, ref[i].where, birth) || ref[i].extra ||
		    (ref[i].where && !cow_entry_block(ref[i].where)))
			return false;
	}
	return true;
}

int cow_node_accept(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes)
{
	if (cow_crc(0, bytes, COW_BLOCK) != ref->crc || !node_valid(store, bytes, level, cow_entry_birth(ref->where)))
		return -EUCLEAN;
	return cow_cache_insert(store, ref, level, bytes);
}

int cow_node_load(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes)
{
	uint8_t own[COW_BLOCK] __attribute__((aligned(COW_BLOCK)));
	int ret;

	ret = store->device->ops->read(store->device, own, cow_entry_block(ref->where) << COW_SHIFT, COW_BLOCK);
	if (!ret)
		ret = cow_node_accept(store, ref, level, own);
	if (ret)
		return ret;
	if (bytes)
		memcpy(bytes, own, COW_BLOCK);
	return 0;
}

int cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes)
{
	struct cow_node *node = cow_cache_find(&store->cache, ref, level);

	if (!node)
		return cow_node_load(store, ref, level, bytes);
	memcpy(bytes, node->bytes, COW_BLOCK);
	return 0;
}
