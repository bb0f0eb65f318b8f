/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe.c - probe an image's storage (probe.h).
 *
 * Invariants:
 *  1. The probe and its waiter share only a pipe, of which each closes its own
 *     end, and with a thread a struct probe: `met` is set by the one who ends
 *     first, and the other frees it. The result is the thread's until then.
 *  2. A probe changes nothing and takes no locks, so it may end late, or never.
 *     It reads data that may be written meanwhile, trusts none of it, and
 *     opens only files and devices in the image directories. Only the open of
 *     a raw image after it takes locks, and not if nobody waits any more.
 *  3. A wait for a device can be ended by SIGKILL: reads go through the page
 *     cache. For an open that depends on the file system, so in tapdisk the
 *     opener opens, and for a tool an orphaned process.
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
#include "number.h"
#include "overlay.h"
#include "path.h"
#include "thread.h"

#define FIRST_PAGE 4096

static atomic_uint probing;

struct probe {
	char *target;
	struct engine *engine;
	struct driver_options options;
	bool opens;
	int ends[2];		/* the pipe: the waiter's, the thread's */
	atomic_bool met;
	struct backend *backend;
	int error;		/* of the open; -EXDEV: not a raw image */
	struct error_text text;
};

/* Reads a byte from the device, past the page cache. False: not an image. */
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
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);		/* no readahead */
	posix_fadvise(fd, 0, FIRST_PAGE, POSIX_FADV_DONTNEED);
	if (pread(fd, &byte, 1, 0) > 0)
		posix_fadvise(fd, 0, FIRST_PAGE, POSIX_FADV_DONTNEED);
	close(fd);
	return true;
}

/* A store's base that will not be opened either. */
static bool is_refused(const char *store, const uint8_t uuid[16], enum cow_base_kind kind, const struct cow_base_fields *fields)
{
	const char *colon = strchr(fields->target, ':');
	struct stat st;

	return kind == COW_BASE_RAW && colon && !path_stat(colon + 1, &st) && S_ISBLK(st.st_mode) &&
		!cow_base_device_allowed(store, uuid, st.st_rdev);
}

/* Probes @target; returns the next target to probe, NULL: none. @as_is: do not follow an overlay record. */
static char *probe_target(const char *target, bool as_is)
{
	const struct driver_ops *ops;
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	struct overlay overlay;
	uint8_t uuid[16];
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
	if (store && probe_path(store) && !cow_base_probe_peek(store, uuid, &kind, &fields, NULL) && kind != COW_BASE_NONE &&
	    !is_refused(store, uuid, kind, &fields))
		next = strdup(fields.target);
	free(store);
	return next;
}

/* Takes over @target. */
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

static void probe_free(struct probe *probe)
{
	free(probe->target);
	free(probe);
}

static void *probe_main(void *arg)
{
	struct probe *probe = arg;
	int done = probe->ends[1];

	path_no_timeout();
	probe_all(strdup(probe->target));
	if (probe->opens && !atomic_load(&probe->met))
		probe->error = backend_open(&probe->backend, probe->engine, probe->target, &probe->options, &probe->text);
	if (atomic_exchange(&probe->met, true)) {
		if (probe->backend)
			backend_close_files(backend_release(probe->backend));
		probe_free(probe);
	}
	atomic_fetch_sub(&probing, 1);
	close(done);
	return NULL;
}

static struct probe *probe_new(const char *target, struct engine *engine, const struct driver_options *options)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->target = strdup(target);
	probe->engine = engine;
	probe->opens = options;
	if (options)
		probe->options = *options;
	probe->options.journal = NULL;		/* the caller's; a raw image has none */
	probe->options.only_raw = true;
	probe->options.unwanted = &probe->met;
	probe->error = -EXDEV;
	if (probe->target)
		return probe;
	free(probe);
	return NULL;
}

static int begin(struct probe *probe)
{
	int ret = pipe2(probe->ends, O_CLOEXEC) ? -errno : 0;

	if (ret)
		return ret;
	ret = thread_start(NULL, probe_main, probe);
	if (ret) {
		close(probe->ends[0]);
		close(probe->ends[1]);
	}
	return ret;
}

int probe_begin(struct probe **result, const char *target, struct engine *engine, const struct driver_options *options,
		struct error_text *error)
{
	struct probe *probe;
	int ret;

	if (atomic_fetch_add(&probing, 1) >= PROBE_MAX) {
		atomic_fetch_sub(&probing, 1);
		return error_set(error, -EBUSY, "%s: not opened: %d earlier opens still wait for their storage", target,
				 PROBE_MAX);
	}
	probe = probe_new(target, engine, options);
	ret = probe ? begin(probe) : -ENOMEM;
	if (!ret) {
		*result = probe;
		return probe->ends[0];
	}
	if (probe)
		probe_free(probe);
	atomic_fetch_sub(&probing, 1);
	return error_set(error, ret, "%s: %s", target, strerror(-ret));
}

bool probe_has_opened(const struct probe *probe)
{
	/* the load pairs with the thread's exchange: the end of a pipe alone orders no memory */
	return !probe->opens || !atomic_load(&probe->met) || probe->error != -EXDEV;
}

void probe_opened(struct probe *probe, struct backend *backend, int error, const struct error_text *text)
{
	probe->backend = backend;
	probe->error = error;
	probe->text = *text;
}

int probe_take(struct probe *probe, const char *target, const struct driver_options *options, struct backend **backend,
	       struct error_text *error)
{
	const struct driver_options *had = &probe->options;
	int ret;

	*backend = NULL;
	if (!probe->opens || !atomic_load(&probe->met) || probe->error == -EXDEV)
		return 0;
	if (strcmp(target, probe->target) || options->read_only != had->read_only || options->no_direct != had->no_direct ||
	    options->share_qemu != had->share_qemu || options->sector_size != had->sector_size)
		return error_set(error, -EAGAIN, "%s: the disk has changed while it was opened", target);
	if (probe->error)
		return error_set(error, probe->error, "%s", probe->text.text);
	ret = backend_start(probe->backend, options->journal, error);
	if (ret)
		return ret;
	*backend = probe->backend;
	probe->backend = NULL;
	return 0;
}

struct backend *probe_end(struct probe *probe)
{
	struct backend *backend;

	close(probe->ends[0]);
	if (!atomic_exchange(&probe->met, true))
		return NULL;
	backend = probe->backend;
	probe_free(probe);
	return backend;
}

int probe_limit(unsigned *seconds, struct error_text *error)
{
	*seconds = PROBE_TIMEOUT_S;
	return number_from_environment(PROBE_TIMEOUT_ENV, PROBE_TIMEOUT_MAX_S, seconds, error);
}

int probe_timed_out(const char *target, unsigned ms, struct error_text *error)
{
	return error_set(error, -ETIMEDOUT, "%s: its device or file server has not answered for %u seconds", target,
			 (ms + 999) / 1000);
}

/* In a child: the probe runs in a grandchild, which needs no waitpid() and keeps no other descriptor of ours. */
static void __attribute__((noreturn)) probe_in_child(const char *target, int done)
{
	if (!fork() && dup2(done, STDIN_FILENO) >= 0 && !close_range(STDIN_FILENO + 1, ~0u, 0))
		probe_all(strdup(target));
	_exit(0);
}

/* Returns our end of the pipe, or -errno. */
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
