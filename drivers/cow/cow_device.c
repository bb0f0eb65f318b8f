/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_device.c - functions for all devices, built on their ops.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"

#define ZEROS_BYTES (1u << 20)

/*
 * After a failed sync Linux may count pages as written that are not, and a
 * file system may have dropped them: a second sync that succeeds proves
 * nothing, and the data are nowhere else. So the lack of room is then an
 * error like others. With O_DIRECT it hardly comes: the room was found by the
 * writes, and a sync has only the file's metadata to write, and the device's
 * cache.
 */
int cow_sync_error(int error)
{
	return error == -ENOSPC || error == -EDQUOT ? -EIO : error;
}

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

/* Writes zeros if the device or file system cannot zero in one call. */
int cow_device_zero(struct cow_device *device, uint64_t offset, uint64_t length)
{
	int ret = device->ops->zero && length ? device->ops->zero(device, offset, length) : -EOPNOTSUPP;

	return ret == -EOPNOTSUPP || ret == -EINVAL || ret == -ENOTTY ? zeros_write(device, offset, length) : ret;
}
