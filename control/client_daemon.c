/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_daemon.c - starts a program as a daemon: not our child, in the root
 * directory so that it keeps no filesystem mounted, and with no descriptors
 * but /dev/null and
 *
 *    3   a pipe: it writes a line when it is ready, or "error ERRNO TEXT"
 *    4   its listening socket, if the caller passes one
 */
#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client_internal.h"

#define READY_TIMEOUT_MS 30000
#define ABOVE 10		/* descriptors are moved here before they get their final number */

static void __attribute__((noreturn)) report_and_exit(int fd, const char *what)
{
	int error = errno;

	dprintf(fd, "error %d %s: %s\n", error, what, strerror(error));
	_exit(127);
}

/* Duplicate @fd to ABOVE or higher: it may be one of 0 to 4 if the caller had closed those. -1: @fd is -1, or errno. */
static int moved_up(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD, ABOVE);
}

/* Runs in the grandchild: until exec only async-signal-safe calls, because the caller may have threads. */
static void __attribute__((noreturn)) run_program(char *const arguments[], int ready, int listener)
{
	int high_ready = moved_up(ready), high_listener = moved_up(listener), null = moved_up(open(_PATH_DEVNULL, O_RDWR));

	if (null < 0)
		report_and_exit(ready, _PATH_DEVNULL);
	if (high_ready < 0 || (listener >= 0 && high_listener < 0) || dup2(high_ready, 3) < 0 ||
	    (listener >= 0 && dup2(high_listener, 4) < 0))
		report_and_exit(ready, "dup2");
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		report_and_exit(3, _PATH_DEVNULL);
	/* a daemon must not keep the caller's descriptors open: locks, or pipes that another process reads to the end */
	if (close_range(listener < 0 ? 4 : 5, ~0u, 0))
		report_and_exit(3, "close_range");
	if (chdir("/"))
		report_and_exit(3, "/");
	execvp(arguments[0], arguments);
	report_and_exit(3, arguments[0]);
}

/* Fork twice, so that the daemon is reparented to init. */
static int start_detached(char *const arguments[], int ready, int listener, struct error_text *text)
{
	pid_t child = fork();

	if (child < 0)
		return error_set(text, -errno, "fork: %s", strerror(errno));
	if (!child) {
		setsid();
		child = fork();
		if (child < 0)
			report_and_exit(ready, "fork");
		if (child)
			_exit(0);
		run_program(arguments, ready, listener);
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

static int read_ready_line(int fd, char *line, size_t size)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	size_t length = 0;
	ssize_t got;
	int ready;

	for (;;) {
		ready = poll(&poll_fd, 1, READY_TIMEOUT_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		got = read(fd, line + length, size - 1 - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got || length + got == size - 1 || memchr(line + length, '\n', got)) {
			line[length + got] = '\0';
			line[strcspn(line, "\n")] = '\0';
			return 0;
		}
		length += got;
	}
}

int client_start_daemon(char *const arguments[], int listener, char *line, size_t size, struct error_text *text)
{
	int ready[2], error, number, offset = 0;

	if (pipe2(ready, O_CLOEXEC))
		return error_set(text, -errno, "pipe: %s", strerror(errno));
	error = start_detached(arguments, ready[1], listener, text);
	close(ready[1]);
	if (!error) {
		error = read_ready_line(ready[0], line, size);
		if (error)
			error_set(text, error, "%s: not ready after %d s: %s", arguments[0], READY_TIMEOUT_MS / 1000, strerror(-error));
		else if (sscanf(line, "error %d %n", &number, &offset) == 1 && offset && number > 0)
			error = error_set(text, -number, "%s: %s", basename(arguments[0]), line + offset);
	}
	close(ready[0]);
	return error;
}
