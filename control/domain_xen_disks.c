/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_disks.c - lists the disks that a domain can write, as struct
 * domain_disks: from the backends' nodes, and from libxl, whose list says which
 * of them a restored domain will have.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libxl.h>

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

/* A disk that libxl knows. One whose backend is not in this domain is added, so that a snapshot cannot miss it. */
static int note_known(struct domain_disks *disks, const libxl_device_disk *known, struct error_text *text)
{
	struct domain_disk *disk = known->vdev ? disks_find(disks, known->vdev) : NULL;
	struct domain_disk remote = { .pid = -1, .minor = -1, .writable = true, .configured = true };

	if (disk)
		disk->configured = true;
	if (disk || !known->vdev || !known->readwrite || known->is_cdrom)
		return 0;
	snprintf(remote.vdev, sizeof(remote.vdev), "%s", known->vdev);
	return disks_append(disks, &remote) ? error_set(text, -ENOMEM, "out of memory") : 0;
}

/* libxl's list is NULL if it has no disk, and also if it failed, for example at one disk whose nodes it does not understand. */
static int check_no_list(struct xs_handle *xs, unsigned domid, struct error_text *text)
{
	unsigned count = 0;
	char path[64];
	void *names;

	snprintf(path, sizeof(path), "/libxl/%u/device/vbd", domid);
	names = xs_directory(xs, XBT_NULL, path, &count);
	if (names ? !count : errno == ENOENT) {
		free(names);
		return 0;
	}
	free(names);
	return error_set(text, -EIO, "libxl cannot list the domain's disks, so it is not known which of them a restored "
			 "domain would have: see what xl block-list %u says", domid);
}

int xen_read_disks(struct xs_handle *xs, libxl_ctx *ctx, unsigned domid, struct domain_disks *disks, struct error_text *text)
{
	int count = 0, error = xen_disks_each(xs, domid, add_disk, disks, text);
	libxl_device_disk *known = error ? NULL : libxl_device_disk_list(ctx, domid, &count);

	if (!error && !known)
		error = check_no_list(xs, domid, text);
	for (int i = 0; !error && known && i < count; i++)
		error = note_known(disks, &known[i], text);
	if (known)
		libxl_device_disk_list_free(known, count);
	return error;
}
