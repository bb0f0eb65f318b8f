/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_sharing.h - which domains may share a disk.
 */
#ifndef TAPBACK_SHARING_H
#define TAPBACK_SHARING_H

#include "tapback_nodes.h"

/*
 * May @domid, whose device has @nodes, use a disk that the device @other_devid
 * of @other_domid uses? Devices of the same virtual machine always may (the
 * two ends of a localhost migration, a stub domain), others only if neither
 * writes, or if the mode has '!'. 0, or -EBUSY with a text.
 */
int sharing_check(struct xenstore *xenstore, uint32_t domid, const struct device_nodes *nodes,
		  uint32_t other_domid, uint32_t other_devid, struct error_text *text);

#endif
