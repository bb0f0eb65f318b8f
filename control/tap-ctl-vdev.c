/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-vdev.c - converts names of virtual devices to numbers, by
 * xen-vbd-interface(7). Accepts every name that libxl accepts, with the same
 * meaning, and also the numbers themselves.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "tap-ctl.h"

#define XVD_MAX_DISK ((1 << 20) - 1)
#define XVD_MAX_PARTITION 255

static unsigned xvd_number(unsigned disk, unsigned partition)
{
	if (disk <= 15 && partition <= 15)
		return 202 << 8 | disk << 4 | partition;
	return 1u << 28 | disk << 8 | partition;
}

static unsigned sd_number(unsigned disk, unsigned partition)
{
	return 8 << 8 | disk << 4 | partition;
}

static unsigned hd_number(unsigned disk, unsigned partition)
{
	return (disk < 2 ? 3u : 22u) << 8 | (disk & 1) << 6 | partition;
}

static const struct vdev_kind {
	const char *prefix;
	unsigned max_disk, max_partition;
	unsigned (*number)(unsigned disk, unsigned partition);
} kinds[] = {
	{ "xvd", XVD_MAX_DISK, XVD_MAX_PARTITION, xvd_number },
	{ "sd", 15, 15, sd_number },
	{ "hd", 3, 63, hd_number },
};

/* A decimal number without leading zeros up to @max; *@end is what follows it. */
static bool parse_decimal(const char *text, unsigned max, unsigned *number, const char **end)
{
	unsigned value = 0;

	if (!isdigit((unsigned char)*text) || (text[0] == '0' && isdigit((unsigned char)text[1])))
		return false;
	for (; isdigit((unsigned char)*text); text++) {
		value = value * 10 + (unsigned)(*text - '0');
		if (value > max)
			return false;
	}
	*number = value;
	*end = text;
	return true;
}

/* Letters count a..z, aa..zz, ...: a is 0, z is 25, aa is 26. */
static bool parse_letters(const char *text, unsigned max, unsigned *number, const char **end)
{
	unsigned value = 0;

	if (!islower((unsigned char)*text))
		return false;
	for (; *text >= 'a' && *text <= 'z'; text++) {
		value = value * 26 + (unsigned)(*text - 'a') + 1;
		if (value - 1 > max)
			return false;
	}
	*number = value - 1;
	*end = text;
	return true;
}

static bool parse_named(const char *vdev, const struct vdev_kind *kind, unsigned *devid)
{
	unsigned disk, partition = 0;
	const char *rest;

	if (!parse_letters(vdev + strlen(kind->prefix), kind->max_disk, &disk, &rest))
		return false;
	if (*rest && (*rest == '0' || !parse_decimal(rest, kind->max_partition, &partition, &rest) || *rest))
		return false;
	*devid = kind->number(disk, partition);
	return true;
}

/* d0 or d0p0. */
static bool parse_disk_partition(const char *vdev, unsigned *devid)
{
	unsigned disk, partition = 0;
	const char *rest;

	if (*vdev != 'd' || !parse_decimal(vdev + 1, XVD_MAX_DISK, &disk, &rest))
		return false;
	if (*rest && (*rest != 'p' || !parse_decimal(rest + 1, XVD_MAX_PARTITION, &partition, &rest) || *rest))
		return false;
	*devid = xvd_number(disk, partition);
	return true;
}

static bool parse_plain_number(const char *vdev, unsigned *devid)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(vdev, &end, 0);
	if (!isdigit((unsigned char)*vdev) || errno || *end || !number || number > INT_MAX)
		return false;
	*devid = (unsigned)number;
	return true;
}

int vdev_parse(const char *vdev, unsigned *devid, struct error_text *text)
{
	size_t i;

	if (parse_disk_partition(vdev, devid) || parse_plain_number(vdev, devid))
		return 0;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strncmp(vdev, kinds[i].prefix, strlen(kinds[i].prefix)) && parse_named(vdev, &kinds[i], devid))
			return 0;
	}
	return error_set(text, -EINVAL, "%s: not a virtual device name, try xvda (also xvda1, sda, hda, d0p0 or a number)",
			 vdev);
}
