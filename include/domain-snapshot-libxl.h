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
 * What the disk held at the snapshot, as a read-only disk @vdev that
 * libxl_device_disk_add() takes. @device is initialised here; the caller
 * disposes of it. 0 or -errno.
 */
int domain_snapshot_device_disk(const struct domain_snapshot_disk *disk, const char *vdev, libxl_device_disk *device);

#ifdef __cplusplus
}
#endif

#endif
