/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_retire.c - from freed to free, and to holes.
 *
 * A running request may still read a block, or write to it in place, after
 * the block was removed from the map. So freed blocks wait until all requests
 * that were running then have ended; then they may be reused, and those that
 * are still free at their turn are punched out of the store.
 *
 * A file system stops all other writes to a file while it punches a hole: the
 * running ones must end first. So while there are requests, holes get a small
 * part of the time (cow_disk_pace.c), several in each turn, and wait for
 * deletions. A disk that is being closed punches only a few more: another
 * process may be waiting to open it. The next open searches for the rest, as it
 * does after a crash (cow_unpunched.c), and punches that when nothing else is left.
 */
#include <stdlib.h>

#include "cow_disk.h"

#define TURN_NS 1000000u		/* punch holes for this long in a turn */
#define LAST_HOLES 1000u	/* limit for a disk that is being closed */

static bool settled(const struct cow_disk *disk)
{
	return disk->retired && (!disk->oldest || disk->oldest->sequence >= disk->retired->sequence);
}

static bool any_holes(const struct cow_disk *disk)
{
	const struct cow_alloc *alloc = &disk->store->alloc;

	return alloc->unpunched || (alloc->searching && !disk->stopping);
}

/* On a full store holes are most urgent. */
static bool hole_due(const struct cow_disk *disk)
{
	return any_holes(disk) &&
		(disk->full || disk->stopping || (!disk->want_delete && cow_pace_due(&disk->hole_pace)));
}

static void first_settled(struct cow_disk *disk)
{
	struct cow_retired *retired = disk->retired;
	size_t i;

	for (i = 0; i < retired->blocks.count; i++) {
		cow_alloc_unhold(disk->store, retired->blocks.item[i]);
		cow_unpunched_add(disk->store, retired->blocks.item[i]);
	}
	disk->retired = retired->next;
	if (!disk->retired)
		disk->last_retired = &disk->retired;
	cow_list_free(&retired->blocks);
	free(retired);
}

/* The end of the blocks that are filled for the next writes. */
static uint64_t filled_end(const struct cow_disk *disk)
{
	const struct cow_alloc *alloc = &disk->store->alloc;

	return disk->filled_page == alloc->at_page ? (uint64_t)alloc->at_page * COW_PAGE_BITS + disk->filled_to : 0;
}

/* A failure costs space on the host only. */
static void hole_make(struct cow_disk *disk)
{
	uint64_t block = 0;
	unsigned count = cow_unpunched_hold(disk->store, &block);

	if (!count && any_holes(disk))
		count = cow_unpunched_search_hold(disk->store, filled_end(disk), &block);
	if (count)
		disk->device.ops->punch(&disk->device, block << COW_SHIFT, (uint64_t)count << COW_SHIFT);
	cow_alloc_unhold_run(disk->store, block, count);
	if (disk->stopping && ++disk->last_holes >= LAST_HOLES)
		cow_unpunched_forget(disk->store);
}

static void holes_make(struct cow_disk *disk)
{
	cow_pace_begin(&disk->hole_pace);
	do
		hole_make(disk);
	while (hole_due(disk) && cow_clock_now() - disk->hole_pace.begun < TURN_NS);
	cow_pace_end(&disk->hole_pace);
}

static void retirer_run(void *arg)
{
	struct cow_disk *disk = arg;

	disk->retirer = fiber_current();
	while (cow_retire_pending(disk)) {
		if (settled(disk)) {
			first_settled(disk);
		} else if (hole_due(disk)) {
			holes_make(disk);
		} else {
			disk->retirer_waits = true;
			fiber_yield();
		}
	}
	disk->retirer = NULL;
}

bool cow_retire_pending(const struct cow_disk *disk)
{
	return disk->retired || any_holes(disk);
}

void cow_retire_wake(struct cow_disk *disk)
{
	if (!disk->retirer) {
		fiber_start(retirer_run, disk);		/* out of memory: retried when the next request ends */
	} else if (disk->retirer_waits && (settled(disk) || hole_due(disk) || !cow_retire_pending(disk))) {
		disk->retirer_waits = false;
		fiber_resume(disk->retirer);
	}
}

void cow_retire_search(struct cow_disk *disk)
{
	cow_unpunched_search(disk->store);
	if (!disk->store->alloc.searching)
		return;
	cow_pace_begin(&disk->hole_pace);
	cow_pace_end(&disk->hole_pace);
}

void cow_retire(void *owner, struct cow_list *blocks)
{
	struct cow_disk *disk = owner;
	struct cow_retired *retired;

	if (!blocks->count)
		return;
	retired = calloc(1, sizeof(*retired));
	if (!retired) {
		disk->store->alloc.unrecorded = true;
		return;		/* the blocks stay on hold until the store is opened again */
	}
	retired->blocks = *blocks;
	*blocks = (struct cow_list){ 0 };
	retired->sequence = disk->sequence;
	*disk->last_retired = retired;
	disk->last_retired = &retired->next;
	cow_retire_wake(disk);
}
