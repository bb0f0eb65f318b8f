/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xl-snapshot-print.c - prints results as text and as JSON.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tapctl.h"
#include "xl-snapshot.h"

static void print_time(char *buffer, size_t size, int64_t seconds)
{
	time_t time = seconds;
	struct tm tm;

	if (!localtime_r(&time, &tm) || !strftime(buffer, size, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(buffer, size, "%" PRId64, seconds);
}

static const char *kind(const struct domain_snapshot *snapshot)
{
	return !snapshot->save ? "disks" : snapshot->live ? "memory+disks, live" : "memory+disks";
}

void print_created(const struct arguments *args, const struct domain_snapshot_result *result)
{
	const struct domain_snapshot *snapshot = &result->snapshots[0];

	printf("snapshot %s of %s: %s%u disk%s\n", snapshot->name, result->domain, snapshot->save ? "memory and " : "",
	       snapshot->nr_disks, snapshot->nr_disks == 1 ? "" : "s");
	if (snapshot->save)
		printf("after its memory was saved the domain stood still for %.1f ms, its disks' writes for %.1f ms\n",
		       result->stopped_us / 1000, result->disks_us / 1000);
	else
		printf("the disks' writes stood still for %.1f ms\n", result->disks_us / 1000);
}

static void print_info(const struct domain_snapshot *snapshot)
{
	char time[40];
	struct stat st;

	print_time(time, sizeof(time), snapshot->creation_time);
	printf("name:           %s%s\n"
	       "description:    %s\n"
	       "created:        %s\n"
	       "holds:          %s\n"
	       "parent:         %s\n",
	       snapshot->name, snapshot->current ? " (current)" : "", snapshot->description, time, kind(snapshot),
	       snapshot->parent ? snapshot->parent : "-");
	for (unsigned i = 0; i < snapshot->nr_disks; i++)
		printf("disk %-10s %s:%s, snapshot %s\n", snapshot->disks[i].device, snapshot->disks[i].format,
		       snapshot->disks[i].file, snapshot->disks[i].name);
	if (!snapshot->save)
		return;
	if (stat(snapshot->save, &st))
		printf("memory:         %s: cannot be read\n", snapshot->save);
	else
		printf("memory:         %s, %" PRIu64 " MiB; xl restore it only while the disks are at this snapshot\n",
		       snapshot->save, (uint64_t)st.st_size >> 20);
}

void print_show(const struct arguments *args, const struct domain_snapshot_result *result)
{
	for (unsigned i = 0; i < result->count; i++) {
		/* without a name print the current one */
		if (!args->request.name && !result->snapshots[i].current)
			continue;
		print_info(&result->snapshots[i]);
	}
}

/* The snapshot's parent; with -n it may not be listed. NULL: not listed, or none: start a branch. */
static const struct domain_snapshot *listed_parent(const struct domain_snapshot_result *result,
						   const struct domain_snapshot *snapshot)
{
	for (unsigned i = 0; snapshot->parent && i < result->count; i++) {
		if (!strcmp(snapshot->parent, result->snapshots[i].name))
			return &result->snapshots[i];
	}
	return NULL;
}

static void print_branch(const struct domain_snapshot_result *result, const struct domain_snapshot *parent, unsigned depth)
{
	for (unsigned i = 0; i < result->count; i++) {
		const struct domain_snapshot *snapshot = &result->snapshots[i];

		if (listed_parent(result, snapshot) != parent)
			continue;
		printf("%*s%s%s\n", (int)(2 * depth), "", snapshot->name, snapshot->current ? " *" : "");
		if (depth < result->count)
			print_branch(result, snapshot, depth + 1);
	}
}

void print_list(const struct arguments *args, const struct domain_snapshot_result *result)
{
	char time[40];

	if (args->tree) {
		print_branch(result, NULL, 0);
		return;
	}
	if (!args->longer && result->count)
		printf("  %-24s %-20s %-20s %s\n", "NAME", "CREATED", "HOLDS", "DESCRIPTION");
	for (unsigned i = 0; i < result->count; i++) {
		const struct domain_snapshot *snapshot = &result->snapshots[i];

		if (args->longer) {
			printf("%s", i ? "\n" : "");
			print_info(snapshot);
			continue;
		}
		print_time(time, sizeof(time), snapshot->creation_time);
		printf("%c %-24s %-20s %-20s %s\n", snapshot->current ? '*' : ' ', snapshot->name, time, kind(snapshot),
		       snapshot->description);
	}
}

void print_current(const struct arguments *args, const struct domain_snapshot_result *result)
{
	for (unsigned i = 0; i < result->count; i++) {
		if (result->snapshots[i].current)
			puts(result->snapshots[i].name);
	}
}

void print_parent(const struct arguments *args, const struct domain_snapshot_result *result)
{
	for (unsigned i = 0; i < result->count; i++) {
		const struct domain_snapshot *snapshot = &result->snapshots[i];

		if ((args->request.name || snapshot->current) && snapshot->parent)
			puts(snapshot->parent);
	}
}

void print_reverted(const struct arguments *args, const struct domain_snapshot_result *result)
{
	const struct domain_snapshot *snapshot = &result->snapshots[0];
	bool off = !snapshot->save && args->request.after == DOMAIN_SNAPSHOT_AS_SAVED;

	printf("domain %s is at snapshot %s%s\n", result->domain, snapshot->name, off ? ", shut off" : "");
}

void print_deleted(const struct arguments *args, const struct domain_snapshot_result *result)
{
	for (unsigned i = 0; i < result->count; i++)
		printf("snapshot %s is deleted\n", result->snapshots[i].name);
}

void print_cloned(const struct arguments *args, const struct domain_snapshot_result *result)
{
	printf("to start it: xl %s %s\n", result->clone_has_memory ? "restore" : "create", result->clone);
}

void print_nothing(const struct arguments *args, const struct domain_snapshot_result *result)
{
}

/* The information file; if several are shown, without the domain's configuration. */
static json_t *snapshot_json(const struct arguments *args, const struct domain_snapshot *snapshot)
{
	json_t *json = json_copy((json_t *)snapshot->info);

	json_object_set_new(json, "current", json_boolean(snapshot->current));
	if (args->command->print != print_show)
		json_object_del(json, "config");
	return json;
}

static bool is_meant(const struct arguments *args, const struct domain_snapshot *snapshot)
{
	bool current_only = args->command->print == print_show || args->command->print == print_current ||
			    args->command->print == print_parent;

	return args->request.name || !current_only || snapshot->current;
}

void print_json(const struct arguments *args, const struct domain_snapshot_result *result)
{
	json_t *json, *snapshots = json_array();

	for (unsigned i = 0; i < result->count; i++) {
		if (is_meant(args, &result->snapshots[i]))
			json_array_append_new(snapshots, snapshot_json(args, &result->snapshots[i]));
	}
	if (result->error)
		json = tapctl_failure_json(result->error, result->text);
	else
		json = json_pack("{s:b, s:s, s:s, s:o, s:s?}", "ok", 1, "domain", result->domain, "uuid", result->uuid,
				 "warning", tapctl_text_json(result->text), "clone", result->clone);
	json_object_set_new(json, "snapshots", snapshots);
	json_dumpf(json, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(json);
}
