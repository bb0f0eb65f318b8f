/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domain_device.c - a disk's snapshot as libxl's disk (domain-snapshot-libxl.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain-snapshot-libxl.h"

int domain_snapshot_device_disk(const struct domain_snapshot_disk *disk, const char *vdev, libxl_device_disk *device)
{
	libxl_device_disk_init(device);
	if (strcmp(disk->format, "cow") != 0)
		return -EOPNOTSUPP;
	device->backend = LIBXL_DISK_BACKEND_TAP;
	device->format = LIBXL_DISK_FORMAT_RAW;	/* the hotplug script handles the real format */
	device->script = strdup("block-tapsnap");
	device->vdev = strdup(vdev);
	device->readwrite = 0;
	if (asprintf(&device->pdev_path, "cow:%s@%s", disk->file, disk->name) < 0)
		device->pdev_path = NULL;
	return device->script && device->vdev && device->pdev_path ? 0 : -ENOMEM;
}
