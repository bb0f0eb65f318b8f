/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * minor.c - locks a minor's marker file.
 *
 * It is a POSIX record lock, because F_GETLK then tells which process has it;
 * the kernel drops it when the process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minor.h"
#include "path.h"
#include "protocol.h"

/* False if the minor was freed, or freed and allocated again, between open and lock. */
static bool still_named(const char *path, int fd)
{
	struct stat named, locked;

	return !path_stat(path, &named) && !fstat(fd, &locked) &&
	       named.st_dev == locked.st_dev && named.st_ino == locked.st_ino;
}

static int lock_marker(int minor, const char *path, int fd, struct error_text *text)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_SETLK, &lock)) {
		if (errno != EACCES && errno != EAGAIN)
			return error_set(text, -errno, "%s: cannot lock: %s", path, strerror(errno));
		if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
			return error_set(text, -EBUSY, "minor %d has just been in use; try again", minor);
		return error_set(text, -EBUSY, "minor %d is in use by process %d; allocate another", minor, lock.l_pid);
	}
	if (!still_named(path, fd))
		return error_set(text, -ENOENT, "minor %d has just been freed; allocate another", minor);
	return 0;
}

int minor_lock(int minor, int *fd, struct error_text *text)
{
	char path[PATH_MAX];
	int error;

	if (minor < 0 || minor > MINOR_MAX)
		return error_set(text, -EINVAL, "minor %d is out of range, choose one from 0 to %d", minor, MINOR_MAX);
	if (snprintf(path, sizeof(path), MINOR_MARKER_FORMAT, path_run_dir(), minor) >= (int)sizeof(path))
		return error_set(text, -ENAMETOOLONG, "%s: path too long", path_run_dir());
	*fd = path_open(path, O_RDWR | O_NOFOLLOW, 0);
	if (*fd < 0 && errno == ENOENT)
		return error_set(text, -ENOENT, "minor %d is not allocated; 'tap-ctl allocate' first", minor);
	if (*fd < 0)
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	error = lock_marker(minor, path, *fd, text);
	if (error) {
		close(*fd);
		*fd = -1;
	}
	return error;
}

void minor_unlock(int fd)
{
	close(fd);
}
