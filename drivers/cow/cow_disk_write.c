/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_write.c - write to the active disk of a served store.
 *
 * Blocks that only the active disk holds are overwritten in place. Other
 * blocks get new places, and the map changes after the whole request has been
 * written. If a block is not written whole, the rest is read first; so
 * while a request has fresh blocks, no other request may write to them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_disk.h"

static void write_done(struct block_request *sub, int error);

static bool continues(const struct cow_piece *last, enum cow_piece_kind kind, uint64_t place)
{
	if (last->kind != kind || kind == COW_PIECE_PART)
		return false;
	return kind == COW_PIECE_FRESH ||
		place == last->place + (last->sector % COW_SECTORS + last->nr_sectors) / COW_SECTORS;
}

/* Cuts the request into pieces; fresh ones have no place yet. 0, -EAGAIN with the missing node, or an error. */
static int write_map(struct cow_request *r, struct cow_missing *missing)
{
	struct cow_store *store = r->disk->store;
	uint64_t sector = r->req->sector, end = sector + r->req->nr_sectors, entry, n;
	uint32_t shared = cow_map_shared_until(store);
	struct cow_piece *last = NULL;
	enum cow_piece_kind kind;
	int ret;

	for (; sector < end; sector += n) {
		n = COW_SECTORS - sector % COW_SECTORS;
		n = n < end - sector ? n : end - sector;
		ret = cow_map_lookup(store, store->active, sector / COW_SECTORS, &entry, missing);
		if (ret)
			return ret;
		if (cow_entry_block(entry) && cow_entry_birth(entry) > shared)
			kind = COW_PIECE_STORE;
		else
			kind = n == COW_SECTORS ? COW_PIECE_FRESH : COW_PIECE_PART;
		if (last && continues(last, kind, cow_entry_block(entry))) {
			last->nr_sectors += n;
		} else {
			last = cow_request_add_piece(r, kind, sector, n, cow_entry_block(entry));
			if (!last)
				return -ENOMEM;
			last->old = entry;
		}
		if (kind != COW_PIECE_STORE)
			r->fresh_blocks++;
	}
	return 0;
}

static bool is_fresh(const struct cow_piece *piece)
{
	return piece->kind == COW_PIECE_FRESH || piece->kind == COW_PIECE_PART;
}

static uint64_t piece_blocks(const struct cow_piece *piece)
{
	return piece->kind == COW_PIECE_PART ? 1 : piece->nr_sectors / COW_SECTORS;
}

static void places_return(struct cow_request *r)
{
	unsigned i;

	for (i = 0; i < r->nr_pieces; i++) {
		if (is_fresh(&r->pieces[i]) && r->pieces[i].place)
			cow_alloc_return(r->disk->store, r->pieces[i].place, piece_blocks(&r->pieces[i]));
	}
}

/* Makes the rest of piece @at, from @blocks on, a piece of its own. */
static int piece_split(struct cow_request *r, unsigned at, uint64_t blocks)
{
	uint64_t sectors = blocks * COW_SECTORS;
	struct cow_piece *piece = cow_request_add_piece(r, COW_PIECE_FRESH, 0, 0, 0);

	if (!piece)
		return -ENOMEM;
	piece = &r->pieces[at];
	memmove(piece + 2, piece + 1, (r->nr_pieces - at - 2) * sizeof(*piece));
	piece[1] = *piece;
	piece[1].place = 0;
	piece[1].sector += sectors;
	piece[1].nr_sectors -= sectors;
	piece->nr_sectors = sectors;
	return 0;
}

/* A request waits for prefilled places only once: there may never be enough of them for it. */
static bool place_ready(const struct cow_request *r, uint64_t count, uint64_t *most)
{
	unsigned bit;

	*most = UINT64_MAX;
	return r->urgent ? cow_alloc_ready(r->disk->store, &bit) : cow_prefill_ready(r->disk, count, most);
}

/* A growth may take long: it begins before the file is full. -EAGAIN: it must end first. */
static int places_room(const struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	uint64_t room;

	if (!disk->device.ops->resize)
		return 0;
	room = cow_alloc_room(disk->store);
	if (room < r->fresh_blocks)
		return -EAGAIN;
	disk->want_growth = room - r->fresh_blocks < COW_GROW_AHEAD && !disk->growth_failed;
	return 0;
}

/* Places for all fresh blocks, or for none. -EAGAIN: the bitmap must be read first, or the file grow. */
static int places_find(struct cow_request *r)
{
	struct cow_store *store = r->disk->store;
	struct cow_piece *piece;
	uint64_t most, got;
	unsigned i;
	int ret = places_room(r);

	for (i = 0; i < r->nr_pieces; i++) {
		if (is_fresh(&r->pieces[i]))
			r->pieces[i].place = 0;
	}
	for (i = 0; !ret && i < r->nr_pieces; i++) {
		piece = &r->pieces[i];
		if (!is_fresh(piece))
			continue;
		ret = place_ready(r, piece_blocks(piece), &most) ? 0 : -EAGAIN;
		if (!ret)
			ret = cow_alloc_run(store, piece_blocks(piece) < most ? piece_blocks(piece) : most, true,
					    &piece->place, &got);
		if (!ret && got < piece_blocks(piece)) {
			ret = piece_split(r, i, got);
			if (ret)
				cow_alloc_return(store, r->pieces[i].place, got);
			if (ret)
				r->pieces[i].place = 0;
		}
	}
	if (ret)
		places_return(r);
	return ret;
}

/*
 * The log must have room for all changes so far and those in flight, in case one flush logs them all. One request may
 * always go, however large; but not during a checkpoint, because the log does not get emptier until its end.
 */
static bool log_has_room(const struct cow_request *r)
{
	const struct cow_disk *disk = r->disk;
	const struct cow_store *store = disk->store;
	uint64_t waiting = cow_flush_bytes(store), size = store->log.size;
	uint64_t bytes = waiting + (disk->fresh_blocks + r->fresh_blocks) * sizeof(struct cow_map_element);

	if (store->checkpoint && bytes > cow_log_room(&store->log))
		return false;
	return disk->changing ? bytes <= size / 4 : waiting <= size / 8;
}

/* True: the request may change the map now. False: it is waiting for that. */
static bool write_admitted(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	struct cow_store *store = disk->store;

	if (disk->full) {
		cow_request_no_room(r);
		return false;
	}
	if (cow_checkpoint_due(store))
		disk->want_checkpoint = true;
	/* requests behind one that waits for log space wait, too: otherwise small ones could starve a large one */
	if (!disk->exclusive && !disk->want_checkpoint && !cow_line_before(&disk->gate, r) && log_has_room(r) &&
	    cow_checkpoint_keeps_up(store))
		return true;
	cow_line_wait(&disk->gate, r);
	cow_task_wake(disk);
	return false;
}

static void write_no_room(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;

	if (!cow_task_room_by_checkpoint(disk)) {
		cow_request_no_room(r);
		return;
	}
	cow_line_wait(&disk->gate, r);
	cow_task_wake(disk);
}

/* True: all its fresh blocks have places. False: the request waits, or has ended. */
static bool write_placed(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	int ret;

	if (!write_admitted(r))
		return false;
	ret = cow_layer_reserve(&disk->store->active->layer, disk->fresh_blocks + r->fresh_blocks);
	if (!ret)
		ret = places_find(r);
	if (!ret) {
		disk->no_room_tried = false;
		return true;
	}
	if (ret == -EAGAIN) {
		r->urgent = true;
		disk->want_places = true;
		cow_line_wait(&disk->places, r);
		cow_task_wake(disk);
	} else if (ret == -ENOSPC) {
		write_no_room(r);
	} else {
		cow_request_done(r, ret);
	}
	return false;
}

static void map_change(struct cow_request *r)
{
	struct cow_store *store = r->disk->store;
	const struct cow_piece *piece;
	uint64_t i;
	unsigned p;

	for (p = 0; p < r->nr_pieces; p++) {
		piece = &r->pieces[p];
		if (!is_fresh(piece))
			continue;
		for (i = 0; i < piece_blocks(piece); i++)
			cow_layer_set(&store->active->layer, piece->sector / COW_SECTORS + i,
				      cow_entry(piece->place + i, store->generation), true);
		cow_journal_map(store, piece->sector / COW_SECTORS, cow_entry(piece->place, store->generation),
				piece_blocks(piece));
	}
}

static void write_end(struct cow_request *r)
{
	int error = r->error;

	if (!error)
		map_change(r);
	else
		places_return(r);
	if (error != -ENOSPC && error != -EDQUOT) {
		cow_request_done(r, error);
		return;
	}
	/* The file system below is full. */
	cow_request_retreat(r);
	cow_request_no_room(r);
}

static void write_done(struct block_request *sub, int error)
{
	struct cow_request *r = sub->owner;

	if (error && !r->error)
		r->error = error;
	if (!--r->pending)
		write_end(r);
}

static void part_write(struct cow_request *r, struct cow_piece *piece)
{
	uint8_t *at = (uint8_t *)piece->buffer + piece->sector % COW_SECTORS * SECTOR_SIZE;
	int i;

	for (i = 0; i < piece->iovcnt; i++) {
		memcpy(at, piece->iov[i].iov_base, piece->iov[i].iov_len);
		at += piece->iov[i].iov_len;
	}
	piece->buffer_iov = (struct iovec){ piece->buffer, COW_BLOCK };
	cow_piece_submit(piece, r, r->disk->backend, BLOCK_WRITE, piece->place * COW_SECTORS, COW_SECTORS,
			 &piece->buffer_iov, 1, write_done);
}

static void part_read_done(struct block_request *sub, int error)
{
	if (error)
		write_done(sub, error);
	else
		part_write(sub->owner, sub->driver_data);
}

/* Reads the block's old contents, adds the new part, and writes all of it to the new place. */
static void part_start(struct cow_request *r, struct cow_piece *piece)
{
	struct cow_store *store = r->disk->store;
	uint64_t block = piece->sector / COW_SECTORS, sector = block * COW_SECTORS, there = COW_SECTORS;
	struct backend *from = r->disk->backend;

	if (cow_entry_block(piece->old)) {
		sector = cow_entry_block(piece->old) * COW_SECTORS;
	} else if (!piece->old && cow_map_shows_base(store, store->active, block)) {
		from = r->disk->base_backend;
		there = cow_base_sectors(store, store->active) - sector;
		there = there < COW_SECTORS ? there : COW_SECTORS;
	} else {
		there = 0;
	}
	memset(piece->buffer, 0, COW_BLOCK);
	if (!there) {
		part_write(r, piece);
		return;
	}
	piece->buffer_iov = (struct iovec){ piece->buffer, there * SECTOR_SIZE };
	cow_piece_submit(piece, r, from, BLOCK_READ, sector, there, &piece->buffer_iov, 1, part_read_done);
}

static void piece_write(struct cow_request *r, struct cow_piece *piece)
{
	uint64_t sector = piece->place * COW_SECTORS;

	if (piece->kind == COW_PIECE_PART) {
		part_start(r, piece);
		return;
	}
	if (piece->kind == COW_PIECE_STORE)
		sector += piece->sector % COW_SECTORS;
	cow_piece_submit(piece, r, r->disk->backend, BLOCK_WRITE, sector, piece->nr_sectors, piece->iov, piece->iovcnt,
			 write_done);
}

static int buffers_get(struct cow_request *r)
{
	unsigned i;

	for (i = 0; i < r->nr_pieces; i++) {
		if (r->pieces[i].kind != COW_PIECE_PART)
			continue;
		r->pieces[i].buffer = aligned_alloc(COW_BLOCK, COW_BLOCK);
		if (!r->pieces[i].buffer)
			return -ENOMEM;
	}
	return 0;
}

static void write_run(struct cow_request *r)
{
	unsigned i, n;
	int ret;

	ret = cow_request_slice(r);
	if (!ret && r->fresh_blocks)
		ret = buffers_get(r);
	if (ret) {
		places_return(r);
		cow_request_done(r, ret);
		return;
	}
	cow_request_begin(r);
	if (r->fresh_blocks)
		cow_fresh_begin(r);
	r->pending = n = r->nr_pieces;
	for (i = 0; i < n; i++)		/* the last one may complete and free r */
		piece_write(r, &r->pieces[i]);
}

void cow_write_start(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;
	struct cow_missing missing;
	int ret;

	r->nr_pieces = 0;
	r->fresh_blocks = 0;
	if (disk->store->failed) {
		cow_request_done(r, disk->store->failed);
		return;
	}
	if (disk->frozen) {
		cow_requests_add(&disk->held, r);
		return;
	}
	if (cow_wait_overlapping(r))
		return;
	ret = write_map(r, &missing);
	if (ret == -EAGAIN) {
		cow_request_load(r, &missing);
	} else if (ret) {
		cow_request_done(r, ret);
	} else if (!r->fresh_blocks) {
		write_run(r);
	} else {
		/* Fibers can start other requests, so wake them when this one counts as running, for overlaps. */
		if (write_placed(r)) {
			write_run(r);
			cow_prefill_ahead(disk);
			if (disk->want_growth)
				cow_task_wake(disk);
		}
		if (cow_flush_bytes(disk->store) > disk->store->log.size / 8)
			cow_flusher_wake(disk);
	}
}
