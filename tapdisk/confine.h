/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * confine.h - what tapdisk gives up of root's powers before it does anything:
 * capabilities, and the files that it may open. The system calls come later
 * (sandbox.h).
 */
#ifndef TAPDISK_CONFINE_H
#define TAPDISK_CONFINE_H

#include "driver.h"	/* struct error_text */

/*
 * Call once, before there is a second thread, since threads have what the one
 * had that made them. Cannot be undone. 0 or -errno with a text. A kernel
 * without Landlock is no error: *@warning then says so.
 */
int confine(struct error_text *warning, struct error_text *text);
/* Whether Landlock keeps this process to the folders of images. */
bool confine_has_landlock(void);

#endif
