/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * error.c - error texts. In a file of its own for programs that do nothing
 * with disks.
 */
#include <stdarg.h>
#include <stdio.h>

#include "error.h"

int (error_set)(struct error_text *text, int error, const char *format, ...)
{
	va_list args;
	char *at;

	if (text && !text->text[0]) {
		va_start(args, format);
		vsnprintf(text->text, sizeof(text->text), format, args);
		va_end(args);
		/* A path may hold any bytes; the text must stay one line. */
		for (at = text->text; *at; at++) {
			if ((unsigned char)*at < ' ')
				*at = '?';
		}
	}
	return error;
}
