/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot_id.c - the kernel's id of this boot (boot_id.h).
 */
#include "boot_id.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int boot_id_read(char id[BOOT_ID_SIZE])
{
	int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC), ret = 0;
	ssize_t length = fd < 0 ? -1 : read(fd, id, BOOT_ID_SIZE - 1);

	if (length <= 0)
		ret = length ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	id[ret ? 0 : length] = '\0';
	return ret;
}
