/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_wait.c - writes to a served store that wait, in one list for each
 * reason, so that a write is restarted only when its own reason may be gone.
 *
 *    held          the disk is frozen: until the thaw; or it is being reopened: then reads wait, too
 *    overlapping   running requests have fresh blocks in its range: until the last of these has ended
 *    gate          the map must not change now, the log has no room for it, or a checkpoint does not keep up
 *    places        no block is ready: one has to be found, or the file to grow
 *    ready         nothing: to be started
 *
 * gate and places are queues: on an event the first request is retried, and
 * the next one when that one has got through.
 *
 * The number of waiting and of running requests is limited only by the
 * frontends' rings. So the start or end of one costs no more than a short
 * check of each of the others.
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

/* Requests for which @r was the last overlapping one become ready. */
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

void cow_line_fail(struct cow_line *line, int error)
{
	struct cow_request *r, *next;

	for (r = cow_requests_take(&line->waiting); r; r = next) {
		next = r->next;
		cow_request_done(r, error);
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

/* Not recursively: a request started here may end here, and wake others. */
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

/* As when a checkpoint fails for lack of memory: retry() tries again. */
void cow_wait_give_up(struct cow_disk *disk)
{
	if (!disk->gate.waiting.first && !disk->places.waiting.first)
		return;
	disk->full |= !disk->store->failed;
	cow_disk_kick(disk);
}
