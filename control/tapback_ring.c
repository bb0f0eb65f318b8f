/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_ring.c - asks tapdisk to connect and disconnect a device's rings.
 *
 * Invariants: ring_assert(). Only tapdisk's answer shows whether a ring is
 * connected: after a restart, or if the connection ended during a call, it is
 * asked again. So tapback recovers from a crash at any point.
 */
#include "tapback_ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "tapback_log.h"
#include "tapback_sharing.h"
#include "tapback_takeover.h"

/* After this time a call is logged as late, no more: draining waits for the storage, and a tapdisk may be stopped. */
#define LATE_MS		10000
#define RETRY_MS	2000
/* The delay after a connection ended: its tapdisk has exited, or is about to. */
#define LOST_MS		200

static const char no_image[] = "tapdisk has no image open for this disk";

bool ring_is_busy(const struct device *device)
{
	return device->ring_state == RING_ASKING || device->ring_state == RING_CONNECTING ||
	       device->ring_state == RING_DISCONNECTING;
}

void ring_assert(const struct device *device)
{
	assert(!ring_is_busy(device) || device->user.tapdisk);
	assert(device->ring_state != RING_CONNECTED || device->user.tapdisk);
	assert(!device->user.tapdisk || device->pid > 0);
	assert(!device->connections || (device->ring_state == RING_NONE && device->user.tapdisk));
	assert(!device->announce || device->ring_state == RING_CONNECTED);
	assert(!device->started || device->ring_state == RING_CONNECTED);
	assert(!device->adopted || device->ring_state == RING_CONNECTED);
}

static void ring_set_state(struct device *device, enum ring_state state)
{
	device->ring_state = state;
	device->held = false;
	device->announce = device->started = device->adopted = false;
	json_decref(device->connections);
	device->connections = NULL;
	device_schedule(device);
}

/* Report the error, and try again later. */
static void ring_refuse(struct device *device, int error, const char *text)
{
	device_report(device, error, text);
	device_hold(device, RETRY_MS);
}

/* Does the frontend wait for tapdisk? Otherwise tapdisk's errors are not reported to it. */
static bool ring_is_wanted(const struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;

	return (nodes->state == XENBUS_INIT_WAIT || nodes->state == XENBUS_CONNECTED) &&
	       (nodes->frontend_state == XENBUS_INITIALISED || nodes->frontend_state == XENBUS_CONNECTED);
}

/* ---- the connection to tapdisk ---- */

static void ring_lost(struct tapdisk_user *user)
{
	struct device *device = (struct device *)((char *)user - offsetof(struct device, user));

	if (device->ring_state == RING_NONE) {
		ring_set_state(device, RING_NONE);	/* its last answer is no longer valid */
		return;
	}
	ring_set_state(device, RING_UNKNOWN);
	device_hold(device, LOST_MS);
}

static void ring_event(struct tapdisk_user *user, const char *name, json_t *event)
{
	struct device *device = (struct device *)((char *)user - offsetof(struct device, user));
	const char *text = json_string_value(json_object_get(event, "error"));

	if (device->ring_state != RING_CONNECTED)
		return;
	if (!strcmp(name, "resized")) {
		device->disk.sectors = json_integer_value(json_object_get(event, "sectors"));
		device->announce = true;
		device_log(device, LOG_NOTICE, "resized to %llu sectors", (unsigned long long)device->disk.sectors);
		device_schedule(device);
	} else if (!strcmp(name, "ring-error")) {
		if (json_integer_value(json_object_get(event, "domid")) == device->domid &&
		    json_integer_value(json_object_get(event, "devid")) == device->devid)
			device_report(device, -EIO, text ? text : "ring error");
	}
}

void ring_init(struct device *device)
{
	device->ring_state = RING_UNKNOWN;
	device->user.event = ring_event;
	device->user.lost = ring_lost;
}

void ring_leave(struct device *device)
{
	ring_assert(device);
	if (device->connections)
		ring_set_state(device, RING_NONE);
	tapdisk_leave(&device->user);
}

/* Connect to the tapdisk that the nodes name, or else to the one we had. -ENODEV: neither. */
static int ring_join(struct device *device, struct error_text *text)
{
	const struct device_nodes *nodes = &device->nodes;
	int pid = nodes->has_tapdisk ? nodes->pid : device->pid;
	int minor = nodes->has_tapdisk ? nodes->minor : device->user.minor;

	if (device->user.tapdisk && device->pid == pid && device->user.minor == minor)
		return 0;
	if (!pid)
		return -ENODEV;
	tapdisk_leave(&device->user);
	device->pid = pid;
	device->user.minor = minor;
	return tapdisk_join(&device->user, device->tapback->event, pid, text);
}

/* Send a request and set @state; if it cannot be sent, try again later: the connection is about to end, or memory is short. */
static void ring_call(struct device *device, json_t *request, enum ring_state state, tapdisk_answer *answer)
{
	int error = tapdisk_request(&device->user, request, answer, device);

	if (error) {
		device_log(device, LOG_ERR, "tapdisk %d cannot be reached: %s", device->pid, strerror(-error));
		ring_set_state(device, RING_UNKNOWN);
		device_hold(device, LOST_MS);
		return;
	}
	ring_set_state(device, state);
	device_hold(device, LATE_MS);
}

void ring_late(struct device *device)
{
	struct error_text text = { "" };

	error_set(&text, -ETIMEDOUT, "tapdisk %d has not answered for %d s; is it stopped, or its storage stuck?",
		  device->pid, LATE_MS / 1000);
	/* write it to the nodes only if Connected will remove it */
	if (device->nodes.state == XENBUS_INIT_WAIT && ring_is_wanted(device))
		device_report(device, -ETIMEDOUT, text.text);
	else
		device_log(device, LOG_WARNING, "%s", text.text);
}

/* ---- ask ---- */

static json_t *find_connection(const struct device *device, json_t *connections)
{
	json_t *connection;
	size_t i;

	json_array_foreach(connections, i, connection)
		if (json_integer_value(json_object_get(connection, "domid")) == device->domid &&
		    json_integer_value(json_object_get(connection, "devid")) == device->devid)
			return connection;
	return NULL;
}

static void ring_adopt(struct device *device, const json_t *connection)
{
	const char *text = json_string_value(json_object_get(connection, "error"));

	ring_set_state(device, RING_CONNECTED);
	device->adopted = true;
	/* an invalid one is left empty, so it differs from every frontend's */
	if (frontend_ring_from_json(connection, &device->ring))
		device_log(device, LOG_WARNING, "tapdisk %d describes an invalid connection", device->pid);
	device_log(device, LOG_INFO, "found connected at tapdisk %d minor %d", device->pid, device->user.minor);
	if (text && *text)
		device_report(device, -EIO, text);
}

static void ring_asked(void *arg, int error, json_t *reply, const struct error_text *text)
{
	struct device *device = arg;
	json_t *disk = json_object_get(reply, "disk"), *connections = json_object_get(disk, "connections"), *connection;

	if (!reply) {
		ring_set_state(device, RING_UNKNOWN);	/* ring_lost() follows */
		return;
	}
	ring_set_state(device, RING_NONE);
	if (error) {
		if (ring_is_wanted(device))
			ring_refuse(device, error, text->text);
		return;
	}
	error = disk_geometry_from_json(disk, &device->disk);
	connection = find_connection(device, connections);
	if (connection)
		ring_adopt(device, connection);
	else if (error && ring_is_wanted(device))
		ring_refuse(device, -ENODEV, no_image);
	else if (!error)
		device->connections = json_is_array(connections) ? json_incref(connections) : json_array();
}

/* The tapdisk has gone. True: a successor has the disk, will have it, or the failure was reported. */
static bool ring_follow(struct device *device)
{
	struct error_text text = { "" };
	int successor, error;

	switch (takeover_look(device, &successor, &text)) {
	case TAKEOVER_RUNS:
		device_hold(device, LATE_MS);
		return true;
	case TAKEOVER_DONE:
		device_log(device, LOG_NOTICE, "tapdisk %d has the disk now, instead of %d", successor, device->pid);
		error = nodes_publish_tapdisk(device->tapback->xenstore, device->path, &device->nodes, successor);
		if (error && error != -ESTALE)
			device_log(device, LOG_ERR, "cannot write the disk's tapdisk to xenstore: %s", strerror(-error));
		if (error)
			device_hold(device, RETRY_MS);
		return true;
	default:
		if (*text.text)
			ring_refuse(device, -EIO, text.text);
		return *text.text;
	}
}

void ring_ask(struct device *device)
{
	struct error_text text = { "" };
	int error = ring_join(device, &text);

	ring_assert(device);
	if (!error) {
		ring_call(device, json_pack("{s:s, s:i}", "command", "info", "minor", device->user.minor),
			  RING_ASKING, ring_asked);
		return;
	}
	/* without a process there is no ring */
	ring_set_state(device, error == -ENODEV || error == -ENOENT || error == -ECONNREFUSED ?
		       RING_NONE : RING_UNKNOWN);
	if (error == -ENODEV)
		return;
	if (device->ring_state == RING_UNKNOWN) {
		ring_refuse(device, error, text.text);
	} else if (ring_is_wanted(device) && !ring_follow(device)) {
		struct error_text died = { "" };

		error_set(&died, -ESRCH, "tapdisk %d has died; detach the disk and attach it again", device->pid);
		ring_refuse(device, -ESRCH, died.text);
	}
}

void ring_forget(struct device *device)
{
	ring_set_state(device, RING_UNKNOWN);
	ring_refuse(device, -ENODEV, no_image);
}

/* ---- connect ---- */

/* The frontend has started over: it offers other rings now than those that we tried to connect. */
static bool ring_is_overtaken(const struct device *device)
{
	struct error_text text = { "" };
	struct frontend_ring now;

	return device->nodes.complete &&
	       !frontend_read_ring(device->tapback->xenstore, device->nodes.frontend, device->nodes.max_queues, &now, &text) &&
	       !frontend_ring_same(&now, &device->ring);
}

static void ring_connected(void *arg, int error, json_t *reply, const struct error_text *text)
{
	struct device *device = arg;

	if (!reply) {
		ring_set_state(device, RING_UNKNOWN);	/* ring_lost() follows */
		return;
	}
	if (error) {
		ring_set_state(device, RING_NONE);
		if (!ring_is_overtaken(device))
			ring_refuse(device, error, text->text);
		return;
	}
	ring_set_state(device, RING_CONNECTED);
	device->announce = true;
	/* the disk may have been resized since ring_ask(): without a ring there was no event */
	if (disk_geometry_from_json(json_object_get(reply, "disk"), &device->disk))
		device_log(device, LOG_WARNING, "tapdisk %d does not say how large the disk is", device->pid);
	device_log(device, LOG_INFO, "connected to tapdisk %d minor %d: %u queues of %u pages, %s%s", device->pid,
		   device->user.minor, device->ring.nr_queues, device->ring.ring_pages,
		   *device->ring.protocol ? device->ring.protocol : "native",
		   device->ring.persistent ? ", persistent grants" : "");
}

/* Check against the connections that tapdisk reported, and against ours that are newer than its answer. */
static int ring_check_sharing(struct device *device, json_t *connections, struct error_text *text)
{
	struct xenstore *xenstore = device->tapback->xenstore;
	json_t *connection;
	int error = 0;
	size_t i;

	json_array_foreach(connections, i, connection) {
		error = sharing_check(xenstore, device->domid, &device->nodes,
				      (uint32_t)json_integer_value(json_object_get(connection, "domid")),
				      (uint32_t)json_integer_value(json_object_get(connection, "devid")), text);
		if (error)
			return error;
	}
	for (struct device *other = device->tapback->devices; other && !error; other = other->next)
		if (other->pid == device->pid && other->user.minor == device->user.minor &&
		    (other->ring_state == RING_CONNECTING || other->ring_state == RING_CONNECTED))
			error = sharing_check(xenstore, device->domid, &device->nodes, other->domid, other->devid, text);
	return error;
}

static json_t *connect_request(const struct device *device)
{
	/* a frontend that stays Connected does not issue its requests again; one that starts over first leaves that state */
	bool goes_on = device->nodes.state == XENBUS_CONNECTED && device->nodes.frontend_state == XENBUS_CONNECTED;
	json_t *request = json_pack("{s:s, s:i, s:s, s:I, s:I, s:b, s:b, s:b}", "command", "connect",
				    "minor", device->user.minor, "transport", "xen",
				    "domid", (json_int_t)device->domid, "devid", (json_int_t)device->devid,
				    "direct_io_safe", device->nodes.direct_io_safe, "take_over", goes_on,
				    "read_only", device->nodes.read_only || device->nodes.cdrom);
	json_t *ring = frontend_ring_json(&device->ring);

	if (!request || !ring || json_object_update(request, ring)) {
		json_decref(request);
		request = NULL;
	}
	json_decref(ring);
	return request;
}

void ring_connect(struct device *device)
{
	struct error_text text = { "" };
	int error;

	ring_assert(device);
	error = ring_check_sharing(device, device->connections, &text);
	if (!error)
		error = frontend_read_ring(device->tapback->xenstore, device->nodes.frontend,
					   device->nodes.max_queues, &device->ring, &text);
	if (error) {
		ring_set_state(device, RING_NONE);
		ring_refuse(device, error, text.text);
		return;
	}
	ring_call(device, connect_request(device), RING_CONNECTING, ring_connected);
}

/* ---- disconnect ---- */

static void ring_disconnected(void *arg, int error, json_t *reply, const struct error_text *text)
{
	struct device *device = arg;

	if (!reply) {
		ring_set_state(device, RING_UNKNOWN);	/* ring_lost() follows */
		return;
	}
	if (!error || error == -ENOENT) {
		ring_set_state(device, RING_NONE);
		return;
	}
	ring_set_state(device, RING_UNKNOWN);
	ring_refuse(device, error, text->text);
}

void ring_disconnect(struct device *device, const char *why)
{
	json_t *request = json_pack("{s:s, s:i, s:I, s:I}", "command", "disconnect", "minor", device->user.minor,
				    "domid", (json_int_t)device->domid, "devid", (json_int_t)device->devid);

	ring_assert(device);
	device_log(device, LOG_INFO, "disconnecting from tapdisk %d: %s", device->pid, why);
	ring_call(device, request, RING_DISCONNECTING, ring_disconnected);
}
