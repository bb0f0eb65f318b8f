/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine_exchange.c - an engine that exchanges words with a descriptor
 * in its commit, and those that cannot.
 */
#include <sys/socket.h>

#include "engine_ios.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_ENGINE(exchange_with_commit, "io_uring"),
		FOR_ENGINE(exchange_cannot_write, "io_uring"),
		FOR_ENGINE(exchange_cannot_read, "io_uring"),
		FOR_ENGINE(exchanges_fill_up, "io_uring"),
		FOR_ENGINE(no_exchange, "libaio"),
		FOR_ENGINE(no_exchange, "sync"),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
