/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_read.c - read the active disk, or a snapshot, of a served store.
 * Blocks that are adjacent on the disk and in the store form one piece. If a
 * few blocks of a range have been written elsewhere since, the rest is still
 * read in one request, and the data in between is discarded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_disk.h"

#define JOIN_GAP (8 * COW_SECTORS)	/* largest gap, in sectors, that is read and discarded */

/* The kind of piece for @entry, at @block. */
static enum cow_piece_kind kind_of(const struct cow_disk *disk, const struct cow_version *version, uint64_t block,
				   uint64_t entry)
{
	if (cow_entry_block(entry))
		return COW_PIECE_STORE;
	return !entry && cow_map_shows_base(disk->store, version, block) ? COW_PIECE_BASE : COW_PIECE_ZERO;
}

static bool continues(const struct cow_piece *last, enum cow_piece_kind kind, uint64_t place)
{
	return last->kind == kind &&
		(kind != COW_PIECE_STORE || place == last->place + (last->sector % COW_SECTORS + last->nr_sectors) / COW_SECTORS);
}

/* The base may end within its last block; after its end the disk reads as zeros. */
static int add_base_tail(struct cow_request *r, const struct cow_version *version)
{
	struct cow_piece *last = &r->pieces[r->nr_pieces - 1];
	uint64_t there = cow_base_sectors(r->disk->store, version), rest;

	if (last->kind != COW_PIECE_BASE || last->sector + last->nr_sectors <= there)
		return 0;
	if (last->sector >= there) {
		last->kind = COW_PIECE_ZERO;
		return 0;
	}
	rest = last->sector + last->nr_sectors - there;
	last->nr_sectors -= rest;
	return cow_request_add_piece(r, COW_PIECE_ZERO, there, rest, 0) ? 0 : -ENOMEM;
}

/* 0, -EAGAIN with the missing node, or an error. */
static int read_map(struct cow_request *r, struct cow_missing *missing)
{
	const struct cow_version *version = cow_request_version(r);
	uint64_t sector = r->req->sector, end = sector + r->req->nr_sectors, entry, n;
	struct cow_piece *last = NULL;
	enum cow_piece_kind kind;
	int ret;

	for (; sector < end; sector += n) {
		n = COW_SECTORS - sector % COW_SECTORS;
		n = n < end - sector ? n : end - sector;
		ret = cow_map_lookup(r->disk->store, version, sector / COW_SECTORS, &entry, missing);
		if (ret)
			return ret;
		kind = kind_of(r->disk, version, sector / COW_SECTORS, entry);
		if (last && continues(last, kind, cow_entry_block(entry))) {
			last->nr_sectors += n;
			continue;
		}
		if (last && add_base_tail(r, version))
			return -ENOMEM;
		last = cow_request_add_piece(r, kind, sector, n, cow_entry_block(entry));
		if (!last)
			return -ENOMEM;
	}
	return add_base_tail(r, version);
}

/* The first sector of the store that the piece reads. */
static uint64_t store_sector(const struct cow_piece *piece)
{
	return piece->place * COW_SECTORS + piece->sector % COW_SECTORS;
}

struct join {
	struct cow_request *r;
	size_t used;			/* of r->joined */
};

static void join_add(struct join *join, const struct iovec *iov, int iovcnt)
{
	memcpy(join->r->joined + join->used, iov, (size_t)iovcnt * sizeof(*iov));
	join->used += (size_t)iovcnt;
}

/* Data to discard; several requests may read into this memory at a time. */
static void join_skip(struct join *join, uint64_t nr_sectors)
{
	static uint8_t nowhere[JOIN_GAP * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK)));

	join_add(join, &(struct iovec){ nowhere, nr_sectors * SECTOR_SIZE }, 1);
}

/* Reads with @first the later pieces that have the same distance from it in the store as on the disk. */
static void join_rest(struct join *join, struct cow_piece *first, struct cow_piece *end)
{
	uint64_t sectors = first->nr_sectors, gap;
	size_t start = join->used;
	struct cow_piece *piece;

	join_add(join, first->iov, first->iovcnt);
	for (piece = first + 1; piece < end; piece++) {
		gap = piece->sector - (first->sector + sectors);
		if (gap > JOIN_GAP)
			break;
		if (piece->kind != COW_PIECE_STORE || store_sector(piece) != store_sector(first) + sectors + gap)
			continue;
		if (gap)
			join_skip(join, gap);
		join_add(join, piece->iov, piece->iovcnt);
		sectors += gap + piece->nr_sectors;
		piece->kind = COW_PIECE_JOINED;
	}
	first->nr_sectors = sectors;
	first->iov = join->r->joined + start;
	first->iovcnt = (int)(join->used - start);
}

static int pieces_join(struct cow_request *r)
{
	struct join join = { r };
	size_t most = (size_t)r->req->iovcnt + 2 * r->nr_pieces;
	struct iovec *grown;
	unsigned i;

	/* Joining needs a third piece between two. */
	if (r->nr_pieces < 3 || most > ENGINE_MAX_IOV)
		return 0;
	if (r->room_joined < most) {
		grown = reallocarray(r->joined, most, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		r->joined = grown;
		r->room_joined = most;
	}
	for (i = 0; i < r->nr_pieces; i++) {
		if (r->pieces[i].kind == COW_PIECE_STORE)
			join_rest(&join, &r->pieces[i], r->pieces + r->nr_pieces);
	}
	return 0;
}

static void read_done(struct block_request *sub, int error)
{
	struct cow_request *r = sub->owner;

	if (error && !r->error)
		r->error = error;
	if (!--r->pending)
		cow_request_done(r, r->error);
}

static void piece_zero(const struct cow_piece *piece)
{
	int i;

	for (i = 0; i < piece->iovcnt; i++)
		memset(piece->iov[i].iov_base, 0, piece->iov[i].iov_len);
}

static void piece_read(struct cow_request *r, struct cow_piece *piece)
{
	struct cow_disk *disk = r->disk;
	bool stored = piece->kind == COW_PIECE_STORE;

	if (piece->kind == COW_PIECE_ZERO || piece->kind == COW_PIECE_JOINED) {
		if (piece->kind == COW_PIECE_ZERO)
			piece_zero(piece);
		read_done(&(struct block_request){ .owner = r }, 0);
		return;
	}
	cow_piece_submit(piece, r, stored ? disk->backend : disk->base_backend, BLOCK_READ,
			 stored ? store_sector(piece) : piece->sector, piece->nr_sectors, piece->iov, piece->iovcnt, read_done);
}

void cow_read_start(struct cow_request *r)
{
	struct cow_missing missing;
	unsigned i, n;
	int ret;

	r->nr_pieces = 0;
	ret = read_map(r, &missing);
	if (!ret)
		ret = cow_request_slice(r);
	if (!ret)
		ret = pieces_join(r);
	if (ret == -EAGAIN) {
		cow_request_load(r, &missing);
		return;
	}
	if (ret) {
		cow_request_done(r, ret);
		return;
	}
	cow_request_begin(r);
	r->pending = n = r->nr_pieces;
	for (i = 0; i < n; i++)		/* the last one may complete and free r */
		piece_read(r, &r->pieces[i]);
}
