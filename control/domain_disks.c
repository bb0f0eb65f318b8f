/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_disks.c - the disks of a domain at their tapdisks.
 *
 * If the domain is shut off, its disks are opened while they are needed, so
 * that all operations go through a tapdisk. The target of a raw disk that has
 * moved to a store is still its raw image: tapdisk finds the store, and
 * reports its path.
 *
 * Invariant: disks_close() closes exactly the disks that disks_open() opened.
 * When a killed operation is recovered, these include unused disks that it
 * left open (adopt).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client_disk.h"
#include "client_internal.h"
#include "domain.h"

#define TIMEOUT_MS 60000
#define LOOK_NS 50000000

int disks_append(struct domain_disks *disks, const struct domain_disk *disk)
{
	struct domain_disk *grown = reallocarray(disks->disk, disks->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	disks->disk = grown;
	disks->disk[disks->count++] = *disk;
	return 0;
}

struct domain_disk *disks_find(const struct domain_disks *disks, const char *vdev)
{
	for (unsigned i = 0; i < disks->count; i++) {
		if (!strcmp(disks->disk[i].vdev, vdev))
			return &disks->disk[i];
	}
	return NULL;
}

void disks_free(struct domain_disks *disks)
{
	for (unsigned i = 0; i < disks->count; i++) {
		free(disks->disk[i].target);
		free(disks->disk[i].moved);
	}
	free(disks->disk);
	*disks = (struct domain_disks){ 0 };
}

static int append_target(struct domain_disks *disks, struct domain_disk *disk, const char *vdev, const char *format,
			 const char *path, struct error_text *text)
{
	int error = 0;

	if (strlen(vdev) >= sizeof(disk->vdev))
		return error_set(text, -EINVAL, "%.40s: not a virtual device", vdev);
	strcpy(disk->vdev, vdev);
	if (asprintf(&disk->target, "%s%s", format, path) < 0)
		error = -ENOMEM;
	if (!error)
		error = disks_append(disks, disk);
	if (error)
		free(disk->target);
	return error ? error_set(text, error, "out of memory") : 0;
}

/*
 * libxl omits members with default values. If no backend is given, it never chooses ours, but one that writes to the image
 * without knowing its store. A path that is not absolute is TYPE:PATH, for our hotplug script.
 */
int disks_from_config(struct domain_disks *disks, const json_t *config, struct error_text *text)
{
	const json_t *device;
	int error = 0;
	size_t i;

	json_array_foreach(json_object_get(config, "disks"), i, device) {
		const char *vdev = info_string(device, "vdev"), *path = info_string(device, "pdev_path");
		const char *backend = info_string(device, "backend");
		const json_t *writable = json_object_get(device, "readwrite");
		struct domain_disk disk = { .pid = -1, .minor = -1, .configured = true };

		if (!vdev || !path || !*path || json_integer_value(json_object_get(device, "is_cdrom")) ||
		    json_is_true(json_object_get(device, "is_cdrom")))
			continue;
		disk.writable = json_is_true(writable) || json_integer_value(writable);
		if (disk.writable && (!backend || strcmp(backend, "tap") != 0))
			error = append_target(disks, &disk, vdev, "", "", text);
		else if (disk.writable)
			error = append_target(disks, &disk, vdev, *path == '/' ? "aio:" : "", path, text);
		if (error)
			return error;
	}
	return 0;
}

int disks_from_info(struct domain_disks *disks, const json_t *info, struct error_text *text)
{
	const json_t *one;
	int error = 0;
	size_t i;

	json_array_foreach(json_object_get(info, "disks"), i, one) {
		struct domain_disk disk = {
			.pid = -1, .minor = -1, .writable = true, .configured = true,
			.id = json_integer_value(json_object_get(one, "id")),
			.time = json_integer_value(json_object_get(one, "time")),
		};

		error = append_target(disks, &disk, info_string(one, "vdev"), "", info_string(one, "target"), text);
		if (error)
			break;
	}
	return error;
}

const char *disk_file(const struct domain_disk *disk)
{
	const char *colon = disk->target ? strchr(disk->target, ':') : NULL;

	return disk->moved ? disk->moved : colon ? colon + 1 : "";
}

/* "target" opens the disk; "format" and "path" are of the file that holds its snapshots. */
static json_t *disk_to_json(const struct domain_disk *disk)
{
	int type_length = (int)(strchr(disk->target, ':') - disk->target);

	return json_pack("{s:s, s:s, s:s, s:s#, s:I, s:I}", "vdev", disk->vdev, "target", disk->target, "path", disk_file(disk),
			 "format", disk->moved ? "cow" : disk->target, disk->moved ? 3 : type_length, "id", disk->id, "time",
			 disk->time);
}

json_t *disks_to_json(const struct domain_disks *disks)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < disks->count; i++) {
		const struct domain_disk *disk = &disks->disk[i];

		if (!disk->skip && disk->target && strchr(disk->target, ':'))
			json_array_append_new(array, disk_to_json(disk));
	}
	return array;
}

/* ---- finding the tapdisk ---- */

struct search {
	struct domain_disk *disk;
	bool by_target;			/* false: by pid and minor, to learn the target */
	bool adopt;
	bool found;
};

/*
 * No guest but @except, if that is not NULL, and no NBD client uses it, and none of its snapshots is exported. The NBD client
 * of an HVM guest's disk may be its own QEMU.
 */
static bool is_unused(const json_t *disk, const struct disks_user *except)
{
	const json_t *export, *connection;
	size_t i;

	json_array_foreach(json_object_get(disk, "exports"), i, export) {
		if (info_string(export, "snapshot"))
			return false;
	}
	json_array_foreach(json_object_get(disk, "connections"), i, connection) {
		if (!except || json_integer_value(json_object_get(connection, "domid")) != except->domid)
			return false;
	}
	return (except && except->hvm) || !json_integer_value(json_object_get(disk, "nbd_connections"));
}

static void look_into(int pid, void *arg)
{
	struct search *search = arg;
	struct domain_disk *disk = search->disk;
	json_t *reply, *one;
	size_t i;

	if (search->found || (!search->by_target && pid != disk->pid) ||
	    call_tapdisk(pid, call_request("list", -1), TIMEOUT_MS, &reply, NULL))
		return;
	json_array_foreach(json_object_get(reply, "disks"), i, one) {
		const char *target = info_string(one, "target");
		int minor = (int)json_integer_value(json_object_get(one, "minor"));

		if (!target || (search->by_target ? strcmp(target, disk->target) != 0 : minor != disk->minor))
			continue;
		search->found = true;
		if (!search->by_target)
			disk->target = strdup(target);
		disk->pid = pid;
		disk->minor = minor;
		disk->opened = search->adopt && is_unused(one, NULL);
		break;
	}
	json_decref(reply);
}

static int open_disk(struct domain_disk *disk, bool adopt, struct error_text *text)
{
	const struct disk_options options = { .target = disk->target, .timeout_ms = TIMEOUT_MS };
	struct search search = { .disk = disk, .by_target = disk->pid == -1, .adopt = adopt };
	struct error_text reason = { "" };
	json_t *info;
	int error;

	if (!search.by_target)
		free(disk->target);
	if (!search.by_target)
		disk->target = NULL;
	tapctl_process_list(look_into, &search);
	if (search.found)
		return disk->target ? 0 : -ENOMEM;
	if (!search.by_target)
		return error_set(text, -ENODEV, "disk %s: its tapdisk %d does not answer", disk->vdev, disk->pid);
	error = disk_create(&options, &disk->pid, &disk->minor, &info, &reason);
	/* a successor may just have taken it over from a dead tapdisk */
	if (error == -EBUSY)
		tapctl_process_list(look_into, &search);
	if (search.found)
		return 0;
	if (error) {
		disk->pid = disk->minor = -1;
		return error_set(text, error, "disk %s: %s", disk->vdev, reason.text);
	}
	json_decref(info);
	disk->opened = true;
	return 0;
}

int disks_open(struct domain_disks *disks, struct error_text *text)
{
	int error = 0;

	for (unsigned i = 0; !error && i < disks->count; i++) {
		struct domain_disk *disk = &disks->disk[i];

		if (!disk->skip && !disk->opened)
			error = open_disk(disk, disks->adopt, text);
		disk->skip |= error && disks->give_up;
		error = disks->give_up ? 0 : error;
	}
	return error;
}

void disks_close(struct domain_disks *disks)
{
	for (unsigned i = 0; i < disks->count; i++) {
		struct domain_disk *disk = &disks->disk[i];

		if (!disk->opened)
			continue;
		disk_destroy(disk->pid, disk->minor, false, TIMEOUT_MS, NULL);
		disk->opened = false;
		disk->pid = disk->minor = -1;
	}
}

/* ---- raw disks in stores ---- */

static int read_disk(const struct domain_disk *disk, json_t **reply, struct error_text *text)
{
	struct error_text reason = { "" };
	int error = call_tapdisk(disk->pid, call_request("info", disk->minor), TIMEOUT_MS, reply, &reason);

	return error ? error_set(text, error, "disk %s: %s", disk->vdev, reason.text) : 0;
}

static int find_store(struct domain_disk *disk, struct error_text *text)
{
	const char *store;
	json_t *reply;
	int error = read_disk(disk, &reply, text);

	if (error)
		return error;
	store = info_string(json_object_get(reply, "disk"), "store");
	free(disk->moved);
	disk->moved = store ? strdup(store) : NULL;
	if (store && !disk->moved)
		error = error_set(text, -ENOMEM, "out of memory");
	json_decref(reply);
	return error;
}

static int check_unused(const struct domain_disk *disk, const struct disks_user *except, struct error_text *text)
{
	json_t *reply;
	int error = read_disk(disk, &reply, text);

	if (error)
		return error;
	if (!is_unused(json_object_get(reply, "disk"), except))
		error = error_set(text, -EBUSY, "disk %s: %s is in use: first disconnect NBD clients, end exports of its "
				  "snapshots, and detach it from other domains, including dom0", disk->vdev, disk->target);
	json_decref(reply);
	return error;
}

int disks_check_unused(const struct domain_disks *disks, const struct disks_user *except, struct error_text *text)
{
	int error = 0;

	for (unsigned i = 0; !error && i < disks->count; i++)
		error = check_unused(&disks->disk[i], except, text);
	return error;
}

int disks_find_stores(struct domain_disks *disks, struct error_text *text)
{
	int error = 0;

	for (unsigned i = 0; !error && i < disks->count; i++) {
		if (!disks->disk[i].skip)
			error = find_store(&disks->disk[i], text);
	}
	return error;
}

/* Wait for the commit, which has little to copy, unless a guest writes much: after a timeout it continues in the background. */
static int wait_committed(const struct domain_disk *disk, struct error_text *text)
{
	const char *state = "running", *why;
	json_t *reply = NULL;
	int error = 0;

	for (unsigned i = 0; !error && i < TIMEOUT_MS / (LOOK_NS / 1000000) && !strcmp(state, "running"); i++) {
		json_decref(reply);
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		error = read_disk(disk, &reply, text);
		state = info_string(json_object_get(json_object_get(reply, "disk"), "commit"), "state");
		state = state ? state : "done";
	}
	why = info_string(json_object_get(json_object_get(reply, "disk"), "commit"), "error");
	if (!error && strcmp(state, "done") != 0)
		error = error_set(text, -EBUSY, "disk %s: it stays in the store that it was moved to: %s", disk->vdev,
				  why && *why ? why : "the commit is still running");
	json_decref(reply);
	return error;
}

int disk_move_back(const struct domain_disk *disk, const char *stores, struct error_text *text)
{
	struct domain_disk look = { .pid = disk->pid, .minor = disk->minor };
	struct error_text reason = { "" };
	int error;

	memcpy(look.vdev, disk->vdev, sizeof(look.vdev));
	error = find_store(&look, text);
	if (!error && !look.moved && stores)
		client_overlay_give_up(stores, disk_file(disk));
	if (error || !look.moved)
		return error;
	error = call_tapdisk(disk->pid, call_request("commit", disk->minor), TIMEOUT_MS, NULL, &reason);
	if (error)
		error_set(text, error, "disk %s: it stays in the store %.200s: %s", disk->vdev, look.moved, reason.text);
	free(look.moved);
	return error ? error : wait_committed(disk, text);
}

/* ---- snapshots ---- */

int disk_has_snapshot(struct domain_disk *disk, const char *name, struct error_text *text)
{
	const struct tapctl_disk at = { disk->pid, disk->minor };
	struct error_text reason = { "" };
	json_t *snapshots, *one;
	int error, found = 0;
	size_t i;

	error = tapctl_snapshot_list(&at, &snapshots, TIMEOUT_MS, &reason);
	if (error)
		return error_set(text, error, "disk %s: %s", disk->vdev, reason.text);
	json_array_foreach(snapshots, i, one) {
		const char *there = info_string(one, "name");

		if (!there || strcmp(there, name))
			continue;
		found = 1;
		disk->id = json_integer_value(json_object_get(one, "id"));
		disk->time = json_integer_value(json_object_get(one, "time"));
		disk->sectors = json_integer_value(json_object_get(one, "sectors"));
		disk->read = json_is_true(json_object_get(one, "open"));
	}
	json_decref(snapshots);
	return found;
}

static int check_snapshot(struct domain_disk *disk, const char *name, struct error_text *text)
{
	json_int_t id = disk->id, time = disk->time;
	int found = disk_has_snapshot(disk, name, text);

	if (found < 0)
		return found;
	if (!found || disk->id != id || disk->time != time)
		return error_set(text, -ENOENT, "disk %s: %s has lost its snapshot \"%s\"%s", disk->vdev, disk->target, name,
				 found ? "; another one has that name now" : "");
	return 0;
}

int disks_check_snapshot(struct domain_disks *disks, const char *name, struct error_text *text)
{
	int error = 0;

	for (unsigned i = 0; !error && i < disks->count; i++)
		error = check_snapshot(&disks->disk[i], name, text);
	return error;
}

/* Is @found the snapshot of @known? If no id is known: is it not older than @since? */
static bool is_ours(const struct domain_disk *known, const struct domain_disk *found, json_int_t since)
{
	return known->id ? known->id == found->id && known->time == found->time : found->time >= since;
}

int disks_check_closed(const struct domain_disks *disks, const char *name, struct error_text *text)
{
	for (unsigned i = 0; i < disks->count; i++) {
		struct domain_disk found = disks->disk[i];
		int error = disk_has_snapshot(&found, name, text);

		if (error < 0 && error != -EOPNOTSUPP)
			return error;
		if (error == 1 && is_ours(&disks->disk[i], &found, 0) && found.read)
			return error_set(text, -EBUSY, "disk %s: its snapshot \"%s\" is open: close it first (an NBD client, "
					 "an export, or a disk that it is attached as)", found.vdev, name);
	}
	return 0;
}

/*
 * Wait until tapdisk has ended the commands of a killed client, and what they
 * prepared. It answers snapshot-commit only then; snapshot-list does not wait.
 */
static void wait_settled(const struct domain_disk *disk)
{
	/* a name that no group uses, because that one would be committed */
	json_t *request = json_pack("{s:s, s:i, s:s}", "command", "snapshot-commit", "minor", disk->minor, "name",
				    "~xl-snapshot~waits~until~all~is~settled~");

	call_tapdisk(disk->pid, request, TIMEOUT_MS, NULL, NULL);
}

int disks_delete_snapshot(struct domain_disks *disks, const char *name, json_int_t since, struct error_text *text)
{
	int error = 0;

	for (unsigned i = 0; !error && i < disks->count; i++) {
		struct domain_disk known = disks->disk[i], found = known;
		const struct tapctl_disk at = { known.pid, known.minor };
		struct error_text reason = { "" };

		if (known.skip)
			continue;
		wait_settled(&known);
		error = disk_has_snapshot(&found, name, &reason);
		if (error == -EOPNOTSUPP)	/* a raw disk that has not moved to its store */
			error = 0;
		else if (error < 0)
			error_set(text, error, "%s", reason.text);
		if (error == 1 && is_ours(&known, &found, since)) {
			error = tapctl_snapshot_delete(&at, 1, name, TIMEOUT_MS, &reason);
			if (error)
				error_set(text, error, "disk %s: %s", known.vdev, reason.text);
		}
		error = error < 0 && !disks->give_up ? error : 0;
	}
	return error;
}

/* The disks that are not skipped; the caller frees them. NULL: no memory. */
static struct tapctl_disk *list_disks(const struct domain_disks *disks, unsigned *count)
{
	struct tapctl_disk *list = calloc(disks->count + 1, sizeof(*list));

	*count = 0;
	for (unsigned i = 0; list && i < disks->count; i++) {
		if (!disks->disk[i].skip)
			list[(*count)++] = (struct tapctl_disk){ disks->disk[i].pid, disks->disk[i].minor, disks->disk[i].store };
	}
	return list;
}

int disks_revert(struct domain_disks *disks, const char *name, const char *owner, struct error_text *text)
{
	unsigned count;
	struct tapctl_disk *list = list_disks(disks, &count);
	int error = list ? 0 : error_set(text, -ENOMEM, "out of memory");

	if (!error && count)
		error = tapctl_snapshot_revert(list, count, name, owner, TIMEOUT_MS, text);
	free(list);
	return error;
}

int disks_snapshot_begin(struct disks_snapshot *snapshot, const struct domain_disks *disks, struct error_text *text)
{
	unsigned count;
	struct tapctl_disk *list = list_disks(disks, &count);
	int error = list ? 0 : error_set(text, -ENOMEM, "out of memory");

	snapshot->group = NULL;
	snapshot->snapshot.timeout_ms = TIMEOUT_MS;
	if (!error && count)
		error = tapctl_group_begin(&snapshot->group, list, count, &snapshot->snapshot, text);
	free(list);
	return error;
}

int disks_snapshot_take(struct disks_snapshot *snapshot, struct error_text *text)
{
	int error = snapshot->group ? tapctl_group_take(snapshot->group, text) : 0;

	/* the snapshot is taken of all: a disk that does not know yet will read the decision itself */
	return snapshot->snapshot.taken ? 0 : error;
}

void disks_snapshot_end(struct disks_snapshot *snapshot)
{
	tapctl_group_end(snapshot->group);
	snapshot->group = NULL;
}
