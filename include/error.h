/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * error.h - error texts: the function that meets the error first knows most
 * about it, and fills in the text.
 */
#ifndef TAPSNAP_ERROR_H
#define TAPSNAP_ERROR_H

#include "error-text.h"

/* Formats @text (when not NULL and still empty) and returns @error, so that
 * `return error_set(...)` is the idiom. @error is -errno. */
int error_set(struct error_text *text, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#ifdef STATIC_ANALYSIS
/* The analyzer looks at one file at a time, and must know that the call returns the given error. */
#define error_set(text, error, ...) \
	({ int error_ = (error); (error_set)(text, error_, __VA_ARGS__); error_ < 0 ? error_ : -1; })
#endif

#endif
