/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_syscall.c - does one engine_io with blocking system calls, for the
 * sync engine and for the helper threads (engine_offload.c).
 *
 * It only accesses the io's own members, so any thread may call it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine_syscall.h"

/* A punched hole reads as zeros and its space is freed; on a block device the kernel does this only if both hold. */
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* Aligned for O_DIRECT on any device. */
static const char zeroes[65536] __attribute__((aligned(4096)));

static long result_of(long returned)
{
	return returned < 0 ? -errno : returned;
}

static long write_zeroes(const struct engine_io *io)
{
	uint64_t offset = io->offset;
	uint64_t left = io->length;

	while (left) {
		ssize_t n = pwrite(io->fd, zeroes, left < sizeof(zeroes) ? left : sizeof(zeroes), offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += n;
		left -= n;
	}
	return 0;
}

/* Tries the best call first; the last one always works. */
static long zero_range(const struct engine_io *io)
{
	uint64_t range[2] = { io->offset, io->length };
	long result = result_of(fallocate(io->fd, PUNCH, io->offset, io->length));

	if (result != -EOPNOTSUPP)
		return result;
	if (io->blkdev)
		return result_of(ioctl(io->fd, BLKZEROOUT, range));
	result = result_of(fallocate(io->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, io->offset, io->length));
	return result == -EOPNOTSUPP ? write_zeroes(io) : result;
}

static long discard_range(const struct engine_io *io)
{
	uint64_t range[2] = { io->offset, io->length };

	if (io->blkdev)
		return result_of(ioctl(io->fd, BLKDISCARD, range));
	return result_of(fallocate(io->fd, PUNCH, io->offset, io->length));
}

long engine_syscall(const struct engine_io *io)
{
	const struct iovec *iov;
	int count;

	switch (io->op) {
	case ENGINE_READ:
		iov = engine_rest(io, &count);
		return result_of(preadv(io->fd, iov, count, io->offset + io->moved));
	case ENGINE_WRITE:
		iov = engine_rest(io, &count);
		return result_of(pwritev(io->fd, iov, count, io->offset + io->moved));
	case ENGINE_SYNC:
		return result_of(fdatasync(io->fd));
	case ENGINE_DISCARD:
		return discard_range(io);
	case ENGINE_ZERO:
		return zero_range(io);
	case ENGINE_RESIZE:
		return result_of(ftruncate(io->fd, (off_t)io->length));
	case ENGINE_CALL:
		return io->call(io);
	}
	return -EINVAL;
}
