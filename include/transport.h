/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport.h - grants and event channels: how a guest's pages and signals
 * reach us.
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
	void *local;		/* anywhere of ours that does not cross a 4 KiB boundary more than the piece does */
	uint32_t ref;		/* the guest's page */
	uint16_t offset;	/* bytes into that page */
	uint16_t length;	/* bytes; offset + length <= 4096 */
	bool to_guest;
	int16_t error;		/* out: 0 or -errno */
};

/* One event channel, ours to wait on (fd) and to signal. */
struct event_channel {
	int fd;			/* readable when the frontend has signalled */
	uint32_t port;		/* the transport's own name for it */
	bool late;		/* signals are kept from one until its acknowledgement, which may therefore come after
				 * the ring was looked at; engine_exchange(fd, &port) is one */
	void *priv;
};

struct transport_ops {
	const char *name;
	void (*close)(struct transport *transport);	/* and frees it; everything unmapped and unbound before */
	/* Map @count granted pages side by side, for reading and writing. *@address is a multiple of 4096. 0 or -errno. */
	int (*map)(struct transport *transport, const uint32_t *refs, unsigned count, void **address);
	void (*unmap)(struct transport *transport, void *address, unsigned count);
	/* Do all @count pieces in one call; each has its own error. 0, or -errno when the call itself failed. */
	int (*copy)(struct transport *transport, struct grant_copy *pieces, unsigned count);
	/* Bind the frontend's @port (xen), or the @port-th pair of eventfds (shm). 0 or -errno. @channel, its fd included, is
	 * valid until unbind(), which closes it. */
	int (*bind)(struct transport *transport, uint32_t port, struct event_channel *channel);
	void (*unbind)(struct transport *transport, struct event_channel *channel);
	void (*notify)(struct transport *transport, struct event_channel *channel);
	/* Take note of the signals so far; further ones make fd readable again. -errno: it will never do that. */
	int (*acknowledge)(struct transport *transport, struct event_channel *channel);
};

/* For the frontends of domain @domid. 0 or -errno. The caller ends *@transport with ops->close(). */
int transport_xen_open(struct transport **transport, uint32_t domid);
/* While this process is still root's: open what it cannot open later, nor be sent (gntdev may be tied to the process
 * that opened it). Where there is no Xen it does nothing. */
void transport_xen_prepare(void);

/*
 * @fds: the memfd, then for each queue the eventfd that signals us and the
 * eventfd that signals the frontend. They are the transport's from now on
 * (closed by close, and on failure). 0 or -errno; the caller ends *@transport
 * with ops->close().
 */
int transport_shm_open(struct transport **transport, const int *fds, unsigned nr_fds);

#endif
