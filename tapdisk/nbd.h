/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd.h - the disk as an NBD export on a Unix socket, for QEMU (an HVM
 * guest's emulated disk), nbd-client, nbdcopy and other readers on the host;
 * and on other sockets, as it was asked for.
 */
#ifndef TAPDISK_NBD_H
#define TAPDISK_NBD_H

#include "vbd.h"

struct nbd_server;

/* Listen on the run dir's nbd<pid>.<minor> (mode 0600). 0 or -errno. */
int nbd_server_start(struct nbd_server **server, struct vbd *vbd, const char *path, struct error_text *text);
/* End all connections (their requests in flight have been drained) and remove the socket; the same of what was published. */
void nbd_server_stop(struct nbd_server *server);
/* All of these count what was published, too. */
unsigned nbd_server_connections(const struct nbd_server *server);
/* What all connections did, past ones too, is added to @sum. */
void nbd_server_stats(const struct nbd_server *server, struct queue_stats *sum);

/* nbd_publish.c: the disk, or a snapshot, on a socket that the caller made. */
struct nbd_publication {
	const char *address;		/* for people */
	const char *path;		/* of the socket, to be removed in the end; NULL: there is none */
	const char *snapshot;		/* NULL: the disk itself */
	bool read_only;
	int listener;			/* descriptor, listening */
	int overlay;			/* descriptor of a store on the snapshot, for writes; -1: none */
	const void *holder;		/* it ends with nbd_unpublish_held() for this; NULL: it stays */
};

/* 0 and *@id, or -errno; then the descriptors are still the caller's. What is there is kept from being deleted. */
int nbd_publish(struct vbd *vbd, const struct nbd_publication *publication, unsigned *id, struct error_text *text);
/* Its clients are hung up on; what they had begun is done. */
int nbd_unpublish(struct vbd *vbd, unsigned id, struct error_text *text);
void nbd_unpublish_held(struct vbd *vbd, const void *holder);
/* As docs/protocol.md shows them. */
json_t *nbd_publications(const struct vbd *vbd);

#endif
