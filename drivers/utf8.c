/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * utf8.c - find and repair invalid UTF-8.
 */
#include "utf8.h"

/* The second byte shows an overlong encoding, a surrogate, or a code point above the last. */
static int is_none(const unsigned char *c)
{
	return (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
		(c[0] == 0xf4 && c[1] > 0x8f);
}

unsigned utf8_length(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	unsigned length, i;

	if (*c < 0x80)
		return 1;
	length = *c < 0xc2 || *c > 0xf4 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : 4;
	for (i = 1; i < length; i++) {
		if ((c[i] & 0xc0) != 0x80)	/* also at the end of the text */
			return 0;
	}
	return length && is_none(c) ? 0 : length;
}

bool utf8_valid(const char *text)
{
	unsigned length;

	while ((length = utf8_length(text)) && *text)
		text += length;
	return length;
}

void utf8_repair(char *text)
{
	unsigned length;

	for (; *text; text += length ? length : 1) {
		length = utf8_length(text);
		if (!length)
			*text = '?';
	}
}
