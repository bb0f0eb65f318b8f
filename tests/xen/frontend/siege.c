/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * siege.c - scenario: everything at once, as fast as it goes, until SIGTERM.
 * One life after another of a frontend of any shape: rings full of nonsense,
 * a thread that overwrites bytes in ring and pages while they are read (now
 * and then an index), large requests none of whose pages can be mapped, signals
 * without end, pages taken back under I/O, nodes that change, an end with and
 * without a word.
 *
 * It needs nothing but what a guest has: its side of xenstore, its grants and
 * its event channels.
 *
 * SIGUSR1 puts it at rest, SIGUSR2 ends that. At rest it computes as before, in
 * memory of its own, so that the difference to somebody else is what its
 * requests and signals cost, not what it costs itself.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <xengnttab.h>

#include "clock.h"
#include "frontend.h"

#include <xen/io/blkif.h>

#define DATA_PAGES	64u
#define GIVE_UP_MS	200		/* a ring without room for that long may have been given up */
#define BATCHES		400		/* of one connection */
#define REVOKED		8u		/* pages */
#define MAX_SIGNALS	200u
#define LARGE		256u		/* segments of the largest request */
#define FAR_REF		0x7fff0000u	/* no grant table is that long */

struct siege {
	struct disk *disk;
	struct blkfront *front;
	struct blkif_sring *ring;
	size_t ring_bytes;
	uint32_t produced, size;
	bool indices;			/* these are overwritten, too */
	pthread_t flipper;
	atomic_bool stop;		/* the flipper */
	xengntshr_handle *grants;
	void *pages;			/* whose grants are to end; NULL: they have */
	uint32_t refs[REVOKED];
	uint32_t lists[2];		/* pages of a large request's segments: all of nothing, all of a page to read only */
};

static atomic_bool over, at_rest;
static uint8_t own_ring[4 * PAGE_SIZE], own_data[DATA_PAGES * PAGE_SIZE];	/* used while it is at rest */

static void on_signal(int number)
{
	if (number == SIGTERM)
		over = true;
	else
		at_rest = number == SIGUSR1;
}

/* ---- the thread ---- */

static void *flip(void *arg)
{
	struct siege *siege = arg;
	size_t header = offsetof(struct blkif_sring, ring);
	uint64_t random = 88172645463325252ull;

	while (!atomic_load_explicit(&siege->stop, memory_order_relaxed)) {
		bool rest = atomic_load_explicit(&at_rest, memory_order_relaxed);
		volatile uint8_t *ring = rest ? own_ring : (uint8_t *)siege->ring;
		volatile uint8_t *data = rest ? own_data : blkfront_data(siege->front);
		size_t at;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		at = random >> 40;
		if (siege->indices && random % 1000000 == 0)
			ring[at % header] = (uint8_t)(random >> 32);
		else if (random % 4)
			ring[header + at % (siege->ring_bytes - header)] = (uint8_t)(random >> 32);
		else
			data[at % (DATA_PAGES * PAGE_SIZE)] = (uint8_t)(random >> 32);
	}
	return NULL;
}

/* ---- blows ---- */

/* The number of free slots, as far as the ring can be believed. */
static uint32_t room(const struct siege *siege)
{
	uint32_t waiting = siege->produced - __atomic_load_n(&siege->ring->rsp_prod, __ATOMIC_ACQUIRE);

	return waiting <= siege->size ? siege->size - waiting : 0;
}

/* False: the ring seems to have been given up. */
static bool wait_for_room(const struct siege *siege)
{
	int64_t end = clock_ms() + GIVE_UP_MS;

	while (!room(siege)) {
		if (over || clock_ms() > end)
			return false;
		blkfront_signal(siege->front, 0);
		sched_yield();
	}
	return true;
}

/* Well-formed, and as expensive as a single slot can be: LARGE pages to be mapped, in vain. */
static void large_request(const struct siege *siege, struct blkif_request *request)
{
	struct blkif_request_indirect large = {
		.operation = BLKIF_OP_INDIRECT, .indirect_op = fuzz_random() % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE,
		.nr_segments = LARGE, .sector_number = fuzz_random() % (blkfront_geometry(siege->front)->sectors - LARGE),
		.indirect_grefs = { siege->lists[fuzz_random() % 2] },
	};

	memcpy(request, &large, sizeof(large));
}

static void fill(struct siege *siege, union blkif_sring_entry *slots, uint32_t count)
{
	struct blkif_request request;

	for (uint32_t i = 0; i < count; i++) {
		fuzz_request(siege->front, &request);
		if (siege->pages && fuzz_random() % 8 == 0)
			request.seg[0].gref = siege->refs[fuzz_random() % REVOKED];
		if (fuzz_random() % 8 == 0)
			large_request(siege, &request);
		memcpy(&slots[(siege->produced + i) & (siege->size - 1)].req, &request, sizeof(request));
	}
}

static void put_batch(struct siege *siege)
{
	uint32_t count = room(siege);

	count = count ? 1 + fuzz_random() % count : 1;
	fill(siege, siege->ring->ring, count);
	siege->produced += count;
	__atomic_store_n(&siege->ring->req_prod, siege->produced, __ATOMIC_RELEASE);
	for (unsigned i = fuzz_random() % MAX_SIGNALS; i; i--)
		blkfront_signal(siege->front, 0);
}

static void give_or_take_pages(struct siege *siege)
{
	if (siege->pages) {
		xengntshr_unshare(siege->grants, siege->pages, REVOKED);
		siege->pages = NULL;
	} else {
		siege->pages = xengntshr_share_pages(siege->grants, 0, REVOKED, siege->refs, 1);
	}
}

static void change_nodes(const struct siege *siege)
{
	static const char *const nodes[] = { "ring-ref", "event-channel", "protocol", "feature-persistent", "state" };
	static const char *const values[] = { "4294967295", "vax-abi", "", "-1", "99" };

	disk_write_node(siege->disk->frontend, nodes[fuzz_random() % 5], values[fuzz_random() % 5]);
}

/* ---- one connection ---- */

static void begin_life(struct siege *siege)
{
	unsigned order = fuzz_random() % 3;
	struct blkfront_options shape = {
		.abi = BLKFRONT_X86_64, .persistent = fuzz_random() % 2, .ring_page_order = order, .data_pages = DATA_PAGES,
	};

	siege->front = disk_connect(siege->disk, shape);
	siege->ring = blkfront_ring(siege->front, 0);
	siege->ring_bytes = (size_t)PAGE_SIZE << order;
	siege->size = blkfront_ring_size(siege->front, 0);
	siege->produced = 0;
	siege->indices = fuzz_random() % 3 == 0;
	siege->stop = false;
	if (pthread_create(&siege->flipper, NULL, flip, siege))
		fail("no thread");
}

static void end_life(struct siege *siege)
{
	siege->stop = true;
	pthread_join(siege->flipper, NULL);
	if (siege->pages)
		give_or_take_pages(siege);
	if (fuzz_random() % 2 || over) {
		disk_disconnect(siege->disk, siege->front);
		return;
	}
	blkfront_vanish(siege->front);
	disk_write_node(siege->disk->frontend, "state", "1");
}

static void live(struct siege *siege)
{
	begin_life(siege);
	for (unsigned batch = 0; batch < BATCHES && !over; batch++) {
		while (at_rest && !over)
			fill(siege, (union blkif_sring_entry *)own_ring, siege->size);
		if (!wait_for_room(siege))
			break;
		put_batch(siege);
		if (fuzz_random() % 8 == 0)
			give_or_take_pages(siege);
		if (fuzz_random() % 32 == 0)
			change_nodes(siege);
	}
	end_life(siege);
}

/* They stay granted until the end. */
static void make_lists(struct siege *siege)
{
	struct blkif_request_segment *pages = xengntshr_share_pages(siege->grants, 0, 2, siege->lists, 1);
	uint32_t read_only;

	if (!pages || !xengntshr_share_pages(siege->grants, 0, 1, &read_only, 0))
		fail("cannot grant pages: %m");
	for (unsigned i = 0; i < LARGE; i++) {
		pages[i].gref = FAR_REF + i;
		pages[PAGE_SIZE / sizeof(*pages) + i].gref = read_only;
	}
}

void scenario_siege(struct disk *disk)
{
	struct siege siege = { .disk = disk, .grants = xengntshr_open(NULL, 0) };
	struct blkfront *front;
	unsigned lives;

	if (!siege.grants)
		fail("/dev/xen/gntalloc: %m");
	make_lists(&siege);
	fuzz_seed();
	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	for (lives = 0; !over; lives++)
		live(&siege);
	xengntshr_close(siege.grants);
	step("%u lives; and one that is well-behaved", lives);
	front = disk_connect(disk, (struct blkfront_options){ .persistent = true });
	must(blkfront_sync(front), "flush");
	disk_no_error(disk);
	disk_disconnect(disk, front);
}
