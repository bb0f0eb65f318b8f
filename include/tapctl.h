/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapctl.h - the client library: one connection to one tapdisk, and the
 * housekeeping of minors and processes. tap-ctl, tapback, the frontend
 * library and storage managers sit on it. docs/protocol.md says what the
 * commands mean.
 *
 * Errors are -errno. A call with @text fills it with one line for a person
 * on failure. Threads: a connection belongs to one thread at a time.
 */
#ifndef TAPSNAP_TAPCTL_H
#define TAPSNAP_TAPCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

#include "error.h"
#include "protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tapctl;

/* RUN_DIR_DEFAULT or what the environment says. Never freed. */
const char *tapctl_run_dir(void);

/* Connect to the tapdisk @pid. -ENOENT / -ECONNREFUSED: no such process (any more). */
int tapctl_connect(struct tapctl **ctl, int pid, struct error_text *text);
void tapctl_close(struct tapctl *ctl);
int tapctl_fd(const struct tapctl *ctl);

/*
 * One command, one reply (events that come in between are dropped). Takes
 * over @request (a JSON object without "version"), also on failure. On success *@reply (may be NULL if not wanted) is
 * the caller's to json_decref(). @timeout_ms: -1 waits for ever; -ETIMEDOUT closes nothing
 * but the connection is of no further use. @fds: sent along; they stay the caller's, who closes them.
 */
int tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text);
int tapctl_call_fds(struct tapctl *ctl, json_t *request, const int *fds, unsigned nr_fds,
		    json_t **reply, int timeout_ms, struct error_text *text);

/*
 * As long as @fd can be read the calls that wait for an answer end with -EINTR instead, as they do with -ETIMEDOUT.
 * -1, as it is at first: none does. For programs with one thread.
 */
void tapctl_set_interrupt(int fd);
int tapctl_interrupt(void);

/* The asynchronous halves of tapctl_call(), for event loops. send: takes over @request, also on failure; queues it and
 * writes what the socket takes (never -EAGAIN: the rest goes out by later calls). receive: 0 and *@message (a reply or an
 * event), the caller's to json_decref(), when one is complete, -EAGAIN when not yet, -EPIPE at the end.
 * tapctl_set_nonblocking() first. */
int tapctl_set_nonblocking(struct tapctl *ctl);
int tapctl_send(struct tapctl *ctl, json_t *request);
int tapctl_receive(struct tapctl *ctl, json_t **message);
bool tapctl_wants_write(const struct tapctl *ctl);
int tapctl_flush(struct tapctl *ctl);
/* A reply as an error: 0, or its -errno with its text. */
int tapctl_reply_error(json_t *reply, struct error_text *text);

/* A text for a person as JSON, which is UTF-8: bytes of it that are not become '?'. NULL: no memory. */
json_t *tapctl_text_json(const char *text);

/* Minors: marker files. allocate makes the lowest free one (>= 0), or @wanted when that is not -1. */
int tapctl_minor_allocate(int wanted, struct error_text *text);
int tapctl_minor_free(int minor, struct error_text *text);
/* Call @each for every marker; @locked_by is the pid of the tapdisk that has it, or 0. 0, or -errno: not all were found. */
int tapctl_minor_list(void (*each)(int minor, int locked_by, void *arg), void *arg);
/* Call @each for every tapdisk that answers; sockets of dead ones are removed. 0, or -errno: not all were found. */
int tapctl_process_list(void (*each)(int pid, void *arg), void *arg);
/* Remove the sockets and statistics that a dead tapdisk left; -EBUSY while it lives. */
int tapctl_process_clean(int pid);

/*
 * Snapshots of any number of disks, each named by its process and minor. The
 * calls wait; every disk gets its command at the same time. @text names the disk.
 */
struct tapctl_disk {
	int pid, minor;
	/*
	 * For a snapshot of a raw disk: the store that is to take over from it, which is made on it; a directory: a file there
	 * called like the image, with .cow, and nothing for a disk that is in a store already. NULL: none.
	 */
	const char *store;
};

struct tapctl_snapshot {
	const char *name;
	const char *description;	/* NULL: none */
	unsigned lease_ms;		/* how long a disk stands still at most when something goes wrong; 0: 5000 */
	int timeout_ms;			/* for each answer; -1: wait for ever */
	const char *owner;		/* for tapctl_records_forget(); NULL: none */
	/*
	 * Called when the moment is fixed: all disks stand still and were instructed to keep it, so a program that wrote to
	 * them may go on, though nothing is durable or decided yet. NULL: none.
	 */
	void (*held)(void *arg);
	void *held_arg;
	double stall_us;		/* out: how long writes stood still, at most */
	bool taken;			/* out: of all disks, even when the call failed */
};

/*
 * tapctl_snapshot_group() - all of the disks at one instant, or none. A
 * failure with ->taken set means that the snapshot is there, but a disk
 * could not be notified; its next opening finds out by itself. May be killed at any point: whatever was
 * not decided by then is undone by each disk.
 */
int tapctl_snapshot_group(const struct tapctl_disk *disks, unsigned count, struct tapctl_snapshot *snapshot,
			  struct error_text *text);
/*
 * The same in two steps, for what must not stand still long: everything that
 * can be done while the disks are written goes into tapctl_group_begin();
 * tapctl_group_take() then takes it. @snapshot is kept until tapctl_group_end().
 */
struct tapctl_group;
int tapctl_group_begin(struct tapctl_group **group, const struct tapctl_disk *disks, unsigned count,
		       struct tapctl_snapshot *snapshot, struct error_text *text);
int tapctl_group_take(struct tapctl_group *group, struct error_text *text);
/* Without tapctl_group_take(): nothing is left. NULL does nothing. */
void tapctl_group_end(struct tapctl_group *group);
/* 0 or -errno. *@snapshots: an array of what docs/protocol.md shows, the caller's to json_decref(). */
int tapctl_snapshot_list(const struct tapctl_disk *disk, json_t **snapshots, int timeout_ms, struct error_text *text);
/* Of each disk, when all of them have it. On failure @text says which disks have it no more. */
int tapctl_snapshot_delete(const struct tapctl_disk *disks, unsigned count, const char *name, int timeout_ms,
			   struct error_text *text);
/*
 * All of them go back, or none: when all have the snapshot and none is in use. @owner as in struct tapctl_snapshot. May
 * be killed at any point, as tapctl_snapshot_group() may. -EINPROGRESS, and whatever fails after the decision: @text says
 * which disk has to be closed and opened to know.
 */
int tapctl_snapshot_revert(const struct tapctl_disk *disks, unsigned count, const char *name, const char *owner,
			   int timeout_ms, struct error_text *text);
/*
 * What was decided for @owner (no "/" in it) is known by now to all of its disks, because each has been opened or
 * notified since: the records that a kill or a power cut has left go, for good.
 */
int tapctl_records_forget(const char *owner, struct error_text *text);

/* "cow:PATH@NAME". */
bool tapctl_store_is_snapshot(const char *target);
/* The tapdisk that @target has to be opened in, because it has the store that @target is read from; 0: any. -ETIMEDOUT with a
 * text: what it is on does not answer (probe.h). */
int tapctl_store_process(const char *target, struct error_text *text);
/* The tapdisk that has the store @path open, and one of the disks that are in it; 0: none. */
int tapctl_store_owner(const char *path, int *minor);

/*
 * tapctl_takeover() - a fresh tapdisk for the disks that the tapdisk @pid had when it died, or (@minor not -1) for that one.
 * Waits until the dead one's I/O has ended. Frontends are connected by the process that has their rings (tapback), with `take_over`. Disks that
 * were paused are left alone unless named. Returns the pid; -EBUSY: @pid lives; -ENOENT: it has left nothing, or another
 * process was first.
 */
int tapctl_takeover(int pid, int minor, struct error_text *text);
/* The same of one that lives: all its disks at once. */
int tapctl_upgrade(int pid, struct error_text *text);
/* The tapdisk that has or, when that has died, had @minor open last; 0: none. */
int tapctl_takeover_owner(int minor);
/* The tapdisk that has taken @minor over from @pid; 0: none has. */
int tapctl_takeover_successor(int pid, int minor);

/* Start a tapdisk; returns its pid when it is listening, or -errno. */
int tapctl_spawn(struct error_text *text);

#ifdef __cplusplus
}
#endif

#endif
