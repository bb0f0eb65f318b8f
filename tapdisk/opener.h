/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener.h - the part of tapdisk that keeps root's power over files: a process
 * that does the operations of path.h for the process that serves guests, and
 * nothing else. It has no guest memory, no image contents and no other client.
 * It serves several requests at a time: a file system that does not answer
 * blocks one of its threads.
 */
#ifndef TAPDISK_OPENER_H
#define TAPDISK_OPENER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/* The result of the opener's start and its confinement (confine.h). */
struct opener_report {
	int error;
	bool landlocked;
	struct error_text warning, text;
};

/*
 * Start the opener: a child that ends with this process; path.h's calls go
 * through it from now on. Call it once, while there is one thread, and before
 * opening anything that it should not have. @filter: its system calls
 * (sandbox.h). Returns 0 or -errno, as in @report.
 */
int opener_start(const struct sock_fprog *filter, struct opener_report *report);
/* 0: there is none. */
pid_t opener_pid(void);

/* The main function of its threads: serve requests of @socket until its other end is closed. Exported for its test. */
void opener_serve(int socket);

#endif
