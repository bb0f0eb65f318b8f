/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_handover.c - `hand-over`: end this process and leave its disks to a
 * successor.
 *
 * First all disks are settled (vbd_settle()) while their guests go on. When all
 * of them are, they are paused, so that no request is in flight and every image
 * is closed; then the process ends without disconnecting any frontend. The
 * successor proceeds as after a crash (docs/takeover.md), except that only
 * requests that wait for memory are left. If one disk cannot be paused, all
 * disks are unpaused except those that another command has paused meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "commands_internal.h"
#include "log.h"

static void unpause_all(struct commands *commands)
{
	for (struct disk *disk = commands->disks; disk; disk = disk->next) {
		if (disk->vbd->state == VBD_PAUSED && !disk->vbd->held_paused)
			vbd_resume_soon(disk->vbd);
	}
}

static void step_done(void *arg, int error)
{
	struct commands *commands = arg;
	struct handover *handover = &commands->handover;
	struct control_request *request = handover->request;

	if (error && !handover->error)
		handover->error = error_set(&request->error, error, "a disk cannot be paused: %s; all disks keep running%s",
					    strerror(-error), error == -ETIMEDOUT ? ", that one when its storage answers" : "");
	if (--handover->waiting)
		return;
	if (handover->error) {
		unpause_all(commands);
	} else {
		log_info("exiting: the disks are left to a successor");
		command_begin_exit(commands);
	}
	control_reply(request, handover->error, NULL);
}

static int check_disks(struct commands *commands, struct error_text *text)
{
	if (commands->exiting || commands->shutting_down)
		return error_set(text, -ESHUTDOWN, "this tapdisk is exiting");
	if (commands->handover.waiting)
		return error_set(text, -EBUSY, "the disks are being handed over");
	for (const struct disk *disk = commands->disks; disk; disk = disk->next) {
		if (disk->vbd->state != VBD_RUNNING && disk->vbd->state != VBD_CLOSED)
			return error_set(text, -EBUSY, "minor %d is paused or being paused", disk->vbd->minor);
		if (vbd_commit_active(disk->vbd))
			return error_set(text, -EBUSY, "minor %d: a commit is running", disk->vbd->minor);
	}
	return 0;
}

static void pause_all(struct commands *commands)
{
	struct handover *handover = &commands->handover;
	struct control_request *request = handover->request;
	int error;

	handover->waiting = 1;
	for (struct disk *disk = commands->disks; disk && !handover->error; disk = disk->next) {
		if (disk->vbd->state != VBD_RUNNING)
			continue;
		handover->waiting++;
		error = vbd_pause(disk->vbd, false, step_done, commands, &request->error);
		if (error)
			step_done(commands, error);
	}
	step_done(commands, 0);
}

static void disk_settled(void *arg)
{
	struct commands *commands = arg;
	struct control_request *request = commands->handover.request;
	int error;

	if (--commands->handover.waiting)
		return;
	error = check_disks(commands, &request->error);		/* they were in use meanwhile */
	if (error)
		control_reply(request, error, NULL);
	else
		pause_all(commands);
}

void command_hand_over(struct commands *commands, struct disk *none, struct control_request *request)
{
	int error = check_disks(commands, &request->error);

	if (error) {
		control_reply(request, error, NULL);
		return;
	}
	commands->handover = (struct handover){ .request = request, .waiting = 1 };
	for (struct disk *disk = commands->disks; disk; disk = disk->next) {
		commands->handover.waiting++;
		vbd_settle(disk->vbd, disk_settled, commands);
	}
	disk_settled(commands);
}
