/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-print.c - prints disks for people.
 */
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "tap-ctl.h"

const char *print_state_name(unsigned state)
{
	if (state & TD_DEAD)
		return "dead";
	if (state & TD_RESUME_FAILED)
		return "paused (reopening failed)";
	if (state & TD_SHUTDOWN_REQUESTED)
		return "closing";
	if (state & TD_CLOSED)
		return "closed";
	if (state & TD_PAUSED)
		return "paused";
	if (state & TD_PAUSE_REQUESTED)
		return "draining";
	return "running";
}

void print_size(char *buffer, size_t size, json_int_t sectors)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double number = (double)sectors * 512;
	unsigned unit = 0;

	for (; number >= 1024 && unit < 6; unit++)
		number /= 1024;
	snprintf(buffer, size, number < 10 && unit ? "%.1f %s" : "%.0f %s", number, units[unit]);
}

static const char *yes_no(const json_t *value)
{
	return json_is_true(value) ? "yes" : "no";
}

static void print_connection(const json_t *connection)
{
	const char *protocol = json_string_value(json_object_get(connection, "protocol"));
	const char *error = json_string_value(json_object_get(connection, "error"));

	printf("frontend:       domain %lld device %lld, %s, %lld queue(s) of %lld page(s)%s%s%s%s%s\n",
	       (long long)json_integer_value(json_object_get(connection, "domid")),
	       (long long)json_integer_value(json_object_get(connection, "devid")),
	       json_string_value(json_object_get(connection, "transport")),
	       (long long)json_integer_value(json_object_get(connection, "queues")),
	       (long long)json_integer_value(json_object_get(connection, "ring_pages")),
	       protocol ? ", " : "", protocol ? protocol : "",
	       json_is_true(json_object_get(connection, "persistent")) ? ", persistent grants" : "",
	       error && *error ? ", broken: " : "", error ? error : "");
}

static void print_exports(const json_t *disk)
{
	const json_t *exports = json_object_get(disk, "exports");
	size_t i;

	for (i = 0; i < json_array_size(exports); i++) {
		const json_t *export = json_array_get(exports, i);
		const char *snapshot = json_string_value(json_object_get(export, "snapshot"));

		printf("export %lld:       %s%s%s%s\n", (long long)json_integer_value(json_object_get(export, "id")),
		       json_string_value(json_object_get(export, "address")), snapshot ? ", snapshot " : "",
		       snapshot ? snapshot : "", json_is_true(json_object_get(export, "overlay")) ? ", with an overlay" :
		       json_is_true(json_object_get(export, "read_only")) ? ", read-only" : "");
	}
}

static void print_commit_state(const json_t *commit)
{
	const char *state = json_string_value(json_object_get(commit, "state"));
	const char *why = json_string_value(json_object_get(commit, "error"));
	char left[32];

	print_size(left, sizeof(left), json_integer_value(json_object_get(commit, "left")) / SECTOR_SIZE);
	if (!strcmp(state, "running"))
		printf("commit:         running, pass %lld, %s left\n",
		       (long long)json_integer_value(json_object_get(commit, "pass")), left);
	else
		printf("commit:         %s%s%s\n", state, *why ? ": " : "", why);
}

static void print_errors(const json_t *disk)
{
	const json_t *state = json_object_get(disk, "on_error");
	const char *why = json_string_value(json_object_get(state, "error"));
	long long waiting = json_integer_value(json_object_get(state, "waiting"));

	printf("on an error:    %s\n", json_string_value(json_object_get(state, "policy")));
	if (json_is_true(json_object_get(state, "stopped")) && why)
		printf("stopped:        %s; %lld requests wait for tap-ctl resume\n", why, waiting);
	if (json_is_true(json_object_get(disk, "no_space")))
		printf("no space:       %lld writes wait until there is room\n", waiting);
	if (json_is_false(json_object_get(disk, "answering")))
		printf("not answering:  the device has requests and answers none\n");
}

static void print_image(const json_t *disk)
{
	json_int_t sectors = json_integer_value(json_object_get(disk, "sectors"));
	char size[32];

	print_size(size, sizeof(size), sectors);
	printf("image:          %s\n"
	       "size:           %s, %lld sectors of 512 bytes\n"
	       "sector size:    %lld bytes, physical %lld\n"
	       "read-only:      %s\n"
	       "discard:        %s\n"
	       "engine:         %s\n",
	       json_string_value(json_object_get(disk, "target")), size, (long long)sectors,
	       (long long)json_integer_value(json_object_get(disk, "sector_size")),
	       (long long)json_integer_value(json_object_get(disk, "physical_sector_size")),
	       yes_no(json_object_get(disk, "read_only")), yes_no(json_object_get(disk, "discard")),
	       json_string_value(json_object_get(disk, "engine")));
	print_errors(disk);
	if (json_object_get(disk, "store"))
		printf("store:          %s\n", json_string_value(json_object_get(disk, "store")));
	if (json_object_get(disk, "commit"))
		print_commit_state(json_object_get(disk, "commit"));
}

void print_disk(const json_t *result, bool terminal)
{
	const json_t *disk = json_object_get(result, "disk");
	const json_t *connections = json_object_get(disk, "connections");
	size_t i;

	printf("minor:          %lld\nstate:          %s\n", (long long)json_integer_value(json_object_get(disk, "minor")),
	       print_state_name((unsigned)json_integer_value(json_object_get(disk, "state"))));
	if (json_object_get(disk, "target"))
		print_image(disk);
	print_exports(disk);
	for (i = 0; i < json_array_size(connections); i++)
		print_connection(json_array_get(connections, i));
}
