/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd.h - a disk: one minor, one open backend, and the clients (rings of
 * guests, NBD connections) that submit requests to it.
 *
 *            attach          open            pause             drained             closed
 *   (none) --------> CLOSED ------> RUNNING -------> DRAINING -------> RELEASING ------> PAUSED
 *                      ^               ^  ^_______________________________________________/ |
 *                      |     close     |                      unpause                       |
 *                      +---------------+----------------------------------------------------+
 *
 * The guest must flush completed writes itself, but after a pause its flush may
 * reach another image. So the drain ends with a flush. If that fails, the disk
 * keeps running on the same image, whose next flush fails too. A forced pause
 * closes the image anyway: each client's next flush is then answered with an
 * error, whichever image is open by then.
 *
 * RELEASING: a store writes the rest of its map, and the image is closed, which
 * waits for its storage (vbd_release.c); it is locked until that has ended. Who
 * waits for it gives up when nothing was answered for a time, but a disk that
 * got here gets on to PAUSED, whenever that is; it runs again then if nobody has
 * asked for the pause.
 * PAUSED: the image is not open; another process may open, change or replace it.
 * DRAINING: every client has been told to stop, requests in flight complete, the
 * rest stay in the ring. The time from stop to start is the stall that a guest sees; stats record it. The
 * drain waits for running snapshot commands and ends a freeze immediately. A
 * request that waits because the disk has failed it, or has no room
 * (vbd_error.c), is not in flight: it waits through a pause, and fails when the
 * disk is closed.
 */
#ifndef TAPDISK_VBD_H
#define TAPDISK_VBD_H

#include <jansson.h>

#include "vbd_state.h"

/* A source of requests. The client embeds this in its own structure. */
struct vbd_client {
	const struct vbd_client_ops *ops;
	struct vbd *vbd;
	struct vbd_client *next;
	bool leaving;					/* disconnecting: its requests do not wait for room */
	unsigned losses_reported;			/* how many of vbd->losses a failed flush has reported */
};

struct vbd_client_ops {
	void (*stop)(struct vbd_client *client);	/* submit nothing from now on */
	void (*start)(struct vbd_client *client);	/* submit again, pending requests first */
	/* While stopped: true once the client has closed what it has open itself; polled until then. NULL: nothing open. */
	bool (*quiet)(struct vbd_client *client);
	/* False if @req is no longer needed; it never becomes wanted again: vbd_error_drop_unwanted(). NULL: always true. */
	bool (*wanted)(const struct vbd_client *client, const struct block_request *req);
	/* Before each sleep: answer completed requests, take new ones. True: call again before sleeping. A leaving client
	 * with nothing in flight removes itself here. NULL: the client runs from its own callbacks. */
	bool (*run)(struct vbd_client *client);
	/* The disk is being closed: leave. NULL: the client does not keep the disk open and ends with it. */
	void (*close)(struct vbd_client *client);
	/* Its entries in the disk object and the stats object; stats adds its counters to @sum. NULL: no entry. */
	json_t *(*info)(const struct vbd_client *client);
	json_t *(*stats)(const struct vbd_client *client, struct queue_stats *sum);
};

int vbd_create(struct vbd **vbd, struct loop *loop, struct engine *engine, int minor);
void vbd_destroy(struct vbd *vbd);		/* must be closed */
/* -EAGAIN, -EOWNERDEAD: backend_open_again() says whether to retry. The same holds for vbd_unpause(). */
int vbd_open(struct vbd *vbd, const char *target, const struct driver_options *options, struct error_text *text);

/*
 * For a running disk that will be paused: a store writes its map while the
 * clients go on, so that the pause is short. Then calls done(arg), which may be
 * from inside vbd_settle(). Until then vbd_unpause() is refused, as in a drain.
 */
void vbd_settle(struct vbd *vbd, void (*done)(void *arg), void *arg);

/*
 * Stop the clients, drain, flush and close the image, then call done(arg, 0).
 * If the flush fails, the disk keeps running and done() gets the error; with
 * @force it is paused anyway and vbd->lost is set. Several callers may wait for
 * the same drain; it is forced if any of them forces it. The disk stays paused
 * until vbd_unpause(). -ETIMEDOUT, with vbd_is_stuck(): the image was not closed
 * in time; the disk is paused, or closed, as soon as it is.
 */
int vbd_pause(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text);
/* Run again, on the image @target (NULL: the same image). On failure the disk stays paused (TD_RESUME_FAILED). */
int vbd_unpause(struct vbd *vbd, const char *target, struct error_text *text);
/* The same from the loop, where nobody waits for it and nothing of another disk is under way; tries again where that may help. */
void vbd_resume_soon(struct vbd *vbd);
/* Drain, disconnect every client when @force, close the image. -EBUSY while connected and not @force. */
int vbd_close(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text);
/* RELEASING, and nothing was answered for vbd->close_limit_ms. */
bool vbd_is_stuck(const struct vbd *vbd);
/* Close an image that no disk uses, without waiting for its storage. */
void vbd_close_aside(struct backend *backend);
/* Read the image's size again; a change is sent as an event, and its receiver tells the guest. */
int vbd_resize(struct vbd *vbd, struct error_text *text);

/*
 * A snapshot command (vbd_snapshot.c). The caller owns it and keeps it until
 * done(), which is called once, from inside vbd_snapshot() or later.
 * Besides the driver's own errors: -EINVAL if no image is open; -EBUSY if the
 * disk is not running, if another command already stops writes, or for REVERT
 * while there are clients; -ETIMEDOUT for PREPARE and THAW when the freeze has
 * ended.
 */
struct vbd_snapshot {
	struct snapshot_command command;	/* in: op and its arguments; out: stall_ns, error */
	uint64_t token;				/* FREEZE: out; PREPARE, THAW: in */
	unsigned lease_ms;			/* FREEZE: it expires after this time */
	const void *holder;			/* FREEZE: for vbd_release_freeze() */
	const char *store;			/* FREEZE of a raw disk: the store that takes it over; NULL: none */
	void (*done)(struct vbd_snapshot *snapshot, int error);
	void *owner;
	struct vbd *vbd;
};

void vbd_snapshot(struct vbd *vbd, struct vbd_snapshot *snapshot);
void vbd_release_freeze(struct vbd *vbd, const void *holder);

/*
 * Start to copy the store back to the raw image that the disk was opened as, at up to @rate bytes a second (0: no
 * limit). If a commit is already running, @adjust changes its rate. vbd_info() shows the progress.
 */
int vbd_commit(struct vbd *vbd, uint64_t rate, bool adjust, struct error_text *text);
int vbd_commit_cancel(struct vbd *vbd, struct error_text *text);
bool vbd_commit_active(const struct vbd *vbd);
/* Limits per second, 0: none; @burst_ms is at least 1. They apply until the disk is detached. */
void vbd_throttle_set(struct vbd *vbd, uint64_t iops, uint64_t bytes, unsigned burst_ms);
json_t *vbd_throttle_info(const struct vbd *vbd);
/* For clients with wanted(): complete their unwanted throttled requests with -ECANCELED before returning. */
void vbd_throttle_drop_unwanted(struct vbd_client *client);

/* "report", "enospc", "stop". */
const char *vbd_on_error_name(enum vbd_on_error policy);
int vbd_on_error_parse(const char *name, enum vbd_on_error *policy, struct error_text *text);
/* Valid until the image is closed. Waiting requests whose error @policy reports are answered. */
void vbd_on_error_set(struct vbd *vbd, enum vbd_on_error policy);
/* Retry all *@count waiting requests; if the disk is stopped, the first one alone. -EBUSY: not running. */
int vbd_error_resume(struct vbd *vbd, unsigned *count, struct error_text *text);
json_t *vbd_error_info(const struct vbd *vbd);
/* For a new listener: the event of a condition that holds now; NULL: it does not hold. */
json_t *vbd_error_event(const struct vbd *vbd);
json_t *vbd_unresponsive_event(const struct vbd *vbd);
json_t *vbd_space_event(const struct vbd *vbd);
/* For clients: complete their unwanted waiting requests with -ECANCELED before returning. */
void vbd_error_drop_unwanted(struct vbd_client *client);
/* Send @event (may be NULL) to the listeners and release it. */
void vbd_emit_event(struct vbd *vbd, json_t *event);

/* For clients. add: -ENODEV: closed or being closed; -EBUSY: a revert is running. Calls stop() if the disk is stopped. */
int vbd_add_client(struct vbd *vbd, struct vbd_client *client);
void vbd_remove_client(struct vbd_client *client);
/* Submit for @client; never call between stop() and start(). req->done is called as by backend_submit(). */
void vbd_submit(struct vbd_client *client, struct block_request *req);

/* The disk object and the stats object of docs/protocol.md; the caller owns the reference. */
json_t *vbd_info(const struct vbd *vbd);
json_t *vbd_stats(const struct vbd *vbd);

/* Receives events (a JSON object, borrowed); set by the control socket. */
extern void (*vbd_event)(struct vbd *vbd, json_t *event);

#endif
