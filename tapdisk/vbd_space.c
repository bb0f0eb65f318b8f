/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_space.c - writes that wait because there is no room, on the store or
 * below it: retried once a second, and reported by events. They wait in the
 * driver or, on a raw image and during a pause, in vbd_error.c; under the policy
 * "report" none waits.
 *
 * There is room again when for a whole second nothing has waited, and all that
 * had waited before has ended: a retry may take longer than that, and find no
 * room. So no event is sent twice.
 */
#include "log.h"
#include "vbd_internal.h"

#define RETRY_MS 1000

json_t *vbd_space_event(const struct vbd *vbd)
{
	return vbd->no_space ? json_pack("{s:s, s:i}", "event", "no-space", "minor", vbd->minor) : NULL;
}

static bool any_waits(const struct vbd *vbd)
{
	return vbd->errors.no_room || (vbd->backend && vbd->backend->waiting);
}

static bool any_is_retried(const struct vbd *vbd)
{
	return vbd->backend && vbd->backend->retried;
}

static void look_again(void *arg);

/* Without memory for the timer, vbd_watch_space() tries again before a later sleep. */
static void arm(struct vbd *vbd)
{
	if (loop_add_timer(vbd->loop, &vbd->space_timer, RETRY_MS, look_again, vbd))
		vbd->space_timer = NULL;
}

static void look_again(void *arg)
{
	struct vbd *vbd = arg;

	vbd->space_timer = NULL;
	if (any_waits(vbd) || any_is_retried(vbd)) {
		vbd_error_try_room(vbd);
		arm(vbd);
		return;
	}
	vbd->no_space = false;
	log_info("minor %d: %s has room again", vbd->minor, vbd->target);
	vbd_emit_event(vbd, json_pack("{s:s, s:i}", "event", "space", "minor", vbd->minor));
}

void vbd_watch_space(struct vbd *vbd)
{
	if (vbd->backend && vbd->backend->waiting && vbd->errors.policy == ON_ERROR_REPORT)
		backend_give_up(vbd->backend);
	if (vbd->space_timer || !(vbd->no_space || any_waits(vbd)))
		return;
	arm(vbd);
	if (vbd->no_space)
		return;
	vbd->no_space = true;
	log_error("minor %d: %s is full: writes wait until there is room", vbd->minor, vbd->target);
	vbd_emit_event(vbd, vbd_space_event(vbd));
}

void vbd_forget_space(struct vbd *vbd)
{
	loop_remove(vbd->space_timer);
	vbd->space_timer = NULL;
	vbd->no_space = false;
}
