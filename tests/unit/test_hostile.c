/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_hostile.c - hostile frontends: each bad request gets an error, a broken
 * ring is no longer served, and no other frontend is harmed.
 *
 * An honest frontend is connected to the same disk throughout; after every
 * attack it must be served as before.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "array.h"

#define PAGE 4096u
#define DISK_BYTES (16u << 20)
#define DISK_SECTORS (DISK_BYTES / 512)

static struct fixture f;
static struct blkfront *honest;
static char kept[PAGE];

static int setup(void **state)
{
	fixture_start(&f, DISK_BYTES, NULL, NULL);
	honest = fixture_connect(&f, (struct blkfront_options){ .domid = 7 });
	fixture_pattern(kept, sizeof(kept), 4711);
	return blkfront_pwrite(honest, kept, sizeof(kept), DISK_BYTES - PAGE);
}

static int teardown(void **state)
{
	blkfront_disconnect(honest);
	fixture_stop(&f);
	return 0;
}

static void check_unharmed(void)
{
	char now[PAGE];

	assert_int_equal(blkfront_pread(honest, now, sizeof(now), DISK_BYTES - PAGE), 0);
	assert_memory_equal(now, kept, sizeof(kept));
}

/* One segment @first..@last of page reference @ref, at @sector. Returns the status. */
static int rw_status(struct blkfront *front, bool write, uint64_t sector, uint32_t ref, unsigned first, unsigned last,
		     bool indirect)
{
	struct blkfront_segment segment = { ref, first, last };

	assert_int_equal(blkfront_rw(front, 0, 99, write, sector, &segment, 1, indirect), 0);
	return fixture_one(front, 0, 99, write ? BLKIF_OP_WRITE : BLKIF_OP_READ);
}

static void bad_segments(bool persistent, bool indirect)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .persistent = persistent });
	uint32_t good = blkfront_data_ref(front, 0);

	for (unsigned write = 0; write < 2; write++) {
		assert_int_equal(rw_status(front, write, 0, good, 5, 4, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, good, 0, 8, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, good, 255, 255, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, good, 0, 255, indirect), BLKIF_RSP_ERROR);
		/* beyond the disk, by one sector, by many, and beyond the end of the numbers */
		assert_int_equal(rw_status(front, write, DISK_SECTORS - 7, good, 0, 7, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, DISK_SECTORS, good, 0, 0, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, UINT64_MAX, good, 0, 0, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, UINT64_MAX - 6, good, 0, 7, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, (UINT64_MAX >> 9) + 1, good, 0, 7, indirect), BLKIF_RSP_ERROR);
		/* pages that the guest may not grant */
		assert_int_equal(rw_status(front, write, 0, 0x7fffffff, 0, 7, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, UINT32_MAX, 0, 7, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, UINT32_MAX, 1, 7, indirect), BLKIF_RSP_ERROR);
		assert_int_equal(rw_status(front, write, 0, good, 0, 7, indirect), BLKIF_RSP_OKAY);
	}
	blkfront_disconnect(front);
	check_unharmed();
}

static void test_bad_segments(void **state)
{
	for (unsigned persistent = 0; persistent < 2; persistent++)
		for (unsigned indirect = 0; indirect < 2; indirect++)
			bad_segments(persistent, indirect);
}

/* One of several segments is bad: the request fails as a whole, no part of it is written. */
static void test_one_bad_page(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ 0 });
	struct blkfront_segment segments[3] = {
		{ blkfront_data_ref(front, 0), 0, 7 }, { 0xfffffff0u, 0, 7 }, { blkfront_data_ref(front, 1), 0, 7 },
	};
	char zero[PAGE] = { 0 }, now[PAGE];

	memset(blkfront_data(front), 0xab, 2 * PAGE);
	assert_int_equal(blkfront_rw(front, 0, 1, true, 800, segments, 3, false), 0);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_WRITE), BLKIF_RSP_ERROR);
	assert_int_equal(blkfront_pread(front, now, sizeof(now), 800 * 512), 0);
	assert_memory_equal(now, zero, sizeof(now));
	blkfront_disconnect(front);
	check_unharmed();
}

/* A raw request (x86_64), for values that the library would not send. */
static int raw_status(struct blkfront *front, const void *bytes, size_t size, uint8_t operation)
{
	assert_int_equal(blkfront_raw(front, 0, bytes, size), 0);
	return fixture_one(front, 0, 0x1122334455667788, operation);
}

static void test_bad_headers(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .abi = BLKFRONT_X86_64 });
	struct blkif_request request = { .id = 0x1122334455667788 };
	struct blkif_request_indirect indirect = { .operation = BLKIF_OP_INDIRECT, .id = 0x1122334455667788 };
	const uint8_t unknown[] = { 4, 7, 100, 255 };

	for (unsigned i = 0; i < sizeof(unknown); i++) {
		request.operation = unknown[i];
		assert_int_equal(raw_status(front, &request, sizeof(request), unknown[i]), BLKIF_RSP_EOPNOTSUPP);
	}
	for (unsigned op = BLKIF_OP_READ; op <= BLKIF_OP_FLUSH_DISKCACHE; op++) {
		request.operation = op;
		request.nr_segments = 12;
		assert_int_equal(raw_status(front, &request, sizeof(request), op), BLKIF_RSP_ERROR);
		request.nr_segments = 255;
		assert_int_equal(raw_status(front, &request, sizeof(request), op), BLKIF_RSP_ERROR);
	}
	for (unsigned op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++) {
		request.operation = op;
		request.nr_segments = 0;
		assert_int_equal(raw_status(front, &request, sizeof(request), op), BLKIF_RSP_ERROR);
		/* indirect: no segment, one too many, as many as the number can hold; references to missing pages */
		indirect.indirect_op = op;
		for (unsigned i = 0; i < 8; i++)
			indirect.indirect_grefs[i] = 0xf0000000u + i;
		indirect.nr_segments = 0;
		assert_int_equal(raw_status(front, &indirect, sizeof(indirect), op), BLKIF_RSP_ERROR);
		indirect.nr_segments = 257;
		assert_int_equal(raw_status(front, &indirect, sizeof(indirect), op), BLKIF_RSP_ERROR);
		indirect.nr_segments = 65535;
		assert_int_equal(raw_status(front, &indirect, sizeof(indirect), op), BLKIF_RSP_ERROR);
		indirect.nr_segments = 256;
		assert_int_equal(raw_status(front, &indirect, sizeof(indirect), op), BLKIF_RSP_ERROR);
	}
	/* indirect requests for operations other than read and write, and one inside another */
	indirect.nr_segments = 1;
	indirect.indirect_op = BLKIF_OP_INDIRECT;
	assert_int_equal(raw_status(front, &indirect, sizeof(indirect), BLKIF_OP_INDIRECT), BLKIF_RSP_ERROR);
	indirect.indirect_op = BLKIF_OP_FLUSH_DISKCACHE;
	assert_int_equal(raw_status(front, &indirect, sizeof(indirect), BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_ERROR);
	indirect.indirect_op = BLKIF_OP_DISCARD;
	assert_int_equal(raw_status(front, &indirect, sizeof(indirect), BLKIF_OP_DISCARD), BLKIF_RSP_ERROR);
	blkfront_disconnect(front);
	check_unharmed();
}

static void test_bad_discards(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ 0 });
	const struct { uint64_t sector, count; } bad[] = {
		{ 0, DISK_SECTORS + 1 }, { DISK_SECTORS, 1 }, { 1, DISK_SECTORS }, { UINT64_MAX, 1 }, { 1, UINT64_MAX },
		{ UINT64_MAX, UINT64_MAX }, { UINT64_MAX - 7, 8 }, { 0, 1ull << 55 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(blkfront_discard(front, 0, 5, bad[i].sector, bad[i].count, i % 2), 0);
		assert_int_equal(fixture_one(front, 0, 5, BLKIF_OP_DISCARD), BLKIF_RSP_ERROR);
	}
	blkfront_disconnect(front);
	check_unharmed();
}

static json_t *connection_error(uint32_t domid)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor));
	json_t *connections = json_object_get(json_object_get(reply, "disk"), "connections"), *connection, *error = NULL;
	size_t i;

	json_array_foreach(connections, i, connection)
		if (json_integer_value(json_object_get(connection, "domid")) == domid)
			error = json_incref(json_object_get(connection, "error"));
	json_decref(reply);
	assert_non_null(error);
	return error;
}

/* An impossible producer index: this ring is no longer served, the log says so, and an event tells each watcher. */
static void broken_ring(uint32_t req_prod, uint32_t start_index)
{
	struct error_text text = { "" };
	struct tapctl *watch;
	struct blkfront *front;
	struct blkif_sring *ring;
	json_t *event = NULL, *error;
	int ret;

	assert_int_equal(tapctl_connect(&watch, f.pid, &text), 0);
	assert_int_equal(tapctl_call(watch, json_pack("{s:s}", "command", "watch"), NULL, 5000, &text), 0);
	front = fixture_connect(&f, (struct blkfront_options){ .domid = 3, .start_index = start_index });
	ring = blkfront_ring(front, 0);
	__atomic_store_n(&ring->req_prod, req_prod, __ATOMIC_RELEASE);
	blkfront_signal(front, 0);

	while ((ret = tapctl_receive(watch, &event)) == -EAGAIN)
		;
	assert_int_equal(ret, 0);
	assert_string_equal(json_string_value(json_object_get(event, "event")), "ring-error");
	assert_int_equal(json_integer_value(json_object_get(event, "domid")), 3);
	json_decref(event);
	error = connection_error(3);
	assert_true(json_string_length(error) > 0);
	json_decref(error);
	check_unharmed();
	blkfront_disconnect(front);
	tapctl_close(watch);
	check_unharmed();
}

static void test_broken_ring(void **state)
{
	broken_ring(33, 0);
	broken_ring(UINT32_MAX, 0);
	broken_ring(0x80000000u, 0);
	broken_ring(1000 - 1, 1000);
	broken_ring(33 - 16, (uint32_t)-16 - 1);
}

static json_int_t count_kicks(struct fixture *fixture)
{
	json_t *reply = fixture_call(fixture, json_pack("{s:s, s:i}", "command", "stats", "minor", fixture->minor));
	json_t *total = json_object_get(json_object_get(reply, "stats"), "total");
	json_int_t kicks = json_integer_value(json_object_get(total, "kicks"));

	json_decref(reply);
	return kicks;
}

/* Instead of an event channel a descriptor that is always readable and can never be read. */
static void test_event_channel_is_none(void **state)
{
	int memfd = memfd_create("guest", MFD_ALLOW_SEALING | MFD_CLOEXEC), ends[2], fds[3];
	struct error_text text = { "" };
	struct tapctl *ctl;
	json_int_t kicks;
	json_t *error;

	assert_int_equal(ftruncate(memfd, 2 * PAGE), 0);
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[1]);
	fds[0] = memfd;
	fds[1] = ends[0];
	fds[2] = ends[0];
	assert_int_equal(tapctl_connect(&ctl, f.pid, &text), 0);
	assert_int_equal(tapctl_call_fds(ctl, json_pack("{s:s, s:i, s:s, s:i, s:i, s:[{s:[i], s:i}]}", "command", "connect",
							"minor", f.minor, "transport", "shm", "domid", 5, "devid", 1,
							"queues", "refs", 0, "port", 0),
					 fds, 3, NULL, -1, &text), 0);
	check_unharmed();
	error = connection_error(5);
	assert_true(json_string_length(error) > 0);
	json_decref(error);
	/* and it is not polled any more */
	kicks = count_kicks(&f);
	assert_int_equal(count_kicks(&f), kicks);
	tapctl_close(ctl);
	close(memfd);
	close(ends[0]);
	check_unharmed();
}

/* The index is impossible already at the connect: refused. */
static void test_refused_at_connect(void **state)
{
	struct blkfront_options options = { .pid = f.pid, .minor = f.minor, .domid = 7 };
	struct blkfront *front;
	char text[512];

	/* the honest one's own name */
	assert_int_equal(blkfront_connect(&front, &options, text, sizeof(text)), -EEXIST);
	assert_int_not_equal(text[0], 0);
	check_unharmed();
}

static void connect_fails(json_t *members, int error)
{
	json_t *request = json_pack("{s:s, s:i, s:s, s:i, s:i}", "command", "connect", "minor", f.minor,
				    "transport", "shm", "domid", 9, "devid", 1);

	json_object_update(request, members);
	json_decref(members);
	fixture_call_fails(&f, request, error);
	check_unharmed();
}

/* A raw connect command, as a confused tapback might send it. */
static void test_bad_connects(void **state)
{
	const char *queue = "queues";

	connect_fails(json_pack("{s:[{s:[i], s:i}]}", queue, "refs", 0, "port", 0), -EINVAL);	/* no descriptors */
	connect_fails(json_pack("{s:[]}", queue), -EINVAL);
	connect_fails(json_pack("{s:s}", queue, "four"), -EINVAL);
	connect_fails(json_pack("{s:[{s:[], s:i}]}", queue, "refs", "port", 0), -EINVAL);
	connect_fails(json_pack("{s:[{s:[i,i,i], s:i}]}", queue, "refs", 1, 2, 3, "port", 0), -EINVAL);
	connect_fails(json_pack("{s:[{s:[I], s:i}]}", queue, "refs", (json_int_t)-1, "port", 0), -EINVAL);
	connect_fails(json_pack("{s:[{s:[I], s:i}]}", queue, "refs", (json_int_t)1 << 40, "port", 0), -EINVAL);
	connect_fails(json_pack("{s:[{s:[i], s:i}], s:s}", queue, "refs", 1, "port", 0, "protocol", "z80-abi"), -EINVAL);
	connect_fails(json_pack("{s:[{s:[i], s:i}], s:s}", queue, "refs", 1, "port", 0, "transport", "pigeon"), -EINVAL);
	connect_fails(json_pack("{s:[{s:[i], s:i}], s:i}", queue, "refs", 1, "port", 0, "minor", 60000), -ENODEV);
}

/* As many good requests in between: a frontend that sends only bad ones is served slowly (test_backoff.c). */
static void good_reads(struct blkfront *front, unsigned count)
{
	struct blkfront_segment segment = { blkfront_data_ref(front, 0), 0, 7 };
	struct blkfront_response responses[32];

	for (unsigned i = 0; i < count; i++)
		assert_int_equal(blkfront_rw(front, 0, i, false, 0, &segment, 1, false), 0);
	fixture_finish(front, 0, responses, count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(responses[i].status, BLKIF_RSP_OKAY);
}

/*
 * Random bytes as requests, on random shapes of rings, signals at random.
 * The seed is printed; TAPSNAP_SEED=N repeats a run.
 */
static void random_bytes(unsigned *seed, unsigned rounds)
{
	struct blkfront_options options = {
		.abi = rand_r(seed) % 4, .persistent = rand_r(seed) % 2, .ring_page_order = rand_r(seed) % 5,
		.start_index = rand_r(seed),
	};
	struct blkfront *front = fixture_connect(&f, options);
	struct blkfront_response responses[64];
	uint8_t request[128];

	for (unsigned i = 0; i < rounds; i++) {
		unsigned put = 1 + rand_r(seed) % 16, sent = 0;

		for (unsigned n = 0; n < put; n++) {
			for (unsigned byte = 0; byte < sizeof(request); byte++)
				request[byte] = rand_r(seed) % 4 ? rand_r(seed) : 0;
			request[0] = rand_r(seed) % 8;
			request[1] = rand_r(seed) % 13;
			if (!blkfront_raw(front, 0, request, sizeof(request)))
				sent++;
		}
		/* Every request gets an answer, whatever it was. */
		fixture_finish(front, 0, responses, sent);
		good_reads(front, sent);
	}
	blkfront_disconnect(front);
}

static void test_random_bytes(void **state)
{
	const char *given = getenv("TAPSNAP_SEED");
	unsigned seed = given ? strtoul(given, NULL, 0) : (unsigned)time(NULL);

	print_message("# TAPSNAP_SEED=%u\n", seed);
	/* On a separate disk, because random requests may write. */
	for (unsigned i = 0; i < 40; i++)
		random_bytes(&seed, 40);
}

/* The frontend disconnects with a full ring. */
static void test_vanish(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		/* each one is a new domain: the last one may still be draining */
		struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .domid = 100 + i,
											.persistent = i % 2 });
		struct blkfront_segment segments[11];

		for (unsigned s = 0; s < 11; s++)
			segments[s] = (struct blkfront_segment){ blkfront_data_ref(front, s), 0, 7 };
		for (unsigned n = 0; n < 32; n++)
			assert_int_equal(blkfront_rw(front, 0, n, n % 2, n * 88, segments, 11, false), 0);
		blkfront_push(front, 0);
		blkfront_vanish(front);
		check_unharmed();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bad_segments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_bad_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_discards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_channel_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_at_connect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanish, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
