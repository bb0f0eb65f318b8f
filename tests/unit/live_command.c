/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_command.c - the snapshot commands of live_disk.h: create, prepare, decide,
 * read, delete, revert; and growing the disk.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "live_disk.h"

static void taken(struct live_disk *disk, struct live_snapshot *snapshot, enum live_state state, int error)
{
	if (error)
		return;		/* it may be there after the next opening */
	live_image_take(&disk->model, snapshot->from, disk->options.full || disk->faulty, &snapshot->image);
	snapshot->state = state;
}

static void gone_back(struct live_disk *disk, const struct live_snapshot *target)
{
	struct error_text error = { "" };

	live_image_restore(&target->image, &disk->model);
	if (backend_refresh_size(disk->backend, &error))
		live_failed(disk, "%s", error.text);
	if (disk->backend->geometry.sectors != target->image.sectors)
		live_failed(disk, "the disk has the wrong size after it was put back");
}

static void reverter_ended(struct live_disk *disk, const struct live_command *slot, int error)
{
	struct live_intent *intent = &disk->intent;

	if (error)
		return;
	if (slot->command.op == SNAPSHOT_REVERT && slot->command.decision) {
		intent->state = LIVE_PREPARED;
		return;
	}
	if (slot->command.op != SNAPSHOT_ABORT)
		gone_back(disk, slot->snapshot);
	intent->state = LIVE_NONE;
}

static void grown(struct live_disk *disk)
{
	struct error_text error = { "" };

	if (backend_refresh_size(disk->backend, &error))
		live_failed(disk, "%s", error.text);
	if (disk->backend->geometry.sectors != disk->growing)
		live_failed(disk, "the disk has the wrong size after it has grown");
	disk->model.sectors = disk->growing;
	disk->growing = 0;
}

static void command_ended(struct live_disk *disk, struct live_command *slot, int error)
{
	struct live_snapshot *snapshot = slot->snapshot;

	if (slot == &disk->reverter) {
		reverter_ended(disk, slot, error);
		return;
	}
	switch (slot->command.op) {
	case SNAPSHOT_CREATE:
		taken(disk, snapshot, LIVE_THERE, error);
		break;
	case SNAPSHOT_PREPARE:
		if (!error)
			snapshot->state = LIVE_PREPARED;
		break;
	case SNAPSHOT_COMMIT:
		if (error)
			break;
		snapshot->state = LIVE_THERE;
		snapshot->decision[0] = '\0';
		break;
	case SNAPSHOT_ABORT:
	case SNAPSHOT_DELETE:
		if (!error)
			snapshot->state = LIVE_NONE;
		break;
	case SNAPSHOT_RESIZE:
		if (!error)
			grown(disk);
		break;
	case SNAPSHOT_FREEZE:
		disk->frozen = !error;
		disk->frozen_at = disk->model.now;
		break;
	default:
		break;
	}
}

static void command_done(struct snapshot_command *command, int error)
{
	struct live_command *slot = command->owner;
	struct live_disk *disk = slot->disk;

	disk->model.now++;
	if (!slot->busy)
		live_failed(disk, "a command has ended twice");
	slot->busy = false;
	slot->error = error;
	if (error && error != -ECANCELED && error != -ENOSPC)
		live_note_error(disk, command->error.text, error);
	command_ended(disk, slot, error);
	live_watch(disk);
}

void live_command(struct live_disk *disk, struct live_command *slot, enum snapshot_op op, struct live_snapshot *snapshot)
{
	slot->command = (struct snapshot_command){ .op = op, .done = command_done, .owner = slot, .sectors = disk->growing };
	if (snapshot) {
		slot->command.name = snapshot->name;
		slot->command.description = "made while it was running";
		slot->command.decision = snapshot->decision[0] ? snapshot->decision : NULL;
	}
	if (slot == &disk->reverter) {
		slot->command.name = op == SNAPSHOT_REVERT ? snapshot->name : SNAPSHOT_REVERT_INTENT;
		slot->command.decision = disk->intent.state != LIVE_NONE ? disk->intent.decision : NULL;
	}
	slot->disk = disk;
	slot->snapshot = snapshot;
	slot->busy = true;
	disk->model.now++;
	backend_snapshot(disk->backend, &slot->command);
}

struct live_snapshot *live_snapshot_free(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_random(disk, LIVE_NONE);

	if (snapshot) {
		live_image_free(&snapshot->image);
		*snapshot = (struct live_snapshot){ .from = disk->model.now + 1 };
		snprintf(snapshot->name, sizeof(snapshot->name), "s%u", disk->next_name++);
	}
	return snapshot;
}

static void begin_create(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_free(disk);

	if (!snapshot)
		return;
	snapshot->state = LIVE_CREATING;
	live_watch(disk);
	live_command(disk, &disk->maker, SNAPSHOT_CREATE, snapshot);
}

void live_thaw(struct live_disk *disk)
{
	disk->frozen = false;
	live_command(disk, &disk->thawer, SNAPSHOT_THAW, NULL);
}

/* The freeze determines what the snapshot holds; requests in flight are held back until the thaw. */
struct live_snapshot *live_prepare(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_free(disk);

	if (!snapshot) {
		live_thaw(disk);
		return NULL;
	}
	disk->frozen = false;
	live_decision_name(snapshot->decision);
	snapshot->from = disk->frozen_at;
	live_image_take(&disk->model, disk->frozen_at, disk->options.full || disk->faulty, &snapshot->image);
	snapshot->state = LIVE_PREPARING;
	live_watch(disk);
	live_command(disk, &disk->maker, SNAPSHOT_PREPARE, snapshot);
	return snapshot;
}

void live_decide(struct live_disk *disk, struct live_snapshot *snapshot, bool commit)
{
	struct error_text error = { "" };

	if (!commit) {
		snapshot->state = LIVE_DELETING;
		live_command(disk, &disk->remover, SNAPSHOT_ABORT, snapshot);
		return;
	}
	if (cow_decision_commit(snapshot->decision, &error))
		live_failed(disk, "%s", error.text);
	snapshot->state = LIVE_COMMITTING;
	live_command(disk, &disk->remover, SNAPSHOT_COMMIT, snapshot);
}

void live_delete(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_random(disk, LIVE_THERE);

	if (!snapshot || snapshot->backend)
		return;
	snapshot->state = LIVE_DELETING;
	live_command(disk, &disk->remover, SNAPSHOT_DELETE, snapshot);
}

static void open_or_close(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_random(disk, LIVE_THERE);
	struct driver_options options = live_driver_options();
	struct error_text error = { "" };
	char target[80];
	int ret;

	if (snapshot && snapshot->backend && !snapshot->reads) {
		backend_close(snapshot->backend);
		snapshot->backend = NULL;
	} else if (snapshot && !snapshot->backend) {
		options.read_only = true;
		snprintf(target, sizeof(target), "cow:%s@%s", disk->path, snapshot->name);
		ret = backend_open(&snapshot->backend, &disk->crash.engine, target, &options, &error);
		if (ret)
			live_note_error(disk, error.text, ret);
	}
}

/* A freeze may come while a snapshot is being taken, and may be canceled before it has begun. */
static void freeze_random(struct live_disk *disk)
{
	if (disk->frozen && !disk->maker.busy && live_pick(disk, 4))
		live_prepare(disk);
	else if (disk->frozen || disk->freezer.busy)
		live_thaw(disk);
	else if (!disk->maker.busy || disk->maker.command.op == SNAPSHOT_CREATE)
		live_command(disk, &disk->freezer, SNAPSHOT_FREEZE, NULL);
}

void live_command_random(struct live_disk *disk)
{
	struct live_snapshot *prepared = live_snapshot_random(disk, LIVE_PREPARED);
	uint64_t what = live_pick(disk, 8);

	if (!live_pick(disk, 6))
		live_grow(disk);
	if (what < 2) {
		open_or_close(disk);
	} else if (what < 4) {
		if (disk->remover.busy)
			return;
		if (prepared)
			live_decide(disk, prepared, !live_pick(disk, 2));
		else
			live_delete(disk);
	} else if (what < 6 || disk->thawer.busy) {
		if (!disk->frozen && !disk->maker.busy && !disk->freezer.busy)
			begin_create(disk);
	} else {
		freeze_random(disk);
	}
}

/* Not during a discard: if it ends at the end of the disk, the size decides whether it includes the last block. */
void live_grow(struct live_disk *disk)
{
	unsigned i;

	for (i = 0; i < LIVE_REQUESTS; i++) {
		if (disk->request[i].busy && disk->request[i].req.op == BLOCK_DISCARD)
			return;
	}
	if (disk->grower.busy || disk->model.sectors == LIVE_DISK)
		return;
	disk->growing = disk->model.sectors + 1 + live_pick(disk, LIVE_DISK - disk->model.sectors);
	live_command(disk, &disk->grower, SNAPSHOT_RESIZE, NULL);
}

static void reverter_run(struct live_disk *disk, enum snapshot_op op, struct live_snapshot *snapshot,
			 void (*look)(struct live_disk *disk))
{
	uint64_t steps;

	live_command(disk, &disk->reverter, op, snapshot);
	while (look && disk->reverter.busy && !disk->failure[0]) {
		steps = disk->crash.steps;
		live_reap(disk);
		if (disk->crash.steps != steps)
			look(disk);
	}
	live_drain(disk);
}

static void revert_together(struct live_disk *disk, struct live_snapshot *snapshot, void (*look)(struct live_disk *disk))
{
	struct live_intent *intent = &disk->intent;
	struct error_text error = { "" };
	bool commit = live_pick(disk, 3);

	live_decision_name(intent->decision);
	intent->state = LIVE_PREPARING;
	intent->target = snapshot;
	reverter_run(disk, SNAPSHOT_REVERT, snapshot, look);
	if (disk->failure[0] || disk->reverter.error)
		return;
	if (look)
		look(disk);
	if (commit && cow_decision_commit(intent->decision, &error))
		live_failed(disk, "%s", error.text);
	intent->state = commit ? LIVE_COMMITTING : LIVE_DELETING;
	if (look)
		look(disk);
	reverter_run(disk, commit ? SNAPSHOT_COMMIT : SNAPSHOT_ABORT, snapshot, look);
	unlink(intent->decision);
}

void live_revert(struct live_disk *disk, void (*look)(struct live_disk *disk))
{
	struct live_snapshot *snapshot;

	live_drain(disk);
	snapshot = live_snapshot_random(disk, LIVE_THERE);
	if (!snapshot || disk->failure[0])
		return;
	if (live_pick(disk, 2))
		revert_together(disk, snapshot, look);
	else
		reverter_run(disk, SNAPSHOT_REVERT, snapshot, look);
}

