/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_file.c - a store in a file or on a block device, synchronously and
 * through the page cache, for the tools.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cow.h"
#include "file.h"
#include "image_directories.h"
#include "overlay.h"
#include "path.h"

struct cow_file {
	struct cow_device device;
	struct image_file image;	/* for locking; its path and descriptor are ours */
	char *part;			/* of file_new() */
};

static struct cow_file *file_of(struct cow_device *device)
{
	return (struct cow_file *)device;
}

static int file_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	ssize_t n;

	for (; length; data = (char *)data + n, offset += (size_t)n, length -= (size_t)n) {
		n = pread(file_of(device)->image.fd, data, length, (off_t)offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int file_write(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	ssize_t n;

	for (; length; data = (const char *)data + n, offset += (size_t)n, length -= (size_t)n) {
		n = pwrite(file_of(device)->image.fd, data, length, (off_t)offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int file_sync(struct cow_device *device)
{
	return fdatasync(file_of(device)->image.fd) ? -errno : 0;
}

static int file_write_durable(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	int ret = file_write(device, data, offset, length);

	return ret ? ret : cow_sync_error(file_sync(device));
}

static int file_punch(struct cow_device *device, uint64_t offset, uint64_t length)
{
	struct image_file *image = &file_of(device)->image;
	uint64_t range[2] = { offset, length };

	if (image->blkdev)
		return ioctl(image->fd, BLKDISCARD, range) ? -errno : 0;
	return fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) ? -errno : 0;
}

static uint64_t file_size(struct cow_device *device)
{
	return file_of(device)->image.size;
}

static int file_resize(struct cow_device *device, uint64_t size)
{
	if (ftruncate(file_of(device)->image.fd, (off_t)size))
		return -errno;
	file_of(device)->image.size = size;
	return 0;
}

static int file_zero(struct cow_device *device, uint64_t offset, uint64_t length)
{
	struct image_file *image = &file_of(device)->image;
	uint64_t range[2] = { offset, length };

	if (image->blkdev)
		return ioctl(image->fd, BLKZEROOUT, range) ? -errno : 0;
	return fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) ? -errno : 0;
}

/* A file system without holes reports that all is data. */
static int file_hole(struct cow_device *device, uint64_t offset, uint64_t *length, bool *hole)
{
	int fd = file_of(device)->image.fd;
	off_t at = lseek(fd, (off_t)offset, SEEK_DATA);

	if (at < 0 && errno != ENXIO)
		return -errno;
	*hole = at < 0 || (uint64_t)at > offset;
	if (!*hole)
		at = lseek(fd, (off_t)offset, SEEK_HOLE);
	if (at >= 0 && (uint64_t)at - offset < *length)
		*length = (uint64_t)at - offset;
	return 0;
}

static const struct cow_device_ops file_ops = {
	.read = file_read, .write = file_write, .write_durable = file_write_durable, .sync = file_sync,
	.punch = file_punch, .size = file_size, .resize = file_resize, .zero = file_zero, .hole = file_hole,
};

static const struct cow_device_ops blkdev_ops = {
	.read = file_read, .write = file_write, .write_durable = file_write_durable, .sync = file_sync,
	.punch = file_punch, .size = file_size, .zero = file_zero,
};

static int image_look(struct image_file *image, struct error_text *error)
{
	struct stat st;
	uint64_t size;

	if (fstat(image->fd, &st))
		return error_set(error, -errno, "%s: %s", image->path, strerror(errno));
	image->blkdev = S_ISBLK(st.st_mode);
	image->size = (uint64_t)st.st_size;
	if (S_ISDIR(st.st_mode))
		return error_set(error, -EISDIR, "%s: a directory: name the store in it", image->path);
	if (!image->blkdev && !S_ISREG(st.st_mode))
		return error_set(error, -EINVAL, "%s: neither a file nor a block device", image->path);
	if (image->blkdev) {
		if (ioctl(image->fd, BLKGETSIZE64, &size))
			return error_set(error, -errno, "%s: cannot get its size: %s", image->path, strerror(errno));
		image->size = size;
	}
	return file_lock_now(image, &(struct driver_options){ 0 }, error);
}

static int file_try_open(struct image_file *image, int flags, struct error_text *error)
{
	struct stat st;
	int ret;

	/* before the open, which alone can act (a watchdog) or hang (a FIFO); and again in image_look(): it may have changed */
	if (!path_stat(image->path, &st) && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return error_set(error, -EINVAL, "%s: neither a file nor a block device", image->path);
	image->fd = path_open(image->path, flags | O_NOCTTY | O_NONBLOCK, 0600);
	if (image->fd < 0 && errno == EBUSY && !path_stat(image->path, &st))
		return file_busy(image->path, &st, error);
	if (image->fd < 0) {
		ret = -errno;
		/* the reason for EACCES */
		if (ret == -EACCES && image_directories_check(image->path, error))
			ret = -EPERM;
		return error_set(error, ret, "%s: %s", image->path, strerror(-ret));
	}
	ret = image_look(image, error);
	if (ret) {
		close(image->fd);
		image->fd = -1;
	}
	return ret;
}

/* Waits, because a tool has nothing else to do. */
static int file_open_waiting(struct image_file *image, int flags, struct error_text *error)
{
	struct error_text why = { "" };
	unsigned tries = 0;
	int ret;

	while (backend_open_again(ret = file_try_open(image, flags, &why), tries++)) {
		nanosleep(&(struct timespec){ .tv_nsec = OPEN_AGAIN_MS * 1000000 }, NULL);
		why.text[0] = '\0';
	}
	if (ret == -EAGAIN || ret == -EOWNERDEAD)
		ret = -EBUSY;
	return ret ? error_set(error, ret, "%s", why.text) : 0;
}

static int file_start(struct cow_device **device, const char *path, int flags, bool read_only, struct error_text *error)
{
	struct cow_file *file = calloc(1, sizeof(*file));
	struct stat st;
	int ret;

	if (!file || !(file->image.path = strdup(path))) {
		free(file);
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	}
	/* O_EXCL without O_CREAT excludes mounts and other users of a device. */
	if (!read_only && !path_stat(path, &st) && S_ISBLK(st.st_mode))
		flags = (flags & ~O_CREAT) | O_EXCL;
	file->image.read_only = read_only;
	ret = file_open_waiting(&file->image, flags, error);
	file->device.ops = file->image.blkdev ? &blkdev_ops : &file_ops;
	file->device.name = file->image.path;
	if (ret)
		cow_file_close(&file->device);
	else
		*device = &file->device;
	return ret;
}

int cow_file_open_as_is(struct cow_device **device, const char *path, bool read_only, struct error_text *error)
{
	return file_start(device, path, read_only ? O_RDONLY : O_RDWR, read_only, error);
}

int cow_file_open(struct cow_device **device, const char *path, bool read_only, struct error_text *error)
{
	int ret = overlay_refuse(path, error);

	return ret ? ret : cow_file_open_as_is(device, path, read_only, error);
}

int cow_file_create(struct cow_device **device, const char *path, struct error_text *error)
{
	int ret = overlay_refuse(path, error);

	return ret ? ret : file_start(device, path, O_RDWR | O_CREAT, false, error);
}

int cow_file_new(struct cow_device **device, const char *path, struct error_text *error)
{
	struct cow_file *file;
	int ret = overlay_refuse(path, error);

	if (ret)
		return ret;
	file = calloc(1, sizeof(*file));
	if (!file || !(file->image.path = strdup(path))) {
		free(file);
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	}
	ret = file_new(&file->image, &file->part, error);
	file->device.ops = &file_ops;
	file->device.name = file->image.path;
	if (ret)
		cow_file_close(&file->device);
	else
		*device = &file->device;
	return ret;
}

int cow_file_place(struct cow_device *device, struct error_text *error)
{
	return file_new_place(&file_of(device)->image, &file_of(device)->part, error);
}

int cow_file_descriptor(struct cow_device *device)
{
	return file_of(device)->image.fd;
}

void cow_file_close(struct cow_device *device)
{
	struct cow_file *file = file_of(device);

	file_new_drop(&file->image, &file->part);
	if (file->image.fd >= 0)
		close(file->image.fd);
	free(file->image.path);
	free(file);
}
