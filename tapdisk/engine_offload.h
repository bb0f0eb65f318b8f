/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_offload.h - helper threads for operations that the kernel only has in
 * blocking form (BLKDISCARD, BLKZEROOUT; with libaio also fallocate; with it,
 * or before Linux 6.9, ftruncate), and for ENGINE_CALL.
 *
 * An engine creates one, queues ios to it, and reaps them when its eventfd has
 * become readable. All calls are made on the engine's thread.
 */
#ifndef TAPDISK_ENGINE_OFFLOAD_H
#define TAPDISK_ENGINE_OFFLOAD_H

#include "engine.h"

struct offload;

/* @event: an eventfd, signalled after each io; owned by the caller. */
int offload_create(struct offload **offload, int event);
void offload_destroy(struct offload *offload);		/* nothing is queued */
/* Those of one descriptor are done in order, one at a time, unless descriptors share threads. Uses io->next, io->priv[0] and [1]. */
void offload_queue(struct offload *offload, struct engine_io *io);
/*
 * Pass finished ios to engine_complete() (incomplete ones are queued again).
 * Returns the number of done() calls made.
 */
int offload_reap(struct offload *offload, struct engine *engine);
/* Number of ios queued and not yet reaped. */
unsigned offload_pending(const struct offload *offload);

#endif
