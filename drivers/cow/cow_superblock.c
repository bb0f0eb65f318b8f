/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_superblock.c - the two copies of the superblock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

static uint32_t superblock_crc(const struct cow_superblock *sb)
{
	struct cow_superblock copy = *sb;

	copy.crc = 0;
	return cow_crc(0, &copy, sizeof(copy));
}

static uint64_t copy_offset(uint64_t sequence)
{
	return sequence % 2 ? COW_COPY_BLOCK << COW_SHIFT : 0;
}

/* A base in a store has a number there; only a raw one can be written to. */
static bool base_sane(const struct cow_superblock *sb)
{
	const struct cow_base_fields *base = &sb->base;

	if (sb->base_kind == COW_BASE_NONE)
		return !base->target[0] && !base->sectors && !base->version && !base->flags;
	return base->target[0] && !base->target[COW_TARGET_MAX - 1] && base->sectors <= COW_MAX_BLOCKS * COW_SECTORS &&
		(sb->base_kind == COW_BASE_COW) == !!base->version && !(base->flags & ~(COW_BASE_COMMITTING | COW_BASE_COMMITTED)) &&
		!(base->flags && sb->base_kind != COW_BASE_RAW);
}

/* The numbers that everything else is reckoned from. */
static bool superblock_sane(const struct cow_superblock *sb)
{
	return sb->log_start == COW_LOG_START && sb->log_blocks >= COW_LOG_MIN_BLOCKS &&
		sb->log_blocks <= COW_LOG_MAX_BLOCKS && sb->log_tail < sb->log_blocks << COW_SHIFT &&
		!(sb->log_tail % COW_BLOCK) && sb->store_blocks <= COW_MAX_BLOCKS &&
		sb->store_blocks > sb->log_start + sb->log_blocks && sb->sequence < UINT64_MAX - 4 &&
		sb->log_sequence < 1ull << 62 && (sb->sector_size == 512 || sb->sector_size == 4096) && sb->generation &&
		sb->generation <= COW_MAX_GENERATION && sb->active && sb->active < sb->next_version &&
		sb->versions_count && sb->versions_count <= COW_MAX_VERSIONS && sb->base_kind <= COW_BASE_COW &&
		base_sane(sb);
}

/* 0 when a copy stands there that can be trusted; -EUCLEAN otherwise. */
static int copy_read(struct cow_device *device, unsigned copy, struct cow_superblock *sb)
{
	int ret = device->ops->read(device, sb, copy_offset(copy), sizeof(*sb));

	if (ret)
		return ret;
	if (memcmp(sb->magic, COW_MAGIC, sizeof(sb->magic)) || sb->crc != superblock_crc(sb))
		return -EUCLEAN;
	return 0;
}

static int superblock_check(struct cow_device *device, const struct cow_superblock *sb, bool *read_only,
			    struct error_text *error)
{
	uint64_t blocks = device->ops->size(device) >> COW_SHIFT;

	if (sb->version != COW_FORMAT_VERSION)
		return error_set(error, -ENOTSUP, "%s: a store of format version %u: this program knows version %u",
				 device->name, sb->version, COW_FORMAT_VERSION);
	if (sb->incompatible)
		return error_set(error, -ENOTSUP, "%s: the store needs features (bits %#llx) that this program does not have",
				 device->name, (unsigned long long)sb->incompatible);
	if (sb->read_only_compatible && !*read_only)
		return error_set(error, -EROFS, "%s: the store has features (bits %#llx) with which this program can only "
				 "read it: open it read-only", device->name, (unsigned long long)sb->read_only_compatible);
	if (!superblock_sane(sb))
		return error_set(error, -EUCLEAN, "%s: damaged: its superblock makes no sense", device->name);
	if (sb->store_blocks > blocks)
		return error_set(error, -EUCLEAN, "%s: cut short: the store has %llu bytes and should have %llu",
				 device->name, (unsigned long long)blocks << COW_SHIFT,
				 (unsigned long long)sb->store_blocks << COW_SHIFT);
	return 0;
}

/* The newer one that is whole. */
static int copies_read(struct cow_device *device, struct cow_superblock *sb, struct error_text *error)
{
	struct cow_superblock *copy;
	int ret[2];

	if (device->ops->size(device) <= COW_LOG_START << COW_SHIFT)
		return error_set(error, -EUCLEAN, "%s: not a cow store: too small for one", device->name);
	copy = aligned_alloc(COW_BLOCK, 2 * sizeof(*copy));
	if (!copy)
		return error_set(error, -ENOMEM, "%s: out of memory", device->name);
	ret[0] = copy_read(device, 0, &copy[0]);
	ret[1] = copy_read(device, 1, &copy[1]);
	*sb = copy[ret[0] || (!ret[1] && copy[1].sequence > copy[0].sequence)];
	free(copy);
	if (!ret[0] || !ret[1])
		return 0;
	if (ret[0] != -EUCLEAN || ret[1] != -EUCLEAN)
		return error_set(error, -EIO, "%s: its superblocks cannot be read", device->name);
	return error_set(error, -EUCLEAN, "%s: not a cow store, or both its superblocks are damaged", device->name);
}

int cow_superblock_peek(struct cow_device *device, struct cow_superblock *sb, struct error_text *error)
{
	bool read_only = true;
	int ret = copies_read(device, sb, error);

	return ret ? ret : superblock_check(device, sb, &read_only, error);
}

int cow_superblock_read(struct cow_device *device, struct cow_superblock *sb, bool *read_only, struct error_text *error)
{
	int ret = copies_read(device, sb, error);

	if (!ret)
		ret = superblock_check(device, sb, read_only, error);
	if (!ret && sb->base.flags & COW_BASE_COMMITTED)
		ret = error_set(error, -ESTALE, "%s: was committed to its base, which is the disk now: open %s, and remove this store",
				device->name, sb->base.target);
	return ret;
}

/*
 * The older copy first: at each moment one of the two is whole. Both carry
 * the same state, so after this nothing refers to the state before. The
 * memory is this call's own: other stores' calls may go on while this one
 * waits.
 */
int cow_superblock_write(struct cow_store *store, struct cow_superblock *sb)
{
	struct cow_device *device = store->device;
	struct cow_superblock *out = aligned_alloc(COW_BLOCK, sizeof(*out));
	int ret = out ? 0 : -ENOMEM, i;

	for (i = 0; !ret && i < 2; i++) {
		sb->sequence++;
		sb->crc = superblock_crc(sb);
		*out = *sb;
		ret = device->ops->write(device, out, copy_offset(sb->sequence), sizeof(*out));
		if (!ret)
			ret = device->ops->sync(device);
	}
	free(out);
	return ret;
}
