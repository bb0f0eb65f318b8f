/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif.c - connects and disconnects a frontend.
 *
 * A blkif is a client of its vbd from connect to the end of its disconnect.
 * It is freed only when none of its requests is in flight: until then the
 * device may still write into pages that are mapped from the guest. The guest
 * keeps requests that were taken and not answered, and issues them again on a
 * new connection. If the process dies without a disconnect, they are in the
 * in-flight table (inflight.h).
 */
#include "blkif.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "log.h"
#include "processor.h"

/* Limit of our memory that one frontend can use. */
#define BOUNCE_PAGES (8u << (20 - GUEST_PAGE_SHIFT))
/* Pages that stay mapped for each ring slot: the segments Linux' blkfront uses, and the page that lists them. */
#define GRANTS_PER_SLOT 33
#define GRANTS_MAX 16384		/* half of the limit for all frontends of a process (guest_memory.c) */
#define COPY_PIECES 1024		/* a larger batch is copied in several calls */

/* Otherwise the channel would stay readable. */
static void blkif_queue_acknowledge(struct blkif_queue *queue)
{
	struct transport *transport = queue->blkif->transport;

	queue->unacknowledged = false;
	queue->exchange_failures = queue->blkif->vbd->engine->exchange_failures;
	if (transport->ops->acknowledge(transport, &queue->channel))
		blkif_queue_break(queue, "the event channel is broken");
}

/* True after a signal, or if an exchange may have failed in the engine. */
static bool blkif_queue_must_acknowledge(const struct blkif_queue *queue)
{
	return queue->unacknowledged ||
	       (!queue->broken && queue->exchange_failures != queue->blkif->vbd->engine->exchange_failures);
}

/* Acknowledge with the engine's next commit if possible. Not when leaving: the channel may be closed by then. */
static void blkif_queue_acknowledge_late(struct blkif_queue *queue)
{
	struct blkif *blkif = queue->blkif;

	if (!blkif->client.leaving && engine_exchange(blkif->vbd->engine, queue->channel.fd, &queue->channel.port))
		queue->unacknowledged = false;
	else
		blkif_queue_acknowledge(queue);
}

static void blkif_queue_ready(void *arg, uint32_t events)
{
	struct blkif_queue *queue = arg;
	uint32_t produced = ring_produced(&queue->ring);

	queue->stats.kicks++;
	queue->kicked = true;
	queue->unacknowledged = true;
	processor_used();
	if (!queue->channel.late || events != EPOLLIN)
		blkif_queue_acknowledge(queue);
	if (produced == queue->announced)
		blkif_count_use(queue->blkif, false);
	queue->announced = produced;
	blkif_backing_off(queue->blkif);
}

/* Start the ring of a new connection, and its part of the in-flight table. */
static int blkif_queue_begin(struct blkif_queue *queue, struct error_text *text)
{
	struct blkif *blkif = queue->blkif;
	int ret = ring_attach(&queue->ring, queue->ring_pages, blkif->ring_pages, blkif->abi);

	if (ret)
		return error_set(text, ret, "domain %u device %u: the ring of queue %u has impossible indices",
				 blkif->domid, blkif->devid, queue->number);
	if (queue->flight)
		inflight_begin(queue->flight, queue->ring.req_cons);
	for (unsigned i = 0; i < queue->ring.size; i++) {
		queue->ios[i].next = queue->free;
		queue->free = &queue->ios[i];
	}
	return 0;
}

static int blkif_queue_make_ios(struct blkif_queue *queue)
{
	struct blkif *blkif = queue->blkif;
	unsigned slots = ring_slots(blkif->abi, blkif->ring_pages);

	queue->ios = calloc(slots, sizeof(*queue->ios));
	if (!queue->ios)
		return -ENOMEM;
	for (unsigned i = 0; i < slots; i++)
		queue->ios[i].queue = queue;
	queue->flight = inflight_queue(blkif->inflight, queue->number);
	return 0;
}

static int blkif_queue_connect(struct blkif_queue *queue, const uint32_t *refs, uint32_t port, struct error_text *text)
{
	struct blkif *blkif = queue->blkif;
	struct transport *transport = blkif->transport;
	int ret;

	queue->port = port;
	memcpy(queue->refs, refs, blkif->ring_pages * sizeof(*refs));
	ret = transport->ops->map(transport, refs, blkif->ring_pages, &queue->ring_pages);
	if (ret)
		return error_set(text, ret, "domain %u device %u: cannot map the ring of queue %u: %s",
				 blkif->domid, blkif->devid, queue->number, strerror(-ret));
	ret = blkif_queue_make_ios(queue);
	if (!ret)
		ret = (blkif->resumed ? blkif_queue_resume : blkif_queue_begin)(queue, text);
	if (ret)
		return ret;
	ret = transport->ops->bind(transport, port, &queue->channel);
	if (ret)
		return error_set(text, ret, "domain %u device %u: cannot bind event channel %u: %s",
				 blkif->domid, blkif->devid, port, strerror(-ret));
	ret = loop_add_fd(blkif->vbd->loop, &queue->source, queue->channel.fd, EPOLLIN, blkif_queue_ready, queue);
	queue->kicked = true;	/* requests may be in the ring already */
	/* and the dead tapdisk may not have signalled its last responses */
	if (blkif->resumed)
		transport->ops->notify(transport, &queue->channel);
	queue->exchange_failures = blkif->vbd->engine->exchange_failures;
	return ret;
}

static void blkif_queue_disconnect(struct blkif_queue *queue)
{
	struct transport *transport = queue->blkif->transport;
	struct blkif_io *io;

	while ((io = blkif_io_list_take(&queue->parked)))
		blkif_io_release(io);
	while ((io = blkif_io_list_take(&queue->completed)))
		blkif_io_release(io);
	loop_remove(queue->source);
	if (queue->channel.fd >= 0)
		transport->ops->unbind(transport, &queue->channel);
	if (queue->ring_pages)
		transport->ops->unmap(transport, queue->ring_pages, queue->blkif->ring_pages);
	free(queue->ios);
}

static void blkif_free(struct blkif *blkif)
{
	struct blkif_segments *segments;

	for (unsigned i = 0; blkif->queues && i < blkif->nr_queues; i++)
		blkif_queue_disconnect(&blkif->queues[i]);
	free(blkif->queues);
	loop_remove(blkif->backoff);
	while ((segments = blkif->free_segments)) {
		blkif->free_segments = segments->next;
		free(segments);
	}
	if (blkif->grants.entries)
		grant_map_fini(&blkif->grants);
	bounce_pool_fini(&blkif->bounce);
	free(blkif->pieces);
	free(blkif->piece_owners);
	inflight_remove(blkif->inflight);
	if (blkif->transport)
		blkif->transport->ops->close(blkif->transport);
	metrics_close(blkif->metrics);
	free(blkif);
}

static void blkif_stop(struct vbd_client *client)
{
	((struct blkif *)client)->stopped = true;
}

static void blkif_start(struct vbd_client *client)
{
	struct blkif *blkif = (struct blkif *)client;

	if (client->leaving)
		return;
	blkif->stopped = false;
	for (unsigned i = 0; i < blkif->nr_queues; i++)
		blkif->queues[i].kicked = true;
}

static bool blkif_wants(const struct vbd_client *client, const struct block_request *req)
{
	return !client->leaving;
}

/* Stop, drain, free everything, then call closed(arg, 0); may be called again before that has ended. 0 or -ENOMEM; it
 * cannot fail if @closed is NULL. */
static int blkif_leave(struct blkif *blkif, void (*closed)(void *arg, int error), void *arg)
{
	int ret = closed ? waiter_add(&blkif->closed, closed, arg) : 0;

	if (ret)
		return ret;
	blkif->stopped = true;
	blkif->client.leaving = true;
	vbd_throttle_drop_unwanted(&blkif->client);
	vbd_error_drop_unwanted(&blkif->client);
	return 0;
}

static void blkif_close(struct vbd_client *client)
{
	blkif_leave((struct blkif *)client, NULL, NULL);
}

static void blkif_gone(struct blkif *blkif)
{
	struct waiter *closed = blkif->closed;

	vbd_remove_client(&blkif->client);
	for (unsigned i = 0; i < blkif->nr_queues; i++)
		stats_add(&blkif->vbd->past, &blkif->queues[i].stats);
	log_guest(LOG_LEVEL_INFO, "minor %d: domain %u device %u disconnected", blkif->vbd->minor, blkif->domid,
		  blkif->devid);
	blkif_free(blkif);
	waiter_wake_all(&closed, 0);
}

static bool blkif_run(struct vbd_client *client)
{
	struct blkif *blkif = (struct blkif *)client;
	bool more = false;

	/* responses first: the guest continues while we handle its next requests */
	for (unsigned i = 0; i < blkif->nr_queues; i++)
		blkif_queue_finish(&blkif->queues[i]);
	for (unsigned i = 0; i < blkif->nr_queues; i++) {
		struct blkif_queue *queue = &blkif->queues[i];

		/* any queue's responses may have freed bounce memory; with nothing in flight all of it is free */
		queue->kicked |= queue->parked.head != NULL;
		more |= blkif_queue_take(queue);
		more |= queue->completed.head != NULL;
		if (blkif_queue_must_acknowledge(queue))
			blkif_queue_acknowledge_late(queue);
	}
	if (client->leaving && !blkif->submitted)
		blkif_gone(blkif);
	return more;
}

/* Each queue's event channel and ring pages as the frontend named them, so that a restarted tool can compare them with
 * xenstore. */
static json_t *blkif_queues_info(const struct blkif *blkif, json_t *ports)
{
	json_t *queues = json_array();

	for (unsigned i = 0; i < blkif->nr_queues; i++) {
		json_t *refs = json_array();

		for (unsigned page = 0; page < blkif->ring_pages; page++)
			json_array_append_new(refs, json_integer(blkif->queues[i].refs[page]));
		json_array_append_new(queues, refs);
		json_array_append_new(ports, json_integer(blkif->queues[i].port));
	}
	return queues;
}

static json_t *blkif_info(const struct vbd_client *client)
{
	const struct blkif *blkif = (const struct blkif *)client;
	json_t *ports = json_array();

	return json_pack("{s:s, s:I, s:I, s:i, s:i, s:s, s:b, s:b, s:o, s:o, s:s}",
			 "transport", blkif->transport->ops->name,
			 "domid", (json_int_t)blkif->domid,
			 "devid", (json_int_t)blkif->devid,
			 "queues", (int)blkif->nr_queues,
			 "ring_pages", (int)blkif->ring_pages,
			 "protocol", blkif->abi->protocol,
			 "persistent", blkif->persistent,
			 "read_only", blkif->read_only,
			 "refs", blkif_queues_info(blkif, ports),
			 "ports", ports,
			 "error", blkif->error);
}

static json_t *blkif_stats(const struct vbd_client *client, struct queue_stats *sum)
{
	const struct blkif *blkif = (const struct blkif *)client;
	json_t *queues = json_array();

	for (unsigned i = 0; i < blkif->nr_queues; i++) {
		stats_add(sum, &blkif->queues[i].stats);
		json_array_append_new(queues, stats_queue_json(&blkif->queues[i].stats));
	}
	return json_pack("{s:I, s:I, s:I, s:o}", "domid", (json_int_t)blkif->domid, "devid", (json_int_t)blkif->devid,
			 "backoffs", (json_int_t)blkif->backoffs, "queues", queues);
}

static const struct vbd_client_ops blkif_client_ops = {
	.stop = blkif_stop,
	.start = blkif_start,
	.wanted = blkif_wants,
	.run = blkif_run,
	.close = blkif_close,
	.info = blkif_info,
	.stats = blkif_stats,
};

static struct blkif *blkif_find(const struct vbd *vbd, uint32_t domid, uint32_t devid)
{
	for (struct vbd_client *client = vbd->clients; client; client = client->next) {
		struct blkif *blkif = (struct blkif *)client;

		if (client->ops == &blkif_client_ops && blkif->domid == domid && blkif->devid == devid)
			return blkif;
	}
	return NULL;
}

static int blkif_alloc_memory(struct blkif *blkif, unsigned ring_size)
{
	unsigned grants = ring_size * GRANTS_PER_SLOT * blkif->nr_queues;
	int ret;

	blkif->max_pieces = COPY_PIECES;
	blkif->pieces = calloc(COPY_PIECES, sizeof(*blkif->pieces));
	blkif->piece_owners = calloc(COPY_PIECES, sizeof(*blkif->piece_owners));
	if (!blkif->pieces || !blkif->piece_owners)
		return -ENOMEM;
	ret = bounce_pool_init(&blkif->bounce, BOUNCE_PAGES);
	if (ret || !blkif->persistent)
		return ret;
	return grant_map_init(&blkif->grants, blkif->transport, grants < GRANTS_MAX ? grants : GRANTS_MAX);
}

static int blkif_open_transport(struct blkif *blkif, const struct blkif_params *params, struct error_text *text)
{
	int ret;

	if (params->shm) {
		ret = transport_shm_open(&blkif->transport, params->fds, params->nr_fds);
		return ret ? error_set(text, ret, "stand-in transport: needs a memfd of whole pages, sealed against "
				       "shrinking, and two eventfds for each queue") : 0;
	}
	ret = transport_xen_open(&blkif->transport, params->domid);
	return ret ? error_set(text, ret, "/dev/xen/gntdev: %s (is this a Xen host with gntdev loaded?)",
			       strerror(-ret)) : 0;
}

static int blkif_connect_queues(struct blkif *blkif, const struct blkif_params *params, struct error_text *text)
{
	int ret = 0;

	blkif->queues = calloc(blkif->nr_queues, sizeof(*blkif->queues));
	if (!blkif->queues)
		return -ENOMEM;
	for (unsigned i = 0; i < blkif->nr_queues; i++) {
		blkif->queues[i].blkif = blkif;
		blkif->queues[i].number = i;
		blkif->queues[i].channel.fd = -1;
		blkif_io_list_init(&blkif->queues[i].resumed);
		blkif_io_list_init(&blkif->queues[i].parked);
		blkif_io_list_init(&blkif->queues[i].completed);
	}
	for (unsigned i = 0; !ret && i < blkif->nr_queues; i++)
		ret = blkif_queue_connect(&blkif->queues[i], params->queues[i].refs, params->queues[i].port, text);
	return ret;
}

static int blkif_check_params(const struct vbd *vbd, const struct blkif_params *params, struct error_text *text)
{
	if (!ring_abi_find(params->protocol))
		return error_set(text, -EINVAL, "unknown ring protocol \"%s\"", params->protocol);
	if (!params->nr_queues || params->nr_queues > MAX_QUEUES)
		return error_set(text, -EINVAL, "%u queues: must be 1 to %d", params->nr_queues, MAX_QUEUES);
	if (!params->ring_pages || params->ring_pages > 1u << MAX_RING_PAGE_ORDER ||
	    (params->ring_pages & (params->ring_pages - 1)))
		return error_set(text, -EINVAL, "%u ring pages: must be 1, 2, 4, 8 or 16", params->ring_pages);
	if (vbd->geometry.read_only && !params->read_only)
		return error_set(text, -EROFS, "%s is open read-only, the frontend wants to write", vbd->target);
	if (blkif_find(vbd, params->domid, params->devid))
		return error_set(text, -EEXIST, "domain %u device %u is connected already", params->domid, params->devid);
	return 0;
}

/* Adopt the in-flight table of the dead tapdisk, or create one. */
static int blkif_get_table(struct blkif *blkif, const struct blkif_params *params, struct error_text *text)
{
	unsigned slots = ring_slots(blkif->abi, blkif->ring_pages);
	int ret = params->take_over ? inflight_adopt(&blkif->inflight, blkif->vbd, params, slots, text) : -ENOENT;

	blkif->resumed = !ret;
	return ret == -ENOENT ? inflight_create(&blkif->inflight, blkif->vbd, params, slots, text) : ret;
}

/* The take-over failed: leave the table to another attempt. */
static void blkif_leave_table(struct blkif *blkif)
{
	if (!blkif->resumed)
		return;
	inflight_leave(blkif->inflight);
	blkif->inflight = NULL;
}

/* On errors before the transport owns the descriptors. */
static void close_descriptors(const struct blkif_params *params)
{
	for (unsigned i = 0; i < params->nr_fds; i++)
		close(params->fds[i]);
}

static int blkif_create(struct vbd *vbd, const struct blkif_params *params, struct error_text *text)
{
	struct blkif *blkif = calloc(1, sizeof(*blkif));
	int ret;

	if (!blkif) {
		close_descriptors(params);
		return -ENOMEM;
	}
	blkif->client.ops = &blkif_client_ops;
	blkif->vbd = vbd;
	blkif->domid = params->domid;
	blkif->devid = params->devid;
	blkif->persistent = params->persistent;
	blkif->direct_io_safe = params->direct_io_safe;
	blkif->read_only = params->read_only;
	blkif->ring_pages = params->ring_pages;
	blkif->nr_queues = params->nr_queues;
	blkif->abi = ring_abi_find(params->protocol);

	/* first, because it takes ownership of the descriptors in @params on failure, too */
	ret = blkif_open_transport(blkif, params, text);
	if (!ret)
		ret = blkif_check_params(vbd, params, text);
	if (!ret)
		ret = blkif_get_table(blkif, params, text);
	if (!ret)
		ret = blkif_connect_queues(blkif, params, text);
	if (!ret)
		ret = blkif_alloc_memory(blkif, blkif->queues[0].ring.size);
	if (!ret)
		ret = vbd_add_client(vbd, &blkif->client);
	if (ret) {
		blkif_leave_table(blkif);
		blkif_free(blkif);
		return ret;
	}
	blkif->metrics = metrics_open(blkif->domid, blkif->devid);
	log_guest(LOG_LEVEL_INFO, "minor %d: domain %u device %u connected: %s, %u queue%s of %u slots%s%s%s", vbd->minor,
		  blkif->domid, blkif->devid, blkif->abi->protocol, blkif->nr_queues, blkif->nr_queues == 1 ? "" : "s",
		  blkif->queues[0].ring.size, blkif->persistent ? ", persistent grants" : "",
		  blkif->read_only ? ", read-only" : "", blkif->resumed ? ", taken over" : "");
	return 0;
}

int blkif_connect(struct vbd *vbd, const struct blkif_params *params, struct error_text *text)
{
	int ret;

	if (vbd->state == VBD_CLOSED || vbd->closing) {
		close_descriptors(params);
		return error_set(text, -ENODEV, "minor %d has no image open", vbd->minor);
	}
	ret = blkif_create(vbd, params, text);
	return ret ? error_set(text, ret, "minor %d: cannot connect domain %u device %u: %s", vbd->minor,
			       params->domid, params->devid, strerror(-ret)) : 0;
}

int blkif_disconnect(struct vbd *vbd, uint32_t domid, uint32_t devid,
		     void (*done)(void *arg, int error), void *arg, struct error_text *text)
{
	struct blkif *blkif = blkif_find(vbd, domid, devid);

	return blkif ? blkif_leave(blkif, done, arg) :
		error_set(text, -ENOENT, "minor %d: domain %u device %u is not connected", vbd->minor, domid, devid);
}
