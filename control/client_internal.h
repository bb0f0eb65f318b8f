/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_internal.h - what the files of the client library share.
 */
#ifndef TAPSNAP_CLIENT_INTERNAL_H
#define TAPSNAP_CLIENT_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tapctl.h"

/* Make the run directory and the directory of the markers. */
int client_make_run_dir(struct error_text *text);

/*
 * client_daemon.c: 0, with what it says when it is ready in @line ("": it ended before); or it said, or could not say, why
 * it is not. @listener: a descriptor for it, or -1.
 */
int client_start_daemon(char *const arguments[], int listener, char *line, size_t size, struct error_text *text);

/* client_process.c: @path: the program @name in the directory of the one that runs. False: there is none. */
bool client_program_beside(const char *name, char path[PATH_MAX]);

/* For tests: called between the steps of what a group does, with the name of the one that is done. */
extern void (*client_group_step)(const char *step);
void client_step(const char *name);

/* client_decision.c. @path, of PATH_MAX bytes: a name that no other group has, in a directory that is there; @owner or NULL. */
int client_decision_name(char *path, const char *owner, struct error_text *text);
/* Decide for it. 0: it counts. A failure: it does not, or -EINPROGRESS: nobody can tell now, and each disk will find out. */
int client_decision_make(const char *path, struct error_text *text);

struct many;

/* What all have prepared as @name counts: each has heard of it, or has found out. */
int client_decision_tell(struct many *many, const char *name, int timeout_ms, struct error_text *text);

/* client_revert.c: all of them go back to snapshot @name, which they have, or none does. */
int client_revert_together(struct many *many, const char *name, const char *owner, int timeout_ms, struct error_text *text);
/* The one disk does. */
int client_revert_alone(struct many *many, const char *name, int timeout_ms, struct error_text *text);

/* client_overlay.c: the stores of the disks that name one; on failure none is left. */
int client_overlay_make(struct many *many, int timeout_ms, struct error_text *text);
/* Nothing came of it: stores that are not in use are removed, disks that are in one begin to go back to their image. */
void client_overlay_undo(struct many *many, int timeout_ms);

/*
 * client_store.c: how many stores the one that @target is in stands on, as far as can be seen; it may be in use. It is more
 * than that of any of them. UINT_MAX: what it is on does not answer.
 */
unsigned client_store_depth(const char *target);

/* client_takeover.c: nobody is to take over what is left of @minor's disk, whose marker is locked by us. */
void client_takeover_forget(int minor);
/* @pid has ended: its locks go, unless a disk of its still waits for a successor, who will want to know. */
void client_takeover_clean(int pid);

/* Whole decimal number of @digits in 0..@max, nothing before or after it; -1 when it is not one. */
int client_parse_number(const char *digits, int max);

/* Names in @directory that are @prefix and a number, sorted by number; *@numbers is the caller's to free(). */
int client_list_numbers(const char *directory, const char *prefix, int max, int **numbers, size_t *count);

#endif
