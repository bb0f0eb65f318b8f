/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_io.c - one request: parse it, check it, find its data.
 *
 * No value written by a guest is used before it was checked here:
 *   header    operation, number of segments, write to a read-only disk
 *   segments  first and last sector inside the page, in this order
 *   range     the sum against the disk, without wrap-around
 * Grant references only go to the transport, which returns an error for bad
 * ones.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkif.h"

#define SECTORS_PER_PAGE (GUEST_PAGE_SIZE / SECTOR_SIZE)
#define SEGMENTS_PER_PAGE (GUEST_PAGE_SIZE / sizeof(struct blkif_request_segment))
_Static_assert(MAX_INDIRECT_SEGMENTS <= SEGMENTS_PER_PAGE * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
	       "a request names at most 8 pages of segments");

static unsigned segment_bytes(const struct blkif_request_segment *segment)
{
	return (segment->last_sect - segment->first_sect + 1u) << SECTOR_SHIFT;
}

void blkif_io_init(struct blkif_io *io, const struct ring_request *request, uint64_t now_ns)
{
	io->id = request->id;
	io->operation = request->operation;
	io->start_ns = now_ns;
	io->error = 0;
	io->steps = BLKIF_STEP_DATA;
	io->counted = false;
	io->map_failed = false;
	io->known = NULL;
	io->nr_segments = request->nr_segments;
	io->segments = io->few;
	io->iov = io->few_iov;
	io->many = NULL;
	io->bounce = NULL;
	io->sector = request->sector;
	io->nr_sectors = 0;
	io->iovcnt = 0;
	io->op = BLOCK_READ;
}

static int blkif_io_take_segments(struct blkif_io *io, const struct ring_request *request)
{
	struct blkif *blkif = io->queue->blkif;

	if (!request->indirect) {
		if (request->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
			return -EINVAL;
		memcpy(io->few, request->segments, request->nr_segments * sizeof(io->few[0]));
		return 0;
	}
	if (request->nr_segments == 0 || request->nr_segments > MAX_INDIRECT_SEGMENTS)
		return -EINVAL;
	io->many = blkif->free_segments;
	if (io->many) {
		blkif->free_segments = io->many->next;
	} else {
		io->many = malloc(sizeof(*io->many));
		if (!io->many)
			return -ENOMEM;
	}
	io->segments = io->many->segments;
	io->iov = io->many->iov;
	memcpy(io->indirect_refs, request->indirect_refs, sizeof(io->indirect_refs));
	return 0;
}

static int blkif_io_check_rw(struct blkif_io *io, const struct ring_request *request)
{
	bool write = request->operation != BLKIF_OP_READ;

	if (write)
		io->op = BLOCK_WRITE;
	if (write && io->queue->blkif->read_only)
		return -EROFS;
	if (request->nr_segments == 0)
		return -EINVAL;
	return blkif_io_take_segments(io, request);
}

/* A flush or barrier with data is flush, write, flush; without data the flush alone. */
static int blkif_io_check_flush(struct blkif_io *io, const struct ring_request *request)
{
	io->steps = BLKIF_STEP_PREFLUSH;
	if (request->nr_segments == 0) {
		io->op = BLOCK_FLUSH;
		return 0;
	}
	io->steps |= BLKIF_STEP_DATA | BLKIF_STEP_POSTFLUSH;
	return blkif_io_check_rw(io, request);
}

static int blkif_io_check_discard(struct blkif_io *io, const struct ring_request *request)
{
	io->op = BLOCK_DISCARD;
	if (io->queue->blkif->read_only)
		return -EROFS;
	if (!io->queue->blkif->vbd->geometry.discard)
		return -EOPNOTSUPP;
	io->nr_sectors = request->nr_sectors;
	return 0;
}

int blkif_io_check_header(struct blkif_io *io, const struct ring_request *request)
{
	if (!request->known)
		return -EOPNOTSUPP;
	if (request->indirect && request->operation != BLKIF_OP_READ && request->operation != BLKIF_OP_WRITE)
		return -EINVAL;

	switch (request->operation) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
		return blkif_io_check_rw(io, request);
	case BLKIF_OP_FLUSH_DISKCACHE:
	case BLKIF_OP_WRITE_BARRIER:
		return blkif_io_check_flush(io, request);
	case BLKIF_OP_DISCARD:
		return blkif_io_check_discard(io, request);
	default:
		return -EOPNOTSUPP;
	}
}

static void blkif_copy_add(struct blkif_io *io, void *local, uint32_t ref, unsigned offset, unsigned length,
			   bool to_guest)
{
	struct blkif *blkif = io->queue->blkif;

	if (blkif->nr_pieces == blkif->max_pieces)
		blkif_copy_flush(blkif);
	blkif->piece_owners[blkif->nr_pieces] = io;
	blkif->pieces[blkif->nr_pieces++] = (struct grant_copy){
		.local = local, .ref = ref, .offset = (uint16_t)offset, .length = (uint16_t)length, .to_guest = to_guest,
	};
}

void blkif_copy_flush(struct blkif *blkif)
{
	unsigned count = blkif->nr_pieces;
	int ret;

	if (!count)
		return;
	blkif->nr_pieces = 0;
	ret = blkif->transport->ops->copy(blkif->transport, blkif->pieces, count);
	for (unsigned i = 0; i < count; i++) {
		struct blkif_io *io = blkif->piece_owners[i];

		if (ret || blkif->pieces[i].error)
			io->error = ret ? ret : blkif->pieces[i].error;
	}
}

/*
 * A page of a frontend with persistent grants, mapped; NULL: it has to be copied. A failed attempt costs an ioctl, an
 * mmap, a hypercall and another ioctl, so a request has one: all its pages may be such.
 */
static uint8_t *blkif_io_page(struct blkif_io *io, uint32_t ref)
{
	struct blkif *blkif = io->queue->blkif;
	bool failed_before = io->map_failed;
	uint8_t *page = blkif->persistent ? grant_map_page(&blkif->grants, ref, &io->map_failed) : NULL;

	if (io->map_failed && !failed_before)
		blkif_count_failed_map(blkif);
	return page;
}

/* Copy between our memory and part of a guest page: now if the page is mapped, else with the batch. */
static void blkif_io_copy(struct blkif_io *io, void *local, uint32_t ref, unsigned offset, unsigned length,
			  bool to_guest)
{
	uint8_t *page = blkif_io_page(io, ref);

	if (!page)
		blkif_copy_add(io, local, ref, offset, length, to_guest);
	else if (to_guest)
		memcpy(page + offset, local, length);
	else
		memcpy(local, page + offset, length);
}

void blkif_io_fetch_indirect(struct blkif_io *io)
{
	unsigned left = io->nr_segments * sizeof(struct blkif_request_segment);
	uint8_t *to = (uint8_t *)io->many->segments;

	if (io->known) {
		memcpy(to, io->known, left);
		return;
	}
	for (unsigned i = 0; left; i++) {
		unsigned length = left < GUEST_PAGE_SIZE ? left : GUEST_PAGE_SIZE;

		blkif_io_copy(io, to, io->indirect_refs[i], 0, length, false);
		to += length;
		left -= length;
	}
}

int blkif_io_check_segments(struct blkif_io *io)
{
	uint64_t sectors = 0, end;

	for (unsigned i = 0; i < io->nr_segments; i++) {
		const struct blkif_request_segment *segment = &io->segments[i];

		if (segment->last_sect < segment->first_sect || segment->last_sect >= SECTORS_PER_PAGE)
			return -EINVAL;
		sectors += segment->last_sect - segment->first_sect + 1u;
	}
	if (io->nr_segments)
		io->nr_sectors = sectors;
	if (io->op == BLOCK_FLUSH)
		return 0;
	if (!io->nr_sectors)
		io->steps = 0;		/* a discard of nothing */
	if (__builtin_add_overflow(io->sector, io->nr_sectors, &end) ||
	    end > io->queue->blkif->vbd->geometry.sectors)
		return -EINVAL;
	return 0;
}

/* Use the guest's own pages as the request's data; false: not all of them can be mapped. */
static bool blkif_io_map_data(struct blkif_io *io)
{
	int n = 0;

	for (unsigned i = 0; i < io->nr_segments; i++) {
		const struct blkif_request_segment *segment = &io->segments[i];
		uint8_t *start = blkif_io_page(io, segment->gref);

		if (!start)
			return false;
		start += segment->first_sect << SECTOR_SHIFT;
		if (n && (uint8_t *)io->iov[n - 1].iov_base + io->iov[n - 1].iov_len == start)
			io->iov[n - 1].iov_len += segment_bytes(segment);
		else
			io->iov[n++] = (struct iovec){ start, segment_bytes(segment) };
	}
	io->iovcnt = n;
	return true;
}

static int blkif_io_bounce_data(struct blkif_io *io)
{
	struct blkif *blkif = io->queue->blkif;
	uint64_t bytes = io->nr_sectors << SECTOR_SHIFT;

	io->bounce_pages = (unsigned)((bytes + GUEST_PAGE_SIZE - 1) >> GUEST_PAGE_SHIFT);
	io->bounce = bounce_pool_get(&blkif->bounce, io->bounce_pages);
	if (!io->bounce)
		return -EAGAIN;
	io->iov[0] = (struct iovec){ io->bounce, bytes };
	io->iovcnt = 1;
	return 0;
}

static void blkif_io_copy_data(struct blkif_io *io, bool to_guest)
{
	uint8_t *local = io->bounce;

	for (unsigned i = 0; i < io->nr_segments; i++) {
		const struct blkif_request_segment *segment = &io->segments[i];

		blkif_io_copy(io, local, segment->gref, segment->first_sect << SECTOR_SHIFT, segment_bytes(segment),
			      to_guest);
		local += segment_bytes(segment);
	}
}

/*
 * A guest page may be written from directly only if nothing reads it after the
 * request: a network device may retransmit from it after the request was
 * answered, when the guest has reused the page. Reads have no such problem.
 */
static bool blkif_io_may_use_guest_pages(const struct blkif_io *io)
{
	const struct blkif *blkif = io->queue->blkif;

	if (!blkif->persistent)
		return false;
	return io->op == BLOCK_READ || blkif->direct_io_safe || blkif->vbd->geometry.pages_stable;
}

int blkif_io_prepare_data(struct blkif_io *io)
{
	int ret = 0;

	if (!io->nr_segments)
		return 0;
	if (!blkif_io_may_use_guest_pages(io) || !blkif_io_map_data(io)) {
		ret = blkif_io_bounce_data(io);
		if (!ret && io->op == BLOCK_WRITE)
			blkif_io_copy_data(io, false);
	}
	return ret;
}

void blkif_io_copy_to_guest(struct blkif_io *io)
{
	if (io->bounce && io->op == BLOCK_READ && !io->error)
		blkif_io_copy_data(io, true);
}

/* When its frontend goes: who had it wait has given it up, with what it waited for. */
static bool blkif_io_waited(int error)
{
	return error == -ECANCELED || error == -ENOSPC || error == -EDQUOT;
}

static void blkif_io_step_done(struct block_request *block, int error)
{
	struct blkif_io *io = block->owner;
	struct blkif *blkif = io->queue->blkif;

	assert(blkif->submitted > 0);
	blkif->submitted--;
	if (error)
		io->error = error;
	if (blkif->client.leaving && (blkif_io_waited(error) || (!error && io->steps)))
		blkif_io_list_add(&io->queue->parked, io);	/* it waited, or is incomplete: leave it unanswered to the guest */
	else if (!error && io->steps)
		blkif_io_submit(io);
	else
		blkif_queue_complete(io);
}

/* Submit the next step; its completion submits the following one. */
void blkif_io_submit(struct blkif_io *io)
{
	struct blkif *blkif = io->queue->blkif;
	bool data = false;

	if (io->steps & BLKIF_STEP_PREFLUSH) {
		io->steps &= ~BLKIF_STEP_PREFLUSH;
	} else if (io->steps & BLKIF_STEP_DATA) {
		io->steps &= ~BLKIF_STEP_DATA;
		data = true;
	} else {
		io->steps &= ~BLKIF_STEP_POSTFLUSH;
	}
	io->block = (struct block_request){
		.op = data ? io->op : BLOCK_FLUSH,
		.sector = data ? io->sector : 0,
		.nr_sectors = data ? io->nr_sectors : 0,
		.iov = data ? io->iov : NULL,
		.iovcnt = data ? io->iovcnt : 0,
		.done = blkif_io_step_done,
		.owner = io,
	};
	blkif->submitted++;
	vbd_submit(&blkif->client, &io->block);
}

void blkif_io_release(struct blkif_io *io)
{
	struct blkif *blkif = io->queue->blkif;

	if (io->bounce)
		bounce_pool_put(&blkif->bounce, io->bounce, io->bounce_pages);
	if (io->many) {
		io->many->next = blkif->free_segments;
		blkif->free_segments = io->many;
	}
	io->bounce = NULL;
	io->many = NULL;
}
