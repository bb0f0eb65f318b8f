/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_state.h - the state of a disk (vbd.h). Other files may read it; only
 * vbd*.c changes it, except for `answered`, `former`, `held_paused` and `close_limit_ms`,
 * which commands set, and `past`, to which a leaving frontend adds its counters.
 */
#ifndef TAPDISK_VBD_STATE_H
#define TAPDISK_VBD_STATE_H

#include "driver.h"
#include "loop.h"
#include "protocol.h"
#include "request_list.h"
#include "stats.h"
#include "waiter.h"

struct vbd_client;
struct vbd_snapshot;

enum vbd_state { VBD_CLOSED, VBD_RUNNING, VBD_DRAINING, VBD_RELEASING, VBD_PAUSED };

/* Policy for requests that the disk fails (vbd_error.c). */
enum vbd_on_error { ON_ERROR_ENOSPC, ON_ERROR_REPORT, ON_ERROR_STOP };

/* A freeze, from the command to its end (vbd_snapshot.c). */
struct vbd_freeze {
	enum { FREEZE_NONE, FREEZE_BEGUN, FREEZE_HELD, FREEZE_PREPARING } state;
	uint64_t token;				/* loop clock at the start, ns; unique */
	const char *why_ended;			/* BEGUN: set if it must end instead of being held */
	struct loop_source *lease;
	const void *holder;
	struct snapshot_command thaw;
	bool thawing;				/* `thaw` is running */
};

/* A freeze of a raw disk that a store takes over (vbd_overlay.c). */
struct vbd_overlay {
	uint64_t token;				/* as in vbd_freeze; 0: none */
	bool held;				/* the image is drained and closed */
	char *store;
	const void *holder;
	struct loop_source *lease;
	struct vbd_snapshot *waiting;		/* the FREEZE command, until the disk is drained */
};

/* A commit of the store to its raw image (vbd_commit.c); the result is kept until the next commit. */
enum vbd_commit_state {
	COMMIT_NONE, COMMIT_BEGINNING, COMMIT_RUNNING, COMMIT_ENDING, COMMIT_DONE, COMMIT_FAILED, COMMIT_CANCELED,
};

struct vbd_commit {
	enum vbd_commit_state state;
	struct snapshot_command command;
	bool busy;				/* `command` is running */
	bool cancel;
	bool synced;				/* no step since the last SNAPSHOT_MERGE_SYNC */
	bool merged;				/* all data is in the image; the overlay record still exists */
	uint64_t total, left;			/* bytes */
	unsigned pass;
	uint64_t rate;				/* limit, bytes per second; 0: none */
	uint64_t due;				/* loop clock, ns: earliest time of the next step */
	struct loop_source *timer;
	int error;				/* FAILED, CANCELED: -errno; `why` is its text */
	struct error_text why;
};

/* Limits per second for all clients together (vbd_throttle.c). */
struct vbd_throttle {
	uint64_t iops, bytes;			/* 0: no limit */
	unsigned burst_ms;			/* burst: the quota of so many milliseconds */
	uint64_t iops_paid, bytes_paid;		/* loop clock, ns: when the admitted requests are paid for */
	struct request_list held;
	uint64_t delayed;			/* count of requests that had to wait */
	struct loop_source *timer;		/* while some are held */
};

#define THROTTLE_BURST_MS 100

struct vbd_io_error {
	enum block_op op;
	uint64_t sector, nr_sectors;
	int error;				/* -errno */
};

/* Requests that wait because the disk has failed them, or is stopped (vbd_error.c). */
struct vbd_errors {
	enum vbd_on_error policy;
	struct request_list waiting;
	unsigned no_room;			/* how many of them wait for room */
	bool stopped;
	struct block_request *probe;		/* in flight, tried alone while stopped; NULL: none */
	void (*probe_done)(struct block_request *req, int error);	/* the probe's own done() */
	struct vbd_io_error error;		/* the error that stopped the disk, or the last one reported */
	uint64_t answered;			/* errors returned to clients since the open */
	uint64_t told;				/* loop clock, ns: when the last of them was sent as an event */
};

/* An image that does not answer (vbd_unresponsive.c). */
struct vbd_unresponsive {
	struct loop_source *timer;		/* runs while requests are in flight */
	unsigned at_device;			/* requests in flight when the timer was set */
	uint64_t completions;			/* backend->completions at that time */
	uint64_t since;				/* loop clock, ns */
	bool told;				/* not-answering was reported */
};

/* An image that is being closed (vbd_release.c). */
struct vbd_release {
	struct backend *backend;		/* NULL: only its files are left */
	int end;				/* of a pipe: at its end when they are closed */
	struct loop_source *source, *limit;
	uint64_t answered;			/* backend->answered when that was looked at last */
	uint64_t heard;				/* loop clock, ns: the last answer, or when a command began to wait */
	bool due;				/* the time of `limit` has come */
	bool late;				/* no answer for so long: nobody waits any more */
	char *store;				/* of a committed disk: to be deleted then */
};

struct vbd {
	int minor;
	enum vbd_state state;
	struct loop *loop;
	struct engine *engine;
	struct backend *backend;		/* NULL while closed, releasing or paused */
	struct probe *answered;			/* has opened the image for the command that is running, or not; NULL: none */
	struct vbd_release release;
	unsigned close_limit_ms;		/* how long a command waits for an answer of an image that is being closed; 0: without limit */
	struct driver_geometry geometry;	/* the backend's, kept while paused */
	struct driver_options options;
	char *journal;				/* options.journal; NULL: none */
	char *target;				/* as requested, "type:path" */
	bool resume_failed;
	struct vbd_client *clients;
	struct nbd_server *nbd;			/* NULL while closed */
	struct waiter *waiters;			/* callers that wait for the drain or the close */
	struct block_request flush;		/* the last thing before the image is closed */
	bool flushing, drained;			/* `flush` is in flight; `flush` is done */
	bool forced;				/* pause even if the flush of this drain fails */
	bool lost;				/* the last drain paused without its flush */
	unsigned losses;			/* number of such drains since the open */
	bool loss_reported;			/* a client got the last loss as an error: do not report it to new clients */
	bool closing;				/* close when the last frontend is gone */
	int former;				/* pid of the dead tapdisk that served this disk before; 0: none */
	bool held_paused;			/* paused by command: a successor process must not open the image unasked */
	struct vbd_freeze freeze;
	struct vbd_overlay overlay;
	struct vbd_commit commit;
	struct vbd_throttle throttle;
	struct vbd_errors errors;
	struct vbd_unresponsive unresponsive;
	struct loop_source *resume_timer;	/* vbd_resume() */
	unsigned resume_tries;
	unsigned snapshots;			/* running snapshot commands */
	unsigned settling;			/* of those: vbd_settle.c's */
	bool reverting;				/* one of them is a revert */
	bool no_space;				/* writes wait for room, and the event was sent */
	struct loop_source *space_timer;
	struct loop_source *prepare;
	struct stall_stats stalls;
	struct queue_stats past;		/* counters of past frontends */
	uint64_t stop_time;			/* loop clock, ns; 0 while running */
	struct vbd *next;			/* in the list of disks (commands.c) */
};

#endif
