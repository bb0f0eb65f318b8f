/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine.h - how bytes get to and from a file descriptor.
 *
 * An engine takes struct engine_io, one system-level operation each, in four
 * steps: queue() as many as there are, commit() them with as few system
 * calls as possible, learn from fd() or wait() that some are done, reap()
 * those, which calls each io's done() exactly once. Engines know nothing of
 * drivers, disks or rings.
 *
 * Threads: one engine belongs to one thread; all calls, and every done(),
 * happen there. An engine may use helper threads of its own inside.
 *
 * The engines are io_uring (default), libaio (where io_uring is not
 * permitted), sync (tools and tests: does the I/O inside queue(), and calls
 * done() from reap()).
 */
#ifndef TAPSNAP_ENGINE_H
#define TAPSNAP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum engine_op {
	ENGINE_READ,
	ENGINE_WRITE,
	ENGINE_SYNC,	/* fdatasync: covers every write on this fd whose done() was called before queue() */
	ENGINE_DISCARD,	/* punch a hole into a file (size kept), BLKDISCARD on a block device */
	ENGINE_ZERO,	/* write zeroes, giving space back where that is possible */
	ENGINE_RESIZE,	/* a file's size becomes length; offset is 0 */
	ENGINE_CALL,	/* call(), in a thread of the engine's, where it may block: for what has no other operation */
};

/* Zeroed before its first use; may be used again once done() was called. */
struct engine_io {
	enum engine_op op;
	int fd;
	bool blkdev;			/* fd is a block device (DISCARD and ZERO differ) */
	bool may_block;			/* READ and WRITE: even to submit it may block */
	uint64_t offset;		/* bytes */
	uint64_t length;		/* bytes; READ and WRITE: the sum of iov; not 0, but for SYNC */
	const struct iovec *iov;	/* READ and WRITE; at most ENGINE_MAX_IOV; stays the caller's, unchanged until done() */
	int iovcnt;
	/* CALL: 0 or -errno; after -EINTR and -EAGAIN it is called again. It must only access what is not accessed until done(). */
	int (*call)(const struct engine_io *io);
	void (*done)(struct engine_io *io, int error);	/* 0, or -errno: all of length was transferred, or an error */
	void *owner;

	/* The engine's from queue() to done(). */
	bool in_flight;
	struct engine_io *next;
	struct iovec *rest;		/* what remains after a short transfer */
	uint64_t moved;			/* bytes transferred so far */
	long priv[8];			/* room for a struct iocb */
};

#define ENGINE_MAX_IOV 1024		/* UIO_MAXIOV */

/* Zeroed before its first use; the engine's while it is set. */
struct engine_timer {
	uint64_t due;			/* CLOCK_MONOTONIC, ns */
	void (*expired)(struct engine_timer *timer);
	void *owner;
	struct engine_timer *next;
	bool set;
};

/* Belongs to the thread that opened it, so it is opened after any fork(). */
struct engine {
	const struct engine_ops *ops;
	unsigned queued;		/* queued or in flight: up in queue(), down before done() */
	int uring_error;		/* why engine_open() did not choose io_uring: -errno, or 0 */
	unsigned exchange_failures;	/* incremented in reap() when an engine_exchange() has failed */
	struct engine_timer *timers;	/* sorted by due time */
};

struct engine_ops {
	const char *name;
	/* depth: expected number of operations in flight; more are queued, never refused. */
	int (*open)(struct engine **engine, unsigned depth);
	void (*close)(struct engine *engine);	/* only when queued is 0 */
	void (*queue)(struct engine *engine, struct engine_io *io);
	/* 0 or -errno; an io that could not be submitted is completed with its error by reap(). */
	int (*commit)(struct engine *engine);
	/* Calls done() of what has completed, returns how many. A done() may queue more. */
	int (*reap)(struct engine *engine);
	/* Readable when reap() has work to do; -1: none, call reap() after commit(). */
	int (*fd)(struct engine *engine);
	/* May be NULL; see engine_exchange(). */
	bool (*exchange)(struct engine *engine, int fd, const uint32_t *word);
	/* May be NULL; see engine_keep(). */
	int (*keep)(struct engine *engine, int fd);
	/* Commit, then block until at least one io can be reaped (for tools; nothing queued: returns at once). */
	int (*wait)(struct engine *engine);
};

extern const struct engine_ops engine_uring, engine_libaio, engine_sync;

/*
 * engine_open() - open the engine called @name, or with @name NULL the best
 * one this machine permits: io_uring, then libaio. -EINVAL: no such engine.
 * The caller closes it with engine_close().
 */
int engine_open(struct engine **engine, const char *name, unsigned depth);
void engine_close(struct engine *engine);

/* Checked calls of the ops above; engine_queue() asserts that the io is not in flight already. */
void engine_queue(struct engine *engine, struct engine_io *io);
/*
 * engine_exchange() - with the next commit, read one word from @fd, discard
 * it, and then write *@word to @fd. @fd must be non-blocking, have a word to
 * read and accept one immediately: an event channel. *@word stays the
 * caller's, unchanged while @fd is open. False: the engine cannot do it (any
 * more), and the caller must read and write itself. It must do so too when
 * engine->exchange_failures goes up: then either half of any exchange, or
 * both, may not have happened.
 */
bool engine_exchange(struct engine *engine, int fd, const uint32_t *word);
/*
 * engine_keep() - keep the file behind @fd open, with its locks, at least
 * until the last io of the engine has ended, even if the process is killed
 * with I/O in flight. A process that then gets a lock that was on it knows
 * that this I/O has ended. Call once per engine. 0 or -errno.
 */
int engine_keep(struct engine *engine, int fd);
int engine_commit(struct engine *engine);
int engine_reap(struct engine *engine);
int engine_fd(struct engine *engine);

/*
 * A timer expires once, at @due or somewhat later, on the engine's thread.
 * An event loop drives the timers: engine_next_timer() returns when the next one
 * is due (UINT64_MAX: there is none), engine_run_timers() calls expired() of
 * those that are due at @now. Tools that only run the engine until some I/O has
 * ended need not.
 */
void engine_set_timer(struct engine *engine, struct engine_timer *timer, uint64_t due);
void engine_cancel_timer(struct engine *engine, struct engine_timer *timer);	/* may be unset */
uint64_t engine_next_timer(const struct engine *engine);
void engine_run_timers(struct engine *engine, uint64_t now);

/*
 * engine_complete() - for engines: account @result (bytes moved, 0, or -errno)
 * of @io. Returns true when the io is over and its done() was called, false
 * when a short transfer left a rest, which the engine must submit again
 * (at @io->offset + @io->moved, with @io->rest when that is not NULL).
 * A read that meets the end of the file is -EIO, an interrupted call is resumed.
 */
bool engine_complete(struct engine *engine, struct engine_io *io, long result);

/* engine_rest() - for engines: the iovecs that are still to be transferred (never an empty one first). */
const struct iovec *engine_rest(const struct engine_io *io, int *iovcnt);

#endif
