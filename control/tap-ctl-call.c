/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-call.c - one command to one tapdisk.
 */
#include <errno.h>

#include "tap-ctl.h"

json_t *call_request(const char *name, int minor)
{
	json_t *request = json_pack("{s:s}", "command", name);

	if (request && minor >= 0 && json_object_set_new(request, "minor", json_integer(minor))) {
		json_decref(request);
		return NULL;
	}
	return request;
}

json_t *call_open_request(const struct arguments *args, int minor)
{
	return json_pack("{s:s, s:i, s:s, s:b, s:b, s:b, s:i, s:i, s:s*}", "command", "open", "minor", minor, "target", args->target,
			 "read_only", args->read_only, "no_direct", args->no_direct, "beside_qemu", args->beside_qemu, "sector_size", args->sector_size,
			 "cache_mib", args->cache_mib, "on_error", args->on_error);
}

int call_tapdisk(int pid, json_t *request, int timeout_ms, json_t **reply, struct error_text *text)
{
	struct tapctl *ctl;
	int error;

	if (reply)
		*reply = NULL;
	/* json_pack() gives none for a string that is no UTF-8, too */
	if (!request)
		return error_set(text, -EINVAL, "an argument is not UTF-8, or there is no memory");
	error = tapctl_connect(&ctl, pid, text);
	if (error) {
		json_decref(request);
		return error;
	}
	error = tapctl_call(ctl, request, reply, timeout_ms, text);
	tapctl_close(ctl);
	return error;
}

int call_into(const struct arguments *args, json_t *request, json_t *result, struct error_text *text)
{
	json_t *reply;
	int error = call_tapdisk(args->pid, request, args->timeout_ms, &reply, text);

	if (!error && json_object_update(result, reply))
		error = error_set(text, -ENOMEM, "out of memory");
	json_decref(reply);
	return error;
}
