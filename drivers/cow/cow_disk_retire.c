/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_retire.c - from freed to free, and to holes.
 *
 * A request that has begun may still read a block, or write to it in place,
 * after the map has let go of it. So what was freed waits until all requests
 * that were running then have ended; then it may be used again, and what
 * nobody has come to use by its turn is punched out of the store.
 *
 * A file system stops all other writes to a file while it makes a hole in it:
 * those that run must end first. So while there are requests, holes take a
 * small part of the time (cow_disk_pace.c), some of them in each turn, and none of
 * it before a deletion has had its part. A disk that is being closed makes a
 * few more only: somebody may wait to open it again.
 */
#include <stdlib.h>

#include "cow_disk.h"

#define TURN_NS 1000000u		/* holes one after the other */
#define LAST_HOLES 1000u	/* of a disk that is being closed */

static bool settled(const struct cow_disk *disk)
{
	return disk->retired && (!disk->oldest || disk->oldest->sequence >= disk->retired->sequence);
}

/* On a full store nothing is as urgent. */
static bool hole_due(const struct cow_disk *disk)
{
	return disk->store->alloc.unpunched &&
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

/* That it fails costs space on the host only. */
static void hole_make(struct cow_disk *disk)
{
	uint64_t block = 0;
	unsigned count = cow_unpunched_hold(disk->store, &block);

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
	return disk->retired || disk->store->alloc.unpunched;
}

void cow_retire_wake(struct cow_disk *disk)
{
	if (!disk->retirer) {
		fiber_start(retirer_run, disk);		/* out of memory: the next end of a request tries again */
	} else if (disk->retirer_waits && (settled(disk) || hole_due(disk))) {
		disk->retirer_waits = false;
		fiber_resume(disk->retirer);
	}
}

void cow_retire(void *owner, struct cow_list *blocks)
{
	struct cow_disk *disk = owner;
	struct cow_retired *retired;

	if (!blocks->count)
		return;
	retired = calloc(1, sizeof(*retired));
	if (!retired)
		return;		/* they stay on hold until the store is opened again */
	retired->blocks = *blocks;
	*blocks = (struct cow_list){ 0 };
	retired->sequence = disk->sequence;
	*disk->last_retired = retired;
	disk->last_retired = &retired->next;
	cow_retire_wake(disk);
}
