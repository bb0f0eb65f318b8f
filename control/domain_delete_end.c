/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_delete_end.c - carries out a delete whose intent is written; and what
 * the snapshots that are left then need: another parent, another current one.
 *
 * Invariant: it can itself be killed and started again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"

/* Make @parent the parent of @name's children. */
static int give_new_parent(struct domain_operation *operation, const struct domain_directory *directory, const char *name,
			   const char *parent)
{
	json_t *infos, *info;
	size_t i;
	int error = info_read_all(directory, &infos, NULL, &operation->text);

	json_array_foreach(infos, i, info) {
		const char *old = info_string(info, "parent");
		char file[NAME_MAX + 1];

		if (error || !old || strcmp(old, name))
			continue;
		json_object_set_new(info, "parent", parent ? json_string(parent) : json_null());
		info_file(file, info_string(info, "name"));
		error = directory_write(directory, file, info, &operation->text);
	}
	json_decref(infos);
	return error;
}

/* A domain that is gone keeps its last name: an intent that was a snapshot's information has the name of that time. */
static void keep_last_name(const struct domain_directory *directory, struct domain_id *id)
{
	const char *name;
	json_t *state;

	if (id->there || directory_read(directory, STATE_FILE, &state, NULL))
		return;
	name = info_string(state, "name");
	if (name)
		snprintf(id->name, sizeof(id->name), "%s", name);
	json_decref(state);
}

static int leave_current(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			 const char *name, const char *parent)
{
	char *current = info_current(directory, NULL);
	struct domain_id id;
	int error = 0;

	if (current && !strcmp(current, name)) {
		error = intent_find_domain(operation, intent, &id);
		if (!error)
			keep_last_name(directory, &id);
		if (!error)
			error = info_set_current(directory, &id, parent, &operation->text);
	}
	free(current);
	return error;
}

int domain_finish_delete(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent)
{
	/* without an operation, the intent is the snapshot's information itself (domain_delete.c) */
	const json_t *info = info_string(intent, "op") ? json_object_get(intent, "info") : intent;
	const char *name = info_string(info, "name"), *parent = info_string(info, "parent");
	int error;

	if (!name || !info_name_valid(name))
		return error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");
	error = domain_remove_info(operation, directory, name);
	if (!error)
		domain_did(operation, "unlisted");
	if (!error && !json_is_true(json_object_get(intent, "keep_disks")))
		error = domain_delete_disks(operation, info, 0);
	if (!error)
		domain_did(operation, "deleted");
	if (!error)
		error = domain_remove_save(operation, directory, name);
	if (!error)
		error = give_new_parent(operation, directory, name, parent);
	if (!error)
		error = leave_current(operation, directory, intent, name, parent);
	return error ? error : domain_remove_intent(directory, &operation->text);
}
