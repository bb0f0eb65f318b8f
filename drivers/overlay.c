/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.c - the record beside a raw image that says where its disk is
 * (overlay.h). It is a text of four lines:
 *
 *   tapsnap overlay 1
 *   base PATH
 *   store PATH
 *   uuid HEX
 *
 * Invariants:
 * 1. The record gets its name whole, and is durable, before anything is
 *    written to the store; it goes after the store has said, durably, that
 *    all of it is in the image, and before anything is written to that.
 * 2. Nobody opens an image that has a record, but for the store itself
 *    (driver_options.as_is). The record, the store that it names and the base
 *    that the store names have to fit together; what does not is refused.
 * 3. No lock is taken for looking: the store may be in use.
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
#include "overlay.h"
#include "path.h"
#include "protocol.h"

#define HEADER "tapsnap overlay 1\n"
#define RECORD_MAX (2 * PATH_MAX + 128)
#define TYPE_RAW "aio:"

/* Where the record of @path would be, and in @real what the image is called. 0, or -errno: it can have none. */
static int record_path(const char *path, char real[PATH_MAX], char record[PATH_MAX])
{
	char id[DEVICE_IDENTITY_MAX];
	struct stat st;
	int length;

	if (!path_real(path, real) || path_stat(real, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode))
		length = snprintf(record, PATH_MAX, "%s%s", real, OVERLAY_SUFFIX);
	else if (device_identity(st.st_rdev, id))
		length = snprintf(record, PATH_MAX, "%s/overlays/%s", path_state_dir(), id);
	else
		return -ENOTSUP;
	return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The rest of a line of @text that begins with @key; *@text goes to the next line. */
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

static bool parse_uuid(const char *hex, uint8_t uuid[16])
{
	unsigned byte;

	for (int i = 0; i < 16; i++) {
		if (strspn(hex + 2 * i, "0123456789abcdef") < 2 || sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return false;
		uuid[i] = (uint8_t)byte;
	}
	return !hex[32];
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
		parse_uuid(hex, overlay->uuid);
}

/* 1, 0: there is none, or -errno. */
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


/* The store is the one that the record means, and stands on this image. */
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
		return error_set(error, ret, "%s: its disk is in a store that cannot be opened: %s; bring it back, or remove %s "
				 "to go back to the image as it was when the store was made", real, why.text, record);
	if (memcmp(uuid, overlay->uuid, sizeof(uuid)))
		return error_set(error, -ESTALE, "%s: its overlay record %s means another store than the one at %s: bring the "
				 "right one back", real, record, overlay->store);
	if (kind != COW_BASE_RAW || strncmp(target, TYPE_RAW, strlen(TYPE_RAW)) ||
	    !path_same_image(real, target + strlen(TYPE_RAW)))
		return error_set(error, -ESTALE, "%s: its overlay record %s names the store %s, which stands on %s: if the image was "
				 "moved, move it back; if it is another image, remove the record", real,
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
		return 0;	/* what is wrong with the image its opening will say */
	ret = record_read(record, overlay, error);
	return ret == 1 ? store_check(real, record, overlay, error) : ret;
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

	return ret == 1 ? error_set(error, -EBUSY, "%s: this disk is in the store %s now: use that, or bring it back with "
				    "tap-ctl commit", path, overlay.store) : ret;
}

int overlay_check(const char *path, struct error_text *error)
{
	char real[PATH_MAX], record[PATH_MAX];
	struct stat st;
	int ret = record_path(path, real, record);

	if (ret == -ENOTSUP)
		return error_set(error, ret, "%s: a device without a lasting name (device mapper uuid or wwid), by which a later "
				 "open would learn where its disk is", path);
	if (!ret && path_stat(real, &st))
		ret = -errno;
	if (ret)
		return error_set(error, ret, "%s: %s", path, strerror(-ret));
	if (S_ISREG(st.st_mode) && st.st_nlink > 1)
		return error_set(error, -EMLINK, "%s: has several names (hard links), and would be opened as it is by the others: "
				 "remove them first", path);
	return 0;
}

int overlay_check_alone(const struct backend *backend, struct error_text *error)
{
	return file_check_parts(((const struct aio_disk *)backend->handle)->file, error);
}

static int record_write(const char *path, const struct overlay *overlay)
{
	char text[RECORD_MAX];
	int fd, length, ret = 0;

	/* what somebody has put there must not be written */
	path_remove(path);
	fd = path_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -errno;
	length = snprintf(text, sizeof(text), HEADER "base %s\nstore %s\nuuid ", overlay->base, overlay->store);
	for (int i = 0; i < 16; i++)
		length += snprintf(text + length, sizeof(text) - length, "%02x", overlay->uuid[i]);
	text[length++] = '\n';
	errno = 0;
	if (write(fd, text, length) != length || fsync(fd))
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

/* Of the state directory, for the records of devices. */
static int make_directories(const char *record)
{
	char directory[PATH_MAX];
	int ret = 0;

	snprintf(directory, sizeof(directory), "%s/overlays", path_state_dir());
	if (strncmp(record, directory, strlen(directory)))
		return 0;
	if ((path_mkdir(path_state_dir(), 0700) && errno != EEXIST) || (path_mkdir(directory, 0700) && errno != EEXIST))
		return -errno;
	ret = path_sync_name(path_state_dir());
	return ret ? ret : path_sync_name(directory);
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
		ret = make_directories(record);
	if (ret)
		return error_set(error, ret, "%s: can have no overlay record: %s", overlay->base, strerror(-ret));
	ret = record_write(fresh, overlay);
	if (!ret && path_rename(fresh, record))
		ret = -errno;
	if (ret)
		path_remove(fresh);
	else if ((ret = path_sync_name(record))) {
		/* It may not last: then it must not count. Nor come back, as far as we can see to that: the image goes on. */
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
