/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_flush.c - make writes durable: the data, then the map changes that
 * refer to it.
 *
 * Log records are gathered before the sync begins. A write that completes
 * during the sync is not covered by it, and waits for the next flush, even
 * if it changed a map entry that is being logged now.
 *
 * If there is no room below for the records, they stay in the log's buffer. The
 * next flush first writes exactly these again, at the same place: what was
 * written of them is never followed by anything else, and the journal
 * (cow_journal.c) need not know. Their data is durable already.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define MAP_PER_RECORD (COW_RECORD_PAYLOAD / sizeof(struct cow_map_element))
#define RELEASE_PER_RECORD (COW_RECORD_PAYLOAD / sizeof(uint64_t))

static int gather_map(struct cow_store *store, struct cow_layer *layer)
{
	struct cow_map_element *elements;
	size_t i, n = 0, at, count;
	int ret = 0;

	if (!layer->dirty_count)
		return 0;
	elements = malloc(layer->dirty_count * sizeof(*elements));
	if (!elements)
		return -ENOMEM;
	for (i = 0; i < layer->room; i++) {
		if (!layer->dirty[i])
			continue;
		elements[n++] = (struct cow_map_element){ layer->slot[i].block - 1, layer->slot[i].entry };
		layer->dirty[i] = 0;
	}
	layer->dirty_count = 0;
	for (at = 0; at < n && !ret; at += count) {
		count = n - at < MAP_PER_RECORD ? n - at : MAP_PER_RECORD;
		ret = cow_log_add(&store->log, COW_RECORD_MAP, (uint32_t)count, elements + at, count * sizeof(*elements), NULL, 0);
	}
	free(elements);
	return ret;
}

static int gather_releases(struct cow_store *store)
{
	size_t at, count;
	int ret = 0;

	for (at = 0; at < store->releases.count && !ret; at += count) {
		count = store->releases.count - at;
		count = count < RELEASE_PER_RECORD ? count : RELEASE_PER_RECORD;
		ret = cow_log_add(&store->log, COW_RECORD_RELEASE, (uint32_t)count, store->releases.item + at,
				  count * sizeof(uint64_t), NULL, 0);
	}
	return ret;
}

/* In order: a version's changes, then the record that ended it or refers to it. */
static int gather(struct cow_store *store, struct cow_event *events)
{
	struct cow_event *event;
	int ret;

	for (event = events; event; event = event->next) {
		ret = gather_map(store, &event->version->layer);
		if (!ret)
			ret = cow_log_add(&store->log, event->type, event->count, event->payload, event->length, NULL, 0);
		if (ret)
			return ret;
	}
	ret = gather_map(store, &store->active->layer);
	return ret ? ret : gather_releases(store);
}

/* Punches out the blocks of a sorted list, run by run. A failure costs space only. */
static void punch(struct cow_store *store, const struct cow_list *blocks)
{
	size_t i, n;

	for (i = 0; i < blocks->count; i += n) {
		for (n = 1; i + n < blocks->count && blocks->item[i + n] == blocks->item[i] + n; n++)
			;
		store->device->ops->punch(store->device, blocks->item[i] << COW_SHIFT, (uint64_t)n << COW_SHIFT);
	}
}

static void release_durable(struct cow_store *store, struct cow_list *released)
{
	size_t i;

	cow_list_sort(released);
	if (store->retire) {
		store->retire(store->retire_owner, released);
		return;
	}
	punch(store, released);
	for (i = 0; i < released->count; i++)
		cow_alloc_unhold(store, released->item[i]);
}

/* Effects of an event that begin when it is durable. */
static void event_durable(struct cow_store *store, const struct cow_event *event, struct cow_list *released)
{
	const struct cow_delete_payload *delete = (const void *)event->payload;
	const struct cow_commit_payload *commit = (const void *)event->payload;
	const struct cow_free_payload *freed = (const void *)event->payload;
	const uint64_t *blocks = (const void *)(freed + 1);
	struct cow_version *version;
	size_t i;

	if (event->type == COW_RECORD_DELETE)
		cow_version_delete(store, cow_version_find(store, delete->id));
	if (event->type == COW_RECORD_COMMIT)
		cow_version_find(store, commit->id)->decision[0] = '\0';
	if (event->type != COW_RECORD_FREE)
		return;
	version = cow_version_find(store, freed->id);
	cow_version_set_cursor(store, version, freed->cursor);
	for (i = 0; i < (event->length - sizeof(*freed)) / sizeof(*blocks); i++) {
		/* Out of memory leaves the block on hold: unused until the store is opened again, nothing worse. */
		if (cow_list_add(released, blocks[i]))
			break;
	}
	if (freed->flags & COW_FREE_DONE)
		cow_version_remove(store, version);
}

/* The records in the log's buffer are durable, or lost. */
static void logged_finish(struct cow_store *store, bool durable)
{
	struct cow_event *event;

	while ((event = store->logged_events)) {
		store->logged_events = event->next;
		if (durable)
			event_durable(store, event, &store->logged_releases);
		free(event);
	}
	if (durable)
		release_durable(store, &store->logged_releases);
	else
		store->failed = -EIO;
	cow_list_free(&store->logged_releases);
}

bool cow_flush_idle(const struct cow_store *store)
{
	return !store->flushing && !store->log.stuck && !store->events && !store->releases.count &&
		!store->active->layer.dirty_count;
}

int cow_store_sync(struct cow_store *store)
{
	int ret = store->device->ops->sync(store->device);

	if (ret)
		store->failed = -EIO;
	return ret;
}

static int logged_write(struct cow_store *store)
{
	int ret = cow_log_write(store);

	if (!cow_no_room(store, ret))
		logged_finish(store, !ret);
	return ret;
}

static int flush_new(struct cow_store *store)
{
	int ret;

	cow_journal_cut(store);
	ret = gather(store, store->events);
	store->logged_events = store->events;
	store->logged_releases = store->releases;
	store->events = NULL;
	store->last_event = &store->events;
	store->releases = (struct cow_list){ 0 };
	if (!ret)
		ret = cow_store_sync(store);
	if (!ret)
		return logged_write(store);
	logged_finish(store, false);
	return ret;
}

int cow_flush(struct cow_store *store)
{
	int ret;

	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	store->flushing = true;
	ret = store->log.stuck ? logged_write(store) : 0;
	if (!ret)
		ret = flush_new(store);
	store->flushing = false;
	return ret;
}
