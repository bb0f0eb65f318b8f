/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_many.h - one command to many disks at the same time, each over a
 * connection of its own.
 *
 * A disk whose connection failed or did not answer in time is cut off: the
 * connection is closed, and its tapdisk then ends what belongs to it.
 */
#ifndef TAPSNAP_CLIENT_MANY_H
#define TAPSNAP_CLIENT_MANY_H

#include "tapctl.h"

struct many_disk {
	struct tapctl_disk disk;
	struct tapctl *ctl;		/* NULL: cut off */
	bool skip;			/* left out of this command */
	bool pending;			/* a command has not been answered */
	int error;			/* of the last command, with its text */
	struct error_text text;
	json_t *reply;			/* of the last command; NULL if it failed */

	/* For the callers. */
	json_int_t token;
	bool frozen, prepared, done;
	bool told;			/* client_decision.c: it knows the decision */
	char *store;			/* client_overlay.c: the store made for it */
};

struct many {
	struct many_disk *disks;
	unsigned count;
	void (*sent)(void *arg);	/* of many_call(): between the last request and the first wait; NULL: none */
	void *sent_arg;
};

/* Refuses an empty list, and a disk named twice. Call close also after a failure. */
int many_open(struct many *many, const struct tapctl_disk *disks, unsigned count, struct error_text *text);
void many_close(struct many *many);
/* Try to reconnect the disks that were cut off, to ask for their state. */
void many_reconnect(struct many *many);

/*
 * Send the request that @request makes for each disk (it sets skip to leave
 * the disk out) and wait for all answers; with @stop only until the first
 * failure. Returns the first failure, with its disk named in @text. Disks
 * that are still pending are cut off.
 */
int many_call(struct many *many, json_t *(*request)(struct many_disk *disk, void *arg), void *arg, bool stop,
	      int timeout_ms, struct error_text *text);

#endif
