/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_disks.c - lists the disks that a domain can write, as struct
 * domain_disks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "xen_disks.h"

static int add_disk(void *disks, const struct xen_disk *found, struct error_text *text)
{
	struct domain_disk disk = { .pid = found->pid, .minor = found->minor, .writable = true };
	char *vdev = xen_read_value(found->xs, found->backend, "dev");

	snprintf(disk.vdev, sizeof(disk.vdev), "%s", vdev ? vdev : strrchr(found->backend, '/') + 1);
	free(vdev);
	if (found->ours && (disk.pid <= 0 || disk.minor < 0))
		return error_set(text, -ENODEV, "disk %s: no tapdisk serves it yet", disk.vdev);
	return disks_append(disks, &disk);
}

int xen_read_disks(struct xs_handle *xs, unsigned domid, struct domain_disks *disks, struct error_text *text)
{
	return xen_disks_each(xs, domid, add_disk, disks, text);
}
