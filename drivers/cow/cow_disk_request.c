/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_request.c - requests to a served store: which are running, and their
 * pieces.
 *
 * A request reads the map and submits all its pieces together. If that is not
 * possible immediately (a node must be read) or the request must wait, it has
 * had no effect yet, and is restarted later.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_disk.h"

const struct cow_version *cow_request_version(const struct cow_request *r)
{
	return r->export->snapshot ? cow_version_find(r->disk->store, r->export->snapshot) : r->disk->store->active;
}

void cow_requests_init(struct cow_requests *list)
{
	list->first = NULL;
	list->last = &list->first;
}

void cow_requests_add(struct cow_requests *list, struct cow_request *r)
{
	r->next = NULL;
	*list->last = r;
	list->last = &r->next;
}

struct cow_request *cow_requests_take(struct cow_requests *list)
{
	struct cow_request *first = list->first;

	cow_requests_init(list);
	return first;
}

void cow_requests_add_first(struct cow_requests *list, struct cow_request *r)
{
	r->next = list->first;
	list->first = r;
	if (!r->next)
		list->last = &r->next;
}

struct cow_request *cow_requests_pop(struct cow_requests *list)
{
	struct cow_request *r = list->first;

	if (!r)
		return NULL;
	list->first = r->next;
	if (!list->first)
		list->last = &list->first;
	return r;
}

struct cow_request *cow_request_get(struct cow_disk *disk, struct cow_export *export, struct block_request *req)
{
	struct cow_request *r = disk->free;

	if (r)
		disk->free = r->next;
	else
		r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->req = req;
	r->disk = disk;
	r->export = export;
	r->first = req->sector / COW_SECTORS;
	r->end = cow_blocks_for(req->sector + req->nr_sectors);		/* within the disk: no overflow */
	r->urgent = false;
	r->first_of = NULL;
	r->failed_error = 0;
	r->zeroed = req->sector;
	return r;
}

static bool is_write(const struct cow_request *r)
{
	return r->req->op != BLOCK_READ && r->req->op != BLOCK_FLUSH && r->req->op != BLOCK_STATUS;
}

void cow_request_start(struct cow_request *r)
{
	if (r->disk->reopening) {
		cow_requests_add(&r->disk->held, r);
		return;
	}
	switch (r->req->op) {
	case BLOCK_READ:
		cow_read_start(r);
		break;
	case BLOCK_WRITE:
		cow_write_start(r);
		break;
	case BLOCK_FLUSH:
		cow_flush_start(r);
		break;
	case BLOCK_STATUS:
		cow_status_start(r);
		break;
	default:
		cow_requests_add(&r->disk->zeroes, r);
		cow_task_wake(r->disk);
		break;
	}
}

void cow_request_no_room(struct cow_request *r)
{
	r->disk->full = true;
	backend_wait(r->req);
	cow_requests_add(&r->disk->no_room, r);
}

void cow_request_begin(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;

	assert(!r->running);
	r->running = true;
	r->sequence = disk->sequence++;
	r->newer = NULL;
	r->older = disk->newest;
	*(disk->newest ? &disk->newest->newer : &disk->oldest) = r;
	disk->newest = r;
	disk->writes += is_write(r);
}

static void request_end(struct cow_request *r)
{
	struct cow_disk *disk = r->disk;

	assert(r->running);
	r->running = false;
	*(r->older ? &r->older->newer : &disk->oldest) = r->newer;
	*(r->newer ? &r->newer->older : &disk->newest) = r->older;
	disk->writes -= is_write(r);
	if (r->fresh)
		cow_fresh_end(r);
	if (disk->merge && is_write(r))
		cow_merge_changed(disk, r->first, r->end);
}

/* Call when a request has ended, which others may wait for. */
static void disk_wake(struct cow_disk *disk)
{
	if (cow_retire_pending(disk))
		cow_retire_wake(disk);
	cow_task_wake(disk);
	cow_wait_wake(disk);
}

static void request_clear(struct cow_request *r)
{
	unsigned i;

	for (i = 0; i < r->nr_pieces; i++)
		free(r->pieces[i].buffer);
	r->nr_pieces = 0;
	r->error = 0;
}

void cow_request_retreat(struct cow_request *r)
{
	request_end(r);
	request_clear(r);
	disk_wake(r->disk);
}

void cow_request_done(struct cow_request *r, int error)
{
	struct block_request *req = r->req;
	struct cow_disk *disk = r->disk;
	bool running = r->running;

	if (running)
		request_end(r);
	request_clear(r);
	r->next = disk->free;
	disk->free = r;
	backend_done(req, error);
	if (running)
		disk_wake(disk);
}

struct cow_piece *cow_request_add_piece(struct cow_request *r, enum cow_piece_kind kind, uint64_t sector,
					uint64_t nr_sectors, uint64_t place)
{
	struct cow_piece *grown;

	if (r->nr_pieces == r->room_pieces) {
		grown = reallocarray(r->pieces, r->room_pieces * 2 + 2, sizeof(*grown));
		if (!grown)
			return NULL;
		r->pieces = grown;
		r->room_pieces = r->room_pieces * 2 + 2;
	}
	grown = &r->pieces[r->nr_pieces++];
	*grown = (struct cow_piece){ .kind = kind, .sector = sector, .nr_sectors = nr_sectors, .place = place };
	return grown;
}

/* The pieces cover the request in order; each may begin and end within an iovec. */
int cow_request_slice(struct cow_request *r)
{
	const struct iovec *iov = r->req->iov;
	size_t most = (size_t)r->req->iovcnt + r->nr_pieces, used = 0, at = 0, left, n;
	struct iovec *grown;
	unsigned i;

	if (r->nr_pieces == 1) {
		r->pieces[0].iov = iov;
		r->pieces[0].iovcnt = r->req->iovcnt;
		return 0;
	}
	if (r->room_iov < most) {
		grown = reallocarray(r->iov, most, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		r->iov = grown;
		r->room_iov = most;
	}
	for (i = 0; i < r->nr_pieces; i++) {
		r->pieces[i].iov = r->iov + used;
		for (left = r->pieces[i].nr_sectors * SECTOR_SIZE; left; left -= n) {
			n = iov->iov_len - at < left ? iov->iov_len - at : left;
			if (n)
				r->iov[used++] = (struct iovec){ (char *)iov->iov_base + at, n };
			at += n;
			if (at == iov->iov_len) {
				iov++;
				at = 0;
			}
		}
		r->pieces[i].iovcnt = (int)(r->iov + used - r->pieces[i].iov);
	}
	return 0;
}

void cow_piece_submit(struct cow_piece *piece, struct cow_request *r, struct backend *backend, enum block_op op,
		      uint64_t sector, uint64_t nr_sectors, const struct iovec *iov, int iovcnt,
		      void (*done)(struct block_request *sub, int error))
{
	piece->sub = (struct block_request){
		.op = op, .sector = sector, .nr_sectors = nr_sectors, .iov = iov, .iovcnt = iovcnt,
		.done = done, .owner = r, .driver_data = piece,
	};
	backend_submit(backend, &piece->sub);
}

/* A node being read, and the requests that wait for it. */
struct cow_load {
	struct cow_load *next;
	struct cow_disk *disk;
	struct cow_missing missing;
	struct cow_request *waiters;
	struct block_request req;
	struct iovec iov;
	uint8_t *bytes;
};

static bool missing_same(const struct cow_missing *a, const struct cow_missing *b)
{
	return cow_ref_same(&a->ref, &b->ref) && a->level == b->level;
}

/*
 * After an error the requests are started, too: the node may have been replaced, and its block reused, while it was being
 * read. Those that ask for the very same node again then fail.
 */
static void load_done(struct block_request *req, int error)
{
	struct cow_load *load = req->owner, **link;
	struct cow_disk *disk = load->disk;
	struct cow_request *r, *next;

	for (link = &disk->loads; *link != load; link = &(*link)->next)
		;
	*link = load->next;
	if (!error)
		error = cow_node_accept(disk->store, &load->missing.ref, load->missing.level, load->bytes);
	for (r = load->waiters; r; r = next) {
		next = r->next;
		if (error)
			r->failed = load->missing;
		r->failed_error = error;
		cow_request_start(r);
	}
	free(load->bytes);
	free(load);
}

void cow_request_load(struct cow_request *r, const struct cow_missing *missing)
{
	struct cow_disk *disk = r->disk;
	struct cow_load *load;

	if (r->failed_error && missing_same(&r->failed, missing)) {
		cow_request_done(r, r->failed_error);
		return;
	}
	for (load = disk->loads; load && load->missing.ref.where != missing->ref.where; load = load->next)
		;
	if (load) {
		r->next = load->waiters;
		load->waiters = r;
		return;
	}
	load = calloc(1, sizeof(*load));
	if (load)
		load->bytes = aligned_alloc(COW_BLOCK, COW_BLOCK);
	if (!load || !load->bytes) {
		free(load);
		cow_request_done(r, -ENOMEM);
		return;
	}
	load->disk = disk;
	load->missing = *missing;
	load->waiters = r;
	r->next = NULL;
	load->next = disk->loads;
	disk->loads = load;
	load->iov = (struct iovec){ load->bytes, COW_BLOCK };
	load->req = (struct block_request){
		.op = BLOCK_READ, .sector = cow_entry_block(missing->ref.where) * COW_SECTORS, .nr_sectors = COW_SECTORS,
		.iov = &load->iov, .iovcnt = 1, .done = load_done, .owner = load,
	};
	backend_submit(disk->backend, &load->req);
}
