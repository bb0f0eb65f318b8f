/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_export.h - the exports that an NBD client can choose: the disk, named "",
 * and its snapshots by name, read-only. A publication has one export, named "".
 */
#ifndef TAPDISK_NBD_EXPORT_H
#define TAPDISK_NBD_EXPORT_H

#include "nbd_handshake.h"
#include "vbd.h"

struct nbd_server;

/* Identifies a snapshot even if its path and name lead elsewhere later; the same as in cow_base_fields. */
struct nbd_snapshot {
	uint8_t store[16];
	uint64_t id, time;		/* 0: an overlay */
};

struct nbd_export {
	struct nbd_server *server;
	struct nbd_export *next;
	char *target;			/* a snapshot's; NULL: the disk itself */
	char *name;
	char *home;			/* a snapshot's: the path of the disk's image at the first open */
	struct nbd_snapshot snapshot;	/* a snapshot's identity at the first open */
	bool identified;
	struct backend *backend;	/* a snapshot's; NULL while the disk is paused */
	struct driver_geometry geometry;	/* a snapshot's */
	unsigned users;			/* connections that chose it, and a publication */
	uint64_t tried;			/* loop clock, ns: the last retry of requests that wait for room */
};

/* For the handshake; owner: the server. */
extern const struct nbd_offer nbd_exports;

/* The caller must call nbd_export_release() once it has no request in flight. */
int nbd_export_acquire(struct nbd_server *server, const char *name, struct nbd_export **export, struct error_text *text);
/* Not from inside a completion. */
void nbd_export_release(struct nbd_export *export);
const struct driver_geometry *nbd_export_geometry(const struct nbd_export *export);
bool nbd_export_read_only(const struct nbd_export *export);
/* Not while the server is stopped, except for requests that were submitted before. */
void nbd_export_submit(struct nbd_export *export, struct block_request *req);

/* Before each sleep: retry or answer requests of snapshots that wait for room. True: there were some. */
bool nbd_exports_end_waiting(struct nbd_server *server);

/*
 * closed: while the disk drains, close snapshots without requests in flight, so
 * that we do not have the store open; true: all are closed. reopen: after the
 * pause.
 */
bool nbd_exports_closed(struct nbd_server *server);
void nbd_exports_reopen(struct nbd_server *server);

#endif
