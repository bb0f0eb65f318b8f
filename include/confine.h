/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * confine.h - what tapdisk and its opener give up of root's powers before they
 * do anything, and tapdisk-tls' sessions before they read anything: the user,
 * capabilities, and the files that they may open. The system calls come later
 * (sandbox.h).
 */
#ifndef TAPSNAP_CONFINE_H
#define TAPSNAP_CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/*
 * For a process that opens images by their names: a tapdisk without an opener, or the opener. Call once, before there is a
 * second thread, since a thread inherits the rights of the one that made it. Cannot be undone. 0 or -errno with a text. A kernel
 * without Landlock is no error: *@warning then says so.
 */
int confine(struct error_text *warning, struct error_text *text);

#define CONFINE_USER "tapsnap"
#define CONFINE_NOBODY 65534		/* where there is no such user */

struct confine_user {
	uid_t uid;
	gid_t gid;
};

/* Looks up @user; true if we are root with CAP_SETUID and CAP_SETGID. */
bool confine_has_user(struct confine_user *user);
/*
 * Become @user, with no capability, able to open only files of /proc and /sys:
 * what a tapdisk with an opener keeps. @opener_landlocked: whether Landlock
 * keeps that opener to the image directories. As confine() otherwise.
 */
int confine_to_user(const struct confine_user *user, bool opener_landlocked, struct error_text *text);

/*
 * For a process that is handed all it works with, open, and makes nothing of its own: as confine_to_user(), with a user that
 * owns no file and, where tapdisks have a user of their own, no tapdisk; and a limit to its memory and descriptors. A process
 * that is not root keeps its user.
 */
int confine_to_session(struct error_text *text);

/* Whether Landlock keeps this process, or its opener, to the image directories. */
bool confine_has_landlock(void);

#endif
