/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_request.c - NBD requests: what is allowed, what becomes of it on the
 * disk, what the client is told.
 *
 * Invariants:
 *  1. No request is begun between the vbd's stop() and start(): every
 *     submission goes through nbd_request_pump(). One that was begun runs to
 *     its end, each step submitted from the completion of the one before, so
 *     that a drain waits for all of them and FUA's flush reaches the image
 *     that has the write.
 *  2. A request's buffer lives until the vbd is done with it, whatever
 *     becomes of the connection meanwhile.
 *  3. With FUA the reply is made only after a flush that was submitted when
 *     the write had completed.
 *  4. No reply carries an error value that the protocol does not know.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "nbd_connection.h"

void nbd_queue_init(struct nbd_queue *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
}

static void queue_append(struct nbd_queue *queue, struct nbd_request *request)
{
	request->next = NULL;
	*queue->last = request;
	queue->last = &request->next;
}

static void queue_prepend(struct nbd_queue *queue, struct nbd_request *request)
{
	request->next = queue->first;
	if (!queue->first)
		queue->last = &request->next;
	queue->first = request;
}

struct nbd_request *nbd_queue_pop(struct nbd_queue *queue)
{
	struct nbd_request *request = queue->first;

	if (!request)
		return NULL;
	queue->first = request->next;
	if (!queue->first)
		queue->last = &queue->first;
	return request;
}

bool nbd_request_fits(const struct nbd_connection *connection, const struct nbd_wire_request *wire)
{
	uint16_t type = be16toh(wire->type);
	uint32_t bytes = be32toh(wire->length);

	/* no buffer is made for what will be refused: waiting for room that large would be for ever */
	if ((type != NBD_CMD_READ && type != NBD_CMD_WRITE) || bytes > NBD_MAX_PAYLOAD)
		bytes = 0;
	return connection->requests < NBD_MAX_REQUESTS && connection->bytes <= NBD_MAX_BYTES - bytes;
}

static void request_count_completion(struct nbd_request *request, int error)
{
	struct nbd_server *server = request->connection->server;

	if (!request->counted)
		return;
	request->counted = false;
	stats_complete(&server->stats, request->op, error ? 0 : request->length,
		       loop_now(server->client.vbd->loop) - request->started, error);
}

void nbd_request_free(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	request_count_completion(request, -ECANCELED);
	if (request->buffer) {
		connection->bytes -= request->length;
		free(request->buffer);
	}
	connection->requests--;
	free(request);
}

void nbd_request_drop_all(struct nbd_queue *queue)
{
	struct nbd_request *request;

	while ((request = nbd_queue_pop(queue)))
		nbd_request_free(request);
}

/* -errno to what may be on the wire (proto.md, "Error values"). */
static uint32_t error_to_wire(int error)
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
	case EINVAL:
	case EOPNOTSUPP:
		return NBD_EINVAL;
	case ENOMEM:
		return NBD_ENOMEM;
	default:
		return NBD_EIO;
	}
}

static void request_reply(struct nbd_request *request, int error)
{
	struct nbd_connection *connection = request->connection;

	request_count_completion(request, error);
	if (connection->fd < 0) {
		nbd_request_free(request);
		connection->server->dirty = true;
		return;
	}
	request->reply.magic = htobe32(NBD_REPLY_MAGIC);
	request->reply.error = htobe32(error_to_wire(error));
	request->reply_data = request->op == BLOCK_READ && !error ? request->length : 0;
	queue_append(&connection->replies, request);
	connection->server->dirty = true;
}

/* The next piece of a WRITE_ZEROES that must not leave a hole. */
static void request_next_zeroes(struct nbd_request *request)
{
	uint32_t bytes = request->zeroes_left < NBD_ZEROES_SIZE ? request->zeroes_left : NBD_ZEROES_SIZE;
	uint32_t before = request->length - request->zeroes_left;

	request->block.op = BLOCK_WRITE;
	request->block.sector += before ? NBD_ZEROES_SIZE >> SECTOR_SHIFT : 0;
	request->block.nr_sectors = bytes >> SECTOR_SHIFT;
	request->iov = (struct iovec){ .iov_base = request->connection->server->zeroes, .iov_len = bytes };
	request->block.iov = &request->iov;
	request->block.iovcnt = 1;
	request->zeroes_left -= bytes;
}

static void request_next_flush(struct nbd_request *request)
{
	request->fua = false;
	request->block.op = BLOCK_FLUSH;
	request->block.sector = 0;
	request->block.nr_sectors = 0;
	request->block.iov = NULL;
	request->block.iovcnt = 0;
}

static void request_done(struct block_request *block, int error)
{
	struct nbd_request *request = block->owner;
	struct nbd_connection *connection = request->connection;

	assert(connection->in_flight > 0);
	connection->in_flight--;

	/* a discard is a hint: a disk that cannot do it has not failed */
	if (error == -EOPNOTSUPP && block->op == BLOCK_DISCARD)
		error = 0;

	if (connection->phase == NBD_CLOSED) {
		request_count_completion(request, error);
		nbd_request_free(request);
		connection->server->dirty = true;
		return;
	}
	if (!error && (request->zeroes_left > 0 || request->fua)) {
		if (request->zeroes_left > 0)
			request_next_zeroes(request);
		else
			request_next_flush(request);
		queue_prepend(&connection->waiting, request);
		nbd_request_pump(connection);
		return;
	}
	request_reply(request, error);
}

static void request_submit(struct nbd_request *request)
{
	struct nbd_server *server = request->connection->server;

	if (!request->begun) {
		request->begun = true;
		request->started = loop_now(server->client.vbd->loop);
		request->counted = true;
		stats_submit(&server->stats, request->op);
	}
	request->connection->in_flight++;
	vbd_submit(&server->client, &request->block);
}

static bool pump_may_submit(const struct nbd_connection *connection)
{
	const struct nbd_request *first = connection->waiting.first;

	/* what was begun is always in front (request_done()) */
	return first && (first->begun || !connection->server->stopped);
}

/* Not recursive: a request that completes inside vbd_submit() and has another
 * step is taken up by the loop that submitted it. */
void nbd_request_pump(struct nbd_connection *connection)
{
	if (connection->pumping)
		return;
	connection->pumping = true;
	while (pump_may_submit(connection))
		request_submit(nbd_queue_pop(&connection->waiting));
	connection->pumping = false;
}

/* 0 and *@op, or why the request is refused; range and alignment are looked at elsewhere. */
static int request_check_command(const struct driver_geometry *geometry, uint16_t type, uint16_t flags,
				 enum block_op *op)
{
	uint16_t allowed = NBD_CMD_FLAG_FUA;	/* with every command: clients are known to set it on all */

	switch (type) {
	case NBD_CMD_READ:
		*op = BLOCK_READ;
		break;
	case NBD_CMD_WRITE:
		*op = BLOCK_WRITE;
		break;
	case NBD_CMD_FLUSH:
		*op = BLOCK_FLUSH;
		break;
	case NBD_CMD_TRIM:
		*op = BLOCK_DISCARD;
		break;
	case NBD_CMD_WRITE_ZEROES:
		*op = BLOCK_WRITE_ZEROES;
		allowed |= NBD_CMD_FLAG_NO_HOLE;
		break;
	default:
		return -EINVAL;
	}
	if (flags & ~allowed)
		return -EINVAL;
	if (geometry->read_only && *op != BLOCK_READ && *op != BLOCK_FLUSH)
		return -EPERM;
	if (*op == BLOCK_DISCARD && !geometry->discard)
		return -EINVAL;
	return 0;
}

static int request_check_range(const struct driver_geometry *geometry, enum block_op op, uint64_t offset,
			       uint32_t length)
{
	uint64_t end;

	if (op == BLOCK_FLUSH)
		return offset || length ? -EINVAL : 0;
	if (length == 0 || (offset | length) & (geometry->sector_size - 1))
		return -EINVAL;
	if (op == BLOCK_READ && length > NBD_MAX_PAYLOAD)
		return -EINVAL;
	if (__builtin_add_overflow(offset, length, &end) || end > geometry->sectors << SECTOR_SHIFT)
		return op == BLOCK_WRITE || op == BLOCK_WRITE_ZEROES ? -ENOSPC : -EINVAL;
	return 0;
}

static int request_allocate_buffer(struct nbd_request *request)
{
	/* page-aligned, so that a disk opened with O_DIRECT can take it as it is */
	if (posix_memalign(&request->buffer, 4096, request->length) != 0) {
		request->buffer = NULL;
		return -ENOMEM;
	}
	request->connection->bytes += request->length;
	request->iov = (struct iovec){ .iov_base = request->buffer, .iov_len = request->length };
	request->block.iov = &request->iov;
	request->block.iovcnt = 1;
	return 0;
}

/* Everything about @request that can be known from its header. */
static int request_prepare(struct nbd_request *request, const struct nbd_wire_request *wire)
{
	const struct driver_geometry *geometry = &request->connection->server->client.vbd->geometry;
	uint16_t flags = be16toh(wire->flags);
	uint64_t offset = be64toh(wire->offset);
	int error;

	error = request_check_command(geometry, be16toh(wire->type), flags, &request->op);
	if (!error)
		error = request_check_range(geometry, request->op, offset, request->length);
	if (!error && (request->op == BLOCK_READ || request->op == BLOCK_WRITE))
		error = request_allocate_buffer(request);
	if (error)
		return error;

	request->block.op = request->op;
	request->block.sector = offset >> SECTOR_SHIFT;
	request->block.nr_sectors = request->length >> SECTOR_SHIFT;
	request->fua = flags & NBD_CMD_FLAG_FUA && request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
	if (flags & NBD_CMD_FLAG_NO_HOLE) {
		request->zeroes_left = request->length;
		request_next_zeroes(request);
	}
	return 0;
}

int nbd_request_begin(struct nbd_connection *connection, const struct nbd_wire_request *wire)
{
	struct nbd_request *request = calloc(1, sizeof(*request));

	if (!request)
		return -ENOMEM;
	connection->requests++;
	request->connection = connection;
	request->block.owner = request;
	request->block.done = request_done;
	request->length = be32toh(wire->length);
	request->reply.cookie = wire->cookie;
	request->error = request_prepare(request, wire);
	if (request->error)
		connection->server->stats.invalid++;

	if (be16toh(wire->type) == NBD_CMD_WRITE && request->length > 0)
		connection->receiving = request;	/* its data come, refused or not */
	else
		nbd_request_received(request);
	return 0;
}

void nbd_request_received(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	if (request->error) {
		request_reply(request, request->error);
		return;
	}
	queue_append(&connection->waiting, request);
	nbd_request_pump(connection);
}
