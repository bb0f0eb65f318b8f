/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_snapshot.c - snapshot commands of a disk: when each is permitted, and the
 * freeze that holds several disks at one instant.
 *
 *            FREEZE            (no write runs)           PREPARE
 *   NONE ------------> BEGUN ------------------> HELD -----------> PREPARING
 *    ^  ^                |  freeze_done()          |                   |
 *    |  +----------------+-------------------------+  vbd_thaw()       |
 *    +-----------------------------------------------------------------+
 *                                                        prepare_done()
 *
 * Invariants:
 *  1. A freeze is a lease. When its time runs out, its holder disconnects, or
 *     the disk is paused or closed, it ends, and its token becomes invalid:
 *     PREPARE with it is refused. So a prepared snapshot holds the disk as it
 *     was when the freeze was acknowledged.
 *  2. Every running command is counted in vbd->snapshots, and a drain waits
 *     until there is none.
 *  3. While a revert runs, or is prepared and not decided, the disk accepts no
 *     client.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "log.h"
#include "vbd_internal.h"

static void thaw_done(struct snapshot_command *thaw, int error)
{
	struct vbd *vbd = thaw->owner;

	vbd->freeze.thawing = false;
	vbd->snapshots--;
	/* -EINVAL: the driver has thawed already */
	if (error && error != -EINVAL)
		log_error("minor %d: thaw of %s: %s", vbd->minor, vbd->target, thaw->error.text);
}

static void thaw_driver(struct vbd *vbd)
{
	struct vbd_freeze *freeze = &vbd->freeze;

	if (freeze->thawing)
		return;
	freeze->thawing = true;
	vbd->snapshots++;
	freeze->thaw = (struct snapshot_command){ .op = SNAPSHOT_THAW, .done = thaw_done, .owner = vbd };
	backend_snapshot(vbd->backend, &freeze->thaw);
}

/* -> NONE */
static void freeze_end(struct vbd *vbd)
{
	loop_remove(vbd->freeze.lease);
	vbd->freeze.lease = NULL;
	vbd->freeze.holder = NULL;
	vbd->freeze.state = FREEZE_NONE;
}

void vbd_thaw(struct vbd *vbd, const char *why)
{
	struct vbd_freeze *freeze = &vbd->freeze;

	if (freeze->state == FREEZE_BEGUN && !freeze->why_ended) {
		freeze->why_ended = why;	/* freeze_done() reports it */
		thaw_driver(vbd);
	} else if (freeze->state == FREEZE_HELD) {
		log_info("minor %d: thawed: %s", vbd->minor, why);
		stats_count_stall(&vbd->stalls, loop_clock() - freeze->token);
		freeze_end(vbd);
		thaw_driver(vbd);
	}
}

void vbd_release_freeze(struct vbd *vbd, const void *holder)
{
	if (vbd->freeze.holder == holder)
		vbd_thaw(vbd, "the client that froze it has disconnected");
	vbd_overlay_release(vbd, holder);
}

static void lease_expired(void *arg)
{
	struct vbd *vbd = arg;

	vbd->freeze.lease = NULL;
	vbd_thaw(vbd, "the lease has expired");
}

static int freeze_done(struct vbd_snapshot *snapshot, int error)
{
	struct vbd *vbd = snapshot->vbd;
	struct vbd_freeze *freeze = &vbd->freeze;

	if (!error && !freeze->why_ended) {
		freeze->state = FREEZE_HELD;
		snapshot->token = freeze->token;
		snapshot->command.stall_ns = loop_clock() - freeze->token;
		return 0;
	}
	freeze_end(vbd);
	if (!error)
		thaw_driver(vbd);
	if (!freeze->why_ended)
		return error;
	stats_count_stall(&vbd->stalls, loop_clock() - freeze->token);
	snapshot->command.error.text[0] = '\0';
	return error_set(&snapshot->command.error, -ETIMEDOUT, "minor %d: not frozen: %s", vbd->minor, freeze->why_ended);
}

static int prepare_done(struct vbd_snapshot *snapshot, int error)
{
	struct vbd *vbd = snapshot->vbd;

	stats_count_stall(&vbd->stalls, error ? loop_clock() - vbd->freeze.token : snapshot->command.stall_ns);
	freeze_end(vbd);
	if (error)		/* the driver may have refused it before its thaw */
		thaw_driver(vbd);
	return error;
}

static int revert_done(struct vbd_snapshot *snapshot, int error)
{
	struct vbd *vbd = snapshot->vbd;

	if (!error && snapshot->command.decision)
		return 0;	/* still reverting, until it is committed or aborted */
	vbd->reverting = false;
	/* it may have been reverted nonetheless, though that is not durable */
	if (error) {
		vbd_refresh_size(vbd, NULL);
		return error;
	}
	log_info("minor %d: %s reverted to snapshot %s", vbd->minor, vbd->target, snapshot->command.name);
	return vbd_refresh_size(vbd, &snapshot->command.error);
}

/* After a failed COMMIT or ABORT of a revert the contents are unknown: accept no client until the image is reopened. */
static int intent_done(struct vbd_snapshot *snapshot, int error)
{
	struct vbd *vbd = snapshot->vbd;

	if (strcmp(snapshot->command.name, SNAPSHOT_REVERT_INTENT))
		return error;
	if (error == -ENOENT) {		/* settled by an earlier command, which could only not make it durable at once */
		vbd->reverting = false;
		vbd_refresh_size(vbd, NULL);
	}
	if (error)
		return error;
	vbd->reverting = false;
	if (snapshot->command.op == SNAPSHOT_ABORT)
		return 0;
	log_info("minor %d: %s reverted to a snapshot together with other disks", vbd->minor, vbd->target);
	return vbd_refresh_size(vbd, &snapshot->command.error);
}

static int resize_done(struct vbd_snapshot *snapshot, int error)
{
	/* also after a failure: it may have been resized, though that is not durable */
	int refreshed = vbd_refresh_size(snapshot->vbd, error ? NULL : &snapshot->command.error);

	return error ? error : refreshed;
}

static void command_done(struct snapshot_command *command, int error)
{
	struct vbd_snapshot *snapshot = command->owner;
	struct vbd *vbd = snapshot->vbd;

	switch (command->op) {
	case SNAPSHOT_FREEZE:
		error = freeze_done(snapshot, error);
		break;
	case SNAPSHOT_PREPARE:
		error = prepare_done(snapshot, error);
		break;
	case SNAPSHOT_CREATE:
		if (command->stall_ns)
			stats_count_stall(&vbd->stalls, command->stall_ns);
		break;
	case SNAPSHOT_REVERT:
		error = revert_done(snapshot, error);
		break;
	case SNAPSHOT_COMMIT:
	case SNAPSHOT_ABORT:
		error = intent_done(snapshot, error);
		break;
	case SNAPSHOT_RESIZE:
		error = resize_done(snapshot, error);
		break;
	default:
		break;
	}
	vbd->snapshots--;
	snapshot->done(snapshot, error);
}

static int begin_freeze(struct vbd_snapshot *snapshot)
{
	struct vbd *vbd = snapshot->vbd;
	struct vbd_freeze *freeze = &vbd->freeze;
	int error = loop_add_timer(vbd->loop, &freeze->lease, snapshot->lease_ms, lease_expired, vbd);

	if (error)
		return error;
	freeze->state = FREEZE_BEGUN;
	freeze->why_ended = NULL;
	freeze->token = loop_clock();
	freeze->holder = snapshot->holder;
	return 0;
}

static int check_token(const struct vbd_snapshot *snapshot, struct error_text *text)
{
	const struct vbd *vbd = snapshot->vbd;

	if (vbd->freeze.state == FREEZE_HELD && vbd->freeze.token == snapshot->token)
		return 0;
	return error_set(text, -ETIMEDOUT, "minor %d: %s: the freeze has ended: writes have continued", vbd->minor,
			 vbd->target);
}

static int begin_prepare(struct vbd_snapshot *snapshot, struct error_text *text)
{
	struct vbd *vbd = snapshot->vbd;
	int error = check_token(snapshot, text);

	if (error)
		return error;
	/* from here the driver thaws as soon as it can */
	loop_remove(vbd->freeze.lease);
	vbd->freeze.lease = NULL;
	vbd->freeze.state = FREEZE_PREPARING;
	return 0;
}

static int begin_revert(struct vbd_snapshot *snapshot, struct error_text *text)
{
	struct vbd *vbd = snapshot->vbd;

	if (vbd->clients)
		return error_set(text, -EBUSY, "minor %d: %s is in use: shut the guest down and disconnect NBD clients first",
				 vbd->minor, vbd->target);
	vbd->reverting = true;
	return 0;
}

/* -EBUSY if another command stops the disk's writes. */
static int check_thawed(const struct vbd *vbd, struct error_text *text)
{
	if (vbd->freeze.state == FREEZE_NONE && !vbd->freeze.thawing && !vbd->reverting && !vbd_commit_active(vbd))
		return 0;
	return error_set(text, -EBUSY, "minor %d: %s of %s is running", vbd->minor, vbd->reverting ? "a revert" :
			 vbd_commit_active(vbd) ? "a commit" : "another snapshot", vbd->target);
}

static int check_state(const struct vbd *vbd, struct error_text *text)
{
	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->state != VBD_RUNNING)
		return error_set(text, -EBUSY, "minor %d is being paused or closed, or is paused", vbd->minor);
	return 0;
}

/* A read-only disk is a snapshot, or was opened read-only by the administrator. */
static int begin_resize(struct vbd_snapshot *snapshot, struct error_text *text)
{
	struct vbd *vbd = snapshot->vbd;

	if (vbd->geometry.read_only)
		return error_set(text, -EROFS, "minor %d: %s is open read-only", vbd->minor, vbd->target);
	return 0;
}

static int command_begin(struct vbd_snapshot *snapshot, struct error_text *text)
{
	int error;

	switch (snapshot->command.op) {
	case SNAPSHOT_FREEZE:
		error = check_thawed(snapshot->vbd, text);
		return error ? error : begin_freeze(snapshot);
	case SNAPSHOT_CREATE:
		return check_thawed(snapshot->vbd, text);
	case SNAPSHOT_RESIZE:
		error = check_thawed(snapshot->vbd, text);
		return error ? error : begin_resize(snapshot, text);
	case SNAPSHOT_REVERT:
		error = check_thawed(snapshot->vbd, text);
		/* the running revert ends or is decided soon: the caller may wait for that */
		if (error && snapshot->vbd->reverting)
			error = -EALREADY;
		return error ? error : begin_revert(snapshot, text);
	case SNAPSHOT_PREPARE:
		return begin_prepare(snapshot, text);
	case SNAPSHOT_THAW:
		return check_token(snapshot, text);
	default:
		return 0;
	}
}

void vbd_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot)
{
	struct snapshot_command *command = &snapshot->command;
	int error;

	snapshot->vbd = vbd;
	if (vbd_overlay_takes(vbd, snapshot)) {
		vbd_overlay_snapshot(vbd, snapshot);
		return;
	}
	error = check_state(vbd, &command->error);
	command->done = command_done;
	command->owner = snapshot;
	if (!error)
		error = command_begin(snapshot, &command->error);
	if (error || command->op == SNAPSHOT_THAW) {
		if (!error)
			vbd_thaw(vbd, "by command");
		snapshot->done(snapshot, error);
		return;
	}
	vbd->snapshots++;
	backend_snapshot(vbd->backend, command);
}
