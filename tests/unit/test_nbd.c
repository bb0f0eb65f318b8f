/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd.c - the NBD server's requests: their effects and refusals.
 */
#include <sys/stat.h>

#include "array.h"
#include "nbd_client.h"
#include "nbd_connection.h"

static void test_contents(void **state)
{
	size_t size = 3 << 20;
	uint8_t *out = malloc(size), *in = malloc(size);
	int fd = client_go();

	for (size_t i = 0; i < size; i++)
		out[i] = i * 2654435761u >> 24;
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, size, out), 0);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 512, size, in), 0);
	assert_memory_equal(in, out, size);

	/* zeroes that may become holes and zeroes that must not; the latter in more than one piece */
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, 0, 4096, 8192, NULL), 0);
	memset(out + 4096 - 512, 0, 8192);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA,
					65536, (2 << 20) + 512, NULL), 0);
	memset(out + 65536 - 512, 0, (2 << 20) + 512);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, size, in), 0);
	assert_memory_equal(in, out, size);
	client_leave(fd);
	free(out);
	free(in);
}

#define ZEROED_AT (1u << 20)
#define ZEROED_BYTES 65536u

/* Zero what was written, by that request; 0 or its error. What is there then, all of it, goes to *@byte. */
static uint32_t zero_written(int fd, uint16_t flags, uint8_t *byte)
{
	static uint8_t data[ZEROED_BYTES], uniform[ZEROED_BYTES];
	uint32_t error;

	memset(data, 0x55, sizeof(data));
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, ZEROED_AT, sizeof(data), data), 0);
	error = client_command(fd, NBD_CMD_WRITE_ZEROES, flags, ZEROED_AT, sizeof(data), NULL);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, ZEROED_AT, sizeof(data), data), 0);
	*byte = data[0];
	memset(uniform, *byte, sizeof(uniform));
	assert_memory_equal(data, uniform, sizeof(data));
	return error;
}

static void test_fast_zero(void **state)
{
	int fd = client_go();
	uint8_t byte;

	assert_int_equal(zero_written(fd, NBD_CMD_FLAG_FAST_ZERO, &byte), 0);
	assert_int_equal(byte, 0);
	assert_int_equal(zero_written(fd, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_FUA, &byte), 0);
	assert_int_equal(byte, 0);
	client_leave(fd);
}

/* The disk would have to write zeros: the client learns that at once, writes something else, or asks without the flag. */
static void test_no_fast_zero(void **state)
{
	struct nbd_info_block_size sizes;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint8_t byte;

	assert_true(client_info(fd, NBD_OPT_GO, &sizes) & NBD_FLAG_SEND_FAST_ZERO);
	assert_int_equal(zero_written(fd, NBD_CMD_FLAG_FAST_ZERO, &byte), NBD_ENOTSUP);
	assert_int_equal(byte, 0x55);
	assert_int_equal(zero_written(fd, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_FUA, &byte), NBD_ENOTSUP);
	assert_int_equal(byte, 0x55);
	assert_int_equal(zero_written(fd, 0, &byte), 0);
	assert_int_equal(byte, 0);
	client_leave(fd);
}

/* CAN_MULTI_CONN: a flush of one client makes durable what another was told is written. */
static void test_flush_of_another_client(void **state)
{
	struct nbd_info_block_size sizes;
	int writer = client_greet(NBD_FLAG_FIXED_NEWSTYLE), flusher = client_go();
	uint8_t data[8192] = { 0 };

	assert_true(client_info(writer, NBD_OPT_GO, &sizes) & NBD_FLAG_CAN_MULTI_CONN);
	assert_int_equal(server_command('o'), 'k');
	for (unsigned round = 1; round <= 16; round++) {
		unsigned written;

		memset(data, round, sizeof(data));
		assert_int_equal(client_command(writer, NBD_CMD_WRITE, 0, round * 65536, sizeof(data), data), 0);
		written = observed->written;
		assert_true(written >= round && observed->durable < written);
		assert_int_equal(client_command(flusher, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
		assert_true(observed->durable >= written);
	}
	client_leave(writer);
	client_leave(flusher);
}

static void test_no_hole_allocates(void **state)
{
	struct stat status;
	int fd = client_go();

	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA,
					32 << 20, 8 << 20, NULL), 0);
	assert_int_equal(stat(image, &status), 0);
	assert_true(status.st_blocks >= (8 << 20) / 512);
	client_leave(fd);
}

static void test_largest_request(void **state)
{
	uint8_t *data = malloc(NBD_MAX_PAYLOAD);
	int fd = client_go();

	memset(data, 0x77, NBD_MAX_PAYLOAD);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, NBD_MAX_PAYLOAD, NBD_MAX_PAYLOAD, data), 0);
	memset(data, 0, NBD_MAX_PAYLOAD);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, NBD_MAX_PAYLOAD, NBD_MAX_PAYLOAD, data), 0);
	assert_int_equal(data[0], 0x77);
	assert_int_equal(data[NBD_MAX_PAYLOAD - 1], 0x77);
	client_leave(fd);
	free(data);
}

#define CACHED_BYTES (3u << 20)		/* more than a piece */

static uint8_t cached_byte(size_t i)
{
	return i * 2654435761u >> 24;
}

/* How many of the image's first CACHED_BYTES are in the page cache. */
static size_t bytes_cached(void)
{
	unsigned char there[CACHED_BYTES / 4096];
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, CACHED_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	size_t bytes = 0;

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mincore(map, CACHED_BYTES, there), 0);
	for (size_t i = 0; i < ARRAY_SIZE(there); i++)
		bytes += (there[i] & 1) * 4096;
	munmap(map, CACHED_BYTES);
	close(fd);
	return bytes;
}

/* CACHE answers, and changes nothing that a reader sees or that is in the file. */
static void expect_cache_harmless(int fd, uint16_t flags)
{
	uint8_t *data = malloc(CACHED_BYTES + 512);
	struct stat before, after;

	assert_int_equal(stat(image, &before), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, flags, 0, CACHED_BYTES, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, flags, 512, 512, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, flags, DISK_BYTES - 512, 512, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, flags, 0, DISK_BYTES, NULL), 0);
	assert_int_equal(stat(image, &after), 0);
	assert_true(after.st_blocks == before.st_blocks && after.st_mtim.tv_sec == before.st_mtim.tv_sec &&
		    after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, CACHED_BYTES + 512, data), 0);
	for (size_t i = 0; i < CACHED_BYTES + 512; i++)
		assert_int_equal(data[i], i < CACHED_BYTES ? cached_byte(i) : 0);
	free(data);
}

/* The image has data, and none of it is in the page cache. */
static void write_uncached(void)
{
	uint8_t *data = malloc(CACHED_BYTES);
	int fd = open(image, O_WRONLY | O_CLOEXEC);

	for (size_t i = 0; i < CACHED_BYTES; i++)
		data[i] = cached_byte(i);
	assert_int_equal(pwrite(fd, data, CACHED_BYTES, 0), CACHED_BYTES);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
	free(data);
}

static void test_cache(void **state)
{
	int fd = client_go();

	write_uncached();
	expect_cache_harmless(fd, 0);
	expect_cache_harmless(fd, NBD_CMD_FLAG_FUA);
	client_leave(fd);
}

/* Through the page cache, CACHE reads into it what was asked for, and nothing far from that. */
static void test_cache_fills_the_page_cache(void **state)
{
	size_t before;
	int fd = client_go();

	write_uncached();
	before = bytes_cached();
	if (before == CACHED_BYTES)
		skip();			/* tmpfs */
	assert_int_equal(before, 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, 0, DISK_BYTES - CACHED_BYTES, CACHED_BYTES, NULL), 0);
	assert_int_equal(bytes_cached(), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, 0, 0, CACHED_BYTES, NULL), 0);
	assert_int_equal(bytes_cached(), CACHED_BYTES);
	expect_cache_harmless(fd, 0);
	client_leave(fd);
}

/* Refused, and the connection continues: the data of a refused write have been skipped. */
static void test_refused_requests(void **state)
{
	static const struct { uint16_t type, flags; uint64_t offset; uint32_t length, error; } cases[] = {
		{ NBD_CMD_READ, 0, 1, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 511, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK_BYTES, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK_BYTES - 512, 1024, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0xfffffffffffffe00, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0xfffffffffffffe00, 1024, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, NBD_MAX_PAYLOAD + 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0xffffffff, NBD_EINVAL },
		{ NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0x8000, 0, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 1, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 512, 4095, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, DISK_BYTES, 65536, NBD_ENOSPC },
		{ NBD_CMD_WRITE, 0, 0xfffffffffffffe00, 1024, NBD_ENOSPC },
		{ NBD_CMD_WRITE, 4, 0, 512, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 512, 0, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 0, 512, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 0, 0xfffffe00, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, 0, 0, 0xfffffe00, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 0, 0xfffffffffffffe00, 512, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 32, 0, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0xfffffffffffffe00, 512, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_ENOTSUP },
		{ NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL },	/* structured replies were not agreed on */
		{ NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 0, 0xfffffe00, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 1, 512, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 0, 511, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, DISK_BYTES, 512, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, DISK_BYTES - 512, 1024, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 0xfffffffffffffe00, 1024, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_FAST_ZERO, 0, 512, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL },
		{ 8, 0, 0, 512, NBD_EINVAL },
		{ 0xffff, 0, 0, 0, NBD_EINVAL },
	};
	static uint8_t data[65536];
	int fd = client_go();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t error = client_command(fd, cases[i].type, cases[i].flags, cases[i].offset, cases[i].length, data);

		if (error != cases[i].error)
			fail_msg("case %zu: error %u, expected %u", i, error, cases[i].error);
	}
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, 512, data), 0);
	client_leave(fd);
}

static void test_read_only(void **state)
{
	struct nbd_info_block_size sizes;
	uint8_t data[4096] = { 0 };
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint16_t flags = client_info(fd, NBD_OPT_GO, &sizes);

	assert_true(flags & NBD_FLAG_READ_ONLY);
	assert_false(flags & (NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_TRIM));
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 0, sizeof(data), data), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_TRIM, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, 0, 0, sizeof(data), NULL), 0);
	client_leave(fd);
}

static void test_4096_byte_sectors(void **state)
{
	struct nbd_info_block_size sizes;
	uint8_t data[4096] = { 0 };
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_info(fd, NBD_OPT_GO, &sizes);
	assert_int_equal(be32toh(sizes.minimum), 4096);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, 4096, data), NBD_EINVAL);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 4096, 512, data), NBD_EINVAL);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 4096, 4096, data), 0);
	client_leave(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FILE(test_contents),
		ON_FILE(test_fast_zero),
		ON_STORE(test_fast_zero),
		cmocka_unit_test_setup_teardown(test_no_fast_zero, start_slow_zeroes, end),
		ON_FILE(test_flush_of_another_client),
		ON_STORE(test_flush_of_another_client),
		ON_FILE(test_no_hole_allocates),
		ON_FILE(test_largest_request),
		ON_FILE(test_refused_requests),
		ON_FILE(test_cache),
		cmocka_unit_test_setup_teardown(test_cache, start_cached, end),
		cmocka_unit_test_setup_teardown(test_cache_fills_the_page_cache, start_cached, end),
		cmocka_unit_test_setup_teardown(test_read_only, start_read_only, end),
		cmocka_unit_test_setup_teardown(test_4096_byte_sectors, start_4096, end),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
