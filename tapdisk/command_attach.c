/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_attach.c - attach and detach a disk, and end the process with its
 * last disk.
 */
#include <errno.h>
#include <stdlib.h>

#include "commands_internal.h"
#include "log.h"
#include "minor.h"

#define EXIT_MS 2000	/* limit for a client that does not read its last reply */

static int attach_disk(struct commands *commands, int minor, struct error_text *error)
{
	struct disk **place = &commands->disks;
	struct disk *disk;
	int result;

	if (commands->exiting || commands->shutting_down)
		return error_set(error, -ESHUTDOWN, "this tapdisk is exiting; spawn another");
	if (command_find_disk(commands, minor))
		return error_set(error, -EEXIST, "minor %d is attached already", minor);
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	result = minor_lock(minor, &disk->marker, error);
	if (result)
		goto free_disk;
	result = vbd_create(&disk->vbd, commands->loop, commands->engine, minor);
	if (result)
		goto unlock;
	disk->vbd->close_limit_ms = commands->probe_timeout_ms;
	while (*place)
		place = &(*place)->next;
	*place = disk;
	loop_remove(commands->expiry);
	commands->expiry = NULL;
	return 0;
unlock:
	minor_unlock(disk->marker);
free_disk:
	free(disk);
	return result;
}

void command_attach(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int64_t minor = -1;
	int error;

	error = argument_require(request->message, "minor", &request->error);
	if (!error)
		error = argument_integer(request->message, "minor", 0, MINOR_MAX, &minor, &request->error);
	if (!error)
		error = attach_disk(commands, (int)minor, &request->error);
	if (!error)
		log_info("minor %d: attached", (int)minor);
	control_reply(request, error, NULL);
}

static bool exit_when_flushed(void *arg)
{
	struct commands *commands = arg;

	if (control_flushed(commands->control))
		loop_quit(commands->loop);
	return false;
}

static void exit_now(void *arg)
{
	struct commands *commands = arg;

	commands->exit_timer = NULL;
	loop_quit(commands->loop);
}

void command_begin_exit(struct commands *commands)
{
	commands->exiting = true;
	if (loop_add_prepare(commands->loop, &commands->exit_hook, exit_when_flushed, commands) ||
	    loop_add_timer(commands->loop, &commands->exit_timer, EXIT_MS, exit_now, commands))
		loop_quit(commands->loop);
}

void command_free_disk(struct commands *commands, struct disk *disk)
{
	struct disk **place = &commands->disks;

	while (*place != disk)
		place = &(*place)->next;
	*place = disk->next;
	vbd_destroy(disk->vbd);
	minor_unlock(disk->marker);
	free(disk);
}

void command_detach(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int minor = disk->vbd->minor;

	if (disk->vbd->state != VBD_CLOSED) {
		control_reply(request, error_set(&request->error, -EBUSY, "minor %d has an open image; close it first", minor),
			      NULL);
		return;
	}
	command_free_disk(commands, disk);
	log_info("minor %d: detached", minor);
	if (!commands->disks && !commands->shutting_down) {
		log_info("the last disk was detached: exiting");
		command_begin_exit(commands);
	}
	control_reply(request, 0, json_pack("{s:b}", "exiting", !commands->disks));
}
