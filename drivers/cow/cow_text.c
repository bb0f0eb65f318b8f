/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_text.c - names and descriptions of snapshots: what there may be in
 * them. They go into JSON and onto terminals, so a store with another name is
 * damaged; descriptions were taken once that are not UTF-8, and are shown
 * without what is not.
 */
#include <string.h>

#include "cow_internal.h"
#include "utf8.h"

bool cow_name_valid(const char *name, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		if (name[i] <= ' ' || name[i] > '~' || strchr("@/\\\"'", name[i]))
			return false;
	}
	return length && length <= COW_NAME_MAX;
}

bool cow_name_kept(const char *name, size_t length)
{
	return !length || cow_name_valid(name, length) ||
		(length == strlen(SNAPSHOT_REVERT_INTENT) && !memcmp(name, SNAPSHOT_REVERT_INTENT, length));
}

/* Bytes of the character at @c; 0: it is not UTF-8, or a control character. */
static unsigned character_length(const char *c)
{
	return (unsigned char)*c < ' ' || *c == 0x7f ? 0 : utf8_length(c);
}

bool cow_description_valid(const char *text)
{
	const char *c = text;
	unsigned length = 1;

	for (; *c && length; c += length)
		length = character_length(c);
	return length && strlen(text) <= COW_DESCRIPTION_MAX;
}

void cow_description_show(const char *text, char *shown)
{
	unsigned length;

	for (; *text; text += length, shown += length) {
		length = character_length(text);
		memcpy(shown, length ? text : "?", length ? length : 1);
		length = length ? length : 1;
	}
	*shown = '\0';
}
