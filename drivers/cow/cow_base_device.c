/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_base_device.c - block devices as bases.
 *
 * The writer of a store may have forged the name of its base, which may be the
 * control domain's own disk. So a store's word alone is not enough for a device.
 * It is accepted if one of these, which only root can write, says so:
 *
 *   the list of image directories, if there is one (image_directories.h): it decides alone;
 *   the device's overlay record, if it leads to this very store (overlay.h);
 *   a record in the state directory, bases/UUID-DEVICE, for the store with this uuid. The
 *   tools make it when their user names the device as the base of the store. It stays.
 *
 * Invariants:
 * 1. The device that is asked about is the one that was opened, not what a name leads to.
 * 2. It is known by a name that it keeps (device_identity()); only one that has none is known by its number.
 * 3. A record is durable before its store has the base, or the command that gives it to the store succeeds.
 *
 * A uuid is as good as a store's path here, and survives a copy: a forger who
 * knows the uuid of another store gets at that store's base, and no other device.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "device.h"
#include "hex.h"
#include "image_directories.h"
#include "overlay.h"
#include "path.h"

/* The name of a record says everything: the file is empty. 0, or -ENAMETOOLONG. */
static int record_path(const uint8_t uuid[16], dev_t device, char record[PATH_MAX])
{
	char hex[2 * 16 + 1], id[DEVICE_IDENTITY_MAX];

	hex_print(hex, uuid, 16);
	if (!device_identity(device, id))
		snprintf(id, sizeof(id), "%u:%u", major(device), minor(device));
	return snprintf(record, PATH_MAX, "%s/bases/%s-%s", path_state_dir(), hex, id) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_recorded(const uint8_t uuid[16], dev_t device)
{
	char record[PATH_MAX];
	struct stat st;

	return !record_path(uuid, device, record) && !path_stat(record, &st);
}

bool cow_base_device_allowed(const char *store, const uint8_t uuid[16], dev_t device)
{
	char *const *listed;

	/* with a list, whoever reads the store's superblock has checked that the name is in it */
	if (!image_directories(&listed, NULL) && listed)
		return true;
	return overlay_leads_to(device, store, uuid) || is_recorded(uuid, device);
}

int cow_base_check_device(struct cow_device *store, const char *path, int fd, struct error_text *error)
{
	struct cow_superblock sb;
	bool read_only = true;
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return 0;
	ret = cow_superblock_read(store, &sb, &read_only, error);
	if (ret || cow_base_device_allowed(store->name, sb.uuid, st.st_rdev))
		return ret;
	return error_set(error, -EPERM, "%s: a block device, which only the store %s says is its base: if that is right, "
			 "run tap-img rebase -u -F raw -b %s %s", path, store->name, path, store->name);
}

static int record_write(const char *record)
{
	int fd = path_open(record, O_WRONLY | O_CREAT, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return path_sync_name(record);
}

int cow_base_confirm(struct cow_device *store, enum cow_base_kind kind, const struct cow_base_fields *fields,
		     struct error_text *error)
{
	char record[PATH_MAX];
	struct cow_superblock sb;
	bool read_only = true;
	const char *path;
	struct stat st;
	int ret;

	if (kind != COW_BASE_RAW)
		return 0;
	path = strchr(fields->target, ':') + 1;
	if (path_stat(path, &st))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return 0;
	ret = cow_superblock_read(store, &sb, &read_only, error);
	if (!ret)
		ret = path_make_state_dir("bases", error);
	if (ret)
		return ret;
	ret = record_path(sb.uuid, st.st_rdev, record);
	if (!ret)
		ret = record_write(record);
	return ret ? error_set(error, ret, "%s: cannot record that %s is its base: %s: %s", store->name, path, record,
			       strerror(-ret)) : 0;
}
