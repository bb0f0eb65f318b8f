/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_snapshot.c - snapshots: create, list, mark as deleted. Each changes a
 * few words in memory and adds one record to the log, however large the disk;
 * so does a revert (cow_revert.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cow_internal.h"
#include "path.h"

int cow_event_add(struct cow_store *store, struct cow_version *version, enum cow_record_type type, uint32_t count,
		  const void *payload, size_t length)
{
	struct cow_event *event = malloc(sizeof(*event) + length);

	if (!event)
		return -ENOMEM;
	event->next = NULL;
	event->version = version;
	event->type = type;
	event->count = count;
	event->length = length;
	memcpy(event->payload, payload, length);
	*store->last_event = event;
	store->last_event = &event->next;
	cow_journal_event(store, type, count, payload, length);
	return 0;
}

int cow_active_begin(struct cow_store *store, struct cow_version *parent)
{
	struct cow_version *version;

	version = cow_version_new(store, store->next_version, parent);
	if (!version)
		return -ENOMEM;
	store->next_version++;
	store->generation++;
	version->generation = store->generation;
	version->sectors = parent->sectors;
	version->base_shows = parent->base_shows;
	store->active = version;
	store->others_valid = false;
	return 0;
}

int cow_snapshot_apply(struct cow_store *store, const struct cow_snapshot_payload *payload, const char *text)
{
	struct cow_version *snapshot = store->active;
	int ret = cow_active_begin(store, snapshot);

	if (!ret)
		ret = cow_version_set_text(snapshot, text, payload->name_length, payload->description_length,
					   payload->decision_length);
	snapshot->time = payload->time;
	return ret;
}

static int store_writable(const struct cow_store *store, struct error_text *error)
{
	if (store->failed)
		return error_set(error, store->failed, "%s: writing to the store failed before: close and open it again",
				 store->device->name);
	if (store->read_only)
		return error_set(error, -EROFS, "%s: opened read-only", store->device->name);
	return 0;
}

int cow_version_room(struct cow_store *store, struct error_text *error)
{
	if (store->checkpoint)		/* it would end without the new version */
		return error_set(error, -ENOSPC, "%s: its superblock cannot be written: %s", store->device->name,
				 strerror(ENOSPC));
	if (store->version_count >= COW_MAX_VERSIONS || store->generation >= COW_MAX_GENERATION ||
	    store->next_version == UINT32_MAX)
		return error_set(error, -EOVERFLOW, "%s: the store has reached its limit of versions",
				 store->device->name);
	if (!store->read_only && !cow_alloc_has_reserve(store))
		return error_set(error, -ENOSPC, "%s: the store is full: make it larger or delete snapshots",
				 store->device->name);
	return 0;
}

static int name_check(const char *name, struct error_text *error)
{
	if (cow_name_valid(name, strlen(name)))
		return 0;
	return error_set(error, -EINVAL, "\"%.64s\": not a snapshot name: use 1 to %u letters, digits and punctuation marks, "
			 "no spaces and none of @ / \\ or quotes", name, COW_NAME_MAX);
}

static int texts_check(const struct cow_store *store, const char *name, const char *description, struct error_text *error)
{
	if (!cow_description_valid(description))
		return error_set(error, -EINVAL, "the description of \"%.64s\" is not UTF-8, has control characters or more "
				 "than %u bytes", name, COW_DESCRIPTION_MAX);
	if (cow_version_by_name(store, name))
		return error_set(error, -EEXIST, "%s: already has a snapshot called \"%s\"", store->device->name, name);
	return 0;
}

static int none_called(const struct cow_store *store, const char *what, const char *name, struct error_text *error)
{
	return error_set(error, -ENOENT, "%s: has no %ssnapshot called \"%.64s\"", store->device->name, what, name);
}

int cow_snapshot_check_new(const struct cow_store *store, const char *name, const char *description, struct error_text *error)
{
	int ret = name_check(name, error);

	return ret ? ret : texts_check(store, name, description ? description : "", error);
}

int cow_snapshot_check_there(const struct cow_store *store, const char *name, struct error_text *error)
{
	const struct cow_version *version = cow_version_by_name(store, name);

	return version && !version->decision[0] ? 0 : none_called(store, "", name, error);
}

static int create_check(struct cow_store *store, const char *name, const char *description, const char *decision,
			struct error_text *error)
{
	int ret = store_writable(store, error);

	if (!ret)
		ret = cow_version_room(store, error);
	if (ret)
		return ret;
	if (*decision && (!cow_decision_valid(decision) || strlen(decision) > COW_DECISION_MAX))
		return error_set(error, -EINVAL, "%.64s: not a decision record: must be %s/" COW_DECISION_DIRECTORY
				 "/ and 32 hexadecimal digits, at most %u bytes", decision, path_state_dir(),
				 COW_DECISION_MAX);
	if (*decision && cow_prepared_count(store) >= COW_PREPARED_MAX)
		return error_set(error, -EBUSY, "%s: %u snapshots already wait for a decision", store->device->name,
				 COW_PREPARED_MAX);
	return texts_check(store, name, description, error);
}

int cow_snapshot_flush(struct cow_store *store, const char *what, const char *name, struct error_text *error)
{
	int ret = cow_flush(store);

	if (cow_no_room(store, ret))
		return error_set(error, ret, "%s: snapshot \"%s\" was %s, but that is not durable until there is room: %s",
				 store->device->name, name, what, strerror(-ret));
	if (ret)
		return error_set(error, ret, "%s: snapshot \"%s\" could not be %s: %s", store->device->name, name, what,
				 strerror(-ret));
	return 0;
}

int cow_version_drop(struct cow_store *store, struct cow_version *version)
{
	struct cow_delete_payload payload = { .id = version->id };
	int ret = cow_event_add(store, store->active, COW_RECORD_DELETE, 1, &payload, sizeof(payload));

	version->leaving = !ret;
	return ret;
}

int cow_snapshot_made(struct cow_store *store, const char *name, bool use, int ret, struct error_text *error)
{
	struct cow_version *version = cow_version_by_name(store, name);

	if (cow_no_room(store, ret) && version && !use)
		cow_version_drop(store, version);	/* out of memory: it stays */
	return ret ? error_set(error, ret, "%s: snapshot \"%s\" could not be made durable: %s", store->device->name, name,
			       strerror(-ret)) : 0;
}

/* The record of a new snapshot, with its texts; the caller frees it. */
static struct cow_snapshot_payload *create_payload(const struct cow_store *store, const char *const text[3], size_t *length)
{
	size_t name = strlen(text[0]), description = strlen(text[1]), decision = strlen(text[2]);
	struct cow_snapshot_payload *payload;
	char *at;

	*length = sizeof(*payload) + name + description + decision;
	payload = malloc(*length + 1);
	if (!payload)
		return NULL;
	*payload = (struct cow_snapshot_payload){
		.id = store->active->id, .generation = store->generation, .time = (uint64_t)time(NULL),
		.name_length = (uint16_t)name, .description_length = (uint16_t)description,
		.decision_length = (uint16_t)decision,
	};
	at = stpcpy((char *)(payload + 1), text[0]);
	at = stpcpy(at, text[1]);
	strcpy(at, text[2]);
	return payload;
}

int cow_version_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			struct error_text *error)
{
	const char *const text[3] = { name, description ? description : "", decision ? decision : "" };
	struct cow_snapshot_payload *payload;
	size_t length;
	int ret;

	ret = create_check(store, name, text[1], text[2], error);
	if (ret)
		return ret;
	payload = create_payload(store, text, &length);
	if (!payload)
		return error_set(error, -ENOMEM, "%s: out of memory", store->device->name);
	ret = cow_event_add(store, store->active, COW_RECORD_SNAPSHOT, 1, payload, length);
	if (!ret) {
		ret = cow_snapshot_apply(store, payload, (const char *)(payload + 1));
		if (ret)
			store->failed = ret;	/* there is a record of a change that was not made */
	}
	free(payload);
	return ret ? error_set(error, ret, "%s: out of memory", store->device->name) : 0;
}

int cow_snapshot_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			 struct error_text *error)
{
	int ret = name_check(name, error);

	return ret ? ret : cow_version_prepare(store, name, description, decision, error);
}

int cow_snapshot_room(struct cow_store *store, struct error_text *error)
{
	int ret = cow_checkpoint_if_due(store);

	return ret ? error_set(error, ret, "%s: no room in the log: %s", store->device->name, strerror(-ret)) : 0;
}

int cow_snapshot_probe(struct cow_store *store, struct error_text *error)
{
	int ret = cow_log_probe(store);

	return ret ? error_set(error, ret, "%s: the log cannot be written: %s", store->device->name, strerror(-ret)) : 0;
}

int cow_snapshot_create(struct cow_store *store, const char *name, const char *description, struct error_text *error)
{
	int ret = store_writable(store, error);

	if (!ret)
		ret = cow_snapshot_room(store, error);
	if (!ret)
		ret = cow_snapshot_prepare(store, name, description, NULL, error);
	return ret ? ret : cow_snapshot_made(store, name, false, cow_flush(store), error);
}

int cow_snapshot_find(struct cow_store *store, const char *name, bool prepared, struct cow_version **version,
		      struct error_text *error)
{
	int ret = store_writable(store, error);

	if (!ret && cow_checkpoint_behind(store))
		ret = cow_snapshot_room(store, error);
	if (ret)
		return ret;
	*version = cow_version_by_name(store, name);
	if (!*version || prepared != !!(*version)->decision[0])
		return none_called(store, prepared ? "prepared " : "", name, error);
	return 0;
}

/* The snapshot counts as deleted only once that is durable: then the blocks that it alone holds may be overwritten. */
static int version_delete(struct cow_store *store, const char *name, bool prepared, struct error_text *error)
{
	struct cow_version *version;
	int ret;

	ret = cow_snapshot_find(store, name, prepared, &version, error);
	if (!ret)
		ret = cow_snapshot_room(store, error);
	if (!ret)
		ret = cow_snapshot_probe(store, error);
	if (ret)
		return ret;
	ret = cow_version_drop(store, version);
	if (ret)
		return error_set(error, ret, "%s: out of memory", store->device->name);
	return cow_snapshot_flush(store, "deleted", name, error);
}

int cow_snapshot_delete(struct cow_store *store, const char *name, struct error_text *error)
{
	if (cow_revert_awaits(store, name))
		return error_set(error, -EBUSY, "%s: a revert to snapshot \"%s\" is prepared", store->device->name, name);
	return version_delete(store, name, false, error);
}

int cow_snapshot_abort(struct cow_store *store, const char *name, struct error_text *error)
{
	return version_delete(store, name, true, error);
}

int cow_snapshot_commit(struct cow_store *store, const char *name, struct error_text *error)
{
	struct cow_commit_payload payload = { 0 };
	struct cow_version *version;
	int ret;

	ret = cow_snapshot_find(store, name, true, &version, error);
	if (ret)
		return ret;
	if (!strcmp(name, SNAPSHOT_REVERT_INTENT))
		return cow_revert_commit(store, version, error);
	ret = cow_snapshot_room(store, error);
	if (ret)
		return ret;
	payload.id = version->id;
	ret = cow_event_add(store, store->active, COW_RECORD_COMMIT, 1, &payload, sizeof(payload));
	if (ret)
		return error_set(error, ret, "%s: out of memory", store->device->name);
	return cow_snapshot_flush(store, "committed", name, error);
}

static const struct cow_version *living_parent(const struct cow_version *version)
{
	do
		version = version->parent;
	while (version && (version->deleted || version->leaving || version->decision[0]));
	return version;
}

int cow_snapshot_list_from(struct cow_store *store, uint64_t from,
			   int (*each)(void *owner, const struct snapshot_info *info), void *owner)
{
	const struct cow_version *current = living_parent(store->active), *version, *parent;
	char description[COW_DESCRIPTION_MAX + 1];
	struct snapshot_info info;
	int ret = 0;

	for (version = cow_version_from(store, from); version && !ret; version = version->next) {
		if (version->deleted || version->leaving || version->decision[0] || version == store->active)
			continue;
		parent = living_parent(version);
		cow_description_show(version->description, description);
		info = (struct snapshot_info){ version->id, parent ? parent->id : 0, version->time, version->sectors,
			version->name, description, version == current };
		ret = each(owner, &info);
	}
	return ret;
}

int cow_snapshot_list(struct cow_store *store, int (*each)(void *owner, const struct snapshot_info *info),
		      void *owner)
{
	return cow_snapshot_list_from(store, 0, each, owner);
}
