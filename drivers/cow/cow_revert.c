/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_revert.c - revert to a snapshot: of one store alone, or of several
 * together.
 *
 * For several, each first gets an intent: a prepared snapshot with a reserved
 * name, whose description is the name of the target snapshot. Its commit
 * reverts and deletes the intent, in one flush: both are in the log, or
 * neither. Its abort deletes it.
 */
#include <errno.h>
#include <string.h>

#include "cow_internal.h"

int cow_revert_apply(struct cow_store *store, const struct cow_revert_payload *payload)
{
	struct cow_version *old = store->active;
	int ret = cow_active_begin(store, cow_version_find(store, payload->target));

	if (!ret)
		cow_version_delete(store, old);
	return ret;
}

/* Not durable yet. */
static int go_back(struct cow_store *store, const struct cow_version *target)
{
	struct cow_revert_payload payload = {
		.target = target->id, .id = store->next_version, .generation = store->generation + 1,
	};
	int ret = cow_event_add(store, store->active, COW_RECORD_REVERT, 1, &payload, sizeof(payload));

	if (!ret)
		ret = cow_revert_apply(store, &payload);
	if (ret)
		store->failed = ret;	/* there may be a record of a change that was not made */
	return ret;
}

/* The disk is unusable before the revert, so a checkpoint that is only due comes after it. */
static int find_target(struct cow_store *store, const char *name, struct cow_version **target, struct error_text *error)
{
	int ret = cow_snapshot_find(store, name, false, target, error);

	return ret || !cow_checkpoint_overdue(store) ? ret : cow_snapshot_room(store, error);
}

int cow_snapshot_revert(struct cow_store *store, const char *name, struct error_text *error)
{
	struct cow_version *target;
	int ret;

	ret = find_target(store, name, &target, error);
	if (!ret)
		ret = cow_version_room(store, error);
	if (!ret)
		ret = cow_snapshot_probe(store, error);
	if (!ret)
		ret = go_back(store, target);
	return ret ? ret : cow_snapshot_flush(store, "reverted to", name, error);
}

static const struct cow_version *intent_of(const struct cow_store *store)
{
	return cow_version_by_name(store, SNAPSHOT_REVERT_INTENT);
}

bool cow_revert_awaits(const struct cow_store *store, const char *name)
{
	const struct cow_version *intent = intent_of(store);

	return intent && !strcmp(intent->description, name);
}

int cow_revert_prepare(struct cow_store *store, const char *name, const char *decision, struct error_text *error)
{
	struct cow_version *target;
	int ret;

	ret = find_target(store, name, &target, error);
	if (ret)
		return ret;
	if (intent_of(store))
		return error_set(error, -EBUSY, "%s: already has a prepared revert", store->device->name);
	ret = cow_version_prepare(store, SNAPSHOT_REVERT_INTENT, name, decision, error);
	if (ret)
		return ret;
	ret = cow_snapshot_made(store, SNAPSHOT_REVERT_INTENT, false, cow_flush(store), NULL);
	return ret ? error_set(error, ret, "%s: the revert to snapshot \"%s\" could not be prepared: %s", store->device->name,
			       name, strerror(-ret)) : 0;
}

int cow_revert_commit(struct cow_store *store, struct cow_version *intent, struct error_text *error)
{
	struct cow_version *target;
	int ret;

	ret = find_target(store, intent->description, &target, error);
	if (!ret)
		ret = cow_version_room(store, error);
	if (!ret)
		ret = go_back(store, target);
	if (ret)
		return ret;
	ret = cow_version_drop(store, intent);
	if (ret)
		return store->failed = ret;	/* the first half alone must never be written */
	return cow_snapshot_flush(store, "reverted to", target->name, error);
}

int cow_revert_show(struct cow_store *store, struct cow_version *intent, struct error_text *error)
{
	struct cow_revert_payload payload = { 0 };
	int ret = cow_snapshot_check_there(store, intent->description, error);

	if (!ret)
		ret = cow_version_room(store, error);
	if (ret)
		return ret;
	payload.target = cow_version_by_name(store, intent->description)->id;
	ret = cow_revert_apply(store, &payload);
	if (ret)
		return error_set(error, ret, "%s: out of memory", store->device->name);
	cow_version_delete(store, intent);
	return 0;
}
