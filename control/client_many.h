/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_many.h - one command to many disks at the same time, each over a
 * connection of its own.
 *
 * A disk whose connection failed or did not answer in time is cut off: its
 * tapdisk then ends what belongs to that connection by itself.
 */
#ifndef TAPSNAP_CLIENT_MANY_H
#define TAPSNAP_CLIENT_MANY_H

#include "tapctl.h"

struct many_disk {
	struct tapctl_disk disk;
	struct tapctl *ctl;		/* NULL: cut off */
	bool skip;			/* left out of this command */
	bool pending;			/* a command has not been answered */
	int error;			/* of the last command; its text: */
	struct error_text text;
	json_t *reply;			/* of the last command, when it was without error */

	/* For the callers. */
	json_int_t token;
	bool frozen, prepared, done;
	bool told;			/* client_decision.c: of the decision */
	char *store;			/* client_overlay.c: was made for it */
};

struct many {
	struct many_disk *disks;
	unsigned count;
	void (*sent)(void *arg);	/* of many_call(): between the last request and the first wait; NULL: none */
	void *sent_arg;
};

/* Refuses none at all, and one that is named twice. close is right after a failure, too. */
int many_open(struct many *many, const struct tapctl_disk *disks, unsigned count, struct error_text *text);
void many_close(struct many *many);
/* Those that were cut off, where that is possible: for who has to know how they are. */
void many_reconnect(struct many *many);

/*
 * Send what @request makes (it sets skip to leave the disk out) and wait for all answers; with @stop not longer than for the first
 * failure. The first failure is returned, with its disk named in @text. What
 * is pending after that is cut off.
 */
int many_call(struct many *many, json_t *(*request)(struct many_disk *disk, void *arg), void *arg, bool stop,
	      int timeout_ms, struct error_text *text);

#endif
