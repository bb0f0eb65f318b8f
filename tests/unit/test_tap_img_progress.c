/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tap_img_progress.c - the progress line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tap-img.h"

static void line_is(double seconds, uint64_t done, uint64_t total, const char *want)
{
	struct progress progress = { .what = "convert" };
	char line[160];

	progress_line(&progress, seconds, done, total, line, sizeof(line));
	assert_string_equal(line, want);
}

static void test_lines(void **state)
{
	line_is(10, 1ull << 30, 4ull << 30, "convert  [=======>                      ]  25.0%    102.4 MiB/s  0:30 left");
	line_is(10, 0, 4ull << 30, "convert  [>                             ]   0.0%      0.0 MiB/s  0:00 left");
	line_is(100, 100ull << 20, 100ull << 20, "convert  [==============================] 100.0%      1.0 MiB/s  0:00 left");
	line_is(3600, 1ull << 40, 1ull << 41, "convert  [===============>              ]  50.0%    291.3 MiB/s  60:00 left");
}

/* No work at all, a total that was too small, or no time passed: it must not crash. */
static void test_odd_numbers(void **state)
{
	line_is(0, 0, 0, "convert  [==============================] 100.0%      0.0 MiB/s  0:00 left");
	line_is(1, 3ull << 20, 2ull << 20, "convert  [==============================] 100.0%      3.0 MiB/s  0:00 left");
	line_is(0, 1, 2, "convert  [===============>              ]  50.0%      0.0 MiB/s  0:00 left");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_odd_numbers) };

	return cmocka_run_group_tests_name("tap-img: progress", tests, NULL, NULL);
}
