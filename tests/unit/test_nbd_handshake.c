/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_handshake.c - the NBD server's negotiation with honest, broken
 * and hostile clients, byte by byte. After each hostile client an honest one
 * must be served: a client can end at most its own connection.
 */
#include "array.h"
#include "nbd_client.h"
#include "nbd_handshake.h"

static void test_go_tells_the_disk(void **state)
{
	struct nbd_info_block_size sizes;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint16_t flags = client_info(fd, NBD_OPT_INFO, &sizes);

	assert_int_equal(flags, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
				NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE |
				NBD_FLAG_CAN_MULTI_CONN);
	assert_int_equal(be32toh(sizes.minimum), 512);
	assert_int_equal(be32toh(sizes.preferred), 4096);
	assert_int_equal(be32toh(sizes.maximum), 32 << 20);
	assert_int_equal(client_info(fd, NBD_OPT_GO, &sizes), flags);
	client_leave(fd);
}

static void test_export_name(void **state)
{
	for (int zeroes = 0; zeroes < 2; zeroes++) {
		size_t length = zeroes ? sizeof(struct nbd_export_reply) : 10;
		int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | (zeroes ? 0 : NBD_FLAG_NO_ZEROES));
		struct nbd_export_reply reply;
		uint8_t data[512];

		client_option(fd, NBD_OPT_EXPORT_NAME, "", 0);
		client_receive(fd, &reply, length);
		assert_true(be64toh(reply.size) == DISK_BYTES);
		assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
		client_leave(fd);
	}
}

static void test_other_exports_refused(void **state)
{
	const uint8_t named[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 1, 0, 3 };
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_GO, named, sizeof(named));
	assert_int_equal(client_option_reply(fd, NBD_OPT_GO, data, &length), NBD_REP_ERR_UNKNOWN);
	assert_true(length > 0);
	client_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
	client_expect_end(fd);
}

static void test_other_options(void **state)
{
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_LIST, "", 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_SERVER);
	assert_int_equal(length, 4);
	assert_memory_equal(data, "\0\0\0\0", 4);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ACK);
	client_option(fd, NBD_OPT_LIST, "x", 1);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ERR_INVALID);
	client_option(fd, NBD_OPT_STRUCTURED_REPLY, "x", 1);
	assert_int_equal(client_option_reply(fd, NBD_OPT_STRUCTURED_REPLY, data, &length), NBD_REP_ERR_INVALID);
	client_option(fd, 5, "", 0);	/* TLS */
	assert_int_equal(client_option_reply(fd, 5, data, &length), NBD_REP_ERR_UNSUP);
	client_option(fd, 0xffffffff, "data that are skipped", 21);
	assert_int_equal(client_option_reply(fd, 0xffffffff, data, &length), NBD_REP_ERR_UNSUP);
	client_option(fd, NBD_OPT_ABORT, "", 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_ABORT, data, &length), NBD_REP_ACK);
	client_expect_end(fd);
}

static void test_byte_by_byte(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 99, 512, 512);
	uint8_t session[4 + 16 + 6 + sizeof(request) + 512] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
								0, 0, 0, NBD_OPT_GO, 0, 0, 0, 6 };
	uint8_t replies[18 + 20 + 12 + 20 + 14 + 20], data[512];
	uint64_t cookie;
	int fd = client_connect();

	memcpy(session + 26, &request, sizeof(request));
	memset(session + 26 + sizeof(request), 0x5a, 512);
	for (size_t i = 0; i < sizeof(session); i++)
		client_send(fd, session + i, 1);
	client_receive(fd, replies, sizeof(replies));
	assert_int_equal(client_reply(fd, &cookie), 0);
	assert_true(cookie == 99);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, 512, data), 0);
	assert_memory_equal(data, session + sizeof(session) - 512, 512);
	client_leave(fd);
}

/* Hostile negotiation: the connection must end after @bytes behind the greeting. */
static void expect_hang_up(const void *bytes, size_t length)
{
	struct nbd_greeting greeting;
	int fd = client_connect();

	client_receive(fd, &greeting, sizeof(greeting));
	client_send(fd, bytes, length);
	client_expect_end(fd);
	expect_service();
}

static void test_hostile_negotiation(void **state)
{
	const uint8_t bad_flags[] = { 0x80, 0, 0, 3 };
	const uint8_t bad_magic[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'X', 0, 0, 0, 3, 0, 0, 0, 0 };
	const uint8_t too_long[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff };
	const uint8_t just_too_long[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 6, 0, 0, 0x20, 1 };

	expect_hang_up(bad_flags, sizeof(bad_flags));
	expect_hang_up(bad_magic, sizeof(bad_magic));
	expect_hang_up(too_long, sizeof(too_long));
	expect_hang_up(just_too_long, sizeof(just_too_long));
}

static void test_malformed_information_requests(void **state)
{
	static const struct { uint8_t bytes[12]; uint32_t length; } cases[] = {
		{ { 0 }, 0 },
		{ { 0, 0, 0, 0, 0 }, 5 },
		{ { 0xff, 0xff, 0xff, 0xff, 0, 0 }, 6 },		/* name length */
		{ { 0xff, 0xff, 0xff, 0xfa, 0, 0 }, 6 },		/* ... that would wrap around */
		{ { 0, 0, 0, 1, 0, 0 }, 6 },
		{ { 0, 0, 0, 0, 0xff, 0xff }, 6 },			/* number of requests */
		{ { 0, 0, 0, 0, 0, 1, 0 }, 7 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0 }, 8 },
	};
	struct nbd_info_block_size sizes;
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		client_option(fd, NBD_OPT_GO, cases[i].bytes, cases[i].length);
		assert_int_equal(client_option_reply(fd, NBD_OPT_GO, data, &length), NBD_REP_ERR_INVALID);
	}
	client_info(fd, NBD_OPT_GO, &sizes);
	client_leave(fd);
}

static void test_endless_options(void **state)
{
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	for (unsigned i = 0; i < NBD_MAX_OPTIONS; i++) {
		client_option(fd, 77, "", 0);
		client_option_reply(fd, 77, data, &length);
	}
	client_option(fd, 77, "", 0);
	client_expect_end(fd);
	expect_service();
}

/* Every prefix of a correct session. */
static void test_truncated_sessions(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_WRITE, 0, 1, 0, 4096);
	uint8_t session[4 + 16 + 6 + sizeof(request) + 64] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
							       0, 0, 0, NBD_OPT_GO, 0, 0, 0, 6 };

	memcpy(session + 26, &request, sizeof(request));
	for (size_t length = 0; length <= sizeof(session); length++) {
		int fd = client_connect();

		client_send(fd, session, length);
		close(fd);
	}
	expect_service();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_NULL(test_go_tells_the_disk),
		ON_NULL(test_export_name),
		ON_NULL(test_other_exports_refused),
		ON_NULL(test_other_options),
		ON_FILE(test_byte_by_byte),
		ON_NULL(test_hostile_negotiation),
		ON_NULL(test_malformed_information_requests),
		ON_NULL(test_endless_options),
		ON_FILE(test_truncated_sessions),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
