/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine.c - chooses an engine, calls its ops with checks, and does the
 * accounting that all engines share.
 *
 * Invariants:
 *  1. An io is in flight from engine_queue() until just before its done().
 *  2. engine->queued counts exactly the ios in flight.
 *  3. io->rest is allocated only after a short transfer, and is gone before
 *     done().
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static const struct engine_ops *const engines[] = { &engine_uring, &engine_libaio, &engine_sync, NULL };

/* The errors of io_uring_setup() if it is disabled, filtered, missing, or over a memory limit. */
static bool engine_not_permitted(int error)
{
	return error == -EPERM || error == -EACCES || error == -ENOSYS || error == -ENOMEM;
}

static int engine_open_best(struct engine **engine, unsigned depth)
{
	int uring_error = engine_uring.open(engine, depth), error;

	if (!engine_not_permitted(uring_error))
		return uring_error;
	error = engine_libaio.open(engine, depth);
	if (!error)
		(*engine)->uring_error = uring_error;
	return error;
}

int engine_open(struct engine **engine, const char *name, unsigned depth)
{
	int i;

	if (!name)
		return engine_open_best(engine, depth);
	for (i = 0; engines[i]; i++) {
		if (!strcmp(engines[i]->name, name))
			return engines[i]->open(engine, depth);
	}
	return -EINVAL;
}

void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	assert(!engine->queued);
	engine->ops->close(engine);
}

void engine_queue(struct engine *engine, struct engine_io *io)
{
	assert(!io->in_flight);
	assert(io->op == ENGINE_SYNC || io->length);
	assert(io->iovcnt >= 0 && io->iovcnt <= ENGINE_MAX_IOV);
	io->in_flight = true;
	io->next = NULL;
	io->rest = NULL;
	io->moved = 0;
	engine->queued++;
	engine->ops->queue(engine, io);
}

bool engine_exchange(struct engine *engine, int fd, const uint32_t *word)
{
	return engine->ops->exchange && engine->ops->exchange(engine, fd, word);
}

/* Only io_uring needs this: with the others a process closes its files only after libaio's requests and its threads. */
int engine_keep(struct engine *engine, int fd)
{
	return engine->ops->keep ? engine->ops->keep(engine, fd) : 0;
}

int engine_commit(struct engine *engine)
{
	return engine->ops->commit(engine);
}

int engine_reap(struct engine *engine)
{
	return engine->ops->reap(engine);
}

int engine_fd(struct engine *engine)
{
	return engine->ops->fd(engine);
}

void engine_set_timer(struct engine *engine, struct engine_timer *timer, uint64_t due)
{
	struct engine_timer **place = &engine->timers;

	assert(!timer->set);
	while (*place && (*place)->due <= due)
		place = &(*place)->next;
	timer->due = due;
	timer->set = true;
	timer->next = *place;
	*place = timer;
}

void engine_cancel_timer(struct engine *engine, struct engine_timer *timer)
{
	struct engine_timer **place = &engine->timers;

	if (!timer->set)
		return;
	while (*place != timer)
		place = &(*place)->next;
	*place = timer->next;
	timer->set = false;
}

uint64_t engine_next_timer(const struct engine *engine)
{
	return engine->timers ? engine->timers->due : UINT64_MAX;
}

void engine_run_timers(struct engine *engine, uint64_t now)
{
	struct engine_timer *timer;

	/* a timer set by a callback is due later than now, so this loop ends */
	while ((timer = engine->timers) && timer->due <= now) {
		engine_cancel_timer(engine, timer);
		timer->expired(timer);
	}
}

/* Make @io->rest: a copy of the caller's iovecs without the first @io->moved bytes. */
static int engine_set_rest(struct engine_io *io)
{
	uint64_t skip = io->moved;
	int i;

	if (!io->rest) {
		io->rest = calloc(io->iovcnt, sizeof(*io->rest));
		if (!io->rest)
			return -ENOMEM;
	}
	memcpy(io->rest, io->iov, io->iovcnt * sizeof(*io->rest));
	for (i = 0; i < io->iovcnt && skip; i++) {
		size_t part = skip < io->rest[i].iov_len ? skip : io->rest[i].iov_len;

		io->rest[i].iov_base = (char *)io->rest[i].iov_base + part;
		io->rest[i].iov_len -= part;
		skip -= part;
	}
	return 0;
}

const struct iovec *engine_rest(const struct engine_io *io, int *iovcnt)
{
	const struct iovec *iov = io->rest ? io->rest : io->iov;
	int count = io->iovcnt;

	for (; count > 1 && !iov->iov_len; count--)
		iov++;
	*iovcnt = count;
	return iov;
}

/* 1: completed. 0: not complete yet. -errno: failed. */
static int engine_account(struct engine_io *io, long result)
{
	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result < 0)
		return (int)result;
	if (io->op != ENGINE_READ && io->op != ENGINE_WRITE)
		return 1;
	if (result == 0 || (uint64_t)result > io->length - io->moved)
		return -EIO;
	io->moved += result;
	if (io->moved == io->length)
		return 1;
	return engine_set_rest(io);
}

bool engine_complete(struct engine *engine, struct engine_io *io, long result)
{
	int state;

	assert(io->in_flight && engine->queued);
	state = engine_account(io, result);
	if (state == 0)
		return false;
	free(io->rest);
	io->rest = NULL;
	io->in_flight = false;
	engine->queued--;
	io->done(io, state < 0 ? state : 0);
	return true;
}
