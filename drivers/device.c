/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.c - read a block device's properties from sysfs; is it local?
 *
 * Why local matters: a request that goes out through a network stack can be
 * answered by the peer (a duplicate, a failover path) while a copy of the
 * packet still waits to be retransmitted from the page of the write. If the
 * page is a guest's, the guest has already got it back. A disk controller's
 * DMA has ended when it reports completion. So the answer is yes only for
 * devices known to be local, down to the last device of a stack, and no for
 * everything else (nbd, rbd, drbd, iSCSI, NVMe over fabrics, filesystems
 * without a device). Fibre channel counts as network: software FCoE looks
 * the same and sends from the page. So does a SCSI host that passes commands
 * on to another machine (SRP) or another device (tcm_loop).
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "array.h"
#include "device.h"
#include "path.h"

/* Stacks of devices are a few levels deep; this ends a loop. */
#define MAX_LEVELS 16

const char *device_sysfs = "/sys";

/* /sys/devices/.../block/NAME; false when sysfs does not know the device. */
static bool device_directory(dev_t device, char *path)
{
	char link[PATH_MAX];

	if (snprintf(link, sizeof(link), "%s/dev/block/%u:%u", device_sysfs, major(device), minor(device)) >=
	    (int)sizeof(link))
		return false;
	return realpath(link, path) != NULL;
}

/* First line of @directory/@name. */
static bool read_line(const char *directory, const char *name, char *line, size_t size)
{
	char path[PATH_MAX + 64];
	FILE *file;
	bool good;

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return false;
	file = fopen(path, "re");
	if (!file)
		return false;
	good = fgets(line, (int)size, file) != NULL;
	fclose(file);
	if (good)
		line[strcspn(line, "\n")] = '\0';
	return good;
}

static bool is_partition(const char *directory)
{
	char line[32];

	return read_line(directory, "partition", line, sizeof(line));
}

static void to_parent(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		*slash = '\0';
}

uint64_t device_attribute(dev_t device, const char *name, uint64_t fallback)
{
	char directory[PATH_MAX], line[64], *end;
	unsigned long long value;

	if (!device_directory(device, directory))
		return fallback;
	if (!read_line(directory, name, line, sizeof(line))) {
		if (!is_partition(directory))
			return fallback;
		to_parent(directory);
		if (!read_line(directory, name, line, sizeof(line)))
			return fallback;
	}
	errno = 0;
	value = strtoull(line, &end, 10);
	return errno || end == line || *end ? fallback : value;
}

static bool is_local(dev_t device, unsigned level);

static bool parse_device(const char *text, dev_t *device)
{
	unsigned major_number, minor_number;

	if (sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
		return false;
	*device = makedev(major_number, minor_number);
	return true;
}

/* Device mapper and md: local when there are devices below, and all of them are local. */
static bool slaves_are_local(const char *directory, unsigned level)
{
	char path[PATH_MAX + 64], name[300], line[64];
	struct dirent *entry;
	bool local = true;
	unsigned count = 0;
	dev_t device;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/slaves", directory);
	dir = opendir(path);
	if (!dir)
		return false;
	while (local && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/dev", entry->d_name);
		local = read_line(path, name, line, sizeof(line)) && parse_device(line, &device) &&
			is_local(device, level + 1);
		count++;
	}
	closedir(dir);
	return local && count;
}

static bool loop_is_local(const char *directory, unsigned level)
{
	char path[PATH_MAX];
	struct statfs fs;
	struct stat st;

	/* A path that cannot be resolved here (deleted, another mount namespace) is not known to be local. */
	if (!read_line(directory, "loop/backing_file", path, sizeof(path)) || path_stat(path, &st) || path_statfs(path, &fs))
		return false;
	/* FUSE may be on a local device and still keep pages. */
	if (!S_ISBLK(st.st_mode) && fs.f_type == FUSE_SUPER_MAGIC)
		return false;
	return is_local(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev, level + 1);
}

/* A multipath head has no transport of its own and its paths may change, so it does not count as local. */
static bool nvme_is_local(const char *directory)
{
	char transport[32];

	return read_line(directory, "device/transport", transport, sizeof(transport)) && !strcmp(transport, "pcie");
}

/* The driver of a SCSI disk's host, from /sys/devices/.../hostN/.../block/NAME. */
static bool scsi_host_driver(const char *directory, char *driver, size_t size)
{
	char path[PATH_MAX], name[64];
	unsigned number;
	char *host;

	snprintf(path, sizeof(path), "%s", directory);
	for (host = strstr(path, "/host"); host; host = strstr(host + 1, "/host")) {
		if (sscanf(host, "/host%u/", &number) != 1)
			continue;
		host[strcspn(host + 1, "/") + 1] = '\0';
		snprintf(name, sizeof(name), "scsi_host/host%u/proc_name", number);
		return read_line(path, name, driver, size);
	}
	return false;
}

/* iSCSI disks are below a session, fibre channel's below a remote port; for others only the host's driver tells. */
static bool scsi_is_local(const char *directory)
{
	char driver[64];

	if (strstr(directory, "/session") || strstr(directory, "/rport-"))
		return false;
	return scsi_host_driver(directory, driver, sizeof(driver)) && strcmp(driver, "ib_srp") &&
	       strcmp(driver, "tcm_loopback");
}

static bool starts_with(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

static bool is_local(dev_t device, unsigned level)
{
	static const char *const local[] = { "vd", "xvd", "mmcblk", "ram", "zram", "pmem", "hd" };
	char directory[PATH_MAX];
	const char *name;
	unsigned i;

	if (level > MAX_LEVELS || !device_directory(device, directory))
		return false;
	if (is_partition(directory))
		to_parent(directory);
	name = strrchr(directory, '/') + 1;
	if (starts_with(name, "dm-") || starts_with(name, "md"))
		return slaves_are_local(directory, level);
	if (starts_with(name, "loop"))
		return loop_is_local(directory, level);
	if (starts_with(name, "nvme"))
		return nvme_is_local(directory);
	if (starts_with(name, "sd"))
		return scsi_is_local(directory);
	for (i = 0; i < ARRAY_SIZE(local); i++) {
		if (starts_with(name, local[i]))
			return true;
	}
	return false;
}

bool device_is_local(dev_t device)
{
	return is_local(device, 0);
}

static bool disk_identity(const char *directory, char *line, size_t size)
{
	static const char *const names[] = { "dm/uuid", "md/uuid", "wwid", "device/wwid", "serial" };
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (read_line(directory, names[i], line, size) && line[strspn(line, " ")])
			return true;
	}
	return false;
}

bool device_identity(dev_t device, char id[DEVICE_IDENTITY_MAX])
{
	char directory[PATH_MAX], line[DEVICE_IDENTITY_MAX - 32], partition[16] = "";
	char *at;

	if (!device_directory(device, directory))
		return false;
	if (read_line(directory, "partition", partition, sizeof(partition)))
		to_parent(directory);
	if (!disk_identity(directory, line, sizeof(line)))
		return false;
	snprintf(id, DEVICE_IDENTITY_MAX, "%s%s%s", line, *partition ? "-part" : "", partition);
	for (at = id; *at; at++) {
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", *at) || (at == id && *at == '.'))
			*at = '_';
	}
	return true;
}
