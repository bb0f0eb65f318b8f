/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * child.c - runs programs and waits for them (child.h).
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Make @fd, or /dev/null if it is -1, the child's descriptor @number. Returns an errno. */
static int add_file(posix_spawn_file_actions_t *actions, int fd, int number)
{
	return fd < 0 ? posix_spawn_file_actions_addopen(actions, number, "/dev/null", O_RDWR, 0)
		      : posix_spawn_file_actions_adddup2(actions, fd, number);
}

int child_start(pid_t *pid, const char *const arguments[], int in, int out, short flags)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, usual;
	int error;

	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	sigaddset(&usual, SIGCHLD);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &usual);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | flags);
	error = add_file(&actions, in, 0);
	if (!error)
		error = add_file(&actions, out, 1);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, 1, 2);
	if (!error)
		error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (!error)
		error = posix_spawnp(pid, arguments[0], &actions, &attributes, (char *const *)arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

int child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return status;
}

int child_output(void)
{
	int output = memfd_create("output", MFD_CLOEXEC);

	return output < 0 ? -errno : output;
}

void child_first_line(int output, char *line, size_t size)
{
	ssize_t length = pread(output, line, size - 1, 0);

	line[length > 0 ? length : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
}
