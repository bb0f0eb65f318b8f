/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-destroy.c - the command destroy.
 */
#include "tap-ctl.h"

static int run_destroy(const struct arguments *args, json_t *result, struct error_text *text)
{
	return disk_destroy(args->pid, args->minor, args->force, args->timeout_ms, text);
}

const struct command command_destroy = {
	.name = "destroy", .options = "pmft", .required = "pm", .words = "",
	.summary = "close and detach a disk and free its minor, also when its tapdisk has died",
	.run = run_destroy,
};
