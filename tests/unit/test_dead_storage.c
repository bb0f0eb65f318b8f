/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_dead_storage.c - the storage of an open image stops answering: the
 * process answers commands, and its other disks read, write and flush.
 */
#include "hanging_disks.h"
#include "nbd_connection.h"

#define OTHER_BYTES (64u << 20)
#define LOOK (128u << 10)		/* a READ of so much looks for holes first */
#define SMALL 512u
#define LOOKS 20u
#define LOOKS_THAT_WAIT 8u		/* at most (aio_status.c) */
#define CLIENTS NBD_MAX_CONNECTIONS
#define EACH NBD_MAX_REQUESTS

/* "aio:" and a file of the file system that hangs. */
static int add_hanging(const char *name)
{
	char target[300];

	snprintf(target, sizeof(target), "aio:%s/%s", hanging.path, name);
	return add_disk(target);
}

#define START_OR_SKIP() do { if (start_with(OTHER_BYTES, NULL)) skip(); } while (0)

static int structured_client_of(int minor)
{
	static const char *const contexts[] = { "base:allocation", NULL };
	int fd;

	snprintf(socket_path, sizeof(socket_path), NBD_SOCKET_FORMAT, f.dir, f.pid, minor);
	fd = client_greet_structured();
	assert_int_equal(client_contexts(fd, NBD_OPT_SET_META_CONTEXT, "", contexts), 1);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	return fd;
}

/* All that the other disk can be asked for. Part of the disk was never written: its file system has to allocate. */
static void use_other_disk(int minor)
{
	static uint8_t data[65536], back[sizeof(data)];
	static unsigned turn;
	uint64_t offset = turn++ % 200 * sizeof(data) * 2;
	int fd = client_of(minor);

	fixture_pattern(data, sizeof(data), turn);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, offset, sizeof(data), data), 0);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, offset, sizeof(data), back), 0);
	assert_memory_equal(data, back, sizeof(data));
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, 0, offset, sizeof(data) / 2, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_TRIM, 0, offset + sizeof(data) / 2, sizeof(data) / 2, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, offset, sizeof(data), data), 0);
	client_leave(fd);
}

static void use_the_rest(void)
{
	call(json_pack("{s:s}", "command", "list"));
	call(minor_request("info", f.minor));
	use_other_disk(f.minor);
}

static int in_flight(int minor)
{
	json_t *reply = fixture_call(&f, minor_request("stats", minor));
	int count = (int)json_integer_value(json_object_get(json_object_get(reply, "stats"), "in_flight"));

	json_decref(reply);
	return count;
}

static void wait_in_flight(int minor, int count)
{
	for (unsigned i = 0; in_flight(minor) != count; i++) {
		assert_true(i < 10000);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

/* A structured reply, to whichever request; returns its last chunk's type. Data must be zeroes. */
static uint16_t any_reply(int fd)
{
	static uint8_t data[LOOK + 64];
	struct nbd_wire_chunk chunk;

	do {
		client_receive(fd, &chunk, sizeof(chunk));
		assert_int_equal(be32toh(chunk.magic), NBD_CHUNK_MAGIC);
		assert_true(be32toh(chunk.length) <= sizeof(data));
		client_receive(fd, data, be32toh(chunk.length));
		for (unsigned i = 8; be16toh(chunk.type) == NBD_CHUNK_OFFSET_DATA && i < be32toh(chunk.length); i++)
			assert_int_equal(data[i], 0);
	} while (!(be16toh(chunk.flags) & NBD_CHUNK_FLAG_DONE));
	return be16toh(chunk.type);
}

static void look_for_holes(int minor)
{
	int fd = structured_client_of(minor), other = structured_client_of(minor);

	hanging_set(true);
	client_request(fd, NBD_CMD_READ, 0, 1, 0, LOOK);
	assert_true(hanging_wait_held(1));
	use_the_rest();
	client_request(other, NBD_CMD_BLOCK_STATUS, 0, 2, 0, LOOK);
	wait_in_flight(minor, 2);
	use_the_rest();
	/* the file's data can be read: a few READs wait for the look, and the others do without */
	for (unsigned i = 1; i < LOOKS; i++)
		client_request(fd, NBD_CMD_READ, 0, 3, i % 8 * LOOK, LOOK);
	for (unsigned i = LOOKS_THAT_WAIT; i < LOOKS; i++)
		assert_int_equal(any_reply(fd), NBD_CHUNK_OFFSET_DATA);
	use_the_rest();
	hanging_set(false);
	for (unsigned i = 0; i < LOOKS_THAT_WAIT; i++)
		assert_int_equal(any_reply(fd), NBD_CHUNK_OFFSET_DATA);
	assert_int_equal(any_reply(other), NBD_CHUNK_BLOCK_STATUS);
	client_leave(fd);
	client_leave(other);
}

static void test_look(void **state)
{
	int minor;

	START_OR_SKIP();
	minor = add_hanging("seek");
	look_for_holes(minor);
	remove_disk(minor);
	stop();
}

/* A store asks its base. */
static void test_look_into_base(void **state)
{
	int minor, fd;

	START_OR_SKIP();
	minor = add_disk(new_store_above("seek", "store"));
	look_for_holes(minor);
	/* closed while a look waits: the reply is lost, and that is all */
	fd = structured_client_of(minor);
	hanging_set(true);
	client_request(fd, NBD_CMD_BLOCK_STATUS, 0, 1, 0, LOOK);
	assert_true(hanging_wait_held(1));
	close(fd);
	use_the_rest();
	hanging_set(false);
	remove_disk(minor);
	stop();
}

/* As many READs or FLUSHes as @clients of the disk can have in flight. */
static void request_much(const char *name, uint16_t type, unsigned clients)
{
	static uint8_t data[SMALL], zeroes[SMALL];
	uint32_t length = type == NBD_CMD_READ ? SMALL : 0;
	int minor = add_hanging(name), fds[CLIENTS];
	uint64_t cookie;

	for (unsigned i = 0; i < clients; i++)
		fds[i] = client_of(minor);
	hanging_set(true);
	for (unsigned n = 0; n < clients * EACH; n++)
		client_request(fds[n % clients], type, 0, 1, n % (HANGING_BYTES / SMALL) * length, length);
	wait_in_flight(minor, clients * EACH);
	assert_true(hanging_wait_held(1));
	for (unsigned i = 0; i < 3; i++)
		use_the_rest();
	hanging_set(false);
	for (unsigned n = 0; n < clients * EACH; n++) {
		assert_int_equal(client_reply(fds[n % clients], &cookie), 0);
		client_receive(fds[n % clients], data, length);
		assert_memory_equal(data, zeroes, sizeof(data));
	}
	for (unsigned i = 0; i < clients; i++)
		client_leave(fds[i]);
	remove_disk(minor);
}

/* To submit the read would wait for the server. */
static void test_read(void **state)
{
	START_OR_SKIP();
	request_much("read", NBD_CMD_READ, 1);
	stop();
}

/* More of them than io_uring has threads for requests that block, by default. */
static void test_blocked_requests(void **state)
{
	START_OR_SKIP();
	request_much("sync", NBD_CMD_FLUSH, 1);
	stop();
}

/* More of them than the engine has room for. */
static void test_full_engine(void **state)
{
	START_OR_SKIP();
	request_much("read", NBD_CMD_READ, CLIENTS);
	request_much("sync", NBD_CMD_FLUSH, CLIENTS);
	stop();
}

/* Of several disks. */
static void test_dead_disks(void **state)
{
	int minors[3], fds[3];
	char name[16];
	uint64_t cookie;

	START_OR_SKIP();
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "sync%u", i);
		minors[i] = add_hanging(name);
		fds[i] = client_of(minors[i]);
	}
	hanging_set(true);
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned n = 0; n < EACH; n++)
			client_request(fds[i], NBD_CMD_FLUSH, 0, 1, 0, 0);
		wait_in_flight(minors[i], EACH);
	}
	use_the_rest();
	hanging_set(false);
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned n = 0; n < EACH; n++)
			assert_int_equal(client_reply(fds[i], &cookie), 0);
		client_leave(fds[i]);
		remove_disk(minors[i]);
	}
	stop();
}

/* This file system cannot punch holes: a helper thread writes zeroes. */
static void test_zeroing(void **state)
{
	int minor, good, fd, other;
	uint64_t cookie;

	START_OR_SKIP();
	minor = add_hanging("data");
	good = add_hanging("good");
	fd = client_of(minor);
	other = client_of(good);
	hanging_set(true);
	client_request(fd, NBD_CMD_WRITE_ZEROES, 0, 1, 0, HANGING_BYTES);
	assert_true(hanging_wait_held(1));
	assert_int_equal(client_command(other, NBD_CMD_WRITE_ZEROES, 0, 0, HANGING_BYTES, NULL), 0);
	use_the_rest();
	hanging_set(false);
	assert_int_equal(client_reply(fd, &cookie), 0);
	client_leave(fd);
	client_leave(other);
	remove_disk(minor);
	remove_disk(good);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_look_into_base),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_blocked_requests),
		cmocka_unit_test(test_full_engine),
		cmocka_unit_test(test_dead_disks),
		cmocka_unit_test(test_zeroing),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
