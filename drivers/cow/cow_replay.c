/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_replay.c - the log, read back after a crash. Records are whole and in
 * order when they get here; what they say is still checked against the store
 * as it stands at that point.
 *
 * What is freed stays on hold: it was read from the device, which does not
 * make it durable. The checkpoint at the end of opening does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

static int replay_map(struct cow_store *store, const struct cow_record *record, const void *payload, size_t length)
{
	const struct cow_map_element *element = payload;
	struct cow_layer *layer = &store->active->layer;
	uint32_t i;
	int ret;

	if (record->count != length / sizeof(*element) || length % sizeof(*element))
		return -EUCLEAN;
	ret = cow_layer_reserve(layer, record->count);
	for (i = 0; !ret && i < record->count; i++) {
		if (element[i].block >= cow_blocks_for(store->active->sectors) ||
		    !cow_entry_valid(store, element[i].entry, store->generation))
			return -EUCLEAN;
		if (cow_entry_block(element[i].entry))
			ret = cow_alloc_mark(store, cow_entry_block(element[i].entry));
		if (!ret)
			cow_layer_set(layer, element[i].block, element[i].entry, false);
	}
	return ret;
}

static int replay_snapshot(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_snapshot_payload *payload = bytes;
	const char *text = (const char *)(payload + 1);
	size_t texts;

	if (length < sizeof(*payload) || payload->name_length > COW_NAME_MAX ||
	    payload->description_length > COW_DESCRIPTION_MAX || payload->decision_length > COW_DECISION_MAX)
		return -EUCLEAN;
	texts = (size_t)payload->name_length + payload->description_length + payload->decision_length;
	if (length != sizeof(*payload) + texts || memchr(text, 0, texts) || !cow_name_kept(text, payload->name_length) ||
	    payload->id != store->active->id || payload->generation != store->generation ||
	    store->generation >= COW_MAX_GENERATION || store->version_count >= COW_MAX_VERSIONS)
		return -EUCLEAN;
	return cow_snapshot_apply(store, payload, text);
}

static int replay_revert(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_revert_payload *payload = bytes;
	const struct cow_version *target;

	if (length != sizeof(*payload) || payload->id != store->next_version ||
	    payload->generation != store->generation + 1 || store->generation >= COW_MAX_GENERATION ||
	    store->version_count >= COW_MAX_VERSIONS)
		return -EUCLEAN;
	target = cow_version_find(store, payload->target);
	if (!target || target->deleted || target == store->active)
		return -EUCLEAN;
	return cow_revert_apply(store, payload);
}

static int replay_delete(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_delete_payload *payload = bytes;
	struct cow_version *version;

	if (length != sizeof(*payload))
		return -EUCLEAN;
	version = cow_version_find(store, payload->id);
	if (!version || version->deleted || version == store->active)
		return -EUCLEAN;
	cow_version_delete(store, version);
	return 0;
}

static int replay_commit(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_commit_payload *payload = bytes;
	struct cow_version *version;

	if (length != sizeof(*payload))
		return -EUCLEAN;
	version = cow_version_find(store, payload->id);
	if (!version || !version->decision[0] || version->deleted)
		return -EUCLEAN;
	version->decision[0] = '\0';
	return 0;
}

static int release_all(struct cow_store *store, const uint64_t *block, size_t count)
{
	size_t i;
	int ret;

	for (i = 0; i < count; i++) {
		if (block[i] < store->pool_start || block[i] >= store->store_blocks)
			return -EUCLEAN;
		ret = cow_alloc_release(store, block[i]);
		if (!ret)
			ret = cow_list_add(&store->releases, block[i]);
		if (ret)
			return ret;
	}
	return 0;
}

/* One deletion at a time has come anywhere, and it goes on. */
static bool free_valid(const struct cow_store *store, const struct cow_version *version, uint64_t cursor)
{
	return version && cow_version_gone(version) && (!store->begun || version == store->begun) &&
		cursor >= version->cursor && cursor <= COW_MAX_BLOCKS * 2;
}

static int replay_free(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_free_payload *payload = bytes;
	struct cow_version *version;
	int ret;

	if (length < sizeof(*payload) || (length - sizeof(*payload)) % sizeof(uint64_t))
		return -EUCLEAN;
	version = cow_version_find(store, payload->id);
	if (!free_valid(store, version, payload->cursor))
		return -EUCLEAN;
	ret = release_all(store, (const uint64_t *)(payload + 1), (length - sizeof(*payload)) / sizeof(uint64_t));
	cow_version_set_cursor(store, version, payload->cursor);
	if (!ret && (payload->flags & COW_FREE_DONE))
		cow_version_remove(store, version);
	return ret;
}

static int replay_resize(struct cow_store *store, const void *bytes, size_t length)
{
	const struct cow_resize_payload *payload = bytes;

	if (length != sizeof(*payload) || !payload->sectors || payload->sectors > COW_MAX_BLOCKS * COW_SECTORS ||
	    payload->base_shows > store->active->base_shows)
		return -EUCLEAN;
	store->active->sectors = payload->sectors;
	store->active->base_shows = payload->base_shows;
	return 0;
}

static int replay_record(struct cow_store *store, const struct cow_record *record)
{
	const void *payload = record + 1;
	size_t length = record->length - sizeof(*record);

	switch (record->type) {
	case COW_RECORD_MAP:
		return replay_map(store, record, payload, length);
	case COW_RECORD_SNAPSHOT:
		return replay_snapshot(store, payload, length);
	case COW_RECORD_REVERT:
		return replay_revert(store, payload, length);
	case COW_RECORD_DELETE:
		return replay_delete(store, payload, length);
	case COW_RECORD_FREE:
		return replay_free(store, payload, length);
	case COW_RECORD_COMMIT:
		return replay_commit(store, payload, length);
	case COW_RECORD_RESIZE:
		return replay_resize(store, payload, length);
	case COW_RECORD_RELEASE:
		if (length % sizeof(uint64_t))
			return -EUCLEAN;
		return release_all(store, payload, length / sizeof(uint64_t));
	}
	return -EUCLEAN;
}

int cow_replay(struct cow_store *store, const char *journal, struct error_text *error)
{
	struct cow_log_reader reader;
	uint64_t end;
	int ret = cow_log_reader_init(&reader);

	if (!ret)
		ret = cow_log_find_end(store, &reader, &end);
	while (!ret) {
		ret = cow_log_read(store, &reader, end);
		if (!ret)
			ret = replay_record(store, reader.record);
		else if (ret == -ENOENT)
			break;
	}
	cow_log_reader_free(&reader);
	if (ret && ret != -ENOENT)
		return error_set(error, ret, "%s: its log cannot be replayed at record %llu: %s", store->device->name,
				 (unsigned long long)store->log.sequence, strerror(-ret));
	return cow_journal_replay(store, journal, replay_record, error);
}
