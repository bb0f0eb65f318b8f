/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-destroy.c - a disk ends: close, detach, free its minor, for the
 * command destroy, for xen-detach, and after a create that failed.
 *
 * A device that answers no request keeps its image from being closed, and
 * nothing can take the requests back. With force there is an end all the
 * same: after FORCED_WAIT_MS a tapdisk that serves nothing else is killed.
 * The kernel keeps the image's lock, and the pages that the requests are in,
 * until the device has answered or is gone; so nobody else can open the image
 * while a write may still come. It may keep the process as long, too (seen with
 * a suspended device-mapper device): then its minor stays taken.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "tap-ctl.h"

#define END_TIMEOUT_MS 5000
#define LIST_TIMEOUT_MS 1000

/* Until tapdisk has closed the connection, which it does when its socket is gone. */
void disk_wait_for_end(struct tapctl *ctl)
{
	struct pollfd poll_fd = { .fd = tapctl_fd(ctl), .events = POLLIN };
	json_t *message;
	int error, ready;

	for (;;) {
		error = tapctl_receive(ctl, &message);
		json_decref(message);
		if (error && error != -EAGAIN)
			return;
		ready = error ? poll(&poll_fd, 1, END_TIMEOUT_MS) : 1;
		if (!ready || (ready < 0 && errno != EINTR))
			return;
	}
}

int disk_detach(struct tapctl *ctl, int minor, int timeout_ms, struct error_text *text)
{
	json_t *reply;
	int error = tapctl_call(ctl, call_request("detach", minor), &reply, timeout_ms, text);

	if (!error && json_is_true(json_object_get(reply, "exiting")))
		disk_wait_for_end(ctl);
	json_decref(reply);
	return error;
}

/* A tapdisk that has died left sockets, and the marker, which nobody locks any more. */
static int clean_after_dead(int pid, int minor, struct error_text *text)
{
	int error = tapctl_process_clean(pid);

	if (error)
		return error_set(text, error, "tapdisk %d: %s", pid, strerror(-error));
	error = tapctl_minor_free(minor, text);
	/* once more: its lock stays as long as a disk may be taken over */
	if (!error)
		tapctl_process_clean(pid);
	return error;
}

/* The tapdisk, or the one that has taken over from it since the caller wrote down its pid. */
static int connect_owner(struct tapctl **ctl, int *pid, int minor, struct error_text *text)
{
	int error = tapctl_connect(ctl, *pid, text), owner;

	if (error != -ENOENT && error != -ECONNREFUSED)
		return error;
	owner = tapctl_takeover_successor(*pid, minor);
	if (!owner)
		return error;
	*pid = owner;
	text->text[0] = '\0';
	return tapctl_connect(ctl, owner, text);
}

static int close_disk(struct tapctl *ctl, int minor, bool force, int timeout_ms, struct error_text *text)
{
	json_t *request = json_pack("{s:s, s:i, s:b}", "command", "close", "minor", minor, "force", force);

	return tapctl_call(ctl, request, NULL, timeout_ms, text);
}

/* Does @pid serve @minor and nothing else? One that does not say so in time is left alone. */
static bool is_only_disk(int pid, int minor)
{
	json_t *reply = NULL, *disks;
	bool only;

	if (call_tapdisk(pid, call_request("list", -1), LIST_TIMEOUT_MS, &reply, NULL))
		return false;
	disks = json_object_get(reply, "disks");
	only = json_array_size(disks) == 1 &&
	       json_integer_value(json_object_get(json_array_get(disks, 0), "minor")) == minor;
	json_decref(reply);
	return only;
}

/* The close was not answered in time. */
static int kill_process(struct tapctl *ctl, int pid, int minor, struct error_text *text)
{
	int error;

	if (!is_only_disk(pid, minor))
		return error_set(text, -ETIMEDOUT, "minor %d: the device does not answer, and tapdisk %d serves other disks: "
				 "the disk ends when the device has answered", minor, pid);
	if (kill(pid, SIGKILL) && errno != ESRCH)
		return error_set(text, -errno, "tapdisk %d cannot be killed: %s", pid, strerror(errno));
	disk_wait_for_end(ctl);
	error = tapctl_process_clean(pid);
	if (error == -EBUSY)
		return error_set(text, -ETIMEDOUT, "tapdisk %d is killed, and the kernel lets it end when the device has "
				 "answered; destroy it again then", pid);
	return error ? error_set(text, error, "tapdisk %d: %s", pid, strerror(-error)) : tapctl_minor_free(minor, text);
}

int disk_destroy(int pid, int minor, bool force, int timeout_ms, struct error_text *text)
{
	int wait_ms = force && timeout_ms < 0 ? FORCED_WAIT_MS : timeout_ms;
	struct error_text reason = { "" };
	struct tapctl *ctl;
	int error;

	error = connect_owner(&ctl, &pid, minor, &reason);
	if (error == -ENOENT || error == -ECONNREFUSED)
		return clean_after_dead(pid, minor, text);
	if (error)
		return error_set(text, error, "%s", reason.text);
	error = close_disk(ctl, minor, force, wait_ms, &reason);
	if (error == -ETIMEDOUT && force) {
		error = kill_process(ctl, pid, minor, text);
		tapctl_close(ctl);
		return error;
	}
	if (!error)
		error = disk_detach(ctl, minor, timeout_ms, &reason);
	tapctl_close(ctl);
	if (error == -EPIPE)		/* it died while we were at it */
		return clean_after_dead(pid, minor, text);
	/* a minor that was never attached, or is no longer, is still to be freed */
	if (error && error != -ENODEV)
		return error_set(text, error, "%s", reason.text);
	return tapctl_minor_free(minor, text);
}

static int run_destroy(const struct arguments *args, json_t *result, struct error_text *text)
{
	return disk_destroy(args->pid, args->minor, args->force, args->timeout_ms, text);
}

const struct command command_destroy = {
	.name = "destroy", .options = "pmft", .required = "pm", .words = "",
	.summary = "close and detach a disk and free its minor, also when its tapdisk has died",
	.run = run_destroy,
};
