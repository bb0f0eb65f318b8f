/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control_connection.c - one client of the control socket.
 *
 *            line complete                control_reply()
 *   READING ---------------> OUTSTANDING ---------------> WRITING --> READING
 *      |  (request != NULL)                (out not empty)
 *      +--> ended: end of input, bad input, socket error
 *
 * Invariants:
 *  - Input is read exactly up to the newline that ends a line, so the
 *    descriptors that a read brings belong to that line.
 *  - in never holds more than PROTOCOL_MAX_LINE bytes; events are not added
 *    to out beyond OUT_MAX. So the memory that a client can use is bounded.
 *  - A connection is freed only by its own callback (or control_stop()):
 *    elsewhere it is marked broken and shut down, which wakes that callback.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control_connection.h"
#include "descriptors.h"
#include "json_memory.h"
#include "log.h"
#include "utf8.h"

#define CHUNK 16384
#define OUT_MAX PROTOCOL_MAX_LINE

static int buffer_append(struct control_buffer *buffer, const char *data, size_t length)
{
	size_t size = buffer->size ? buffer->size : 4096;
	char *grown;

	while (size - buffer->length < length)
		size *= 2;
	if (size != buffer->size) {
		grown = realloc(buffer->data, size);
		if (!grown)
			return -ENOMEM;
		buffer->data = grown;
		buffer->size = size;
	}
	if (length)
		memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return 0;
}

/* Long lines are rare: do not keep their memory. */
static void buffer_reset(struct control_buffer *buffer)
{
	buffer->length = 0;
	if (buffer->size > CHUNK) {
		free(buffer->data);
		buffer->data = NULL;
		buffer->size = 0;
	}
}

static void close_fds(int *fds, unsigned *nr_fds)
{
	while (*nr_fds)
		close(fds[--*nr_fds]);
}

static void mark_broken(struct control_connection *connection)
{
	connection->broken = true;
	shutdown(connection->fd, SHUT_RDWR);
}

static void update_interest(struct control_connection *connection)
{
	uint32_t events = 0;

	if (connection->broken)
		return;
	if (connection->out.length)
		events = EPOLLOUT;
	else if (!connection->request)
		events = EPOLLIN;
	/* with neither, epoll still reports the end of the connection */
	if (loop_modify_fd(connection->source, events))
		mark_broken(connection);
}

static void write_output(struct control_connection *connection)
{
	struct control_buffer *out = &connection->out;
	ssize_t sent;

	while (out->length && !connection->broken) {
		sent = send(connection->fd, out->data, out->length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (sent < 0) {
			mark_broken(connection);
			break;
		}
		out->length -= sent;
		memmove(out->data, out->data + sent, out->length);
	}
	if (!out->length)
		buffer_reset(out);
	update_interest(connection);
}

/* Report a lack of memory, without allocating any. False if the socket has no room. */
static bool say_out_of_memory(int fd)
{
	static const char line[] = "{\"ok\":false,\"errno\":12,\"error\":\"tapdisk is out of memory\"}\n";

	log_error("control: out of memory");
	return send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(line) - 1;
}

static void send_out_of_memory(struct control_connection *connection)
{
	if (connection->out.length || !say_out_of_memory(connection->fd))
		mark_broken(connection);
	else
		update_interest(connection);
}

/* Append the line and a newline, or nothing on error. */
static int append_line(struct control_buffer *out, const char *line)
{
	size_t before = out->length;
	int error = buffer_append(out, line, strlen(line));

	if (!error)
		error = buffer_append(out, "\n", 1);
	if (error)
		out->length = before;
	return error;
}

void control_connection_send(struct control_connection *connection, json_t *message)
{
	char *line = json_dumps(message, JSON_COMPACT);
	bool failed = json_memory_failed() || !line;

	if (!connection->broken) {
		if (failed || append_line(&connection->out, line))
			send_out_of_memory(connection);
		else
			write_output(connection);
	}
	json_memory_free(line);
}

/* Send the client the reason once. Returns -EPROTO, which ends the connection. */
static int refuse_input(struct control_connection *connection, const char *why)
{
	json_t *message = json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", EPROTO, "error", why);

	log_warning("control: %s; client disconnected", why);
	if (message)
		control_connection_send(connection, message);
	json_decref(message);
	return -EPROTO;
}

/* Keep the descriptors that came with this read; excess ones are closed. */
static int keep_descriptors(struct control_connection *connection, struct msghdr *message)
{
	unsigned room = PROTOCOL_MAX_FDS - connection->nr_fds;
	unsigned came = descriptors_take(message, connection->fds + connection->nr_fds, room);

	connection->nr_fds += came < room ? came : room;
	if (came <= room && !(message->msg_flags & MSG_CTRUNC))
		return 0;
	return refuse_input(connection, "more descriptors than a command can have");
}

/* Read @want bytes (fewer if descriptors begin in between) and their descriptors. */
static int read_bytes(struct control_connection *connection, char *chunk, size_t want)
{
	union descriptors room;
	struct iovec iov = { chunk, want };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t got;

	descriptors_expect(&message, &room, PROTOCOL_MAX_FDS);
	got = recvmsg(connection->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (keep_descriptors(connection, &message))
		return -EPROTO;
	return buffer_append(&connection->in, chunk, got);
}

/* 0: a whole line is in; -EAGAIN: not yet; -EPIPE: end of input; other errors end the connection. */
static int read_line(struct control_connection *connection)
{
	char chunk[CHUNK];
	const char *newline;
	ssize_t there;
	size_t want;
	int error;

	there = recv(connection->fd, chunk, sizeof(chunk), MSG_PEEK | MSG_DONTWAIT);
	if (there < 0)
		return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (!there)
		return connection->in.length ? refuse_input(connection, "input ended within a line") : -EPIPE;
	newline = memchr(chunk, '\n', there);
	want = newline ? (size_t)(newline - chunk) + 1 : (size_t)there;
	if (connection->in.length + want > PROTOCOL_MAX_LINE ||
	    (!newline && connection->in.length + want == PROTOCOL_MAX_LINE))
		return refuse_input(connection, "line longer than 1 MiB");
	error = read_bytes(connection, chunk, want);
	if (error)
		return error;
	return connection->in.data[connection->in.length - 1] == '\n' ? 0 : -EAGAIN;
}

/* The line in the buffer becomes the outstanding request. */
static int take_request(struct control_connection *connection)
{
	struct control_request *request;
	json_t *message;

	message = json_loadb(connection->in.data, connection->in.length, JSON_REJECT_DUPLICATES, NULL);
	buffer_reset(&connection->in);
	if (json_memory_failed()) {
		json_decref(message);
		return -ENOMEM;
	}
	if (!json_is_object(message)) {
		json_decref(message);
		return refuse_input(connection, "a line is not a JSON object");
	}
	request = calloc(1, sizeof(*request));
	if (!request) {
		json_decref(message);
		return -ENOMEM;
	}
	request->connection = connection;
	request->arg = connection->control->arg;
	request->message = message;
	memcpy(request->fds, connection->fds, sizeof(request->fds));
	request->nr_fds = connection->nr_fds;
	connection->nr_fds = 0;
	connection->request = request;
	return 0;
}

/* Read one line at most, so that one client cannot keep the others waiting. */
static int read_command(struct control_connection *connection)
{
	int error = read_line(connection);

	if (!error)
		error = take_request(connection);
	if (error)
		return error;
	connection->control->ops->command(connection->control->arg, connection->request);
	update_interest(connection);
	return 0;
}

static void connection_ready(void *arg, uint32_t events)
{
	struct control_connection *connection = arg;
	int error = 0;

	if (events & EPOLLOUT)
		write_output(connection);
	/* commands of a client that has already disconnected are still executed, until a reply cannot be sent */
	if ((events & (EPOLLIN | EPOLLHUP)) && !connection->request && !connection->broken)
		error = read_command(connection);
	else if (events & (EPOLLHUP | EPOLLERR))
		error = -EPIPE;
	if (error == -ENOMEM)
		send_out_of_memory(connection);
	if (connection->broken || (error && error != -EAGAIN))
		control_connection_end(connection);
}

int control_connection_create(struct control *control, int fd)
{
	struct control_connection *connection = calloc(1, sizeof(*connection));
	int error;

	if (!connection) {
		say_out_of_memory(fd);
		close(fd);
		return -ENOMEM;
	}
	connection->control = control;
	connection->fd = fd;
	error = loop_add_fd(control->loop, &connection->source, fd, EPOLLIN, connection_ready, connection);
	if (error) {
		say_out_of_memory(fd);
		close(fd);
		free(connection);
		return error;
	}
	connection->next = control->connections;
	control->connections = connection;
	control->nr_connections++;
	return 0;
}

void control_connection_end(struct control_connection *connection)
{
	struct control *control = connection->control;
	struct control_connection **place = &control->connections;

	while (*place != connection)
		place = &(*place)->next;
	*place = connection->next;
	control->nr_connections--;
	if (connection->request)
		connection->request->connection = NULL;
	if (control->ops)
		control->ops->ended(control->arg, connection);
	loop_remove(connection->source);
	close(connection->fd);
	close_fds(connection->fds, &connection->nr_fds);
	free(connection->in.data);
	free(connection->out.data);
	free(connection);
}

static void free_request(struct control_request *request)
{
	close_fds(request->fds, &request->nr_fds);
	json_decref(request->message);
	free(request);
}

/* JSON must be UTF-8, but the text may name a path that is not UTF-8, or may be cut within a character. */
static json_t *error_reply(struct control_request *request, int error)
{
	error_set(&request->error, error, "%s", strerror(-error));
	utf8_repair(request->error.text);
	return json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", -error, "error", request->error.text);
}

void control_reply(struct control_request *request, int error, json_t *reply)
{
	struct control_connection *connection = request->connection;
	json_t *message;

	if (!connection)
		goto out;
	connection->request = NULL;
	message = error ? error_reply(request, error) : json_pack("{s:b}", "ok", 1);
	if (!message || (!error && reply && json_object_update(message, reply)))
		send_out_of_memory(connection);
	else
		control_connection_send(connection, message);
	json_decref(message);
out:
	json_decref(reply);
	free_request(request);
}

void control_watch(struct control_connection *connection)
{
	if (connection)
		connection->watching = true;
}

void control_broadcast(struct control *control, json_t *event)
{
	struct control_connection *connection;

	for (connection = control->connections; connection; connection = connection->next) {
		if (!connection->watching || connection->broken)
			continue;
		if (connection->out.length < OUT_MAX) {
			control_connection_send(connection, event);
		} else {
			log_warning("control: a client does not read its events; disconnected");
			mark_broken(connection);
		}
	}
}

bool control_flushed(const struct control *control)
{
	const struct control_connection *connection;

	for (connection = control->connections; connection; connection = connection->next) {
		if (connection->out.length && !connection->broken)
			return false;
	}
	return true;
}
