/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory_sweep_io.c - memory_sweep.h: frontends that connect, and requests. */
#include "memory_fault.h"
#include "memory_sweep.h"

#include <string.h>
#include <xen/io/blkif.h>

#include "clock.h"

static struct blkfront *front;

void memory_sweep_connect(void **state)
{
	struct blkfront_options options = { .pid = fault.disk.pid, .minor = fault.disk.minor, .queues = 2, .persistent = true };
	int64_t start = clock_ms();
	bool fired = true;
	int error;

	for (long number = fault_first(fault.stride); fault_goes_on(fired, start); number += fault.stride) {
		char text[512] = "";

		fault_arm(number);
		error = blkfront_connect(&front, &options, text, sizeof(text));
		fired = fault_disarm_fired();
		if (error && (!fired || !text[0] || strchr(text, '\n')))
			fail_msg("connect: allocation %ld: %s: %s", number, strerror(-error), text);
		if (!error)
			blkfront_disconnect(front);
		assert_int_equal(fault_disk_state(), 0);
	}
	front = NULL;
}

/*
 * The requests of a round: writes of new data and reads of old data, of one page and of more than fits
 * a direct request.
 */
enum { REQUESTS = 8, PAGES_EACH = 20, SECTORS_APART = 512 };

/* Not a multiple of 4 KiB, for devices with such sectors. */
static uint64_t request_sector(unsigned i)
{
	return i * SECTORS_APART + 1;
}

static uint8_t *request_data(unsigned i)
{
	return (uint8_t *)blkfront_data(front) + i * PAGES_EACH * 4096;
}

static unsigned request_pages(unsigned i)
{
	return i % 2 ? 1 : PAGES_EACH;
}

static void put_requests(bool write)
{
	struct blkfront_segment segments[PAGES_EACH];

	for (unsigned i = 0; i < REQUESTS; i++) {
		for (unsigned page = 0; page < request_pages(i); page++)
			segments[page] = (struct blkfront_segment){
				.page = blkfront_data_ref(front, i * PAGES_EACH + page), .first = 0, .last = 7,
			};
		assert_int_equal(blkfront_rw(front, 0, i, write, request_sector(i), segments, request_pages(i), false), 0);
	}
}

static void fill_requests(long seed)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		fixture_pattern(request_data(i), request_pages(i) * 4096, seed * REQUESTS + i);
}

static void check_requests(long seed, const bool *good, const char *when)
{
	static uint8_t wanted[PAGES_EACH * 4096];

	for (unsigned i = 0; i < REQUESTS; i++) {
		fixture_pattern(wanted, request_pages(i) * 4096, seed * REQUESTS + i);
		if (good[i] && memcmp(wanted, request_data(i), request_pages(i) * 4096))
			fail_msg("%s: allocation %ld: request %u, which succeeded, has other data", when, fault.number, i);
	}
}

static void finish_requests(bool *good)
{
	struct blkfront_response responses[REQUESTS];

	fixture_finish(front, 0, responses, REQUESTS);
	for (unsigned i = 0; i < REQUESTS; i++)
		good[responses[i].id] = responses[i].status == BLKIF_RSP_OKAY;
}

static void read_requests(long seed, const bool *good, const char *when)
{
	bool read_good[REQUESTS];

	memset(request_data(0), 0, REQUESTS * PAGES_EACH * 4096);
	put_requests(false);
	finish_requests(read_good);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_true(read_good[i]);
	check_requests(seed, good, when);
}

/* True while the @number-th allocation is reached, in writing or in reading. */
static bool io_round(long number, bool fail_write, bool persistent)
{
	bool all[REQUESTS], good[REQUESTS], fired;

	memset(all, true, sizeof(all));
	fault_open_disk();			/* a new one, which has no memory from before */
	front = fixture_connect(&fault.disk, (struct blkfront_options){ .persistent = persistent });
	fill_requests(number);
	if (fail_write)
		fault_arm(number);
	put_requests(true);
	finish_requests(good);
	fired = fail_write && fault_disarm_fired();
	if (fail_write) {
		read_requests(number, good, "write");
	} else {
		must("pause -p PID -m MINOR");
		must("unpause -p PID -m MINOR");
		memset(request_data(0), 0, REQUESTS * PAGES_EACH * 4096);
		fault_arm(number);
		put_requests(false);
		finish_requests(good);
		fired = fault_disarm_fired();
		check_requests(number, good, "read");
		read_requests(number, all, "read");
	}
	assert_int_equal(blkfront_sync(front), 0);
	blkfront_disconnect(front);
	front = NULL;
	must("close -p PID -m MINOR");
	return fired;
}

void memory_sweep_io(void **state)
{
	fault_restore_closed();
	for (int kind = 0; kind < 4; kind++) {
		int64_t start = clock_ms();
		bool fired = true;

		for (long number = fault_first(fault.stride); fault_goes_on(fired, start); number += fault.stride)
			fired = io_round(number, kind & 1, kind & 2);
	}
	fault_open_disk();
}
