/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_export.h - what an NBD client can choose: the disk, which has no name,
 * and each of its snapshots, by name, for reading; or the one thing that was
 * published on a socket of its own, without a name, too.
 */
#ifndef TAPDISK_NBD_EXPORT_H
#define TAPDISK_NBD_EXPORT_H

#include "nbd_handshake.h"
#include "vbd.h"

struct nbd_server;

/* Which snapshot it is, whatever its path and name lead to later; cow_base_fields has the same. */
struct nbd_snapshot {
	uint8_t store[16];
	uint64_t id, time;		/* 0: an overlay */
};

struct nbd_export {
	struct nbd_server *server;
	struct nbd_export *next;
	char *target;			/* a snapshot's; NULL: the disk itself */
	char *name;
	char *home;			/* a snapshot's: the path of the disk's image when it was opened */
	struct nbd_snapshot snapshot;	/* a snapshot's: what was opened first */
	bool identified;
	struct backend *backend;	/* a snapshot's; NULL while the disk is paused */
	struct driver_geometry geometry;	/* a snapshot's */
	unsigned users;			/* connections that chose it */
	uint64_t tried;			/* loop clock, ns: when what waited for room was tried again */
};

/* What the handshake asks; owner: the server. */
extern const struct nbd_offer nbd_exports;

/* For a connection: an export to be given back with nbd_export_release() when nothing of the connection's is in flight. */
int nbd_export_acquire(struct nbd_server *server, const char *name, struct nbd_export **export, struct error_text *text);
/* Not from inside a completion. */
void nbd_export_release(struct nbd_export *export);
const struct driver_geometry *nbd_export_geometry(const struct nbd_export *export);
bool nbd_export_read_only(const struct nbd_export *export);
/* Never while the server is stopped, except for what was begun before. */
void nbd_export_submit(struct nbd_export *export, struct block_request *req);

/* Before each sleep: what waits for room is tried again, or answered. True: something did. */
bool nbd_exports_end_waiting(struct nbd_server *server);

/*
 * The disk is paused, goes on, is being paused: snapshots are closed once
 * nothing of theirs is in flight, so that nobody has the store open.
 */
bool nbd_exports_closed(struct nbd_server *server);
void nbd_exports_reopen(struct nbd_server *server);

#endif
