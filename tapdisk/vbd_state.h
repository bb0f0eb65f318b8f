/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_state.h - what a disk consists of (vbd.h). Others read it: which disk
 * it is and in which state, the image, what was set. It is vbd*.c's to change,
 * but for `former` and `held_paused`, which commands set, and `past`, where a
 * frontend that goes leaves its counts.
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

enum vbd_state { VBD_CLOSED, VBD_RUNNING, VBD_DRAINING, VBD_PAUSED };

/* What becomes of requests that the disk fails (vbd_error.c). */
enum vbd_on_error { ON_ERROR_ENOSPC, ON_ERROR_REPORT, ON_ERROR_STOP };

/* A freeze, from the command to its end (vbd_snapshot.c). */
struct vbd_freeze {
	enum { FREEZE_NONE, FREEZE_BEGUN, FREEZE_HELD, FREEZE_PREPARING } state;
	uint64_t token;				/* loop clock when it began, ns, which no other shares */
	const char *why_ended;			/* BEGUN, and not wanted any more */
	struct loop_source *lease;
	const void *holder;
	struct snapshot_command thaw;
	bool thawing;				/* it runs */
};

/* The same of a raw disk that a store is to take over (vbd_overlay.c). */
struct vbd_overlay {
	uint64_t token;				/* as above; 0: none */
	bool held;				/* the image is drained and closed */
	char *store;
	const void *holder;
	struct loop_source *lease;
	struct vbd_snapshot *waiting;		/* the FREEZE, until it is drained */
};

/* A commit of the store to the image that was asked for (vbd_commit.c); its result stays until the next. */
enum vbd_commit_state {
	COMMIT_NONE, COMMIT_BEGINNING, COMMIT_RUNNING, COMMIT_ENDING, COMMIT_DONE, COMMIT_FAILED, COMMIT_CANCELED,
};

struct vbd_commit {
	enum vbd_commit_state state;
	struct snapshot_command command;
	bool busy;				/* it runs */
	bool cancel;
	bool synced;				/* since the last step */
	bool merged;				/* all is in the image; the record is still there */
	uint64_t total, left;			/* bytes */
	unsigned pass;
	uint64_t rate;				/* bytes copied in a second at most; 0: no limit */
	uint64_t due;				/* loop clock, ns: no step before */
	struct loop_source *timer;
	int error;				/* FAILED, CANCELED: -errno, and its text */
	struct error_text why;
};

/* Limits of what its clients may have in a second (vbd_throttle.c). */
struct vbd_throttle {
	uint64_t iops, bytes;			/* 0: no limit */
	unsigned burst_ms;			/* so much of a second's may come at once */
	uint64_t iops_paid, bytes_paid;		/* loop clock, ns: what was let through is paid for by then */
	struct request_list held;
	uint64_t delayed;			/* requests that have waited */
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
	unsigned no_room;			/* of those: how many wait for room */
	bool stopped;
	struct block_request *probe;		/* tried alone while stopped, and at the disk; NULL: none */
	void (*probe_done)(struct block_request *req, int error);	/* its own */
	struct vbd_io_error error;		/* the one that stopped it, or was told last */
	uint64_t answered;			/* errors that clients have got since the open */
	uint64_t told;				/* loop clock, ns: the last event of one of them */
};

/* An image that does not answer (vbd_unresponsive.c). */
struct vbd_unresponsive {
	struct loop_source *timer;		/* while requests are at the device */
	unsigned at_device;			/* how many were when it was set, */
	uint64_t completions;			/* and how many had come back by then */
	uint64_t since;				/* loop clock, ns */
	bool told;
};

struct vbd {
	int minor;
	enum vbd_state state;
	struct loop *loop;
	struct engine *engine;
	struct backend *backend;		/* NULL while closed or paused: the image is not open then */
	struct driver_geometry geometry;	/* the backend's, kept while paused */
	struct driver_options options;
	char *journal;				/* options.journal; NULL: none */
	char *target;				/* what was asked for, "type:path" */
	bool resume_failed;
	struct vbd_client *clients;
	struct nbd_server *nbd;			/* NULL while closed */
	struct waiter *waiters;			/* whoever waits for the drain or the close */
	struct block_request flush;		/* the last thing before the image is closed */
	bool flushing, drained;			/* it is in flight; it is done */
	bool forced;				/* this drain ends paused even if the flush fails */
	bool lost;				/* the last drain ended so, without its flush */
	unsigned losses;			/* how many drains since the open did */
	bool loss_reported;			/* the last loss was told to somebody: not news to who comes now */
	bool closing;				/* close when the last frontend is gone */
	int former;				/* the tapdisk that had it before and died; 0: none */
	bool held_paused;			/* by command: a successor of this process must not open the image unasked */
	struct vbd_freeze freeze;
	struct vbd_overlay overlay;
	struct vbd_commit commit;
	struct vbd_throttle throttle;
	struct vbd_errors errors;
	struct vbd_unresponsive unresponsive;
	struct loop_source *resume_timer;	/* vbd_resume() */
	unsigned resume_tries;
	unsigned snapshots;			/* commands to the driver's snapshots that run */
	bool reverting;				/* one of them changes all that is on the disk */
	bool no_space;				/* writes wait for room, and that was told */
	struct loop_source *space_timer;
	struct loop_source *prepare;
	struct stall_stats stalls;
	struct queue_stats past;		/* of frontends that are gone */
	uint64_t stop_time;			/* loop clock, ns; 0 while running */
	struct vbd *next;			/* for whoever keeps the list of disks */
};

#endif
