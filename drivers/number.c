/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * number.c - parse a number (number.h).
 */
#include "number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

int number_parse(const char *text, const char *name, unsigned max, unsigned *number, struct error_text *error)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || !isdigit((unsigned char)text[0]) || *end || value > max)
		return error_set(error, -EINVAL, "%s %s: not a number from 0 to %u", name, text, max);
	*number = (unsigned)value;
	return 0;
}

int number_from_environment(const char *name, unsigned max, unsigned *number, struct error_text *error)
{
	const char *text = getenv(name);

	return text ? number_parse(text, name, max, number, error) : 0;
}
