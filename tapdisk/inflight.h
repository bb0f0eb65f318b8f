/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inflight.h - the in-flight table of one frontend: what of its requests was
 * taken and is not answered, in a file that outlives the process.
 *
 * A response overwrites a slot of the ring, and not that of its request, so
 * the ring alone does not tell. The table has, for each queue, three counters
 * (their lower 32 bits are the ring's indices) and an entry for each slot:
 *
 *   taken       requests out of the ring
 *   responded   responses that are in the ring, whole
 *   pushed      responses that the frontend knows of for certain
 *
 * An entry is in flight when its word says
 *   TAKEN(n)      with n < taken, or
 *   RESPONDED(n)  with n >= responded
 * so that one store to `taken` makes it so, one store to `responded` ends it,
 * and there are always taken - responded of them. The stores, in this order:
 *
 *   taking      the request's bytes, word = TAKEN(n), taken = n + 1
 *   answering   response into its slot, word = RESPONDED(m); after the last of a batch:
 *               responded = m + 1, the ring's rsp_prod, pushed = m + 1, signal
 *
 * The process may be killed behind any of them (docs/takeover.md has the
 * argument, tests/unit/test_takeover_steps does it). Against a kill, the order
 * of stores in the program is enough: all stores of a process that was killed
 * are seen by who comes after it. The compiler keeps to it because each store
 * that publishes is a release.
 *
 * The file is 0600, locked as long as a process has it, and whatever is in it
 * is checked as if it came from the guest: a process that dies may have
 * written anywhere before.
 */
#ifndef TAPDISK_INFLIGHT_H
#define TAPDISK_INFLIGHT_H

#include "ring.h"
#include "vbd.h"

struct blkif_params;
struct inflight;

struct inflight_entry {
	uint64_t word;			/* state in the lower two bits, n above */
	uint64_t taken;			/* which request it is: its n as it was taken */
	uint32_t segments_known;	/* 1: those of an indirect request, fetched from the guest, follow */
	uint32_t zero;
	uint8_t wire[RING_WIRE_MAX];	/* the slot's bytes */
	struct blkif_request_segment segments[MAX_INDIRECT_SEGMENTS];
};

struct inflight_queue {
	uint64_t taken, responded, pushed;
	uint64_t zero[5];
	struct inflight_entry entries[];
};

/*
 * inflight_create() - a table for a fresh connection to @vbd; one that is there is replaced.
 * @slots: of each ring. 0 or -errno with a text. *@table NULL: this process leaves nothing behind.
 */
int inflight_create(struct inflight **table, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		    struct error_text *text);
/*
 * inflight_adopt() - the table that the frontend's last tapdisk has left.
 * -ENOENT: there is none, or it is of other rings. -EBUSY: that tapdisk lives, or its I/O has not ended. -EUCLEAN:
 * it is no table. With 0 it is ours.
 */
int inflight_adopt(struct inflight **table, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		   struct error_text *text);
/* The frontend is disconnected: nobody has to know any more. @table may be NULL. */
void inflight_remove(struct inflight *table);
/* Let go of it and leave it there, as a connection that failed does. */
void inflight_leave(struct inflight *table);

struct inflight_queue *inflight_queue(struct inflight *table, unsigned queue);

/* A fresh ring's first request will be @req_cons, its first response too. */
void inflight_begin(struct inflight_queue *queue, uint32_t req_cons);
/* The entry's bytes are there. */
void inflight_take(struct inflight_queue *queue, struct inflight_entry *entry);
void inflight_keep_segments(struct inflight_entry *entry, const struct blkif_request_segment *segments, unsigned count);
/* Its response is the @number-th (from 0) in the ring that the frontend does not know of. */
void inflight_respond(const struct inflight_queue *queue, struct inflight_entry *entry, unsigned number);
/* Around ring_push(): the next @count responses are in the ring; the frontend knows. */
void inflight_responded(struct inflight_queue *queue, unsigned count);
void inflight_pushed(struct inflight_queue *queue);

/*
 * inflight_check() - what is in flight, the entries' numbers in the order in which they were taken, in @order (of
 * @slots). Their count, or -EUCLEAN.
 */
int inflight_check(const struct inflight_queue *queue, unsigned slots, unsigned *order);
/* These are all TAKEN again, and the words of the others are 0. */
void inflight_resume(struct inflight_queue *queue, unsigned slots, const unsigned *order, unsigned count);

#endif
