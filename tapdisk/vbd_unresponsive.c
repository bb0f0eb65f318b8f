/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_unresponsive.c - an image that has been given requests and answers none.
 *
 * Nothing can be done about that from here: what is at the device cannot be
 * taken back, its pages are in use until it answers. So whoever listens is
 * told, once, and told again when something has come back.
 *
 * Looked at when the time is over: something was at the device at its
 * beginning, and nothing has come back since.
 */
#include "log.h"
#include "vbd_internal.h"

unsigned vbd_unresponsive_ms = 5000;

#define AGAIN_MS 1000		/* how soon it is seen that it answers again */

static unsigned at_device(const struct vbd *vbd)
{
	return vbd->backend ? vbd->backend->in_flight - vbd->backend->waiting : 0;
}

json_t *vbd_unresponsive_event(const struct vbd *vbd)
{
	const struct vbd_unresponsive *unresponsive = &vbd->unresponsive;

	return unresponsive->told ? json_pack("{s:s, s:i, s:I, s:i}", "event", "not-answering", "minor", vbd->minor,
					      "seconds", (json_int_t)((loop_clock() - unresponsive->since) / 1000000000u),
					      "requests", (int)at_device(vbd)) : NULL;
}

static void look(void *arg);

/* Without memory for a timer the next sleep tries again. */
static void begin(struct vbd *vbd, unsigned ms)
{
	struct vbd_unresponsive *unresponsive = &vbd->unresponsive;

	if (!unresponsive->told)
		unresponsive->since = loop_clock();
	unresponsive->at_device = at_device(vbd);
	unresponsive->completions = vbd->backend->completions;
	if (loop_add_timer(vbd->loop, &unresponsive->timer, ms, look, vbd))
		unresponsive->timer = NULL;
}

static void answers(struct vbd *vbd)
{
	vbd->unresponsive.told = false;
	log_info("minor %d: %s answers again", vbd->minor, vbd->target);
	vbd_emit_event(vbd, json_pack("{s:s, s:i}", "event", "answering", "minor", vbd->minor));
}

static void look(void *arg)
{
	struct vbd *vbd = arg;
	struct vbd_unresponsive *unresponsive = &vbd->unresponsive;
	bool stuck = vbd->backend && unresponsive->at_device && unresponsive->completions == vbd->backend->completions;

	unresponsive->timer = NULL;
	if (stuck && !unresponsive->told) {
		unresponsive->told = true;
		log_error("minor %d: %s has not answered any of %u requests for %u seconds", vbd->minor, vbd->target,
			  at_device(vbd), vbd_unresponsive_ms / 1000);
		vbd_emit_event(vbd, vbd_unresponsive_event(vbd));
	} else if (!stuck && unresponsive->told) {
		answers(vbd);
	}
	if (at_device(vbd))
		begin(vbd, unresponsive->told && vbd_unresponsive_ms > AGAIN_MS ? AGAIN_MS : vbd_unresponsive_ms);
}

void vbd_unresponsive_watch(struct vbd *vbd)
{
	if (!vbd->unresponsive.timer && at_device(vbd))
		begin(vbd, vbd_unresponsive_ms);
}

void vbd_unresponsive_forget(struct vbd *vbd)
{
	loop_remove(vbd->unresponsive.timer);
	vbd->unresponsive = (struct vbd_unresponsive){ 0 };
}
