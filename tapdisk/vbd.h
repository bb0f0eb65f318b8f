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

#include "vbd_state.h"

/* Whoever submits requests. The client embeds this. */
struct vbd_client {
	const struct vbd_client_ops *ops;
	struct vbd *vbd;
	struct vbd_client *next;
	bool leaving;					/* it goes: nothing of it waits for room */
	unsigned losses_reported;			/* of vbd->losses, by a flush that was answered with an error */
};

struct vbd_client_ops {
	void (*stop)(struct vbd_client *client);	/* submit nothing from now on */
	void (*start)(struct vbd_client *client);	/* go on, with what has piled up */
	/* Between them: has it let go of what it has open itself? Asked until it has. NULL: it has nothing. */
	bool (*quiet)(struct vbd_client *client);
	/* Is @req still of use? Once not, never again: vbd_error_drop_unwanted(). NULL: all are. */
	bool (*wanted)(const struct vbd_client *client, const struct block_request *req);
	/* Before each sleep: answer what is done, take what is new. True when there is more to do at once. One that leaves
	 * and has nothing at the disk any more removes itself here. NULL: it sees to itself. */
	bool (*run)(struct vbd_client *client);
	/* The disk is being closed: leave. NULL: it keeps no disk open, and goes with it. */
	void (*close)(struct vbd_client *client);
	/* What the disk object and the stats object show of it; what it has counted is added to @sum. Both NULL: nothing. */
	json_t *(*info)(const struct vbd_client *client);
	json_t *(*stats)(const struct vbd_client *client, struct queue_stats *sum);
};

int vbd_create(struct vbd **vbd, struct loop *loop, struct engine *engine, int minor);
void vbd_destroy(struct vbd *vbd);		/* must be closed */
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
/* The same from the loop, where nobody waits for it and nothing of another disk is under way; tries again where that may help. */
void vbd_resume_soon(struct vbd *vbd);
/* Drain, disconnect every client when @force, close the image. -EBUSY while connected and not @force. */
int vbd_close(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text);
/* Look again at the image's size; tells watchers, who tell guests. */
int vbd_resize(struct vbd *vbd, struct error_text *text);

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
void vbd_release_freeze(struct vbd *vbd, const void *holder);

/*
 * The disk goes back to the raw image that it was opened as. begin: or, if it is under way and with @adjust, gets another
 * @rate (bytes a second; 0: no limit). How it goes vbd_info() tells.
 */
int vbd_commit(struct vbd *vbd, uint64_t rate, bool adjust, struct error_text *text);
int vbd_commit_cancel(struct vbd *vbd, struct error_text *text);
bool vbd_commit_active(const struct vbd *vbd);
/* Any of them 0: no limit; @burst_ms is at least 1. They stay until the disk is detached. */
void vbd_throttle_set(struct vbd *vbd, uint64_t iops, uint64_t bytes, unsigned burst_ms);
json_t *vbd_throttle_info(const struct vbd *vbd);
/* For clients that can tell: those of theirs that are not wanted end, with -ECANCELED, from inside. */
void vbd_throttle_drop_unwanted(struct vbd_client *client);

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
json_t *vbd_unresponsive_event(const struct vbd *vbd);
json_t *vbd_space_event(const struct vbd *vbd);
/* For clients: requests of theirs that wait and are not wanted end, with -ECANCELED, from inside. */
void vbd_error_drop_unwanted(struct vbd_client *client);
/* Tell who listens; takes over @event, which may be NULL. */
void vbd_emit_event(struct vbd *vbd, json_t *event);

/* For clients. add: refused (-ENODEV) while closed, (-EBUSY) while the disk goes back to a snapshot; on a stopped disk the client is told stop() at once. */
int vbd_add_client(struct vbd *vbd, struct vbd_client *client);
void vbd_remove_client(struct vbd_client *client);
/* Submit for @client; never call between stop() and start(). req->done comes as with backend_submit(). */
void vbd_submit(struct vbd_client *client, struct block_request *req);

/* The disk object and the stats object of docs/protocol.md; the caller's to json_decref(). */
json_t *vbd_info(const struct vbd *vbd);
json_t *vbd_stats(const struct vbd *vbd);

/* Somebody to tell of events (a JSON object, borrowed): the control socket sets it. */
extern void (*vbd_event)(struct vbd *vbd, json_t *event);

#endif
