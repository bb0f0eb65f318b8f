/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_lock.c - one writer or several readers of an image, never both.
 *
 * The lock is flock() on the image itself: it is there without any other
 * file, ends with the process, and does not meet the byte-range locks by
 * which QEMU guards its images. A writer of a block device has besides
 * opened it with O_EXCL, which keeps it apart from mounts, LVM, RAID and
 * other such writers, through whatever device node they came.
 *
 * udev holds a shared lock on a disk while it looks at it, which is what
 * happens to a device that was just made, or closed after writing. So the
 * lock of a device may be had a moment later.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define UDEV_TRIES 50
#define UDEV_PAUSE_NS 10000000

/* Where the device is mounted; false when it is not. */
static bool find_mount(dev_t device, char where[256])
{
	unsigned major_number, minor_number;
	char line[4096];
	bool found = false;
	FILE *file;

	file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*u %*u %u:%u %*s %255s", &major_number, &minor_number, where) == 3 &&
		    makedev(major_number, minor_number) == device)
			found = true;
	}
	fclose(file);
	return found;
}

/* The kinds of locks in /proc/locks: ours, and those on parts of a file. */
static const char *const kinds_whole[] = { "FLOCK", NULL }, *const kinds_part[] = { "POSIX", "OFDLCK", NULL };

static bool is_of(const char *kind, const char *const *kinds)
{
	while (*kinds && strcmp(kind, *kinds))
		kinds++;
	return *kinds;
}

/* The process that holds a lock on this inode; -1: that is not known, 0: there is none, as far as /proc/locks tells. */
static int find_locker(const struct stat *st, const char *const *kinds)
{
	unsigned major_number, minor_number;
	char line[256], kind[16];
	unsigned long inode;
	int pid, found = 0;
	FILE *file;

	file = fopen("/proc/locks", "re");
	if (!file)
		return 0;
	while (!found && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*d: %15s %*s %*s %d %x:%x:%lu", kind, &pid, &major_number, &minor_number, &inode) == 5 &&
		    makedev(major_number, minor_number) == st->st_dev && inode == st->st_ino && is_of(kind, kinds))
			found = pid > 0 ? pid : -1;
	}
	fclose(file);
	return found;
}

/* Who has the lock, if that can be said; @otherwise: what to say if not. */
static int file_locked_by(const char *path, const struct stat *st, const char *otherwise, struct error_text *error)
{
	int pid = find_locker(st, kinds_whole);

	if (pid == getpid())
		return error_set(error, -EBUSY, "%s: in use by another disk of this process (pid %d): close it there first",
				 path, pid);
	if (pid > 0)
		return error_set(error, -EBUSY, "%s: in use by another process (pid %d): close it there first", path, pid);
	return error_set(error, -EBUSY, "%s: in use %s", path, otherwise);
}

int file_check_parts(const char *path, const struct stat *st, struct error_text *error)
{
	if (!find_locker(st, kinds_part))
		return 0;
	return error_set(error, -EBUSY, "%s: another program (QEMU, perhaps) has it open, too, and would go on with the image: end it "
			 "first, or give the disk a script= so that QEMU reads it through tapdisk", path);
}

int file_busy(const char *path, const struct stat *st, struct error_text *error)
{
	char where[256];

	if (find_mount(st->st_rdev, where))
		return error_set(error, -EBUSY, "%s: mounted at %s: unmount it first", path, where);
	return file_locked_by(path, st, "as swap, as part of LVM, RAID or another mapping, or a partition of it is mounted",
			      error);
}

static int file_try_lock(const struct image_file *file)
{
	int operation = (file->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;

	while (flock(file->fd, operation)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int file_lock_now(const struct image_file *file, bool shared, struct error_text *error)
{
	char where[256];
	struct stat st;
	int ret;

	if (fstat(file->fd, &st))
		return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	/* With O_EXCL out of the way this is what is left to keep us from writing below a filesystem. */
	if (shared && file->blkdev && !file->read_only && find_mount(st.st_rdev, where))
		return error_set(error, -EBUSY, "%s: mounted at %s: unmount it first", file->path, where);
	if (shared)
		return 0;
	ret = file_try_lock(file);
	if (ret == -EWOULDBLOCK) {
		ret = file_locked_by(file->path, &st, "by another process: close it there first", error);
		return file->blkdev ? -EAGAIN : ret;
	}
	if (ret)
		return error_set(error, ret, "%s: cannot be locked against other users: %s", file->path, strerror(-ret));
	return 0;
}

int file_lock(const struct image_file *file, bool shared, struct error_text *error)
{
	struct error_text why = { "" };
	int ret, tries;

	ret = file_lock_now(file, shared, &why);
	for (tries = 0; ret == -EAGAIN && tries < UDEV_TRIES; tries++) {
		nanosleep(&(struct timespec){ .tv_nsec = UDEV_PAUSE_NS }, NULL);
		why.text[0] = '\0';
		ret = file_lock_now(file, shared, &why);
	}
	if (ret == -EAGAIN)
		ret = -EBUSY;
	return ret ? error_set(error, ret, "%s", why.text) : 0;
}
