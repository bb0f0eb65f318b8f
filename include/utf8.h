/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * utf8.h - texts that may hold any bytes where UTF-8 is wanted (RFC 3629).
 */
#ifndef TAPSNAP_UTF8_H
#define TAPSNAP_UTF8_H

#include <stdbool.h>

/* Bytes of the character that @text, which ends with a NUL, begins with: 1 to 4; 0: it begins with none. */
unsigned utf8_length(const char *text);
bool utf8_valid(const char *text);
/* Each byte that belongs to no character becomes '?'. */
void utf8_repair(char *text);

#endif
