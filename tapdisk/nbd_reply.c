/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_reply.c - NBD replies: simple ones, or chunks if structured replies were
 * negotiated (then READ and BLOCK_STATUS must use them, other commands do not).
 *
 * A reply is an iovec of memory that stays valid until it was sent: headers in
 * the request, its buffer, its look.
 *
 * Invariants:
 *  1. No reply carries an error value that the protocol does not know.
 *  2. The chunks of a READ cover its range, each byte once; only the last chunk
 *     of a reply has the DONE flag.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_connection.h"

/* Translate -errno to the protocol's errors (proto.md, "Error values"). */
static uint32_t error_to_wire(const struct nbd_request *request, int error)
{
	switch (-error) {
	case 0:
		return NBD_SUCCESS;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOPNOTSUPP:
		return request->fast ? NBD_ENOTSUP : NBD_EINVAL;
	case EINVAL:
		return NBD_EINVAL;
	case ENOMEM:
		return NBD_ENOMEM;
	default:
		return NBD_EIO;
	}
}

static void reply_add(struct nbd_request *request, void *data, size_t length)
{
	if (length)
		request->out[request->out_count++] = (struct iovec){ data, length };
}

static void reply_simple(struct nbd_request *request, int error)
{
	request->header.simple = (struct nbd_wire_reply){
		.magic = htobe32(NBD_REPLY_MAGIC),
		.error = htobe32(error_to_wire(request, error)),
		.cookie = request->cookie,
	};
	reply_add(request, &request->header.simple, sizeof(request->header.simple));
	if (request->type == NBD_CMD_READ && !error)
		reply_add(request, request->buffer, request->length);
}

/* @length: bytes that follow struct nbd_wire_chunk. */
static struct nbd_wire_chunk chunk(const struct nbd_request *request, uint16_t type, uint32_t length, bool last)
{
	return (struct nbd_wire_chunk){
		.magic = htobe32(NBD_CHUNK_MAGIC),
		.flags = htobe16(last ? NBD_CHUNK_FLAG_DONE : 0),
		.type = htobe16(type),
		.cookie = request->cookie,
		.length = htobe32(length),
	};
}

static void reply_error_chunk(struct nbd_request *request, int error)
{
	struct nbd_chunk_error *header = &request->header.error;
	const char *text = strerror(-error);
	size_t length = strlen(text);

	*header = (struct nbd_chunk_error){
		.chunk = chunk(request, NBD_CHUNK_ERROR, (uint32_t)(sizeof(*header) - sizeof(header->chunk) + length), true),
		.error = htobe32(error_to_wire(request, error)),
		.text_length = htobe16((uint16_t)length),
	};
	reply_add(request, header, sizeof(*header));
	reply_add(request, (void *)text, length);
}

/* @from: bytes from the beginning of the request's range. */
static void reply_data_chunk(struct nbd_request *request, struct nbd_chunk_data *header, uint32_t from, uint32_t length)
{
	*header = (struct nbd_chunk_data){
		.chunk = chunk(request, NBD_CHUNK_OFFSET_DATA, sizeof(header->offset) + length,
			       from + length == request->length),
		.offset = htobe64(request->offset + from),
	};
	reply_add(request, header, sizeof(*header));
	reply_add(request, (uint8_t *)request->buffer + from, length);
}

static void reply_hole_chunk(struct nbd_request *request, struct nbd_chunk_hole *header, uint32_t from, uint32_t length)
{
	*header = (struct nbd_chunk_hole){
		.chunk = chunk(request, NBD_CHUNK_OFFSET_HOLE, sizeof(*header) - sizeof(header->chunk),
			       from + length == request->length),
		.offset = htobe64(request->offset + from),
		.length = htobe32(length),
	};
	reply_add(request, header, sizeof(*header));
}

/* The next part of the range, starting at @from: true if it is zeros; *@length in bytes. The unknown rest is data. */
static bool next_part(const struct nbd_request *request, const struct block_status *status, unsigned *extent,
		      uint32_t from, uint32_t *length)
{
	bool zero = *extent < status->count && status->extents[*extent].flags & BLOCK_EXTENT_ZERO;
	uint64_t bytes = 0;

	while (*extent < status->count && !(status->extents[*extent].flags & BLOCK_EXTENT_ZERO) == !zero)
		bytes += status->extents[(*extent)++].nr_sectors << SECTOR_SHIFT;
	*length = !zero && *extent == status->count ? request->length - from : (uint32_t)bytes;
	return zero;
}

static void reply_parts(struct nbd_request *request, const struct block_status *status)
{
	union { struct nbd_chunk_data data; struct nbd_chunk_hole hole; } *header = request->headers;
	uint32_t from = 0, length;
	unsigned extent = 0;

	for (; from < request->length; from += length, header++) {
		if (next_part(request, status, &extent, from, &length))
			reply_hole_chunk(request, &header->hole, from, length);
		else
			reply_data_chunk(request, &header->data, from, length);
	}
}

static void reply_read(struct nbd_request *request)
{
	const struct block_status *status = request->look ? &request->look->status : NULL;
	unsigned parts = status ? status->count + 1 : 1;
	size_t headers = parts * sizeof(struct nbd_chunk_hole);

	if (parts == 2 && status->extents[0].flags & BLOCK_EXTENT_ZERO &&
	    status->nr_sectors << SECTOR_SHIFT == request->length) {
		reply_hole_chunk(request, &request->header.hole, 0, request->length);
		return;
	}
	/* without memory for the headers, send everything as data: all of it was read */
	if (parts > 1)
		request->headers = malloc(headers + 2 * parts * sizeof(struct iovec));
	if (parts == 1 || !request->headers) {
		reply_data_chunk(request, &request->header.data, 0, request->length);
		return;
	}
	request->out = (struct iovec *)((uint8_t *)request->headers + headers);
	reply_parts(request, status);
}

void nbd_reply_make(struct nbd_request *request, int error)
{
	request->out = request->out_few;
	request->out_count = 0;
	if (!request->connection->handshake.structured ||
	    (request->type != NBD_CMD_READ && request->type != NBD_CMD_BLOCK_STATUS))
		reply_simple(request, error);
	else if (error)
		reply_error_chunk(request, error);
	else if (request->type == NBD_CMD_READ)
		reply_read(request);
	else
		reply_add(request, request->look->wire, request->look->used);
}

size_t nbd_look_size(unsigned contexts)
{
	return sizeof(struct nbd_look) +
		contexts * (sizeof(struct nbd_chunk_status) + NBD_MAX_EXTENTS * sizeof(struct nbd_wire_extent));
}

static uint32_t flags_to_wire(const struct block_status *status, unsigned flags)
{
	if (status->since)
		return flags & BLOCK_EXTENT_CHANGED ? 1 : 0;
	return (flags & BLOCK_EXTENT_HOLE ? NBD_STATE_HOLE : 0) | (flags & BLOCK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

void nbd_reply_add_extents(struct nbd_request *request)
{
	const struct nbd_handshake *handshake = &request->connection->handshake;
	struct nbd_look *look = request->look;
	const struct block_status *status = &look->status;
	struct nbd_chunk_status header = {
		.chunk = chunk(request, NBD_CHUNK_BLOCK_STATUS,
			       (uint32_t)(sizeof(header.context) + status->count * sizeof(struct nbd_wire_extent)),
			       look->context + 1 == handshake->nr_contexts),
		.context = htobe32(look->context + 1),
	};

	memcpy(look->wire + look->used, &header, sizeof(header));
	look->used += sizeof(header);
	for (unsigned i = 0; i < status->count; i++) {
		const struct nbd_wire_extent extent = {
			.length = htobe32((uint32_t)(status->extents[i].nr_sectors << SECTOR_SHIFT)),
			.flags = htobe32(flags_to_wire(status, status->extents[i].flags)),
		};

		memcpy(look->wire + look->used, &extent, sizeof(extent));
		look->used += sizeof(extent);
	}
	assert(look->used <= nbd_look_size(handshake->nr_contexts) - sizeof(*look));
}
