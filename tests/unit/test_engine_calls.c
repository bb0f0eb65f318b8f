/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine_calls.c - an engine's calls of functions that may block, and
 * requests to a file that does not answer: neither delays the others.
 */
#include <pthread.h>

#include "engine_ios.h"
#include "hanging_fs.h"

#define BLOCKED 40			/* descriptors: more than the engines have threads */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_EACH_ENGINE(calls),
		FOR_ENGINE(blocked_calls_delay_no_others, "io_uring"),
		FOR_ENGINE(blocked_calls_delay_no_others, "libaio"),
		FOR_ENGINE(many_blocked_calls, "io_uring"),
		FOR_ENGINE(many_blocked_calls, "libaio"),
		FOR_ENGINE(dead_file_leaves_room, "io_uring"),
		FOR_ENGINE(dead_file_leaves_room, "libaio"),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
