/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_disk.c - commands about the image of an attached disk.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commands_internal.h"
#include "confine.h"
#include "opener.h"
#include "takeover.h"


void command_list(struct commands *commands, struct disk *only, struct control_request *request)
{
	json_t *disks = json_array();
	struct disk *disk;
	json_t *reply;

	for (disk = commands->disks; disk; disk = disk->next) {
		if (!only || disk == only)
			json_array_append_new(disks, vbd_info(disk->vbd));
	}
	reply = json_pack("{s:i, s:i, s:b, s:o}", "pid", (int)getpid(), "opener", (int)opener_pid(), "landlock",
			  confine_has_landlock(), "disks", disks);
	control_reply(request, reply ? 0 : -ENOMEM, reply);
}

void command_open(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct driver_options options = { 0 };
	const json_t *message = request->message;
	const char *target = NULL;
	int64_t sector_size = 0, cache_mib = 0, former = 0;
	bool beside_qemu = false;
	enum vbd_on_error policy = ON_ERROR_ENOSPC;
	bool take_over = false;
	int error;

	if (argument_require(message, "target", &request->error) ||
	    argument_target(message, &target, &request->error) ||
	    argument_bool(message, "read_only", &options.read_only, &request->error) ||
	    argument_bool(message, "no_direct", &options.no_direct, &request->error) ||
	    argument_bool(message, "beside_qemu", &beside_qemu, &request->error) ||
	    argument_bool(message, "take_over", &take_over, &request->error) ||
	    argument_integer(message, "former", 0, INT32_MAX, &former, &request->error) ||
	    argument_integer(message, "sector_size", 0, 4096, &sector_size, &request->error) ||
	    command_on_error_argument(request, &policy) ||
	    argument_integer(message, "cache_mib", 0, CACHE_MAX_MIB, &cache_mib, &request->error)) {
		control_reply(request, -EINVAL, NULL);
		return;
	}
	options.share_qemu = !beside_qemu ? SHARE_QEMU_NO : take_over ? SHARE_QEMU_THERE : SHARE_QEMU_COMES;
	options.sector_size = (unsigned)sector_size;
	options.cache_bytes = (size_t)cache_mib << 20;
	if (disk->vbd->state == VBD_CLOSED && !commands->shutting_down && command_probe(commands, request, target, &options))
		return;
	/* not a take-over: remove what a former tapdisk of this minor may have left */
	if (!take_over && disk->vbd->state == VBD_CLOSED)
		takeover_disk_forget(disk->vbd->minor);
	if (disk->vbd->state == VBD_CLOSED)
		disk->vbd->former = take_over ? (int)former : 0;
	if (commands->shutting_down)
		error = error_set(&request->error, -ESHUTDOWN, "this tapdisk is exiting");
	else
		error = vbd_open(disk->vbd, target, &options, &request->error);
	if (command_again(commands, request, &error))
		return;
	if (error) {
		control_reply(request, error, NULL);
		return;
	}
	vbd_on_error_set(disk->vbd, policy);
	takeover_disk_save(disk->vbd);
	command_reply_disk(request, disk);
}

/* The wait for a drain has ended because the image's storage does not answer. It will be closed, whenever that is. */
static bool close_is_late(const struct vbd *vbd, int error, struct error_text *text)
{
	if (error != -ETIMEDOUT || !vbd_is_stuck(vbd))
		return false;
	error_set(text, error, "%s: not closed: its device or file server has not answered for %u seconds; the disk is %s when it "
		  "does", vbd->target, (vbd->close_limit_ms + 999) / 1000, vbd->closing ? "closed" : "paused");
	return true;
}

static void close_done(void *arg, int error)
{
	struct control_request *request = arg;
	struct commands *commands = request->arg;
	struct disk *disk = command_request_disk(request);

	if (!error || close_is_late(disk->vbd, error, &request->error)) {
		command_forget_frontends(commands, disk->vbd->minor);
		command_forget_prepared(commands, disk->vbd->minor);
	}
	control_reply(request, error, NULL);
	command_shutdown_step(commands);
}

void command_close(struct commands *commands, struct disk *disk, struct control_request *request)
{
	bool force = false;
	int error;

	error = argument_bool(request->message, "force", &force, &request->error);
	if (!error)
		error = vbd_close(disk->vbd, force, close_done, request, &request->error);
	if (error)
		control_reply(request, error, NULL);
}

static void pause_done(void *arg, int error)
{
	struct control_request *request = arg;
	struct disk *disk = command_request_disk(request);
	bool late = close_is_late(disk->vbd, error, &request->error);
	json_t *reply = NULL;

	if (!error && disk->vbd->state != VBD_PAUSED) {
		control_reply(request, error_set(&request->error, -ECANCELED, "minor %d was closed or unpaused meanwhile",
						 disk->vbd->minor), NULL);
		return;
	}
	if (!error || late) {
		command_forget_prepared(request->arg, disk->vbd->minor);
		disk->vbd->held_paused = true;
		takeover_disk_save(disk->vbd);
	}
	if (error)
		error_set(&request->error, error, "%s: cannot be flushed: %s; the disk keeps running "
			  "(force pauses it and loses unflushed writes)", disk->vbd->target,
			  strerror(-error));
	else
		reply = json_pack("{s:I, s:b}", "drain_us", (json_int_t)(disk->vbd->stalls.last_drain_ns / 1000),
				  "lost_writes", disk->vbd->lost);
	control_reply(request, error, reply);
}

static void pause_now(struct control_request *request, bool force)
{
	int error = vbd_pause(command_request_disk(request)->vbd, force, pause_done, request, &request->error);

	if (error)
		control_reply(request, error, NULL);
}

static void pause_settled(void *arg)
{
	pause_now(arg, false);
}

void command_pause(struct commands *commands, struct disk *disk, struct control_request *request)
{
	bool force = false;
	int error;

	error = argument_bool(request->message, "force", &force, &request->error);
	if (!error && disk->vbd->overlay.token)
		error = error_set(&request->error, -EBUSY, "minor %d: a snapshot is being taken", disk->vbd->minor);
	if (error)
		control_reply(request, error, NULL);
	else if (force)
		pause_now(request, true);
	else
		vbd_settle(disk->vbd, pause_settled, request);
}

void command_unpause(struct commands *commands, struct disk *disk, struct control_request *request)
{
	const char *target = NULL;
	int error;

	error = argument_target(request->message, &target, &request->error);
	if (!error && disk->vbd->state == VBD_PAUSED && !disk->vbd->closing &&
	    command_probe(commands, request, target ? target : disk->vbd->target, &disk->vbd->options))
		return;
	if (!error)
		error = vbd_unpause(disk->vbd, target, &request->error);
	if (command_again(commands, request, &error))
		return;
	if (error)
		control_reply(request, error, NULL);
	else
		command_reply_disk(request, disk);
}

static void set_throttle(struct vbd *vbd, uint64_t iops, uint64_t bytes, unsigned burst_ms)
{
	vbd_throttle_set(vbd, iops, bytes, burst_ms);
	if (vbd->state != VBD_CLOSED)
		takeover_disk_save(vbd);
}

void command_throttle(struct commands *commands, struct disk *disk, struct control_request *request)
{
	const struct vbd_throttle *now = &disk->vbd->throttle;
	int64_t iops = (int64_t)now->iops, bytes = (int64_t)now->bytes, burst_ms = now->burst_ms;
	int error;

	error = argument_integer(request->message, "iops", 0, THROTTLE_MAX_IOPS, &iops, &request->error);
	if (!error)
		error = argument_integer(request->message, "bytes", 0, THROTTLE_MAX_BYTES, &bytes, &request->error);
	if (!error)
		error = argument_integer(request->message, "burst_ms", 1, THROTTLE_MAX_BURST_MS, &burst_ms, &request->error);
	if (!error && (iops != (int64_t)now->iops || bytes != (int64_t)now->bytes || burst_ms != now->burst_ms))
		set_throttle(disk->vbd, (uint64_t)iops, (uint64_t)bytes, (unsigned)burst_ms);
	control_reply(request, error, error ? NULL : json_pack("{s:o}", "throttle", vbd_throttle_info(disk->vbd)));
}

void command_commit(struct commands *commands, struct disk *disk, struct control_request *request)
{
	bool adjust = json_object_get(request->message, "rate");
	int64_t rate = 0;
	int error;

	error = argument_integer(request->message, "rate", 0, INT64_MAX, &rate, &request->error);
	if (!error)
		error = vbd_commit(disk->vbd, (uint64_t)rate, adjust, &request->error);
	if (error)
		control_reply(request, error, NULL);
	else
		command_reply_disk(request, disk);
}

void command_commit_cancel(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int error = vbd_commit_cancel(disk->vbd, &request->error);

	if (error)
		control_reply(request, error, NULL);
	else
		command_reply_disk(request, disk);
}

void command_info(struct commands *commands, struct disk *disk, struct control_request *request)
{
	command_reply_disk(request, disk);
}

void command_stats(struct commands *commands, struct disk *disk, struct control_request *request)
{
	json_t *reply = json_pack("{s:o}", "stats", vbd_stats(disk->vbd));

	control_reply(request, reply ? 0 : -ENOMEM, reply);
}
