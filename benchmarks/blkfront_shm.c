/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_shm.c - the frontend on the stand-in transport: the guest's memory
 * as a memfd, where a grant reference is a page's number, eventfds, the
 * `connect` command.
 *
 * The control connection is kept for as long as the frontend lives: tapdisk
 * takes its end for the frontend's death (docs/protocol.md), and we take it
 * for tapdisk's.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blkfront_internal.h"

#define CALL_TIMEOUT_MS		30000

static int shm_share_memory(struct blkfront *front, size_t pages, struct error_text *text)
{
	void *memory;

	front->memfd = memfd_create("blkfront", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (front->memfd < 0)
		return error_set(text, -errno, "memfd_create: %m");
	if (ftruncate(front->memfd, front->memory_size) < 0)
		return error_set(text, -errno, "guest memory of %zu KiB: %m", front->memory_size >> 10);
	/* tapdisk requires this: a page that goes away would give it a SIGBUS. */
	if (fcntl(front->memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return error_set(text, -errno, "sealing the guest memory: %m");
	memory = mmap(NULL, front->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, front->memfd, 0);
	if (memory == MAP_FAILED)
		return error_set(text, -errno, "guest memory of %zu KiB: %m", front->memory_size >> 10);
	front->memory = memory;
	for (size_t i = 0; i < pages; i++)
		front->refs[i] = (uint32_t)i;
	return 0;
}

static int shm_open_channel(struct blkfront *front, unsigned queue, struct error_text *text)
{
	struct blkfront_queue *q = &front->queues[queue];

	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->port = queue;
	return q->kick_fd < 0 || q->event_fd < 0 ? error_set(text, -errno, "eventfd: %m") : 0;
}

static json_t *queue_json(const struct blkfront *front, unsigned queue)
{
	json_t *refs = json_array();
	unsigned i;

	for (i = 0; i < front->ring_pages; i++)
		json_array_append_new(refs, json_integer(front->refs[queue * front->ring_pages + i]));
	return json_pack("{s:o, s:I}", "refs", refs, "port", (json_int_t)front->queues[queue].port);
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

static int shm_announce(struct blkfront *front, bool take_over, struct error_text *text)
{
	json_t *request = connect_request(front);
	int fds[PROTOCOL_MAX_FDS];
	unsigned nr_fds = 0, i;

	if (!request)
		return error_set(text, -ENOMEM, "no memory for the connect command");
	json_object_set_new(request, "take_over", json_boolean(take_over));
	fds[nr_fds++] = front->memfd;
	for (i = 0; i < front->options.queues; i++) {
		fds[nr_fds++] = front->queues[i].kick_fd;
		fds[nr_fds++] = front->queues[i].event_fd;
	}
	return tapctl_call_fds(front->ctl, request, fds, nr_fds, NULL, CALL_TIMEOUT_MS, text);
}

static int shm_learn_geometry(struct blkfront *front, struct error_text *text)
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
	geometry->sector_size = (unsigned)sector_size;
	geometry->physical_sector_size = (unsigned)physical;
	geometry->read_only = read_only || front->options.read_only;
	geometry->discard = discard;
	geometry->max_indirect_segments = MAX_INDIRECT_SEGMENTS;
out:
	json_decref(reply);
	return r;
}

static int shm_connect(struct blkfront *front, struct error_text *text)
{
	int r = tapctl_connect(&front->ctl, front->options.pid, text);

	if (r == 0)
		r = shm_announce(front, false, text);
	return r < 0 ? r : shm_learn_geometry(front, text);
}

static int shm_follow(struct blkfront *front, struct error_text *text)
{
	struct tapctl *ctl;
	int r = tapctl_connect(&ctl, front->options.pid, text);

	if (r)
		return r;
	tapctl_close(front->ctl);
	front->ctl = ctl;
	return shm_announce(front, true, text);
}

static void shm_disconnect(struct blkfront *front)
{
	json_t *request;

	request = json_pack("{s:s, s:i, s:I, s:I}", "command", "disconnect", "minor", front->options.minor,
			    "domid", (json_int_t)front->options.domid, "devid", (json_int_t)front->options.devid);
	/* A tapdisk that is gone or has dropped us has released the rings: then there is nothing to wait for. */
	if (request)
		tapctl_call(front->ctl, request, NULL, CALL_TIMEOUT_MS, NULL);
}

static void shm_signal(struct blkfront *front, unsigned queue)
{
	/* An eventfd refuses a write only if its counter is full, and then it is readable anyway. */
	eventfd_write(front->queues[queue].kick_fd, 1);
}

static int shm_acknowledge(struct blkfront *front, unsigned queue)
{
	eventfd_t signals;

	return eventfd_read(front->queues[queue].event_fd, &signals) < 0 && errno != EAGAIN ? -errno : 0;
}

static int shm_life_fd(struct blkfront *front)
{
	return tapctl_fd(front->ctl);
}

/* Is tapdisk's end of the control connection still open? Nothing is ever sent on it unasked. */
static bool shm_is_alive(struct blkfront *front)
{
	char byte;
	ssize_t n = recv(tapctl_fd(front->ctl), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void shm_release(struct blkfront *front)
{
	unsigned i;

	if (front->ctl)
		tapctl_close(front->ctl);
	for (i = 0; i < MAX_QUEUES; i++) {
		if (front->queues[i].kick_fd >= 0)
			close(front->queues[i].kick_fd);
		if (front->queues[i].event_fd >= 0)
			close(front->queues[i].event_fd);
	}
	if (front->memory)
		munmap(front->memory, front->memory_size);
	if (front->memfd >= 0)
		close(front->memfd);
}

const struct blkfront_transport blkfront_shm = {
	.share_memory = shm_share_memory,
	.open_channel = shm_open_channel,
	.connect = shm_connect,
	.follow = shm_follow,
	.disconnect = shm_disconnect,
	.signal = shm_signal,
	.acknowledge = shm_acknowledge,
	.life_fd = shm_life_fd,
	.is_alive = shm_is_alive,
	.release = shm_release,
};
