/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_offload.h - a helper thread for operations that the kernel has in
 * blocking form only (BLKDISCARD, BLKZEROOUT; with libaio also fallocate).
 *
 * An engine creates one, queues ios to it, and takes the finished ones back
 * when the eventfd it gave has become readable. All calls on the engine's
 * thread.
 */
#ifndef TAPDISK_ENGINE_OFFLOAD_H
#define TAPDISK_ENGINE_OFFLOAD_H

#include "engine.h"

struct offload;

/* @event: an eventfd, signalled after each io; stays the caller's. */
int offload_create(struct offload **offload, int event);
void offload_destroy(struct offload *offload);		/* nothing is queued */
/* Done in order, one at a time. Uses io->next and io->priv[0]. */
void offload_queue(struct offload *offload, struct engine_io *io);
/*
 * Give what is finished to engine_complete() (what is not over yet is queued
 * again). Returns how many done() calls that made.
 */
int offload_reap(struct offload *offload, struct engine *engine);
/* How many are queued and not yet reaped. */
unsigned offload_pending(const struct offload *offload);

#endif
