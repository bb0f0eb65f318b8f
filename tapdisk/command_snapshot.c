/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_snapshot.c - commands for a disk's snapshots. When the coordinator of
 * a group disconnects, its freezes end, and its prepared snapshots are settled
 * by the group's decision record, as at an open.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands_internal.h"
#include "cow_base.h"
#include "hex.h"
#include "log.h"

#define SETTLE_AGAIN_MS 1000

/* A command, until its reply. The request owns the strings of the command. */
struct snapshot_call {
	struct vbd_snapshot snapshot;
	struct control_request *request;
	struct prepared *prepared;	/* with a decision: the entry to add to the list on success */
};

/* A COMMIT or ABORT without a control request. */
struct settlement {
	struct vbd_snapshot snapshot;
	struct commands *commands;
	struct prepared *prepared;
};

static void settle_again(void *arg)
{
	struct commands *commands = arg;

	commands->settle_timer = NULL;
	command_release_snapshots(commands, NULL);
}

/* Back into the list, until there is room or the image is closed. False: no memory. */
static bool settle_later(struct commands *commands, struct prepared *prepared)
{
	if (!commands->settle_timer &&
	    loop_add_timer(commands->loop, &commands->settle_timer, SETTLE_AGAIN_MS, settle_again, commands))
		return false;
	prepared->connection = NULL;
	prepared->waits = true;
	prepared->next = commands->prepared;
	commands->prepared = prepared;
	return true;
}

static void settle_done(struct vbd_snapshot *snapshot, int error)
{
	struct settlement *settlement = snapshot->owner;
	struct prepared *prepared = settlement->prepared;
	bool commit = snapshot->command.op == SNAPSHOT_COMMIT, waited = prepared->waits, waits = false;
	char what[SNAPSHOT_TEXT_MAX + 16] = "the revert";

	if (error == -ENOENT && waited)		/* the earlier attempt could only not make it durable at once */
		error = 0;
	if (strcmp(prepared->name, SNAPSHOT_REVERT_INTENT))
		snprintf(what, sizeof(what), "snapshot %s", prepared->name);
	if (error == -ENOSPC || error == -EDQUOT)
		waits = settle_later(settlement->commands, prepared);
	if (error && !(waits && waited))
		log_warning("minor %d: %s could not be %s (%s); %s will do it", snapshot->vbd->minor, what,
			    commit ? "committed" : "aborted", snapshot->command.error.text,
			    waits ? "the next attempt that finds room" : "the next open");
	else if (!error)
		log_info("minor %d: %s of a group was %s after its coordinator disconnected", snapshot->vbd->minor, what,
			 commit ? "committed" : "aborted");
	if (!waits)
		free(prepared);
	free(settlement);
}

/*
 * Takes over @prepared. Reads or makes the decision with blocking calls: once after a
 * coordinator has died, for a file of seven bytes; and once more for each attempt without room.
 */
static void settle(struct commands *commands, struct vbd *vbd, struct prepared *prepared)
{
	struct error_text text = { "" };
	struct settlement *settlement;
	int decided = cow_decision_abort(prepared->decision, &text);

	settlement = decided < 0 ? NULL : calloc(1, sizeof(*settlement));
	if (!settlement) {
		log_warning("minor %d: snapshot %s stays undecided until the next open: %s", prepared->minor,
			    prepared->name, decided < 0 ? text.text : strerror(ENOMEM));
		free(prepared);
		return;
	}
	settlement->commands = commands;
	settlement->prepared = prepared;
	settlement->snapshot.command.op = decided ? SNAPSHOT_COMMIT : SNAPSHOT_ABORT;
	settlement->snapshot.command.name = prepared->name;
	settlement->snapshot.done = settle_done;
	settlement->snapshot.owner = settlement;
	vbd_snapshot(vbd, &settlement->snapshot);
}

static void forget(struct prepared **place)
{
	struct prepared *prepared = *place;

	*place = prepared->next;
	free(prepared);
}

void command_forget_prepared(struct commands *commands, int minor)
{
	struct prepared **place = &commands->prepared;

	while (*place) {
		if ((*place)->minor == minor)
			forget(place);
		else
			place = &(*place)->next;
	}
}

void command_release_snapshots(struct commands *commands, const struct control_connection *connection)
{
	struct prepared **place = &commands->prepared, *ended = NULL, *prepared;
	struct disk *disk;

	for (disk = commands->disks; disk; disk = disk->next)
		vbd_release_freeze(disk->vbd, connection);
	while ((prepared = *place)) {
		if (prepared->connection != connection) {
			place = &prepared->next;
			continue;
		}
		*place = prepared->next;
		prepared->next = ended;
		ended = prepared;
	}
	/* only now: what finds no room again is put back into the list */
	while ((prepared = ended)) {
		ended = prepared->next;
		settle(commands, command_find_disk(commands, prepared->minor)->vbd, prepared);
	}
}

/* PREPARE is done: remember it, or settle it if its coordinator has disconnected. */
static void keep_prepared(struct commands *commands, struct snapshot_call *call)
{
	struct prepared *prepared = call->prepared;

	call->prepared = NULL;
	prepared->connection = call->request->connection;
	prepared->next = commands->prepared;
	commands->prepared = prepared;
	if (!prepared->connection)
		command_release_snapshots(commands, NULL);
}

static void forget_settled(struct commands *commands, int minor, const char *name)
{
	struct prepared **place = &commands->prepared;

	while (*place) {
		if ((*place)->minor == minor && !strcmp((*place)->name, name))
			forget(place);
		else
			place = &(*place)->next;
	}
}

static json_t *command_size(const struct vbd *vbd)
{
	return json_pack("{s:I}", "sectors", (json_int_t)vbd->geometry.sectors);
}

static json_t *call_reply(const struct vbd_snapshot *snapshot)
{
	double stall_us = (double)snapshot->command.stall_ns / 1000.0;

	switch (snapshot->command.op) {
	case SNAPSHOT_FREEZE:
		return json_pack("{s:I, s:f}", "token", (json_int_t)snapshot->token, "stall_us", stall_us);
	case SNAPSHOT_CREATE:
		return json_pack("{s:f}", "stall_us", stall_us);
	case SNAPSHOT_PREPARE:
		return json_pack("{s:f, s:f}", "stall_us", stall_us, "thawed_us", (double)snapshot->command.thawed_ns / 1000.0);
	case SNAPSHOT_REVERT:
		return json_pack("{s:o}", "disk", vbd_info(snapshot->vbd));
	case SNAPSHOT_RESIZE:
		return command_size(snapshot->vbd);
	default:
		return NULL;
	}
}

static void call_done(struct vbd_snapshot *snapshot, int error)
{
	struct snapshot_call *call = snapshot->owner;
	struct control_request *request = call->request;
	const struct snapshot_command *command = &snapshot->command;

	if (!error && command->decision)
		keep_prepared(request->arg, call);
	if (!error && (command->op == SNAPSHOT_COMMIT || command->op == SNAPSHOT_ABORT))
		forget_settled(request->arg, snapshot->vbd->minor, command->name);
	if (error)
		error_set(&request->error, error, "%s", command->error.text[0] ? command->error.text : strerror(-error));
	control_reply(request, error, error ? NULL : call_reply(snapshot));
	free(call->prepared);
	free(call);
}

static int read_name(const json_t *message, struct snapshot_command *command, struct error_text *error)
{
	if (argument_require(message, "name", error))
		return -EINVAL;
	return argument_line(message, "name", SNAPSHOT_TEXT_MAX, &command->name, error);
}

static int read_token(const json_t *message, uint64_t *token, struct error_text *error)
{
	int64_t number = 0;

	if (argument_require(message, "token", error) ||
	    argument_integer(message, "token", 0, INT64_MAX, &number, error))
		return -EINVAL;
	*token = (uint64_t)number;
	return 0;
}

static int read_decision(const json_t *message, struct snapshot_command *command, struct error_text *error)
{
	if (argument_require(message, "decision", error) ||
	    argument_line(message, "decision", SNAPSHOT_TEXT_MAX, &command->decision, error))
		return -EINVAL;
	if (!cow_decision_valid(command->decision))
		return error_set(error, -EINVAL, "'decision' must name a record in the directory of decisions");
	return 0;
}

/* Only a revert of several disks together has a decision. */
static int read_revert(const json_t *message, struct snapshot_command *command, struct error_text *error)
{
	if (json_object_get(message, "decision") && read_decision(message, command, error))
		return -EINVAL;
	return read_name(message, command, error);
}

static int read_lease(const json_t *message, unsigned *lease_ms, struct error_text *error)
{
	int64_t number = 0;

	if (argument_require(message, "lease_ms", error) ||
	    argument_integer(message, "lease_ms", 1, LEASE_MAX_MS, &number, error))
		return -EINVAL;
	*lease_ms = (unsigned)number;
	return 0;
}

static int read_sectors(const json_t *message, uint64_t *sectors, struct error_text *error)
{
	int64_t number = 0;

	if (argument_integer(message, "sectors", 1, INT64_MAX >> SECTOR_SHIFT, &number, error))
		return -EINVAL;
	*sectors = (uint64_t)number;
	return 0;
}

/* The store that takes over a raw disk. */
static int read_store(const json_t *message, const char **store, struct error_text *error)
{
	if (argument_line(message, "store", PATH_MAX - 1, store, error))
		return -EINVAL;
	if (*store && **store != '/')
		return error_set(error, -EINVAL, "'store' must be an absolute path");
	return 0;
}

static int read_arguments(const json_t *message, struct vbd_snapshot *snapshot, struct error_text *error)
{
	struct snapshot_command *command = &snapshot->command;

	switch (command->op) {
	case SNAPSHOT_FREEZE:
		if (read_store(message, &snapshot->store, error))
			return -EINVAL;
		return read_lease(message, &snapshot->lease_ms, error);
	case SNAPSHOT_THAW:
		return read_token(message, &snapshot->token, error);
	case SNAPSHOT_REVERT:
		return read_revert(message, command, error);
	case SNAPSHOT_RESIZE:
		return read_sectors(message, &command->sectors, error);
	case SNAPSHOT_PREPARE:
		if (read_token(message, &snapshot->token, error) || read_decision(message, command, error))
			return -EINVAL;
		/* fall through */
	case SNAPSHOT_CREATE:
		if (argument_line(message, "description", SNAPSHOT_DESCRIPTION_MAX, &command->description, error))
			return -EINVAL;
		/* fall through */
	default:
		return read_name(message, command, error);
	}
}

static int prepare_entry(struct snapshot_call *call)
{
	const struct snapshot_command *command = &call->snapshot.command;

	call->prepared = calloc(1, sizeof(*call->prepared));
	if (!call->prepared)
		return -ENOMEM;
	call->prepared->minor = call->snapshot.vbd->minor;
	/* read_arguments() has checked their lengths */
	strcpy(call->prepared->name, command->op == SNAPSHOT_REVERT ? SNAPSHOT_REVERT_INTENT : command->name);
	strcpy(call->prepared->decision, command->decision);
	return 0;
}

static void run(struct disk *disk, struct control_request *request, enum snapshot_op op)
{
	struct snapshot_call *call = calloc(1, sizeof(*call));
	int error = call ? 0 : -ENOMEM;

	if (!error) {
		call->request = request;
		call->snapshot.command.op = op;
		call->snapshot.vbd = disk->vbd;
		call->snapshot.holder = request->connection;
		call->snapshot.done = call_done;
		call->snapshot.owner = call;
		error = read_arguments(request->message, &call->snapshot, &request->error);
	}
	if (!error && call->snapshot.command.decision)
		error = prepare_entry(call);
	if (!error) {
		vbd_snapshot(disk->vbd, &call->snapshot);
		if (op == SNAPSHOT_PREPARE)
			sched_yield();		/* this disk has thawed, the group's others may wait for the processor */
		return;
	}
	free(call);
	control_reply(request, error, NULL);
}

#define SNAPSHOT_COMMAND(name, op) \
	void command_snapshot_##name(struct commands *commands, struct disk *disk, struct control_request *request) \
	{ \
		run(disk, request, op); \
	}

SNAPSHOT_COMMAND(freeze, SNAPSHOT_FREEZE)
SNAPSHOT_COMMAND(thaw, SNAPSHOT_THAW)
SNAPSHOT_COMMAND(create, SNAPSHOT_CREATE)
SNAPSHOT_COMMAND(prepare, SNAPSHOT_PREPARE)
SNAPSHOT_COMMAND(commit, SNAPSHOT_COMMIT)
SNAPSHOT_COMMAND(abort, SNAPSHOT_ABORT)
SNAPSHOT_COMMAND(delete, SNAPSHOT_DELETE)
SNAPSHOT_COMMAND(revert, SNAPSHOT_REVERT)

void command_resize(struct commands *commands, struct disk *disk, struct control_request *request)
{
	const struct vbd *vbd = disk->vbd;
	int error;

	if (json_object_get(request->message, "sectors")) {
		if (!vbd->backend || vbd->backend->ops->snapshot) {
			run(disk, request, SNAPSHOT_RESIZE);
			return;
		}
		error = error_set(&request->error, -EOPNOTSUPP, "%s: its size is that of the image: enlarge the image "
				  "first, then resize without a size", vbd->target);
	} else if (vbd->state == VBD_RUNNING && command_probe(commands, request, vbd->target, NULL)) {
		return;
	} else {
		error = vbd_resize(disk->vbd, &request->error);
	}
	control_reply(request, error, error ? NULL : command_size(vbd));
}

struct listing {
	const char *name;		/* NULL: all */
	json_t *list;
};

static int list_one(void *owner, const struct snapshot_info *info)
{
	const struct listing *listing = owner;
	json_t *one;

	if (listing->name && strcmp(listing->name, info->name))
		return 0;
	one = json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:b, s:b}", "id", (json_int_t)info->id,
			"parent", (json_int_t)info->parent, "name", info->name, "description", info->description,
			"time", (json_int_t)info->time, "sectors", (json_int_t)info->sectors,
			"current", info->current, "open", info->open);
	return one && !json_array_append_new(listing->list, one) ? 0 : -ENOMEM;
}

/* Includes the path and the UUID, which a store based on one of the snapshots records. */
static json_t *list_reply(const struct backend *backend, json_t *list)
{
	json_t *reply = json_pack("{s:O}", "snapshots", list);
	uint8_t uuid[16];
	char text[2 * sizeof(uuid) + 1], *path;
	const char *name;

	if (!reply || !cow_backend_uuid(backend, uuid))
		return reply;
	hex_print(text, uuid, sizeof(uuid));
	path = cow_target_split(backend->path, &name);
	json_object_set_new(reply, "store", json_string(path ? path : ""));
	json_object_set_new(reply, "uuid", json_string(text));
	free(path);
	return reply;
}

void command_snapshot_list(struct commands *commands, struct disk *disk, struct control_request *request)
{
	const struct vbd *vbd = disk->vbd;
	struct listing listing = { .list = json_array() };
	int error = argument_string(request->message, "name", &listing.name, &request->error);

	if (!error && !vbd->backend)
		error = error_set(&request->error, vbd->state == VBD_PAUSED ? -EBUSY : -EINVAL, "minor %d has no image open",
				  vbd->minor);
	else if (!error && !vbd->backend->ops->snapshot_list)
		error = error_set(&request->error, -EOPNOTSUPP, "%s: disks of this type have no snapshots", vbd->target);
	else if (!error)
		error = backend_snapshot_list(vbd->backend, list_one, &listing);
	control_reply(request, error, error ? NULL : list_reply(vbd->backend, listing.list));
	json_decref(listing.list);
}
