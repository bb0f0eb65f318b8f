/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_nodes.h - a device's nodes in xenstore: what the toolstack and the
 * hotplug script wrote, and what we publish for the frontend.
 *
 * The backend node is the toolstack's: we add to it, never delete it.
 */
#ifndef TAPBACK_NODES_H
#define TAPBACK_NODES_H

#include "tapback_frontend.h"

#define BACKEND_ROOT "backend/vbd3"

/* Everything a decision needs, read afresh for each. */
struct device_nodes {
	enum xenbus state;		/* ours; GONE: the toolstack has removed the device */
	enum xenbus frontend_state;
	bool complete;			/* the toolstack has written all it has to */
	bool online;
	char *frontend;			/* path; NULL until it is there */
	bool read_only, shared;		/* mode: no 'w'; '!' */
	bool cdrom, removable;
	bool direct_io_safe;
	bool discard_enable;
	unsigned max_queues;		/* as we once advertised: there may be fewer processors now */
	bool has_tapdisk;		/* the hotplug script has named one: */
	int pid, minor;
	struct error_text wrong;	/* what cannot be right with them, or "" */
};

/* What tapdisk told about the disk. */
struct disk_geometry {
	uint64_t sectors;		/* of 512 bytes */
	unsigned sector_size, physical_sector_size;	/* bytes; 0 for the second: not known */
	bool read_only, discard;
	unsigned discard_granularity, discard_alignment;	/* bytes */
};

/* @path: the device's node. The caller frees with nodes_free(). */
void nodes_read(struct xenstore *xenstore, const char *path, uint32_t domid, struct device_nodes *nodes);
void nodes_free(struct device_nodes *nodes);

/*
 * The four below write only if the state still is @nodes->state: -ESTALE
 * when the toolstack was faster (its change brings a new decision).
 */
int nodes_publish_features(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
			   unsigned max_queues);
/* Geometry, and Connected, in one transaction; errors reported before are taken back. */
int nodes_publish_disk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
		       const struct disk_geometry *disk, int pid);
/* Another tapdisk has the disk, under the same minor: what the hotplug script has written of the one before. */
int nodes_publish_tapdisk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, int pid);
int nodes_publish_state(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, enum xenbus state);

/* The `sectors` node; 0 when it cannot be read. */
uint64_t nodes_read_sectors(struct xenstore *xenstore, const char *path);

/* `error` and `hotplug-error` below the device, and error/<path>/error as the kernel's xenbus_dev_error() has it. */
int nodes_publish_error(struct xenstore *xenstore, const char *path, int error, const char *text);

/* What is left of errors when the device has been removed. */
void nodes_forget_error(struct xenstore *xenstore, const char *path);

/* 0, or -EINVAL and then *@geometry is all 0. */
int disk_geometry_from_json(const json_t *disk, struct disk_geometry *geometry);

#endif
