/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_sync.c - the synchronous engine, for tools and tests: the I/O is
 * done inside queue(), done() is called from reap(), in the same order.
 * The shortest engine, and the one to read first.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine_list.h"
#include "engine_syscall.h"

struct sync_engine {
	struct engine engine;
	struct engine_list over;	/* done, not yet reaped; the result is in priv[0] */
};

static int sync_open(struct engine **engine, unsigned depth)
{
	struct sync_engine *sync = calloc(1, sizeof(*sync));

	if (!sync)
		return -ENOMEM;
	sync->engine.ops = &engine_sync;
	engine_list_init(&sync->over);
	*engine = &sync->engine;
	return 0;
}

static void sync_close(struct engine *engine)
{
	free(engine);
}

static void sync_queue(struct engine *engine, struct engine_io *io)
{
	struct sync_engine *sync = (struct sync_engine *)engine;

	io->priv[0] = engine_syscall(io);
	engine_list_add(&sync->over, io);
}

static int sync_commit(struct engine *engine)
{
	return 0;
}

static int sync_reap(struct engine *engine)
{
	struct sync_engine *sync = (struct sync_engine *)engine;
	struct engine_io *io;
	int count = 0;

	while ((io = engine_list_take(&sync->over))) {
		while (!engine_complete(engine, io, io->priv[0]))
			io->priv[0] = engine_syscall(io);
		count++;
	}
	return count;
}

static int sync_fd(struct engine *engine)
{
	return -1;
}

const struct engine_ops engine_sync = {
	.name = "sync",
	.open = sync_open,
	.close = sync_close,
	.queue = sync_queue,
	.commit = sync_commit,
	.reap = sync_reap,
	.fd = sync_fd,
	.wait = sync_commit,
};
