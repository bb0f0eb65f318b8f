/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_settle.c - before a disk is paused, its store writes, while the clients
 * run, what the close would otherwise write while they wait.
 *
 *    pause:  settle ---> drain ---> close (vbd_release.c), which writes the rest
 *
 * It is optional: without memory, or after an error, the close writes all of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "vbd_internal.h"

struct settling {
	struct snapshot_command command;
	struct vbd *vbd;
	void (*done)(void *arg);
	void *arg;
};

static void settled(struct snapshot_command *command, int error)
{
	struct settling *settling = command->owner;
	struct vbd *vbd = settling->vbd;

	if (error && error != -EOPNOTSUPP)
		log_info("minor %d: the map of %s is written at its close: %s", vbd->minor, vbd->target, strerror(-error));
	vbd->settling--;
	vbd->snapshots--;
	settling->done(settling->arg);
	free(settling);
}

static void begin(struct vbd *vbd, void (*done)(void *arg), void *arg)
{
	struct settling *settling = calloc(1, sizeof(*settling));

	if (!settling) {
		done(arg);
		return;
	}
	*settling = (struct settling){ .command = { .op = SNAPSHOT_CHECKPOINT, .done = settled, .owner = settling },
		.vbd = vbd, .done = done, .arg = arg };
	vbd->settling++;
	vbd->snapshots++;
	backend_snapshot(vbd->backend, &settling->command);
}

void vbd_settle(struct vbd *vbd, void (*done)(void *arg), void *arg)
{
	/* a frozen store does nothing before its thaw, and a stopped disk gets no I/O that nobody needs */
	if (vbd->state == VBD_RUNNING && !vbd->closing && vbd->freeze.state == FREEZE_NONE && !vbd->errors.stopped)
		begin(vbd, done, arg);
	else
		done(arg);
}
