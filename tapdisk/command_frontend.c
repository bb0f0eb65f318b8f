/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_frontend.c - connect and disconnect frontends, by command, or for
 * stand-in frontends at the end of their control connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkif_frontend.h"
#include "commands_internal.h"

static void forget(struct frontend **place)
{
	struct frontend *frontend = *place;

	*place = frontend->next;
	free(frontend);
}

void command_forget_frontends(struct commands *commands, int minor)
{
	struct frontend **place = &commands->frontends;

	while (*place) {
		if ((*place)->minor == minor)
			forget(place);
		else
			place = &(*place)->next;
	}
}

void command_forget_frontend(struct commands *commands, int minor, uint32_t domid, uint32_t devid)
{
	struct frontend **place = &commands->frontends;

	while (*place) {
		if ((*place)->minor == minor && (*place)->domid == domid && (*place)->devid == devid)
			forget(place);
		else
			place = &(*place)->next;
	}
}

/* Move the descriptors of the request to @params; their number must be right. */
static int take_descriptors(struct control_request *request, struct blkif_params *params)
{
	unsigned wanted = params->shm ? 1 + 2 * params->nr_queues : 0;

	if (request->nr_fds != wanted)
		return error_set(&request->error, -EINVAL, "the command has %u descriptors, it needs %u",
				 request->nr_fds, wanted);
	memcpy(params->fds, request->fds, sizeof(params->fds));
	params->nr_fds = request->nr_fds;
	request->nr_fds = 0;
	return 0;
}

static int connect_frontend(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct frontend *frontend = calloc(1, sizeof(*frontend));
	struct blkif_params params;
	int error;

	if (!frontend)
		return -ENOMEM;
	error = argument_connect(request->message, &params, &request->error);
	if (!error)
		error = take_descriptors(request, &params);
	if (!error)
		error = blkif_connect(disk->vbd, &params, &request->error);
	if (error || !params.shm) {
		free(frontend);
		return error;
	}
	/* an existing entry is of a frontend that the disk has dropped */
	command_forget_frontend(commands, disk->vbd->minor, params.domid, params.devid);
	frontend->connection = request->connection;
	frontend->minor = disk->vbd->minor;
	frontend->domid = params.domid;
	frontend->devid = params.devid;
	frontend->next = commands->frontends;
	commands->frontends = frontend;
	return 0;
}

void command_connect(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int error = connect_frontend(commands, disk, request);

	if (error)
		control_reply(request, error, NULL);
	else
		command_reply_disk(request, disk);
}

static void disconnect_done(void *arg, int error)
{
	control_reply(arg, error, NULL);
}

void command_disconnect(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int64_t domid = 0, devid = 0;
	int error;

	if (argument_require(request->message, "domid", &request->error) ||
	    argument_integer(request->message, "domid", 0, UINT32_MAX, &domid, &request->error) ||
	    argument_require(request->message, "devid", &request->error) ||
	    argument_integer(request->message, "devid", 0, UINT32_MAX, &devid, &request->error)) {
		control_reply(request, -EINVAL, NULL);
		return;
	}
	/* it is leaving now, and its successor may come from another connection */
	command_forget_frontend(commands, disk->vbd->minor, (uint32_t)domid, (uint32_t)devid);
	error = blkif_disconnect(disk->vbd, (uint32_t)domid, (uint32_t)devid, disconnect_done, request, &request->error);
	if (error)
		control_reply(request, error, NULL);
}

void command_connection_ended(struct commands *commands, const struct control_connection *connection)
{
	struct frontend **place = &commands->frontends;
	struct frontend *frontend;
	struct disk *disk;

	while ((frontend = *place)) {
		if (frontend->connection != connection) {
			place = &frontend->next;
			continue;
		}
		disk = command_find_disk(commands, frontend->minor);
		/* -ENOENT is ignored: a broken ring was disconnected before */
		if (disk)
			blkif_disconnect(disk->vbd, frontend->domid, frontend->devid, NULL, NULL, NULL);
		forget(place);
	}
}
