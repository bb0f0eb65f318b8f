/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain-snapshot-libxl.h - for callers that also use libxenlight.
 */
#ifndef TAPSNAP_DOMAIN_SNAPSHOT_LIBXL_H
#define TAPSNAP_DOMAIN_SNAPSHOT_LIBXL_H

#include <libxl.h>

#include "domain-snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The disk's contents at the snapshot, as a read-only disk @vdev for
 * libxl_device_disk_add(). Initialises @device; the caller disposes of it.
 * 0 or -errno.
 */
int domain_snapshot_device_disk(const struct domain_snapshot_disk *disk, const char *vdev, libxl_device_disk *device);

#ifdef __cplusplus
}
#endif

#endif
