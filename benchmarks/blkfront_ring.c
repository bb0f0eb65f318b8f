/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_ring.c - requests into the ring, responses out of it.
 *
 * The protocol of the indices is xen/io/ring.h's. Of the four shared words
 * we write req_prod and rsp_event, tapdisk writes rsp_prod and req_event.
 * Two pairs need more than release and acquire, because each side stores one
 * word and then loads another: producer index and the other's event index.
 * Those four accesses are sequentially consistent, so that at least one side
 * sees the other's store: either we see that tapdisk wants a signal, or it
 * sees the new request before it sleeps (and the same the other way round).
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "blkfront_internal.h"

int blkfront_queue_init(struct blkfront *front, unsigned index)
{
	struct blkfront_queue *queue = &front->queues[index];
	uint32_t start = front->options.start_index;
	uint32_t i;

	queue->ring = blkfront_page(front, index * front->ring_pages);
	queue->req_prod = queue->req_pushed = queue->rsp_cons = start;
	atomic_store(&queue->ring->req_prod, start);
	atomic_store(&queue->ring->rsp_prod, start);
	atomic_store(&queue->ring->req_event, start + 1);
	atomic_store(&queue->ring->rsp_event, start + 1);

	queue->indirect = calloc(queue->size, sizeof(*queue->indirect));
	queue->chains = calloc(queue->size, sizeof(*queue->chains));	/* NOLINT(bugprone-sizeof-expression): pointers */
	if (!queue->indirect || !queue->chains)
		return -ENOMEM;
	for (i = 0; i < queue->size; i++) {
		queue->indirect[i].page = front->first_indirect + index * queue->size + i;
		queue->indirect[i].next = queue->free_indirect;
		queue->free_indirect = &queue->indirect[i];
	}
	return 0;
}

void blkfront_queue_free(struct blkfront_queue *queue)
{
	free(queue->indirect);
	free(queue->chains);
}

/* There are as many pages as slots; they run out only if tapdisk answers with ids of no request. */
static struct indirect_page *indirect_get(struct blkfront_queue *queue, uint64_t id)
{
	struct indirect_page *page = queue->free_indirect;
	struct indirect_page **chain = &queue->chains[id & (queue->size - 1)];

	queue->free_indirect = page->next;
	page->id = id;
	page->next = *chain;
	*chain = page;
	return page;
}

static void indirect_put(struct blkfront_queue *queue, uint64_t id)
{
	struct indirect_page **link = &queue->chains[id & (queue->size - 1)];
	struct indirect_page *page;

	while (*link && (*link)->id != id)
		link = &(*link)->next;
	if (!*link)
		return;
	page = *link;
	*link = page->next;
	page->next = queue->free_indirect;
	queue->free_indirect = page;
}

unsigned blkfront_room(const struct blkfront *front, unsigned queue)
{
	const struct blkfront_queue *q = &front->queues[queue];

	return q->size - (q->req_prod - q->rsp_cons);
}

unsigned blkfront_ring_size(const struct blkfront *front, unsigned queue)
{
	return front->queues[queue].size;
}

void *blkfront_ring(struct blkfront *front, unsigned queue)
{
	return front->queues[queue].ring;
}

/* The next slot, all zeros, or NULL when the ring is full. */
static uint8_t *slot_take(struct blkfront_queue *queue)
{
	uint8_t *slot;

	if (queue->req_prod - queue->rsp_cons >= queue->size)
		return NULL;
	slot = queue->ring->slots + (size_t)(queue->req_prod & (queue->size - 1)) * queue->layout->slot_size;
	memset(slot, 0, queue->layout->slot_size);
	queue->req_prod++;
	return slot;
}

/* The slots of the i386 ABI are not aligned to 8 bytes. */
static void put_u16(uint8_t *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put_u32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put_u64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put_segments(uint8_t *at, const struct blkfront_segment *segments, unsigned count)
{
	struct blkif_request_segment wire;
	unsigned i;

	memset(&wire, 0, sizeof(wire));
	for (i = 0; i < count; i++) {
		wire.gref = segments[i].page;
		wire.first_sect = segments[i].first;
		wire.last_sect = segments[i].last;
		memcpy(at + i * sizeof(wire), &wire, sizeof(wire));
	}
}

static int put_direct(struct blkfront *front, unsigned queue, uint8_t operation, uint64_t id, uint64_t sector,
		      const struct blkfront_segment *segments, unsigned count)
{
	struct blkfront_queue *q = &front->queues[queue];
	uint8_t *slot = slot_take(q);

	if (!slot)
		return -EBUSY;
	slot[0] = operation;
	slot[1] = (uint8_t)count;
	put_u16(slot + 2, (uint16_t)front->options.devid);
	put_u64(slot + q->layout->id, id);
	put_u64(slot + q->layout->sector, sector);
	put_segments(slot + q->layout->segments, segments, count);
	return 0;
}

static int put_indirect(struct blkfront *front, unsigned queue, uint8_t operation, uint64_t id, uint64_t sector,
			const struct blkfront_segment *segments, unsigned count)
{
	struct blkfront_queue *q = &front->queues[queue];
	struct indirect_page *page;
	uint8_t *slot;

	if (count > SEGMENTS_PER_PAGE)
		return -EINVAL;
	slot = q->free_indirect ? slot_take(q) : NULL;
	if (!slot)
		return -EBUSY;
	page = indirect_get(q, id);
	put_segments(blkfront_page(front, page->page), segments, count);
	slot[0] = BLKIF_OP_INDIRECT;
	slot[1] = operation;
	put_u16(slot + 2, (uint16_t)count);
	put_u64(slot + q->layout->id, id);
	put_u64(slot + q->layout->sector, sector);
	put_u16(slot + q->layout->handle, (uint16_t)front->options.devid);
	put_u32(slot + q->layout->indirect_refs, front->refs[page->page]);
	return 0;
}

int blkfront_rw(struct blkfront *front, unsigned queue, uint64_t id, bool write, uint64_t sector,
		const struct blkfront_segment *segments, unsigned count, bool indirect)
{
	uint8_t operation = write ? BLKIF_OP_WRITE : BLKIF_OP_READ;

	if (indirect || count > BLKIF_MAX_SEGMENTS_PER_REQUEST)
		return put_indirect(front, queue, operation, id, sector, segments, count);
	return put_direct(front, queue, operation, id, sector, segments, count);
}

int blkfront_flush(struct blkfront *front, unsigned queue, uint64_t id)
{
	return put_direct(front, queue, BLKIF_OP_FLUSH_DISKCACHE, id, 0, NULL, 0);
}

int blkfront_barrier(struct blkfront *front, unsigned queue, uint64_t id, uint64_t sector,
		     const struct blkfront_segment *segments, unsigned count)
{
	if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST)
		return -EINVAL;
	return put_direct(front, queue, BLKIF_OP_WRITE_BARRIER, id, sector, segments, count);
}

int blkfront_discard(struct blkfront *front, unsigned queue, uint64_t id, uint64_t sector, uint64_t nr_sectors,
		     bool secure)
{
	struct blkfront_queue *q = &front->queues[queue];
	uint8_t *slot = slot_take(q);

	if (!slot)
		return -EBUSY;
	slot[0] = BLKIF_OP_DISCARD;
	slot[1] = secure ? BLKIF_DISCARD_SECURE : 0;
	put_u16(slot + 2, (uint16_t)front->options.devid);
	put_u64(slot + q->layout->id, id);
	put_u64(slot + q->layout->sector, sector);
	put_u64(slot + q->layout->nr_sectors, nr_sectors);
	return 0;
}

int blkfront_raw(struct blkfront *front, unsigned queue, const void *bytes, size_t size)
{
	struct blkfront_queue *q = &front->queues[queue];
	uint8_t *slot = slot_take(q);

	if (!slot)
		return -EBUSY;
	memcpy(slot, bytes, size < q->layout->slot_size ? size : q->layout->slot_size);
	return 0;
}

void blkfront_signal(struct blkfront *front, unsigned queue)
{
	front->transport->signal(front, queue);
}

void blkfront_push(struct blkfront *front, unsigned queue)
{
	struct blkfront_queue *q = &front->queues[queue];
	uint32_t before = q->req_pushed;
	uint32_t event;

	if (before == q->req_prod)
		return;
	q->req_pushed = q->req_prod;
	/* The slots' contents are visible before the index, the index before tapdisk's event index is read. */
	atomic_store_explicit(&q->ring->req_prod, q->req_prod, memory_order_seq_cst);
	event = atomic_load_explicit(&q->ring->req_event, memory_order_seq_cst);
	if (q->req_prod - event < q->req_prod - before)
		blkfront_signal(front, queue);
}

/* The number of responses; tapdisk cannot have answered more requests than it got. */
static uint32_t responses_ready(struct blkfront_queue *queue)
{
	/* Acquire: the response's bytes are read after the index that announced them. */
	uint32_t ready = atomic_load_explicit(&queue->ring->rsp_prod, memory_order_seq_cst) - queue->rsp_cons;

	if (ready > queue->req_prod - queue->rsp_cons) {
		queue->broken = true;
		return 0;
	}
	return ready;
}

unsigned blkfront_reap(struct blkfront *front, unsigned queue, struct blkfront_response *responses, unsigned max)
{
	struct blkfront_queue *q = &front->queues[queue];
	uint32_t ready = responses_ready(q);
	const uint8_t *slot;
	unsigned i;

	if (ready > max)
		ready = max;
	for (i = 0; i < ready; i++, q->rsp_cons++) {
		slot = q->ring->slots + (size_t)(q->rsp_cons & (q->size - 1)) * q->layout->slot_size;
		memcpy(&responses[i].id, slot + q->layout->rsp_id, sizeof(responses[i].id));
		responses[i].operation = slot[q->layout->rsp_operation];
		memcpy(&responses[i].status, slot + q->layout->rsp_status, sizeof(responses[i].status));
		indirect_put(q, responses[i].id);
	}
	return ready;
}

/* 1 if the queue has a response, 0 if tapdisk will signal the next one, -EPROTO. */
static int response_expected(struct blkfront_queue *queue)
{
	if (responses_ready(queue))
		return 1;
	atomic_store_explicit(&queue->ring->rsp_event, queue->rsp_cons + 1, memory_order_seq_cst);
	if (responses_ready(queue))
		return 1;
	return queue->broken ? -EPROTO : 0;
}

/* Wait for any of @count queues from @first on. */
static int queues_wait(struct blkfront *front, unsigned first, unsigned count, int timeout_ms)
{
	struct pollfd fds[MAX_QUEUES + 1];
	unsigned i;
	int r;

	for (;;) {
		for (i = 0; i < count; i++) {
			r = response_expected(&front->queues[first + i]);
			if (r)
				return r;
			fds[i] = (struct pollfd){ .fd = front->queues[first + i].event_fd, .events = POLLIN };
		}
		fds[count] = (struct pollfd){ .fd = front->transport->life_fd(front), .events = POLLIN };
		r = poll(fds, count + 1, timeout_ms);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return 0;
		if (r < 0)
			continue;
		for (i = 0; i < count; i++)
			if (fds[i].revents && (r = front->transport->acknowledge(front, first + i)) < 0)
				return r;
		/* Responses from before its end still count. */
		if (fds[count].revents && !front->transport->is_alive(front)) {
			for (i = 0; i < count; i++)
				if (responses_ready(&front->queues[first + i]))
					return 1;
			return -EPIPE;
		}
	}
}

int blkfront_wait(struct blkfront *front, unsigned queue, int timeout_ms)
{
	return queues_wait(front, queue, 1, timeout_ms);
}

int blkfront_wait_any(struct blkfront *front, int timeout_ms)
{
	return queues_wait(front, 0, front->options.queues, timeout_ms);
}
