/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow-retire.c - from freed to free.
 *
 * A request that has begun may still read a block, or write to it in place,
 * after the map has let go of it. So what was freed waits until all requests
 * that were running then have ended; then it is punched out of the store,
 * and only after that may it be used again.
 *
 * A file system stops all other writes to a file while it makes a hole in it:
 * those that run must end first. So while there are requests, holes take a
 * ninth of the time at most.
 */
#include <stdlib.h>

#include "cow-disk.h"

#define PAUSE 8		/* after a hole, in times of what it took */

static bool settled(const struct cow_disk *disk)
{
	return !disk->oldest || disk->oldest->sequence >= disk->retired->sequence;
}

/* On a full store nothing is as urgent. */
static bool paced(const struct cow_disk *disk)
{
	return !disk->oldest || disk->full || cow_clock_now() >= disk->next_hole;
}

static void retirer_wait(struct cow_disk *disk)
{
	disk->retirer_waits = true;
	fiber_yield();
}

/* A pass of the punching: neighbours are one hole. That it fails costs space on the host only. */
static void blocks_punch(struct cow_disk *disk, const struct cow_list *blocks)
{
	uint64_t start, end;
	size_t i, n;

	for (i = 0; i < blocks->count; i += n) {
		for (n = 1; i + n < blocks->count && blocks->item[i + n] == blocks->item[i] + n; n++)
			;
		while (!paced(disk))
			retirer_wait(disk);
		start = cow_clock_now();
		disk->device.ops->punch(&disk->device, blocks->item[i] << COW_SHIFT, (uint64_t)n << COW_SHIFT);
		end = cow_clock_now();
		disk->next_hole = end + PAUSE * (end - start);
	}
}

static void retirer_run(void *arg)
{
	struct cow_disk *disk = arg;
	struct cow_retired *retired;
	size_t i;

	disk->retirer = fiber_current();
	while ((retired = disk->retired)) {
		if (!settled(disk)) {
			retirer_wait(disk);
			continue;
		}
		blocks_punch(disk, &retired->blocks);
		for (i = 0; i < retired->blocks.count; i++)
			cow_alloc_unhold(disk->store, retired->blocks.item[i]);
		disk->retired = retired->next;
		if (!disk->retired)
			disk->last_retired = &disk->retired;
		cow_list_free(&retired->blocks);
		free(retired);
	}
	disk->retirer = NULL;
}

void cow_retire_wake(struct cow_disk *disk)
{
	if (!disk->retirer) {
		fiber_start(retirer_run, disk);		/* out of memory: the next end of a request tries again */
	} else if (disk->retirer_waits && settled(disk) && paced(disk)) {
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
