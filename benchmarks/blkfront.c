/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront.c - making and ending a frontend's connection: the guest's memory
 * as a memfd, the eventfds, the `connect` command, the disk's geometry.
 *
 * The control connection is kept for as long as the frontend lives: tapdisk
 * takes its end for the frontend's death (docs/protocol.md), and we take it
 * for tapdisk's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blkfront-internal.h"

#define DEFAULT_DEVID		51712	/* xvda: major 202, minor 0 */
#define DEFAULT_DATA_PAGES	4096
#define MAX_DATA_PAGES		(1u << 20)
#define CALL_TIMEOUT_MS		30000

static int options_check(struct blkfront_options *options, struct error_text *text)
{
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

	front->memfd = memfd_create("blkfront", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (front->memfd < 0)
		return error_set(text, -errno, "memfd_create: %m");
	front->memory_size = pages << GUEST_PAGE_SHIFT;
	if (ftruncate(front->memfd, front->memory_size) < 0)
		return error_set(text, -errno, "guest memory of %zu KiB: %m", front->memory_size >> 10);
	/* tapdisk insists: a page that was there and goes away would be its SIGBUS. */
	if (fcntl(front->memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return error_set(text, -errno, "sealing the guest memory: %m");
	front->memory = mmap(NULL, front->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, front->memfd, 0);
	if (front->memory == MAP_FAILED) {
		front->memory = NULL;
		return error_set(text, -errno, "guest memory of %zu KiB: %m", front->memory_size >> 10);
	}
	return 0;
}

static int queues_create(struct blkfront *front, struct error_text *text)
{
	struct blkfront_queue *queue;
	unsigned i;

	for (i = 0; i < front->options.queues; i++) {
		queue = &front->queues[i];
		queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (queue->kick_fd < 0 || queue->event_fd < 0)
			return error_set(text, -errno, "eventfd: %m");
		if (blkfront_queue_init(front, i) < 0)
			return error_set(text, -ENOMEM, "no memory for queue %u", i);
	}
	return 0;
}

/* Lay out the memfd and make everything that belongs to us alone. */
static int front_prepare(struct blkfront *front, struct error_text *text)
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

static json_t *queue_json(const struct blkfront *front, unsigned queue)
{
	json_t *refs = json_array();
	unsigned i;

	for (i = 0; i < front->ring_pages; i++)
		json_array_append_new(refs, json_integer(queue * front->ring_pages + i));
	return json_pack("{s:o, s:i}", "refs", refs, "port", (int)queue);
}

static json_t *connect_request(const struct blkfront *front)
{
	const struct blkfront_options *options = &front->options;
	json_t *queues = json_array();
	json_t *request;
	unsigned i;

	for (i = 0; i < options->queues; i++)
		json_array_append_new(queues, queue_json(front, i));
	request = json_pack("{s:s, s:i, s:s, s:I, s:I, s:b, s:i, s:b, s:o}",
			    "command", "connect", "minor", options->minor, "transport", "shm",
			    "domid", (json_int_t)options->domid, "devid", (json_int_t)options->devid,
			    "persistent", options->persistent, "ring_pages", (int)front->ring_pages,
			    "read_only", options->read_only, "queues", queues);
	if (request && blkfront_layouts[options->abi].protocol)
		json_object_set_new(request, "protocol", json_string(blkfront_layouts[options->abi].protocol));
	return request;
}

static int front_announce(struct blkfront *front, struct error_text *text)
{
	json_t *request = connect_request(front);
	int fds[PROTOCOL_MAX_FDS];
	unsigned nr_fds = 0, i;

	if (!request)
		return error_set(text, -ENOMEM, "no memory for the connect command");
	fds[nr_fds++] = front->memfd;
	for (i = 0; i < front->options.queues; i++) {
		fds[nr_fds++] = front->queues[i].kick_fd;
		fds[nr_fds++] = front->queues[i].event_fd;
	}
	return tapctl_call_fds(front->ctl, request, fds, nr_fds, NULL, CALL_TIMEOUT_MS, text);
}

static int front_learn_geometry(struct blkfront *front, struct error_text *text)
{
	struct blkfront_geometry *geometry = &front->geometry;
	json_int_t sectors, sector_size, physical = 0;
	int read_only = 0, discard = 0;
	json_t *reply = NULL;
	int r;

	r = tapctl_call(front->ctl, json_pack("{s:s, s:i}", "command", "info", "minor", front->options.minor),
			&reply, CALL_TIMEOUT_MS, text);
	if (r < 0)
		return r;
	if (json_unpack(reply, "{s:{s:I, s:I, s?I, s?b, s?b}}", "disk", "sectors", &sectors,
			"sector_size", &sector_size, "physical_sector_size", &physical,
			"read_only", &read_only, "discard", &discard) < 0) {
		r = error_set(text, -EPROTO, "tapdisk %d does not say how large minor %d is",
			      front->options.pid, front->options.minor);
		goto out;
	}
	geometry->sectors = sectors;
	geometry->sector_size = sector_size;
	geometry->physical_sector_size = physical;
	geometry->read_only = read_only || front->options.read_only;
	geometry->discard = discard;
	geometry->max_indirect_segments = MAX_INDIRECT_SEGMENTS;
out:
	json_decref(reply);
	return r;
}

/* Everything back, tapdisk not asked. */
static void front_free(struct blkfront *front)
{
	unsigned i;

	if (front->ctl)
		tapctl_close(front->ctl);
	for (i = 0; i < MAX_QUEUES; i++) {
		if (front->queues[i].kick_fd >= 0)
			close(front->queues[i].kick_fd);
		if (front->queues[i].event_fd >= 0)
			close(front->queues[i].event_fd);
		blkfront_queue_free(&front->queues[i]);
	}
	if (front->memory)
		munmap(front->memory, front->memory_size);
	if (front->memfd >= 0)
		close(front->memfd);
	free(front);
}

static struct blkfront *front_alloc(const struct blkfront_options *options)
{
	struct blkfront *front = calloc(1, sizeof(*front));
	unsigned i;

	if (!front)
		return NULL;
	front->options = *options;
	front->memfd = -1;
	for (i = 0; i < MAX_QUEUES; i++)
		front->queues[i].kick_fd = front->queues[i].event_fd = -1;
	return front;
}

int blkfront_connect(struct blkfront **result, const struct blkfront_options *options, char *text, size_t size)
{
	struct error_text error = { "" };
	struct blkfront *front;
	int r;

	front = front_alloc(options);
	if (!front)
		return -ENOMEM;
	r = options_check(&front->options, &error);
	if (r == 0)
		r = front_prepare(front, &error);
	if (r == 0)
		r = tapctl_connect(&front->ctl, front->options.pid, &error);
	if (r == 0)
		r = front_announce(front, &error);
	if (r == 0)
		r = front_learn_geometry(front, &error);
	if (r == 0) {
		*result = front;
		return 0;
	}
	if (text && size)
		snprintf(text, size, "%s", error.text[0] ? error.text : strerror(-r));
	front_free(front);
	return r;
}

void blkfront_disconnect(struct blkfront *front)
{
	json_t *request;

	if (!front)
		return;
	request = json_pack("{s:s, s:i, s:I, s:I}", "command", "disconnect", "minor", front->options.minor,
			    "domid", (json_int_t)front->options.domid, "devid", (json_int_t)front->options.devid);
	/* A tapdisk that is gone or has dropped us already has let go as well: then there is nothing to wait for. */
	if (request)
		tapctl_call(front->ctl, request, NULL, CALL_TIMEOUT_MS, NULL);
	front_free(front);
}

void blkfront_vanish(struct blkfront *front)
{
	if (front)
		front_free(front);
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
	return front->first_data + page;
}
