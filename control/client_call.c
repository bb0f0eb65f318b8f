/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_call.c - sends one command to one tapdisk.
 */
#include <errno.h>

#include "client_disk.h"

json_t *call_request(const char *name, int minor)
{
	json_t *request = json_pack("{s:s}", "command", name);

	if (request && minor >= 0 && json_object_set_new(request, "minor", json_integer(minor))) {
		json_decref(request);
		return NULL;
	}
	return request;
}

int call_tapdisk(int pid, json_t *request, int timeout_ms, json_t **reply, struct error_text *text)
{
	struct tapctl *ctl;
	int error;

	if (reply)
		*reply = NULL;
	/* json_pack() also returns NULL for a string that is not UTF-8 */
	if (!request)
		return error_set(text, -EINVAL, "an argument is not UTF-8, or out of memory");
	error = tapctl_connect(&ctl, pid, text);
	if (error) {
		json_decref(request);
		return error;
	}
	error = tapctl_call(ctl, request, reply, timeout_ms, text);
	tapctl_close(ctl);
	return error;
}
