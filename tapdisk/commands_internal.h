/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands_internal.h - shared by commands.c and command_*.c.
 *
 * Invariants:
 *  - A disk is in the list, and its marker is locked, from attach to detach.
 *  - A stand-in frontend is in the list of frontends until its connection ends
 *    or another command disconnects it, so the end of a connection never
 *    disconnects another client's frontend.
 *  - A snapshot that was prepared over a connection is in the list of
 *    prepared ones until it is committed or aborted, or its image is closed;
 *    when that connection ends it is settled, so that a group whose
 *    coordinator has died leaves nothing undecided in a running disk. If there
 *    is no room for that, it stays in the list, and is tried again every second.
 *  - A waiting command keeps the disk from being closed, and so from being
 *    detached. One that waits for storage to answer (command_probe.c) does not;
 *    it checks again when it runs.
 */
#ifndef TAPDISK_COMMANDS_INTERNAL_H
#define TAPDISK_COMMANDS_INTERNAL_H

#include "arguments.h"
#include "control.h"
#include "loop.h"
#include "protocol.h"
#include "vbd.h"

struct disk {
	struct vbd *vbd;
	int marker;			/* descriptor with the lock */
	struct disk *next;
};

struct frontend {
	const struct control_connection *connection;
	int minor;
	uint32_t domid, devid;
	struct frontend *next;
};

struct prepared {
	const struct control_connection *connection;
	int minor;
	char name[SNAPSHOT_TEXT_MAX + 1], decision[SNAPSHOT_TEXT_MAX + 1];
	bool waits;			/* its coordinator is gone, and settling it has found no room */
	struct prepared *next;
};

/* command_handover.c's */
struct handover {
	struct control_request *request;
	unsigned waiting;		/* disks being settled, then paused; plus one during the start of each */
	int error;
};

struct commands {
	struct loop *loop;
	struct engine *engine;
	struct control *control;
	struct disk *disks;
	struct frontend *frontends;
	struct prepared *prepared;
	struct handover handover;
	struct probing *probing;	/* command_probe.c: commands that wait for storage to answer */
	unsigned probe_timeout_ms;	/* limit for that; 0: none */
	struct loop_source *expiry, *exit_hook, *exit_timer;
	struct loop_source *settle_timer;	/* settle again what has found no room */
	bool exiting;			/* the last disk was detached */
	bool shutting_down;		/* told to end: close all disks first */
};

struct disk *command_find_disk(const struct commands *commands, int minor);
/* The disk of the command; it stays attached while the command waits. */
struct disk *command_request_disk(const struct control_request *request);
void command_reply_disk(struct control_request *request, const struct disk *disk);
/* After a failed open: true if *@error may be temporary, and the command will be run again; else reply *@error. */
bool command_again(struct commands *commands, struct control_request *request, int *error);
/* Run the command from its beginning. */
void command_run_again(struct control_request *request);
/* Part of commands_shutdown(): call it whenever a disk was closed. */
void command_shutdown_step(struct commands *commands);

/* command_attach.c; the disk must be closed. */
void command_free_disk(struct commands *commands, struct disk *disk);
/* End the process once all replies are sent, or after a short time. */
void command_begin_exit(struct commands *commands);

/* command_frontend.c: drop the entries of all frontends of @minor, or of one. */
void command_forget_frontends(struct commands *commands, int minor);
void command_forget_frontend(struct commands *commands, int minor, uint32_t domid, uint32_t devid);
/* The client has disconnected: disconnect its stand-in frontends. */
void command_connection_ended(struct commands *commands, const struct control_connection *connection);

/* command_export.c: the client has disconnected: end the exports that it held. */
void command_release_exports(struct commands *commands, const struct control_connection *connection);

/* command_snapshot.c: @minor's image was closed; its next open settles prepared snapshots. */
void command_forget_prepared(struct commands *commands, int minor);
/* The client has disconnected: thaw what it froze, settle what it prepared. */
void command_release_snapshots(struct commands *commands, const struct control_connection *connection);

/*
 * command_probe.c: for a command that is about to open @target with @options, or to ask for its size (NULL), and has changed
 * nothing yet. True: it waits for the storage to answer and will be run again, or was replied to; the caller no longer owns
 * @request.
 */
bool command_probe(struct commands *commands, struct control_request *request, const char *target,
		   const struct driver_options *options);
/* The process ends. */
void command_probe_stop(struct commands *commands);

/* command_error.c: parse the optional member `on_error`. 0 or -EINVAL. */
int command_on_error_argument(struct control_request *request, enum vbd_on_error *policy);

/* Each ends in control_reply(). @disk is NULL if the command names none. */
#define COMMAND(name) void command_##name(struct commands *commands, struct disk *disk, struct control_request *request)
COMMAND(list);
COMMAND(attach);
COMMAND(detach);
COMMAND(open);
COMMAND(close);
COMMAND(pause);
COMMAND(unpause);
COMMAND(resize);
COMMAND(throttle);
COMMAND(on_error);
COMMAND(resume);
COMMAND(info);
COMMAND(stats);
COMMAND(hand_over);
COMMAND(connect);
COMMAND(disconnect);
COMMAND(watch);
COMMAND(export);
COMMAND(unexport);
COMMAND(snapshot_freeze);
COMMAND(snapshot_thaw);
COMMAND(snapshot_create);
COMMAND(snapshot_prepare);
COMMAND(snapshot_commit);
COMMAND(snapshot_abort);
COMMAND(snapshot_delete);
COMMAND(snapshot_revert);
COMMAND(snapshot_list);
COMMAND(commit);
COMMAND(commit_cancel);
#undef COMMAND

#endif
