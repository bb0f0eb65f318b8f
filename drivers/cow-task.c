/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-task.c - what a served store does besides reads and writes, one thing
 * after the other in one fiber: room for fresh blocks, checkpoints, commands,
 * zeroing, giving back what deleted snapshots held.
 *
 * A request that changes the map waits while one of these needs it to stand
 * still; reads, and writes in place, go on. Deletion has the time: while there
 * are requests, it takes a fifth of it at most.
 */
#include <errno.h>
#include <string.h>

#include "cow-disk.h"

void cow_task_wait(struct cow_disk *disk)
{
	disk->task_waits = true;
	fiber_yield();
}

void cow_exclusive_begin(struct cow_disk *disk)
{
	disk->exclusive = true;
	while (disk->changing)
		cow_task_wait(disk);
	cow_flush_lock(disk);
}

void cow_exclusive_end(struct cow_disk *disk)
{
	cow_flush_unlock(disk);
	disk->exclusive = false;
	cow_disk_kick(disk);
}

/* What fails here, and has not made the whole store fail, fails for want of room or of memory: later, then. */
static void room_failed(struct cow_disk *disk, int error)
{
	if (error && !disk->store->failed)
		disk->full = true;
}

static void run_places(struct cow_disk *disk)
{
	int ret;

	disk->want_places = false;
	if (disk->filler)
		return;		/* its end is what they wait for */
	ret = cow_alloc_prepare(disk->store);
	if (!ret)
		cow_prefill_now(disk);
	room_failed(disk, ret);
	cow_disk_kick(disk);
}

static void run_checkpoint(struct cow_disk *disk)
{
	cow_exclusive_begin(disk);
	room_failed(disk, cow_checkpoint(disk->store));
	disk->want_checkpoint = false;
	cow_exclusive_end(disk);
}

static struct cow_request *zero_next(struct cow_disk *disk)
{
	struct cow_request *r = disk->zeroes.first;

	disk->zeroes.first = r->next;
	if (!disk->zeroes.first)
		cow_requests_init(&disk->zeroes);
	return r;
}

/* On a full store, too: it may be what makes room. */
static void run_zero(struct cow_disk *disk)
{
	struct cow_request *r = zero_next(disk);
	const struct block_request *req = r->req;
	int ret;

	cow_request_begin(r);
	cow_exclusive_begin(disk);
	if (req->op == BLOCK_DISCARD)
		ret = cow_discard(disk->store, req->sector, req->nr_sectors);
	else
		ret = cow_write_zeroes(disk->store, req->sector, req->nr_sectors);
	cow_exclusive_end(disk);
	if (ret == -ENOSPC || ret == -EDQUOT) {
		cow_request_retreat(r);
		cow_request_no_room(r);
	} else {
		cow_request_done(r, ret);
	}
}

static bool delete_due(const struct cow_disk *disk)
{
	return disk->want_delete && !disk->stopping &&
		(!disk->oldest || disk->full || cow_clock_now() >= disk->next_delete_step);
}

static void run_delete(struct cow_disk *disk)
{
	uint64_t start = cow_clock_now(), end;

	cow_exclusive_begin(disk);
	disk->want_delete = cow_delete_step(disk->store) == 1;
	cow_exclusive_end(disk);
	end = cow_clock_now();
	disk->next_delete_step = end + 4 * (end - start);
}

static void run_command(struct cow_disk *disk)
{
	struct snapshot_command *command = disk->commands;

	disk->commands = command->next;
	if (!disk->commands)
		disk->last_command = &disk->commands;
	cow_command_run(disk, command);
}

static bool run_next(struct cow_disk *disk)
{
	if (disk->want_places)
		run_places(disk);
	else if (disk->want_checkpoint)
		run_checkpoint(disk);
	else if (disk->commands)
		run_command(disk);
	else if (disk->zeroes.first)
		run_zero(disk);
	else if (delete_due(disk))
		run_delete(disk);
	else
		return false;
	return true;
}

static void task_run(void *arg)
{
	struct cow_disk *disk = arg;

	disk->task = fiber_current();
	while (run_next(disk))
		;
	disk->task = NULL;
}

static bool anything_to_do(const struct cow_disk *disk)
{
	return disk->want_places || disk->want_checkpoint || disk->commands || disk->zeroes.first || delete_due(disk);
}

/* Nobody will try again: those who wait hear of it. */
static void give_up(struct cow_disk *disk, int error)
{
	while (disk->zeroes.first)
		cow_request_done(zero_next(disk), error);
	cow_commands_fail(disk, error);
}

/* Without memory for a fiber, the end of any request that runs tries again. */
void cow_task_wake(struct cow_disk *disk)
{
	int ret = 0;

	if (disk->task_waits) {
		disk->task_waits = false;
		fiber_resume(disk->task);
	} else if (!disk->task && anything_to_do(disk)) {
		ret = fiber_start(task_run, disk);
	}
	if (ret && !disk->oldest)
		give_up(disk, ret);
}
