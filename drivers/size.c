/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * size.c - parse a size.
 */
#include "block.h"
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int size_parse(const char *text, uint64_t *bytes, struct error_text *error)
{
	static const char suffixes[] = "bkmgtp";
	const char *suffix = suffixes;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || end == text)
		return error_set(error, -EINVAL, "%s: not a size: digits and one of b k M G T P", text);
	if (*end)
		suffix = strchr(suffixes, tolower((unsigned char)*end++));
	if (!suffix || *end)
		return error_set(error, -EINVAL, "%s: not a size: digits and one of b k M G T P", text);
	/* larger values are not valid file offsets, and are negative in JSON */
	if (errno || __builtin_mul_overflow(*bytes, 1ull << 10 * (suffix - suffixes), bytes) || *bytes > INT64_MAX)
		return error_set(error, -ERANGE, "%s: size too large: must be below 8192P", text);
	if (*bytes % SECTOR_SIZE)
		return error_set(error, -EINVAL, "%s: not a multiple of %u bytes", text, SECTOR_SIZE);
	return 0;
}
