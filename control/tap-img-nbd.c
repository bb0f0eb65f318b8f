/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-nbd.c - QEMU's formats: qemu-nbd opens the image, with an explicit
 * format so that it never guesses, and we read and write it with libnbd over a
 * private socket. qemu-nbd ends when we do.
 */
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "tap-img.h"

#define STATUS_BYTES (1ull << 30)	/* queried at once */

/* Is the program in PATH? libnbd does not report that. */
static bool is_installed(const char *program)
{
	const char *path = getenv("PATH"), *end;
	char file[4096];

	for (; path && *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		snprintf(file, sizeof(file), "%.*s/%s", (int)(end - path), path, program);
		if (!access(file, X_OK))
			return true;
	}
	return false;
}

static int not_installed(const char *program, const char *path, const char *format, struct error_text *error)
{
	return error_set(error, -ENOENT, "%s: images of format %s need %s, which is not installed (Debian: qemu-utils)", path,
			 format, program);
}

/* Set the error to the first line of a program's output, without the program's name. */
static int failure(int text, const char *path, struct error_text *error)
{
	char line[400];
	char *said = line;

	child_first_line(text, line, sizeof(line));
	if (!strncmp(line, "qemu-", 5) && strstr(line, ": "))
		said = strstr(line, ": ") + 2;
	return error_set(error, -EIO, "%s: %s", path, *said ? said : "QEMU's tools could not open it");
}

int nbd_image_create(const char *path, const char *format, uint64_t sectors, struct error_text *error)
{
	/* QEMU takes text before a colon for a protocol, unless the name begins with a slash */
	char *absolute = realpath(path, NULL);
	char size[32];
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", format, "--", absolute, size, NULL };
	const char *const vpc[] = { "qemu-img", "create", "-q", "-f", "vpc", "-o", "force_size=on", "--", absolute, size, NULL };
	int ret = absolute ? 0 : -errno, text = child_output();
	pid_t pid;

	if (!ret && text < 0)
		ret = text;
	if (ret) {
		error_set(error, ret, "%s: %s", path, strerror(-ret));
		goto out;
	}
	snprintf(size, sizeof(size), "%llu", (unsigned long long)sectors * SECTOR_SIZE);
	/* Without force_size a VHD's size would be rounded up to a disk geometry. */
	ret = child_start(&pid, strcmp(format, "vpc") ? argv : vpc, -1, text, 0);
	if (ret == -ENOENT)
		not_installed("qemu-img", path, format, error);
	else if (ret || child_wait(pid))
		ret = failure(text, path, error);
out:
	if (text >= 0)
		close(text);
	free(absolute);
	return ret;
}

/* The errno that the server reported, such as ENOSPC. */
static int server_error(void)
{
	int error = nbd_get_errno();

	return error > 0 ? -error : -EIO;
}

static int disk_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	return nbd_pread(owner, data, nr_sectors * SECTOR_SIZE, sector * SECTOR_SIZE, 0) ? server_error() : 0;
}

struct status { uint64_t length; bool zero; };

static int status_take(void *owner, const char *context, uint64_t offset, uint32_t *entries, size_t nr_entries, int *error)
{
	struct status *status = owner;

	if (nr_entries >= 2) {
		status->length = entries[0];
		status->zero = entries[1] & LIBNBD_STATE_ZERO;
	}
	return 0;
}

static int disk_zero(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero)
{
	uint64_t length = *nr_sectors * SECTOR_SIZE;
	struct status status = { 0 };
	/* cppcheck-suppress legacyUninitvar; it does not know the type */
	nbd_extent_callback callback = { .callback = status_take, .user_data = &status };

	*zero = false;
	if (nbd_can_meta_context(owner, LIBNBD_CONTEXT_BASE_ALLOCATION) <= 0)
		return 0;
	if (nbd_block_status(owner, length < STATUS_BYTES ? length : STATUS_BYTES, sector * SECTOR_SIZE, callback, 0))
		return server_error();
	if (status.length < SECTOR_SIZE)
		return 0;
	*zero = status.zero;
	if (status.length / SECTOR_SIZE < *nr_sectors)
		*nr_sectors = status.length / SECTOR_SIZE;
	return 0;
}

int nbd_image_write(const struct cow_base *disk, const void *data, uint64_t sector, uint64_t nr_sectors)
{
	return nbd_pwrite(disk->owner, data, nr_sectors * SECTOR_SIZE, sector * SECTOR_SIZE, 0) ? server_error() : 0;
}

/* qemu-nbd inherits our stderr, which is the descriptor @text meanwhile. */
static int server_start(struct nbd_handle *nbd, char **argv, int text)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), ret;

	if (saved < 0 || dup2(text, STDERR_FILENO) < 0) {
		ret = -errno;
		if (saved >= 0)
			close(saved);
		return ret;
	}
	ret = nbd_connect_systemd_socket_activation(nbd, argv);
	dup2(saved, STDERR_FILENO);
	close(saved);
	return ret ? -EIO : 0;
}

int nbd_image_open(struct cow_base *disk, const char *path, const char *format, bool read_only, struct error_text *error)
{
	char *absolute = realpath(path, NULL), option[32];
	char *argv[] = { "qemu-nbd", option, read_only ? "--read-only" : "--cache=writeback", "--", absolute, NULL };
	struct nbd_handle *nbd = nbd_create();
	int64_t size = -1;
	int ret, text;

	*disk = (struct cow_base){ 0 };
	text = child_output();
	if (!absolute || !nbd || text < 0) {
		ret = error_set(error, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	if (!is_installed("qemu-nbd")) {
		ret = not_installed("qemu-nbd", path, format, error);
		goto out;
	}
	snprintf(option, sizeof(option), "--format=%s", format);
	ret = nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) ? -EIO : 0;
	if (!ret)
		ret = server_start(nbd, argv, text);
	if (!ret)
		size = nbd_get_size(nbd);
	if (size < SECTOR_SIZE)
		ret = failure(text, path, error);
	else if (size % SECTOR_SIZE)
		ret = error_set(error, -EINVAL, "%s: size %lld is not a multiple of %u", path, (long long)size,
				SECTOR_SIZE);
out:
	if (text >= 0)
		close(text);
	free(absolute);
	if (ret && nbd)
		nbd_close(nbd);
	else if (!ret)
		*disk = (struct cow_base){ disk_read, nbd, size / SECTOR_SIZE, disk_zero };
	return ret;
}

int nbd_image_close(struct cow_base *disk, const char *path, bool written, struct error_text *error)
{
	int ret = 0;

	if (!disk->owner)
		return 0;
	if (written && nbd_flush(disk->owner, 0))
		ret = error_set(error, -EIO, "%s: the written data could not be made durable: %s", path, nbd_get_error());
	nbd_shutdown(disk->owner, 0);
	nbd_close(disk->owner);
	*disk = (struct cow_base){ 0 };
	return ret;
}
