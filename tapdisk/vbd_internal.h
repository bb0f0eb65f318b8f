/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_internal.h - what the files of a disk, vbd*.c, ask of each other.
 */
#ifndef TAPDISK_VBD_INTERNAL_H
#define TAPDISK_VBD_INTERNAL_H

#include "vbd.h"

/* ---- vbd.c ---- */

/* TD_* bits for tap-ctl list. */
unsigned vbd_state_bits(const struct vbd *vbd);
/* Like vbd_resize(), in any state with an image open. */
int vbd_refresh_size(struct vbd *vbd, struct error_text *text);
/* How many of its clients keep it open. */
unsigned vbd_count_frontends(const struct vbd *vbd);
/* RUNNING -> DRAINING, and back unless somebody waits for its end. */
void vbd_begin_drain(struct vbd *vbd);
void vbd_undrain(struct vbd *vbd);
/* To the image, unless the disk is stopped by an error. */
void vbd_forward(struct vbd *vbd, struct block_request *req);

/* ---- vbd_snapshot.c ---- */

/* End a freeze, if there is one. @why: a string that lasts. */
void vbd_thaw(struct vbd *vbd, const char *why);

/* ---- vbd_overlay.c ---- */

/* Is that command about a raw disk and the store to be? It ends in done(). */
bool vbd_overlay_takes(const struct vbd *vbd, const struct vbd_snapshot *snapshot);
void vbd_overlay_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot);
void vbd_overlay_release(struct vbd *vbd, const void *holder);
/* Somebody else has ended the pause: that freeze is over. */
void vbd_overlay_forget(struct vbd *vbd);
/* End a pause that nobody asked for; tries again where that may help. A failure is logged, and the disk stays paused. */
void vbd_resume(struct vbd *vbd);

/* ---- vbd_commit.c ---- */

json_t *vbd_commit_info(const struct vbd *vbd);
/* Before each sleep; true: look again. */
bool vbd_commit_run(struct vbd *vbd);
/* Drained: true when there is more to do for it first. */
bool vbd_commit_end(struct vbd *vbd);
/* Draining: true when that is of no use, and the disk runs again. */
bool vbd_commit_retreat(struct vbd *vbd);
/* The store is closed, and all is in the image; after that nobody needs it. */
void vbd_commit_finish(struct vbd *vbd);
void vbd_commit_remove_store(struct vbd *vbd, const char *store);
void vbd_commit_interrupted(struct vbd *vbd);
void vbd_commit_forget(struct vbd *vbd);

/* ---- vbd_throttle.c ---- */

/* True: @req waits, and goes to the backend when its time has come. */
bool vbd_throttle_holds(struct vbd *vbd, struct block_request *req);
/* All that wait go now. */
void vbd_throttle_release(struct vbd *vbd);

/* ---- vbd_error.c ---- */

/* takes: backend->failed. holds: the disk is stopped, and @req waits. */
bool vbd_error_takes(struct block_request *req, int error);
bool vbd_error_holds(struct vbd *vbd, struct block_request *req);
/* It runs (again): what waits is tried. Returns how many. */
unsigned vbd_error_go_on(struct vbd *vbd);
/* There may be room now. */
void vbd_error_try_room(struct vbd *vbd);
/* The disk is being closed: what waits ends with its error. */
void vbd_error_end(struct vbd *vbd);

/* ---- vbd_unresponsive.c, vbd_space.c: before each sleep; when the image is closed ---- */

void vbd_unresponsive_watch(struct vbd *vbd);
void vbd_unresponsive_forget(struct vbd *vbd);
extern unsigned vbd_unresponsive_ms;		/* so long without an answer is told; tests set it */

void vbd_watch_space(struct vbd *vbd);
void vbd_forget_space(struct vbd *vbd);

#endif
