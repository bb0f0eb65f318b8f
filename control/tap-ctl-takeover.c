/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-takeover.c - another tapdisk for the disks of one that has died, or
 * (upgrade) of one that runs.
 */
#include <errno.h>
#include <stdio.h>

#include "tap-ctl.h"

static int set_pid(json_t *result, int pid, struct error_text *text)
{
	if (pid < 0)
		return pid;
	return json_object_set_new(result, "pid", json_integer(pid)) ? error_set(text, -ENOMEM, "out of memory") : 0;
}

static void print_pid(const json_t *result, bool terminal)
{
	printf("%lld\n", (long long)json_integer_value(json_object_get(result, "pid")));
}

static int run_takeover(const struct arguments *args, json_t *result, struct error_text *text)
{
	return set_pid(result, tapctl_takeover(args->pid, args->minor, text), text);
}

const struct command command_takeover = {
	.name = "takeover", .options = "pm", .required = "p", .words = "",
	.summary = "start a tapdisk for the disks of one that has died",
	.run = run_takeover, .print = print_pid,
};

static int run_upgrade(const struct arguments *args, json_t *result, struct error_text *text)
{
	return set_pid(result, tapctl_upgrade(args->pid, text), text);
}

const struct command command_upgrade = {
	.name = "upgrade", .options = "p", .required = "p", .words = "",
	.summary = "replace a running tapdisk by a fresh one; guests wait a moment",
	.run = run_upgrade, .print = print_pid,
};
