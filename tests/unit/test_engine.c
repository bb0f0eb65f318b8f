/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine.c - every engine keeps the contract of engine.h: the same tests
 * of reads, writes and syncs for each.
 */
#include <signal.h>
#include <sys/resource.h>

#include "engine_ios.h"
#include "fault_engine.h"

static void limit_file_size(rlim_t bytes)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_EACH_ENGINE(many_beyond_depth),
		FOR_EACH_ENGINE(errors_are_reported_alone),
		FOR_EACH_ENGINE(sync_error_is_reported),
		FOR_EACH_ENGINE(end_of_file_is_an_error),
		FOR_EACH_ENGINE(short_write_goes_on),
		FOR_EACH_ENGINE(done_may_queue_and_commit),
		cmocka_unit_test(short_transfers_are_continued),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
