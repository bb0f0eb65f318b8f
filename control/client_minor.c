/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_minor.c - minors: marker files in the run directory.
 *
 * Invariants:
 *  - A marker is created with O_EXCL, so two allocations never get the same
 *    minor.
 *  - A tapdisk that has a minor holds a POSIX write lock on the marker (so
 *    that F_GETLK returns its pid), and checks after locking that the name
 *    still refers to the locked file. free takes the same lock before it
 *    unlinks: a minor is never freed while a tapdisk has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_internal.h"

static int marker_path(char **path, int minor, struct error_text *text)
{
	if (asprintf(path, MINOR_MARKER_FORMAT, tapctl_run_dir(), minor) >= 0)
		return 0;
	*path = NULL;
	return error_set(text, -ENOMEM, "out of memory");
}

static int check_minor(int minor, struct error_text *text)
{
	if (minor >= 0 && minor <= MINOR_MAX)
		return 0;
	return error_set(text, -EINVAL, "minor %d is out of range, choose one from 0 to %d", minor, MINOR_MAX);
}

/* 0, -EEXIST, or another error with a text. */
static int create_marker(int minor, struct error_text *text)
{
	char *path;
	int fd, error;

	error = marker_path(&path, minor, text);
	if (error)
		return error;
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	else if (errno == EEXIST)
		error = -EEXIST;
	else if (errno == ENOSPC || errno == EDQUOT)
		error = error_set(text, -errno, "%s: %s; make room on that file system", path, strerror(errno));
	else
		error = error_set(text, -errno, "%s: %s", path, strerror(errno));
	free(path);
	return error;
}

int tapctl_minor_allocate(int wanted, struct error_text *text)
{
	int minor, error;

	error = wanted == -1 ? 0 : check_minor(wanted, text);
	if (!error)
		error = client_make_run_dir(text);
	if (error)
		return error;
	if (wanted != -1) {
		error = create_marker(wanted, text);
		if (error == -EEXIST)
			return error_set(text, error, "minor %d is already allocated; see 'tap-ctl list -m %d'", wanted,
					 wanted);
		return error ? error : wanted;
	}
	for (minor = 0; minor <= MINOR_MAX; minor++) {
		error = create_marker(minor, text);
		if (error != -EEXIST)
			return error ? error : minor;
	}
	return error_set(text, -EUSERS, "all %d minors are allocated; free some with 'tap-ctl free -m MINOR'", MINOR_MAX + 1);
}

static struct flock whole_file(void)
{
	return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

/* The pid that holds the lock, or 0. */
static int lock_owner(int fd)
{
	struct flock lock = whole_file();

	if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

static int remove_marker(int minor, const char *path, struct error_text *text)
{
	struct flock lock = whole_file();
	int fd, owner, error = 0;

	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return error_set(text, -ENOENT, "minor %d is not allocated", minor);
	if (fd < 0)
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	if (fcntl(fd, F_SETLK, &lock)) {
		owner = lock_owner(fd);
		error = error_set(text, -EBUSY, "minor %d is attached to tapdisk %d; 'tap-ctl destroy -p %d -m %d' frees it",
				  minor, owner, owner, minor);
	} else if (client_takeover_forget(minor), unlink(path)) {
		error = error_set(text, -errno, "%s: %s", path, strerror(errno));
	}
	close(fd);
	return error;
}

int tapctl_minor_free(int minor, struct error_text *text)
{
	char *path;
	int error;

	error = check_minor(minor, text);
	if (!error)
		error = marker_path(&path, minor, text);
	if (error)
		return error;
	error = remove_marker(minor, path, text);
	free(path);
	return error;
}

static int minor_owner(int minor)
{
	int fd, owner = 0;
	char *path;

	if (marker_path(&path, minor, NULL))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		owner = lock_owner(fd);
		close(fd);
	}
	free(path);
	return owner;
}

int tapctl_minor_list(void (*each)(int minor, int locked_by, void *arg), void *arg)
{
	char *directory;
	int *minors;
	size_t count, i;
	int error;

	if (asprintf(&directory, MINOR_DIR_FORMAT, tapctl_run_dir()) < 0)
		return -ENOMEM;
	error = client_list_numbers(directory, "tapdisk-", MINOR_MAX, &minors, &count);
	free(directory);
	for (i = 0; i < count; i++)
		each(minors[i], minor_owner(minors[i]), arg);
	free(minors);
	return error;
}
