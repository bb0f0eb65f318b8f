/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_device.h - one device below backend/vbd3, and the daemon's context.
 */
#ifndef TAPBACK_DEVICE_H
#define TAPBACK_DEVICE_H

#include <systemd/sd-event.h>

#include "tapback_nodes.h"
#include "tapback_tapdisk.h"

/* What the daemon consists of. */
struct tapback {
	struct xenstore *xenstore;
	sd_event *event;
	struct device *devices;
	unsigned max_queues;		/* advertised to every frontend */
	sd_event_source *xenstore_ready, *xenstore_check;
};

/* What we know of the device's ring at its tapdisk; tapback_ring.c changes it. */
enum ring_state {
	RING_UNKNOWN,			/* we have to ask: just started, or lost the connection */
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
	struct device_nodes nodes;	/* as read for the decision under way */

	enum ring_state ring_state;
	int pid;			/* the tapdisk of `user`, or the last one; 0: none yet */
	struct tapdisk_user user;
	struct frontend_ring ring;	/* CONNECTING on: what tapdisk was told */
	struct disk_geometry disk;
	json_t *connections;		/* NONE: tapdisk's answer for the next connect, or NULL: ask first */
	bool announce;			/* CONNECTED: geometry and state 4 have to be written (again) */
	bool adopted;			/* CONNECTED: the ring was found, not made by us */
	bool started;			/* CONNECTED: the frontend was seen in state 4 with this ring */

	unsigned takeovers;		/* tapback_takeover.c: from this tapdisk and those before it, in the time that began at: */
	uint64_t takeovers_since;
	int takeover_given_up;		/* this tapdisk is not replaced; 0: none */
	bool takeover_failed;		/* the last one has, because of: */
	struct error_text takeover_error;

	bool held;			/* no attempt before the timer, unless one of these has changed: */
	enum xenbus held_state, held_frontend_state;
	int held_pid, held_minor;
	sd_event_source *work, *timer;
	struct error_text reported;	/* the last error in our nodes */
	unsigned report_count;		/* log lines in the second that began at: */
	uint64_t report_second;
	struct device *next;
};

struct device *device_find(struct tapback *tapback, uint32_t domid, uint32_t devid);
int device_create(struct tapback *tapback, uint32_t domid, uint32_t devid);
/* Forget it; rings stay as they are. */
void device_free(struct device *device);
/* Look at the device once what is going on is over. */
void device_schedule(struct device *device);

/* For tapback_ring.c: */
void device_log(const struct device *device, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Log an error and write it to the device's error nodes, if it is news. */
void device_report(struct device *device, int error, const char *text);
/* Try again after @ms, or when a state or the tapdisk changes. */
void device_hold(struct device *device, unsigned ms);

#endif
