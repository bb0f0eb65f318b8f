/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point_steps.c - what test_point() is in build/tests/xl-snapshot-points: from
 * there on the process kills itself behind the step $XL_SNAPSHOT_KILL_AT of its
 * operation, or instead the process $XL_SNAPSHOT_KILL. With $XL_SNAPSHOT_ALONE
 * its guard dies before it, as it does when the machine loses its power.
 */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domain.h"

#define TEST_POINTS
#include "point.h"

static const char *kill_at;

/* The guard is the one that there is at a step. */
static void kill_children(void)
{
	glob_t lists;

	if (glob("/proc/self/task/*/children", 0, NULL, &lists))
		return;
	for (size_t i = 0; i < lists.gl_pathc; i++) {
		FILE *list = fopen(lists.gl_pathv[i], "re");
		int pid;

		while (list && fscanf(list, "%d", &pid) == 1)
			kill(pid, SIGKILL);
		if (list)
			fclose(list);
	}
	globfree(&lists);
}

static void die_at(const char *step)
{
	const char *victim = getenv("XL_SNAPSHOT_KILL");

	if (strcmp(step, kill_at) != 0)
		return;
	if (getenv("XL_SNAPSHOT_ALONE"))
		kill_children();
	kill(victim ? atoi(victim) : getpid(), SIGKILL);
}

void test_point(const char *name)
{
	kill_at = getenv("XL_SNAPSHOT_KILL_AT");
	if (kill_at)
		domain_step = die_at;
}
