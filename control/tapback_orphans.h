/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_orphans.h - disconnects rings of devices that were removed while no
 * tapback ran.
 */
#ifndef TAPBACK_ORPHANS_H
#define TAPBACK_ORPHANS_H

#include "tapback_device.h"

/*
 * Ask every tapdisk for its rings, and disconnect those without a device in
 * xenstore: they pin a dead domain's memory. Does not wait. 0, or -errno
 * when the tapdisks cannot be listed.
 */
int orphans_start(struct tapback *tapback);
/* Drop all requests in flight. */
void orphans_stop(void);

#endif
