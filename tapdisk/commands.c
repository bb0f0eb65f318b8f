/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands.c - dispatches commands, and controls the life of the process: the
 * control socket, the timeout for a first disk, the orderly shutdown.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "commands.h"
#include "commands_internal.h"
#include "log.h"
#include "probe.h"

/* vbd_event() does not pass an argument; a process has one control socket. */
static struct control *event_control;

static void publish_event(struct vbd *vbd, json_t *event)
{
	if (event_control)
		control_broadcast(event_control, event);
}

struct disk *command_find_disk(const struct commands *commands, int minor)
{
	struct disk *disk;

	for (disk = commands->disks; disk; disk = disk->next) {
		if (disk->vbd->minor == minor)
			return disk;
	}
	return NULL;
}

/* The disk of the command; it existed when the command was accepted, and stays attached while the command waits. */
struct disk *command_request_disk(const struct control_request *request)
{
	int minor = (int)json_integer_value(json_object_get(request->message, "minor"));

	return command_find_disk(request->arg, minor);
}

void command_reply_disk(struct control_request *request, const struct disk *disk)
{
	json_t *reply = json_pack("{s:o}", "disk", vbd_info(disk->vbd));

	control_reply(request, reply ? 0 : -ENOMEM, reply);
}

static const struct command {
	const char *name;
	enum { NO_DISK, MAY_NAME_DISK, NEEDS_DISK } disk;
	void (*run)(struct commands *commands, struct disk *disk, struct control_request *request);
} command_table[] = {
	{ "list", MAY_NAME_DISK, command_list },
	{ "attach", NO_DISK, command_attach },
	{ "detach", NEEDS_DISK, command_detach },
	{ "open", NEEDS_DISK, command_open },
	{ "close", NEEDS_DISK, command_close },
	{ "pause", NEEDS_DISK, command_pause },
	{ "unpause", NEEDS_DISK, command_unpause },
	{ "resize", NEEDS_DISK, command_resize },
	{ "throttle", NEEDS_DISK, command_throttle },
	{ "on-error", NEEDS_DISK, command_on_error },
	{ "resume", NEEDS_DISK, command_resume },
	{ "info", NEEDS_DISK, command_info },
	{ "stats", NEEDS_DISK, command_stats },
	{ "hand-over", NO_DISK, command_hand_over },
	{ "connect", NEEDS_DISK, command_connect },
	{ "disconnect", NEEDS_DISK, command_disconnect },
	{ "watch", NO_DISK, command_watch },
	{ "export", NEEDS_DISK, command_export },
	{ "unexport", NEEDS_DISK, command_unexport },
	{ "snapshot-freeze", NEEDS_DISK, command_snapshot_freeze },
	{ "snapshot-thaw", NEEDS_DISK, command_snapshot_thaw },
	{ "snapshot-create", NEEDS_DISK, command_snapshot_create },
	{ "snapshot-prepare", NEEDS_DISK, command_snapshot_prepare },
	{ "snapshot-commit", NEEDS_DISK, command_snapshot_commit },
	{ "snapshot-abort", NEEDS_DISK, command_snapshot_abort },
	{ "snapshot-delete", NEEDS_DISK, command_snapshot_delete },
	{ "snapshot-revert", NEEDS_DISK, command_snapshot_revert },
	{ "commit", NEEDS_DISK, command_commit },
	{ "commit-cancel", NEEDS_DISK, command_commit_cancel },
	{ "snapshot-list", NEEDS_DISK, command_snapshot_list },
};

static int find_command(struct control_request *request, const struct command **command)
{
	int64_t version = 0;
	const char *name = NULL;
	size_t i;

	if (argument_require(request->message, "version", &request->error) ||
	    argument_integer(request->message, "version", 0, INT64_MAX, &version, &request->error) ||
	    argument_require(request->message, "command", &request->error) ||
	    argument_string(request->message, "command", &name, &request->error))
		return -EINVAL;
	if (version != PROTOCOL_VERSION)
		return error_set(&request->error, -EPROTONOSUPPORT, "this tapdisk only supports protocol version %d",
				 PROTOCOL_VERSION);
	for (i = 0; i < ARRAY_SIZE(command_table); i++) {
		if (!strcmp(command_table[i].name, name)) {
			*command = &command_table[i];
			return 0;
		}
	}
	return error_set(&request->error, -ENOSYS, "unknown command '%s'", name);
}

static int find_request_disk(const struct command *command, struct control_request *request, struct disk **disk)
{
	int64_t minor = -1;

	*disk = NULL;
	if (command->disk == NO_DISK || (command->disk == MAY_NAME_DISK && !json_object_get(request->message, "minor")))
		return 0;
	if (argument_require(request->message, "minor", &request->error) ||
	    argument_integer(request->message, "minor", 0, MINOR_MAX, &minor, &request->error))
		return -EINVAL;
	*disk = command_request_disk(request);
	return *disk ? 0 : error_set(&request->error, -ENODEV, "minor %d is not attached to tapdisk %d", (int)minor,
				     (int)getpid());
}

static void run_command(void *arg, struct control_request *request)
{
	const struct command *command = NULL;
	struct disk *disk = NULL;
	int error;

	error = find_command(request, &command);
	if (!error)
		error = find_request_disk(command, request, &disk);
	if (error) {
		control_reply(request, error, NULL);
		return;
	}
	log_control("control: %s", command->name);
	command->run(arg, disk, request);
}

void command_run_again(struct control_request *request)
{
	request->error.text[0] = '\0';
	run_command(request->arg, request);
}

static void run_again(void *arg)
{
	command_run_again(arg);
}

/* Retries by a timer, because other disks must not wait for this one. */
bool command_again(struct commands *commands, struct control_request *request, int *error)
{
	struct loop_source *timer;

	bool again = backend_open_again(*error, request->tries);

	if (*error != -EAGAIN && *error != -EOWNERDEAD)
		return false;
	*error = -EBUSY;
	request->tries++;
	request->probed = false;	/* a thread opens it next time, too */
	return again && !loop_add_timer(commands->loop, &timer, OPEN_AGAIN_MS, run_again, request);
}

static void connection_ended(void *arg, const struct control_connection *connection)
{
	command_connection_ended(arg, connection);
	command_release_snapshots(arg, connection);
	command_release_exports(arg, connection);
}

static const struct control_ops commands_ops = { .command = run_command, .ended = connection_ended };

int commands_start(struct commands **commands, struct loop *loop, struct engine *engine, struct error_text *text)
{
	int error;

	*commands = calloc(1, sizeof(**commands));
	if (!*commands)
		return error_set(text, -ENOMEM, "out of memory");
	(*commands)->loop = loop;
	(*commands)->engine = engine;
	(*commands)->probe_timeout_ms = PROBE_TIMEOUT_S * 1000;
	error = control_start(&(*commands)->control, loop, &commands_ops, *commands, text);
	if (error) {
		free(*commands);
		*commands = NULL;
		return error;
	}
	event_control = (*commands)->control;
	vbd_event = publish_event;
	return 0;
}

static void expired(void *arg)
{
	struct commands *commands = arg;

	commands->expiry = NULL;
	log_info("no disk was attached in time: exiting");
	loop_quit(commands->loop);
}

int commands_expire(struct commands *commands, unsigned seconds)
{
	return loop_add_timer(commands->loop, &commands->expiry, seconds * 1000, expired, commands);
}

void commands_limit_opens(struct commands *commands, unsigned seconds)
{
	commands->probe_timeout_ms = seconds * 1000;
}

static void shutdown_close_done(void *arg, int error)
{
	struct commands *commands = arg;

	if (!error || error == -ETIMEDOUT) {
		command_shutdown_step(commands);
		return;
	}
	log_error("closing a disk: %s", strerror(-error));
	loop_quit(commands->loop);
}

/* Close all open disks; quit when all are closed, or on an error. A file that was not closed in time is left to the kernel. */
void command_shutdown_step(struct commands *commands)
{
	struct error_text text = { "" };
	bool waiting = false;
	struct disk *disk;

	if (!commands->shutting_down)
		return;
	for (disk = commands->disks; disk; disk = disk->next) {
		if (disk->vbd->state != VBD_CLOSED && !disk->vbd->closing) {
			if (vbd_close(disk->vbd, true, shutdown_close_done, commands, &text)) {
				log_error("minor %d: %s", disk->vbd->minor, text.text);
				loop_quit(commands->loop);
			}
		}
		waiting |= disk->vbd->state != VBD_CLOSED && !vbd_is_stuck(disk->vbd);
	}
	if (!waiting)
		loop_quit(commands->loop);
}

void commands_shutdown(struct commands *commands)
{
	if (commands->shutting_down)
		return;
	commands->shutting_down = true;
	command_shutdown_step(commands);
}

bool commands_have_open(const struct commands *commands)
{
	const struct disk *disk = commands ? commands->disks : NULL;

	while (disk && disk->vbd->state == VBD_CLOSED)
		disk = disk->next;
	return disk;
}

void commands_stop(struct commands *commands)
{
	struct disk *disk, *next;

	if (!commands)
		return;
	event_control = NULL;
	vbd_event = NULL;
	command_probe_stop(commands);
	loop_remove(commands->expiry);
	loop_remove(commands->exit_hook);
	loop_remove(commands->exit_timer);
	loop_remove(commands->settle_timer);
	for (disk = commands->disks; disk; disk = next) {
		next = disk->next;
		if (disk->vbd->state == VBD_CLOSED)
			command_free_disk(commands, disk);
	}
	control_stop(commands->control);	/* after the minors are free: a client may wait for the socket's end */
	while (commands->frontends)
		command_forget_frontends(commands, commands->frontends->minor);
	while (commands->prepared)
		command_forget_prepared(commands, commands->prepared->minor);
	free(commands);
}
