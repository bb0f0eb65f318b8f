/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_recover.c - finishes or undoes an operation that was killed, from
 * its intent file.
 *
 *   create   its information file exists: finished, with the domain's --shutdown etc.; else undone
 *   revert   the destruction of the domain was not begun yet: undone; else finished
 *   delete   finished
 *   clone    all but the file that starts the clone is complete: finished; else undone
 *
 * A disk that is permanently lost would block all of these for ever:
 * `recover --force` skips it, and gives up a revert that needs it.
 */
#include <errno.h>
#include <string.h>

#include "domain.h"

bool domain_is_forced(const struct domain_operation *operation)
{
	return operation->request->command == DOMAIN_SNAPSHOT_RECOVER && operation->request->force;
}

static int end_operation(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent)
{
	const char *op = info_string(intent, "op");

	if (op && !strcmp(op, "create"))
		return domain_end_create(operation, directory, intent);
	if (op && !strcmp(op, "revert"))
		return domain_end_revert(operation, directory, intent);
	if (!op || !strcmp(op, "delete"))
		return domain_finish_delete(operation, directory, intent);
	if (op && !strcmp(op, "clone"))
		return domain_end_clone(operation, directory, intent);
	return error_set(&operation->text, -EBADMSG, "%s/" INTENT_FILE ": unknown operation",
			 directory->path);
}

static void explain(struct domain_operation *operation, const struct domain_directory *directory, const char *op, int error,
		    const char *reason)
{
	json_t *intent;
	bool ended = directory_read(directory, INTENT_FILE, &intent, NULL) == -ENOENT;

	json_decref(intent);
	error_set(&operation->text, error, "an earlier %s was interrupted, and %s: %.300s%s", op,
		  ended ? "has been cleaned up now" : "cannot be cleaned up yet", reason,
		  ended || domain_is_forced(operation) ? "" : " (if a disk is gone for good: xl-snapshot recover --force)");
}

int domain_recover(struct domain_operation *operation, const struct domain_directory *directory)
{
	struct error_text reason = { "" }, saved = operation->text;
	struct domain_id id;
	json_t *intent;
	const char *op;
	int error = intent_read(directory, &intent, &reason);

	if (error == -EBADMSG && domain_is_forced(operation))
		return intent_put_aside(operation, directory, reason.text);
	if (error)
		return error == -ENOENT ? 0 : error_set(&operation->text, error, "%.300s%s", reason.text, error == -EBADMSG ?
							"; xl-snapshot recover --force puts it aside, and says what to check" : "");
	operation->text.text[0] = '\0';
	operation->directory = directory;
	operation->adopts = !intent_find_domain(operation, intent, &id) && !id.there;
	operation->text.text[0] = '\0';
	error = end_operation(operation, directory, intent);
	operation->adopts = false;
	reason = operation->text;
	operation->text = saved;
	op = info_string(intent, "op") ? info_string(intent, "op") : "delete";
	if (error)
		explain(operation, directory, op, error, reason.text);
	else if (domain_is_forced(operation))
		operation->text = reason;
	json_decref(intent);
	return error;
}

int domain_recover_all(struct domain_operation *operation)
{
	struct domain_directory directory = { .fd = -1, .lock = -1 };
	int error = domain_locate_and_begin(operation, &directory);

	if (!error)
		domain_remove_directory(&directory, false);
	directory_close(&directory);
	return error;
}
