/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * number.h - a number that a person wrote: in an option, in the environment.
 */
#ifndef TAPSNAP_NUMBER_H
#define TAPSNAP_NUMBER_H

#include "error.h"

/* @text, the value of @name, is a decimal number from 0 to @max, or -EINVAL with an error that names both. */
int number_parse(const char *text, const char *name, unsigned max, unsigned *number, struct error_text *error);

/* The same of the environment variable @name; without it *@number stays what it is. */
int number_from_environment(const char *name, unsigned max, unsigned *number, struct error_text *error);

#endif
