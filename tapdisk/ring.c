/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ring.c - takes requests from a shared ring and puts responses into it.
 *
 * Invariants, with S = size:
 *   1. rsp_prod <= req_cons <= rsp_prod + S   (as distances modulo 2^32)
 *   2. our private rsp_prod and req_cons are authoritative; the shared indices
 *      are written from them and, once attached, never read back.
 *   3. shared req_prod is accepted only if it is at most S ahead of rsp_prod
 *      and not behind req_cons.
 *
 * A running ring accesses the shared indices only through the four helpers
 * below; each says why its order is needed.
 */
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <xen/io/protocols.h>

#include "array.h"
#include "point.h"
#include "transport.h"

/* Distances from `id` on, the same in every ABI (xen/io/blkif.h). */
#define AFTER_ID_SECTOR		8
#define AFTER_ID_SEGMENTS	16	/* READ, WRITE, FLUSH, BARRIER */
#define AFTER_ID_NR_SECTORS	16	/* DISCARD */
#define AFTER_ID_INDIRECT_REFS	20	/* INDIRECT: handle and padding before them */

#define ID_OFFSET_32 4			/* u64 aligned to 4: i386 */
#define ID_OFFSET_64 8			/* u64 aligned to 8: x86_64, arm */
#define SEGMENTS_SIZE (BLKIF_MAX_SEGMENTS_PER_REQUEST * sizeof(struct blkif_request_segment))
#define ENTRY_SIZE(id_offset) ((id_offset) + AFTER_ID_SEGMENTS + SEGMENTS_SIZE)
#define RESPONSE_SIZE_32 12
#define RESPONSE_SIZE_64 16

#define NATIVE_ID_OFFSET offsetof(struct blkif_request, id)
_Static_assert(sizeof(struct blkif_request_segment) == 8, "wire size");
_Static_assert(sizeof(struct blkif_request) <= RING_WIRE_MAX && ENTRY_SIZE(ID_OFFSET_64) <= RING_WIRE_MAX, "wire size");
_Static_assert(sizeof(struct blkif_request) == ENTRY_SIZE(NATIVE_ID_OFFSET), "native entry");
_Static_assert(offsetof(struct blkif_request, sector_number) == NATIVE_ID_OFFSET + AFTER_ID_SECTOR, "sector");
_Static_assert(offsetof(struct blkif_request, seg) == NATIVE_ID_OFFSET + AFTER_ID_SEGMENTS, "segments");
_Static_assert(offsetof(struct blkif_request_discard, nr_sectors) == NATIVE_ID_OFFSET + AFTER_ID_NR_SECTORS, "discard");
_Static_assert(offsetof(struct blkif_request_indirect, id) == NATIVE_ID_OFFSET, "indirect id");
_Static_assert(offsetof(struct blkif_request_indirect, indirect_grefs) == NATIVE_ID_OFFSET + AFTER_ID_INDIRECT_REFS,
	       "indirect references");
_Static_assert(offsetof(struct blkif_response, operation) == 8 && offsetof(struct blkif_response, status) == 10,
	       "response");

static const struct ring_abi abis[] = {
	{ XEN_IO_PROTO_ABI_NATIVE, NATIVE_ID_OFFSET, sizeof(struct blkif_request), sizeof(struct blkif_response) },
	{ XEN_IO_PROTO_ABI_X86_64, ID_OFFSET_64, ENTRY_SIZE(ID_OFFSET_64), RESPONSE_SIZE_64 },
	{ XEN_IO_PROTO_ABI_X86_32, ID_OFFSET_32, ENTRY_SIZE(ID_OFFSET_32), RESPONSE_SIZE_32 },
	{ XEN_IO_PROTO_ABI_ARM, ID_OFFSET_64, ENTRY_SIZE(ID_OFFSET_64), RESPONSE_SIZE_64 },
};

const struct ring_abi *ring_abi_find(const char *protocol)
{
	if (!protocol)
		protocol = XEN_IO_PROTO_ABI_NATIVE;
	for (unsigned i = 0; i < ARRAY_SIZE(abis); i++)
		if (!strcmp(abis[i].protocol, protocol))
			return &abis[i];
	return NULL;
}

/* Requests must be read after the index that announces them. */
static uint32_t load_req_prod(const struct ring *ring)
{
	return __atomic_load_n(&ring->shared->req_prod, __ATOMIC_ACQUIRE);
}

/* Responses must be written before the index that announces them. */
static void store_rsp_prod(struct ring *ring)
{
	__atomic_store_n(&ring->shared->rsp_prod, ring->rsp_prod, __ATOMIC_RELEASE);
}

/* rsp_event must be read after rsp_prod was written: the frontend writes rsp_event and then reads rsp_prod, so one side
 * sees the other's store and no wake-up is lost. */
static uint32_t load_rsp_event(const struct ring *ring)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring->shared->rsp_event, __ATOMIC_RELAXED);
}

/* Likewise req_event must be written before req_prod is read again. */
static void store_req_event(struct ring *ring, uint32_t event)
{
	__atomic_store_n(&ring->shared->req_event, event, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static unsigned round_down_power_of_two(unsigned n)
{
	return n ? 1u << (31 - __builtin_clz(n)) : 0;
}

#define HEADER_SIZE offsetof(struct blkif_sring, ring)

unsigned ring_slots(const struct ring_abi *abi, unsigned nr_pages)
{
	return round_down_power_of_two((unsigned)((nr_pages * GUEST_PAGE_SIZE - HEADER_SIZE) / abi->entry_size));
}

static void ring_lay_out(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi)
{
	ring->shared = pages;
	ring->slots = (uint8_t *)pages + HEADER_SIZE;
	ring->abi = abi;
	ring->size = ring_slots(abi, nr_pages);
}

int ring_attach(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi)
{
	uint32_t req_prod, rsp_prod;

	ring_lay_out(ring, pages, nr_pages, abi);
	req_prod = load_req_prod(ring);
	rsp_prod = __atomic_load_n(&ring->shared->rsp_prod, __ATOMIC_RELAXED);
	if (req_prod - rsp_prod > ring->size)
		return -EPROTO;
	ring->req_cons = ring->rsp_prod = ring->shared_rsp_prod = rsp_prod;
	return 0;
}

int ring_resume(struct ring *ring, void *pages, unsigned nr_pages, const struct ring_abi *abi, uint32_t told,
		uint32_t rsp_prod, uint32_t req_cons)
{
	uint32_t shared;

	ring_lay_out(ring, pages, nr_pages, abi);
	shared = __atomic_load_n(&ring->shared->rsp_prod, __ATOMIC_RELAXED);
	if ((shared != told && shared != rsp_prod) || rsp_prod - told > ring->size || req_cons - rsp_prod > ring->size)
		return -EPROTO;
	ring->rsp_prod = rsp_prod;
	ring->req_cons = req_cons;
	if (ring_pending(ring) < 0)
		return -EPROTO;
	store_rsp_prod(ring);
	ring->shared_rsp_prod = rsp_prod;
	return 0;
}

uint32_t ring_produced(const struct ring *ring)
{
	return load_req_prod(ring);
}

int ring_pending(const struct ring *ring)
{
	uint32_t req_prod = load_req_prod(ring);

	if (req_prod - ring->rsp_prod > ring->size)
		return -EPROTO;
	/* behind req_cons by less than a ring, which the first test does not detect */
	if (req_prod - ring->rsp_prod < ring->req_cons - ring->rsp_prod)
		return -EPROTO;
	return (int)(req_prod - ring->req_cons);	/* at most the ring's size */
}

static uint8_t *ring_slot(const struct ring *ring, uint32_t index)
{
	return ring->slots + (size_t)(index & (ring->size - 1)) * ring->abi->entry_size;
}

static uint16_t get_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

void ring_parse(const struct ring_abi *abi, const uint8_t *wire, struct ring_request *request)
{
	const uint8_t *id = wire + abi->id_offset;

	request->operation = wire[0];
	request->indirect = false;
	request->known = true;
	request->id = get_u64(id);
	request->sector = get_u64(id + AFTER_ID_SECTOR);
	request->nr_sectors = 0;
	request->nr_segments = 0;

	switch (request->operation) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
	case BLKIF_OP_WRITE_BARRIER:
	case BLKIF_OP_FLUSH_DISKCACHE:
		request->nr_segments = wire[1];
		memcpy(request->segments, id + AFTER_ID_SEGMENTS, sizeof(request->segments));
		break;
	case BLKIF_OP_DISCARD:
		request->nr_sectors = get_u64(id + AFTER_ID_NR_SECTORS);
		break;
	case BLKIF_OP_INDIRECT:
		request->indirect = true;
		request->operation = wire[1];
		request->nr_segments = get_u16(wire + 2);
		memcpy(request->indirect_refs, id + AFTER_ID_INDIRECT_REFS, sizeof(request->indirect_refs));
		break;
	default:
		request->known = false;
	}
}

void ring_take(struct ring *ring, uint8_t *wire, struct ring_request *request)
{
	assert(ring->req_cons - ring->rsp_prod < ring->size);
	memcpy(wire, ring_slot(ring, ring->req_cons), ring->abi->entry_size);
	/* copy once: the compiler must not read the slot again */
	__asm__ __volatile__("" : : "r"(wire) : "memory");
	ring->req_cons++;
	ring_parse(ring->abi, wire, request);
}

void ring_respond(struct ring *ring, uint64_t id, uint8_t operation, int16_t status)
{
	uint8_t wire[RESPONSE_SIZE_64] = { 0 };

	assert(ring->rsp_prod != ring->req_cons);
	memcpy(wire, &id, sizeof(id));
	wire[offsetof(struct blkif_response, operation)] = operation;
	memcpy(wire + offsetof(struct blkif_response, status), &status, sizeof(status));
	memcpy(ring_slot(ring, ring->rsp_prod), wire, ring->abi->response_size);
	test_point("response");
	ring->rsp_prod++;
}

bool ring_push(struct ring *ring)
{
	uint32_t before = ring->shared_rsp_prod, event;

	if (before == ring->rsp_prod)
		return false;
	store_rsp_prod(ring);
	test_point("rsp_prod");
	ring->shared_rsp_prod = ring->rsp_prod;
	event = load_rsp_event(ring);
	return ring->rsp_prod - event < ring->rsp_prod - before;
}

bool ring_arm(struct ring *ring)
{
	store_req_event(ring, ring->req_cons + 1);
	return load_req_prod(ring) != ring->req_cons;
}
