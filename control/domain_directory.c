/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_directory.c - the directory of one domain's snapshots.
 *
 * Invariants: files are replaced atomically (written under another name,
 * synced, renamed, the directory synced). A process that changes anything
 * holds the lock, which ends with the process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client_internal.h"
#include "clock.h"
#include "domain.h"
#include "path.h"

#define LOCK_FILE "lock"
#define UNFINISHED ".new"		/* ends the name of a file that is being written */
#define POLL_NS 20000000

const char *directory_root(void)
{
	const char *root = getenv(DOMAIN_SNAPSHOT_DIR_ENV);

	return root && *root ? root : DOMAIN_SNAPSHOT_DIR;
}

/* Create the directory and its parents, each durably. */
static int make_directories(const char *path, struct error_text *text)
{
	char above[PATH_MAX];
	char *slash;
	int error = 0;

	snprintf(above, sizeof(above), "%s", path);
	slash = strrchr(above, '/');
	if (slash != above) {
		*slash = '\0';
		if (access(above, F_OK))
			error = make_directories(above, text);
	}
	return error ? error : path_make_lasting_directory(path, text);
}

int directory_open(struct domain_directory *directory, const char *uuid, bool make, struct error_text *text)
{
	const char *root = directory_root();
	int error = 0;

	*directory = (struct domain_directory){ .fd = -1, .lock = -1 };
	snprintf(directory->uuid, sizeof(directory->uuid), "%s", uuid);
	if (*root != '/')
		return error_set(text, -EINVAL, "%s: not an absolute path", root);
	if (snprintf(directory->path, sizeof(directory->path), "%s/%s", root, uuid) >= (int)sizeof(directory->path))
		return error_set(text, -ENAMETOOLONG, "%s: too long", root);
	if (make)
		error = make_directories(root, text);
	if (make && !error)
		error = path_make_lasting_directory(directory->path, text);
	if (!error)
		directory->fd = open(directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!error && directory->fd < 0)
		error = error_set(text, -errno, "%s: %s", directory->path, strerror(errno));
	return error;
}

void directory_close(struct domain_directory *directory)
{
	if (directory->lock >= 0)
		close(directory->lock);
	if (directory->fd >= 0)
		close(directory->fd);
	directory->lock = directory->fd = -1;
}

int directory_lock(struct domain_directory *directory, int wait_ms, struct error_text *text)
{
	int64_t deadline = clock_ms() + wait_ms;
	/* a caller that does not wait only reads, so it creates no file */
	int fd = openat(directory->fd, LOCK_FILE, O_RDWR | (wait_ms ? O_CREAT : 0) | O_CLOEXEC, 0600);
	/* in a removed directory no file can be created */
	int error = fd >= 0 ? 0 : errno == ENOENT ? -ESTALE : -errno;
	struct stat st;

	while (!error && flock(fd, LOCK_EX | LOCK_NB)) {
		error = errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
		if (!error && clock_ms() >= deadline)
			error = -EBUSY;
		else if (!error)
			nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
	}
	/* the last owner of the lock may have removed the directory with the last snapshot */
	if (!error && (fstat(fd, &st) || !st.st_nlink))
		error = -ESTALE;
	if (!error) {
		directory->lock = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	if (error == -EBUSY || error == -ESTALE)
		return error_set(text, error,
				 "another command is changing this domain's snapshots; wait until it has finished");
	return error_set(text, error, "%s/" LOCK_FILE ": %s", directory->path, strerror(-error));
}

void directory_unlock(struct domain_directory *directory)
{
	close(directory->lock);
	directory->lock = -1;
}

static struct flock program_lock(enum domain_program program)
{
	return (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = program, .l_len = 1 };
}

/* The lock of the operation itself is another kind, which ends with the operation. */
int directory_hold(const struct domain_directory *directory, enum domain_program program)
{
	struct flock lock = program_lock(program);
	int fd = openat(directory->fd, LOCK_FILE, O_RDWR | O_CLOEXEC);

	if (fd >= 0 && !fcntl(fd, F_OFD_SETLK, &lock))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

bool directory_is_held(const struct domain_directory *directory, enum domain_program program)
{
	struct flock lock = program_lock(program);

	lock.l_type = F_WRLCK;
	return !fcntl(directory->lock, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}

/* A descriptor of a removed directory can still be read, as empty; opening "." in it fails. */
int directory_entries(const struct domain_directory *directory, DIR **dir, struct error_text *text)
{
	int fd = openat(directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*dir = fd < 0 ? NULL : fdopendir(fd);
	if (*dir || (fd < 0 && errno == ENOENT))
		return 0;
	if (fd >= 0)
		close(fd);
	return error_set(text, -errno, "%s: %s", directory->path, strerror(errno));
}

int directory_path(const struct domain_directory *directory, const char *file, char *path, struct error_text *text)
{
	if (snprintf(path, PATH_MAX, "%s/%s", directory->path, file) >= PATH_MAX)
		return error_set(text, -ENAMETOOLONG, "%s/%s: too long", directory->path, file);
	return 0;
}

int directory_read(const struct domain_directory *directory, const char *file, json_t **value, struct error_text *text)
{
	json_error_t where;
	int fd = openat(directory->fd, file, O_RDONLY | O_CLOEXEC);

	*value = NULL;
	if (fd < 0)
		return error_set(text, -errno, "%s/%s: %s", directory->path, file, strerror(errno));
	*value = json_loadfd(fd, 0, &where);
	close(fd);
	if (!*value)
		return error_set(text, -EBADMSG, "%s/%s: damaged: line %d: %s", directory->path, file, where.line, where.text);
	return 0;
}

int directory_write(const struct domain_directory *directory, const char *file, const json_t *value, struct error_text *text)
{
	char beside[NAME_MAX + 1];
	int fd, error = 0;

	snprintf(beside, sizeof(beside), "%s" UNFINISHED, file);
	if (!value)
		return error_set(text, -EINVAL, "%s/%s: not UTF-8, or out of memory", directory->path, file);
	fd = openat(directory->fd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(text, -errno, "%s/%s: %s", directory->path, beside, strerror(errno));
	errno = 0;
	if (json_dumpfd(value, fd, JSON_INDENT(2)) || write(fd, "\n", 1) != 1 || fsync(fd))
		error = errno ? -errno : -EIO;
	close(fd);
	if (!error && renameat(directory->fd, beside, directory->fd, file))
		error = -errno;
	if (!error && fsync(directory->fd))
		error = -errno;
	if (!error)
		return 0;
	unlinkat(directory->fd, beside, 0);
	return error_set(text, error, "%s/%s: cannot be written: %s", directory->path, file, strerror(-error));
}

int directory_remove(const struct domain_directory *directory, const char *file, struct error_text *text)
{
	if ((unlinkat(directory->fd, file, 0) && errno != ENOENT) || fsync(directory->fd))
		return error_set(text, -errno, "%s/%s: cannot be removed: %s", directory->path, file, strerror(errno));
	return 0;
}

/* No other file has such a name. */
void directory_remove_unfinished(const struct domain_directory *directory)
{
	struct dirent *entry;
	DIR *dir;

	if (directory_entries(directory, &dir, NULL) || !dir)
		return;
	while ((entry = readdir(dir))) {
		size_t length = strlen(entry->d_name);

		if (length > strlen(UNFINISHED) && !strcmp(entry->d_name + length - strlen(UNFINISHED), UNFINISHED))
			unlinkat(directory->fd, entry->d_name, 0);
	}
	closedir(dir);
}

int directory_rename(const struct domain_directory *directory, const char *from, const char *to, struct error_text *text)
{
	if (renameat(directory->fd, from, directory->fd, to) || fsync(directory->fd))
		return error_set(text, -errno, "%s/%s: cannot be renamed: %s", directory->path, from, strerror(errno));
	return 0;
}

int directory_each(int (*each)(const char *uuid, void *owner), void *owner)
{
	struct dirent *entry;
	int result = 0;
	DIR *dir = opendir(directory_root());

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (!result && (entry = readdir(dir))) {
		if (strlen(entry->d_name) == DOMAIN_UUID_SIZE - 1)
			result = each(entry->d_name, owner);
	}
	closedir(dir);
	return result;
}

/* Only with the lock held: otherwise another process may be about to write there. The lock's file is removed last. */
void directory_remove_empty(const struct domain_directory *directory)
{
	DIR *dir = directory->lock >= 0 ? opendir(directory->path) : NULL;
	struct dirent *entry;
	bool empty = true;

	while (dir && (entry = readdir(dir)))
		empty &= !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || !strcmp(entry->d_name, LOCK_FILE);
	if (dir)
		closedir(dir);
	if (dir && empty && !unlinkat(directory->fd, LOCK_FILE, 0))
		rmdir(directory->path);
}
