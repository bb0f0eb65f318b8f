/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-minor.c - the single steps, for scripts: allocate, free,
 * spawn, attach, detach.
 */
#include <errno.h>
#include <stdio.h>

#include "tap-ctl.h"

static int run_allocate(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *path;
	int minor = tapctl_minor_allocate(args->minor, text);

	if (minor < 0)
		return minor;
	path = json_sprintf(MINOR_MARKER_FORMAT, tapctl_run_dir(), minor);
	if (json_object_set_new(result, "minor", json_integer(minor)) || json_object_set_new(result, "path", path)) {
		tapctl_minor_free(minor, NULL);
		return error_set(text, -ENOMEM, "out of memory");
	}
	return 0;
}

static void print_path(const json_t *result, bool terminal)
{
	puts(json_string_value(json_object_get(result, "path")));
}

const struct command command_allocate = {
	.name = "allocate", .options = "m", .required = "", .words = "",
	.summary = "allocate a minor, by default the lowest free one",
	.run = run_allocate, .print = print_path,
};

static int run_free(const struct arguments *args, json_t *result, struct error_text *text)
{
	return tapctl_minor_free(args->minor, text);
}

const struct command command_free = {
	.name = "free", .options = "m", .required = "m", .words = "",
	.summary = "free a minor",
	.run = run_free,
};

static int run_spawn(const struct arguments *args, json_t *result, struct error_text *text)
{
	int pid = tapctl_spawn(text);

	if (pid < 0)
		return pid;
	return json_object_set_new(result, "pid", json_integer(pid)) ? -ENOMEM : 0;
}

static void print_pid(const json_t *result, bool terminal)
{
	printf(terminal ? "tapdisk spawned with pid %lld\n" : "%lld\n",
	       (long long)json_integer_value(json_object_get(result, "pid")));
}

const struct command command_spawn = {
	.name = "spawn", .options = "", .required = "", .words = "",
	.summary = "start a tapdisk process; it ends if no disk is attached within a minute",
	.run = run_spawn, .print = print_pid,
};

static int run_attach(const struct arguments *args, json_t *result, struct error_text *text)
{
	return call_tapdisk(args->pid, call_request("attach", args->minor), args->timeout_ms, NULL, text);
}

const struct command command_attach = {
	.name = "attach", .options = "pmt", .required = "pm", .words = "",
	.summary = "give a minor to a tapdisk",
	.run = run_attach,
};

static int run_detach(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct tapctl *ctl;
	int error = tapctl_connect(&ctl, args->pid, text);

	if (error)
		return error;
	error = disk_detach(ctl, args->minor, args->timeout_ms, text);
	tapctl_close(ctl);
	return error;
}

const struct command command_detach = {
	.name = "detach", .options = "pmt", .required = "pm", .words = "",
	.summary = "take a minor from a tapdisk, which ends with its last one",
	.run = run_detach,
};
