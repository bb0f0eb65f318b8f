/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_device.h - one device below backend/vbd3, and the daemon's context.
 */
#ifndef TAPBACK_DEVICE_H
#define TAPBACK_DEVICE_H

#include <systemd/sd-event.h>

#include "tapback_nodes.h"
#include "tapback_tapdisk.h"

/* The daemon's context. */
struct tapback {
	struct xenstore *xenstore;
	sd_event *event;
	struct device *devices;
	unsigned max_queues;		/* advertised to every frontend */
	sd_event_source *xenstore_ready, *xenstore_check;
};

/* The device's ring at its tapdisk, as far as we know; only tapback_ring.c changes it. */
enum ring_state {
	RING_UNKNOWN,			/* ask tapdisk: we just started, or lost the connection */
	RING_ASKING,
	RING_NONE,
	RING_CONNECTING,
	RING_CONNECTED,
	RING_DISCONNECTING,
};

struct device {
	struct tapback *tapback;
	uint32_t domid, devid;
	char path[64];			/* its node, relative */
	char *watched;			/* the frontend path whose `state` we watch, or NULL */
	struct device_nodes nodes;	/* as read for the current decision */

	enum ring_state ring_state;
	int pid;			/* the tapdisk of `user`, or the last one; 0: none yet */
	struct tapdisk_user user;
	struct frontend_ring ring;	/* from CONNECTING on: what tapdisk was told */
	struct disk_geometry disk;
	json_t *connections;		/* NONE: tapdisk's answer for the next connect, or NULL: ask first */
	bool announce;			/* CONNECTED: geometry and state 4 must be written (again) */
	bool adopted;			/* CONNECTED: an earlier tapback connected the ring */
	bool started;			/* CONNECTED: the frontend was seen in state 4 with this ring */

	unsigned takeovers;		/* tapback_takeover.c: the number since takeovers_since, by all its tapdisks */
	uint64_t takeovers_since;
	int takeover_given_up;		/* pid of a tapdisk that will not be replaced; 0: none */
	bool takeover_failed;		/* the last one, with takeover_error */
	struct error_text takeover_error;

	bool held;			/* no attempt before the timer, unless one of the held_ values has changed */
	enum xenbus held_state, held_frontend_state;
	int held_pid, held_minor;
	sd_event_source *work, *timer;
	struct error_text reported;	/* the last error in our nodes */
	unsigned report_count;		/* log lines in the second report_second */
	uint64_t report_second;
	struct device *next;
};

struct device *device_find(struct tapback *tapback, uint32_t domid, uint32_t devid);
int device_create(struct tapback *tapback, uint32_t domid, uint32_t devid);
/* Forget it; rings stay as they are. */
void device_free(struct device *device);
/* Look at the device from the event loop, after the current callback. */
void device_schedule(struct device *device);

/* For tapback_ring.c: */
void device_log(const struct device *device, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Log an error and write it to the device's error nodes, unless it is the one reported last. */
void device_report(struct device *device, int error, const char *text);
/* Try again after @ms, or when a state or the tapdisk changes. */
void device_hold(struct device *device, unsigned ms);

#endif
