/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_info.c - information files, one for each snapshot, and the domain's
 * current snapshot. docs/domain-snapshots.md describes their fields.
 *
 * Invariant: a name is checked before it becomes part of a file's name.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"

#define PREFIX "snapshotdata-"
#define SUFFIX ".xl"

/* A name must be valid in a store, and not too long for a file name. */
bool info_name_valid(const char *name)
{
	const char *c;

	for (c = name; *c; c++) {
		if (*c <= ' ' || *c > '~' || strchr("@/\\\"'", *c))
			return false;
	}
	return c != name && *name != '-' && c - name <= SNAPSHOT_NAME_MAX;
}

void info_file(char *file, const char *name)
{
	snprintf(file, NAME_MAX + 1, PREFIX "%s" SUFFIX, name);
}

void info_save_file(char *file, const char *name, bool partial)
{
	snprintf(file, NAME_MAX + 1, "%s.save%s", name, partial ? ".part" : "");
}

const char *info_string(const json_t *info, const char *key)
{
	return json_string_value(json_object_get(info, key));
}

bool info_may_have(const json_t *info, const char *key, json_type type)
{
	const json_t *value = json_object_get(info, key);

	return !value || json_is_null(value) || json_typeof(value) == type;
}

/* Check all members that are used later, so that their users need not. */
static bool is_complete(const json_t *info, const char *name)
{
	const json_t *disk;
	size_t i;

	if (!info_string(info, "name") || strcmp(info_string(info, "name"), name) ||
	    !json_is_integer(json_object_get(info, "creationtime")) || !json_is_object(json_object_get(info, "config")) ||
	    !json_is_array(json_object_get(info, "disks")) || !info_may_have(info, "save", JSON_STRING) ||
	    !info_may_have(info, "parent", JSON_STRING) || !info_may_have(info, "hook", JSON_STRING) ||
	    !info_may_have(info, "config_file", JSON_STRING))
		return false;
	json_array_foreach(json_object_get(info, "disks"), i, disk) {
		if (!info_string(disk, "vdev") || !info_string(disk, "target") || !info_string(disk, "path") ||
		    !info_string(disk, "format") || !info_may_have(disk, "id", JSON_INTEGER) ||
		    !info_may_have(disk, "time", JSON_INTEGER))
			return false;
	}
	return true;
}

int info_read(const struct domain_directory *directory, const char *name, json_t **info, struct error_text *text)
{
	struct error_text reason = { "" };
	char file[NAME_MAX + 1];
	int error;

	*info = NULL;
	if (!info_name_valid(name))
		return error_set(text, -EINVAL, "\"%.64s\": not a snapshot name: use 1 to %d letters, digits and punctuation "
				 "marks, no spaces, none of @ / \\ or quotes, and no leading -", name, SNAPSHOT_NAME_MAX);
	info_file(file, name);
	error = directory_read(directory, file, info, &reason);
	if (error == -ENOENT)
		return error_set(text, error, "there is no snapshot called \"%s\"", name);
	if (!error && !is_complete(*info, name))
		error = error_set(&reason, -EBADMSG, "%s/%s: damaged: required fields are missing", directory->path, file);
	if (!error)
		return 0;
	json_decref(*info);
	*info = NULL;
	return error_set(text, error, "%.400s%s", reason.text, error == -EBADMSG ? "; delete --keep-disks removes it" : "");
}

static json_int_t created(const json_t *info)
{
	return json_integer_value(json_object_get(info, "creationtime"));
}

/* Sorted by time, then by name, so that the order is deterministic. */
static int insert(json_t *infos, json_t *info)
{
	size_t i;

	for (i = json_array_size(infos); i > 0; i--) {
		const json_t *before = json_array_get(infos, i - 1);

		if (created(before) < created(info) ||
		    (created(before) == created(info) && strcmp(info_string(before, "name"), info_string(info, "name")) < 0))
			break;
	}
	return json_array_insert_new(infos, i, info) ? -ENOMEM : 0;
}

/* The snapshot's name from a file's name; false: not an information file. */
static bool name_of_file(const char *file, char *name)
{
	size_t length = strlen(file);

	if (length <= strlen(PREFIX SUFFIX) || length > NAME_MAX || strncmp(file, PREFIX, strlen(PREFIX)) ||
	    strcmp(file + length - strlen(SUFFIX), SUFFIX))
		return false;
	snprintf(name, NAME_MAX + 1, "%.*s", (int)(length - strlen(PREFIX SUFFIX)), file + strlen(PREFIX));
	return info_name_valid(name);
}

int info_read_all(const struct domain_directory *directory, json_t **infos, struct error_text *damaged, struct error_text *text)
{
	struct error_text reason;
	char name[NAME_MAX + 1];
	struct dirent *entry;
	json_t *info;
	DIR *dir;
	int error = directory_entries(directory, &dir, text);

	*infos = json_array();
	while (!error && (entry = readdir(dir))) {
		if (!name_of_file(entry->d_name, name))
			continue;
		reason.text[0] = '\0';
		error = info_read(directory, name, &info, &reason);
		if (!error)
			error = insert(*infos, info);
		else if (error == -EBADMSG)
			error_set(damaged, error, "%s", reason.text);
		else if (error != -ENOENT)
			error_set(text, error, "%s", reason.text);
		if (error == -ENOENT || error == -EBADMSG)	/* deleted meanwhile; or damaged: still list the others */
			error = 0;
	}
	if (dir)
		closedir(dir);
	if (error) {
		json_decref(*infos);
		*infos = NULL;
	}
	return error;
}

const json_t *info_find(const json_t *infos, const char *name)
{
	const json_t *info;
	size_t i;

	json_array_foreach(infos, i, info) {
		if (name && !strcmp(info_string(info, "name"), name))
			return info;
	}
	return NULL;
}

static int read_state(const struct domain_directory *directory, json_t **state, struct error_text *text)
{
	int error = directory_read(directory, STATE_FILE, state, text);

	if (error || (info_string(*state, "name") && info_may_have(*state, "current", JSON_STRING)))
		return error;
	json_decref(*state);
	*state = NULL;
	return error_set(text, -EBADMSG, "%s/" STATE_FILE ": damaged: required fields are missing", directory->path);
}

char *info_current(const struct domain_directory *directory, struct error_text *damaged)
{
	struct error_text reason = { "" };
	const char *name;
	json_t *state;
	char *current = NULL;
	int error = read_state(directory, &state, &reason);

	if (error && error != -ENOENT)
		error_set(damaged, error, "%.300s; which snapshot the domain is at is not known until the next create or revert",
			  reason.text);
	name = info_string(state, "current");
	if (name)
		current = strdup(name);
	json_decref(state);
	return current;
}

/* Every snapshot's information has it, too: the newest one's is taken if there is no usable state file. */
char *info_domain_name(const struct domain_directory *directory)
{
	json_t *state, *infos = NULL;
	const char *name;
	char *copy;

	if (!read_state(directory, &state, NULL)) {
		name = info_string(state, "name");
	} else {
		info_read_all(directory, &infos, NULL, NULL);
		name = info_string(json_object_get(json_array_get(infos, json_array_size(infos) - 1), "domain"), "name");
	}
	copy = name ? strdup(name) : NULL;
	json_decref(state);
	json_decref(infos);
	return copy;
}

int info_choose_name(struct domain_operation *operation, const struct domain_directory *directory, char **name)
{
	const char *wanted = operation->request->name;
	struct error_text damaged = { "" };

	*name = wanted ? strdup(wanted) : info_current(directory, &damaged);
	if (*name)
		return 0;
	if (damaged.text[0])
		return error_set(&operation->text, -EBADMSG, "%.400s; name one with -n", damaged.text);
	return error_set(&operation->text, -ENOENT, "domain %s has no current snapshot; name one with -n", operation->id.name);
}

int info_find_named(struct domain_operation *operation, const struct domain_directory *directory, json_t **info)
{
	char *name;
	int error = info_choose_name(operation, directory, &name);

	if (!error)
		error = info_read(directory, name, info, &operation->text);
	free(name);
	return error;
}

int info_set_current(const struct domain_directory *directory, const struct domain_id *id, const char *name,
		     struct error_text *text)
{
	json_t *state = json_pack("{s:s, s:s, s:s?}", "name", id->name, "uuid", id->uuid, "current", name);
	int error = directory_write(directory, STATE_FILE, state, text);

	json_decref(state);
	return error;
}

static unsigned count_disks(const json_t *infos)
{
	unsigned count = 0;
	const json_t *info;
	size_t i;

	json_array_foreach(infos, i, info)
		count += (unsigned)json_array_size(json_object_get(info, "disks"));
	return count;
}

static void type_disks(struct domain_snapshot *snapshot)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(snapshot->info, "disks"), i, disk)
		snapshot->disks[i] = (struct domain_snapshot_disk){
			.device = info_string(disk, "vdev"), .name = snapshot->name, .file = info_string(disk, "path"),
			.format = info_string(disk, "format"),
		};
}

/* One piece of memory: the snapshots, then all of their disks. */
struct domain_snapshot *info_typed(const json_t *infos, const char *current)
{
	size_t count = json_array_size(infos), i;
	struct domain_snapshot *snapshots = calloc(1, (count + 1) * sizeof(*snapshots) +
						   count_disks(infos) * sizeof(struct domain_snapshot_disk));
	struct domain_snapshot_disk *disks;
	const json_t *info;

	if (!snapshots)
		return NULL;
	disks = (struct domain_snapshot_disk *)(snapshots + count + 1);
	json_array_foreach(infos, i, info) {
		const char *name = info_string(info, "name"), *description = info_string(info, "description");

		snapshots[i] = (struct domain_snapshot){
			.name = name, .description = description ? description : "", .creation_time = created(info),
			.save = info_string(info, "save"), .parent = info_string(info, "parent"),
			.live = json_is_true(json_object_get(info, "live")),
			.disk_only = json_is_true(json_object_get(info, "disk_only")),
			.current = current && !strcmp(current, name), .disks = disks, .info = info,
			.nr_disks = (unsigned)json_array_size(json_object_get(info, "disks")),
		};
		type_disks(&snapshots[i]);
		disks += snapshots[i].nr_disks;
	}
	return snapshots;
}
