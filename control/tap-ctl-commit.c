/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-commit.c - `tap-ctl commit`: moves a disk from its store back to its
 * raw image. tapdisk does that in the background; the command starts it, if it
 * does not run yet, and waits for its end. Killing the command does not stop it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tap-ctl.h"

#define LOOK_NS 200000000
#define BAR_WIDTH 30

static json_int_t number(const json_t *commit, const char *name)
{
	return json_integer_value(json_object_get(commit, name));
}

static const char *state_of(const json_t *commit)
{
	const char *state = json_string_value(json_object_get(commit, "state"));

	return state ? state : "none";
}

/* On a terminal: the progress of this pass. Data that the guest writes meanwhile needs another pass. */
static void show(const json_t *commit)
{
	double total = (double)number(commit, "total"), part = total > 0 ? 1 - (double)number(commit, "left") / total : 1;
	unsigned filled = part > 0 ? (unsigned)(part * BAR_WIDTH) : 0;
	char bar[BAR_WIDTH + 1];

	memset(bar, ' ', BAR_WIDTH);
	memset(bar, '=', filled);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\rcommit  [%s] %5.1f%%, pass %d, %.0f MiB left      ", bar, part * 100, (int)number(commit, "pass"),
		(double)number(commit, "left") / (1 << 20));
}

/* The member `commit` of the disk object that the reply has. */
static const json_t *commit_of(const json_t *reply)
{
	return json_object_get(json_object_get(reply, "disk"), "commit");
}

/* Wait for its end, or the timeout. *@reply: the last reply; the caller frees it. */
static int wait_end(const struct arguments *args, json_t **reply, struct error_text *text)
{
	int64_t left_ms = args->timeout_ms;
	bool terminal = isatty(STDERR_FILENO);
	int error = 0;

	while (!error && !strcmp(state_of(commit_of(*reply)), "running")) {
		if (args->timeout_ms >= 0 && (left_ms -= LOOK_NS / 1000000) < 0)
			return error_set(text, -ETIMEDOUT, "minor %d: the commit is still running; 'tap-ctl info' shows its "
					 "progress", args->minor);
		if (terminal)
			show(commit_of(*reply));
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		json_decref(*reply);
		*reply = NULL;
		error = call_tapdisk(args->pid, call_request("info", args->minor), args->timeout_ms, reply, text);
	}
	if (terminal)
		fprintf(stderr, "\r%*s\r", 78, "");
	return error;
}

static int check_end(const struct arguments *args, const json_t *commit, struct error_text *text)
{
	const char *state = state_of(commit), *why = json_string_value(json_object_get(commit, "error"));

	if (!strcmp(state, "done") || (args->cancel && !strcmp(state, "canceled")))
		return 0;
	if (args->cancel)
		return error_set(text, -EBUSY, "minor %d: too late, the commit has ended: %s", args->minor, state);
	if (!strcmp(state, "canceled"))
		return error_set(text, -ECANCELED, "minor %d: %s", args->minor, why);
	if (!why || !*why)
		return error_set(text, -EINTR, "minor %d: the disk was closed and opened again: start the commit again",
				 args->minor);
	return error_set(text, -(int)number(commit, "errno"), "minor %d: %s", args->minor, why);
}

static json_t *make_request(const struct arguments *args)
{
	json_t *request = call_request(args->cancel ? "commit-cancel" : "commit", args->minor);

	if (request && !args->cancel && args->rate_mib >= 0 &&
	    json_object_set_new(request, "rate", json_integer((json_int_t)args->rate_mib << 20))) {
		json_decref(request);
		return NULL;
	}
	return request;
}

static int run_commit(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *reply = NULL;
	int error = call_tapdisk(args->pid, make_request(args), args->timeout_ms, &reply, text);

	if (!error && !args->no_wait) {
		error = wait_end(args, &reply, text);
		if (!error)
			error = check_end(args, commit_of(reply), text);
	}
	if (!error && json_object_set(result, "commit", (json_t *)commit_of(reply)))
		error = error_set(text, -ENOMEM, "out of memory");
	json_decref(reply);
	return error;
}

static void print_commit(const json_t *result, bool terminal)
{
	const char *state = state_of(json_object_get(result, "commit"));

	if (!terminal)
		return;
	if (!strcmp(state, "done"))
		printf("the raw image is the disk again\n");
	else if (!strcmp(state, "canceled"))
		printf("canceled: the disk is in the store, as before\n");
	else
		printf("begun\n");
}

const struct command command_commit = {
	.name = "commit", .options = "pmrcwt", .required = "pm", .words = "",
	.summary = "copy a disk in use back to its raw image, and remove the store",
	.run = run_commit, .print = print_commit,
};
