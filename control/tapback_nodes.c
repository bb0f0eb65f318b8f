/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_nodes.c - reads and writes the nodes of one device.
 *
 * Invariants: the nodes that a frontend reads in a state are written in the
 * same transaction as that state (features with InitWait, geometry with
 * Connected); a state that the toolstack wrote after we read it is never
 * overwritten.
 */
#include "tapback_nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "tapctl.h"

/* vDisk types of blkif.h, the `info` node */
#define VDISK_CDROM	0x1
#define VDISK_REMOVABLE	0x2
#define VDISK_READONLY	0x4

/* the kernel's backends also write their errors here */
#define ERROR_ROOT "error"

/* ---- reading ---- */

static bool read_flag(struct xenstore *xenstore, const char *path, const char *node, bool missing)
{
	bool flag;

	return xenstore_read_bool(xenstore, path, node, &flag) ? missing : flag;
}

static int read_mode(struct xenstore *xenstore, const char *path, struct device_nodes *nodes)
{
	char *mode;
	int error = xenstore_read(xenstore, path, "mode", &mode);

	if (error)
		return error;
	nodes->read_only = !strchr(mode, 'w');
	nodes->shared = strchr(mode, '!');
	free(mode);
	return 0;
}

static unsigned read_max_queues(struct xenstore *xenstore, const char *path)
{
	uint64_t queues = 1;

	/* a failure leaves 1: nothing was advertised */
	xenstore_read_number(xenstore, path, "multi-queue-max-queues", MAX_QUEUES, &queues);
	return (unsigned)queues;
}

static void read_device_type(struct xenstore *xenstore, const char *path, struct device_nodes *nodes)
{
	char *type;

	if (xenstore_read(xenstore, path, "device-type", &type))
		return;
	nodes->cdrom = !strcmp(type, "cdrom");
	free(type);
}

/* Read `pid`, `minor` and `physical-device-path`, which is written last, and must match them. */
static void read_tapdisk(struct xenstore *xenstore, const char *path, struct device_nodes *nodes)
{
	char expected[XENSTORE_PATH_MAX], *device;
	uint64_t pid, minor;

	if (xenstore_read(xenstore, path, "physical-device-path", &device))
		return;
	if (xenstore_read_number(xenstore, path, "pid", INT32_MAX, &pid) || !pid ||
	    xenstore_read_number(xenstore, path, "minor", MINOR_MAX, &minor)) {
		error_set(&nodes->wrong, -EINVAL, "physical-device-path is set, but pid and minor are not valid");
		goto out;
	}
	snprintf(expected, sizeof(expected), NBD_SOCKET_FORMAT, tapctl_run_dir(), (int)pid, (int)minor);
	if (strcmp(device, expected)) {
		error_set(&nodes->wrong, -EINVAL, "physical-device-path %.200s is not pid %d's minor %d (%.200s)",
			  device, (int)pid, (int)minor, expected);
		goto out;
	}
	nodes->has_tapdisk = true;
	nodes->pid = (int)pid;
	nodes->minor = (int)minor;
out:
	free(device);
}

/* Is @path in the domain's own directory? Nodes elsewhere may be written by another domain. */
static bool is_in_domain(const char *path, uint32_t domid)
{
	char home[40];
	int length = snprintf(home, sizeof(home), "/local/domain/%u/", domid);

	return !strncmp(path, home, (size_t)length);
}

static bool read_frontend(struct xenstore *xenstore, const char *path, uint32_t domid, struct device_nodes *nodes)
{
	uint64_t id;

	if (xenstore_read_number(xenstore, path, "frontend-id", UINT32_MAX, &id) ||
	    xenstore_read(xenstore, path, "frontend", &nodes->frontend))
		return false;
	if (id != domid)
		error_set(&nodes->wrong, -EINVAL, "frontend-id %llu is not domain %u", (unsigned long long)id, domid);
	else if (!is_in_domain(nodes->frontend, domid))
		error_set(&nodes->wrong, -EINVAL, "frontend %s is not domain %u's", nodes->frontend, domid);
	return !nodes->wrong.text[0];
}

void nodes_read(struct xenstore *xenstore, const char *path, uint32_t domid, struct device_nodes *nodes)
{
	memset(nodes, 0, sizeof(*nodes));
	nodes->frontend_state = XENBUS_GONE;
	nodes->state = xenbus_read_state(xenstore, path);
	if (nodes->state == XENBUS_GONE)
		return;
	nodes->complete = read_frontend(xenstore, path, domid, nodes) && !read_mode(xenstore, path, nodes);
	if (!nodes->complete)
		return;
	nodes->frontend_state = xenbus_read_state(xenstore, nodes->frontend);
	nodes->online = read_flag(xenstore, path, "online", true);
	nodes->removable = read_flag(xenstore, path, "removable", false);
	nodes->direct_io_safe = read_flag(xenstore, path, "direct-io-safe", false);
	nodes->discard_enable = read_flag(xenstore, path, "discard-enable", true);
	nodes->max_queues = read_max_queues(xenstore, path);
	read_device_type(xenstore, path, nodes);
	read_tapdisk(xenstore, path, nodes);
}

void nodes_free(struct device_nodes *nodes)
{
	free(nodes->frontend);
	nodes->frontend = NULL;
}

uint64_t nodes_read_sectors(struct xenstore *xenstore, const char *path)
{
	uint64_t sectors;

	return xenstore_read_number(xenstore, path, "sectors", UINT64_MAX, &sectors) ? 0 : sectors;
}

/* ---- writing ---- */

/* The argument of the transactions' bodies. */
struct publication {
	const char *path;
	const struct device_nodes *nodes;
	enum xenbus state;			/* to be written */
	unsigned max_queues;
	const struct disk_geometry *disk;
	int pid;
	int error;
	const char *text;
};

struct number_node {
	const char *name;
	uint64_t value;
};

static int write_numbers(struct xenstore *xenstore, const char *path, const struct number_node *numbers, unsigned count)
{
	int error = 0;

	for (unsigned i = 0; i < count && !error; i++)
		error = xenstore_write(xenstore, path, numbers[i].name, "%llu", (unsigned long long)numbers[i].value);
	return error;
}

/* Write the state, unless the toolstack has changed it since the nodes were read: -ESTALE. */
static int write_state(struct xenstore *xenstore, const struct publication *publication)
{
	if (xenbus_read_state(xenstore, publication->path) != publication->nodes->state)
		return -ESTALE;
	return xenstore_write(xenstore, publication->path, "state", "%d", publication->state);
}

static int publish_features(struct xenstore *xenstore, void *arg)
{
	const struct publication *p = arg;
	bool writable = !p->nodes->read_only && !p->nodes->cdrom;
	/* It is not known yet whether the image can discard; Linux reads that only when Connected. */
	const struct number_node features[] = {
		{ "feature-barrier", 1 },
		{ "feature-flush-cache", 1 },
		{ "feature-discard", writable && p->nodes->discard_enable },
		{ "discard-secure", 0 },
		{ "feature-persistent", 1 },
		{ "feature-max-indirect-segments", MAX_INDIRECT_SEGMENTS },
		{ "max-ring-page-order", MAX_RING_PAGE_ORDER },
		{ "multi-queue-max-queues", p->max_queues },
	};
	int error = write_numbers(xenstore, p->path, features, ARRAY_SIZE(features));

	return error ? error : write_state(xenstore, p);
}

static int write_discard(struct xenstore *xenstore, const struct publication *p)
{
	bool discard = p->disk->discard && p->nodes->discard_enable && !p->nodes->read_only && !p->nodes->cdrom &&
		       !p->disk->read_only;
	const struct number_node nodes[] = {
		{ "discard-granularity", p->disk->discard_granularity },
		{ "discard-alignment", p->disk->discard_alignment },
	};
	int error = xenstore_write(xenstore, p->path, "feature-discard", "%d", discard);

	if (error || !discard)
		return error;
	return write_numbers(xenstore, p->path, nodes, ARRAY_SIZE(nodes));
}

/* Only if the disk's size is a multiple of it: otherwise a guest would round the size down. */
static int write_physical_sector_size(struct xenstore *xenstore, const struct publication *p)
{
	unsigned size = p->disk->physical_sector_size;

	if (size < 512 || p->disk->sectors % (size / 512))
		return xenstore_remove(xenstore, p->path, "physical-sector-size");
	return xenstore_write(xenstore, p->path, "physical-sector-size", "%u", size);
}

static unsigned disk_info(const struct device_nodes *nodes, const struct disk_geometry *disk)
{
	return (nodes->cdrom ? VDISK_CDROM : 0) | (nodes->removable ? VDISK_REMOVABLE : 0) |
	       (nodes->read_only || nodes->cdrom || disk->read_only ? VDISK_READONLY : 0);
}

static int remove_errors(struct xenstore *xenstore, const char *path)
{
	int error = xenstore_remove(xenstore, path, "error");

	if (!error)
		error = xenstore_remove(xenstore, path, "hotplug-error");
	return error ? error : xenstore_remove(xenstore, ERROR_ROOT, path);
}

static int publish_disk(struct xenstore *xenstore, void *arg)
{
	const struct publication *p = arg;
	const struct number_node geometry[] = {
		{ "sectors", p->disk->sectors },
		{ "sector-size", p->disk->sector_size },
		{ "info", disk_info(p->nodes, p->disk) },
		{ "kthread-pid", p->pid },		/* where xentop looks for the statistics */
	};
	int error = write_numbers(xenstore, p->path, geometry, ARRAY_SIZE(geometry));

	if (!error)
		error = write_physical_sector_size(xenstore, p);
	if (!error)
		error = write_discard(xenstore, p);
	if (!error)
		error = remove_errors(xenstore, p->path);
	return error ? error : write_state(xenstore, p);
}

static int publish_tapdisk(struct xenstore *xenstore, void *arg)
{
	const struct publication *p = arg;
	int error;

	if (xenbus_read_state(xenstore, p->path) != p->nodes->state)
		return -ESTALE;
	error = xenstore_write(xenstore, p->path, "pid", "%d", p->pid);
	return error ? error : xenstore_write(xenstore, p->path, "physical-device-path", NBD_SOCKET_FORMAT, tapctl_run_dir(),
					      p->pid, p->nodes->minor);
}

static int publish_state(struct xenstore *xenstore, void *arg)
{
	return write_state(xenstore, arg);
}

static int publish_error(struct xenstore *xenstore, void *arg)
{
	const struct publication *p = arg;
	char error_path[XENSTORE_PATH_MAX];
	int error;

	/* the device may have been removed meanwhile: a node created now would never be removed */
	if (xenbus_read_state(xenstore, p->path) == XENBUS_GONE)
		return -ESTALE;
	error = xenstore_write(xenstore, p->path, "error", "%s", p->text);
	if (!error)
		error = xenstore_write(xenstore, p->path, "hotplug-error", "%s", p->text);
	if (error || snprintf(error_path, sizeof(error_path), ERROR_ROOT "/%s", p->path) >= (int)sizeof(error_path))
		return error;
	return xenstore_write(xenstore, error_path, "error", "%d %s", -p->error, p->text);
}

int nodes_publish_features(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
			   unsigned max_queues)
{
	struct publication publication = {
		.path = path, .nodes = nodes, .state = XENBUS_INIT_WAIT, .max_queues = max_queues,
	};

	return xenstore_transact(xenstore, publish_features, &publication);
}

int nodes_publish_disk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes,
		       const struct disk_geometry *disk, int pid)
{
	struct publication publication = {
		.path = path, .nodes = nodes, .state = XENBUS_CONNECTED, .disk = disk, .pid = pid,
	};

	return xenstore_transact(xenstore, publish_disk, &publication);
}

int nodes_publish_tapdisk(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, int pid)
{
	struct publication publication = { .path = path, .nodes = nodes, .pid = pid };

	return xenstore_transact(xenstore, publish_tapdisk, &publication);
}

int nodes_publish_state(struct xenstore *xenstore, const char *path, const struct device_nodes *nodes, enum xenbus state)
{
	struct publication publication = { .path = path, .nodes = nodes, .state = state };

	return xenstore_transact(xenstore, publish_state, &publication);
}

int nodes_publish_error(struct xenstore *xenstore, const char *path, int error, const char *text)
{
	struct publication publication = { .path = path, .error = error, .text = text };

	return xenstore_transact(xenstore, publish_error, &publication);
}

void nodes_forget_error(struct xenstore *xenstore, const char *path)
{
	/* ignore errors: the next device at this path removes it when it connects */
	xenstore_remove(xenstore, ERROR_ROOT, path);
}

/* ---- the disk object of docs/protocol.md ---- */

static int number_from_json(const json_t *disk, const char *name, uint64_t max, bool required, uint64_t *value)
{
	const json_t *number = json_object_get(disk, name);

	*value = 0;
	if (!number && !required)
		return 0;
	if (!json_is_integer(number) || json_integer_value(number) < 0 || (uint64_t)json_integer_value(number) > max)
		return -EINVAL;
	*value = json_integer_value(number);
	return 0;
}

int disk_geometry_from_json(const json_t *disk, struct disk_geometry *geometry)
{
	uint64_t sectors, sector_size, physical, granularity, alignment;

	memset(geometry, 0, sizeof(*geometry));
	if (number_from_json(disk, "sectors", INT64_MAX, true, &sectors) ||
	    number_from_json(disk, "sector_size", 65536, true, &sector_size) || !sector_size ||
	    number_from_json(disk, "physical_sector_size", UINT32_MAX, false, &physical) ||
	    number_from_json(disk, "discard_granularity", UINT32_MAX, false, &granularity) ||
	    number_from_json(disk, "discard_alignment", UINT32_MAX, false, &alignment))
		return -EINVAL;
	geometry->sectors = sectors;
	geometry->sector_size = (unsigned)sector_size;
	geometry->physical_sector_size = (unsigned)physical;
	geometry->read_only = json_is_true(json_object_get(disk, "read_only"));
	geometry->discard = json_is_true(json_object_get(disk, "discard"));
	geometry->discard_granularity = (unsigned)granularity;
	geometry->discard_alignment = (unsigned)alignment;
	return 0;
}
