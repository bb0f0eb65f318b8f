/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe.h - find out whether the storage of an image answers. A process that
 * opens an image blocks in the kernel until the file server or the device
 * answers, for ever if that is gone, and cannot be interrupted. So a separate
 * thread or process first probes all that the open will touch: the image, its
 * overlay record, the store that the record names, and all bases of the store.
 * The caller can stop waiting for it. A thread then opens a raw image itself,
 * so that the caller does not touch its storage.
 */
#ifndef TAPSNAP_PROBE_H
#define TAPSNAP_PROBE_H

#include "driver.h"

#define PROBE_MAX 4		/* unanswered probes in one process */
#define PROBE_TIMEOUT_S 20	/* default: libxl gives a hotplug script 40 seconds */
#define PROBE_TIMEOUT_MAX_S 3600
#define PROBE_TIMEOUT_ENV "TAPSNAP_OPEN_TIMEOUT"	/* replaces the default: seconds, 0 for ever */

/* The timeout from the environment, or PROBE_TIMEOUT_S. 0: for ever. -EINVAL with a text when the value is invalid. */
int probe_limit(unsigned *seconds, struct error_text *error);

/*
 * Probe @target in a thread, and open it for @engine if it is a raw image; @options NULL: do not open it. Returns a descriptor
 * that is at its end (POLLIN, POLLHUP) when all has answered, be it with errors; *@probe is the caller's until probe_end().
 * -EBUSY with a text when PROBE_MAX probes are unanswered; -errno.
 */
struct probe;
int probe_begin(struct probe **probe, const char *target, struct engine *engine, const struct driver_options *options,
		struct error_text *error);
/* After the end: false if the thread has not opened the image, because it is no raw image. Then the caller may open it. */
bool probe_has_opened(const struct probe *probe);
/* The caller has, with the result @error. */
void probe_opened(struct probe *probe, struct backend *backend, int error, const struct error_text *text);
/*
 * After the end: the error of the open, or 0 and the caller's *@backend; NULL: nobody has opened it yet. -EAGAIN with a text: another target or with other options.
 */
int probe_take(struct probe *probe, const char *target, const struct driver_options *options, struct backend **backend,
	       struct error_text *error);
/* At any time; the thread frees what it uses. Returns what it has opened and nobody has taken, or NULL. */
struct backend *probe_end(struct probe *probe);

/* -ETIMEDOUT with a text: no answer from @target for @ms. */
int probe_timed_out(const char *target, unsigned ms, struct error_text *error);

/* For a tool, which may block, but must be able to exit while there is no answer: probes @target in another process. @ms 0:
 * for ever. 0, -ETIMEDOUT, -EINTR when the descriptor @interrupt (-1: none) is readable, -errno. */
int probe_wait(const char *target, unsigned ms, int interrupt, struct error_text *error);

#endif
