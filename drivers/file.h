/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.h - an image file or block device, opened as a disk's storage: its type
 * is checked, it is locked against other users, and the limits for I/O to it
 * are known.
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
	bool direct;			/* O_DIRECT; false when not wanted or the filesystem has none */
	bool discard;			/* ENGINE_DISCARD does something */
	bool fast_zeroes;		/* as in struct driver_geometry */
	bool pages_stable;		/* as in struct driver_geometry */
	bool may_block;			/* as in struct engine_io */
	uint64_t size;			/* bytes; a multiple of sector_size and of unit, never 0 */
	unsigned sector_size;		/* what the guest sees: 512 or 4096 bytes */
	unsigned unit;			/* offsets, and lengths of each piece, must be multiples of this (bytes) */
	unsigned memory_align;		/* addresses must be multiples of this (bytes) */
	unsigned physical_sector_size;	/* bytes, as the device reports it; at least unit */
	unsigned discard_granularity;	/* bytes; 0 when discard is false */
	unsigned discard_alignment;	/* bytes */
	dev_t dev;			/* of the open file */
	ino_t ino;
	struct image_file *next, *next_closing;		/* file_close_all()'s list, and that of all files being closed */
};

/* 0, or -errno with a line in @error; also the errors of file_lock_now(). file_close() frees everything, the lock included. */
int file_open(struct image_file **file, const char *path, const struct driver_options *options,
	      struct error_text *error);
void file_close(struct image_file *file);

/*
 * close() may wait for a device or a file server. After file_collect(list) file_close() in this thread only moves files to *@list,
 * until file_collect(NULL); file_close_all() closes them, in any thread. Until then they are locked, and file_is_closing() is
 * true of them.
 */
void file_collect(struct image_file **list);
void file_close_all(struct image_file *list);
bool file_is_closing(const struct stat *st);

/* Read the size again. It may only have grown; otherwise -EINVAL with a text, and the old size stays. */
int file_refresh_size(struct image_file *file, struct error_text *error);

/*
 * file_lock.c: lock the file against other users as @options says, until the descriptor is closed.
 * -EAGAIN, -EOWNERDEAD when the lock may soon be released (backend_open_again()).
 */
int file_lock_now(const struct image_file *file, const struct driver_options *options, struct error_text *error);
/* Change from reader to writer or back, on the same descriptor. -EBUSY: other users conflict; the old lock stays. */
int file_relock(const struct image_file *file, bool writer);
/* -EBUSY: another program has locked a byte, as QEMU does with its images. */
int file_check_parts(const struct image_file *file, struct error_text *error);
/*
 * file_new.c: make a new file in the directory of @file->path, open and locked, which gets this name in file_new_place(),
 * durable with all its contents. -EEXIST, in both: a file has the name, and keeps it. *@part is for the other two; after
 * an error of place, and before a close without it, call drop. Not for a process with an opener (path.h).
 */
int file_new(struct image_file *file, char **part, struct error_text *error);
int file_new_place(const struct image_file *file, char **part, struct error_text *error);
void file_new_drop(const struct image_file *file, char **part);
/* Explain why open(O_EXCL) failed with EBUSY; returns an error as file_lock_now() does. */
int file_busy(const char *path, const struct stat *st, struct error_text *error);

#endif
