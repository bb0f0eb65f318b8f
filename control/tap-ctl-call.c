/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-call.c - sends a command to a tapdisk, from the command line's arguments.
 */
#include <errno.h>

#include "tap-ctl.h"

struct disk_options call_disk_options(const struct arguments *args)
{
	return (struct disk_options){
		.target = args->target, .timeout_ms = args->timeout_ms, .read_only = args->read_only, .no_direct = args->no_direct,
		.beside_qemu = args->beside_qemu, .sector_size = args->sector_size, .cache_mib = args->cache_mib,
		.on_error = args->on_error,
	};
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
