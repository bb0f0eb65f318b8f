/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_lock.c - one writer or several readers of an image, never both.
 *
 * Two locks on the image itself, which need no other file and end with the
 * last descriptor of the open that took them:
 *
 *  - flock(), among our own programs: exclusive for a writer, shared for a
 *    reader.
 *  - QEMU's, among programs that follow its rules. There is a byte for each
 *    operation n on an image: a program that does it locks byte PARTS_DONE + n
 *    shared, a program that does not tolerate it from others locks PARTS_DENIED
 *    + n shared. No byte is locked exclusively: a program takes its locks,
 *    looks for contradicting locks of others, and unlocks if there are any.
 *    Of two programs that start at the same time at least one sees the other.
 *
 * A writer of a block device also opens it with O_EXCL, which excludes mounts,
 * LVM, RAID and other such writers, through any device node.
 *
 * The open is retried when the lock may soon be released (backend_open_again()
 * says how long):
 *  - udev holds a shared lock on a disk while it reads it, which it does when
 *    a device was just made, or closed after writing.
 *  - A process was killed. io_uring keeps its files until the I/O in flight
 *    has ended and the ring is taken down, which a kernel worker does after
 *    the process itself is gone; the locks outlive the process by that time.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "file.h"

/* QEMU's bytes (block/file-posix.c), and the operations n (BLK_PERM_*, include/block/block-common.h). */
#define PARTS_DONE 100
#define PARTS_DENIED 200
#define PART_READ (1u << 0)
#define PART_WRITE (1u << 1)
#define PART_RESIZE (1u << 3)
#define PARTS 4
#define PARTS_END 300		/* QEMU uses no byte from here on */

#define WRITER_DOES (PART_READ | PART_WRITE | PART_RESIZE)
#define READER_DOES PART_READ
#define DENIED (PART_WRITE | PART_RESIZE)

#define PF_EXITING 4		/* include/linux/sched.h; field 9 of /proc/PID/stat */

/* Find the mount point of a device; false when it is not mounted. */
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

/* The process that took the flock() on this inode; 0: unknown. */
static int find_locker(const struct stat *st)
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
		    makedev(major_number, minor_number) == st->st_dev && inode == st->st_ino && !strcmp(kind, "FLOCK") &&
		    pid > 0)
			found = pid;
	}
	fclose(file);
	return found;
}

/* False: sets errno. */
static bool proc_read(int pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t length;
	int fd, error;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, text, size - 1);
	error = length ? errno : ESRCH;
	close(fd);
	errno = error;
	text[length > 0 ? length : 0] = '\0';
	return length > 0;
}

static bool has_pending_kill(const char *status, const char *key)
{
	const char *line = strstr(status, key);
	unsigned long long pending = 0;

	return line && sscanf(line + strlen(key), " %llx", &pending) == 1 && pending & (1ull << (SIGKILL - 1));
}

/* Call when a process's files in /proc cannot be read. kill() would tell, too, but tapdisk's sandbox forbids it. */
static bool process_is_gone(void)
{
	return errno == ENOENT || errno == ESRCH;
}

/* True if the process is gone, or killed and exiting. */
static bool process_is_ending(int pid)
{
	unsigned flags = 0;
	char text[4096], state = '?', *end;

	if (!proc_read(pid, "status", text, sizeof(text)))
		return process_is_gone();
	if (has_pending_kill(text, "\nSigPnd:") || has_pending_kill(text, "\nShdPnd:"))
		return true;
	if (!proc_read(pid, "stat", text, sizeof(text)))
		return process_is_gone();
	end = strrchr(text, ')');	/* the name may contain ')' */
	return end && sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 &&
		(state == 'Z' || state == 'X' || flags & PF_EXITING);
}

/*
 * Name the holder of the lock in @error, or say @otherwise. -EOWNERDEAD, -EBUSY; -EAGAIN when no holder is found: it
 * may have unlocked by now, or be invisible (another container, a kernel that does not name dead processes).
 */
static int file_locked_by(const char *path, const struct stat *st, const char *otherwise, struct error_text *error)
{
	int pid = find_locker(st);

	if (pid == getpid() && file_is_closing(st))
		return error_set(error, -EAGAIN, "%s: in use: this process (pid %d) is still closing it, and its device or file "
				 "server has not answered: try again later", path, pid);
	if (pid == getpid())
		return error_set(error, -EBUSY, "%s: in use by another disk of this process (pid %d): close it there first",
				 path, pid);
	if (pid > 0 && process_is_ending(pid))
		return error_set(error, -EOWNERDEAD, "%s: in use: process %d has ended, but its I/O is still in flight: try "
				 "again later", path, pid);
	if (pid > 0)
		return error_set(error, -EBUSY, "%s: in use by another process (pid %d): close it there first", path, pid);
	return error_set(error, -EAGAIN, "%s: in use %s", path, otherwise);
}

int file_busy(const char *path, const struct stat *st, struct error_text *error)
{
	char where[256];

	if (find_mount(st->st_rdev, where))
		return error_set(error, -EBUSY, "%s: mounted at %s: unmount it first", path, where);
	return file_locked_by(path, st, "as swap, as part of LVM, RAID or another mapping, or a partition of it is mounted",
			      error);
}

static int file_try_lock(int fd, bool writer)
{
	while (flock(fd, (writer ? LOCK_EX : LOCK_SH) | LOCK_NB)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* 1 if another process has locked any of @length bytes from @start on; 0; -errno. */
static int parts_taken(int fd, off_t start, off_t length)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	return fcntl(fd, F_OFD_GETLK, &lock) ? -errno : lock.l_type != F_UNLCK;
}

/* Lock the bytes of @mask, from @base on, and unlock the others. */
static int parts_have(int fd, off_t base, unsigned mask)
{
	for (unsigned part = 0; part < PARTS; part++) {
		struct flock lock = { .l_type = mask & (1u << part) ? F_RDLCK : F_UNLCK, .l_whence = SEEK_SET,
			.l_start = base + part, .l_len = 1 };

		if (fcntl(fd, F_OFD_SETLK, &lock))
			return -errno;
	}
	return 0;
}

/* 1 if another process denies an operation in @done, or does one that we deny; 0; -errno. */
static int parts_conflict(int fd, unsigned done)
{
	int taken = 0;

	for (unsigned part = 0; !taken && part < PARTS; part++) {
		if (done & (1u << part))
			taken = parts_taken(fd, PARTS_DENIED + part, 1);
		if (!taken && DENIED & (1u << part))
			taken = parts_taken(fd, PARTS_DONE + part, 1);
	}
	return taken;
}

/* 0, -EBUSY, or the kernel's error. */
static int parts_lock(int fd, bool writer)
{
	unsigned done = writer ? WRITER_DOES : READER_DOES;
	int ret = parts_have(fd, PARTS_DONE, done);

	if (!ret)
		ret = parts_have(fd, PARTS_DENIED, DENIED);
	if (!ret)
		ret = parts_conflict(fd, done);
	/* EAGAIN: another process has locked a byte exclusively, which QEMU does not do */
	return ret > 0 || ret == -EAGAIN ? -EBUSY : ret;
}

static int parts_refused(const char *path, int ret, struct error_text *error)
{
	if (ret == -EBUSY)
		return error_set(error, ret, "%s: in use by another program, such as QEMU (lsof tells which): end it first", path);
	return error_set(error, ret, "%s: cannot be locked against other users: %s", path, strerror(-ret));
}

int file_check_parts(const struct image_file *file, struct error_text *error)
{
	int ret = parts_taken(file->fd, PARTS_DONE, PARTS_END - PARTS_DONE);

	if (ret > 0)
		return error_set(error, -EBUSY, "%s: another program (perhaps QEMU) also has it open and would keep using the "
				 "image: stop it first, or give the disk a script= so that QEMU reads it through tapdisk",
				 file->path);
	return ret ? parts_refused(file->path, ret, error) : 0;
}

/*
 * The bytes first: if they cannot be locked, the old locks are unchanged,
 * while flock() unlocks before it tries. A process that gets the flock()
 * in between conflicts with the bytes.
 */
int file_relock(const struct image_file *file, bool writer)
{
	int ret = parts_lock(file->fd, writer);

	if (!ret)
		ret = file_try_lock(file->fd, writer);
	if (ret && writer) {
		parts_have(file->fd, PARTS_DONE, READER_DOES);
		file_try_lock(file->fd, false);
	}
	return ret == -EWOULDBLOCK ? -EBUSY : ret;
}

static int file_lock_parts(const struct image_file *file, enum share_qemu share_qemu, struct error_text *error)
{
	int ret = 0;

	if (share_qemu == SHARE_QEMU_NO)
		ret = parts_lock(file->fd, !file->read_only);
	else if (share_qemu == SHARE_QEMU_COMES)
		ret = parts_conflict(file->fd, file->read_only ? READER_DOES : WRITER_DOES) ? -EBUSY : 0;
	return ret ? parts_refused(file->path, ret, error) : 0;
}

int file_lock_now(const struct image_file *file, const struct driver_options *options, struct error_text *error)
{
	char where[256];
	struct stat st;
	int ret;

	if (fstat(file->fd, &st))
		return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	/* Without O_EXCL only this check prevents writes below a mounted filesystem. */
	if (options->shared && file->blkdev && !file->read_only && find_mount(st.st_rdev, where))
		return error_set(error, -EBUSY, "%s: mounted at %s: unmount it first", file->path, where);
	if (options->shared || options->locked)
		return 0;
	ret = file_try_lock(file->fd, !file->read_only);
	if (ret == -EWOULDBLOCK) {
		ret = file_locked_by(file->path, &st, "by another process: close it there first", error);
		return file->blkdev && ret == -EBUSY ? -EAGAIN : ret;
	}
	if (ret)
		return error_set(error, ret, "%s: cannot be locked against other users: %s", file->path, strerror(-ret));
	return file_lock_parts(file, options->share_qemu, error);
}
