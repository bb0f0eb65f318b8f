/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xen_disks.c - lists a domain's disks in xenstore (xen_disks.h).
 */
#include "xen_disks.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "array.h"
#include "client_internal.h"

char *xen_read_value(struct xs_handle *xs, const char *directory, const char *name)
{
	char *path, *value;

	if (asprintf(&path, "%s/%s", directory, name) < 0)
		return NULL;
	value = xs_read(xs, XBT_NULL, path, NULL);
	free(path);
	return value;
}

int xen_read_number(struct xs_handle *xs, const char *directory, const char *name, int max)
{
	char *value = xen_read_value(xs, directory, name);
	int number = value ? client_parse_number(value, max) : -1;

	free(value);
	return number;
}

unsigned xen_own_domid(struct xs_handle *xs)
{
	char *own = xs_read(xs, XBT_NULL, "domid", NULL);	/* absent in a dom0 that never wrote it */
	unsigned domid = own ? (unsigned)atoi(own) : 0;

	free(own);
	return domid;
}

static bool is_writable(struct xs_handle *xs, const char *backend)
{
	char *mode = xen_read_value(xs, backend, "mode");
	bool writable = mode && (*mode == 'w' || *mode == '!');

	free(mode);
	return writable;
}

int xen_disks_each(struct xs_handle *xs, unsigned domid,
		   int (*each)(void *arg, const struct xen_disk *disk, struct error_text *text), void *arg, struct error_text *text)
{
	static const char *const kinds[] = { "vbd3", "vbd", "qdisk", "virtio_disk" };
	unsigned own = xen_own_domid(xs), count, i;
	char directory[128], backend[192], **names;
	int error = 0;

	for (size_t kind = 0; !error && kind < ARRAY_SIZE(kinds); kind++) {
		snprintf(directory, sizeof(directory), "/local/domain/%u/backend/%s/%u", own, kinds[kind], domid);
		names = xs_directory(xs, XBT_NULL, directory, &count);
		for (i = 0; names && !error && i < count; i++) {
			struct xen_disk disk = { .xs = xs, .backend = backend, .ours = !kind, .pid = -1, .minor = -1 };

			if (snprintf(backend, sizeof(backend), "%s/%s", directory, names[i]) >= (int)sizeof(backend) ||
			    !is_writable(xs, backend))
				continue;
			if (disk.ours) {
				disk.pid = xen_read_number(xs, backend, "pid", INT_MAX);
				disk.minor = xen_read_number(xs, backend, "minor", MINOR_MAX);
			}
			error = each(arg, &disk, text);
		}
		free(names);
	}
	return error;
}
