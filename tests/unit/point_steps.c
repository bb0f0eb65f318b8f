/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point_steps.c - what test_point() is in build/tests/xl-snapshot-points: from
 * there on the process kills itself behind the step $XL_SNAPSHOT_KILL_AT of its
 * operation, or instead the process $XL_SNAPSHOT_KILL.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domain.h"

#define TEST_POINTS
#include "point.h"

static const char *kill_at;

static void die_at(const char *step)
{
	const char *victim = getenv("XL_SNAPSHOT_KILL");

	if (!strcmp(step, kill_at))
		kill(victim ? atoi(victim) : getpid(), SIGKILL);
}

void test_point(const char *name)
{
	kill_at = getenv("XL_SNAPSHOT_KILL_AT");
	if (kill_at)
		domain_step = die_at;
}
