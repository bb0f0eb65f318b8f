/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control_connection.h - one client of the control socket, for control.c.
 */
#ifndef TAPDISK_CONTROL_CONNECTION_H
#define TAPDISK_CONTROL_CONNECTION_H

#include "control.h"

struct control_buffer {
	char *data;
	size_t length, size;
};

struct control {
	struct loop *loop;
	const struct control_ops *ops;
	void *arg;
	int fd;
	char *path;
	struct loop_source *source, *retry;
	struct control_connection *connections;
	unsigned nr_connections;
};

struct control_connection {
	struct control *control;
	int fd;
	struct loop_source *source;
	struct control_buffer in;		/* the line being received */
	int fds[PROTOCOL_MAX_FDS];		/* descriptors that came with it */
	unsigned nr_fds;
	struct control_buffer out;		/* not yet written */
	struct control_request *request;	/* outstanding; no input is read meanwhile */
	bool watching;
	bool broken;				/* shut down; its callback will end it */
	struct control_connection *next;
};

/* Takes ownership of @fd, on failure too. */
int control_connection_create(struct control *control, int fd);
/* Only from the connection's own callback or control_stop(). */
void control_connection_end(struct control_connection *connection);
/* Append @message and a newline, write what the socket takes; marks the connection broken on failure. */
void control_connection_send(struct control_connection *connection, json_t *message);

#endif
