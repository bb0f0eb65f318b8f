/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image_directories.h - where images may be, when the administrator has set it:
 * /etc/tapsnap/image-folders, one absolute path a line, empty lines and lines
 * that begin with # aside. A path is a directory, with all that is in it, or one
 * device. Without the file they may be anywhere.
 *
 * tapdisk is held to it by the kernel (tapdisk/confine.c). The tools, which
 * the administrator runs, are held to it where a store names what is beneath
 * it: that is not the administrator's word, but the store's writer's.
 *
 * The file is read once in a process. Any thread may call these.
 */
#ifndef TAPSNAP_IMAGE_DIRECTORIES_H
#define TAPSNAP_IMAGE_DIRECTORIES_H

#include "error.h"

#define IMAGE_DIRECTORIES_DEFAULT "/etc/tapsnap/image-folders"
#define IMAGE_DIRECTORIES_ENV "TAPSNAP_IMAGE_FOLDERS"	/* replaces it (tests) */

/* What the file lists, resolved, NULL-terminated, until the process ends; *@directories is NULL when there is no
 * file. A path that is not there (yet) is left out. -errno with a text when the file is no such list. */
int image_directories(char *const **directories, struct error_text *error);

/* -EPERM with a text when there is a list and @path, which need not exist, is in none of its directories. */
int image_directories_check(const char *path, struct error_text *error);

#endif
