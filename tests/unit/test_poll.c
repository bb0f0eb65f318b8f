/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_poll.c - tapdisk --poll: requests in close succession are found without
 * signals; an idle disk sleeps. test_loop tests when polling begins and ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fixture.h"

#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define PAGE 4096

static void nap(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/*
 * One request after the other, on a disk that answers at once. Returns how many needed no signal: the
 * answer of request n is there, and n is still beyond the index at which tapdisk asked for a signal.
 */
static unsigned read_some(struct blkfront *front, unsigned count)
{
	const volatile struct blkif_sring *ring = blkfront_ring(front, 0);
	unsigned spared = 0;
	char page[PAGE];

	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(blkfront_pread(front, page, PAGE, 0), 0);
		spared += (int32_t)(ring->req_prod - ring->req_event) > 0;
	}
	return spared;
}

/* Not all of them on a busy machine, where a wait may take longer than the polling. */
static void test_signals_are_spared(void **state)
{
	struct fixture f;
	struct blkfront *front;
	unsigned spared = 0;
	time_t until = time(NULL) + TIMEOUT_MS / 1000;

	setenv("TAPSNAP_POLL", "10000", 1);
	fixture_start(&f, 0, "null:4M", NULL);
	front = fixture_connect(&f, (struct blkfront_options){ .persistent = true });
	while (spared < 50) {
		spared += read_some(front, 100);
		assert_true(time(NULL) < until);
	}
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static void test_off_unless_asked(void **state)
{
	struct fixture f;
	struct blkfront *front;

	unsetenv("TAPSNAP_POLL");
	fixture_start(&f, 0, "null:4M", NULL);
	front = fixture_connect(&f, (struct blkfront_options){ .persistent = true });
	assert_int_equal(read_some(front, 100), 0);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

static char state_of(int pid, long *sleeps)
{
	char path[64], line[128], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "voluntary_ctxt_switches: %ld", sleeps);
	}
	fclose(file);
	return state;
}

/* The guest still exists and sends no requests: tapdisk sleeps and does not wake up. */
static void test_idle_sleeps(void **state)
{
	struct fixture f;
	struct blkfront *front;
	long before = 0, after = 0;

	setenv("TAPSNAP_POLL", "10000", 1);
	fixture_start(&f, 0, "null:4M", NULL);
	front = fixture_connect(&f, (struct blkfront_options){ .persistent = true });
	read_some(front, 100);
	for (int ms = 0; ms < TIMEOUT_MS; ms++) {
		nap(1);
		if (state_of(f.pid, &before) != 'S')
			continue;
		nap(200);
		if (state_of(f.pid, &after) == 'S' && after == before)
			break;
		assert_true(ms < TIMEOUT_MS - 1);
	}
	nap(300);
	assert_int_equal(state_of(f.pid, &after), 'S');
	assert_int_equal(after, before);
	blkfront_disconnect(front);
	fixture_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals_are_spared),
		cmocka_unit_test(test_off_unless_asked),
		cmocka_unit_test(test_idle_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
