/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_takeover.c - see tapback_takeover.h.
 *
 * Invariants: there is at most one takeover for each dead tapdisk, however many
 * devices it had. A device gets at most TAKEOVERS_MAX within
 * TAKEOVERS_SECONDS: a tapdisk that crashes because of a ring's or a disk's
 * content is not replaced for ever.
 */
#include "tapback_takeover.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "client_internal.h"
#include "clock.h"
#include "tapback_log.h"

#define TAKEOVERS_MAX 5
#define TAKEOVERS_SECONDS 60

struct run {
	struct tapback *tapback;
	int pid;			/* of the dead tapdisk */
	pid_t child;
	int said;			/* the command's output */
	int pidfd;
	sd_event_source *ended;
	struct run *next;
};

static struct run *runs;

static struct run *run_find(int pid)
{
	struct run *run = runs;

	while (run && run->pid != pid)
		run = run->next;
	return run;
}

static void run_free(struct run *run)
{
	struct run **link = &runs;

	while (*link && *link != run)
		link = &(*link)->next;
	if (*link)
		*link = run->next;
	sd_event_source_disable_unref(run->ended);
	if (run->pidfd >= 0)
		close(run->pidfd);
	if (run->said >= 0)
		close(run->said);
	free(run);
}

static int start_program(struct run *run)
{
	char path[PATH_MAX], number[16];
	const char *name = client_program_beside("tap-ctl", path) ? path : "tap-ctl";
	const char *const arguments[] = { name, "takeover", "-p", number, NULL };

	snprintf(number, sizeof(number), "%d", run->pid);
	return child_start(&run->child, arguments, -1, run->said, 0);
}

static int run_ended(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct run *run = arg;
	struct error_text why = { "" };
	int status = child_wait(run->child);

	child_first_line(run->said, why.text, sizeof(why.text));
	if (status)
		tapback_log(LOG_ERR, "tapdisk %d has died, and not all of its disks were taken over: %s", run->pid, why.text);
	else
		tapback_log(LOG_NOTICE, "tapdisk %d has died; another one has taken over", run->pid);
	for (struct device *device = run->tapback->devices; device; device = device->next) {
		if (device->pid != run->pid)
			continue;
		device->takeover_failed = status != 0;
		if (status)
			device->takeover_error = why;
		device->held = false;
		device_schedule(device);
	}
	run_free(run);
	return 0;
}

static int run_start(struct tapback *tapback, int pid)
{
	struct run *run = calloc(1, sizeof(*run));
	int error;

	if (!run)
		return -ENOMEM;
	*run = (struct run){ .tapback = tapback, .pid = pid, .said = child_output(), .pidfd = -1, .next = runs };
	runs = run;
	error = run->said < 0 ? run->said : start_program(run);
	if (!error) {
		run->pidfd = (int)syscall(SYS_pidfd_open, run->child, 0);
		error = run->pidfd < 0 ? -errno :
			sd_event_add_io(tapback->event, &run->ended, run->pidfd, EPOLLIN, run_ended, run);
	}
	if (error < 0) {
		run_free(run);
		return error;
	}
	tapback_log(LOG_NOTICE, "tapdisk %d has died: its disks are taken over", pid);
	return 0;
}

/* Counts a takeover; false: there were too many. */
static bool takeover_allowed(struct device *device)
{
	uint64_t now = (uint64_t)clock_ms() / 1000;

	if (device->takeover_given_up == device->pid)
		return false;
	if (!device->takeovers || now - device->takeovers_since >= TAKEOVERS_SECONDS) {
		device->takeovers = 0;
		device->takeovers_since = now;
	}
	if (device->takeovers++ < TAKEOVERS_MAX)
		return true;
	device->takeover_given_up = device->pid;
	return false;
}

/* Reports the failure once; the next takeover_look() tries again. */
static enum takeover takeover_tell_failure(struct device *device, struct error_text *text)
{
	device->takeover_failed = false;
	error_set(text, -EIO, "tapdisk %d has died and cannot be taken over: %s", device->pid, device->takeover_error.text);
	return TAKEOVER_NONE;
}

static enum takeover takeover_refuse(const struct device *device, struct error_text *text)
{
	error_set(text, -EIO, "tapdisk %d has died, and within %d s it was replaced %d times: not replaced again; run 'tap-ctl "
		  "takeover -p %d'", device->pid, TAKEOVERS_SECONDS, TAKEOVERS_MAX, device->pid);
	return TAKEOVER_NONE;
}

enum takeover takeover_look(struct device *device, int *successor, struct error_text *text)
{
	int error, owner = tapctl_takeover_owner(device->user.minor);

	if (!owner)
		return TAKEOVER_NONE;
	if (owner != device->pid) {
		device->takeover_failed = false;
		*successor = owner;
		return TAKEOVER_DONE;
	}
	if (run_find(owner))
		return TAKEOVER_RUNS;
	if (device->takeover_failed)
		return takeover_tell_failure(device, text);
	if (!takeover_allowed(device))
		return takeover_refuse(device, text);
	error = run_start(device->tapback, owner);
	if (!error)
		return TAKEOVER_RUNS;
	error_set(text, error, "tapdisk %d has died, and 'tap-ctl takeover' cannot be started: %s", owner, strerror(-error));
	return TAKEOVER_NONE;
}

void takeovers_stop(void)
{
	while (runs)
		run_free(runs);
}
