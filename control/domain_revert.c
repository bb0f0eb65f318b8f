/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_revert.c - reverts a domain to a snapshot.
 *
 *   checks -> intent "stop" -> "destroying" is noted -> the domain is destroyed -> all disks are available
 *          -> "disks": revert all -> "start": restored or booted -> intent removed
 *
 * Reverting a disk can be repeated, so recovery finishes a killed revert, or
 * another revert replaces it. That one starts in phase "disks", since some
 * disks may be reverted already: recovery must not let a domain run on them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domain.h"

struct revert {
	struct domain_operation *operation;
	struct domain_directory directory;
	struct error_text *text;
	json_t *info;
	bool replaces;			/* it replaces a killed revert */
};

static int check_memory(struct revert *revert)
{
	const char *save = info_string(revert->info, "save");
	const json_t *size = json_object_get(revert->info, "save_size");	/* absent in information of earlier versions */
	struct error_text reason = { "" };
	struct stat st;
	char *config;
	int fd, error;

	if (!save)
		return 0;
	fd = open(save, O_RDONLY | O_CLOEXEC);
	error = fd < 0 ? error_set(&reason, -errno, "%s", strerror(errno)) : save_read_head(fd, &config, &reason);
	if (!error)
		free(config);
	if (!error && size && (fstat(fd, &st) || st.st_size != json_integer_value(size)))
		error = error_set(&reason, -EBADMSG, "damaged: its size has changed since the snapshot");
	if (fd >= 0)
		close(fd);
	return error ? error_set(revert->text, error, "the domain's memory cannot be read: %s: %s", save, reason.text) : 0;
}

/* Refuse early if the domain could not be booted afterwards. */
static int check_boot(struct revert *revert)
{
	enum domain_snapshot_after after = revert->operation->request->after;
	struct domain_host *host = revert->operation->host;
	struct error_text reason = { "" };
	int error;

	if (info_string(revert->info, "save") || (after != DOMAIN_SNAPSHOT_RUNNING && after != DOMAIN_SNAPSHOT_PAUSED))
		return 0;
	error = host->ops->can_boot(host, revert->info, &reason);
	return error ? error_set(revert->text, error, "the domain cannot be booted: %.380s; without --running or --paused it is left "
				 "off", reason.text) : 0;
}

static bool is_hvm(const json_t *info)
{
	const char *type = info_string(json_object_get(json_object_get(info, "config"), "c_info"), "type");

	return type && !strcmp(type, "hvm");
}

/* Before anything changes: each disk must have the snapshot, and nobody but the domain may use it. */
static int check_disks(struct revert *revert)
{
	const struct domain_id *id = &revert->operation->id;
	const struct disks_user user = { .domid = id->domid, .hvm = is_hvm(revert->info) };
	struct domain_disks disks = { 0 };
	int error = disks_from_info(&disks, revert->info, revert->text);

	if (!error)
		error = disks_open(&disks, revert->text);
	if (!error)
		error = disks_check_snapshot(&disks, info_string(revert->info, "name"), revert->text);
	if (!error)
		error = disks_check_unused(&disks, id->there ? &user : NULL, revert->text);
	disks_close(&disks);
	disks_free(&disks);
	return error;
}

static int check_set(struct revert *revert, const struct domain_disks *now, const struct domain_disks *then)
{
	const char *const question = "--force reverts anyway";

	for (unsigned i = 0; i < now->count; i++) {
		if (!disks_find(then, now->disk[i].vdev))
			return error_set(revert->text, -ESTALE, "disk %s has been added since the snapshot, and would stay as "
					 "it is; %s", now->disk[i].vdev, question);
	}
	for (unsigned i = 0; i < then->count; i++) {
		if (!disks_find(now, then->disk[i].vdev))
			return error_set(revert->text, -ESTALE, "disk %s has been detached since the snapshot; %s", then->disk[i].vdev,
					 question);
	}
	return 0;
}

/* A disk of the snapshot that the domain has under the same name must have the same image. */
static int check_images(struct revert *revert, struct domain_disks *now)
{
	struct domain_disks taken = { 0 };
	int error = disks_from_info(&taken, revert->info, revert->text);

	/* no tapdisk serves the others */
	for (unsigned i = 0; i < now->count; i++)
		now->disk[i].skip = now->disk[i].pid == -1 && !now->disk[i].target;
	if (!error)
		error = disks_open(now, revert->text);
	for (unsigned i = 0; !error && i < taken.count; i++) {
		const struct domain_disk *disk = disks_find(now, taken.disk[i].vdev);

		if (disk && (disk->skip || strcmp(disk->target, taken.disk[i].target) != 0))
			error = error_set(revert->text, -ESTALE, "disk %s was %s and is another image now%s%s; --force brings "
					  "the former one back", disk->vdev, taken.disk[i].target, disk->skip ? "" : ", ",
					  disk->skip ? "" : disk->target);
	}
	disks_close(now);
	disks_free(&taken);
	return error;
}

/* The running domain must have the same disks as the snapshot. */
static int check_change(struct revert *revert)
{
	struct domain_operation *operation = revert->operation;
	struct domain_disks now = { 0 }, then = { 0 };
	int error;

	if (!operation->id.there || operation->request->force)
		return 0;
	error = operation->host->ops->disks(operation->host, operation->id.domid, &now, revert->text);
	if (!error)
		error = disks_from_config(&then, json_object_get(revert->info, "config"), revert->text);
	if (!error)
		error = check_set(revert, &now, &then);
	if (!error)
		error = check_images(revert, &now);
	disks_free(&now);
	disks_free(&then);
	return error;
}

/* Has the revert that this one replaces changed disks? */
static bool is_half_way(const struct revert *revert)
{
	json_t *intent;
	bool half_way;

	if (directory_read(&revert->directory, INTENT_FILE, &intent, NULL))
		return false;
	half_way = !intent_is_phase(intent, "stop");
	json_decref(intent);
	return half_way;
}

static json_t *make_intent(const struct revert *revert)
{
	const struct domain_id *id = &revert->operation->id;

	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:i, s:O}", "op", "revert", "phase", is_half_way(revert) ? "disks" : "stop",
			 "domain", "name", id->name, "uuid", id->uuid, "after", (int)revert->operation->request->after, "info",
			 revert->info);
}

/* The domain is destroyed and its disks are partly reverted: add to the error how to finish that. */
static void explain_half_way(struct revert *revert)
{
	struct error_text reason = *revert->text;

	revert->text->text[0] = '\0';
	error_set(revert->text, -EIO, "%.380s; the domain is shut off, and the next command continues the revert", reason.text);
}

/* No intent is left for recovery. */
static bool is_ended(const struct revert *revert)
{
	json_t *intent;
	bool ended = directory_read(&revert->directory, INTENT_FILE, &intent, NULL) == -ENOENT;

	json_decref(intent);
	return ended;
}

/*
 * If the domain was off, and its disks are not available, nothing has changed: remove the intent. Unless it is off because
 * of an earlier revert, which recovery must finish.
 */
static void end_failed(struct revert *revert, const json_t *intent)
{
	struct error_text reason = *revert->text;

	if (is_ended(revert))
		return;
	if (revert->operation->id.there || revert->replaces || !intent_is_phase(intent, "stop") ||
	    domain_remove_intent(&revert->directory, NULL)) {
		explain_half_way(revert);
		return;
	}
	revert->text->text[0] = '\0';
	error_set(revert->text, -EIO, "%.480s; nothing was done", reason.text);
}

static int destroy(struct revert *revert, const json_t *intent)
{
	struct domain_operation *operation = revert->operation;
	int error = domain_destroy(operation, &revert->directory, intent, &operation->id);
	struct error_text reason = *revert->text;

	if (error && error != -EINPROGRESS)
		domain_recover(operation, &revert->directory);
	if (error != -EINPROGRESS)
		return error;
	revert->text->text[0] = '\0';
	return error_set(revert->text, -EIO, "%.380s; the domain may have lost its disks: the next command destroys it, and "
			 "continues the revert", reason.text);
}

static int run(struct revert *revert)
{
	struct domain_operation *operation = revert->operation;
	json_t *intent = make_intent(revert);
	struct guard guard = { .fd = -1 };
	json_t *former;
	int error = guard_start(&guard, operation, &revert->directory, revert->text);

	if (!directory_read(&revert->directory, INTENT_FILE, &former, NULL)) {
		revert->replaces = true;
		json_decref(former);
	}
	if (!error)
		error = directory_write(&revert->directory, INTENT_FILE, intent, revert->text);
	if (error)
		domain_recover(operation, &revert->directory);
	else
		domain_did(operation, "intent");
	if (!error && operation->id.there)
		error = destroy(revert, intent);
	if (!error) {
		domain_did(operation, "stopped");
		error = domain_finish_revert(operation, &revert->directory, intent);
		if (error)
			end_failed(revert, intent);
	}
	guard_stop(&guard);
	json_decref(intent);
	return error;
}

int domain_revert(struct domain_operation *operation)
{
	struct revert revert = { .operation = operation, .text = &operation->text, .directory = { .fd = -1, .lock = -1 } };
	int error = domain_locate_and_begin(operation, &revert.directory);

	if (!error)
		error = info_find_named(operation, &revert.directory, &revert.info);
	if (!error)
		error = check_memory(&revert);
	if (!error)
		error = check_boot(&revert);
	if (!error)
		error = check_disks(&revert);
	if (!error)
		error = check_change(&revert);
	if (!error)
		error = domain_check_canceled(operation);
	if (!error)
		error = run(&revert);
	if (!error)
		json_array_append(operation->infos, revert.info);
	directory_close(&revert.directory);
	json_decref(revert.info);
	return error;
}
