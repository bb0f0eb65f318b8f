/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_silence.c - an image that has been given requests and answers none.
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

unsigned vbd_silence_ms = 5000;

#define AGAIN_MS 1000		/* how soon it is seen that it answers again */

static unsigned at_device(const struct vbd *vbd)
{
	return vbd->backend ? vbd->backend->in_flight - vbd->backend->waiting : 0;
}

json_t *vbd_silence_event(const struct vbd *vbd)
{
	const struct vbd_silence *silence = &vbd->silence;

	return silence->told ? json_pack("{s:s, s:i, s:I, s:i}", "event", "not-answering", "minor", vbd->minor,
					 "seconds", (json_int_t)((loop_clock() - silence->since) / 1000000000u),
					 "requests", (int)at_device(vbd)) : NULL;
}

static void look(void *arg);

/* Without memory for a timer the next sleep tries again. */
static void begin(struct vbd *vbd, unsigned ms)
{
	struct vbd_silence *silence = &vbd->silence;

	if (!silence->told)
		silence->since = loop_clock();
	silence->at_device = at_device(vbd);
	silence->completions = vbd->backend->completions;
	if (loop_add_timer(vbd->loop, &silence->timer, ms, look, vbd))
		silence->timer = NULL;
}

static void answers(struct vbd *vbd)
{
	vbd->silence.told = false;
	log_info("minor %d: %s answers again", vbd->minor, vbd->target);
	vbd_tell(vbd, json_pack("{s:s, s:i}", "event", "answering", "minor", vbd->minor));
}

static void look(void *arg)
{
	struct vbd *vbd = arg;
	struct vbd_silence *silence = &vbd->silence;
	bool silent = vbd->backend && silence->at_device && silence->completions == vbd->backend->completions;

	silence->timer = NULL;
	if (silent && !silence->told) {
		silence->told = true;
		log_error("minor %d: %s has not answered any of %u requests for %u seconds", vbd->minor, vbd->target,
			  at_device(vbd), vbd_silence_ms / 1000);
		vbd_tell(vbd, vbd_silence_event(vbd));
	} else if (!silent && silence->told) {
		answers(vbd);
	}
	if (at_device(vbd))
		begin(vbd, silence->told && vbd_silence_ms > AGAIN_MS ? AGAIN_MS : vbd_silence_ms);
}

void vbd_watch_silence(struct vbd *vbd)
{
	if (!vbd->silence.timer && at_device(vbd))
		begin(vbd, vbd_silence_ms);
}

void vbd_forget_silence(struct vbd *vbd)
{
	loop_remove(vbd->silence.timer);
	vbd->silence = (struct vbd_silence){ 0 };
}
