/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_structured.c - the NBD server's structured replies: reads with
 * holes, block status, contexts, and snapshots as exports; with clients that
 * ask for too much or for nonsense.
 *
 * TAPSNAP_SEED=N repeats a run of the random part; the seed is printed.
 */
#include <time.h>

#include "array.h"
#include "nbd_client.h"
#include "nbd_connection.h"

#define MIB (1u << 20)

static int go_structured(void)
{
	int fd = client_greet_structured();

	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	return fd;
}

/* The complete reply to a READ goes to @data; returns 0 or its error. @holes: the bytes of it that were in holes. */
static uint32_t read_parts(int fd, uint16_t flags, uint64_t offset, uint32_t length, uint8_t *data, unsigned *chunks,
			   uint32_t *holes)
{
	uint8_t *part = malloc(length + 64);
	uint64_t at, sum = 0;
	uint32_t bytes, error = 0;
	uint16_t type;
	bool last;

	client_request(fd, NBD_CMD_READ, flags, 7, offset, length);
	memset(data, 0xee, length);
	*holes = *chunks = 0;
	do {
		last = client_chunk(fd, 7, &type, part, length + 64, &bytes);
		++*chunks;
		if (type == NBD_CHUNK_ERROR) {
			memcpy(&error, part, sizeof(error));
			break;
		}
		memcpy(&at, part, sizeof(at));
		at = be64toh(at) - offset;
		if (type == NBD_CHUNK_OFFSET_HOLE) {
			assert_int_equal(bytes, 12);
			memcpy(&bytes, part + 8, 4);
			bytes = be32toh(bytes);
			memset(part, 0, bytes);
			*holes += bytes;
		} else {
			assert_int_equal(type, NBD_CHUNK_OFFSET_DATA);
			bytes -= 8;
			memmove(part, part + 8, bytes);
		}
		assert_true(at == sum && at + bytes <= length);	/* our chunks come in order */
		memcpy(data + at, part, bytes);
		sum += bytes;
	} while (!last);
	assert_true(error || sum == length);
	free(part);
	return be32toh(error);
}

static void test_reads_with_holes(void **state)
{
	uint8_t *data = malloc(4 * MIB), *expected = calloc(4, MIB);
	unsigned chunks;
	uint32_t holes;
	int fd = go_structured();

	for (unsigned i = 0; i < 3; i++) {
		memset(expected + i * MIB + 65536, i + 1, 131072);
		assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, i * MIB + 65536, 131072,
						expected + i * MIB + 65536), 0);
	}
	assert_int_equal(read_parts(fd, 0, 0, 4 * MIB, data, &chunks, &holes), 0);
	assert_memory_equal(data, expected, 4 * MIB);
	assert_int_equal(chunks, 7);
	assert_int_equal(holes, 4 * MIB - 3 * 131072);

	/* in one chunk because that was requested, because it is small, has no hole, or is one hole */
	assert_int_equal(read_parts(fd, NBD_CMD_FLAG_DF, 0, 4 * MIB, data, &chunks, &holes), 0);
	assert_memory_equal(data, expected, 4 * MIB);
	assert_true(chunks == 1 && !holes);
	assert_int_equal(read_parts(fd, 0, 0, 65536, data, &chunks, &holes), 0);
	assert_true(chunks == 1 && !holes);
	assert_int_equal(read_parts(fd, 0, 65536, 131072, data, &chunks, &holes), 0);
	assert_memory_equal(data, expected + 65536, 131072);
	assert_true(chunks == 1 && !holes);
	/* cppcheck-suppress memleakOnRealloc; then the test has failed anyway */
	assert_int_equal(read_parts(fd, 0, 8 * MIB, 32 * MIB, data = realloc(data, 32 * MIB), &chunks, &holes), 0);
	assert_true(chunks == 1 && holes == 32 * MIB);

	/* refused, and the connection continues */
	assert_int_equal(read_parts(fd, 0, DISK_BYTES, 512, data, &chunks, &holes), NBD_EINVAL);
	assert_int_equal(read_parts(fd, 0, 1, 512, data, &chunks, &holes), NBD_EINVAL);
	assert_int_equal(client_command(fd, NBD_CMD_CACHE, 0, 0, 3 * MIB, NULL), 0);
	client_leave(fd);
	free(data);
	free(expected);
}

/* More parts than a reply can have: the rest is sent as data, and is right. */
static void test_many_holes(void **state)
{
	uint8_t *data = malloc(MIB), *expected = calloc(1, MIB);
	unsigned chunks;
	uint32_t holes;
	int fd = go_structured();

	for (unsigned at = 0; at < MIB; at += 16384) {
		memset(expected + at, at / 16384 + 1, 4096);
		assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, at, 4096, expected + at), 0);
	}
	assert_int_equal(read_parts(fd, 0, 0, MIB, data, &chunks, &holes), 0);
	assert_memory_equal(data, expected, MIB);
	assert_in_range(chunks, 3, NBD_READ_EXTENTS + 1);
	client_leave(fd);
	free(data);
	free(expected);
}

struct answer {
	unsigned contexts, extents;		/* extents: of the last context */
	uint64_t bytes[2];			/* of each context: in all extents */
	struct nbd_wire_extent first[2];
};

/* BLOCK_STATUS; 0 or its error. */
static uint32_t block_status(int fd, uint16_t flags, uint64_t offset, uint32_t length, struct answer *answer)
{
	static uint8_t data[65536];
	uint32_t bytes, context, error;
	uint16_t type;
	bool last;

	memset(answer, 0, sizeof(*answer));
	client_request(fd, NBD_CMD_BLOCK_STATUS, flags, 9, offset, length);
	do {
		last = client_chunk(fd, 9, &type, data, sizeof(data), &bytes);
		if (type == NBD_CHUNK_ERROR) {
			memcpy(&error, data, sizeof(error));
			return be32toh(error);
		}
		assert_int_equal(type, NBD_CHUNK_BLOCK_STATUS);
		assert_true(bytes >= 12 && bytes % 8 == 4);
		memcpy(&context, data, sizeof(context));
		assert_int_equal(be32toh(context), answer->contexts + 1);
		assert_true(answer->contexts < 2);
		answer->extents = bytes / 8;
		memcpy(&answer->first[answer->contexts], data + 4, 8);
		for (unsigned i = 0; i < bytes / 8; i++) {
			struct nbd_wire_extent extent;

			memcpy(&extent, data + 4 + i * 8, sizeof(extent));
			assert_true(extent.length != 0);
			answer->bytes[answer->contexts] += be32toh(extent.length);
		}
		answer->contexts++;
	} while (!last);
	return 0;
}

#define CONTEXTS(...) ((const char *const []){ __VA_ARGS__, NULL })
static const char *const no_contexts[] = { NULL };

static void test_block_status(void **state)
{
	struct answer answer;
	int fd = client_greet_structured();

	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", CONTEXTS("base:allocation", "tapsnap:changed:s8")), 2);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	assert_int_equal(block_status(fd, 0, 0, 64 * MIB, &answer), 0);
	assert_int_equal(answer.contexts, 2);
	assert_int_equal(answer.bytes[0], 64 * MIB);
	assert_int_equal(answer.bytes[1], 64 * MIB);
	assert_int_equal(answer.first[0].flags, 0);
	assert_int_equal(be32toh(answer.first[0].length), 10 * MIB);
	assert_int_equal(answer.first[1].flags, 0);
	assert_int_equal(be32toh(answer.first[1].length), 9 * MIB);

	assert_int_equal(block_status(fd, NBD_CMD_FLAG_REQ_ONE, 9 * MIB, 30 * MIB, &answer), 0);
	assert_int_equal(answer.extents, 1);
	assert_int_equal(be32toh(answer.first[0].length), MIB);
	assert_int_equal(be32toh(answer.first[1].length), MIB);
	assert_int_equal(be32toh(answer.first[1].flags), 1);
	assert_int_equal(block_status(fd, 0, 10 * MIB, 512, &answer), 0);
	assert_int_equal(be32toh(answer.first[0].flags), NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_int_equal(answer.bytes[0], 512);

	assert_int_equal(block_status(fd, 0, 0, 64 * MIB + 512, &answer), NBD_EINVAL);
	assert_int_equal(block_status(fd, 0, 512, 0xfffffe00, &answer), NBD_EINVAL);
	assert_int_equal(block_status(fd, 0, 0, 0, &answer), NBD_EINVAL);
	assert_int_equal(block_status(fd, 0, 100, 512, &answer), NBD_EINVAL);
	assert_int_equal(block_status(fd, NBD_CMD_FLAG_NO_HOLE, 0, 512, &answer), NBD_EINVAL);
	client_leave(fd);

	fd = go_structured();		/* without a context */
	assert_int_equal(block_status(fd, 0, 0, 512, &answer), NBD_EINVAL);
	client_leave(fd);
}

static void test_contexts(void **state)
{
	struct answer answer;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	/* only with structured replies */
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", CONTEXTS("base:allocation")), NBD_REP_ERR_INVALID);
	close(fd);
	fd = client_greet_structured();
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", no_contexts), 1 + STORE_SNAPSHOTS);
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", CONTEXTS("base:")), 1);
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "s3", CONTEXTS("tapsnap:")), STORE_SNAPSHOTS);
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", CONTEXTS("tapsnap:changed:s")), 0);
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", CONTEXTS("qemu:allocation-depth", "", "x")), 0);
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "nothing", no_contexts), NBD_REP_ERR_UNKNOWN);
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", CONTEXTS("base:", "tapsnap:changed:", "")), 0);
	/* the same context twice counts once */
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", CONTEXTS("base:allocation", "base:allocation")), 1);
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "",
					 CONTEXTS("tapsnap:changed:s0", "tapsnap:changed:s1", "tapsnap:changed:s2",
						  "tapsnap:changed:s3", "tapsnap:changed:s4", "tapsnap:changed:s5",
						  "tapsnap:changed:s6", "tapsnap:changed:s7", "tapsnap:changed:s8")),
			 NBD_REP_ERR_TOO_BIG);
	/* contexts of another export do not count */
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "s1", CONTEXTS("base:allocation")), 1);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	assert_int_equal(block_status(fd, 0, 0, 512, &answer), NBD_EINVAL);
	client_leave(fd);
}

static void test_malformed_contexts(void **state)
{
	static const struct { uint8_t bytes[20]; uint32_t length; } cases[] = {
		{ { 0 }, 0 },
		{ { 0, 0, 0, 0, 0, 0, 0 }, 7 },
		{ { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 8 },			/* length of the name */
		{ { 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0 }, 8 },
		{ { 0, 0, 0, 5, 0, 0, 0, 0 }, 8 },
		{ { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, 8 },			/* number of contexts */
		{ { 0, 0, 0, 0, 0, 0, 0, 1 }, 8 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 9 },
		{ { 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff }, 12 },	/* length of a context */
		{ { 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 'b', 'a', 's', 'e' }, 16 },
		{ { 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 'b', 0, 0, 0 }, 16 },
		{ { 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 'b', 0 }, 14 },
	};
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet_structured();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t option = i & 1 ? NBD_OPT_LIST_META_CONTEXT : NBD_OPT_SET_META_CONTEXT;

		client_option(fd, option, cases[i].bytes, cases[i].length);
		if (client_option_reply(fd, option, data, &length) != NBD_REP_ERR_INVALID)
			fail_msg("case %zu", i);
	}
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	client_leave(fd);
}

/* Each query walks over all snapshots; many of them would delay the guest. */
static void test_many_queries(void **state)
{
	const char *queries[NBD_MAX_OPTION_DATA / 12 + 1];
	size_t most = ARRAY_SIZE(queries) - 1;
	int fd = client_greet_structured();

	for (size_t i = 0; i < most; i++)
		queries[i] = "tapsnap:";
	queries[most - 1] = NULL;	/* as many as fit */
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries), NBD_REP_ERR_TOO_BIG);
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", queries), NBD_REP_ERR_TOO_BIG);
	queries[NBD_MAX_QUERIES + 1] = NULL;
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries), NBD_REP_ERR_TOO_BIG);
	queries[NBD_MAX_QUERIES] = NULL;
	assert_int_equal(client_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries), NBD_MAX_QUERIES * STORE_SNAPSHOTS);
	queries[NBD_MAX_QUERIES - 1] = "base:allocation";
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", queries), 1);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	client_leave(fd);
}

static void expect_mib(int fd, unsigned mib, uint8_t value)
{
	uint8_t data[4096];

	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, (uint64_t)mib * MIB + 4096, sizeof(data), data), 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], value);
}

static int go_to(const char *name)
{
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	assert_int_equal(client_go_to(fd, name), NBD_REP_ACK);
	return fd;
}

static void test_snapshots_are_exports(void **state)
{
	uint8_t data[512] = { 0 };
	uint32_t length;
	int fd = go_to("s3"), other = go_to("s3"), disk = go_to("");

	expect_mib(fd, 3, 4);
	expect_mib(fd, 4, 0);
	expect_mib(other, 3, 4);
	expect_mib(disk, 20, 99);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 0, 512, data), NBD_EPERM);
	memset(data, 55, sizeof(data));
	assert_int_equal(client_command(disk, NBD_CMD_WRITE, 0, 3 * MIB + 4096, 512, data), 0);
	expect_mib(fd, 3, 4);
	client_leave(fd);
	expect_mib(other, 3, 4);
	client_leave(other);
	client_leave(disk);

	fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	client_option(fd, NBD_OPT_LIST, "", 0);
	for (unsigned i = 0; i <= STORE_SNAPSHOTS; i++)
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_SERVER);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ACK);
	assert_int_equal(client_go_to(fd, "s10"), NBD_REP_ERR_UNKNOWN);
	assert_int_equal(client_go_to(fd, "s3 "), NBD_REP_ERR_UNKNOWN);
	close(fd);
}

/* While the disk is paused nobody has the store open, and the reader of a snapshot waits. */
static void test_pause_closes_snapshots(void **state)
{
	struct error_text text = { "" };
	struct pollfd ready = { .events = POLLIN };
	struct cow_device *device;
	uint8_t data[512];
	uint64_t cookie;
	int fd = go_to("s5"), other;

	expect_mib(fd, 5, 6);
	assert_int_equal(server_command('p'), 'k');
	assert_int_equal(cow_file_open(&device, image, false, &text), 0);
	cow_file_close(device);
	client_request(fd, NBD_CMD_READ, 0, 3, 5 * MIB, 512);
	ready.fd = fd;
	assert_int_equal(poll(&ready, 1, 100), 0);
	other = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	assert_int_equal(client_go_to(other, "s6"), NBD_REP_ERR_UNKNOWN);	/* for now */
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_reply(fd, &cookie), 0);
	client_receive(fd, data, sizeof(data));
	assert_int_equal(data[0], 6);
	assert_int_equal(client_go_to(other, "s6"), NBD_REP_ACK);
	expect_mib(other, 6, 7);
	client_leave(other);
	client_leave(fd);
}

static void expect_store_let_go(void)
{
	struct error_text text = { "" };
	struct cow_device *device;

	if (cow_file_open(&device, image, false, &text))
		fail_msg("paused, and still open: %s", text.text);
	cow_file_close(device);
}

/* A drain has reached its flush: s2 is published, and a write that needs the flush was done. */
static void begin_drain_that_hangs(void)
{
	uint8_t data[4096] = { 1 };
	int fd;

	assert_int_equal(server_command('x'), 'k');
	fd = go_to("");
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 0, sizeof(data), data), 0);
	client_leave(fd);
	assert_int_equal(server_command('h'), 'k');
	assert_int_equal(write(control, "p", 1), 1);
}

/* For a client that comes while the disk drains nothing is opened, and it does not delay the pause. */
static void test_snapshot_chosen_while_draining(void **state)
{
	int fd;

	begin_drain_that_hangs();
	fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	assert_int_equal(client_go_to(fd, "s1"), NBD_REP_ERR_UNKNOWN);
	assert_int_equal(server_command('r'), 'k');
	assert_int_equal(server_command(0), 'k');
	expect_store_let_go();
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_go_to(fd, "s1"), NBD_REP_ACK);
	expect_mib(fd, 1, 2);
	client_leave(fd);
}

/* A published snapshot can be chosen, but waits. */
static void test_published_while_draining(void **state)
{
	struct pollfd ready = { .events = POLLIN };
	uint8_t data[512];
	uint64_t cookie;

	begin_drain_that_hangs();
	ready.fd = client_greet_on(published_path, NBD_FLAG_FIXED_NEWSTYLE);
	assert_int_equal(client_go_to(ready.fd, ""), NBD_REP_ACK);
	client_request(ready.fd, NBD_CMD_READ, 0, 3, 2 * MIB, sizeof(data));
	assert_int_equal(server_command('r'), 'k');
	assert_int_equal(server_command(0), 'k');
	expect_store_let_go();
	assert_int_equal(poll(&ready, 1, 100), 0);
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_reply(ready.fd, &cookie), 0);
	client_receive(ready.fd, data, sizeof(data));
	assert_int_equal(data[0], 3);
	client_leave(ready.fd);
}

/*
 * The reader of s5 is disconnected when the disk is unpaused, the client of the disk itself is not.
 * @again: there is an s5, but a different one.
 */
static void lose_snapshot_while_paused(bool again)
{
	const struct cow_open_options options = { 0 };
	struct error_text text = { "" };
	struct cow_device *device;
	struct cow_store *store;
	int fd = go_to("s5"), disk = go_to("");

	expect_mib(fd, 5, 6);
	assert_int_equal(server_command('p'), 'k');
	assert_int_equal(cow_file_open(&device, image, false, &text), 0);
	assert_int_equal(cow_open(&store, device, &options, &text), 0);
	assert_int_equal(cow_snapshot_delete(store, "s5", &text), 0);
	if (again)
		assert_int_equal(cow_snapshot_create(store, "s5", NULL, &text), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	client_request(fd, NBD_CMD_READ, 0, 3, 5 * MIB, 512);
	assert_int_equal(server_command('u'), 'k');
	client_expect_end(fd);
	expect_mib(disk, 20, 99);
	client_leave(disk);
}

static void test_snapshot_gone_after_pause(void **state)
{
	lose_snapshot_while_paused(false);
}

static void test_snapshot_taken_again_in_pause(void **state)
{
	lose_snapshot_while_paused(true);
}

static int go_with_context(const char *name, const char *context)
{
	int fd = client_greet_structured();

	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, name, CONTEXTS(context)), 1);
	return fd;
}

/* Another store replaces the disk's: its snapshots have the same names and numbers, but other contents. */
static void test_another_store_after_pause(void **state)
{
	int reader = go_to("s5"), changed = go_with_context("", "tapsnap:changed:s3"),
		chooses = go_with_context("s5", "tapsnap:changed:s3"), allocation = go_with_context("", "base:allocation");
	struct answer answer;

	assert_int_equal(client_go_to(changed, ""), NBD_REP_ACK);
	assert_int_equal(client_go_to(allocation, ""), NBD_REP_ACK);
	expect_mib(reader, 5, 6);
	assert_int_equal(block_status(changed, 0, 0, MIB, &answer), 0);
	assert_int_equal(server_command('p'), 'k');
	make_store();
	assert_int_equal(server_command('u'), 'k');
	client_expect_end(reader);
	client_expect_end(changed);
	client_expect_end(chooses);
	assert_int_equal(block_status(allocation, 0, 0, MIB, &answer), 0);
	client_leave(allocation);
	changed = go_with_context("s5", "tapsnap:changed:s3");
	assert_int_equal(client_go_to(changed, "s5"), NBD_REP_ACK);
	assert_int_equal(server_command('p'), 'k');
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(block_status(changed, 0, 0, MIB, &answer), 0);
	client_leave(changed);
}

/* Clients vanish while they read a snapshot, and a disk is closed while it is read. */
static void test_vanishing_readers(void **state)
{
	int fd;

	start_store(NULL);
	for (unsigned round = 0; round < 50; round++) {
		fd = go_to(round & 1 ? "s1" : "s2");
		for (unsigned i = 0; i < 20; i++)
			client_request(fd, NBD_CMD_READ, 0, i, i * MIB, MIB);
		close(fd);
	}
	fd = go_to("s9");
	client_request(fd, NBD_CMD_READ, 0, 1, 0, 8 * MIB);
	server_end();
	client_expect_end(fd);
}

/* Requests more than it reads. */
static void test_unread_answers(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_BLOCK_STATUS, 0, 5, 0, DISK_BYTES);
	unsigned asked = 0;
	int fd = client_greet_structured();

	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", CONTEXTS("base:allocation")), 1);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLOUT };

		if (poll(&ready, 1, 500) == 0)
			break;		/* the server has stopped reading, and the socket is full */
		client_send(fd, &request, sizeof(request));
		assert_true(++asked < 10000000);
	}
	expect_service();
	close(fd);
}

/* A length that is right, slightly wrong, or far too large. */
static uint32_t odd_length(uint32_t right)
{
	switch (random() % 8) {
	case 0:
		return random();
	case 1:
		return right + random() % 5 - 2;
	default:
		return right;
	}
}

static size_t put_odd_text(uint8_t *data, const char *text)
{
	uint32_t length = htobe32(odd_length(strlen(text)));

	client_put_text(data, text);
	memcpy(data, &length, sizeof(length));
	return sizeof(length) + strlen(text);
}

/* An option with names or contexts, whose lengths and counts may be wrong. */
static void send_odd_option(int fd)
{
	static const char *const texts[] = { "", "s1", "base:", "base:allocation", "tapsnap:", "tapsnap:changed:s1", "s99",
					     "tapsnap:changed:" };
	const uint32_t options[] = { NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY,
				     NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, random() };
	struct nbd_option header = { htobe64(NBD_OPTION_MAGIC), htobe32(options[random() % 7]) };
	unsigned queries = random() % 12;
	uint8_t data[512];
	size_t length = put_odd_text(data, texts[random() % 2]);
	uint32_t count = htobe32(odd_length(queries));

	if (random() % 8) {
		memcpy(data + length, &count, sizeof(count));
		length += sizeof(count);
		while (queries--)
			length += put_odd_text(data + length, texts[random() % 8]);
	} else {
		memset(data + length, 0, 2);
		length += 2;
	}
	header.length = htobe32(random() % 16 ? length : odd_length(length));
	send(fd, &header, sizeof(header), MSG_NOSIGNAL);
	send(fd, data, length, MSG_NOSIGNAL);
}

static void send_odd_request(int fd)
{
	const struct nbd_wire_request request = wire(random() % 10, random() % 8 ? 1 << random() % 6 : random(), random(),
						     random() % 16 ? random() % 65536 * 512 : random(),
						     random() % 16 ? random() % 4096 * 512 : random());

	send(fd, &request, sizeof(request), MSG_NOSIGNAL);
}

/* Whatever hostile clients send, others are served. */
static void test_random_sessions(void **state)
{
	const char *given = getenv("TAPSNAP_SEED");
	unsigned seed = given ? strtoul(given, NULL, 0) : (unsigned)time(NULL);

	print_message("# TAPSNAP_SEED=%u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 300; round++) {
		int fd = client_greet_structured();

		if (round & 1) {
			client_contexts(fd, NBD_OPT_SET_META_CONTEXT, round & 2 ? "s1" : "",
					CONTEXTS("base:allocation", "tapsnap:changed:s1"));
			assert_int_equal(client_go_to(fd, round & 2 ? "s1" : ""), NBD_REP_ACK);
		}
		for (unsigned i = random() % 30; i; i--) {
			if (round & 1)
				send_odd_request(fd);
			else
				send_odd_option(fd);
		}
		shutdown(fd, SHUT_WR);
		if (random() % 2)
			client_expect_end(fd);
		else
			close(fd);
	}
	expect_service();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FILE(test_reads_with_holes),
		ON_FILE(test_many_holes),
		ON_STORE(test_block_status),
		ON_STORE(test_contexts),
		ON_STORE(test_malformed_contexts),
		ON_STORE(test_many_queries),
		ON_STORE(test_snapshots_are_exports),
		ON_STORE(test_pause_closes_snapshots),
		ON_STORE(test_snapshot_chosen_while_draining),
		ON_STORE(test_published_while_draining),
		ON_STORE(test_snapshot_gone_after_pause),
		ON_STORE(test_snapshot_taken_again_in_pause),
		ON_STORE(test_another_store_after_pause),
		cmocka_unit_test(test_vanishing_readers),
		ON_STORE(test_unread_answers),
		ON_STORE(test_random_sessions),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
