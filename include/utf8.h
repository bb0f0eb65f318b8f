/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * utf8.h - UTF-8 (RFC 3629) in texts that may hold any bytes.
 */
#ifndef TAPSNAP_UTF8_H
#define TAPSNAP_UTF8_H

#include <stdbool.h>

/* Length in bytes of the character at the start of @text, which ends with a NUL: 1 to 4; 0: it is not valid. */
unsigned utf8_length(const char *text);
bool utf8_valid(const char *text);
/* Replace each byte that belongs to no character by '?'. */
void utf8_repair(char *text);

#endif
