/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * takeover.h - what a tapdisk leaves behind for its successor, but for the
 * in-flight tables (inflight.h): the lock by which others know that it has
 * ended, and for each disk the record of how it was opened. docs/takeover.md
 * says how they belong together.
 */
#ifndef TAPDISK_TAKEOVER_H
#define TAPDISK_TAKEOVER_H

#include "engine.h"
#include "protocol.h"
#include "vbd.h"

/*
 * takeover_start() - make the lock, and have @engine keep it until its last
 * I/O has ended. Before anything else of this file, once in a process; without
 * it nothing is left behind. 0 or -errno with a text.
 */
int takeover_start(struct engine *engine, struct error_text *text);
/* The process ends as it should, and leaves nothing. */
void takeover_stop(void);
bool takeover_started(void);
/* This process in records and tables, and this boot of the machine. */
const char *takeover_name(void);
const char *takeover_boot(void);
/* -EBUSY: the process called @name lives, or has I/O at the disk. 0: it has ended. */
int takeover_ended(const char *name, struct error_text *text);

/* The path of @name in the disk's directory; false: too long. */
bool takeover_path(char *path, size_t size, int minor, const char *name);

/* Before the disk is opened: the directory, and the path of the journal in it, the caller's; NULL: there is to be none. */
char *takeover_disk_prepare(int minor);
/* It could not be opened: the directory goes if there is nothing in it. */
void takeover_disk_give_up(int minor);
/* How the disk is open now, whole or not at all. A failure is logged: the disk then cannot be taken over. */
void takeover_disk_save(const struct vbd *vbd);
/* Nothing of the disk's is left: it is closed, or about to be opened afresh. */
void takeover_disk_forget(int minor);

#endif
