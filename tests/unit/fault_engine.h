/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_engine.h - a synchronous engine for tests that fails the Nth I/O or all
 * from there on, moves only a few bytes per call, or completes nothing. Use:
 * run an operation with N = 1, 2, 3, ... until it has fewer than N I/Os.
 */
#ifndef TESTS_FAULT_ENGINE_H
#define TESTS_FAULT_ENGINE_H

#include <errno.h>
#include <string.h>

#include "engine_list.h"
#include "engine_syscall.h"

struct fault_engine {
	struct engine engine;
	struct engine_list over;	/* not yet reaped; the result is in priv[0] */
	unsigned seen;			/* I/Os queued so far */
	unsigned fail_at;		/* the I/O that fails, from 1; 0: none */
	int error;			/* its error, -errno; 0: a read or write is short, 512 bytes */
	bool broken;			/* all later I/Os fail, too */
	bool writes_only;		/* only ENGINE_WRITE counts, and fails */
	bool syncs_only;		/* only ENGINE_SYNC */
	bool silent;			/* complete nothing until this is cleared */
	size_t at_most;			/* bytes moved by one call; 0: no limit */
	unsigned syncs, resizes;	/* ENGINE_SYNC, ENGINE_RESIZE that reached the file */
};

/* Transfer the rest of @io, but at most @limit bytes of its first piece. */
static inline long fault_engine_short_call(const struct engine_io *io, size_t limit)
{
	struct engine_io part = *io;
	struct iovec piece;
	int count;

	piece = *engine_rest(io, &count);
	if (piece.iov_len > limit)
		piece.iov_len = limit;
	part.offset += io->moved;
	part.moved = 0;
	part.iov = part.rest = &piece;
	part.iovcnt = 1;
	return engine_syscall(&part);
}

static inline long fault_engine_call(struct fault_engine *fault, const struct engine_io *io)
{
	if (fault->at_most && (io->op == ENGINE_READ || io->op == ENGINE_WRITE))
		return fault_engine_short_call(io, fault->at_most);
	fault->syncs += io->op == ENGINE_SYNC;
	fault->resizes += io->op == ENGINE_RESIZE;
	return engine_syscall(io);
}

static inline void fault_engine_queue(struct engine *engine, struct engine_io *io)
{
	struct fault_engine *fault = (struct fault_engine *)engine;
	bool moves = io->op == ENGINE_READ || io->op == ENGINE_WRITE;
	bool counts = (!fault->writes_only || io->op == ENGINE_WRITE) && (!fault->syncs_only || io->op == ENGINE_SYNC), hit;

	fault->seen += counts;
	hit = counts && fault->fail_at && (fault->broken ? fault->seen >= fault->fail_at : fault->seen == fault->fail_at);
	if (hit && fault->error)
		io->priv[0] = fault->error;
	else
		io->priv[0] = hit && moves ? fault_engine_short_call(io, 512) : fault_engine_call(fault, io);
	engine_list_add(&fault->over, io);
}

static inline int fault_engine_commit(struct engine *engine)
{
	return 0;
}

static inline int fault_engine_reap(struct engine *engine)
{
	struct fault_engine *fault = (struct fault_engine *)engine;
	struct engine_io *io;
	int count = 0;

	if (fault->silent)
		return 0;
	while ((io = engine_list_take(&fault->over))) {
		while (!engine_complete(engine, io, io->priv[0]))
			io->priv[0] = fault_engine_call(fault, io);
		count++;
	}
	return count;
}

static const struct engine_ops fault_engine_ops = {
	.name = "fault",
	.queue = fault_engine_queue,
	.commit = fault_engine_commit,
	.reap = fault_engine_reap,
	.wait = fault_engine_commit,
};

/* Needs no close. */
static inline void fault_engine_init(struct fault_engine *fault, unsigned fail_at, int error)
{
	memset(fault, 0, sizeof(*fault));
	fault->engine.ops = &fault_engine_ops;
	engine_list_init(&fault->over);
	fault->fail_at = fail_at;
	fault->error = error;
}

#endif
