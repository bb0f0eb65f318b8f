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
 * What opens images by their names keeps: a tapdisk without an opener, or the opener. Call once, before there is a second
 * thread, since threads have what the one had that made them. Cannot be undone. 0 or -errno with a text. A kernel
 * without Landlock is no error: *@warning then says so.
 */
int confine(struct error_text *warning, struct error_text *text);

#define CONFINE_USER "tapsnap"
#define CONFINE_NOBODY 65534		/* where there is no such user */

struct confine_user {
	uid_t uid;
	gid_t gid;
};

/* Whether this process can become the user @user, who is looked up: it is root's, and has what it takes. */
bool confine_has_user(struct confine_user *user);
/*
 * Be @user, with no capability and no file that is not open but those of /proc
 * and /sys: what a tapdisk keeps that has an opener, which @landlocked is said
 * of. As confine() otherwise.
 */
int confine_to_user(const struct confine_user *user, bool opener_landlocked, struct error_text *text);

/*
 * What a process keeps that is handed all it works with, open, and makes nothing of its own: as confine_to_user(), of a user
 * whom no file and, where there is a user for them, no tapdisk belongs to; and a limit to its memory and descriptors. Who is
 * not root stays who that is.
 */
int confine_to_session(struct error_text *text);

/* Whether Landlock keeps this process to the folders of images. */
bool confine_has_landlock(void);

#endif
