/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.h - the control socket: connections, lines, descriptors
 * (docs/protocol.md). commands.h has the commands.
 *
 * Each connection has at most one outstanding command; further input stays in
 * the socket until the reply is sent.
 */
#ifndef TAPDISK_CONTROL_H
#define TAPDISK_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "error.h"
#include "loop.h"
#include "protocol.h"

struct control;
struct control_connection;

/* One command, from ops->command() to control_reply(). */
struct control_request {
	struct control_connection *connection;	/* NULL: the client has disconnected; the command continues */
	void *arg;				/* of control_start() */
	json_t *message;
	int fds[PROTOCOL_MAX_FDS];		/* closed after the reply; to take them, set nr_fds to 0 */
	unsigned nr_fds;
	struct error_text error;		/* for the reply */
	unsigned tries;				/* how often the command was retried */
	bool probed;				/* the image's storage has answered (command_probe.c) */
};

struct control_ops {
	/* Execute @request; ends in control_reply(), immediately or later. */
	void (*command)(void *arg, struct control_request *request);
	/* The client has disconnected. @connection must only be compared. */
	void (*ended)(void *arg, const struct control_connection *connection);
};

/* Listen on the run dir's ctl<pid>. 0 or -errno with a text. */
int control_start(struct control **control, struct loop *loop, const struct control_ops *ops, void *arg,
		  struct error_text *text);
/* Remove the socket and end all connections without calling ops. Outstanding commands get no reply. */
void control_stop(struct control *control);

/* @error: 0 or -errno (with @request->error as its text, else strerror()). Consumes @reply (NULL: only "ok") and
 * frees @request. */
void control_reply(struct control_request *request, int error, json_t *reply);

/* Events go to watching connections; one that does not read them is ended. @event is borrowed. */
void control_watch(struct control_connection *connection);
/* Send one event to this connection. */
void control_connection_send(struct control_connection *connection, json_t *event);
void control_broadcast(struct control *control, json_t *event);

/* True if all output has been written. */
bool control_flushed(const struct control *control);

#endif
