/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.c - open an image file or block device and learn its properties.
 *
 * Invariants of an open image_file:
 *  1. size is the kernel's value, never rounded: a size that is not a multiple
 *     is refused with a text.
 *  2. Any range inside it whose offset and length are multiples of unit, in
 *     memory aligned to memory_align, can be read and written.
 *  3. No other program that honours the locks writes to it.
 *  4. It is in the list `closing` from file_close() until its locks are
 *     released, if these are two steps (file_collect()).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "device.h"
#include "file.h"
#include "image_directories.h"
#include "path.h"

static _Thread_local struct image_file **collected;
static pthread_mutex_t closing_lock = PTHREAD_MUTEX_INITIALIZER;
static struct image_file *closing;

static bool is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

static int file_check_type(const char *path, const struct stat *st, struct error_text *error)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	if (S_ISDIR(st->st_mode))
		return error_set(error, -EISDIR, "%s: is a directory: give an image file or a block device", path);
	return error_set(error, -ENOTBLK, "%s: is a %s: give an image file or a block device", path,
			 S_ISCHR(st->st_mode) ? "character device" : S_ISFIFO(st->st_mode) ? "FIFO" : "socket");
}

static int file_open_failed(const char *path, int error_number, bool writable, const struct stat *st,
			    struct error_text *error)
{
	switch (error_number) {
	case EBUSY:
		return file_busy(path, st, error);
	case EROFS:
		return error_set(error, -EROFS, "%s: on a read-only filesystem or device: open it read-only", path);
	case EACCES:
	case EPERM:
		return error_set(error, -error_number, "%s: no permission to %s it as uid %d: check owner and mode%s",
				 path, writable ? "write" : "read", (int)path_uid(),
				 writable ? ", or open it read-only" : "");
	case ENOENT:
		return error_set(error, -ENOENT, "%s: No such file or directory: check the path, or create the image",
				 path);
	case ETIMEDOUT:
		return error_set(error, -ETIMEDOUT, "%s: its device or file server does not answer", path);
	case ETXTBSY:
		return error_set(error, -ETXTBSY, "%s: in use by the kernel as swap space or as a running program", path);
	default:
		return error_set(error, -error_number, "%s: %s", path, strerror(error_number));
	}
}

/*
 * The type is checked before the open, because the open alone can act (a
 * watchdog) or hang (a FIFO), and again after it, because the file may have
 * been replaced.
 */
static int file_open_descriptor(struct image_file *file, const struct driver_options *options,
				struct error_text *error)
{
	bool writable = !options->read_only;
	int flags = (writable ? O_RDWR : O_RDONLY) | O_NOCTTY | O_NONBLOCK;
	struct stat st;
	int ret;

	ret = image_directories_check(file->path, error);
	if (ret)
		return ret;
	if (path_stat(file->path, &st))
		return file_open_failed(file->path, errno, false, &st, error);
	ret = file_check_type(file->path, &st, error);
	if (ret)
		return ret;
	if (S_ISBLK(st.st_mode) && writable && !options->shared)
		flags |= O_EXCL;
	file->direct = !options->no_direct;
	file->fd = path_open(file->path, flags | (file->direct ? O_DIRECT : 0), 0);
	if (file->fd < 0 && errno == EINVAL && file->direct) {
		file->direct = false;			/* a filesystem without O_DIRECT */
		file->fd = path_open(file->path, flags, 0);
	}
	if (file->fd < 0)
		return file_open_failed(file->path, errno, writable, &st, error);
	if (fstat(file->fd, &st))
		return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	file->blkdev = S_ISBLK(st.st_mode);
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	ret = file_check_type(file->path, &st, error);
	/* With O_NONBLOCK io_uring would fail requests that have to wait. */
	if (!ret && fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_NONBLOCK))
		ret = error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	return ret;
}

static int file_check_writable(const struct image_file *file, struct error_text *error)
{
	int read_only = 0;

	if (file->blkdev && !file->read_only && !ioctl(file->fd, BLKROGET, &read_only) && read_only)
		return error_set(error, -EROFS, "%s: the device is read-only: open it read-only", file->path);
	return 0;
}

/* A file's as it was when its server was last asked: whoever opens it, or finds out whether it answers, has asked just now. */
static int file_get_size(const struct image_file *file, uint64_t *size, struct error_text *error)
{
	struct statx stx = { 0 };
	int ret;

	if (file->blkdev) {
		ret = ioctl(file->fd, BLKGETSIZE64, size);
	} else {
		ret = statx(file->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &stx);
		*size = stx.stx_size;
	}
	return ret ? error_set(error, -errno, "%s: cannot get its size: %s", file->path, strerror(errno)) : 0;
}

static int file_check_size(const struct image_file *file, uint64_t size, struct error_text *error)
{
	if (!size && file->blkdev)
		return error_set(error, -ENOMEDIUM, "%s: the device has no size: no medium in it, or not set up yet",
				 file->path);
	if (!size)
		return error_set(error, -EINVAL, "%s: is empty (0 bytes): give it a size, as in truncate -s 10G %s",
				 file->path, file->path);
	if (size % SECTOR_SIZE)
		return error_set(error, -EINVAL, "%s: size %" PRIu64 " is not a multiple of 512: "
				 "truncate -s %%512 %s rounds it up", file->path, size, file->path);
	if (size % file->sector_size)
		return error_set(error, -EINVAL, "%s: size %" PRIu64 " is not a multiple of the sector size %u: "
				 "use sector size 512, or make it larger", file->path, size, file->sector_size);
	if (size % file->unit)
		return error_set(error, -EINVAL, "%s: size %" PRIu64 " is not a multiple of %u, which O_DIRECT needs "
				 "here: truncate -s %%%u %s rounds it up, or open it without O_DIRECT",
				 file->path, size, file->unit, file->unit, file->path);
	return 0;
}

/* Alignment reported by the kernel (6.1 and later). A zero alignment: no O_DIRECT for this file. */
static bool file_ask_alignment(struct image_file *file)
{
	struct statx stx;

	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) || !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	file->unit = stx.stx_dio_offset_align;
	file->memory_align = stx.stx_dio_mem_align;
	return true;
}

/* Try a read, where neither the kernel nor a device reports the unit. */
static unsigned file_probe_unit(const struct image_file *file)
{
	unsigned unit = 4096;
	void *buffer;

	if (posix_memalign(&buffer, 4096, 4096))
		return unit;
	if (pread(file->fd, buffer, SECTOR_SIZE, 0) >= 0 || errno != EINVAL)
		unit = SECTOR_SIZE;
	free(buffer);
	return unit;
}

static unsigned file_find_unit(const struct image_file *file, dev_t device)
{
	uint64_t unit = 0;
	int sector_size;

	if (file->blkdev && !ioctl(file->fd, BLKSSZGET, &sector_size))
		unit = sector_size;
	else if (!file->blkdev)
		unit = device_attribute(device, "queue/logical_block_size", 0);
	return unit ? (unsigned)unit : file_probe_unit(file);
}

/* Find the alignment of offsets, lengths and addresses. */
static int file_find_alignment(struct image_file *file, dev_t device, struct error_text *error)
{
	if (file->direct && !file_ask_alignment(file))
		file->unit = file->memory_align = file_find_unit(file, device);
	if (file->direct && !file->unit) {
		file->direct = false;
		if (fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_DIRECT))
			return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	}
	if (!file->direct)
		file->unit = file->memory_align = SECTOR_SIZE;
	/* Requests come in 512-byte units, so a smaller alignment does not matter. */
	if (file->unit < SECTOR_SIZE)
		file->unit = SECTOR_SIZE;
	if (file->memory_align < SECTOR_SIZE)
		file->memory_align = SECTOR_SIZE;
	if (!is_power_of_two(file->unit) || !is_power_of_two(file->memory_align))
		return error_set(error, -EINVAL, "%s: odd block size %u or memory alignment %u: open it without O_DIRECT",
				 file->path, file->unit, file->memory_align);
	return 0;
}

static void file_find_physical(struct image_file *file, dev_t device)
{
	uint64_t size = device_attribute(device, "queue/physical_block_size", SECTOR_SIZE);

	if (!is_power_of_two(size) || size > (1u << 20) || size < file->unit)
		size = file->unit;
	file->physical_sector_size = (unsigned)size;
}

/*
 * Punching a hole behind the end of a file changes nothing, and shows whether
 * the filesystem supports it.
 */
static void file_find_discard(struct image_file *file, dev_t device)
{
	struct statvfs vfs;

	if (file->read_only)
		return;
	if (file->blkdev) {
		file->discard = device_attribute(device, "queue/discard_max_bytes", 0) > 0;
		file->discard_granularity = (unsigned)device_attribute(device, "queue/discard_granularity", 0);
		file->discard_alignment = (unsigned)device_attribute(device, "discard_alignment", 0);
		file->fast_zeroes = device_attribute(device, "queue/write_zeroes_max_bytes", 0) > 0;
	} else {
		file->discard = !fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file->size, 4096);
		file->discard_granularity = fstatvfs(file->fd, &vfs) ? 0 : (unsigned)vfs.f_frsize;
		file->fast_zeroes = file->discard;
	}
	if (!file->discard)
		file->discard_granularity = file->discard_alignment = 0;
	else if (file->discard_granularity < file->sector_size)
		file->discard_granularity = file->sector_size;
}

/* Without O_DIRECT the page cache has its own copy. FUSE may be on a local device and still keep pages. */
static bool file_pages_stable(const struct image_file *file, dev_t device)
{
	struct statfs fs;

	if (!file->direct)
		return true;
	if (!file->blkdev && (fstatfs(file->fd, &fs) || fs.f_type == FUSE_SUPER_MAGIC))
		return false;
	return device_is_local(device);
}

/*
 * io_uring asks a file whose file system has no RWF_NOWAIT whether it can be
 * polled. FUSE says that it is always ready, and then the submission itself waits
 * for the file server.
 */
static bool file_may_block(const struct image_file *file)
{
	struct iovec piece = { .iov_len = file->unit };
	ssize_t got;

	if (posix_memalign(&piece.iov_base, 4096, piece.iov_len))
		return true;
	got = preadv2(file->fd, &piece, 1, (off_t)file->size, RWF_NOWAIT);	/* there is nothing to be read */
	got = got < 0 ? -errno : got;
	free(piece.iov_base);
	return got == -EOPNOTSUPP;
}

/*
 * While a file has pages in the page cache, left by a copy or a reader, each
 * direct write searches its range for them, before and after it. Dirty pages,
 * of a copy made just now, are not dropped: their writeback starts, which may
 * take a while.
 */
static void file_leave_page_cache(const struct image_file *file)
{
	if (file->direct)
		posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int file_learn(struct image_file *file, struct error_text *error)
{
	struct stat st;
	dev_t device;
	int ret;

	if (fstat(file->fd, &st))
		return error_set(error, -errno, "%s: %s", file->path, strerror(errno));
	device = file->blkdev ? st.st_rdev : st.st_dev;
	ret = file_find_alignment(file, device, error);
	if (!ret)
		ret = file_get_size(file, &file->size, error);
	if (!ret)
		ret = file_check_size(file, file->size, error);
	if (ret)
		return ret;
	file_find_physical(file, device);
	file_find_discard(file, device);
	file->pages_stable = file_pages_stable(file, device);
	file->may_block = file_may_block(file);
	file_leave_page_cache(file);
	return 0;
}

int file_open(struct image_file **result, const char *path, const struct driver_options *options,
	      struct error_text *error)
{
	struct image_file *file = calloc(1, sizeof(*file));
	int ret;

	if (!file)
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	file->fd = -1;
	file->read_only = options->read_only;
	file->sector_size = options->sector_size ? options->sector_size : SECTOR_SIZE;
	file->path = strdup(path);
	if (!file->path) {
		ret = error_set(error, -ENOMEM, "%s: out of memory", path);
		goto out;
	}
	ret = file_open_descriptor(file, options, error);
	if (!ret && options->unwanted && atomic_load(options->unwanted))
		ret = -ECANCELED;
	if (!ret)
		ret = file_check_writable(file, error);
	if (!ret)
		ret = file_lock_now(file, options, error);
	if (!ret)
		ret = file_learn(file, error);
	if (ret)
		goto out;
	*result = file;
	return 0;

out:
	file_close(file);
	return ret;
}

static void file_free(struct image_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

void file_collect(struct image_file **list)
{
	collected = list;
}

void file_close(struct image_file *file)
{
	if (!collected || file->fd < 0) {
		file_free(file);
		return;
	}
	file->next = *collected;
	*collected = file;
	pthread_mutex_lock(&closing_lock);
	file->next_closing = closing;
	closing = file;
	pthread_mutex_unlock(&closing_lock);
}

static void file_closed(const struct image_file *file)
{
	struct image_file **link = &closing;

	pthread_mutex_lock(&closing_lock);
	while (*link != file)
		link = &(*link)->next_closing;
	*link = file->next_closing;
	pthread_mutex_unlock(&closing_lock);
}

void file_close_all(struct image_file *list)
{
	struct image_file *file;

	while ((file = list)) {
		list = file->next;
		close(file->fd);
		file->fd = -1;
		file_closed(file);
		file_free(file);
	}
}

bool file_is_closing(const struct stat *st)
{
	const struct image_file *file;

	pthread_mutex_lock(&closing_lock);
	for (file = closing; file && (file->dev != st->st_dev || file->ino != st->st_ino); file = file->next_closing)
		;
	pthread_mutex_unlock(&closing_lock);
	return file;
}

int file_refresh_size(struct image_file *file, struct error_text *error)
{
	uint64_t size;
	int ret;

	ret = file_get_size(file, &size, error);
	if (!ret)
		ret = file_check_size(file, size, error);
	if (ret)
		return ret;
	if (size < file->size)
		return error_set(error, -EINVAL, "%s: has shrunk from %" PRIu64 " to %" PRIu64 " bytes: a disk in use "
				 "can only grow; restore the old size", file->path, file->size, size);
	file->size = size;
	return 0;
}
