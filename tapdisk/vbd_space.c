/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_space.c - writes that wait because the store is full: tried again once
 * a second, and told to whoever can make room.
 *
 * A write that is tried again is not counted as waiting until the driver
 * finds that there is still no room. So there is room again when nothing has
 * waited for a whole second, and an event never comes twice.
 */
#include "log.h"
#include "vbd.h"

#define RETRY_MS 1000

static void tell(struct vbd *vbd, const char *what)
{
	json_t *event = vbd_event ? json_pack("{s:s, s:i}", "event", what, "minor", vbd->minor) : NULL;

	if (event)
		vbd_event(vbd, event);
	json_decref(event);
}

static void look_again(void *arg);

/* Without memory for it vbd_watch_space() does it, before a later sleep. */
static void arm(struct vbd *vbd)
{
	if (loop_add_timer(vbd->loop, &vbd->space_timer, RETRY_MS, look_again, vbd))
		vbd->space_timer = NULL;
}

static void look_again(void *arg)
{
	struct vbd *vbd = arg;

	vbd->space_timer = NULL;
	if (vbd->backend && vbd->backend->waiting) {
		backend_retry(vbd->backend);
		arm(vbd);
		return;
	}
	vbd->no_space = false;
	log_info("minor %d: %s has room again", vbd->minor, vbd->target);
	tell(vbd, "space");
}

void vbd_watch_space(struct vbd *vbd)
{
	if (vbd->space_timer || !vbd->backend || !vbd->backend->waiting)
		return;
	arm(vbd);
	if (vbd->no_space)
		return;
	vbd->no_space = true;
	log_error("minor %d: %s is full: writes wait until there is room", vbd->minor, vbd->target);
	tell(vbd, "no-space");
}

void vbd_forget_space(struct vbd *vbd)
{
	loop_remove(vbd->space_timer);
	vbd->space_timer = NULL;
	vbd->no_space = false;
}
