/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls_session.c - one NBD client over TLS: the plain-text start of the NBD
 * handshake until the client asks for TLS, which is required; then copies its
 * bytes to the NBD server and back.
 *
 *   greeting, flags --> options: STARTTLS --> TLS handshake --> connect, pump --> end
 *                        |   any other: TLS is required
 *                        +-> ABORT, EXPORT_NAME, nonsense: end
 *
 * We connect to the NBD server only after the client has been authenticated.
 * For the server the client then starts its handshake, with the flags that it
 * sent to us; after STARTTLS a client starts over anyway.
 *
 * Invariants:
 *  1. Everything before the pump takes TLS_HANDSHAKE_S at most: SIGALRM ends
 *     the process.
 *  2. Each direction has one buffer, which is filled only when it is empty. So
 *     neither direction waits for the other.
 *  3. A client that reads nothing for tls_stall_ms while data waits is cut off.
 *     After the server has hung up it has that time to read all the rest.
 *  4. The pump sleeps while no data can be moved: a socket is polled only for
 *     the events that the pump waits for, and a hangup is handled once.
 */
#include "tls.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "descriptors.h"
#include "nbd_protocol.h"

#define TLS_HANDSHAKE_S	30
#define BUFFER_SIZE	65536

unsigned tls_stall_ms = 30000;

#define HANDSHAKE_FLAGS	(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)	/* ours, and a client's at most */
#define MAX_OPTIONS	64
#define MAX_OPTION_DATA	8192u

static bool read_all(int fd, void *data, size_t length)
{
	ssize_t got;

	for (; length; data = (char *)data + got, length -= got) {
		got = recv(fd, data, length, 0);
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got <= 0)
			return false;
	}
	return true;
}

static bool write_all(int fd, const void *data, size_t length)
{
	ssize_t sent;

	for (; length; data = (const char *)data + sent, length -= sent) {
		sent = send(fd, data, length, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			sent = 0;
		else if (sent <= 0)
			return false;
	}
	return true;
}

static bool write_reply(int fd, uint32_t option, uint32_t type)
{
	const struct nbd_option_reply reply = { htobe64(NBD_OPTION_REPLY_MAGIC), htobe32(option), htobe32(type), 0 };

	return write_all(fd, &reply, sizeof(reply));
}

static bool skip(int fd, uint32_t length)
{
	char data[MAX_OPTION_DATA];

	return length <= sizeof(data) && read_all(fd, data, length);
}

static const char gone[] = "the client disconnected, or sent invalid data, before TLS began";

/* Handle one option of the client; *@begin: start TLS. NULL, or the error. */
static const char *plain_option(int fd, bool *begin)
{
	struct nbd_option header;
	uint32_t option, length;

	if (!read_all(fd, &header, sizeof(header)) || be64toh(header.magic) != NBD_OPTION_MAGIC)
		return gone;
	option = be32toh(header.option);
	length = be32toh(header.length);
	if (!skip(fd, length))
		return gone;
	*begin = option == NBD_OPT_STARTTLS && !length;
	if (*begin)
		return write_reply(fd, option, NBD_REP_ACK) ? NULL : gone;
	if (option == NBD_OPT_EXPORT_NAME)
		return "the client did not ask for TLS";
	if (!write_reply(fd, option, option == NBD_OPT_ABORT ? NBD_REP_ACK : option == NBD_OPT_STARTTLS ? NBD_REP_ERR_INVALID :
			 NBD_REP_ERR_TLS_REQD) ||
	    option == NBD_OPT_ABORT)
		return gone;
	return NULL;
}

static const char *plain_handshake(int fd, uint32_t *flags)
{
	const struct nbd_greeting greeting = { htobe64(NBD_INIT_MAGIC), htobe64(NBD_OPTION_MAGIC), htobe16(HANDSHAKE_FLAGS) };
	const char *problem = NULL;
	bool begin = false;

	if (!write_all(fd, &greeting, sizeof(greeting)) || !read_all(fd, flags, sizeof(*flags)))
		return gone;
	if (be32toh(*flags) & ~HANDSHAKE_FLAGS)
		return gone;
	for (unsigned i = 0; i < MAX_OPTIONS && !begin; i++) {
		problem = plain_option(fd, &begin);
		if (problem)
			return problem;
	}
	return begin ? NULL : "too many options before TLS";
}

static const char *tls_handshake(const struct tls_credentials *credentials, int fd, gnutls_session_t *session)
{
	int ret = gnutls_init(session, GNUTLS_SERVER);

	if (ret < 0)
		return gnutls_strerror(ret);
	ret = gnutls_priority_set(*session, credentials->priority);
	if (ret >= 0 && credentials->x509)
		ret = gnutls_credentials_set(*session, GNUTLS_CRD_CERTIFICATE, credentials->x509);
	else if (ret >= 0)
		ret = gnutls_credentials_set(*session, GNUTLS_CRD_PSK, credentials->psk);
	if (ret < 0)
		return gnutls_strerror(ret);
	if (credentials->verify) {
		gnutls_certificate_server_set_request(*session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(*session, NULL, 0);
	}
	gnutls_transport_set_int(*session, fd);
	gnutls_handshake_set_timeout(*session, GNUTLS_INDEFINITE_TIMEOUT);	/* SIGALRM */
	do
		ret = gnutls_handshake(*session);
	while (ret < 0 && !gnutls_error_is_fatal(ret));
	return ret < 0 ? gnutls_strerror(ret) : NULL;
}

static int receive_descriptor(int connector)
{
	union descriptors room;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd;

	descriptors_expect(&message, &room, 1);
	if (recvmsg(connector, &message, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	descriptors_take(&message, &fd, 1);
	return fd;
}

/* Connect to the server, and skip its greeting, because the client has got ours. */
static const char *server_connect(int connector, uint32_t flags, int *server)
{
	struct nbd_greeting greeting;

	if (write_all(connector, "", 1))
		*server = receive_descriptor(connector);
	if (*server < 0 || !read_all(*server, &greeting, sizeof(greeting)) || !write_all(*server, &flags, sizeof(flags)))
		return "the NBD server does not answer";
	return NULL;
}

struct buffer {
	char data[BUFFER_SIZE];
	size_t start, end;
};

struct pump {
	gnutls_session_t session;
	int client, server;
	struct buffer up, down;			/* to the server, to the client */
	bool client_done, server_done;		/* it sends no more */
	bool client_blocked, server_blocked;	/* its socket is full */
	bool server_gone;			/* it has hung up; its data may still be in our buffer */
	uint64_t deadline;			/* ms: the client must have read some data by then; 0: none waits */
	int untaken;				/* bytes in the client's socket when deadline was set */
};

static void pump_set_deadline(struct pump *pump)
{
	pump->deadline = (uint64_t)clock_ms() + tls_stall_ms;
	pump->untaken = 0;
	ioctl(pump->client, SIOCOUTQ, &pump->untaken);
}

static void pump_server_gone(struct pump *pump)
{
	if (!pump->server_gone)
		pump_set_deadline(pump);
	pump->server_gone = true;
}

/* A slow client gets more time for any progress: measured by the bytes that have left the socket. */
static bool pump_is_stalled(struct pump *pump)
{
	int before = pump->untaken;

	if (!pump->deadline || (uint64_t)clock_ms() < pump->deadline)
		return false;
	pump_set_deadline(pump);
	return pump->server_gone || pump->untaken >= before;
}

static bool is_empty(const struct buffer *buffer)
{
	return buffer->start == buffer->end;
}

/* Each of these moves data without waiting; false: the session is over. */
static bool pump_from_client(struct pump *pump)
{
	ssize_t got;

	if (!is_empty(&pump->up) || pump->client_done)
		return true;
	got = gnutls_record_recv(pump->session, pump->up.data, BUFFER_SIZE);
	if (got < 0)
		return !gnutls_error_is_fatal((int)got);
	pump->client_done = got == 0;
	pump->up.start = 0;
	pump->up.end = got;
	return true;
}

static bool pump_to_server(struct pump *pump)
{
	struct buffer *up = &pump->up;
	ssize_t sent;

	pump->server_blocked = false;
	while (!is_empty(up)) {
		sent = send(pump->server, up->data + up->start, up->end - up->start, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN) {
			pump->server_blocked = true;
			return true;
		}
		if (sent < 0 && errno == EPIPE) {
			up->start = up->end;	/* the server has gone: drop it */
			pump_server_gone(pump);
		} else if (sent < 0 && errno != EINTR) {
			return false;
		}
		up->start += sent < 0 ? 0 : sent;
	}
	if (pump->client_done)
		shutdown(pump->server, SHUT_WR);
	return true;
}

static bool pump_from_server(struct pump *pump)
{
	ssize_t got;

	if (!is_empty(&pump->down) || pump->server_done)
		return true;
	got = recv(pump->server, pump->down.data, BUFFER_SIZE, MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	pump->server_done = got == 0;
	pump->down.start = 0;
	pump->down.end = got;
	return true;
}

/* GnuTLS requires that a blocked send is repeated with the same data, which stays at the start of the buffer. */
static bool pump_to_client(struct pump *pump)
{
	struct buffer *down = &pump->down;
	bool taken = !pump->deadline;
	ssize_t sent;

	pump->client_blocked = false;
	while (!is_empty(down)) {
		sent = gnutls_record_send(pump->session, down->data + down->start, down->end - down->start);
		if (sent == GNUTLS_E_AGAIN) {
			pump->client_blocked = true;
			if (taken && !pump->server_gone)
				pump_set_deadline(pump);
			return true;
		}
		if (sent < 0 && gnutls_error_is_fatal((int)sent))
			return false;
		down->start += sent < 0 ? 0 : sent;
		taken |= sent > 0;
	}
	if (!pump->server_gone)
		pump->deadline = 0;
	return !pump->server_done;
}

static int pump_timeout(const struct pump *pump)
{
	uint64_t now = (uint64_t)clock_ms();

	if (!pump->deadline)
		return -1;
	return pump->deadline > now ? (int)(pump->deadline - now) : 0;
}

static void pump_wait(struct pump *pump)
{
	bool wants_client = is_empty(&pump->up) && !pump->client_done;
	bool pending = wants_client && gnutls_record_check_pending(pump->session) > 0;
	struct pollfd fds[2] = {
		{ pump->client, (wants_client ? POLLIN : 0) | (pump->client_blocked ? POLLOUT : 0), 0 },
		{ pump->server, (is_empty(&pump->down) ? POLLIN : 0) | (pump->server_blocked ? POLLOUT : 0), 0 },
	};

	/* poll() would report the hangup of a socket without events again and again */
	if (!fds[0].events)
		fds[0].fd = -1;
	if (!fds[1].events && pump->server_gone)
		fds[1].fd = -1;
	poll(fds, 2, pending ? 0 : pump_timeout(pump));
	if (!fds[1].events && fds[1].revents)
		pump_server_gone(pump);
}

static void pump_run(struct pump *pump)
{
	fcntl(pump->client, F_SETFL, fcntl(pump->client, F_GETFL) | O_NONBLOCK);
	while (pump_from_client(pump) && pump_to_server(pump) && pump_from_server(pump) && pump_to_client(pump) &&
	       !pump_is_stalled(pump))
		pump_wait(pump);
	gnutls_bye(pump->session, GNUTLS_SHUT_WR);
}

const char *tls_session_run(const struct tls_credentials *credentials, int client, int connector)
{
	static struct pump pump;
	const char *problem;
	uint32_t flags;

	pump.client = client;
	pump.server = -1;
	alarm(TLS_HANDSHAKE_S);
	problem = plain_handshake(client, &flags);
	if (!problem)
		problem = tls_handshake(credentials, client, &pump.session);
	if (!problem)
		problem = server_connect(connector, flags, &pump.server);
	if (!problem) {
		alarm(0);
		pump_run(&pump);
	}
	if (pump.session)
		gnutls_deinit(pump.session);
	if (pump.server >= 0)
		close(pump.server);
	return problem;
}
