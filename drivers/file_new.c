/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_new.c - a new file, which gets its name when it is complete.
 *
 *   file_new() ---> locked, without a name ---> written ---> file_new_place(): synced, named, both synced
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
 * name is removed. Where there are no links either, an empty file takes the name
 * until the complete one replaces it.
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
		if (ret != -EAGAIN && is_named(file->fd, part))
			unlink(part);
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

/* Whatever would keep the file from getting its name is said before the work, not after it. */
static int check_name(const char *path, struct error_text *error)
{
	struct stat st;
	int ret;

	if (!lstat(path, &st))
		return error_set(error, -EEXIST, "%s: already exists", path);
	if (errno != ENOENT)
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!*path || path[strlen(path) - 1] == '/')
		return error_set(error, -EISDIR, "%s: not the name of a file", path);
	ret = path_sync_name(path);
	return ret ? error_set(error, ret, "%s: its directory: %s", path, strerror(-ret)) : 0;
}

int file_new(struct image_file *file, char **part, struct error_text *error)
{
	char directory[PATH_MAX];
	int ret;

	assert(!path_has_opener());	/* which opens no files without a name */
	*part = NULL;
	file->fd = -1;
	if (snprintf(directory, sizeof(directory), "%s", file->path) >= (int)sizeof(directory))
		return error_set(error, -ENAMETOOLONG, "%s: too long", file->path);
	ret = check_name(file->path, error);
	if (ret)
		return ret;
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
	return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
}

/* Nobody else makes a file of that name meanwhile, and what is replaced is ours. */
static int replace_own(const char *part, const char *path)
{
	int fd = path_open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), ret;

	if (fd < 0)
		return -errno;
	close(fd);
	if (!rename(part, path))
		return 0;
	ret = -errno;
	unlink(path);
	return ret;
}

static int rename_part(const struct image_file *file, const char *part)
{
	int ret = renameat2(AT_FDCWD, part, AT_FDCWD, file->path, RENAME_NOREPLACE) ? -errno : 0;

	if (ret != -EINVAL && ret != -ENOSYS)
		return ret;
	ret = linkat(AT_FDCWD, part, AT_FDCWD, file->path, 0) ? -errno : 0;
	if (ret == -EPERM || ret == -EOPNOTSUPP || ret == -ENOSYS)
		return replace_own(part, file->path);
	if (ret == -EEXIST && is_named(file->fd, file->path))
		ret = 0;	/* NFS: the first reply was lost */
	/* not another's, which it is if that has removed ours; if ours stays, the next maker removes it */
	if (!ret && is_named(file->fd, part))
		unlink(part);
	return ret;
}

static int set_name(const struct image_file *file, char **part)
{
	char own[64];
	int ret;

	if (!*part) {
		snprintf(own, sizeof(own), "/proc/self/fd/%d", file->fd);
		return linkat(AT_FDCWD, own, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) ? -errno : 0;
	}
	ret = rename_part(file, *part);
	if (!ret) {
		free(*part);
		*part = NULL;
	}
	return ret;
}

/* Some file systems do not write a file that has no name (btrfs before Linux 6.15), so the file is synced again. */
static int sync_named(const struct image_file *file)
{
	return fsync(file->fd) ? -errno : path_sync_name(file->path);
}

int file_new_place(const struct image_file *file, char **part, struct error_text *error)
{
	int ret = fsync(file->fd) ? -errno : 0;

	if (!ret)
		ret = set_name(file, part);
	if (ret)
		return error_set(error, ret, "%s: %s", file->path,
				 ret == -EEXIST ? "has come into being meanwhile" : strerror(-ret));
	ret = sync_named(file);
	if (!ret)
		return 0;
	if (is_named(file->fd, file->path))
		unlink(file->path);
	return error_set(error, ret, "%s: cannot be made durable: %s", file->path, strerror(-ret));
}

void file_new_drop(const struct image_file *file, char **part)
{
	if (*part && is_named(file->fd, *part))
		unlink(*part);
	free(*part);
	*part = NULL;
}
