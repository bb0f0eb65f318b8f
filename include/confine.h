/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * confine.h - rights that a process gives up: user, capabilities, and the
 * files that it may open. tapdisk and its opener do so before they do anything
 * else, tapdisk-tls' sessions before they read anything. System calls follow
 * later (sandbox.h).
 */
#ifndef TAPSNAP_CONFINE_H
#define TAPSNAP_CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/*
 * For a process that opens images by name: a tapdisk without an opener, or the opener. Call once, before there is a
 * second thread, since a thread inherits the rights of its creator. Cannot be undone. 0 or -errno with a text. A kernel
 * without Landlock is no error, but is reported in *@warning.
 */
int confine(struct error_text *warning, struct error_text *text);

#define CONFINE_MAX_FILES 65536		/* files that a tapdisk can have open */
#define CONFINE_USER "tapsnap"
#define CONFINE_NOBODY 65534		/* the user id if CONFINE_USER does not exist */

struct confine_user {
	uid_t uid;
	gid_t gid;
};

/* Looks up @user; true if we are root with CAP_SETUID and CAP_SETGID. */
bool confine_has_user(struct confine_user *user);
/*
 * Become @user, with no capability, able to open only files of /proc and /sys:
 * the rights of a tapdisk with an opener. @opener_landlocked: Landlock limits
 * that opener to the image directories. Otherwise like confine().
 */
int confine_to_user(const struct confine_user *user, bool opener_landlocked, struct error_text *text);

/*
 * For a process that gets everything it needs as open descriptors and creates nothing. Like confine_to_user(), but with
 * limits on memory and descriptors, and as a user that owns no files nor, where tapdisks have a user of their own, any
 * tapdisk. A process that is not root keeps its user.
 */
int confine_to_session(struct error_text *text);

/* True if Landlock limits this process, or its opener, to the image directories. */
bool confine_has_landlock(void);

#endif
