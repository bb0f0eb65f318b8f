/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_program.c - runs the programs of an operation: xl, tap-img, a hook,
 * and the guard.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"

#define LOOK_MS 50
#define GUARD_START_MS 30000

void (*domain_step)(const char *step);
int hook_timeout_ms = 30000;

void domain_did(struct domain_operation *operation, const char *step)
{
	if (domain_step)
		domain_step(step);
	if (operation->progress)
		operation->progress(operation, step, -1);
}

int domain_check_canceled(struct domain_operation *operation)
{
	return atomic_load(&operation->canceled) ? error_set(&operation->text, -ECANCELED, "canceled") : 0;
}

/* The first line with an error, in libxl's format: the next ones are about its cleanup. Otherwise the last line, or "". */
static void telling_line(int fd, char *line, size_t size)
{
	char buffer[4096], *start, *end;
	ssize_t got = pread(fd, buffer, sizeof(buffer) - 1, 0);

	buffer[got > 0 ? got : 0] = '\0';
	for (end = buffer + strlen(buffer); end > buffer && strchr(" \t\r\n", end[-1]); end--)
		end[-1] = '\0';
	start = strstr(buffer, "error:");
	if (start)
		start[strcspn(start, "\n")] = '\0';
	start = strrchr(buffer, '\n');
	snprintf(line, size, "%.*s", (int)size - 1, start ? start + 1 : buffer);
}

static int judge(const char *name, int status, int out, struct error_text *text)
{
	char line[300];

	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	telling_line(out, line, sizeof(line));
	if (WIFSIGNALED(status))
		return error_set(text, -EIO, "%s was killed by signal %d", name, WTERMSIG(status));
	return error_set(text, -EIO, "%s ended with status %d%s%s", name, WEXITSTATUS(status), *line ? ": " : "", line);
}

/* An operation, and how long its program may still run after it was canceled. */
struct timeout {
	const struct domain_operation *operation;
	int ms;
};

/* True: it was canceled and its program killed, with all children; the caller must still wait for the process. */
static bool kill_canceled(pid_t pid, const struct timeout *timeout)
{
	struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	int left = timeout->ms;
	bool killed = false;

	while (end.fd >= 0 && !killed && poll(&end, 1, LOOK_MS) <= 0) {
		if (!atomic_load(&timeout->operation->canceled))
			continue;
		killed = left <= 0 && !kill(-pid, SIGKILL);
		left -= LOOK_MS;
	}
	if (end.fd >= 0)
		close(end.fd);
	return killed;
}

/*
 * @timeout: NULL: none. Its stdin is an empty file with the lock of its kind. The process that xl leaves behind for the domain
 * closes that when xl ends.
 */
static int run_program(const struct domain_operation *operation, enum domain_program program, const char *const arguments[],
		       const struct timeout *timeout, struct error_text *text)
{
	int in = operation->directory ? directory_hold(operation->directory, program) : -1, out = child_output(), status, error;
	pid_t pid;
	bool killed;

	/* in a new session: it can be killed with its children, and a Ctrl-C at our terminal, which cancels us, does not kill it */
	error = out < 0 ? out : child_start(&pid, arguments, in, out, POSIX_SPAWN_SETSID);
	if (in >= 0)
		close(in);
	if (error) {
		error = error_set(text, error, "%s: cannot be started: %s", arguments[0], strerror(-error));
		goto out;
	}
	killed = timeout && kill_canceled(pid, timeout);
	status = child_wait(pid);
	if (killed)
		error = error_set(text, -ECANCELED, "%s was killed, because the operation was canceled", arguments[0]);
	else
		error = status < 0 ? error_set(text, status, "%s: %s", arguments[0], strerror(-status)) :
				     judge(arguments[0], status, out, text);
out:
	if (out >= 0)
		close(out);
	return error;
}

int xl_run(const struct domain_operation *operation, const char *const arguments[], struct error_text *text)
{
	return run_program(operation, PROGRAM_XL, arguments, NULL, text);
}

int hook_run(const struct domain_operation *operation, const char *hook, const char *word, const struct domain_id *id,
	     struct error_text *text)
{
	const char *const arguments[] = { hook, word, id->name, NULL };
	/* a canceled freeze is useless, but a thaw must still run */
	const struct timeout timeout = { operation, !strcmp(word, "thaw") ? hook_timeout_ms : 0 };
	struct error_text reason = { "" };
	int error = run_program(operation, PROGRAM_HOOK, arguments, &timeout, &reason);

	return error ? error_set(text, error, "hook \"%s\": %.300s", word, reason.text) : 0;
}

/* Wait until it says that it has started: it is needed before anything is changed, and its start takes processor time. */
static int guard_started(const struct domain_operation *operation, int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int left = GUARD_START_MS;
	ssize_t got;
	char byte;

	for (; poll(&poll_fd, 1, LOOK_MS) <= 0; left -= LOOK_MS) {
		if (atomic_load(&operation->canceled))
			return -ECANCELED;
		if (left <= 0)
			return -ETIMEDOUT;
	}
	got = recv(fd, &byte, 1, 0);
	return got > 0 ? 0 : got < 0 ? -errno : -ECHILD;
}

/*
 * If we are killed, the domain may be left suspended, and no command may come
 * for a long time. So the guard, another process, notices that its socket is
 * closed, and recovers the operation, as the next command would.
 */
int guard_start(struct guard *guard, const struct domain_operation *operation, const struct domain_directory *directory,
		struct error_text *text)
{
	const char *const arguments[] = { operation->guard, "guard", directory->uuid, NULL };
	int ends[2], error;

	guard->fd = -1;
	if (!operation->guard)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return error_set(text, -errno, "socketpair: %s", strerror(errno));
	error = child_start(&guard->pid, arguments, ends[0], -1, POSIX_SPAWN_SETSID);
	close(ends[0]);
	if (!error) {
		error = guard_started(operation, ends[1]);
		if (!error) {
			guard->fd = ends[1];
			return 0;
		}
		kill(guard->pid, SIGKILL);
		child_wait(guard->pid);
	}
	close(ends[1]);
	if (error == -ECANCELED)
		return error_set(text, error, "canceled");
	return error_set(text, error, "%s: the guard cannot be started: %s", operation->guard,
			 error == -ECHILD ? "it has ended" : strerror(-error));
}

void guard_stop(struct guard *guard)
{
	if (guard->fd < 0)
		return;
	/* fails if the guard was killed, which does not matter */
	send(guard->fd, "d", 1, MSG_NOSIGNAL);
	close(guard->fd);
	guard->fd = -1;
	child_wait(guard->pid);
}

int guard_run(const char *uuid)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_RECOVER, .domain = uuid };
	struct domain_operation operation = { .request = &request };
	ssize_t got;
	char byte;
	int error;

	send(STDIN_FILENO, "s", 1, MSG_NOSIGNAL);	/* started; if that fails, so does the read */
	do
		got = read(STDIN_FILENO, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return 0;
	error = xen_host_open(&operation.host, &operation.text);
	if (error)
		return -error;
	operation.host->operation = &operation;
	error = domain_run(&operation);
	operation.host->ops->close(operation.host);
	json_decref(operation.infos);
	return -error;
}
