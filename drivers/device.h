/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.h - a block device's properties, from sysfs.
 */
#ifndef DRIVERS_DEVICE_H
#define DRIVERS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The mount point of sysfs; tests set it. */
extern const char *device_sysfs;

/*
 * The number in attribute @name ("queue/discard_granularity"), of the
 * device or, for a partition that lacks it, of its disk. Returns @fallback when
 * there is none: no such device (network filesystems), no sysfs.
 */
uint64_t device_attribute(dev_t device, const char *name, uint64_t fallback);

/*
 * True when every device that may store data written to @device is known not
 * to access the memory after it reported completion: attached to this
 * machine, no network stack in between.
 */
bool device_is_local(dev_t device);

#define DEVICE_IDENTITY_MAX 200

/*
 * A persistent name of @device, or of its disk for a partition: the same
 * across reboots and for every node; usable as a file name. False: none.
 */
bool device_identity(dev_t device, char id[DEVICE_IDENTITY_MAX]);

#endif
