/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain-snapshot.h - snapshots of Xen domains: memory and all disks at one
 * instant. xl-snapshot sits on it, and toolstacks can.
 *
 * A session carries any number of operations at a time, each on a thread of
 * its own. A call returns at once; how the operation goes is told through
 * callbacks, which are only ever called from inside
 * domain_snapshots_dispatch(). A callback may start and cancel operations; it
 * is not to dispatch, or to close the session. All calls about a session come
 * from one thread, those of its callbacks with them. domain_snapshots_fd() is
 * readable when there is something to dispatch. One operation at a time
 * changes the snapshots of a domain, also across processes; another is refused
 * with -EBUSY. Looking at them is always possible.
 *
 * The words are those of Xen's snapshot proposal: a domain snapshot has a
 * name, a creation time, a save file (its memory) and disk snapshots. The files are described in
 * docs/domain-snapshots.md. Errors are -errno.
 */
#ifndef TAPSNAP_DOMAIN_SNAPSHOT_H
#define TAPSNAP_DOMAIN_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "error-text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the snapshots are; DOMAIN_SNAPSHOT_DIR_ENV in the environment replaces it (tests). */
#define DOMAIN_SNAPSHOT_DIR	"/var/lib/xen/snapshots"
#define DOMAIN_SNAPSHOT_DIR_ENV	"TAPSNAP_SNAPSHOT_DIR"

/* Of one disk, as a part of a domain's. */
struct domain_snapshot_disk {
	const char *device;		/* the virtual device: xvda */
	const char *name;		/* of the snapshot in the store; the domain snapshot's name */
	const char *file;		/* the store; also of a raw disk that has been given one */
	const char *format;		/* "cow": what FORMAT:FILE@NAME opens */
};

struct domain_snapshot {
	const char *name, *description;
	int64_t creation_time;		/* seconds since the epoch */
	const char *save;		/* file that `xl restore` reads; NULL: none was taken */
	const char *parent;		/* NULL: none */
	bool live;			/* memory was copied while the domain ran */
	bool disk_only;
	bool current;			/* what the domain was last at */
	struct domain_snapshot_disk *disks;
	unsigned nr_disks;
	const json_t *info;		/* all of the information file */
};

enum domain_snapshot_command {
	DOMAIN_SNAPSHOT_CREATE,
	DOMAIN_SNAPSHOT_QUERY,		/* the one with ->name, or all, oldest first */
	DOMAIN_SNAPSHOT_EDIT,		/* ->description */
	DOMAIN_SNAPSHOT_REVERT,
	DOMAIN_SNAPSHOT_DELETE,
	DOMAIN_SNAPSHOT_CLONE,
	DOMAIN_SNAPSHOT_RECOVER,	/* end what an operation that was killed has left; the others begin with that */
};

/* What the domain is after a create or a revert. */
enum domain_snapshot_after {
	DOMAIN_SNAPSHOT_AS_SAVED,	/* create: it goes on; revert: with memory it runs, without it is left off */
	DOMAIN_SNAPSHOT_RUNNING,
	DOMAIN_SNAPSHOT_PAUSED,
	DOMAIN_SNAPSHOT_SHUTDOWN,	/* create */
};

/* All strings are UTF-8. They are copied by domain_snapshots_start(); the paths of a config file and a hook made absolute;
 * directories are to be. */
struct domain_snapshot_request {
	enum domain_snapshot_command command;
	const char *domain;		/* name, number or uuid; or the path, with a "/", of an xl config file */
	const char *name;		/* NULL: CREATE: the epoch second; QUERY: all; others: the current one */
	const char *description;	/* NULL: none */
	bool live, disk_only;		/* CREATE */
	enum domain_snapshot_after after;
	const char *const *leave_out;	/* CREATE: virtual devices of disks that are not to be in it; NULL-terminated, or NULL */
	const char *store;		/* CREATE: raw disks get stores on the way: a directory for them; NULL: they are refused */
	/* CREATE: a program, run with "freeze" before and "thaw" after, unless the guest stands still then; NULL: none */
	const char *hook;
	bool force;			/* REVERT: also when disks were added or left since; RECOVER: without disks that are gone for good */
	bool children, keep_disks;	/* DELETE: those that go back to it, too; only memory and information, which may be damaged */
	const char *new_name;		/* CLONE: of the domain that is made */
	const char *folder;		/* CLONE: for its files; NULL: each disk's beside its store */
};

/* Valid until the callback returns. */
struct domain_snapshot_result {
	int error;			/* 0 or -errno */
	const char *text;		/* why, in one line; or a warning when error is 0; "" */
	const char *domain, *uuid;
	/* that were asked for, made, gone back to or deleted; also with an error: QUERY of all, when one is damaged, has the others */
	struct domain_snapshot *snapshots;
	unsigned count;
	double disks_us;		/* CREATE: how long the disks' writes stood still, at most */
	double stopped_us;		/* CREATE: from the end of the memory image until the domain went on */
	const char *clone;		/* CLONE: what `xl restore` or `xl create` is to be called with */
	bool clone_has_memory;		/* it is restore */
};

struct domain_snapshots;
struct domain_snapshot_operation;

struct domain_snapshot_callbacks {
	/* Once, at the end. The operation is gone afterwards. */
	void (*done)(void *owner, const struct domain_snapshot_result *result);
	/* Now and then; may be NULL. @percent: -1 when there is no telling. */
	void (*progress)(void *owner, const char *step, int percent);
	void *owner;
};

/* Sets XENSTORED_PATH in the environment, where it is not: before there are threads. SIGCHLD is not to be ignored. */
int domain_snapshots_open(struct domain_snapshots **session, struct error_text *text);
/* Cancels what runs and waits for it; their done() is not called any more. Not from inside a callback. */
void domain_snapshots_close(struct domain_snapshots *session);
int domain_snapshots_fd(const struct domain_snapshots *session);
void domain_snapshots_dispatch(struct domain_snapshots *session);

/*
 * 0: it runs, and ends in done(), whatever becomes of it. *@operation, where @operation is not NULL, is what to cancel it
 * by, until its done() has returned. On failure there is no operation, and done() is not called: -EINVAL, the request says
 * no domain, no such command or a name that cannot be one; -EILSEQ, a string is not UTF-8; -ENOMEM; -EAGAIN, no thread is
 * to be had. @text says which; it and @callbacks need not outlast the call.
 */
int domain_snapshots_start(struct domain_snapshots *session, const struct domain_snapshot_request *request,
			   const struct domain_snapshot_callbacks *callbacks,
			   struct domain_snapshot_operation **operation, struct error_text *text);
/*
 * It ends soon, with -ECANCELED, all undone, unless it is too late for that. A hook that freezes is killed, with what it has
 * started; one that thaws after half a minute.
 */
void domain_snapshots_cancel(struct domain_snapshot_operation *operation);

#ifdef __cplusplus
}
#endif

#endif
