/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.h - raw images whose disk has moved to a snapshot store that stands
 * on the image. Configurations and save files still name the image, but a
 * program that opens it must get the store: a durable record beside the
 * image names the store, and backend_open() follows it.
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
	bool finished;			/* the store was committed to the image, which is the disk again */
};

/*
 * Read the record of the image at @path. 1: it exists and is valid; 0: there
 * is none. A damaged record, one that does not match its store, or one
 * whose store is missing, is an error whose text says what to do.
 */
int overlay_find(const char *path, struct overlay *overlay, struct error_text *error);
/*
 * For a program that opens @path: like overlay_find(), but 0 when the image is the disk
 * again; the obsolete record is then removed, unless @read_only.
 */
int overlay_resolve(const char *path, bool read_only, struct overlay *overlay, struct error_text *error);
/* True: the record of the block device @device leads to the store at @store, which has this uuid. */
bool overlay_leads_to(dev_t device, const char *store, const uint8_t uuid[16]);
/* For a program that does not follow records: -EBUSY when there is one. */
int overlay_refuse(const char *path, struct error_text *error);
/* 0: the image can have a record that every later open will find. -ENOTSUP: a device without a persistent name;
 * -EMLINK: a file with several hard links; other -errno. */
int overlay_check(const char *path, struct error_text *error);
/* 0; -EBUSY: another process has the raw image of @backend open (QEMU, by its locks), and would keep using it. */
int overlay_check_alone(const struct backend *backend, struct error_text *error);

/* Both are durable when they return. 0 or -errno. */
int overlay_write(const struct overlay *overlay, struct error_text *error);
int overlay_remove(const char *path, struct error_text *error);

/*
 * Switch from the image at @path to the store at @store, which was made on it
 * while it was written (cow_base_describe_running()): update the store's
 * description of the image, add the prepared snapshot @name of it, then
 * write the record. Neither of the two may be open anywhere.
 */
struct overlay_install {
	const char *path, *store;
	const char *name, *description, *decision;
};
int overlay_install(const struct overlay_install *what, struct error_text *error);

#endif
