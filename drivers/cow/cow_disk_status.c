/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_status.c - STATUS requests to a served store: what is allocated, and
 * what has changed since a snapshot, both from the map alone.
 *
 * The answer so far is kept while a node is read, so a request progresses
 * however small the cache is. The work is bounded: at a limit the request
 * completes with the answer so far.
 */
#include <errno.h>
#include <stdlib.h>

#include "cow_disk.h"

#define MAX_COST 32768u		/* blocks and layer slots looked at: about a millisecond */
#define BASE_EXTENTS 64u
#define MAX_BASE_LOOKS 8u		/* of a request */
#define BASE_COST (MAX_COST / MAX_BASE_LOOKS)

struct look {
	struct cow_request *r;
	const struct cow_version *version, *since;
	uint64_t cost;
	struct cow_missing missing;
};

static uint64_t sector_at(const struct cow_request *r)
{
	return r->req->sector + r->req->status->nr_sectors;
}

static uint64_t sectors_left(const struct cow_request *r)
{
	return r->req->nr_sectors - r->req->status->nr_sectors;
}

/* The search of a layer costs at most the size of its table, a block costs 1. */
static uint64_t cost_of(const struct look *look, uint64_t blocks)
{
	const struct cow_version *version;
	const struct cow_layer *layer;
	uint64_t cost = 1;

	for (version = look->version; version; version = version->parent) {
		for (layer = &version->layer; layer; layer = layer->below) {
			if (layer->count)
				cost += blocks < layer->room ? blocks : layer->room;
		}
		if (version->has_tree)
			break;
	}
	return cost;
}

/* The requested sectors in @blocks blocks of one kind, from the end of the answer on. */
static uint64_t sectors_of(const struct cow_request *r, uint64_t blocks)
{
	uint64_t most = sectors_left(r), skip = sector_at(r) % COW_SECTORS;

	if (blocks > (most + skip) / COW_SECTORS)
		return most;
	return blocks * COW_SECTORS - skip;
}

/* The base answers for the parts that it shows. */
struct base_look {
	struct block_status status;
	struct block_extent extents[BASE_EXTENTS];
	bool waited_for;
	bool full;			/* the request has no room for more extents */
	unsigned count;			/* looks so far: the cost begins anew when one was waited for */
};

/* Kept in the buffer of the request's only piece, which is freed with the request. */
static struct base_look *base_look_of(struct cow_request *r)
{
	struct cow_piece *piece = r->nr_pieces ? &r->pieces[0] : NULL;

	if (!piece)
		piece = cow_request_add_piece(r, COW_PIECE_BASE, 0, 0, 0);
	if (piece && !piece->buffer)
		piece->buffer = calloc(1, sizeof(struct base_look));
	return piece ? piece->buffer : NULL;
}

static void base_status_done(struct block_request *sub, int error)
{
	struct cow_request *r = sub->owner;
	struct base_look *base = base_look_of(r);
	unsigned i;

	for (i = 0; !error && i < base->status.count; i++) {
		base->full = !block_status_add(r->req->status, base->extents[i].nr_sectors, base->extents[i].flags);
		if (base->full)
			break;
	}
	r->error = error;
	r->pending = 0;
	if (base->waited_for)
		cow_request_start(r);
}

/* True when the answer is already there. */
static bool base_status(struct cow_request *r, uint64_t nr_sectors)
{
	struct base_look *base = base_look_of(r);

	if (!base) {
		r->error = -ENOMEM;
		return true;
	}
	*base = (struct base_look){
		.count = base->count + 1,
		.status = { .hint = r->req->status->hint, .extents = base->extents, .room = BASE_EXTENTS },
	};
	r->pending = 1;
	r->pieces[0].sub = (struct block_request){
		.op = BLOCK_STATUS, .sector = sector_at(r), .nr_sectors = nr_sectors, .status = &base->status,
		.done = base_status_done, .owner = r,
	};
	backend_submit(r->disk->base_backend, &r->pieces[0].sub);
	base->waited_for = r->pending;
	return !r->pending;
}

enum step { STEP_ON, STEP_WAIT, STEP_END };

static enum step step_allocated(struct look *look, int *error)
{
	struct cow_request *r = look->r;
	uint64_t sector = sector_at(r), blocks, n, shown = cow_base_sectors(r->disk->store, look->version);
	enum cow_run_kind kind;

	*error = cow_map_run(r->disk->store, look->version, sector / COW_SECTORS, r->end, &kind, &blocks, &look->missing);
	if (*error)
		return STEP_END;
	look->cost += cost_of(look, blocks);
	n = sectors_of(r, blocks);
	if (kind != COW_RUN_ABSENT || sector >= shown)
		return block_status_add(r->req->status, n, kind == COW_RUN_STORED ? 0 : BLOCK_EXTENT_HOLE | BLOCK_EXTENT_ZERO) ?
			STEP_ON : STEP_END;
	look->cost += BASE_COST;
	if (!base_status(r, n < shown - sector ? n : shown - sector))
		return STEP_WAIT;
	*error = r->error;
	return *error || base_look_of(r)->full ? STEP_END : STEP_ON;
}

/*
 * If the two versions have different ends, or show different parts of the
 * base, everything from the first end on counts as changed.
 */
static uint64_t comparable_blocks(const struct look *look)
{
	const struct cow_store *store = look->r->disk->store;
	uint64_t base = cow_base_sectors(store, look->version), base_since = cow_base_sectors(store, look->since);
	uint64_t end = UINT64_MAX;

	if (look->version->sectors != look->since->sectors)
		end = look->version->sectors < look->since->sectors ? look->version->sectors : look->since->sectors;
	if (base != base_since)
		end = base < end ? base : end;
	if (base != base_since && base_since < end)
		end = base_since;
	return end / COW_SECTORS;
}

static enum step step_changed(struct look *look, int *error)
{
	struct cow_request *r = look->r;
	uint64_t block = sector_at(r) / COW_SECTORS, end = comparable_blocks(look), blocks = r->end - block;
	bool same = false;

	*error = 0;
	if (block < end)
		*error = cow_map_compare(r->disk->store, look->version, look->since, block, end < r->end ? end : r->end, &same,
					 &blocks, &look->missing);
	if (*error)
		return STEP_END;
	look->cost += 2 * cost_of(look, blocks);
	return block_status_add(r->req->status, sectors_of(r, blocks), same ? 0 : BLOCK_EXTENT_CHANGED) ? STEP_ON : STEP_END;
}

static bool look_begin(struct look *look)
{
	uint32_t since = look->r->req->status->since;

	look->version = cow_request_version(look->r);
	if (since)
		look->since = cow_version_find(look->r->disk->store, since);
	return !since || (look->since && !look->since->deleted);
}

/* After a look at the base that was waited for: the answer is complete, or has taken long enough. */
static bool base_ends(const struct cow_request *r)
{
	const struct base_look *base = r->nr_pieces ? r->pieces[0].buffer : NULL;

	return base && (base->full || base->count >= MAX_BASE_LOOKS);
}

void cow_status_start(struct cow_request *r)
{
	struct look look = { r };
	enum step step = base_ends(r) ? STEP_END : STEP_ON;
	int error = look_begin(&look) ? r->error : -ESTALE;	/* the snapshot was deleted meanwhile */

	while (!error && step == STEP_ON && sectors_left(r) && look.cost < MAX_COST)
		step = look.since ? step_changed(&look, &error) : step_allocated(&look, &error);
	if (error == -EAGAIN)
		cow_request_load(r, &look.missing);
	else if (step != STEP_WAIT)
		cow_request_done(r, error);
}
