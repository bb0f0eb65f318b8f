/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd.c - an NBD server of a disk: its socket, its connections, and its role
 * as a client of the disk. Each disk has one, followed in a list by its
 * publications (nbd_publish.c).
 *
 * The whole server is one client of the vbd, from its first connection to its
 * last: stop() and start() apply to all connections, and a disk without
 * connections is not in use.
 *
 * The socket's mode, 0600, controls access to the disk's own server: a Unix
 * socket that only root can open needs no authentication.
 *
 * Invariants:
 *  1. Connections are freed only here, and only when none of their requests is
 *     in flight; callbacks only close them.
 *  2. A closed connection counts until its I/O has ended, so a client cannot
 *     pile up buffers by reconnecting.
 *  3. The socket is never reachable with a mode other than 0600: it does not
 *     listen before its mode is set.
 */
#include "nbd.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cow_base.h"
#include "log.h"
#include "nbd_connection.h"
#include "path.h"

#define ACCEPT_RETRY_MS 1000u

static struct nbd_server *server_of(struct vbd_client *client)
{
	return (struct nbd_server *)((char *)client - offsetof(struct nbd_server, client));
}

/* The UUID of the disk's store; zeroes: it is in no store, or paused. */
static void server_find_store(const struct nbd_server *server, uint8_t store[16])
{
	const struct backend *backend = server->client.vbd->backend;

	memset(store, 0, 16);
	if (backend)
		cow_backend_uuid(backend, store);
}

static void server_client_stop(struct vbd_client *client)
{
	struct nbd_server *server = server_of(client);

	server->stopped = true;
	server_find_store(server, server->store);
}

static void server_client_start(struct vbd_client *client)
{
	struct nbd_server *server = server_of(client);
	uint8_t store[16];

	server->stopped = false;
	server_find_store(server, store);
	nbd_exports_reopen(server);
	for (struct nbd_connection *connection = server->connections; connection; connection = connection->next)
		nbd_connection_go_on(connection, memcmp(store, server->store, sizeof(store)) != 0);
}

static bool server_client_quiet(struct vbd_client *client)
{
	return nbd_exports_closed(server_of(client));
}

static bool server_client_wants(const struct vbd_client *client, const struct block_request *req)
{
	return nbd_request_is_wanted(req);
}

/* NBD has no message for a resize: only new connections see the new size. */
static const struct vbd_client_ops server_client_ops = {
	.stop = server_client_stop,
	.start = server_client_start,
	.quiet = server_client_quiet,
	.wanted = server_client_wants,
};

int nbd_server_join(struct nbd_server *server)
{
	int error;

	if (server->is_client)
		return 0;
	server->stopped = false;
	error = vbd_add_client(server->client.vbd, &server->client);
	server->is_client = !error;
	return error;
}

/* After the last connection. A published snapshot stays open, so its server stays a client. */
static void server_leave_vbd(struct nbd_server *server)
{
	if (server->is_client && !server->pinned) {
		vbd_remove_client(&server->client);
		server->is_client = false;
	}
}

/* Frees finished connections; returns how many are left. */
static unsigned server_service_connections(struct nbd_server *server)
{
	struct nbd_connection **link = &server->connections;
	unsigned left = 0;

	while (*link) {
		struct nbd_connection *connection = *link;

		nbd_connection_service(connection);
		if (nbd_connection_is_over(connection)) {
			*link = connection->next;
			nbd_connection_free(connection);
			continue;
		}
		if (nbd_connection_can_send(connection))
			server->dirty = true;	/* held input was consumed, and part of it is answered already */
		link = &connection->next;
		left++;
	}
	return left;
}

static void server_watch_listener(struct nbd_server *server, bool accept)
{
	int error;

	if (accept == server->accepting)
		return;
	error = loop_modify_fd(server->listener, accept ? EPOLLIN : 0);
	if (error < 0)
		log_error("minor %d: nbd: cannot watch %s: %s", server->client.vbd->minor,
			  server->path ? server->path : server->address, strerror(-error));
	else
		server->accepting = accept;
}

/* Before each sleep: send replies, free finished connections. */
static bool server_prepare(void *arg)
{
	struct nbd_server *server = arg;
	bool more = nbd_exports_end_waiting(server);
	unsigned left;

	if (!server->dirty)
		return more;
	server->dirty = false;
	left = server_service_connections(server);
	if (server->ending) {
		if (!left)
			nbd_publication_ended(server);
		return true;
	}
	if (!left)
		server_leave_vbd(server);
	server_watch_listener(server, left < NBD_MAX_HELD && !server->accept_retry);
	/* consuming held input submits requests, so the engine's commit has to run again */
	return true;
}

static void server_accept_again(void *arg)
{
	struct nbd_server *server = arg;

	server->accept_retry = NULL;
	server->dirty = true;
}

/* No descriptors or no memory: the listener stays readable, so ignore it for a while instead of spinning. */
static void server_accept_failed(struct nbd_server *server, int error)
{
	log_guest(LOG_LEVEL_WARNING, "minor %d: nbd: accept: %s", server->client.vbd->minor, strerror(error));
	if (loop_add_timer(server->client.vbd->loop, &server->accept_retry, ACCEPT_RETRY_MS,
			   server_accept_again, server) == 0)
		server_watch_listener(server, false);
}

static unsigned server_count_connections(const struct nbd_server *server)
{
	unsigned count = 0;

	for (const struct nbd_connection *connection = server->connections; connection; connection = connection->next)
		count += connection->phase != NBD_CLOSED;
	return count;
}

/*
 * TCP: send replies without delay and detect a dead peer; TCP sizes its buffers itself. Unix socket: room for more than
 * a few replies, as far as wmem_max allows.
 */
static void server_tune_socket(int fd)
{
	const int on = 1, room = NBD_SOCKET_ROOM;
	int domain = AF_UNIX;
	socklen_t length = sizeof(domain);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
	if (domain == AF_UNIX) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	} else {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
}

static void server_accept(void *arg, uint32_t events)
{
	struct nbd_server *server = arg;
	int fd, error;

	fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			server_accept_failed(server, errno);
		return;
	}
	server_tune_socket(fd);
	if (server_count_connections(server) >= NBD_MAX_CONNECTIONS) {
		log_guest(LOG_LEVEL_WARNING, "minor %d: nbd: more than %u clients, one was refused",
			  server->client.vbd->minor, NBD_MAX_CONNECTIONS);
		close(fd);
		return;
	}
	server->dirty = true;
	error = nbd_server_join(server);
	if (error < 0)
		close(fd);
	else
		error = nbd_connection_create(server, fd);
	if (error < 0)
		log_guest(LOG_LEVEL_WARNING, "minor %d: nbd: a client was refused: %s",
			  server->client.vbd->minor, strerror(-error));
}

/* On failure the socket is removed. */
static int server_listen(const char *path, int *result, struct error_text *text)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path);
	struct stat status;
	bool bound = false;
	int error, fd;

	if (strlen(path) >= max)
		return error_set(text, -ENAMETOOLONG, "%s: longer than a socket's name can be (%zu bytes); "
				 "use a shorter run directory", path, max - 1);

	/* the name has our pid: an existing socket belongs to a dead process */
	if (path_lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
		path_remove(path);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || path_bind(fd, path) < 0)
		goto fail;
	bound = true;
	if (listen(fd, NBD_MAX_CONNECTIONS) < 0)
		goto fail;
	*result = fd;
	return 0;
fail:
	error = error_set(text, -errno, "%s: cannot make the NBD socket: %s", path, strerror(errno));
	if (bound)
		path_remove(path);
	if (fd >= 0)
		close(fd);
	return error;
}

int nbd_server_listen_on(struct nbd_server *server, int fd, const char *name, struct error_text *text)
{
	struct loop *loop = server->client.vbd->loop;
	int error;

	server->fd = fd;
	server->accepting = true;
	error = loop_add_fd(loop, &server->listener, fd, EPOLLIN, server_accept, server);
	if (!error)
		error = loop_add_prepare(loop, &server->prepare, server_prepare, server);
	if (error < 0)
		server->fd = -1;
	return error < 0 ? error_set(text, error, "%s: cannot serve NBD: %s", name, strerror(-error)) : 0;
}

void nbd_server_free(struct nbd_server *server)
{
	loop_remove(server->prepare);
	loop_remove(server->accept_retry);
	loop_remove(server->listener);
	if (server->fd >= 0)
		close(server->fd);
	if (server->overlay >= 0)
		close(server->overlay);
	if (server->zeroes)
		munmap(server->zeroes, NBD_PIECE_SIZE);
	free(server->path);
	free(server->address);
	free(server->snapshot);
	free(server);
}

struct nbd_server *nbd_server_create(struct vbd *vbd)
{
	struct nbd_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->fd = server->overlay = -1;
	server->client.ops = &server_client_ops;
	server->client.vbd = vbd;
	/* never written, so it maps the kernel's zero page only */
	server->zeroes = mmap(NULL, NBD_PIECE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (server->zeroes != MAP_FAILED)
		return server;
	server->zeroes = NULL;
	nbd_server_free(server);
	return NULL;
}

int nbd_server_start(struct nbd_server **result, struct vbd *vbd, const char *path, struct error_text *text)
{
	struct nbd_server *server = nbd_server_create(vbd);
	int error, fd = -1;

	if (server)
		server->path = strdup(path);
	if (!server || !server->path) {
		error = error_set(text, -ENOMEM, "%s: out of memory", path);
		goto out;
	}
	error = server_listen(path, &fd, text);
	if (error < 0)
		goto out;
	error = nbd_server_listen_on(server, fd, path, text);
	if (error < 0) {
		close(fd);
		path_remove(path);
		goto out;
	}
	*result = server;
	return 0;
out:
	if (server)
		nbd_server_free(server);
	return error;
}

static void server_stop(struct nbd_server *server)
{
	struct nbd_connection *connection;

	if (server->is_client)
		vbd_remove_client(&server->client);
	server->is_client = false;
	if (server->path)
		path_remove(server->path);
	while ((connection = server->connections)) {
		server->connections = connection->next;
		server->stopped = true;
		nbd_connection_service(connection);	/* sends replies that are ready, if the socket takes them */
		nbd_connection_close(connection);
		assert(connection->in_flight == 0);
		nbd_connection_free(connection);
	}
	if (server->pinned)
		nbd_export_release(server->pinned);
	nbd_server_free(server);
}

void nbd_server_stop(struct nbd_server *server)
{
	struct nbd_server *next;

	for (; server; server = next) {
		next = server->next;
		server_stop(server);
	}
}

unsigned nbd_server_connections(const struct nbd_server *server)
{
	unsigned count = 0;

	for (; server; server = server->next)
		count += server_count_connections(server);
	return count;
}

void nbd_server_stats(const struct nbd_server *server, struct queue_stats *sum)
{
	for (; server; server = server->next)
		stats_add(sum, &server->stats);
}
