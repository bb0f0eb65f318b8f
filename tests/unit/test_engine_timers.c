/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine_timers.c - the timers of an engine.
 */
#include "engine_ios.h"

static struct engine timed;
static char expired[8];

static void note_expired(struct engine_timer *timer)
{
	strcat(expired, timer->owner);
}

/* Sets itself again when it expires for the first time. */
static void note_and_repeat(struct engine_timer *timer)
{
	note_expired(timer);
	if (timer->due < 50)
		engine_set_timer(&timed, timer, 50);
}

/* Timers expire when they are due, in that order, once; canceled ones do not. */
static void timers(void **state)
{
	struct engine_timer late = { .expired = note_expired, .owner = "L" }, early = { .expired = note_and_repeat, .owner = "E" },
		gone = { .expired = note_expired, .owner = "G" };

	assert_true(engine_next_timer(&timed) == UINT64_MAX);
	engine_set_timer(&timed, &late, 30);
	engine_set_timer(&timed, &gone, 20);
	engine_set_timer(&timed, &early, 10);
	engine_cancel_timer(&timed, &gone);
	engine_cancel_timer(&timed, &gone);
	assert_int_equal(engine_next_timer(&timed), 10);
	engine_run_timers(&timed, 9);
	assert_string_equal(expired, "");
	engine_run_timers(&timed, 30);
	assert_string_equal(expired, "EL");
	assert_int_equal(engine_next_timer(&timed), 50);
	engine_run_timers(&timed, 60);
	assert_string_equal(expired, "ELE");
	assert_true(engine_next_timer(&timed) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
