/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_disk.c - see live_disk.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow_format.h"
#include "cow_sim.h"
#include "live_disk.h"

#define RETRIES 40

uint64_t live_clock;

uint64_t live_pick(struct live_disk *disk, uint64_t below)
{
	return sim_random(&disk->random) % below;
}

void live_failed(struct live_disk *disk, const char *format, ...)
{
	va_list args;

	if (disk->failure[0])
		return;
	va_start(args, format);
	vsnprintf(disk->failure, sizeof(disk->failure), format, args);
	va_end(args);
}

void live_expect_right(struct live_disk *disk)
{
	if (disk->failure[0])
		fail_msg("TAPSNAP_SEED=%llu operation %llu: %s", (unsigned long long)disk->options.seed,
			 (unsigned long long)disk->operations, disk->failure);
}

void live_note_error(struct live_disk *disk, const char *what, int error)
{
	disk->errors++;
	if (!disk->faulty)
		live_failed(disk, "%s: %s", what, strerror(-error));
}

/* A discard leaves blocks alone that it only covers in part; the disk's last block ends with the disk. */
static bool changes_cell(const struct live_disk *disk, const struct block_request *req, unsigned cell)
{
	uint64_t sector = live_sector(cell), first = sector / COW_SECTORS * COW_SECTORS, end = first + COW_SECTORS;

	if (sector < req->sector || sector >= req->sector + req->nr_sectors)
		return false;
	if (req->op != BLOCK_DISCARD)
		return true;
	end = end < disk->model.sectors ? end : disk->model.sectors;
	return first >= req->sector && end <= req->sector + req->nr_sectors;
}

static void read_ended(struct live_disk *disk, struct live_request *r)
{
	unsigned first = live_cell_from(r->req.sector), end = live_cell_from(r->req.sector + r->req.nr_sectors), i;
	const uint8_t *data = r->buffer;
	uint64_t tag;
	bool right;

	for (i = first; i < end; i++, data += SECTOR_SIZE) {
		memcpy(&tag, data, sizeof(tag));
		right = !memcmp(data, data + sizeof(tag), SECTOR_SIZE - sizeof(tag)) &&
			(r->snapshot ? live_image_may(&r->snapshot->image, i, tag) :
			 live_read(&disk->model, i, r->submitted, tag));
		if (!right)
			live_failed(disk, "%s: cell %u (sector %llu) reads as %llx", r->snapshot ? r->snapshot->name : "active",
				    i, (unsigned long long)live_sector(i), (unsigned long long)tag);
	}
}

static void write_ended(struct live_disk *disk, struct live_request *r, int error)
{
	unsigned end = live_cell_from(r->req.sector + r->req.nr_sectors), i;

	if (disk->frozen && !error)
		live_failed(disk, "a write ended while the disk was frozen");
	for (i = live_cell_from(r->req.sector); i < end; i++) {
		if (changes_cell(disk, &r->req, i))
			live_write_end(&disk->model, i, r->submitted, error != 0);
	}
}

void live_watch(struct live_disk *disk)
{
	uint64_t since = LIVE_EVER;
	unsigned i;

	for (i = 0; i < LIVE_REQUESTS; i++) {
		if (disk->request[i].busy && disk->request[i].submitted < since)
			since = disk->request[i].submitted;
	}
	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		if ((disk->snapshot[i].state == LIVE_CREATING || disk->snapshot[i].state == LIVE_PREPARING) &&
		    disk->snapshot[i].from < since)
			since = disk->snapshot[i].from;
	}
	if (disk->frozen && disk->frozen_at < since)
		since = disk->frozen_at;
	disk->model.watched = since;
}

static void request_done(struct block_request *req, int error)
{
	struct live_request *r = req->owner;
	struct live_disk *disk = r->disk;

	disk->model.now++;
	if (!r->busy)
		live_failed(disk, "a request has ended twice");
	if (error)
		live_note_error(disk, block_op_name(req->op), error);
	if (req->op == BLOCK_READ && !error)
		read_ended(disk, r);
	else if (req->op == BLOCK_FLUSH && !error)
		live_flush_end(&disk->model, r->submitted);
	else if (req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
		write_ended(disk, r, error);
	if (r->snapshot)
		r->snapshot->reads--;
	r->busy = false;
	live_watch(disk);
}

/* Splits the data at random sector boundaries. */
static void cut_data(struct live_disk *disk, struct live_request *r)
{
	uint64_t left = r->req.nr_sectors, n;
	uint8_t *at = r->buffer;
	int i;

	for (i = 0; left; i++) {
		n = i == LIVE_IOVS - 1 || !live_pick(disk, 3) ? left : 1 + live_pick(disk, left);
		r->iov[i] = (struct iovec){ at, n * SECTOR_SIZE };
		at += n * SECTOR_SIZE;
		left -= n;
	}
	r->req.iov = r->iov;
	r->req.iovcnt = i;
}

static void write_begin(struct live_disk *disk, struct live_request *r)
{
	unsigned first = live_cell_from(r->req.sector), end = live_cell_from(r->req.sector + r->req.nr_sectors), i;
	uint64_t tag;

	r->write = disk->model.next_write++;
	for (i = first; i < end; i++) {
		tag = r->req.op == BLOCK_WRITE ? live_tag(r->write, i) : 0;
		if (r->req.op == BLOCK_WRITE)
			sim_fill_sector(r->buffer + (size_t)(i - first) * SECTOR_SIZE, tag);
		if (changes_cell(disk, &r->req, i))
			live_write_begin(&disk->model, i, tag);
	}
}

static struct live_request *request_get(struct live_disk *disk)
{
	unsigned i;

	for (i = 0; i < LIVE_REQUESTS; i++) {
		if (!disk->request[i].busy)
			return &disk->request[i];
	}
	return NULL;
}

static struct live_request *submit(struct live_disk *disk, struct live_snapshot *snapshot, enum block_op op,
				   uint64_t sector, uint64_t nr_sectors)
{
	struct live_request *r = request_get(disk);

	if (!r)
		return NULL;
	r->req = (struct block_request){ .op = op, .sector = sector, .nr_sectors = nr_sectors, .done = request_done, .owner = r };
	r->submitted = ++disk->model.now;
	r->snapshot = snapshot;
	r->busy = true;
	live_watch(disk);
	if (snapshot)
		snapshot->reads++;
	if (op == BLOCK_READ || op == BLOCK_WRITE)
		cut_data(disk, r);
	if (op == BLOCK_READ)
		memset(r->buffer, 0xee, nr_sectors * SECTOR_SIZE);
	else if (op != BLOCK_FLUSH)
		write_begin(disk, r);
	disk->model.now++;
	backend_submit(snapshot ? snapshot->backend : disk->backend, &r->req);
	return r;
}

struct live_request *live_submit(struct live_disk *disk, enum block_op op, uint64_t sector, uint64_t nr_sectors)
{
	return submit(disk, NULL, op, sector, nr_sectors);
}

static enum block_op random_op(struct live_disk *disk)
{
	uint64_t what = live_pick(disk, 100);

	return what < 30 ? BLOCK_READ : what < 80 ? BLOCK_WRITE : what < 86 && !disk->grower.busy ? BLOCK_DISCARD :
		what < 91 ? BLOCK_WRITE_ZEROES : BLOCK_FLUSH;
}

struct live_snapshot *live_snapshot_random(struct live_disk *disk, enum live_state state)
{
	unsigned first = live_pick(disk, LIVE_SNAPSHOTS), i;

	for (i = 0; i < LIVE_SNAPSHOTS; i++) {
		if (disk->snapshot[(first + i) % LIVE_SNAPSHOTS].state == state)
			return &disk->snapshot[(first + i) % LIVE_SNAPSHOTS];
	}
	return NULL;
}

/* Most requests fall on a few islands, so that they overlap. */
static void submit_random(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_pick(disk, 8) ? NULL : live_snapshot_random(disk, LIVE_THERE);
	unsigned island = live_pick(disk, live_pick(disk, 3) ? 6 : LIVE_ISLANDS), at = live_pick(disk, LIVE_ISLAND), length;
	enum block_op op = random_op(disk);
	uint64_t sector, sectors;

	length = 1 + live_pick(disk, live_pick(disk, 4) ? 24 : LIVE_ISLAND);
	if (live_pick(disk, 2)) {
		at -= at % COW_SECTORS;
		length = (length + COW_SECTORS - 1) / COW_SECTORS * COW_SECTORS;
	}
	sector = live_sector(island * LIVE_ISLAND + at);
	sectors = length < LIVE_ISLAND - at ? length : LIVE_ISLAND - at;
	if ((op == BLOCK_DISCARD || op == BLOCK_WRITE_ZEROES) && !live_pick(disk, 4))
		sectors = 1 + live_pick(disk, 3 * LIVE_STRIDE);
	if (sector >= disk->model.sectors)
		return;
	if (sectors > disk->model.sectors - sector)
		sectors = disk->model.sectors - sector;
	if (snapshot && snapshot->backend && live_sector(island * LIVE_ISLAND + at) + sectors <= snapshot->image.sectors &&
	    length <= LIVE_ISLAND)
		submit(disk, snapshot, BLOCK_READ, sector, sectors <= LIVE_ISLAND - at ? sectors : 1);
	else if (op == BLOCK_FLUSH)
		submit(disk, NULL, op, 0, 0);
	else
		submit(disk, NULL, op, sector, sectors);
}

static bool anything_busy(const struct live_disk *disk)
{
	unsigned i;

	for (i = 0; i < LIVE_REQUESTS; i++) {
		if (disk->request[i].busy)
			return true;
	}
	return disk->frozen || disk->maker.busy || disk->freezer.busy || disk->thawer.busy || disk->remover.busy || disk->reverter.busy ||
		disk->merger.busy || disk->grower.busy;
}

uint64_t __wrap_cow_clock_now(void)
{
	return live_clock;
}

void live_reap(struct live_disk *disk)
{
	live_clock += LIVE_REAP_NS;
	engine_run_timers(&disk->crash.engine, live_clock);
	engine_commit(&disk->crash.engine);
	engine_reap(&disk->crash.engine);
}

/* Nothing is in flight below, but something has not ended: it waits for room, for a thaw, or for ever. */
static bool unstick(struct live_disk *disk, unsigned tries)
{
	if (disk->frozen && !disk->thawer.busy) {
		live_thaw(disk);
		return true;
	}
	if (!disk->backend->waiting)
		return false;
	disk->waited += disk->backend->waiting;
	if (tries < RETRIES) {
		backend_retry(disk->backend);
	} else if (tries == RETRIES && !disk->remover.busy) {
		live_delete(disk);
	} else {
		disk->faulty = true;
		backend_give_up(disk->backend);
	}
	return true;
}

void live_drain(struct live_disk *disk)
{
	unsigned tries = 0;

	while (anything_busy(disk) && !disk->failure[0]) {
		live_reap(disk);
		if (disk->crash.engine.queued == (disk->crash.held != NULL) && anything_busy(disk) && !unstick(disk, tries++)) {
			live_failed(disk, "something never ends: %u requests, %u of them for room", disk->backend->in_flight,
				    disk->backend->waiting);
			break;
		}
	}
}

void live_step(struct live_disk *disk)
{
	disk->operations++;
	if (live_pick(disk, 14) || disk->options.no_commands)
		submit_random(disk);
	else
		live_command_random(disk);
	if (disk->backend->waiting && !live_pick(disk, 20)) {
		disk->waited += disk->backend->waiting;
		backend_retry(disk->backend);
	}
	if (live_pick(disk, 3))
		live_reap(disk);
}

