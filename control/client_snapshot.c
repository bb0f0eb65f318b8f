/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_snapshot.c - lists, deletes and reverts to existing snapshots of
 * several disks.
 *
 * All disks are checked before the first one deletes its snapshot. Deleting
 * is still not atomic: a disk may fail, and then the message says how far it
 * went. Reverting is atomic (client_revert.c).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client_internal.h"
#include "client_many.h"

static json_t *make_request(const char *command, const struct many_disk *disk)
{
	return json_pack("{s:s, s:i}", "command", command, "minor", disk->disk.minor);
}

static json_t *info_request(struct many_disk *disk, void *arg)
{
	return make_request("info", disk);
}

static json_t *name_request(const char *command, const struct many_disk *disk, const char *name)
{
	return json_pack("{s:s, s:i, s:s}", "command", command, "minor", disk->disk.minor, "name", name);
}

/* List all snapshots, or the one called @arg. */
static json_t *list_request(struct many_disk *disk, void *arg)
{
	json_t *request = make_request("snapshot-list", disk);

	/* no snapshot has a name that is not UTF-8, so it will not be found */
	if (request && arg)
		json_object_set_new(request, "name", json_string(arg));
	return request;
}

static json_t *delete_request(struct many_disk *disk, void *arg)
{
	return name_request("snapshot-delete", disk, arg);
}

int tapctl_snapshot_list(const struct tapctl_disk *disk, json_t **snapshots, int timeout_ms, struct error_text *text)
{
	struct many many;
	int error = many_open(&many, disk, 1, text);

	*snapshots = NULL;
	if (!error)
		error = many_call(&many, list_request, NULL, false, timeout_ms, text);
	if (!error)
		*snapshots = json_incref(json_object_get(many.disks[0].reply, "snapshots"));
	many_close(&many);
	return error;
}

/* The snapshot called @name, from the reply; NULL: none. */
static const json_t *find_snapshot(const struct many_disk *disk, const char *name)
{
	const json_t *one;
	const char *there;
	size_t i;

	json_array_foreach(json_object_get(disk->reply, "snapshots"), i, one) {
		there = json_string_value(json_object_get(one, "name"));
		if (there && !strcmp(there, name))
			return one;
	}
	return NULL;
}

static int check_names(struct many *many, const char *name, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, list_request, (void *)name, false, timeout_ms, text);
	unsigned i;

	for (i = 0; !error && i < many->count; i++) {
		const struct many_disk *disk = &many->disks[i];

		if (!find_snapshot(disk, name))
			error = error_set(text, -ENOENT, "minor %d of tapdisk %d has no snapshot called \"%s\"; nothing was done",
					  disk->disk.minor, disk->disk.pid, name);
	}
	return error;
}

/* Uses the replies of check_names(). */
static int check_closed(const struct many *many, const char *name, struct error_text *text)
{
	for (unsigned i = 0; i < many->count; i++) {
		const struct many_disk *disk = &many->disks[i];

		if (json_is_true(json_object_get(find_snapshot(disk, name), "open")))
			return error_set(text, -EBUSY, "minor %d of tapdisk %d: snapshot \"%s\" is open: close it first; nothing was "
					 "done", disk->disk.minor, disk->disk.pid, name);
	}
	return 0;
}

static int check_unused(struct many *many, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, info_request, NULL, false, timeout_ms, text);
	unsigned i;

	for (i = 0; !error && i < many->count; i++) {
		const struct many_disk *disk = &many->disks[i];
		const json_t *info = json_object_get(disk->reply, "disk");

		if (json_array_size(json_object_get(info, "connections")) ||
		    json_integer_value(json_object_get(info, "nbd_connections")))
			error = error_set(text, -EBUSY, "minor %d of tapdisk %d is in use: shut the guest down and disconnect NBD "
					  "clients first; nothing was done", disk->disk.minor, disk->disk.pid);
	}
	return error;
}

/* List the completed disks: "minor 0 of tapdisk 12, minor 1 of tapdisk 13", or "no disk". */
static void name_done(const struct many *many, char *buffer, size_t size)
{
	size_t used = 0;
	unsigned i;

	snprintf(buffer, size, "no disk");
	for (i = 0; i < many->count && used < size; i++) {
		const struct many_disk *disk = &many->disks[i];

		if (disk->done)
			used += snprintf(buffer + used, size - used, "%sminor %d of tapdisk %d", used ? ", " : "",
					 disk->disk.minor, disk->disk.pid);
	}
}

int tapctl_snapshot_delete(const struct tapctl_disk *disks, unsigned count, const char *name, int timeout_ms,
			   struct error_text *text)
{
	struct error_text reason = { "" };
	char done[256];
	struct many many;
	unsigned i;
	int error;

	error = many_open(&many, disks, count, text);
	if (!error)
		error = check_names(&many, name, timeout_ms, text);
	if (!error)
		error = check_closed(&many, name, text);
	if (error)
		goto out;
	error = many_call(&many, delete_request, (void *)name, false, timeout_ms, &reason);
	for (i = 0; i < count; i++)
		many.disks[i].done = !many.disks[i].error;
	name_done(&many, done, sizeof(done));
	if (error)
		error_set(text, error, "%s; deleted on %s", reason.text, done);
out:
	many_close(&many);
	return error;
}

int tapctl_snapshot_revert(const struct tapctl_disk *disks, unsigned count, const char *name, const char *owner,
			   int timeout_ms, struct error_text *text)
{
	struct many many;
	int error;

	error = many_open(&many, disks, count, text);
	if (!error)
		error = check_names(&many, name, timeout_ms, text);
	if (!error)
		error = check_unused(&many, timeout_ms, text);
	if (!error && count == 1)
		error = client_revert_alone(&many, name, timeout_ms, text);
	else if (!error)
		error = client_revert_together(&many, name, owner, timeout_ms, text);
	many_close(&many);
	return error;
}
