/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd.h - a disk: one minor, one open backend, and the clients (rings of
 * guests, NBD connections) that submit requests to it.
 *
 *            attach          open            pause               (drained)
 *   (none) --------> CLOSED ------> RUNNING -------> DRAINING ------------> PAUSED
 *                      ^               ^  ^_________________________________/ |
 *                      |     close     |            unpause                   |
 *                      +---------------+--------------------------------------+
 *
 * Writes that were completed and not flushed are the guest's to flush; after a
 * pause its flush may meet another image. So the drain ends with a flush. When
 * that fails the disk runs on, on the image whose own next flush fails too. A
 * forced pause closes the image all the same: then each client's next flush is
 * answered with an error, whatever image is open by then.
 *
 * Paused means that the image is not open: somebody else may have it, change
 * it, put another in its place. Draining: every client has been told to stop, what is in flight goes on to
 * its end, the rest stays where it is (in the ring). The time from the stop
 * to the start again is the stall that a guest sees; it is kept in stats.
 * Commands to snapshots end first, and a freeze ends at once. A request that
 * waits because the disk has failed it, or has no room (vbd_error.c), is not
 * in flight: it waits through a pause, and when the disk is closed it fails.
 */
#ifndef TAPDISK_VBD_H
#define TAPDISK_VBD_H

#include <jansson.h>

#include "driver.h"
#include "loop.h"
#include "protocol.h"
#include "request_list.h"
#include "stats.h"
#include "waiter.h"

enum vbd_state { VBD_CLOSED, VBD_RUNNING, VBD_DRAINING, VBD_PAUSED };

struct vbd;

/* Whoever submits requests. The client embeds this. */
struct vbd_client {
	const struct vbd_client_ops *ops;
	struct vbd *vbd;
	struct vbd_client *next;
	unsigned losses_told;				/* of vbd->losses, by a flush that was answered with an error */
};

struct vbd_client_ops {
	void (*stop)(struct vbd_client *client);	/* submit nothing from now on */
	void (*start)(struct vbd_client *client);	/* go on, with what has piled up */
	/* Between them: has it let go of what it has open itself? Asked until it has. NULL: it has nothing. */
	bool (*quiet)(struct vbd_client *client);
	/* Is @req still of use? Once not, never again: vbd_error_drop_unwanted(). NULL: all are. */
	bool (*wanted)(const struct vbd_client *client, const struct block_request *req);
};

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

/* What becomes of requests that the disk fails (vbd_error.c). */
enum vbd_on_error { ON_ERROR_ENOSPC, ON_ERROR_REPORT, ON_ERROR_STOP };

struct vbd_io_error {
	enum block_op op;
	uint64_t sector, nr_sectors;
	int error;				/* -errno */
};

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

/* An image that does not answer (vbd_silence.c). */
struct vbd_silence {
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
	struct blkif *connections;		/* ring frontends (blkif.h) */
	struct nbd_server *nbd;			/* NULL while closed */
	struct waiter *waiters;			/* whoever waits for the drain or the close */
	struct block_request flush;		/* the last thing before the image is closed */
	bool flushing, drained;			/* it is in flight; it is done */
	bool forced;				/* this drain ends paused even if the flush fails */
	bool lost;				/* the last drain ended so, without its flush */
	unsigned losses;			/* how many drains since the open did */
	bool loss_told;				/* the last loss was told to somebody: not news to who comes now */
	bool closing;				/* close when the last frontend is gone */
	int former;				/* the tapdisk that had it before and died; 0: none */
	bool held_paused;			/* by command: a successor of this process must not open the image unasked */
	struct vbd_freeze freeze;
	struct vbd_overlay overlay;
	struct vbd_commit commit;
	struct vbd_throttle throttle;
	struct vbd_errors errors;
	struct vbd_silence silence;
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

int vbd_create(struct vbd **vbd, struct loop *loop, struct engine *engine, int minor);
void vbd_destroy(struct vbd *vbd);		/* must be closed */
/* TD_* bits for tap-ctl list. */
unsigned vbd_state_bits(const struct vbd *vbd);

/* -EAGAIN, -EOWNERDEAD: as backend_open_again() says; vbd_unpause(), too. */
int vbd_open(struct vbd *vbd, const char *target, const struct driver_options *options, struct error_text *text);

/*
 * Stop the clients, drain, flush and close the image, then call done(arg, 0).
 * When the flush fails the disk runs on and done() gets the error; with @force
 * it is paused nevertheless, and vbd->lost says so. Several may wait for the
 * same drain, which is forced when one of them forces it. The disk stays
 * paused until vbd_unpause().
 */
int vbd_pause(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text);
/* Go on; with @target (may be NULL) on another image. On failure the disk stays paused (TD_RESUME_FAILED). */
int vbd_unpause(struct vbd *vbd, const char *target, struct error_text *text);
/* Drain, disconnect every client when @force, close the image. -EBUSY while connected and not @force. */
int vbd_close(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text);
/* Look again at the image's size; tells watchers, who tell guests. */
int vbd_resize(struct vbd *vbd, struct error_text *text);

/* Like vbd_resize(), in any state with an image open. */
int vbd_refresh_size(struct vbd *vbd, struct error_text *text);

/*
 * A command to the disk's snapshots (vbd_snapshot.c). The caller owns it
 * until done(), which comes once, from inside vbd_snapshot() or later.
 * Refused, beside what the driver refuses: all while no image is open
 * (-EINVAL) or the disk is not running (-EBUSY); what stops writes while
 * another command does (-EBUSY); REVERT while there are clients (-EBUSY);
 * PREPARE and THAW when that freeze has ended (-ETIMEDOUT).
 */
struct vbd_snapshot {
	struct snapshot_command command;	/* in: op and what belongs to it; out: stall_ns, error */
	uint64_t token;				/* FREEZE: out; PREPARE, THAW: in */
	unsigned lease_ms;			/* FREEZE: when it ends by itself */
	const void *holder;			/* FREEZE: for vbd_release_freeze() */
	const char *store;			/* FREEZE of a raw disk: what is to take it over; NULL: none */
	void (*done)(struct vbd_snapshot *snapshot, int error);
	void *owner;
	struct vbd *vbd;
};

void vbd_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot);
/* End a freeze, if there is one. @why: a string that lasts. */
void vbd_thaw(struct vbd *vbd, const char *why);
void vbd_release_freeze(struct vbd *vbd, const void *holder);

/* vbd_overlay.c, for vbd_snapshot.c: is that command about a raw disk and the store to be? It ends in done(). */
bool vbd_overlay_takes(const struct vbd *vbd, const struct vbd_snapshot *snapshot);
void vbd_overlay_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot);
void vbd_overlay_release(struct vbd *vbd, const void *holder);
/* Somebody else has ended the pause: that freeze is over. */
void vbd_overlay_forget(struct vbd *vbd);
/* End a pause that nobody asked for; tries again where that may help. A failure is logged, and the disk stays paused. */
void vbd_resume(struct vbd *vbd);

/*
 * The disk goes back to the raw image that it was opened as. begin: or, if it is under way and with @adjust, gets another
 * @rate (bytes a second; 0: no limit). How it goes vbd_info() tells.
 */
int vbd_commit(struct vbd *vbd, uint64_t rate, bool adjust, struct error_text *text);
int vbd_commit_cancel(struct vbd *vbd, struct error_text *text);
bool vbd_commit_active(const struct vbd *vbd);
json_t *vbd_commit_info(const struct vbd *vbd);
/* vbd_commit.c, for vbd.c. run: before each sleep; true: look again. */
bool vbd_commit_run(struct vbd *vbd);
/* Drained: true when there is more to do for it first. */
bool vbd_commit_end(struct vbd *vbd);
/* Draining: true when that is of no use, and the disk runs again. */
bool vbd_commit_retreat(struct vbd *vbd);
/* The store is closed, and all is in the image; after that nobody needs it. */
void vbd_commit_finish(struct vbd *vbd);
void vbd_commit_remove_store(struct vbd *vbd, const char *store);
void vbd_commit_interrupted(struct vbd *vbd);
void vbd_commit_forget(struct vbd *vbd);
/* Any of them 0: no limit; @burst_ms is at least 1. They stay until the disk is detached. */
void vbd_throttle_set(struct vbd *vbd, uint64_t iops, uint64_t bytes, unsigned burst_ms);
json_t *vbd_throttle_info(const struct vbd *vbd);
/* For vbd.c. True: @req waits, and goes to the backend when its time has come. */
bool vbd_throttle_holds(struct vbd *vbd, struct block_request *req);
/* All that wait go now. */
void vbd_throttle_release(struct vbd *vbd);
/* For clients that can tell: those of theirs that are not wanted end, with -ECANCELED, from inside. */
void vbd_throttle_drop_unwanted(struct vbd_client *client);
/* vbd.c, for vbd_commit.c: RUNNING -> DRAINING, and back unless somebody waits for its end. */
void vbd_begin_drain(struct vbd *vbd);
void vbd_undrain(struct vbd *vbd);

/* "report", "enospc", "stop". */
const char *vbd_on_error_name(enum vbd_on_error policy);
int vbd_on_error_parse(const char *name, enum vbd_on_error *policy, struct error_text *text);
/* Until the image is closed. What waits with an error that is answered under @policy is answered. */
void vbd_on_error_set(struct vbd *vbd, enum vbd_on_error policy);
/* What waits is tried again, *@count requests, the first of them alone if the disk is stopped. -EBUSY: not running. */
int vbd_error_resume(struct vbd *vbd, unsigned *count, struct error_text *text);
json_t *vbd_error_info(const struct vbd *vbd);
/* The event that tells of a condition which holds now; NULL: it does not. For who begins to listen. */
json_t *vbd_error_event(const struct vbd *vbd);
json_t *vbd_silence_event(const struct vbd *vbd);
json_t *vbd_space_event(const struct vbd *vbd);
/* For clients: requests of theirs that wait and are not wanted end, with -ECANCELED, from inside. */
void vbd_error_drop_unwanted(struct vbd_client *client);
/* For vbd*.c. takes: backend->failed. holds: the disk is stopped, and @req waits. */
bool vbd_error_takes(struct block_request *req, int error);
bool vbd_error_holds(struct vbd *vbd, struct block_request *req);
/* It runs (again): what waits is tried. Returns how many. */
unsigned vbd_error_go_on(struct vbd *vbd);
/* There may be room now. */
void vbd_error_try_room(struct vbd *vbd);
/* The disk is being closed: what waits ends with its error. */
void vbd_error_end(struct vbd *vbd);
/* To the image, unless the disk is stopped by an error. */
void vbd_forward(struct vbd *vbd, struct block_request *req);

/* vbd_silence.c, for vbd.c: before each sleep; when the image is closed. */
void vbd_watch_silence(struct vbd *vbd);
void vbd_forget_silence(struct vbd *vbd);
extern unsigned vbd_silence_ms;			/* so long without an answer is told; tests set it */

/* Tell who listens; takes over @event, which may be NULL. */
void vbd_tell(struct vbd *vbd, json_t *event);

/* vbd_space.c, for vbd.c: to be called before each sleep; when the image is closed. */
void vbd_watch_space(struct vbd *vbd);
void vbd_forget_space(struct vbd *vbd);

/* For clients. add: refused (-ENODEV) while closed, (-EBUSY) while the disk goes back to a snapshot; on a stopped disk the client is told stop() at once. */
int vbd_add_client(struct vbd *vbd, struct vbd_client *client);
void vbd_remove_client(struct vbd_client *client);
/* Submit for @client; never call between stop() and start(). req->done comes as with backend_submit(). */
void vbd_submit(struct vbd_client *client, struct block_request *req);

/* The disk object and the stats object of docs/protocol.md; the caller's to json_decref(). */
json_t *vbd_info(const struct vbd *vbd);
json_t *vbd_stats(const struct vbd *vbd);

/* A frontend's parameters, out of the `connect` command. */
struct blkif_params {
	bool shm;				/* the stand-in transport */
	uint32_t domid, devid;
	const char *protocol;			/* "x86_64-abi", ..., NULL: native */
	bool persistent, direct_io_safe, read_only;
	bool take_over;				/* the frontend goes on with rings that a tapdisk which died had */
	unsigned nr_queues, ring_pages;		/* ring_pages: per queue, a power of two */
	struct {
		uint32_t refs[1 << MAX_RING_PAGE_ORDER];
		uint32_t port;
	} queues[MAX_QUEUES];
	int fds[PROTOCOL_MAX_FDS];		/* shm only; taken over whether it works or not */
	unsigned nr_fds;
};

/* For who cannot take over the descriptors. */
void blkif_params_close(const struct blkif_params *params);

int vbd_connect(struct vbd *vbd, const struct blkif_params *params, struct error_text *text);
/* Drain that frontend's requests, unmap, unbind, then done(arg, 0). -ENOENT when there is no such frontend. Several
 * may wait for the same end. @done may be NULL. */
int vbd_disconnect(struct vbd *vbd, uint32_t domid, uint32_t devid,
		   void (*done)(void *arg, int error), void *arg, struct error_text *text);

/* Somebody to tell of events (a JSON object, borrowed): the control socket sets it. */
extern void (*vbd_event)(struct vbd *vbd, json_t *event);

#endif
