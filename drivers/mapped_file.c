/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped_file.c - private files, mapped (mapped_file.h).
 */
#include "mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"

static int map_file(struct mapped_file *file, size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	file->map = map;
	file->size = size;
	return 0;
}

int mapped_file_create(struct mapped_file *file, const char *path, size_t size, size_t allocated)
{
	int error = 0;

	if (path_remove(path) && errno != ENOENT)
		return -errno;
	file->fd = path_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (file->fd < 0)
		return -errno;
	if (flock(file->fd, LOCK_EX | LOCK_NB) || ftruncate(file->fd, (off_t)size))
		error = -errno;
	if (!error)
		error = -posix_fallocate(file->fd, 0, (off_t)allocated);
	if (!error)
		error = map_file(file, size);
	if (error) {
		path_remove(path);
		close(file->fd);
	}
	return error;
}

static int check_and_map(struct mapped_file *file, size_t size)
{
	struct stat st;

	if (flock(file->fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(file->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != path_uid() || st.st_mode & 077 || st.st_nlink != 1)
		return -EUCLEAN;
	/* the file is ours alone, so no other user can truncate it while it is mapped */
	return (uint64_t)st.st_size == size ? map_file(file, size) : -ERANGE;
}

int mapped_file_open(struct mapped_file *file, const char *path, size_t size)
{
	int error;

	file->fd = path_open(path, O_RDWR | O_NOFOLLOW, 0);
	if (file->fd < 0)
		return -errno;
	error = check_and_map(file, size);
	if (error)
		close(file->fd);
	return error;
}

void mapped_file_close(struct mapped_file *file)
{
	if (!file->map)
		return;
	munmap(file->map, file->size);
	close(file->fd);
	file->map = NULL;
}
