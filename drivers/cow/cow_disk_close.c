/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_close.c - closes a store that was served.
 *
 *   stop ---> its fibers have ended ---> log, map, bitmap and superblock are written, in a fiber ---> closed
 *
 * Closing a store blocks the event loop, unless cow_disk_finish() has come
 * before it.
 */
#include <stdlib.h>

#include "cow_disk.h"

static bool disk_idle(const struct cow_disk *disk)
{
	return !disk->task && !disk->flusher && !disk->filler && !disk->retirer && !disk->loads;
}

/* A failure here does not affect the guest: flushed data is safe, and the next open reads the log. */
static void close_run(void *arg)
{
	struct cow_disk *disk = arg;

	cow_close(disk->store);
	disk->store = NULL;
	disk->close = CLOSE_ENDED;
}

/* Blocks not punched for lack of memory only cost space on the host. */
static void retired_free(struct cow_disk *disk)
{
	struct cow_retired *retired;

	while ((retired = disk->retired)) {
		disk->store->alloc.unrecorded = true;
		disk->retired = retired->next;
		cow_list_free(&retired->blocks);
		free(retired);
	}
}

static void stop(struct cow_disk *disk)
{
	disk->stopping = true;
	if (disk->retirer || cow_retire_pending(disk))
		cow_retire_wake(disk);
}

/* Nothing but the close uses the store from here on. Without memory for a fiber nothing is written: as after a crash. */
static void close_begin(struct cow_disk *disk)
{
	engine_cancel_timer(disk->engine, &disk->room_timer);
	cow_pace_stop(&disk->delete_pace);
	cow_pace_stop(&disk->hole_pace);
	retired_free(disk);
	disk->store->retire = NULL;
	disk->store->pause = NULL;
	disk->close = CLOSE_WRITES;
	if (fiber_start(close_run, disk))
		disk->close = CLOSE_ENDED;
}

bool cow_disk_finish(struct cow_disk *disk)
{
	if (!disk->stopping)
		stop(disk);
	if (disk->close == CLOSE_WAITS && disk_idle(disk))
		close_begin(disk);
	return disk->close == CLOSE_ENDED;
}

void cow_disk_close(struct cow_disk *disk)
{
	cow_disk_wait(disk, cow_disk_finish);
	cow_disk_forget(disk);
}
