/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inflight.h - the in-flight table of one frontend: the requests that were
 * taken and are not answered, in a file that outlives the process.
 *
 * A response overwrites a slot of the ring other than its request's, so the
 * ring alone does not show them. For each queue the table has three counters
 * (their lower 32 bits are the ring's indices) and an entry for each slot:
 *
 *   taken       requests taken from the ring
 *   responded   responses that are complete in the ring
 *   pushed      responses that are certainly published to the frontend
 *
 * An entry is in flight if its word is
 *   TAKEN(n)      with n < taken, or
 *   RESPONDED(n)  with n >= responded
 * so one store to `taken` puts it in flight, one store to `responded` ends
 * that, and there are always taken - responded of them. The order of stores:
 *
 *   taking      the request's bytes, word = TAKEN(n), taken = n + 1
 *   answering   response into its slot, word = RESPONDED(m); after the last of a batch:
 *               responded = m + 1, the ring's rsp_prod, pushed = m + 1, signal
 *
 * The process may be killed after any of them (docs/takeover.md has the
 * argument, tests/unit/test_takeover_steps does it). Against a kill, program
 * order is enough: a successor sees all stores of a killed process. The
 * compiler keeps the order because each publishing store is a release.
 *
 * The file has mode 0600, is locked while a process uses it, and its contents
 * are checked as if they came from the guest: a process that dies may have
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
	uint64_t taken;			/* the request's n when it was taken */
	uint32_t segments_known;	/* 1: `segments` has those of an indirect request, fetched from the guest */
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
 * inflight_create() - make a table for a new connection to @vbd, replacing an existing one.
 * @slots: per ring. 0 or -errno with a text. *@table NULL: this process has no take-over.
 */
int inflight_create(struct inflight **table, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		    struct error_text *text);
/*
 * inflight_adopt() - take the table that the frontend's previous tapdisk has left.
 * -ENOENT: none, or of other rings. -EBUSY: that tapdisk is alive, or its I/O has not ended. -EUCLEAN: not a valid
 * table. On 0 the table is ours.
 */
int inflight_adopt(struct inflight **table, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		   struct error_text *text);
/* Delete the table: the frontend is disconnected. @table may be NULL. */
void inflight_remove(struct inflight *table);
/* Close the table and keep its file, after a failed connection. */
void inflight_leave(struct inflight *table);

struct inflight_queue *inflight_queue(struct inflight *table, unsigned queue);

/* The first request and the first response of a new ring will be @req_cons. */
void inflight_begin(struct inflight_queue *queue, uint32_t req_cons);
/* @entry->wire must be filled. */
void inflight_take(struct inflight_queue *queue, struct inflight_entry *entry);
void inflight_keep_segments(struct inflight_entry *entry, const struct blkif_request_segment *segments, unsigned count);
/* Its response is the @number-th (from 0) unpublished one in the ring. */
void inflight_respond(const struct inflight_queue *queue, struct inflight_entry *entry, unsigned number);
/* Before ring_push(): the next @count responses are in the ring. After it: they are published. */
void inflight_responded(struct inflight_queue *queue, unsigned count);
void inflight_pushed(struct inflight_queue *queue);

/*
 * inflight_check() - store the numbers of the entries in flight in @order (room for @slots), in the order in which they
 * were taken. Returns their count, or -EUCLEAN.
 */
int inflight_check(const struct inflight_queue *queue, unsigned slots, unsigned *order);
/* Set these entries to TAKEN again, and the words of the others to 0. */
void inflight_resume(struct inflight_queue *queue, unsigned slots, const unsigned *order, unsigned count);

#endif
