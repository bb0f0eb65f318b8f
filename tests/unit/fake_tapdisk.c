/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fake_tapdisk.c - see fake_tapdisk.h. Lines come whole here: a local socket
 * delivers what one write() wrote in one piece, and they are short.
 */
#include "fake_tapdisk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tapctl.h"

struct fake_connection {
	struct fake_tapdisk *tapdisk;
	int fd;
	bool watching;
	sd_event_source *source;
	json_t *waiting;			/* commands not answered yet */
	struct fake_connection *next;
};

static void send_line(struct fake_connection *connection, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);

	assert_non_null(text);
	dprintf(connection->fd, "%s\n", text);
	free(text);
	json_decref(message);
}

static json_t *connections_of(const struct fake_tapdisk *tapdisk)
{
	return json_object_get(tapdisk->disk, "connections");
}

unsigned fake_tapdisk_rings(const struct fake_tapdisk *tapdisk)
{
	return json_array_size(connections_of(tapdisk));
}

static size_t find_ring(const struct fake_tapdisk *tapdisk, json_t *command)
{
	json_t *ring;
	size_t i;

	json_array_foreach(connections_of(tapdisk), i, ring)
		if (json_equal(json_object_get(ring, "domid"), json_object_get(command, "domid")) &&
		    json_equal(json_object_get(ring, "devid"), json_object_get(command, "devid")))
			break;
	return i;
}

static json_t *refusal(int error, const char *text)
{
	return json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", error, "error", text);
}

static json_t *ok_disk(const struct fake_tapdisk *tapdisk)
{
	return json_pack("{s:b, s:O}", "ok", 1, "disk", tapdisk->disk);
}

/* What vbd_info() says of a connection, out of the command that made it. */
static json_t *ring_of(json_t *command)
{
	json_t *ports = json_array(), *refs = json_array(), *queue;
	size_t i;

	json_array_foreach(json_object_get(command, "queues"), i, queue) {
		json_array_append(ports, json_object_get(queue, "port"));
		json_array_append(refs, json_object_get(queue, "refs"));
	}
	return json_pack("{s:s, s:O, s:O, s:O, s:o, s:o, s:s}", "transport", "xen", "domid", json_object_get(command, "domid"),
			 "devid", json_object_get(command, "devid"),
			 "ring_pages", json_object_get(command, "ring_pages"), "ports", ports, "refs", refs, "error", "");
}

static json_t *do_connect(struct fake_tapdisk *tapdisk, json_t *command)
{
	tapdisk->connects++;
	json_decref(tapdisk->last_connect);
	tapdisk->last_connect = json_incref(command);
	if (tapdisk->on_connect)
		tapdisk->on_connect(command);
	if (tapdisk->refuse_connect)
		return refusal(tapdisk->refuse_connect, "refused by the test");
	if (find_ring(tapdisk, command) < fake_tapdisk_rings(tapdisk))
		return refusal(EEXIST, "connected already");
	json_array_append_new(connections_of(tapdisk), ring_of(command));
	if (tapdisk->grow_at_connect)
		json_object_set_new(tapdisk->disk, "sectors", json_integer(tapdisk->grow_at_connect));
	return ok_disk(tapdisk);
}

static json_t *do_disconnect(struct fake_tapdisk *tapdisk, json_t *command)
{
	size_t i = find_ring(tapdisk, command);

	tapdisk->disconnects++;
	if (i == fake_tapdisk_rings(tapdisk))
		return refusal(ENOENT, "no such frontend");
	json_array_remove(connections_of(tapdisk), i);
	return json_pack("{s:b}", "ok", 1);
}

static void answer(struct fake_connection *connection, json_t *command)
{
	struct fake_tapdisk *tapdisk = connection->tapdisk;
	const char *name = json_string_value(json_object_get(command, "command"));
	json_t *reply;

	assert_non_null(name);
	assert_int_equal(json_integer_value(json_object_get(command, "version")), PROTOCOL_VERSION);
	if (!strcmp(name, "watch")) {
		connection->watching = true;
		reply = json_pack("{s:b}", "ok", 1);
	} else if (!strcmp(name, "list")) {
		reply = json_pack("{s:b, s:i, s:[O]}", "ok", 1, "pid", tapdisk->pid, "disks", tapdisk->disk);
	} else if (json_integer_value(json_object_get(command, "minor"))) {
		reply = refusal(ENODEV, "no such minor");
	} else if (!strcmp(name, "info")) {
		tapdisk->infos++;
		reply = ok_disk(tapdisk);
	} else if (!strcmp(name, "connect")) {
		reply = do_connect(tapdisk, command);
	} else if (!strcmp(name, "close")) {
		tapdisk->closes++;
		reply = fake_tapdisk_rings(tapdisk) ? refusal(EBUSY, "in use") : json_pack("{s:b}", "ok", 1);
	} else if (!strcmp(name, "detach")) {
		tapdisk->detaches++;
		reply = json_pack("{s:b}", "ok", 1);
	} else {
		assert_string_equal(name, "disconnect");
		reply = do_disconnect(tapdisk, command);
	}
	send_line(connection, reply);
}

static void answer_waiting(struct fake_connection *connection)
{
	while (json_array_size(connection->waiting)) {
		answer(connection, json_array_get(connection->waiting, 0));
		json_array_remove(connection->waiting, 0);
	}
}

static void end_connection(struct fake_connection *connection)
{
	struct fake_connection **link = &connection->tapdisk->connections;

	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	sd_event_source_disable_unref(connection->source);
	json_decref(connection->waiting);
	close(connection->fd);
	free(connection);
}

static bool is_connect(const json_t *command)
{
	return !strcmp(json_string_value(json_object_get(command, "command")), "connect");
}

static int connection_ready(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct fake_connection *connection = arg;
	char lines[65536], *line, *rest = lines;
	ssize_t bytes = read(fd, lines, sizeof(lines) - 1);

	if (bytes <= 0) {
		end_connection(connection);
		return 0;
	}
	lines[bytes] = '\0';
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *command = json_loads(line, 0, NULL);

		assert_non_null(command);
		json_array_append_new(connection->waiting, command);
		if (connection->tapdisk->silent_at_connect && is_connect(command))
			connection->tapdisk->silent = true;
	}
	if (!connection->tapdisk->silent)
		answer_waiting(connection);
	return 0;
}

static int listener_ready(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct fake_tapdisk *tapdisk = arg;
	struct fake_connection *connection = calloc(1, sizeof(*connection));

	connection->tapdisk = tapdisk;
	connection->waiting = json_array();
	connection->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(connection->fd >= 0);
	connection->next = tapdisk->connections;
	tapdisk->connections = connection;
	assert_int_equal(sd_event_add_io(tapdisk->event, &connection->source, connection->fd, EPOLLIN,
					 connection_ready, connection), 0);
	return 0;
}

void fake_tapdisk_start(struct fake_tapdisk *tapdisk, sd_event *event, int pid)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memset(tapdisk, 0, sizeof(*tapdisk));
	tapdisk->pid = pid;
	tapdisk->event = event;
	tapdisk->disk = json_pack("{s:i, s:i, s:I, s:i, s:i, s:b, s:b, s:i, s:i, s:[]}", "minor", 0, "state", 0,
				  "sectors", (json_int_t)2097152, "sector_size", 512, "physical_sector_size", 4096,
				  "read_only", 0, "discard", 1, "discard_granularity", 4096, "discard_alignment", 0,
				  "connections");
	assert_non_null(tapdisk->disk);
	snprintf(address.sun_path, sizeof(address.sun_path), CONTROL_SOCKET_FORMAT, tapctl_run_dir(), pid);
	unlink(address.sun_path);
	tapdisk->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(tapdisk->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(tapdisk->listener, 16), 0);
	assert_int_equal(sd_event_add_io(event, &tapdisk->accept, tapdisk->listener, EPOLLIN, listener_ready, tapdisk), 0);
}

void fake_tapdisk_die(struct fake_tapdisk *tapdisk)
{
	while (tapdisk->connections)
		end_connection(tapdisk->connections);
	sd_event_source_disable_unref(tapdisk->accept);
	close(tapdisk->listener);
	json_decref(tapdisk->disk);
	json_decref(tapdisk->last_connect);
	memset(tapdisk, 0, sizeof(*tapdisk));
}

void fake_tapdisk_event(struct fake_tapdisk *tapdisk, json_t *event)
{
	for (struct fake_connection *connection = tapdisk->connections; connection; connection = connection->next)
		if (connection->watching)
			send_line(connection, json_incref(event));
	json_decref(event);
}

void fake_tapdisk_speak(struct fake_tapdisk *tapdisk)
{
	tapdisk->silent = false;
	for (struct fake_connection *connection = tapdisk->connections; connection; connection = connection->next)
		answer_waiting(connection);
}
