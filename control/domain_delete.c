/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_delete.c - deletes a snapshot: its information first, then the
 * disks' snapshots, then the memory. Recovery finishes a delete.
 *
 * On a full file system, where a delete is needed most, an intent file cannot
 * be written. The snapshot's information file, renamed, is the intent then: it
 * has all that recovery needs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "domain.h"

struct removal {
	struct domain_operation *operation;
	struct domain_directory directory;
	json_t *infos;			/* of all snapshots */
	bool damaged;			/* the requested one's information: only its name is known */
};

/* If its information is damaged, the disks' snapshots are unknown; with --keep-disks the rest can be deleted. */
static int find(struct removal *removal, const char *name)
{
	struct domain_operation *operation = removal->operation;
	struct error_text reason = { "" };
	json_t *info;
	int error = info_read(&removal->directory, name, &info, &reason);

	if (!error) {
		json_decref(info);
		return 0;
	}
	removal->damaged = error == -EBADMSG && operation->request->keep_disks;
	if (!removal->damaged)
		return error_set(&operation->text, error, "%s", reason.text);
	json_array_append_new(removal->infos, json_pack("{s:s, s:[]}", "name", name, "disks"));
	return 0;
}

/* Append @name's descendants, then @name itself, to @order: information in the order of deletion. */
static int collect(struct removal *removal, const char *name, json_t *order, unsigned depth)
{
	const json_t *info;
	size_t i;
	int error = depth > json_array_size(removal->infos) ?
		    error_set(&removal->operation->text, -ELOOP, "snapshot \"%s\" is its own ancestor", name) : 0;

	json_array_foreach(removal->infos, i, info) {
		const char *parent = info_string(info, "parent");

		if (!error && removal->operation->request->children && parent && !strcmp(parent, name))
			error = collect(removal, info_string(info, "name"), order, depth + 1);
	}
	if (!error)
		json_array_append(order, (json_t *)info_find(removal->infos, name));
	return error;
}

/* Compares the store, and the snapshot's id and time. A store that cannot be read counts as equal. */
static bool is_snapshot(const struct cow_base_fields *base, const json_t *disk, const char *name)
{
	const struct snapshot_info snapshot = {
		.id = (uint32_t)json_integer_value(json_object_get(disk, "id")),
		.time = (uint64_t)json_integer_value(json_object_get(disk, "time")), .name = name,
	};
	struct cow_base_fields fields;

	if (base->version != snapshot.id || base->time != snapshot.time)
		return false;
	return cow_base_describe_peek(&fields, info_string(disk, "path"), &snapshot, NULL) ||
	       !memcmp(base->uuid, fields.uuid, sizeof(fields.uuid));
}

/* Is @file still a store based on this snapshot? False: it is missing, or has another base. A file that cannot be read counts. */
static bool is_based_on(const char *file, const json_t *info)
{
	struct cow_base_fields base;
	enum cow_base_kind kind;
	const json_t *disk;
	size_t i;
	int error = cow_base_probe_peek(file, NULL, &kind, &base, NULL);

	if (error)
		return error != -ENOENT && error != -ENOTDIR;
	json_array_foreach(json_object_get(info, "disks"), i, disk) {
		if (kind == COW_BASE_COW && is_snapshot(&base, disk, info_string(info, "name")))
			return true;
	}
	return false;
}

static int check_clones(struct removal *removal, const json_t *info)
{
	const json_t *file;
	size_t i;

	json_array_foreach(json_object_get(info, "clones"), i, file) {
		if (is_based_on(json_string_value(file), info))
			return error_set(&removal->operation->text, -EBUSY, "snapshot \"%s\": the clone's disk %s is based on "
					 "it; delete that first, or rebase it with tap-img", info_string(info, "name"),
					 json_string_value(file));
	}
	return 0;
}

/* Check before changing anything: a missing disk, or an open snapshot, would keep the delete from finishing. */
static int check_disks(struct removal *removal, const json_t *info)
{
	struct error_text *text = &removal->operation->text, reason = { "" };
	struct domain_disks disks = { 0 };
	int error;

	if (removal->operation->request->keep_disks)
		return 0;
	error = check_clones(removal, info);
	if (error)
		return error;
	error = disks_from_info(&disks, info, &reason);
	if (!error)
		error = disks_open(&disks, &reason);
	if (!error)
		error = disks_check_closed(&disks, info_string(info, "name"), &reason);
	disks_close(&disks);
	disks_free(&disks);
	return error ? error_set(text, error, "%.380s; --keep-disks deletes the rest of the snapshot", reason.text) : 0;
}

/* *@intent, which the caller has made; where it cannot be written for lack of space, @info takes its place. */
static int write_intent(struct removal *removal, json_t **intent, json_t *info)
{
	struct domain_operation *operation = removal->operation;
	int error = directory_write(&removal->directory, INTENT_FILE, *intent, &operation->text);
	char file[NAME_MAX + 1];

	if ((error != -ENOSPC && error != -EDQUOT) || operation->request->keep_disks)
		return error;
	info_file(file, info_string(info, "name"));
	if (directory_rename(&removal->directory, file, INTENT_FILE, NULL))
		return error;
	operation->text.text[0] = '\0';
	json_decref(*intent);
	*intent = json_incref(info);
	return 0;
}

static int remove_one(struct removal *removal, const json_t *listed)
{
	struct domain_operation *operation = removal->operation;
	const struct domain_id *id = &operation->id;
	struct error_text reason = { "" };
	json_t *info, *intent;
	int error;

	/* read it again: its parent may have changed */
	error = info_read(&removal->directory, info_string(listed, "name"), &info, &reason);
	if (error == -EBADMSG)
		info = json_incref((json_t *)listed);
	else if (error)
		return error_set(&operation->text, error, "%s", reason.text);
	intent = json_pack("{s:s, s:{s:s, s:s}, s:b, s:O}", "op", "delete", "domain", "name", id->name, "uuid", id->uuid,
			   "keep_disks", operation->request->keep_disks, "info", info);
	error = write_intent(removal, &intent, info);
	if (!error) {
		domain_did(operation, "intent");
		error = domain_finish_delete(operation, &removal->directory, intent);
	}
	if (!error)
		json_array_append(operation->infos, info);
	json_decref(intent);
	json_decref(info);
	return error;
}

static int remove_all(struct removal *removal, const json_t *order)
{
	const json_t *info;
	int error = 0;
	size_t i;

	json_array_foreach(order, i, info) {
		if (!error)
			error = check_disks(removal, info);
	}
	json_array_foreach(order, i, info) {
		if (!error && atomic_load(&removal->operation->canceled))
			error = error_set(&removal->operation->text, -ECANCELED, "canceled; %zu of %zu are deleted", i,
					  json_array_size(order));
		if (!error)
			error = remove_one(removal, info);
	}
	return error;
}

int domain_delete(struct domain_operation *operation)
{
	struct removal removal = { .operation = operation, .directory = { .fd = -1, .lock = -1 } };
	json_t *order = json_array();
	char *name = NULL;
	int error = domain_locate_and_begin(operation, &removal.directory);

	if (!error)
		error = info_read_all(&removal.directory, &removal.infos, NULL, &operation->text);
	if (!error)
		error = info_choose_name(operation, &removal.directory, &name);
	if (!error)
		error = find(&removal, name);
	if (!error)
		error = collect(&removal, name, order, 0);
	if (!error)
		error = remove_all(&removal, order);
	if (!error)
		domain_remove_directory(&removal.directory, true);
	if (!error && removal.damaged)
		error_set(&operation->text, 0, "its disks are not known: delete their snapshots of that name with tap-ctl "
			  "snapshot-delete or tap-img snapshot -d");
	directory_close(&removal.directory);
	json_decref(removal.infos);
	json_decref(order);
	free(name);
	return error;
}
