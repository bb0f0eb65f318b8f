/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_disks.c - the disks that a domain can write, by the backends'
 * nodes in xenstore, which the domain cannot write.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "client_private.h"
#include "domain.h"

static char *read_value(struct xs_handle *xs, const char *folder, const char *name)
{
	char path[256];

	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
		return NULL;
	return xs_read(xs, XBT_NULL, path, NULL);
}

static int read_number(struct xs_handle *xs, const char *folder, const char *name, int max)
{
	char *value = read_value(xs, folder, name);
	int number = value ? client_parse_number(value, max) : -1;

	free(value);
	return number;
}

static bool is_writable(struct xs_handle *xs, const char *backend)
{
	char *mode = read_value(xs, backend, "mode");
	bool writable = mode && (*mode == 'w' || *mode == '!');

	free(mode);
	return writable;
}

static int add_device(struct xs_handle *xs, const char *backend, bool ours, struct domain_disks *disks,
		      struct error_text *text)
{
	struct domain_disk disk = { .pid = -1, .minor = -1, .writable = true };
	char *vdev;
	int error = 0;

	if (!is_writable(xs, backend))
		return 0;
	vdev = read_value(xs, backend, "dev");
	snprintf(disk.vdev, sizeof(disk.vdev), "%s", vdev ? vdev : strrchr(backend, '/') + 1);
	free(vdev);
	if (ours) {
		disk.pid = read_number(xs, backend, "pid", INT_MAX - 1);
		disk.minor = read_number(xs, backend, "minor", MINOR_MAX);
		if (disk.pid <= 0 || disk.minor < 0)
			error = error_set(text, -ENODEV, "disk %s: no tapdisk serves it yet", disk.vdev);
	}
	return error ? error : disks_append(disks, &disk);
}

static int add_kind(struct xs_handle *xs, const char *kind, bool ours, unsigned domid, struct domain_disks *disks,
		    struct error_text *text)
{
	char folder[128], backend[192], **names;
	unsigned count = 0, i;
	int error = 0;

	snprintf(folder, sizeof(folder), "/local/domain/0/backend/%s/%u", kind, domid);
	names = xs_directory(xs, XBT_NULL, folder, &count);
	for (i = 0; names && !error && i < count; i++) {
		if (snprintf(backend, sizeof(backend), "%s/%s", folder, names[i]) < (int)sizeof(backend))
			error = add_device(xs, backend, ours, disks, text);
	}
	free(names);
	return error;
}

int xen_read_disks(struct xs_handle *xs, unsigned domid, struct domain_disks *disks, struct error_text *text)
{
	static const char *const others[] = { "vbd", "qdisk", "virtio_disk" };
	int error = add_kind(xs, "vbd3", true, domid, disks, text);

	for (size_t i = 0; !error && i < sizeof(others) / sizeof(others[0]); i++)
		error = add_kind(xs, others[i], false, domid, disks, text);
	return error;
}
