/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_serve.h - for fuzz_store.c: the driver `cow` serves a store of up to
 * SERVE_SECTORS sectors on the synchronous engine, as tapdisk would, and is asked for
 * everything but a commit: reads, writes, discards, block status, snapshots.
 * All that it is asked for must end.
 */
#ifndef TESTS_FUZZ_SERVE_H
#define TESTS_FUZZ_SERVE_H

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "fuzz_input.h"

#define SERVE_SECTORS 4200u
#define SERVE_AT_ONCE 64u
#define SERVE_PIECE 64u			/* sectors */
#define SERVE_PAUSES 64			/* of the background work, which are waited for */
#define SERVE_RETRIES 3

struct serve_request {
	struct block_request req;
	struct iovec iov;
	struct block_status status;
	struct block_extent extent[8];
	uint8_t data[SERVE_PIECE * SECTOR_SIZE];
};

static struct serve_request serve_requests[SERVE_AT_ONCE];
static struct snapshot_command serve_commands;
static unsigned serve_used, serve_pending;
static bool serve_together;		/* requests are submitted before earlier ones have ended */
static struct engine *serve_engine;
static struct engine_ops serve_ops;
static void (*serve_changed)(uint64_t offset, uint64_t length);

/* Only stores are written: their bases are open for reading. */
static void serve_queue(struct engine *engine, struct engine_io *io)
{
	if (io->op == ENGINE_WRITE || io->op == ENGINE_DISCARD || io->op == ENGINE_ZERO)
		serve_changed(io->offset, io->length);
	engine_sync.queue(engine, io);
}

/* @changed is called for each change of the store, in bytes. */
static void serve_init(void (*changed)(uint64_t offset, uint64_t length))
{
	must(engine_open(&serve_engine, "sync", SERVE_AT_ONCE));
	serve_changed = changed;
	serve_ops = engine_sync;
	serve_ops.queue = serve_queue;
	serve_engine->ops = &serve_ops;
}

static void serve_run(void)
{
	do
		engine_commit(serve_engine);
	while (engine_reap(serve_engine));
}

/* What waits for room is tried again, and then fails. */
static void serve_settle(struct backend *backend)
{
	unsigned i;

	serve_run();
	for (i = 0; backend->waiting && i < SERVE_RETRIES; i++) {
		backend_retry(backend);
		serve_run();
	}
	if (backend->waiting) {
		backend_give_up(backend);
		serve_run();
	}
	assert(!serve_pending);
	serve_used = 0;
}

static void serve_done(struct block_request *req, int error)
{
	serve_pending--;
}

static void serve_command_done(struct snapshot_command *command, int error)
{
	assert(!error || command->error.text[0]);
	serve_pending--;
}

/* @on: the disk or a snapshot in the store of @disk. */
static void serve_submit(struct backend *disk, struct backend *on, enum block_op op, uint64_t sector, uint64_t nr_sectors,
			 uint32_t since)
{
	struct serve_request *r = &serve_requests[serve_used++];

	r->iov = (struct iovec){ r->data, nr_sectors * SECTOR_SIZE };
	r->status = (struct block_status){ .since = since, .extents = r->extent, .room = sizeof(r->extent) / sizeof(r->extent[0]) };
	r->req = (struct block_request){ .op = op, .sector = sector, .nr_sectors = nr_sectors, .done = serve_done };
	if (op == BLOCK_READ || op == BLOCK_WRITE) {
		r->req.iov = &r->iov;
		r->req.iovcnt = 1;
	} else if (op == BLOCK_STATUS) {
		r->req.status = &r->status;
	}
	serve_pending++;
	backend_submit(on, &r->req);
	if (!serve_together || serve_used == SERVE_AT_ONCE)
		serve_settle(disk);
}

static void serve_command(struct backend *disk, enum snapshot_op op, const char *name, uint64_t sectors)
{
	serve_commands = (struct snapshot_command){ .op = op, .name = name, .description = "", .sectors = sectors,
		.done = serve_command_done };
	serve_pending++;
	backend_snapshot(disk, &serve_commands);
	serve_settle(disk);
}

static int serve_listed(void *owner, const struct snapshot_info *info)
{
	return 0;
}

static void serve_look(struct backend *disk, struct backend *on)
{
	uint64_t sectors = on->geometry.sectors, sector;

	for (sector = 0; sector < SERVE_SECTORS && sector + 56 <= sectors; sector += 56) {
		serve_submit(disk, on, BLOCK_READ, sector, 56, 0);
		if (!on->geometry.read_only)
			serve_submit(disk, on, BLOCK_WRITE, sector, sector % 16 ? 7 : 16, 0);
	}
	if (sectors >= SERVE_PIECE)
		serve_submit(disk, on, BLOCK_READ, sectors - SERVE_PIECE, SERVE_PIECE, 0);
	for (sector = 0; sector < 4; sector++)		/* since no snapshot, and since each */
		serve_submit(disk, on, BLOCK_STATUS, 0, sectors < SERVE_SECTORS ? sectors : SERVE_SECTORS, (uint32_t)sector);
}

static void serve_change(struct backend *disk)
{
	serve_command(disk, SNAPSHOT_CREATE, "new", 0);
	serve_submit(disk, disk, BLOCK_DISCARD, 0, 400, 0);
	serve_submit(disk, disk, BLOCK_WRITE_ZEROES, 2000, 100, 0);
	serve_submit(disk, disk, BLOCK_FLUSH, 0, 0, 0);
	serve_settle(disk);
	serve_command(disk, SNAPSHOT_ABORT, "five", 0);
	serve_command(disk, SNAPSHOT_DELETE, "four", 0);
	serve_command(disk, SNAPSHOT_DELETE, "one", 0);		/* -EBUSY if it is open */
	serve_look(disk, disk);
	serve_settle(disk);
	serve_command(disk, SNAPSHOT_REVERT, "three", 0);
	must(backend_refresh_size(disk, &(struct error_text){ "" }));
	serve_command(disk, SNAPSHOT_RESIZE, NULL, disk->geometry.sectors + 8);
	must(backend_refresh_size(disk, &(struct error_text){ "" }));
}

/* The space of what was deleted is freed, in turns with pauses, which take no time here. */
static void serve_background(void)
{
	unsigned i;

	for (i = 0; i < SERVE_PAUSES && engine_next_timer(serve_engine) != UINT64_MAX; i++) {
		engine_run_timers(serve_engine, engine_next_timer(serve_engine));
		serve_run();
	}
}

static struct backend *serve_open(const char *path, const char *snapshot, bool read_only)
{
	/* nobody can decide about what is prepared: that would fail the opening */
	struct driver_options options = { .read_only = read_only, .no_direct = true, .undecided = true, .cache_bytes = 1 << 20,
		.layer_entries = 64 };
	struct error_text error = { "" };
	struct backend *backend;
	char target[64];

	snprintf(target, sizeof(target), "cow:%s%s", path, snapshot);
	if (!backend_open(&backend, serve_engine, target, &options, &error))
		return backend;
	assert(error.text[0] && !strchr(error.text, '\n'));
	return NULL;
}

static void serve(const char *path, bool read_only, bool with_snapshot, bool together)
{
	struct backend *disk = serve_open(path, "", read_only), *snapshot;

	if (!disk)
		return;
	serve_together = together;
	snapshot = with_snapshot ? serve_open(path, "@one", true) : NULL;
	backend_snapshot_list(disk, serve_listed, NULL);
	serve_look(disk, disk);
	if (snapshot)
		serve_look(disk, snapshot);
	serve_settle(disk);
	if (!disk->geometry.read_only)
		serve_change(disk);
	if (snapshot)
		backend_close(snapshot);
	serve_background();
	backend_close(disk);
}

#endif
