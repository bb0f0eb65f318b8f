/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aio_unaligned.c - 512-byte requests on a device with larger units (4Kn),
 * and guest memory that is not aligned as the device requires.
 *
 * A read of part of a unit reads all of it into a buffer. A write of part of
 * a unit reads the unit, changes it, and writes it back; zeroing does that
 * for its edges and leaves the middle to the device. Memory that is not
 * aligned is copied through a buffer of ours.
 *
 * Invariants:
 *  1. Every write and zeroing is on the active or on the waiting list.
 *  2. Two active requests overlap in a unit only when both write whole units
 *     (then the guest has left their order open). Otherwise one of
 *     them would write back what it read before the other's write.
 *  3. A waiting request runs before any later one that overlaps it in a unit.
 *  4. A waiting request counts its conflicts, and starts when the last of them
 *     has ended. The number of requests is limited only by the frontends' rings,
 *     so the end of one costs no more than a short check of each waiting one.
 *  5. All memory is allocated at submission, so a request that has started
 *     fails only when the device does.
 *
 *   submit --> (waiting) --> start --> write ----------------------> done
 *                              |---> read edges --> write ---------> done
 *                              '---> zero: edge or middle, repeated -> done
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aio.h"

static uint64_t round_down(const struct aio_disk *disk, uint64_t offset)
{
	return offset & ~(uint64_t)(disk->file->unit - 1);
}

static uint64_t round_up(const struct aio_disk *disk, uint64_t offset)
{
	return round_down(disk, offset + disk->file->unit - 1);
}

/* True if the device accepts the request's own memory. */
static bool memory_fits(const struct aio_disk *disk, const struct block_request *req)
{
	int i;

	for (i = 0; i < req->iovcnt; i++) {
		if ((uintptr_t)req->iov[i].iov_base % disk->file->memory_align ||
		    req->iov[i].iov_len % disk->file->unit)
			return false;
	}
	return true;
}

/* Copy between the request's memory and our buffer. */
static void copy_data(const struct block_request *req, char *buffer, bool to_request)
{
	int i;

	for (i = 0; i < req->iovcnt; i++) {
		if (to_request)
			memcpy(req->iov[i].iov_base, buffer, req->iov[i].iov_len);
		else
			memcpy(buffer, req->iov[i].iov_base, req->iov[i].iov_len);
		buffer += req->iov[i].iov_len;
	}
}

static bool in_conflict(const struct aio_request *a, const struct aio_request *b)
{
	return (a->exclusive || b->exclusive) && a->start < b->end && b->start < a->end;
}

static unsigned count_conflicts(const struct aio_request *list, const struct aio_request *r)
{
	unsigned count = 0;

	for (; list; list = list->next)
		count += in_conflict(list, r);
	return count;
}

static void start_write(struct aio_request *r);

static void activate(struct aio_request *r)
{
	struct aio_disk *disk = r->disk;

	r->next = disk->active;
	r->link = &disk->active;
	if (r->next)
		r->next->link = &r->next;
	disk->active = r;
	start_write(r);
}

static void wait_in_line(struct aio_request *r)
{
	struct aio_disk *disk = r->disk;

	r->next = NULL;
	if (!disk->waiting)
		disk->last_waiting = &disk->waiting;
	*disk->last_waiting = r;
	disk->last_waiting = &r->next;
}

/* @ended is no longer active. All waiting requests in conflict with it came later. */
static void wake_waiting(const struct aio_request *ended)
{
	struct aio_disk *disk = ended->disk;
	struct aio_request *r, *next = disk->waiting;

	disk->waiting = NULL;
	while ((r = next)) {
		next = r->next;
		r->conflicts -= in_conflict(r, ended);
		if (r->conflicts)
			wait_in_line(r);
		else
			activate(r);
	}
}

static void finish(struct aio_request *r, int error)
{
	free(r->buffer);
	r->buffer = NULL;
	if (r->req->op != BLOCK_READ) {
		*r->link = r->next;
		if (r->next)
			r->next->link = r->link;
		/* Before done(): a request that done() submits comes after the waiting ones. */
		wake_waiting(r);
	}
	aio_request_done(r, error);
}

static void queue_buffer(struct aio_request *r, enum engine_op op, uint64_t offset, uint64_t length,
			 void (*done)(struct engine_io *io, int error))
{
	r->iov = (struct iovec){ r->buffer, length };
	aio_request_queue(r, &r->io, op, offset, length, &r->iov, 1, done);
}

static void last_done(struct engine_io *io, int error)
{
	finish(io->owner, error);
}

static void read_done(struct engine_io *io, int error)
{
	struct aio_request *r = io->owner;

	if (!error)
		copy_data(r->req, r->buffer + (r->from - r->start), true);
	finish(r, error);
}

static void zero_next(struct aio_request *r);

static void zero_step_done(struct engine_io *io, int error)
{
	struct aio_request *r = io->owner;

	if (error)
		finish(r, error);
	else
		zero_next(r);
}

static void rmw_write(struct aio_request *r)
{
	uint64_t start = round_down(r->disk, r->window_from);
	uint64_t length = round_up(r->disk, r->window_to) - start;
	char *data = r->buffer + (r->window_from - start);

	if (r->req->op == BLOCK_WRITE) {
		copy_data(r->req, data, false);
		queue_buffer(r, ENGINE_WRITE, start, length, last_done);
	} else {
		memset(data, 0, r->window_to - r->window_from);
		queue_buffer(r, ENGINE_WRITE, start, length, zero_step_done);
	}
}

static void rmw_read_done(struct engine_io *io, int error)
{
	struct aio_request *r = io->owner;

	if (error && !r->error)
		r->error = error;
	if (--r->pending)
		return;
	if (r->error)
		finish(r, r->error);
	else
		rmw_write(r);
}

/* Read-modify-write of window_from..window_to, whose whole units fit into the buffer. */
static void rmw_start(struct aio_request *r)
{
	unsigned unit = r->disk->file->unit;
	uint64_t start = round_down(r->disk, r->window_from);
	uint64_t last = round_up(r->disk, r->window_to) - unit;
	bool head = start != r->window_from || (last == start && r->window_to != last + unit);
	bool tail = last != start && r->window_to != last + unit;

	r->error = 0;
	r->pending = head + tail;
	if (head)
		queue_buffer(r, ENGINE_READ, start, unit, rmw_read_done);
	if (tail) {
		r->tail_iov = (struct iovec){ r->buffer + (last - start), unit };
		aio_request_queue(r, &r->tail, ENGINE_READ, last, unit, &r->tail_iov, 1, rmw_read_done);
	}
}

/* The next step of zeroing: the leading edge, the whole units, the trailing edge. */
static void zero_next(struct aio_request *r)
{
	uint64_t at = r->position;
	uint64_t whole_end = round_down(r->disk, r->to);

	if (at == r->to) {
		finish(r, 0);
	} else if (at == round_down(r->disk, at) && at < whole_end) {
		r->position = whole_end;
		aio_request_queue(r, &r->io, ENGINE_ZERO, at, whole_end - at, NULL, 0, zero_step_done);
	} else {
		r->window_from = at;
		r->window_to = round_down(r->disk, at) + r->disk->file->unit;
		if (r->window_to > r->to)
			r->window_to = r->to;
		r->position = r->window_to;
		rmw_start(r);
	}
}

static void start_write(struct aio_request *r)
{
	const struct block_request *req = r->req;

	if (req->op == BLOCK_WRITE_ZEROES) {
		r->position = r->from;
		zero_next(r);
	} else if (r->exclusive) {
		r->window_from = r->from;
		r->window_to = r->to;
		rmw_start(r);
	} else if (r->buffer) {
		copy_data(req, r->buffer, false);
		queue_buffer(r, ENGINE_WRITE, r->start, r->end - r->start, last_done);
	} else {
		aio_request_queue(r, &r->io, ENGINE_WRITE, r->from, r->to - r->from, req->iov, req->iovcnt, last_done);
	}
}

static void start_read(struct aio_request *r)
{
	const struct block_request *req = r->req;

	if (r->buffer)
		queue_buffer(r, ENGINE_READ, r->start, r->end - r->start, read_done);
	else
		aio_request_queue(r, &r->io, ENGINE_READ, r->from, r->to - r->from, req->iov, req->iovcnt, last_done);
}

/* Size in bytes of the buffer that @r needs. */
static uint64_t buffer_size(const struct aio_request *r)
{
	bool partial = r->from != r->start || r->to != r->end;

	if (r->req->op == BLOCK_WRITE_ZEROES)
		return partial ? r->disk->file->unit : 0;
	return partial || !memory_fits(r->disk, r->req) ? r->end - r->start : 0;
}

static int prepare(struct aio_request *r)
{
	const struct image_file *file = r->disk->file;
	size_t align = file->memory_align > file->unit ? file->memory_align : file->unit;
	uint64_t size;
	void *buffer;

	r->from = r->req->sector << SECTOR_SHIFT;
	r->to = r->from + (r->req->nr_sectors << SECTOR_SHIFT);
	r->start = round_down(r->disk, r->from);
	r->end = round_up(r->disk, r->to);
	r->exclusive = r->from != r->start || r->to != r->end;
	size = buffer_size(r);
	if (!size)
		return 0;
	if (posix_memalign(&buffer, align, size))
		return -ENOMEM;
	r->buffer = buffer;
	return 0;
}

void aio_unaligned_submit(struct aio_disk *disk, struct block_request *req)
{
	struct aio_request *r = aio_request_get(disk, req);
	int error;

	if (!r) {
		backend_done(req, -ENOMEM);
		return;
	}
	error = prepare(r);
	if (error) {
		aio_request_done(r, error);
		return;
	}
	if (req->op == BLOCK_READ) {
		start_read(r);
		return;
	}
	r->conflicts = count_conflicts(disk->active, r) + count_conflicts(disk->waiting, r);
	if (r->conflicts)
		wait_in_line(r);
	else
		activate(r);
}
