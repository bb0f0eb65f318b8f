/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.h - the control socket: connections, lines, descriptors
 * (docs/protocol.md). What the commands mean is commands.h's.
 *
 * Each connection has at most one command outstanding; what the client sent
 * after it waits in the socket until the reply is out.
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
	struct control_connection *connection;	/* NULL: the client has gone, the command goes on */
	void *arg;				/* of control_start() */
	json_t *message;
	int fds[PROTOCOL_MAX_FDS];		/* closed after the reply; whoever takes them sets nr_fds to 0 */
	unsigned nr_fds;
	struct error_text error;		/* for the reply */
	unsigned tries;				/* how often the command was begun again */
	bool probed;				/* what it opens has answered (command_probe.c) */
};

struct control_ops {
	/* Carry out @request; ends in control_reply(), at once or later. */
	void (*command)(void *arg, struct control_request *request);
	/* The client has gone. @connection is only a name for it. */
	void (*ended)(void *arg, const struct control_connection *connection);
};

/* Listen on the run dir's ctl<pid>. 0 or -errno with a text. */
int control_start(struct control **control, struct loop *loop, const struct control_ops *ops, void *arg,
		  struct error_text *text);
/* Remove the socket and end all connections; ops are not called any more. Commands outstanding are dropped. */
void control_stop(struct control *control);

/* @error: 0 or -errno (its text in @request->error, else strerror()). Takes over @reply (NULL: nothing but "ok")
 * and frees @request. */
void control_reply(struct control_request *request, int error, json_t *reply);

/* Events go to connections that watch; one that does not read them is ended. @event is borrowed. */
void control_watch(struct control_connection *connection);
/* One to that connection. */
void control_connection_send(struct control_connection *connection, json_t *event);
void control_broadcast(struct control *control, json_t *event);

/* Every reply has been written. */
bool control_flushed(const struct control *control);

#endif
