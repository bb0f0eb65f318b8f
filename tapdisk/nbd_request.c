/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_request.c - NBD requests: checks, steps on the disk, completion.
 *
 * Invariants:
 *  1. No request is started between the vbd's stop() and start(): every
 *     submission goes through nbd_request_pump(). A started request completes,
 *     each step submitted from the completion of the previous one, so that a
 *     drain waits for all of them and FUA's flush reaches the image that has
 *     the write. But between two of many pieces it waits like one that was not
 *     started: a drain does not wait for 4 GiB, and the drain's flush covers
 *     the pieces that are in the image.
 *  2. A request's buffer lives until the request is no longer in flight, even
 *     if the connection is closed.
 *  3. A look may take the event loop's time, not the disk's: a connection starts
 *     at most NBD_LOOKS_A_PASS BLOCK_STATUS requests per round of the loop.
 *  4. With FUA the reply is made only after a flush that was submitted after
 *     the write had completed.
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

/* Bytes that the request needs. 0 for one that will be refused: it would wait forever for so much room. */
static size_t request_memory(const struct nbd_connection *connection, uint16_t type, uint16_t flags, uint32_t length)
{
	bool looks = type == NBD_CMD_READ && connection->handshake.structured && !(flags & NBD_CMD_FLAG_DF) &&
		length >= NBD_READ_STATUS_MIN;

	switch (type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return length > NBD_MAX_PAYLOAD ? 0 : length + (looks ? nbd_look_size(0) : 0);
	case NBD_CMD_CACHE:
		return length < NBD_PIECE_SIZE ? length : NBD_PIECE_SIZE;
	case NBD_CMD_BLOCK_STATUS:
		return nbd_look_size(connection->handshake.nr_contexts);
	default:
		return 0;
	}
}

bool nbd_request_fits(const struct nbd_connection *connection, const struct nbd_wire_request *wire)
{
	size_t bytes = request_memory(connection, be16toh(wire->type), be16toh(wire->flags), be32toh(wire->length));

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
	connection->bytes -= request->charged;
	connection->requests--;
	free(request->buffer);
	free(request->look);
	free(request->headers);
	free(request);
}

void nbd_request_drop_all(struct nbd_queue *queue)
{
	struct nbd_request *request;

	while ((request = nbd_queue_pop(queue)))
		nbd_request_free(request);
}

static void request_reply(struct nbd_request *request, int error)
{
	struct nbd_connection *connection = request->connection;

	request_count_completion(request, error);
	connection->server->dirty = true;
	if (connection->fd < 0) {
		nbd_request_free(request);
		return;
	}
	nbd_reply_make(request, error);
	queue_append(&connection->replies, request);
	nbd_connection_replied(connection, request->type == NBD_CMD_READ && !error ? request->length : 0);
}

/* Steps: each sets up request->block. */

static void step_look(struct nbd_request *request, unsigned room)
{
	const struct nbd_handshake *handshake = &request->connection->handshake;
	struct nbd_look *look = request->look;

	look->status = (struct block_status){ .hint = request->type == NBD_CMD_READ, .extents = look->extents, .room = room };
	if (request->type == NBD_CMD_BLOCK_STATUS)
		look->status.since = handshake->contexts[look->context].since;
	request->looking = true;
	request->block.op = BLOCK_STATUS;
	request->block.status = &look->status;
}

static void step_data(struct nbd_request *request)
{
	request->looking = false;
	request->block.op = request->op;
	request->block.iov = &request->iov;
	request->block.iovcnt = request->op == BLOCK_READ || request->op == BLOCK_WRITE;
}

/* A piece of WRITE_ZEROES with NO_HOLE, or of CACHE, which reads and drops the data. */
static void step_piece(struct nbd_request *request)
{
	uint32_t bytes = request->pieces_left < NBD_PIECE_SIZE ? request->pieces_left : NBD_PIECE_SIZE;
	bool zeroes = request->op == BLOCK_WRITE_ZEROES;

	request->block.op = zeroes ? BLOCK_WRITE : BLOCK_READ;
	request->block.sector = (request->offset + request->length - request->pieces_left) >> SECTOR_SHIFT;
	request->block.nr_sectors = bytes >> SECTOR_SHIFT;
	request->iov = (struct iovec){ zeroes ? request->connection->server->zeroes : request->buffer, bytes };
	request->block.iov = &request->iov;
	request->block.iovcnt = 1;
	request->pieces_left -= bytes;
}

static void step_flush(struct nbd_request *request)
{
	request->fua = false;
	request->block.op = BLOCK_FLUSH;
	request->block.sector = 0;
	request->block.nr_sectors = 0;
	request->block.iov = NULL;
	request->block.iovcnt = 0;
}

static bool read_is_all_zeros(const struct nbd_look *look, const struct block_request *block)
{
	return look->status.count == 1 && look->extents[0].flags & BLOCK_EXTENT_ZERO &&
		look->status.nr_sectors == block->nr_sectors;
}

/* A look has succeeded. False: the request is complete. */
static bool look_next(struct nbd_request *request)
{
	struct nbd_look *look = request->look;

	if (request->type == NBD_CMD_READ) {
		if (read_is_all_zeros(look, &request->block))
			return false;
		step_data(request);
		return true;
	}
	nbd_reply_add_extents(request);
	if (++look->context == request->connection->handshake.nr_contexts)
		return false;
	step_look(request, look->status.room);
	return true;
}

/* Set up the step after one that succeeded; false: the request is complete. */
static bool request_next(struct nbd_request *request)
{
	if (request->looking)
		return look_next(request);
	if (request->pieces_left)
		step_piece(request);
	else if (request->fua)
		step_flush(request);
	else
		return false;
	return true;
}

/* Ignored errors: a discard is a hint, and a READ works without its look. */
static int step_error(struct nbd_request *request, int error)
{
	if (error == -EOPNOTSUPP && request->block.op == BLOCK_DISCARD)
		return 0;
	if (error && request->looking && request->type == NBD_CMD_READ) {
		request->look->status.count = 0;
		request->look->status.nr_sectors = 0;
		return 0;
	}
	return error;
}

/* Queue the next step: in front, except that a piece waits at the end while the vbd has stopped us. */
static void request_go_on(struct nbd_request *request, bool piece)
{
	struct nbd_connection *connection = request->connection;

	if (piece && connection->server->stopped) {
		request->begun = false;
		queue_append(&connection->waiting, request);
	} else {
		queue_prepend(&connection->waiting, request);
	}
	nbd_request_pump(connection);
}

static void request_done(struct block_request *block, int error)
{
	struct nbd_request *request = block->owner;
	struct nbd_connection *connection = request->connection;
	bool piece = !request->looking && request->pieces_left;

	assert(connection->in_flight > 0);
	connection->in_flight--;
	error = step_error(request, error);
	if (connection->phase == NBD_CLOSED) {
		request_count_completion(request, error);
		nbd_request_free(request);
		connection->server->dirty = true;
	} else if (!error && request_next(request)) {
		request_go_on(request, piece);
	} else {
		request_reply(request, error);
	}
}

bool nbd_request_is_wanted(const struct block_request *block)
{
	const struct nbd_request *request = block->owner;

	return request->connection->phase != NBD_CLOSED;
}

/* On return the request may be completed, answered and freed; its connection is not, since only the server frees it. */
static void request_submit(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;
	struct nbd_server *server = connection->server;

	request->begun = true;
	if (!request->counted) {
		connection->looks += request->type == NBD_CMD_BLOCK_STATUS;
		request->started = loop_now(server->client.vbd->loop);
		request->counted = true;
		stats_submit(&server->stats, request->op);
	}
	connection->in_flight++;
	nbd_export_submit(connection->export, &request->block);
	nbd_connection_submitted(connection);
}

static bool pump_may_submit(const struct nbd_connection *connection)
{
	const struct nbd_request *first = connection->waiting.first;

	/* started requests are always in front (request_go_on()) */
	if (!first || first->begun)
		return first;
	return !connection->server->stopped && (first->type != NBD_CMD_BLOCK_STATUS || connection->looks < NBD_LOOKS_A_PASS);
}

/* Not recursive: if a request completes inside vbd_submit(), the loop that
 * submitted it submits its next step. */
void nbd_request_pump(struct nbd_connection *connection)
{
	if (connection->pumping)
		return;
	connection->pumping = true;
	while (pump_may_submit(connection))
		request_submit(nbd_queue_pop(&connection->waiting));
	connection->pumping = false;
}

/* The command's operation on the disk, and its permitted flags. */
static bool command_find(uint16_t type, enum block_op *op, uint16_t *allowed)
{
	*allowed = NBD_CMD_FLAG_FUA;	/* with every command: some clients set it on all */
	switch (type) {
	case NBD_CMD_READ:
		*op = BLOCK_READ;
		*allowed |= NBD_CMD_FLAG_DF;
		return true;
	case NBD_CMD_WRITE:
		*op = BLOCK_WRITE;
		return true;
	case NBD_CMD_FLUSH:
		*op = BLOCK_FLUSH;
		return true;
	case NBD_CMD_TRIM:
		*op = BLOCK_DISCARD;
		return true;
	case NBD_CMD_CACHE:
		*op = BLOCK_READ;
		return true;
	case NBD_CMD_WRITE_ZEROES:
		*op = BLOCK_WRITE_ZEROES;
		*allowed |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
		return true;
	case NBD_CMD_BLOCK_STATUS:
		*op = BLOCK_STATUS;
		*allowed |= NBD_CMD_FLAG_REQ_ONE;
		return true;
	default:
		return false;
	}
}

static bool op_changes_disk(enum block_op op)
{
	return op == BLOCK_WRITE || op == BLOCK_WRITE_ZEROES || op == BLOCK_DISCARD;
}

/* 0 and request->op, or -errno; request_check_range() checks range and alignment. */
static int request_check_command(struct nbd_request *request, uint16_t flags)
{
	const struct driver_geometry *geometry = nbd_export_geometry(request->connection->export);
	const struct nbd_handshake *handshake = &request->connection->handshake;
	uint16_t allowed;

	if (!command_find(request->type, &request->op, &allowed) || flags & ~allowed)
		return -EINVAL;
	if (flags & NBD_CMD_FLAG_DF && !handshake->structured)
		return -EINVAL;
	if (request->op == BLOCK_STATUS && !handshake->nr_contexts)
		return -EINVAL;
	if (nbd_export_read_only(request->connection->export) && op_changes_disk(request->op))
		return -EPERM;
	if (request->op == BLOCK_DISCARD && !geometry->discard)
		return -EINVAL;
	request->fast = flags & NBD_CMD_FLAG_FAST_ZERO;
	if (request->fast && (!geometry->fast_zeroes || flags & NBD_CMD_FLAG_NO_HOLE))
		return -EOPNOTSUPP;
	return 0;
}

static int request_check_range(const struct nbd_request *request)
{
	const struct driver_geometry *geometry = nbd_export_geometry(request->connection->export);
	uint64_t end;

	if (request->op == BLOCK_FLUSH)
		return request->offset || request->length ? -EINVAL : 0;
	if (request->length == 0 || (request->offset | request->length) & (geometry->sector_size - 1))
		return -EINVAL;
	if (request->type == NBD_CMD_READ && request->length > NBD_MAX_PAYLOAD)
		return -EINVAL;
	if (__builtin_add_overflow(request->offset, request->length, &end) || end > geometry->sectors << SECTOR_SHIFT)
		return request->op == BLOCK_WRITE || request->op == BLOCK_WRITE_ZEROES ? -ENOSPC : -EINVAL;
	return 0;
}

/* Page-aligned for O_DIRECT. */
static int request_allocate_buffer(struct nbd_request *request, size_t length)
{
	if (posix_memalign(&request->buffer, 4096, length) != 0) {
		request->buffer = NULL;
		return -ENOMEM;
	}
	request->iov = (struct iovec){ .iov_base = request->buffer, .iov_len = length };
	return 0;
}

static int request_allocate_look(struct nbd_request *request, unsigned contexts)
{
	request->look = malloc(nbd_look_size(contexts));
	if (!request->look)
		return -ENOMEM;
	request->look->context = 0;
	request->look->used = 0;
	return 0;
}

static int request_prepare_read(struct nbd_request *request)
{
	int error = request_allocate_buffer(request, request->length);

	if (!error && request->charged > request->length)
		error = request_allocate_look(request, 0);
	if (!error && request->look)
		step_look(request, NBD_READ_EXTENTS);
	return error;
}

/* With the page cache, reading fills it; with O_DIRECT there is no cache and nothing to do. */
static int request_prepare_cache(struct nbd_request *request)
{
	int error = request_allocate_buffer(request, request->charged);

	request->pieces_left = nbd_export_geometry(request->connection->export)->direct ? 0 : request->length;
	request->over = !request->pieces_left;
	if (!error && request->pieces_left)
		step_piece(request);
	return error;
}

static int request_prepare_status(struct nbd_request *request, uint16_t flags)
{
	int error = request_allocate_look(request, request->connection->handshake.nr_contexts);

	if (!error)
		step_look(request, flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_MAX_EXTENTS);
	return error;
}

/* The first step. */
static int request_prepare_step(struct nbd_request *request, uint16_t flags)
{
	request->block.sector = request->offset >> SECTOR_SHIFT;
	request->block.nr_sectors = request->length >> SECTOR_SHIFT;
	step_data(request);
	switch (request->type) {
	case NBD_CMD_READ:
		return request_prepare_read(request);
	case NBD_CMD_WRITE:
		return request_allocate_buffer(request, request->length);
	case NBD_CMD_CACHE:
		return request_prepare_cache(request);
	case NBD_CMD_BLOCK_STATUS:
		return request_prepare_status(request, flags);
	default:
		if (flags & NBD_CMD_FLAG_NO_HOLE) {
			request->pieces_left = request->length;
			step_piece(request);
		}
		return 0;
	}
}

/* Check the header of @request, account its memory and set up its first step. */
static int request_prepare(struct nbd_request *request, uint16_t flags)
{
	struct nbd_connection *connection = request->connection;
	int error = request_check_command(request, flags);

	if (!error)
		error = request_check_range(request);
	if (error)
		return error;
	request->charged = request_memory(connection, request->type, flags, request->length);
	connection->bytes += request->charged;
	request->fua = flags & NBD_CMD_FLAG_FUA && op_changes_disk(request->op);
	return request_prepare_step(request, flags);
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
	request->type = be16toh(wire->type);
	request->offset = be64toh(wire->offset);
	request->length = be32toh(wire->length);
	request->cookie = wire->cookie;
	request->error = request_prepare(request, be16toh(wire->flags));
	if (request->error)
		connection->server->stats.invalid++;

	if (request->type == NBD_CMD_WRITE && request->length > 0)
		connection->receiving = request;	/* its data follows even if it is refused */
	else
		nbd_request_received(request);
	return 0;
}

void nbd_request_received(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	if (request->error || request->over) {
		request_reply(request, request->error);
		return;
	}
	queue_append(&connection->waiting, request);
	nbd_request_pump(connection);
}
