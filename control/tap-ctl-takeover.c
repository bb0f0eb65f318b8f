/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-takeover.c - replaces a tapdisk that has died (takeover), or that
 * runs (upgrade).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tap-ctl.h"

#define LIST_TIMEOUT_MS 10000

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

static void add_pid(int pid, void *arg)
{
	/* a failure shows in json_memory_failed() */
	json_array_append_new(arg, json_integer(pid));
}

/* -ENOENT: it has ended meanwhile. */
static int has_disks(int pid, struct error_text *text)
{
	json_t *reply;
	int ret = call_tapdisk(pid, call_request("list", -1), LIST_TIMEOUT_MS, &reply, text);

	if (!ret)
		ret = json_array_size(json_object_get(reply, "disks")) > 0;
	json_decref(reply);
	return ret == -ECONNREFUSED || ret == -EPIPE ? -ENOENT : ret;
}

static int upgrade_one(int pid, json_t *upgraded, struct error_text *text)
{
	struct error_text ended = { "" };
	int ret = has_disks(pid, &ended);

	if (ret == -ENOENT || !ret)
		return 0;		/* nothing to do: it serves no disk */
	if (ret < 0)
		return error_set(text, ret, "%s", ended.text);
	ret = tapctl_upgrade(pid, text);
	if (ret < 0)
		return ret;
	json_array_append_new(upgraded, json_pack("{s:i, s:i}", "was", pid, "pid", ret));
	return 0;
}

/* Continues after a failure; reports the first error. */
static int upgrade_all(json_t *result, struct error_text *text)
{
	json_t *pids = json_array(), *upgraded = json_array();
	int ret = tapctl_process_list(add_pid, pids), one;

	if (ret)
		error_set(text, ret, "%s: %s", tapctl_run_dir(), strerror(-ret));
	for (size_t i = 0; i < json_array_size(pids); i++) {
		one = upgrade_one((int)json_integer_value(json_array_get(pids, i)), upgraded, text);
		ret = ret ? ret : one;
	}
	json_decref(pids);
	return json_object_set_new(result, "tapdisks", upgraded) && !ret ? -ENOMEM : ret;
}

static void print_upgraded(const json_t *result, bool terminal)
{
	const json_t *upgraded = json_object_get(result, "tapdisks");

	if (!upgraded)
		print_pid(result, terminal);
	for (size_t i = 0; i < json_array_size(upgraded); i++)
		print_pid(json_array_get(upgraded, i), terminal);
}

static int run_upgrade(const struct arguments *args, json_t *result, struct error_text *text)
{
	if (args->all == (args->pid != -1))
		return error_set(text, -EINVAL, "give either -p PID or --all");
	return args->all ? upgrade_all(result, text) : set_pid(result, tapctl_upgrade(args->pid, text), text);
}

const struct command command_upgrade = {
	.name = "upgrade", .options = "pA", .required = "", .words = "",
	.summary = "replace a running tapdisk with a new one; guests wait a moment",
	.run = run_upgrade, .print = print_upgraded,
};
