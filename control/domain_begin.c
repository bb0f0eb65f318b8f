/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_begin.c - the first step of every operation: the lock of the domain's
 * directory, and the end of an operation that was killed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "domain.h"

#define LOCK_WAIT_MS 2000
#define LOOK_NS 50000000

/*
 * A new revert replaces one that was killed, which then need not be finished. Unless that one's domain runs already: its
 * disks are reverted, so only the current snapshot is recorded first.
 */
static bool replaces(struct domain_operation *operation, const struct domain_directory *directory)
{
	bool replaced = false;
	struct domain_id id;
	json_t *intent;

	if (operation->request->command != DOMAIN_SNAPSHOT_REVERT || directory_read(directory, INTENT_FILE, &intent, NULL))
		return false;
	if (info_string(intent, "op") && !intent_find_domain(operation, intent, &id))
		replaced = !strcmp(info_string(intent, "op"), "revert") && !(intent_is_phase(intent, "start") && id.there);
	operation->text.text[0] = '\0';
	json_decref(intent);
	return replaced;
}

/* The revert that is replaced may have been destroying the domain. */
static int end_replaced(struct domain_operation *operation, const struct domain_directory *directory)
{
	struct domain_id id;
	json_t *intent;
	int error = directory_read(directory, INTENT_FILE, &intent, &operation->text);

	if (!error)
		error = intent_find_domain(operation, intent, &id);
	if (!error)
		error = intent_destroy_torn(operation, intent, &id);
	json_decref(intent);
	return error;
}

/* Have the programs that the killed command may have left ended? A hook is given its time; the domain is there when xl is done. */
static bool have_ended(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
		       int64_t deadline)
{
	struct domain_host *host = operation->host;
	struct domain_id id;
	bool hook = directory_is_held(directory, PROGRAM_HOOK) && clock_ms() < deadline;

	if (hook || !directory_is_held(directory, PROGRAM_XL))
		return !hook;
	return !intent_find_domain(operation, intent, &id) && id.there && host->ops->is_built(host, id.domid);
}

/* A thaw must not overtake the freeze, nor a second xl the first one. */
static int wait_programs(struct domain_operation *operation, const struct domain_directory *directory)
{
	int64_t deadline = clock_ms() + hook_timeout_ms;
	json_t *intent;
	bool waits = false;
	int error = 0;

	if (directory_read(directory, INTENT_FILE, &intent, NULL))
		return 0;
	while (!error && !have_ended(operation, directory, intent, deadline)) {
		if (!waits)
			domain_did(operation, "waiting");
		waits = true;
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		error = domain_check_canceled(operation);
	}
	if (!error)
		operation->text.text[0] = '\0';
	json_decref(intent);
	return error;
}

/* Open and lock the directory. Retries if it is removed with the last snapshot while we wait for the lock. */
static int open_locked(struct domain_directory *directory, const char *uuid, bool make, struct error_text *text)
{
	int error = directory_open(directory, uuid, make, text);

	while (!error && (error = directory_lock(directory, LOCK_WAIT_MS, text)) == -ESTALE) {
		directory_close(directory);
		text->text[0] = '\0';
		error = directory_open(directory, uuid, make, text);
	}
	return error;
}

/* Find the domain again: the recovery may have started it, or destroyed it. */
static int look_again(struct domain_operation *operation)
{
	struct domain_host *host = operation->host;
	struct error_text reason = { "" };
	struct domain_id now;
	int error = host->ops->find(host, operation->id.uuid, &now, &reason);

	if (!error)
		operation->id = now;
	else if (error == -ENOENT)
		operation->id.there = false;
	return !error || error == -ENOENT ? 0 : error_set(&operation->text, error, "%s", reason.text);
}

int domain_begin(struct domain_operation *operation, struct domain_directory *directory, bool make)
{
	struct error_text reason = { "" };
	int error = open_locked(directory, operation->id.uuid, make, &reason);

	if (error)
		return error == -ENOENT ? error_set(&operation->text, error, "domain %s has no snapshots", operation->id.name) :
					  error_set(&operation->text, error, "%s", reason.text);
	directory_remove_unfinished(directory);
	operation->directory = directory;
	error = wait_programs(operation, directory);
	if (!error)
		error = replaces(operation, directory) ? end_replaced(operation, directory) : domain_recover(operation, directory);
	return error ? error : look_again(operation);
}

int domain_locate_and_begin(struct domain_operation *operation, struct domain_directory *directory)
{
	char *config;
	int error = domain_locate(operation, &config);

	free(config);
	return error ? error : domain_begin(operation, directory, false);
}
