/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * error-text.h - why a call failed, for a person. Our public headers say it
 * with this, and need nothing else of ours.
 */
#ifndef TAPSNAP_ERROR_TEXT_H
#define TAPSNAP_ERROR_TEXT_H

/* One line that names the thing and says what to do. The caller's; empty before the call. */
struct error_text {
	char text[512];
};

#endif
