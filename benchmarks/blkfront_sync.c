/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_sync.c - synchronous I/O, one request at a time, for tests of the
 * disk rather than the ring. Data is copied through pages of the library, so
 * the caller's data pages stay untouched.
 */
#include <errno.h>
#include <string.h>

#include "block.h"
#include "blkfront_internal.h"
#include "clock.h"

#define REQUEST_TIMEOUT_MS 30000
#define CHUNK (BOUNCE_PAGES * GUEST_PAGE_SIZE)

static int status_error(int16_t status)
{
	switch (status) {
	case BLKIF_RSP_OKAY:
		return 0;
	case BLKIF_RSP_EOPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* Push the one request that was put into queue 0 and wait for its response. */
static int request_finish(struct blkfront *front)
{
	int64_t deadline = clock_ms() + REQUEST_TIMEOUT_MS, left;
	struct blkfront_response response;
	int r;

	blkfront_push(front, 0);
	while (!blkfront_reap(front, 0, &response, 1)) {
		left = deadline - clock_ms();
		r = left > 0 ? blkfront_wait(front, 0, (int)left) : 0;
		if (r <= 0)
			return r < 0 ? r : -ETIMEDOUT;
	}
	return status_error(response.status);
}

static bool queue_idle(const struct blkfront *front)
{
	return blkfront_room(front, 0) == blkfront_ring_size(front, 0);
}

/* Up to CHUNK bytes, a multiple of 512, between the bounce pages and the disk. */
static int chunk_transfer(struct blkfront *front, bool write, size_t bytes, uint64_t offset)
{
	struct blkfront_segment segments[BOUNCE_PAGES];
	unsigned count = 0;
	size_t done, piece;
	int r;

	if (!queue_idle(front))
		return -EBUSY;
	for (done = 0; done < bytes; done += piece, count++) {
		piece = bytes - done < GUEST_PAGE_SIZE ? bytes - done : GUEST_PAGE_SIZE;
		segments[count].page = front->refs[front->first_bounce + count];
		segments[count].first = 0;
		segments[count].last = (uint8_t)(piece / SECTOR_SIZE - 1);
	}
	r = blkfront_rw(front, 0, 0, write, offset / SECTOR_SIZE, segments, count, false);
	return r < 0 ? r : request_finish(front);
}

int blkfront_pread(struct blkfront *front, void *buffer, size_t bytes, uint64_t offset)
{
	size_t done, piece;
	int r;

	if ((bytes | offset) % SECTOR_SIZE)
		return -EINVAL;
	for (done = 0; done < bytes; done += piece) {
		piece = bytes - done < CHUNK ? bytes - done : CHUNK;
		r = chunk_transfer(front, false, piece, offset + done);
		if (r < 0)
			return r;
		memcpy((char *)buffer + done, blkfront_page(front, front->first_bounce), piece);
	}
	return 0;
}

int blkfront_pwrite(struct blkfront *front, const void *buffer, size_t bytes, uint64_t offset)
{
	size_t done, piece;
	int r;

	if ((bytes | offset) % SECTOR_SIZE)
		return -EINVAL;
	for (done = 0; done < bytes; done += piece) {
		piece = bytes - done < CHUNK ? bytes - done : CHUNK;
		if (!queue_idle(front))
			return -EBUSY;
		memcpy(blkfront_page(front, front->first_bounce), (const char *)buffer + done, piece);
		r = chunk_transfer(front, true, piece, offset + done);
		if (r < 0)
			return r;
	}
	return 0;
}

int blkfront_sync(struct blkfront *front)
{
	int r;

	if (!queue_idle(front))
		return -EBUSY;
	r = blkfront_flush(front, 0, 0);
	return r < 0 ? r : request_finish(front);
}
