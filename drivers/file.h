/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.h - an image file or block device, opened as a disk's storage: found
 * to be something that can be one, locked against other users, and with
 * everything known that I/O to it has to keep to.
 */
#ifndef DRIVERS_FILE_H
#define DRIVERS_FILE_H

#include <sys/stat.h>

#include "driver.h"

struct image_file {
	int fd;
	char *path;
	bool blkdev;			/* a block device, else a regular file */
	bool read_only;
	bool direct;			/* O_DIRECT; false when the filesystem has none */
	bool discard;			/* ENGINE_DISCARD does something */
	bool fast_zeroes;		/* as in struct driver_geometry */
	bool pages_stable;		/* as in struct driver_geometry */
	uint64_t size;			/* bytes; a multiple of sector_size and of unit, never 0 */
	unsigned sector_size;		/* what the guest sees: 512 or 4096 bytes */
	unsigned unit;			/* offsets, and lengths of each piece, must be multiples of this (bytes) */
	unsigned memory_align;		/* addresses must be multiples of this (bytes) */
	unsigned physical_sector_size;	/* bytes, as the device reports it; at least unit */
	unsigned discard_granularity;	/* bytes; 0 when discard is false */
	unsigned discard_alignment;	/* bytes */
};

/* 0, or -errno with a line in @error; as from file_lock_now(). file_close() gives back everything, the lock included. */
int file_open(struct image_file **file, const char *path, const struct driver_options *options,
	      struct error_text *error);
void file_close(struct image_file *file);

/* Look again at the size. It may only have grown; otherwise -EINVAL with a text, and the old size stays. */
int file_refresh_size(struct image_file *file, struct error_text *error);

/*
 * file_lock.c: keep other users away, until the descriptor is closed, in the way that @options says.
 * -EAGAIN, -EOWNERDEAD when whoever has it locked may soon be done (backend_open_again()).
 */
int file_lock_now(const struct image_file *file, const struct driver_options *options, struct error_text *error);
/* From reader to writer or back, on the same descriptor. -EBUSY: others are in the way, and it is what it was. */
int file_relock(const struct image_file *file, bool writer);
/* -EBUSY: somebody else has a part of it locked, as QEMU does with its images. */
int file_check_parts(const struct image_file *file, struct error_text *error);
/* Why open(O_EXCL) said EBUSY; returns as file_lock_now(). */
int file_busy(const char *path, const struct stat *st, struct error_text *error);

#endif
