/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot_group.h - three disks of snapshot_process.h, and a coordinator of
 * their snapshots or reverts that can be killed at every step.
 */
#ifndef TESTS_SNAPSHOT_GROUP_H
#define TESTS_SNAPSHOT_GROUP_H

#include "snapshot_process.h"

#include <dirent.h>
#include <fcntl.h>

#include "client_internal.h"

#define NR_DISKS 3

static struct fake_process processes[NR_DISKS];
static struct tapctl_disk disks[NR_DISKS];

static inline int setup(void **state)
{
	for (unsigned i = 0; i < NR_DISKS; i++) {
		fake_start(&processes[i]);
		disks[i] = (struct tapctl_disk){ processes[i].pid, processes[i].minor };
	}
	return 0;
}

static inline int teardown(void **state)
{
	char command[120];

	for (unsigned i = 0; i < NR_DISKS; i++)
		fake_stop(&processes[i]);
	snprintf(command, sizeof(command), "rm -rf %s", fake_state);
	return system(command);
}

#define ON_DISKS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* Decision records; *@last is the path of one. */
static inline unsigned count_records(char *last, size_t size)
{
	struct dirent *entry;
	unsigned count = 0;
	char directory[120];
	DIR *dir;

	snprintf(directory, sizeof(directory), "%s/groups", fake_state);
	dir = opendir(directory);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(last, size, "%s/%s", directory, entry->d_name);
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

static inline void expect_records(unsigned count)
{
	char path[400];

	assert_int_equal(count_records(path, sizeof(path)), count);
}

static const char *killed_after;

static inline void kill_after(const char *step)
{
	if (!strcmp(step, killed_after))
		raise(SIGKILL);
}

/*
 * Runs the coordinator @what in a process that waits until it may start. It must be killed, by disk
 * @killer_of if not -1.
 */
static inline void coordinate(int (*what)(void), int killer_of)
{
	int start[2], status;
	pid_t pid;

	assert_int_equal(pipe(start), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (killed_after)
			client_group_step = kill_after;
		_exit(read(start[0], &byte, 1) == 1 && !what() ? 0 : 1);
	}
	for (unsigned i = 0; i < NR_DISKS; i++)
		processes[i].disk->victim = killer_of == (int)i ? pid : 0;
	assert_int_equal(write(start[1], "", 1), 1);
	close(start[0]);
	close(start[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Another process has opened one of the disks while the others were being prepared, and has decided. */
static inline void decide_against(const char *step)
{
	int fd;

	if (strcmp(step, "prepared"))
		return;
	fd = open(processes[1].disk->decision, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	close(fd);
}

#endif
