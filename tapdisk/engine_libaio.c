/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_libaio.c - Linux's older asynchronous I/O, used if io_uring is not
 * permitted.
 *
 * The iocb is in io->priv. Operations that only exist in blocking form go to
 * helper threads, which signal the same eventfd as the kernel.
 *
 * Invariants:
 *  1. An io is held (engine_share.h), on the queued list, in the kernel
 *     (in_kernel counts those), with a helper thread, or on the failed list.
 *     shares.taken counts those on the two lists and in the kernel.
 *  2. The eventfd is signalled whenever the failed list or the helpers'
 *     finished list is not empty, so fd() reports all completions.
 */
#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine_list.h"
#include "engine_offload.h"
#include "engine_share.h"

#define MIN_DEPTH 8
#define MAX_DEPTH 4096
#define BATCH 64

static_assert(sizeof(struct iocb) <= sizeof(((struct engine_io *)NULL)->priv), "an iocb must fit into io->priv");
static_assert(_Alignof(struct iocb) <= _Alignof(long), "an iocb must be aligned in io->priv");

struct libaio_engine {
	struct engine engine;
	io_context_t context;
	unsigned in_kernel;
	struct engine_shares shares;
	struct engine_list queued;			/* have room, not submitted yet */
	struct engine_list failed;			/* refused by io_submit(); the error is in priv[0] */
	struct offload *offload;
	int event;
};

static int libaio_open(struct engine **engine, unsigned depth)
{
	struct libaio_engine *aio = calloc(1, sizeof(*aio));
	int error;

	if (!aio)
		return -ENOMEM;
	aio->engine.ops = &engine_libaio;
	depth = depth < MIN_DEPTH ? MIN_DEPTH : depth > MAX_DEPTH ? MAX_DEPTH : depth;
	engine_shares_init(&aio->shares, depth);
	engine_list_init(&aio->queued);
	engine_list_init(&aio->failed);
	error = io_setup(depth, &aio->context);
	if (error == -EAGAIN)
		error = -EDQUOT;	/* fs.aio-max-nr; offload_create()'s -EAGAIN means that no thread could be made */
	if (error)
		goto out_free;
	aio->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (aio->event < 0) {
		error = -errno;
		goto out_context;
	}
	error = offload_create(&aio->offload, aio->event);
	if (error)
		goto out_event;
	*engine = &aio->engine;
	return 0;

out_event:
	close(aio->event);
out_context:
	io_destroy(aio->context);
out_free:
	free(aio);
	return error;
}

static void libaio_close(struct engine *engine)
{
	struct libaio_engine *aio = (struct libaio_engine *)engine;

	offload_destroy(aio->offload);
	close(aio->event);
	io_destroy(aio->context);
	free(aio);
}

static void libaio_prepare(struct libaio_engine *aio, struct engine_io *io)
{
	struct iocb *iocb = (struct iocb *)io->priv;
	uint64_t offset = io->offset + io->moved;
	const struct iovec *iov;
	int count;

	if (io->op == ENGINE_SYNC) {
		io_prep_fdsync(iocb, io->fd);
	} else {
		iov = engine_rest(io, &count);
		if (io->op == ENGINE_READ)
			io_prep_preadv(iocb, io->fd, iov, count, offset);
		else
			io_prep_pwritev(iocb, io->fd, iov, count, offset);
	}
	io_set_eventfd(iocb, aio->event);
	iocb->data = io;
}

static void libaio_start(struct libaio_engine *aio, struct engine_io *io)
{
	if (engine_shares_take(&aio->shares, io))
		engine_list_add(&aio->queued, io);
	else
		engine_shares_hold(&aio->shares, io);
}

static void libaio_queue(struct engine *engine, struct engine_io *io)
{
	struct libaio_engine *aio = (struct libaio_engine *)engine;

	if (io->op == ENGINE_DISCARD || io->op == ENGINE_ZERO || io->op == ENGINE_RESIZE || io->op == ENGINE_CALL)
		offload_queue(aio->offload, io);
	else
		libaio_start(aio, io);
}

/* Queue the held ios for which there is room. */
static void libaio_fill(struct libaio_engine *aio)
{
	struct engine_io *io;

	while ((io = engine_shares_next(&aio->shares))) {
		engine_shares_take_next(&aio->shares, io);
		engine_list_add(&aio->queued, io);
	}
}

/* io_submit() has refused the first queued io permanently. */
static void libaio_refuse_first(struct libaio_engine *aio, int error)
{
	struct engine_io *io = engine_list_take(&aio->queued);

	if (io->op == ENGINE_SYNC && error == -EINVAL) {
		engine_shares_give_back(&aio->shares, io);
		offload_queue(aio->offload, io);	/* a kernel without IOCB_CMD_FDSYNC (before 4.18) */
		return;
	}
	io->priv[0] = error;
	engine_list_add(&aio->failed, io);
	eventfd_write(aio->event, 1);
}

/* Submit from the head of the queue, at most BATCH and as many as the kernel takes. Returns io_submit()'s result. */
static int libaio_submit_batch(struct libaio_engine *aio)
{
	struct iocb *iocbs[BATCH];
	struct engine_io *io = aio->queued.first;
	int count, result, i;

	for (count = 0; io && count < BATCH; count++) {
		libaio_prepare(aio, io);
		iocbs[count] = (struct iocb *)io->priv;
		io = io->next;
	}
	result = io_submit(aio->context, count, iocbs);
	for (i = 0; i < result; i++)
		engine_list_take(&aio->queued);
	aio->in_kernel += result > 0 ? result : 0;
	return result;
}

/* The kernel has no memory for a single request, and no request in flight will free any: retry after a short sleep. */
static void libaio_wait_for_memory(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int libaio_commit(struct engine *engine)
{
	struct libaio_engine *aio = (struct libaio_engine *)engine;
	int result;

	libaio_fill(aio);
	while (aio->queued.first) {
		result = libaio_submit_batch(aio);
		if (result > 0 || result == -EINTR)
			continue;
		if (result == -EAGAIN && aio->in_kernel)
			return 0;		/* reap() commits again */
		if (result == -EAGAIN)
			libaio_wait_for_memory();
		else
			libaio_refuse_first(aio, result ? result : -EIO);
	}
	return 0;
}

static int libaio_reap_kernel(struct libaio_engine *aio)
{
	struct io_event events[BATCH];
	struct engine_io *io;
	int count, i, done = 0;

	count = io_getevents(aio->context, 0, BATCH, events, &(struct timespec){ 0 });
	for (i = 0; i < count; i++) {
		io = events[i].data;
		aio->in_kernel--;
		engine_shares_give_back(&aio->shares, io);
		if (engine_complete(&aio->engine, io, (long)events[i].res))
			done++;
		else
			libaio_start(aio, io);
	}
	if (count == BATCH)
		eventfd_write(aio->event, 1);	/* there may be more */
	return done;
}

static int libaio_reap_failed(struct libaio_engine *aio)
{
	struct engine_io *io;
	int done = 0;

	while ((io = engine_list_take(&aio->failed))) {
		engine_shares_give_back(&aio->shares, io);
		if (engine_complete(&aio->engine, io, io->priv[0]))
			done++;
		else
			libaio_start(aio, io);
	}
	return done;
}

static int libaio_reap(struct engine *engine)
{
	struct libaio_engine *aio = (struct libaio_engine *)engine;
	eventfd_t value;
	int done;

	/* reset first: a completion after this signals again */
	eventfd_read(aio->event, &value);
	done = libaio_reap_kernel(aio);
	done += libaio_reap_failed(aio);
	done += offload_reap(aio->offload, engine);
	libaio_commit(engine);			/* ios that did not fit or were requeued */
	return done;
}

static int libaio_fd(struct engine *engine)
{
	return ((struct libaio_engine *)engine)->event;
}

static int libaio_wait(struct engine *engine)
{
	struct pollfd poll_event = { .fd = libaio_fd(engine), .events = POLLIN };

	if (!engine->queued)
		return 0;
	libaio_commit(engine);
	while (poll(&poll_event, 1, -1) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

const struct engine_ops engine_libaio = {
	.name = "libaio",
	.open = libaio_open,
	.close = libaio_close,
	.queue = libaio_queue,
	.commit = libaio_commit,
	.reap = libaio_reap,
	.fd = libaio_fd,
	.wait = libaio_wait,
};
