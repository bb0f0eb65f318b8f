/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_takeover_kills.c - kill -9 of a tapdisk under a load that checks every
 * response, and a successor that takes over the ring, a thousand times: half
 * of them on a raw disk, half on a store. Answered writes are on the disk, each
 * request is answered once, and the guest sees no error.
 *
 * TAPSNAP_SEED=<seed> repeats the requests; the times of the kills differ.
 */
#include "takeover_load.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 500			/* of each kind */
#define CHECK_EVERY 50			/* rounds: the whole disk is read */

static struct fixture f;
static struct load load;

static void start(bool store)
{
	const char *type = store ? "cow" : "aio";

	fixture_make_dir(&f);
	snprintf(f.image, sizeof(f.image), "%s/disk", f.dir);
	snprintf(f.target, sizeof(f.target), "%s:%s", type, f.image);
	load_make_disk(type, f.image);
	f.pid = tapctl_spawn(NULL);
	f.minor = tapctl_minor_allocate(-1, NULL);
	assert_true(f.pid > 0 && f.minor >= 0);
	assert_int_equal(tapctl_connect(&f.ctl, f.pid, NULL), 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "attach", "minor", f.minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i, s:s}", "command", "open", "minor", f.minor, "target", f.target)));
}

static void follow(void)
{
	struct error_text text = { "" };
	char why[512] = "";

	tapctl_close(f.ctl);
	f.pid = tapctl_takeover(f.pid, -1, &text);
	if (f.pid < 0)
		fail_msg("takeover: %s", text.text);
	if (blkfront_follow(load.front, f.pid, why, sizeof(why)))
		fail_msg("follow: %s", why);
	assert_int_equal(tapctl_connect(&f.ctl, f.pid, NULL), 0);
}

/* Keep the ring full for a time that varies by round, then kill. */
static void round_run(unsigned round)
{
	unsigned answers = load.answered + round * 7919 % 97;

	do {
		load_put(&load, LOAD_DEPTH);
		if (answers > load.answered)
			assert_true(load_wait(&load));
	} while (answers > load.answered);
	if (round % 3)
		nanosleep(&(struct timespec){ .tv_nsec = round * 7907 % 300 * 1000 }, NULL);
	assert_int_equal(kill(f.pid, SIGKILL), 0);
	follow();
	if (round % CHECK_EVERY)
		return;
	assert_true(load_finish(&load));
	load_check(&load);
}

static void run(bool store)
{
	const char *seed = getenv("TAPSNAP_SEED");
	unsigned rounds = 0;

	start(store);
	load_start(&load, fixture_connect(&f, load_options(true)), seed ? strtoull(seed, NULL, 0) : 1);
	while (rounds < ROUNDS)
		round_run(++rounds);
	assert_true(load_finish(&load));
	load_check(&load);
	print_message("# %s: %u times killed and taken over, %u requests answered\n", store ? "store" : "raw", rounds,
		      load.answered);
	blkfront_disconnect(load.front);
	fixture_stop(&f);
}

static void test_raw(void **state)
{
	run(false);
}

static void test_store(void **state)
{
	run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_store),
	};

	return cmocka_run_group_tests_name("takeover: a thousand kills", tests, NULL, NULL);
}
