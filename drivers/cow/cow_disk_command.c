/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_command.c - commands of a served store: create, prepare, delete and
 * revert to snapshots; resize; a checkpoint before the close.
 *
 *    FREEZE:  make room ---> no write begins ---> none runs: frozen ---> PREPARE or THAW ---> thawed
 *    CREATE:  all of it in one command
 *
 * Room in the log and an overdue checkpoint come first, so that nothing is
 * written between the freeze and the thaw. A checkpoint that is only due comes
 * after the snapshot: a guest may be stopped for it. The snapshot is made
 * durable after the thaw: whatever is written then comes after it in the log.
 */
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "cow_disk.h"

uint64_t cow_clock_now(void)
{
	return clock_ns();
}

static int make_room(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret = cow_checkpoint_due(disk->store) ? cow_task_checkpoint(disk) : 0;

	cow_exclusive_begin(disk);
	if (!ret)
		ret = cow_checkpoint_if_due(disk->store);
	cow_exclusive_end(disk);
	if (ret)
		error_set(&command->error, ret, "%s: no room in the log: %s", disk->device.name, strerror(-ret));
	return ret;
}

/* For a snapshot. No write uses the log in between: if a checkpoint is due, writes wait for it. */
static int make_room_now(struct cow_disk *disk, struct snapshot_command *command)
{
	const struct cow_store *store = disk->store;
	bool enough;

	cow_exclusive_begin(disk);
	enough = !store->failed && !store->read_only && !cow_checkpoint_behind(store) && !cow_checkpoint_overdue(disk->store);
	disk->want_checkpoint |= enough && cow_checkpoint_due(disk->store);
	cow_exclusive_end(disk);
	return enough ? 0 : make_room(disk, command);
}

static void freeze(struct cow_disk *disk)
{
	disk->stop_time = cow_clock_now();
	disk->frozen = true;
	while (disk->writes && !disk->thaw)
		cow_task_wait(disk);
}

static uint64_t frozen_for(const struct cow_disk *disk)
{
	return cow_clock_now() - disk->stop_time;
}

static uint64_t thaw(struct cow_disk *disk)
{
	uint64_t stall = frozen_for(disk);

	disk->frozen = false;
	cow_disk_kick(disk);
	return stall;
}

static int make_durable(struct cow_disk *disk, struct snapshot_command *command)
{
	const struct cow_version *version;
	int ret;

	cow_flush_lock(disk);
	ret = cow_flush(disk->store);
	cow_flush_unlock(disk);
	version = cow_version_by_name(disk->store, command->name);
	return cow_snapshot_made(disk->store, command->name, version && cow_disk_snapshot_open(disk, version->id), ret,
				 &command->error);
}

/* On a frozen disk; thaws it. */
static int prepare(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret = cow_snapshot_prepare(disk->store, command->name, command->description, command->decision, &command->error);

	command->stall_ns = thaw(disk);
	command->thawed_ns = disk->stop_time + command->stall_ns;
	return ret ? ret : make_durable(disk, command);
}

static int run_create(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret = make_room_now(disk, command);

	if (ret)
		return ret;
	freeze(disk);
	command->decision = NULL;
	return prepare(disk, command);
}

/* Completes the FREEZE when it holds, then waits for the command that ends it. */
static void run_freeze(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret = make_room_now(disk, command);
	struct snapshot_command *end;

	if (ret) {
		end = disk->thaw;
		disk->thaw = NULL;
		disk->freezing = false;
		command->done(command, ret);
		if (end)
			end->done(end, 0);
		return;
	}
	freeze(disk);
	command->stall_ns = frozen_for(disk);
	disk->stands = !disk->thaw;
	command->done(command, disk->stands ? 0 : -ECANCELED);
	while (!disk->thaw)
		cow_task_wait(disk);
	end = disk->thaw;
	disk->thaw = NULL;
	disk->freezing = disk->stands = false;
	if (end->op == SNAPSHOT_PREPARE) {
		ret = prepare(disk, end);
	} else {
		end->stall_ns = thaw(disk);
		ret = 0;
	}
	end->done(end, ret);
}

bool cow_disk_snapshot_open(const struct cow_disk *disk, uint32_t id)
{
	const struct cow_export *export;

	for (export = disk->snapshots; export; export = export->next) {
		if (export->snapshot == id)
			return true;
	}
	return false;
}

static int run_delete(struct cow_disk *disk, struct snapshot_command *command)
{
	const struct cow_version *version = cow_version_by_name(disk->store, command->name);
	int ret;

	if (version && cow_disk_snapshot_open(disk, version->id))
		return error_set(&command->error, -EBUSY, "%s: snapshot \"%s\" is open: close it first", disk->device.name,
				 command->name);
	disk->deleting = version ? version->id : 0;	/* nor can it be opened from here on */
	ret = make_room(disk, command);
	cow_exclusive_begin(disk);
	if (!ret)
		ret = command->op == SNAPSHOT_DELETE ? cow_snapshot_delete(disk->store, command->name, &command->error) :
			cow_snapshot_abort(disk->store, command->name, &command->error);
	disk->deleting = 0;
	cow_exclusive_end(disk);
	disk->want_delete |= !ret;
	return ret;
}

/* Call after a possible revert: the disk may have another size, and a version to delete. */
static void gone_back(struct cow_disk *disk)
{
	if (disk->active)
		disk->active->sectors = disk->store->active->sectors;
	disk->want_delete |= cow_delete_next(disk->store) != NULL;
}

static int run_commit(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret;

	cow_exclusive_begin(disk);
	ret = cow_snapshot_commit(disk->store, command->name, &command->error);
	gone_back(disk);
	cow_exclusive_end(disk);
	return ret;
}

static int run_revert(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret;

	freeze(disk);
	cow_exclusive_begin(disk);
	if (command->decision)
		ret = cow_revert_prepare(disk->store, command->name, command->decision, &command->error);
	else
		ret = cow_snapshot_revert(disk->store, command->name, &command->error);
	gone_back(disk);
	cow_exclusive_end(disk);
	command->stall_ns = thaw(disk);
	return ret;
}

static int run_resize(struct cow_disk *disk, struct snapshot_command *command)
{
	const struct cow_version *active = disk->store->active;
	int ret;

	if (command->sectors < active->sectors)
		return error_set(&command->error, -EINVAL, "%s: has %llu sectors and cannot become smaller while it is open",
				 disk->device.name, (unsigned long long)active->sectors);
	cow_exclusive_begin(disk);
	ret = cow_resize(disk->store, command->sectors, &command->error);
	if (disk->active)
		disk->active->sectors = active->sectors;
	cow_exclusive_end(disk);
	return ret;
}

#define LITTLE 256u		/* map changes: close() writes them as soon as a checkpoint would */

static int run_checkpoint(struct cow_disk *disk)
{
	struct cow_store *store = disk->store;

	cow_alloc_count_others(store);
	return store->others_entries + store->active->layer.count > LITTLE ? cow_task_checkpoint(disk) : 0;
}

static bool is_urgent(const struct cow_disk *disk, const struct snapshot_command *command)
{
	switch (command->op) {
	case SNAPSHOT_FREEZE:
		return true;
	case SNAPSHOT_CREATE:
		return !cow_version_by_name(disk->store, command->name);
	case SNAPSHOT_REVERT:
		return cow_version_by_name(disk->store, command->name);
	case SNAPSHOT_COMMIT:
		return !strcmp(command->name, SNAPSHOT_REVERT_INTENT) && cow_version_by_name(disk->store, command->name);
	default:
		return false;
	}
}

/* Urgent: a snapshot, as a guest may be stopped for it, and a revert, as the disk is unusable before it. Not if it will fail. */
bool cow_command_is_urgent(const struct cow_disk *disk)
{
	return disk->commands && is_urgent(disk, disk->commands) && !cow_checkpoint_overdue(disk->store);
}

void cow_command_run(struct cow_disk *disk, struct snapshot_command *command)
{
	int ret;

	switch (command->op) {
	case SNAPSHOT_FREEZE:
		run_freeze(disk, command);
		return;
	case SNAPSHOT_CREATE:
		ret = run_create(disk, command);
		break;
	case SNAPSHOT_COMMIT:
		ret = run_commit(disk, command);
		break;
	case SNAPSHOT_REVERT:
		ret = run_revert(disk, command);
		break;
	case SNAPSHOT_RESIZE:
		ret = run_resize(disk, command);
		break;
	case SNAPSHOT_CHECKPOINT:
		ret = run_checkpoint(disk);
		break;
	case SNAPSHOT_MERGE_BEGIN:
	case SNAPSHOT_MERGE_STEP:
	case SNAPSHOT_MERGE_SYNC:
	case SNAPSHOT_MERGE_END:
	case SNAPSHOT_MERGE_CANCEL:
		ret = cow_merge_run(disk, command);
		break;
	default:
		ret = run_delete(disk, command);
		break;
	}
	command->done(command, ret);
}

/* A queued FREEZE has done nothing yet, so just cancel it. */
static bool take_back_freeze(struct cow_disk *disk)
{
	struct snapshot_command **link = &disk->commands, *command;

	while (*link && (*link)->op != SNAPSHOT_FREEZE)
		link = &(*link)->next;
	command = *link;
	if (!command)
		return false;
	*link = command->next;
	if (!*link)
		disk->last_command = link;
	disk->freezing = false;
	command->done(command, -ECANCELED);
	return true;
}

static void end_freeze(struct cow_disk *disk, struct snapshot_command *command)
{
	if (command->op == SNAPSHOT_THAW && disk->freezing && take_back_freeze(disk)) {
		command->done(command, 0);
	} else if (disk->freezing && !disk->thaw && (command->op == SNAPSHOT_THAW || disk->stands)) {
		disk->thaw = command;
		cow_task_wake(disk);
	} else {
		error_set(&command->error, -EINVAL, "%s: not frozen", disk->device.name);
		command->done(command, -EINVAL);
	}
}

void cow_commands_fail(struct cow_disk *disk, int error)
{
	struct snapshot_command *command;

	while ((command = disk->commands)) {
		disk->commands = command->next;
		if (!disk->commands)
			disk->last_command = &disk->commands;
		disk->freezing &= command->op != SNAPSHOT_FREEZE;
		error_set(&command->error, error, "%s: %s", disk->device.name, strerror(-error));
		command->done(command, error);
	}
}

void cow_command_start(struct cow_disk *disk, struct snapshot_command *command)
{
	if (command->op == SNAPSHOT_THAW || command->op == SNAPSHOT_PREPARE) {
		end_freeze(disk, command);
		return;
	}
	if (command->op == SNAPSHOT_FREEZE && disk->freezing) {
		error_set(&command->error, -EBUSY, "%s: already frozen", disk->device.name);
		command->done(command, -EBUSY);
		return;
	}
	if (disk->merge && (command->op == SNAPSHOT_CREATE || command->op == SNAPSHOT_FREEZE ||
			    command->op == SNAPSHOT_REVERT || command->op == SNAPSHOT_RESIZE)) {
		error_set(&command->error, -EBUSY, "%s: is being committed to its base", disk->device.name);
		command->done(command, -EBUSY);
		return;
	}
	disk->freezing |= command->op == SNAPSHOT_FREEZE;
	command->next = NULL;
	*disk->last_command = command;
	disk->last_command = &command->next;
	cow_task_wake(disk);
}
