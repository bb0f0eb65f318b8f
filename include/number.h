/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * number.h - parse a number from an option or the environment.
 */
#ifndef TAPSNAP_NUMBER_H
#define TAPSNAP_NUMBER_H

#include "error.h"

/* Parses @text, the value of @name, as a decimal number from 0 to @max; -EINVAL with an error that names both. */
int number_parse(const char *text, const char *name, unsigned max, unsigned *number, struct error_text *error);

/* The same for the environment variable @name; leaves *@number unchanged if it is not set. */
int number_from_environment(const char *name, unsigned max, unsigned *number, struct error_text *error);

#endif
