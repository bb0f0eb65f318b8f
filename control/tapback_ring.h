/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_ring.h - a device's ring at its tapdisk: ask, connect, disconnect.
 *
 *            ring_ask            not there
 *   UNKNOWN ---------> ASKING ------------------> NONE <--------------.
 *      ^                 |  ^     ring_ask         |                   |
 *      |   it is there   |  `----------------------+ ring_connect      | drained, or
 *      |                 v                         v                   | tapdisk has died
 *      |             CONNECTED <------------- CONNECTING               |
 *      |                 |        connected        | refused: NONE     |
 *      |                 | ring_disconnect         |                   |
 *      |                 v                         |                   |
 *      +---------- DISCONNECTING ------------------+-------------------'
 *       from anywhere: the connection to tapdisk has ended
 *
 * Each call sends a request and returns; the answer changes the state and
 * schedules the device. A comment ends with the state that a call requires.
 */
#ifndef TAPBACK_RING_H
#define TAPBACK_RING_H

#include "tapback_device.h"

void ring_init(struct device *device);
/* Is a request in flight? Until its answer no other may be sent. */
bool ring_is_busy(const struct device *device);
/* Log that the request in flight takes long. */
void ring_late(struct device *device);
/* Asks for the disk, and whether our ring is connected. UNKNOWN or NONE. */
void ring_ask(struct device *device);
/* Reads the frontend's nodes and connects its rings. NONE, with device->connections from the last answer. */
void ring_connect(struct device *device);
/* @why goes to the log. CONNECTED. */
void ring_disconnect(struct device *device, const char *why);
/* The device no longer uses its tapdisk. NONE. */
void ring_leave(struct device *device);
/* The disk has no image: report that, and ask again after a while. CONNECTED. */
void ring_forget(struct device *device);
void ring_assert(const struct device *device);

#endif
