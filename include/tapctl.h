/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapctl.h - the client library: one connection to one tapdisk, and the
 * housekeeping of minors and processes. tap-ctl, tapback, the frontend
 * library and storage managers sit on it. docs/protocol.md says what the
 * commands mean.
 *
 * Errors are -errno. A call with @text fills it with one line for a person
 * on failure. Threads: a connection belongs to one thread at a time.
 */
#ifndef TAPSNAP_TAPCTL_H
#define TAPSNAP_TAPCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

#include "driver.h"	/* struct error_text, error_set() */
#include "protocol.h"

struct tapctl;

/* RUN_DIR_DEFAULT or what the environment says. Never freed. */
const char *tapctl_run_dir(void);

/* Connect to the tapdisk @pid. -ENOENT / -ECONNREFUSED: no such process (any more). */
int tapctl_connect(struct tapctl **ctl, int pid, struct error_text *text);
void tapctl_close(struct tapctl *ctl);
int tapctl_fd(const struct tapctl *ctl);

/*
 * One command, one reply (events that come in between are dropped). Takes
 * over @request (a JSON object without "version"). On success *@reply (may be NULL if not wanted) is the caller's
 * to json_decref(). @timeout_ms: -1 waits for ever; -ETIMEDOUT closes nothing
 * but the connection is of no further use.
 */
int tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text);
int tapctl_call_fds(struct tapctl *ctl, json_t *request, const int *fds, unsigned nr_fds,
		    json_t **reply, int timeout_ms, struct error_text *text);

/* The asynchronous halves of tapctl_call(), for event loops. send: queues and writes what the socket takes
 * (-EAGAIN never: the rest goes out by later calls). receive: 0 and *@message (a reply or an event) when one is
 * complete, -EAGAIN when not yet, -EPIPE at the end. tapctl_set_nonblocking() first. */
int tapctl_set_nonblocking(struct tapctl *ctl);
int tapctl_send(struct tapctl *ctl, json_t *request);
int tapctl_receive(struct tapctl *ctl, json_t **message);
bool tapctl_wants_write(const struct tapctl *ctl);
int tapctl_flush(struct tapctl *ctl);
/* A reply as an error: 0, or its -errno with its text. */
int tapctl_reply_error(json_t *reply, struct error_text *text);

/* Minors: marker files. allocate makes the lowest free one (>= 0), or @wanted when that is not -1. */
int tapctl_minor_allocate(int wanted, struct error_text *text);
int tapctl_minor_free(int minor, struct error_text *text);
/* Call @each for every marker; @locked_by is the pid of the tapdisk that has it, or 0. */
int tapctl_minor_list(void (*each)(int minor, int locked_by, void *arg), void *arg);
/* Call @each for every tapdisk that answers; sockets of dead ones are removed. */
int tapctl_process_list(void (*each)(int pid, void *arg), void *arg);
/* Remove the sockets and statistics that a dead tapdisk left; -EBUSY while it lives. */
int tapctl_process_clean(int pid);

/* Start a tapdisk; returns its pid when it is listening, or -errno. */
int tapctl_spawn(struct error_text *text);

#endif
