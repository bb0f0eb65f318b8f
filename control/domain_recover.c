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
 *
 * Invariant: each of these can itself be killed and started again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "boot_id.h"
#include "clock.h"
#include "domain.h"

#define LOCK_WAIT_MS 2000
#define LOOK_NS 50000000

/* The present state of an intent's domain. */
static int find_domain(struct domain_operation *operation, const json_t *intent, struct domain_id *id)
{
	const json_t *domain = json_object_get(intent, "domain");
	const char *uuid = info_string(domain, "uuid"), *name = info_string(domain, "name");
	struct domain_host *host = operation->host;
	struct error_text reason = { "" };
	int error;

	if (!uuid || !name)
		return error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");
	error = host->ops->find(host, uuid, id, &reason);
	if (error) {
		*id = (struct domain_id){ .there = false };
		snprintf(id->uuid, sizeof(id->uuid), "%s", uuid);
	}
	if (!id->name[0])		/* the domain is gone, or xenstored, which has the names, is */
		snprintf(id->name, sizeof(id->name), "%s", name);
	return !error || error == -ENOENT ? 0 : error_set(&operation->text, error, "%s", reason.text);
}

json_t *domain_to_json(const struct domain_id *id)
{
	char boot[BOOT_ID_SIZE];

	boot_id_read(boot);
	return json_pack("{s:s, s:s, s:i, s:s}", "name", id->name, "uuid", id->uuid, "domid", (int)id->domid, "boot", boot);
}

/* Has the domain not been restarted since @domain, by domain_to_json(), was written? */
static bool is_same(const json_t *domain, const struct domain_id *id)
{
	const json_t *domid = json_object_get(domain, "domid");
	const char *then = info_string(domain, "boot");
	char boot[BOOT_ID_SIZE];

	boot_id_read(boot);
	return id->there && json_is_integer(domid) && json_integer_value(domid) == id->domid && then && *then && !strcmp(then, boot);
}

static bool is_same_domain(const json_t *intent, const struct domain_id *id)
{
	return is_same(json_object_get(intent, "domain"), id);
}

/*
 * libxl removes a domain's disks and its name before the domain itself. So the intent says first that this begins, and if it
 * is cut short, a recovery must do it again.
 */
int domain_destroy(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
		   const struct domain_id *id)
{
	json_t *noted = json_copy((json_t *)intent);
	int error;

	json_object_set_new(noted, "destroying", domain_to_json(id));
	error = directory_write(directory, INTENT_FILE, noted, &operation->text);
	json_decref(noted);
	if (!error) {
		domain_did(operation, "destroying");
		error = operation->host->ops->destroy(operation->host, id->domid, &operation->text);
	}
	if (error && error != -EINPROGRESS)
		directory_write(directory, INTENT_FILE, intent, NULL);
	return error;
}

/* Who only reports the error need not know that the domain is half destroyed: the intent says so. */
static int reported(int error)
{
	return error == -EINPROGRESS ? -EIO : error;
}

/* Was its destruction begun, and did not come to an end? */
static bool is_torn(const json_t *intent, const struct domain_id *id)
{
	return is_same(json_object_get(intent, "destroying"), id);
}

static int destroy_torn(struct domain_operation *operation, const json_t *intent, struct domain_id *id)
{
	int error = is_torn(intent, id) ? operation->host->ops->destroy(operation->host, id->domid, &operation->text) : -ENOENT;

	if (!error)
		id->there = false;
	return error == -ENOENT ? 0 : reported(error);
}

static bool is_forced(const struct domain_operation *operation)
{
	return operation->request->command == DOMAIN_SNAPSHOT_RECOVER && operation->request->force;
}

/* Move raw disks back from the stores of a create that is undone. A failure is harmless, and @text reports it. */
static void move_back(struct domain_disks *disks, const json_t *moves, struct error_text *text)
{
	const json_t *vdev;
	size_t i;

	json_array_foreach(moves, i, vdev) {
		const struct domain_disk *disk = disks_find(disks, json_string_value(vdev));

		if (disk)
			disk_move_back(disk, text);
	}
}

static int delete_disk_snapshots(struct domain_operation *operation, const json_t *info, json_int_t since)
{
	struct domain_disks disks = { .adopt = operation->adopts, .give_up = is_forced(operation) };
	int error = disks_from_info(&disks, info, &operation->text);

	if (!error)
		error = disks_open(&disks, &operation->text);
	if (!error)
		error = disks_delete_snapshot(&disks, info_string(info, "name"), since, &operation->text);
	if (!error)
		move_back(&disks, json_object_get(info, "moves"), &operation->text);
	disks_close(&disks);
	disks_free(&disks);
	return error;
}

static int remove_save(struct domain_operation *operation, const struct domain_directory *directory, const char *name)
{
	char file[NAME_MAX + 1];
	int error;

	info_save_file(file, name, true);
	error = directory_remove(directory, file, &operation->text);
	info_save_file(file, name, false);
	return error ? error : directory_remove(directory, file, &operation->text);
}

/* All is done, or all undone: every disk knows the decision, so the decision records are removed, too. */
int domain_remove_intent(const struct domain_directory *directory, struct error_text *text)
{
	int error = tapctl_records_forget(directory->uuid, text);

	return error ? error : directory_remove(directory, INTENT_FILE, text);
}

static int remove_info(struct domain_operation *operation, const struct domain_directory *directory, const char *name)
{
	char file[NAME_MAX + 1];

	info_file(file, name);
	return directory_remove(directory, file, &operation->text);
}

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

	error = name && info_name_valid(name) ? find_domain(operation, intent, &id) :
						error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");
	if (error)
		return error;
	begun = has_save(directory, name);
	unlisted = remove_info(operation, directory, name);
	/* a domain that was resumed or restarted since then was not suspended by us, so we must not resume it */
	same = is_same_domain(intent, &id) && !json_is_true(json_object_get(intent, "gone_on"));
	if (same && begun)
		resumed = host->ops->resume(host, id.domid, false, &operation->text);
	/* thaw even if that failed; it does not harm a domain that was not frozen */
	if (!resumed && same && hook)
		thawed = hook_run(operation, hook, "thaw", &id, NULL);
	error = unlisted ? unlisted : resumed;
	if (!error)
		error = remove_save(operation, directory, name);
	if (!error)
		error = delete_disk_snapshots(operation, intent, json_integer_value(json_object_get(intent, "time")));
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

	if (!is_same_domain(intent, id) || (!told && !memory && !is_torn(intent, id)))
		return 0;
	if (after == DOMAIN_SNAPSHOT_SHUTDOWN)
		error = reported(domain_destroy(operation, directory, intent, id));
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
	int error = find_domain(operation, intent, &id);

	if (operation->adopts)
		close_left_open(intent);

	/* this file is how a domain is found when it is shut off */
	if (!error)
		error = info_set_current(directory, &id, info_string(intent, "name"), &operation->text);
	if (!error)
		error = leave_domain(operation, directory, intent, &id, told);
	return error ? error : domain_remove_intent(directory, &operation->text);
}

static int end_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent)
{
	const char *name = info_string(intent, "name");
	json_t *info;

	if (!name || info_read(directory, name, &info, NULL))
		return domain_undo_create(operation, directory, intent);
	json_decref(info);
	return domain_finish_create(operation, directory, intent, false);
}

/* ---- revert ---- */

static bool is_phase(const json_t *intent, const char *phase)
{
	const char *at = info_string(intent, "phase");

	return at && !strcmp(at, phase);
}

static int write_phase(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent,
		       const char *phase)
{
	json_object_set_new(intent, "phase", json_string(phase));
	return directory_write(directory, INTENT_FILE, intent, &operation->text);
}

/*
 * Changes no disk before all are available: the phase remains "stop" until then. *@gone: a disk cannot be opened, or has lost
 * the snapshot.
 */
static int revert_disks(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent, bool *gone)
{
	struct domain_disks disks = { .adopt = operation->adopts };
	const json_t *info = json_object_get(intent, "info");
	int error = disks_from_info(&disks, info, &operation->text);

	if (!error) {
		error = disks_open(&disks, &operation->text);
		*gone = error != 0;
	}
	if (!error) {
		error = disks_check_snapshot(&disks, info_string(info, "name"), &operation->text);
		*gone = error != 0;
	}
	if (!error)
		error = disks_check_unused(&disks, NULL, &operation->text);
	if (!error)
		error = write_phase(operation, directory, intent, "disks");
	if (!error)
		error = disks_revert(&disks, info_string(info, "name"), directory->uuid, &operation->text);
	disks_close(&disks);
	disks_free(&disks);
	return error;
}

/* Open each disk that exists, so that it settles by the decision record whether it was reverted. The domain stays off. */
static int give_up_revert(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			  const struct domain_id *id)
{
	struct domain_disks disks = { .adopt = operation->adopts, .give_up = true };
	bool begun = !is_phase(intent, "stop");
	struct error_text reason = operation->text;
	int error;

	operation->text.text[0] = '\0';
	error_set(&operation->text, 0, "%.380s; the revert was given up, and its disks %s", reason.text,
		  begun ? "may be from different times" : "are unchanged");
	error = disks_from_info(&disks, json_object_get(intent, "info"), NULL);
	if (!error)
		error = disks_open(&disks, NULL);
	disks_close(&disks);
	disks_free(&disks);
	if (!error && begun)
		error = info_set_current(directory, id, NULL, &operation->text);
	return error ? error : domain_remove_intent(directory, &operation->text);
}

static bool wants_paused(const json_t *intent)
{
	return json_integer_value(json_object_get(intent, "after")) == DOMAIN_SNAPSHOT_PAUSED;
}

static bool wants_start(const json_t *intent, const json_t *info)
{
	return info_string(info, "save") || wants_paused(intent) ||
		json_integer_value(json_object_get(intent, "after")) == DOMAIN_SNAPSHOT_RUNNING;
}

/* Destroy a domain whose xl was killed before it was complete. */
static int destroy_unbuilt(struct domain_operation *operation, struct domain_id *id, struct error_text *text)
{
	struct domain_host *host = operation->host;
	int error;

	if (!id->there || host->ops->is_built(host, id->domid))
		return 0;
	error = reported(host->ops->destroy(host, id->domid, text));
	if (!error)
		id->there = false;
	return error;
}

/* Unless a killed command has started it already; xl unpauses it last. */
static int start_domain(struct domain_operation *operation, const json_t *intent, const json_t *info, struct domain_id *id)
{
	struct domain_host *host = operation->host;
	const char *save = info_string(info, "save");
	bool paused = wants_paused(intent);
	int error = wants_start(intent, info) ? destroy_unbuilt(operation, id, &operation->text) : 0;

	if (error || !wants_start(intent, info))
		return error;
	if (id->there)
		return paused ? 0 : host->ops->unpause(host, id->domid, &operation->text);
	return save ? host->ops->restore(host, save, paused, &operation->text) :
		      host->ops->boot(host, info, paused, &operation->text);
}

/* A failed start does not keep the intent, which would block all other commands: the revert can be repeated. */
static void explain_not_started(struct domain_operation *operation, const json_t *intent, int error, const char *name)
{
	struct error_text reason = operation->text;
	struct domain_id id = { .there = false };
	bool left;

	operation->text.text[0] = '\0';
	left = !find_domain(operation, intent, &id) && destroy_unbuilt(operation, &id, NULL);
	operation->text.text[0] = '\0';
	error_set(&operation->text, error, "%.300s; the disks are at snapshot \"%s\" and %s", reason.text, name,
		  left ? "a domain that is not complete is there: destroy it, and revert to it again" :
		  id.there ? "the domain is there: revert to it again, if it does not run" :
		  "the domain is shut off: revert to it again");
}

/* The memory was saved while the guest was frozen, so thaw it. A paused guest cannot thaw. */
static int thaw(struct domain_operation *operation, const json_t *intent, const json_t *info, const struct domain_id *id)
{
	const char *hook = info_string(info, "hook"), *name = info_string(info, "name");
	struct error_text reason = { "" };
	int error;

	if (!info_string(info, "save") || !hook)
		return 0;
	if (wants_paused(intent))
		return error_set(&operation->text, 0, DOMAIN_FROZEN, hook, id->name);
	error = hook_run(operation, hook, "thaw", id, &reason);
	return error ? error_set(&operation->text, error, "%.280s; the domain is at snapshot \"%s\" and runs, frozen as it was then: "
				 "run '%s thaw %s'", reason.text, name, hook, id->name) : 0;
}

/* The disks are reverted, whether the domain starts or not. */
static int end_revert(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
		      const json_t *info, struct domain_id *id)
{
	int started = start_domain(operation, intent, info, id);
	struct error_text reason = { "" };
	int error;

	if (started) {
		explain_not_started(operation, intent, started, info_string(info, "name"));
	} else {
		domain_did(operation, "started");
		started = thaw(operation, intent, info, id);
	}
	error = info_set_current(directory, id, info_string(info, "name"), &reason);
	if (!error)
		error = domain_remove_intent(directory, &reason);
	if (error && !started)
		operation->text = reason;
	return started ? started : error;
}

int domain_finish_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent)
{
	const json_t *info = json_object_get(intent, "info");
	struct domain_id id;
	bool gone = false;
	int error = info_string(info, "name") ? find_domain(operation, intent, &id) :
						error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");

	if (error)
		return error;
	if (is_phase(intent, "stop") && id.there) {
		error = domain_remove_intent(directory, &operation->text);
		return error ? error : error_set(&operation->text, -EBUSY, "domain %s was started in the meantime: its disks "
						 "are unchanged", id.name);
	}
	if (!is_phase(intent, "start")) {
		if (id.there)
			return error_set(&operation->text, -EBUSY, "domain %s is running, but its disks are only partly "
					 "reverted to \"%s\": shut it down, then the next command finishes the revert", id.name,
					 info_string(info, "name"));
		error = revert_disks(operation, directory, intent, &gone);
		if (error && is_forced(operation) && (gone || is_phase(intent, "stop")))
			return give_up_revert(operation, directory, intent, &id);
		if (error)
			return error;
		domain_did(operation, "reverted");
		error = write_phase(operation, directory, intent, "start");
	}
	return error ? error : end_revert(operation, directory, intent, info, &id);
}

/* If the domain's destruction was not begun yet, nothing was changed. */
static int end_cut_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent)
{
	struct domain_id id;
	int error = find_domain(operation, intent, &id);

	if (!error)
		error = destroy_torn(operation, intent, &id);
	if (!error && is_phase(intent, "stop") && id.there)
		return domain_remove_intent(directory, &operation->text);
	return error ? error : domain_finish_revert(operation, directory, intent);
}

/* ---- delete ---- */

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
	char *current = info_current(directory);
	struct domain_id id;
	int error = 0;

	if (current && !strcmp(current, name)) {
		error = find_domain(operation, intent, &id);
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
	error = remove_info(operation, directory, name);
	if (!error)
		domain_did(operation, "unlisted");
	if (!error && !json_is_true(json_object_get(intent, "keep_disks")))
		error = delete_disk_snapshots(operation, info, 0);
	if (!error)
		domain_did(operation, "deleted");
	if (!error)
		error = remove_save(operation, directory, name);
	if (!error)
		error = give_new_parent(operation, directory, name, parent);
	if (!error)
		error = leave_current(operation, directory, intent, name, parent);
	return error ? error : domain_remove_intent(directory, &operation->text);
}

/* ---- the start of every operation ---- */

static int end_operation(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent)
{
	const char *op = info_string(intent, "op");

	if (op && !strcmp(op, "create"))
		return end_create(operation, directory, intent);
	if (op && !strcmp(op, "revert"))
		return end_cut_revert(operation, directory, intent);
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
		  ended || is_forced(operation) ? "" : " (if a disk is gone for good: xl-snapshot recover --force)");
}

int domain_recover(struct domain_operation *operation, const struct domain_directory *directory)
{
	struct error_text reason = { "" }, saved = operation->text;
	struct domain_id id;
	json_t *intent;
	const char *op;
	int error = directory_read(directory, INTENT_FILE, &intent, &reason);

	if (error)
		return error == -ENOENT ? 0 : error_set(&operation->text, error, "%s", reason.text);
	operation->text.text[0] = '\0';
	operation->directory = directory;
	operation->adopts = !find_domain(operation, intent, &id) && !id.there;
	operation->text.text[0] = '\0';
	error = end_operation(operation, directory, intent);
	operation->adopts = false;
	reason = operation->text;
	operation->text = saved;
	op = info_string(intent, "op") ? info_string(intent, "op") : "delete";
	if (error)
		explain(operation, directory, op, error, reason.text);
	else if (is_forced(operation))
		operation->text = reason;
	json_decref(intent);
	return error;
}

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
	if (info_string(intent, "op") && !find_domain(operation, intent, &id))
		replaced = !strcmp(info_string(intent, "op"), "revert") && !(is_phase(intent, "start") && id.there);
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
		error = find_domain(operation, intent, &id);
	if (!error)
		error = destroy_torn(operation, intent, &id);
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
	return !find_domain(operation, intent, &id) && id.there && host->ops->is_built(host, id.domid);
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

int domain_recover_all(struct domain_operation *operation)
{
	struct domain_directory directory = { .fd = -1, .lock = -1 };
	char *config;
	int error = domain_locate(operation, &config);

	free(config);
	if (!error)
		error = domain_begin(operation, &directory, false);
	if (!error)
		directory_remove_empty(&directory);
	directory_close(&directory);
	return error;
}
