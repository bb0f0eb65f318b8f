/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_cache.c - a bounded number of map nodes in memory. A node is checked
 * only when it is read: its checksum, and the range of each reference in it.
 *
 * A lookup at a random place misses the processor's caches, so it must touch
 * little memory. The data that it compares lie close together and apart from
 * the nodes, all in one mapping, of large pages if it is large. Eviction uses
 * the clock algorithm: a use sets a byte instead of reordering a list. For the
 * active disk's tree a shortcut leads from a disk block straight to its leaf.
 *
 * Invariant: a shortcut leads to its leaf, and a node has at most one shortcut.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cow_internal.h"

/* Unused slots are poisoned (AddressSanitizer; otherwise these do nothing). */
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

#define DEFAULT_BYTES (32u << 20)
#define LEAST_NODES 16
#define MOST_NODES (1u << 30)
#define LARGE_PAGE (2u << 20)
#define LARGE_FROM 256u		/* nodes: fewer than this take less than a large page */
#define SHORTCUTS 8192u

static size_t round_up(size_t bytes, size_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

int cow_cache_init(struct cow_cache *cache, size_t bytes)
{
	/* Bytes for a node with its other data: there are fewer than two buckets for each node. */
	size_t each = sizeof(*cache->node) + sizeof(*cache->slot) + sizeof(*cache->used) + 2 * sizeof(*cache->bucket);
	size_t all = bytes ? bytes : DEFAULT_BYTES, shortcuts = SHORTCUTS * sizeof(*cache->shortcut), limit, head;
	uint8_t *mapping;

	limit = all > shortcuts + COW_BLOCK ? (all - shortcuts - COW_BLOCK) / each : 0;
	limit = limit < LEAST_NODES ? LEAST_NODES : limit;
	cache->limit = limit < MOST_NODES ? (uint32_t)limit : MOST_NODES;
	for (cache->buckets = LEAST_NODES; cache->buckets < cache->limit; cache->buckets *= 2)
		;
	head = shortcuts + cache->buckets * sizeof(*cache->bucket) +
		cache->limit * (sizeof(*cache->slot) + sizeof(*cache->used));
	head = round_up(head, COW_BLOCK);
	cache->mapped = head + cache->limit * sizeof(*cache->node) + LARGE_PAGE;
	mapping = mmap(NULL, cache->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapping == MAP_FAILED)
		return -ENOMEM;
	cache->mapping = mapping;
	mapping = (uint8_t *)round_up((uintptr_t)mapping, LARGE_PAGE);
	cache->shortcut = (struct cow_shortcut *)mapping;
	cache->slot = (struct cow_slot *)(cache->shortcut + SHORTCUTS);
	cache->bucket = (uint32_t *)(cache->slot + cache->limit);
	cache->used = (uint8_t *)(cache->bucket + cache->buckets);
	cache->node = (union cow_node *)(mapping + head);
	return 0;
}

void cow_cache_free(struct cow_cache *cache)
{
	if (cache->mapping) {
		ASAN_UNPOISON_MEMORY_REGION(cache->mapping, cache->mapped);
		munmap(cache->mapping, cache->mapped);
	}
	*cache = (struct cow_cache){ 0 };
}

/* Slots are numbered from 1; 0 is none. */
static struct cow_slot *slot_of(const struct cow_cache *cache, uint32_t number)
{
	return &cache->slot[number - 1];
}

static uint32_t *bucket_of(struct cow_cache *cache, uint64_t block)
{
	return &cache->bucket[(block * 0x9e3779b97f4a7c15ull) >> 20 & (cache->buckets - 1)];
}

static void shortcut_forget(struct cow_cache *cache, uint32_t number)
{
	struct cow_shortcut *shortcut = &cache->shortcut[slot_of(cache, number)->shortcut];

	if (shortcut->number == number)
		*shortcut = (struct cow_shortcut){ 0 };
}

static void slot_remove(struct cow_cache *cache, uint32_t *link)
{
	struct cow_slot *slot = slot_of(cache, *link);
	uint32_t number = *link;

	shortcut_forget(cache, number);
	*link = slot->chain;
	*slot = (struct cow_slot){ .chain = cache->free };
	cache->free = number;
	ASAN_POISON_MEMORY_REGION(&cache->node[number - 1], COW_BLOCK);
}

void cow_cache_drop(struct cow_cache *cache, uint64_t block)
{
	uint32_t *link = bucket_of(cache, block);

	while (*link) {
		if (slot_of(cache, *link)->block == block)
			slot_remove(cache, link);
		else
			link = &slot_of(cache, *link)->chain;
	}
}

/*
 * The lookup compares level and checksum, too: in a damaged store a block may
 * be referenced as two different nodes. Both are then cached; otherwise a
 * caller that needs both would load them in turns for ever.
 */
static uint32_t *slot_link(struct cow_cache *cache, const struct cow_ref *ref, unsigned level)
{
	uint64_t block = cow_entry_block(ref->where);
	struct cow_slot *slot;
	uint32_t *link;

	for (link = bucket_of(cache, block); *link; link = &slot->chain) {
		slot = slot_of(cache, *link);
		if (slot->block == block && slot->level == level && slot->crc == ref->crc)
			break;
	}
	return link;
}

/* 0: none. */
static uint32_t slot_find(struct cow_cache *cache, const struct cow_ref *ref, unsigned level)
{
	uint32_t number = *slot_link(cache, ref, level);

	if (number)
		cache->used[number - 1] = 1;
	return number;
}

const union cow_node *cow_cache_find(struct cow_cache *cache, const struct cow_ref *ref, unsigned level)
{
	uint32_t number = slot_find(cache, ref, level);

	return number ? &cache->node[number - 1] : NULL;
}

const union cow_node *cow_cache_shortcut(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf)
{
	const struct cow_shortcut *shortcut = &cache->shortcut[leaf % SHORTCUTS];

	if (!shortcut->number || shortcut->leaf != leaf || !cow_ref_same(&cache->root, root))
		return NULL;
	cache->used[shortcut->number - 1] = 1;
	return &cache->node[shortcut->number - 1];
}

void cow_cache_remember(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf, const union cow_node *node)
{
	struct cow_shortcut *shortcut = &cache->shortcut[leaf % SHORTCUTS];
	uint32_t number = (uint32_t)(node - cache->node) + 1;

	if (!cow_ref_same(&cache->root, root)) {
		memset(cache->shortcut, 0, SHORTCUTS * sizeof(*cache->shortcut));
		cache->root = *root;
	}
	shortcut_forget(cache, number);		/* in a damaged tree a leaf may be in two places */
	slot_of(cache, number)->shortcut = (uint16_t)(leaf % SHORTCUTS);
	*shortcut = (struct cow_shortcut){ (uint32_t)leaf, number };
}

/* All slots have nodes: evict the first one from the hand on that was not used since the hand passed. */
static void cache_evict(struct cow_cache *cache)
{
	const struct cow_slot *slot;
	uint32_t *link;

	while (cache->used[cache->hand]) {
		cache->used[cache->hand] = 0;
		cache->hand = (cache->hand + 1) % cache->limit;
	}
	slot = &cache->slot[cache->hand];
	cache->hand = (cache->hand + 1) % cache->limit;
	for (link = bucket_of(cache, slot->block); slot_of(cache, *link) != slot; link = &slot_of(cache, *link)->chain)
		;
	slot_remove(cache, link);
}

static uint32_t slot_get(struct cow_cache *cache)
{
	uint32_t number;

	if (!cache->free && cache->count < cache->limit) {
		if (cache->count == LARGE_FROM)
			madvise(cache->mapping, cache->mapped, MADV_HUGEPAGE);	/* it may fail, at the cost of speed only */
		return ++cache->count;
	}
	if (!cache->free)
		cache_evict(cache);
	number = cache->free;
	cache->free = slot_of(cache, number)->chain;
	return number;
}

void cow_cache_insert(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes)
{
	struct cow_cache *cache = &store->cache;
	uint64_t block = cow_entry_block(ref->where);
	uint32_t *link = slot_link(cache, ref, level), number;

	if (*link)
		slot_remove(cache, link);
	number = slot_get(cache);
	link = bucket_of(cache, block);
	ASAN_UNPOISON_MEMORY_REGION(&cache->node[number - 1], COW_BLOCK);
	memcpy(&cache->node[number - 1], bytes, COW_BLOCK);
	*slot_of(cache, number) = (struct cow_slot){
		.block = block, .crc = ref->crc, .chain = *link, .level = (uint8_t)level,
	};
	cache->used[number - 1] = 1;
	*link = number;
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
	cow_cache_insert(store, ref, level, bytes);
	return 0;
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
	uint32_t number = slot_find(&store->cache, ref, level);

	if (!number)
		return cow_node_load(store, ref, level, bytes);
	memcpy(bytes, store->cache.node[number - 1].bytes, COW_BLOCK);
	return 0;
}
