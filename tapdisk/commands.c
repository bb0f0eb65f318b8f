/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands.c - the commands, each a function that ends in control_reply().
 *
 * Invariants:
 *  - A disk is in the list from attach to detach, and its marker is locked
 *    exactly as long.
 *  - A stand-in frontend is in the list of frontends while the connection
 *    that made it lives and nothing else has disconnected it, so the end of
 *    a connection never takes down somebody else's frontend.
 *  - Commands that wait keep the disk from being detached: while they do it
 *    is not closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "commands.h"
#include "log.h"
#include "minor.h"
#include "vbd.h"

#define EXIT_MS 2000	/* for a client that does not read its last reply */

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

struct commands {
	struct loop *loop;
	struct engine *engine;
	struct control *control;
	struct disk *disks;
	struct frontend *frontends;
	struct loop_source *expiry, *exit_hook, *exit_timer;
	bool exiting;			/* the last disk was detached */
	bool shutting_down;		/* told to end: close what is open first */
};

/* vbd_event() has no argument for us; there is one control socket in a process. */
static struct control *event_control;

static void publish_event(struct vbd *vbd, json_t *event)
{
	if (event_control)
		control_broadcast(event_control, event);
}

static struct disk *find_disk(const struct commands *commands, int minor)
{
	struct disk *disk;

	for (disk = commands->disks; disk; disk = disk->next) {
		if (disk->vbd->minor == minor)
			return disk;
	}
	return NULL;
}

/* The disk that the command is about; it was there when the command was accepted, waiting ones included. */
static struct disk *request_disk(const struct control_request *request)
{
	int minor = (int)json_integer_value(json_object_get(request->message, "minor"));

	return find_disk(request->arg, minor);
}

static void reply_disk(struct control_request *request, const struct disk *disk)
{
	json_t *reply = json_pack("{s:o}", "disk", vbd_info(disk->vbd));

	control_reply(request, reply ? 0 : -ENOMEM, reply);
}

static void command_list(struct commands *commands, struct disk *only, struct control_request *request)
{
	json_t *disks = json_array();
	struct disk *disk;
	json_t *reply;

	for (disk = commands->disks; disk; disk = disk->next) {
		if (!only || disk == only)
			json_array_append_new(disks, vbd_info(disk->vbd));
	}
	reply = json_pack("{s:i, s:o}", "pid", (int)getpid(), "disks", disks);
	control_reply(request, reply ? 0 : -ENOMEM, reply);
}

static int attach_disk(struct commands *commands, int minor, struct error_text *error)
{
	struct disk **place = &commands->disks;
	struct disk *disk;
	int result;

	if (commands->exiting || commands->shutting_down)
		return error_set(error, -ESHUTDOWN, "this tapdisk is about to end; spawn another");
	if (find_disk(commands, minor))
		return error_set(error, -EEXIST, "minor %d is attached already", minor);
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	result = minor_lock(minor, &disk->marker, error);
	if (result)
		goto free_disk;
	result = vbd_create(&disk->vbd, commands->loop, commands->engine, minor);
	if (result)
		goto unlock;
	while (*place)
		place = &(*place)->next;
	*place = disk;
	loop_remove(commands->expiry);
	commands->expiry = NULL;
	return 0;
unlock:
	minor_unlock(disk->marker);
free_disk:
	free(disk);
	return result;
}

static void command_attach(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int64_t minor = -1;
	int error;

	error = argument_require(request->message, "minor", &request->error);
	if (!error)
		error = argument_integer(request->message, "minor", 0, MINOR_MAX, &minor, &request->error);
	if (!error)
		error = attach_disk(commands, (int)minor, &request->error);
	if (!error)
		log_info("minor %d: attached", (int)minor);
	control_reply(request, error, NULL);
}

static bool exit_when_flushed(void *arg)
{
	struct commands *commands = arg;

	if (control_flushed(commands->control))
		loop_quit(commands->loop);
	return false;
}

static void exit_now(void *arg)
{
	struct commands *commands = arg;

	commands->exit_timer = NULL;
	loop_quit(commands->loop);
}

/* End once the reply is out, or soon when its reader does not take it. */
static void begin_exit(struct commands *commands)
{
	commands->exiting = true;
	log_info("the last disk was detached: ending");
	if (loop_add_prepare(commands->loop, &commands->exit_hook, exit_when_flushed, commands) ||
	    loop_add_timer(commands->loop, &commands->exit_timer, EXIT_MS, exit_now, commands))
		loop_quit(commands->loop);
}

static void free_disk(struct commands *commands, struct disk *disk)
{
	struct disk **place = &commands->disks;

	while (*place != disk)
		place = &(*place)->next;
	*place = disk->next;
	vbd_destroy(disk->vbd);
	minor_unlock(disk->marker);
	free(disk);
}

static void command_detach(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int minor = disk->vbd->minor;

	if (disk->vbd->state != VBD_CLOSED) {
		control_reply(request, error_set(&request->error, -EBUSY, "minor %d has an open image; close it first", minor),
			      NULL);
		return;
	}
	free_disk(commands, disk);
	log_info("minor %d: detached", minor);
	if (!commands->disks && !commands->shutting_down)
		begin_exit(commands);
	control_reply(request, 0, json_pack("{s:b}", "exiting", !commands->disks));
}

static void command_open(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct driver_options options = { 0 };
	const json_t *message = request->message;
	const char *target = NULL;
	int64_t sector_size = 0;
	int error;

	if (argument_require(message, "target", &request->error) ||
	    argument_string(message, "target", &target, &request->error) ||
	    argument_bool(message, "read_only", &options.read_only, &request->error) ||
	    argument_bool(message, "no_direct", &options.no_direct, &request->error) ||
	    argument_integer(message, "sector_size", 0, 4096, &sector_size, &request->error)) {
		control_reply(request, -EINVAL, NULL);
		return;
	}
	options.sector_size = (unsigned)sector_size;
	if (commands->shutting_down)
		error = error_set(&request->error, -ESHUTDOWN, "this tapdisk is about to end");
	else
		error = vbd_open(disk->vbd, target, &options, &request->error);
	if (error)
		control_reply(request, error, NULL);
	else
		reply_disk(request, disk);
}

static void forget_frontends(struct commands *commands, int minor, bool all, uint32_t domid, uint32_t devid)
{
	struct frontend **place = &commands->frontends;
	struct frontend *frontend;

	while ((frontend = *place)) {
		if (frontend->minor == minor && (all || (frontend->domid == domid && frontend->devid == devid))) {
			*place = frontend->next;
			free(frontend);
		} else {
			place = &frontend->next;
		}
	}
}

static void shutdown_step(struct commands *commands);

static void close_done(void *arg, int error)
{
	struct control_request *request = arg;
	struct commands *commands = request->arg;
	struct disk *disk = request_disk(request);

	if (!error)
		forget_frontends(commands, disk->vbd->minor, true, 0, 0);
	control_reply(request, error, NULL);
	shutdown_step(commands);
}

static void command_close(struct commands *commands, struct disk *disk, struct control_request *request)
{
	bool force = false;
	int error;

	error = argument_bool(request->message, "force", &force, &request->error);
	if (!error)
		error = vbd_close(disk->vbd, force, close_done, request, &request->error);
	if (error)
		control_reply(request, error, NULL);
}

static void pause_done(void *arg, int error)
{
	struct control_request *request = arg;
	struct disk *disk = request_disk(request);
	json_t *reply = NULL;

	if (!error)
		reply = json_pack("{s:I}", "drain_us", (json_int_t)(disk->vbd->stalls.last_drain_ns / 1000));
	control_reply(request, error, reply);
}

static void command_pause(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int error = vbd_pause(disk->vbd, pause_done, request, &request->error);

	if (error)
		control_reply(request, error, NULL);
}

static void command_unpause(struct commands *commands, struct disk *disk, struct control_request *request)
{
	const char *target = NULL;
	int error;

	error = argument_string(request->message, "target", &target, &request->error);
	if (!error)
		error = vbd_unpause(disk->vbd, target, &request->error);
	if (error)
		control_reply(request, error, NULL);
	else
		reply_disk(request, disk);
}

static void command_resize(struct commands *commands, struct disk *disk, struct control_request *request)
{
	json_t *reply = NULL;
	int error = vbd_resize(disk->vbd, &request->error);

	if (!error)
		reply = json_pack("{s:I}", "sectors", (json_int_t)disk->vbd->geometry.sectors);
	control_reply(request, error, reply);
}

static void command_info(struct commands *commands, struct disk *disk, struct control_request *request)
{
	reply_disk(request, disk);
}

static void command_stats(struct commands *commands, struct disk *disk, struct control_request *request)
{
	json_t *reply = json_pack("{s:o}", "stats", vbd_stats(disk->vbd));

	control_reply(request, reply ? 0 : -ENOMEM, reply);
}

/* The descriptors of the request become @params', or there must be none. */
static int take_descriptors(struct control_request *request, struct blkif_params *params)
{
	unsigned wanted = params->shm ? 1 + 2 * params->nr_queues : 0;

	if (request->nr_fds != wanted)
		return error_set(&request->error, -EINVAL, "%u descriptors came with the command, it needs %u",
				 request->nr_fds, wanted);
	memcpy(params->fds, request->fds, sizeof(params->fds));
	params->nr_fds = request->nr_fds;
	request->nr_fds = 0;
	return 0;
}

static int connect_frontend(struct commands *commands, struct disk *disk, struct control_request *request)
{
	struct frontend *frontend = calloc(1, sizeof(*frontend));
	struct blkif_params params;
	int error;

	if (!frontend)
		return -ENOMEM;
	error = argument_connect(request->message, &params, &request->error);
	if (!error)
		error = take_descriptors(request, &params);
	if (!error)
		error = vbd_connect(disk->vbd, &params, &request->error);
	if (error || !params.shm) {
		free(frontend);
		return error;
	}
	/* an entry there is from a frontend that the disk has given up by itself */
	forget_frontends(commands, disk->vbd->minor, false, params.domid, params.devid);
	frontend->connection = request->connection;
	frontend->minor = disk->vbd->minor;
	frontend->domid = params.domid;
	frontend->devid = params.devid;
	frontend->next = commands->frontends;
	commands->frontends = frontend;
	return 0;
}

static void command_connect(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int error = connect_frontend(commands, disk, request);

	if (error)
		control_reply(request, error, NULL);
	else
		reply_disk(request, disk);
}

static void disconnect_done(void *arg, int error)
{
	control_reply(arg, error, NULL);
}

static void command_disconnect(struct commands *commands, struct disk *disk, struct control_request *request)
{
	int64_t domid = 0, devid = 0;
	int error;

	if (argument_require(request->message, "domid", &request->error) ||
	    argument_integer(request->message, "domid", 0, UINT32_MAX, &domid, &request->error) ||
	    argument_require(request->message, "devid", &request->error) ||
	    argument_integer(request->message, "devid", 0, UINT32_MAX, &devid, &request->error)) {
		control_reply(request, -EINVAL, NULL);
		return;
	}
	/* from now on it is going, and its successor may come from another connection */
	forget_frontends(commands, disk->vbd->minor, false, (uint32_t)domid, (uint32_t)devid);
	error = vbd_disconnect(disk->vbd, (uint32_t)domid, (uint32_t)devid, disconnect_done, request, &request->error);
	if (error)
		control_reply(request, error, NULL);
}

static void command_watch(struct commands *commands, struct disk *disk, struct control_request *request)
{
	control_watch(request->connection);
	control_reply(request, 0, NULL);
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
	{ "info", NEEDS_DISK, command_info },
	{ "stats", NEEDS_DISK, command_stats },
	{ "connect", NEEDS_DISK, command_connect },
	{ "disconnect", NEEDS_DISK, command_disconnect },
	{ "watch", NO_DISK, command_watch },
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
		return error_set(&request->error, -EPROTONOSUPPORT, "this tapdisk speaks version %d of the protocol only",
				 PROTOCOL_VERSION);
	for (i = 0; i < sizeof(command_table) / sizeof(command_table[0]); i++) {
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
	*disk = request_disk(request);
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

static void frontend_gone(void *arg, int error)
{
	/* nobody waits for it */
}

/* The client has gone, and with it the frontends that live as long as it. */
static void connection_ended(void *arg, const struct control_connection *connection)
{
	struct commands *commands = arg;
	struct frontend **place = &commands->frontends;
	struct frontend *frontend;
	struct disk *disk;

	while ((frontend = *place)) {
		if (frontend->connection != connection) {
			place = &frontend->next;
			continue;
		}
		*place = frontend->next;
		disk = find_disk(commands, frontend->minor);
		/* -ENOENT: a broken ring was disconnected before */
		if (disk)
			vbd_disconnect(disk->vbd, frontend->domid, frontend->devid, frontend_gone, NULL, NULL);
		free(frontend);
	}
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
	log_info("no disk was attached in time: ending");
	loop_quit(commands->loop);
}

int commands_expire(struct commands *commands, unsigned seconds)
{
	return loop_add_timer(commands->loop, &commands->expiry, seconds * 1000, expired, commands);
}

static void shutdown_close_done(void *arg, int error)
{
	struct commands *commands = arg;

	if (!error) {
		shutdown_step(commands);
		return;
	}
	log_error("closing a disk: %s", strerror(-error));
	loop_quit(commands->loop);
}

/* Close what is open and not being closed yet; quit when nothing is left, or nothing more can be done. */
static void shutdown_step(struct commands *commands)
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
		waiting |= disk->vbd->state != VBD_CLOSED;
	}
	if (!waiting)
		loop_quit(commands->loop);
}

void commands_shutdown(struct commands *commands)
{
	if (commands->shutting_down)
		return;
	commands->shutting_down = true;
	shutdown_step(commands);
}

void commands_stop(struct commands *commands)
{
	struct disk *disk, *next;

	if (!commands)
		return;
	event_control = NULL;
	vbd_event = NULL;
	control_stop(commands->control);
	loop_remove(commands->expiry);
	loop_remove(commands->exit_hook);
	loop_remove(commands->exit_timer);
	for (disk = commands->disks; disk; disk = next) {
		next = disk->next;
		if (disk->vbd->state == VBD_CLOSED)
			free_disk(commands, disk);
	}
	while (commands->frontends)
		forget_frontends(commands, commands->frontends->minor, true, 0, 0);
	free(commands);
}
