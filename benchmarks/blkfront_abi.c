/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_abi.c - the layout of a request in each of the ring's ABIs. The
 * structs are xen/io/blkif.h's as a guest of that kind compiles them: the
 * i386 ABI aligns 64-bit members to 4 bytes, the others to 8; x86_64 and arm
 * have the same layout. They are used for their offsets only.
 */
#include <stddef.h>

#include "blkfront_internal.h"

#include <xen/io/protocols.h>

#pragma pack(push, 4)
struct rw_32 {
	uint8_t operation, nr_segments;
	uint16_t handle;
	uint64_t id, sector;
	struct blkif_request_segment segments[BLKIF_MAX_SEGMENTS_PER_REQUEST];
};
struct discard_32 {
	uint8_t operation, flag;
	uint16_t handle;
	uint64_t id, sector, nr_sectors;
};
struct indirect_32 {
	uint8_t operation, indirect_op;
	uint16_t nr_segments;
	uint64_t id, sector;
	uint16_t handle;
	uint32_t refs[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
	uint64_t pad;
};
struct response_32 {
	uint64_t id;
	uint8_t operation;
	int16_t status;
};
#pragma pack(pop)

struct rw_64 {
	uint8_t operation, nr_segments;
	uint16_t handle;
	uint64_t id __attribute__((aligned(8))), sector;
	struct blkif_request_segment segments[BLKIF_MAX_SEGMENTS_PER_REQUEST];
};
struct discard_64 {
	uint8_t operation, flag;
	uint16_t handle;
	uint64_t id __attribute__((aligned(8))), sector, nr_sectors;
};
struct indirect_64 {
	uint8_t operation, indirect_op;
	uint16_t nr_segments;
	uint64_t id __attribute__((aligned(8))), sector;
	uint16_t handle;
	uint32_t refs[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
};
struct response_64 {
	uint64_t id __attribute__((aligned(8)));
	uint8_t operation;
	int16_t status;
};

_Static_assert(sizeof(struct rw_32) == 108 && sizeof(struct response_32) == 12, "x86_32-abi");
_Static_assert(sizeof(struct indirect_32) == 64 && offsetof(struct indirect_32, refs) == 24, "x86_32-abi");
_Static_assert(sizeof(struct rw_64) == 112 && sizeof(struct response_64) == 16, "x86_64-abi");
_Static_assert(sizeof(struct indirect_64) == 64 && offsetof(struct indirect_64, refs) == 28, "x86_64-abi");

#define LAYOUT(name, bits)								\
	{										\
		.protocol = name,							\
		.slot_size = sizeof(struct rw_##bits),					\
		.id = offsetof(struct rw_##bits, id),					\
		.sector = offsetof(struct rw_##bits, sector),				\
		.segments = offsetof(struct rw_##bits, segments),			\
		.nr_sectors = offsetof(struct discard_##bits, nr_sectors),		\
		.handle = offsetof(struct indirect_##bits, handle),			\
		.indirect_refs = offsetof(struct indirect_##bits, refs),		\
		.rsp_id = offsetof(struct response_##bits, id),				\
		.rsp_operation = offsetof(struct response_##bits, operation),		\
		.rsp_status = offsetof(struct response_##bits, status),			\
	}

const struct wire_layout blkfront_layouts[] = {
#ifdef __i386__
	[BLKFRONT_NATIVE] = LAYOUT(NULL, 32),
#else
	[BLKFRONT_NATIVE] = LAYOUT(NULL, 64),
#endif
	[BLKFRONT_X86_32] = LAYOUT(XEN_IO_PROTO_ABI_X86_32, 32),
	[BLKFRONT_X86_64] = LAYOUT(XEN_IO_PROTO_ABI_X86_64, 64),
	[BLKFRONT_ARM] = LAYOUT(XEN_IO_PROTO_ABI_ARM, 64),
};

/* The number of slots that fit, rounded down to a power of two (RING_SIZE of xen/io/ring.h). */
uint32_t blkfront_ring_slots(const struct wire_layout *layout, unsigned pages)
{
	uint32_t fit = (uint32_t)((pages * GUEST_PAGE_SIZE - sizeof(struct shared_ring)) / layout->slot_size);

	return 1u << (31 - __builtin_clz(fit));
}
