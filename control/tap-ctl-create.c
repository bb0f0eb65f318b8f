/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-create.c - a disk from nothing (allocate, spawn, attach, open), for
 * the command create and for xen-attach.
 *
 * A store that another tapdisk has open (a snapshot of it, a clone's base) is
 * opened in that one; then create is allocate, attach, open.
 *
 * When a step of create fails, or its wait is ended by a signal, the ones
 * before are undone in reverse order, and the error of that step is what is
 * reported.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "tap-ctl.h"

/* Nobody can interrupt it, so it does not take for ever. */
static int undo_timeout(const struct arguments *args)
{
	return args->timeout_ms < 0 ? FORCED_WAIT_MS : args->timeout_ms;
}

/* Attach and open on a fresh tapdisk; on failure that tapdisk is gone again. */
static int setup_process(struct tapctl *ctl, int pid, int minor, const struct arguments *args, json_t **disk,
			 struct error_text *text)
{
	json_t *request = call_open_request(args, minor), *reply;
	int error;

	if (!request)
		error = error_set(text, -EINVAL, "an argument is not UTF-8, or there is no memory");
	else
		error = tapctl_call(ctl, call_request("attach", minor), NULL, args->timeout_ms, text);
	if (error) {
		tapctl_set_interrupt(-1);
		json_decref(request);
		kill(pid, SIGTERM);
		disk_wait_for_end(ctl);
		return error;
	}
	error = tapctl_call(ctl, request, &reply, args->timeout_ms, text);
	if (error)
		tapctl_set_interrupt(-1);
	/* after a timeout the replies are out of step, so there is no talking to it any more */
	if (error && (error == -ETIMEDOUT || error == -EINTR || disk_detach(ctl, minor, undo_timeout(args), NULL))) {
		kill(pid, SIGTERM);
		disk_wait_for_end(ctl);
	}
	if (!error)
		*disk = json_incref(json_object_get(reply, "disk"));
	json_decref(reply);
	return error;
}

static int create_in_new(const struct arguments *args, int *pid, int minor, json_t **disk, struct error_text *text)
{
	struct tapctl *ctl;
	int error;

	*pid = error = tapctl_spawn(text);
	if (error < 0)
		return error;
	error = tapctl_connect(&ctl, *pid, text);
	if (error) {
		kill(*pid, SIGTERM);
		return error;
	}
	error = setup_process(ctl, *pid, minor, args, disk, text);
	tapctl_close(ctl);
	return error;
}

/* On a tapdisk that has other disks, and keeps them whatever happens here. */
static int create_in(const struct arguments *args, int pid, int minor, json_t **disk, struct error_text *text)
{
	json_t *reply = NULL;
	int error = call_tapdisk(pid, call_request("attach", minor), args->timeout_ms, NULL, text);

	/* without an answer it may have attached the minor */
	if (error && error != -ETIMEDOUT && error != -EINTR)
		return error;
	if (!error)
		error = call_tapdisk(pid, call_open_request(args, minor), args->timeout_ms, &reply, text);
	if (error) {
		tapctl_set_interrupt(-1);
		/* an open that nobody waits for any more may come between close and detach, which says so */
		if (disk_destroy(pid, minor, true, undo_timeout(args), NULL) == -EBUSY)
			disk_destroy(pid, minor, true, undo_timeout(args), NULL);
	} else {
		*disk = json_incref(json_object_get(reply, "disk"));
	}
	json_decref(reply);
	return error;
}

int disk_create(const struct arguments *args, int *pid, int *minor, json_t **disk, struct error_text *text)
{
	const struct driver_ops *driver;
	const char *path;
	int error;

	*disk = NULL;
	/* a mistake in the form of it needs no process to be found */
	error = backend_parse_target(args->target, &driver, &path, text);
	if (error)
		return error;
	*minor = error = tapctl_minor_allocate(-1, text);
	if (error < 0)
		return error;
	*pid = error = tapctl_store_process(args->target, text);
	if (*pid > 0)
		error = create_in(args, *pid, *minor, disk, text);
	else if (!error)
		error = create_in_new(args, pid, *minor, disk, text);
	if (error)
		tapctl_minor_free(*minor, NULL);
	return error;
}

/* A signal that comes after the last step finds the disk made; before, all of it is undone. */
static int create_or_nothing(const struct arguments *args, int *pid, int *minor, json_t **disk, struct error_text *text)
{
	int error;

	interrupts_catch();
	error = disk_create(args, pid, minor, disk, text);
	if (interrupts_stop() && !error) {
		json_decref(*disk);
		disk_destroy(*pid, *minor, true, undo_timeout(args), NULL);
		error = -EINTR;
	}
	if (error == -EINTR)
		*text = (struct error_text){ "" };
	return error == -EINTR ? error_set(text, error, "%s: interrupted, and not opened", args->target) : error;
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
