/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_export.c - commands for a disk's NBD exports, on listening sockets
 * whose descriptors the control client sends with the command.
 */
#include <errno.h>
#include <string.h>

#include "commands_internal.h"
#include "nbd.h"

#define ADDRESS_MAX 300

static int read_export(struct control_request *request, struct nbd_publication *publication)
{
	const json_t *message = request->message;
	struct error_text *error = &request->error;
	bool held = false;

	if (argument_require(message, "address", error) ||
	    argument_line(message, "address", ADDRESS_MAX, &publication->address, error) ||
	    argument_line(message, "path", ADDRESS_MAX, &publication->path, error) ||
	    argument_line(message, "snapshot", SNAPSHOT_TEXT_MAX, &publication->snapshot, error) ||
	    argument_bool(message, "read_only", &publication->read_only, error) ||
	    argument_bool(message, "held", &held, error))
		return -EINVAL;
	if (publication->path && *publication->path != '/')
		return error_set(error, -EINVAL, "'path' must be an absolute path");
	if (request->nr_fds != 1 && request->nr_fds != 2)
		return error_set(error, -EINVAL, "an export needs one descriptor, or two with an overlay");
	publication->listener = request->fds[0];
	publication->overlay = request->nr_fds == 2 ? request->fds[1] : -1;
	publication->holder = held ? request->connection : NULL;
	return 0;
}

void command_export(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct nbd_publication publication = { 0 };
	unsigned id;
	int error;

	error = read_export(request, &publication);
	if (!error)
		error = nbd_publish(disk->vbd, &publication, &id, &request->error);
	if (!error)
		request->nr_fds = 0;	/* taken over */
	control_reply(request, error, error ? NULL : json_pack("{s:i}", "export", (int)id));
}

void command_unexport(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int64_t id = 0;
	int error;

	error = argument_require(request->message, "export", &request->error);
	if (!error)
		error = argument_integer(request->message, "export", 1, INT32_MAX, &id, &request->error);
	if (!error)
		error = nbd_unpublish(disk->vbd, (unsigned)id, &request->error);
	control_reply(request, error, NULL);
}

void command_release_exports(struct commands *commands, const struct control_connection *connection)
{
	for (struct disk *disk = commands->disks; disk; disk = disk->next)
		nbd_unpublish_held(disk->vbd, connection);
}
