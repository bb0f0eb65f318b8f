/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_peek.c - identify a store that another process has open.
 *
 * Its superblock is read while that process uses it. A store keeps its uuid and
 * sector size for life, and one of the two copies is whole at every moment;
 * nothing else that is read here is trusted. The base is only a hint where to
 * look.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "path.h"

struct peek {
	struct cow_device device;
	int fd;
};

static int peek_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	const struct peek *peek = (const struct peek *)device;
	char *next = data;

	while (length) {
		ssize_t got = pread(peek->fd, next, length, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO;
		next += got;
		offset += (size_t)got;
		length -= (size_t)got;
	}
	return 0;
}

static uint64_t peek_size(struct cow_device *device)
{
	off_t end = lseek(((const struct peek *)device)->fd, 0, SEEK_END);

	return end < 0 ? 0 : (uint64_t)end;
}

static const struct cow_device_ops peek_ops = { .read = peek_read, .size = peek_size };

static int superblock_peek(const char *path, struct cow_superblock *sb, struct error_text *error)
{
	struct peek peek = { { &peek_ops, path }, path_open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0) };
	struct cow_superblock *read;
	int ret;

	if (peek.fd < 0)
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	read = aligned_alloc(COW_BLOCK, sizeof(*read));
	ret = read ? cow_superblock_peek(&peek.device, read, error) : error_set(error, -ENOMEM, "%s: out of memory", path);
	if (!ret)
		*sb = *read;
	free(read);
	close(peek.fd);
	return ret;
}

int cow_base_describe_peek(struct cow_base_fields *fields, const char *path, const struct snapshot_info *snapshot,
			   struct error_text *error)
{
	struct cow_superblock sb;
	int ret = superblock_peek(path, &sb, error);

	memset(fields, 0, sizeof(*fields));
	if (ret)
		return ret;
	memcpy(fields->uuid, sb.uuid, sizeof(fields->uuid));
	fields->version = snapshot->id;
	fields->time = snapshot->time;
	fields->sectors = snapshot->sectors;
	if (snprintf(fields->target, sizeof(fields->target), "cow:%s@%s", path, snapshot->name) >= (int)COW_TARGET_MAX)
		return error_set(error, -ENAMETOOLONG, "%s@%s: too long for a base", path, snapshot->name);
	return 0;
}

int cow_sector_size_peek(const char *path, unsigned *sector_size, struct error_text *error)
{
	struct cow_superblock sb;
	int ret = superblock_peek(path, &sb, error);

	if (!ret)
		*sector_size = sb.sector_size;
	return ret;
}

int cow_base_probe_peek(const char *path, uint8_t *uuid, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error)
{
	struct cow_superblock sb;
	int ret = superblock_peek(path, &sb, error);

	if (ret)
		return ret;
	if (uuid)
		memcpy(uuid, sb.uuid, sizeof(sb.uuid));
	*kind = sb.base_kind;
	*fields = sb.base;
	return 0;
}

char *cow_base_peek(const char *path)
{
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	const char *name;

	if (cow_base_probe_peek(path, NULL, &kind, &fields, NULL) || kind != COW_BASE_COW)
		return NULL;
	return cow_target_split(fields.target, &name);
}
