/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_xen.c - the frontend's pages and event channels on real Xen.
 *
 * The pages come from gntalloc in one piece and are granted to the backend's
 * domain; unmapping them ends the grants, or, for pages that the backend has
 * mapped, the backend's unmapping does. Each event channel has a handle of its
 * own, so that a readable descriptor means a signal of this one queue.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include "blkfront_xen_internal.h"

static int xen_share_memory(struct blkfront *front, size_t pages, struct error_text *text)
{
	struct blkfront_xen *xen = calloc(1, sizeof(*xen));
	int r;

	if (!xen)
		return -ENOMEM;
	front->xen = xen;
	xen->grants = xengntshr_open(NULL, 0);
	if (!xen->grants)
		return error_set(text, -errno, "/dev/xen/gntalloc: %m (is this a Xen domain with xen-gntalloc loaded?)");
	r = blkfront_xenbus_open(front, text);
	if (r < 0)
		return r;
	front->memory = xengntshr_share_pages(xen->grants, xen->backend_domid, (int)pages, front->refs, 1);
	if (!front->memory)
		return error_set(text, -errno, "cannot grant %zu pages: %m (see xen_gntalloc's parameter `limit`)", pages);
	memset(front->memory, 0, front->memory_size);
	return 0;
}

static int xen_open_channel(struct blkfront *front, unsigned queue, struct error_text *text)
{
	struct blkfront_queue *q = &front->queues[queue];
	xenevtchn_port_or_error_t port;

	q->channel = xenevtchn_open(NULL, 0);
	if (!q->channel)
		return error_set(text, -errno, "/dev/xen/evtchn: %m");
	port = xenevtchn_bind_unbound_port(q->channel, front->xen->backend_domid);
	if (port < 0)
		return error_set(text, -errno, "no event channel: %m");
	q->port = port;
	q->event_fd = xenevtchn_fd(q->channel);
	return 0;
}

static void xen_signal(struct blkfront *front, unsigned queue)
{
	/* Fails only while the other end is not bound; the backend looks into the ring when it binds it. */
	xenevtchn_notify(front->queues[queue].channel, front->queues[queue].port);
}

static int xen_acknowledge(struct blkfront *front, unsigned queue)
{
	xenevtchn_handle *channel = front->queues[queue].channel;
	xenevtchn_port_or_error_t port = xenevtchn_pending(channel);

	if (port < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return xenevtchn_unmask(channel, port) ? -errno : 0;
}

static void xen_release(struct blkfront *front)
{
	unsigned i;

	for (i = 0; i < MAX_QUEUES; i++)
		if (front->queues[i].channel)
			xenevtchn_close(front->queues[i].channel);
	if (front->memory)
		xengntshr_unshare(front->xen->grants, front->memory, (uint32_t)(front->memory_size >> GUEST_PAGE_SHIFT));
	if (!front->xen)
		return;
	if (front->xen->grants)
		xengntshr_close(front->xen->grants);
	blkfront_xenbus_close(front);
	free(front->xen);
}

const struct blkfront_transport blkfront_xen = {
	.share_memory = xen_share_memory,
	.open_channel = xen_open_channel,
	.connect = blkfront_xenbus_connect,
	.disconnect = blkfront_xenbus_disconnect,
	.signal = xen_signal,
	.acknowledge = xen_acknowledge,
	.life_fd = blkfront_xenbus_fd,
	.is_alive = blkfront_xenbus_is_alive,
	.release = xen_release,
};

int blkfront_xen_prepare(struct blkfront **front, const struct blkfront_options *options, char *text, size_t size)
{
	struct blkfront_options on_xen = *options;
	struct error_text error = { "" };
	int r;

	on_xen.transport = &blkfront_xen;
	r = blkfront_prepare(front, &on_xen, &error);
	if (r < 0 && text && size)
		snprintf(text, size, "%s", error.text[0] ? error.text : strerror(-r));
	return r;
}

uint32_t blkfront_xen_ring_ref(const struct blkfront *front, unsigned queue, unsigned page)
{
	return front->refs[queue * front->ring_pages + page];
}

uint32_t blkfront_xen_port(const struct blkfront *front, unsigned queue)
{
	return front->queues[queue].port;
}
