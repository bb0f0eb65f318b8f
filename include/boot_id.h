/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot_id.h - the id of the host's current boot: numbers of processes and
 * domains are valid within one boot only.
 */
#ifndef TAPSNAP_BOOT_ID_H
#define TAPSNAP_BOOT_ID_H

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_SIZE 37			/* with its NUL */

/* 0, or -errno with an empty @id. */
int boot_id_read(char id[BOOT_ID_SIZE]);

#endif
