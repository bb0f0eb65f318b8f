/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * driver.h - what a disk is made of: raw bytes, nothing, a snapshot store.
 *
 * Each driver file ends in one struct driver_ops. Those are never called
 * directly: struct backend wraps an open driver, and the backend_* calls
 * check what every driver may rely on (the request is inside the disk, not a
 * write to a read-only one, each request completes exactly once).
 *
 * Threads: a backend and its engine belong to one thread; another one may only
 * open a raw image for it (only_raw, or type aio and as_is).
 */
#ifndef TAPSNAP_DRIVER_H
#define TAPSNAP_DRIVER_H

#include <stdatomic.h>

#include "block.h"
#include "engine.h"
#include "error.h"

/*
 * The QEMU of an HVM guest opens the image itself when its disk has no script=, and locks it in QEMU's way. That QEMU
 * must not be refused. COMES: it has not opened the image yet, so a lock by another writer is still noticed.
 */
enum share_qemu { SHARE_QEMU_NO, SHARE_QEMU_COMES, SHARE_QEMU_THERE };

struct cow_disk;

struct driver_options {
	bool read_only;
	bool no_direct;			/* go through the page cache (tap-ctl open -D) */
	bool shared;			/* take no writer lock: the caller keeps writers apart by other means */
	bool locked;			/* the caller already has this image open, with a writer's lock */
	enum share_qemu share_qemu;
	bool as_is;			/* serve the bytes of this image; do not follow its overlay record (overlay.h) */
	bool only_raw;			/* open @path only if it is a raw image without an overlay record, otherwise -EXDEV */
	atomic_bool *unwanted;		/* NULL, or set when nobody wants the image any more; then it need not be locked */
	bool aside;			/* in backend_open_begin() */
	const struct cow_disk *above;	/* the store whose base this is; NULL: it is not opened as a base */
	bool undecided;			/* leave a prepared snapshot undecided: its coordinator is still running */
	unsigned sector_size;		/* for the guest: 0 (512), 512 or 4096 bytes */
	size_t cache_bytes;		/* memory for the map of a snapshot store; 0: 32 MiB */
	const char *journal;		/* path of a snapshot store's journal (docs/takeover.md); NULL: none */
	unsigned layer_entries;		/* number of map changes that starts a checkpoint of a snapshot store; 0: 45056 */
};

struct driver_geometry {
	uint64_t sectors;		/* size in 512-byte sectors */
	unsigned sector_size;		/* smallest unit the guest may use: 512 or 4096 bytes */
	unsigned physical_sector_size;	/* bytes; of the underlying device; a multiple of sector_size */
	bool read_only;
	bool direct;			/* O_DIRECT; false: through the page cache, because the caller asked for it
					 * or the filesystem has no O_DIRECT */
	bool discard;			/* BLOCK_DISCARD does something */
	unsigned discard_granularity;	/* bytes; 0 when discard is false */
	unsigned discard_alignment;	/* bytes */
	bool fast_zeroes;		/* WRITE_ZEROES is faster than writing zeros */
	bool pages_stable;		/* the device does not access a page after its request completed, so a guest's
					 * own pages may be handed to it (xen/io/blkif.h, direct-io-safe) */
};

/*
 * A command on a disk's snapshots. The caller owns it, and all that it
 * points to, until done(), which is called exactly once, from inside
 * backend_snapshot() or later. Writes that wait for space in the store do
 * not delay commands.
 */
enum snapshot_op {
	/*
	 * Stop writes: ends when no write is in flight; new ones wait until SNAPSHOT_THAW or SNAPSHOT_PREPARE,
	 * so that several disks can be snapshotted at one instant. -EBUSY: already frozen.
	 */
	SNAPSHOT_FREEZE,
	SNAPSHOT_THAW,		/* immediately; a FREEZE that still waits ends with -ECANCELED; -EINVAL: not frozen */
	SNAPSHOT_CREATE,	/* name, description; durable when it ends */
	/*
	 * Like CREATE, on a frozen disk (otherwise -EINVAL). The disk thaws as soon as the snapshot's contents are
	 * fixed, well before the end. The snapshot is only prepared, and not listed, until SNAPSHOT_COMMIT;
	 * if it is still prepared when the store is opened next, @decision decides (cow_decision_abort() in cow.h).
	 */
	SNAPSHOT_PREPARE,
	SNAPSHOT_COMMIT,	/* name: a prepared snapshot, or SNAPSHOT_REVERT_INTENT; durable when it ends */
	SNAPSHOT_ABORT,		/* name: a prepared snapshot, which is deleted */
	SNAPSHOT_DELETE,	/* name; its space is freed in the background. -EBUSY: open */
	/*
	 * name; the disk must not be in use. Its size may change: call backend_refresh_size(). With @decision the
	 * revert is only prepared, as with PREPARE, under the name SNAPSHOT_REVERT_INTENT.
	 */
	SNAPSHOT_REVERT,
	SNAPSHOT_RESIZE,	/* sectors, at least the current size; durable when it ends; then call backend_refresh_size() */
	/*
	 * The disk will be closed soon: write what finish() and close() would write; reads and writes go on. Afterwards
	 * little is left, unless much is written meanwhile. On failure all of it is left to close().
	 */
	SNAPSHOT_CHECKPOINT,
	/*
	 * Commit a disk without snapshots to its raw base while it is in use (tap-ctl commit), at the caller's
	 * pace. Until it ends, commands that create or revert to a snapshot fail with -EBUSY.
	 */
	/* -EAGAIN: deleted snapshots' space is still being freed. Durable when it ends; then the base alone is no valid disk. */
	SNAPSHOT_MERGE_BEGIN,
	SNAPSHOT_MERGE_STEP,	/* copy about a mebibyte */
	SNAPSHOT_MERGE_SYNC,	/* make what was copied durable, which leaves less for the end */
	SNAPSHOT_MERGE_END,	/* copy the rest; afterwards the base is the disk, durable, and the caller can only close */
	SNAPSHOT_MERGE_CANCEL,	/* the disk stays in the store; it also does after a crash or when another MERGE command fails */
};

#define SNAPSHOT_REVERT_INTENT "@revert"	/* no snapshot can have this name */

struct snapshot_command {
	enum snapshot_op op;
	const char *name;
	const char *description;	/* CREATE, PREPARE; NULL: none */
	const char *decision;		/* PREPARE, REVERT: absolute path of the group's decision record */
	void (*done)(struct snapshot_command *command, int error);
	struct error_text error;	/* the reason when done() gets an error */
	uint64_t sectors;		/* RESIZE */
	uint64_t stall_ns;		/* CREATE, PREPARE: how long writes were held back; FREEZE: so far */
	uint64_t thawed_ns;		/* PREPARE: when that ended, by clock_ns() */
	uint64_t copied, left;		/* MERGE: bytes copied by this step; upper bound of bytes still to copy */
	unsigned pass;			/* MERGE: passes over the disk, from 1 */
	void *owner;			/* the caller's */

	struct snapshot_command *next;	/* the driver's, from submission to done() */
};

struct snapshot_info {
	uint32_t id, parent;		/* parent: the nearest ancestor that is not deleted; 0: none */
	uint64_t time;			/* seconds since the epoch */
	uint64_t sectors;
	const char *name, *description;	/* "" if empty; the driver's, valid until the call returns */
	bool current;			/* the snapshot that the disk is based on */
	bool open;			/* in use by a reader, so it cannot be deleted */
};

struct driver_ops {
	const char *name;		/* the TYPE of TYPE:PATH */
	const char *help;		/* one line */
	/*
	 * Open @path. On success *@handle is the driver's until close(). On
	 * failure -errno, @error says why, and nothing is left open.
	 */
	int (*open)(void **handle, struct engine *engine, const char *path,
		    const struct driver_options *options, struct error_text *error);
	void (*close)(void *handle);	/* no request and no command is in flight, and the disk is not frozen */
	/* See backend_finish(); *@answered is the backend's. NULL: close() writes nothing. */
	bool (*finish)(void *handle, uint64_t *answered);
	/* See backend_start(). NULL: nothing to do. */
	int (*start)(void *handle, const char *journal, struct error_text *error);
	void (*geometry)(void *handle, struct driver_geometry *geometry);
	/* Start @req; the driver calls backend_done(req, error) once, now or later. */
	void (*submit)(void *handle, struct block_request *req);
	/* See backend_prefetch(). NULL: nothing to prefetch. */
	void (*prefetch)(void *handle, uint64_t sector);
	/* Read the image's size again; 0 or -errno. NULL: it never changes. */
	int (*refresh_size)(void *handle, struct error_text *error);
	/* Both NULL: the driver has no snapshots. */
	void (*snapshot)(void *handle, struct snapshot_command *command);
	/* See backend_snapshot_list_from(). */
	int (*snapshot_list)(void *handle, uint64_t from, int (*each)(void *owner, const struct snapshot_info *info), void *owner);
	/* Retry requests that wait for space, see backend->waiting. NULL: no request ever waits. */
	void (*retry)(void *handle);
	/* A flush that fails with -ENOSPC or -EDQUOT has lost nothing, and may be repeated. False: data may be lost. */
	bool flush_repeats;
	/* Fail requests that wait for space, with -ENOSPC: the disk is being closed. NULL: no request ever waits. */
	void (*give_up)(void *handle);
};

extern const struct driver_ops driver_aio, driver_cow, driver_null;

/* NULL-terminated list of all drivers. */
extern const struct driver_ops *const drivers[];

struct backend {
	const struct driver_ops *ops;
	void *handle;
	struct engine *engine;
	struct driver_geometry geometry;	/* as of the open or the last backend_refresh_size() */
	unsigned in_flight;
	unsigned waiting;		/* of those: held back because there is no room, in the store or below; see backend_retry() */
	unsigned retried;		/* of those: they had no room before, and are tried again */
	uint64_t completions;		/* requests completed by the driver */
	uint64_t answered;		/* by the image's storage, counted by the last backend_finish() */
	/*
	 * The caller's, NULL: none. Called before done() of a request that the driver has failed, possibly from inside
	 * backend_submit(). True: the callee took over the request, and submits it again or calls done() itself.
	 */
	bool (*failed)(struct block_request *req, int error);
	char *path;
	char *overlay;			/* the store that an overlay record named; NULL: no record was followed */
};

/*
 * backend_open() - open @target, "TYPE:PATH". The type is never guessed and
 * the path never probed; a raw image that has an overlay record (overlay.h)
 * is opened as the store that the record names. The caller closes with backend_close().
 */
int backend_open(struct backend **backend, struct engine *engine, const char *target,
		 const struct driver_options *options, struct error_text *error);
void backend_close(struct backend *backend);	/* in_flight must be 0 */

/*
 * backend_open_begin() - backend_open() of a store, without a journal, in a fiber: the loop goes on while it reads and writes.
 * When backend_open_ended(), backend_open_end() has the result and frees @opening. -EXDEV: it has to be opened with
 * backend_open(), for example because it is no store. Meanwhile to open the store otherwise fails with -EAGAIN.
 * A backend that was opened so is not used before backend_start() has given it its journal (NULL: none).
 */
struct backend_opening;
int backend_open_begin(struct backend_opening **opening, struct engine *engine, const char *target,
		       const struct driver_options *options);
bool backend_open_ended(const struct backend_opening *opening);
int backend_open_end(struct backend_opening *opening, struct backend **backend, struct error_text *error);
int backend_start(struct backend *backend, const char *journal, struct error_text *error);

/*
 * backend_finish() - write what backend_close() would write, without waiting for it. Call again whenever the engine has
 * completed something, until it returns true, and then close @backend, before anything else happens. The conditions are those
 * of backend_close(), from the first call on. Meanwhile to open the image fails with -EAGAIN. A change of @backend->answered
 * from call to call shows that the image's storage answers.
 */
bool backend_finish(struct backend *backend);

/*
 * backend_release() - close @backend in two halves, because closing a file may wait for a device or a file server: returns the
 * files that are left, NULL if there are none. backend_close_files() closes them, in any thread. Until then they are locked;
 * to open one fails with -EAGAIN.
 */
struct image_file *backend_release(struct backend *backend);
void backend_close_files(struct image_file *files);

/*
 * An open may fail with -EAGAIN when a process that may be udev has a device
 * locked, or with -EOWNERDEAD when the process that has the image locked is
 * dead, but its I/O has not ended. True if the caller should retry after
 * OPEN_AGAIN_MS; @tries is the number of retries so far.
 */
#define OPEN_AGAIN_MS 10
bool backend_open_again(int error, unsigned tries);

/*
 * backend_submit() - start @req. Out of range, misaligned to the sector size
 * or a write to a read-only disk is completed with -EINVAL, -EINVAL, -EROFS.
 * @req->owner and @req->done are the caller's. The caller must call
 * engine_commit() afterwards.
 */
void backend_submit(struct backend *backend, struct block_request *req);

/*
 * backend_prefetch() - a read or a write at @sector will soon be submitted:
 * the driver prefetches the memory that it will look at. Worth its time before
 * a batch: the memory accesses of all requests then overlap.
 */
void backend_prefetch(struct backend *backend, uint64_t sector);

/* backend_done() - for drivers: complete @req. */
void backend_done(struct block_request *req, int error);

int backend_refresh_size(struct backend *backend, struct error_text *error);

/* -EOPNOTSUPP with a text when the driver has no snapshots. The caller calls engine_commit(), as with backend_submit(). */
void backend_snapshot(struct backend *backend, struct snapshot_command *command);
/* Calls @each for every snapshot, oldest first and so with ascending ids, until it returns non-zero, and returns that. */
int backend_snapshot_list(struct backend *backend, int (*each)(void *owner, const struct snapshot_info *info),
			  void *owner);
/* The same for those whose id is @from or more, without a look at the others: to continue a list. */
int backend_snapshot_list_from(struct backend *backend, uint64_t from,
			       int (*each)(void *owner, const struct snapshot_info *info), void *owner);
/* For drivers: @req, which is in flight, waits for room; that is over, and it is tried again or ended. */
void backend_wait(struct block_request *req);
void backend_wait_over(struct block_request *req);
/* To be called now and then while requests are waiting. */
void backend_retry(struct backend *backend);
void backend_give_up(struct backend *backend);

/* Split "TYPE:PATH" at the first colon. -EINVAL with a text when there is
 * none, no such type, or an empty path. *@path points into @target. */
int backend_parse_target(const char *target, const struct driver_ops **ops, const char **path,
			 struct error_text *error);

#endif
