/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_internal.h - shared by the files of the frontend library: the
 * frontend, its queues, and the layout of a request in each ABI.
 *
 * The guest's memory, from its start: the rings, queue after queue; for each
 * queue one indirect page for each ring slot; the pages of blkfront_pread();
 * the caller's data pages. A page's number is its index here and in `memory`;
 * tapdisk knows it by its grant reference (`refs`).
 *
 * Invariants of a queue (all indices modulo 2^32):
 *   rsp_cons <= ring's rsp_prod <= req_pushed <= req_prod <= rsp_cons + size
 *   req_pushed is the ring's req_prod; slots from there up to req_prod are
 *   filled and not yet visible.
 *   An indirect page is either free or in the chain of the one request, in
 *   flight, that uses it.
 */
#ifndef BLKFRONT_INTERNAL_H
#define BLKFRONT_INTERNAL_H

#include <stdatomic.h>
#include <stdint.h>			/* the Xen headers need it and do not include it */

#include <xen/io/blkif.h>

#include "blkfront.h"
#include "protocol.h"
#include "tapctl.h"
#include "transport.h"

/* Pages that the synchronous functions copy through. */
#define BOUNCE_PAGES BLKIF_MAX_SEGMENTS_PER_REQUEST

/* One indirect page holds as many segments as any request may have. */
#define SEGMENTS_PER_PAGE (GUEST_PAGE_SIZE / sizeof(struct blkif_request_segment))
_Static_assert(SEGMENTS_PER_PAGE >= MAX_INDIRECT_SEGMENTS, "one indirect page is enough for a request");

/* struct blkif_sring with its indices as atomics; the slots' size depends on the ABI. */
struct shared_ring {
	_Atomic uint32_t req_prod, req_event;
	_Atomic uint32_t rsp_prod, rsp_event;
	uint8_t private_area[48];
	uint8_t slots[];
};
_Static_assert(offsetof(struct shared_ring, slots) == offsetof(struct blkif_sring, ring), "ring header");
_Static_assert(offsetof(struct shared_ring, rsp_event) == offsetof(struct blkif_sring, rsp_event), "ring header");

/* Offsets of an ABI's fields; bytes from the start of a slot. The operation is at
 * 0, the segment count (or flag, or indirect operation) at 1, an indirect
 * request's segment count at 2, the handle of all others at 2, everywhere. */
struct wire_layout {
	const char *protocol;		/* the xenstore node's value; NULL: none (native) */
	unsigned slot_size;
	unsigned id, sector;
	unsigned segments;		/* READ, WRITE, WRITE_BARRIER */
	unsigned nr_sectors;		/* DISCARD */
	unsigned handle, indirect_refs;	/* INDIRECT */
	unsigned rsp_id, rsp_operation, rsp_status;
};
extern const struct wire_layout blkfront_layouts[];	/* by enum blkfront_abi */

/* An indirect page in use, found by the id in the response. */
struct indirect_page {
	struct indirect_page *next;	/* in the free list or its id's chain */
	uint64_t id;
	uint32_t page;
};

/*
 * A transport carries pages and signals to tapdisk. A failing call puts the reason into @text.
 */
struct blkfront_transport {
	/* Make @pages zeroed pages at front->memory; their references go to front->refs. */
	int (*share_memory)(struct blkfront *front, size_t pages, struct error_text *text);
	/* Make the queue's event_fd, readable when tapdisk has signalled, and the means of signal(). */
	int (*open_channel)(struct blkfront *front, unsigned queue, struct error_text *text);
	/* Offer the rings, wait until they are served, learn the geometry. */
	int (*connect)(struct blkfront *front, struct error_text *text);
	/* May be NULL. The tapdisk front->options.pid has the disk now: offer it the same rings. */
	int (*follow)(struct blkfront *front, struct error_text *text);
	/* Wait until tapdisk has drained and released the rings; best effort, returns if tapdisk is gone. */
	void (*disconnect)(struct blkfront *front);
	void (*signal)(struct blkfront *front, unsigned queue);
	/* Consume the signals so far; 0 or -errno. */
	int (*acknowledge)(struct blkfront *front, unsigned queue);
	/* A descriptor that is readable when is_alive() must be called. */
	int (*life_fd)(struct blkfront *front);
	bool (*is_alive)(struct blkfront *front);
	/* Free everything, also after a partial setup, without asking tapdisk. */
	void (*release)(struct blkfront *front);
};
extern const struct blkfront_transport blkfront_shm;

struct blkfront_queue {
	struct shared_ring *ring;
	const struct wire_layout *layout;
	uint32_t size;			/* slots, a power of two */
	uint32_t req_prod, req_pushed, rsp_cons;
	bool broken;			/* tapdisk's producer index is invalid */
	int kick_fd;			/* signals tapdisk (shm) */
	int event_fd;			/* signals us */
	struct xenevtchn_handle *channel;	/* both (xen) */
	uint32_t port;
	struct indirect_page *indirect, *free_indirect, **chains;	/* size of each: as the ring's */
};

struct blkfront {
	struct blkfront_options options;
	struct blkfront_geometry geometry;
	const struct blkfront_transport *transport;
	struct tapctl *ctl;		/* shm: closing it ends the connection */
	int memfd;			/* shm */
	struct blkfront_xen *xen;	/* blkfront_xen.c's */
	uint8_t *memory;
	size_t memory_size;		/* bytes */
	uint32_t *refs;			/* of each page */
	uint32_t first_indirect, first_bounce, first_data;	/* page numbers */
	unsigned ring_pages;		/* per queue */
	struct blkfront_queue queues[MAX_QUEUES];
};

static inline void *blkfront_page(const struct blkfront *front, uint32_t page)
{
	return front->memory + ((size_t)page << GUEST_PAGE_SHIFT);
}

/* Set up our own side; tapdisk knows nothing yet. Undone by blkfront_vanish(). */
int blkfront_prepare(struct blkfront **front, const struct blkfront_options *options, struct error_text *text);

/* Number of slots in a ring of @pages pages with @layout. */
uint32_t blkfront_ring_slots(const struct wire_layout *layout, unsigned pages);
/* Set up @queue on its zeroed ring pages. 0 or -ENOMEM. */
int blkfront_queue_init(struct blkfront *front, unsigned index);
void blkfront_queue_free(struct blkfront_queue *queue);

#endif
