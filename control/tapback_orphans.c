/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_orphans.c - at the start, disconnects the rings without a device.
 *
 * A toolstack that destroys a domain while no tapback runs waits ten seconds
 * for each disk, deletes its nodes and gives up, without the hotplug script's
 * `remove`. That leaves a ring that pins the dead domain's pages, and an open
 * image. So for each orphan: disconnect, and if that was the disk's last user,
 * do the script's work: close, detach, free the minor. If the tapdisk had died
 * before, remove its records for a successor: none will come, and they keep
 * others from opening the image.
 *
 * Invariants: a search is a user of its tapdisk until `calls` is 0, then it is
 * freed; a ring whose device names this tapdisk and minor is never touched.
 */
#include "tapback_orphans.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_internal.h"
#include "tapback_log.h"

struct search {
	struct tapback *tapback;
	struct tapdisk_user user;
	int pid;
	unsigned calls;			/* in flight */
	sd_event_source *over;		/* leaves the tapdisk, outside of callbacks */
	struct search *next;
};

struct orphan {
	struct search *search;
	int minor;
	uint32_t domid, devid;
	enum { ORPHAN_DISCONNECT, ORPHAN_CLOSE, ORPHAN_DETACH } step;
};

static struct search *searches;

static void search_free(struct search *search)
{
	struct search **link = &searches;

	while (*link != search)
		link = &(*link)->next;
	*link = search->next;
	tapdisk_leave(&search->user);
	sd_event_source_disable_unref(search->over);
	free(search);
}

static int search_over(sd_event_source *source, void *arg)
{
	search_free(arg);
	return 0;
}

static void search_answered(struct search *search)
{
	if (!--search->calls)
		sd_event_source_set_enabled(search->over, SD_EVENT_ONESHOT);
}

static void search_lost(struct tapdisk_user *user)
{
	/* all calls were answered before; search_over() follows */
}

static void search_event(struct tapdisk_user *user, const char *name, json_t *event)
{
	/* a search uses no disk, so events do not matter */
}

static void orphan_answered(void *arg, int error, json_t *reply, const struct error_text *text);

/* Sends the orphan's next command; frees the orphan if that fails. */
static void orphan_step(struct orphan *orphan)
{
	static const char *const commands[] = { "disconnect", "close", "detach" };
	json_t *request = json_pack("{s:s, s:i}", "command", commands[orphan->step], "minor", orphan->minor);

	if (request && orphan->step == ORPHAN_DISCONNECT) {
		json_object_set_new(request, "domid", json_integer(orphan->domid));
		json_object_set_new(request, "devid", json_integer(orphan->devid));
	}
	if (tapdisk_request(&orphan->search->user, request, orphan_answered, orphan))
		free(orphan);
	else
		orphan->search->calls++;
}

static void orphan_answered(void *arg, int error, json_t *reply, const struct error_text *text)
{
	struct orphan *orphan = arg;
	struct search *search = orphan->search;
	struct error_text failure = { "" };
	bool over = error || orphan->step == ORPHAN_DETACH;

	/* -EBUSY: the disk has another user and stays open */
	if (error && !(orphan->step == ORPHAN_CLOSE && error == -EBUSY))
		tapback_log(LOG_ERR, "orphan of domain %u disk %u: %s", orphan->domid, orphan->devid, text->text);
	if (!error && orphan->step == ORPHAN_DETACH && tapctl_minor_free(orphan->minor, &failure))
		tapback_log(LOG_ERR, "%s", failure.text);
	if (over) {
		free(orphan);
	} else {
		orphan->step++;
		orphan_step(orphan);
	}
	search_answered(search);
}

/* Is there a device, and does it have this disk? */
static bool ring_is_claimed(const struct search *search, int minor, uint32_t domid, uint32_t devid)
{
	struct xenstore *xenstore = search->tapback->xenstore;
	uint64_t number;
	char path[64];

	snprintf(path, sizeof(path), BACKEND_ROOT "/%u/%u", domid, devid);
	if (xenbus_read_state(xenstore, path) == XENBUS_GONE)
		return xenstore->lost;
	return !xenstore_read_number(xenstore, path, "pid", INT32_MAX, &number) && number == (uint64_t)search->pid &&
	       !xenstore_read_number(xenstore, path, "minor", INT32_MAX, &number) && number == (uint64_t)minor;
}

static void search_disk(struct search *search, json_t *disk)
{
	int minor = (int)json_integer_value(json_object_get(disk, "minor"));
	json_t *connection;
	size_t i;

	json_array_foreach(json_object_get(disk, "connections"), i, connection) {
		const char *transport = json_string_value(json_object_get(connection, "transport"));
		uint32_t domid = (uint32_t)json_integer_value(json_object_get(connection, "domid"));
		uint32_t devid = (uint32_t)json_integer_value(json_object_get(connection, "devid"));
		struct orphan *orphan;

		if (!transport || strcmp(transport, "xen") || ring_is_claimed(search, minor, domid, devid))
			continue;
		tapback_log(LOG_WARNING, "domain %u disk %u: gone, but still connected at tapdisk %d minor %d; disconnecting",
			    domid, devid, search->pid, minor);
		orphan = calloc(1, sizeof(*orphan));
		if (!orphan)
			return;
		*orphan = (struct orphan) { .search = search, .minor = minor, .domid = domid, .devid = devid };
		orphan_step(orphan);
	}
}

static void search_listed(void *arg, int error, json_t *reply, const struct error_text *text)
{
	struct search *search = arg;
	json_t *disk;
	size_t i;

	if (error)
		tapback_log(LOG_WARNING, "tapdisk %d is not searched for orphans: %s", search->pid, text->text);
	else
		json_array_foreach(json_object_get(reply, "disks"), i, disk)
			search_disk(search, disk);
	search_answered(search);
}

static void search_start(int pid, void *arg)
{
	struct search *search = calloc(1, sizeof(*search));
	struct error_text text = { "" };
	int error = search ? 0 : -ENOMEM;

	if (!error) {
		search->tapback = arg;
		search->pid = pid;
		search->calls = 1;
		search->user = (struct tapdisk_user) { .minor = -1, .event = search_event, .lost = search_lost };
		search->next = searches;
		searches = search;
		error = sd_event_add_defer(search->tapback->event, &search->over, search_over, search);
	}
	if (!error)
		error = sd_event_source_set_enabled(search->over, SD_EVENT_OFF);
	if (!error)
		error = tapdisk_join(&search->user, search->tapback->event, pid, &text);
	if (!error)
		error = tapdisk_request(&search->user, json_pack("{s:s}", "command", "list"), search_listed, search);
	if (!error)
		return;
	tapback_log(LOG_WARNING, "tapdisk %d is not searched for orphans: %s", pid,
		    *text.text ? text.text : strerror(-error));
	if (search)
		search_free(search);
}

struct left {
	struct xenstore *xenstore;
	bool claimed;
};

static void look_at_left(unsigned domid, unsigned devid, void *arg)
{
	struct left *left = arg;
	char path[64];

	snprintf(path, sizeof(path), BACKEND_ROOT "/%u/%u", domid, devid);
	left->claimed |= xenbus_read_state(left->xenstore, path) != XENBUS_GONE || left->xenstore->lost;
}

/* Free the minor of a dead tapdisk whose devices are gone; tapctl_minor_free() fails if a tapdisk has it. */
static void forget_dead(int minor, int locked_by, void *arg)
{
	struct left left = { .xenstore = ((struct tapback *)arg)->xenstore };

	if (locked_by || !client_takeover_each_frontend(minor, look_at_left, &left) || left.claimed)
		return;
	if (!tapctl_minor_free(minor, NULL))
		tapback_log(LOG_WARNING, "minor %d: its tapdisk has died, and its domain is gone: freed", minor);
}

int orphans_start(struct tapback *tapback)
{
	int error = tapctl_process_list(search_start, tapback), failed = tapctl_minor_list(forget_dead, tapback);

	return error ? error : failed;
}

void orphans_stop(void)
{
	while (searches)
		search_free(searches);
}
