/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain-snapshot.h - snapshots of Xen domains: memory and all disks at one
 * instant. xl-snapshot sits on it, and toolstacks can.
 *
 * A session runs any number of operations at a time, each on a thread of its
 * own. A call returns immediately and reports through callbacks, which are
 * called only from inside domain_snapshots_dispatch(). A callback may start and
 * cancel operations; it must not dispatch, or close the session. All calls
 * about a session come from one thread, those of its callbacks included.
 * domain_snapshots_fd() is readable when there is something to dispatch. Only
 * one operation at a time may change the snapshots of a domain, also across
 * processes; others are refused with -EBUSY. Queries are always possible.
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

/* The directory of the snapshots; DOMAIN_SNAPSHOT_DIR_ENV in the environment replaces it (tests). */
#define DOMAIN_SNAPSHOT_DIR	"/var/lib/xen/snapshots"
#define DOMAIN_SNAPSHOT_DIR_ENV	"TAPSNAP_SNAPSHOT_DIR"

/* One disk of a domain snapshot. */
struct domain_snapshot_disk {
	const char *device;		/* the virtual device: xvda */
	const char *name;		/* of the snapshot in the store: the domain snapshot's name */
	const char *file;		/* the store; for a raw disk the one made on it */
	const char *format;		/* "cow": open FORMAT:FILE@NAME */
};

struct domain_snapshot {
	const char *name, *description;
	int64_t creation_time;		/* seconds since the epoch */
	const char *save;		/* file for `xl restore`; NULL: no memory */
	const char *parent;		/* NULL: none */
	bool live;			/* memory was copied while the domain was running */
	bool disk_only;
	bool current;			/* the domain's last one created or reverted to */
	struct domain_snapshot_disk *disks;
	unsigned nr_disks;
	const json_t *info;		/* the whole information file */
};

enum domain_snapshot_command {
	DOMAIN_SNAPSHOT_CREATE,
	DOMAIN_SNAPSHOT_QUERY,		/* the snapshot with ->name, or all, oldest first */
	DOMAIN_SNAPSHOT_EDIT,		/* ->description */
	DOMAIN_SNAPSHOT_REVERT,
	DOMAIN_SNAPSHOT_DELETE,
	DOMAIN_SNAPSHOT_CLONE,
	DOMAIN_SNAPSHOT_RECOVER,	/* finish what a killed operation left; all other commands do so first */
};

/* State of the domain after a create or a revert. */
enum domain_snapshot_after {
	DOMAIN_SNAPSHOT_AS_SAVED,	/* create: as before; revert: running if the snapshot has memory, otherwise shut off */
	DOMAIN_SNAPSHOT_RUNNING,
	DOMAIN_SNAPSHOT_PAUSED,
	DOMAIN_SNAPSHOT_SHUTDOWN,	/* create */
};

/* All strings are UTF-8. domain_snapshots_start() copies them, and makes the paths of a config file and a hook absolute;
 * directories must be absolute. */
struct domain_snapshot_request {
	enum domain_snapshot_command command;
	const char *domain;		/* name, number or uuid; or the path, with a "/", of an xl config file */
	const char *name;		/* NULL: CREATE: the epoch second; QUERY: all; others: the current one */
	const char *description;	/* NULL: none */
	bool live, disk_only;		/* CREATE */
	enum domain_snapshot_after after;
	const char *const *leave_out;	/* CREATE: virtual devices of disks to leave out; NULL-terminated, or NULL */
	const char *store;		/* CREATE: a directory for new stores of raw disks; NULL: raw disks are refused */
	/* CREATE: a program run with "freeze" before and "thaw" after, unless the guest is stopped meanwhile; NULL: none */
	const char *hook;
	bool force;			/* REVERT: despite disks added or removed since; RECOVER: skip lost disks */
	bool children, keep_disks;	/* DELETE: also its descendants; only memory and information, which may be damaged */
	const char *new_name;		/* CLONE: of the new domain */
	const char *folder;		/* CLONE: for its files; NULL: each disk's next to its store */
};

/* Valid until the callback returns. */
struct domain_snapshot_result {
	int error;			/* 0 or -errno */
	const char *text;		/* the reason for the error, in one line; a warning when error is 0; or "" */
	const char *domain, *uuid;
	/* queried, created, reverted to or deleted; also on error: a QUERY of all returns those that are not damaged */
	struct domain_snapshot *snapshots;
	unsigned count;
	double disks_us;		/* CREATE: from the first disk's freeze to the last one's thaw */
	double stopped_us;		/* CREATE: from the end of the memory image until the domain continued */
	const char *clone;		/* CLONE: argument for `xl restore` or `xl create` */
	bool clone_has_memory;		/* use `xl restore` */
};

struct domain_snapshots;
struct domain_snapshot_operation;

struct domain_snapshot_callbacks {
	/* Called once, at the end. The operation is freed afterwards. */
	void (*done)(void *owner, const struct domain_snapshot_result *result);
	/* Called now and then; may be NULL. @percent: -1 when not known. */
	void (*progress)(void *owner, const char *step, int percent);
	void *owner;
};

/* Sets XENSTORED_PATH in the environment if it is not set, so call it before there are threads. SIGCHLD must not be ignored. */
int domain_snapshots_open(struct domain_snapshots **session, struct error_text *text);
/* Cancels running operations and waits for them; does not call their done(). Must not be called from a callback. */
void domain_snapshots_close(struct domain_snapshots *session);
int domain_snapshots_fd(const struct domain_snapshots *session);
void domain_snapshots_dispatch(struct domain_snapshots *session);

/*
 * 0: the operation runs, and ends with done() in any case. *@operation, where @operation is not NULL, is the handle to cancel
 * it, valid until done() has returned. On failure there is no operation, and done() is not called: -EINVAL, the request has
 * no domain, no such command or an invalid name; -EILSEQ, a string is not UTF-8; -ENOMEM; -EAGAIN, no thread could be
 * started. @text gives the reason; @text and @callbacks need not outlast the call.
 */
int domain_snapshots_start(struct domain_snapshots *session, const struct domain_snapshot_request *request,
			   const struct domain_snapshot_callbacks *callbacks,
			   struct domain_snapshot_operation **operation, struct error_text *text);
/*
 * The operation ends soon, with -ECANCELED and everything undone, unless it is too late for that. A hook in "freeze" is
 * killed with its children; one in "thaw" after half a minute.
 */
void domain_snapshots_cancel(struct domain_snapshot_operation *operation);

#ifdef __cplusplus
}
#endif

#endif
