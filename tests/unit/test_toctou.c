/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_toctou.c - a frontend whose memory changes while tapdisk reads it:
 * one thread puts requests that are nearly right, another one overwrites
 * bytes in the ring and in the pages that requests name, and now and then an
 * index, as fast as it can; the event channel is signalled with and without
 * reason. A real tapdisk must go on, and serve an honest frontend of another
 * disk with the right data throughout.
 *
 * TAPSNAP_SOAK_SECONDS is the minimum time (2). TAPSNAP_SEED repeats the
 * requests, not the races. The test prints the number of answered requests.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#define PAGE 4096u
#define DISK_BYTES (4u << 20)
#define DISK_SECTORS (DISK_BYTES / 512)
#define DATA_PAGES 64u
#define RING_HEADER offsetof(struct blkif_sring, ring)
#define GIVEN_UP_US 20000		/* a ring without room for that long may have been given up */
#define TIMEOUT_US 20000000		/* where that cannot happen, every request has to be answered */
#define LIFE 16				/* batches, at most: a longer one would cause a pause (blkif_backoff.c) */
#define ENOUGH 1000			/* answered requests; it runs until then */

struct flipper {
	pthread_t thread;
	atomic_bool stop;
	_Atomic uint8_t *ring, *data;
	size_t ring_bytes;
	bool indices;			/* these as well, about a hundred times a second */
	uint64_t random;
};

static struct fixture f;
static struct blkfront *honest;
static int honest_minor;
static char honest_image[128], kept[8 * PAGE];
static uint64_t random_state;
static unsigned long long answered;
static unsigned broken, rounds;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t pick(uint64_t range)
{
	return next_random(&random_state) % range;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- the thread ---- */

/* As a guest does it; sanitizers do not see a guest's access either. */
__attribute__((no_sanitize("thread"))) static void *flip(void *arg)
{
	struct flipper *flipper = arg;

	while (!atomic_load_explicit(&flipper->stop, memory_order_relaxed)) {
		uint64_t random = next_random(&flipper->random);
		uint8_t byte = (uint8_t)(random >> 32);
		size_t at = (size_t)(random >> 40);

		if (flipper->indices && random % 200000 == 0)
			atomic_store_explicit(&flipper->ring[at % RING_HEADER], byte, memory_order_relaxed);
		else if (random % 4)
			atomic_store_explicit(&flipper->ring[RING_HEADER + at % (flipper->ring_bytes - RING_HEADER)], byte,
					      memory_order_relaxed);
		else
			atomic_store_explicit(&flipper->data[at % (DATA_PAGES * PAGE)], byte, memory_order_relaxed);
	}
	return NULL;
}

static void start_flipping(struct flipper *flipper, struct blkfront *front, unsigned order, bool indices)
{
	*flipper = (struct flipper){
		.ring = blkfront_ring(front, 0), .data = blkfront_data(front), .ring_bytes = (size_t)PAGE << order,
		.indices = indices, .random = next_random(&random_state) | 1,
	};
	assert_int_equal(pthread_create(&flipper->thread, NULL, flip, flipper), 0);
}

static void stop_flipping(struct flipper *flipper)
{
	atomic_store(&flipper->stop, true);
	pthread_join(flipper->thread, NULL);
}

/* ---- requests that are almost right (x86_64) ---- */

static void fill_direct(struct blkfront *front, struct blkif_request *request)
{
	request->nr_segments = (uint8_t)(1 + pick(pick(20) ? 11 : 256));
	request->sector_number = pick(20) ? pick(DISK_SECTORS) : next_random(&random_state);
	for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++) {
		request->seg[i].gref = pick(50) ? blkfront_data_ref(front, (unsigned)pick(DATA_PAGES)) :
			(uint32_t)next_random(&random_state);
		request->seg[i].first_sect = (uint8_t)pick(4);
		request->seg[i].last_sect = (uint8_t)(4 + pick(4));
	}
}

/* The lists of segments are in data pages, which the other thread also writes to. */
static void fill_indirect(struct blkfront *front, struct blkif_request_indirect *request)
{
	struct blkif_request_segment *list = (struct blkif_request_segment *)blkfront_data(front);
	unsigned page = (unsigned)pick(DATA_PAGES - 1);

	request->indirect_op = (uint8_t)pick(2);
	request->nr_segments = (uint16_t)(1 + pick(pick(20) ? 256 : 65536));
	request->sector_number = pick(DISK_SECTORS);
	for (unsigned i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
		request->indirect_grefs[i] = blkfront_data_ref(front, page);
	list += page * (PAGE / sizeof(*list));
	for (unsigned i = 0; i < PAGE / sizeof(*list); i++)
		list[i] = (struct blkif_request_segment){ blkfront_data_ref(front, (unsigned)pick(DATA_PAGES)), 0, 7 };
}

static void fill_request(struct blkfront *front, union blkif_sring_entry *slot)
{
	union {
		struct blkif_request direct;
		struct blkif_request_indirect indirect;
		struct blkif_request_discard discard;
	} request = { 0 };

	request.direct.operation = (uint8_t)pick(8);
	request.direct.id = next_random(&random_state);
	if (request.direct.operation == BLKIF_OP_INDIRECT) {
		fill_indirect(front, &request.indirect);
	} else if (request.direct.operation == BLKIF_OP_DISCARD) {
		request.discard.sector_number = pick(DISK_SECTORS);
		request.discard.nr_sectors = pick(64);
	} else {
		fill_direct(front, &request.direct);
	}
	memcpy(&slot->req, &request, sizeof(slot->req));
}

/* ---- a connection of that frontend ---- */

struct life {
	unsigned domid;
	bool indices;
	struct blkif_sring *ring;
	uint32_t produced, size;
};

/* The number of free slots, as far as the ring can be believed: its indices change, too. */
static uint32_t room(const struct life *life)
{
	uint32_t waiting = life->produced - __atomic_load_n(&life->ring->rsp_prod, __ATOMIC_ACQUIRE);

	return waiting <= life->size ? life->size - waiting : 0;
}

/* According to tapdisk. */
static bool is_given_up(unsigned domid)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor));
	json_t *connections = json_object_get(json_object_get(reply, "disk"), "connections"), *connection;
	bool given_up = false;
	size_t i;

	json_array_foreach(connections, i, connection)
		given_up |= json_integer_value(json_object_get(connection, "domid")) == domid &&
			json_string_length(json_object_get(connection, "error"));
	json_decref(reply);
	return given_up;
}

/*
 * False: the ring was given up. If the indices are left alone, that happens only if a flipped
 * reference had data read into the ring's own page, and otherwise every request is answered. With
 * changed indices an answer may never come.
 */
static bool wait_for_room(struct blkfront *front, const struct life *life)
{
	uint64_t begin = now_us(), look = begin + GIVEN_UP_US;

	while (!room(life)) {
		if (now_us() > look) {
			if (life->indices || is_given_up(life->domid))
				return false;
			if (now_us() > begin + TIMEOUT_US)
				fail_msg("a request is not answered");
			look = now_us() + GIVEN_UP_US;
		}
		blkfront_signal(front, 0);
		sched_yield();
	}
	return true;
}

static void put_batch(struct blkfront *front, struct life *life)
{
	uint32_t free_slots = room(life), n = free_slots ? 1 + (uint32_t)pick(free_slots) : 1;

	for (uint32_t i = 0; i < n; i++)
		fill_request(front, &life->ring->ring[(life->produced + i) & (life->size - 1)]);
	life->produced += n;
	__atomic_store_n(&life->ring->req_prod, life->produced, __ATOMIC_RELEASE);
	for (uint64_t signals = 1 + pick(4); signals; signals--)
		blkfront_signal(front, 0);
}

static void one_life(void)
{
	unsigned order = (unsigned)pick(3);
	/* a new domain each time: the last one may still be draining */
	struct life life = { .domid = 100 + rounds % 30000, .indices = !pick(3), .produced = (uint32_t)next_random(&random_state) };
	struct blkfront_options options = {
		.pid = f.pid, .minor = f.minor, .domid = life.domid, .abi = BLKFRONT_X86_64, .ring_page_order = order,
		.data_pages = DATA_PAGES, .persistent = pick(2), .start_index = life.produced,
	};
	unsigned batches = 1 + (unsigned)pick(LIFE);
	struct flipper flipper;
	struct blkfront *front;
	bool served = true;
	char text[512];

	if (blkfront_connect(&front, &options, text, sizeof(text)))
		fail_msg("%s", text);
	life.ring = blkfront_ring(front, 0);
	life.size = blkfront_ring_size(front, 0);
	start_flipping(&flipper, front, order, life.indices);
	for (unsigned batch = 0; served && batch < batches; batch++) {
		served = wait_for_room(front, &life);
		if (served)
			put_batch(front, &life);
	}
	stop_flipping(&flipper);
	broken += !served;
	if (pick(4))
		blkfront_disconnect(front);
	else
		blkfront_vanish(front);
}

/* ---- the honest frontend, and the whole test ---- */

static void check_honest(void)
{
	char now[sizeof(kept)];

	assert_int_equal(blkfront_pread(honest, now, sizeof(now), DISK_BYTES - sizeof(kept)), 0);
	assert_memory_equal(now, kept, sizeof(kept));
	fixture_pattern(kept, sizeof(kept), next_random(&random_state));
	assert_int_equal(blkfront_pwrite(honest, kept, sizeof(kept), DISK_BYTES - sizeof(kept)), 0);
}

static int setup(void **state)
{
	struct blkfront_options options = { .domid = 7 };
	struct error_text text = { "" };
	char why[512];
	int fd;

	fixture_start(&f, DISK_BYTES, NULL, NULL);
	snprintf(honest_image, sizeof(honest_image), "%s/honest", f.dir);
	fd = open(honest_image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && !ftruncate(fd, DISK_BYTES));
	close(fd);
	honest_minor = tapctl_minor_allocate(-1, &text);
	assert_true(honest_minor >= 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "attach", "minor", honest_minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:o}", "command", "open", "minor", honest_minor, "target",
					       json_sprintf("aio:%s", honest_image))));
	options.pid = f.pid;
	options.minor = honest_minor;
	if (blkfront_connect(&honest, &options, why, sizeof(why)))
		fail_msg("%s", why);
	fixture_pattern(kept, sizeof(kept), 4711);
	return blkfront_pwrite(honest, kept, sizeof(kept), DISK_BYTES - sizeof(kept));
}

static int teardown(void **state)
{
	struct error_text text = { "" };

	blkfront_disconnect(honest);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "close", "minor", honest_minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "detach", "minor", honest_minor)));
	assert_int_equal(tapctl_minor_free(honest_minor, &text), 0);
	unlink(honest_image);
	fixture_stop(&f);
	return 0;
}

/* Of all frontends of that disk, disconnected ones included. */
static unsigned long long count_answered(void)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "stats", "minor", f.minor));
	json_t *total = json_object_get(json_object_get(reply, "stats"), "total"), *value;
	unsigned long long count = (unsigned long long)json_integer_value(json_object_get(total, "invalid"));
	const char *name;

	json_object_foreach(total, name, value)
		count += (unsigned long long)json_integer_value(json_object_get(value, "completed"));
	json_decref(reply);
	return count;
}

static void test_toctou(void **state)
{
	const char *seconds = getenv("TAPSNAP_SOAK_SECONDS"), *seed = getenv("TAPSNAP_SEED");
	uint64_t end = now_us() + 1000000 * (seconds ? strtoull(seconds, NULL, 0) : 2);

	random_state = seed ? strtoull(seed, NULL, 0) : now_us() | 1;
	print_message("# TAPSNAP_SEED=%llu\n", (unsigned long long)random_state);
	do {
		one_life();
		rounds++;
		check_honest();
		answered = count_answered();
	} while (now_us() < end || answered <= ENOUGH);
	print_message("# %llu requests answered, %u frontends, %u of them with a ring that was given up\n", answered, rounds,
		      broken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_toctou, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
