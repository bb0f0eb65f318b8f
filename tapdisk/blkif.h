/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif.h - one connected frontend: its queues, its memory, its requests.
 *
 * A request's way:
 *
 *   ring --take--> parsed --indirect pages copied--> checked --memory--> data copied --submit--> vbd
 *   ring <--push-- responded <--data copied to the guest-- completed <--------------------------+
 *
 * Each arrow is walked for all requests of a batch before the next one, so
 * that copies, submissions and signals are one call a batch.
 *
 * blkif.c       connect, disconnect, stop and start
 * blkif_queue.c the way above
 * blkif_backoff.c a frontend that has us work for nothing
 * blkif_resume.c a connection that a tapdisk had which died
 * blkif_io.c    one request: what it asks for, is it right, where is its data
 */
#ifndef TAPDISK_BLKIF_H
#define TAPDISK_BLKIF_H

#include "blkif_frontend.h"
#include "guest_memory.h"
#include "inflight.h"
#include "metrics.h"
#include "ring.h"
#include "transport.h"
#include "vbd.h"

struct blkif_queue;

/* Segments beyond what a direct request has. */
struct blkif_segments {
	struct blkif_segments *next;		/* while free */
	struct blkif_request_segment segments[MAX_INDIRECT_SEGMENTS];
	struct iovec iov[MAX_INDIRECT_SEGMENTS];
};

/* What a request does at the disk, in this order. */
enum {
	BLKIF_STEP_PREFLUSH = 1,
	BLKIF_STEP_DATA = 2,
	BLKIF_STEP_POSTFLUSH = 4,
};

struct blkif_io {
	struct block_request block;
	struct blkif_queue *queue;
	struct blkif_io *next;			/* of the list that has it: free, batch, parked, completed */
	uint64_t id;				/* the guest's, only ever echoed */
	uint64_t start_ns;
	uint8_t operation;			/* BLKIF_OP_* */
	uint8_t steps;				/* still to do */
	bool counted;				/* found right and counted as submitted */
	enum block_op op;			/* as it is counted */
	int error;				/* 0 or -errno */
	uint64_t sector, nr_sectors;		/* of the data or the discard */
	unsigned nr_segments;
	struct blkif_request_segment *segments;	/* few or many->segments */
	struct iovec *iov;
	int iovcnt;
	struct blkif_segments *many;		/* of an indirect request */
	const struct blkif_request_segment *known;	/* its segments, where they were fetched before and kept in the table */
	void *bounce;				/* NULL: the data is in the guest's own, mapped pages */
	unsigned bounce_pages;
	uint32_t indirect_refs[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
	struct blkif_request_segment few[BLKIF_MAX_SEGMENTS_PER_REQUEST];
	struct iovec few_iov[BLKIF_MAX_SEGMENTS_PER_REQUEST];
};

struct blkif_io_list {
	struct blkif_io *head, **tail;
};

struct blkif_queue {
	struct blkif *blkif;
	unsigned number;
	struct ring ring;
	void *ring_pages;
	struct event_channel channel;
	uint32_t port;				/* the frontend's name for it */
	uint32_t refs[1 << MAX_RING_PAGE_ORDER];	/* the ring's pages */
	struct loop_source *source;
	struct blkif_io *ios;			/* as many as the ring has slots */
	struct blkif_io *free;
	struct inflight_queue *flight;		/* its part of blkif->inflight; NULL: there is none */
	struct blkif_io_list resumed;		/* another process' that was killed, to be begun anew */
	struct blkif_io_list parked;		/* wait for bounce memory */
	struct blkif_io_list completed;		/* wait for their response */
	struct blkif_io *barrier;		/* waits for, or is, the only request in flight */
	unsigned taken;				/* out of the ring and not answered */
	bool kicked;				/* look into the ring */
	bool unarmed;				/* the loop polls: the frontend was not asked to signal */
	uint32_t announced;			/* the producer index at the last signal */
	bool unacknowledged;			/* signalled, to be acknowledged once the ring was looked at */
	unsigned exchange_failures;		/* the engine's that were made good by hand */
	bool broken;				/* the frontend broke ring or channel; not served any more */
	struct queue_stats stats;
};

struct blkif {
	struct vbd_client client;
	struct vbd *vbd;
	uint32_t domid, devid;
	const struct ring_abi *abi;
	bool persistent, read_only;
	bool direct_io_safe;			/* the administrator's word that guest pages may go to the device */
	bool resumed;				/* another tapdisk had it, and left blkif->inflight */
	bool stopped;
	unsigned ring_pages, nr_queues;
	struct transport *transport;
	struct inflight *inflight;		/* NULL: this process leaves nothing to a successor */
	struct grant_map grants;
	struct bounce_pool bounce;
	struct grant_copy *pieces;		/* of the copy that is being put together */
	void **piece_owners;			/* the blkif_io of each */
	unsigned nr_pieces, max_pieces;
	struct blkif_segments *free_segments;
	struct blkif_queue *queues;
	unsigned submitted;			/* at the disk now, all queues */
	unsigned penalty;			/* what was of no use, less what was */
	struct loop_source *backoff;		/* a timer: until then no ring is looked at */
	uint64_t backoffs;			/* so far */
	struct metrics *metrics;
	char error[160];			/* why a queue is broken; empty: none is */
	struct waiter *closed;			/* whoever waits until it is gone: it leaves when its requests are back from the disk */
};

static inline void blkif_io_list_init(struct blkif_io_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static inline void blkif_io_list_add(struct blkif_io_list *list, struct blkif_io *io)
{
	io->next = NULL;
	*list->tail = io;
	list->tail = &io->next;
}

static inline struct blkif_io *blkif_io_list_take(struct blkif_io_list *list)
{
	struct blkif_io *io = list->head;

	if (io) {
		list->head = io->next;
		if (!list->head)
			list->tail = &list->head;
	}
	return io;
}

/* blkif_queue.c */
void blkif_queue_finish(struct blkif_queue *queue);
bool blkif_queue_take(struct blkif_queue *queue);
/* Serve this ring no longer; @why goes to the log, the disk object and whoever watches. */
void blkif_queue_break(struct blkif_queue *queue, const char *why);
/* The io is over, with io->error set. */
void blkif_queue_complete(struct blkif_io *io);

/* What it has in the in-flight table; NULL: there is none. */
static inline struct inflight_entry *blkif_io_entry(const struct blkif_io *io)
{
	return io->queue->flight ? &io->queue->flight->entries[io - io->queue->ios] : NULL;
}

/* blkif_backoff.c */
/* Was it of use what it had us do? */
void blkif_count_use(struct blkif *blkif, bool useful);
/* Is no ring of it to be looked at now? Begins that. */
bool blkif_backing_off(struct blkif *blkif);

/* blkif_resume.c */
/* The ring goes on where the table says, with what is in flight in queue->resumed. */
int blkif_queue_resume(struct blkif_queue *queue, struct error_text *text);

/* blkif_io.c */
void blkif_io_init(struct blkif_io *io, const struct ring_request *request, uint64_t now_ns);
/* What can be seen without the segments of an indirect request: 0, -errno, or -EOPNOTSUPP. */
int blkif_io_check_header(struct blkif_io *io, const struct ring_request *request);
void blkif_io_fetch_indirect(struct blkif_io *io);
int blkif_io_check_segments(struct blkif_io *io);
int blkif_io_prepare_data(struct blkif_io *io);		/* -EAGAIN: no bounce memory now */
void blkif_io_copy_to_guest(struct blkif_io *io);
void blkif_io_submit(struct blkif_io *io);
void blkif_io_release(struct blkif_io *io);
/* Copies put together by the above; done with one call, errors land in the ios. */
void blkif_copy_flush(struct blkif *blkif);

#endif
