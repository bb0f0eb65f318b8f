/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point.c - test_point() of build/tests/tapdisk-points: the process kills
 * itself at the $TAPSNAP_KILL_AT-th point that it reaches.
 */
#include <signal.h>
#include <stdlib.h>

#define TEST_POINTS
#include "point.h"

void test_point(const char *name)
{
	static long left = -1;

	if (left < 0) {
		const char *number = getenv("TAPSNAP_KILL_AT");

		left = number ? atol(number) : 0;
	}
	if (left && !--left)
		raise(SIGKILL);
}
