/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_protocol.h - the NBD wire format as far as we speak it: fixed newstyle
 * negotiation, simple and structured replies. Source: doc/proto.md of the NBD project,
 * https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 *
 * Every number on the wire is big-endian. The cookie of a request is opaque
 * and goes back as it came.
 */
#ifndef TAPSNAP_NBD_PROTOCOL_H
#define TAPSNAP_NBD_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

#define NBD_INIT_MAGIC		0x4e42444d41474943ULL	/* "NBDMAGIC" */
#define NBD_OPTION_MAGIC	0x49484156454f5054ULL	/* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC	0x0003e889045565a9ULL
#define NBD_REQUEST_MAGIC	0x25609513u
#define NBD_REPLY_MAGIC		0x67446698u
#define NBD_CHUNK_MAGIC		0x668e33efu	/* of a structured reply, which is one or more chunks */

/* Handshake flags: the server's, and the client's answer with the same bits. */
#define NBD_FLAG_FIXED_NEWSTYLE	(1u << 0)
#define NBD_FLAG_NO_ZEROES	(1u << 1)

#define NBD_OPT_EXPORT_NAME	1u
#define NBD_OPT_ABORT		2u
#define NBD_OPT_LIST		3u
#define NBD_OPT_STARTTLS	5u
#define NBD_OPT_INFO		6u
#define NBD_OPT_GO		7u
#define NBD_OPT_STRUCTURED_REPLY	8u
#define NBD_OPT_LIST_META_CONTEXT	9u
#define NBD_OPT_SET_META_CONTEXT	10u

#define NBD_REP_ACK		1u
#define NBD_REP_SERVER		2u
#define NBD_REP_INFO		3u
#define NBD_REP_META_CONTEXT	4u
#define NBD_REP_ERR_UNSUP	0x80000001u
#define NBD_REP_ERR_INVALID	0x80000003u
#define NBD_REP_ERR_TLS_REQD	0x80000005u
#define NBD_REP_ERR_UNKNOWN	0x80000006u
#define NBD_REP_ERR_TOO_BIG	0x80000009u

#define NBD_INFO_EXPORT		0u
#define NBD_INFO_BLOCK_SIZE	3u

/* Transmission flags: what the export can do. */
#define NBD_FLAG_HAS_FLAGS		(1u << 0)
#define NBD_FLAG_READ_ONLY		(1u << 1)
#define NBD_FLAG_SEND_FLUSH		(1u << 2)
#define NBD_FLAG_SEND_FUA		(1u << 3)
#define NBD_FLAG_SEND_TRIM		(1u << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES	(1u << 6)
#define NBD_FLAG_SEND_DF		(1u << 7)
#define NBD_FLAG_CAN_MULTI_CONN		(1u << 8)
#define NBD_FLAG_SEND_CACHE		(1u << 10)
#define NBD_FLAG_SEND_FAST_ZERO		(1u << 11)

#define NBD_CMD_READ		0u
#define NBD_CMD_WRITE		1u
#define NBD_CMD_DISC		2u
#define NBD_CMD_FLUSH		3u
#define NBD_CMD_TRIM		4u
#define NBD_CMD_CACHE		5u
#define NBD_CMD_WRITE_ZEROES	6u
#define NBD_CMD_BLOCK_STATUS	7u

#define NBD_CMD_FLAG_FUA	(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE	(1u << 1)
#define NBD_CMD_FLAG_DF		(1u << 2)	/* the data in one chunk */
#define NBD_CMD_FLAG_REQ_ONE	(1u << 3)	/* one extent */
#define NBD_CMD_FLAG_FAST_ZERO	(1u << 4)

/* Chunks. */
#define NBD_CHUNK_FLAG_DONE	(1u << 0)	/* the last one */

#define NBD_CHUNK_OFFSET_DATA	1u
#define NBD_CHUNK_OFFSET_HOLE	2u
#define NBD_CHUNK_BLOCK_STATUS	5u
#define NBD_CHUNK_ERROR		0x8001u

/* Block status: flags of the context "base:allocation". */
#define NBD_STATE_HOLE		(1u << 0)
#define NBD_STATE_ZERO		(1u << 1)

/* The only values that may stand in a reply's error field. */
#define NBD_SUCCESS	0u
#define NBD_EPERM	1u
#define NBD_EIO		5u
#define NBD_ENOMEM	12u
#define NBD_EINVAL	22u
#define NBD_ENOSPC	28u
#define NBD_ENOTSUP	95u		/* zeroes are not fast here; nothing else */

struct nbd_greeting {
	uint64_t init_magic, option_magic;
	uint16_t flags;
} __attribute__((packed));

struct nbd_option {
	uint64_t magic;
	uint32_t option;
	uint32_t length;	/* of the data that follow */
} __attribute__((packed));

struct nbd_option_reply {
	uint64_t magic;
	uint32_t option;
	uint32_t type;
	uint32_t length;	/* of the data that follow */
} __attribute__((packed));

/* The answer to NBD_OPT_EXPORT_NAME; without the zeroes if both agreed on that. */
struct nbd_export_reply {
	uint64_t size;		/* bytes */
	uint16_t flags;
	uint8_t zeroes[124];
} __attribute__((packed));

struct nbd_info_export {
	uint16_t type;
	uint64_t size;		/* bytes */
	uint16_t flags;
} __attribute__((packed));

struct nbd_info_block_size {
	uint16_t type;
	uint32_t minimum, preferred, maximum;	/* bytes */
} __attribute__((packed));

struct nbd_wire_request {
	uint32_t magic;
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;	/* bytes */
	uint32_t length;	/* bytes; a write's data follow */
} __attribute__((packed));

struct nbd_wire_reply {
	uint32_t magic;
	uint32_t error;
	uint64_t cookie;
} __attribute__((packed));

struct nbd_wire_chunk {
	uint32_t magic;
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint32_t length;	/* of what follows */
} __attribute__((packed));

struct nbd_chunk_data {
	struct nbd_wire_chunk chunk;
	uint64_t offset;	/* bytes; the data follow */
} __attribute__((packed));

struct nbd_chunk_hole {
	struct nbd_wire_chunk chunk;
	uint64_t offset;	/* bytes */
	uint32_t length;	/* bytes */
} __attribute__((packed));

struct nbd_chunk_error {
	struct nbd_wire_chunk chunk;
	uint32_t error;
	uint16_t text_length;	/* the text follows */
} __attribute__((packed));

struct nbd_chunk_status {
	struct nbd_wire_chunk chunk;
	uint32_t context;	/* its id; extents follow */
} __attribute__((packed));

struct nbd_wire_extent {
	uint32_t length;	/* bytes */
	uint32_t flags;
} __attribute__((packed));

static_assert(sizeof(struct nbd_wire_chunk) == 20, "nbd chunk");
static_assert(sizeof(struct nbd_chunk_data) == 28, "nbd data chunk");
static_assert(sizeof(struct nbd_chunk_hole) == 32, "nbd hole chunk");
static_assert(sizeof(struct nbd_chunk_error) == 26, "nbd error chunk");
static_assert(sizeof(struct nbd_chunk_status) == 24, "nbd block status chunk");
static_assert(sizeof(struct nbd_wire_extent) == 8, "nbd extent");
static_assert(sizeof(struct nbd_greeting) == 18, "nbd greeting");
static_assert(sizeof(struct nbd_option) == 16, "nbd option");
static_assert(sizeof(struct nbd_option_reply) == 20, "nbd option reply");
static_assert(sizeof(struct nbd_export_reply) == 134, "nbd export reply");
static_assert(sizeof(struct nbd_info_export) == 12, "nbd export info");
static_assert(sizeof(struct nbd_info_block_size) == 14, "nbd block size info");
static_assert(sizeof(struct nbd_wire_request) == 28, "nbd request");
static_assert(sizeof(struct nbd_wire_reply) == 16, "nbd reply");

#endif
