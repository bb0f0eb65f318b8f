/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hex.h - bytes as pairs of hexadecimal digits without separators, for
 * overlay records, names of decision records and the control socket.
 */
#ifndef TAPSNAP_HEX_H
#define TAPSNAP_HEX_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* @text: 2 * @count + 1 bytes. */
static inline void hex_print(char *text, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

/* False: @text is not 2 * @count digits. */
static inline bool hex_parse(const char *text, uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++, text += 2) {
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) || sscanf(text, "%2hhx", &bytes[i]) != 1)
			return false;
	}
	return !*text;
}

#endif
