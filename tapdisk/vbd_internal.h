/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_internal.h - functions that the files vbd*.c share.
 */
#ifndef TAPDISK_VBD_INTERNAL_H
#define TAPDISK_VBD_INTERNAL_H

#include "vbd.h"

/* ---- vbd.c ---- */

/* TD_* bits for tap-ctl list. */
unsigned vbd_state_bits(const struct vbd *vbd);
/* Like vbd_resize(), in any state with an image open. */
int vbd_refresh_size(struct vbd *vbd, struct error_text *text);
/* Number of clients that keep the disk open. */
unsigned vbd_count_frontends(const struct vbd *vbd);
/* RUNNING -> DRAINING, and back unless the disk is being closed or a caller waits for the drain. */
void vbd_begin_drain(struct vbd *vbd);
void vbd_undrain(struct vbd *vbd);
/* Submit to the backend; while the disk is stopped by an error, queue instead. */
void vbd_forward(struct vbd *vbd, struct block_request *req);

/* RELEASING -> PAUSED. @store: of a committed disk, or NULL; the callee frees it. */
void vbd_released(struct vbd *vbd, char *store);

/* ---- vbd_release.c ---- */

/* DRAINING -> RELEASING: close the image; ends in vbd_released(). */
void vbd_release(struct vbd *vbd, char *store);
/* Before each sleep; true: call again before sleeping. */
bool vbd_release_run(struct vbd *vbd);
/* A caller waits for the end: limit its wait. */
int vbd_release_limit(struct vbd *vbd);

/* ---- vbd_snapshot.c ---- */

/* End a freeze, if there is one. @why: a static string. */
void vbd_thaw(struct vbd *vbd, const char *why);

/* ---- vbd_overlay.c ---- */

/* takes: is this command part of moving a raw disk onto a store? snapshot: run it; it ends in done(). */
bool vbd_overlay_takes(const struct vbd *vbd, const struct vbd_snapshot *snapshot);
void vbd_overlay_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot);
void vbd_overlay_release(struct vbd *vbd, const void *holder);
/* The pause was ended by another command: drop the freeze. */
void vbd_overlay_forget(struct vbd *vbd);
/* End a pause that no user requested; retries temporary errors. A failure is logged, and the disk stays paused. */
void vbd_resume(struct vbd *vbd);

/* ---- vbd_commit.c ---- */

json_t *vbd_commit_info(const struct vbd *vbd);
/* Before each sleep; true: call again before sleeping. */
bool vbd_commit_run(struct vbd *vbd);
/* No request is in flight: true if the end of the commit has to run before the flush. */
bool vbd_commit_end(struct vbd *vbd);
/* While draining: true if writes wait for room, so the drain was given up and the disk runs again. */
bool vbd_commit_retreat(struct vbd *vbd);
/* finish: the store is closed and all its data is in the image. remove_store: then delete the store. */
void vbd_commit_finish(struct vbd *vbd);
void vbd_commit_remove_store(struct vbd *vbd, const char *store);
void vbd_commit_interrupted(struct vbd *vbd);
void vbd_commit_forget(struct vbd *vbd);

/* ---- vbd_throttle.c ---- */

/* True: @req is held and goes to the backend when the limits permit. */
bool vbd_throttle_holds(struct vbd *vbd, struct block_request *req);
/* Submit all held requests now. */
void vbd_throttle_release(struct vbd *vbd);

/* Completed writes were lost: true if @req is the client's first flush since then, which was answered with that. */
bool vbd_reports_loss(struct block_request *req);

/* ---- vbd_error.c ---- */

/* takes: the backend->failed hook. holds: true if the disk is stopped; then @req waits or is canceled. */
bool vbd_error_takes(struct block_request *req, int error);
bool vbd_error_holds(struct vbd *vbd, struct block_request *req);
/* The disk runs: retry the waiting requests. Returns their number. */
unsigned vbd_error_go_on(struct vbd *vbd);
/* Retry requests that wait for room. */
void vbd_error_try_room(struct vbd *vbd);
/* The disk is being closed: complete waiting requests with their errors. */
void vbd_error_end(struct vbd *vbd);

/* ---- vbd_unresponsive.c, vbd_space.c: before each sleep; when the image is closed ---- */

void vbd_unresponsive_watch(struct vbd *vbd);
void vbd_unresponsive_forget(struct vbd *vbd);
extern unsigned vbd_unresponsive_ms;		/* report after this time without an answer; tests set it */

void vbd_watch_space(struct vbd *vbd);
void vbd_forget_space(struct vbd *vbd);

#endif
