/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif.h - one connected frontend: its queues, its memory, its requests.
 *
 * The path of a request:
 *
 *   ring --take--> parsed --indirect pages copied--> checked --memory--> data copied --submit--> vbd
 *   ring <--push-- responded <--data copied to the guest-- completed <--------------------------+
 *
 * Each step is done for all requests of a batch before the next step, so that
 * a batch needs one call each for copies, submissions and signals.
 *
 * blkif.c          connect, disconnect, stop and start
 * blkif_queue.c    the path above
 * blkif_backoff.c  slows down a frontend that causes useless work
 * blkif_resume.c   takes over the connection of a dead tapdisk
 * blkif_io.c       one request: parse, check, find its data
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

/* Segments of an indirect request. */
struct blkif_segments {
	struct blkif_segments *next;		/* while free */
	struct blkif_request_segment segments[MAX_INDIRECT_SEGMENTS];
	struct iovec iov[MAX_INDIRECT_SEGMENTS];
};

/* The steps of a request at the disk, in this order. */
enum {
	BLKIF_STEP_PREFLUSH = 1,
	BLKIF_STEP_DATA = 2,
	BLKIF_STEP_POSTFLUSH = 4,
};

struct blkif_io {
	struct block_request block;
	struct blkif_queue *queue;
	struct blkif_io *next;			/* in one list: free, batch, parked or completed */
	uint64_t id;				/* the guest's, only ever echoed */
	uint64_t start_ns;
	uint8_t operation;			/* BLKIF_OP_* */
	uint8_t steps;				/* still to do */
	bool counted;				/* valid, and counted as submitted */
	bool map_failed;			/* one of its pages could not be mapped: no other is tried */
	enum block_op op;			/* for the statistics */
	int error;				/* 0 or -errno */
	uint64_t sector, nr_sectors;		/* of the data or the discard */
	unsigned nr_segments;
	struct blkif_request_segment *segments;	/* few or many->segments */
	struct iovec *iov;
	int iovcnt;
	struct blkif_segments *many;		/* of an indirect request */
	const struct blkif_request_segment *known;	/* segments that a dead tapdisk saved in the in-flight table */
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
	uint32_t port;				/* as the frontend numbers it */
	uint32_t refs[1 << MAX_RING_PAGE_ORDER];	/* the ring's pages */
	struct loop_source *source;
	struct blkif_io *ios;			/* as many as the ring has slots */
	struct blkif_io *free;
	struct inflight_queue *flight;		/* its part of blkif->inflight; NULL: none */
	struct blkif_io_list resumed;		/* in flight when the previous tapdisk died; to be submitted again */
	struct blkif_io_list parked;		/* wait for bounce memory */
	struct blkif_io_list completed;		/* wait for their response */
	struct blkif_io *barrier;		/* waits for, or is, the only request in flight */
	unsigned taken;				/* taken from the ring and not answered */
	bool kicked;				/* the ring has to be checked */
	bool unarmed;				/* the loop polls: no signal was requested from the frontend */
	uint32_t announced;			/* the producer index at the last signal */
	bool unacknowledged;			/* signalled; acknowledge after the ring was checked */
	unsigned exchange_failures;		/* the engine's count at the last direct acknowledgement */
	bool broken;				/* ring or channel is invalid; no longer served */
	struct queue_stats stats;
};

struct blkif {
	struct vbd_client client;
	struct vbd *vbd;
	uint32_t domid, devid;
	const struct ring_abi *abi;
	bool persistent, read_only;
	bool direct_io_safe;			/* set by the administrator: guest pages may be written from directly */
	bool resumed;				/* taken over from a dead tapdisk, which left blkif->inflight */
	bool stopped;
	unsigned ring_pages, nr_queues;
	struct transport *transport;
	struct inflight *inflight;		/* NULL: no successor can take over */
	struct grant_map grants;
	struct bounce_pool bounce;
	struct grant_copy *pieces;		/* of the next grant copy */
	void **piece_owners;			/* the blkif_io of each */
	unsigned nr_pieces, max_pieces;
	struct blkif_segments *free_segments;
	struct blkif_queue *queues;
	unsigned submitted;			/* in flight, all queues */
	unsigned penalty;			/* useless events minus useful ones (blkif_backoff.c) */
	struct loop_source *backoff;		/* timer; while it runs no ring is checked */
	uint64_t backoffs;			/* number of back-offs so far */
	struct metrics *metrics;
	char error[160];			/* why a queue is broken; empty: none is broken */
	struct waiter *closed;			/* callers that wait for the end of the disconnect */
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
/* Stop serving this ring; @why goes to the log, the disk object and an event. */
void blkif_queue_break(struct blkif_queue *queue, const char *why);
/* The io is done, with io->error set. */
void blkif_queue_complete(struct blkif_io *io);

/* Its entry in the in-flight table; NULL: there is no table. */
static inline struct inflight_entry *blkif_io_entry(const struct blkif_io *io)
{
	return io->queue->flight ? &io->queue->flight->entries[io - io->queue->ios] : NULL;
}

/* blkif_backoff.c */
/* Count one useful or useless event. */
void blkif_count_use(struct blkif *blkif, bool useful);
/* Count an attempt to map a page that could not be mapped. */
void blkif_count_failed_map(struct blkif *blkif);
/* True: do not check its rings now. Starts the back-off if the penalty has reached its limit. */
bool blkif_backing_off(struct blkif *blkif);

/* blkif_resume.c */
/* Continue the ring where the in-flight table says; requests in flight go to queue->resumed. */
int blkif_queue_resume(struct blkif_queue *queue, struct error_text *text);

/* blkif_io.c */
void blkif_io_init(struct blkif_io *io, const struct ring_request *request, uint64_t now_ns);
/* Checks that do not need the segments of an indirect request: 0 or -errno; -EOPNOTSUPP: unsupported operation. */
int blkif_io_check_header(struct blkif_io *io, const struct ring_request *request);
void blkif_io_fetch_indirect(struct blkif_io *io);
int blkif_io_check_segments(struct blkif_io *io);
int blkif_io_prepare_data(struct blkif_io *io);		/* -EAGAIN: no bounce memory now */
void blkif_io_copy_to_guest(struct blkif_io *io);
void blkif_io_submit(struct blkif_io *io);
void blkif_io_release(struct blkif_io *io);
/* Do the copies collected by the above in one call; errors are stored in the ios. */
void blkif_copy_flush(struct blkif *blkif);

#endif
