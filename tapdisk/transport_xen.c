/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport_xen.c - the transport on Xen: grants by libxengnttab, event
 * channels by libxenevtchn.
 *
 * Each event channel has its own handle, so that a readable descriptor means
 * that this queue was signalled.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include "path.h"
#include "processor.h"
#include "transport.h"

/* Pieces per grant-copy call; the driver takes any number, but our scratch array has a fixed size. */
#define COPY_CHUNK 512

struct transport_xen {
	struct transport transport;
	uint32_t domid;
	xengnttab_handle *grants;
	xengnttab_grant_copy_segment_t segments[COPY_CHUNK];
};

/* Shared by all frontends if it had to be opened before giving up root's powers; NULL: each opens its own. */
static xengnttab_handle *shared_grants;

static struct transport_xen *transport_xen(struct transport *transport)
{
	return (struct transport_xen *)transport;
}

static int transport_xen_map(struct transport *transport, const uint32_t *refs, unsigned count, void **address)
{
	struct transport_xen *xen = transport_xen(transport);

	/* the library does not write to the array, although it is not const */
	*address = xengnttab_map_domain_grant_refs(xen->grants, count, xen->domid, (uint32_t *)refs,
						   PROT_READ | PROT_WRITE);
	if (!*address)
		return errno ? -errno : -EINVAL;
	return 0;
}

static void transport_xen_unmap(struct transport *transport, void *address, unsigned count)
{
	int ret = xengnttab_unmap(transport_xen(transport)->grants, address, count);

	/* fails only for an address that was never mapped */
	assert(ret == 0);
	(void)ret;
}

static void transport_xen_fill(const struct transport_xen *xen, const struct grant_copy *piece,
			       xengnttab_grant_copy_segment_t *segment)
{
	union xengnttab_copy_ptr *guest = piece->to_guest ? &segment->dest : &segment->source;
	union xengnttab_copy_ptr *local = piece->to_guest ? &segment->source : &segment->dest;

	guest->foreign.ref = piece->ref;
	guest->foreign.offset = piece->offset;
	guest->foreign.domid = (uint16_t)xen->domid;
	local->virt = piece->local;
	segment->len = piece->length;
	segment->flags = piece->to_guest ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
	segment->status = GNTST_okay;
}

static int transport_xen_copy(struct transport *transport, struct grant_copy *pieces, unsigned count)
{
	struct transport_xen *xen = transport_xen(transport);

	for (unsigned start = 0; start < count; start += COPY_CHUNK) {
		unsigned n = count - start < COPY_CHUNK ? count - start : COPY_CHUNK;

		for (unsigned i = 0; i < n; i++)
			transport_xen_fill(xen, &pieces[start + i], &xen->segments[i]);
		if (xengnttab_grant_copy(xen->grants, n, xen->segments))
			return errno ? -errno : -EIO;
		for (unsigned i = 0; i < n; i++)
			pieces[start + i].error = xen->segments[i].status == GNTST_okay ? 0 : -EFAULT;
	}
	return 0;
}

static xenevtchn_handle *event_channels_open(void)
{
	xenevtchn_handle *handle;
	char name[16];
	int fd;

	if (!path_has_opener()) {
		processor_channel_name(name, getpid());
		prctl(PR_SET_NAME, name);
		handle = xenevtchn_open(NULL, 0);
		prctl(PR_SET_NAME, "tapdisk");
		return handle;
	}
	fd = path_open("/dev/xen/evtchn", O_RDWR, 0);
	handle = fd < 0 ? NULL : xenevtchn_fdopen(NULL, fd, 0);
	if (fd >= 0 && !handle)
		close(fd);
	return handle;
}

static int transport_xen_bind(struct transport *transport, uint32_t port, struct event_channel *channel)
{
	struct transport_xen *xen = transport_xen(transport);
	xenevtchn_handle *handle = event_channels_open();
	xenevtchn_port_or_error_t local;
	int ret;

	if (!handle)
		return -errno;
	local = xenevtchn_bind_interdomain(handle, xen->domid, port);
	if (local < 0) {
		ret = -errno;
		xenevtchn_close(handle);
		return ret;
	}
	channel->fd = xenevtchn_fd(handle);
	channel->port = local;
	/* the driver masks a channel after a signal; Xen keeps further signals until the port is written back */
	channel->late = !fcntl(channel->fd, F_SETFL, O_NONBLOCK);
	channel->priv = handle;
	processor_channel_bound();
	return 0;
}

static void transport_xen_unbind(struct transport *transport, struct event_channel *channel)
{
	xenevtchn_unbind(channel->priv, channel->port);
	xenevtchn_close(channel->priv);
	channel->priv = NULL;
	channel->fd = -1;
	processor_channel_unbound();
}

static void transport_xen_notify(struct transport *transport, struct event_channel *channel)
{
	/* fails only if the other end is gone, which is noticed by xenstore */
	xenevtchn_notify(channel->priv, channel->port);
}

static int transport_xen_acknowledge(struct transport *transport, struct event_channel *channel)
{
	if (xenevtchn_pending(channel->priv) < 0 && errno != EAGAIN)
		return errno == EINTR ? 0 : -errno;
	/* also with nothing pending: an engine_exchange() may have failed half-way; no effect if not masked */
	return xenevtchn_unmask(channel->priv, channel->port) ? -errno : 0;
}

static void transport_xen_close(struct transport *transport)
{
	if (transport_xen(transport)->grants != shared_grants)
		xengnttab_close(transport_xen(transport)->grants);
	free(transport);
}

static const struct transport_ops transport_xen_ops = {
	.name = "xen",
	.close = transport_xen_close,
	.map = transport_xen_map,
	.unmap = transport_xen_unmap,
	.copy = transport_xen_copy,
	.bind = transport_xen_bind,
	.unbind = transport_xen_unbind,
	.notify = transport_xen_notify,
	.acknowledge = transport_xen_acknowledge,
};

void transport_xen_prepare(void)
{
	if (!access("/dev/xen/gntdev", F_OK))
		shared_grants = xengnttab_open(NULL, 0);
}

int transport_xen_open(struct transport **transport, uint32_t domid)
{
	struct transport_xen *xen = calloc(1, sizeof(*xen));
	int ret;

	if (!xen)
		return -ENOMEM;
	xen->transport.ops = &transport_xen_ops;
	xen->domid = domid;
	xen->grants = shared_grants ? shared_grants : xengnttab_open(NULL, 0);
	if (!xen->grants) {
		ret = -errno;
		free(xen);
		return ret;
	}
	*transport = &xen->transport;
	return 0;
}
