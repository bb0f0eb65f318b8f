/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sandbox.h - system call filters: after its start tapdisk gives up system
 * calls that it does not need, so that an attacker who takes it over through a
 * guest's ring, an image or a socket cannot use the whole kernel. So does each
 * process of tapdisk-tls that reads from a network. The user and the
 * capabilities are given up before that (confine.h).
 */
#ifndef TAPSNAP_SANDBOX_H
#define TAPSNAP_SANDBOX_H

#include <linux/filter.h>

#include "error.h"

enum sandbox_kind {
	SANDBOX_ALONE,			/* a tapdisk that opens its files itself */
	SANDBOX_SERVED,			/* a tapdisk whose opener opens them (opener.h) */
	SANDBOX_OPENER,			/* the opener */
	SANDBOX_TLS,			/* a client's session in tapdisk-tls: all that it needs is already open */
};

/* Build the filter, for this process or, with SANDBOX_TLS, for its children; call it before a failure would leave anything
 * behind. The caller free()s the filter's memory. 0 or -errno. */
int sandbox_prepare(struct sock_fprog *program, enum sandbox_kind kind, struct error_text *text);

/*
 * Call once; in a tapdisk when the engine is open and the control socket
 * listens: no engine can be opened afterwards. Applies to every thread of the
 * process, running ones too, and cannot be undone. 0 or -errno.
 */
int sandbox_enter(const struct sock_fprog *program, struct error_text *text);

#endif
