/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_storm.c - random concurrent operations on a real tapdisk: guests that
 * read, write, flush and discard with every kind of ring, come, go and vanish
 * with requests in flight; hostile guests meanwhile; and the image paused,
 * unpaused (also without success), grown, and closed under all of them.
 *
 * Each guest has a part of the disk to itself and knows its contents
 * (storm_model.h). It checks all reads, and at the end of a round, when tapdisk
 * has closed the image, the test checks the image itself. An honest guest's
 * request never fails.
 *
 * TAPSNAP_SOAK_SECONDS: how long (600). TAPSNAP_SEED: the seed of the first
 * round, to repeat its choices; the timing still differs.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "storm_model.h"

#define GUESTS		4
#define PART		4096u		/* blocks of each guest */
#define DEPTH		80		/* a guest's requests in flight: the longest exceed tapdisk's memory */
#define MAX_RUN		63		/* blocks of a request */
#define RUN_PAGES	(MAX_RUN + 1)
#define STEPS		4000		/* of a round */
#define MAX_GROWTH	64		/* times */
#define SECTORS_A_BLOCK	(MODEL_BLOCK / 512)

struct request {
	uint64_t id;			/* 0: free */
	unsigned queue;
	uint8_t operation;		/* BLKIF_OP_* */
	unsigned first, count;		/* blocks of the disk */
	unsigned shift;			/* sectors by which its data are off the page's start */
	uint32_t version;		/* of a write */
};

struct guest {
	struct blkfront *front;		/* NULL: not connected */
	uint32_t domid;
	unsigned number, queues;
	bool discard;
	struct request requests[DEPTH];
	unsigned in_flight;
};

static struct fixture f;
static struct guest guests[GUESTS];
static uint64_t seed, choices, next_id;
static unsigned blocks, growth;
static json_t *open_options;
static bool running, paused;

static unsigned below(unsigned limit)
{
	return model_mix(seed * 1000003 + choices++) % limit;
}

static json_t *command(const char *name)
{
	return json_pack("{s:s, s:i}", "command", name, "minor", f.minor);
}

/* ---- an honest guest ---- */

static void guest_connect(struct guest *guest)
{
	struct blkfront_options options = {
		.domid = guest->domid, .abi = below(4), .ring_page_order = below(5), .queues = 1 + below(4),
		.persistent = below(2), .data_pages = DEPTH * RUN_PAGES, .start_index = below(2) ? below(1000) : -below(200),
	};

	guest->front = fixture_connect(&f, options);
	guest->queues = options.queues;
	guest->discard = blkfront_geometry(guest->front)->discard;
}

static uint8_t *request_data(struct guest *guest, const struct request *request)
{
	return (uint8_t *)blkfront_data(guest->front) + (request - guest->requests) * RUN_PAGES * 4096 + request->shift * 512;
}

/* The request's pages as segments, without the sectors before its data in the first and after them in the last. */
static unsigned request_segments(struct guest *guest, const struct request *request, struct blkfront_segment *segments)
{
	unsigned page = (request - guest->requests) * RUN_PAGES, count = request->count + !!request->shift;

	for (unsigned i = 0; i < count; i++)
		segments[i] = (struct blkfront_segment){ blkfront_data_ref(guest->front, page + i), 0, 7 };
	segments[0].first = request->shift;
	if (request->shift)
		segments[count - 1].last = request->shift - 1;
	return count;
}

/* Choose blocks of the guest without a request in flight; false: none found. */
static bool request_choose_blocks(struct guest *guest, struct request *request, unsigned most)
{
	request->count = 1 + below(most);
	request->first = guest->number * PART + below(PART - request->count + 1);
	return model_take(request->first, request->count);
}

static int request_put(struct guest *guest, struct request *request)
{
	struct blkfront_segment segments[RUN_PAGES];
	unsigned count = request_segments(guest, request, segments);
	uint64_t sector = (uint64_t)request->first * SECTORS_A_BLOCK;

	switch (request->operation) {
	case BLKIF_OP_FLUSH_DISKCACHE:
		return blkfront_flush(guest->front, request->queue, request->id);
	case BLKIF_OP_DISCARD:
		return blkfront_discard(guest->front, request->queue, request->id, sector,
					request->count * SECTORS_A_BLOCK, below(2));
	case BLKIF_OP_WRITE_BARRIER:
		return blkfront_barrier(guest->front, request->queue, request->id, sector, segments, count);
	default:
		return blkfront_rw(guest->front, request->queue, request->id, request->operation == BLKIF_OP_WRITE,
				   sector, segments, count, below(2));
	}
}

static uint8_t choose_operation(const struct guest *guest)
{
	unsigned choice = below(100);

	if (choice < 45)
		return BLKIF_OP_WRITE;
	if (choice < 87)
		return BLKIF_OP_READ;
	if (choice < 92)
		return BLKIF_OP_FLUSH_DISKCACHE;
	return choice < 95 || !guest->discard ? BLKIF_OP_WRITE_BARRIER : BLKIF_OP_DISCARD;
}

static void guest_submit(struct guest *guest)
{
	struct request *request = guest->requests;

	if (guest->in_flight == DEPTH)
		return;
	while (request->id)
		request++;
	request->operation = choose_operation(guest);
	request->queue = below(guest->queues);
	request->shift = below(2) ? below(SECTORS_A_BLOCK) : 0;
	request->count = request->first = 0;
	if (!blkfront_room(guest->front, request->queue))
		return;
	if (request->operation == BLKIF_OP_FLUSH_DISKCACHE)
		request->shift = 0;
	else if (!request_choose_blocks(guest, request, request->operation == BLKIF_OP_WRITE_BARRIER ? 10 : MAX_RUN))
		return;
	request->id = ++next_id;
	if (request->operation == BLKIF_OP_WRITE || request->operation == BLKIF_OP_WRITE_BARRIER)
		request->version = model_fill(request_data(guest, request), request->first, request->count);
	assert_int_equal(request_put(guest, request), 0);
	guest->in_flight++;
}

static void guest_push(struct guest *guest)
{
	for (unsigned queue = 0; queue < guest->queues; queue++)
		blkfront_push(guest->front, queue);
}

static void request_answered(struct guest *guest, const struct blkfront_response *response, unsigned queue)
{
	struct request *request = guest->requests;

	while (request < guest->requests + DEPTH && request->id != response->id)
		request++;
	if (request == guest->requests + DEPTH || request->queue != queue || request->operation != response->operation)
		fail_msg("answer %llu to operation %u that nobody asked", (unsigned long long)response->id,
			 response->operation);
	if (response->status != BLKIF_RSP_OKAY)
		fail_msg("operation %u of %u blocks at %u: status %d", request->operation, request->count,
			 request->first, response->status);
	if (request->operation == BLKIF_OP_READ)
		model_check(request_data(guest, request), request->first, request->count);
	else if (request->operation == BLKIF_OP_DISCARD)
		model_discarded(request->first, request->count);
	else
		model_written(request->first, request->count, request->version);
	model_give_back(request->first, request->count);
	request->id = 0;
	guest->in_flight--;
}

static void guest_reap(struct guest *guest)
{
	struct blkfront_response responses[8];
	unsigned count;

	for (unsigned queue = 0; queue < guest->queues; queue++) {
		do {
			count = blkfront_reap(guest->front, queue, responses, 8);
			for (unsigned i = 0; i < count; i++)
				request_answered(guest, &responses[i], queue);
		} while (count);
	}
}

/* Wait until at most @left requests are in flight. */
static void guest_wait(struct guest *guest, unsigned left)
{
	guest_push(guest);
	guest_reap(guest);
	while (guest->in_flight > left) {
		if (blkfront_wait_any(guest->front, TIMEOUT_MS) != 1)
			fail_msg("domain %u: %u requests are not answered", guest->domid, guest->in_flight);
		guest_reap(guest);
	}
}

static bool is_connected(uint32_t domid)
{
	json_t *reply = fixture_call(&f, command("info")), *connection;
	bool found = false;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(reply, "disk"), "connections"), i, connection)
		found |= json_integer_value(json_object_get(connection, "domid")) == domid;
	json_decref(reply);
	return found;
}

/* The guest disconnected; its requests in flight may have been done or not. */
static void guest_forget(struct guest *guest)
{
	guest->front = NULL;
	for (struct request *request = guest->requests; request < guest->requests + DEPTH; request++) {
		if (!request->id)
			continue;
		if (request->operation == BLKIF_OP_DISCARD)
			model_discarded(request->first, request->count);
		else if (request->operation == BLKIF_OP_WRITE || request->operation == BLKIF_OP_WRITE_BARRIER)
			model_maybe_written(request->first, request->count, request->version);
		model_give_back(request->first, request->count);
		request->id = 0;
	}
	guest->in_flight = 0;
}

static void guest_leave(struct guest *guest, bool politely)
{
	guest_push(guest);
	if (politely)
		blkfront_disconnect(guest->front);
	else
		blkfront_vanish(guest->front);
	while (is_connected(guest->domid))
		;
	guest_forget(guest);
}

/* ---- a hostile guest: read-only, because it would overwrite the others' blocks ---- */

static void hostile_visit(void)
{
	struct blkfront_options options = { .domid = 666, .read_only = true, .persistent = below(2), .abi = below(4),
					    .ring_page_order = below(3), .data_pages = 16 };
	struct blkfront *front = fixture_connect(&f, options);
	uint32_t *indices = blkfront_ring(front, 0);
	uint8_t bytes[112];

	for (unsigned i = below(64); i && blkfront_room(front, 0); i--) {
		for (unsigned at = 0; at < sizeof(bytes); at++)
			bytes[at] = below(4) ? 0 : below(256);
		bytes[0] = below(8);
		blkfront_raw(front, 0, bytes, sizeof(bytes));
		if (!below(4))
			blkfront_push(front, 0);
	}
	blkfront_push(front, 0);
	if (below(2))
		__atomic_store_n(&indices[below(4)], model_mix(choices++), __ATOMIC_SEQ_CST);
	for (unsigned i = below(4); i; i--)
		blkfront_signal(front, 0);
	if (below(2))
		blkfront_disconnect(front);
	else
		blkfront_vanish(front);
	while (is_connected(options.domid))
		;
}

/* ---- the administrator ---- */

static void disk_pause(void)
{
	json_decref(fixture_call(&f, command("pause")));
	paused = true;
}

static void disk_unpause(void)
{
	json_t *request = command("unpause");

	if (!below(4)) {
		json_object_set_new(request, "target", json_string("aio:/nowhere/at/all"));
		fixture_call_fails(&f, request, -ENOENT);
		request = command("unpause");
	}
	if (below(2))
		json_object_set_new(request, "target", json_string(f.target));
	json_decref(fixture_call(&f, request));
	paused = false;
}

/* A client that does not wait for the reply: tapdisk still executes its command. */
static void disk_pause_and_leave(void)
{
	struct tapctl *ctl;

	assert_int_equal(tapctl_connect(&ctl, f.pid, NULL), 0);
	assert_int_equal(tapctl_send(ctl, command("pause")), 0);
	tapctl_close(ctl);
	disk_pause();
}

/* Close by force while guests use the disk: they lose it immediately. */
static void disk_close_and_open(void)
{
	json_t *request = command("close");

	for (unsigned i = 0; i < GUESTS; i++)
		if (guests[i].front)
			guest_push(&guests[i]);
	json_object_set_new(request, "force", json_true());
	json_decref(fixture_call(&f, request));
	for (unsigned i = 0; i < GUESTS; i++) {
		if (!guests[i].front)
			continue;
		blkfront_vanish(guests[i].front);
		guest_forget(&guests[i]);
	}
	request = command("open");
	json_object_set_new(request, "target", json_string(f.target));
	json_object_update(request, open_options);
	json_decref(fixture_call(&f, request));
	paused = false;
}

static void disk_grow(void)
{
	json_t *reply;

	if (growth == MAX_GROWTH)
		return;
	if (paused) {
		fixture_call_fails(&f, command("resize"), -EINVAL);
		return;
	}
	growth++;
	assert_int_equal(truncate(f.image, ((off_t)blocks + growth) * MODEL_BLOCK), 0);
	reply = fixture_call(&f, command("resize"));
	assert_int_equal(json_integer_value(json_object_get(reply, "sectors")), (blocks + growth) * SECTORS_A_BLOCK);
	json_decref(reply);
}

static void disk_ask(void)
{
	static const char *const names[] = { "info", "list", "stats" };

	json_decref(fixture_call(&f, command(names[below(3)])));
}

/* ---- the storm ---- */

static void guest_step(struct guest *guest)
{
	if (!guest->front) {
		if (below(4) == 0)
			guest_connect(guest);
		return;
	}
	for (unsigned i = 1 + below(below(8) ? 8 : DEPTH); i; i--)
		guest_submit(guest);
	if (below(4))
		guest_push(guest);
	guest_reap(guest);
	/* a guest of a paused disk gets no responses */
	if (guest->in_flight == DEPTH && !paused)
		guest_wait(guest, below(DEPTH));
}

static void storm_step(void)
{
	struct guest *guest = &guests[below(GUESTS)];
	unsigned choice = below(1000);

	if (choice < 15 && paused)
		disk_unpause();
	else if (choice < 15)
		disk_pause();
	else if (choice < 20 && !paused)
		disk_pause_and_leave();
	else if (choice < 25)
		disk_grow();
	else if (choice < 40)
		disk_ask();
	else if (choice < 55)
		hostile_visit();
	else if (choice < 75 && guest->front)
		guest_leave(guest, below(2));
	else if (choice < 78)
		disk_close_and_open();
	else if (paused && choice < 125)
		disk_unpause();
	else
		guest_step(guest);
}

static void round_start(void)
{
	choices = growth = 0;
	paused = false;
	open_options = json_pack("{s:i, s:b}", "sector_size", below(2) ? 4096 : 512, "no_direct", below(4) == 0);
	blocks = GUESTS * PART;
	model_init(blocks);
	fixture_start(&f, (uint64_t)blocks * MODEL_BLOCK, NULL, json_incref(open_options));
	running = true;
	memset(guests, 0, sizeof(guests));
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i].domid = i + 1;
		guests[i].number = i;
	}
}

/* The image must hold what the guests expect. */
static void check_image(void)
{
	static uint8_t block[MODEL_BLOCK];
	int fd = open(f.image, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < blocks; i++) {
		assert_int_equal(pread(fd, block, MODEL_BLOCK, (off_t)i * MODEL_BLOCK), MODEL_BLOCK);
		model_check(block, i, 1);
	}
	close(fd);
}

static void round_end(void)
{
	if (paused)
		disk_unpause();
	for (unsigned i = 0; i < GUESTS; i++) {
		if (!guests[i].front)
			continue;
		guest_wait(&guests[i], 0);
		blkfront_disconnect(guests[i].front);
		guests[i].front = NULL;
	}
	json_decref(fixture_call(&f, command("close")));
	check_image();
	json_decref(open_options);
	running = false;
	fixture_stop(&f);
}

/* After a round that failed. */
static int clean_up(void **state)
{
	for (unsigned i = 0; i < GUESTS; i++)
		blkfront_vanish(guests[i].front);
	if (running)
		fixture_stop(&f);
	return 0;
}

static unsigned soak_seconds(void)
{
	const char *text = getenv("TAPSNAP_SOAK_SECONDS");

	return text && *text ? strtoul(text, NULL, 10) : 600;
}

static void test_storm(void **state)
{
	const char *text = getenv("TAPSNAP_SEED");
	time_t end = time(NULL) + soak_seconds();
	unsigned rounds = 0;

	seed = text && *text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 100;
	do {
		print_message("# round %u: TAPSNAP_SEED=%llu\n", ++rounds, (unsigned long long)seed);
		round_start();
		for (unsigned step = 0; step < STEPS; step++)
			storm_step();
		round_end();
		seed++;
	} while (time(NULL) < end);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(test_storm, clean_up) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
