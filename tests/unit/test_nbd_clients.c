/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_clients.c - the NBD server's clients that are slow, greedy, hostile
 * or gone, or many: none harms the others, or makes the server use more memory
 * than it may.
 *
 * TAPSNAP_SEED=N repeats a run of the random part; the seed is printed.
 */
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <time.h>

#include "array.h"
#include "nbd_client.h"
#include "nbd_connection.h"

static void test_hostile_requests(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_READ, 0, 1, 0, 512);
	int fd = client_go();

	request.magic ^= 1;
	client_send(fd, &request, sizeof(request));
	client_expect_end(fd);
	expect_service();

	fd = client_go();
	client_request(fd, NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_PAYLOAD + 1);
	client_expect_end(fd);
	expect_service();

	fd = client_go();
	client_request(fd, NBD_CMD_WRITE, 0, 1, 0, 0xffffffff);
	client_expect_end(fd);
	expect_service();
}

/* A client that sends requests for ever and reads nothing blocks itself, and nobody else. */
static void test_slow_reader(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_READ, 0, 5, 0, 1 << 20);
	uint8_t *data = malloc(1 << 20);
	unsigned asked = 0;
	uint64_t cookie;
	int fd = client_go();

	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLOUT };

		if (poll(&ready, 1, 1000) == 0)
			break;	/* the server has stopped reading, and the socket is full */
		client_send(fd, &request, sizeof(request));
		asked++;
		assert_true(asked < 1000000);
	}
	expect_service();
	assert_true(asked > NBD_MAX_BYTES >> 20);
	for (unsigned i = 0; i < asked; i++) {
		assert_int_equal(client_reply(fd, &cookie), 0);
		client_receive(fd, data, 1 << 20);
	}
	client_leave(fd);

	/* and one that never reads and disconnects */
	fd = client_go();
	for (unsigned i = 0; i < 64; i++)
		client_send(fd, &request, sizeof(request));
	close(fd);
	expect_service();
	free(data);
}

#define GREEDY_CLIENTS 4
#define HEAP_ROOM (16u << 20)		/* for the requests themselves, and what the heap keeps (heap.c) */

/* What such a client asks for, and how often; @paused: while the disk is paused, when no request ends. */
struct greed {
	uint16_t type;
	uint32_t length;
	unsigned count;
	bool paused;
};

/* The server's own memory, in bytes: no files that it maps, nothing that the kernel holds for it. */
static size_t server_memory(void)
{
	unsigned long kib = 0;
	char path[40], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)child);
	file = fopen(path, "re");
	assert_non_null(file);
	while (!kib && fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %lu", &kib) != 1)
			kib = 0;
	fclose(file);
	assert_true(kib > 0);
	return kib << 10;
}

/* Send what the socket takes of the requests; @sent: bytes of them all so far. Returns how many of these the server took. */
static size_t greed_send(int fd, const uint8_t *bytes, size_t length, size_t all, size_t *sent)
{
	ssize_t took = 0;
	int queued;

	for (; *sent < all && took >= 0; *sent += took > 0 ? took : 0)
		took = send(fd, bytes + *sent % length, length - *sent % length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (took < 0)
		assert_int_equal(errno, EAGAIN);
	assert_int_equal(ioctl(fd, SIOCOUTQ, &queued), 0);
	return *sent - queued;
}

/* All clients send their requests, and read nothing, until the server reads from none of them any more. */
static void greed_fill(const int *fds, const struct greed *greed)
{
	struct nbd_wire_request request = wire(greed->type, 0, 5, 0, greed->length);
	size_t length = sizeof(request) + (greed->type == NBD_CMD_WRITE ? greed->length : 0);
	size_t all = length * greed->count, sent[GREEDY_CLIENTS] = { 0 }, taken, before;
	uint8_t *bytes = calloc(1, length);

	memcpy(bytes, &request, sizeof(request));
	taken = 0;
	do {
		before = taken;
		taken = 0;
		for (unsigned i = 0; i < GREEDY_CLIENTS; i++)
			taken += greed_send(fds[i], bytes, length, all, &sent[i]);
		/* whoever is greeted knows that the server has been at all its clients */
		close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
		close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
	} while (taken != before);
	free(bytes);
}

/* The clients of a socket cannot make tapdisk use more memory than docs/security.md says. */
static void test_memory_of_greedy_clients(void **state)
{
	static const struct greed greeds[] = {
		{ NBD_CMD_READ, 1 << 20, 256, false },		/* more than the limit of bytes */
		{ NBD_CMD_READ, NBD_MAX_PAYLOAD, 8, false },
		{ NBD_CMD_READ, 1 << 20, 256, true },
		{ NBD_CMD_READ, 512, 20000, true },		/* more than the limit of requests */
		{ NBD_CMD_WRITE, 1 << 20, 128, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(greeds); i++) {
		size_t before, after;
		int fds[GREEDY_CLIENTS];

		start_file(NULL);
		for (unsigned c = 0; c < GREEDY_CLIENTS; c++)
			fds[c] = client_go();
		before = server_memory();
		if (greeds[i].paused)
			assert_int_equal(server_command('p'), 'k');
		greed_fill(fds, &greeds[i]);
		after = server_memory();
		if (greeds[i].paused)
			assert_int_equal(server_command('u'), 'k');
		for (unsigned c = 0; c < GREEDY_CLIENTS; c++)
			close(fds[c]);
		server_end();
		print_message("# case %zu: %zu KiB for %u clients\n", i, (after - before) >> 10, GREEDY_CLIENTS);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)	/* which need memory of their own */
		uint64_t most = (uint64_t)NBD_MAX_REQUESTS * greeds[i].length;

		most = GREEDY_CLIENTS * (most < NBD_MAX_BYTES ? most : NBD_MAX_BYTES);
		assert_in_range(after, 0, before + most + HEAP_ROOM);
#endif
	}
}

/* So many replies are on their way to a client that its reading need not be waited for after each few. */
static void test_replies_in_the_socket(void **state)
{
	FILE *file = fopen("/proc/sys/net/core/wmem_max", "r");
	int fd, there, wmem_max = 0;

	if (file && fscanf(file, "%d", &wmem_max) != 1)
		wmem_max = 0;
	if (file)
		fclose(file);
	if (wmem_max < 1 << 20)
		skip();
	fd = client_go();
	for (unsigned i = 0; i < 16; i++)
		client_request(fd, NBD_CMD_READ, 0, i, i * 65536, 65536);
	expect_service();
	assert_int_equal(ioctl(fd, FIONREAD, &there), 0);
	assert_int_equal(there, 16 * (sizeof(struct nbd_wire_reply) + 65536));
	close(fd);
}

static void test_many_small_requests(void **state)
{
	const unsigned count = 3 * NBD_MAX_REQUESTS;
	uint8_t data[512], seen[3 * NBD_MAX_REQUESTS] = { 0 };
	uint64_t cookie;
	int fd = client_go();

	for (unsigned i = 0; i < count; i++)
		client_request(fd, NBD_CMD_READ, 0, i, i * 512, 512);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(client_reply(fd, &cookie), 0);
		client_receive(fd, data, sizeof(data));
		assert_true(cookie < count);
		assert_int_equal(seen[cookie]++, 0);
	}
	client_leave(fd);
}

/* Reads of holes are done as soon as they are submitted, and nobody reads the replies. */
static void test_holes_for_nobody(void **state)
{
	const uint32_t length = 3993600;
	struct nbd_wire_request requests[8];
	int fd;

	for (unsigned i = 0; i < 8; i++)
		requests[i] = wire(NBD_CMD_READ, 0, i, 24 << 20, length);
	for (unsigned round = 0; round < 4; round++) {
		/* it is noticed when the replies are sent that the client reads nothing */
		fd = client_go();
		assert_int_equal(shutdown(fd, SHUT_RD), 0);
		client_send(fd, requests, sizeof(requests));
		expect_service();
		close(fd);

		/* here it is known before the replies are made */
		fd = client_go();
		assert_int_equal(server_command('p'), 'k');
		client_send(fd, requests, sizeof(requests));
		client_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
		close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
		close(fd);
		close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
		assert_int_equal(server_command('u'), 'k');
		expect_service();
	}
}

/* Requests before a DISC are done, even if nobody waits for the answer. */
static void test_disconnect_with_requests(void **state)
{
	uint8_t data[4096];
	int fd = client_go();

	assert_int_equal(server_command('p'), 'k');
	memset(data, 0x22, sizeof(data));
	client_request(fd, NBD_CMD_WRITE, 0, 1, 16384, sizeof(data));
	client_send(fd, data, sizeof(data));
	client_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
	/* a greeting on a second connection that was accepted later shows that the first one's bytes were read */
	close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
	close(fd);
	assert_int_equal(server_command('u'), 'k');
	/* another pause waits for the requests that the end of this one has started */
	assert_int_equal(server_command('p'), 'k');
	assert_int_equal(server_command('u'), 'k');
	fd = client_go();
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 16384, sizeof(data), data), 0);
	assert_int_equal(data[0], 0x22);
	client_leave(fd);
}

/* A client vanishes in the middle: requests are in flight, and the data of a write never come. */
static void test_vanishing_clients(void **state)
{
	uint8_t data[65536] = { 0 };

	for (unsigned round = 0; round < 50; round++) {
		int fd = client_go();

		for (unsigned i = 0; i < 20; i++) {
			client_request(fd, NBD_CMD_WRITE, i & 1 ? NBD_CMD_FLAG_FUA : 0, i, i << 16, sizeof(data));
			client_send(fd, data, sizeof(data));
			client_request(fd, NBD_CMD_READ, 0, i, i << 16, sizeof(data));
		}
		client_request(fd, NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_PAYLOAD);
		client_send(fd, data, round * 1000);
		close(fd);
	}
	expect_service();
}

static void test_too_many_connections(void **state)
{
	int fds[NBD_MAX_CONNECTIONS];
	uint8_t data[512];

	for (unsigned i = 0; i < NBD_MAX_CONNECTIONS; i++)
		fds[i] = client_go();
	client_expect_end(client_connect());
	assert_int_equal(client_command(fds[0], NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
	client_leave(fds[3]);
	fds[3] = client_go();
	for (unsigned i = 0; i < NBD_MAX_CONNECTIONS; i++)
		client_leave(fds[i]);
}

static void test_connected_at_the_end(void **state)
{
	int fd;

	start_file(NULL);
	fd = client_go();
	client_request(fd, NBD_CMD_READ, 0, 1, 0, 8 << 20);
	server_end();
	client_expect_end(fd);
}

/* Random bytes, cut at random, from each stage of a session. */
static void test_random_bytes(void **state)
{
	const char *given = getenv("TAPSNAP_SEED");
	unsigned seed = given ? strtoul(given, NULL, 0) : (unsigned)time(NULL);
	uint8_t junk[600];

	print_message("# TAPSNAP_SEED=%u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 400; round++) {
		struct nbd_wire_request request = wire(random() % 9, random() % 4, random(), random() % 9 * 512,
						       random() % 9 * 512);
		int fd = round % 4 == 0 ? client_connect() :
			 round % 4 == 1 ? client_greet(NBD_FLAG_FIXED_NEWSTYLE) : client_go();
		size_t length = random() % sizeof(junk);

		for (size_t i = 0; i < length; i++)
			junk[i] = random();
		if (round % 4 == 1)
			send(fd, "IHAVEOPT\0\0\0\7\0\0\0\20", 16, MSG_NOSIGNAL);
		if (round % 4 == 3)
			send(fd, &request, sizeof(request), MSG_NOSIGNAL);
		send(fd, junk, length, MSG_NOSIGNAL);
		close(fd);
	}
	expect_service();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FILE(test_hostile_requests),
		ON_NULL(test_slow_reader),
		ON_FILE(test_slow_reader),
		cmocka_unit_test(test_memory_of_greedy_clients),
		ON_NULL(test_replies_in_the_socket),
		ON_FILE(test_many_small_requests),
		ON_NULL(test_many_small_requests),
		ON_STORE(test_holes_for_nobody),
		ON_FILE(test_disconnect_with_requests),
		ON_FILE(test_vanishing_clients),
		ON_NULL(test_too_many_connections),
		cmocka_unit_test(test_connected_at_the_end),
		ON_FILE(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
