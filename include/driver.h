/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * driver.h - what a disk is made of: raw bytes, nothing, a snapshot store.
 *
 * Each driver file ends in one struct driver_ops. Those are never called
 * directly: struct backend wraps an open driver, and the backend_* calls
 * check what every driver may rely on (the request is inside the disk, not a
 * write to a read-only one, each request completes exactly once).
 *
 * Threads: a backend and its engine belong to one thread.
 */
#ifndef TAPSNAP_DRIVER_H
#define TAPSNAP_DRIVER_H

#include "block.h"
#include "engine.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Another process that opens the image, locks it in QEMU's way and is not to be refused: the QEMU of an HVM guest,
 * which itself opens the file of a disk without script=. Until it has come, a writer is still noticed.
 */
enum share_qemu { SHARE_QEMU_NO, SHARE_QEMU_COMES, SHARE_QEMU_THERE };

struct driver_options {
	bool read_only;
	bool no_direct;			/* go through the page cache (tap-ctl open -D) */
	bool shared;			/* take no writer lock: the caller keeps writers apart by other means */
	bool locked;			/* the same image is open already, with a writer's lock */
	enum share_qemu share_qemu;
	bool as_is;			/* the bytes of that very image, whatever its overlay record says (overlay.h) */
	bool undecided;			/* a snapshot that was prepared stays so: its coordinator is still there */
	unsigned sector_size;		/* what the guest is to see: 0 (512), 512 or 4096 bytes */
	size_t cache_bytes;		/* of a snapshot store's map, kept in memory; 0: 32 MiB */
	const char *journal;		/* path for what a store keeps for a process that takes over (docs/takeover.md); NULL: nothing */
	unsigned layer_entries;		/* changes of a store's map that call for a checkpoint; 0: 45056 */
};

struct driver_geometry {
	uint64_t sectors;		/* size in 512-byte sectors */
	unsigned sector_size;		/* smallest unit the guest may use: 512 or 4096 bytes */
	unsigned physical_sector_size;	/* bytes; what the device below works in; a multiple of sector_size */
	bool read_only;
	bool direct;			/* O_DIRECT; false: through the page cache, as asked for or because the
					 * filesystem has nothing else */
	bool discard;			/* BLOCK_DISCARD does something */
	unsigned discard_granularity;	/* bytes; 0 when discard is false */
	unsigned discard_alignment;	/* bytes */
	bool fast_zeroes;		/* WRITE_ZEROES does not take as long as writing them would */
	bool pages_stable;		/* the device is done with a page once its request completed, so that a guest's
					 * own pages may be handed to it (xen/io/blkif.h, direct-io-safe) */
};

/*
 * A command to a disk's snapshots. The caller owns it, and all that it
 * points to, until done(), which is called exactly once, from inside
 * backend_snapshot() or later. A write that has to wait for room on the
 * store holds up none of them.
 */
enum snapshot_op {
	/*
	 * Ends when no write runs; none begins until SNAPSHOT_THAW or a SNAPSHOT_PREPARE,
	 * so that several disks can be taken at one instant. -EBUSY: frozen already.
	 */
	SNAPSHOT_FREEZE,
	SNAPSHOT_THAW,		/* at once, also while a FREEZE waits, which then ends with -ECANCELED; -EINVAL: neither */
	SNAPSHOT_CREATE,	/* name, description: durable when it ends */
	/*
	 * The same on a frozen disk (-EINVAL), which thaws as soon as the moment is held, well before
	 * the end. The snapshot is no more than prepared until SNAPSHOT_COMMIT, and not listed; what
	 * becomes of one found at the next opening is up to decision (cow_decision_abort() in cow.h).
	 */
	SNAPSHOT_PREPARE,
	SNAPSHOT_COMMIT,	/* name: one that was prepared, or SNAPSHOT_REVERT_INTENT; durable when it ends */
	SNAPSHOT_ABORT,		/* name: one that was prepared; it is deleted */
	SNAPSHOT_DELETE,	/* name; its space comes back in the background. -EBUSY: open */
	/*
	 * name; the disk must not be in use. Its size may change: backend_refresh_size(). With a decision it
	 * is no more than prepared, as with PREPARE, under the name SNAPSHOT_REVERT_INTENT.
	 */
	SNAPSHOT_REVERT,
	SNAPSHOT_RESIZE,	/* sectors, not fewer than it has: durable when it ends; then backend_refresh_size() */
	/*
	 * The commit of a disk that has no snapshots to its raw base, in use (tap-ctl commit), at the
	 * caller's pace. No other command that takes or reverts to a snapshot meanwhile (-EBUSY).
	 */
	SNAPSHOT_MERGE_BEGIN,	/* -EAGAIN: what deleted snapshots held is being given back. Durable when it ends; what is there on the base now does not count any more */
	SNAPSHOT_MERGE_STEP,	/* copies a mebibyte or so */
	SNAPSHOT_MERGE_SYNC,	/* so far it is durable, and the end has less to do */
	SNAPSHOT_MERGE_END,	/* the rest; when it ends the base is the disk, durable, and all that can be done here is to close */
	SNAPSHOT_MERGE_CANCEL,	/* the disk goes on in the store; so it does after a failure of the others, and a crash */
};

#define SNAPSHOT_REVERT_INTENT "@revert"	/* no snapshot is called that */

struct snapshot_command {
	enum snapshot_op op;
	const char *name;
	const char *description;	/* CREATE, PREPARE; NULL: none */
	const char *decision;		/* PREPARE, REVERT: absolute path of the group's decision record */
	void (*done)(struct snapshot_command *command, int error);
	struct error_text error;	/* why, when done() gets an error */
	uint64_t sectors;		/* RESIZE */
	uint64_t stall_ns;		/* CREATE, PREPARE: how long writes were held back; FREEZE: so far */
	uint64_t copied, left;		/* MERGE: bytes of this step; bytes that the base lacks at most */
	unsigned pass;			/* MERGE: over the disk, from 1 on */
	void *owner;			/* the caller's */

	struct snapshot_command *next;	/* the driver's, from start to done() */
};

struct snapshot_info {
	uint32_t id, parent;		/* parent: the nearest one that is not deleted; 0: none */
	uint64_t time;			/* seconds since the epoch */
	uint64_t sectors;
	const char *name, *description;	/* "" where there is none; theirs until the call returns */
	bool current;			/* what the disk goes back to */
	bool open;			/* somebody reads it, so it cannot be deleted */
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
	void (*geometry)(void *handle, struct driver_geometry *geometry);
	/* Start @req; calls backend_done(req, error) once, now or later. */
	void (*submit)(void *handle, struct block_request *req);
	/* See backend_prefetch(). NULL: there is nothing to bring. */
	void (*prefetch)(void *handle, uint64_t sector);
	/* Look again at how large the image is; 0 or -errno. NULL: never changes. */
	int (*refresh_size)(void *handle, struct error_text *error);
	/* Both NULL: the driver knows no snapshots. */
	void (*snapshot)(void *handle, struct snapshot_command *command);
	/* Calls @each for every snapshot, oldest first, until it returns non-zero, and returns that. */
	int (*snapshot_list)(void *handle, int (*each)(void *owner, const struct snapshot_info *info), void *owner);
	/* Try again what waits for room, see backend->waiting. NULL: nothing ever waits. */
	void (*retry)(void *handle);
	/* Fail what waits for room, with -ENOSPC: the disk is being closed. NULL: nothing ever waits. */
	void (*give_up)(void *handle);
};

extern const struct driver_ops driver_aio, driver_cow, driver_null;

/* NULL-terminated list of all drivers. */
extern const struct driver_ops *const drivers[];

struct backend {
	const struct driver_ops *ops;
	void *handle;
	struct engine *engine;
	struct driver_geometry geometry;	/* as of open or the last backend_refresh_size() */
	unsigned in_flight;
	unsigned waiting;		/* of those: held back because the store is full; backend_retry() now and then */
	uint64_t completions;		/* requests that have come back from the driver */
	/*
	 * The caller's, NULL: none. Asked before done() of a request that the driver has failed, which may be inside
	 * backend_submit(). True: it has taken the request, and submits it again or calls done() itself.
	 */
	bool (*failed)(struct block_request *req, int error);
	char *path;
	char *overlay;			/* the store that an overlay record led to; NULL: what was asked for is open */
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
 * An open may fail with -EAGAIN when a process that may be udev has a device
 * locked, or with -EOWNERDEAD when the process that has the image locked is
 * dead but for the I/O that it had begun. Whether to try again, OPEN_AGAIN_MS from now,
 * after @error and @tries tries before that.
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
 * backend_prefetch() - a read or a write at @sector, whatever that is, will
 * soon be submitted: the driver has the processor bring what it will look at.
 * Worth its time before a batch: the memory for all is then on its way at once.
 */
void backend_prefetch(struct backend *backend, uint64_t sector);

/* backend_done() - for drivers: @req is over. */
void backend_done(struct block_request *req, int error);

int backend_refresh_size(struct backend *backend, struct error_text *error);

/* -EOPNOTSUPP with a text when the driver has no snapshots. Engine commit is the caller's, as with backend_submit(). */
void backend_snapshot(struct backend *backend, struct snapshot_command *command);
int backend_snapshot_list(struct backend *backend, int (*each)(void *owner, const struct snapshot_info *info),
			  void *owner);
void backend_retry(struct backend *backend);
void backend_give_up(struct backend *backend);

/* Split "TYPE:PATH" at the first colon. -EINVAL with a text when there is
 * none, no such type, or an empty path. *@path points into @target. */
int backend_parse_target(const char *target, const struct driver_ops **ops, const char **path,
			 struct error_text *error);

#ifdef __cplusplus
}
#endif

#endif
