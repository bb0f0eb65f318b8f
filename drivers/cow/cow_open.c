/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_open.c - open and close a store.
 *
 * Every open for writing begins with a new salt, durable before the first
 * record: it invalidates records of earlier openings. Their valid part is in
 * a checkpoint by then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cow_base.h"
#include "cow_internal.h"

#define DEFAULT_LAYER_ENTRIES 45056

static int fresh_salt(uint64_t *salt)
{
	return getrandom(salt, sizeof(*salt), 0) == sizeof(*salt) ? 0 : -EIO;
}

static void log_begin(struct cow_log *log, const struct cow_superblock *sb)
{
	log->start = sb->log_start << COW_SHIFT;
	log->size = sb->log_blocks << COW_SHIFT;
	log->head = log->tail = sb->log_tail;
	log->sequence = sb->log_sequence;
	log->chain = sb->log_chain;
	log->salt = sb->salt;
}

static int store_base(struct cow_store *store, const struct cow_base *base, struct error_text *error)
{
	const struct cow_base_fields *fields = &store->sb.base;

	if (store->sb.base_kind == COW_BASE_NONE) {
		store->base = (struct cow_base){ 0 };
		return 0;
	}
	if (!base->read)
		return error_set(error, -ENODEV, "%s: needs its base %s", store->device->name, fields->target);
	if (base->sectors != fields->sectors)
		return error_set(error, -ESTALE, "%s: its base %s has another size (%llu sectors) than when it was attached "
				 "(%llu)", store->device->name, fields->target, (unsigned long long)base->sectors,
				 (unsigned long long)fields->sectors);
	store->base = *base;
	return 0;
}

static int store_load(struct cow_store *store, const char *journal, struct error_text *error)
{
	int ret;

	store->store_blocks = store->device->ops->size(store->device) >> COW_SHIFT;
	if (store->store_blocks > COW_MAX_BLOCKS)
		store->store_blocks = COW_MAX_BLOCKS;
	store->pool_start = store->sb.log_start + store->sb.log_blocks;
	store->generation = store->sb.generation;
	store->next_version = store->sb.next_version;
	store->clean = store->sb.flags & COW_SB_CLEAN;
	store->alloc.unrecorded = !store->clean || store->sb.flags & COW_SB_UNPUNCHED;
	log_begin(&store->log, &store->sb);
	ret = cow_version_load(store, error);
	if (!ret)
		ret = cow_alloc_load(store, error);
	return ret ? ret : cow_replay(store, journal, error);
}

/* The replayed state becomes a checkpoint; a clean one gets its new salt. */
static int store_begin_writing(struct cow_store *store, const char *journal, struct error_text *error)
{
	bool played = store->journal;
	uint64_t salt;
	size_t i;
	int ret;

	ret = fresh_salt(&salt);
	if (!ret)
		ret = cow_journal_prepare(store, journal, salt);
	if (!ret)
		ret = cow_checkpoint_write(store, 0, salt);
	if (ret) {
		cow_journal_end(store, played);		/* a new one is empty, and would block other openings */
		return error_set(error, ret, "%s: cannot be opened for writing: %s", store->device->name, strerror(-ret));
	}
	for (i = 0; i < store->releases.count; i++)
		cow_alloc_unhold(store, store->releases.item[i]);
	store->releases.count = 0;
	cow_journal_begin(store);
	return 0;
}

int cow_open(struct cow_store **result, struct cow_device *device, const struct cow_open_options *options,
	     struct error_text *error)
{
	struct cow_store *store = aligned_alloc(COW_BLOCK, (sizeof(*store) + COW_BLOCK - 1) / COW_BLOCK * COW_BLOCK);
	int ret;

	if (!store)
		return error_set(error, -ENOMEM, "%s: out of memory", device->name);
	memset(store, 0, sizeof(*store));
	store->device = device;
	store->read_only = options->read_only;
	store->last_event = &store->events;
	store->layer_entries = options->layer_entries ? options->layer_entries : DEFAULT_LAYER_ENTRIES;
	ret = cow_superblock_read(device, &store->sb, &store->read_only, error);
	if (!ret)
		ret = store_base(store, &options->base, error);
	if (!ret && cow_cache_init(&store->cache, options->cache_bytes))
		ret = error_set(error, -ENOMEM, "%s: out of memory", device->name);
	if (!ret)
		ret = store_load(store, store->read_only ? NULL : options->journal, error);
	if (!ret && !store->read_only)
		ret = store_begin_writing(store, options->journal, error);
	if (ret)
		cow_abandon(store);
	else
		*result = store;
	return ret;
}

int cow_probe(struct cow_device *device, enum cow_base_kind *kind, struct cow_base_fields *base,
	      struct error_text *error)
{
	struct cow_superblock sb;
	bool read_only = true;
	int ret = cow_superblock_read(device, &sb, &read_only, error);

	if (ret)
		return ret;
	*kind = sb.base_kind;
	*base = sb.base;
	return sb.base_kind == COW_BASE_NONE ? 0 : cow_target_check(sb.base.target, error);
}

void cow_abandon(struct cow_store *store)
{
	struct cow_event *event;

	cow_journal_end(store, true);
	cow_checkpoint_forget(store);
	*store->last_event = store->logged_events;
	while ((event = store->events)) {
		store->events = event->next;
		free(event);
	}
	cow_list_free(&store->releases);
	cow_list_free(&store->logged_releases);
	cow_list_free(&store->table_blocks);
	cow_version_free_all(store);
	cow_alloc_free(&store->alloc);
	cow_cache_free(&store->cache);
	free(store->log.buffer);
	free(store);
}

int cow_close(struct cow_store *store)
{
	int ret = 0;

	if (!store->read_only) {
		ret = cow_flush(store);
		cow_journal_end(store, ret);	/* the log has everything */
		if (!ret)
			ret = cow_checkpoint_write(store, COW_SB_CLEAN | (cow_unpunched_left(store) ? COW_SB_UNPUNCHED : 0),
						   store->log.salt);
	}
	cow_abandon(store);
	return ret;
}

void cow_get_info(const struct cow_store *store, struct cow_info *info)
{
	const struct cow_version *version;

	*info = (struct cow_info){
		.sectors = store->active->sectors, .sector_size = store->sb.sector_size,
		.store_blocks = store->store_blocks, .free_blocks = store->alloc.clear - store->alloc.held,
		.log_blocks = store->sb.log_blocks, .generation = store->generation, .clean = store->clean,
		.base_kind = store->sb.base_kind, .base = &store->sb.base,
	};
	memcpy(info->uuid, store->sb.uuid, sizeof(info->uuid));
	for (version = store->versions; version; version = version->next) {
		info->deletions += version->deleted;
		info->snapshots += !version->deleted && !version->decision[0] && version != store->active;
	}
}
