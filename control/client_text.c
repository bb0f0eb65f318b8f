/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_text.c - a text for a person as JSON, which is UTF-8. A text names
 * paths and arguments, which may hold anything, and is cut where it is too
 * long, which may be within a character.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tapctl.h"

/* Bytes of the character at @at; 0: there is none. jansson takes none that is longer than need be, surrogate or too large. */
static size_t character_length(const unsigned char *at)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = *at < 0x80 ? 1 : *at >> 5 == 0x6 ? 2 : *at >> 4 == 0xe ? 3 : *at >> 3 == 0x1e ? 4 : 0;
	uint32_t code = length == 1 ? *at : *at & (0xffu >> (length + 1));

	for (size_t i = 1; i < length; i++) {
		if (at[i] >> 6 != 0x2)		/* the end of the text, too */
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	return code < least[length] || code > 0x10ffff || code >> 11 == 0xd800 >> 11 ? 0 : length;
}

json_t *tapctl_text_json(const char *text)
{
	json_t *json = json_string(text);
	char *copy = json ? NULL : strdup(text), *at = copy;

	while (at && *at) {
		size_t length = character_length((const unsigned char *)at);

		if (!length)
			*at = '?';
		at += length ? length : 1;
	}
	if (copy)
		json = json_string(copy);
	free(copy);
	return json;
}
