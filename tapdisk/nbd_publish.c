/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_publish.c - publications: additional NBD servers for the disk or one
 * snapshot, on a socket that the caller made, because tapdisk itself only makes
 * Unix sockets in its run directory.
 *
 * Invariants:
 *  1. A published snapshot stays open except during pauses, so that it cannot
 *     be deleted; its overlay, a file without a name, stays open throughout
 *     and is gone with its last descriptor.
 *  2. An ending publication is in the list until its connections have nothing
 *     in flight; it is freed before a sleep of the loop, like connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "nbd_connection.h"
#include "path.h"

/* accept() must not block, so make the socket non-blocking. */
static int check_listener(int fd, struct error_text *text)
{
	socklen_t length = sizeof(int);
	int listens = 0, flags = fcntl(fd, F_GETFL);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) || !listens)
		return error_set(text, -EINVAL, "the descriptor is not a listening socket");
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return error_set(text, -errno, "the listening socket cannot be used: %s", strerror(errno));
	return 0;
}

static int copy_strings(struct nbd_server *server, const struct nbd_publication *publication)
{
	server->address = strdup(publication->address);
	if (publication->snapshot)
		server->snapshot = strdup(publication->snapshot);
	if (publication->path)
		server->path = strdup(publication->path);
	return server->address && !publication->snapshot == !server->snapshot && !publication->path == !server->path ?
		0 : -ENOMEM;
}

static void append(struct vbd *vbd, struct nbd_server *server)
{
	struct nbd_server *last = vbd->nbd;

	while (last->next)
		last = last->next;
	server->id = ++vbd->nbd->last_id;
	last->next = server;
}

static int start(struct nbd_server *server, const struct nbd_publication *publication, struct error_text *text)
{
	int error = 0;

	if (publication->snapshot) {
		error = nbd_export_acquire(server, "", &server->pinned, text);
		if (!error)
			error = nbd_server_join(server);
	}
	if (!error)
		error = check_listener(publication->listener, text);
	return error ? error : nbd_server_listen_on(server, publication->listener, publication->address, text);
}

/* @server has no connections. */
static void undo(struct nbd_server *server)
{
	if (server->is_client)
		vbd_remove_client(&server->client);
	if (server->pinned)
		nbd_export_release(server->pinned);
	nbd_server_free(server);
}

int nbd_publish(struct vbd *vbd, const struct nbd_publication *publication, unsigned *id, struct error_text *text)
{
	struct nbd_server *server;
	int error;

	if (vbd->state != VBD_RUNNING)
		return error_set(text, vbd->state == VBD_CLOSED ? -EINVAL : -EBUSY, "minor %d is not running", vbd->minor);
	if (publication->overlay >= 0 && !publication->snapshot)
		return error_set(text, -EINVAL, "an overlay needs a snapshot: name one");
	server = nbd_server_create(vbd);
	if (!server)
		return -ENOMEM;
	server->read_only = publication->read_only;
	server->overlay = publication->overlay;
	server->holder = publication->holder;
	error = copy_strings(server, publication);
	if (!error)
		error = start(server, publication, text);
	if (error) {
		server->overlay = -1;	/* still the caller's */
		undo(server);
		return error;
	}
	append(vbd, server);
	*id = server->id;
	log_info("minor %d: export %u on %s: %s%s", vbd->minor, server->id, server->address,
		 server->snapshot ? server->snapshot : "the disk", server->overlay >= 0 ? ", with an overlay" : "");
	return 0;
}

static void end(struct nbd_server *server)
{
	server->ending = true;
	server->dirty = true;
	loop_remove(server->listener);
	loop_remove(server->accept_retry);
	server->listener = server->accept_retry = NULL;
	close(server->fd);
	server->fd = -1;
	if (server->path)
		path_remove(server->path);
	free(server->path);
	server->path = NULL;
	for (struct nbd_connection *connection = server->connections; connection; connection = connection->next)
		nbd_connection_close(connection);
}

int nbd_unpublish(struct vbd *vbd, unsigned id, struct error_text *text)
{
	struct nbd_server *server = vbd->nbd;

	while (server && (server->id != id || server->ending))
		server = server->next;
	if (!server || !id)
		return error_set(text, -ENOENT, "minor %d has no export %u", vbd->minor, id);
	log_info("minor %d: export %u on %s ends", vbd->minor, id, server->address);
	end(server);
	return 0;
}

void nbd_unpublish_held(struct vbd *vbd, const void *holder)
{
	for (struct nbd_server *server = vbd->nbd; server; server = server->next) {
		if (server->id && !server->ending && server->holder == holder)
			end(server);
	}
}

void nbd_publication_ended(struct nbd_server *server)
{
	struct vbd *vbd = server->client.vbd;
	struct nbd_server *before = vbd->nbd;

	while (before->next != server)
		before = before->next;
	before->next = server->next;
	stats_add(&vbd->nbd->stats, &server->stats);
	undo(server);
}

json_t *nbd_publications(const struct vbd *vbd)
{
	json_t *list = json_array(), *one;

	for (const struct nbd_server *server = vbd->nbd; server; server = server->next) {
		if (!server->id || server->ending)
			continue;
		one = json_pack("{s:i, s:s, s:b, s:b}", "id", (int)server->id, "address", server->address,
				"read_only", server->pinned ? nbd_export_read_only(server->pinned) : server->read_only,
				"overlay", server->overlay >= 0);
		if (server->snapshot)
			json_object_set_new(one, "snapshot", json_string(server->snapshot));
		json_array_append_new(list, one);
	}
	return list;
}
