/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport.h - grants and event channels: access to a guest's pages, and
 * signals from and to the guest.
 *
 * Two transports carry the same ring bytes: `xen` (libxengnttab,
 * libxenevtchn) and `shm`, the stand-in for machines without Xen, where a
 * memfd holds the guest's pages, a grant reference is a page number in it,
 * and two eventfds make an event channel.
 *
 * One struct transport serves one frontend (one domain and device).
 * Threads: all calls on one thread.
 */
#ifndef TAPSNAP_TRANSPORT_H
#define TAPSNAP_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE  (1u << GUEST_PAGE_SHIFT)	/* XEN_PAGE_SIZE */

struct transport {
	const struct transport_ops *ops;
};

/* One piece of a batched copy between a granted page and our memory. */
struct grant_copy {
	void *local;		/* our memory, at any address */
	uint32_t ref;		/* the guest's page */
	uint16_t offset;	/* bytes into that page */
	uint16_t length;	/* bytes; offset + length <= 4096 */
	bool to_guest;
	int16_t error;		/* out: 0 or -errno */
};

/* One event channel, ours to wait on (fd) and to signal. */
struct event_channel {
	int fd;			/* readable when the frontend has signalled */
	uint32_t port;		/* the transport's number of the channel */
	bool late;		/* a signal is held back until the last one was acknowledged, so the acknowledgement may come
				 * after the ring was read; engine_exchange(fd, &port) is an acknowledgement */
	void *priv;
};

struct transport_ops {
	const char *name;
	void (*close)(struct transport *transport);	/* and frees it; the caller has unmapped and unbound everything */
	/* Map @count granted pages contiguously, for reading and writing. *@address is a multiple of 4096. 0 or -errno. */
	int (*map)(struct transport *transport, const uint32_t *refs, unsigned count, void **address);
	void (*unmap)(struct transport *transport, void *address, unsigned count);
	/* Do all @count pieces in one call; each has its own error. 0, or -errno when the call itself failed. */
	int (*copy)(struct transport *transport, struct grant_copy *pieces, unsigned count);
	/* Bind the frontend's @port (xen), or the @port-th pair of eventfds (shm). 0 or -errno. @channel, its fd included, is
	 * valid until unbind(), which closes it. */
	int (*bind)(struct transport *transport, uint32_t port, struct event_channel *channel);
	void (*unbind)(struct transport *transport, struct event_channel *channel);
	void (*notify)(struct transport *transport, struct event_channel *channel);
	/* Acknowledge the signals so far; later ones make fd readable again. -errno: no more signals will come. */
	int (*acknowledge)(struct transport *transport, struct event_channel *channel);
};

/* For the frontends of domain @domid. 0 or -errno. The caller closes *@transport with ops->close(). */
int transport_xen_open(struct transport **transport, uint32_t domid);
/* Call as root: opens what the process cannot open later, nor receive (gntdev may be tied to the process that opened
 * it). Does nothing where there is no Xen. */
void transport_xen_prepare(void);

/*
 * @fds: the memfd, then for each queue the eventfd that signals us and the
 * eventfd that signals the frontend. The transport takes them over (closes them
 * in close, and on failure). 0 or -errno; the caller closes *@transport
 * with ops->close().
 */
int transport_shm_open(struct transport **transport, const int *fds, unsigned nr_fds);

#endif
