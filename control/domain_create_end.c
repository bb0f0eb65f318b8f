/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_create_end.c - the end of a create: if its information file exists,
 * the domain continues as the request said, else all is undone.
 *
 * Invariant: each of these can itself be killed and started again.
 */
#include <errno.h>
#include <unistd.h>

#include "domain.h"

/* The rest must be undone later, so record that the domain was resumed: the next attempt must leave it alone. */
static void note_gone_on(const struct domain_directory *directory, const json_t *intent)
{
	json_t *noted = json_copy((json_t *)intent);

	json_object_set_new(noted, "gone_on", json_true());
	directory_write(directory, INTENT_FILE, noted, NULL);
	json_decref(noted);
}

/* Before it is there the guest was not asked to suspend, and it goes only after the guest was resumed. */
static bool has_save(const struct domain_directory *directory, const char *name)
{
	char part[NAME_MAX + 1], save[NAME_MAX + 1];

	info_save_file(part, name, true);
	info_save_file(save, name, false);
	return !faccessat(directory->fd, part, F_OK, 0) || !faccessat(directory->fd, save, F_OK, 0);
}

/*
 * First remove the information file, which may not be durable, so that the
 * snapshot does not count. Then resume the domain, before the slow steps.
 */
int domain_undo_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent)
{
	const char *name = info_string(intent, "name"), *hook = info_string(intent, "hook");
	struct domain_host *host = operation->host;
	int error, unlisted, resumed = 0, thawed = 0;
	struct domain_id id;
	bool same, begun;

	error = name && info_name_valid(name) ? intent_find_domain(operation, intent, &id) :
						error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");
	if (error)
		return error;
	begun = has_save(directory, name);
	unlisted = domain_remove_info(operation, directory, name);
	/* a domain that was resumed or restarted since then was not suspended by us, so we must not resume it */
	same = intent_is_same(intent, &id) && !json_is_true(json_object_get(intent, "gone_on"));
	if (same && begun)
		resumed = host->ops->resume(host, id.domid, false, &operation->text);
	/* thaw even if that failed; it does not harm a domain that was not frozen */
	if (!resumed && same && hook)
		thawed = hook_run(operation, hook, "thaw", &id, NULL);
	error = unlisted ? unlisted : resumed;
	if (!error)
		error = domain_remove_save(operation, directory, name);
	if (!error)
		error = domain_delete_disks(operation, intent, json_integer_value(json_object_get(intent, "time")));
	if (error && same && !resumed && !thawed)
		note_gone_on(directory, intent);
	if (!error)
		domain_did(operation, "undone");
	return error ? error : domain_remove_intent(directory, &operation->text);
}

/*
 * Shut down, pause or unpause the domain as the request says, unless it was restarted. With memory it was left suspended, or
 * paused at its resume. Without memory it has run all the time: only the operation itself may stop it (@told), not a recovery
 * days later, unless that had begun.
 */
static int leave_domain(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			const struct domain_id *id, bool told)
{
	enum domain_snapshot_after after = json_integer_value(json_object_get(intent, "after"));
	bool memory = json_is_true(json_object_get(intent, "memory"));
	struct domain_host *host = operation->host;
	int error = 0;

	if (!intent_is_same(intent, id) || (!told && !memory && !intent_is_torn(intent, id)))
		return 0;
	if (after == DOMAIN_SNAPSHOT_SHUTDOWN)
		error = domain_destroy_error(domain_destroy(operation, directory, intent, id));
	else if (after == DOMAIN_SNAPSHOT_PAUSED && !memory)
		error = host->ops->resume(host, id->domid, true, &operation->text);
	else if (after == DOMAIN_SNAPSHOT_RUNNING && !memory)
		error = host->ops->unpause(host, id->domid, &operation->text);
	if (!error && (after == DOMAIN_SNAPSHOT_SHUTDOWN || after == DOMAIN_SNAPSHOT_PAUSED))
		domain_did(operation, "left");
	return error;
}

/* Close the disks of a domain that is off, which the killed command had opened. */
static void close_left_open(const json_t *intent)
{
	struct domain_disks disks = { .adopt = true, .give_up = true };

	if (!disks_from_info(&disks, intent, NULL))
		disks_open(&disks, NULL);
	disks_close(&disks);
	disks_free(&disks);
}

int domain_finish_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			 bool told)
{
	struct domain_id id;
	int error = intent_find_domain(operation, intent, &id);

	if (operation->adopts)
		close_left_open(intent);

	/* this file is how a domain is found when it is shut off */
	if (!error)
		error = info_set_current(directory, &id, info_string(intent, "name"), &operation->text);
	if (!error)
		error = leave_domain(operation, directory, intent, &id, told);
	return error ? error : domain_remove_intent(directory, &operation->text);
}

int domain_end_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent)
{
	const char *name = info_string(intent, "name");
	json_t *info;

	if (!name || info_read(directory, name, &info, NULL))
		return domain_undo_create(operation, directory, intent);
	json_decref(info);
	return domain_finish_create(operation, directory, intent, false);
}
