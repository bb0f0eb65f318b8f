/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-snapshot.c - snapshots of disks that tapdisks serve: commands that
 * take any number of disks, by -p and -m, or all disks of a domain.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tap-ctl.h"

struct disks {
	const struct tapctl_disk *disks;
	unsigned count;
	struct tapctl_disk *found;	/* to be freed; NULL: none */
};

static int disks_find(const struct arguments *args, struct disks *disks, struct error_text *text)
{
	int error;

	*disks = (struct disks){ .disks = args->disks, .count = args->nr_disks };
	if (!args->domain)
		return 0;
	error = domain_disks(args->domain, &disks->found, &disks->count, text);
	disks->disks = disks->found;
	return error;
}

/* A disk without its own --store gets the one for all. */
static void set_stores(const struct arguments *args, const struct disks *disks)
{
	struct tapctl_disk *all = disks->found ? disks->found : args->disks;
	unsigned i;

	for (i = 0; i < disks->count; i++) {
		if (!all[i].store)
			all[i].store = args->store;
	}
}

static int add_disks(json_t *result, const struct disks *disks)
{
	json_t *array = json_array();
	unsigned i;

	for (i = 0; i < disks->count; i++) {
		if (json_array_append_new(array, json_pack("{s:i, s:i}", "pid", disks->disks[i].pid, "minor",
							   disks->disks[i].minor))) {
			json_decref(array);
			return -ENOMEM;
		}
	}
	return json_object_set_new(result, "disks", array) ? -ENOMEM : 0;
}

static int run_snapshot_create(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct tapctl_snapshot snapshot = {
		.name = args->name, .description = args->description, .lease_ms = (unsigned)args->lease_ms,
		.timeout_ms = args->timeout_ms,
	};
	struct disks disks;
	int error = disks_find(args, &disks, text);

	if (!error)
		set_stores(args, &disks);
	if (!error)
		error = tapctl_snapshot_group(disks.disks, disks.count, &snapshot, text);
	if (!error && (add_disks(result, &disks) || json_object_set_new(result, "name", json_string(args->name)) ||
		       json_object_set_new(result, "stall_us", json_real(snapshot.stall_us))))
		error = error_set(text, -ENOMEM, "the snapshot was taken, but there is no memory to report it");
	free(disks.found);
	return error;
}

static void print_snapshot_create(const json_t *result, bool terminal)
{
	size_t count = json_array_size(json_object_get(result, "disks"));

	if (terminal)
		printf("snapshot %s of %zu disk%s; writes stood still for %.1f ms\n",
		       json_string_value(json_object_get(result, "name")), count, count == 1 ? "" : "s",
		       json_number_value(json_object_get(result, "stall_us")) / 1000);
}

const struct command command_snapshot_create = {
	.name = "snapshot-create", .options = "npmosdlt", .required = "n", .words = "", .many = true,
	.summary = "take a snapshot of disks, all at the same instant, while they are in use",
	.run = run_snapshot_create, .print = print_snapshot_create,
};

/* Add "snapshots" to the object @to. */
static int list_into(json_t *to, const struct tapctl_disk *disk, int timeout_ms, struct error_text *text)
{
	json_t *snapshots;
	int error = tapctl_snapshot_list(disk, &snapshots, timeout_ms, text);

	if (!error && json_object_set_new(to, "snapshots", snapshots))
		error = error_set(text, -ENOMEM, "out of memory");
	return error;
}

/* With a single disk the result is that disk's object itself. */
static int run_snapshot_list(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct disks disks;
	json_t *one;
	size_t i;
	int error = disks_find(args, &disks, text);

	if (!error && disks.count == 1 && !args->domain)
		return list_into(result, disks.disks, args->timeout_ms, text);
	if (!error && add_disks(result, &disks))
		error = error_set(text, -ENOMEM, "out of memory");
	json_array_foreach(json_object_get(result, "disks"), i, one) {
		if (!error)
			error = list_into(one, &disks.disks[i], args->timeout_ms, text);
	}
	free(disks.found);
	return error;
}

static void print_snapshot(const json_t *snapshot)
{
	time_t taken = json_integer_value(json_object_get(snapshot, "time"));
	const char *description = json_string_value(json_object_get(snapshot, "description"));
	char when[32] = "-";
	struct tm tm;

	if (localtime_r(&taken, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%c %-6lld %-6lld %-20s %16lld %-24s %s\n", json_is_true(json_object_get(snapshot, "current")) ? '*' : ' ',
	       (long long)json_integer_value(json_object_get(snapshot, "id")),
	       (long long)json_integer_value(json_object_get(snapshot, "parent")), when,
	       (long long)json_integer_value(json_object_get(snapshot, "sectors")) * 512,
	       json_string_value(json_object_get(snapshot, "name")), description ? description : "");
}

static void print_snapshots(const json_t *snapshots)
{
	size_t i;

	printf("  %-6s %-6s %-20s %16s %-24s %s\n", "ID", "PARENT", "TIME", "SIZE", "NAME", "DESCRIPTION");
	for (i = 0; i < json_array_size(snapshots); i++)
		print_snapshot(json_array_get(snapshots, i));
}

static void print_snapshot_list(const json_t *result, bool terminal)
{
	const json_t *disks = json_object_get(result, "disks"), *one;
	size_t i;

	if (!disks)
		print_snapshots(json_object_get(result, "snapshots"));
	json_array_foreach(disks, i, one) {
		printf("%spid=%lld minor=%lld\n", i ? "\n" : "", (long long)json_integer_value(json_object_get(one, "pid")),
		       (long long)json_integer_value(json_object_get(one, "minor")));
		print_snapshots(json_object_get(one, "snapshots"));
	}
}

const struct command command_snapshot_list = {
	.name = "snapshot-list", .options = "pmot", .required = "", .words = "", .many = true,
	.summary = "show the snapshots of disks",
	.run = run_snapshot_list, .print = print_snapshot_list,
};

static int run_snapshot_delete(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct disks disks;
	int error = disks_find(args, &disks, text);

	if (!error)
		error = tapctl_snapshot_delete(disks.disks, disks.count, args->name, args->timeout_ms, text);
	free(disks.found);
	return error;
}

const struct command command_snapshot_delete = {
	.name = "snapshot-delete", .options = "npmot", .required = "n", .words = "", .many = true,
	.summary = "delete a snapshot of disks; its space is freed in the background",
	.run = run_snapshot_delete,
};

static int run_snapshot_revert(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct disks disks;
	int error = disks_find(args, &disks, text);

	if (!error)
		error = tapctl_snapshot_revert(disks.disks, disks.count, args->name, NULL, args->timeout_ms, text);
	free(disks.found);
	return error;
}

const struct command command_snapshot_revert = {
	.name = "snapshot-revert", .options = "npmot", .required = "n", .words = "", .many = true,
	.summary = "revert disks that are not in use to a snapshot; what was written since is lost",
	.run = run_snapshot_revert,
};
