/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_create.c - takes a snapshot of a domain.
 *
 *   checks -> intent -> hook freeze -> memory, the domain is suspended -> disks frozen -> it resumes
 *          -> disks as a group durable -> save file durable -> hook thaw -> information file
 *          -> current -> --shutdown: it is destroyed -> intent removed
 *
 * Why memory and disks are of one instant: a domain that libxl has suspended
 * issues no requests. Its requests in flight are in its rings, and in the
 * list that blkfront keeps in the domain's memory. The backend may complete
 * such a request before the disks' snapshot, after it, or partly before it:
 * in the restored domain it is unanswered in any case, and blkfront issues it
 * again on the new ring, with the same data for the same sectors. No completed
 * write is missing, since a snapshot has every write that was answered; and
 * the snapshot has no write that was not issued. The original domain resumes
 * and finds the responses in its old ring.
 *
 * Invariants: once the intent is written, every path ends with an information
 * file, or in domain_undo_create(). Until the information file is written the
 * domain can resume: one that will be shut down stays suspended until then.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "domain.h"

struct create {
	struct domain_operation *operation;
	const struct domain_snapshot_request *request;
	struct domain_directory directory;
	struct domain_disks disks;
	struct error_text *text;
	char *config_text;
	json_t *config;			/* the same, parsed */
	char name[SNAPSHOT_NAME_MAX + 1];
	int64_t time;
	bool memory;
	struct disks_snapshot taking;
	uint64_t stopped;		/* clock_ns() when the memory was saved */
	bool gone_on;
	int resume_error;
	struct guard guard;
	struct error_text parent_lost;	/* why it is not known which snapshot the domain was at */
};

/* ---- checks ---- */

static int choose_name(struct create *create)
{
	const char *name = create->request->name;
	struct error_text ignored = { "" };
	char number[32];
	json_t *info;
	int error;

	create->time = time(NULL);
	snprintf(number, sizeof(number), "%" PRId64, create->time);
	if (!name)
		name = number;
	error = info_read(&create->directory, name, &info, &ignored);
	json_decref(info);
	if (!error || error == -EBADMSG)
		return error_set(create->text, -EEXIST, "there is already a snapshot called \"%s\"", name);
	if (error != -ENOENT)
		return error_set(create->text, error, "%s", ignored.text);
	snprintf(create->name, sizeof(create->name), "%s", name);
	return 0;
}

static int read_config(struct create *create)
{
	struct domain_operation *operation = create->operation;
	struct domain_host *host = operation->host;
	json_t *infos = NULL;
	json_error_t where;
	int error = 0;

	/* a config file lacks what a save file needs, and changes made at run time */
	if (operation->id.there) {
		free(create->config_text);
		create->config_text = NULL;
		error = host->ops->config(host, operation->id.domid, &create->config_text, create->text);
	}
	if (error)
		return error;
	if (create->config_text) {
		create->config = json_loads(create->config_text, 0, &where);
		return create->config ? 0 : error_set(create->text, -EBADMSG, "the domain's configuration cannot be read: %s",
						      where.text);
	}
	/* shut off, and no config file was named: use the configuration of its last snapshot */
	error = info_read_all(&create->directory, &infos, NULL, create->text);
	if (!error)
		create->config = json_incref(json_object_get(json_array_get(infos, json_array_size(infos) - 1), "config"));
	json_decref(infos);
	return error || create->config ? error : error_set(create->text, -ENOENT, "the domain's configuration is not known: "
							   "give its config file, with a / in the path");
}

static int leave_out(struct create *create)
{
	const char *const *vdev = create->request->leave_out;
	struct domain_disk *disk;

	for (; vdev && *vdev; vdev++) {
		disk = disks_find(&create->disks, *vdev);
		if (!disk)
			return error_set(create->text, -ENOENT, "the domain has no writable disk %s", *vdev);
		disk->skip = true;
	}
	return 0;
}

static int check_disk(struct create *create, struct domain_disk *disk)
{
	struct error_text reason = { "" };
	int found;

	if (create->memory && !disk->configured)
		return error_set(create->text, -EOPNOTSUPP, "disk %s is not in the domain's configuration (tap-ctl "
				 "xen-attach?), so a restored domain would not have it; use --disk-only, or leave it out with "
				 "--diskspec %s,snapshot=no", disk->vdev, disk->vdev);
	found = disk_has_snapshot(disk, create->name, &reason);
	if (found == -EOPNOTSUPP && create->request->store) {
		disk->store = create->request->store;
		return 0;
	}
	if (found == -EOPNOTSUPP)
		return error_set(create->text, found, "disk %s: %s is not in a store, so it has no snapshots; --store "
				 "DIRECTORY moves it into one; --diskspec %s,snapshot=no leaves it out", disk->vdev,
				 disk->target, disk->vdev);
	if (found < 0)
		return error_set(create->text, found, "%s", reason.text);
	if (found)
		return error_set(create->text, -EEXIST, "disk %s: %s already has a snapshot called \"%s\"", disk->vdev,
				 disk->target, create->name);
	disk->id = disk->time = 0;
	return 0;
}

static int check_disks(struct create *create)
{
	struct domain_operation *operation = create->operation;
	unsigned taken = 0;
	int error;

	if (operation->id.there)
		error = operation->host->ops->disks(operation->host, operation->id.domid, &create->disks, create->text);
	else
		error = disks_from_config(&create->disks, create->config, create->text);
	if (!error)
		error = leave_out(create);
	for (unsigned i = 0; !error && i < create->disks.count; i++) {
		const struct domain_disk *disk = &create->disks.disk[i];

		taken += !disk->skip;
		if (!disk->skip && disk->pid == -1 && !(disk->target && strchr(disk->target, ':')))
			error = error_set(create->text, -EOPNOTSUPP, "disk %s: no tapdisk serves it, so it has no snapshots; to leave "
					  "it out: --diskspec %s,snapshot=no", disk->vdev, disk->vdev);
	}
	if (!error && !taken && !create->memory)
		error = error_set(create->text, -ENOENT, "domain %s has no disk to take a snapshot of", operation->id.name);
	if (!error)
		error = disks_open(&create->disks, create->text);
	for (unsigned i = 0; !error && i < create->disks.count; i++) {
		if (!create->disks.disk[i].skip)
			error = check_disk(create, &create->disks.disk[i]);
	}
	return error;
}

static int check_memory(struct create *create)
{
	struct domain_operation *operation = create->operation;
	struct statvfs space;
	uint64_t bytes;
	int error;

	if (!create->memory)
		return 0;
	error = operation->host->ops->can_save(operation->host, operation->id.domid, create->request->live, &bytes, create->text);
	if (error)
		return error;
	if (fstatvfs(create->directory.fd, &space))
		return error_set(create->text, -errno, "%s: %s", create->directory.path, strerror(errno));
	if (bytes / space.f_frsize >= space.f_bavail)
		return error_set(create->text, -ENOSPC, "%s: the memory needs %" PRIu64 " MiB, and %" PRIu64 " MiB are free",
				 create->directory.path, bytes >> 20, (uint64_t)space.f_bavail * space.f_frsize >> 20);
	return 0;
}

static int check_request(struct create *create)
{
	const struct domain_snapshot_request *request = create->request;
	bool there = create->operation->id.there;

	create->memory = there && !request->disk_only;
	if (request->live && !create->memory)
		return error_set(create->text, -EINVAL, "live applies to memory, which is not saved in a snapshot %s",
				 there ? "of disks only" : "of a domain that is shut off");
	if (!there && (request->after == DOMAIN_SNAPSHOT_RUNNING || request->after == DOMAIN_SNAPSHOT_PAUSED))
		return error_set(create->text, -EINVAL, "domain %s is shut off", create->operation->id.name);
	return 0;
}

/* ---- the steps ---- */

/* The raw disks that will move to new stores. */
static json_t *list_moves(const struct create *create)
{
	json_t *moves = json_array();

	for (unsigned i = 0; i < create->disks.count; i++) {
		if (!create->disks.disk[i].skip && create->disks.disk[i].store)
			json_array_append_new(moves, json_string(create->disks.disk[i].vdev));
	}
	return moves;
}

static int write_intent(struct create *create)
{
	const struct domain_id *id = &create->operation->id;
	char *stores = create->request->store ? realpath(create->request->store, NULL) : NULL;
	json_t *intent = json_pack("{s:s, s:s, s:I, s:b, s:i, s:s?, s:o, s:o, s:o, s:s*}", "op", "create", "name", create->name,
				   "time", (json_int_t)create->time, "memory", create->memory, "after", (int)create->request->after,
				   "hook", create->request->hook, "domain", domain_to_json(id), "disks", disks_to_json(&create->disks),
				   "moves", list_moves(create), "stores", stores);
	int error = directory_write(&create->directory, INTENT_FILE, intent, create->text);

	json_decref(intent);
	free(stores);
	return error;
}

/* If it is there, recovery assumes that the guest was asked to suspend. */
static int open_save(struct create *create, int *fd)
{
	char file[NAME_MAX + 1];
	int error;

	info_save_file(file, create->name, true);
	*fd = openat(create->directory.fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (*fd < 0)
		return error_set(create->text, -errno, "%s/%s: %s", create->directory.path, file, strerror(errno));
	error = save_write_head(*fd, create->config_text, create->text);
	if (error)
		unlinkat(create->directory.fd, file, 0);
	return error;
}

static int take_memory(struct create *create, int *fd)
{
	struct domain_operation *operation = create->operation;
	struct error_text reason = { "" };
	int error = domain_check_canceled(operation);

	if (!error)
		error = open_save(create, fd);
	if (error)
		return error;
	error = operation->host->ops->save(operation->host, operation->id.domid, *fd, create->request->live, &reason);
	if (domain_check_canceled(operation))
		return -ECANCELED;
	if (error)
		return error_set(create->text, error, "saving the memory failed: %s", reason.text);
	domain_did(operation, "suspended");
	return 0;
}

/* Resume the domain. domain_finish_create() applies --paused and the like when the snapshot is complete. */
static int go_on(struct create *create)
{
	struct domain_operation *operation = create->operation;
	struct domain_host *host = operation->host;
	bool paused = create->request->after == DOMAIN_SNAPSHOT_PAUSED;
	int error;

	create->gone_on = true;
	if (!create->memory || create->request->after == DOMAIN_SNAPSHOT_SHUTDOWN)
		return 0;
	error = host->ops->resume(host, operation->id.domid, paused, create->text);
	if (error)
		return error;
	operation->stopped_us = (double)(clock_ns() - create->stopped) / 1e3;
	domain_did(operation, "resumed");
	return 0;
}

/* The instant of the disks is fixed: the domain may resume. */
static void on_held(void *arg)
{
	struct create *create = arg;

	create->resume_error = go_on(create);
}

static int begin_disks(struct create *create)
{
	struct error_text reason = { "" };
	int error;

	create->taking.snapshot = (struct tapctl_snapshot){
		.name = create->name, .description = create->request->description, .owner = create->directory.uuid,
		.held = create->memory ? on_held : NULL, .held_arg = create,
	};
	error = disks_snapshot_begin(&create->taking, &create->disks, &reason);
	return error ? error_set(create->text, error, "the snapshot of the disks failed: %s", reason.text) : 0;
}

static int take_disks(struct create *create)
{
	struct domain_operation *operation = create->operation;
	struct error_text reason = { "" };
	int error = disks_snapshot_take(&create->taking, &reason);

	operation->disks_us = create->taking.snapshot.stall_us;
	if (create->resume_error)
		return create->resume_error;
	if (error)
		return error_set(create->text, error, "the snapshot of the disks failed: %s", reason.text);
	domain_did(operation, "disks");
	return 0;
}

/* The part during which the domain is suspended; the save file is synced after it has resumed, if it does. */
static int take(struct create *create)
{
	int fd = -1, error = begin_disks(create);

	if (!error && create->memory)
		error = take_memory(create, &fd);
	create->stopped = clock_ns();
	if (!error)
		error = domain_check_canceled(create->operation);
	if (!error)
		error = take_disks(create);
	if (!error && !create->gone_on)
		error = go_on(create);
	disks_snapshot_end(&create->taking);
	if (fd >= 0 && !error && fsync(fd))
		error = error_set(create->text, -errno, "the save file cannot be made durable: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return error;
}

static int note_ids(struct create *create)
{
	int error = disks_find_stores(&create->disks, create->text);

	for (unsigned i = 0; !error && i < create->disks.count; i++) {
		struct domain_disk *disk = &create->disks.disk[i];
		int found = disk->skip ? 1 : disk_has_snapshot(disk, create->name, create->text);

		if (found != 1)
			error = found ? found : error_set(create->text, -EIO, "disk %s did not get its snapshot", disk->vdev);
	}
	return error;
}

static json_t *make_info(const struct create *create, const char *save, const char *parent)
{
	const struct domain_snapshot_request *request = create->request;
	const struct domain_operation *operation = create->operation;

	return json_pack("{s:i, s:s, s:s, s:I, s:{s:s, s:s}, s:s, s:b, s:b, s:s, s:s?, s:s?, s:s?, s:s?, s:f, s:f, s:o, s:O}",
			 "version", 1, "name", create->name, "description", request->description ? request->description : "",
			 "creationtime", (json_int_t)create->time, "domain", "name", operation->id.name, "uuid",
			 operation->id.uuid, "type", "internal", "live", request->live, "disk_only", !create->memory,
			 "state", operation->id.there ? "running" : "shutoff", "parent", parent, "save", save,
			 "config_file", !operation->id.there && strchr(request->domain, '/') ? request->domain : NULL,
			 "hook", request->hook, "disks_us", operation->disks_us, "stopped_us", operation->stopped_us,
			 "disks", disks_to_json(&create->disks), "config", create->config);
}

/* Write the information file: from here on the snapshot exists. */
static int make_whole(struct create *create)
{
	char part[NAME_MAX + 1], save[NAME_MAX + 1], file[NAME_MAX + 1], path[PATH_MAX];
	struct domain_operation *operation = create->operation;
	char *parent = info_current(&create->directory, &create->parent_lost);
	json_t *info = NULL;
	struct stat st;
	int error = note_ids(create);

	info_save_file(part, create->name, true);
	info_save_file(save, create->name, false);
	info_file(file, create->name);
	if (!error && create->memory)
		error = directory_rename(&create->directory, part, save, create->text);
	if (!error)
		error = directory_path(&create->directory, save, path, create->text);
	if (!error && create->memory && stat(path, &st))
		error = error_set(create->text, -errno, "%s: %s", path, strerror(errno));
	if (!error) {
		domain_did(operation, "saved");
		info = make_info(create, create->memory ? path : NULL, parent);
		if (create->memory)
			json_object_set_new(info, "save_size", json_integer((json_int_t)st.st_size));
		error = directory_write(&create->directory, file, info, create->text);
	}
	free(parent);
	if (!error) {
		domain_did(operation, "whole");
		json_array_append(operation->infos, info);
	}
	json_decref(info);
	return error;
}

/* A guest that stays suspended or paused cannot thaw: the hook must run when it is resumed. */
static bool can_thaw(const struct create *create)
{
	enum domain_snapshot_after after = create->request->after;

	return !create->memory || (after != DOMAIN_SNAPSHOT_PAUSED && after != DOMAIN_SNAPSHOT_SHUTDOWN);
}

static int run(struct create *create)
{
	struct domain_operation *operation = create->operation;
	const char *hook = operation->id.there ? create->request->hook : NULL;
	int error = guard_start(&create->guard, operation, &create->directory, create->text);

	if (!error)
		error = write_intent(create);
	if (error)
		return error;
	domain_did(operation, "intent");
	if (hook)
		error = hook_run(operation, hook, "freeze", &operation->id, create->text);
	if (!error)
		error = domain_check_canceled(operation);
	if (!error)
		error = take(create);
	if (!error && hook && can_thaw(create))
		error = hook_run(operation, hook, "thaw", &operation->id, create->text);
	/* from here on the operation is finished, not undone */
	if (!error)
		error = domain_check_canceled(operation);
	if (!error)
		error = make_whole(create);
	return error;
}

static void append(struct error_text *text, const char *words, const char *reason)
{
	size_t used = strlen(text->text);

	snprintf(text->text + used, sizeof(text->text) - used, "; %s%.200s", words, reason);
}

static void undo(struct create *create)
{
	struct domain_operation *operation = create->operation;
	struct error_text reason = *create->text;
	json_t *intent;
	int error = directory_read(&create->directory, INTENT_FILE, &intent, NULL);

	if (error)		/* nothing was changed */
		return;
	create->text->text[0] = '\0';
	error = domain_undo_create(operation, &create->directory, intent);
	json_decref(intent);
	if (error)
		append(&reason, "undoing it also failed, and the next command tries again: ", create->text->text);
	else if (create->text->text[0] && !strstr(reason.text, create->text->text))
		append(&reason, "", create->text->text);
	*create->text = reason;
}

/* The snapshot is complete; if a step fails now, the next command does it. */
static void finish(struct create *create)
{
	struct error_text reason;
	json_t *intent;
	int error = directory_read(&create->directory, INTENT_FILE, &intent, create->text);

	if (!error)
		error = domain_finish_create(create->operation, &create->directory, intent, true);
	json_decref(intent);
	if (!error)
		return;
	reason = *create->text;
	create->text->text[0] = '\0';
	error_set(create->text, error, "the snapshot is complete, but the next command has to finish this: %.400s",
		  reason.text);
}

/*
 * A disk that is left out does not go back with the memory, which may have its filesystem mounted: data that the guest wrote
 * since would be lost or damaged.
 */
static void warn_left_out(struct create *create)
{
	const char *const *vdev = create->request->leave_out;

	if (create->memory && vdev && *vdev)
		error_set(create->text, 0, "disk %s is left out: a revert brings the memory back, but not this disk, and a filesystem "
			  "on it that is mounted in the snapshot will be damaged", *vdev);
}

static void warn_parent_lost(struct create *create)
{
	if (create->parent_lost.text[0])
		error_set(create->text, 0, "the snapshot has no parent: %.400s", create->parent_lost.text);
}

static void warn_frozen(struct create *create)
{
	const struct domain_operation *operation = create->operation;
	const char *hook = create->request->hook;

	if (operation->id.there && hook && create->request->after == DOMAIN_SNAPSHOT_PAUSED && !can_thaw(create))
		error_set(create->text, 0, DOMAIN_FROZEN, hook, operation->id.name);
}

int domain_create(struct domain_operation *operation)
{
	struct create create = {
		.operation = operation, .request = operation->request, .text = &operation->text,
		.directory = { .fd = -1, .lock = -1 }, .guard = { .fd = -1 },
	};
	int error = domain_locate(operation, &create.config_text);

	if (!error)
		error = domain_begin(operation, &create.directory, true);
	if (!error)
		error = check_request(&create);
	if (!error)
		error = choose_name(&create);
	if (!error)
		error = read_config(&create);
	if (!error)
		error = check_disks(&create);
	if (!error)
		error = check_memory(&create);
	if (!error)
		error = domain_check_canceled(operation);
	if (!error) {
		error = run(&create);
		if (error)
			undo(&create);
		else
			finish(&create);
		if (!error)
			warn_frozen(&create);
		if (!error && !create.text->text[0])
			warn_left_out(&create);
		if (!error)
			warn_parent_lost(&create);
		guard_stop(&create.guard);
	}
	disks_close(&create.disks);
	if (create.directory.fd >= 0)
		directory_remove_empty(&create.directory);
	directory_close(&create.directory);
	disks_free(&create.disks);
	json_decref(create.config);
	free(create.config_text);
	return error;
}
