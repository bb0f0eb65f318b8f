/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_pace.c - how much of the time goes to what a store does in the
 * background, such as giving back what deleted snapshots held.
 *
 * It is done in turns. After one that took a time T, waiting for its I/O
 * included, there is a pause of `rest` times T, and of COW_IDLE_NS at least.
 * So it gets one part in `rest` + 1 of the time, however many requests there
 * are, and never less for ever. A pause in which no request began or ran
 * shows that the disk is idle: then turns follow one another until one comes.
 *
 * That there is no request at the moment shows nothing: between the last one
 * of a batch and the first one of the next there never is.
 */
#include "cow_disk.h"

static bool no_request_since(const struct cow_pace *pace)
{
	return !pace->disk->oldest && pace->disk->sequence == pace->seen;
}

static void pause_over(struct engine_timer *timer)
{
	struct cow_pace *pace = timer->owner;

	pace->idle = no_request_since(pace);
	pace->wake(pace->disk);
}

void cow_pace_init(struct cow_pace *pace, struct cow_disk *disk, unsigned rest, void (*wake)(struct cow_disk *disk))
{
	*pace = (struct cow_pace){ .disk = disk, .rest = rest, .wake = wake, .timer = { .expired = pause_over, .owner = pace } };
}

bool cow_pace_due(const struct cow_pace *pace)
{
	return !pace->timer.set;
}

void cow_pace_begin(struct cow_pace *pace)
{
	pace->begun = cow_clock_now();
}

void cow_pace_end(struct cow_pace *pace)
{
	uint64_t now = cow_clock_now(), pause = pace->rest * (now - pace->begun);

	pace->idle &= no_request_since(pace);
	if (pace->idle || pace->timer.set)
		return;
	pace->seen = pace->disk->sequence;
	engine_set_timer(pace->disk->engine, &pace->timer, now + (pause > COW_IDLE_NS ? pause : COW_IDLE_NS));
}

void cow_pace_stop(struct cow_pace *pace)
{
	engine_cancel_timer(pace->disk->engine, &pace->timer);
}
