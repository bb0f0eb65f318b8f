/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_task.c - background work of a served store, one thing after the other in
 * one fiber: making room for fresh blocks (only this fiber makes the file
 * larger), what found no room below, checkpoints, commands, zeroing, deletion.
 *
 * A request that changes the map waits while one of these needs an unchanging
 * map; reads, and writes in place, continue. cow_disk_pace.c limits the time
 * for deletions while there are requests.
 */
#include <errno.h>
#include <string.h>

#include "cow_disk.h"

#define ZERO_SLICE 1024u	/* blocks */
#define LATER_NS 1000000000u

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

static void later_over(struct engine_timer *timer)
{
	struct cow_disk *disk = timer->owner;

	disk->want_catch_up = true;
	cow_task_wake(disk);
}

void cow_task_init(struct cow_disk *disk)
{
	disk->room_timer = (struct engine_timer){ .expired = later_over, .owner = disk };
}

/* Requests that wait for room are retried by their owner. But nobody may be waiting. */
void cow_task_later(struct cow_disk *disk, int error)
{
	if (cow_no_room(disk->store, error) && !disk->stopping && !disk->room_timer.set)
		engine_set_timer(disk->engine, &disk->room_timer, cow_clock_now() + LATER_NS);
}

/* For lack of space or memory what waits in @line waits on, for retry(). Any other error ends it. */
static void room_failed(struct cow_disk *disk, struct cow_line *line, int error)
{
	if (!error || disk->store->failed)
		return;
	if (error == -ENOSPC || error == -EDQUOT || error == -ENOMEM)
		disk->full = true;
	else
		cow_line_fail(line, error);
}

static void run_catch_up(struct cow_disk *disk)
{
	int ret;

	disk->want_catch_up = false;
	cow_exclusive_begin(disk);
	ret = cow_checkpoint_catch_up(disk->store);
	if (disk->gate.waiting.first)		/* they wait for the log, which only this can empty */
		room_failed(disk, &disk->gate, ret);
	cow_exclusive_end(disk);
	cow_task_later(disk, ret);
	disk->want_delete |= !ret && !disk->read_only && cow_delete_next(disk->store);
}

bool cow_task_room_by_checkpoint(struct cow_disk *disk)
{
	if (disk->no_room_tried || !disk->store->alloc.held)
		return false;
	disk->no_room_tried = true;
	disk->want_checkpoint = true;
	return true;
}

static void run_places(struct cow_disk *disk)
{
	const struct cow_request *first = disk->places.waiting.first;
	uint64_t blocks = disk->store->store_blocks;
	int ret;

	disk->want_places = false;
	if (disk->filler)
		return;		/* requests wait for its end */
	ret = cow_alloc_prepare(disk->store, first ? first->fresh_blocks : 1);
	if (!ret)
		cow_prefill_now(disk);
	if (disk->store->store_blocks > blocks)
		disk->growth_failed = false;
	if (ret != -ENOSPC || !cow_task_room_by_checkpoint(disk))
		room_failed(disk, &disk->places, ret);
	cow_disk_kick(disk);
}

/* A failure costs no request anything: the one that needs the room tries again. */
static void run_growth(struct cow_disk *disk)
{
	disk->want_growth = false;
	disk->growth_failed = cow_alloc_make_room(disk->store, COW_GROW_AHEAD) != 0;
}

static int checkpoint_begin(struct cow_disk *disk)
{
	struct cow_store *store = disk->store;
	int ret;

	cow_exclusive_begin(disk);
	ret = cow_flush(store);
	if (!ret)
		ret = cow_checkpoint_begin(store, 0, store->log.salt);
	room_failed(disk, &disk->gate, ret);
	disk->want_checkpoint = false;
	cow_exclusive_end(disk);
	return ret;
}

static int checkpoint_settle(struct cow_disk *disk)
{
	struct cow_store *store = disk->store;
	int ret;

	cow_exclusive_begin(disk);
	ret = cow_flush(store);
	if (!ret)
		ret = cow_checkpoint_settle(store);
	else
		cow_checkpoint_abort(store);
	room_failed(disk, &disk->gate, ret);
	cow_exclusive_end(disk);
	return ret;
}

static int checkpoint_build(struct cow_disk *disk)
{
	int ret = cow_checkpoint_build(disk->store);

	if (ret == -ECANCELED)
		disk->want_checkpoint = true;
	else
		room_failed(disk, &disk->gate, ret);
	return ret;
}

static int checkpoint_end(struct cow_disk *disk)
{
	int ret = cow_checkpoint_end(disk->store);

	if (ret)
		disk->want_checkpoint = false;
	room_failed(disk, &disk->gate, ret);
	return ret;
}

/* First writes continue, except in its two short exclusive steps, or when they come faster than it progresses. */
int cow_task_checkpoint(struct cow_disk *disk)
{
	int ret = disk->store->checkpoint ? checkpoint_end(disk) : 0;	/* the last one's end found no room */

	if (!ret)
		ret = checkpoint_begin(disk);
	if (!ret)
		ret = checkpoint_build(disk);
	if (!ret)
		ret = checkpoint_settle(disk);
	if (!ret)
		ret = checkpoint_end(disk);
	cow_task_later(disk, ret);
	cow_disk_kick(disk);
	return ret;
}

/* -ECANCELED: aborted for an urgent command. */
static int checkpoint_yielding(struct cow_disk *disk)
{
	int ret;

	disk->yields = true;
	ret = cow_task_checkpoint(disk);
	disk->yields = false;
	return ret;
}

int cow_task_pause(void *owner)
{
	struct cow_disk *disk = owner;

	if (disk->want_places)
		run_places(disk);
	else if (disk->want_growth)
		run_growth(disk);
	else
		cow_wait_checkpoint_on(disk);
	return disk->yields && cow_command_is_urgent(disk) ? -ECANCELED : 0;
}

/* Continue zeroing, for at most *@budget blocks that need work. */
static int zero_on(struct cow_request *r, uint64_t *budget)
{
	const struct block_request *req = r->req;
	struct cow_store *store = r->disk->store;

	if (!r->running)
		cow_request_begin(r);
	return cow_zero_some(store, &r->zeroed, req->sector + req->nr_sectors, req->op != BLOCK_DISCARD, budget);
}

static void zero_end(struct cow_request *r)
{
	int ret = r->error;

	if (ret == -ENOSPC || ret == -EDQUOT) {
		r->zeroed = r->req->sector;
		cow_request_retreat(r);
		cow_request_no_room(r);
	} else {
		cow_request_done(r, ret);
	}
}

/*
 * A slice of the waiting requests: writes continue between two slices of a
 * large one, and many small ones share one exclusive phase. No command runs
 * between slices: a snapshot has no part of a request that has not ended. Runs
 * on a full store, too: a discard may make room.
 */
static void run_zeroes(struct cow_disk *disk)
{
	uint64_t budget = ZERO_SLICE;
	struct cow_requests ended;
	struct cow_request *r;

	cow_requests_init(&ended);
	cow_exclusive_begin(disk);
	while (budget && disk->zeroes.first) {
		r = disk->zeroes.first;
		r->error = zero_on(r, &budget);
		if (!r->error && r->zeroed < r->req->sector + r->req->nr_sectors)
			break;
		cow_requests_add(&ended, cow_requests_pop(&disk->zeroes));
	}
	cow_exclusive_end(disk);
	for (r = ended.first; r; r = ended.first) {
		ended.first = r->next;
		zero_end(r);
	}
}

static bool delete_due(const struct cow_disk *disk)
{
	return disk->want_delete && !disk->stopping &&
		(disk->full || cow_pace_due(&disk->delete_pace));
}

static int flush(struct cow_disk *disk)
{
	int ret;

	cow_flush_lock(disk);
	ret = cow_flush(disk->store);
	cow_flush_unlock(disk);
	return ret;
}

/*
 * Reads come before the exclusive phase, and the flush after it. A write
 * between the step and its flush is safe: the cursor moves only when the
 * record is durable, and a write frees no block that the snapshot may hold.
 */
static int delete_step(struct cow_disk *disk)
{
	int ret = disk->store->failed;

	if (ret || !cow_delete_next(disk->store))
		return ret;
	if (!cow_delete_ready(disk->store))
		ret = checkpoint_yielding(disk);
	if (ret)
		return ret == -ECANCELED ? 1 : ret;
	cow_delete_look(disk->store);
	cow_exclusive_begin(disk);
	if (!cow_delete_ready(disk->store))
		ret = cow_checkpoint(disk->store);
	if (!ret)
		ret = cow_delete_walk(disk->store);
	cow_exclusive_end(disk);
	if (!ret)
		ret = flush(disk);
	return ret ? ret : cow_delete_next(disk->store) != NULL;
}

static void run_delete(struct cow_disk *disk)
{
	int ret;

	cow_pace_begin(&disk->delete_pace);
	ret = delete_step(disk);
	disk->want_delete = ret == 1;
	cow_task_later(disk, ret);
	cow_pace_end(&disk->delete_pace);
	if (!disk->want_delete)
		cow_retire_wake(disk);		/* holes have waited for the deletion */
}

static void run_command(struct cow_disk *disk)
{
	struct snapshot_command *command = disk->commands;

	disk->commands = command->next;
	if (!disk->commands)
		disk->last_command = &disk->commands;
	cow_command_run(disk, command);
	cow_task_later(disk, cow_checkpoint_behind(disk->store) ? -ENOSPC : 0);
}

static bool growth_due(const struct cow_disk *disk)
{
	return disk->want_growth && !disk->stopping;
}

static bool run_next(struct cow_disk *disk)
{
	if (disk->want_places)
		run_places(disk);
	else if (growth_due(disk))
		run_growth(disk);
	else if (disk->want_catch_up)
		run_catch_up(disk);
	else if (disk->want_checkpoint && !cow_command_is_urgent(disk))
		checkpoint_yielding(disk);
	else if (disk->zeroes.first && (disk->zeroes.first->running || !disk->commands))
		run_zeroes(disk);
	else if (disk->commands)
		run_command(disk);
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
	return disk->want_places || growth_due(disk) || disk->want_catch_up || disk->want_checkpoint || disk->commands ||
		disk->zeroes.first || delete_due(disk);
}

/* Call when there will be no retry: fail what waits, or let it wait for another event. */
static void give_up(struct cow_disk *disk, int error)
{
	struct cow_request *r;

	while ((r = cow_requests_pop(&disk->zeroes)))
		cow_request_done(r, error);
	cow_commands_fail(disk, error);
	cow_wait_give_up(disk);
}

/* Without memory for a fiber, the end of any running request retries. */
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
