/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_orphans.h - rings that are connected for devices that were taken
 * away while no tapback ran.
 */
#ifndef TAPBACK_ORPHANS_H
#define TAPBACK_ORPHANS_H

#include "tapback_device.h"

/*
 * Ask every tapdisk for its rings, and let go of those that no device in
 * xenstore stands for: they keep a dead domain's memory. Returns at once;
 * 0 or -errno when not even the tapdisks can be listed.
 */
int orphans_start(struct tapback *tapback);
/* Whatever is still under way is dropped. */
void orphans_stop(void);

#endif
