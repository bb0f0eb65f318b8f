/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd.h - serves the disk over NBD on a Unix socket, for QEMU (an HVM guest's
 * emulated disk), nbd-client, nbdcopy and other readers on the host; and the
 * disk or its snapshots on further sockets on request (publications).
 */
#ifndef TAPDISK_NBD_H
#define TAPDISK_NBD_H

#include "vbd.h"

struct nbd_server;

/* Listen on the run dir's nbd<pid>.<minor> (mode 0600). 0 or -errno. */
int nbd_server_start(struct nbd_server **server, struct vbd *vbd, const char *path, struct error_text *text);
/* End all connections (their requests in flight have been drained) and remove the socket, publications included. */
void nbd_server_stop(struct nbd_server *server);
/* These include publications. */
unsigned nbd_server_connections(const struct nbd_server *server);
/* Add the counters of all connections, past ones too, to @sum. */
void nbd_server_stats(const struct nbd_server *server, struct queue_stats *sum);

/* nbd_publish.c: serve the disk or a snapshot on a socket that the caller made. */
struct nbd_publication {
	const char *address;		/* for display */
	const char *path;		/* of the socket, removed at the end; NULL: none */
	const char *snapshot;		/* NULL: the disk itself */
	bool read_only;
	int listener;			/* descriptor, listening */
	int overlay;			/* descriptor of a store based on the snapshot, for writes; -1: none */
	const void *holder;		/* ended by nbd_unpublish_held() for this holder; NULL: it stays */
};

/* 0 and *@id; or -errno, and the caller keeps the descriptors. A published snapshot cannot be deleted. */
int nbd_publish(struct vbd *vbd, const struct nbd_publication *publication, unsigned *id, struct error_text *text);
/* Disconnects its clients; their requests in flight complete. */
int nbd_unpublish(struct vbd *vbd, unsigned id, struct error_text *text);
void nbd_unpublish_held(struct vbd *vbd, const void *holder);
/* As docs/protocol.md shows them. */
json_t *nbd_publications(const struct vbd *vbd);

#endif
