/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_backoff.c - a frontend that wastes tapdisk's time with signals and bad
 * requests is slowed down until it behaves; a frontend with occasional
 * mistakes is not (blkif_backoff.c).
 *
 * The test measures times: a slowed frontend that is served too fast fails it.
 */
#include "fixture.h"

#include <stdio.h>

#include <xen/io/blkif.h>

#include "clock.h"

#define DISK_BYTES (1u << 20)
#define PENALTY_MAX 64u		/* the number that tapdisk accepts */
#define BACKOFF_MS 100u		/* for each such number */

static struct fixture f;
static struct blkfront *front;

static json_int_t counted(const char *name)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "stats", "minor", f.minor));
	json_t *stats = json_object_get(reply, "stats"), *value = json_object_get(json_object_get(stats, "total"), name);
	json_int_t number;

	if (!value)
		value = json_object_get(json_array_get(json_object_get(stats, "connections"), 0), name);
	assert_true(json_is_integer(value));
	number = json_integer_value(value);
	json_decref(reply);
	return number;
}

static void put(bool good)
{
	struct blkfront_segment segment = { good ? blkfront_data_ref(front, 0) : UINT32_MAX, 0, good ? 7 : 8 };

	assert_int_equal(blkfront_rw(front, 0, 1, false, 0, &segment, 1, false), 0);
}

static void expect_served(void)
{
	put(true);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_READ), BLKIF_RSP_OKAY);
}

static void signal_until(unsigned backoffs)
{
	while (counted("backoffs") < backoffs) {
		if (counted("kicks") > 100 * PENALTY_MAX)
			fail_msg("each signal is looked at");
		for (unsigned i = 0; i < 100; i++)
			blkfront_signal(front, 0);
	}
}

static int setup(void **state)
{
	fixture_start(&f, DISK_BYTES, NULL, NULL);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	return 0;
}

static int teardown(void **state)
{
	blkfront_disconnect(front);
	fixture_stop(&f);
	return 0;
}

/* Half of its requests are bad. */
static void test_mistakes(void **state)
{
	struct blkfront_response responses[2];

	for (unsigned i = 0; i < 10 * PENALTY_MAX; i++) {
		put(true);
		put(false);
		fixture_finish(front, 0, responses, 2);
	}
	assert_int_equal(counted("invalid"), 10 * PENALTY_MAX);
	assert_int_equal(counted("backoffs"), 0);
}

static void test_signals(void **state)
{
	json_int_t kicks = counted("kicks");
	int64_t begin = clock_ms(), lots;

	signal_until(4);
	lots = (clock_ms() - begin) / BACKOFF_MS + 1;
	assert_true(lots >= 4);
	assert_in_range(counted("kicks") - kicks, 4 * PENALTY_MAX, (lots + 1) * PENALTY_MAX);
	expect_served();
}

static void test_bad_requests(void **state)
{
	struct blkfront_response responses[32];
	int64_t begin = clock_ms();

	for (unsigned i = 0; i < 4 * PENALTY_MAX / 32 + 1; i++) {
		for (unsigned n = 0; n < 32; n++)
			put(false);
		fixture_finish(front, 0, responses, 32);
	}
	assert_true(clock_ms() - begin >= 4 * BACKOFF_MS);
	assert_true(counted("backoffs") >= 4);
	expect_served();
}

/* Bad pages are found when the data are copied. */
static void test_bad_pages(void **state)
{
	struct blkfront_segment segment = { UINT32_MAX, 0, 7 };
	struct blkfront_response responses[32];

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned n = 0; n < 32; n++)
			assert_int_equal(blkfront_rw(front, 0, n, n & 1, 0, &segment, 1, false), 0);
		fixture_finish(front, 0, responses, 32);
		for (unsigned n = 0; n < 32; n++)
			assert_int_equal(responses[n].status, BLKIF_RSP_ERROR);
	}
	assert_in_range(counted("backoffs"), 1, 2);
	expect_served();
}

/* A frontend can disconnect while its rings are not looked at. */
static void test_leaves(void **state)
{
	signal_until(1);
	blkfront_disconnect(front);
	front = fixture_connect(&f, (struct blkfront_options){ 0 });
	assert_int_equal(counted("backoffs"), 0);
	expect_served();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaves, setup, teardown),
	};

	return cmocka_run_group_tests_name("frontends that waste", tests, NULL, NULL);
}
