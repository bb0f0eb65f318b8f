/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_bus.h - finds the devices below backend/vbd3 and watches for changes.
 */
#ifndef TAPBACK_BUS_H
#define TAPBACK_BUS_H

#include "tapback_device.h"

/* Queues offered to each frontend unless --queues says otherwise: the number of processors, at most 4. */
unsigned bus_default_queues(void);

/*
 * Watch backend/vbd3 and create all devices there. The caller sets xenstore,
 * event and max_queues of @tapback. When xenstore is lost the event loop
 * exits with -EPIPE. bus_stop() leaves every ring connected.
 */
int bus_start(struct tapback *tapback);
void bus_stop(struct tapback *tapback);

#endif
