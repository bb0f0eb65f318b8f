/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_resume.c - a ring goes on where a tapdisk that died has left it.
 *
 * What was in flight is begun anew, before anything else is taken from the
 * ring and in the order in which it was taken; docs/takeover.md says why that
 * is right.
 */
#include <errno.h>
#include <stdlib.h>

#include "blkif.h"
#include "log.h"

/* Those that are in flight, in order; the others are free (inflight_resume() has cleared their words). */
static void share_out(struct blkif_queue *queue, const unsigned *order, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		blkif_io_list_add(&queue->resumed, &queue->ios[order[i]]);
	queue->taken = count;
	for (unsigned i = 0; i < queue->ring.size; i++) {
		if (queue->flight->entries[i].word)
			continue;
		queue->ios[i].next = queue->free;
		queue->free = &queue->ios[i];
	}
}

int blkif_queue_resume(struct blkif_queue *queue, struct error_text *text)
{
	const struct blkif *blkif = queue->blkif;
	struct inflight_queue *flight = queue->flight;
	unsigned slots = ring_slots(blkif->abi, blkif->ring_pages), *order = calloc(slots, sizeof(*order));
	int count = order ? inflight_check(flight, slots, order) : -ENOMEM, ret = count < 0 ? count : 0;

	if (ret == -EUCLEAN)
		error_set(text, ret, "domain %u device %u queue %u: its in-flight table makes no sense", blkif->domid,
			  blkif->devid, queue->number);
	if (!ret)
		ret = ring_resume(&queue->ring, queue->ring_pages, blkif->ring_pages, blkif->abi, (uint32_t)flight->pushed,
				  (uint32_t)flight->responded, (uint32_t)flight->taken);
	if (ret == -EPROTO)
		error_set(text, ret, "domain %u device %u: the ring of queue %u is not as its last tapdisk left it",
			  blkif->domid, blkif->devid, queue->number);
	if (!ret) {
		inflight_pushed(flight);
		inflight_resume(flight, slots, order, (unsigned)count);
		share_out(queue, order, (unsigned)count);
		log_info("domain %u device %u queue %u: %d requests in flight are begun anew", blkif->domid,
			 blkif->devid, queue->number, count);
	}
	free(order);
	return ret;
}
