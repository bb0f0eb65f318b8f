/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * error-text.h - why a call failed, in words for the user. Public headers use
 * it and need no other header of ours for errors.
 */
#ifndef TAPSNAP_ERROR_TEXT_H
#define TAPSNAP_ERROR_TEXT_H

/* One line that names the object and says what to do. The caller's; empty before the call. */
struct error_text {
	char text[512];
};

#endif
