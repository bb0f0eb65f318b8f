/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_checkpoint.c - turn the layers into trees, and switch the superblocks
 * to these.
 *
 *    begin ---> build (others may write) ---> settle ---> end (others may write)
 *
 * begin and settle need a map that does not change and is completely in the
 * log. The trees contain the log's records up to begin. Later records stay
 * in the log; their blocks are marked used in the bitmap, as replay would do.
 *
 * Everything is written to new blocks. On a failure before the first
 * superblock is written, allocations and releases are undone, and the store
 * is as before. Blocks that only the old state uses stay on hold until both
 * superblocks are durable.
 *
 * A superblock whose write failed may be on the medium nonetheless. If there
 * was no room for it, both states are kept, and it is written again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_tree.h"

#define MAX_VERSIONS_WITH_LAYERS 64
#define MAX_DIRTY_PAGES 1024
#define OVERDUE 3u			/* times the limits of cow_checkpoint_due() */

struct cow_checkpoint {
	struct cow_store *store;
	struct cow_builder builder;
	struct cow_superblock sb;		/* from settle on */
	struct cow_list table;			/* the new version table's blocks */
	bool settled;
	unsigned copies;			/* of the superblock that are durable */
	uint32_t flags;
	uint64_t salt;
	uint64_t log_head, log_sequence;	/* at begin */
	uint32_t log_chain;
};

static int table_build(struct cow_checkpoint *checkpoint, struct cow_ref *ref)
{
	struct cow_store *store = checkpoint->store;
	struct cow_builder *builder = &checkpoint->builder;
	struct cow_list *blocks = &checkpoint->table;
	size_t i;
	int ret;

	ret = cow_version_save(store, blocks, ref);
	for (i = 0; i < blocks->count; i++) {
		if (cow_list_add(&builder->allocated, blocks->item[i]))
			store->failed = ret = -ENOMEM;	/* cannot be undone */
	}
	for (i = 0; !ret && i < store->table_blocks.count; i++)
		ret = cow_list_add(&builder->freed, store->table_blocks.item[i]);
	return ret ? ret : cow_builder_release(builder);
}

static void superblock_fill(const struct cow_checkpoint *checkpoint, struct cow_superblock *sb)
{
	const struct cow_store *store = checkpoint->store;

	*sb = store->sb;
	sb->salt = checkpoint->salt;
	sb->flags = checkpoint->flags;
	sb->log_tail = checkpoint->log_head % store->log.size;
	sb->log_sequence = checkpoint->log_sequence;
	sb->log_chain = checkpoint->log_chain;
	sb->generation = store->generation;
	sb->active = store->active->id;
	sb->next_version = store->next_version;
	sb->versions_count = store->version_count;
}

static void checkpoint_finish(struct cow_checkpoint *checkpoint)
{
	struct cow_store *store = checkpoint->store;
	const struct cow_list *freed = &checkpoint->builder.freed;
	struct cow_version *version;
	size_t i;

	store->sb = checkpoint->sb;
	store->others_valid = false;
	store->log.tail = checkpoint->log_head;
	store->log.salt = checkpoint->salt;
	for (version = store->versions; version; version = version->next) {
		version->has_tree = true;
		version->root = version->new_root;
		version->levels = version->new_levels;
		if (version == store->active)
			cow_layer_drop_below(&version->layer);
		else
			cow_layer_free(&version->layer);
	}
	for (i = 0; i < freed->count; i++)
		cow_alloc_unhold(store, freed->item[i]);
	cow_list_free(&store->table_blocks);
	store->table_blocks = checkpoint->table;
	checkpoint->table = (struct cow_list){ 0 };
	cow_alloc_trim(&store->alloc);
}

static void checkpoint_free(struct cow_checkpoint *checkpoint)
{
	checkpoint->store->checkpoint = NULL;
	cow_list_free(&checkpoint->table);
	cow_builder_free(&checkpoint->builder);
	free(checkpoint);
}

/* The store is as it was before begin. */
void cow_checkpoint_abort(struct cow_store *store)
{
	struct cow_checkpoint *checkpoint = store->checkpoint;

	cow_builder_undo(&checkpoint->builder);
	cow_layer_join(&store->active->layer);
	checkpoint_free(checkpoint);
}

int cow_checkpoint_begin(struct cow_store *store, uint32_t flags, uint64_t salt)
{
	struct cow_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
	int ret = checkpoint ? cow_builder_init(&checkpoint->builder, store) : -ENOMEM;

	if (!ret)
		ret = cow_layer_split(&store->active->layer);
	if (ret) {
		if (checkpoint)
			cow_builder_free(&checkpoint->builder);
		free(checkpoint);
		return ret;
	}
	checkpoint->store = store;
	checkpoint->flags = flags;
	checkpoint->salt = salt;
	checkpoint->log_head = store->log.head;
	checkpoint->log_sequence = store->log.sequence;
	checkpoint->log_chain = store->log.chain;
	store->checkpoint = checkpoint;
	return 0;
}

int cow_checkpoint_build(struct cow_store *store)
{
	int ret = cow_builder_trees(&store->checkpoint->builder);

	if (ret)
		cow_checkpoint_abort(store);
	return ret;
}

int cow_checkpoint_settle(struct cow_store *store)
{
	struct cow_checkpoint *checkpoint = store->checkpoint;
	struct cow_builder *builder = &checkpoint->builder;
	struct cow_superblock *sb = &checkpoint->sb;
	int ret = cow_builder_release(builder);

	superblock_fill(checkpoint, sb);
	if (!ret)
		ret = table_build(checkpoint, &sb->versions);
	if (!ret) {
		ret = cow_bitmap_write(store, &builder->allocated, &builder->freed, &sb->bitmap);
		builder->released = builder->freed.count;	/* its own, too */
	}
	/* The file may have grown while the bitmap was made, so blocks in the bitmap may be new. */
	sb->store_blocks = store->store_blocks;
	sb->bitmap_levels = cow_bitmap_levels(store->store_blocks);
	if (ret)
		cow_checkpoint_abort(store);
	else
		checkpoint->settled = true;
	return ret;
}

int cow_checkpoint_end(struct cow_store *store)
{
	struct cow_checkpoint *checkpoint = store->checkpoint;
	int ret = store->failed;

	if (!ret && !checkpoint->copies)
		ret = cow_store_sync(store);
	if (!ret)
		ret = cow_superblock_write(store, &checkpoint->sb, &checkpoint->copies);
	if (cow_no_room(store, ret))
		return ret;
	if (ret)
		store->failed = -EIO;
	else
		checkpoint_finish(checkpoint);
	checkpoint_free(checkpoint);
	return ret;
}

/* The caller has flushed: all map changes are durable. */
int cow_checkpoint_write(struct cow_store *store, uint32_t flags, uint64_t salt)
{
	int ret = cow_checkpoint_catch_up(store);

	if (!ret)
		ret = cow_checkpoint_begin(store, flags, salt);
	if (!ret)
		ret = cow_checkpoint_build(store);
	if (!ret)
		ret = cow_checkpoint_settle(store);
	return ret ? ret : cow_checkpoint_end(store);
}

int cow_checkpoint(struct cow_store *store)
{
	int ret = cow_flush(store);

	return ret ? ret : cow_checkpoint_write(store, 0, store->log.salt);
}

bool cow_checkpoint_behind(const struct cow_store *store)
{
	return store->log.stuck || store->checkpoint;
}

int cow_checkpoint_catch_up(struct cow_store *store)
{
	int ret = store->log.stuck ? cow_flush(store) : 0;

	return ret || !store->checkpoint ? ret : cow_checkpoint_end(store);
}

void cow_checkpoint_forget(struct cow_store *store)
{
	if (store->checkpoint)
		checkpoint_free(store->checkpoint);
}

/* A running checkpoint empties the log and the layer below, but not the new changes. */
static bool due_again(const struct cow_store *store)
{
	return store->active->layer.count >= store->layer_entries || store->alloc.dirty_pages > 2 * MAX_DIRTY_PAGES ||
		cow_flush_bytes(store) > cow_log_room(&store->log);
}

bool cow_checkpoint_due(struct cow_store *store)
{
	if (store->checkpoint)
		return due_again(store);
	cow_alloc_count_others(store);
	return store->others_entries + store->active->layer.count >= store->layer_entries ||
		store->others > MAX_VERSIONS_WITH_LAYERS || store->alloc.dirty_pages > MAX_DIRTY_PAGES ||
		cow_log_used(&store->log) > store->log.size / 2;
}

/*
 * Without this, first writes that come faster than a checkpoint writes the last
 * ones would fill the new layer, and then all would wait for seconds until its
 * end. So they are admitted as it progresses; an eighth of the layer is free
 * at the beginning, another is kept for the end.
 */
bool cow_checkpoint_keeps_up(const struct cow_store *store)
{
	const struct cow_checkpoint *checkpoint = store->checkpoint;
	uint64_t part = store->layer_entries / 8, changes, done;

	if (!checkpoint || checkpoint->settled)
		return true;
	changes = checkpoint->builder.changes;
	done = checkpoint->builder.done;
	return store->active->layer.count < part + (changes ? 6 * part * done / changes : 0);
}

/* The same before a checkpoint, during it and after its abort: otherwise it could be aborted for ever. */
bool cow_checkpoint_overdue(struct cow_store *store)
{
	const struct cow_layer *layer = &store->active->layer;
	uint64_t entries = layer->count + (layer->below ? layer->below->count : 0);

	cow_alloc_count_others(store);
	return store->others_entries + entries >= (uint64_t)OVERDUE * store->layer_entries ||
		store->others > OVERDUE * MAX_VERSIONS_WITH_LAYERS || store->alloc.dirty_pages > OVERDUE * MAX_DIRTY_PAGES ||
		cow_flush_bytes(store) + store->log.size / 8 > cow_log_room(&store->log);
}

uint64_t cow_flush_bytes(const struct cow_store *store)
{
	return store->active->layer.dirty_count * sizeof(struct cow_map_element) + store->releases.count * sizeof(uint64_t);
}

int cow_checkpoint_if_due(struct cow_store *store)
{
	int ret;

	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	ret = cow_checkpoint_catch_up(store);
	if (!ret && cow_flush_bytes(store) > store->log.size / 8)
		ret = cow_flush(store);
	if (!ret && cow_checkpoint_due(store))
		ret = cow_checkpoint(store);
	return ret;
}
