/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point_steps.c - test_point() of build/tests/xl-snapshot-points: after the step
 * $XL_SNAPSHOT_KILL_AT of its operation, or of its group of disks, the process
 * kills itself, or sends $XL_SNAPSHOT_SIGNAL (a number; SIGKILL) to the process
 * $XL_SNAPSHOT_KILL. With $XL_SNAPSHOT_ALONE it kills its guard and stops: then
 * the machine loses its power, and nobody has noticed anything before.
 */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_internal.h"
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
	const char *victim = getenv("XL_SNAPSHOT_KILL"), *number = getenv("XL_SNAPSHOT_SIGNAL");

	if (strcmp(step, kill_at) != 0)
		return;
	if (getenv("XL_SNAPSHOT_ALONE")) {
		kill_children();
		raise(SIGSTOP);
	}
	kill(victim ? atoi(victim) : getpid(), victim && number ? atoi(number) : SIGKILL);
}

void test_point(const char *name)
{
	kill_at = getenv("XL_SNAPSHOT_KILL_AT");
	if (kill_at)
		domain_step = client_group_step = die_at;
}
