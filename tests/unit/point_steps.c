/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point_steps.c - test_point() of build/tests/xl-snapshot-points: after the step
 * $XL_SNAPSHOT_KILL_AT of its operation the process kills itself, or the
 * process $XL_SNAPSHOT_KILL if that is set. With $XL_SNAPSHOT_ALONE it kills its
 * guard first, as a power cut of the machine does.
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

/* At a step the guard is the only child. */
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
