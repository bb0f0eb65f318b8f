/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_group.c - a snapshot of several disks at one instant.
 *
 *   freeze all --> all are frozen --> prepare all --> all are durable --> decide --> commit all
 *       |                                 |                                |
 *       +--- any failure: thaw -----------+--- any failure: abort ---------+
 *
 * Invariants:
 *  1. Nothing is prepared before all disks have acknowledged the freeze, so
 *     there is one instant at which all were frozen, and every snapshot is of
 *     that instant.
 *  2. The decision is made once, when all are prepared and durable, by a file
 *     that is created atomically (cow.h). Before it no snapshot counts, after
 *     it all do; after a crash of any process each disk reads the file.
 *  3. A frozen disk executes no write before it has fixed its snapshot. So the
 *     writer may continue as soon as prepare was sent to every disk.
 *  4. The file stays until every disk knows the decision. A file that decides
 *     for abort may be removed at any time: no file means the same.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_internal.h"
#include "client_many.h"
#include "utf8.h"

#define LEASE_MS 5000
#define GRACE_MS 2000		/* after the lease: a tapdisk reports that it ran out, unless it hangs */
#define UNDO_MS 10000

struct tapctl_group {
	struct many many;
	struct tapctl_snapshot *snapshot;
	char decision[PATH_MAX];
	bool stores_only;		/* only stores have been created so far */
};

static json_t *freeze_request(struct many_disk *disk, void *arg)
{
	const unsigned *lease_ms = arg;

	return json_pack("{s:s, s:i, s:i, s:s*}", "command", "snapshot-freeze", "minor", disk->disk.minor,
			 "lease_ms", (int)*lease_ms, "store", disk->store);
}

static json_t *prepare_request(struct many_disk *disk, void *arg)
{
	const struct tapctl_group *group = arg;
	const char *description = group->snapshot->description;

	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:I}", "command", "snapshot-prepare", "minor", disk->disk.minor,
			 "name", group->snapshot->name, "description", description ? description : "",
			 "decision", group->decision, "token", disk->token);
}

/* Skips disks that were cut off: they undo it themselves. */
static json_t *undo_request(struct many_disk *disk, void *arg)
{
	const struct tapctl_group *group = arg;

	disk->skip = !disk->ctl || !(disk->prepared || disk->frozen);
	if (disk->skip)
		return NULL;
	if (disk->prepared)
		return json_pack("{s:s, s:i, s:s}", "command", "snapshot-abort", "minor", disk->disk.minor,
				 "name", group->snapshot->name);
	return json_pack("{s:s, s:i, s:I}", "command", "snapshot-thaw", "minor", disk->disk.minor, "token", disk->token);
}

/* Ignores errors: the caller reports the failure that led here, and a disk that cannot abort now does so when it is opened. */
static void group_undo(struct tapctl_group *group)
{
	struct error_text ignored = { "" };

	many_call(&group->many, undo_request, group, false, UNDO_MS, &ignored);
	unlink(group->decision);	/* a disk that was cut off may have created it, to abort */
	client_overlay_undo(&group->many, UNDO_MS);
}

static void note_frozen(struct tapctl_group *group)
{
	for (unsigned i = 0; i < group->many.count; i++) {
		struct many_disk *disk = &group->many.disks[i];

		disk->frozen = disk->reply != NULL;
		disk->token = json_integer_value(json_object_get(disk->reply, "token"));
	}
}

/* The tapdisks have one clock: all are processes of this host. One of an earlier version does not say when its disk thawed. */
static void note_prepared(struct tapctl_group *group)
{
	double first_frozen = 0, last_thawed = 0, longest = 0, stall, thawed;

	for (unsigned i = 0; i < group->many.count; i++) {
		struct many_disk *disk = &group->many.disks[i];

		disk->prepared = disk->reply != NULL;
		disk->frozen = false;	/* also after a failure: then the disk thaws itself */
		if (!disk->reply)
			continue;
		stall = json_number_value(json_object_get(disk->reply, "stall_us"));
		thawed = json_number_value(json_object_get(disk->reply, "thawed_us"));
		longest = stall > longest ? stall : longest;
		if (thawed <= 0)
			continue;
		first_frozen = last_thawed <= 0 || thawed - stall < first_frozen ? thawed - stall : first_frozen;
		last_thawed = thawed > last_thawed ? thawed : last_thawed;
	}
	group->snapshot->stall_us = last_thawed - first_frozen > longest ? last_thawed - first_frozen : longest;
}

/* Freeze and prepare all disks. On failure all are thawed, and the snapshot is aborted. */
static int group_prepare(struct tapctl_group *group, struct error_text *text)
{
	const struct tapctl_snapshot *snapshot = group->snapshot;
	unsigned lease_ms = snapshot->lease_ms ? snapshot->lease_ms : LEASE_MS;
	int error;

	error = many_call(&group->many, freeze_request, &lease_ms, true, (int)lease_ms + GRACE_MS, text);
	note_frozen(group);
	if (error)
		goto out;
	client_step("frozen");
	group->many.sent = snapshot->held;
	group->many.sent_arg = snapshot->held_arg;
	error = many_call(&group->many, prepare_request, group, false, snapshot->timeout_ms, text);
	group->many.sent = NULL;
	note_prepared(group);
	if (error)
		goto out;
	client_step("prepared");
	return 0;
out:
	group_undo(group);
	return error;
}

/* The decision is made: tell all disks. */
static int group_commit(struct tapctl_group *group, struct error_text *text)
{
	struct error_text reason = { "" };
	int error = client_decision_tell(&group->many, group->snapshot->name, group->snapshot->timeout_ms, &reason);

	client_step("committed");
	if (!error && unlink(group->decision))
		error = error_set(&reason, -errno, "%s: %s", group->decision, strerror(errno));
	if (error)
		error_set(text, error, "snapshot %s was taken of all disks, but not all of them know yet: %s; that disk learns "
			  "it from %s when it is next opened: keep this file until then", group->snapshot->name, reason.text,
			  group->decision);
	return error;
}

static int group_run(struct tapctl_group *group, struct error_text *text)
{
	struct error_text reason = { "" };
	int error = group_prepare(group, text);

	if (error)
		return error;
	error = client_decision_make(group->decision, &reason);
	if (!error) {
		group->snapshot->taken = true;
		return group_commit(group, text);
	}
	/* when its connection closes each disk reads the record itself */
	if (error == -EINPROGRESS)
		return error_set(text, error, "snapshot %s: %s; each disk will learn the outcome by itself: see "
				 "'tap-ctl snapshot-list'", group->snapshot->name, reason.text);
	group_undo(group);
	return error_set(text, error, "%s", reason.text);
}

static json_t *create_request(struct many_disk *disk, void *arg)
{
	const struct tapctl_snapshot *snapshot = arg;

	return json_pack("{s:s, s:i, s:s, s:s}", "command", "snapshot-create", "minor", disk->disk.minor,
			 "name", snapshot->name, "description", snapshot->description ? snapshot->description : "");
}

/* A single disk needs no decision; the command returns when the snapshot is durable. */
static int create_alone(struct tapctl_group *group, struct error_text *text)
{
	struct tapctl_snapshot *snapshot = group->snapshot;
	int error = many_call(&group->many, create_request, snapshot, false, snapshot->timeout_ms, text);

	snapshot->taken = !error;
	snapshot->stall_us = json_number_value(json_object_get(group->many.disks[0].reply, "stall_us"));
	return error;
}

/* A single disk, without a new store, and no caller that wants held() before the snapshot is durable. */
static bool is_alone(const struct tapctl_group *group)
{
	return group->many.count == 1 && !group->many.disks[0].disk.store && !group->snapshot->held;
}

int tapctl_group_begin(struct tapctl_group **made, const struct tapctl_disk *disks, unsigned count,
		       struct tapctl_snapshot *snapshot, struct error_text *text)
{
	struct tapctl_group *group;
	int error;

	*made = NULL;
	snapshot->stall_us = 0;
	snapshot->taken = false;
	if (!utf8_valid(snapshot->name) || (snapshot->description && !utf8_valid(snapshot->description)))
		return error_set(text, -EINVAL, "the name or the description is not UTF-8");
	group = calloc(1, sizeof(*group));
	if (!group)
		return error_set(text, -ENOMEM, "out of memory");
	group->snapshot = snapshot;
	error = many_open(&group->many, disks, count, text);
	if (!error && !is_alone(group))
		error = client_decision_name(group->decision, snapshot->owner, text);
	if (!error && !is_alone(group))
		error = client_overlay_make(&group->many, snapshot->timeout_ms, text);
	if (!error && !is_alone(group))
		client_step("stores");
	if (error) {
		tapctl_group_end(group);
		return error;
	}
	group->stores_only = !is_alone(group);
	*made = group;
	return 0;
}

int tapctl_group_take(struct tapctl_group *group, struct error_text *text)
{
	group->stores_only = false;
	return is_alone(group) ? create_alone(group, text) : group_run(group, text);
}

void tapctl_group_end(struct tapctl_group *group)
{
	if (!group)
		return;
	if (group->stores_only)
		client_overlay_undo(&group->many, UNDO_MS);
	many_close(&group->many);
	free(group);
}

int tapctl_snapshot_group(const struct tapctl_disk *disks, unsigned count, struct tapctl_snapshot *snapshot,
			  struct error_text *text)
{
	struct tapctl_group *group;
	int error = tapctl_group_begin(&group, disks, count, snapshot, text);

	if (!error)
		error = tapctl_group_take(group, text);
	tapctl_group_end(group);
	return error;
}
