/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands_internal.h - what the files of the commands share.
 *
 * Invariants:
 *  - A disk is in the list from attach to detach, and its marker is locked
 *    exactly as long.
 *  - A stand-in frontend is in the list of frontends while the connection
 *    that made it lives and nothing else has disconnected it, so the end of
 *    a connection never takes down somebody else's frontend.
 *  - A snapshot that was prepared over a connection is in the list of
 *    prepared ones until it is committed or aborted, or its image is closed;
 *    when that connection ends it is settled, so that a group whose
 *    coordinator has died leaves nothing undecided in a disk that runs on.
 *  - Commands that wait keep the disk from being detached: while they do it
 *    is not closed. One that waits for an image to answer (command_probe.c) does
 *    not, and finds out for itself.
 */
#ifndef TAPDISK_COMMANDS_INTERNAL_H
#define TAPDISK_COMMANDS_INTERNAL_H

#include "arguments.h"
#include "control.h"
#include "loop.h"
#include "vbd.h"

/* Bytes of a snapshot's name, of the path of a decision record, and of a description (docs/cow-format.md). */
#define SNAPSHOT_TEXT_MAX 255
#define SNAPSHOT_DESCRIPTION_MAX 1024

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
	struct prepared *next;
};

/* command_handover.c's */
struct handover {
	struct control_request *request;
	unsigned waiting;		/* for so many disks, and one for the start */
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
	struct probing *probing;	/* command_probe.c's: commands that wait for an image to answer */
	unsigned probe_timeout_ms;	/* for so long; 0: as long as it takes */
	struct loop_source *expiry, *exit_hook, *exit_timer;
	bool exiting;			/* the last disk was detached */
	bool shutting_down;		/* told to end: close what is open first */
};

struct disk *command_find_disk(const struct commands *commands, int minor);
/* The disk that the command is about; it stays while the command waits. */
struct disk *command_request_disk(const struct control_request *request);
void command_reply_disk(struct control_request *request, const struct disk *disk);
/* After a failure with @error: true when that may be over soon, and the command will be run again; else *@error is
 * what to reply. */
bool command_again(struct commands *commands, struct control_request *request, int *error);
/* Run it from its beginning. */
void command_run_again(struct control_request *request);
/* Part of commands_shutdown(): to be called when a disk was closed. */
void command_shutdown_step(struct commands *commands);

/* command_attach.c; free: the disk is closed. */
void command_free_disk(struct commands *commands, struct disk *disk);
/* End once the reply is out, or soon when its reader does not take it. */
void command_begin_exit(struct commands *commands);

/* command_frontend.c: all of @minor's frontends are disconnected, or one is. */
void command_forget_frontends(struct commands *commands, int minor);
void command_forget_frontend(struct commands *commands, int minor, uint32_t domid, uint32_t devid);
/* The client has gone, and with it the frontends that live as long as it. */
void command_connection_ended(struct commands *commands, const struct control_connection *connection);

/* command_export.c: the client has gone, and with it the exports that it held. */
void command_release_exports(struct commands *commands, const struct control_connection *connection);

/* command_snapshot.c: @minor's image was closed, its next opening settles what was prepared. */
void command_forget_prepared(struct commands *commands, int minor);
/* The client has gone: what it froze is thawed, what it prepared is settled. */
void command_release_snapshots(struct commands *commands, const struct control_connection *connection);

/*
 * command_probe.c: for a command that is about to open @target, or to ask for its size. True: it has to wait until that
 * has answered, and will be run again, or has been replied to; it is none of the caller's any more. Before anything was
 * changed.
 */
bool command_probe(struct commands *commands, struct control_request *request, const char *target);
/* The process ends. */
void command_probe_stop(struct commands *commands);

/* command_error.c: the member `on_error`, if it is there. 0 or -EINVAL. */
int command_on_error_argument(struct control_request *request, enum vbd_on_error *policy);

/* Each ends in control_reply(). @disk: NULL where the command names none. */
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
