/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_overlay.c - moves a raw disk in use onto a store: FREEZE and PREPARE of
 * its first snapshot. The coordinator uses them as for a disk with snapshots
 * (vbd_snapshot.c); here the freeze is a pause.
 *
 *            FREEZE           (drained, closed)       PREPARE: the store takes over
 *   NONE ------------> DRAINING --------------> HELD --------------------+
 *    ^                    |                       | THAW, lease, holder  |
 *    +--------------------+-----------------------+----------------------+
 *              resume: opens the store that the overlay record names, or the image
 *
 * Invariants:
 * 1. The freeze is a lease: once it has ended, its token is invalid.
 * 2. Another command that ends the pause ends the freeze.
 * 3. Between the pause and the resume only the take-over writes to the image or
 *    the store, so after a failure either of them holds the disk's data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "overlay.h"
#include "vbd_internal.h"

static void resume(void *arg)
{
	struct vbd *vbd = arg;
	struct error_text text = { "" };
	int error;

	vbd->resume_timer = NULL;
	if (vbd->state != VBD_PAUSED || vbd->closing || vbd->held_paused)
		return;
	error = vbd_unpause(vbd, NULL, &text);
	if (!error)
		return;
	if (backend_open_again(error, vbd->resume_tries++) &&
	    !loop_add_timer(vbd->loop, &vbd->resume_timer, OPEN_AGAIN_MS, resume, vbd))
		return;
	log_error("minor %d: %s cannot be opened again and stays paused: %s; 'tap-ctl unpause' tries again", vbd->minor,
		  vbd->target, text.text);
}

void vbd_resume(struct vbd *vbd)
{
	vbd->resume_tries = 0;
	if (!vbd->resume_timer)
		resume(vbd);
}

void vbd_resume_soon(struct vbd *vbd)
{
	vbd->resume_tries = 0;
	if (!vbd->resume_timer && loop_add_timer(vbd->loop, &vbd->resume_timer, 0, resume, vbd))
		resume(vbd);
}

void vbd_overlay_forget(struct vbd *vbd)
{
	struct vbd_overlay *overlay = &vbd->overlay;

	loop_remove(vbd->resume_timer);
	vbd->resume_timer = NULL;
	loop_remove(overlay->lease);
	free(overlay->store);
	*overlay = (struct vbd_overlay){ .waiting = overlay->waiting };
}

/* HELD -> NONE. While draining: drop the freeze; paused() then fails the command. */
static void thaw(struct vbd *vbd, const char *why)
{
	bool held = vbd->overlay.held;

	if (!vbd->overlay.token)
		return;
	log_info("minor %d: thawed: %s", vbd->minor, why);
	vbd_overlay_forget(vbd);
	if (held)
		vbd_resume(vbd);
}

void vbd_overlay_release(struct vbd *vbd, const void *holder)
{
	if (vbd->overlay.holder == holder)
		thaw(vbd, "the client that froze it has disconnected");
}

static void lease_expired(void *arg)
{
	struct vbd *vbd = arg;

	vbd->overlay.lease = NULL;
	thaw(vbd, "the lease has expired");
}

/* The drain has ended. */
static void paused(void *arg, int error)
{
	struct vbd *vbd = arg;
	struct vbd_overlay *overlay = &vbd->overlay;
	struct vbd_snapshot *snapshot = overlay->waiting;

	overlay->waiting = NULL;
	if (error && vbd_is_stuck(vbd))
		error_set(&snapshot->command.error, error, "%s: not closed in time: its device or file server does not answer",
			  vbd->target);
	else if (error)
		error_set(&snapshot->command.error, error, "%s: cannot be flushed: %s", vbd->target, strerror(-error));
	else if (vbd->state != VBD_PAUSED)
		error = error_set(&snapshot->command.error, -ECANCELED, "minor %d was closed", vbd->minor);
	else if (!overlay->token)
		error = error_set(&snapshot->command.error, -ETIMEDOUT, "minor %d: not frozen: the lease has expired",
				  vbd->minor);
	overlay->held = !error;
	snapshot->token = overlay->token;
	snapshot->command.stall_ns = vbd->stop_time ? loop_clock() - vbd->stop_time : 0;
	if (error) {
		vbd_overlay_forget(vbd);
		vbd_resume(vbd);
	}
	snapshot->done(snapshot, error);
}

static int check_raw(const struct vbd *vbd, struct error_text *text)
{
	int error;

	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->state != VBD_RUNNING || vbd->overlay.token || vbd->overlay.waiting)
		return error_set(text, -EBUSY, "minor %d is being paused, frozen or closed, or is paused", vbd->minor);
	if (vbd->backend->overlay)
		return error_set(text, -EEXIST, "minor %d: %s is in the store %s already", vbd->minor, vbd->target,
				 vbd->backend->overlay);
	if (vbd->backend->ops != &driver_aio)
		return error_set(text, -EINVAL, "minor %d: %s is not a raw image", vbd->minor, vbd->target);
	if (vbd->geometry.read_only)
		return error_set(text, -EROFS, "minor %d: %s is open read-only", vbd->minor, vbd->target);
	error = overlay_check(strchr(vbd->target, ':') + 1, text);
	return error ? error : overlay_check_alone(vbd->backend, text);
}

static int freeze(struct vbd *vbd, struct vbd_snapshot *snapshot)
{
	struct error_text *text = &snapshot->command.error;
	struct vbd_overlay *overlay = &vbd->overlay;
	int error = check_raw(vbd, text);

	if (error)
		return error;
	overlay->store = strdup(snapshot->store);
	if (!overlay->store)
		return -ENOMEM;
	error = loop_add_timer(vbd->loop, &overlay->lease, snapshot->lease_ms, lease_expired, vbd);
	if (!error) {
		overlay->token = loop_clock();
		overlay->holder = snapshot->holder;
		error = vbd_pause(vbd, false, paused, vbd, text);	/* RUNNING, so paused() is called later */
	}
	if (error)
		vbd_overlay_forget(vbd);
	else
		overlay->waiting = snapshot;
	return error;
}

/* udev probes a device that was just closed: wait for it, as the tools do, instead of giving up the take-over. */
static int open_taken_over(struct vbd *vbd, struct error_text *text)
{
	unsigned tries = 0;
	int error;

	vbd->options.undecided = true;
	/* -EOWNERDEAD cannot happen: we had the image open until now */
	while ((error = vbd_unpause(vbd, NULL, text)) == -EAGAIN && backend_open_again(error, tries++)) {
		text->text[0] = '\0';
		nanosleep(&(struct timespec){ .tv_nsec = OPEN_AGAIN_MS * 1000000 }, NULL);
	}
	vbd->options.undecided = false;
	return error == -EAGAIN ? -EBUSY : error;
}

/* Once the record is installed it decides whether the disk is the image or the store. */
static int prepare(struct vbd *vbd, struct vbd_snapshot *snapshot)
{
	struct snapshot_command *command = &snapshot->command;
	const char *path = strchr(vbd->target, ':') + 1;
	struct overlay_install what = { path, vbd->overlay.store, command->name, command->description, command->decision };
	uint64_t stopped = vbd->stop_time;
	int error = overlay_install(&what, &command->error);

	vbd_overlay_forget(vbd);
	if (!error) {
		error = open_taken_over(vbd, &command->error);
		/* nothing was written to the store: the image is complete */
		if (error)
			overlay_remove(path, NULL);
	}
	command->stall_ns = loop_clock() - stopped;
	command->thawed_ns = stopped + command->stall_ns;
	if (error)
		vbd_resume(vbd);
	else
		log_info("minor %d: %s is in the store %s now", vbd->minor, vbd->target, vbd->backend->overlay);
	return error;
}

bool vbd_overlay_takes(const struct vbd *vbd, const struct vbd_snapshot *snapshot)
{
	switch (snapshot->command.op) {
	case SNAPSHOT_FREEZE:
		return snapshot->store;
	case SNAPSHOT_PREPARE:
	case SNAPSHOT_THAW:
		return vbd->overlay.held && vbd->overlay.token == snapshot->token;
	default:
		return false;
	}
}

void vbd_overlay_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot)
{
	int error = 0;

	if (snapshot->command.op == SNAPSHOT_FREEZE) {
		error = freeze(vbd, snapshot);
		if (!error)
			return;		/* paused() calls done() */
	} else if (snapshot->command.op == SNAPSHOT_PREPARE) {
		error = prepare(vbd, snapshot);
	} else {
		thaw(vbd, "by command");
	}
	snapshot->done(snapshot, error);
}
