/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ring.h - the shared ring of xen/io/ring.h and xen/io/blkif.h, seen from
 * the backend: take requests, put responses, know when to signal.
 *
 * A hostile frontend may change the shared pages at any moment: a request is
 * copied out once and only the copy is used, and nothing that we rely on is
 * read back from the ring.
 */
#ifndef TAPDISK_RING_H
#define TAPDISK_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

/*
 * ABIs differ in one number: the offset of `id` in a request. The fields
 * behind it follow at the same distances in all of them.
 */
struct ring_abi {
	const char *protocol;		/* XEN_IO_PROTO_ABI_* */
	unsigned id_offset;		/* bytes */
	unsigned entry_size;		/* bytes of a ring slot: the largest request */
	unsigned response_size;		/* bytes */
};

/* Find an ABI by the frontend's `protocol` node; a NULL @protocol means native. Returns NULL if unknown. */
const struct ring_abi *ring_abi_find(const char *protocol);

/* A request, copied out, in one form for all ABIs. Unchecked. */
struct ring_request {
	uint8_t operation;		/* BLKIF_OP_*; of an indirect request: the one inside */
	bool indirect;
	bool known;			/* the layout of the operation is known, so the rest was read */
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
	struct blkif_sring *shared;	/* only its indices are accessed through this type */
	uint8_t *slots;
	const struct ring_abi *abi;
	unsigned size;			/* slots, a power of two */
	uint32_t req_cons;		/* next request to take */
	uint32_t rsp_prod;		/* next response to put */
	uint32_t shared_rsp_prod;	/* as published to the frontend */
};

#define RING_WIRE_MAX 112		/* bytes of the largest slot of any ABI */

/* Requests that a ring of that many pages holds. */
unsigned ring_slots(const struct ring_abi *abi, unsigned nr_pages);

/*
 * ring_attach() - use the ring at @pages (@nr_pages contiguous guest pages).
 * Continues from the indices found there, as Linux' blkback does. -EPROTO: they
 * are impossible.
 */
int ring_attach(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi);

/*
 * ring_resume() - continue a ring of a dead process, which had taken requests up
 * to @req_cons, had put responses up to @rsp_prod, and had published them up to
 * @told at least. Publishes all of them. -EPROTO: the ring contradicts this.
 */
int ring_resume(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi, uint32_t told,
		uint32_t rsp_prod, uint32_t req_cons);

/* The raw, unchecked producer index: use it only to see whether it has changed. */
uint32_t ring_produced(const struct ring *ring);
/* How many requests can be taken now; -EPROTO: the producer index is impossible, the ring is broken. */
int ring_pending(const struct ring *ring);
/* Take the next request; only if ring_pending() counted it. Copies its bytes to @wire (RING_WIRE_MAX bytes of ours). */
void ring_take(struct ring *ring, uint8_t *wire, struct ring_request *request);
/* Parse such bytes; they are not trusted. */
void ring_parse(const struct ring_abi *abi, const uint8_t *wire, struct ring_request *request);
/* Put a response; invisible until ring_push(). There is room for exactly as many as were taken. */
void ring_respond(struct ring *ring, uint64_t id, uint8_t operation, int16_t status);
/* Make responses visible; true: the frontend wants a signal for them. */
bool ring_push(struct ring *ring);
/* Request a signal for the next request; true: a request is there already, do not sleep. */
bool ring_arm(struct ring *ring);

#endif
