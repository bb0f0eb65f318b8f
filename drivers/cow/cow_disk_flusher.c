/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_flusher.c - flushes of a served store.
 *
 * With nothing to log, a flush is a sync. Otherwise the flusher runs the
 * library's flush for all requests that have arrived by then; later ones wait
 * for the next round, because this one may not include the writes that they
 * have to cover.
 *
 * If the log finds no room below, nothing is lost (cow_flush.c): the requests
 * wait for retry(), as writes do.
 */
#include <errno.h>

#include "cow_disk.h"

void cow_flush_lock(struct cow_disk *disk)
{
	while (disk->flush_locked) {
		disk->flush_waiter = fiber_current();
		fiber_yield();
	}
	disk->flush_locked = true;
}

void cow_flush_unlock(struct cow_disk *disk)
{
	struct fiber *waiter = disk->flush_waiter;

	disk->flush_locked = false;
	disk->flush_waiter = NULL;
	if (waiter)
		fiber_resume(waiter);
}

static void flush_all(struct cow_disk *disk)
{
	struct cow_request *r, *next;
	bool waits;
	int ret;

	cow_flush_lock(disk);
	disk->flush_wanted = false;
	r = cow_requests_take(&disk->flushes);
	ret = cow_flush(disk->store);
	cow_flush_unlock(disk);
	waits = cow_no_room(disk->store, ret);
	disk->full |= waits;
	cow_task_later(disk, ret);
	for (; r; r = next) {
		next = r->next;
		if (waits)
			cow_request_no_room(r);
		else
			cow_request_done(r, ret);
	}
	if (cow_checkpoint_due(disk->store)) {
		disk->want_checkpoint = true;
		cow_task_wake(disk);
	}
	cow_disk_kick(disk);
}

static void flusher_run(void *arg)
{
	struct cow_disk *disk = arg;

	disk->flusher = fiber_current();
	while (disk->flushes.first || disk->flush_wanted)
		flush_all(disk);
	disk->flusher = NULL;
}

void cow_flusher_wake(struct cow_disk *disk)
{
	struct cow_request *r, *next;

	disk->flush_wanted = true;
	if (disk->flusher || !fiber_start(flusher_run, disk))
		return;
	disk->flush_wanted = false;
	for (r = cow_requests_take(&disk->flushes); r; r = next) {
		next = r->next;
		cow_request_done(r, -ENOMEM);
	}
	/* a request that waits for an empty log must ask again */
	if (disk->oldest)
		disk->gate_asks = true;
	else if (!disk->task)
		cow_wait_give_up(disk);
}

/* As cow_store_sync(); but without memory for it there was no sync. */
static void sync_done(struct block_request *sub, int error)
{
	struct cow_request *r = sub->owner;
	struct cow_disk *disk = r->disk;

	if (error && error != -ENOMEM)
		disk->store->failed = -EIO;
	cow_request_done(r, cow_sync_error(error));
	if (disk->store->failed)
		cow_disk_kick(disk);
}

void cow_flush_start(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	struct cow_piece *piece;

	if (disk->read_only || r->export->snapshot) {
		cow_request_done(r, 0);
		return;
	}
	if (disk->store->failed) {
		cow_request_done(r, disk->store->failed);
		return;
	}
	if (!cow_flush_idle(disk->store)) {
		cow_requests_add(&disk->flushes, r);
		cow_flusher_wake(disk);
		return;
	}
	r->nr_pieces = 0;
	piece = cow_request_add_piece(r, COW_PIECE_STORE, 0, 0, 0);
	if (!piece) {
		cow_request_done(r, -ENOMEM);
		return;
	}
	cow_request_begin(r);
	cow_piece_submit(piece, r, disk->backend, BLOCK_FLUSH, 0, 0, NULL, 0, sync_done);
}
