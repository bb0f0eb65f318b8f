/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_tapdisk.h - tapback's connection to a tapdisk: one per process,
 * shared by all devices it serves, never waited for.
 *
 * Requests are answered in order; each has exactly one answer, if need be
 * the error that ended the connection. All calls back come from the event
 * loop, never from inside tapdisk_request(), and must not join or leave:
 * they take note, and the device is looked at afterwards. An answer may make
 * another request.
 */
#ifndef TAPBACK_TAPDISK_H
#define TAPBACK_TAPDISK_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "tapctl.h"

struct tapdisk;

/* A device's place at a tapdisk. The device embeds it. */
struct tapdisk_user {
	struct tapdisk *tapdisk;		/* NULL: none, or the connection has ended */
	int minor;
	void (*event)(struct tapdisk_user *user, const char *name, json_t *event);
	/* The connection has ended. Comes after the answers to all requests; the user is off the list already. */
	void (*lost)(struct tapdisk_user *user);
	struct tapdisk_user *next;
};

/* @reply: borrowed, NULL when there is none. @error: 0 or -errno with @text. */
typedef void tapdisk_answer(void *arg, int error, json_t *reply, const struct error_text *text);

/*
 * Use the tapdisk @pid for @user, connecting if nobody has yet.
 * -ENOENT, -ECONNREFUSED: there is no such process (any more).
 */
int tapdisk_join(struct tapdisk_user *user, sd_event *event, int pid, struct error_text *text);
/* No request of the user's may be under way. The last one out closes the connection. */
void tapdisk_leave(struct tapdisk_user *user);

/*
 * Send @request (taken over, NULL is -ENOMEM). Returns 0, or -errno and then
 * there is no answer. A tapdisk that does not answer is waited for as long as
 * its connection stands: nothing would be gained by another one to it.
 */
int tapdisk_request(struct tapdisk_user *user, json_t *request, tapdisk_answer *answer, void *arg);

int tapdisk_pid(const struct tapdisk_user *user);

#endif
