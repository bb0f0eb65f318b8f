/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_new.c - a new file, which gets its name when it is complete.
 *
 *   file_new() ---> locked, without a name ---> written ---> file_new_place(): synced, named, the name synced
 *
 * So a file under its name is complete, and no other program opens it while it is
 * made, even if its maker is killed at any moment: the kernel removes a file
 * without a name (O_TMPFILE) when the last descriptor of it is closed.
 *
 * Where the file system has no such files (NFS, CIFS, FAT, some of FUSE), it is
 * PATH PART_SUFFIX until then. Its maker, if killed, leaves that file behind.
 * The next file_new() of the same path removes it, when it has its lock. Without
 * renameat2(RENAME_NOREPLACE), as on NFS, a second link is made, and the first
 * removed: a left over file with two links is a complete one, and only its first
 * name is removed.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "image_directories.h"
#include "path.h"

#define PART_SUFFIX ".tapsnap-part"

static bool is_named(int fd, const char *path)
{
	struct stat file, name;

	return !fstat(fd, &file) && !lstat(path, &name) && file.st_dev == name.st_dev && file.st_ino == name.st_ino;
}

static int lock(struct image_file *file, struct error_text *error)
{
	return file_lock_now(file, &(struct driver_options){ 0 }, error);
}

static int remove_left(const char *part, struct image_file *file, struct error_text *error)
{
	struct stat st;
	int ret = 0;

	if (fstat(file->fd, &st) || !S_ISREG(st.st_mode))
		return error_set(error, -EEXIST, "%s: is in the way: remove it", part);
	if (st.st_nlink == 1)
		ret = lock(file, error);
	if (!ret && is_named(file->fd, part) && unlink(part) && errno != ENOENT)
		ret = error_set(error, -errno, "%s: cannot be removed: %s", part, strerror(errno));
	return ret;
}

/* 0: there is none any more. */
static int part_clear(const char *part, struct error_text *error)
{
	struct image_file file = { .path = (char *)part };
	int ret;

	file.fd = path_open(part, O_RDWR | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0);
	if (file.fd < 0)
		return errno == ENOENT ? 0 : error_set(error, -errno, "%s: %s", part, strerror(errno));
	ret = remove_left(part, &file, error);
	close(file.fd);
	return ret;
}

/* -EAGAIN: another process was doing the same. */
static int part_try(struct image_file *file, const char *part, struct error_text *error)
{
	int ret = part_clear(part, error);

	if (ret)
		return ret;
	file->fd = path_open(part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (file->fd < 0 && errno == EEXIST)
		return error_set(error, -EAGAIN, "%s: another process makes it", part);
	if (file->fd < 0)
		return error_set(error, -errno, "%s: %s", part, strerror(errno));
	ret = lock(file, error);
	if (!ret && !is_named(file->fd, part))
		ret = error_set(error, -EAGAIN, "%s: another process has removed it", part);
	if (ret) {
		close(file->fd);
		file->fd = -1;
	}
	return ret;
}

static int part_make(struct image_file *file, char **part, struct error_text *error)
{
	struct error_text why = { "" };
	unsigned tries = 0;
	int ret;

	if (asprintf(part, "%s" PART_SUFFIX, file->path) < 0) {
		*part = NULL;
		return error_set(error, -ENOMEM, "%s: out of memory", file->path);
	}
	while (backend_open_again(ret = part_try(file, *part, &why), tries++)) {
		nanosleep(&(struct timespec){ .tv_nsec = OPEN_AGAIN_MS * 1000000 }, NULL);
		why.text[0] = '\0';
	}
	if (!ret)
		return 0;
	free(*part);
	*part = NULL;
	return error_set(error, ret == -EAGAIN || ret == -EOWNERDEAD ? -EBUSY : ret, "%s", why.text);
}

int file_new(struct image_file *file, char **part, struct error_text *error)
{
	char directory[PATH_MAX];
	struct stat st;
	int ret;

	assert(!path_has_opener());	/* which opens no files without a name */
	*part = NULL;
	file->fd = -1;
	if (snprintf(directory, sizeof(directory), "%s", file->path) >= (int)sizeof(directory))
		return error_set(error, -ENAMETOOLONG, "%s: too long", file->path);
	if (!lstat(file->path, &st))
		return error_set(error, -EEXIST, "%s: already exists", file->path);
	file->fd = path_open(dirname(directory), O_RDWR | O_TMPFILE, 0600);
	if (file->fd >= 0) {
		ret = lock(file, error);	/* nobody else has it: it can only be that there are no locks */
		if (!ret)
			return 0;
		close(file->fd);
		file->fd = -1;
		return ret;
	}
	if (errno == EOPNOTSUPP || errno == EISDIR)
		return part_make(file, part, error);
	ret = -errno;
	/* the reason for EACCES */
	if (ret == -EACCES && image_directories_check(file->path, error))
		return -EPERM;
	return error_set(error, ret, "%s: %s", file->path, strerror(-ret));
}

static int rename_part(char **part, const char *path)
{
	int ret = renameat2(AT_FDCWD, *part, AT_FDCWD, path, RENAME_NOREPLACE) ? -errno : 0;

	if (ret == -EINVAL || ret == -ENOSYS) {
		ret = linkat(AT_FDCWD, *part, AT_FDCWD, path, 0) ? -errno : 0;
		if (!ret)
			unlink(*part);
	}
	if (!ret) {
		free(*part);
		*part = NULL;
	}
	return ret;
}

static int set_name(const struct image_file *file, char **part)
{
	char own[64];

	if (*part)
		return rename_part(part, file->path);
	snprintf(own, sizeof(own), "/proc/self/fd/%d", file->fd);
	return linkat(AT_FDCWD, own, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

int file_new_place(const struct image_file *file, char **part, struct error_text *error)
{
	int ret = fsync(file->fd) ? -errno : 0;

	if (!ret)
		ret = set_name(file, part);
	if (ret)
		return error_set(error, ret, "%s: %s", file->path,
				 ret == -EEXIST ? "has come into being meanwhile" : strerror(-ret));
	ret = path_sync_name(file->path);
	if (!ret)
		return 0;
	if (is_named(file->fd, file->path))
		unlink(file->path);
	return error_set(error, ret, "%s: its directory cannot be made durable: %s", file->path, strerror(-ret));
}

void file_new_drop(const struct image_file *file, char **part)
{
	if (*part && is_named(file->fd, *part))
		unlink(*part);
	free(*part);
	*part = NULL;
}
