/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client.c - a connection to one tapdisk: lines of JSON out, lines of JSON in.
 *
 * Invariants:
 *  - The socket is never waited for inside send() or recv() (MSG_DONTWAIT);
 *    the synchronous calls wait in poll() against one deadline.
 *  - out.data[0..out.length) has not been written yet, in.data[0..in.length)
 *    has not been handed out yet and in.data[0..scanned) holds no newline.
 *  - After any error but -EAGAIN the stream is out of step: close it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "client_internal.h"
#include "clock.h"
#include "descriptors.h"
#include "json_memory.h"
#include "path.h"

#define CONNECT_TIMEOUT_S 10	/* only a hanging tapdisk keeps its listen queue full */
#define READ_SIZE 16384

struct buffer {
	char *data;
	size_t length, size;
};

struct tapctl {
	int fd;
	int pid;
	struct buffer in, out;
	size_t scanned;
};

const char *tapctl_run_dir(void)
{
	return path_run_dir();
}

static int buffer_reserve(struct buffer *buffer, size_t room)
{
	size_t size = buffer->size ? buffer->size : READ_SIZE;
	char *data;

	if (buffer->size - buffer->length >= room)
		return 0;
	while (size - buffer->length < room)
		size *= 2;
	data = realloc(buffer->data, size);
	if (!data)
		return -ENOMEM;
	buffer->data = data;
	buffer->size = size;
	return 0;
}

static void buffer_consume(struct buffer *buffer, size_t bytes)
{
	buffer->length -= bytes;
	memmove(buffer->data, buffer->data + bytes, buffer->length);
}

static int connect_socket(const struct sockaddr_un *address)
{
	const struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT_S };
	int error, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		return fd;
	error = errno == EAGAIN ? -ETIMEDOUT : -errno;
	close(fd);
	return error;
}

static int explain_connect(int error, int pid, const char *path, struct error_text *text)
{
	if (error == -ENOENT)
		return error_set(text, error, "%s: there is no tapdisk with pid %d; see 'tap-ctl list'", path, pid);
	if (error == -ECONNREFUSED)
		return error_set(text, error,
				 "%s: stale socket, tapdisk %d has died; 'tap-ctl destroy' or 'tap-ctl list' removes it",
				 path, pid);
	return error_set(text, error, "%s: %s", path, strerror(-error));
}

int tapctl_connect(struct tapctl **ctl, int pid, struct error_text *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length, fd;

	*ctl = NULL;
	length = snprintf(address.sun_path, sizeof(address.sun_path), CONTROL_SOCKET_FORMAT, tapctl_run_dir(), pid);
	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return error_set(text, -ENAMETOOLONG, "%s: too long for the path of a socket", tapctl_run_dir());
	fd = connect_socket(&address);
	if (fd < 0)
		return explain_connect(fd, pid, address.sun_path, text);
	*ctl = calloc(1, sizeof(**ctl));
	if (!*ctl) {
		close(fd);
		return error_set(text, -ENOMEM, "out of memory");
	}
	(*ctl)->fd = fd;
	(*ctl)->pid = pid;
	return 0;
}

void tapctl_close(struct tapctl *ctl)
{
	if (!ctl)
		return;
	close(ctl->fd);
	free(ctl->in.data);
	free(ctl->out.data);
	free(ctl);
}

int tapctl_fd(const struct tapctl *ctl)
{
	return ctl->fd;
}

int tapctl_set_nonblocking(struct tapctl *ctl)
{
	int flags = fcntl(ctl->fd, F_GETFL);

	return flags < 0 || fcntl(ctl->fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

bool tapctl_wants_write(const struct tapctl *ctl)
{
	return ctl->out.length > 0;
}

/* Append @request to the output buffer; takes it over. */
static int queue_message(struct tapctl *ctl, json_t *request)
{
	char *line = NULL;
	size_t length;
	int error = -ENOMEM;

	if (!request || json_object_set_new(request, "version", json_integer(PROTOCOL_VERSION)))
		goto out;
	line = json_dumps(request, JSON_COMPACT);
	if (!line)
		goto out;
	length = strlen(line);
	error = -EMSGSIZE;
	if (length + 1 > PROTOCOL_MAX_LINE)
		goto out;
	error = buffer_reserve(&ctl->out, length + 1);
	if (error)
		goto out;
	memcpy(ctl->out.data + ctl->out.length, line, length);
	ctl->out.data[ctl->out.length + length] = '\n';
	ctl->out.length += length + 1;
out:
	json_memory_free(line);
	json_decref(request);
	return error;
}

/* Write as much as the socket takes, the descriptors with the first byte. 0: all is written, -EAGAIN: not yet. */
static int write_some(struct tapctl *ctl, const int *fds, unsigned nr_fds)
{
	union descriptors room;
	struct iovec iov = { ctl->out.data, ctl->out.length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (!ctl->out.length)
		return 0;
	if (nr_fds)
		descriptors_attach(&message, &room, fds, nr_fds);
	do
		sent = sendmsg(ctl->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	buffer_consume(&ctl->out, sent);
	return ctl->out.length ? -EAGAIN : 0;
}

int tapctl_flush(struct tapctl *ctl)
{
	size_t before;
	int error;

	/* after a short write try again until the socket refuses */
	do {
		before = ctl->out.length;
		error = write_some(ctl, NULL, 0);
	} while (error == -EAGAIN && ctl->out.length < before);
	return error == -EAGAIN ? 0 : error;
}

int tapctl_send(struct tapctl *ctl, json_t *request)
{
	int error = queue_message(ctl, request);

	return error ? error : tapctl_flush(ctl);
}

/* Take the first complete line from the input buffer: 0, -EAGAIN, -EPROTO. */
static int take_line(struct tapctl *ctl, json_t **message)
{
	char *newline;
	size_t length;

	if (!ctl->in.length)
		return -EAGAIN;
	newline = memchr(ctl->in.data + ctl->scanned, '\n', ctl->in.length - ctl->scanned);
	if (!newline) {
		ctl->scanned = ctl->in.length;
		return ctl->in.length < PROTOCOL_MAX_REPLY ? -EAGAIN : -EPROTO;
	}
	length = newline - ctl->in.data;
	*message = json_loadb(ctl->in.data, length, 0, NULL);
	buffer_consume(&ctl->in, length + 1);
	ctl->scanned = 0;
	if (json_is_object(*message))
		return 0;
	json_decref(*message);
	*message = NULL;
	return -EPROTO;
}

int tapctl_receive(struct tapctl *ctl, json_t **message)
{
	ssize_t got;
	int error;

	*message = NULL;
	for (;;) {
		error = take_line(ctl, message);
		if (error != -EAGAIN)
			return error;
		error = buffer_reserve(&ctl->in, READ_SIZE);
		if (error)
			return error;
		got = recv(ctl->fd, ctl->in.data + ctl->in.length, READ_SIZE, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : errno == ECONNRESET ? -EPIPE : -errno;
		if (!got)
			return -EPIPE;
		ctl->in.length += got;
	}
}

static int interrupt = -1;

void tapctl_set_interrupt(int fd)
{
	interrupt = fd;
}

int tapctl_interrupt(void)
{
	return interrupt;
}

/* Wait for @events until @deadline (clock_ms(); -1: none). */
static int wait_socket(const struct tapctl *ctl, short events, int64_t deadline)
{
	struct pollfd poll_fds[] = { { ctl->fd, events, 0 }, { interrupt, POLLIN, 0 } };
	int64_t left = -1;
	int ready;

	do {
		if (deadline >= 0) {
			left = deadline - clock_ms();
			if (left < 0)
				left = 0;
		}
		ready = poll(poll_fds, 2, left > INT_MAX ? INT_MAX : (int)left);
	} while (ready < 0 && errno == EINTR);
	if (ready > 0 && poll_fds[1].revents)
		return -EINTR;
	return ready < 0 ? -errno : ready ? 0 : -ETIMEDOUT;
}

static int write_all(struct tapctl *ctl, const int *fds, unsigned nr_fds, int64_t deadline)
{
	size_t before;
	int error;

	for (;;) {
		before = ctl->out.length;
		error = write_some(ctl, fds, nr_fds);
		if (error != -EAGAIN)
			return error;
		if (ctl->out.length < before)
			nr_fds = 0;
		error = wait_socket(ctl, POLLOUT, deadline);
		if (error)
			return error;
	}
}

/* Read the next reply; skips events, which only tapctl_receive() returns. */
static int read_reply(struct tapctl *ctl, json_t **reply, int64_t deadline)
{
	int error;

	for (;;) {
		error = tapctl_receive(ctl, reply);
		if (!error && json_object_get(*reply, "ok"))
			return 0;
		if (!error) {
			json_decref(*reply);
			*reply = NULL;
			continue;
		}
		if (error == -EAGAIN)
			error = wait_socket(ctl, POLLIN, deadline);
		if (error)
			return error;
	}
}

static int explain_call(const struct tapctl *ctl, int error, struct error_text *text)
{
	switch (error) {
	case -ETIMEDOUT:
		return error_set(text, error, "tapdisk %d: no answer in time; the command may still complete", ctl->pid);
	case -EINTR:
		return error_set(text, error, "tapdisk %d: interrupted; the command may still complete", ctl->pid);
	case -EPIPE:
		return error_set(text, error, "tapdisk %d: ended in the middle of the command; see the system log", ctl->pid);
	case -EPROTO:
		return error_set(text, error, "tapdisk %d: sent an invalid reply", ctl->pid);
	case -EMSGSIZE:
		return error_set(text, error, "tapdisk %d: command longer than %u bytes", ctl->pid, PROTOCOL_MAX_LINE);
	default:
		return error_set(text, error, "tapdisk %d: %s", ctl->pid, strerror(-error));
	}
}

int tapctl_reply_error(json_t *reply, struct error_text *text)
{
	const char *why = json_string_value(json_object_get(reply, "error"));
	json_int_t number = json_integer_value(json_object_get(reply, "errno"));

	if (json_is_true(json_object_get(reply, "ok")))
		return 0;
	if (number <= 0 || number > 4095)
		number = EPROTO;
	return error_set(text, -(int)number, "%s", why ? why : strerror((int)number));
}

int tapctl_call_fds(struct tapctl *ctl, json_t *request, const int *fds, unsigned nr_fds,
		    json_t **reply, int timeout_ms, struct error_text *text)
{
	int64_t deadline = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
	json_t *message = NULL;
	int error;

	if (reply)
		*reply = NULL;
	if (nr_fds > PROTOCOL_MAX_FDS) {
		json_decref(request);
		return error_set(text, -E2BIG, "more than %d descriptors", PROTOCOL_MAX_FDS);
	}
	error = queue_message(ctl, request);
	if (!error)
		error = write_all(ctl, fds, nr_fds, deadline);
	/* a tapdisk that closed the connection may have sent the reason first */
	if (!error || error == -EPIPE)
		error = read_reply(ctl, &message, deadline);
	if (error)
		return explain_call(ctl, error, text);
	error = tapctl_reply_error(message, text);
	if (!error && reply)
		*reply = json_incref(message);
	json_decref(message);
	return error;
}

int tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text)
{
	return tapctl_call_fds(ctl, request, NULL, 0, reply, timeout_ms, text);
}
