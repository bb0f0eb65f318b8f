/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_device.c - decides from a device's nodes what to do about it.
 *
 * We keep no state that xenstore or tapdisk has: every event only schedules
 * the device, whose nodes are then read again and lead to one step. So events
 * may be lost, merged or late, and tapback may be restarted, without harm. Our
 * state (the `state` node):
 *
 *   Initialising(1) --device_decide: immediately-----------> InitWait(2)
 *   InitWait(2)     --frontend 3 or 4, ring connected------> Connected(4)
 *   Connected(4)    --frontend 3 again: new ring-----------> Connected(4), written again
 *   Connected(4)    --frontend 1: ring dropped-------------> InitWait(2)
 *   2, 4            --frontend 5 (the ring stays)----------> Closing(5)
 *   any             --frontend 6 or gone: ring dropped-----> Closed(6)
 *   Closing(5)      --by the toolstack, and no ring--------> Closed(6)
 *   5, 6            --frontend 1 or 3, still online--------> InitWait(2)
 *
 * The ring's own states are in tapback_ring.h. The first decision is whether
 * to disconnect the ring (ring_is_over), the second what to publish:
 * device_serve() with a ring, device_wait() without.
 *
 * Invariants: the backend node is never deleted here. A ring is connected
 * only while the frontend is in state 3, 4 or 5. A frontend that reuses its
 * grant references is still recognised: while tapdisk has a page mapped the
 * frontend cannot give its reference to another page, so a new ring has new
 * references, or was preceded by state 4, and now 3.
 */
#include "tapback_device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "tapback_log.h"
#include "tapback_ring.h"

#define PUBLISH_RETRY_MS 2000
/* Errors a guest can provoke, per device and second. */
#define REPORTS_PER_SECOND 5

/* ---- reporting ---- */

void device_log(const struct device *device, int priority, const char *format, ...)
{
	char line[900];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	tapback_log(priority, "domain %u disk %u: %s", device->domid, device->devid, line);
}

static bool report_is_due(struct device *device)
{
	uint64_t second = (uint64_t)clock_ms() / 1000;

	if (second != device->report_second) {
		device->report_second = second;
		device->report_count = 0;
	}
	return device->report_count++ < REPORTS_PER_SECOND;
}

void device_report(struct device *device, int error, const char *text)
{
	char clean[sizeof(device->reported.text)];
	int failed;

	snprintf(clean, sizeof(clean), "%s", text);
	tapback_log_clean(clean);
	if (!strcmp(clean, device->reported.text) || !report_is_due(device))
		return;
	memcpy(device->reported.text, clean, sizeof(clean));
	device_log(device, LOG_ERR, "%s", clean);
	failed = nodes_publish_error(device->tapback->xenstore, device->path, error, clean);
	if (failed && failed != -ESTALE)
		device_log(device, LOG_ERR, "cannot write its error nodes: %s", strerror(-failed));
}

/* ---- waiting ---- */

void device_hold(struct device *device, unsigned ms)
{
	device->held = true;
	device->held_state = device->nodes.state;
	device->held_frontend_state = device->nodes.frontend_state;
	device->held_pid = device->nodes.pid;
	device->held_minor = device->nodes.minor;
	sd_event_source_set_time_relative(device->timer, ms * 1000ull);
	sd_event_source_set_enabled(device->timer, SD_EVENT_ONESHOT);
}

static bool device_is_held(struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;

	if (device->held_state != nodes->state || device->held_frontend_state != nodes->frontend_state ||
	    device->held_pid != nodes->pid || device->held_minor != nodes->minor)
		device->held = false;
	return device->held;
}

static int device_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct device *device = arg;

	device->held = false;
	if (ring_is_busy(device))
		ring_late(device);
	device_schedule(device);
	return 0;
}

void device_schedule(struct device *device)
{
	sd_event_source_set_enabled(device->work, SD_EVENT_ONESHOT);
}

/* ---- decisions ---- */

/* Check the result of a publication: log a failure and retry later. After -ESTALE an event will come. */
static bool device_published(struct device *device, int error, enum xenbus state)
{
	if (!error) {
		device_log(device, LOG_INFO, "%s -> %s (frontend %s)", xenbus_name(device->nodes.state),
			   xenbus_name(state), xenbus_name(device->nodes.frontend_state));
		return true;
	}
	if (error == -ESTALE) {
		device_schedule(device);
		return false;
	}
	device_log(device, LOG_ERR, "cannot write state %s: %s", xenbus_name(state), strerror(-error));
	device_hold(device, PUBLISH_RETRY_MS);
	return false;
}

static void device_publish_features(struct device *device)
{
	struct tapback *tapback = device->tapback;

	device->reported.text[0] = '\0';
	device_published(device, nodes_publish_features(tapback->xenstore, device->path, &device->nodes,
							tapback->max_queues), XENBUS_INIT_WAIT);
}

static void device_publish_disk(struct device *device)
{
	int error;

	if (!device->disk.sector_size) {
		/* the ring is connected, but the image could not be reopened after a pause: wait until that is repaired */
		ring_forget(device);
		return;
	}
	error = nodes_publish_disk(device->tapback->xenstore, device->path, &device->nodes, &device->disk, device->pid);
	if (device_published(device, error, XENBUS_CONNECTED)) {
		device->announce = false;
		device->reported.text[0] = '\0';
	}
}

static void device_publish_state(struct device *device, enum xenbus state)
{
	device_published(device, nodes_publish_state(device->tapback->xenstore, device->path, &device->nodes, state), state);
}

/* The toolstack is taking the device away. */
static bool device_is_leaving(const struct device_nodes *nodes)
{
	return nodes->state == XENBUS_CLOSING && !nodes->online;
}

static bool frontend_is_ready(const struct device_nodes *nodes)
{
	return nodes->frontend_state == XENBUS_INITIALISED || nodes->frontend_state == XENBUS_CONNECTED;
}

/* The frontend is ready: why the connected rings are not its rings, or NULL. */
static const char *frontend_has_changed(struct device *device)
{
	struct error_text text = { "" };
	struct frontend_ring ring;

	if (device->nodes.frontend_state == XENBUS_INITIALISED && device->started)
		return "the frontend started over";
	/* keep a working ring if the nodes cannot be read */
	if (frontend_read_ring(device->tapback->xenstore, device->nodes.frontend, device->nodes.max_queues, &ring, &text))
		return NULL;
	return frontend_ring_same(&ring, &device->ring) ? NULL : "the frontend has new rings";
}

/* Why the connected ring must be disconnected, or NULL. */
static const char *ring_is_over(struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;

	if (nodes->state == XENBUS_GONE)
		return "the device was removed";
	if (!nodes->complete)
		return NULL;
	if (nodes->state == XENBUS_INITIALISING)
		return "the device is set up again";
	if (nodes->state == XENBUS_CLOSED)
		return "the device was closed";
	if (nodes->has_tapdisk && (nodes->pid != device->pid || nodes->minor != device->user.minor))
		return "the disk has another tapdisk now";
	switch (nodes->frontend_state) {
	case XENBUS_GONE:
		return "the frontend has gone";
	case XENBUS_INITIALISING:
	case XENBUS_INIT_WAIT:
		return "the frontend started over";
	case XENBUS_CLOSED:
		return "the frontend has closed";
	case XENBUS_INITIALISED:
	case XENBUS_CONNECTED:
		return frontend_has_changed(device);
	default:
		return NULL;
	}
}

/* For a ring that an earlier tapback connected: it may not have told the frontend, or not of the last resize. */
static void device_check_adopted(struct device *device)
{
	device->adopted = false;
	if (device->nodes.frontend_state == XENBUS_INITIALISED || !device->disk.sector_size ||
	    nodes_read_sectors(device->tapback->xenstore, device->path) != device->disk.sectors)
		device->announce = true;
}

/* The ring is connected and stays so. */
static void device_serve(struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;

	if (device->adopted)
		device_check_adopted(device);
	if (nodes->frontend_state == XENBUS_CONNECTED)
		device->started = true;
	if (device_is_leaving(nodes) || device_is_held(device))
		return;
	if (nodes->frontend_state == XENBUS_CLOSING) {
		if (nodes->state == XENBUS_INIT_WAIT || nodes->state == XENBUS_CONNECTED)
			device_publish_state(device, XENBUS_CLOSING);
	} else if (frontend_is_ready(nodes)) {
		if (nodes->state == XENBUS_INIT_WAIT || (nodes->state == XENBUS_CONNECTED && device->announce))
			device_publish_disk(device);
	}
}

/* The frontend has rings that are not connected at tapdisk. */
static void device_attach(struct device *device)
{
	if (!device->nodes.has_tapdisk)
		return;		/* the hotplug script still runs */
	if (!device->connections || device->pid != device->nodes.pid || device->user.minor != device->nodes.minor)
		ring_ask(device);
	else
		ring_connect(device);
}

/* The next state, without a ring; the present state: no change. */
static enum xenbus device_next_state(const struct device_nodes *nodes)
{
	enum xenbus state = nodes->state, front = nodes->frontend_state;

	if (state == XENBUS_INITIALISING)
		return state;		/* was handled just before */
	if (device_is_leaving(nodes) || front == XENBUS_CLOSED)
		return XENBUS_CLOSED;
	if (front == XENBUS_GONE)
		/* in InitWait the frontend may not exist yet */
		return state == XENBUS_INIT_WAIT ? state : XENBUS_CLOSED;
	if (front == XENBUS_CLOSING)
		return state == XENBUS_CLOSED ? state : XENBUS_CLOSING;
	if (!nodes->online)
		return state;
	if (front == XENBUS_INITIALISING || front == XENBUS_INIT_WAIT)
		return XENBUS_INIT_WAIT;
	if (front == XENBUS_INITIALISED && state != XENBUS_CONNECTED)
		return XENBUS_INIT_WAIT;
	return state;
}

/* Publish the next state, without a ring. */
static void device_wait(struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;
	enum xenbus next = device_next_state(nodes);

	if (device_is_held(device))
		return;
	if (next == nodes->state && frontend_is_ready(nodes) &&
	    (next == XENBUS_INIT_WAIT || next == XENBUS_CONNECTED)) {
		device_attach(device);
		return;
	}
	ring_leave(device);
	if (next == XENBUS_INIT_WAIT && next != nodes->state)
		device_publish_features(device);
	else if (next != nodes->state)
		device_publish_state(device, next);
}

/* The path and the token of the watch on the frontend. */
static int watch_names(const struct device *device, char path[XENSTORE_PATH_MAX], char token[32])
{
	snprintf(token, 32, "%u/%u", device->domid, device->devid);
	return snprintf(path, XENSTORE_PATH_MAX, "%s/state", device->watched) < XENSTORE_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void device_unwatch(struct device *device)
{
	char path[XENSTORE_PATH_MAX], token[32];

	if (device->watched && !watch_names(device, path, token))
		device->tapback->xenstore->ops->unwatch(device->tapback->xenstore, path, token);
	free(device->watched);
	device->watched = NULL;
}

/* The toolstack has deleted the node, and nothing of ours is left at tapdisk. */
static void device_remove(struct device *device)
{
	device_log(device, LOG_INFO, "removed");
	nodes_forget_error(device->tapback->xenstore, device->path);
	device_free(device);
}

static void device_decide(struct device *device)
{
	const struct device_nodes *nodes = &device->nodes;
	const char *why;

	ring_assert(device);
	/* the toolstack waits for this; it needs no tapdisk */
	if (nodes->complete && nodes->state == XENBUS_INITIALISING)
		device_publish_features(device);
	if (ring_is_busy(device))
		return;
	if (device->ring_state == RING_UNKNOWN) {
		if (!device_is_held(device))
			ring_ask(device);
		return;
	}
	if (device->ring_state == RING_CONNECTED) {
		why = ring_is_over(device);
		if (why)
			ring_disconnect(device, why);
		else if (nodes->complete)
			device_serve(device);
		return;
	}
	if (nodes->state == XENBUS_GONE)
		device_remove(device);
	else if (nodes->complete && nodes->state >= XENBUS_INITIALISING && nodes->state <= XENBUS_CLOSED)
		device_wait(device);
}

/* Watch the frontend's state. */
static void device_watch_frontend(struct device *device)
{
	const char *frontend = device->nodes.frontend;
	char path[XENSTORE_PATH_MAX], token[32];
	int error;

	if (!frontend || (device->watched && !strcmp(device->watched, frontend)))
		return;
	device_unwatch(device);
	device->watched = strdup(frontend);
	error = device->watched ? watch_names(device, path, token) : -ENOMEM;
	if (!error)
		error = device->tapback->xenstore->ops->watch(device->tapback->xenstore, path, token);
	if (error)
		device_report(device, error, "cannot watch the frontend's state");
}

static int device_work(sd_event_source *source, void *arg)
{
	struct device *device = arg;

	nodes_free(&device->nodes);
	nodes_read(device->tapback->xenstore, device->path, device->domid, &device->nodes);
	if (device->tapback->xenstore->lost)
		return 0;	/* what was read is not reliable, and the daemon ends */
	device_watch_frontend(device);
	if (*device->nodes.wrong.text)
		device_report(device, -EINVAL, device->nodes.wrong.text);
	device_decide(device);
	return 0;
}

/* ---- creating and freeing ---- */

struct device *device_find(struct tapback *tapback, uint32_t domid, uint32_t devid)
{
	struct device *device = tapback->devices;

	while (device && (device->domid != domid || device->devid != devid))
		device = device->next;
	return device;
}

int device_create(struct tapback *tapback, uint32_t domid, uint32_t devid)
{
	struct device *device = calloc(1, sizeof(*device));
	int error;

	if (!device)
		return -ENOMEM;
	device->tapback = tapback;
	device->domid = domid;
	device->devid = devid;
	snprintf(device->path, sizeof(device->path), BACKEND_ROOT "/%u/%u", domid, devid);
	ring_init(device);
	error = sd_event_add_defer(tapback->event, &device->work, device_work, device);
	if (!error)
		error = sd_event_add_time_relative(tapback->event, &device->timer, CLOCK_MONOTONIC, 0, 0,
						   device_timer, device);
	if (!error)
		error = sd_event_source_set_enabled(device->timer, SD_EVENT_OFF);
	if (error) {
		sd_event_source_disable_unref(device->work);
		sd_event_source_disable_unref(device->timer);
		free(device);
		return error;
	}
	device->next = tapback->devices;
	tapback->devices = device;
	return 0;
}

void device_free(struct device *device)
{
	struct device **link = &device->tapback->devices;

	while (*link != device)
		link = &(*link)->next;
	*link = device->next;
	device_unwatch(device);
	tapdisk_leave(&device->user);
	sd_event_source_disable_unref(device->work);
	sd_event_source_disable_unref(device->timer);
	json_decref(device->connections);
	nodes_free(&device->nodes);
	free(device);
}
