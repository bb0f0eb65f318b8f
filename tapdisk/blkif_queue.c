/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_queue.c - one ring: requests out of it in batches, responses into it
 * in batches.
 *
 * Invariants:
 *   1. taken == requests in batch, parked, at the disk, completed; each is
 *      answered exactly once, and only then is its slot free again.
 *   2. While a barrier is pending nothing is taken: it waits until all others
 *      of this ring are answered, is alone until it is answered itself.
 *   3. Nothing is taken while requests are parked for want of memory, so a
 *      frontend holds at most its own pool and its own ring.
 *   4. An io and the entry of the in-flight table that has its number belong
 *      together: in flight there from before it is looked at until its
 *      response can be seen (inflight.h).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blkif.h"
#include "log.h"

void blkif_queue_complete(struct blkif_io *io)
{
	blkif_io_list_add(&io->queue->completed, io);
}

/* The one place where errors become what the guest sees. */
static int16_t blkif_status(int error)
{
	switch (error) {
	case 0:
		return BLKIF_RSP_OKAY;
	case -EOPNOTSUPP:
		return BLKIF_RSP_EOPNOTSUPP;
	default:
		return BLKIF_RSP_ERROR;
	}
}

static void blkif_queue_count(struct blkif_queue *queue, struct blkif_io *io)
{
	io->counted = true;
	stats_submit(&queue->stats, io->op);
	metrics_submit(queue->blkif->metrics, io->op);
}

static void blkif_queue_account(struct blkif_queue *queue, const struct blkif_io *io, uint64_t now)
{
	uint64_t latency = now - io->start_ns;

	if (io->counted) {
		stats_complete(&queue->stats, io->op, io->nr_sectors << SECTOR_SHIFT, latency, io->error);
		metrics_complete(queue->blkif->metrics, io->op, io->nr_sectors, latency, io->error);
	}
	/* an error of the disk is neither */
	if (!io->error || !io->counted || io->error == -EFAULT)
		blkif_count_use(queue->blkif, !io->error);
	if (io->error)
		log_guest(LOG_LEVEL_WARNING, "domain %u device %u queue %u: %s of %llu sectors at %llu: %s",
			  queue->blkif->domid, queue->blkif->devid, queue->number, block_op_name(io->op),
			  (unsigned long long)io->nr_sectors, (unsigned long long)io->sector, strerror(-io->error));
}

static void blkif_queue_respond(struct blkif_queue *queue, struct blkif_io *io, unsigned number)
{
	ring_respond(&queue->ring, io->id, io->operation, blkif_status(io->error));
	if (queue->flight)
		inflight_respond(queue->flight, blkif_io_entry(io), number);
	blkif_io_release(io);
	if (queue->barrier == io)
		queue->barrier = NULL;
	assert(queue->taken > 0);
	queue->taken--;
	io->next = queue->free;
	queue->free = io;
}

/* The order is inflight.h's: the responses are in the ring, the frontend is told, it knows. */
static bool blkif_queue_push(struct blkif_queue *queue, unsigned count)
{
	bool notify;

	if (queue->flight)
		inflight_responded(queue->flight, count);
	notify = ring_push(&queue->ring);
	if (queue->flight)
		inflight_pushed(queue->flight);
	return notify;
}

/* Answer everything that is completed: copy, respond, push, signal, each once for the batch. */
void blkif_queue_finish(struct blkif_queue *queue)
{
	struct blkif *blkif = queue->blkif;
	struct blkif_io *io;
	unsigned count = 0;
	uint64_t now;

	if (!queue->completed.head)
		return;
	for (io = queue->completed.head; io; io = io->next)
		blkif_io_copy_to_guest(io);
	blkif_copy_flush(blkif);

	now = loop_now(blkif->vbd->loop);
	while ((io = blkif_io_list_take(&queue->completed))) {
		blkif_queue_account(queue, io, now);
		blkif_queue_respond(queue, io, count++);
	}
	queue->stats.batches++;
	queue->kicked = true;	/* there is room in the ring again, and perhaps what a barrier held back */
	if (blkif_queue_push(queue, count)) {
		queue->stats.notifies++;
		blkif->transport->ops->notify(blkif->transport, &queue->channel);
	}
}

void blkif_queue_break(struct blkif_queue *queue, const char *why)
{
	struct blkif *blkif = queue->blkif;

	queue->broken = true;
	queue->kicked = false;
	loop_remove(queue->source);
	queue->source = NULL;
	snprintf(blkif->error, sizeof(blkif->error), "queue %u: %s, ring no longer served", queue->number, why);
	log_guest(LOG_LEVEL_ERROR, "domain %u device %u %s", blkif->domid, blkif->devid, blkif->error);
	vbd_emit_event(blkif->vbd, json_pack("{s:s, s:i, s:I, s:I, s:s}", "event", "ring-error", "minor", blkif->vbd->minor,
					     "domid", (json_int_t)blkif->domid, "devid", (json_int_t)blkif->devid,
					     "error", blkif->error));
}

static void blkif_queue_reject(struct blkif_io *io, int error)
{
	io->error = error;
	io->queue->stats.invalid++;
	blkif_queue_complete(io);
}

static void blkif_queue_accept(struct blkif_queue *queue, struct blkif_io *io, const struct ring_request *request,
			       struct blkif_io_list *batch, uint64_t now)
{
	int ret;

	blkif_io_init(io, request, now);
	ret = blkif_io_check_header(io, request);
	if (ret) {
		blkif_queue_reject(io, ret);
		return;
	}
	if (request->operation == BLKIF_OP_WRITE_BARRIER)
		queue->barrier = io;
	blkif_io_list_add(batch, io);
}

/* What another process had taken: the same once more, from the table. Its barrier, if there is one, is the last. */
static void blkif_queue_take_resumed(struct blkif_queue *queue, struct blkif_io_list *batch, uint64_t now)
{
	struct blkif_io *io;

	while ((io = blkif_io_list_take(&queue->resumed))) {
		const struct inflight_entry *entry = blkif_io_entry(io);
		struct ring_request request;

		ring_parse(queue->blkif->abi, entry->wire, &request);
		blkif_queue_accept(queue, io, &request, batch, now);
		io->known = entry->segments_known == 1 ? entry->segments : NULL;
	}
}

/* Parse up to @count requests into @batch; what is wrong with a header is answered at once. */
static void blkif_queue_parse(struct blkif_queue *queue, int count, struct blkif_io_list *batch, uint64_t now)
{
	while (count-- > 0 && !queue->barrier) {
		struct blkif_io *io = queue->free;
		struct inflight_entry *entry;
		struct ring_request request;
		uint8_t wire[RING_WIRE_MAX];

		assert(io);	/* as many as slots */
		queue->free = io->next;
		queue->taken++;
		entry = blkif_io_entry(io);
		ring_take(&queue->ring, entry ? entry->wire : wire, &request);
		if (entry)
			inflight_take(queue->flight, entry);
		blkif_queue_accept(queue, io, &request, batch, now);
	}
}

/* Get the segments of indirect requests, check all; the good ones stay in @batch. */
static void blkif_queue_check(struct blkif_queue *queue, struct blkif_io_list *batch)
{
	struct blkif_io_list all = *batch;
	struct blkif_io *io;

	if (!batch->head)
		return;
	for (io = batch->head; io; io = io->next)
		if (io->many)
			blkif_io_fetch_indirect(io);
	blkif_copy_flush(queue->blkif);

	blkif_io_list_init(batch);
	while ((io = blkif_io_list_take(&all))) {
		int ret = io->error ? io->error : blkif_io_check_segments(io);

		if (io->many && !io->error && queue->flight && !io->known)
			inflight_keep_segments(blkif_io_entry(io), io->segments, io->nr_segments);
		if (ret) {
			blkif_queue_reject(io, ret);
			continue;
		}
		blkif_queue_count(queue, io);
		blkif_io_list_add(batch, io);
	}
}

/* Find memory and bring the data of writes; what finds none is parked. */
static void blkif_queue_prepare(struct blkif_queue *queue, struct blkif_io_list *batch)
{
	struct blkif_io_list all = *batch;
	struct blkif_io *io;

	if (!batch->head)
		return;
	blkif_io_list_init(batch);
	while ((io = blkif_io_list_take(&all))) {
		if (queue->parked.head || blkif_io_prepare_data(io)) {
			metrics_out_of_room(queue->blkif->metrics);
			blkif_io_list_add(&queue->parked, io);
		} else {
			blkif_io_list_add(batch, io);
		}
	}
	blkif_copy_flush(queue->blkif);
}

/*
 * Start a batch. After 1, 2, 4, 8, ... requests the engine is told to begin,
 * so that the disk works on the first while the rest is still prepared: with
 * one commit for all, guest and disk take turns and each waits for the other.
 * The last is left to the commit before the next sleep, which has more to do;
 * but not one that is alone: the guest waits for nothing else.
 */
static void blkif_queue_submit(struct blkif_queue *queue, struct blkif_io_list *batch)
{
	struct engine *engine = queue->blkif->vbd->engine;
	struct blkif_io *io;
	unsigned started = 0;

	for (io = batch->head && batch->head->next ? batch->head : NULL; io; io = io->next)
		backend_prefetch(queue->blkif->vbd->backend, io->sector);
	while ((io = blkif_io_list_take(batch))) {
		if (io->error || !io->steps) {
			blkif_queue_complete(io);
		} else if (io != queue->barrier) {
			blkif_io_submit(io);
			started++;
			/* A failure comes again from the commit before the next sleep, where it is dealt with. */
			if (!(started & (started - 1)) && (batch->head || engine->queued == 1))
				engine_commit(engine);
		}
	}
}

/* A barrier goes to the disk when all before it are answered. */
static void blkif_queue_try_barrier(struct blkif_queue *queue)
{
	struct blkif_io *io = queue->barrier;

	if (io && queue->taken == 1 && (io->steps & BLKIF_STEP_PREFLUSH) && !queue->parked.head &&
	    !queue->completed.head)
		blkif_io_submit(io);
}

/* What a tapdisk that died had taken first, by itself; then parked requests; then what the ring has. */
static void blkif_queue_gather(struct blkif_queue *queue, struct blkif_io_list *batch)
{
	uint64_t now = loop_now(queue->blkif->vbd->loop);
	int count;

	if (queue->resumed.head) {
		blkif_queue_take_resumed(queue, batch, now);
		blkif_queue_check(queue, batch);
		return;
	}
	if (queue->parked.head) {
		*batch = queue->parked;
		blkif_io_list_init(&queue->parked);
		return;
	}
	if (queue->barrier)
		return;
	count = ring_pending(&queue->ring);
	if (count < 0) {
		blkif_queue_break(queue, "the frontend's producer index is impossible");
		return;
	}
	blkif_queue_parse(queue, count, batch, now);
	blkif_queue_check(queue, batch);
}

/* Take what is there; true when there is more to look at before sleeping. */
bool blkif_queue_take(struct blkif_queue *queue)
{
	bool polling = loop_polling(queue->blkif->vbd->loop);
	struct blkif_io_list batch;
	bool taken;

	queue->kicked |= queue->unarmed;
	if (!queue->kicked || queue->broken || queue->blkif->stopped || blkif_backing_off(queue->blkif))
		return false;
	blkif_io_list_init(&batch);
	blkif_queue_gather(queue, &batch);
	blkif_queue_prepare(queue, &batch);
	taken = batch.head != NULL;
	blkif_queue_submit(queue, &batch);
	blkif_queue_try_barrier(queue);

	/* Held back: the next completion looks again. */
	queue->unarmed = false;
	if (queue->broken || queue->parked.head || queue->barrier) {
		queue->kicked = false;
		return false;
	}
	if (polling) {
		queue->unarmed = true;
		return taken;
	}
	queue->kicked = ring_arm(&queue->ring);
	return queue->kicked;
}
