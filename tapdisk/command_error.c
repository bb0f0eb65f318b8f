/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_error.c - what becomes of requests that a disk fails, and who is
 * told of that and of all else that happens by itself.
 */
#include <errno.h>

#include "commands_internal.h"
#include "takeover.h"

int command_on_error_argument(struct control_request *request, enum vbd_on_error *policy)
{
	const char *name = NULL;
	int error = argument_string(request->message, "on_error", &name, &request->error);

	return error || !name ? error : vbd_on_error_parse(name, policy, &request->error);
}

static void set_policy(struct vbd *vbd, enum vbd_on_error policy)
{
	vbd_on_error_set(vbd, policy);
	takeover_disk_save(vbd);
}

void command_on_error(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct vbd *vbd = disk->vbd;
	enum vbd_on_error policy = vbd->errors.policy;
	int error = command_on_error_argument(request, &policy);

	if (!error && vbd->state == VBD_CLOSED)
		error = error_set(&request->error, -EINVAL, "minor %d has no image open", vbd->minor);
	if (!error)
		set_policy(vbd, policy);
	control_reply(request, error, error ? NULL : json_pack("{s:o}", "on_error", vbd_error_info(vbd)));
}

void command_resume(struct commands *commands, struct disk *disk, struct control_request *request)
{
	unsigned count = 0;
	int error = vbd_error_resume(disk->vbd, &count, &request->error);

	control_reply(request, error, error ? NULL : json_pack("{s:i}", "requests", (int)count));
}

static void tell(struct control_connection *connection, json_t *event)
{
	if (event)
		control_connection_send(connection, event);
	json_decref(event);
}

/* From now on, and what holds now: so nobody misses what happened just before. */
void command_watch(struct commands *commands, struct disk *only, struct control_request *request)
{
	struct control_connection *connection = request->connection;
	struct disk *disk;

	control_watch(connection);
	control_reply(request, 0, NULL);
	for (disk = commands->disks; disk; disk = disk->next) {
		tell(connection, vbd_space_event(disk->vbd));
		tell(connection, vbd_error_event(disk->vbd));
		tell(connection, vbd_unresponsive_event(disk->vbd));
	}
}
