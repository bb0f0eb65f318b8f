/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine_space.c - every engine discards, zeroes and resizes, files and
 * devices.
 */
#include <sys/stat.h>

#include "engine_ios.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_EACH_ENGINE(discard_and_zero_a_file),
		FOR_EACH_ENGINE(resize),
		FOR_EACH_ENGINE(discard_and_zero_a_device),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
