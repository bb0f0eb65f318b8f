/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_nodes.h - a device's nodes in xenstore: those that the toolstack
 * and the hotplug script write, and those that we publish for the frontend.
 *
 * The backend node belongs to the toolstack: we add to it, never delete it.
 */
#ifndef TAPBACK_NODES_H
#define TAPBACK_NODES_H

#include "tapback_frontend.h"

#define BACKEND_ROOT "backend/vbd3"

/* The input of a decision, read again for each one. */
struct device_nodes {
	enum xenbus state;		/* ours; GONE: the toolstack has removed the device */
	enum xenbus frontend_state;
	bool complete;			/* the toolstack has written all of its nodes */
	bool online;
	char *frontend;			/* path; NULL until it is written */
	bool read_only, shared;		/* from mode: no 'w'; '!' */
	bool cdrom, removable;
	bool direct_io_safe;
	bool discard_enable;
	unsigned max_queues;		/* as once advertised; the host may have fewer processors now */
	bool has_tapdisk;		/* the hotplug script has written pid and minor */
	int pid, minor;
	struct error_text wrong;	/* why the nodes are invalid, or "" */
};

/* The disk's geometry, from tapdisk. */
struct disk_geometry {
	uint64_t sectors;		/* of 512 bytes */
	unsigned sector_size, physical_sector_size;	/* bytes; physical 0: not known */
	bool read_only, discard;
	unsigned discard_granularity, discard_alignment;	/* bytes */
};

/* @path: the device's node. The caller frees with nodes_free(). */
void nodes_read(struct xenstore *xenstore, const char *path, uint32_t domid, struct device_nodes *nodes);
void nodes_free(struct device_nodes *nodes);

/*
 * The four below write only if the state still is @nodes->state. -ESTALE:
 * the toolstack has changed it, and that event brings a new decision.
 */
int nodes_publish_features(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
			   unsigned max_queues);
/* Write geometry and Connected in one transaction, and remove errors reported before. */
int nodes_publish_disk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
		       const struct disk_geometry *disk, int pid);
/* Another tapdisk has taken over the disk, with the same minor: replace the pid that the hotplug script wrote. */
int nodes_publish_tapdisk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, int pid);
int nodes_publish_state(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, enum xenbus state);

/* The `sectors` node; 0 when it cannot be read. */
uint64_t nodes_read_sectors(struct xenstore *xenstore, const char *path);

/* Write `error` and `hotplug-error` below the device, and error/<path>/error as the kernel's xenbus_dev_error() does. */
int nodes_publish_error(struct xenstore *xenstore, const char *path, int error, const char *text);

/* Remove the error nodes of a device that was removed. */
void nodes_forget_error(struct xenstore *xenstore, const char *path);

/* 0, or -EINVAL and then *@geometry is all 0. */
int disk_geometry_from_json(const json_t *disk, struct disk_geometry *geometry);

#endif
