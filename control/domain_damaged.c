/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_damaged.c - a damaged intent file: what was interrupted is not known,
 * so it can be neither finished nor undone. `recover --force` puts it aside.
 *
 * Invariant: an intent that intent_read() returns has all members that its
 * recovery uses.
 */
#include <errno.h>
#include <string.h>

#include "domain.h"

static bool has_string(const json_t *object, const char *key)
{
	return info_string(object, key);
}

static bool may_have_string(const json_t *object, const char *key)
{
	return info_may_have(object, key, JSON_STRING);
}

static bool has_integer(const json_t *object, const char *key)
{
	return json_is_integer(json_object_get(object, key));
}

static bool are_strings(const json_t *array)
{
	const json_t *one;
	size_t i;

	json_array_foreach(array, i, one) {
		if (!json_is_string(one))
			return false;
	}
	return json_is_array(array);
}

static bool has_disks(const json_t *info)
{
	const json_t *disks = json_object_get(info, "disks"), *disk;
	size_t i;

	json_array_foreach(disks, i, disk) {
		if (!has_string(disk, "vdev") || !has_string(disk, "target") || !info_may_have(disk, "id", JSON_INTEGER) ||
		    !info_may_have(disk, "time", JSON_INTEGER))
			return false;
	}
	return json_is_array(disks);
}

static bool has_domain(const json_t *intent)
{
	const json_t *domain = json_object_get(intent, "domain");

	return has_string(domain, "name") && has_string(domain, "uuid");
}

/* May its domain still be there as it was, or half destroyed? The numbers say which it is. */
static bool has_numbers(const json_t *domain)
{
	return has_integer(domain, "domid") && has_string(domain, "boot");
}

static bool has_destroying(const json_t *intent)
{
	const json_t *destroying = json_object_get(intent, "destroying");

	return !destroying || has_numbers(destroying);
}

static bool is_create(const json_t *intent)
{
	return has_string(intent, "name") && info_name_valid(info_string(intent, "name")) && has_integer(intent, "time") &&
	       json_is_boolean(json_object_get(intent, "memory")) && has_integer(intent, "after") &&
	       may_have_string(intent, "hook") && has_domain(intent) && has_numbers(json_object_get(intent, "domain")) &&
	       has_disks(intent) && are_strings(json_object_get(intent, "moves")) && has_destroying(intent);
}

static bool is_snapshot(const json_t *info)
{
	return has_string(info, "name") && info_name_valid(info_string(info, "name")) && may_have_string(info, "parent") &&
	       may_have_string(info, "save") && may_have_string(info, "hook") && has_disks(info);
}

static bool is_revert(const json_t *intent)
{
	const json_t *info = json_object_get(intent, "info");

	return has_string(intent, "phase") && has_integer(intent, "after") && has_domain(intent) && is_snapshot(info) &&
	       json_is_object(json_object_get(info, "config")) && has_destroying(intent);
}

static bool is_delete(const json_t *intent)
{
	return json_is_boolean(json_object_get(intent, "keep_disks")) && has_domain(intent) &&
	       is_snapshot(json_object_get(intent, "info"));
}

/* The suffix makes the names of the files that are removed; without one nothing is. */
static bool is_clone(const json_t *intent)
{
	return may_have_string(intent, "suffix") && json_is_boolean(json_object_get(intent, "whole")) &&
	       are_strings(json_object_get(intent, "files"));
}

static bool is_complete(const json_t *intent)
{
	const char *op = info_string(intent, "op");

	if (!op)		/* a snapshot's information file, renamed (domain_delete.c) */
		return !json_object_get(intent, "op") && has_domain(intent) && is_snapshot(intent);
	return (!strcmp(op, "create") && is_create(intent)) || (!strcmp(op, "revert") && is_revert(intent)) ||
	       (!strcmp(op, "delete") && is_delete(intent)) || (!strcmp(op, "clone") && is_clone(intent));
}

int intent_read(const struct domain_directory *directory, json_t **intent, struct error_text *text)
{
	int error = directory_read(directory, INTENT_FILE, intent, text);

	if (error || is_complete(*intent))
		return error;
	json_decref(*intent);
	*intent = NULL;
	return error_set(text, -EBADMSG, "%s/" INTENT_FILE ": damaged: it does not describe an operation", directory->path);
}

int intent_put_aside(struct domain_operation *operation, const struct domain_directory *directory, const char *reason)
{
	int error = directory_rename(directory, INTENT_FILE, INTENT_ASIDE, &operation->text);

	if (!error)
		error_set(&operation->text, 0, "%.200s; it is called " INTENT_ASIDE " now. What was interrupted is not known: see "
			  "whether the domain runs, with its disks and not frozen; if a revert was interrupted, revert again; delete "
			  "the disks' snapshots that are not in the list (tap-ctl snapshot-list)", reason);
	return error;
}
