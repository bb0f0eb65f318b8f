/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener.h - the part of tapdisk that keeps root's powers over files: a
 * process that does for the one that serves guests what path.h names, and
 * nothing else. It has no guest's memory, no image's contents and no client.
 * Several requests are served at a time: a file system that does not answer
 * keeps one of its threads.
 */
#ifndef TAPDISK_OPENER_H
#define TAPDISK_OPENER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/* How it went with the opener's own giving up (confine.h). */
struct opener_report {
	int error;
	bool landlocked;
	struct error_text warning, text;
};

/*
 * Start it: a child of this process that ends with it, and path.h's calls from
 * now on go through it. Once, while there is one thread, and before anything
 * is open that it should not have. @filter: its system calls (sandbox.h).
 */
int opener_start(const struct sock_fprog *filter, struct opener_report *report);
/* 0: there is none. */
pid_t opener_pid(void);

/* What each of its threads does with requests of @socket, until that has no other end (for its test). */
void opener_serve(int socket);

#endif
