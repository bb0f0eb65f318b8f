/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * takeover.h - the files that a tapdisk leaves for its successor, besides the
 * in-flight tables (inflight.h): the lock that shows whether it has ended, and
 * a record per disk of how it was opened. docs/takeover.md describes the whole.
 */
#ifndef TAPDISK_TAKEOVER_H
#define TAPDISK_TAKEOVER_H

#include "engine.h"
#include "protocol.h"
#include "vbd.h"

/*
 * takeover_start() - make the lock, and have @engine keep it until its last
 * I/O has ended. Call it once, before the other functions; without it nothing
 * is left for a successor. 0 or -errno with a text.
 */
int takeover_start(struct engine *engine, struct error_text *text);
/* Orderly end of the process: remove the lock. */
void takeover_stop(void);
bool takeover_started(void);
/* The name of this process in records and tables, and the id of this boot. */
const char *takeover_name(void);
const char *takeover_boot(void);
/* 0: the process called @name has ended. -EBUSY: it is alive, or has I/O in flight. */
int takeover_ended(const char *name, struct error_text *text);

/* The path of @name in the disk's directory; false: too long. */
bool takeover_path(char *path, size_t size, int minor, const char *name);

/* Before an open: make the disk's directory. Returns the path of its journal, which the caller frees; NULL: no journal. */
char *takeover_disk_prepare(int minor);
/* A journal is there, which an open may have to replay. */
bool takeover_disk_has_journal(int minor);
/* The open has failed: remove the directory if it is empty. */
void takeover_disk_give_up(int minor);
/* Record how the disk is open now, atomically. A failure is logged: the disk then cannot be taken over. */
void takeover_disk_save(const struct vbd *vbd);
/* Remove all files of the disk: it is closed, or about to be opened without a take-over. */
void takeover_disk_forget(int minor);

#endif
