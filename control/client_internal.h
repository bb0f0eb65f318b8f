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
 * client_daemon.c: 0: @line has the line that the program wrote when it was ready ("": it ended without one). -errno with
 * @text: it reported an error, or could not be started. @listener: a descriptor to pass to it, or -1.
 */
int client_start_daemon(char *const arguments[], int listener, char *line, size_t size, struct error_text *text);

/* client_process.c: @path: program @name in the directory of the running program. False: there is none. */
bool client_program_beside(const char *name, char path[PATH_MAX]);

/* For tests: called after each step of a group's operation, with the step's name. */
extern void (*client_group_step)(const char *step);
void client_step(const char *name);

/* client_decision.c. @path, of PATH_MAX bytes, gets a unique name in a directory that exists; @owner may be NULL. */
int client_decision_name(char *path, const char *owner, struct error_text *text);
/* Decide for commit. 0: decided. -EINPROGRESS: the outcome is unknown, each disk will look it up. Other errors: it is not. */
int client_decision_make(const char *path, struct error_text *text);

struct many;

/* Tell all disks that what they prepared as @name is committed; returns when each was told or has looked it up. */
int client_decision_tell(struct many *many, const char *name, int timeout_ms, struct error_text *text);

/* client_revert.c: revert all disks to snapshot @name, which they have, or none. */
int client_revert_together(struct many *many, const char *name, const char *owner, int timeout_ms, struct error_text *text);
/* Revert the only disk of @many. */
int client_revert_alone(struct many *many, const char *name, int timeout_ms, struct error_text *text);

/* client_overlay.c: create the stores of the disks that name one; on failure none is left. */
int client_overlay_make(struct many *many, int timeout_ms, struct error_text *text);
/* The snapshot failed: remove unused stores; disks that have moved to one start to move back to their image. */
void client_overlay_undo(struct many *many, int timeout_ms);
/* A killed command was to move @image, which has not moved, to the store @given, a path or a directory: remove what it made. */
void client_overlay_give_up(const char *given, const char *image);

/*
 * client_store.c: the depth of @target's store: how many stores lie beneath it, as far as can be read; it may be in use. It
 * is more than the depth of any of those. UINT_MAX: the storage does not answer.
 */
unsigned client_store_depth(const char *target);

/* client_takeover.c: remove the record by which @minor's disk could be taken over. The caller has locked the marker. */
void client_takeover_forget(int minor);
/*
 * Call before opening @target for writing: if a tapdisk died that served it to a guest, this waits for its successor, whose
 * takeover would fail while the image is open. -EBUSY: no successor came.
 */
int client_takeover_wait(const char *target, struct error_text *text);
/* The number of frontends that the last tapdisk of @minor served; calls @each, which may be NULL, for each. */
int client_takeover_each_frontend(int minor, void (*each)(unsigned domid, unsigned devid, void *arg), void *arg);
/* @pid has ended: remove its lock files, unless one of its disks still waits for a successor, which needs them. */
void client_takeover_clean(int pid);

/* Whole decimal number of @digits in 0..@max, nothing before or after it; -1 when it is not one. */
int client_parse_number(const char *digits, int max);

/* Names in @directory that are @prefix and a number, sorted by number; *@numbers is the caller's to free(). */
int client_list_numbers(const char *directory, const char *prefix, int max, int **numbers, size_t *count);

#endif
