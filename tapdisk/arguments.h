/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * arguments.h - members of a command, checked: the type, the range, and that
 * those that must be there are.
 */
#ifndef TAPDISK_ARGUMENTS_H
#define TAPDISK_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "error.h"

struct blkif_params;

/* @value keeps what it has when there is no such member. 0 or -EINVAL with a text that names the member. */
int argument_bool(const json_t *message, const char *name, bool *value, struct error_text *error);
int argument_integer(const json_t *message, const char *name, int64_t min, int64_t max, int64_t *value,
		     struct error_text *error);
/* Borrowed from @message. */
int argument_string(const json_t *message, const char *name, const char **value, struct error_text *error);
/* At most @max bytes, with no character in it that would break a line of a log or a listing. */
int argument_line(const json_t *message, const char *name, size_t max, const char **value, struct error_text *error);
/* An image as "type:path", such a line. */
int argument_target(const json_t *message, const char **target, struct error_text *error);
/* For members that must be there. */
int argument_require(const json_t *message, const char *name, struct error_text *error);

/* The members of `connect`, all but the descriptors. @params->protocol is borrowed from @message. */
int argument_connect(const json_t *message, struct blkif_params *params, struct error_text *error);

#endif
