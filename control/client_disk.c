/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_disk.c - creates a disk (allocate, spawn, attach, open), and destroys
 * it (close, detach, free its minor), even if it was only partly created.
 *
 * If another tapdisk has the store open (for a snapshot, or as a clone's
 * base), the disk is opened there; then create is allocate, attach, open.
 *
 * If a step of create fails, or a signal interrupts it, the steps before are
 * undone in reverse order, and the error of that step is reported.
 *
 * A device that does not answer keeps its image from being closed, and its
 * requests cannot be canceled. With force, a tapdisk that serves nothing else
 * is killed after FORCED_WAIT_MS, also if tapdisk itself does not answer.
 * The kernel keeps the image's lock, and the pages of the requests, until the
 * device has answered or is gone, so no other process can open the image
 * while a write may still reach it. It may keep the process as long, too (seen
 * with a suspended device-mapper device): then its minor stays allocated.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "client_disk.h"
#include "client_internal.h"
#include "driver.h"

#define END_TIMEOUT_MS 5000
#define LIST_TIMEOUT_MS 1000

int disk_undo_timeout(int timeout_ms)
{
	return timeout_ms < 0 ? FORCED_WAIT_MS : timeout_ms;
}

/* ---- destroying ---- */

/* Wait until tapdisk has closed the connection, which it does after removing its socket. */
static void wait_for_end(struct tapctl *ctl)
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
		wait_for_end(ctl);
	json_decref(reply);
	return error;
}

/* Remove the sockets of a dead tapdisk, and the marker, which is no longer locked. */
static int clean_after_dead(int pid, int minor, struct error_text *text)
{
	int error = tapctl_process_clean(pid);

	if (error)
		return error_set(text, error, "tapdisk %d: %s", pid, strerror(-error));
	error = tapctl_minor_free(minor, text);
	/* once more: the first call kept its lock file while a disk could be taken over */
	if (!error)
		tapctl_process_clean(pid);
	return error;
}

/* Connect to the tapdisk, or to the one that has taken over from it since the caller recorded the pid. */
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

struct markers {
	int pid, minor;
	bool has, has_others;
};

static void look_at_marker(int minor, int locked_by, void *arg)
{
	struct markers *markers = arg;

	if (locked_by == markers->pid)
		*(minor == markers->minor ? &markers->has : &markers->has_others) = true;
}

/* Does @pid lock no other marker? For a tapdisk whose event loop is stuck, so that it cannot attach another. */
static bool has_only_marker(int pid, int minor)
{
	struct markers markers = { pid, minor };

	return !tapctl_minor_list(look_at_marker, &markers) && markers.has && !markers.has_others;
}

/* Does @pid serve @minor and nothing else? */
static bool is_only_disk(int pid, int minor)
{
	json_t *reply = NULL, *disks;
	bool only;

	if (call_tapdisk(pid, call_request("list", -1), LIST_TIMEOUT_MS, &reply, NULL))
		return has_only_marker(pid, minor);
	disks = json_object_get(reply, "disks");
	only = json_array_size(disks) == 1 &&
	       json_integer_value(json_object_get(json_array_get(disks, 0), "minor")) == minor;
	json_decref(reply);
	return only;
}

/* After a close that was not answered in time. */
static int kill_process(struct tapctl *ctl, int pid, int minor, struct error_text *text)
{
	if (!is_only_disk(pid, minor))
		return error_set(text, -ETIMEDOUT, "minor %d: the device does not answer, and tapdisk %d serves other disks: "
				 "the disk is closed once the device answers", minor, pid);
	if (kill(pid, SIGKILL) && errno != ESRCH)
		return error_set(text, -errno, "tapdisk %d cannot be killed: %s", pid, strerror(errno));
	wait_for_end(ctl);
	if (tapctl_process_clean(pid) == -EBUSY)
		return error_set(text, -ETIMEDOUT, "tapdisk %d was killed, but the kernel keeps it until the device answers; "
				 "run destroy again then", pid);
	return clean_after_dead(pid, minor, text);
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
	/* free a minor also if it is not attached */
	if (error && error != -ENODEV)
		return error_set(text, error, "%s", reason.text);
	return tapctl_minor_free(minor, text);
}

/* ---- creating ---- */

json_t *disk_open_request(const struct disk_options *options, int minor)
{
	return json_pack("{s:s, s:i, s:s, s:b, s:b, s:b, s:i, s:i, s:s*}", "command", "open", "minor", minor,
			 "target", options->target, "read_only", options->read_only, "no_direct", options->no_direct,
			 "beside_qemu", options->beside_qemu, "sector_size", options->sector_size,
			 "cache_mib", options->cache_mib, "on_error", options->on_error);
}

/* Attach and open on a new tapdisk; on failure that tapdisk ends. */
static int setup_process(struct tapctl *ctl, int pid, int minor, const struct disk_options *options, json_t **disk,
			 struct error_text *text)
{
	json_t *request = disk_open_request(options, minor), *reply;
	int error;

	if (!request)
		error = error_set(text, -EINVAL, "an argument is not UTF-8, or out of memory");
	else
		error = tapctl_call(ctl, call_request("attach", minor), NULL, options->timeout_ms, text);
	if (error) {
		tapctl_set_interrupt(-1);
		json_decref(request);
		kill(pid, SIGTERM);
		wait_for_end(ctl);
		return error;
	}
	error = tapctl_call(ctl, request, &reply, options->timeout_ms, text);
	if (error)
		tapctl_set_interrupt(-1);
	/* after a timeout the replies are out of step: the connection is useless */
	if (error && (error == -ETIMEDOUT || error == -EINTR || disk_detach(ctl, minor, disk_undo_timeout(options->timeout_ms), NULL))) {
		kill(pid, SIGTERM);
		wait_for_end(ctl);
	}
	if (!error)
		*disk = json_incref(json_object_get(reply, "disk"));
	json_decref(reply);
	return error;
}

static int create_in_new(const struct disk_options *options, int *pid, int minor, json_t **disk, struct error_text *text)
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
	error = setup_process(ctl, *pid, minor, options, disk, text);
	tapctl_close(ctl);
	return error;
}

/* Attach and open on a tapdisk that has other disks; a failure does not affect those. */
static int create_in(const struct disk_options *options, int pid, int minor, json_t **disk, struct error_text *text)
{
	json_t *reply = NULL;
	int error = call_tapdisk(pid, call_request("attach", minor), options->timeout_ms, NULL, text);

	/* without an answer it may have attached the minor */
	if (error && error != -ETIMEDOUT && error != -EINTR)
		return error;
	if (!error)
		error = call_tapdisk(pid, disk_open_request(options, minor), options->timeout_ms, &reply, text);
	if (error) {
		tapctl_set_interrupt(-1);
		/* our abandoned open may complete between close and detach, which then fails with -EBUSY */
		if (disk_destroy(pid, minor, true, disk_undo_timeout(options->timeout_ms), NULL) == -EBUSY)
			disk_destroy(pid, minor, true, disk_undo_timeout(options->timeout_ms), NULL);
	} else {
		*disk = json_incref(json_object_get(reply, "disk"));
	}
	json_decref(reply);
	return error;
}

int disk_create(const struct disk_options *options, int *pid, int *minor, json_t **disk, struct error_text *text)
{
	const struct driver_ops *driver;
	const char *path;
	int error;

	*disk = NULL;
	/* find a malformed target before starting a process */
	error = backend_parse_target(options->target, &driver, &path, text);
	if (!error && !options->read_only)
		error = client_takeover_wait(options->target, text);
	if (error)
		return error;
	*minor = error = tapctl_minor_allocate(-1, text);
	if (error < 0)
		return error;
	*pid = error = tapctl_store_process(options->target, text);
	if (*pid > 0)
		error = create_in(options, *pid, *minor, disk, text);
	else if (!error)
		error = create_in_new(options, pid, *minor, disk, text);
	if (error)
		tapctl_minor_free(*minor, NULL);
	return error;
}
