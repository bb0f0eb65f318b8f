/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_flush.c - making what was written durable: the data, then the map
 * changes that speak of it.
 *
 * What goes into the log is gathered before the sync begins. A write that
 * completes while the sync is under way is not covered by it, and waits for
 * the next flush, even if it changed a map entry that is being logged now.
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

/* In order: what a version changed, then the record that ended it or spoke of it. */
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

/* Punches out what a sorted list has, run by run. That it fails costs space only. */
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

/* What counts from the moment at which it is durable. */
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
		/* A list that cannot grow leaves the block on hold: unusable until the store is opened again, no worse. */
		if (cow_list_add(released, blocks[i]))
			break;
	}
	if (freed->flags & COW_FREE_DONE)
		cow_version_remove(store, version);
}

static void events_finish(struct cow_store *store, struct cow_event *events, struct cow_list *released, bool durable)
{
	struct cow_event *event;

	while ((event = events)) {
		if (durable)
			event_durable(store, event, released);
		events = event->next;
		free(event);
	}
}

bool cow_flush_idle(const struct cow_store *store)
{
	return !store->flushing && !store->events && !store->releases.count && !store->active->layer.dirty_count;
}

int cow_flush(struct cow_store *store)
{
	struct cow_event *events = store->events;
	struct cow_list released;
	int ret;

	if (store->failed || store->read_only)
		return store->failed ? store->failed : -EROFS;
	store->flushing = true;
	cow_journal_cut(store);
	ret = gather(store, events);
	released = store->releases;
	store->releases = (struct cow_list){ 0 };
	store->events = NULL;
	store->last_event = &store->events;
	if (!ret)
		ret = store->device->ops->sync(store->device);
	if (!ret)
		ret = cow_log_write(store);
	events_finish(store, events, &released, !ret);
	if (!ret)
		release_durable(store, &released);
	else
		store->failed = -EIO;
	cow_list_free(&released);
	store->flushing = false;
	return ret;
}
