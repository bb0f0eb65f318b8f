/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image_directories.h - where images may be, if the administrator restricts it:
 * /etc/tapsnap/image-folders has one absolute path a line; empty lines and
 * lines that begin with # are ignored. A path is a directory, with all below it,
 * or one device. Without the file images may be anywhere.
 *
 * The kernel enforces it for tapdisk (tapdisk/confine.c). The tools, which the
 * administrator runs, apply it only to the base that a store names: the writer
 * of the store chose it, not the administrator. What applies to a base that is a
 * block device when there is no list, is in cow_base_device.c.
 *
 * The file is read once in a process. Any thread may call these.
 */
#ifndef TAPSNAP_IMAGE_DIRECTORIES_H
#define TAPSNAP_IMAGE_DIRECTORIES_H

#include "error.h"

#define IMAGE_DIRECTORIES_DEFAULT "/etc/tapsnap/image-folders"
#define IMAGE_DIRECTORIES_ENV "TAPSNAP_IMAGE_FOLDERS"	/* replaces it (tests) */

/* The listed paths, resolved, NULL-terminated, valid until the process ends; *@directories is NULL when there is no
 * file. A path that does not exist (yet) is left out. -errno with a text when the file is malformed. */
int image_directories(char *const **directories, struct error_text *error);

/* -EPERM with a text when there is a list and @path, which need not exist, is in none of its directories. */
int image_directories_check(const char *path, struct error_text *error);

#endif
