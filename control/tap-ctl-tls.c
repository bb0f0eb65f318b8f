/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-tls.c - starting tapdisk-tls, the program that stands between a
 * network and an export on a Unix socket, for clients with TLS.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap-ctl.h"

#define PROGRAM "tapdisk-tls"
#define READY_TIMEOUT_MS 10000

/* Beside this program, or in $PATH. */
static void program_path(char *path, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", path, size - sizeof("/" PROGRAM));

	while (length > 0 && path[length - 1] != '/')
		length--;
	strcpy(path + (length > 0 ? length : 0), PROGRAM);
	if (length <= 0 || access(path, X_OK))
		strcpy(path, PROGRAM);
}

static void __attribute__((noreturn)) report_and_exit(int fd, const char *what)
{
	int error = errno;

	dprintf(fd, "error %d %s: %s\n", error, what, strerror(error));
	_exit(127);
}

/* In the grandchild: descriptor 3 is where it says that it is ready, 4 where clients come from. */
static void __attribute__((noreturn)) run_program(char *const arguments[], int ready, int listener)
{
	int high_ready = fcntl(ready, F_DUPFD, 10), high_listener = fcntl(listener, F_DUPFD, 10);
	int null = open(_PATH_DEVNULL, O_RDWR);

	if (high_ready < 0 || high_listener < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
	    dup2(high_ready, 3) < 0 || dup2(high_listener, 4) < 0 || close_range(5, ~0u, 0) || chdir("/"))
		report_and_exit(ready, PROGRAM);
	execvp(arguments[0], arguments);
	report_and_exit(3, arguments[0]);
}

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

static int wait_ready(int fd, struct error_text *text)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char line[1024] = "";
	int number = 0, offset = 0;
	ssize_t got;

	if (poll(&poll_fd, 1, READY_TIMEOUT_MS) <= 0)
		return error_set(text, -ETIMEDOUT, PROGRAM ": not ready after %d s", READY_TIMEOUT_MS / 1000);
	got = read(fd, line, sizeof(line) - 1);		/* one line, written at once */
	line[strcspn(line, "\n")] = '\0';
	if (got > 0 && !strcmp(line, "ready"))
		return 0;
	if (sscanf(line, "error %d %n", &number, &offset) == 1 && offset && number > 0)
		return error_set(text, -number, PROGRAM ": %s", line + offset);
	return error_set(text, -EIO, PROGRAM " ended before it was ready");
}

/* Options are words of their own; a path may begin with a dash. */
int tls_start(const struct arguments *args, int listener, const char *server, struct error_text *text)
{
	char path[PATH_MAX], folder[PATH_MAX], *arguments[16];
	const char *given = args->tls_x509 ? args->tls_x509 : args->tls_psk;
	unsigned count = 0;
	int ready[2], error;

	program_path(path, sizeof(path));
	if (!realpath(given, folder))
		return error_set(text, -errno, "%s: %s", given, strerror(errno));
	arguments[count++] = path;
	arguments[count++] = "--ready-fd";
	arguments[count++] = "3";
	arguments[count++] = "--listen-fd";
	arguments[count++] = "4";
	arguments[count++] = "--server";
	arguments[count++] = (char *)server;
	arguments[count++] = args->tls_x509 ? "--tls-x509" : "--tls-psk";
	arguments[count++] = folder;
	if (args->tls_verify)
		arguments[count++] = "--tls-verify";
	arguments[count] = NULL;
	if (pipe2(ready, O_CLOEXEC))
		return error_set(text, -errno, "pipe: %s", strerror(errno));
	error = start_detached(arguments, ready[1], listener, text);
	close(ready[1]);
	if (!error)
		error = wait_ready(ready[0], text);
	close(ready[0]);
	return error;
}
