/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_takeover.h - a tapdisk has died: another one takes over its disks
 * (docs/takeover.md), by `tap-ctl takeover` in a process of its own, because
 * it waits for I/O and images.
 */
#ifndef TAPBACK_TAKEOVER_H
#define TAPBACK_TAKEOVER_H

#include "tapback_device.h"

enum takeover {
	TAKEOVER_NONE,		/* it has left nothing, or it is given up: then @text says why */
	TAKEOVER_RUNS,		/* the device is scheduled when that is over */
	TAKEOVER_DONE,		/* *@successor has the disk, or had it last */
};

/* What about the disk whose tapdisk, device->pid, does not answer? Begins what has to be done. */
enum takeover takeover_look(struct device *device, int *successor, struct error_text *text);
/* The daemon ends; what runs goes on by itself. */
void takeovers_stop(void);

#endif
