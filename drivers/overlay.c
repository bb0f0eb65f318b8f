/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.c - the record beside a raw image that names the store of its disk
 * (overlay.h). It is a text of four lines:
 *
 *   tapsnap overlay 1
 *   base PATH
 *   store PATH
 *   uuid HEX
 *
 * Invariants:
 * 1. The record is complete when it gets its name, and durable before anything
 *    is written to the store. It is removed after the store has recorded,
 *    durably, that the image has all data, and before the image is written.
 * 2. Only the store itself opens an image that has a record
 *    (driver_options.as_is). The record, the store that it names and the base
 *    that the store names must match; otherwise the open is refused.
 * 3. Reading a record takes no lock: the store may be in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aio.h"
#include "cow_base.h"
#include "device.h"
#include "hex.h"
#include "overlay.h"
#include "path.h"
#include "protocol.h"

#define HEADER "tapsnap overlay 1\n"
#define RECORD_MAX (2 * PATH_MAX + 128)
#define TYPE_RAW "aio:"

/* 0, or -errno: the device can have no record. */
static int device_record_path(dev_t device, char record[PATH_MAX])
{
	char id[DEVICE_IDENTITY_MAX];

	if (!device_identity(device, id))
		return -ENOTSUP;
	return snprintf(record, PATH_MAX, "%s/overlays/%s", path_state_dir(), id) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The path of @path's record; in @real the image's path. 0, or -errno: the image can have no record. */
static int record_path(const char *path, char real[PATH_MAX], char record[PATH_MAX])
{
	struct stat st;

	if (!path_real(path, real) || path_stat(real, &st))
		return -errno;
	if (S_ISBLK(st.st_mode))
		return device_record_path(st.st_rdev, record);
	return snprintf(record, PATH_MAX, "%s%s", real, OVERLAY_SUFFIX) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Gets the rest of a line of @text that begins with @key; moves *@text to the next line. */
static bool take_line(char **text, const char *key, char *value, size_t size)
{
	char *end = strchr(*text, '\n');
	size_t skip = strlen(key);

	if (!end || strncmp(*text, key, skip) || (size_t)(end - *text) - skip >= size || end == *text + skip)
		return false;
	memcpy(value, *text + skip, end - *text - skip);
	value[end - *text - skip] = '\0';
	*text = end + 1;
	return true;
}

static bool record_parse(char *text, struct overlay *overlay)
{
	char hex[40];

	if (strncmp(text, HEADER, strlen(HEADER)))
		return false;
	text += strlen(HEADER);
	return take_line(&text, "base ", overlay->base, sizeof(overlay->base)) &&
		take_line(&text, "store ", overlay->store, sizeof(overlay->store)) &&
		take_line(&text, "uuid ", hex, sizeof(hex)) && !*text && overlay->store[0] == '/' &&
		hex_parse(hex, overlay->uuid, sizeof(overlay->uuid));
}

/* 1, 0: there is no record, or -errno. */
static int record_read(const char *record, struct overlay *overlay, struct error_text *error)
{
	int fd = path_open(record, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0);
	char text[RECORD_MAX + 1];
	ssize_t length;

	if (fd < 0 && (errno == ENOENT || errno == ENAMETOOLONG))
		return 0;
	if (fd < 0)
		return error_set(error, -errno, "%s: the overlay record cannot be read: %s", record, strerror(errno));
	length = read(fd, text, RECORD_MAX);
	if (length < 0)
		length = -errno;
	close(fd);
	if (length < 0)
		return error_set(error, (int)length, "%s: the overlay record cannot be read: %s", record, strerror((int)-length));
	text[length] = '\0';
	if (strlen(text) != (size_t)length || !record_parse(text, overlay))
		return error_set(error, -EUCLEAN, "%s: the overlay record is damaged: restore it, or find the store whose base "
				 "is this image with tap-img info, and open that", record);
	return 1;
}


/* Checks that the store has the record's uuid, and is based on this image. */
static int store_check(const char *real, const char *record, struct overlay *overlay, struct error_text *error)
{
	struct error_text why = { "" };
	struct cow_base_fields base;
	enum cow_base_kind kind;
	uint8_t uuid[16];
	/* cppcheck-suppress uninitvar; only where it will be */
	const char *target = base.target;
	int ret = cow_base_probe_peek(overlay->store, uuid, &kind, &base, &why);

	if (ret)
		return error_set(error, ret, "%s: its disk is in a store that cannot be opened: %s: restore the store, or "
				 "remove %s to use the image as it was when the store was created", real, why.text, record);
	if (memcmp(uuid, overlay->uuid, sizeof(uuid)))
		return error_set(error, -ESTALE, "%s: its overlay record %s does not match the store at %s (different uuid): "
				 "restore the right store", real, record, overlay->store);
	if (kind != COW_BASE_RAW || strncmp(target, TYPE_RAW, strlen(TYPE_RAW)) ||
	    !path_same_image(real, target + strlen(TYPE_RAW)))
		return error_set(error, -ESTALE, "%s: its overlay record %s names the store %s, whose base is %s: if the image "
				 "was moved, move it back; if it is another image, remove the record", real,
				 record, overlay->store, target);
	overlay->finished = base.flags & COW_BASE_COMMITTED;
	return 1;
}

int overlay_find(const char *path, struct overlay *overlay, struct error_text *error)
{
	char real[PATH_MAX], record[PATH_MAX];
	int ret;

	memset(overlay, 0, sizeof(*overlay));
	if (record_path(path, real, record))
		return 0;	/* opening the image will report its problem */
	ret = record_read(record, overlay, error);
	return ret == 1 ? store_check(real, record, overlay, error) : ret;
}

bool overlay_leads_to(dev_t device, const char *store, const uint8_t uuid[16])
{
	char record[PATH_MAX];
	struct overlay overlay;

	return !device_record_path(device, record) && record_read(record, &overlay, NULL) == 1 &&
		!memcmp(overlay.uuid, uuid, sizeof(overlay.uuid)) && path_same_image(overlay.store, store);
}

int overlay_resolve(const char *path, bool read_only, struct overlay *overlay, struct error_text *error)
{
	int ret = overlay_find(path, overlay, error);

	if (ret != 1 || !overlay->finished)
		return ret;
	return read_only ? 0 : overlay_remove(path, error);
}

int overlay_refuse(const char *path, struct error_text *error)
{
	struct overlay overlay;
	int ret = overlay_resolve(path, true, &overlay, error);

	return ret == 1 ? error_set(error, -EBUSY, "%s: this disk has moved to the store %s: use that, or commit it with "
				    "tap-ctl commit", path, overlay.store) : ret;
}

int overlay_check(const char *path, struct error_text *error)
{
	char real[PATH_MAX], record[PATH_MAX];
	struct stat st;
	int ret = record_path(path, real, record);

	if (ret == -ENOTSUP)
		return error_set(error, ret, "%s: the device has no persistent name (device mapper uuid or wwid), so a later "
				 "open could not find its store", path);
	if (!ret && path_stat(real, &st))
		ret = -errno;
	if (ret)
		return error_set(error, ret, "%s: %s", path, strerror(-ret));
	if (S_ISREG(st.st_mode) && st.st_nlink > 1)
		return error_set(error, -EMLINK, "%s: has several hard links, and opening another one would bypass the store: "
				 "remove the others first", path);
	return 0;
}

int overlay_check_alone(const struct backend *backend, struct error_text *error)
{
	return file_check_parts(((const struct aio_disk *)backend->handle)->file, error);
}

static int record_write(const char *path, const struct overlay *overlay)
{
	char text[RECORD_MAX], uuid[2 * sizeof(overlay->uuid) + 1];
	int fd, length, ret = 0;

	/* never write to a file that another process has put there */
	path_remove(path);
	fd = path_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -errno;
	hex_print(uuid, overlay->uuid, sizeof(overlay->uuid));
	length = snprintf(text, sizeof(text), HEADER "base %s\nstore %s\nuuid %s\n", overlay->base, overlay->store, uuid);
	errno = 0;
	if (write(fd, text, length) != length || fsync(fd))
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

/* Makes the state directory's part, for records of devices. */
static int make_directories(const char *record, struct error_text *error)
{
	char directory[PATH_MAX];

	snprintf(directory, sizeof(directory), "%s/overlays", path_state_dir());
	return strncmp(record, directory, strlen(directory)) ? 0 : path_make_state_dir("overlays", error);
}

int overlay_write(const struct overlay *overlay, struct error_text *error)
{
	char real[PATH_MAX], record[PATH_MAX], fresh[PATH_MAX];
	int ret = record_path(overlay->base, real, record);

	if (!ret && (strchr(overlay->base, '\n') || strchr(overlay->store, '\n')))
		ret = -EINVAL;
	if (!ret && snprintf(fresh, sizeof(fresh), "%s.new", record) >= (int)sizeof(fresh))
		ret = -ENAMETOOLONG;
	if (!ret)
		ret = make_directories(record, error);
	if (ret)
		return error_set(error, ret, "%s: cannot have an overlay record: %s", overlay->base, strerror(-ret));
	ret = record_write(fresh, overlay);
	if (!ret && path_rename(fresh, record))
		ret = -errno;
	if (ret)
		path_remove(fresh);
	else if ((ret = path_sync_name(record))) {
		/* The record may not be durable, so remove it, durably if possible: the disk stays in the image. */
		path_remove(record);
		path_sync_name(record);
	}
	return ret ? error_set(error, ret, "%s: the overlay record cannot be written: %s", record, strerror(-ret)) : 0;
}

int overlay_remove(const char *path, struct error_text *error)
{
	char real[PATH_MAX], record[PATH_MAX];
	int ret = record_path(path, real, record);

	if (!ret && path_remove(record) && errno != ENOENT)
		ret = -errno;
	if (!ret)
		ret = path_sync_name(record);
	return ret ? error_set(error, ret, "%s: its overlay record cannot be removed: %s", path, strerror(-ret)) : 0;
}
