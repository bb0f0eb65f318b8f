/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe.h - does what an image is on answer? A process that opens one waits in
 * the kernel for the file server or the device, without an end if that is gone,
 * and cannot be interrupted. So a thread or process of its own goes first and
 * probes all that the opening will: the image, its overlay record, the store
 * where that leads, and what a store stands on, to the last. It need not be
 * waited for.
 */
#ifndef TAPSNAP_PROBE_H
#define TAPSNAP_PROBE_H

#include "error.h"

#define PROBE_MAX 4		/* that have not answered, in a process */
#define PROBE_TIMEOUT_S 20	/* how long to wait, if nothing else is configured: libxl gives a hotplug script 40 seconds */
#define PROBE_TIMEOUT_MAX_S 3600
#define PROBE_TIMEOUT_ENV "TAPSNAP_OPEN_TIMEOUT"	/* replaces it: seconds, 0 for ever */

/* What the environment says, or PROBE_TIMEOUT_S. 0: for ever. */
unsigned probe_timeout_ms(void);

/*
 * Begin with @target, in a thread. A descriptor that is at its end (POLLIN, POLLHUP) when all has answered, be it with
 * errors: those the opening will find and explain. close() it: what answers later is closed by the thread itself.
 * -EBUSY with a text when PROBE_MAX have not answered; -errno.
 */
int probe_begin(const char *target, struct error_text *error);

/* -ETIMEDOUT and its text: no answer from @target for @ms. */
int probe_timed_out(const char *target, unsigned ms, struct error_text *error);

/* For a tool, which has nothing else to do, but may want to end while there is no answer: another process probes it. @ms 0:
 * for ever. 0, -ETIMEDOUT, -EINTR when the descriptor @interrupt (-1: none) can be read, -errno. */
int probe_wait(const char *target, unsigned ms, int interrupt, struct error_text *error);

#endif
