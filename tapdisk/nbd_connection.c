/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_connection.c - one NBD client: its input, its output, and its states.
 *
 *   HANDSHAKE --GO, EXPORT_NAME--> TRANSMISSION --DISC--> FINISHING --+
 *       |                               |                    ^        | all requests over,
 *       +-------------ABORT-------------|--------------------+        | all replies sent
 *       |                               |                             v
 *       +--hang-up, broken protocol-----+---------------------------> CLOSED
 *
 * Invariants:
 *  1. The memory that a client can use is bounded: the input buffer, one
 *     handshake reply, NBD_MAX_REQUESTS requests, NBD_MAX_BYTES of data, all
 *     counted until their reply was sent. At a limit the socket is not read
 *     ("held"), so a client that does not read its replies stops itself.
 *  2. Nothing here frees a connection: the server does, when
 *     nbd_connection_is_over(). So every function may close it and continue.
 *  3. Replies that are ready together are sent together, before the loop
 *     sleeps. Of many, the first few are sent earlier, and then REPLIES or
 *     REPLY_BYTES at a time, so that the client has work meanwhile.
 *  4. While the socket is not read, EPOLLIN does not report a hang-up, but
 *     epoll always reports EPOLLHUP: that ends the connection.
 */
#include "nbd_connection.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "heap.h"
#include "log.h"

#define RECEIVE_BURST	16	/* recvmsg() calls in a row, so that one client cannot occupy the loop */
#define SEND_IOV	64
#define REPLIES		8
#define REPLY_BYTES	(32u << 10)

static void connection_release_socket(struct nbd_connection *connection)
{
	if (connection->fd < 0)
		return;
	loop_remove(connection->source);
	connection->source = NULL;
	close(connection->fd);
	connection->fd = -1;
}

void nbd_connection_close(struct nbd_connection *connection)
{
	if (connection->phase == NBD_CLOSED)
		return;
	connection->phase = NBD_CLOSED;
	connection->server->dirty = true;
	connection_release_socket(connection);
	loop_remove(connection->timer);
	connection->timer = NULL;
	nbd_request_drop_all(&connection->waiting);
	nbd_request_drop_all(&connection->replies);
	if (connection->receiving)
		nbd_request_free(connection->receiving);
	connection->receiving = NULL;
}

static void connection_fail(struct nbd_connection *connection, const char *problem)
{
	log_guest(LOG_LEVEL_WARNING, "minor %d: nbd client: %s; disconnected", connection->server->client.vbd->minor,
		  problem);
	nbd_connection_close(connection);
}

/* The peer neither sends nor reads any more. After a DISC its requests still complete. */
static void connection_hung_up(struct nbd_connection *connection)
{
	if (connection->phase != NBD_FINISHING) {
		nbd_connection_close(connection);
		return;
	}
	connection_release_socket(connection);
	nbd_request_drop_all(&connection->replies);
	connection->handshake.reply_length = 0;
	connection->server->dirty = true;
}

bool nbd_connection_is_over(const struct nbd_connection *connection)
{
	return connection->phase == NBD_CLOSED && connection->requests == 0;
}

static void handshake_expired(void *arg)
{
	struct nbd_connection *connection = arg;

	connection->timer = NULL;
	connection_fail(connection, "no export chosen in time");
}

static void connection_begin_transmission(struct nbd_connection *connection)
{
	connection->phase = NBD_TRANSMISSION;
	loop_remove(connection->timer);
	connection->timer = NULL;
}

/* The reply has announced the export already: if opening it fails, only a disconnect is left. */
static bool connection_choose_export(struct nbd_connection *connection)
{
	struct error_text text = { "" };
	int error = nbd_export_acquire(connection->server, connection->handshake.name, &connection->export, &text);

	if (!error)
		return true;
	connection_fail(connection, text.text[0] ? text.text : strerror(-error));
	return false;
}

/* Input. Each consume function returns true if it made progress and has to be called again. */

static bool consume_handshake(struct nbd_connection *connection)
{
	struct nbd_handshake *handshake = &connection->handshake;
	struct nbd_offer offer = nbd_exports;
	size_t consumed;

	/* a list in parts is one store's: it waits for the end of a pause, as requests do */
	if (handshake->reply_length > 0 || (handshake->list.unfinished && connection->server->stopped)) {
		connection->held = true;
		return false;
	}
	offer.owner = connection->server;
	switch (nbd_handshake_step(handshake, &offer, connection->input + connection->start,
				   connection->end - connection->start, &consumed)) {
	case NBD_HANDSHAKE_MORE:
		return false;
	case NBD_HANDSHAKE_CONTINUE:
		break;
	case NBD_HANDSHAKE_TRANSMISSION:
		if (!connection_choose_export(connection))
			return false;
		connection_begin_transmission(connection);
		break;
	case NBD_HANDSHAKE_END:
		connection->phase = NBD_FINISHING;
		break;
	case NBD_HANDSHAKE_BAD:
		connection_fail(connection, handshake->problem);
		return false;
	}
	connection->start += consumed;
	connection->server->dirty = true;
	return true;
}

/* @bytes more of the request's data are in its buffer, or discarded. */
static void payload_arrived(struct nbd_connection *connection, size_t bytes)
{
	struct nbd_request *request = connection->receiving;

	request->received += bytes;
	if (request->received < request->length)
		return;
	connection->receiving = NULL;
	nbd_request_received(request);
}

static bool consume_payload(struct nbd_connection *connection)
{
	struct nbd_request *request = connection->receiving;
	size_t there = connection->end - connection->start;
	size_t wanted = request->length - request->received;
	size_t bytes = there < wanted ? there : wanted;

	if (bytes == 0)
		return false;
	if (!request->error)
		memcpy((uint8_t *)request->buffer + request->received, connection->input + connection->start, bytes);
	connection->start += bytes;
	payload_arrived(connection, bytes);
	return true;
}

static bool consume_request(struct nbd_connection *connection)
{
	struct nbd_wire_request wire;

	if (connection->end - connection->start < sizeof(wire))
		return false;
	memcpy(&wire, connection->input + connection->start, sizeof(wire));

	if (be32toh(wire.magic) != NBD_REQUEST_MAGIC) {
		connection_fail(connection, "bad request magic");
		return false;
	}
	if (be16toh(wire.type) == NBD_CMD_DISC) {
		connection->phase = NBD_FINISHING;
		connection->server->dirty = true;
		return false;
	}
	if (be16toh(wire.type) == NBD_CMD_WRITE && be32toh(wire.length) > NBD_MAX_PAYLOAD) {
		connection_fail(connection, "write too long");
		return false;
	}
	if (!nbd_request_fits(connection, &wire)) {
		connection->held = true;
		return false;
	}
	if (nbd_request_begin(connection, &wire)) {
		connection_fail(connection, "out of memory");
		return false;
	}
	connection->start += sizeof(wire);
	return true;
}

static bool consume_any(struct nbd_connection *connection)
{
	switch (connection->phase) {
	case NBD_HANDSHAKE:
		return consume_handshake(connection);
	case NBD_TRANSMISSION:
		return connection->receiving ? consume_payload(connection) : consume_request(connection);
	default:
		return false;
	}
}

static void connection_consume(struct nbd_connection *connection)
{
	connection->held = false;
	while (consume_any(connection))
		;
}

static bool connection_wants_input(const struct nbd_connection *connection)
{
	return connection->fd >= 0 && !connection->held &&
	       (connection->phase == NBD_HANDSHAKE || connection->phase == NBD_TRANSMISSION);
}

/* Receive into the buffer of the current write, if there is one, and the rest into the input buffer. */
static ssize_t connection_receive_once(struct nbd_connection *connection, size_t *room)
{
	struct nbd_request *request = connection->receiving;
	size_t there = connection->end - connection->start, direct = 0;
	struct iovec iov[2];
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t bytes;

	if (request && !request->error && !there)
		direct = request->length - request->received;
	memmove(connection->input, connection->input + connection->start, there);
	connection->start = 0;
	connection->end = there;
	iov[0] = (struct iovec){ direct ? (uint8_t *)request->buffer + request->received : NULL, direct };
	iov[1] = (struct iovec){ connection->input + there, NBD_INPUT_SIZE - there };
	*room = iov[0].iov_len + iov[1].iov_len;
	bytes = recvmsg(connection->fd, &message, MSG_DONTWAIT);
	if (bytes <= 0)
		return bytes;
	if ((size_t)bytes < direct)
		direct = (size_t)bytes;
	connection->end += (size_t)bytes - direct;
	if (direct)
		payload_arrived(connection, direct);
	return bytes;
}

/* Stop after a short read: no more was there. Only the rest of a write is likely to follow immediately. */
static void connection_receive(struct nbd_connection *connection)
{
	size_t room;

	for (unsigned i = 0; i < RECEIVE_BURST && connection_wants_input(connection); i++) {
		ssize_t bytes = connection_receive_once(connection, &room);

		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0 && errno == EAGAIN)
			return;
		if (bytes <= 0) {
			connection_hung_up(connection);
			return;
		}
		connection_consume(connection);
		if ((size_t)bytes < room && !connection->receiving)
			return;
	}
}

/* Commit after 1, 2, 4, 8, ... requests: the disk works on the first while the rest is read from the socket. */
void nbd_connection_submitted(struct nbd_connection *connection)
{
	unsigned n = ++connection->submitted;

	/* an error occurs again in the commit before the next sleep, which handles it */
	if (!(n & (n - 1)))
		engine_commit(connection->server->client.vbd->engine);
}

static void connection_ready(void *arg, uint32_t events)
{
	struct nbd_connection *connection = arg;

	connection->submitted = 0;
	connection->server->stats.kicks++;
	connection->server->dirty = true;
	if (events & EPOLLIN)
		connection_receive(connection);
	if (events & EPOLLOUT)
		connection->blocked = false;
	if (events & (EPOLLHUP | EPOLLERR) && !(connection->events & EPOLLIN))
		connection_hung_up(connection);		/* invariant 4 */
}

/* Output. */

bool nbd_connection_can_send(const struct nbd_connection *connection)
{
	return connection->fd >= 0 && !connection->blocked &&
	       (connection->handshake.reply_length > 0 || connection->replies.first);
}

static size_t connection_gather(struct nbd_connection *connection, struct iovec *iov)
{
	const struct nbd_handshake *handshake = &connection->handshake;
	size_t count = 0;

	if (handshake->reply_length)
		iov[count++] = (struct iovec){ handshake->reply + connection->handshake_sent,
					       handshake->reply_length - connection->handshake_sent };

	for (struct nbd_request *request = connection->replies.first; request && count < SEND_IOV; request = request->next) {
		for (unsigned i = 0; i < request->out_count && count < SEND_IOV; i++)
			iov[count++] = request->out[i];
	}
	return count;
}

/* Remove what was sent from the front of the reply; returns how many of @bytes belong to the next ones. */
static size_t request_sent(struct nbd_request *request, size_t bytes)
{
	while (request->out_count && bytes >= request->out->iov_len) {
		bytes -= request->out->iov_len;
		request->out++;
		request->out_count--;
	}
	if (!request->out_count)
		return bytes;
	request->out->iov_base = (uint8_t *)request->out->iov_base + bytes;
	request->out->iov_len -= bytes;
	return 0;
}

static void connection_sent(struct nbd_connection *connection, size_t bytes)
{
	struct nbd_handshake *handshake = &connection->handshake;
	size_t part = handshake->reply_length - connection->handshake_sent;

	part = part < bytes ? part : bytes;
	connection->handshake_sent += part;
	bytes -= part;
	if (connection->handshake_sent == handshake->reply_length)
		connection->handshake_sent = handshake->reply_length = 0;
	if (!handshake->reply_length && connection->phase != NBD_HANDSHAKE)
		nbd_handshake_end(handshake);

	while (bytes > 0) {
		bytes = request_sent(connection->replies.first, bytes);
		if (!connection->replies.first->out_count)
			nbd_request_free(nbd_queue_pop(&connection->replies));
	}
}

static void connection_send(struct nbd_connection *connection)
{
	connection->unsent = 0;
	while (nbd_connection_can_send(connection)) {
		struct iovec iov[SEND_IOV];
		struct msghdr message = { .msg_iov = iov };
		ssize_t bytes;

		message.msg_iovlen = connection_gather(connection, iov);
		bytes = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (bytes >= 0) {
			connection->server->stats.batches++;
			connection_sent(connection, (size_t)bytes);
		} else if (errno == EAGAIN) {
			connection->blocked = true;
		} else if (errno != EINTR) {
			connection_hung_up(connection);
		}
	}
}

/* Send after 1, 2, 4, 8, 16, 24, ... replies, or earlier if there is much data. */
void nbd_connection_replied(struct nbd_connection *connection, size_t bytes)
{
	unsigned n = ++connection->replied;

	connection->unsent += bytes;
	if (!(n & (n - 1)) || n % REPLIES == 0 || connection->unsent >= REPLY_BYTES)
		connection_send(connection);
}

static void connection_watch(struct nbd_connection *connection)
{
	uint32_t events = (connection_wants_input(connection) ? EPOLLIN : 0) | (connection->blocked ? EPOLLOUT : 0);

	if (connection->fd < 0 || events == connection->events)
		return;
	if (loop_modify_fd(connection->source, events) < 0) {
		connection_fail(connection, "cannot watch its socket");
		return;
	}
	connection->events = events;
}

void nbd_connection_service(struct nbd_connection *connection)
{
	if (connection->phase == NBD_CLOSED && connection->in_flight) {
		vbd_throttle_drop_unwanted(&connection->server->client);
		vbd_error_drop_unwanted(&connection->server->client);
	}
	connection_send(connection);
	connection->replied = 0;
	if (connection->looks) {
		connection->looks = 0;
		nbd_request_pump(connection);
		connection->server->dirty |= connection->looks;		/* there may be more for the next round */
	}
	if (connection->held)
		connection_consume(connection);
	if (connection->phase == NBD_FINISHING && connection->requests == 0 &&
	    connection->handshake.reply_length == 0)
		nbd_connection_close(connection);
	connection_watch(connection);
}

int nbd_connection_create(struct nbd_server *server, int fd)
{
	struct nbd_connection *connection = calloc(1, sizeof(*connection));
	struct loop *loop = server->client.vbd->loop;
	int error = -ENOMEM;

	if (!connection || nbd_handshake_begin(&connection->handshake))
		goto out;
	connection->server = server;
	connection->fd = fd;
	connection->events = EPOLLIN;
	nbd_queue_init(&connection->waiting);
	nbd_queue_init(&connection->replies);

	error = loop_add_timer(loop, &connection->timer, NBD_HANDSHAKE_MS, handshake_expired, connection);
	if (error < 0)
		goto out;
	error = loop_add_fd(loop, &connection->source, fd, connection->events, connection_ready, connection);
	if (error < 0)
		goto out;
	connection->next = server->connections;
	server->connections = connection;
	server->dirty = true;
	heap_keep();
	return 0;
out:
	if (connection) {
		loop_remove(connection->timer);
		nbd_handshake_end(&connection->handshake);
	}
	free(connection);
	close(fd);
	return error;
}

void nbd_connection_free(struct nbd_connection *connection)
{
	if (connection->export)
		nbd_export_release(connection->export);
	nbd_handshake_end(&connection->handshake);
	free(connection);
	heap_release();
}

static bool asks_for_changes(const struct nbd_handshake *handshake)
{
	for (unsigned i = 0; i < handshake->nr_contexts; i++) {
		if (handshake->contexts[i].since)
			return true;
	}
	return false;
}

void nbd_connection_go_on(struct nbd_connection *connection, bool moved)
{
	const struct nbd_handshake *handshake = &connection->handshake;
	const struct nbd_export *export = connection->export;

	connection->server->dirty |= handshake->list.unfinished;
	if ((export && export->target && !export->backend) ||
	    (moved && (asks_for_changes(handshake) || handshake->list.unfinished)))
		nbd_connection_close(connection);
	else
		nbd_request_pump(connection);
}
