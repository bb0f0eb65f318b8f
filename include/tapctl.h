/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapctl.h - the client library: one connection to one tapdisk, and the
 * housekeeping of minors and processes, for the programs of this project.
 * It is not installed: other programs call tap-ctl --json, or speak
 * docs/protocol.md, which says what the commands mean. What is installed for
 * them is domain-snapshot.h.
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
 * but the connection is of no further use. @fds: sent along; the caller still closes them.
 */
int tapctl_call(struct tapctl *ctl, json_t *request, json_t **reply, int timeout_ms, struct error_text *text);
int tapctl_call_fds(struct tapctl *ctl, json_t *request, const int *fds, unsigned nr_fds,
		    json_t **reply, int timeout_ms, struct error_text *text);

/*
 * While @fd is readable, calls that wait for an answer fail with -EINTR; the connection is then as after -ETIMEDOUT.
 * -1, the default: none. For programs with one thread.
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

/* @text as a JSON string, which is UTF-8: invalid bytes become '?'. NULL: out of memory. */
json_t *tapctl_text_json(const char *text);
/* What a tool prints with --json when a command failed: `ok`, `errno`, `error`. @error: -errno; @text: "": the errno's. */
json_t *tapctl_failure_json(int error, const char *text);

/* Minors: marker files. allocate takes the lowest free one (>= 0), or @wanted when that is not -1. */
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
 * calls block; all disks get their command at the same time. @text names the disk.
 */
struct tapctl_disk {
	int pid, minor;
	/*
	 * For a snapshot of a raw disk: the store to make on the image, which replaces it. If it is a directory, the store
	 * is a file in it named after the image, with .cow; a disk that is in a store already ignores it. NULL: none.
	 */
	const char *store;
};

struct tapctl_snapshot {
	const char *name;
	const char *description;	/* NULL: none */
	unsigned lease_ms;		/* how long a disk stands still at most when the caller dies or hangs; 0: 5000 */
	int timeout_ms;			/* for each answer; -1: wait for ever */
	const char *owner;		/* for tapctl_records_forget(); NULL: none */
	/*
	 * Called when the moment is fixed: all disks stand still and have been told to keep their contents, so a program that
	 * writes to them may continue, though nothing is durable or decided yet. NULL: none.
	 */
	void (*held)(void *arg);
	void *held_arg;
	double stall_us;		/* out: from the first disk's freeze to the last one's thaw */
	bool taken;			/* out: all disks have the snapshot, even when the call failed */
};

/*
 * tapctl_snapshot_group() - snapshot all disks at one instant, or none. A
 * failure with ->taken set means that the snapshot exists, but a disk could
 * not be notified; its next open reads the decision. The caller may be killed
 * at any point: what was not decided by then is undone by each disk.
 */
int tapctl_snapshot_group(const struct tapctl_disk *disks, unsigned count, struct tapctl_snapshot *snapshot,
			  struct error_text *text);
/*
 * The same in two steps, to keep disks still for a short time: tapctl_group_begin()
 * does everything that can be done while the disks are written;
 * tapctl_group_take() takes the snapshot. @snapshot must live until tapctl_group_end().
 */
struct tapctl_group;
int tapctl_group_begin(struct tapctl_group **group, const struct tapctl_disk *disks, unsigned count,
		       struct tapctl_snapshot *snapshot, struct error_text *text);
int tapctl_group_take(struct tapctl_group *group, struct error_text *text);
/* Without tapctl_group_take(): undoes everything. NULL: does nothing. */
void tapctl_group_end(struct tapctl_group *group);
/* 0 or -errno. *@snapshots: an array of what docs/protocol.md shows, the caller's to json_decref(). */
int tapctl_snapshot_list(const struct tapctl_disk *disk, json_t **snapshots, int timeout_ms, struct error_text *text);
/* Delete from each disk, if all of them have it. On failure @text names the disks that no longer have it. */
int tapctl_snapshot_delete(const struct tapctl_disk *disks, unsigned count, const char *name, int timeout_ms,
			   struct error_text *text);
/*
 * Revert all disks, or none: all must have the snapshot, and none may be in use. @owner as in struct tapctl_snapshot. The
 * caller may be killed at any point, as in tapctl_snapshot_group(). -EINPROGRESS, or any failure after the decision: @text
 * names the disk that must be closed and opened to complete it.
 */
int tapctl_snapshot_revert(const struct tapctl_disk *disks, unsigned count, const char *name, const char *owner,
			   int timeout_ms, struct error_text *text);
/*
 * Delete for good the decision records of @owner (no "/" in it) that a kill or a power cut has left. Call it when
 * each of its disks has been opened or notified since, and so knows the decision.
 */
int tapctl_records_forget(const char *owner, struct error_text *text);

/* True for "cow:PATH@NAME". */
bool tapctl_store_is_snapshot(const char *target);
/* The tapdisk in which @target must be opened, because it has the store of @target open; 0: any. -ETIMEDOUT with a
 * text: the storage of @target does not answer (probe.h). */
int tapctl_store_process(const char *target, struct error_text *text);
/* The tapdisk that has the store @path open, and in *@minor one of the disks in it; 0: none. */
int tapctl_store_owner(const char *path, int *minor);

/*
 * tapctl_takeover() - start a tapdisk for the disks of the dead tapdisk @pid, or (@minor not -1) for that one disk. Waits
 * until the dead one's I/O has ended. The owner of the rings (tapback) connects the frontends, with `take_over`. Paused
 * disks are skipped unless named. Returns the new pid; -EBUSY: @pid lives; -ENOENT: it left nothing, or another
 * process was first.
 */
int tapctl_takeover(int pid, int minor, struct error_text *text);
/* The same for a running tapdisk, with all its disks. */
int tapctl_upgrade(int pid, struct error_text *text);
/* The tapdisk that has @minor open or, when that has died, had it open last; 0: none. */
int tapctl_takeover_owner(int minor);
/* The tapdisk that took @minor over from @pid; 0: none. */
int tapctl_takeover_successor(int pid, int minor);

/* Start a tapdisk; returns its pid when it is listening, or -errno. */
int tapctl_spawn(struct error_text *text);

#endif
