/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-device.h - what a store stands on: a file, a block device, or in tests
 * a simulation of one that loses power. Synchronous; offsets and lengths are
 * bytes, multiples of 512; every call moves all of it or fails with -errno.
 */
#ifndef DRIVERS_COW_DEVICE_H
#define DRIVERS_COW_DEVICE_H

#include "driver.h"

struct cow_device;

struct cow_device_ops {
	int (*read)(struct cow_device *device, void *data, uint64_t offset, size_t length);
	int (*write)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Durable when it returns; says nothing of other writes. */
	int (*write_durable)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Every write that has returned is durable. */
	int (*sync)(struct cow_device *device);
	/* Give the space back where that is possible; contents become undefined. */
	int (*punch)(struct cow_device *device, uint64_t offset, uint64_t length);
	/* Bytes. */
	uint64_t (*size)(struct cow_device *device);
	/* Make it @size bytes large; -ENOSPC where that cannot be. */
	int (*grow)(struct cow_device *device, uint64_t size);
};

/* The first member of what implements one. */
struct cow_device {
	const struct cow_device_ops *ops;
	const char *name;		/* for messages */
};

/* cow-file.c: a store in a file or on a block device, locked against other users. @create makes a file that
 * is not there; an existing regular file is emptied only by cow_file_create() of a store, never by opening. */
int cow_file_open(struct cow_device **device, const char *path, bool read_only, struct error_text *error);
int cow_file_create(struct cow_device **device, const char *path, struct error_text *error);
void cow_file_close(struct cow_device *device);

#endif
