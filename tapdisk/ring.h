/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ring.h - the shared ring of xen/io/ring.h and xen/io/blkif.h, seen from
 * the backend: take requests out, put responses in, know when to signal.
 *
 * Everything in the shared pages may change at any moment under the hands of
 * a hostile frontend: a request is copied out once and only the copy is
 * looked at, and nothing we rely on is ever read back from the ring.
 */
#ifndef TAPDISK_RING_H
#define TAPDISK_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

/*
 * An ABI is one number: where `id` stands in a request. Everything behind
 * it follows at the same distance in all of them.
 */
struct ring_abi {
	const char *protocol;		/* XEN_IO_PROTO_ABI_* */
	unsigned id_offset;		/* bytes */
	unsigned entry_size;		/* bytes of a ring slot: the largest request */
	unsigned response_size;		/* bytes */
};

/* By the frontend's `protocol` node; NULL means native. NULL when unknown. */
const struct ring_abi *ring_abi_find(const char *protocol);

/* A request, copied out and in one form whatever the ABI. Nothing in it has been checked. */
struct ring_request {
	uint8_t operation;		/* BLKIF_OP_*; of an indirect request: the one inside */
	bool indirect;
	bool known;			/* the operation has a layout we could read further */
	uint16_t nr_segments;
	uint64_t id;
	uint64_t sector;		/* 512-byte sectors */
	uint64_t nr_sectors;		/* DISCARD only */
	union {
		struct blkif_request_segment segments[BLKIF_MAX_SEGMENTS_PER_REQUEST];
		uint32_t indirect_refs[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
	};
};

struct ring {
	struct blkif_sring *shared;	/* only its index words are used through this type */
	uint8_t *slots;
	const struct ring_abi *abi;
	unsigned size;			/* slots, a power of two */
	uint32_t req_cons;		/* next request to take */
	uint32_t rsp_prod;		/* next response to put */
	uint32_t shared_rsp_prod;	/* as the frontend has been told */
};

#define RING_WIRE_MAX 112		/* bytes of the largest slot of any ABI */

/* Requests that a ring of that many pages holds. */
unsigned ring_slots(const struct ring_abi *abi, unsigned nr_pages);

/*
 * ring_attach() - use the ring at @pages (@nr_pages contiguous guest pages).
 * Goes on from the indices the frontend has left there, as Linux' blkback
 * does. -EPROTO: they cannot be right.
 */
int ring_attach(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi);

/*
 * ring_resume() - use it where another process has left off, which had taken
 * requests up to @req_cons, had put responses up to @rsp_prod, and was about to
 * tell the frontend of them, or had (@told: up to where it had for certain).
 * From here on it has been told. -EPROTO: the ring does not fit to that.
 */
int ring_resume(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi, uint32_t told,
		uint32_t rsp_prod, uint32_t req_cons);

/* The producer index as it stands there, possible or not: it is only good for seeing whether it has changed. */
uint32_t ring_produced(const struct ring *ring);
/* How many requests can be taken now; -EPROTO: the producer index is impossible, the ring is broken. */
int ring_pending(const struct ring *ring);
/* Take the next one; only after ring_pending() has promised it. Its bytes go to @wire, RING_WIRE_MAX bytes of our own. */
void ring_take(struct ring *ring, uint8_t *wire, struct ring_request *request);
/* What such bytes say. They may come from anywhere. */
void ring_parse(const struct ring_abi *abi, const uint8_t *wire, struct ring_request *request);
/* Put a response; invisible until ring_push(). There is room for exactly as many as were taken. */
void ring_respond(struct ring *ring, uint64_t id, uint8_t operation, int16_t status);
/* Make responses visible; true: the frontend wants a signal for them. */
bool ring_push(struct ring *ring);
/* Ask for a signal with the next request; true: one has come already, do not sleep. */
bool ring_arm(struct ring *ring);

#endif
