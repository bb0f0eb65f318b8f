/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_text.c - converts a message to JSON, which must be UTF-8. A message
 * quotes paths and arguments, which may be any bytes, and may have been
 * truncated within a character.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tapctl.h"
#include "utf8.h"

json_t *tapctl_text_json(const char *text)
{
	char *copy = strdup(text);
	json_t *json = NULL;

	if (copy) {
		utf8_repair(copy);
		json = json_string(copy);
	}
	free(copy);
	return json;
}

json_t *tapctl_failure_json(int error, const char *text)
{
	return json_pack("{s:b, s:i, s:o}", "ok", 0, "errno", -error, "error", tapctl_text_json(*text ? text : strerror(-error)));
}
