/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * disk.c - a disk's nodes as a toolstack writes them, and what the tapdisk of
 * it has of Xen's. In dom0 the frontend is in a place of our own in xenstore,
 * where the kernel does not look for devices.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "frontend.h"
#include "protocol.h"
#include "tapctl.h"

#define FIRST_DEVID	51712u		/* xvda; the next is 16 further */
#define FRONTENDS	"/local/domain/0/test-frontends"
#define BACKENDS	"/local/domain/0/backend/vbd3/0"

void disk_parse(struct disk *disk, unsigned number, const char *argument)
{
	char *end;
	int fd;

	disk->devid = FIRST_DEVID + 16 * number;
	disk->pid = strtol(argument, &end, 10);
	disk->minor = *end == ':' ? strtol(end + 1, &end, 10) : -1;
	if (*end != ':')
		fail("'%s' is not PID:MINOR:IMAGE", argument);
	disk->image = end + 1;
	snprintf(disk->frontend, sizeof(disk->frontend), FRONTENDS "/%u", disk->devid);
	snprintf(disk->backend, sizeof(disk->backend), BACKENDS "/%u", disk->devid);
	fd = open(disk->image, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail("%s: %m", disk->image);
	disk->extents = lseek(fd, 0, SEEK_END) / (EXTENT_BLOCKS * PAGE_SIZE);
	if (disk->extents <= SLOTS || disk->extents > MAX_EXTENTS)
		fail("%s: not of a size that the model has", disk->image);
	close(fd);
}

void disk_find(struct disk *disk, const char *frontend)
{
	char *backend = disk_read_node(frontend, "backend");

	if (!backend)
		fail("%s/backend: %m", frontend);
	snprintf(disk->frontend, sizeof(disk->frontend), "%s", frontend);
	snprintf(disk->backend, sizeof(disk->backend), "%s", backend);
	disk->devid = disk_read_number(frontend, "virtual-device");
	free(backend);
}

/* ---- nodes ---- */

void disk_write_node(const char *directory, const char *name, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (!xs_write(store, XBT_NULL, path, value, strlen(value)))
		fail("cannot write %s: %m", path);
}

char *disk_read_node(const char *directory, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return xs_read(store, XBT_NULL, path, NULL);
}

unsigned disk_read_number(const char *directory, const char *name)
{
	char *value = disk_read_node(directory, name);
	unsigned number = value ? strtoul(value, NULL, 10) : 0;

	free(value);
	return number;
}

void disk_add_frontend(struct disk *disk)
{
	disk_write_node(disk->frontend, "backend", disk->backend);
	disk_write_node(disk->frontend, "backend-id", "0");
	disk_write_node(disk->frontend, "state", "1");
}

void disk_remove_frontend(struct disk *disk)
{
	if (!xs_rm(store, XBT_NULL, disk->frontend))
		fail("cannot remove %s: %m", disk->frontend);
}

void disk_add(struct disk *disk)
{
	char pid[16], minor[16], params[256], path[256];
	const char *const nodes[][2] = {
		{ "frontend", disk->frontend }, { "frontend-id", "0" }, { "params", params },
		{ "online", "1" }, { "removable", "0" }, { "mode", "w" }, { "device-type", "disk" },
		{ "type", "vbd3" }, { "pid", pid }, { "minor", minor }, { "physical-device-path", path },
		{ "hotplug-status", "connected" }, { "state", "1" },
	};

	snprintf(pid, sizeof(pid), "%d", disk->pid);
	snprintf(minor, sizeof(minor), "%d", disk->minor);
	snprintf(params, sizeof(params), "aio:%s", disk->image);
	snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, tapctl_run_dir(), disk->pid, disk->minor);
	disk_add_frontend(disk);
	for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++)
		disk_write_node(disk->backend, nodes[i][0], nodes[i][1]);
	disk_wait_backend(disk, BLKFRONT_INIT_WAIT);
}

static void remove_if_empty(const char *directory)
{
	unsigned count;
	char **names = xs_directory(store, XBT_NULL, directory, &count);

	if (names && !count)
		xs_rm(store, XBT_NULL, directory);
	free(names);
}

void disk_remove(struct disk *disk)
{
	disk_write_node(disk->backend, "online", "0");
	disk_write_node(disk->backend, "state", "5");
	disk_wait_backend(disk, BLKFRONT_CLOSED);
	disk_remove_frontend(disk);
	if (!xs_rm(store, XBT_NULL, disk->backend))
		fail("cannot remove %s: %m", disk->backend);
	remove_if_empty(FRONTENDS);
	remove_if_empty(BACKENDS);
}

/* ---- waiting ---- */

/* A deadline for polling states without an event: tapdisk's descriptors, and nodes between two events. */
struct deadline {
	struct timespec start;
};

static struct deadline deadline_begin(void)
{
	struct deadline deadline;

	clock_gettime(CLOCK_MONOTONIC, &deadline.start);
	return deadline;
}

static bool deadline_left(const struct deadline *deadline)
{
	struct timespec now;

	poll(NULL, 0, 10);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - deadline->start.tv_sec < TIMEOUT_MS / 1000;
}

void disk_wait_backend(struct disk *disk, enum blkfront_state state)
{
	struct deadline deadline = deadline_begin();
	unsigned now;

	while ((now = disk_read_number(disk->backend, "state")) != state)
		if (!deadline_left(&deadline))
			fail("%s is in state %u, expected %u", disk->backend, now, state);
}

static bool node_has(const char *directory, const char *name, const char *text)
{
	char *value = disk_read_node(directory, name);
	bool has = value && strstr(value, text);

	free(value);
	return has;
}

void disk_wait_error(struct disk *disk, const char *text)
{
	struct deadline deadline = deadline_begin();
	char *value;

	while (!node_has(disk->backend, "error", text) || !node_has(disk->backend, "hotplug-error", text)) {
		if (deadline_left(&deadline))
			continue;
		value = disk_read_node(disk->backend, "error");
		fail("error node is '%s', expected '%s'", value ? value : "(none)", text);
	}
}

void disk_no_error(struct disk *disk)
{
	if (node_has(disk->backend, "error", "") || node_has(disk->backend, "hotplug-error", ""))
		fail("%s has an error of the past", disk->backend);
}

/* ---- tapdisk ---- */

static unsigned count_descriptors(int pid)
{
	char directory[32], path[300], target[64];
	struct dirent *entry;
	unsigned count = 0;
	DIR *dir;

	snprintf(directory, sizeof(directory), "/proc/%d/fd", pid);
	dir = opendir(directory);
	if (!dir)
		fail("tapdisk %d has died", pid);
	while ((entry = readdir(dir))) {
		ssize_t length;

		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = '\0';
		count += !strncmp(target, "/dev/xen/", 9);
	}
	closedir(dir);
	return count;
}

static unsigned count_mappings(int pid)
{
	char path[32], line[512];
	unsigned count = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		fail("tapdisk %d has died", pid);
	while (fgets(line, sizeof(line), maps))
		count += strstr(line, "/dev/xen/gntdev") != NULL;
	fclose(maps);
	return count;
}

struct resources disk_resources(const struct disk *disk)
{
	return (struct resources){ count_descriptors(disk->pid), count_mappings(disk->pid) };
}

void disk_same_resources(const struct disk *disk, struct resources before)
{
	struct deadline deadline = deadline_begin();
	struct resources now;

	for (;;) {
		now = disk_resources(disk);
		if (now.descriptors == before.descriptors && now.mappings == before.mappings)
			return;
		if (!deadline_left(&deadline))
			fail("tapdisk %d has %u descriptors and %u mappings of Xen's, expected %u and %u", disk->pid,
			     now.descriptors, now.mappings, before.descriptors, before.mappings);
	}
}

/* ---- frontends ---- */

static struct blkfront_options complete(struct disk *disk, struct blkfront_options shape)
{
	shape.transport = &blkfront_xen;
	shape.xen_frontend = disk->frontend;
	shape.devid = disk->devid;
	if (!shape.data_pages)
		shape.data_pages = SLOTS * EXTENT_BLOCKS;
	return shape;
}

struct blkfront *disk_connect(struct disk *disk, struct blkfront_options shape)
{
	struct blkfront_options options = complete(disk, shape);
	struct blkfront *front;
	char text[256];

	if (blkfront_connect(&front, &options, text, sizeof(text)))
		fail("%s", text);
	return front;
}

struct blkfront *disk_prepare(struct disk *disk, struct blkfront_options shape)
{
	struct blkfront_options options = complete(disk, shape);
	struct blkfront *front;
	char text[256];

	if (blkfront_xen_prepare(&front, &options, text, sizeof(text)))
		fail("%s", text);
	return front;
}

void disk_disconnect(struct disk *disk, struct blkfront *front)
{
	blkfront_disconnect(front);
	disk_wait_backend(disk, BLKFRONT_CLOSED);
	disk_write_node(disk->frontend, "state", "1");
	disk_wait_backend(disk, BLKFRONT_INIT_WAIT);
}

/* ---- data ---- */

void block_fill(const struct disk *disk, unsigned block, uint32_t version, void *page)
{
	uint64_t *words = page;

	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
		words[i] = version ? ((uint64_t)disk->devid << 48 | (uint64_t)block << 32 | version) *
				     0x9e3779b97f4a7c15ull + i : 0;
}

void disk_verify_image(const struct disk *disk)
{
	static uint64_t expected[PAGE_SIZE / 8], found[PAGE_SIZE / 8];
	int fd = open(disk->image, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("%s: %m", disk->image);
	for (unsigned block = 0; block < disk->extents * EXTENT_BLOCKS; block++) {
		block_fill(disk, block, disk->versions[block], expected);
		if (pread(fd, found, PAGE_SIZE, (off_t)block * PAGE_SIZE) != PAGE_SIZE)
			fail("%s: cannot read block %u", disk->image, block);
		if (memcmp(expected, found, PAGE_SIZE))
			fail("%s: block %u is not version %u", disk->image, block, disk->versions[block]);
	}
	close(fd);
}
