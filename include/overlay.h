/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.h - a raw image whose disk lives in a snapshot store that stands on
 * it. A program that opens the image by its own name, as configurations and save
 * files go on doing, has to get the store instead: a durable record beside the
 * image says so, and backend_open() follows it.
 *
 * The record of a file is PATH OVERLAY_SUFFIX, where PATH has no symbolic
 * links; that of a block device is in the state directory, under a name that the
 * device keeps (its device mapper uuid, its wwid).
 */
#ifndef TAPSNAP_OVERLAY_H
#define TAPSNAP_OVERLAY_H

#include <limits.h>
#include <stdint.h>

#include "driver.h"

#define OVERLAY_SUFFIX ".tapsnap-overlay"

struct overlay {
	char base[PATH_MAX];		/* the image, without symbolic links */
	char store[PATH_MAX];
	uint8_t uuid[16];		/* the store's */
	bool finished;			/* the store says that all of it is in the image, which is the disk again */
};

/*
 * What the record of the image at @path says. 1: it is there, and right; 0:
 * there is none. A record that is damaged, or does not fit the store that it
 * names, or one whose store is missing, is an error that says what to do.
 */
int overlay_find(const char *path, struct overlay *overlay, struct error_text *error);
/*
 * For a program that opens @path: like overlay_find(), but 0 when the image is the disk
 * again. A record that is left over from that is removed, unless @read_only.
 */
int overlay_resolve(const char *path, bool read_only, struct overlay *overlay, struct error_text *error);
/* For a program that does not follow records. -EBUSY when there is one. */
int overlay_refuse(const char *path, struct error_text *error);
/* 0: the image can have a record, and one that every later open will find. -ENOTSUP: a device without a lasting name;
 * -EMLINK: a file with several names; another -errno. */
int overlay_check(const char *path, struct error_text *error);
/* 0; -EBUSY: another process has the raw image of @backend open (QEMU, by its locks), and would go on with it. */
int overlay_check_alone(const struct backend *backend, struct error_text *error);

/* Both are durable when they return. 0 or -errno. */
int overlay_write(const struct overlay *overlay, struct error_text *error);
int overlay_remove(const char *path, struct error_text *error);

/*
 * The store at @store, made on the image at @path while that was written
 * (cow_base_describe_running()), takes over from it: it learns what the image
 * is like now, and gets the snapshot @name, prepared, that holds it. Then the
 * record is written. Neither of the two may be open anywhere.
 */
struct overlay_install {
	const char *path, *store;
	const char *name, *description, *decision;
};
int overlay_install(const struct overlay_install *what, struct error_text *error);

#endif
