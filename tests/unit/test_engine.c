/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine.c - every engine keeps the contract of engine.h: the same tests
 * for each, and tests of one engine's own features.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "array.h"
#include "engine_run.h"
#include "fault_engine.h"
#include "hanging_fs.h"
#include "scratch.h"

#define BLOCK 4096
#define MANY 1000
#define DEPTH 8
#define BLOCKED 40			/* descriptors: more than the engines have threads */

struct io {
	struct engine_io io;
	struct iovec iov[3];
	char *data;
	int error;
	unsigned calls;
};

static void io_done(struct engine_io *engine_io, int error)
{
	struct io *io = engine_io->owner;

	io->error = error;
	io->calls++;
}

static void io_set(struct io *io, enum engine_op op, int fd, uint64_t offset, uint64_t length)
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
static void io_set_data(struct io *io, char *data, size_t length, bool pieces)
{
	io->iov[0] = (struct iovec){ data, pieces ? 512 : length };
	io->iov[1] = (struct iovec){ data + 512, 1024 };
	io->iov[2] = (struct iovec){ data + 1536, length - 1536 };
	io->io.iov = io->iov;
	io->io.iovcnt = pieces ? 3 : 1;
}

static struct engine *open_engine(void **state)
{
	struct engine *engine;

	assert_int_equal(engine_open(&engine, *state, DEPTH), 0);
	assert_string_equal(engine->ops->name, *state);
	return engine;
}

static char *aligned(size_t size)
{
	void *memory = NULL;

	assert_int_equal(posix_memalign(&memory, BLOCK, size), 0);
	return memset(memory, 0, size);
}

/* As an event loop does: it waits only for the descriptor. */
static void run_by_fd(struct engine *engine)
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

static int one(struct engine *engine, struct io *io)
{
	engine_queue(engine, &io->io);
	run_by_fd(engine);
	assert_int_equal(io->calls, 1);
	return io->error;
}

static int open_file(uint64_t size, int flags)
{
	int fd = open(scratch_file("engine", size), O_RDWR | O_CLOEXEC | flags);

	assert_true(fd >= 0);
	return fd;
}

static void limit_file_size(rlim_t bytes)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void fill(char *data, size_t size, unsigned seed)
{
	size_t i;

	for (i = 0; i < size; i++)
		data[i] = seed * 31 + i * 7 + i / 256;
}

/* Far more at once than the depth: none is lost or refused. */
static void many_beyond_depth(void **state)
{
	struct engine *engine = open_engine(state);
	struct io *ios = calloc(MANY, sizeof(*ios));
	char *data = aligned(MANY * BLOCK), *back = aligned(MANY * BLOCK);
	int fd = open_file(MANY * BLOCK, O_DIRECT);
	int i;

	fill(data, MANY * BLOCK, 1);
	for (i = 0; i < MANY; i++) {
		io_set(&ios[i], ENGINE_WRITE, fd, (uint64_t)i * BLOCK, BLOCK);
		io_set_data(&ios[i], data + i * BLOCK, BLOCK, i % 2);
		engine_queue(engine, &ios[i].io);
	}
	assert_int_equal(engine->queued, MANY);
	run_by_fd(engine);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(ios[i].calls, 1);
		assert_int_equal(ios[i].error, 0);
		io_set(&ios[i], ENGINE_READ, fd, (uint64_t)i * BLOCK, BLOCK);
		io_set_data(&ios[i], back + i * BLOCK, BLOCK, i % 3 == 0);
		engine_queue(engine, &ios[i].io);
	}
	engine_run(engine);
	for (i = 0; i < MANY; i++)
		assert_int_equal(ios[i].error, 0);
	assert_memory_equal(data, back, MANY * BLOCK);
	engine_close(engine);
	close(fd);
	free(data);
	free(back);
	free(ios);
}

/* A failing io in the middle of a batch is reported, alone. */
static void errors_are_reported_alone(void **state)
{
	struct engine *engine = open_engine(state);
	struct io ios[20] = { 0 };
	char *data = aligned(20 * BLOCK);
	int fd = open_file(20 * BLOCK, 0);
	int read_only = open(scratch_path("engine"), O_RDONLY | O_CLOEXEC);
	int i;

	for (i = 0; i < 20; i++) {
		io_set(&ios[i], ENGINE_WRITE, i == 3 ? -1 : i == 11 ? read_only : fd, (uint64_t)i * BLOCK, BLOCK);
		io_set_data(&ios[i], data + i * BLOCK, BLOCK, false);
		engine_queue(engine, &ios[i].io);
	}
	run_by_fd(engine);
	for (i = 0; i < 20; i++) {
		assert_int_equal(ios[i].calls, 1);
		assert_int_equal(ios[i].error, i == 3 || i == 11 ? -EBADF : 0);
	}
	io_set(&ios[0], ENGINE_SYNC, -1, 0, 0);
	assert_int_equal(one(engine, &ios[0]), -EBADF);
	io_set(&ios[0], ENGINE_ZERO, -1, 0, BLOCK);
	assert_int_equal(one(engine, &ios[0]), -EBADF);
	io_set(&ios[0], ENGINE_DISCARD, read_only, 0, BLOCK);
	assert_int_equal(one(engine, &ios[0]), -EBADF);
	engine_close(engine);
	close(fd);
	close(read_only);
	free(data);
}

/* A pipe has no fdatasync: the error has to be reported, in whatever way the engine syncs. */
static void sync_error_is_reported(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { 0 };
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	io_set(&io, ENGINE_SYNC, fds[1], 0, 0);
	assert_int_equal(one(engine, &io), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	engine_close(engine);
}

static void end_of_file_is_an_error(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { 0 };
	char *data = aligned(2 * BLOCK);
	int fd = open_file(6000, 0);

	io_set(&io, ENGINE_READ, fd, 0, 2 * BLOCK);
	io_set_data(&io, data, 2 * BLOCK, true);
	assert_int_equal(one(engine, &io), -EIO);
	io_set(&io, ENGINE_READ, fd, 4 * BLOCK, BLOCK);
	io_set_data(&io, data, BLOCK, false);
	assert_int_equal(one(engine, &io), -EIO);
	engine_close(engine);
	close(fd);
	free(data);
}

/* A write that the kernel cuts short (the limit of a file's size) is continued, and then gets the error. */
static void short_write_goes_on(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { 0 };
	char *data = aligned(4 * BLOCK);
	char head[BLOCK + 100];
	int fd = open_file(0, 0);

	fill(data, 4 * BLOCK, 5);
	limit_file_size(BLOCK + 100);
	io_set(&io, ENGINE_WRITE, fd, 0, 4 * BLOCK);
	io_set_data(&io, data, 4 * BLOCK, true);
	assert_int_equal(one(engine, &io), -EFBIG);
	limit_file_size(RLIM_INFINITY);
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	assert_memory_equal(head, data, sizeof(head));
	engine_close(engine);
	close(fd);
	free(data);
}

struct chain {
	struct io io;
	struct engine *engine;
	unsigned left;
};

static void chain_done(struct engine_io *io, int error)
{
	struct chain *chain = (struct chain *)io->owner;

	assert_int_equal(error, 0);
	assert_false(io->in_flight);
	if (!--chain->left)
		return;
	/* Write, sync, write, sync: each begins after the one before has ended. */
	io->op = chain->left % 2 ? ENGINE_SYNC : ENGINE_WRITE;
	engine_queue(chain->engine, io);
	engine_commit(chain->engine);
}

static void done_may_queue_and_commit(void **state)
{
	struct chain chain = { .engine = open_engine(state), .left = 100 };
	char *data = aligned(BLOCK);
	int fd = open_file(BLOCK, 0);

	io_set(&chain.io, ENGINE_WRITE, fd, 0, BLOCK);
	io_set_data(&chain.io, data, BLOCK, false);
	chain.io.io.done = chain_done;
	chain.io.io.owner = &chain;
	engine_queue(chain.engine, &chain.io.io);
	engine_run(chain.engine);
	assert_int_equal(chain.left, 0);
	engine_close(chain.engine);
	close(fd);
	free(data);
}

static void discard_and_zero_a_file(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { 0 };
	char *data = aligned(16 * BLOCK), *back = aligned(16 * BLOCK);
	int fd = open_file(16 * BLOCK, 0);
	struct stat before, after;

	fill(data, 16 * BLOCK, 9);
	assert_int_equal(pwrite(fd, data, 16 * BLOCK, 0), 16 * BLOCK);
	fsync(fd);
	fstat(fd, &before);
	io_set(&io, ENGINE_DISCARD, fd, 0, 4 * BLOCK);
	assert_int_equal(one(engine, &io), 0);
	io_set(&io, ENGINE_ZERO, fd, 8 * BLOCK + 512, 5 * BLOCK);
	assert_int_equal(one(engine, &io), 0);
	fstat(fd, &after);
	memset(data, 0, 4 * BLOCK);
	memset(data + 8 * BLOCK + 512, 0, 5 * BLOCK);
	assert_int_equal(pread(fd, back, 16 * BLOCK, 0), 16 * BLOCK);
	assert_memory_equal(data, back, 16 * BLOCK);
	assert_int_equal(after.st_size, 16 * BLOCK);
	assert_true(after.st_blocks <= before.st_blocks - 8 * BLOCK / 512);
	engine_close(engine);
	close(fd);
	free(data);
	free(back);
}

/* Larger, with a hole, and smaller; what cannot be is refused. */
static void resize(void **state)
{
	struct engine *engine = open_engine(state);
	int fd = open_file(4 * BLOCK, 0), fds[2];
	struct io io = { 0 };
	struct stat st;

	io_set(&io, ENGINE_RESIZE, fd, 0, 1u << 30);
	assert_int_equal(one(engine, &io), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 1 << 30);
	io_set(&io, ENGINE_RESIZE, fd, 0, BLOCK);
	assert_int_equal(one(engine, &io), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, BLOCK);
	assert_int_equal(pipe(fds), 0);
	io_set(&io, ENGINE_RESIZE, fds[1], 0, BLOCK);
	assert_int_equal(one(engine, &io), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	close(fd);
	engine_close(engine);
}

/* On a device both are done by the helper thread, many at once, mixed with reads. */
static void discard_and_zero_a_device(void **state)
{
	const char *device = scratch_loop(scratch_file("disk", 64 * BLOCK), 4096);
	struct engine *engine;
	struct io ios[64] = { 0 };
	char *data = aligned(64 * BLOCK);
	int fd, i;

	if (!device)
		skip();
	engine = open_engine(state);
	fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	assert_true(fd >= 0);
	memset(data, 0x5a, 64 * BLOCK);
	assert_int_equal(pwrite(fd, data, 64 * BLOCK, 0), 64 * BLOCK);
	for (i = 0; i < 64; i++) {
		io_set(&ios[i], i % 3 == 0 ? ENGINE_ZERO : i % 3 == 1 ? ENGINE_DISCARD : ENGINE_READ, fd,
		       (uint64_t)i * BLOCK, BLOCK);
		ios[i].io.blkdev = true;
		io_set_data(&ios[i], data + i * BLOCK, BLOCK, false);
		engine_queue(engine, &ios[i].io);
	}
	run_by_fd(engine);
	assert_int_equal(pread(fd, data, 64 * BLOCK, 0), 64 * BLOCK);
	for (i = 0; i < 64; i++) {
		assert_int_equal(ios[i].calls, 1);
		assert_int_equal(ios[i].error, 0);
		assert_int_equal(data[i * BLOCK], i % 3 == 2 ? 0x5a : 0);
		assert_int_equal(data[i * BLOCK + BLOCK - 1], i % 3 == 2 ? 0x5a : 0);
	}
	io_set(&ios[0], ENGINE_DISCARD, fd, 64 * BLOCK, BLOCK);
	ios[0].io.blkdev = true;
	assert_int_not_equal(one(engine, &ios[0]), 0);
	engine_close(engine);
	close(fd);
	scratch_loop_remove(device);
	free(data);
}

static pthread_t caller;
static unsigned interruptions;

static int call_back(const struct engine_io *io)
{
	caller = pthread_self();
	return interruptions && interruptions-- ? -EINTR : -(int)io->offset;
}

/* It ends with its result, and is repeated after a signal; only the engine that has no threads calls it in ours. */
static void calls(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { .io.call = call_back };

	io_set(&io, ENGINE_CALL, -1, 0, 1);
	interruptions = 2;
	assert_int_equal(one(engine, &io), 0);
	assert_int_equal(interruptions, 0);
	assert_int_equal(pthread_equal(caller, pthread_self()) != 0, !strcmp(*state, "sync"));
	io_set(&io, ENGINE_CALL, -1, EDOM, 1);
	assert_int_equal(one(engine, &io), -EDOM);
	engine_close(engine);
}

static int wait_for_byte(const struct engine_io *io)
{
	char byte;

	return read(io->fd, &byte, 1) == 1 ? 0 : -EIO;
}

/* Run the engine until @io is done. */
static void run_until(struct engine *engine, const struct io *io)
{
	struct pollfd poll_fd = { .fd = engine_fd(engine), .events = POLLIN };

	assert_int_equal(engine_commit(engine), 0);
	while (!io->calls) {
		assert_int_equal(poll(&poll_fd, 1, 10000), 1);
		engine_reap(engine);
		assert_int_equal(engine_commit(engine), 0);
	}
}

/* Operations in threads: those of one descriptor block, and those of another do not wait for them. */
static void blocked_calls_delay_no_others(void **state)
{
	struct engine *engine = open_engine(state);
	struct io blocked[3] = { 0 }, other = { 0 };
	int pipes[2], fd = open_file(BLOCK, 0);
	unsigned i;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	for (i = 0; i < 3; i++) {
		io_set(&blocked[i], ENGINE_CALL, pipes[0], 0, 1);
		blocked[i].io.call = wait_for_byte;
		engine_queue(engine, &blocked[i].io);
	}
	for (i = 0; i < 3; i++) {
		io_set(&other, ENGINE_CALL, fd, 0, 1);
		other.io.call = call_back;
		engine_queue(engine, &other.io);
		run_until(engine, &other);
	}
	assert_int_equal(engine->queued, 3);
	assert_int_equal(write(pipes[1], "123", 3), 3);
	engine_run(engine);
	for (i = 0; i < 3; i++)
		assert_int_equal(blocked[i].error, 0);
	engine_close(engine);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

/* Of more descriptors than there can be threads: all are done in the end. */
static void many_blocked_calls(void **state)
{
	struct engine *engine = open_engine(state);
	struct io blocked[BLOCKED][2] = { 0 };
	int pipes[BLOCKED][2], i;

	for (i = 0; i < 2 * BLOCKED; i++) {
		struct io *io = &blocked[i / 2][i % 2];

		if (i % 2 == 0)
			assert_int_equal(pipe2(pipes[i / 2], O_CLOEXEC), 0);
		io_set(io, ENGINE_CALL, pipes[i / 2][0], 0, 1);
		io->io.call = wait_for_byte;
		engine_queue(engine, &io->io);
	}
	assert_int_equal(engine_commit(engine), 0);
	for (i = BLOCKED - 1; i >= 0; i--)
		assert_int_equal(write(pipes[i][1], "12", 2), 2);
	engine_run(engine);
	for (i = 0; i < BLOCKED; i++) {
		assert_int_equal(blocked[i][0].error + blocked[i][1].error, 0);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	engine_close(engine);
}

/* A file whose server does not answer has more requests than the engine has room for: those for another one run. */
static void dead_file_leaves_room(void **state)
{
	struct engine *engine;
	struct io *dead = calloc(MANY, sizeof(*dead)), other = { 0 };
	char *data = aligned(BLOCK), *zeroes = aligned(BLOCK), path[300];
	int fd = open_file(BLOCK, O_DIRECT), dead_fd, i;

	hanging_flags |= FUSE_ASYNC_DIO;	/* io_submit() does not wait for the server */
	if (!hanging_start(scratch_path("mnt")))
		skip();
	snprintf(path, sizeof(path), "%s/read", hanging.path);
	dead_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	assert_true(dead_fd >= 0);
	hanging_set(true);
	engine = open_engine(state);
	for (i = 0; i < MANY; i++) {
		io_set(&dead[i], ENGINE_READ, dead_fd, i % 8 * BLOCK, BLOCK);
		dead[i].io.may_block = true;
		io_set_data(&dead[i], zeroes, BLOCK, false);
		engine_queue(engine, &dead[i].io);
	}
	assert_int_equal(engine_commit(engine), 0);
	assert_true(hanging_wait_held(1));
	for (i = 0; i < 3; i++) {
		io_set(&other, i == 2 ? ENGINE_SYNC : i ? ENGINE_READ : ENGINE_WRITE, fd, 0, i == 2 ? 0 : BLOCK);
		io_set_data(&other, data, BLOCK, false);
		engine_queue(engine, &other.io);
		run_until(engine, &other);
		assert_int_equal(other.error, 0);
	}
	assert_int_equal(engine->queued, MANY);
	hanging_set(false);
	engine_run(engine);
	for (i = 0; i < MANY; i++)
		assert_true(dead[i].calls == 1 && !dead[i].error);
	engine_close(engine);
	close(fd);
	close(dead_fd);
	assert_true(hanging_wait_open(0));
	hanging_stop();
	free(data);
	free(zeroes);
	free(dead);
}

/* Every transfer moves only a few bytes: it is continued where it stopped, at every position. */
static void short_transfers_are_continued(void **state)
{
	struct fault_engine fault;
	struct io io = { 0 };
	char *data = aligned(BLOCK), *back = aligned(BLOCK);
	int fd = open_file(BLOCK, 0);
	size_t step;

	for (step = 1; step < BLOCK; step = step * 2 + 1) {
		fault_engine_init(&fault, 0, 0);
		fault.at_most = step;
		fill(data, BLOCK, step);
		io_set(&io, ENGINE_WRITE, fd, 0, BLOCK);
		io_set_data(&io, data, BLOCK, true);
		assert_int_equal(one(&fault.engine, &io), 0);
		memset(back, 0, BLOCK);
		io_set(&io, ENGINE_READ, fd, 0, BLOCK);
		io_set_data(&io, back, BLOCK, true);
		assert_int_equal(one(&fault.engine, &io), 0);
		assert_memory_equal(data, back, BLOCK);
	}
	close(fd);
	free(data);
	free(back);
}

static int lowest_free_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

/* With one descriptor more each time: until the open works, nothing is left open. */
static void failed_open_leaves_nothing(void **state)
{
	struct rlimit limit, low;
	struct engine *engine;
	int base = lowest_free_fd();
	int n, ret = -EMFILE;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (n = 0; ret; n++) {
		low = limit;
		low.rlim_cur = base + n;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		ret = engine_open(&engine, *state, DEPTH);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		if (ret)
			assert_int_equal(ret, -EMFILE);
		else
			engine_close(engine);
		assert_int_equal(lowest_free_fd(), base);
	}
}

/* A descriptor with one word to read; its other end is *@peer. */
static int open_exchange(int *peer)
{
	uint32_t word = 99;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(send(fds[1], &word, sizeof(word), 0), sizeof(word));
	*peer = fds[1];
	return fds[0];
}

static bool has_word(int fd)
{
	uint32_t word;

	return recv(fd, &word, sizeof(word), MSG_PEEK) == sizeof(word);
}

/* Both halves happen in the commit, and no thread is woken for them; an io beside them is done as usual. */
static void exchange_with_commit(void **state)
{
	struct engine *engine = open_engine(state);
	struct io io = { 0 };
	int peer, fd = open_exchange(&peer);
	static const uint32_t told = 7;
	uint32_t word = 0;

	assert_true(engine_exchange(engine, fd, &told));
	assert_false(has_word(peer));
	assert_int_equal(engine_commit(engine), 0);
	assert_int_equal(recv(peer, &word, sizeof(word), 0), sizeof(word));
	assert_int_equal(word, 7);
	assert_false(has_word(fd));
	assert_int_equal(poll(&(struct pollfd){ .fd = engine_fd(engine), .events = POLLIN }, 1, 0), 0);

	assert_int_equal(send(peer, &word, sizeof(word), 0), sizeof(word));
	io_set(&io, ENGINE_SYNC, open_file(BLOCK, 0), 0, 0);
	engine_queue(engine, &io.io);
	assert_true(engine_exchange(engine, fd, &told));
	run_by_fd(engine);
	assert_int_equal(io.error, 0);
	assert_int_equal(io.calls, 1);
	assert_true(has_word(peer));
	assert_false(has_word(fd));
	engine_close(engine);
	close(io.io.fd);
	close(fd);
	close(peer);
}

/* The error is reported, the engine says from then on that it cannot exchange words, and its ios still work. */
static void check_failed_exchange(struct engine *engine, int fd)
{
	static const uint32_t told = 7;
	struct io io = { 0 };

	assert_true(engine_exchange(engine, fd, &told));
	assert_int_equal(engine->exchange_failures, 0);
	assert_int_equal(engine_commit(engine), 0);
	assert_int_equal(engine_reap(engine), 0);
	assert_int_not_equal(engine->exchange_failures, 0);
	assert_false(engine_exchange(engine, fd, &told));
	io_set(&io, ENGINE_SYNC, open_file(BLOCK, 0), 0, 0);
	assert_int_equal(one(engine, &io), 0);
	close(io.io.fd);
}

static void exchange_cannot_write(void **state)
{
	struct engine *engine = open_engine(state);
	uint32_t word = 99;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], &word, sizeof(word)), sizeof(word));
	check_failed_exchange(engine, pipes[0]);
	engine_close(engine);
	close(pipes[0]);
	close(pipes[1]);
}

/* The read comes first: if it fails, there is no write. */
static void exchange_cannot_read(void **state)
{
	struct engine *engine = open_engine(state);
	uint32_t word;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
	check_failed_exchange(engine, pipes[1]);
	assert_int_equal(read(pipes[0], &word, sizeof(word)), -1);
	engine_close(engine);
	close(pipes[0]);
	close(pipes[1]);
}

/* When more are added than fit, the others are refused until a commit; all accepted ones are done. */
static void exchanges_fill_up(void **state)
{
	static const uint32_t told = 7;
	struct engine *engine = open_engine(state);
	int peer, fd = open_exchange(&peer);
	unsigned taken, seen = 0, expected = 0;
	uint32_t word;

	for (int round = 0; round < 3; round++) {
		for (taken = 0; taken < MANY && engine_exchange(engine, fd, &told); taken++)
			assert_int_equal(send(peer, &told, sizeof(told), 0), sizeof(told));
		assert_in_range(taken, 1, MANY - 1);
		expected += taken;
		assert_int_equal(engine_commit(engine), 0);
		while (recv(peer, &word, sizeof(word), 0) == sizeof(word))
			seen++;
	}
	assert_int_equal(seen, expected);
	engine_close(engine);
	close(fd);
	close(peer);
}

static void no_exchange(void **state)
{
	struct engine *engine = open_engine(state);
	int peer, fd = open_exchange(&peer);

	assert_false(engine_exchange(engine, fd, &(uint32_t){ 7 }));
	engine_close(engine);
	close(fd);
	close(peer);
}

static void unknown_engine(void **state)
{
	struct engine *engine;

	assert_int_equal(engine_open(&engine, "floppy", 1), -EINVAL);
}

/* Where io_uring is not permitted, libaio is used, and its name is reported. */
static void falls_back_to_libaio(void **state)
{
	static const int errors[] = { EPERM, ENOSYS, ENOMEM };
	int status;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		pid_t child = fork();

		if (!child) {
			scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
			struct engine *engine;

			if (!filter || seccomp_rule_add(filter, SCMP_ACT_ERRNO(errors[i]), SCMP_SYS(io_uring_setup), 0) ||
			    seccomp_load(filter))
				_exit(2);
			_exit(engine_open(&engine, NULL, DEPTH) || strcmp(engine->ops->name, "libaio"));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

static struct engine timed;
static char expired[8];

static void note_expired(struct engine_timer *timer)
{
	strcat(expired, timer->owner);
}

/* Sets itself again when it expires for the first time. */
static void note_and_repeat(struct engine_timer *timer)
{
	note_expired(timer);
	if (timer->due < 50)
		engine_set_timer(&timed, timer, 50);
}

/* Timers expire when they are due, in that order, once; canceled ones do not. */
static void timers(void **state)
{
	struct engine_timer late = { .expired = note_expired, .owner = "L" }, early = { .expired = note_and_repeat, .owner = "E" },
		gone = { .expired = note_expired, .owner = "G" };

	assert_true(engine_next_timer(&timed) == UINT64_MAX);
	engine_set_timer(&timed, &late, 30);
	engine_set_timer(&timed, &gone, 20);
	engine_set_timer(&timed, &early, 10);
	engine_cancel_timer(&timed, &gone);
	engine_cancel_timer(&timed, &gone);
	assert_int_equal(engine_next_timer(&timed), 10);
	engine_run_timers(&timed, 9);
	assert_string_equal(expired, "");
	engine_run_timers(&timed, 30);
	assert_string_equal(expired, "EL");
	assert_int_equal(engine_next_timer(&timed), 50);
	engine_run_timers(&timed, 60);
	assert_string_equal(expired, "ELE");
	assert_true(engine_next_timer(&timed) == UINT64_MAX);
}

#define FOR_ENGINE(test, engine) { #test " (" engine ")", test, NULL, NULL, (void *)engine }
#define FOR_EACH_ENGINE(test) FOR_ENGINE(test, "io_uring"), FOR_ENGINE(test, "libaio"), FOR_ENGINE(test, "sync")

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_EACH_ENGINE(many_beyond_depth),
		FOR_EACH_ENGINE(errors_are_reported_alone),
		FOR_EACH_ENGINE(sync_error_is_reported),
		FOR_EACH_ENGINE(end_of_file_is_an_error),
		FOR_EACH_ENGINE(short_write_goes_on),
		FOR_EACH_ENGINE(done_may_queue_and_commit),
		FOR_EACH_ENGINE(discard_and_zero_a_file),
		FOR_EACH_ENGINE(resize),
		FOR_EACH_ENGINE(discard_and_zero_a_device),
		FOR_EACH_ENGINE(calls),
		FOR_ENGINE(blocked_calls_delay_no_others, "io_uring"),
		FOR_ENGINE(blocked_calls_delay_no_others, "libaio"),
		FOR_ENGINE(many_blocked_calls, "io_uring"),
		FOR_ENGINE(many_blocked_calls, "libaio"),
		FOR_ENGINE(dead_file_leaves_room, "io_uring"),
		FOR_ENGINE(dead_file_leaves_room, "libaio"),
		cmocka_unit_test(short_transfers_are_continued),
		FOR_EACH_ENGINE(failed_open_leaves_nothing),
		FOR_ENGINE(exchange_with_commit, "io_uring"),
		FOR_ENGINE(exchange_cannot_write, "io_uring"),
		FOR_ENGINE(exchange_cannot_read, "io_uring"),
		FOR_ENGINE(exchanges_fill_up, "io_uring"),
		FOR_ENGINE(no_exchange, "libaio"),
		FOR_ENGINE(no_exchange, "sync"),
		cmocka_unit_test(timers),
		cmocka_unit_test(unknown_engine),
		cmocka_unit_test(falls_back_to_libaio),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
