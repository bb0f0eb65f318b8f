/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sandbox.h - after start tapdisk gives up the system calls it has no use
 * for, so that an attacker who takes it over through a guest's ring, an image
 * or a socket does not get the whole kernel to play with. So does each process
 * of tapdisk-tls that reads what comes from a network. The user and the
 * capabilities have been given up before that (confine.h).
 */
#ifndef TAPSNAP_SANDBOX_H
#define TAPSNAP_SANDBOX_H

#include <linux/filter.h>

#include "error.h"

enum sandbox_kind {
	SANDBOX_ALONE,			/* a tapdisk that opens its files itself */
	SANDBOX_SERVED,			/* one whose opener does (opener.h) */
	SANDBOX_OPENER,			/* that opener */
	SANDBOX_TLS,			/* a client's session in tapdisk-tls: all that it needs is open */
};

/* Make the filter's program, for this process, or with SANDBOX_TLS for those it makes; before there is anything that a
 * failure would leave behind. Its memory is the caller's to free(). 0 or -errno. */
int sandbox_prepare(struct sock_fprog *program, enum sandbox_kind kind, struct error_text *text);

/*
 * Call once; in a tapdisk when the engine is open and the control socket
 * listens: no engine can be opened afterwards. Holds for every thread of the
 * process, also those that run already, and cannot be undone. 0 or -errno.
 */
int sandbox_enter(const struct sock_fprog *program, struct error_text *text);

#endif
