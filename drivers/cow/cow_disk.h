/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk.h - a store that is being served: what the files of the driver
 * `cow` share. They do no more than the library does (cow_internal.h), but
 * without a wait, for many requests at a time.
 *
 *   cow.c               the driver: opening, closing, what each export is
 *   cow_disk_request.c  requests: what runs, and the pieces that one is cut into
 *   cow_disk_wait.c     writes that wait, each where it waits for what it needs
 *   cow_disk_read.c     reads
 *   cow_disk_write.c    writes
 *   cow_disk_status.c   questions of what is allocated, and what has changed
 *   cow_disk_flusher.c  flushes
 *   cow_disk_prefill.c  places that are written before they are needed
 *   cow_disk_task.c     one thing after the other: checkpoints, commands, zeroing, deletion
 *   cow_disk_command.c  the commands: snapshots taken, prepared, deleted, gone back to; a larger disk
 *   cow_disk_merge.c    the commit to the base of a disk that is in use
 *   cow_disk_retire.c   from freed to free, and to holes
 *   cow_disk_pace.c     how much of the time the background gets
 *   cow_disk_reopen.c   from open for reading to open for writing
 *   cow_disk_io.c       the library's own I/O, in fibers
 *
 *        request ---> held (frozen, overlap, gate, places: cow_disk_wait.c) ---> running ---> done
 *                        ^                                                  |
 *                        +----- a node of the map has to be read first <----+
 *
 * Invariants:
 * 1. Everything happens on the engine's thread. The store in memory changes
 *    between two returns to the event loop, or in a fiber.
 * 2. At most four fibers: the task's (checkpoint, commands, zeroing,
 *    deletion, one after the other), the flusher's, the filler's, the retirer's.
 * 3. The gate: a request that will change the map (it has fresh blocks in
 *    flight) counts in `changing`; the task begins what needs the map to stand
 *    still (`exclusive`) when there is none, and there is none until its end.
 *    Reads, and writes in place, do not care.
 * 4. Frozen: no write runs, and none begins.
 * 5. No two running requests have fresh blocks for the same disk block.
 * 6. A store block that was freed is not used again before every request
 *    that was running then has ended (cow_disk_retire.c).
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

struct cow_requests {
	struct cow_request *first, **last;
};

/* In their order, until one has to stay. */
struct cow_line {
	struct cow_requests waiting;
	bool again;			/* the first may find what it waits for */
};

struct cow_retired {
	struct cow_retired *next;
	struct cow_list blocks;
	uint64_t sequence;		/* requests from here on began after the blocks were freed */
};

/* cow_disk_pace.c: something that goes on in the background. */
struct cow_pace {
	struct cow_disk *disk;
	unsigned rest;			/* a pause, in times of what the turn before it took */
	void (*wake)(struct cow_disk *disk);	/* the next turn is due */
	struct engine_timer timer;	/* set: a pause */
	uint64_t begun;			/* the turn: CLOCK_MONOTONIC, ns */
	uint64_t seen;			/* requests that had begun when the last pause did */
	bool idle;			/* none has come since, as far as was looked */
};

struct cow_disk {
	struct cow_device device;	/* first: the store's, see cow_disk_io.c */
	struct cow_disk *next;		/* of those that are open in this process */
	dev_t dev;
	ino_t ino;
	struct engine *engine;
	struct backend *backend;	/* the store's bytes */
	struct backend *reader;		/* cow_disk_reopen.c: the one before it, which has the locks. NULL: there was none */
	struct backend *base_backend;	/* NULL: no base */
	struct cow_store *store;
	bool read_only;
	bool reopening;			/* cow_disk_reopen.c: all requests wait */
	unsigned exports;
	struct cow_export *active;	/* the export that serves the active disk; NULL: there is none */
	struct cow_export *snapshots;

	struct cow_merge *merge;		/* NULL: no commit is under way */

	struct cow_request *free;
	struct cow_request *oldest, *newest;	/* running, by the time they began */
	struct cow_request *fresh;		/* of those: with fresh blocks */
	struct cow_requests held, overlapping, ready;		/* cow_disk_wait.c; as well as these */
	struct cow_line gate, places;
	struct cow_requests no_room;
	uint64_t sequence;			/* of the next request that begins */
	unsigned writes;			/* running, all kinds that change the disk */
	unsigned changing;			/* of those: with fresh blocks */
	uint64_t fresh_blocks;			/* theirs */
	bool gate_asks;				/* no memory for the flusher: the first tries again when any request ends */
	bool restarting;
	bool full;				/* no room: what needs fresh blocks waits for retry() */
	struct cow_load *loads;			/* nodes that are being read for requests */

	struct fiber *task;			/* NULL: nothing to do */
	bool task_waits;			/* for wake, not for I/O */
	bool exclusive, frozen, stopping;
	bool freezing, stands;			/* a FREEZE waits, is at work, or stands; it stands */
	bool want_places, want_checkpoint, want_delete;
	struct cow_pace delete_pace;
	bool yields;				/* the checkpoint at work, to who is in a hurry: it is done later */
	bool no_room_tried;			/* a checkpoint has not helped */
	struct snapshot_command *commands, **last_command;
	struct snapshot_command *thaw;		/* THAW or PREPARE for the freeze that stands */
	struct cow_requests zeroes;
	uint32_t deleting;			/* the snapshot whose deletion is under way */
	uint64_t stop_time;			/* CLOCK_MONOTONIC, ns */

	struct fiber *flusher;
	bool flush_locked, flush_wanted;
	struct fiber *flush_waiter;		/* wants the lock */
	struct cow_requests flushes;

	struct fiber *filler;
	size_t filled_page;
	unsigned filled_to;			/* data may go to the blocks from the cursor to here */

	struct fiber *retirer;
	bool retirer_waits;
	struct cow_pace hole_pace;
	unsigned last_holes;			/* made since stopping */
	struct cow_retired *retired, **last_retired;
};

/* What a backend has open: the active disk, or a snapshot. */
struct cow_export {
	struct cow_disk *disk;
	struct cow_export *next;		/* of snapshots */
	uint32_t snapshot;		/* id; 0: the active disk */
	uint64_t sectors;
	bool read_only;
};

enum cow_piece_kind {
	COW_PIECE_STORE,		/* in the store, to be read or written where it is */
	COW_PIECE_ZERO,
	COW_PIECE_BASE,
	COW_PIECE_JOINED,		/* an earlier STORE piece reads it, too */
	COW_PIECE_FRESH,		/* whole blocks, to a new place */
	COW_PIECE_PART,			/* part of a block, which goes to a new place whole */
};

struct cow_piece {
	enum cow_piece_kind kind;
	uint64_t sector, nr_sectors;	/* of the disk */
	uint64_t place;			/* STORE, FRESH, PART: store block of the first */
	uint64_t old;			/* PART: the entry before */
	void *buffer;			/* PART: the block; of a status request: what the base says */
	struct iovec buffer_iov;
	const struct iovec *iov;	/* the request's data for it */
	int iovcnt;
	struct block_request sub;
};

struct cow_request {
	struct block_request *req;
	struct cow_disk *disk;
	struct cow_export *export;
	struct cow_request *next;		/* free, held, ... */
	struct cow_request *older, *newer;	/* running */
	uint64_t sequence;
	bool running, fresh;			/* fresh: has pieces with new places */
	struct cow_request *fresh_next, **fresh_link;	/* fresh */
	unsigned overlaps;			/* in overlapping: how many of the fresh it does */
	const struct cow_line *first_of;	/* has been the first: none goes before it */
	bool urgent;				/* has waited for places before: takes them wherever they are */
	uint64_t first, end;			/* disk blocks */
	struct cow_piece *pieces;
	unsigned nr_pieces, room_pieces;
	struct iovec *iov, *joined;		/* joined: of pieces that were joined */
	size_t room_iov, room_joined;
	unsigned pending;
	int error;
	uint64_t fresh_blocks;
	uint64_t zeroed;		/* a discard or zeroing: done below this sector */
};

/* cow_disk_io.c: the library's I/O, from inside fibers only. */
extern const struct cow_device_ops cow_disk_file_ops, cow_disk_blkdev_ops;
int cow_disk_write(struct cow_disk *disk, const struct iovec *iov, int iovcnt, uint64_t offset, uint64_t length);
int cow_disk_base_read(void *disk, void *data, uint64_t sector, uint64_t nr_sectors);
/* Runs @run(@arg) in a fiber, and the engine until it has ended; for opening and closing. */
int cow_disk_run(struct cow_disk *disk, void (*run)(void *arg), void *arg);
/* Runs the engine until @ready(@disk). */
void cow_disk_wait(struct cow_disk *disk, bool (*ready)(const struct cow_disk *disk));

/* cow.c */
int cow_disk_open_backend(struct cow_disk *disk, struct backend **backend, const char *path,
			  const struct driver_options *options, struct error_text *error);
void cow_disk_set_store(struct cow_disk *disk, struct cow_store *store);

/* cow_disk_reopen.c: one that is open for reading; what fails leaves it so. */
int cow_disk_reopen(struct cow_disk *disk, const char *path, const struct driver_options *options,
		    struct error_text *error);
/* What is prepared in one that is open for writing, and whose disk is not, is committed or aborted, as is decided. */
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
/* Counts as running from here on. */
void cow_request_begin(struct cow_request *r);
/* No longer running; it will be started anew. */
void cow_request_retreat(struct cow_request *r);
/* Over; r is gone. */
void cow_request_done(struct cow_request *r, int error);
struct cow_piece *cow_request_add_piece(struct cow_request *r, enum cow_piece_kind kind, uint64_t sector,
					uint64_t nr_sectors, uint64_t place);
/* Gives each piece its part of the data. */
int cow_request_slice(struct cow_request *r);
void cow_piece_submit(struct cow_piece *piece, struct cow_request *r, struct backend *backend, enum block_op op,
		      uint64_t sector, uint64_t nr_sectors, const struct iovec *iov, int iovcnt,
		      void (*done)(struct block_request *sub, int error));
/* Reads a node of the map, then starts @r anew. */
void cow_request_load(struct cow_request *r, const struct cow_missing *missing);

/* cow_disk_wait.c. @r, which runs, has fresh blocks; it ends. */
void cow_fresh_begin(struct cow_request *r);
void cow_fresh_end(struct cow_request *r);
/* True: somebody has fresh blocks in its range, and it waits for that to end. */
bool cow_wait_overlapping(struct cow_request *r);
void cow_line_init(struct cow_line *line);
/* Others are in line before @r. */
bool cow_line_before(const struct cow_line *line, const struct cow_request *r);
void cow_line_wait(struct cow_line *line, struct cow_request *r);
/* A request has ended. */
void cow_wait_wake(struct cow_disk *disk);
/* What somebody waits for may be there now, if it is not the end of another. */
void cow_disk_kick(struct cow_disk *disk);
/* The checkpoint that is at work has come on. */
void cow_wait_checkpoint_on(struct cow_disk *disk);
/* Nothing runs that would do that, and there is no memory for a fiber that would: they wait as for room. */
void cow_wait_give_up(struct cow_disk *disk);

/* cow_disk_read.c, cow_disk_status.c, cow_disk_write.c */
void cow_read_start(struct cow_request *r);
void cow_status_start(struct cow_request *r);
void cow_write_start(struct cow_request *r);

/* cow_disk_flusher.c */
void cow_flush_start(struct cow_request *r);
void cow_flusher_wake(struct cow_disk *disk);
/* In a fiber: the library's flush is this one's from lock to unlock. */
void cow_flush_lock(struct cow_disk *disk);
void cow_flush_unlock(struct cow_disk *disk);

/* cow_disk_task.c */
void cow_task_wake(struct cow_disk *disk);		/* there may be something to do, or to go on with */
void cow_task_wait(struct cow_disk *disk);		/* in the task's fiber, until cow_task_wake() */
/* In the task's fiber. */
int cow_task_checkpoint(struct cow_disk *disk);
int cow_task_pause(void *disk);			/* of a checkpoint: who cannot wait for its end gets on; -ECANCELED: at once */
void cow_exclusive_begin(struct cow_disk *disk);	/* in the task's fiber; with the flush lock */
void cow_exclusive_end(struct cow_disk *disk);

/* cow_disk_prefill.c */
/* Of @count fresh blocks the first can be had at once, and at most *@most of them. */
bool cow_prefill_ready(const struct cow_disk *disk, uint64_t count, uint64_t *most);
void cow_prefill_now(struct cow_disk *disk);		/* in the task's fiber, after cow_alloc_prepare() */
void cow_prefill_ahead(struct cow_disk *disk);

/* cow_disk_pace.c */
#define COW_IDLE_NS 20000000u		/* without a request for so long a disk is idle */
void cow_pace_init(struct cow_pace *pace, struct cow_disk *disk, unsigned rest, void (*wake)(struct cow_disk *disk));
bool cow_pace_due(const struct cow_pace *pace);		/* a turn may begin; else wake() will say so */
void cow_pace_begin(struct cow_pace *pace);
void cow_pace_end(struct cow_pace *pace);
void cow_pace_stop(struct cow_pace *pace);		/* the disk is being closed */

/* cow_disk_command.c */
uint64_t cow_clock_now(void);		/* CLOCK_MONOTONIC, ns */
void cow_command_start(struct cow_disk *disk, struct snapshot_command *command);
void cow_command_run(struct cow_disk *disk, struct snapshot_command *command);	/* in the task's fiber */
bool cow_command_is_urgent(const struct cow_disk *disk);	/* the next one does not wait for a checkpoint */
void cow_commands_fail(struct cow_disk *disk, int error);	/* all that wait for their turn */
bool cow_disk_snapshot_open(const struct cow_disk *disk, uint32_t id);

/* cow_disk_merge.c. run: in the task's fiber. changed: disk blocks from @first to @end, by a request that is over. */
int cow_merge_run(struct cow_disk *disk, struct snapshot_command *command);
void cow_merge_changed(struct cow_disk *disk, uint64_t first, uint64_t end);
void cow_merge_free(struct cow_disk *disk);

/* cow_disk_retire.c */
void cow_retire(void *disk, struct cow_list *blocks);
void cow_retire_wake(struct cow_disk *disk);
bool cow_retire_pending(const struct cow_disk *disk);

#endif
