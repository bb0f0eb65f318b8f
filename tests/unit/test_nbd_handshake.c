/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_handshake.c - the NBD server's negotiation with honest, broken
 * and hostile clients, byte by byte. After each hostile client an honest one
 * must be served: a client can end at most its own connection.
 */
#include "array.h"
#include "cow.h"
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

#define MANY 5000u
#define ON_MANY(test) cmocka_unit_test_setup_teardown(test, start_many, end)

/* A name of the greatest length. */
static void many_name(char name[NBD_MAX_NAME + 1], unsigned i)
{
	snprintf(name, NBD_MAX_NAME + 1, "%04u-%0*u", i * 7 % MANY, (int)NBD_MAX_NAME - 5, i);
}

/* Each snapshot waits for its sync; this store need not survive a power cut. */
static int no_sync(struct cow_device *device)
{
	return 0;
}

/* A store with so many snapshots that their names fit into no single reply. */
static int start_many(void **state)
{
	const struct cow_create_options create = { .sectors = DISK_BYTES / 512 };
	const struct cow_open_options options = { 0 };
	char name[NBD_MAX_NAME + 1], target[100];
	struct error_text text = { "" };
	struct cow_device_ops ops;
	struct cow_device *device;
	struct cow_store *store;

	unlink(image);
	assert_int_equal(cow_file_create(&device, image, &text), 0);
	assert_int_equal(cow_create(device, &create, &text), 0);
	ops = *device->ops;
	ops.write_durable = ops.write;
	ops.sync = no_sync;
	device->ops = &ops;
	assert_int_equal(cow_open(&store, device, &options, &text), 0);
	for (unsigned i = 0; i < MANY; i++) {
		many_name(name, i);
		assert_int_equal(cow_snapshot_create(store, name, NULL, &text), 0);
	}
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	snprintf(target, sizeof(target), "cow:%s", image);
	server_start(target, false, 0);
	return 0;
}

static int offer_many(void *owner, int (*each)(void *arg, const char *name, uint32_t id), void *arg)
{
	char name[NBD_MAX_NAME + 1];
	int ret = 0;

	for (unsigned i = 0; i < 10 * MANY && !ret; i++) {
		many_name(name, i);
		ret = each(arg, name, i);
	}
	return ret;
}

/* What a list of any length uses is a part of it. */
static void test_list_uses_little_memory(void **state)
{
	const uint8_t list[] = { 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, NBD_OPT_LIST, 0, 0, 0, 0 };
	const size_t all = 10 * MANY * (sizeof(struct nbd_option_reply) + 4 + NBD_MAX_NAME) + sizeof(struct nbd_option_reply);
	const struct nbd_offer offer = { .list = offer_many };
	struct nbd_handshake handshake;
	size_t consumed, sum = 0;

	assert_int_equal(nbd_handshake_begin(&handshake), 0);
	handshake.got_flags = true;
	do {
		handshake.reply_length = 0;
		assert_int_equal(nbd_handshake_step(&handshake, &offer, list, sizeof(list), &consumed), NBD_HANDSHAKE_CONTINUE);
		assert_in_range(handshake.reply_room, handshake.reply_length, 2 * NBD_LIST_PART);
		sum += handshake.reply_length;
	} while (!consumed);
	assert_int_equal(consumed, sizeof(list));
	assert_int_equal(sum, all);
	nbd_handshake_end(&handshake);
}

/* Every export is listed, once, however many there are. */
static void test_list_of_many(void **state)
{
	char expected[NBD_MAX_NAME + 1] = "";
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_LIST, "", 0);
	client_option(fd, NBD_OPT_ABORT, "", 0);
	for (unsigned i = 0; i <= MANY; i++) {
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_SERVER);
		assert_int_equal(length, 4 + strlen(expected));
		assert_memory_equal(data + 4, expected, length - 4);
		many_name(expected, i);
	}
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ACK);
	assert_int_equal(client_option_reply(fd, NBD_OPT_ABORT, data, &length), NBD_REP_ACK);
	client_expect_end(fd);
}

static void expect_context(int fd, const char *prefix, const char *name)
{
	uint8_t data[512];
	uint32_t length;

	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_int_equal(length, 4 + strlen(prefix) + strlen(name));
	assert_memory_equal(data + 4, prefix, strlen(prefix));
	assert_memory_equal(data + 4 + strlen(prefix), name, strlen(name));
}

/* The rest of a list of each snapshot's context, from @i on. */
static void expect_contexts(int fd, unsigned i)
{
	char name[NBD_MAX_NAME + 1];

	for (; i < MANY; i++) {
		many_name(name, i);
		expect_context(fd, "tapsnap:changed:", name);
	}
}

/* Each query's answer is longer than a reply. */
static void test_contexts_of_many(void **state)
{
	char last[16 + NBD_MAX_NAME + 1] = "tapsnap:changed:";
	const char *const queries[] = { "base:", "tapsnap:", "", "nothing:", last, "tapsnap:changed:", "base:allocation", NULL };
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet_structured();

	many_name(last + strlen(last), MANY - 1);
	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries);
	expect_context(fd, "base:", "allocation");
	expect_contexts(fd, 0);
	expect_context(fd, "", last);
	expect_contexts(fd, 0);
	expect_context(fd, "base:", "allocation");
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);

	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries + 7);	/* none: all contexts */
	expect_context(fd, "base:", "allocation");
	expect_contexts(fd, 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	client_leave(fd);
}

#define LONGEST (NBD_MAX_QUERIES * MANY)

/* Begin a list that no socket holds, and pause the disk; then take what comes of it until nothing does. */
static unsigned pause_in_a_list(int fd)
{
	const char *queries[NBD_MAX_QUERIES + 1] = { NULL };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	unsigned count = 0;
	uint8_t data[512];
	uint32_t length;

	for (unsigned i = 0; i < NBD_MAX_QUERIES; i++)
		queries[i] = "tapsnap:";
	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries);
	assert_int_equal(poll(&ready, 1, TIMEOUT_MS), 1);
	assert_int_equal(server_command('p'), 'k');
	for (; poll(&ready, 1, 200) > 0; count++)
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_in_range(count, 1, LONGEST - 1);
	return count;
}

/* While the disk is paused nobody knows its snapshots: what is missing of the list follows afterwards. */
static void test_pause_in_a_list(void **state)
{
	int fd = client_greet_structured();
	uint8_t data[512];
	uint32_t length;
	unsigned count;

	count = pause_in_a_list(fd);
	assert_int_equal(server_command('u'), 'k');
	for (; count < LONGEST; count++)
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);
	close(fd);
}

/* The rest would be the list of another store. */
static void test_another_store_in_a_list(void **state)
{
	int fd = client_greet_structured();
	char more;

	pause_in_a_list(fd);
	make_store();
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(recv(fd, &more, 1, 0), 0);
	close(fd);
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
		cmocka_unit_test(test_list_uses_little_memory),
		ON_MANY(test_list_of_many),
		ON_MANY(test_contexts_of_many),
		ON_MANY(test_pause_in_a_list),
		ON_MANY(test_another_store_in_a_list),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
