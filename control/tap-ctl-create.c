/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-create.c - the command create.
 */
#include <errno.h>
#include <stdio.h>

#include "tap-ctl.h"

/* A signal before the last step undoes all; after it the disk stays. */
static int create_or_nothing(const struct arguments *args, int *pid, int *minor, json_t **disk, struct error_text *text)
{
	const struct disk_options options = call_disk_options(args);
	int error;

	interrupts_catch();
	error = disk_create(&options, pid, minor, disk, text);
	if (interrupts_stop() && !error) {
		json_decref(*disk);
		disk_destroy(*pid, *minor, true, disk_undo_timeout(args->timeout_ms), NULL);
		error = -EINTR;
	}
	if (error == -EINTR)
		*text = (struct error_text){ "" };
	return error == -EINTR ? error_set(text, error, "%s: interrupted; not opened", args->target) : error;
}

static int run_create(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *disk, *path;
	int pid, minor;
	int error = create_or_nothing(args, &pid, &minor, &disk, text);

	if (error)
		return error;
	path = json_sprintf(MINOR_MARKER_FORMAT, tapctl_run_dir(), minor);
	if (json_object_set_new(result, "pid", json_integer(pid)) ||
	    json_object_set_new(result, "minor", json_integer(minor)) ||
	    json_object_set_new(result, "path", path) || json_object_set_new(result, "disk", disk)) {
		disk_destroy(pid, minor, true, args->timeout_ms, NULL);
		return error_set(text, -ENOMEM, "out of memory");
	}
	return 0;
}

static void print_create(const json_t *result, bool terminal)
{
	if (terminal)
		printf("pid:            %lld\n", (long long)json_integer_value(json_object_get(result, "pid")));
	if (terminal)
		print_disk(result, terminal);
	else
		puts(json_string_value(json_object_get(result, "path")));
}

const struct command command_create = {
	.name = "create", .options = "aRDqbMPte2rsCd", .required = "a", .words = "",
	.summary = "allocate a minor, start a tapdisk and open an image on it",
	.run = run_create, .print = print_create,
};
