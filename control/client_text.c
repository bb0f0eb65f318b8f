/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_text.c - a text for a person as JSON, which is UTF-8. A text names
 * paths and arguments, which may hold anything, and is cut where it is too
 * long, which may be within a character.
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
