/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_frontend.c - reads and checks a frontend's ring parameters.
 *
 * Invariants: counts are checked before they are used as indices; if any part
 * of a ring is invalid, an empty one (nr_queues 0) is returned. All nodes of a
 * ring are read in one transaction: a guest that changes them meanwhile gets one
 * set or the other, never a mixture.
 */
#include "tapback_frontend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"

static const char *const abi_names[] = { "x86_32-abi", "x86_64-abi", "arm-abi" };

const char *xenbus_name(enum xenbus state)
{
	static const char *const names[] = {
		"unreadable", "Initialising", "InitWait", "Initialised", "Connected", "Closing", "Closed",
	};

	return state == XENBUS_GONE ? "gone" : names[state];
}

enum xenbus xenbus_read_state(struct xenstore *xenstore, const char *dir)
{
	uint64_t state;
	int error = xenstore_read_number(xenstore, dir, "state", XENBUS_CLOSED, &state);

	if (error == -ENOENT)
		return XENBUS_GONE;
	return error ? XENBUS_UNREADABLE : (enum xenbus)state;
}

/* Read a required number of the guest. */
static int read_required(struct xenstore *xenstore, const char *dir, const char *node, uint32_t *value,
			 struct error_text *text)
{
	uint64_t number;
	int error = xenstore_read_number(xenstore, dir, node, UINT32_MAX, &number);

	if (error == -ENOENT)
		return error_set(text, error, "frontend has no %s", node);
	if (error)
		return error_set(text, error, "frontend's %s is not a 32-bit number", node);
	*value = (uint32_t)number;
	return 0;
}

/* Read an optional number of the guest; if it is missing, *@value is unchanged. */
static int read_optional(struct xenstore *xenstore, const char *dir, const char *node, uint64_t max, unsigned *value,
			 struct error_text *text)
{
	uint64_t number;
	int error = xenstore_read_number(xenstore, dir, node, max, &number);

	if (error == -ENOENT)
		return error;
	if (error)
		return error_set(text, error, "frontend's %s is not a number from 0 to %llu", node,
				 (unsigned long long)max);
	*value = (uint32_t)number;
	return 0;
}

static int read_protocol(struct xenstore *xenstore, const char *dir, struct frontend_ring *ring, struct error_text *text)
{
	char *name;
	int error = xenstore_read(xenstore, dir, "protocol", &name);

	if (error == -ENOENT)
		return 0;
	if (error)
		return error_set(text, error, "frontend's protocol cannot be read: %s", strerror(-error));
	error = -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(abi_names); i++) {
		if (!strcmp(name, abi_names[i])) {
			snprintf(ring->protocol, sizeof(ring->protocol), "%s", name);
			error = 0;
		}
	}
	if (error)
		error_set(text, error, "frontend's protocol \"%.32s\" is unknown", name);
	free(name);
	return error;
}

/*
 * Read the rings' pages. With `ring-page-order` they are ring-ref0, ring-ref1,
 * ...; without it ring-ref. For order 0 frontends use either name.
 */
static int read_refs(struct xenstore *xenstore, const char *dir, bool has_order, unsigned pages, uint32_t *refs,
		     struct error_text *text)
{
	uint64_t ref;
	char node[24];
	int error;

	if (pages == 1) {
		error = xenstore_read_number(xenstore, dir, "ring-ref", UINT32_MAX, &ref);
		if (!error) {
			refs[0] = (uint32_t)ref;
			return 0;
		}
		if (error != -ENOENT || !has_order)
			return read_required(xenstore, dir, "ring-ref", &refs[0], text);
	}
	for (unsigned i = 0; i < pages; i++) {
		snprintf(node, sizeof(node), "ring-ref%u", i);
		error = read_required(xenstore, dir, node, &refs[i], text);
		if (error)
			return error;
	}
	return 0;
}

static int read_queue(struct xenstore *xenstore, const char *dir, unsigned queue, bool has_order,
		      struct frontend_ring *ring, struct error_text *text)
{
	char path[XENSTORE_PATH_MAX];
	int error;

	/* a single queue's nodes are at the top level (blkif.h, "Multiple hardware queues/rings") */
	if (ring->nr_queues > 1) {
		if (snprintf(path, sizeof(path), "%s/queue-%u", dir, queue) >= (int)sizeof(path))
			return error_set(text, -ENAMETOOLONG, "frontend's path is too long");
		dir = path;
	}
	error = read_refs(xenstore, dir, has_order, ring->ring_pages, ring->queues[queue].refs, text);
	if (error)
		return error;
	error = read_required(xenstore, dir, "event-channel", &ring->queues[queue].port, text);
	if (!error && !ring->queues[queue].port)
		error = error_set(text, -EINVAL, "frontend's event-channel is 0");
	return error;
}

static int read_ring(struct xenstore *xenstore, const char *dir, unsigned max_queues, struct frontend_ring *ring,
		     struct error_text *text)
{
	unsigned order = 0, queues = 1, persistent = 0;
	bool has_order;
	int error;

	error = read_optional(xenstore, dir, "ring-page-order", MAX_RING_PAGE_ORDER, &order, text);
	if (error && error != -ENOENT)
		return error;
	has_order = !error;
	error = read_optional(xenstore, dir, "multi-queue-num-queues", max_queues, &queues, text);
	if (error && error != -ENOENT)
		return error;
	if (!queues)
		return error_set(text, -EINVAL, "frontend's multi-queue-num-queues is 0");
	error = read_optional(xenstore, dir, "feature-persistent", 1, &persistent, text);
	if (error && error != -ENOENT)
		return error;
	error = read_protocol(xenstore, dir, ring, text);
	if (error)
		return error;

	ring->persistent = persistent;
	ring->nr_queues = queues;
	ring->ring_pages = 1u << order;
	ring->refs_known = true;
	for (unsigned i = 0; i < queues; i++) {
		error = read_queue(xenstore, dir, i, has_order, ring, text);
		if (error)
			return error;
	}
	return 0;
}

struct ring_reading {
	const char *dir;
	unsigned max_queues;
	struct frontend_ring *ring;
	struct error_text *text;
	int error;
};

/* An error of the nodes is only one if the commit says that they did not change meanwhile. */
static int read_ring_once(struct xenstore *xenstore, void *arg)
{
	struct ring_reading *reading = arg;

	memset(reading->ring, 0, sizeof(*reading->ring));
	reading->text->text[0] = '\0';
	reading->error = read_ring(xenstore, reading->dir, reading->max_queues, reading->ring, reading->text);
	return 0;
}

int frontend_read_ring(struct xenstore *xenstore, const char *dir, unsigned max_queues,
		       struct frontend_ring *ring, struct error_text *text)
{
	struct error_text reason = { "" };
	struct ring_reading reading = {
		.dir = dir, .max_queues = max_queues < MAX_QUEUES ? max_queues : MAX_QUEUES, .ring = ring, .text = &reason,
	};
	int error = xenstore_transact(xenstore, read_ring_once, &reading);

	if (error == -EAGAIN)
		error_set(text, error, "frontend's nodes change while they are read");
	else if (error)
		error_set(text, error, "frontend's nodes cannot be read: %s", strerror(-error));
	else if (reading.error)
		error = error_set(text, reading.error, "%s", reason.text);
	if (error)
		memset(ring, 0, sizeof(*ring));
	return error;
}

bool frontend_ring_same(const struct frontend_ring *a, const struct frontend_ring *b)
{
	if (a->nr_queues != b->nr_queues || a->ring_pages != b->ring_pages)
		return false;
	for (unsigned i = 0; i < a->nr_queues; i++) {
		if (a->queues[i].port != b->queues[i].port)
			return false;
		if (a->refs_known && b->refs_known &&
		    memcmp(a->queues[i].refs, b->queues[i].refs, a->ring_pages * sizeof(a->queues[i].refs[0])))
			return false;
	}
	return true;
}

static json_t *queue_json(const struct frontend_ring *ring, unsigned queue)
{
	json_t *refs = json_array();

	for (unsigned i = 0; i < ring->ring_pages; i++)
		json_array_append_new(refs, json_integer(ring->queues[queue].refs[i]));
	return json_pack("{s:o, s:I}", "refs", refs, "port", (json_int_t)ring->queues[queue].port);
}

json_t *frontend_ring_json(const struct frontend_ring *ring)
{
	json_t *queues = json_array(), *members;

	for (unsigned i = 0; i < ring->nr_queues; i++)
		json_array_append_new(queues, queue_json(ring, i));
	members = json_pack("{s:b, s:i, s:o}", "persistent", ring->persistent,
			    "ring_pages", (int)ring->ring_pages, "queues", queues);
	if (members && *ring->protocol && json_object_set_new(members, "protocol", json_string(ring->protocol))) {
		json_decref(members);
		return NULL;
	}
	return members;
}

static int u32_from_json(const json_t *number, uint32_t *value)
{
	json_int_t integer = json_integer_value(number);

	if (!json_is_integer(number) || integer < 0 || integer > UINT32_MAX)
		return -EINVAL;
	*value = (uint32_t)integer;
	return 0;
}

/* `refs`: an array of arrays beside `ports`. */
static int refs_from_json(const json_t *refs, struct frontend_ring *ring)
{
	if (json_array_size(refs) != ring->nr_queues)
		return -EINVAL;
	for (unsigned q = 0; q < ring->nr_queues; q++) {
		json_t *pages = json_array_get(refs, q);

		if (json_array_size(pages) != ring->ring_pages)
			return -EINVAL;
		for (unsigned i = 0; i < ring->ring_pages; i++)
			if (u32_from_json(json_array_get(pages, i), &ring->queues[q].refs[i]))
				return -EINVAL;
	}
	ring->refs_known = true;
	return 0;
}

int frontend_ring_from_json(const json_t *connection, struct frontend_ring *ring)
{
	const json_t *ports = json_object_get(connection, "ports"), *refs = json_object_get(connection, "refs");
	json_int_t pages = json_integer_value(json_object_get(connection, "ring_pages"));

	memset(ring, 0, sizeof(*ring));
	if (!json_array_size(ports) || json_array_size(ports) > MAX_QUEUES)
		return -EINVAL;
	if (pages < 1 || pages > (1 << MAX_RING_PAGE_ORDER))
		return -EINVAL;
	ring->nr_queues = (unsigned)json_array_size(ports);
	ring->ring_pages = (unsigned)pages;
	for (unsigned i = 0; i < ring->nr_queues; i++)
		if (u32_from_json(json_array_get(ports, i), &ring->queues[i].port))
			return -EINVAL;
	return refs ? refs_from_json(refs, ring) : 0;
}
