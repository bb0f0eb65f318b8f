/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_ios.h - I/Os of the tests of engines: a test's state is the name of
 * the engine that it is run for.
 */
#ifndef TESTS_ENGINE_IOS_H
#define TESTS_ENGINE_IOS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine_run.h"
#include "scratch.h"

#define BLOCK 4096
#define MANY 1000
#define DEPTH 8

#define FOR_ENGINE(test, engine) { #test " (" engine ")", test, NULL, NULL, (void *)engine }
#define FOR_EACH_ENGINE(test) FOR_ENGINE(test, "io_uring"), FOR_ENGINE(test, "libaio"), FOR_ENGINE(test, "sync")

struct io {
	struct engine_io io;
	struct iovec iov[3];
	int error;
	unsigned calls;
};

static inline void io_done(struct engine_io *engine_io, int error)
{
	struct io *io = engine_io->owner;

	io->error = error;
	io->calls++;
}

static inline void io_set(struct io *io, enum engine_op op, int fd, uint64_t offset, uint64_t length)
{
	io->io.op = op;
	io->io.fd = fd;
	io->io.offset = offset;
	io->io.length = length;
	io->io.done = io_done;
	io->io.owner = io;
	io->error = 1;
	io->calls = 0;
}

/* With @pieces in three pieces, of different lengths. */
static inline void io_set_data(struct io *io, char *data, size_t length, bool pieces)
{
	io->iov[0] = (struct iovec){ data, pieces ? 512 : length };
	io->iov[1] = (struct iovec){ data + 512, 1024 };
	io->iov[2] = (struct iovec){ data + 1536, length - 1536 };
	io->io.iov = io->iov;
	io->io.iovcnt = pieces ? 3 : 1;
}

static inline struct engine *open_engine(void **state)
{
	struct engine *engine;

	assert_int_equal(engine_open(&engine, *state, DEPTH), 0);
	assert_string_equal(engine->ops->name, *state);
	return engine;
}

static inline char *aligned(size_t size)
{
	void *memory = NULL;

	assert_int_equal(posix_memalign(&memory, BLOCK, size), 0);
	return memset(memory, 0, size);
}

/* As an event loop does: it waits only for the descriptor. */
static inline void run_by_fd(struct engine *engine)
{
	struct pollfd poll_fd = { .fd = engine->ops->fd ? engine_fd(engine) : -1, .events = POLLIN };

	assert_int_equal(engine_commit(engine), 0);
	while (engine->queued) {
		if (poll_fd.fd >= 0)
			assert_int_equal(poll(&poll_fd, 1, 10000), 1);
		engine_reap(engine);
		assert_int_equal(engine_commit(engine), 0);
	}
}

static inline int one(struct engine *engine, struct io *io)
{
	engine_queue(engine, &io->io);
	run_by_fd(engine);
	assert_int_equal(io->calls, 1);
	return io->error;
}

static inline int open_file(uint64_t size, int flags)
{
	int fd = open(scratch_file("engine", size), O_RDWR | O_CLOEXEC | flags);

	assert_true(fd >= 0);
	return fd;
}

static inline void fill(char *data, size_t size, unsigned seed)
{
	size_t i;

	for (i = 0; i < size; i++)
		data[i] = seed * 31 + i * 7 + i / 256;
}

#endif
