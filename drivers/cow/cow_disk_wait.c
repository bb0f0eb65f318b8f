/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_wait.c - writes to a served store that wait, each where it waits for
 * what it needs, so that none is started anew for what others need.
 *
 *    held          the disk is frozen: until the thaw; or it is being opened for writing, and so do reads
 *    overlapping   others that run have fresh blocks in its range: until the last of these has ended
 *    gate          the map may not be changed now, the log has no room for it, or a checkpoint does not keep up
 *    places        there are none that are ready
 *    ready         nothing any more
 *
 * At the gate, and for places, they stand in line: when something has come the
 * first is tried, and the next one once that has got on.
 *
 * As many can wait, and as many can run, as frontends have room for in their
 * rings. So what is done when one begins or ends is no more than a short look
 * at each of the others.
 */
#include <assert.h>

#include "cow_disk.h"

static bool overlap(const struct cow_request *a, const struct cow_request *b)
{
	return a->first < b->end && b->first < a->end;
}

void cow_fresh_begin(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	struct cow_request *other;

	assert(r->running && !r->fresh);
	r->fresh = true;
	disk->changing++;
	disk->fresh_blocks += r->fresh_blocks;
	r->fresh_next = disk->fresh;
	r->fresh_link = &disk->fresh;
	if (disk->fresh)
		disk->fresh->fresh_link = &r->fresh_next;
	disk->fresh = r;
	for (other = disk->overlapping.first; other; other = other->next)
		other->overlaps += overlap(other, r);
}

/* Who has waited for the end of @r last is ready. */
static void overlapping_release(const struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	struct cow_request *other, *next = cow_requests_take(&disk->overlapping);

	while ((other = next)) {
		next = other->next;
		other->overlaps -= overlap(other, r);
		cow_requests_add(other->overlaps ? &disk->overlapping : &disk->ready, other);
	}
}

void cow_fresh_end(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;

	*r->fresh_link = r->fresh_next;
	if (r->fresh_next)
		r->fresh_next->fresh_link = r->fresh_link;
	disk->changing--;
	disk->fresh_blocks -= r->fresh_blocks;
	r->fresh = false;
	r->fresh_blocks = 0;
	overlapping_release(r);
	disk->gate.again = true;
}

bool cow_wait_overlapping(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	const struct cow_request *other;

	r->overlaps = 0;
	for (other = disk->fresh; other; other = other->fresh_next)
		r->overlaps += overlap(r, other);
	if (r->overlaps)
		cow_requests_add(&disk->overlapping, r);
	return r->overlaps;
}

void cow_line_init(struct cow_line *line)
{
	cow_requests_init(&line->waiting);
}

bool cow_line_before(const struct cow_line *line, const struct cow_request *r)
{
	return line->waiting.first && r->first_of != line;
}

void cow_line_wait(struct cow_line *line, struct cow_request *r)
{
	if (r->first_of == line) {
		cow_requests_add_first(&line->waiting, r);
		line->again = false;
	} else {
		cow_requests_add(&line->waiting, r);
	}
}

static struct cow_request *line_next(struct cow_line *line)
{
	struct cow_request *r = line->again ? cow_requests_pop(&line->waiting) : NULL;

	if (r)
		r->first_of = line;
	return r;
}

static struct cow_request *next_ready(struct cow_disk *disk)
{
	struct cow_request *r = NULL;

	if (!disk->frozen)
		r = line_next(&disk->gate);
	if (!disk->frozen && !r)
		r = line_next(&disk->places);
	return r ? r : cow_requests_pop(&disk->ready);
}

/* Not from within itself: what is started here may end here, and wake others. */
static void held_restart(struct cow_disk *disk)
{
	struct cow_request *r;

	if (disk->restarting)
		return;
	disk->restarting = true;
	while ((r = next_ready(disk)))
		cow_request_start(r);
	disk->restarting = false;
}

void cow_wait_wake(struct cow_disk *disk)
{
	disk->gate.again |= disk->gate_asks;
	disk->gate_asks = false;
	held_restart(disk);
}

void cow_wait_checkpoint_on(struct cow_disk *disk)
{
	if (!disk->gate.waiting.first)
		return;
	disk->gate.again = true;
	held_restart(disk);
}

void cow_disk_kick(struct cow_disk *disk)
{
	struct cow_request *r;

	disk->gate.again = disk->places.again = true;
	while (!disk->frozen && (r = cow_requests_pop(&disk->held)))
		cow_requests_add(&disk->ready, r);
	held_restart(disk);
}

/* As when a checkpoint fails for want of memory: retry() tries again. */
void cow_wait_give_up(struct cow_disk *disk)
{
	if (!disk->gate.waiting.first && !disk->places.waiting.first)
		return;
	disk->full |= !disk->store->failed;
	cow_disk_kick(disk);
}
