/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_export.c - the exports of an NBD server: the disk itself, and its
 * snapshots, each opened as a backend of its own while it has users.
 *
 * Invariants:
 *  1. A snapshot is open while it has users and the disk is not paused. So a
 *     snapshot in use cannot be deleted, and an unused one blocks nothing.
 *     None is opened while the disk drains: it would keep the store open,
 *     writable, which the end of a pause reports as closed.
 *  2. A write to an overlay that waits for room is retried at most once and then
 *     fails: no event tells that it waits, and a pause would wait for it. There
 *     is at most one retry a second.
 *  3. A snapshot stays closed after a pause if it cannot be opened, if it is
 *     another snapshot by then, or if the disk has another image; the server
 *     disconnects its users.
 */
#include "nbd_export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "log.h"
#include "nbd_connection.h"

#define PREFERRED_BLOCK 4096u
#define RETRY_NS 1000000000u

/* All connections submit to one backend without a cache above it, so a flush or FUA write of one covers the writes
 * completed on any other: hence CAN_MULTI_CONN. */
static uint16_t export_flags(const struct driver_geometry *geometry, bool read_only)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
		NBD_FLAG_SEND_CACHE;

	if (read_only)
		return flags | NBD_FLAG_READ_ONLY;
	return flags | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | (geometry->discard ? NBD_FLAG_SEND_TRIM : 0);
}

/* The size for best performance; smaller requests are served, too. */
static uint32_t preferred_block(const struct driver_geometry *geometry)
{
	unsigned block = geometry->physical_sector_size;

	return block > PREFERRED_BLOCK && block <= NBD_MAX_PAYLOAD ? block : PREFERRED_BLOCK;
}

static void describe(struct nbd_export_info *info, const struct driver_geometry *geometry, uint64_t sectors,
		     bool read_only)
{
	*info = (struct nbd_export_info){
		.size = sectors << SECTOR_SHIFT,
		.flags = export_flags(geometry, read_only),
		.minimum = geometry->sector_size,
		.preferred = preferred_block(geometry),
		.maximum = NBD_MAX_PAYLOAD,
	};
}

static bool may_open(const struct vbd *vbd)
{
	return vbd->state == VBD_RUNNING;
}

struct search {
	const char *name;
	uint64_t sectors, id, time;
};

static int search_one(void *owner, const struct snapshot_info *info)
{
	struct search *search = owner;

	if (strcmp(info->name, search->name))
		return 0;
	search->sectors = info->sectors;
	search->id = info->id;
	search->time = info->time;
	return 1;
}

static int exports_describe(void *owner, const char *name, struct nbd_export_info *info)
{
	const struct nbd_server *server = owner;
	const struct vbd *vbd = server->client.vbd;
	struct search search = { .name = name };
	int found;

	if (!*name && server->pinned) {
		describe(info, &server->pinned->geometry, server->pinned->geometry.sectors,
			 nbd_export_read_only(server->pinned));
		return 0;
	}
	if (!*name) {
		describe(info, &vbd->geometry, vbd->geometry.sectors, vbd->geometry.read_only || server->read_only);
		return 0;
	}
	if (server->id)
		return -ENOENT;
	found = may_open(vbd) ? backend_snapshot_list(vbd->backend, search_one, &search) : -EBUSY;
	if (found <= 0)
		return found ? found : -ENOENT;
	describe(info, &vbd->geometry, search.sectors, true);
	return 0;
}

struct listing {
	int (*each)(void *arg, const char *name, uint32_t id);
	void *arg;
};

static int list_one(void *owner, const struct snapshot_info *info)
{
	const struct listing *listing = owner;

	return listing->each(listing->arg, info->name, info->id);
}

static int exports_list(void *owner, uint64_t from, int (*each)(void *arg, const char *name, uint32_t id), void *arg)
{
	const struct nbd_server *server = owner;
	const struct vbd *vbd = server->client.vbd;
	struct listing listing = { each, arg };
	int ret = from ? 0 : each(arg, "", 0);

	return ret || server->id || !vbd->backend ? ret : backend_snapshot_list_from(vbd->backend, from, list_one, &listing);
}

static int exports_snapshots(void *owner, const char *name, uint64_t from,
			     int (*each)(void *arg, const char *snapshot, uint32_t id), void *arg)
{
	const struct nbd_server *server = owner;
	const struct vbd *vbd = server->client.vbd;
	struct listing listing = { each, arg };

	/* an overlay is a store of its own, without these snapshots */
	return vbd->backend && server->overlay < 0 ? backend_snapshot_list_from(vbd->backend, from, list_one, &listing) : 0;
}

const struct nbd_offer nbd_exports = {
	.describe = exports_describe,
	.list = exports_list,
	.snapshots = exports_snapshots,
};

/* Record the snapshot's identity at the first open; -ESTALE if a later open finds another one. */
static int snapshot_identify(struct nbd_export *export, struct error_text *text)
{
	struct search search = { .name = *export->name ? export->name : export->server->snapshot };
	struct nbd_snapshot snapshot = { .id = 0 };

	backend_snapshot_list(export->backend, search_one, &search);
	cow_backend_uuid(export->backend, snapshot.store);
	snapshot.id = search.id;
	snapshot.time = search.time;
	if (export->identified && memcmp(&snapshot, &export->snapshot, sizeof(snapshot)))
		return error_set(text, -ESTALE, "%s: not the snapshot that was served before", export->target);
	export->snapshot = snapshot;
	export->identified = true;
	return 0;
}

static int snapshot_open(struct nbd_export *export, struct error_text *text)
{
	const struct vbd *vbd = export->server->client.vbd;
	struct driver_options options = vbd->options;
	int error;

	options.read_only = export->server->overlay < 0;
	options.journal = NULL;		/* the journal belongs to the disk; an overlay ends with its export */
	if (strcmp(export->home, vbd->backend->path))
		return error_set(text, -ESTALE, "%s: no longer the disk's image", export->home);
	error = backend_open(&export->backend, vbd->engine, export->target, &options, text);
	if (error)
		return error;
	error = snapshot_identify(export, text);
	if (error) {
		backend_close(export->backend);
		export->backend = NULL;
		return error;
	}
	export->geometry = export->backend->geometry;
	return 0;
}

/* "cow:PATH@NAME" in the disk's store; or the overlay, a file without a name. The caller frees it. */
static char *snapshot_target(const struct nbd_server *server, const char *name)
{
	const struct backend *backend = server->client.vbd->backend;
	const char *old;
	char *path, *target;

	if (server->overlay >= 0)
		return asprintf(&target, "cow:/proc/self/fd/%d", server->overlay) < 0 ? NULL : target;
	path = cow_target_split(backend->path, &old);

	if (!path || asprintf(&target, "%s:%s@%s", backend->ops->name, path, name) < 0)
		target = NULL;
	free(path);
	return target;
}

static void export_free(struct nbd_export *export)
{
	struct nbd_export **link = &export->server->exports;

	while (*link && *link != export)
		link = &(*link)->next;
	if (*link)
		*link = export->next;
	backend_close(export->backend);
	free(export->target);
	free(export->name);
	free(export->home);
	free(export);
}

static int export_create(struct nbd_server *server, const char *name, struct nbd_export **result, struct error_text *text)
{
	const char *snapshot = *name ? name : server->snapshot;
	const struct vbd *vbd = server->client.vbd;
	struct nbd_export *export;
	int error = 0;

	if (snapshot && !may_open(vbd))
		return error_set(text, -EBUSY, "the disk is paused or being paused");
	if (snapshot && !vbd->backend->ops->snapshot_list)
		return error_set(text, -EOPNOTSUPP, "%s: disks of this type have no snapshots", vbd->target);
	export = calloc(1, sizeof(*export));
	if (!export)
		return -ENOMEM;
	export->server = server;
	export->name = strdup(name);
	if (snapshot) {
		export->target = snapshot_target(server, snapshot);
		export->home = strdup(vbd->backend->path);
	}
	if (!export->name || (snapshot && (!export->target || !export->home)))
		error = -ENOMEM;
	else if (snapshot)
		error = snapshot_open(export, text);
	if (error) {
		export_free(export);
		return error;
	}
	export->next = server->exports;
	server->exports = export;
	*result = export;
	return 0;
}

int nbd_export_acquire(struct nbd_server *server, const char *name, struct nbd_export **result, struct error_text *text)
{
	struct nbd_export *export = server->exports;
	int error = 0;

	while (export && strcmp(export->name, name))
		export = export->next;
	if (!export)
		error = export_create(server, name, &export, text);
	else if (export->target && !export->backend && may_open(server->client.vbd))
		error = snapshot_open(export, text);	/* otherwise nbd_exports_reopen() opens it */
	if (error)
		return error;
	export->users++;
	*result = export;
	return 0;
}

void nbd_export_release(struct nbd_export *export)
{
	if (!--export->users)
		export_free(export);
}

const struct driver_geometry *nbd_export_geometry(const struct nbd_export *export)
{
	return export->target ? &export->geometry : &export->server->client.vbd->geometry;
}

bool nbd_export_read_only(const struct nbd_export *export)
{
	return nbd_export_geometry(export)->read_only || export->server->read_only;
}

void nbd_export_submit(struct nbd_export *export, struct block_request *req)
{
	if (export->target)
		backend_submit(export->backend, req);
	else
		vbd_submit(&export->server->client, req);
}

bool nbd_exports_end_waiting(struct nbd_server *server)
{
	uint64_t now = loop_now(server->client.vbd->loop);
	bool any = false;

	for (struct nbd_export *export = server->exports; export; export = export->next) {
		if (!export->backend || !export->backend->waiting)
			continue;
		any = true;
		if (now - export->tried < RETRY_NS) {
			backend_give_up(export->backend);
		} else {
			export->tried = now;
			backend_retry(export->backend);
		}
	}
	return any;
}

bool nbd_exports_closed(struct nbd_server *server)
{
	bool closed = true;

	for (struct nbd_export *export = server->exports; export; export = export->next) {
		if (export->backend && export->backend->waiting)
			backend_give_up(export->backend);
		if (export->backend && !export->backend->in_flight) {
			backend_close(export->backend);
			export->backend = NULL;
		}
		closed &= !export->backend;
	}
	return closed;
}

void nbd_exports_reopen(struct nbd_server *server)
{
	for (struct nbd_export *export = server->exports; export; export = export->next) {
		struct error_text text = { "" };

		if (export->target && !export->backend && snapshot_open(export, &text))
			log_warning("minor %d: nbd: %s; its clients are disconnected", server->client.vbd->minor,
				    text.text);
	}
}
