/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe.c - probing what an image is on (probe.h).
 *
 * Invariants:
 *  1. Who probes and who waits share a pipe and nothing else: each closes its
 *     end of it, in either order, and a thread owns all that it uses.
 *  2. It changes nothing and locks nothing, so it does not matter when it is
 *     done, or whether: it reads what somebody may be writing, believes none of
 *     it, and looks at nothing but files and devices where images may be.
 *  3. Who waits for a device does so where a signal that kills ends it: it reads
 *     through the page cache. Of opening that is up to the file system, so in
 *     tapdisk the opener opens, and for a tool a process that is nobody's child.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_base.h"
#include "image_directories.h"
#include "overlay.h"
#include "path.h"
#include "thread.h"

#define FIRST_PAGE 4096

static atomic_uint probing;

struct probe {
	char *target;
	int done;		/* our end of the pipe */
};

/* A byte of it from the device, not from memory. False: no image. */
static bool probe_path(const char *path)
{
	char byte;
	struct stat st;
	int fd;

	if (image_directories_check(path, NULL) || path_stat(path, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return false;
	fd = path_open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0);
	if (fd < 0)
		return false;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);		/* and no more than that */
	posix_fadvise(fd, 0, FIRST_PAGE, POSIX_FADV_DONTNEED);
	if (pread(fd, &byte, 1, 0) > 0)
		posix_fadvise(fd, 0, FIRST_PAGE, POSIX_FADV_DONTNEED);
	close(fd);
	return true;
}

/* What has to answer besides @target, as another one; NULL: nothing more. @as_is: an image is no more than its bytes. */
static char *probe_target(const char *target, bool as_is)
{
	const struct driver_ops *ops;
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	struct overlay overlay;
	const char *path, *name;
	char *next = NULL, *store;

	if (backend_parse_target(target, &ops, &path, NULL))
		return NULL;
	if (ops == &driver_aio && probe_path(path) && !as_is && overlay_find(path, &overlay, NULL) == 1 &&
	    asprintf(&next, "cow:%s", overlay.store) < 0)
		next = NULL;
	if (ops != &driver_cow)
		return next;
	store = cow_target_split(path, &name);
	if (store && probe_path(store) && !cow_base_probe_peek(store, NULL, &kind, &fields, NULL) && kind != COW_BASE_NONE)
		next = strdup(fields.target);
	free(store);
	return next;
}

/* Frees @target. */
static void probe_all(char *target)
{
	char *next;

	for (unsigned depth = 0; target && depth <= COW_BASE_DEPTH; depth++) {
		next = probe_target(target, depth > 0);
		free(target);
		target = next;
	}
	free(target);
}

static void *probe_main(void *arg)
{
	struct probe *probe = arg;

	path_no_timeout();
	probe_all(probe->target);
	atomic_fetch_sub(&probing, 1);
	close(probe->done);
	free(probe);
	return NULL;
}

static int begin(const char *target, int done)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	int error = -ENOMEM;

	if (probe)
		probe->target = strdup(target);
	if (probe && probe->target) {
		probe->done = done;
		error = thread_start(NULL, probe_main, probe);
	}
	if (error && probe)
		free(probe->target);
	if (error)
		free(probe);
	return error;
}

int probe_begin(const char *target, struct error_text *error)
{
	int ends[2], ret;

	if (atomic_fetch_add(&probing, 1) >= PROBE_MAX) {
		atomic_fetch_sub(&probing, 1);
		return error_set(error, -EBUSY, "%s: not opened: %d images that were to be opened before have not answered yet", target,
				 PROBE_MAX);
	}
	ret = pipe2(ends, O_CLOEXEC) ? -errno : 0;
	if (!ret) {
		ret = begin(target, ends[1]);
		if (!ret)
			return ends[0];
		close(ends[0]);
		close(ends[1]);
	}
	atomic_fetch_sub(&probing, 1);
	return error_set(error, ret, "%s: %s", target, strerror(-ret));
}

unsigned probe_timeout_ms(void)
{
	const char *text = getenv(PROBE_TIMEOUT_ENV);
	char *end;
	unsigned long seconds = text ? strtoul(text, &end, 10) : PROBE_TIMEOUT_S;

	/* what is no number tapdisk does not begin with */
	return (text && (!*text || *end)) || seconds > PROBE_TIMEOUT_MAX_S ? PROBE_TIMEOUT_S * 1000 : (unsigned)seconds * 1000;
}

int probe_timed_out(const char *target, unsigned ms, struct error_text *error)
{
	return error_set(error, -ETIMEDOUT, "%s: the device or file server that it is on has not answered for %u seconds", target,
			 (ms + 999) / 1000);
}

/* In a child, which leaves it to one that nobody has to wait for, and that keeps nothing of ours. */
static void __attribute__((noreturn)) probe_in_child(const char *target, int done)
{
	if (!fork() && dup2(done, STDIN_FILENO) >= 0 && !close_range(STDIN_FILENO + 1, ~0u, 0))
		probe_all(strdup(target));
	_exit(0);
}

/* The end of the pipe, or -errno. */
static int begin_in_child(const char *target)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	child = fork();
	if (!child)
		probe_in_child(target, ends[1]);
	close(ends[1]);
	if (child > 0) {
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		return ends[0];
	}
	close(ends[0]);
	return -EAGAIN;
}

int probe_wait(const char *target, unsigned ms, int interrupt, struct error_text *error)
{
	struct pollfd ends[] = { { begin_in_child(target), POLLIN, 0 }, { interrupt, POLLIN, 0 } };
	int ready;

	if (ends[0].fd < 0)
		return error_set(error, ends[0].fd, "%s: %s", target, strerror(-ends[0].fd));
	do
		ready = poll(ends, 2, ms ? (int)ms : -1);
	while (ready < 0 && errno == EINTR);
	close(ends[0].fd);
	if (ready > 0 && ends[1].revents)
		return error_set(error, -EINTR, "%s: interrupted", target);
	return ready ? 0 : probe_timed_out(target, ms, error);
}
