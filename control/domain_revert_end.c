/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_revert_end.c - the end of a revert, from its phase "stop" on
 * (domain_revert.c): the disks go back, then the domain starts.
 *
 * If a disk is permanently lost, `recover --force` gives the revert up.
 *
 * Invariant: each of these can itself be killed and started again.
 */
#include <errno.h>
#include <string.h>

#include "domain.h"

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
	bool begun = !intent_is_phase(intent, "stop");
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
	error = domain_destroy_error(host->ops->destroy(host, id->domid, text));
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
	left = !intent_find_domain(operation, intent, &id) && destroy_unbuilt(operation, &id, NULL);
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
	int error = info_string(info, "name") ? intent_find_domain(operation, intent, &id) :
						error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");

	if (error)
		return error;
	if (intent_is_phase(intent, "stop") && id.there) {
		error = domain_remove_intent(directory, &operation->text);
		return error ? error : error_set(&operation->text, -EBUSY, "domain %s was started in the meantime: its disks "
						 "are unchanged", id.name);
	}
	if (!intent_is_phase(intent, "start")) {
		if (id.there)
			return error_set(&operation->text, -EBUSY, "domain %s is running, but its disks are only partly "
					 "reverted to \"%s\": shut it down, then the next command finishes the revert", id.name,
					 info_string(info, "name"));
		error = revert_disks(operation, directory, intent, &gone);
		if (error && domain_is_forced(operation) && (gone || intent_is_phase(intent, "stop")))
			return give_up_revert(operation, directory, intent, &id);
		if (error)
			return error;
		domain_did(operation, "reverted");
		error = write_phase(operation, directory, intent, "start");
	}
	return error ? error : end_revert(operation, directory, intent, info, &id);
}

/* If the domain's destruction was not begun yet, nothing was changed. */
int domain_end_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent)
{
	struct domain_id id;
	int error = intent_find_domain(operation, intent, &id);

	if (!error)
		error = intent_destroy_torn(operation, intent, &id);
	if (!error && intent_is_phase(intent, "stop") && id.there)
		return domain_remove_intent(directory, &operation->text);
	return error ? error : domain_finish_revert(operation, directory, intent);
}
