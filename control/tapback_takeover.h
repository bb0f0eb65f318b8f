/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_takeover.h - replaces a tapdisk that has died (docs/takeover.md). It
 * runs `tap-ctl takeover` as a child process, because that waits for I/O and
 * images.
 */
#ifndef TAPBACK_TAKEOVER_H
#define TAPBACK_TAKEOVER_H

#include "tapback_device.h"

enum takeover {
	TAKEOVER_NONE,		/* there is nothing to take over, or we gave up: then @text says why */
	TAKEOVER_RUNS,		/* the device is scheduled when it ends */
	TAKEOVER_DONE,		/* *@successor has the disk, or had it last */
};

/* Check the disk whose tapdisk, device->pid, has gone, and start a takeover if one is needed. */
enum takeover takeover_look(struct device *device, int *successor, struct error_text *text);
/* The daemon ends; running takeovers continue without it. */
void takeovers_stop(void);

#endif
