/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-qemu-share.c - will the guest's own QEMU open the image, too?
 *
 * For an emulated disk of an HVM guest libxl gives QEMU the image file itself
 * if it is raw and the disk has no script= (with one, what the script wrote:
 * our NBD socket). QEMU starts after the disks, and would find the image
 * locked. libxl does not record whether script= was given: without it libxl
 * writes its default, block-tap. Hotplug scripts have the backend's directory
 * in XENBUS_PATH.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"
#include "xen_disks.h"

#define NO_SCRIPT "block-tap"	/* libxl's default script */

static bool ends_in_no_script(const char *script)
{
	const char *slash = script ? strrchr(script, '/') : NULL;

	return script && !strcmp(slash ? slash + 1 : script, NO_SCRIPT);
}

/*
 * libxl emulates sd*, and the first four disks of any name (xvda is also hda;
 * the first six with an AHCI controller, which we cannot know). A disk that is
 * counted in error is only opened without protection against QEMU.
 */
static bool is_emulated(const char *dev)
{
	const char *disk;

	if (!dev)
		return false;
	if (!strncmp(dev, "sd", 2))
		return true;
	disk = !strncmp(dev, "xvd", 3) ? dev + 3 : !strncmp(dev, "hd", 2) ? dev + 2 : *dev == 'd' ? dev + 1 : "";
	return (*disk >= 'a' && *disk <= 'f' && !islower((unsigned char)disk[1])) ||
		(*disk >= '0' && *disk <= '5' && !isdigit((unsigned char)disk[1]));
}

static bool is_hvm(struct xs_handle *xs, const char *domid)
{
	char directory[64], *type = NULL;
	bool hvm;

	if (domid && snprintf(directory, sizeof(directory), "/libxl/%s", domid) < (int)sizeof(directory))
		type = xen_read_value(xs, directory, "type");
	hvm = type && !strcmp(type, "hvm");
	free(type);
	return hvm;
}

bool qemu_shares_image(const char *target)
{
	const char *backend = getenv("XENBUS_PATH");
	struct xs_handle *xs;
	char *script, *dev, *domid;
	bool comes;

	if (!backend || !target || strncmp(target, "aio:", 4))
		return false;
	xs = xs_open(0);
	if (!xs)
		return false;
	script = xen_read_value(xs, backend, "script");
	dev = xen_read_value(xs, backend, "dev");
	domid = xen_read_value(xs, backend, "frontend-id");
	comes = ends_in_no_script(script) && is_emulated(dev) && is_hvm(xs, domid);
	free(script);
	free(dev);
	free(domid);
	xs_close(xs);
	return comes;
}
