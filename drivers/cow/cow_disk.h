/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk.h - a store that is being served: shared by the files of the
 * driver `cow`. They do what the library does (cow_internal.h), but without
 * blocking, for many requests at a time.
 *
 *   cow.c               the driver: exports
 *   cow_disk_open.c     open a store, and its base
 *   cow_disk_close.c    close it
 *   cow_disk_request.c  requests: which are running, and their pieces
 *   cow_disk_wait.c     writes that wait, in one list for each reason
 *   cow_disk_read.c     reads
 *   cow_disk_write.c    writes
 *   cow_disk_status.c   queries of what is allocated, and what has changed
 *   cow_disk_flusher.c  flushes
 *   cow_disk_prefill.c  free blocks that are written before they are needed
 *   cow_disk_task.c     the task: checkpoints, commands, zeroing, deletion, one after the other
 *   cow_disk_command.c  commands: create, prepare, delete and revert to snapshots; resize
 *   cow_disk_merge.c    the commit to the base while the disk is in use
 *   cow_disk_retire.c   from freed to free, and to holes
 *   cow_disk_pace.c     limit the time for background work
 *   cow_disk_reopen.c   reopen a read-only store for writing
 *   cow_disk_io.c       the library's own I/O, in fibers
 *
 *        request ---> held (frozen, overlap, gate, places: cow_disk_wait.c) ---> running ---> done
 *                        ^                                                  |
 *                        +----- a node of the map has to be read first <----+
 *
 * Invariants:
 * 1. Everything happens on the engine's thread. The store in memory changes
 *    only between two returns to the event loop, or in a fiber.
 * 2. There are at most four fibers: the task's (checkpoint, commands, zeroing,
 *    deletion, one after the other), the flusher's, the filler's, the retirer's.
 *    The fiber that opens or closes the store is alone.
 * 3. The gate: a request that will change the map (it has fresh blocks in
 *    flight) counts in `changing`. Work that needs an unchanging map is
 *    `exclusive`: it starts when `changing` is 0, which then stays 0 until it
 *    ends. Reads, and writes in place, are not affected.
 * 4. Frozen: no write is running, and none begins.
 * 5. No two running requests have fresh blocks for the same disk block.
 * 6. A store block that was freed is not reused before every request that
 *    was running then has ended (cow_disk_retire.c).
 * 7. The library's flush runs in one fiber at a time (`flush_locked`).
 */
#ifndef DRIVERS_COW_DISK_H
#define DRIVERS_COW_DISK_H

#include <sys/types.h>

#include "cow_internal.h"
#include "fiber.h"

struct cow_export;
struct cow_merge;
struct cow_request;
struct cow_piece;
struct stat;

struct cow_requests {
	struct cow_request *first, **last;
};

/* A queue: requests are retried in order, until one has to stay. */
struct cow_line {
	struct cow_requests waiting;
	bool again;			/* retry the first: what it waits for may be there */
};

struct cow_retired {
	struct cow_retired *next;
	struct cow_list blocks;
	uint64_t sequence;		/* requests from this number on began after the blocks were freed */
};

/* cow_disk_pace.c: one kind of background work. */
struct cow_pace {
	struct cow_disk *disk;
	unsigned rest;			/* length of a pause, in multiples of the turn before it */
	void (*wake)(struct cow_disk *disk);	/* called when the next turn is due */
	struct engine_timer timer;	/* set during a pause */
	uint64_t begun;			/* start of the turn: CLOCK_MONOTONIC, ns */
	uint64_t seen;			/* requests begun before the last pause */
	bool idle;			/* no request has begun since, at the last check */
};

struct cow_disk {
	struct cow_device device;	/* first: the store's, see cow_disk_io.c */
	struct cow_disk *next;		/* next open store in this process */
	dev_t dev;
	ino_t ino;
	struct engine *engine;
	struct backend *backend;	/* the store's bytes */
	struct backend *reader;		/* cow_disk_reopen.c: the read-only backend, which holds the locks. NULL: not reopened */
	struct backend *base_backend;	/* NULL: no base */
	struct cow_store *store;
	bool read_only;
	bool opening;			/* nobody else can open it */
	bool reopening;			/* cow_disk_reopen.c: all requests wait */
	const struct cow_disk *above;	/* opening: as the base of this store */
	unsigned exports;
	struct cow_export *active;	/* the export that serves the active disk; NULL: none */
	struct cow_export *snapshots;

	struct cow_merge *merge;		/* NULL: no commit is running */

	struct cow_request *free;
	struct cow_request *oldest, *newest;	/* running, in the order in which they began */
	struct cow_request *fresh;		/* of those: with fresh blocks */
	struct cow_requests held, overlapping, ready;		/* cow_disk_wait.c; so are those below */
	struct cow_line gate, places;
	struct cow_requests no_room;
	uint64_t sequence;			/* number of the next request that begins */
	unsigned writes;			/* running requests of all kinds that change the disk */
	unsigned changing;			/* of those: with fresh blocks */
	uint64_t fresh_blocks;			/* the fresh blocks of those */
	bool gate_asks;				/* no memory for the flusher: retry the first when any request ends */
	bool restarting;
	bool full;				/* no space: requests that need fresh blocks wait for retry() */
	struct cow_load *loads;			/* nodes being read for requests */

	struct fiber *task;			/* NULL: nothing to do */
	bool task_waits;			/* the task waits for wake, not for I/O */
	bool exclusive, frozen, stopping;	/* stopping: being closed; no export is added */
	enum { CLOSE_WAITS, CLOSE_WRITES, CLOSE_ENDED } close;	/* if stopping: for the fibers below; in a fiber; nothing is left */
	bool freezing, stands;			/* freezing: a FREEZE waits, is running, or holds; stands: it holds */
	bool want_places, want_growth, want_checkpoint, want_delete, want_catch_up;
	bool growth_failed;			/* do not grow ahead until a growth succeeds, or retry() */
	struct engine_timer room_timer;		/* set: records or a superblock found no room, and will be tried again */
	struct cow_pace delete_pace;
	bool yields;				/* the running checkpoint may be aborted for an urgent command */
	bool no_room_tried;			/* a checkpoint has not freed any space */
	struct snapshot_command *commands, **last_command;
	struct snapshot_command *thaw;		/* the THAW or PREPARE that ends the freeze */
	struct cow_requests zeroes;
	uint32_t deleting;			/* id of the snapshot that is being deleted */
	uint64_t stop_time;			/* CLOCK_MONOTONIC, ns */

	struct fiber *flusher;
	bool flush_locked, flush_wanted;
	struct fiber *flush_waiter;		/* a fiber that waits for the lock */
	struct cow_requests flushes;

	struct fiber *filler;
	size_t filled_page;
	unsigned filled_to;			/* blocks from the cursor to here are filled, and ready for data */

	struct fiber *retirer;
	bool retirer_waits;
	struct cow_pace hole_pace;
	unsigned last_holes;			/* holes made since stopping */
	struct cow_retired *retired, **last_retired;
};

/* An open backend's view: the active disk, or a snapshot. */
struct cow_export {
	struct cow_disk *disk;
	struct cow_export *next;		/* next snapshot */
	uint32_t snapshot;		/* id; 0: the active disk */
	uint64_t sectors;
	bool read_only;
};

enum cow_piece_kind {
	COW_PIECE_STORE,		/* in the store, read or written in place */
	COW_PIECE_ZERO,
	COW_PIECE_BASE,
	COW_PIECE_JOINED,		/* read together with an earlier STORE piece */
	COW_PIECE_FRESH,		/* whole blocks, written to a new place */
	COW_PIECE_PART,			/* part of a block; the whole block is written to a new place */
};

struct cow_piece {
	enum cow_piece_kind kind;
	uint64_t sector, nr_sectors;	/* of the disk */
	uint64_t place;			/* STORE, FRESH, PART: store block of the first */
	uint64_t old;			/* PART: the previous entry */
	void *buffer;			/* PART: the block; for a status request: the base's answer */
	struct iovec buffer_iov;
	const struct iovec *iov;	/* the request's data for this piece */
	int iovcnt;
	struct block_request sub;
};

struct cow_request {
	struct block_request *req;
	struct cow_disk *disk;
	struct cow_export *export;
	struct cow_request *next;		/* in the free list, a waiting list, ... */
	struct cow_request *older, *newer;	/* running */
	uint64_t sequence;
	bool running, fresh;			/* fresh: has pieces with new places */
	struct cow_request *fresh_next, **fresh_link;	/* fresh */
	unsigned overlaps;			/* in overlapping: number of fresh requests that it overlaps */
	const struct cow_line *first_of;	/* the queue that it was first of: no other may overtake it */
	bool urgent;				/* has waited for places once: now takes any free blocks */
	struct cow_missing failed;		/* the last node that could not be loaded for it, */
	int failed_error;			/* and why; 0: none */
	uint64_t first, end;			/* disk blocks */
	struct cow_piece *pieces;
	unsigned nr_pieces, room_pieces;
	struct iovec *iov, *joined;		/* joined: for pieces read together */
	size_t room_iov, room_joined;
	unsigned pending;
	int error;
	uint64_t fresh_blocks;
	uint64_t zeroed;		/* discard or zeroing: done up to this sector */
};

/* cow_disk_io.c: the library's I/O; call only in a fiber. */
extern const struct cow_device_ops cow_disk_file_ops, cow_disk_blkdev_ops;
int cow_disk_write(struct cow_disk *disk, const struct iovec *iov, int iovcnt, uint64_t offset, uint64_t length);
int cow_disk_base_read(void *disk, void *data, uint64_t sector, uint64_t nr_sectors);
/* Makes the file of @backend at least @size bytes long. */
int cow_disk_enlarge(struct cow_disk *disk, struct backend *backend, uint64_t size);
/* Runs @run(@arg) in a helper thread of the engine. */
int cow_disk_call(struct engine *engine, int (*run)(void *arg), void *arg);
/*
 * Runs @run(@arg) in a fiber. The caller waits: in a fiber, it yields; otherwise the engine runs until that has ended, and
 * the event loop does not.
 */
int cow_disk_run(struct cow_disk *disk, void (*run)(void *arg), void *arg);
/* Runs the engine until @ready(@disk). */
void cow_disk_wait(struct cow_disk *disk, bool (*ready)(struct cow_disk *disk));

/* cow_disk_open.c. find: the store in that file, NULL: this process does not have it open. forget: take it from memory. */
struct cow_disk *cow_disk_find(const struct stat *st);
int cow_disk_open(struct cow_disk **result, struct engine *engine, const char *path, const struct stat *st,
		  const struct driver_options *options, struct error_text *error);
void cow_disk_forget(struct cow_disk *disk);
int cow_disk_open_backend(struct cow_disk *disk, struct backend **backend, const char *path,
			  const struct driver_options *options, struct error_text *error);
void cow_disk_set_store(struct cow_disk *disk, struct cow_store *store);

/* cow_disk_close.c. finish: call until it returns true, after I/O has completed; not in a fiber of the disk. */
bool cow_disk_finish(struct cow_disk *disk);
void cow_disk_close(struct cow_disk *disk);

/* cow_disk_reopen.c: reopen a read-only store for writing; on failure it stays read-only. */
int cow_disk_reopen(struct cow_disk *disk, const char *path, const struct driver_options *options,
		    struct error_text *error);
/* Commit or abort prepared snapshots by their decision, in a store that is open for writing for its snapshots only. */
int cow_disk_settle(struct cow_disk *disk, struct error_text *error);

/* cow_disk_request.c */
const struct cow_version *cow_request_version(const struct cow_request *r);
void cow_requests_init(struct cow_requests *list);
void cow_requests_add(struct cow_requests *list, struct cow_request *r);
void cow_requests_add_first(struct cow_requests *list, struct cow_request *r);
struct cow_request *cow_requests_pop(struct cow_requests *list);	/* the first; NULL: none */
struct cow_request *cow_requests_take(struct cow_requests *list);	/* all of it */
struct cow_request *cow_request_get(struct cow_disk *disk, struct cow_export *export, struct block_request *req);
void cow_request_start(struct cow_request *r);
void cow_request_no_room(struct cow_request *r);
/* From here on @r counts as running. */
void cow_request_begin(struct cow_request *r);
/* @r is no longer running; the caller restarts it. */
void cow_request_retreat(struct cow_request *r);
/* Complete @r, and free it. */
void cow_request_done(struct cow_request *r, int error);
struct cow_piece *cow_request_add_piece(struct cow_request *r, enum cow_piece_kind kind, uint64_t sector,
					uint64_t nr_sectors, uint64_t place);
/* Gives each piece its part of the data. */
int cow_request_slice(struct cow_request *r);
void cow_piece_submit(struct cow_piece *piece, struct cow_request *r, struct backend *backend, enum block_op op,
		      uint64_t sector, uint64_t nr_sectors, const struct iovec *iov, int iovcnt,
		      void (*done)(struct block_request *sub, int error));
/* Reads a node of the map, then restarts @r. */
void cow_request_load(struct cow_request *r, const struct cow_missing *missing);

/* cow_disk_wait.c. Call when @r, which is running and has fresh blocks, begins; and when it ends. */
void cow_fresh_begin(struct cow_request *r);
void cow_fresh_end(struct cow_request *r);
/* True: a running request has fresh blocks in @r's range, and @r waits until that has ended. */
bool cow_wait_overlapping(struct cow_request *r);
void cow_line_init(struct cow_line *line);
/* True if others are in the queue before @r. */
bool cow_line_before(const struct cow_line *line, const struct cow_request *r);
void cow_line_wait(struct cow_line *line, struct cow_request *r);
/* Call when a request has ended. */
void cow_wait_wake(struct cow_disk *disk);
/* Retry waiting requests, as what they wait for may be there now; other than by the end of a request. */
void cow_disk_kick(struct cow_disk *disk);
/* Call when the running checkpoint has progressed. */
void cow_wait_checkpoint_on(struct cow_disk *disk);
/* End the requests in @line with @error. */
void cow_line_fail(struct cow_line *line, int error);
/* No fiber is running that would help, and there is no memory for one: waiting requests wait as for space. */
void cow_wait_give_up(struct cow_disk *disk);

/* cow_disk_read.c, cow_disk_status.c, cow_disk_write.c */
void cow_read_start(struct cow_request *r);
void cow_status_start(struct cow_request *r);
void cow_write_start(struct cow_request *r);

/* cow_disk_flusher.c */
void cow_flush_start(struct cow_request *r);
void cow_flusher_wake(struct cow_disk *disk);
/* In a fiber: the caller has the library's flush to itself from lock to unlock. */
void cow_flush_lock(struct cow_disk *disk);
void cow_flush_unlock(struct cow_disk *disk);

/* cow_disk_task.c */
#define COW_GROW_AHEAD (COW_PAGE_BITS / 2)	/* blocks: with less room than that a file grows, before it is needed */
void cow_task_wake(struct cow_disk *disk);		/* there may be work, or a wait may be over */
void cow_task_wait(struct cow_disk *disk);		/* in the task's fiber, until cow_task_wake() */
void cow_task_init(struct cow_disk *disk);
/* If @error says so, the store's own writes find no room: try again later. */
void cow_task_later(struct cow_disk *disk, int error);
/* In the task's fiber. */
int cow_task_checkpoint(struct cow_disk *disk);
int cow_task_pause(void *disk);			/* during a checkpoint: serve urgent requests; -ECANCELED: abort it */
/* True: blocks that are on hold would be room, and the next checkpoint may release them. */
bool cow_task_room_by_checkpoint(struct cow_disk *disk);
void cow_exclusive_begin(struct cow_disk *disk);	/* in the task's fiber; with the flush lock */
void cow_exclusive_end(struct cow_disk *disk);

/* cow_disk_prefill.c */
/* True when the first of @count fresh blocks is ready; at most *@most of them are. */
bool cow_prefill_ready(const struct cow_disk *disk, uint64_t count, uint64_t *most);
void cow_prefill_now(struct cow_disk *disk);		/* in the task's fiber, after cow_alloc_prepare() */
void cow_prefill_ahead(struct cow_disk *disk);

/* cow_disk_pace.c */
#define COW_IDLE_NS 20000000u		/* a disk without requests for this long is idle */
void cow_pace_init(struct cow_pace *pace, struct cow_disk *disk, unsigned rest, void (*wake)(struct cow_disk *disk));
bool cow_pace_due(const struct cow_pace *pace);		/* a turn may begin; otherwise wake() will be called */
void cow_pace_begin(struct cow_pace *pace);
void cow_pace_end(struct cow_pace *pace);
void cow_pace_stop(struct cow_pace *pace);		/* the disk is being closed */

/* cow_disk_command.c */
uint64_t cow_clock_now(void);		/* CLOCK_MONOTONIC, ns */
void cow_command_start(struct cow_disk *disk, struct snapshot_command *command);
void cow_command_run(struct cow_disk *disk, struct snapshot_command *command);	/* in the task's fiber */
bool cow_command_is_urgent(const struct cow_disk *disk);	/* the next command need not wait for a checkpoint */
void cow_commands_fail(struct cow_disk *disk, int error);	/* all commands that wait */
bool cow_disk_snapshot_open(const struct cow_disk *disk, uint32_t id);

/* cow_disk_merge.c. run: call in the task's fiber. changed: a request has changed disk blocks from @first to @end. */
int cow_merge_run(struct cow_disk *disk, struct snapshot_command *command);
void cow_merge_changed(struct cow_disk *disk, uint64_t first, uint64_t end);
void cow_merge_free(struct cow_disk *disk);

/* cow_disk_retire.c */
void cow_retire(void *disk, struct cow_list *blocks);
void cow_retire_wake(struct cow_disk *disk);
/* The store was opened for writing: punch what an earlier opening has left, a little later. */
void cow_retire_search(struct cow_disk *disk);
bool cow_retire_pending(const struct cow_disk *disk);

#endif
