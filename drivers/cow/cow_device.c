/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_device.c - what every device can do with the calls that it has.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"

#define ZEROS_BYTES (1u << 20)

bool cow_all_zero(const void *data, size_t length)
{
	const char *bytes = data;

	return !length || (!bytes[0] && !memcmp(bytes, bytes + 1, length - 1));
}

static int zeros_write(struct cow_device *device, uint64_t offset, uint64_t length)
{
	size_t n = length < ZEROS_BYTES ? length : ZEROS_BYTES;
	void *zeros = calloc(1, n + 1);
	int ret = zeros ? 0 : -ENOMEM;

	for (; !ret && length; offset += n, length -= n) {
		n = length < n ? length : n;
		ret = device->ops->write(device, zeros, offset, n);
	}
	free(zeros);
	return ret;
}

/* A device or file system that cannot do it in one call gets zeros. */
int cow_device_zero(struct cow_device *device, uint64_t offset, uint64_t length)
{
	int ret = device->ops->zero && length ? device->ops->zero(device, offset, length) : -EOPNOTSUPP;

	return ret == -EOPNOTSUPP || ret == -EINVAL || ret == -ENOTTY ? zeros_write(device, offset, length) : ret;
}
