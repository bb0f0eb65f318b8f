/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_query.c - lists snapshots, and edits their descriptions.
 *
 * A query does not wait for a running operation; it shows complete snapshots.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"

/* Recover a killed operation first, unless its programs still run; a failure of that is only a warning. */
static void recover_if_free(struct domain_operation *operation, struct domain_directory *directory)
{
	json_t *intent;

	if (!operation->host || directory_read(directory, INTENT_FILE, &intent, NULL) == -ENOENT)
		return;
	json_decref(intent);
	if (directory_lock(directory, 0, NULL))
		return;
	if (!directory_is_held(directory, PROGRAM_HOOK) && !directory_is_held(directory, PROGRAM_XL))
		domain_recover(operation, directory);
	/* a query must not block an operation that changes something */
	directory_unlock(directory);
}

static int read_one(struct domain_operation *operation, const struct domain_directory *directory)
{
	json_t *info;
	int error = info_read(directory, operation->request->name, &info, &operation->text);

	if (!error)
		json_array_append_new(operation->infos, info);
	return error;
}

/* A damaged file is an error, but the other snapshots are returned. */
static int read_all(struct domain_operation *operation, const struct domain_directory *directory)
{
	struct error_text damaged = { "" };
	json_t *infos;
	int error = info_read_all(directory, &infos, &damaged, &operation->text);

	if (error)
		return error;
	json_array_extend(operation->infos, infos);
	json_decref(infos);
	return damaged.text[0] ? error_set(&operation->text, -EBADMSG, "%s", damaged.text) : 0;
}

int domain_query(struct domain_operation *operation)
{
	struct domain_directory directory = { .fd = -1, .lock = -1 };
	struct error_text damaged = { "" };
	char *config;
	int error = domain_locate(operation, &config);

	free(config);
	if (!error)
		error = directory_open(&directory, operation->id.uuid, false, NULL);
	if (error == -ENOENT && operation->id.there && !operation->request->name)
		error = 0;		/* a domain without snapshots has an empty list */
	else if (error)
		error_set(&operation->text, error, "domain %s has no snapshots", operation->id.name);
	if (!error && directory.fd >= 0) {
		recover_if_free(operation, &directory);
		operation->current = info_current(&directory, &damaged);
		error = operation->request->name ? read_one(operation, &directory) : read_all(operation, &directory);
		if (damaged.text[0])
			error_set(&operation->text, error, "%s", damaged.text);
	}
	directory_close(&directory);
	return error;
}

int domain_edit(struct domain_operation *operation)
{
	const struct domain_snapshot_request *request = operation->request;
	struct domain_directory directory = { .fd = -1, .lock = -1 };
	char file[NAME_MAX + 1];
	json_t *info = NULL;
	int error = domain_locate_and_begin(operation, &directory);

	if (!error)
		error = info_find_named(operation, &directory, &info);
	if (!error) {
		info_file(file, info_string(info, "name"));
		json_object_set_new(info, "description", json_string(request->description ? request->description : ""));
		error = directory_write(&directory, file, info, &operation->text);
	}
	if (!error)
		json_array_append(operation->infos, info);
	json_decref(info);
	directory_close(&directory);
	return error;
}
