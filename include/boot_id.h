/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot_id.h - which boot of the host this is: what names processes or domains
 * by number means those of one boot only.
 */
#ifndef TAPSNAP_BOOT_ID_H
#define TAPSNAP_BOOT_ID_H

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_SIZE 37			/* with its NUL */

/* 0 or -errno, and an empty @id. */
int boot_id_read(char id[BOOT_ID_SIZE]);

#endif
