/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_tapdisk.h - tapback's connection to a tapdisk: one per tapdisk,
 * shared by all devices it serves, and non-blocking.
 *
 * Requests are answered in order; each has exactly one answer, which may be
 * the error that ended the connection. All callbacks come from the event
 * loop, never from inside tapdisk_request(), and must not join or leave:
 * they record the answer, and the device is looked at afterwards. An answer
 * may send another request.
 */
#ifndef TAPBACK_TAPDISK_H
#define TAPBACK_TAPDISK_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "tapctl.h"

struct tapdisk;

/* A device's use of a tapdisk. The device embeds it. */
struct tapdisk_user {
	struct tapdisk *tapdisk;		/* NULL: none, or the connection has ended */
	int minor;
	void (*event)(struct tapdisk_user *user, const char *name, json_t *event);
	/* The connection has ended. Called after the answers to all requests; the user is no longer on the list. */
	void (*lost)(struct tapdisk_user *user);
	struct tapdisk_user *next;
};

/* @reply: borrowed; NULL: none. @error: 0 or -errno with @text. */
typedef void tapdisk_answer(void *arg, int error, json_t *reply, const struct error_text *text);

/*
 * Use the tapdisk @pid for @user; the first user connects.
 * -ENOENT, -ECONNREFUSED: there is no such process (any more).
 */
int tapdisk_join(struct tapdisk_user *user, sd_event *event, int pid, struct error_text *text);
/* @user must have no request in flight. The last user closes the connection. */
void tapdisk_leave(struct tapdisk_user *user);

/*
 * Send @request (taken over, NULL is -ENOMEM). Returns 0, or -errno and then
 * there is no answer. There is no timeout while the connection stands: a
 * second connection to the same tapdisk would not help.
 */
int tapdisk_request(struct tapdisk_user *user, json_t *request, tapdisk_answer *answer, void *arg);

int tapdisk_pid(const struct tapdisk_user *user);

#endif
