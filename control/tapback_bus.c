/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_bus.c - from xenstore's events to the devices they concern.
 *
 * Invariant: an event only schedules devices. It carries no information but
 * "look again", so many of them cost one look, and one that cannot be
 * attributed makes all devices look.
 */
#include "tapback_bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "tapback_log.h"
#include "tapback_orphans.h"
#include "tapback_takeover.h"

#define BACKEND_TOKEN "backend"
#define QUEUES_MAX 4
/* Events handled before devices and tapdisks get their turn: a guest may keep writing its state. */
#define EVENT_BATCH 64
/* The interval of checks for a xenstored that has died. */
#define XENSTORE_CHECK_S 5

unsigned bus_default_queues(void)
{
	int processors = get_nprocs();

	return processors < 1 ? 1 : processors < QUEUES_MAX ? processors : QUEUES_MAX;
}

/* "<domid>/<devid>" at the beginning of @text; false when it is not that. */
static bool parse_device(const char *text, uint32_t *domid, uint32_t *devid)
{
	char copy[32];
	char *dev, *rest;
	uint64_t numbers[2];

	strncpy(copy, text, sizeof(copy) - 1);
	copy[sizeof(copy) - 1] = '\0';
	dev = strchr(copy, '/');
	if (!dev)
		return false;
	*dev++ = '\0';
	rest = strchr(dev, '/');
	if (rest)
		*rest = '\0';
	else if (strlen(text) >= sizeof(copy))
		return false;
	if (xenstore_parse_number(copy, UINT16_MAX, &numbers[0]) || xenstore_parse_number(dev, UINT32_MAX, &numbers[1]))
		return false;
	*domid = (uint32_t)numbers[0];
	*devid = (uint32_t)numbers[1];
	return true;
}

static void bus_look_at(struct tapback *tapback, uint32_t domid, uint32_t devid)
{
	struct device *device = device_find(tapback, domid, devid);
	char path[64];
	int error;

	if (device) {
		device_schedule(device);
		return;
	}
	/* ignore the last events of a removed device; a new device's state will bring another event */
	snprintf(path, sizeof(path), BACKEND_ROOT "/%u/%u", domid, devid);
	if (xenbus_read_state(tapback->xenstore, path) == XENBUS_GONE)
		return;
	error = device_create(tapback, domid, devid);	/* looks at itself */
	if (error)
		tapback_log(LOG_ERR, "domain %u disk %u: %s", domid, devid, strerror(-error));
}

/* Create all devices below backend/vbd3/@domain. */
static void bus_scan_domain(struct tapback *tapback, const char *domain)
{
	char path[XENSTORE_PATH_MAX], **devices;
	uint64_t domid, devid;
	unsigned count;

	if (xenstore_parse_number(domain, UINT16_MAX, &domid))
		return;
	snprintf(path, sizeof(path), BACKEND_ROOT "/%u", (unsigned)domid);
	if (tapback->xenstore->ops->list(tapback->xenstore, path, &devices, &count))
		return;
	for (unsigned i = 0; i < count; i++)
		if (!xenstore_parse_number(devices[i], UINT32_MAX, &devid))
			bus_look_at(tapback, (uint32_t)domid, (uint32_t)devid);
	free(devices);
}

/* 0 also when there is no backend/vbd3 yet. */
static int bus_scan(struct tapback *tapback)
{
	char **domains;
	unsigned count;
	int error;

	for (struct device *device = tapback->devices; device; device = device->next)
		device_schedule(device);
	error = tapback->xenstore->ops->list(tapback->xenstore, BACKEND_ROOT, &domains, &count);
	if (error)
		return error == -ENOENT ? 0 : error;
	for (unsigned i = 0; i < count; i++)
		bus_scan_domain(tapback, domains[i]);
	free(domains);
	return 0;
}

static void bus_event(struct tapback *tapback, const char *path, const char *token)
{
	static const char root[] = BACKEND_ROOT "/";
	uint32_t domid, devid;

	tapback_log(LOG_DEBUG, "event %s (%s)", path, token);
	if (strcmp(token, BACKEND_TOKEN)) {
		struct device *device = parse_device(token, &domid, &devid) ? device_find(tapback, domid, devid) : NULL;

		if (device)
			device_schedule(device);
	} else if (!strncmp(path, root, strlen(root)) && parse_device(path + strlen(root), &domid, &devid)) {
		bus_look_at(tapback, (uint32_t)domid, (uint32_t)devid);
	} else {
		int error = bus_scan(tapback);

		if (error)
			tapback_log(LOG_ERR, "cannot list %s: %s", BACKEND_ROOT, strerror(-error));
	}
}

static int bus_take_events(struct tapback *tapback)
{
	char *path, *token;

	for (int i = 0; i < EVENT_BATCH; i++) {
		if (tapback->xenstore->ops->next_event(tapback->xenstore, &path, &token))
			break;
		bus_event(tapback, path, token);
		free(path);
		free(token);
	}
	if (tapback->xenstore->lost) {
		tapback_log(LOG_ERR, "connection to xenstored lost");
		return sd_event_exit(tapback->event, -EPIPE);
	}
	return 0;
}

static int bus_store_ready(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	return bus_take_events(arg);
}

/* Poll for the end of the connection, which the descriptor does not report. */
static int bus_xenstore_check(sd_event_source *source, uint64_t usec, void *arg)
{
	sd_event_source_set_time_relative(source, XENSTORE_CHECK_S * 1000000ull);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return bus_take_events(arg);
}

int bus_start(struct tapback *tapback)
{
	struct xenstore *xenstore = tapback->xenstore;
	int error = xenstore->ops->watch(xenstore, BACKEND_ROOT, BACKEND_TOKEN);

	if (!error)
		error = bus_scan(tapback);
	if (!error)
		error = sd_event_add_io(tapback->event, &tapback->xenstore_ready, xenstore->ops->fd(xenstore), EPOLLIN,
					bus_store_ready, tapback);
	if (!error)
		error = sd_event_add_time_relative(tapback->event, &tapback->xenstore_check, CLOCK_MONOTONIC,
						   XENSTORE_CHECK_S * 1000000ull, 0, bus_xenstore_check, tapback);
	return error ? error : orphans_start(tapback);
}

void bus_stop(struct tapback *tapback)
{
	orphans_stop();
	takeovers_stop();
	while (tapback->devices)
		device_free(tapback->devices);
	sd_event_source_disable_unref(tapback->xenstore_ready);
	sd_event_source_disable_unref(tapback->xenstore_check);
}
