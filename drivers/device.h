/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.h - what sysfs knows about a block device.
 */
#ifndef DRIVERS_DEVICE_H
#define DRIVERS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Where sysfs is; tests have one of their own. */
extern const char *device_sysfs;

/*
 * The number in attribute @name ("queue/discard_granularity"), of the
 * device or, for a partition that lacks it, of its disk. @fallback when
 * there is none: no such device (network filesystems), no sysfs.
 */
uint64_t device_attribute(dev_t device, const char *name, uint64_t fallback);

/*
 * True when every device that data written to @device can end on is known
 * to be done with the memory once it has reported completion: attached to
 * this machine, no network stack in between.
 */
bool device_is_local(dev_t device);

#define DEVICE_IDENTITY_MAX 200

/*
 * A name that @device, or the disk it is a partition of, keeps across reboots
 * and whatever node it is opened by; fit for a file. False: it has none.
 */
bool device_identity(dev_t device, char id[DEVICE_IDENTITY_MAX]);

#endif
