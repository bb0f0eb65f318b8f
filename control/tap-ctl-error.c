/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-error.c - handling of I/O errors: on-error, resume, and events,
 * which prints these and all other events of a tapdisk.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "tap-ctl.h"

static int run_on_error(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *request = call_request("on-error", args->minor);

	if (request && args->on_error && json_object_set_new(request, "on_error", json_string(args->on_error))) {
		json_decref(request);
		request = NULL;
	}
	return call_into(args, request, result, text);
}

static void print_on_error(const json_t *result, bool terminal)
{
	const json_t *state = json_object_get(result, "on_error");
	const char *policy = json_string_value(json_object_get(state, "policy"));
	json_int_t waiting = json_integer_value(json_object_get(state, "waiting"));
	json_int_t answered = json_integer_value(json_object_get(state, "answered"));
	bool stopped = json_is_true(json_object_get(state, "stopped"));

	if (!terminal)
		printf("policy=%s stopped=%d waiting=%lld answered=%lld\n", policy, stopped, (long long)waiting,
		       (long long)answered);
	else
		printf("on an error: %s; %s; %lld requests wait, %lld errors were answered\n", policy,
		       stopped ? "stopped by an error" : "not stopped", (long long)waiting, (long long)answered);
}

const struct command command_on_error = {
	.name = "on-error", .options = "pmPt", .required = "pm", .words = "",
	.summary = "set or show what happens to requests that fail",
	.run = run_on_error, .print = print_on_error,
};

static int run_resume(const struct arguments *args, json_t *result, struct error_text *text)
{
	return call_into(args, call_request("resume", args->minor), result, text);
}

static void print_resume(const json_t *result, bool terminal)
{
	long long requests = json_integer_value(json_object_get(result, "requests"));

	printf(terminal ? "%lld waiting requests are tried again\n" : "%lld\n", requests);
}

const struct command command_resume = {
	.name = "resume", .options = "pmt", .required = "pm", .words = "",
	.summary = "resume a disk that an error has stopped: waiting requests are tried again",
	.run = run_resume, .print = print_resume,
};

/* 0: there may be something to read; or -ETIMEDOUT. */
static int wait_for_input(const struct tapctl *ctl, int64_t deadline)
{
	struct pollfd input = { .fd = tapctl_fd(ctl), .events = POLLIN };
	int64_t left = deadline < 0 ? -1 : deadline - clock_ms();
	int ret;

	if (deadline >= 0 && left <= 0)
		return -ETIMEDOUT;
	ret = poll(&input, 1, (int)left);
	if (ret < 0)
		return errno == EINTR ? 0 : -errno;
	return ret ? 0 : -ETIMEDOUT;
}

/* Print the members except `event`, in their order in the message. */
static void print_members(const json_t *event)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)event, key, value) {
		if (!strcmp(key, "event"))
			continue;
		if (json_is_string(value))
			printf(strchr(json_string_value(value), ' ') ? " %s=\"%s\"" : " %s=%s", key, json_string_value(value));
		else if (json_is_integer(value))
			printf(" %s=%lld", key, (long long)json_integer_value(value));
		else
			printf(" %s=%d", key, json_is_true(value));
	}
}

static void print_event(const struct arguments *args, const json_t *event)
{
	if (args->json) {
		json_dumpf(event, stdout, JSON_COMPACT);
	} else {
		printf("%s", json_string_value(json_object_get(event, "event")));
		print_members(event);
	}
	putchar('\n');
	fflush(stdout);		/* a reader of our output waits for it */
}

/* Does it concern the requested disk? Events of the process concern every disk. */
static bool is_ours(const struct arguments *args, const json_t *event)
{
	const json_t *minor = json_object_get(event, "minor");

	return args->minor == -1 || !minor || json_integer_value(minor) == args->minor;
}

/* True: it is the awaited event. */
static bool show(const struct arguments *args, const json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));

	if (!name || !is_ours(args, event))
		return false;
	if (args->wait_for && strcmp(args->wait_for, name))
		return false;
	print_event(args, event);
	return args->wait_for;
}

static int show_end(const struct arguments *args)
{
	json_t *event = json_pack("{s:s, s:i}", "event", "ended", "pid", args->pid);
	bool found = event && show(args, event);

	json_decref(event);
	return found || !args->wait_for ? 0 : -EPIPE;
}

static int follow(const struct arguments *args, struct tapctl *ctl, struct error_text *text)
{
	int64_t deadline = args->timeout_ms < 0 ? -1 : clock_ms() + args->timeout_ms;
	json_t *event = NULL;
	bool found = false;
	int error = 0;

	while (!found) {
		error = tapctl_receive(ctl, &event);
		if (!error) {
			found = show(args, event);
			json_decref(event);
			continue;
		}
		if (error == -EAGAIN)
			error = wait_for_input(ctl, deadline);
		if (error == -EPIPE)
			return show_end(args) ? error_set(text, -EPIPE, "tapdisk %d has ended", args->pid) : 0;
		if (error == -ETIMEDOUT)
			return args->wait_for ? error_set(text, error, "no event \"%s\" in that time", args->wait_for) : 0;
		if (error)
			return error_set(text, error, "tapdisk %d: %s", args->pid, strerror(-error));
	}
	return 0;
}

static int run_events(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct tapctl *ctl;
	int error = tapctl_connect(&ctl, args->pid, text);

	if (error)
		return error;
	error = tapctl_set_nonblocking(ctl);
	if (!error)
		error = tapctl_send(ctl, call_request("watch", -1));
	if (!error)
		error = follow(args, ctl, text);
	tapctl_close(ctl);
	return error;
}

/* Prints nothing: each event was printed when it came. */
static void print_no_more(const json_t *result, bool terminal)
{
}

const struct command command_events = {
	.name = "events", .options = "pmwt", .required = "p", .words = "", .prints_itself = true,
	.summary = "print the events of a tapdisk's disks as they happen, or wait for one",
	.run = run_events, .print = print_no_more,
};
