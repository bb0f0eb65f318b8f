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
 *     there is one instant at which they all stood still, and each snapshot is
 *     of that.
 *  2. The decision is made once, when all are prepared and durable, by a file
 *     that gets its name whole or not at all (cow.h). Before it nothing
 *     counts, after it everything does; whoever dies in between, a disk asks
 *     the file.
 *  3. The file stays until every disk has been told. One that decides
 *     against may go at any time: none is the same.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_many.h"
#include "client_private.h"

#define LEASE_MS 5000
#define GRACE_MS 2000		/* a tapdisk says itself that the lease has run out; one that does not by then hangs */
#define UNDO_MS 10000

struct group {
	struct many many;
	struct tapctl_snapshot *snapshot;
	char decision[PATH_MAX];
};

static json_t *freeze_request(struct many_disk *disk, void *arg)
{
	const unsigned *lease_ms = arg;

	return json_pack("{s:s, s:i, s:i, s:s*}", "command", "snapshot-freeze", "minor", disk->disk.minor,
			 "lease_ms", (int)*lease_ms, "store", disk->store);
}

static json_t *prepare_request(struct many_disk *disk, void *arg)
{
	const struct group *group = arg;
	const char *description = group->snapshot->description;

	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:I}", "command", "snapshot-prepare", "minor", disk->disk.minor,
			 "name", group->snapshot->name, "description", description ? description : "",
			 "decision", group->decision, "token", disk->token);
}

static json_t *commit_request(struct many_disk *disk, void *arg)
{
	const struct group *group = arg;

	return json_pack("{s:s, s:i, s:s}", "command", "snapshot-commit", "minor", disk->disk.minor,
			 "name", group->snapshot->name);
}

/* What a disk that has been cut off needs it does by itself. */
static json_t *undo_request(struct many_disk *disk, void *arg)
{
	const struct group *group = arg;

	disk->skip = !disk->ctl || !(disk->prepared || disk->frozen);
	if (disk->skip)
		return NULL;
	if (disk->prepared)
		return json_pack("{s:s, s:i, s:s}", "command", "snapshot-abort", "minor", disk->disk.minor,
				 "name", group->snapshot->name);
	return json_pack("{s:s, s:i, s:I}", "command", "snapshot-thaw", "minor", disk->disk.minor, "token", disk->token);
}

/* The failure that led here is what is told; a disk that cannot be undone now does it at its next opening. */
static void group_undo(struct group *group)
{
	struct error_text ignored = { "" };

	many_call(&group->many, undo_request, group, false, UNDO_MS, &ignored);
	unlink(group->decision);	/* a disk that was cut off may have decided against it */
	client_overlay_undo(&group->many, UNDO_MS);
}

static void note_frozen(struct group *group)
{
	for (unsigned i = 0; i < group->many.count; i++) {
		struct many_disk *disk = &group->many.disks[i];

		disk->frozen = disk->reply != NULL;
		disk->token = json_integer_value(json_object_get(disk->reply, "token"));
	}
}

static void note_prepared(struct group *group)
{
	double stall;

	for (unsigned i = 0; i < group->many.count; i++) {
		struct many_disk *disk = &group->many.disks[i];

		disk->prepared = disk->reply != NULL;
		disk->frozen = false;	/* also when it failed: then it thaws by itself */
		stall = json_number_value(json_object_get(disk->reply, "stall_us"));
		if (stall > group->snapshot->stall_us)
			group->snapshot->stall_us = stall;
	}
}

/* Until all are prepared. On failure all are thawed, and nothing is left of it. */
static int group_prepare(struct group *group, struct error_text *text)
{
	const struct tapctl_snapshot *snapshot = group->snapshot;
	unsigned lease_ms = snapshot->lease_ms ? snapshot->lease_ms : LEASE_MS;
	int error;

	error = many_call(&group->many, freeze_request, &lease_ms, true, (int)lease_ms + GRACE_MS, text);
	note_frozen(group);
	if (error)
		goto out;
	client_step("frozen");
	error = many_call(&group->many, prepare_request, group, false, snapshot->timeout_ms, text);
	note_prepared(group);
	if (error)
		goto out;
	client_step("prepared");
	return 0;
out:
	group_undo(group);
	return error;
}

/* It counts: tell everybody. */
static int group_commit(struct group *group, struct error_text *text)
{
	struct error_text reason = { "" };
	int error = many_call(&group->many, commit_request, group, false, group->snapshot->timeout_ms, &reason);

	client_step("committed");
	if (!error && unlink(group->decision))
		error = error_set(&reason, -errno, "%s: %s", group->decision, strerror(errno));
	if (error)
		error_set(text, error, "snapshot %s is taken of all disks, but not all of them know yet: %s; the next opening of "
			  "that disk reads it from %s, which has to stay until then", group->snapshot->name, reason.text,
			  group->decision);
	return error;
}

static int group_run(struct group *group, struct error_text *text)
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
	/* with the end of the connections each disk asks the record by itself */
	if (error == -EINPROGRESS)
		return error_set(text, error, "snapshot %s: %s; each disk will find out by itself: see 'tap-ctl snapshot-list'",
				 group->snapshot->name, reason.text);
	group_undo(group);
	return error_set(text, error, "%s", reason.text);
}

static json_t *create_request(struct many_disk *disk, void *arg)
{
	const struct tapctl_snapshot *snapshot = arg;

	return json_pack("{s:s, s:i, s:s, s:s}", "command", "snapshot-create", "minor", disk->disk.minor,
			 "name", snapshot->name, "description", snapshot->description ? snapshot->description : "");
}

/* One disk decides for itself. */
static int create_alone(struct group *group, struct error_text *text)
{
	struct tapctl_snapshot *snapshot = group->snapshot;
	int error = many_call(&group->many, create_request, snapshot, false, snapshot->timeout_ms, text);

	snapshot->taken = !error;
	snapshot->stall_us = json_number_value(json_object_get(group->many.disks[0].reply, "stall_us"));
	return error;
}

static bool is_utf8(const char *string)
{
	json_t *value = json_string(string);
	bool valid = value;

	json_decref(value);
	return valid;
}

int tapctl_snapshot_group(const struct tapctl_disk *disks, unsigned count, struct tapctl_snapshot *snapshot,
			  struct error_text *text)
{
	struct group group = { .snapshot = snapshot };
	int error;

	snapshot->stall_us = 0;
	snapshot->taken = false;
	if (!is_utf8(snapshot->name) || (snapshot->description && !is_utf8(snapshot->description)))
		return error_set(text, -EINVAL, "the name or the description is not UTF-8");
	error = many_open(&group.many, disks, count, text);
	if (error)
		goto out;
	if (count == 1 && !disks[0].store) {
		error = create_alone(&group, text);
		goto out;
	}
	error = client_decision_name(group.decision, text);
	if (!error)
		error = client_overlay_make(&group.many, snapshot->timeout_ms, text);
	client_step("stores");
	if (!error)
		error = group_run(&group, text);
out:
	many_close(&group.many);
	return error;
}
