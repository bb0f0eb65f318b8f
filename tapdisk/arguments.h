/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * arguments.h - parses and checks the members of a command: presence, type,
 * range.
 */
#ifndef TAPDISK_ARGUMENTS_H
#define TAPDISK_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "error.h"

struct blkif_params;

/* @value is unchanged if there is no such member. 0, or -EINVAL with a text that names the member. */
int argument_bool(const json_t *message, const char *name, bool *value, struct error_text *error);
int argument_integer(const json_t *message, const char *name, int64_t min, int64_t max, int64_t *value,
		     struct error_text *error);
/* Borrowed from @message. */
int argument_string(const json_t *message, const char *name, const char **value, struct error_text *error);
/* At most @max bytes, without control characters, which would break a line of a log or a listing. */
int argument_line(const json_t *message, const char *name, size_t max, const char **value, struct error_text *error);
/* An image as "type:path", without control characters. */
int argument_target(const json_t *message, const char **target, struct error_text *error);
/* -EINVAL if the member is missing. */
int argument_require(const json_t *message, const char *name, struct error_text *error);

/* The members of `connect`, all but the descriptors. @params->protocol is borrowed from @message. */
int argument_connect(const json_t *message, struct blkif_params *params, struct error_text *error);

#endif
