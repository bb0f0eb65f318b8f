/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront.c - create and end a frontend: check its options, lay out its
 * memory, make its queues. The transport does the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blkfront_internal.h"

#define DEFAULT_DEVID		51712	/* xvda: major 202, minor 0 */
#define DEFAULT_DATA_PAGES	4096
#define MAX_DATA_PAGES		(1u << 20)

static int options_check(struct blkfront_options *options, struct error_text *text)
{
	if (!options->transport)
		options->transport = &blkfront_shm;
	if (!options->queues)
		options->queues = 1;
	if (!options->devid)
		options->devid = DEFAULT_DEVID;
	if (!options->data_pages)
		options->data_pages = DEFAULT_DATA_PAGES;
	if (options->queues > MAX_QUEUES)
		return error_set(text, -EINVAL, "%u queues: at most %u", options->queues, MAX_QUEUES);
	if (options->ring_page_order > MAX_RING_PAGE_ORDER)
		return error_set(text, -EINVAL, "ring page order %u: at most %u",
				 options->ring_page_order, MAX_RING_PAGE_ORDER);
	if (options->data_pages > MAX_DATA_PAGES)
		return error_set(text, -EINVAL, "%u data pages: at most %u", options->data_pages, MAX_DATA_PAGES);
	if (options->abi > BLKFRONT_ARM)
		return error_set(text, -EINVAL, "ABI %d: no such one", options->abi);
	return 0;
}

static int memory_create(struct blkfront *front, struct error_text *text)
{
	size_t pages = (size_t)front->first_data + front->options.data_pages;

	front->refs = calloc(pages, sizeof(*front->refs));
	if (!front->refs)
		return error_set(text, -ENOMEM, "no memory for %zu grant references", pages);
	front->memory_size = pages << GUEST_PAGE_SHIFT;
	return front->transport->share_memory(front, pages, text);
}

static int queues_create(struct blkfront *front, struct error_text *text)
{
	unsigned i;
	int r;

	for (i = 0; i < front->options.queues; i++) {
		r = front->transport->open_channel(front, i, text);
		if (r < 0)
			return r;
		if (blkfront_queue_init(front, i) < 0)
			return error_set(text, -ENOMEM, "no memory for queue %u", i);
	}
	return 0;
}

/* Lay out the memory, share it, make the queues. */
static int front_fill(struct blkfront *front, struct error_text *text)
{
	const struct wire_layout *layout = &blkfront_layouts[front->options.abi];
	uint32_t slots;
	unsigned i;
	int r;

	front->ring_pages = 1u << front->options.ring_page_order;
	slots = blkfront_ring_slots(layout, front->ring_pages);
	for (i = 0; i < front->options.queues; i++) {
		front->queues[i].layout = layout;
		front->queues[i].size = slots;
	}
	front->first_indirect = front->options.queues * front->ring_pages;
	front->first_bounce = front->first_indirect + front->options.queues * slots;
	front->first_data = front->first_bounce + BOUNCE_PAGES;
	r = memory_create(front, text);
	return r < 0 ? r : queues_create(front, text);
}

int blkfront_prepare(struct blkfront **result, const struct blkfront_options *wanted, struct error_text *text)
{
	struct blkfront_options options = *wanted;
	struct blkfront *front;
	unsigned i;
	int r;

	r = options_check(&options, text);
	if (r < 0)
		return r;
	front = calloc(1, sizeof(*front));
	if (!front)
		return -ENOMEM;
	front->options = options;
	front->transport = options.transport;
	front->memfd = -1;
	for (i = 0; i < MAX_QUEUES; i++)
		front->queues[i].kick_fd = front->queues[i].event_fd = -1;
	r = front_fill(front, text);
	if (r < 0) {
		blkfront_vanish(front);
		return r;
	}
	*result = front;
	return 0;
}

int blkfront_connect(struct blkfront **result, const struct blkfront_options *options, char *text, size_t size)
{
	struct error_text error = { "" };
	struct blkfront *front;
	int r;

	r = blkfront_prepare(&front, options, &error);
	if (r == 0) {
		r = front->transport->connect(front, &error);
		if (r == 0) {
			*result = front;
			return 0;
		}
		blkfront_vanish(front);
	}
	if (text && size)
		snprintf(text, size, "%s", error.text[0] ? error.text : strerror(-r));
	return r;
}

int blkfront_follow(struct blkfront *front, int pid, char *text, size_t size)
{
	struct error_text error = { "" };
	int r = -EOPNOTSUPP;

	front->options.pid = pid;
	if (front->transport->follow)
		r = front->transport->follow(front, &error);
	if (r && text && size)
		snprintf(text, size, "%s", error.text[0] ? error.text : strerror(-r));
	return r;
}

void blkfront_disconnect(struct blkfront *front)
{
	if (!front)
		return;
	front->transport->disconnect(front);
	blkfront_vanish(front);
}

void blkfront_vanish(struct blkfront *front)
{
	unsigned i;

	if (!front)
		return;
	for (i = 0; i < MAX_QUEUES; i++)
		blkfront_queue_free(&front->queues[i]);
	front->transport->release(front);
	free(front->refs);
	free(front);
}

const struct blkfront_geometry *blkfront_geometry(const struct blkfront *front)
{
	return &front->geometry;
}

void *blkfront_data(struct blkfront *front)
{
	return blkfront_page(front, front->first_data);
}

uint32_t blkfront_data_ref(const struct blkfront *front, unsigned page)
{
	return front->refs[front->first_data + page];
}
