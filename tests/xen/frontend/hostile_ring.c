/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hostile_ring.c - scenarios: nonsense in the ring. Each bad request is
 * answered with an error and the next good one is served; a broken ring is
 * given up, and said; nobody else notices.
 */
#include <time.h>

#include "frontend.h"

#include <xen/io/blkif.h>
#include <xengnttab.h>

#include "array.h"

#define FUZZ_ROUNDS	30

/* ---- one request at a time ---- */

/* Push the requests in queue 0 and wait for the one answer. */
static int answer(struct blkfront *front)
{
	struct blkfront_response response;
	int r;

	blkfront_push(front, 0);
	r = blkfront_wait(front, 0, TIMEOUT_MS);
	if (r <= 0 || blkfront_reap(front, 0, &response, 1) != 1)
		fail("no answer: %s", r ? strerror(-r) : "timed out");
	return response.status;
}

struct shot {
	uint64_t sector;
	int expected;
	struct blkfront_segment segment;
	bool write, indirect;
};

static void shoot(struct blkfront *front, const struct shot *shot)
{
	int status;

	must(blkfront_rw(front, 0, 7, shot->write, shot->sector, &shot->segment, 1, shot->indirect), "a slot");
	status = answer(front);
	if (status != shot->expected)
		fail("%s%s at %llu, page %#x from %u to %u: status %d, expected %d", shot->indirect ? "indirect " : "",
		     shot->write ? "write" : "read", (unsigned long long)shot->sector, shot->segment.page,
		     shot->segment.first, shot->segment.last, status, shot->expected);
}

/* Invalid references, invalid sectors. */
static void bad_requests(struct blkfront *front, bool write, bool indirect)
{
	uint32_t good = blkfront_data_ref(front, 0);
	uint64_t sectors = blkfront_geometry(front)->sectors;
	const struct shot shots[] = {
		{ .segment = { UINT32_MAX, 0, 7 } }, { .segment = { 0x7fffffff, 0, 7 } }, { .segment = { 0, 0, 7 } },
		{ .segment = { good, 5, 4 } }, { .segment = { good, 0, 8 } },
		{ .segment = { good, 255, 255 } }, { .segment = { good, 0, 255 } },
		{ .sector = sectors, .segment = { good, 0, 0 } }, { .sector = sectors - 7, .segment = { good, 0, 7 } },
		{ .sector = UINT64_MAX, .segment = { good, 0, 0 } }, { .sector = UINT64_MAX - 6, .segment = { good, 0, 7 } },
		{ .sector = (UINT64_MAX >> 9) + 1, .segment = { good, 0, 7 } },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(shots); i++) {
		struct shot shot = shots[i];

		shot.write = write;
		shot.indirect = indirect;
		shot.expected = BLKIF_RSP_ERROR;
		shoot(front, &shot);
	}
	shoot(front, &(struct shot){ .write = write, .indirect = indirect, .segment = { good, 0, 7 } });
}

/* A page granted for reading can be written to the disk, and not be read into. */
static void read_only_page(struct blkfront *front, xengntshr_handle *grants)
{
	uint32_t ref;
	void *page = xengntshr_share_pages(grants, 0, 1, &ref, 0);

	if (!page)
		fail("cannot grant a page: %m");
	memset(page, 0, PAGE_SIZE);
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		shoot(front, &(struct shot){ .indirect = indirect, .segment = { ref, 0, 7 }, .expected = BLKIF_RSP_ERROR });
		shoot(front, &(struct shot){ .write = true, .indirect = indirect, .segment = { ref, 0, 7 } });
	}
	xengntshr_unshare(grants, page, 1);
}

/* A page of another domain's grant table entry, and one whose grant has ended. */
static void foreign_page(struct blkfront *front, xengntshr_handle *grants)
{
	uint32_t ref;
	void *page = xengntshr_share_pages(grants, 1, 1, &ref, 1);

	if (!page)
		fail("cannot grant a page: %m");
	for (unsigned i = 0; i < 8; i++) {
		if (i == 4)
			xengntshr_unshare(grants, page, 1);
		shoot(front, &(struct shot){ .write = i & 1, .indirect = i & 2, .segment = { ref, 0, 7 },
					     .expected = BLKIF_RSP_ERROR });
	}
}

/* Malformed requests, which only raw bytes can express. */
static void bad_headers(struct blkfront *front)
{
	struct blkif_request request = { .id = 7 };
	struct blkif_request_indirect indirect = { .operation = BLKIF_OP_INDIRECT, .id = 7 };
	static const uint16_t counts[] = { 0, 257, 65535, 256 };

	request.operation = 77;
	must(blkfront_raw(front, 0, &request, sizeof(request)), "a slot");
	if (answer(front) != BLKIF_RSP_EOPNOTSUPP)
		fail("operation 77 is supported");
	for (unsigned op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++) {
		request.operation = op;
		request.nr_segments = 12;
		must(blkfront_raw(front, 0, &request, sizeof(request)), "a slot");
		if (answer(front) != BLKIF_RSP_ERROR)
			fail("12 segments in a request");
		indirect.indirect_op = op;
		for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
			indirect.nr_segments = counts[i];
			must(blkfront_raw(front, 0, &indirect, sizeof(indirect)), "a slot");
			if (answer(front) != BLKIF_RSP_ERROR)
				fail("%u indirect segments in pages that are none", counts[i]);
		}
	}
}

void scenario_requests(struct disk *disk)
{
	xengntshr_handle *grants = xengntshr_open(NULL, 0);

	if (!grants)
		fail("/dev/xen/gntalloc: %m");
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		struct resources before = disk_resources(disk);
		struct blkfront *front = disk_connect(disk, (struct blkfront_options){ .persistent = persistent });

		step("%s grants", persistent ? "persistent" : "plain");
		for (unsigned i = 0; i < 4; i++)
			bad_requests(front, i & 1, i & 2);
		read_only_page(front, grants);
		foreign_page(front, grants);
		bad_headers(front);
		disk_no_error(disk);
		check_witnesses();
		disk_disconnect(disk, front);
		disk_same_resources(disk, before);
	}
	xengntshr_close(grants);
}

/* ---- grants that end under I/O ---- */

/*
 * Requests on separate pages; half of them are in the ring when the grants end, half come after. All
 * are answered. Returns how many of the second half failed.
 */
static unsigned revoke_round(struct blkfront *front, xengntshr_handle *grants)
{
	enum { PAGES = 16 };
	struct blkfront_response responses[PAGES];
	uint32_t refs[PAGES];
	void *pages = xengntshr_share_pages(grants, 0, PAGES, refs, 1);
	unsigned errors = 0, count, left = 2 * PAGES;

	if (!pages)
		fail("cannot grant %u pages: %m", PAGES);
	for (unsigned i = 0; i < 2 * PAGES; i++) {
		struct blkfront_segment segment = { refs[i % PAGES], 0, 7 };

		if (i == PAGES) {
			blkfront_push(front, 0);
			xengntshr_unshare(grants, pages, PAGES);
		}
		must(blkfront_rw(front, 0, i, i & 1, i * 8, &segment, 1, i & 2), "a slot");
	}
	blkfront_push(front, 0);
	for (; left; left -= count) {
		if (blkfront_wait(front, 0, TIMEOUT_MS) <= 0)
			fail("%u requests are not answered", left);
		count = blkfront_reap(front, 0, responses, PAGES);
		for (unsigned i = 0; i < count; i++)
			errors += responses[i].id >= PAGES && responses[i].status != BLKIF_RSP_OKAY;
	}
	return errors;
}

void scenario_revoke(struct disk *disk)
{
	xengntshr_handle *grants = xengntshr_open(NULL, 0);

	if (!grants)
		fail("/dev/xen/gntalloc: %m");
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		struct resources before = disk_resources(disk);
		struct blkfront_options shape = { .persistent = persistent, .ring_page_order = 1 };
		struct blkfront *front = disk_connect(disk, shape);
		unsigned errors = 0;

		for (unsigned round = 0; round < 6; round++)
			errors += revoke_round(front, grants);
		/* a page that is mapped, or being copied, stays for a while; but not all of them each time */
		if (!persistent && !errors)
			fail("no request failed on pages that are gone");
		shoot(front, &(struct shot){ .segment = { blkfront_data_ref(front, 0), 0, 7 } });
		disk_no_error(disk);
		check_witnesses();
		disk_disconnect(disk, front);
		disk_same_resources(disk, before);
	}
	xengntshr_close(grants);
}

/* ---- rings that break ---- */

/* A producer index @ahead of the old one: this ring is given up, the other one is not; and it works after a reconnect. */
static void break_ring(struct disk *disk, uint32_t ahead, unsigned queues)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_connect(disk, (struct blkfront_options){ .queues = queues, .persistent = true });
	volatile uint32_t *req_prod = blkfront_ring(front, queues - 1);
	struct load load;

	step("producer index %u ahead, queue %u", ahead, queues - 1);
	load_init(&load, disk, front, queues);
	load_run(&load, SLOTS);
	load_drain(&load);
	*req_prod += ahead;
	blkfront_signal(front, queues - 1);
	disk_wait_error(disk, "producer index is impossible");
	check_witnesses();
	if (queues > 1) {
		load.queues = queues - 1;
		load_run(&load, 2 * SLOTS);
		load_drain(&load);
	}
	disk_disconnect(disk, front);
	disk_same_resources(disk, before);
	/* old errors do not count */
	front = disk_connect(disk, (struct blkfront_options){ .queues = queues });
	disk_no_error(disk);
	load_move(&load, front, queues);
	load_run(&load, SLOTS);
	load_drain(&load);
	disk_disconnect(disk, front);
}

void scenario_indices(struct disk *disk)
{
	static const uint32_t ahead[] = { 33, 1u << 20, 1u << 31, UINT32_MAX };
	unsigned most = disk_read_number(disk->backend, "multi-queue-max-queues");

	for (unsigned i = 0; i < ARRAY_SIZE(ahead); i++)
		break_ring(disk, ahead[i], i % 2 ? most : 1);
	disk_verify_image(disk);
}

/* Endless signals without requests. */
void scenario_storm(struct disk *disk)
{
	struct blkfront *front = disk_connect(disk, (struct blkfront_options){ .persistent = true });
	struct load load;

	load_init(&load, disk, front, 1);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 500; i++)
			blkfront_signal(front, 0);
		load_run(&load, 1);
		check_witnesses();
	}
	load_drain(&load);
	disk_disconnect(disk, front);
	disk_verify_image(disk);
}

/* ---- random bytes ---- */

static uint64_t fuzz_state;

void fuzz_seed(void)
{
	const char *seed = getenv("SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	fuzz_state = (seed ? strtoull(seed, NULL, 0) : (uint64_t)(now.tv_sec ^ now.tv_nsec) * 0x9e3779b97f4a7c15ull) | 1;
	step("SEED=%#llx", (unsigned long long)fuzz_state);
}

uint32_t fuzz_random(void)
{
	fuzz_state ^= fuzz_state << 13;
	fuzz_state ^= fuzz_state >> 7;
	fuzz_state ^= fuzz_state << 17;
	return fuzz_state >> 32;
}

/* Half of the bytes are chosen so that a request passes its first check. */
void fuzz_request(const struct blkfront *front, struct blkif_request *request)
{
	uint8_t *bytes = (uint8_t *)request;

	for (unsigned i = 0; i < sizeof(*request); i++)
		bytes[i] = fuzz_random();
	request->operation = fuzz_random() % 8;
	if (fuzz_random() % 4 == 0)
		return;
	request->nr_segments = fuzz_random() % 13;
	request->sector_number = fuzz_random() % (2 * blkfront_geometry(front)->sectors);
	for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++) {
		request->seg[i].gref = fuzz_random() % 16 ? blkfront_data_ref(front, fuzz_random() % 16) : fuzz_random();
		request->seg[i].first_sect = fuzz_random() % 4;
		request->seg[i].last_sect = fuzz_random() % 9;
	}
}

/* A full ring, while the slots are overwritten as they are read; each is answered, whatever the answer. */
static void fuzz_round(struct blkfront *front)
{
	struct blkfront_response responses[32];
	unsigned left = blkfront_room(front, 0), count;
	uint8_t *slots = (uint8_t *)blkfront_ring(front, 0) + offsetof(struct blkif_sring, ring);
	struct blkif_request request;

	for (unsigned i = 0; i < left; i++) {
		fuzz_request(front, &request);
		must(blkfront_raw(front, 0, &request, sizeof(request)), "a slot");
	}
	blkfront_push(front, 0);
	for (unsigned i = 0; i < 2000; i++)
		slots[fuzz_random() % (32 * sizeof(request))] = fuzz_random();
	for (; left; left -= count) {
		if (blkfront_wait(front, 0, TIMEOUT_MS) <= 0)
			fail("%u requests are not answered", left);
		count = blkfront_reap(front, 0, responses, 32);
	}
}

void scenario_fuzz(struct disk *disk)
{
	fuzz_seed();
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		struct resources before = disk_resources(disk);
		struct blkfront_options shape = { .persistent = persistent, .abi = BLKFRONT_X86_64 };
		struct blkfront *front = disk_connect(disk, shape);

		for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
			fuzz_round(front);
			if (round % 10 == 9)
				check_witnesses();
		}
		shoot(front, &(struct shot){ .segment = { blkfront_data_ref(front, 0), 0, 7 } });
		disk_no_error(disk);
		disk_disconnect(disk, front);
		disk_same_resources(disk, before);
	}
}
