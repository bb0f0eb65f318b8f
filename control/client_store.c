/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_store.c - finds the tapdisk in which a store must be opened.
 *
 * A store belongs to one process: while it is open, that process must also
 * serve its snapshots, and clones based on it.
 *
 * The search examines all open stores. A store whose storage does not answer
 * (probe.h) is skipped: ours has just answered, so it is another one.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client_internal.h"
#include "cow.h"
#include "cow_base.h"
#include "probe.h"

#define LIST_TIMEOUT_MS 10000
#define OTHERS_MS 1000

struct search {
	struct stat store;
	int pid, minor;		/* pid 0: not found yet; a minor that uses the store */
	bool active;		/* it serves the disk itself, not only a snapshot */
	bool below;		/* also look at the bases of open stores */
};

static void look_at(struct search *search, int pid, int minor, const char *path, bool active)
{
	struct stat st;

	if (!stat(path, &st) && st.st_dev == search->store.st_dev && st.st_ino == search->store.st_ino) {
		search->pid = pid;
		search->minor = minor;
		search->active |= active;
	}
}

/* The store of a closed disk stays open while clones of it are open. */
static void look_below(struct search *search, int pid, int minor, const char *path)
{
	char *base = cow_base_peek(path), *next;

	for (unsigned depth = 0; base && depth < COW_BASE_DEPTH; depth++) {
		look_at(search, pid, minor, base, false);
		next = cow_base_peek(base);
		free(base);
		base = next;
	}
	free(base);
}

static bool answers(const char *path)
{
	char target[PATH_MAX + 8];

	return snprintf(target, sizeof(target), "cow:%s", path) < (int)sizeof(target) &&
		!probe_wait(target, OTHERS_MS, tapctl_interrupt(), NULL);
}

static void look_at_target(struct search *search, int pid, int minor, const char *target)
{
	const char *name;
	char *path = cow_target_split(target, &name);

	if (path)
		look_at(search, pid, minor, path, !name);
	if (path && search->below)
		look_below(search, pid, minor, path);
	free(path);
}

static int list_disks(int pid, json_t **reply)
{
	struct tapctl *ctl;
	int error = tapctl_connect(&ctl, pid, NULL);

	if (error)
		return error;
	error = tapctl_call(ctl, json_pack("{s:s}", "command", "list"), reply, LIST_TIMEOUT_MS, NULL);
	tapctl_close(ctl);
	return error;
}

static void look_into(int pid, void *arg)
{
	struct search *search = arg;
	json_t *reply, *disks;
	size_t i;

	/* skip a tapdisk that does not answer: if it has the store, opening the store will say so */
	if (search->pid || list_disks(pid, &reply))
		return;
	disks = json_object_get(reply, "disks");
	for (i = 0; i < json_array_size(disks); i++) {
		const json_t *disk = json_array_get(disks, i);
		const char *type = json_string_value(json_object_get(disk, "type"));
		const char *path = json_string_value(json_object_get(disk, "path"));
		const char *store = json_string_value(json_object_get(disk, "store"));
		int minor = (int)json_integer_value(json_object_get(disk, "minor"));

		if (store && answers(store))	/* the store that a raw disk has moved to */
			look_at(search, pid, minor, store, true);
		else if (!store && type && path && !strcmp(type, "cow") && answers(path))
			look_at_target(search, pid, minor, path);
	}
	json_decref(reply);
}

/*
 * The process that has the store at @path open, or 0. For the disk itself
 * (@active) also 0 if it is open already: then the lock refuses the second
 * open. If only clones of it are open, the disk is opened in their process.
 * Clones of the same store may be in different processes.
 */
static int find_owner(const char *path, bool active)
{
	struct search search = { .below = active };

	if (!stat(path, &search.store))
		tapctl_process_list(look_into, &search);
	return active && search.active ? 0 : search.pid;
}

int tapctl_store_owner(const char *path, int *minor)
{
	struct search search = { .pid = 0 };

	if (!stat(path, &search.store))
		tapctl_process_list(look_into, &search);
	*minor = search.minor;
	return search.pid;
}

/* The base of the store at @path, if that is a store; the caller frees it. NULL: none, or an error, which opening it reports. */
static char *find_base(const char *path)
{
	enum cow_base_kind kind = COW_BASE_NONE;
	struct cow_base_fields fields;
	struct cow_device *device;
	const char *name;
	int error = cow_file_open(&device, path, true, NULL);

	if (error)
		return NULL;
	error = cow_probe(device, &kind, &fields, NULL);
	cow_file_close(device);
	return error || kind != COW_BASE_COW ? NULL : cow_target_split(fields.target, &name);
}

unsigned client_store_depth(const char *target)
{
	unsigned depth = 0;
	char *path, *base;
	const char *name;

	if (strncmp(target, "cow:", 4))
		return 0;
	if (probe_wait(target, OTHERS_MS, tapctl_interrupt(), NULL))
		return UINT_MAX;
	path = cow_target_split(target, &name);
	while (path && depth < COW_BASE_DEPTH && (base = cow_base_peek(path))) {
		free(path);
		path = base;
		depth++;
	}
	free(path);
	return depth;
}

bool tapctl_store_is_snapshot(const char *target)
{
	const char *name = NULL;

	if (!strncmp(target, "cow:", 4))
		free(cow_target_split(target, &name));
	return name;
}

int tapctl_store_process(const char *target, struct error_text *text)
{
	const char *name;
	char *path, *base;
	unsigned depth, seconds;
	int pid = 0, error;

	if (strncmp(target, "cow:", 4))
		return 0;
	error = probe_limit(&seconds, text);
	if (!error)
		error = probe_wait(target, seconds * 1000, tapctl_interrupt(), text);
	if (error)
		return error;
	path = cow_target_split(target, &name);
	for (depth = 0; path && depth < COW_BASE_DEPTH; depth++) {
		pid = find_owner(path, !depth && !name);
		base = pid ? NULL : find_base(path);
		free(path);
		path = base;
	}
	free(path);
	return pid;
}
