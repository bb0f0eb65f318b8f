/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_uring.c - the io_uring engine.
 *
 * queue() writes the submission entry, commit() calls io_uring_enter() once for
 * all of them, reap() reads the completion ring. There is no allocation per io,
 * no system call in queue(), and none in reap() unless the kernel has
 * completions to deliver (TASKRUN_FLAG).
 *
 * Invariants:
 *  1. shares.taken counts the entries written whose completions were not read
 *     yet; it never exceeds the completion ring, which cannot overflow.
 *  2. Ios that do not fit, or are more than their descriptor's share, are held
 *     (engine_share.h).
 *  3. While the helper threads have ios, one POLL_ADD on its eventfd is pending
 *     or in the ring (one slot is reserved for it), so the ring's descriptor
 *     alone reports all completions.
 *  4. An exchange has completions only if it fails, and then no more exchanges
 *     are made: they need no room in the completion ring.
 *  5. A submission does not block: a READ or WRITE that may is left to a thread
 *     of the kernel (IOSQE_ASYNC).
 *  6. Each request in the ring may have a thread of the kernel (uring_permit_workers()),
 *     so those that block do not keep others from running.
 */
#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "engine_list.h"
#include "engine_offload.h"
#include "engine_share.h"

#define MIN_DEPTH 8
#define MAX_DEPTH 4096
#define BATCH 64
/* A single READ or WRITE entry has a 32-bit length; the rest of a longer io follows as after a short transfer. */
#define MAX_SINGLE (1u << 30)
/* IORING_OP_FTRUNCATE (Linux 6.9); liburing 2.3 does not know it. */
#define OP_FTRUNCATE 55

struct uring_engine {
	struct engine engine;
	struct io_uring ring;
	struct engine_shares shares;
	bool again;				/* an io was requeued: reap() has to commit */
	struct offload *offload;
	int event;				/* the helper threads' */
	bool polling;				/* a POLL_ADD on event is in the ring */
	bool exchanging;			/* the kernel supports exchanges, and none has failed */
	bool resizing;				/* the kernel supports OP_FTRUNCATE */
	uint32_t heard;				/* target of the exchanges' reads */
};

/*
 * From the best to the one that every kernel has. COOP_TASKRUN (5.19):
 * completions are delivered when we enter the kernel or sleep in it, without an
 * interprocessor interrupt; a sleep in epoll_wait() then ends with EINTR.
 * TASKRUN_FLAG tells reap() that it has to enter. SINGLE_ISSUER (6.0): one
 * thread submits. DEFER_TASKRUN is not used: with it the kernel only wakes
 * threads in io_uring_enter(), and epoll_wait() on the ring keeps sleeping
 * although completions are there (seen on 6.18).
 */
static const unsigned setups[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	0,
};

/*
 * The only operations that this ring permits. Seccomp does not see operations
 * of a ring, so without this an attacker in the process could use the ring to
 * make sockets or open files (docs/security.md).
 */
static const struct io_uring_restriction restrictions[] = {
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_POLL_ADD },
	{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_ASYNC | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS },
	{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_RING_FDS },
	{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_RING_FDS },
	{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES },	/* uring_keep() */
	{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = OP_FTRUNCATE },	/* last: a kernel without it refuses it here, too */
};

static int uring_setup(struct uring_engine *uring, unsigned depth)
{
	struct io_uring_params params;
	int error = -EINVAL;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(setups) && error == -EINVAL; i++) {
		params = (struct io_uring_params){ .flags = setups[i] | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED };
		error = io_uring_queue_init_params(depth, &uring->ring, &params);
	}
	if (error)
		return error == -EINVAL ? -ENOSYS : error;	/* the kernel knows none of the sets (before 5.6) */
	engine_shares_init(&uring->shares, params.cq_entries - 1);	/* invariant 3: one for the poll */
	uring->exchanging = params.features & IORING_FEAT_CQE_SKIP;
	return 0;
}

/*
 * Requests to files on NFS, writes that allocate, syncs and punching holes block
 * a thread of the kernel each. By default there are at most four per processor,
 * and a process has one set of them, however many rings: a few requests to dead
 * storage would stop those of all disks. Kernels before 5.15 cannot change that.
 */
static void uring_permit_workers(struct uring_engine *uring)
{
	unsigned workers[2] = { uring->shares.limit, 0 };	/* 0: those for sockets remain as they are */

	io_uring_register(uring->ring.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2);
}

static int uring_enable(struct uring_engine *uring)
{
	/* liburing 2.3 has functions for these two but does not export them */
	unsigned count = (unsigned)ARRAY_SIZE(restrictions) - !uring->resizing;
	int error = io_uring_register(uring->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, restrictions, count);

	if (!error)
		error = io_uring_register(uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	/* optional: saves a descriptor lookup at each enter (5.18) */
	if (!error)
		io_uring_register_ring_fd(&uring->ring);
	return error;
}

/* A kernel too old for the operations used here (5.6) or for restrictions (5.10) counts as one without io_uring. */
static int uring_check_kernel(struct uring_engine *uring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
	bool good;

	good = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
	       io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
	       io_uring_opcode_supported(probe, IORING_OP_FALLOCATE);
	uring->resizing = probe && io_uring_opcode_supported(probe, OP_FTRUNCATE);
	free(probe);
	return good ? 0 : -ENOSYS;
}

static int uring_open(struct engine **engine, unsigned depth)
{
	struct uring_engine *uring = calloc(1, sizeof(*uring));
	int error;

	if (!uring)
		return -ENOMEM;
	uring->engine.ops = &engine_uring;
	depth = depth < MIN_DEPTH ? MIN_DEPTH : depth > MAX_DEPTH ? MAX_DEPTH : depth;
	error = uring_setup(uring, depth);
	if (error)
		goto out_free;
	error = uring_check_kernel(uring);
	uring_permit_workers(uring);	/* the restrictions do not permit it later */
	if (!error)
		error = uring_enable(uring);
	if (error)
		goto out_ring;
	uring->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uring->event < 0) {
		error = -errno;
		goto out_ring;
	}
	error = offload_create(&uring->offload, uring->event);
	if (error)
		goto out_event;
	*engine = &uring->engine;
	return 0;

out_event:
	close(uring->event);
out_ring:
	io_uring_queue_exit(&uring->ring);
out_free:
	free(uring);
	return error;
}

static void uring_close(struct engine *engine)
{
	struct uring_engine *uring = (struct uring_engine *)engine;

	offload_destroy(uring->offload);
	close(uring->event);
	io_uring_queue_exit(&uring->ring);
	free(uring);
}

static void uring_prepare_rw(struct io_uring_sqe *sqe, const struct engine_io *io)
{
	uint64_t offset = io->offset + io->moved;
	const struct iovec *iov;
	unsigned length;
	int count;

	iov = engine_rest(io, &count);
	if (count > 1) {
		if (io->op == ENGINE_READ)
			io_uring_prep_readv(sqe, io->fd, iov, count, offset);
		else
			io_uring_prep_writev(sqe, io->fd, iov, count, offset);
		return;
	}
	length = iov->iov_len < MAX_SINGLE ? (unsigned)iov->iov_len : MAX_SINGLE;
	if (io->op == ENGINE_READ)
		io_uring_prep_read(sqe, io->fd, iov->iov_base, length, offset);
	else
		io_uring_prep_write(sqe, io->fd, iov->iov_base, length, offset);
}

static void uring_prepare(struct io_uring_sqe *sqe, struct engine_io *io)
{
	switch (io->op) {
	case ENGINE_READ:
	case ENGINE_WRITE:
		uring_prepare_rw(sqe, io);
		sqe->flags |= io->may_block ? IOSQE_ASYNC : 0;
		break;
	case ENGINE_SYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case ENGINE_DISCARD:
	case ENGINE_ZERO:
		io_uring_prep_fallocate(sqe, io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					io->offset, io->length);
		break;
	case ENGINE_RESIZE:
		io_uring_prep_rw(OP_FTRUNCATE, sqe, io->fd, NULL, 0, io->length);
		break;
	case ENGINE_CALL:
		break;			/* only helper threads have it */
	}
	io_uring_sqe_set_data(sqe, io);
}

/* Put the poll and the held ios into the ring as far as there is room. */
static void uring_fill(struct uring_engine *uring)
{
	struct io_uring_sqe *sqe;
	struct engine_io *io;

	if (offload_pending(uring->offload) && !uring->polling) {
		sqe = io_uring_get_sqe(&uring->ring);
		if (!sqe)
			return;
		io_uring_prep_poll_add(sqe, uring->event, POLLIN);
		io_uring_sqe_set_data(sqe, uring);
		uring->polling = true;
	}
	while ((io = engine_shares_next(&uring->shares)) && (sqe = io_uring_get_sqe(&uring->ring))) {
		engine_shares_take_next(&uring->shares, io);
		uring_prepare(sqe, io);
	}
}

static void uring_start(struct uring_engine *uring, struct engine_io *io)
{
	struct io_uring_sqe *sqe = NULL;

	if (io_uring_sq_space_left(&uring->ring) && engine_shares_take(&uring->shares, io))
		sqe = io_uring_get_sqe(&uring->ring);
	if (sqe)
		uring_prepare(sqe, io);
	else
		engine_shares_hold(&uring->shares, io);
}

static void uring_queue(struct engine *engine, struct engine_io *io)
{
	struct uring_engine *uring = (struct uring_engine *)engine;

	if (io->op == ENGINE_CALL || (io->op == ENGINE_RESIZE && !uring->resizing) ||
	    (io->blkdev && (io->op == ENGINE_DISCARD || io->op == ENGINE_ZERO)))
		offload_queue(uring->offload, io);
	else
		uring_start(uring, io);
}

/*
 * Read and write both complete before the next sleep: the descriptor is
 * non-blocking, and of a kind for which io_uring then never waits. The write is
 * linked to the read, which has to complete first: /dev/xen/evtchn wakes a
 * sleeper only if a signal finds its buffer empty, so a signal that the write
 * unmasks before the old one was read may wake no thread.
 */
static bool uring_exchange(struct engine *engine, int fd, const uint32_t *word)
{
	struct uring_engine *uring = (struct uring_engine *)engine;
	struct io_uring_sqe *sqe;

	if (!uring->exchanging || io_uring_sq_space_left(&uring->ring) < 2)
		return false;
	sqe = io_uring_get_sqe(&uring->ring);
	io_uring_prep_read(sqe, fd, &uring->heard, sizeof(uring->heard), 0);
	sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data(sqe, &uring->heard);
	sqe = io_uring_get_sqe(&uring->ring);
	io_uring_prep_write(sqe, fd, word, sizeof(*word), 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data(sqe, &uring->heard);
	return true;
}

/* The kernel has no memory for a single request, and no request in flight will free any: retry after a short sleep. */
static void uring_wait_for_memory(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int uring_commit(struct engine *engine)
{
	struct uring_engine *uring = (struct uring_engine *)engine;
	unsigned ready;
	int result;

	for (;;) {
		uring_fill(uring);
		ready = io_uring_sq_ready(&uring->ring);
		if (!ready)
			return 0;
		result = io_uring_submit(&uring->ring);
		if (result >= 0 || result == -EINTR)
			continue;
		if (result != -EAGAIN && result != -EBUSY)
			return result;
		if (uring->shares.taken + uring->polling > ready) {
			uring->again = true;
			return 0;
		}
		uring_wait_for_memory();
	}
}

/* The helper threads' eventfd has become readable, which ended the poll. */
static int uring_reap_offload(struct uring_engine *uring)
{
	eventfd_t value;

	uring->polling = false;
	uring->again = true;			/* for the next poll */
	eventfd_read(uring->event, &value);
	return offload_reap(uring->offload, &uring->engine);
}

static int uring_reap_one(struct uring_engine *uring, struct engine_io *io, int result)
{
	if ((void *)io == uring)
		return uring_reap_offload(uring);
	if ((void *)io == &uring->heard) {
		uring->exchanging = false;
		uring->engine.exchange_failures++;
		return 0;
	}
	engine_shares_give_back(&uring->shares, io);
	if (io->op == ENGINE_ZERO && result == -EOPNOTSUPP) {
		offload_queue(uring->offload, io);	/* it tries other calls */
	} else if (engine_complete(&uring->engine, io, result)) {
		return 1;
	} else {
		uring_start(uring, io);
	}
	uring->again = true;
	return 0;
}

/*
 * Take up to BATCH completions from the ring before the first done(), so that a
 * done() may queue and commit. Returns how many were taken.
 */
static unsigned uring_reap_batch(struct uring_engine *uring, int *done)
{
	struct io_uring_cqe *cqes[BATCH];
	struct engine_io *ios[BATCH];
	int results[BATCH];
	unsigned count, i;

	count = io_uring_peek_batch_cqe(&uring->ring, cqes, BATCH);
	for (i = 0; i < count; i++) {
		ios[i] = io_uring_cqe_get_data(cqes[i]);
		results[i] = cqes[i]->res;
	}
	io_uring_cq_advance(&uring->ring, count);
	for (i = 0; i < count; i++)
		*done += uring_reap_one(uring, ios[i], results[i]);
	return count;
}

static int uring_reap(struct engine *engine)
{
	struct uring_engine *uring = (struct uring_engine *)engine;
	unsigned taken = 0;
	unsigned count;
	int done = 0;

	/* at most one ring's worth, so that other work can run: done() may queue ios that complete immediately */
	do {
		count = uring_reap_batch(uring, &done);
		taken += count;
	} while (count == BATCH && taken < uring->shares.limit);
	/*
	 * The caller commits the ios that it queued, but does not know of held
	 * or requeued ones. An error occurs again in its next commit.
	 */
	if (uring->again || engine_shares_next(&uring->shares)) {
		uring->again = false;
		uring_commit(engine);
	}
	return done;
}

static int uring_fd(struct engine *engine)
{
	return ((struct uring_engine *)engine)->ring.ring_fd;
}

static int uring_wait(struct engine *engine)
{
	struct uring_engine *uring = (struct uring_engine *)engine;
	struct io_uring_cqe *cqe;
	int error;

	if (!engine->queued)
		return 0;
	error = uring_commit(engine);
	if (error)
		return error;
	do
		error = io_uring_wait_cqe(&uring->ring, &cqe);
	while (error == -EINTR || error == -EAGAIN);
	return error;
}

/* After a kill the kernel destroys the ring once its last request has ended, and only then releases the files registered
 * with it. */
static int uring_keep(struct engine *engine, int fd)
{
	return io_uring_register_files(&((struct uring_engine *)engine)->ring, &fd, 1);
}

const struct engine_ops engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.queue = uring_queue,
	.exchange = uring_exchange,
	.keep = uring_keep,
	.commit = uring_commit,
	.reap = uring_reap,
	.fd = uring_fd,
	.wait = uring_wait,
};
